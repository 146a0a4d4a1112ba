// Carries out a restore: into a database of its own beside the live one, proven there, and swapped in as the last step. Whatever
// happens before that step, the live database is as it was.
import { appliedMigrations, type Facts, plainName, qualified, type Table } from "./catalog.ts";
import type { Found } from "./database-compare.ts";
import { chooseSettings, createScript, dropScript, settingsScript } from "./database-create.ts";
import { applyMigrations } from "./database-migrate.ts";
import { NotSwapped } from "./database-swap.ts";
import { asFailure, exitCodes, Failure } from "./failure.ts";
import { flagsFor, type Place } from "./place.ts";
import type { Progress } from "./progress.ts";
import { inDatabase, openPsql, type Psql } from "./psql.ts";
import { type Disk, explainDisk, watchDisk } from "./restore-disk.ts";
import { load } from "./restore-load.ts";
import type { Observed, RestorePlan } from "./restore-plan.ts";
import { type Expectation, NotAsItShouldBe, requireEqual, requireUsable } from "./restore-prove.ts";
import { swapSurely, UnknownOutcome } from "./restore-server.ts";
import type { OpenSource } from "./restore-source.ts";
import { copySchema, gatherTables } from "./restore-tables.ts";
import { transferMeter } from "./transfer-meter.ts";

export type Restoring = {
  plan: RestorePlan;
  source: OpenSource;
  place: Place;
  /** Beside the live database, with the lock. */
  admin: Psql;
  observed: Observed;
  live: Facts | undefined;
  /** Undefined where it cannot be asked. */
  disk: Disk | undefined;
  /** What the app needs, of dbops.config.ts. */
  schema: Expectation;
  /** Versions of migrations/ that the database is to have in the end. */
  migrations: readonly string[];
  /** Only these, into that schema of the live database. */
  part: { tables: readonly string[]; schema: string } | undefined;
  directory: string;
  progress: Progress;
  /** Told what the comparison with the manifest has shown: a line for each difference. */
  onProof: (problems: string[], seconds: number) => Promise<void>;
  interrupted: AbortSignal;
};

export type Restored = {
  /** What the restored database is called now. */
  database: string;
  /** What was live until now is called; undefined where there was no swap. */
  kept: string | undefined;
  /** Of the live database, where single tables were wanted. */
  schema?: string;
  rows: number;
  tables: number;
  migrated: number;
  /** Until it was ready for the swap. */
  seconds: number;
};

/** @throws {Failure} what went wrong, and what became of the restored database; exit 3 when it is not what was backed up. */
export async function runRestore(restoring: Restoring): Promise<Restored> {
  const { place, disk, source } = restoring;
  const watch = watchDisk(place, disk, `Cannot restore ${source.name}`);
  const interrupted = AbortSignal.any([restoring.interrupted, watch.full]);
  return await restore({ ...restoring, interrupted }).finally(watch.stop);
}

async function restore(job: Restoring): Promise<Restored> {
  const { progress, interrupted } = job;
  const started = performance.now();
  const seconds = () => Math.round(performance.now() - started) / 1000;
  try {
    const found = await bringBack(job, seconds);
    if (job.part) return { ...(await takePart(job, job.part, found)), seconds: seconds() };
    await giveSettings(job);
    await progress.step("analyze", () => inTarget(job, (psql) => analyze(psql, job.source)));
    const pending = found.migrations.length === 0 ? [] : job.migrations.filter((it) => !found.migrations.includes(it));
    if (pending.length > 0) await progress.step("migrate", () => migrateTarget(job, pending));
    const versions = found.migrations.length === 0 ? [] : job.migrations;
    await progress.step("validate", () => inTarget(job, (psql) => requireUsable(psql, { ...job.schema, versions })));
    interrupted.throwIfAborted();
    const ready = seconds();
    const names = await swapIn(job);
    const rows = Object.values(found.rows).reduce((sum, count) => sum + count, 0);
    return { ...names, rows, tables: Object.keys(found.rows).length, migrated: pending.length, seconds: ready };
  } catch (error) {
    throw await afterFailure(job, interrupted.aborted ? interrupted.reason : error);
  }
}

/** What it takes to bring a backup into a database of its own. */
export type Bringing = Pick<
  Restoring,
  "source" | "place" | "admin" | "observed" | "live" | "onProof" | "progress" | "interrupted"
> & { plan: Pick<RestorePlan, "target" | "leftovers"> };

/**
 * Into a new database, which holds then what was backed up. What others have left is removed first.
 * @throws {Failure} exit 3 where it does not; it is still there then.
 */
export async function bringBack(job: Bringing, seconds: () => number): Promise<Found> {
  const { plan, admin, progress, interrupted } = job;
  for (const { name } of plan.leftovers) await progress.step("clean", () => admin.execute(dropScript(name), 600));
  interrupted.throwIfAborted();
  await progress.step("create", () => createTarget(job));
  await progress.step("restore", () => loadTarget(job));
  return await progress.step("compare", () => inTarget(job, (psql) => requireEqual(job, psql, seconds)));
}

/** What belongs to the database itself, as the live one has it. */
export const giveSettings = (job: Bringing): Promise<void> => job.admin.execute(settingsOfTarget(job));

/** As the live one is; where there is none any more, as the original was. */
async function createTarget({ plan, admin, live, source }: Bringing): Promise<void> {
  const original = live ?? source.manifest;
  await admin.execute(createScript(plan.target, original?.settings.owner, original?.server), 300);
}

async function loadTarget({ plan, place, source, observed, progress, interrupted }: Bringing): Promise<void> {
  const major = Math.floor(observed.versionNumber / 10_000);
  await load({ place, source, target: plan.target, major, meter: transferMeter("restore"), progress, interrupted });
}

/** What the planner knows comes along in a dump of pg_dump 18 and newer; without it the first queries would be the slowest. */
function hasStatistics({ manifest, format }: OpenSource): boolean {
  return format === "custom" && Number(/(\d+)/.exec(manifest?.client.pgDump ?? "")?.[1] ?? 0) >= 18;
}

export async function analyze(psql: Psql, source: OpenSource): Promise<void> {
  const seconds = 6 * 3600;
  if (!hasStatistics(source)) return await psql.execute("analyze", seconds);
  // All but what CREATE STATISTICS has asked for.
  const tables = await psql.rows<Table>(`select distinct n.nspname as schema, c.relname as name
    from pg_statistic_ext s join pg_class c on c.oid = s.stxrelid join pg_namespace n on n.oid = c.relnamespace`);
  if (tables.length > 0) await psql.execute(`analyze ${tables.map(qualified).join(", ")}`, seconds);
}

const inTarget = <T>({ place, plan, interrupted }: Bringing, work: (psql: Psql) => Promise<T>): Promise<T> =>
  inDatabase(place, plan.target, interrupted, work);

/** Out of the restored database into the live one; the rest of it has served its purpose. */
async function takePart(job: Restoring, { tables, schema }: NonNullable<Restoring["part"]>, found: Found) {
  const { plan, place, admin, progress, interrupted } = job;
  const taken = await progress.step("copy", async () => {
    const gathered = await inTarget(job, (psql) => gatherTables(psql, tables, schema));
    await copySchema(place, plan.target, schema, interrupted);
    return gathered;
  });
  // The tables are where they are wanted: whatever keeps this one, the next restore removes it.
  await progress
    .step("clean", () => admin.execute(dropScript(plan.target), 600))
    .catch((error) => progress.note(`warning: "${plan.target}" is left behind: ${asFailure(error).message}`));
  const rows = taken.reduce((sum, table) => sum + (found.rows[plainName(table)] ?? 0), 0);
  return { database: plan.live, kept: undefined, schema, rows, tables: taken.length, migrated: 0 };
}

function settingsOfTarget({ plan, live, source, observed }: Bringing): string {
  const settings = chooseSettings(live?.settings, source.manifest?.settings);
  return settings ? settingsScript(plan.target, settings, observed.roles) : "select";
}

function migrateTarget({ plan, place, directory, progress, interrupted }: Restoring, pending: readonly string[]) {
  const onLine = (line: string) => progress.note(line);
  return applyMigrations({ place, directory, target: plan.target, pending, interrupted, onLine });
}

async function swapIn({ plan, place, admin, progress, live: before }: Restoring) {
  const { becomes, live, target, keep } = plan;
  const name = becomes ?? live;
  if (before && name === live) await requireSameSchema(place, live, before);
  await progress.step(name === live ? "swap" : "name", () =>
    swapSurely(place, admin, { live: name, next: target, keep }),
  );
  return { database: name, kept: keep };
}

/** What a deploy has migrated meanwhile would be gone, and its app would meet a schema that it does not know. */
async function requireSameSchema(place: Place, live: string, before: Facts): Promise<void> {
  const psql = await openPsql(place, live);
  const now = await appliedMigrations(psql).finally(() => psql.close());
  if (now.join() === before.migrations.join()) return;
  const why = `"${live}" was migrated while the restore was at work: by a deploy, most likely`;
  throw new Failure("Nothing was swapped", why, ["the same command again"], { exitCode: exitCodes.locked });
}

/** One that was found to be wrong is kept for whoever wants to know why; the rest of a failed one is of no use to anybody. */
async function afterFailure({ plan, place, admin }: Restoring, error: unknown): Promise<Failure> {
  if (error instanceof UnknownOutcome) return error;
  const failure = asFailure(error);
  const { what, why, details, next, read, exitCode } = explainDisk(failure.what, failure);
  const { target, live } = plan;
  const isFoundWrong = error instanceof NotAsItShouldBe;
  const isGone =
    !isFoundWrong &&
    (await admin.execute(dropScript(target), 600).then(
      () => true,
      () => false,
    ));
  const left = isGone
    ? []
    : [`bun scripts/restore.ts --clean${flagsFor(place.environment)}      # removes it, as the next restore does`];
  // That one has said it already, or what is worse.
  const notes = [
    ...(error instanceof NotSwapped ? [] : [`"${live}" is as it was`]),
    ...(isGone ? [] : [`"${target}" is left behind`]),
  ];
  return new Failure(what, [why, ...notes].join("; "), [...next, ...left], {
    ...{ exitCode, cause: error },
    ...(details && { details }),
    ...(read && { read }),
  });
}
