// Carries out a drill: a restore of a backup from beginning to end, into a container that is thrown away afterwards. What is wrong with
// the backup is a finding, and comes back with everything else that was found; what is wrong with this machine throws.
import type { DrillValues } from "./backup-values.ts";
import { readFacts } from "./catalog.ts";
import { compare, type Found, lookAt } from "./database-compare.ts";
import { createScript, settingsScript } from "./database-create.ts";
import { compareSettings, otherExtensions } from "./drill-compare.ts";
import { applyGlobals, globalsScript, readGlobals, superuserOf } from "./drill-globals.ts";
import type { DrillPlan, Stack } from "./drill-plan.ts";
import { asFailure, exitCodes, Failure } from "./failure.ts";
import { formatBytes } from "./figures.ts";
import type { Manifest } from "./manifest.ts";
import type { Progress } from "./progress.ts";
import { inDatabase, openPsql, type Psql } from "./psql.ts";
import { diskOf, roomOn, watchDisk } from "./restore-disk.ts";
import { load } from "./restore-load.ts";
import { type Expectation, NotAsItShouldBe, requireUsable } from "./restore-prove.ts";
import { analyze } from "./restore-run.ts";
import { type OpenSource, openStored } from "./restore-source.ts";
import type { Store } from "./s3.ts";
import { hasImage, pullImage, removeContainers, startContainer, type Throwaway } from "./throwaway.ts";
import { transferMeter } from "./transfer-meter.ts";

export type Drilling = {
  plan: DrillPlan;
  project: string;
  directory: string;
  store: Store;
  values: DrillValues;
  stack: Stack;
  /** What the app needs, of dbops.config.ts. */
  schema: Expectation;
  /** Versions of migrations/. */
  migrations: readonly string[];
  progress: Progress;
  interrupted: AbortSignal;
};

export type Drilled = {
  /** Nothing was found that a restore would have to stop for. */
  equal: boolean;
  /** What was restored is what was backed up, also where a restore would stop for another reason: a migration, the validator. */
  rowsEqual: boolean;
  /** A line for everything that is not as it should be. */
  problems: string[];
  /** What does not matter for the data, and somebody may want to know. */
  warnings: string[];
  /** For people, where something was found. */
  finding?: Failure;
  rows?: number;
  tables?: number;
  migrated?: number;
  /** What was downloaded. */
  bytes: number;
  /** From the first byte of the dump until the app could have worked with it; undefined where it did not come so far. */
  restoreSeconds?: number;
};

const target = "drill";
const hoursMaximum = 12;

/** @throws {Failure} exit 1 when this machine was not able to do it, 2 where it was asked for the wrong thing, 130 interrupted. */
export async function runDrill(drilling: Drilling): Promise<Drilled> {
  const { plan, store, values, directory, progress } = drilling;
  const limit = timeLimit(hoursMaximum);
  const job = { ...drilling, interrupted: AbortSignal.any([drilling.interrupted, limit.signal]) };
  const { manifest } = plan.backup;
  const bytes = manifest.dump.bytes + manifest.globals.bytes;
  const seen: Seen = { rowsEqual: false, warnings: [] };
  try {
    const globals = await progress.step("roles", () =>
      readGlobals(plan.backup, store, values, directory, job.interrupted),
    );
    const source = await openStored(plan.backup, store, values, directory);
    try {
      const restored = await inContainer(job, superuserOf(manifest, globals), (container) =>
        restore(job, container, source, globals, seen),
      );
      return { equal: true, ...seen, problems: [], bytes, ...restored };
    } finally {
      await source.close();
    }
  } catch (error) {
    if (job.interrupted.aborted) throw job.interrupted.reason;
    const finding = asFailure(error);
    if (!isAboutBackup(finding)) throw finding;
    return { equal: false, ...seen, problems: problemsOf(finding), finding, bytes };
  } finally {
    limit.lift();
  }
}

function timeLimit(hours: number) {
  const controller = new AbortController();
  const giveUp = () => controller.abort(new Failure("Gave up on the drill", `it was not done within ${hours} hours`));
  const timer = setTimeout(giveUp, hours * 3_600_000);
  return { signal: controller.signal, lift: () => clearTimeout(timer) };
}

/** Whoever has no key for it knows nothing about the backup. */
const isAboutBackup = ({ exitCode, read }: Failure) =>
  exitCode === exitCodes.saidNo && read !== "docs/runbook/lost-passphrase.md";

const problemsOf = (finding: Failure) =>
  finding instanceof NotAsItShouldBe && finding.details ? finding.details.split("\n") : [finding.message];

type Work<T> = (container: Throwaway) => Promise<T>;

/** @throws {Failure} exit 1 where the container or the disk has failed, whatever else has failed because of it. */
async function inContainer<T>(
  { plan, project, progress, interrupted }: Drilling,
  superuser: string,
  work: Work<T>,
): Promise<T> {
  const { image, command, leftovers } = plan;
  if (leftovers.length > 0) await progress.step("clean", () => removeContainers(leftovers));
  if (!(await hasImage(image))) await progress.step("pull", () => pullImage(image, interrupted));
  const wanted = { purpose: "drill" as const, project, image, command, superuser };
  const container = await progress.step("start", () => startContainer(wanted, interrupted));
  try {
    return await work(container);
  } catch (error) {
    throw interrupted.aborted ? error : await ofThisMachine(container, asFailure(error));
  } finally {
    const left = await container.remove();
    if (left) progress.note(`warning: the container could not be removed; next: ${left}`);
  }
}

async function ofThisMachine(container: Throwaway, failure: Failure): Promise<Failure> {
  const ended = await container.whyEnded().catch(() => undefined);
  const isFull = /No space left on device/.test(failure.details ?? "") || failure.read?.includes("disk-full");
  const why = ended ?? (isFull ? "Docker's disk is full" : undefined);
  if (!why) return failure;
  return new Failure("Cannot drill", why, ["docker system df"], { details: failure.message, cause: failure });
}

/** What is known so far, however it ends. */
type Seen = Pick<Drilled, "rowsEqual" | "warnings">;

type Restored = Required<Pick<Drilled, "rows" | "tables" | "migrated" | "restoreSeconds">>;

async function restore(
  job: Drilling,
  container: Throwaway,
  source: OpenSource,
  globals: string,
  seen: Seen,
): Promise<Restored> {
  const { plan, progress } = job;
  const { place } = container;
  const { manifest } = plan.backup;
  const admin = await openPsql(place);
  try {
    const { versionNumber, folder } = await requireFit(admin, plan);
    const disk = await requireRoom(container, plan, folder);
    const watch = watchDisk(place, disk, "Cannot drill");
    const interrupted = AbortSignal.any([job.interrupted, watch.full]);
    const major = Math.floor(versionNumber / 10_000);
    try {
      const refused = await applyGlobals(place, globalsScript(globals, place.user), interrupted);
      seen.warnings.push(...refused.map((text) => `of the roles Postgres did not accept: ${text}`));
      await requireRoles(admin, manifest);
      const started = performance.now();
      await admin.execute(createScript(target, manifest.settings.owner, manifest.server), 300);
      const meter = transferMeter("restore");
      await progress.step("restore", () => load({ place, source, target, major, meter, progress, interrupted }));
      await admin.execute(settingsScript(target, manifest.settings, await rolesOf(admin)));
      const found = await progress.step("compare", () =>
        inDatabase(container.place, target, interrupted, (psql) => requireSame(psql, manifest, seen.warnings)),
      );
      seen.rowsEqual = true;
      const migrated = await makeUsable({ ...job, interrupted }, container, source);
      const restoreSeconds = Math.round(performance.now() - started) / 1000;
      const rows = Object.values(found.rows).reduce((sum, count) => sum + count, 0);
      return { rows, tables: Object.keys(found.rows).length, migrated, restoreSeconds };
    } catch (error) {
      throw watch.full.aborted ? noRoom("it was nearly full, so that the drill gave up") : error;
    } finally {
      await watch.stop();
    }
  } finally {
    await admin.close();
  }
}

/** @throws {Failure} exit 2 where this image can never restore it, whatever is in the backup. */
async function requireFit(admin: Psql, { image, backup }: DrillPlan) {
  const { server, extensions } = backup.manifest;
  const [found] = await admin.rows<{ versionNumber: number; folder: string; available: string[] }>(`select
    current_setting('server_version_num')::int as "versionNumber", current_setting('data_directory') as folder,
    (select jsonb_agg(name) from pg_available_extensions) as available`);
  const { versionNumber, available } = found!;
  const major = (number: number) => Math.floor(number / 10_000);
  const missing = Object.keys(extensions).filter((name) => !available.includes(name));
  const reasons = [
    ...(major(versionNumber) < major(server.versionNumber)
      ? [`it is of PostgreSQL ${major(versionNumber)}, the backup of ${major(server.versionNumber)}`]
      : []),
    ...missing.map((name) => `it does not have the extension ${name}`),
  ];
  if (reasons.length === 0) return found!;
  const next = ["the same command with --image IMAGE, which has them"];
  throw new Failure(`Cannot drill with ${image}`, reasons.join(", "), next, {
    exitCode: exitCodes.usage,
    read: "docs/drill.md",
  });
}

async function requireRoom({ place }: Throwaway, { neededBytes }: DrillPlan, folder: string) {
  const disk = await diskOf(place, folder);
  const room = disk && roomOn(disk);
  if (room === undefined || room >= neededBytes) return disk;
  throw noRoom(`there are ${formatBytes(room)} to use, it takes about ${formatBytes(neededBytes)}`);
}

const noRoom = (why: string) => new Failure("Cannot drill on Docker's disk", why, ["docker system df"]);

const rolesOf = async (admin: Psql) =>
  (await admin.rows<{ name: string }>("select rolname as name from pg_roles")).map(({ name }) => name);

/** pg_restore would stop at the first thing that belongs to one of them. */
async function requireRoles(admin: Psql, { roles, settings, globals }: Manifest): Promise<void> {
  const known = await rolesOf(admin);
  const absent = [...new Set([...roles, settings.owner])].filter((role) => !known.includes(role));
  if (absent.length === 0) return;
  const lines = absent.map((role) => `role ${role}: not in ${globals.name}`);
  throw new NotAsItShouldBe("Not all roles of the database are in the backup", `${absent.length} are missing`, lines);
}

/** @throws {Failure} exit 3 with every difference. */
async function requireSame(psql: Psql, manifest: Manifest, warnings: string[]): Promise<Found> {
  const found = await lookAt(psql);
  const facts = await readFacts(psql);
  warnings.push(...otherExtensions(manifest, facts));
  const problems = [...compare(manifest, found), ...compareSettings(manifest, facts)];
  if (problems.length === 0) return found;
  const count = problems.length === 1 ? "1 difference" : `${problems.length} differences`;
  throw new NotAsItShouldBe("What was restored is not what was backed up", count, problems);
}

/** As a restore does before it swaps. @returns how many migrations were applied. */
async function makeUsable(job: Drilling, container: Throwaway, source: OpenSource): Promise<number> {
  const { plan, stack, directory, progress, interrupted, schema, migrations } = job;
  const { pending, backup } = plan;
  await progress.step("analyze", () =>
    inDatabase(container.place, target, interrupted, (psql) => analyze(psql, source)),
  );
  if (pending.length > 0) {
    await progress.step("migrate", async () => {
      const applied = await container.migrate(await dbmateImage(stack, interrupted), directory, target, interrupted);
      for (const line of applied) progress.note(line);
    });
  }
  const versions = backup.manifest.migrations.length === 0 ? [] : migrations;
  await progress.step("validate", () =>
    inDatabase(container.place, target, interrupted, (psql) => requireUsable(psql, { ...schema, versions })),
  );
  return pending.length;
}

async function dbmateImage(stack: Stack, interrupted: AbortSignal): Promise<Stack> {
  const { migrations: image } = stack;
  if (!image) {
    const why = "compose.yaml names no image of dbmate in its service migrations, and there are migrations to apply";
    throw new Failure("Cannot drill", why, ["correct compose.yaml"], { exitCode: exitCodes.usage });
  }
  if (!(await hasImage(image))) await pullImage(image, interrupted);
  return stack;
}
