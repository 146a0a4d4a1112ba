// Applies what is pending: one runner at a time, dbmate with the files that were read, another try where somebody holds a lock; and then
// a look at what the database says, whatever dbmate has said.
import { requireForDbmate } from "./dbmate.ts";
import { asFailure, Failure } from "./failure.ts";
import type { MigrationFile, Section } from "./migration-file.ts";
import { notMendedBy } from "./migration-indexes.ts";
import { endDbmate, lockMigrations, type MigrationLock, untilDbmateIsGone, whoIsInTheWay } from "./migration-lock.ts";
import { look } from "./migration-look.ts";
import {
  type AppliedFile,
  interruptedIn,
  mayTryAgain,
  notApplied,
  type Outcome,
  secondsIn,
  spoiltAfter,
} from "./migration-outcome.ts";
import { inOne, type Part, partsOf } from "./migration-parts.ts";
import { planUp, requireNoneInTheWay, type Seen } from "./migration-plan.ts";
import { forget, record } from "./migration-record.ts";
import { type DbmateEnd, runDbmate } from "./migration-run.ts";
import { packageMissing } from "./packages.ts";
import { flagsFor, type Place } from "./place.ts";
import { onOneLine } from "./printable.ts";
import { inDatabase, type Psql, SqlError } from "./psql.ts";
import { sqlByHand } from "./sql-by-hand.ts";
import { poll } from "./wait.ts";

export type Applying = {
  place: Place;
  /** Of the project. */
  directory: string;
  /** All of the checkout. */
  files: readonly MigrationFile[];
  /** They were good enough for the live database, from which this one comes: see migration-refusals.ts. */
  isProven?: boolean;
  /** For another runner. */
  waitSeconds: number;
  /** For people, while it goes on. */
  note: (text: string) => void;
  interrupted: AbortSignal;
};

/** Lock timeouts of 5 s, with 1, 2 and 4 s in between: what waits behind us for the same table gets its turn. */
const triesAtMost = 4;
const lookSeconds = 30;
const dropSeconds = 60;
const watchMilliseconds = 1000;

/**
 * @returns what this run has applied, which is nothing where another runner has just done it.
 * @throws {Failure} with what was applied and what was not; exit 4 when another runner is at it for longer than we wait.
 */
export async function applyPending(job: Applying): Promise<AppliedFile[]> {
  const { place, files, isProven = false, waitSeconds, note, interrupted } = job;
  requireForDbmate(place, process.env);
  const onWait = (holder: string) => note(`${holder} is at it: waiting, at most ${waitSeconds} s`);
  const lock = await lockMigrations({ place, waitSeconds, interrupted, onWait });
  try {
    const before = await look(lock.psql);
    const { pending } = planUp(files, before);
    if (pending.length === 0) return [];
    if (!isProven) await requireWhole(pending);
    await requireNoneInTheWay(before.invalid, pending, "Nothing was migrated", sqlByHand(place));
    const applied = files.filter(({ version }) => before.applied.includes(version));
    await remember(lock.psql, pending, applied, note);
    interrupted.throwIfAborted();
    return await inParts(job, lock, before, pending);
  } finally {
    await lock.release();
  }
}

/** Most of the time nothing is pending, and the parser not needed. */
async function requireWhole(pending: readonly MigrationFile[]): Promise<void> {
  const { requireAppliable } = await import("./migration-refusals.ts").catch(packageMissing);
  await requireAppliable(pending, "up", "Nothing was migrated");
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

async function inParts(
  job: Applying,
  lock: MigrationLock,
  before: Seen,
  pending: readonly MigrationFile[],
): Promise<AppliedFile[]> {
  const seconds: Record<string, number> = {};
  // Each run takes about a second in a container; and in a new database nobody has a transaction open.
  const parts = before.applied.length === 0 ? [inOne(pending)] : await partsOf(pending);
  for (const part of parts) {
    const { end } = await inTries(job, lock, { before, pending, part });
    Object.assign(seconds, secondsIn(end.lines));
  }
  return pending.map(({ version, file }) => {
    const time = seconds[file];
    return { version, file, ...(time !== undefined && { seconds: time }) };
  });
}

type Wanted = { before: Seen; pending: readonly MigrationFile[]; part: Part };

/** One that waits long, and keeps nobody waiting, has waited enough. @returns where all of the part is applied, and as it should be. */
async function inTries(job: Applying, lock: MigrationLock, { before, pending, part }: Wanted): Promise<Outcome> {
  const { place, note, interrupted } = job;
  const triesMaximum = part.lockTimeoutSeconds === undefined ? triesAtMost : 1;
  let lines: readonly string[] = [];
  let open = part.files;
  for (let tries = 1; ; tries += 1) {
    const end = await runOnce(job, lock, { ...part, files: open });
    const now = await lookAfter(job, lock, end);
    lines = [...lines, ...end.lines];
    open = part.files.filter(({ version }) => !now.applied.includes(version));
    const spoilt = await newlyInvalid(before, now, sectionsOf(open));
    const outcome = {
      pending,
      applied: now.applied,
      spoilt,
      end,
      tries,
      byHand: sqlByHand(place),
      flags: flagsFor(place.environment),
    };
    if (interrupted.aborted) await forgetOpen(lock, pending, now);
    if (interrupted.aborted) throw interruptedIn(outcome, interrupted.reason);
    if (open.length === 0) {
      if (spoilt.length === 0) return { ...outcome, end: { ...end, lines: [...lines] } };
      await forgetOpen(lock, pending, now);
      throw spoiltAfter(outcome);
    }
    const own = now.invalid.filter(({ index, name }) => spoilt.includes(index) && name === part.makes);
    const others = spoilt.filter((index) => !own.some((one) => one.index === index));
    const mayAgain = (await mayTryAgain({ ...outcome, spoilt: others })) && (await dropOwn(job, own));
    if (mayAgain && tries < triesMaximum) {
      note(`somebody holds a lock that it needs; trying again (${tries + 1} of ${triesMaximum})`);
      await poll({ seconds: 2 ** (tries - 1), interrupted }, async () => undefined).catch(() => {});
      if (!interrupted.aborted) continue;
    }
    await forgetOpen(lock, pending, now);
    const left = mayAgain && own.length > 0 ? { ...outcome, spoilt: others, isDropped: true } : outcome;
    throw interrupted.aborted ? interruptedIn(left, interrupted.reason) : notApplied(left);
  }
}

/** A row too many says nothing. */
async function forgetOpen(
  { psql }: MigrationLock,
  pending: readonly MigrationFile[],
  { applied }: Seen,
): Promise<void> {
  const versions = pending.map(({ version }) => version).filter((version) => !applied.includes(version));
  await forget(psql, versions).catch(() => {});
}

/**
 * The index that this run has begun and could not end, in a session of its own: it waits for whoever uses the table.
 * @returns whether nothing of it is left.
 */
async function dropOwn({ place, note, interrupted }: Applying, own: Seen["invalid"]): Promise<boolean> {
  for (const { index } of own) {
    note(`drops the index that it could not finish: ${index}`);
    const drop = async (psql: Psql) => {
      await psql.execute(`set lock_timeout = '${dropSeconds}s'`);
      await psql.execute(`drop index concurrently ${index}`, dropSeconds + 30);
      return true;
    };
    if (!(await inDatabase(place, place.database, interrupted, drop).catch(() => false))) return false;
  }
  return true;
}

/** Interrupted, it ends, and what it has begun in Postgres as well. */
async function runOnce(job: Applying, { psql }: MigrationLock, part: Part): Promise<DbmateEnd> {
  const { place, directory, note, interrupted } = job;
  const { files, lockTimeoutSeconds } = part;
  const onAbort = () => void psql.execute(endDbmate).catch(() => {});
  const onLine = (line: string) => {
    if (line.startsWith("Applying: ")) note(`applying ${line.slice("Applying: ".length)}`);
  };
  interrupted.addEventListener("abort", onAbort);
  const stopWatching = lockTimeoutSeconds ? noteWaits(psql, note, lockTimeoutSeconds) : () => {};
  try {
    const words = ["up", "--strict"] as const;
    return await runDbmate({ place, directory, files, words, lockTimeoutSeconds, interrupted, onLine });
  } finally {
    stopWatching();
    interrupted.removeEventListener("abort", onAbort);
  }
}

/** Says who it is that somebody has to wait for, each once. */
function noteWaits(psql: Psql, note: Applying["note"], seconds: number): () => void {
  let told = "";
  let isAsking = false;
  const ask = async () => {
    if (isAsking) return;
    isAsking = true;
    const [found] = await psql.rows<{ who: string }>(whoIsInTheWay).catch(() => []);
    isAsking = false;
    if (!found || found.who === told) return;
    told = found.who;
    note(`waits for ${onOneLine(told)}, at most ${seconds / 60} min; the app does not`);
  };
  const timer = setInterval(() => void ask(), watchMilliseconds);
  return () => clearInterval(timer);
}

/** When nothing of it can change any more. Postgres may have gone meanwhile, and our session with it. */
export async function lookAfter(
  { place, interrupted }: Pick<Applying, "place" | "interrupted">,
  lock: MigrationLock,
  { code, isCutOff }: DbmateEnd,
): Promise<Seen> {
  let why = `dbmate ended with ${code}, and what it has begun still runs in Postgres`;
  const failed = (error: unknown) => {
    why = asFailure(error).message;
    return undefined;
  };
  const settled = async (psql: Psql) => {
    if (interrupted.aborted || isCutOff) await psql.execute(endDbmate);
    return (await untilDbmateIsGone(psql, lookSeconds)) ? await look(psql) : undefined;
  };
  const anew = () => inDatabase(place, place.database, new AbortController().signal, settled).catch(failed);
  const seen =
    (await settled(lock.psql).catch(failed)) ?? (await poll({ seconds: lookSeconds, everyMilliseconds: 500 }, anew));
  if (seen) return seen;
  const next = [`bun scripts/migrate.ts status${flagsFor(place.environment)}`];
  throw new Failure("What was applied cannot be seen", why, next);
}

/**
 * One that was dropped and made again is another. What somebody else is building just now will be valid.
 * @param again what will be run once more.
 */
export async function newlyInvalid(before: Seen, now: Seen, again: readonly Section[]): Promise<string[]> {
  const known = new Set(before.invalid.map(({ oid }) => oid));
  const fresh = now.invalid.filter(({ oid, isBeingBuilt }) => !known.has(oid) && !isBeingBuilt);
  return (await notMendedBy(again, fresh)).map(({ index }) => index);
}

const sectionsOf = (files: readonly MigrationFile[]) => files.map(({ sections }) => sections[0]!.up);
