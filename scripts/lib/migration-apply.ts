// Applies what is pending: one runner at a time, dbmate with the files that were read, another try where somebody holds a lock; and then
// a look at what the database says, whatever dbmate has said.
import { asFailure, Failure } from "./failure.ts";
import type { MigrationFile } from "./migration-file.ts";
import { endDbmate, lockMigrations, type MigrationLock, untilDbmateIsGone } from "./migration-lock.ts";
import { look } from "./migration-look.ts";
import {
  type AppliedFile,
  interruptedIn,
  mayTryAgain,
  notApplied,
  type Outcome,
  secondsIn,
  spoiltIn,
} from "./migration-outcome.ts";
import { planUp, type Seen } from "./migration-plan.ts";
import { forget, record } from "./migration-record.ts";
import { type DbmateEnd, runDbmate } from "./migration-run.ts";
import type { Place } from "./place.ts";
import { inDatabase, type Psql, SqlError } from "./psql.ts";
import { poll } from "./wait.ts";

export type Applying = {
  place: Place;
  /** Of the project. */
  directory: string;
  /** All of the checkout. */
  files: readonly MigrationFile[];
  /** For another runner. */
  waitSeconds: number;
  /** For people, while it goes on. */
  note: (text: string) => void;
  interrupted: AbortSignal;
};

/** Lock timeouts of 5 s, with 1, 2 and 4 s in between: what waits behind us for the same table gets its turn. */
const triesMaximum = 4;
const lookSeconds = 30;

/**
 * @returns what this run has applied, which is nothing where another runner has just done it.
 * @throws {Failure} with what was applied and what was not; exit 4 when another runner is at it for longer than we wait.
 */
export async function applyPending(job: Applying): Promise<AppliedFile[]> {
  const { place, files, waitSeconds, note, interrupted } = job;
  const onWait = (holder: string) => note(`${holder} is at it: waiting, at most ${waitSeconds} s`);
  const lock = await lockMigrations({ place, waitSeconds, interrupted, onWait });
  try {
    const before = await look(lock.psql);
    const { pending } = planUp(files, before);
    if (pending.length === 0) return [];
    const applied = files.filter(({ version }) => before.applied.includes(version));
    await remember(lock.psql, pending, applied, note);
    interrupted.throwIfAborted();
    return await inTries(job, lock, before, pending);
  } finally {
    await lock.release();
  }
}

/** Whether a file was edited later is worth less than that it is applied. */
async function remember(
  psql: Psql,
  pending: readonly MigrationFile[],
  applied: readonly MigrationFile[],
  note: Applying["note"],
): Promise<void> {
  await record(psql, pending, applied).catch((error) => {
    if (!(error instanceof SqlError) || error.code !== "42501") throw error;
    note(`warning: the sums of the files cannot be kept (${error.why}): nobody will see when one of them is edited`);
  });
}

async function inTries(
  job: Applying,
  lock: MigrationLock,
  before: Seen,
  pending: readonly MigrationFile[],
): Promise<AppliedFile[]> {
  const { note, interrupted } = job;
  const seconds: Record<string, number> = {};
  let open = pending;
  for (let tries = 1; ; tries += 1) {
    const end = await runOnce(job, lock, open);
    const now = await lookAfter(job, lock, end);
    Object.assign(seconds, secondsIn(end.lines));
    open = pending.filter(({ version }) => !now.applied.includes(version));
    const outcome = { pending, applied: now.applied, spoilt: newlyInvalid(before, now), end, tries };
    if (open.length === 0) return whenDone(outcome, seconds, interrupted);
    if (tries < triesMaximum && mayTryAgain(outcome) && !interrupted.aborted) {
      note(`somebody holds a lock that it needs; trying again (${tries + 1} of ${triesMaximum})`);
      await poll({ seconds: 2 ** (tries - 1), interrupted }, async () => undefined).catch(() => {});
      if (!interrupted.aborted) continue;
    }
    const versions = open.map(({ version }) => version);
    // A row too many says nothing.
    await forget(lock.psql, versions).catch(() => {});
    throw interrupted.aborted ? interruptedIn(outcome, interrupted.reason) : notApplied(outcome);
  }
}

function whenDone(
  outcome: Outcome,
  seconds: Readonly<Record<string, number>>,
  interrupted: AbortSignal,
): AppliedFile[] {
  if (interrupted.aborted) throw interruptedIn(outcome, interrupted.reason);
  if (outcome.spoilt.length > 0) throw spoiltIn(outcome);
  return outcome.pending.map(({ version, file }) => {
    const time = seconds[file];
    return { version, file, ...(time !== undefined && { seconds: time }) };
  });
}

/** Interrupted, it ends, and what it has begun in Postgres as well. */
async function runOnce(job: Applying, { psql }: MigrationLock, files: readonly MigrationFile[]): Promise<DbmateEnd> {
  const { place, directory, note, interrupted } = job;
  const onAbort = () => void psql.execute(endDbmate).catch(() => {});
  const onLine = (line: string) => {
    if (line.startsWith("Applying: ")) note(`applying ${line.slice("Applying: ".length)}`);
  };
  interrupted.addEventListener("abort", onAbort);
  try {
    return await runDbmate({ place, directory, files, words: ["up", "--strict"], interrupted, onLine });
  } finally {
    interrupted.removeEventListener("abort", onAbort);
  }
}

/** When nothing of it can change any more. Postgres may have gone meanwhile, and our session with it. */
export async function lookAfter(
  { place, interrupted }: Pick<Applying, "place" | "interrupted">,
  lock: MigrationLock,
  { code }: DbmateEnd,
): Promise<Seen> {
  let why = `dbmate ended with ${code}, and what it has begun still runs in Postgres`;
  const failed = (error: unknown) => {
    why = asFailure(error).message;
    return undefined;
  };
  const settled = async (psql: Psql) => {
    if (interrupted.aborted) await psql.execute(endDbmate);
    return (await untilDbmateIsGone(psql, lookSeconds)) ? await look(psql) : undefined;
  };
  const anew = () => inDatabase(place, place.database, new AbortController().signal, settled).catch(failed);
  const seen =
    (await settled(lock.psql).catch(failed)) ?? (await poll({ seconds: lookSeconds, everyMilliseconds: 500 }, anew));
  if (seen) return seen;
  throw new Failure("What was applied cannot be seen", why, ["bun scripts/migrate.ts status"]);
}

/** One that was dropped and made again is another. What somebody else is building just now will be valid. */
export function newlyInvalid(before: Seen, now: Seen): string[] {
  const known = new Set(before.invalid.map(({ oid }) => oid));
  return now.invalid.filter(({ oid, isBeingBuilt }) => !known.has(oid) && !isBeingBuilt).map(({ index }) => index);
}
