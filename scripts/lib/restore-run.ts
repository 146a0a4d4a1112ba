// Carries out a restore: into a database of its own beside the live one, proven there, and swapped in as the last step. Whatever
// happens before that step, the live database is as it was.
import { type Facts, plainName } from "./catalog.ts";
import type { Found } from "./database-compare.ts";
import { createScript, dropScript, settingsScript } from "./database-create.ts";
import { applyMigrations } from "./database-migrate.ts";
import { swapDatabases } from "./database-swap.ts";
import { asFailure, Failure } from "./failure.ts";
import type { Place } from "./place.ts";
import type { Progress } from "./progress.ts";
import { openPsql, type Psql } from "./psql.ts";
import { load } from "./restore-load.ts";
import type { Observed, RestorePlan } from "./restore-plan.ts";
import { type Expectation, NotAsItShouldBe, requireEqual, requireUsable } from "./restore-prove.ts";
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
  /** What the app needs, of dbops.config.ts. */
  schema: Expectation;
  /** Versions of migrations/ that the database is to have in the end. */
  migrations: readonly string[];
  toVersion: string | undefined;
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
export async function runRestore(job: Restoring): Promise<Restored> {
  const { plan, admin, progress, interrupted } = job;
  const started = performance.now();
  const seconds = () => Math.round(performance.now() - started) / 1000;
  for (const { name } of plan.leftovers) await progress.step("clean", () => admin.execute(dropScript(name), 600));
  try {
    await progress.step("create", () => createTarget(job));
    await progress.step("restore", () => loadTarget(job));
    const found = await progress.step("compare", () => inTarget(job, (psql) => requireEqual(job, psql, seconds)));
    if (job.part) return { ...(await takePart(job, job.part, found)), seconds: seconds() };
    await admin.execute(settingsOfTarget(job));
    if (!hasStatistics(job.source)) await progress.step("analyze", () => inTarget(job, analyze));
    const pending = found.migrations.length === 0 ? [] : job.migrations.filter((it) => !found.migrations.includes(it));
    if (pending.length > 0) await progress.step("migrate", () => migrateTarget(job));
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

/** As the live one is; where there is none any more, as the original was. */
async function createTarget({ plan, admin, live, source }: Restoring): Promise<void> {
  const original = live ?? source.manifest;
  await admin.execute(createScript(plan.target, original?.settings.owner, original?.server), 300);
}

async function loadTarget({ plan, place, source, observed, interrupted }: Restoring): Promise<void> {
  const major = Math.floor(observed.versionNumber / 10_000);
  await load({ place, source, target: plan.target, major, meter: transferMeter("restore"), interrupted });
}

/** What the planner knows comes along in a dump of pg_dump 18 and newer; without it the first queries would be the slowest. */
function hasStatistics({ manifest, format }: OpenSource): boolean {
  return format === "custom" && Number(/(\d+)/.exec(manifest?.client.pgDump ?? "")?.[1] ?? 0) >= 18;
}

const analyze = (psql: Psql) => psql.execute("analyze", 6 * 3600);

/** Does the work in a session there, which ends with it, or when we are interrupted. */
async function inTarget<T>({ place, plan, interrupted }: Restoring, work: (psql: Psql) => Promise<T>): Promise<T> {
  interrupted.throwIfAborted();
  const psql = await openPsql(place, plan.target);
  const onAbort = () => void psql.close();
  interrupted.addEventListener("abort", onAbort);
  try {
    return await work(psql);
  } finally {
    interrupted.removeEventListener("abort", onAbort);
    await psql.close();
  }
}

/** Out of the restored database into the live one; the rest of it has served its purpose. */
async function takePart(job: Restoring, { tables, schema }: NonNullable<Restoring["part"]>, found: Found) {
  const { plan, place, admin, progress, interrupted } = job;
  const taken = await progress.step("copy", async () => {
    const gathered = await inTarget(job, (psql) => gatherTables(psql, tables, schema));
    await copySchema(place, plan.target, schema, interrupted);
    return gathered;
  });
  await progress.step("clean", () => admin.execute(dropScript(plan.target), 600));
  const rows = taken.reduce((sum, table) => sum + (found.rows[plainName(table)] ?? 0), 0);
  return { database: plan.live, kept: undefined, schema, rows, tables: taken.length, migrated: 0 };
}

function settingsOfTarget({ plan, live, source, observed }: Restoring): string {
  const settings = (live ?? source.manifest)?.settings;
  return settings ? settingsScript(plan.target, settings, observed.roles) : "select";
}

async function migrateTarget({ plan, place, directory, toVersion, progress, interrupted }: Restoring): Promise<void> {
  const onLine = (line: string) => progress.note(line);
  await applyMigrations({ place, directory, target: plan.target, toVersion, interrupted, onLine });
}

async function swapIn({ plan, admin, observed, progress }: Restoring) {
  const { live, target, keep } = plan;
  const stays = keep === undefined && observed.live !== undefined;
  if (stays) return { database: target, kept: undefined };
  await progress.step("swap", () => swapDatabases(admin, { live, next: target, keep }));
  return { database: live, kept: keep };
}

/** One that was found to be wrong is kept for whoever wants to know why; the rest of a failed one is of no use to anybody. */
async function afterFailure({ plan, admin }: Restoring, error: unknown): Promise<Failure> {
  const { what, why, details, next, read, exitCode } = asFailure(error);
  const { target, live } = plan;
  const isFoundWrong = error instanceof NotAsItShouldBe;
  const isGone =
    !isFoundWrong &&
    (await admin.execute(dropScript(target), 60).then(
      () => true,
      () => false,
    ));
  const left = isGone ? [] : ["bun scripts/restore.ts --clean      # removes it, as the next restore does"];
  const note = isGone ? `"${live}" is as it was` : `"${live}" is as it was; "${target}" is left behind`;
  return new Failure(what, `${why}; ${note}`, [...next, ...left], {
    ...{ exitCode, cause: error },
    ...(details && { details }),
    ...(read && { read }),
  });
}
