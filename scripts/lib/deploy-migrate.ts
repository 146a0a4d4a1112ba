// The deploy's step `migrate`. The server does it, under the lock that every runner of migrations takes; what is to be done is decided
// here, from what its database says of itself under that lock. So the server is told what it said, and begins only where it still says so.

import { timeoutsFor } from "./dbmate.ts";
import { migrationFailed, migrationLocked, noLockSession } from "./deploy-failures.ts";
import { exitCodes, Failure } from "./failure.ts";
import { newlyInvalid } from "./migration-apply.ts";
import type { MigrationFile } from "./migration-file.ts";
import { listInvalidIndexes } from "./migration-indexes.ts";
import { endDbmate, isDbmate, tryLock, whoMigrates } from "./migration-lock.ts";
import { mayTryAgain, type Outcome, spoiltAfter } from "./migration-outcome.ts";
import { inOne, type Part, partsOf } from "./migration-parts.ts";
import { planUp, requireNoneInTheWay, type Seen } from "./migration-plan.ts";
import { forgetStatement, recordStatements } from "./migration-record.ts";
import type { DbmateEnd } from "./migration-run.ts";
import { preparation } from "./psql.ts";
import type { Result } from "./run.ts";
import type { Call, Session } from "./session.ts";
import { sqlByHand } from "./sql-by-hand.ts";

export type Migrating = {
  call(call: Call, options: Parameters<Session["call"]>[1]): Promise<Result>;
  release: number;
  /** All of the release. */
  files: readonly MigrationFile[];
  /** The versions that this deploy was planned, backed up and rehearsed with. */
  planned: readonly string[];
  /** For another runner. */
  waitSeconds: number;
  note: (text: string) => void;
  /** For so long. Rejects when it is interrupted. */
  pause: (milliseconds: number) => Promise<void>;
  /** Told before something may be migrated, and again where it was not. */
  mayHaveBegun: (may: boolean) => void;
};

/** A look at the live database. */
type Look = Seen & {
  /** dbmate's session is still there. */
  busy: boolean;
  user: string;
  database: string;
};

/** An index on a big table takes its time. */
const runHours = 6;
/** Lock timeouts of 5 s, with 1, 2 and 4 s in between. One that waits long, and keeps nobody waiting, has waited enough. */
const triesAtMost = 4;
const dropSeconds = 60;
/** How often somebody else may have been faster. */
const looksAtMost = 20;

/** One line of JSON. A statement that names a missing table fails as a whole: in a DO it does so only where it is come to. */
const lookStatement = `do $look$ begin
  perform set_config('dbops.look', jsonb_build_object('applied', '[]'::jsonb, 'recorded', '{}'::jsonb,
    'invalid', (select coalesce(jsonb_agg(to_jsonb(q)), '[]') from (${listInvalidIndexes}) q),
    'busy', exists (select from pg_stat_activity a where ${isDbmate}),
    'user', current_user, 'database', current_database())::text, false);
  if to_regclass('schema_migrations') is not null then
    perform set_config('dbops.look', (current_setting('dbops.look')::jsonb || jsonb_build_object('applied',
      (select coalesce(jsonb_agg(version::text order by version::text), '[]') from schema_migrations)))::text, false);
  end if;
end $look$;
select current_setting('dbops.look')`;

/** @returns what the database has then. @throws {Failure} with what was applied and what was not; exit 4 when another runner is at it. */
export async function migrate(job: Migrating): Promise<readonly string[]> {
  const { files, note, pause } = job;
  let { said } = await ask(job, "");
  const { pending: asked } = planUp(files, lookIn(said));
  let tries = 1;
  for (let looks = 1; looks <= looksAtMost; ) {
    const before = lookIn(said);
    const pending = await toApply(job, before);
    if (pending.length === 0) return before.applied;
    // In a new database nobody has a transaction open.
    const [part = inOne(pending)] = before.applied.length === 0 ? [] : await partsOf(pending);
    const ran = await ask(job, said, { part, pending, applied: before.applied });
    said = ran.said;
    const { end } = ran;
    if (!end) {
      looks += 1;
      continue;
    }
    const now = await lookAfter(job, said, pending);
    const open = part.files.filter(({ version }) => !now.applied.includes(version));
    const again = open.map(({ sections }) => sections[0]!.up);
    const spoilt = await newlyInvalid(before, now, again);
    const outcome: Outcome = {
      pending: asked,
      applied: now.applied,
      spoilt,
      end,
      tries,
      byHand: byHandIn(now),
      flags: " --on production",
    };
    said = now.said;
    if (open.length === 0) {
      if (spoilt.length > 0) throw spoiltAfter(outcome);
      tries = 1;
      continue;
    }
    const own = now.invalid.filter(({ index, name }) => spoilt.includes(index) && name === part.makes);
    const others = spoilt.filter((index) => !own.some((one) => one.index === index));
    const mayAgain = (await mayTryAgain({ ...outcome, spoilt: others })) && (await dropOwn(job, own));
    const triesMaximum = part.lockTimeoutSeconds === undefined ? triesAtMost : 1;
    if (!mayAgain || tries >= triesMaximum) {
      const isDropped = mayAgain && own.length > 0;
      throw migrationFailed(isDropped ? { ...outcome, spoilt: others, isDropped } : outcome);
    }
    tries += 1;
    note(`somebody holds a lock that it needs; trying again (${tries} of ${triesMaximum})`);
    await pause(2 ** (tries - 2) * 1000);
  }
  throw migrationLocked("", job.waitSeconds);
}

/** The index that this run has begun and could not end. @returns whether nothing of it is left. */
async function dropOwn({ call, note }: Migrating, own: Seen["invalid"]): Promise<boolean> {
  for (const { index } of own) {
    note(`drops the index that it could not finish: ${index}`);
    const options = { accept: [0, 1, 3, 124], timeoutSeconds: dropSeconds + 60 };
    const { exitCode } = await call(["drop_index", index, `${dropSeconds}`], options);
    if (exitCode !== 0) return false;
  }
  return true;
}

/** @throws {Failure} where it is not what the deploy was planned with, or would fail for what is in its way. */
async function toApply({ files, planned }: Migrating, seen: Look): Promise<readonly MigrationFile[]> {
  const { pending } = planUp(files, seen);
  const more = pending.map(({ version }) => version).filter((version) => !planned.includes(version));
  if (more.length > 0) {
    const why = `${more.join(", ")} ${more.length === 1 ? "is pending, and was" : "are pending, and were"} not when this deploy looked`;
    throw new Failure("Cannot migrate", why, ["the same command again"], { exitCode: exitCodes.saidNo });
  }
  await requireNoneInTheWay(seen.invalid, pending, "Cannot migrate", byHandIn(seen));
  return pending;
}

const byHandIn = ({ user, database }: Look) =>
  sqlByHand({ environment: "production", user, database, inStack: (argv) => ({ argv: [...argv] }) });

const lookIn = (said: string) => JSON.parse(said) as Look;

type Wanted = { part: Part; pending: readonly MigrationFile[]; applied: readonly string[] };

/**
 * @param expected what the database is to say under the lock.
 * @returns what it says, and how dbmate ended, where it said what it was to say, and there was something to do.
 */
async function ask(
  { call, release, files, waitSeconds, note, mayHaveBegun }: Migrating,
  expected: string,
  wanted?: Wanted,
): Promise<{ said: string; end?: DbmateEnd }> {
  const { part, pending = [], applied = [] } = wanted ?? {};
  const { lockTimeoutSeconds: seconds } = part ?? {};
  const runSeconds = runHours * 3600;
  const limits = seconds === undefined ? "-" : timeoutsFor(seconds);
  const names = part?.files.map(({ file }) => file) ?? [];
  const statements = [
    ...[preparation, tryLock, whoMigrates, lookStatement, expected],
    recordStatements(
      pending,
      files.filter(({ version }) => applied.includes(version)),
    ),
    pending.length > 0 ? forgetStatement(pending.map(({ version }) => version)) : "select",
    endDbmate,
  ];
  if (part && seconds !== undefined) {
    note(
      `${names[0]} may have to wait for every transaction of the database, at most ${seconds / 60} min; the app does not`,
    );
  }
  if (part) mayHaveBegun(true);
  const { exitCode, stdout, stderr } = await call(
    ["migrate", `${release}`, `${runSeconds}`, `${waitSeconds}`, limits, ...names],
    {
      stdin: statements.map((text) => `${text}\0`).join(""),
      accept: [0, 4, 5, 7],
      timeoutSeconds: runSeconds + waitSeconds + 180,
    },
  );
  if (exitCode !== 0 && part) mayHaveBegun(false);
  if (exitCode === 4) throw migrationLocked(stdout.trim(), waitSeconds);
  if (exitCode === 5) return { said: stdout.trim() };
  if (exitCode === 7) throw noLockSession(stderr);
  const [code, said = "", trouble = "", ...lines] = stdout.split("\n");
  if (trouble !== "") note(`warning: the sums of the files cannot be kept: ${trouble}`);
  const late = code === "124" ? [`it was ended after ${runHours} hours`] : [];
  return { said, end: { code: Number(code), lines: [...lines.filter(Boolean), ...late] } };
}

/** Where Postgres has gone meanwhile, and the session with the lock with it, in another one. */
async function lookAfter(
  { call }: Migrating,
  said: string,
  pending: readonly MigrationFile[],
): Promise<Look & { said: string }> {
  const stdin = `${forgetStatement(pending.map(({ version }) => version))};\n${lookStatement}`;
  const options = { stdin, accept: [0, 1, 124], timeoutSeconds: 90 };
  const { stdout, stderr } = said === "" ? await call(["look_at_migrations"], options) : { stdout: said, stderr: "" };
  const text = stdout.trim();
  const look = text === "" ? undefined : lookIn(text);
  if (look && !look.busy) return { ...look, said: text };
  const why = look ? "what dbmate has begun still runs in Postgres" : (stderr.trim().split("\n").at(-1) ?? "");
  throw new Failure("What was applied cannot be seen", why, ["bun scripts/migrate.ts status --on production"], {
    read: "docs/runbook/database-unhealthy.md",
  });
}
