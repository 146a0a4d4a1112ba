// `migrate down`: takes back the newest migration, for somebody who is writing one. What has been released goes forward.
import { requireForDbmate } from "./dbmate.ts";
import { exitCodes, Failure } from "./failure.ts";
import type { MigrateRequest } from "./migrate-request.ts";
import { lookAfter, newlyInvalid } from "./migration-apply.ts";
import { type MigrationFile, readMigrations } from "./migration-file.ts";
import { endDbmate, lockMigrations } from "./migration-lock.ts";
import { look } from "./migration-look.ts";
import { downFailed, spoiltIn } from "./migration-outcome.ts";
import { forget } from "./migration-record.ts";
import { runDbmate } from "./migration-run.ts";
import type { Tracked } from "./migration-state.ts";
import { packageMissing } from "./packages.ts";
import { flagsFor, openPlace, type Place } from "./place.ts";
import { inDatabase } from "./psql.ts";
import { asTyped } from "./runtime.ts";
import { sqlByHand } from "./sql-by-hand.ts";
import { confirm } from "./terminal.ts";
import { interruption, orInterrupted } from "./wait.ts";

export async function down({ settings, directory, flags }: MigrateRequest): Promise<void> {
  const interrupted = interruption();
  const files = await readMigrations(directory);
  const place = await openPlace({ settings, directory, on: flags.on, url: flags["database-url"] }, interrupted);
  const { database, environment, name } = place;
  try {
    requireForDbmate(place, process.env);
    const plan = planDown(files, await inDatabase(place, database, interrupted, look), environment);
    const { version, file } = plan.newest;
    await requireWayBack(plan.newest);
    const text = asTyped(formatDown(plan, place));
    if (flags.plan) return console.log(flags.json ? JSON.stringify({ environment, database, version, file }) : text);
    // Also for whoever does not want to be asked.
    console.error(text);
    if (environment !== "local" && !flags["lose-data"]) throw needsFlag(place);
    const answer = ["production", "local"].includes(environment) ? settings.name : environment;
    const question = `This takes back migrations/${file} on "${database}" on ${name}.`;
    if (!flags.yes) await orInterrupted(interrupted, confirm({ text: question, answer, flag: "--yes" }));
    await takeBack({ place, directory, files, newest: plan.newest, waitSeconds: Number(flags.wait), interrupted });
    const done = `Taken back on "${database}" on ${name}: migrations/${file}`;
    console.log(flags.json ? JSON.stringify({ environment, database, version, file }) : done);
  } finally {
    await place.close();
  }
}

export type DownPlan = { newest: MigrationFile; isEdited: boolean };

/**
 * Pure.
 * @throws {Failure} exit 3 where nothing is applied; 5 where nobody knows how to take back the newest: dbmate would take an older one.
 */
export function planDown(files: readonly MigrationFile[], tracked: Tracked, environment: string): DownPlan {
  const version = [...tracked.applied].sort().at(-1);
  if (version === undefined) {
    const next = [`bun scripts/migrate.ts status${flagsFor(environment)}`];
    throw new Failure("Nothing was taken back", "no migration is applied", next, { exitCode: exitCodes.saidNo });
  }
  const newest = files.find((file) => file.version === version);
  if (!newest) {
    const was = tracked.recorded[version]?.file ?? version;
    throw refused(
      `the newest that is applied is ${was}, and there is no such file in migrations/`,
      "bring the file back from git",
    );
  }
  const then = tracked.recorded[version];
  return { newest, isEdited: then !== undefined && then.sha256 !== newest.sha256 };
}

/**
 * Pure. dbmate takes a file that does nothing for one that has taken everything back.
 * @throws {Failure} exit 5 where there is no statement; 2 for what `migrate up` would not begin either.
 */
export async function requireWayBack(newest: MigrationFile): Promise<void> {
  const { statementsOf } = await import("./migration-statements.ts").catch(packageMissing);
  const { down } = newest.sections[0]!;
  if (!down || (await statementsOf(down)).length === 0)
    throw refused(
      `migrations/${newest.file} has nothing under "-- migrate:down"`,
      "bun scripts/migrate.ts new NAME      # forward",
    );
  const { requireAppliable } = await import("./migration-refusals.ts").catch(packageMissing);
  await requireAppliable([newest], "down", "Nothing was taken back");
}

const refused = (why: string, next: string) =>
  new Failure("Nothing was taken back", why, [next], { exitCode: exitCodes.refused, read: "docs/migrations.md" });

const needsFlag = ({ database, name }: Pick<Place, "database" | "name">) =>
  new Failure(
    "Nothing was taken back",
    `what it drops of "${database}" on ${name} is lost, and nobody has said that it may be`,
    ["bun scripts/migrate.ts new NAME      # forward", "the same command with --lose-data"],
    { exitCode: exitCodes.refused, read: "docs/migrations.md" },
  );

export function formatDown(
  { newest, isEdited }: DownPlan,
  { database, name }: Pick<Place, "database" | "name">,
): string {
  const { down } = newest.sections[0]!;
  return [
    `This takes back migrations/${newest.file} on "${database}" on ${name}:`,
    ...down!.sql
      .trim()
      .split("\n")
      .slice(1)
      .map((line) => `  | ${line}`),
    "What it drops is lost, with all that was written since; and the app that runs may need it.",
    ...(isEdited ? ["The file was edited after it had been applied: it may not take back what the database has."] : []),
    "Forward is safer: bun scripts/migrate.ts new NAME",
  ].join("\n");
}

type TakingBack = {
  place: Place;
  directory: string;
  files: readonly MigrationFile[];
  /** What was confirmed. */
  newest: MigrationFile;
  waitSeconds: number;
  interrupted: AbortSignal;
};

async function takeBack({ place, directory, files, newest, waitSeconds, interrupted }: TakingBack): Promise<void> {
  const onWait = (holder: string) => console.error(`         ${holder} is at it: waiting, at most ${waitSeconds} s`);
  const lock = await lockMigrations({ place, waitSeconds, interrupted, onWait });
  const onAbort = () => void lock.psql.execute(endDbmate).catch(() => {});
  interrupted.addEventListener("abort", onAbort);
  try {
    const before = await look(lock.psql);
    const now = planDown(files, before, place.environment).newest;
    if (now.version !== newest.version) throw refused(`the newest is ${now.file} now`, "the same command again");
    interrupted.throwIfAborted();
    // Alone, so that it can be no other one.
    const words = ["rollback"] as const;
    const end = await runDbmate({ place, directory, files: [newest], words, interrupted, onLine: () => {} });
    const after = await lookAfter({ place, interrupted }, lock, end);
    const reason = interrupted.aborted ? (interrupted.reason as Failure) : undefined;
    const isApplied = after.applied.includes(newest.version);
    const spoilt = await newlyInvalid(before, after, isApplied ? [newest.sections[0]!.down!] : []);
    const byHand = sqlByHand(place);
    if (isApplied) throw downFailed({ file: newest, end, spoilt, reason, byHand });
    // A row too many says nothing.
    await forget(lock.psql, [newest.version]).catch(() => {});
    const done = `migrations/${newest.file} is taken back`;
    if (spoilt.length > 0) throw spoiltIn({ spoilt, byHand }, done);
    if (reason)
      throw new Failure(reason.what, `${reason.why}; ${done} all the same`, [], { exitCode: exitCodes.interrupted });
  } finally {
    interrupted.removeEventListener("abort", onAbort);
    await lock.release();
  }
}
