// Restores a backup into a container that is thrown away afterwards: for a drill, and for a rehearsal that is not to burden the server.
import type { ReadingValues } from "./backup-values.ts";
import { createScript, settingsScript } from "./database-create.ts";
import { applyGlobals, globalsScript, readGlobals, superuserOf } from "./drill-globals.ts";
import type { DrillPlan } from "./drill-plan.ts";
import { asFailure, exitCodes, Failure } from "./failure.ts";
import { formatBytes } from "./figures.ts";
import type { Manifest } from "./manifest.ts";
import type { Progress } from "./progress.ts";
import { openPsql, type Psql } from "./psql.ts";
import { diskOf, roomOn, watchDisk } from "./restore-disk.ts";
import { load } from "./restore-load.ts";
import { NotAsItShouldBe } from "./restore-prove.ts";
import { type OpenSource, openStored } from "./restore-source.ts";
import type { Store } from "./s3.ts";
import { hasImage, type Purpose, pullImage, removeContainers, startContainer, type Throwaway } from "./throwaway.ts";
import { transferMeter } from "./transfer-meter.ts";

export type Containing = {
  plan: Pick<DrillPlan, "backup" | "image" | "command" | "leftovers" | "neededBytes">;
  purpose: Purpose;
  /** For messages: "Cannot drill". */
  what: string;
  project: string;
  /** What the database is called in there. */
  target: string;
  directory: string;
  store: Store;
  values: ReadingValues;
  /** Gets what Postgres did not accept of the roles. */
  warnings: string[];
  progress: Progress;
  interrupted: AbortSignal;
};

export type Brought = {
  container: Throwaway;
  source: OpenSource;
  /** In the container, beside the database. */
  admin: Psql;
  /** When the restore began, in the milliseconds of performance.now(). */
  started: number;
  /** Also aborted when Docker's disk is nearly full. */
  interrupted: AbortSignal;
};

/**
 * Does the work with a database that holds what the dump held. Whether that is what was backed up, is for the work to find out.
 * @throws {Failure} exit 1 where this machine was not able to do it, 2 where the image cannot, 3 where the backup cannot be read.
 */
export async function restoreInContainer<T>(job: Containing, work: (brought: Brought) => Promise<T>): Promise<T> {
  const { plan, store, values, directory, progress, interrupted } = job;
  const globals = await progress.step("roles", () => readGlobals(plan.backup, store, values, directory, interrupted));
  const source = await openStored(plan.backup, store, values, directory);
  try {
    return await inContainer(job, superuserOf(plan.backup.manifest, globals), (container) =>
      restore(job, container, source, globals, work),
    );
  } finally {
    await source.close();
  }
}

/** @throws {Failure} exit 1 where the container or the disk has failed, whatever else has failed because of it. */
async function inContainer<T>(
  { plan, project, purpose, what, progress, interrupted }: Containing,
  superuser: string,
  work: (container: Throwaway) => Promise<T>,
): Promise<T> {
  const { image, command, leftovers } = plan;
  if (leftovers.length > 0) await progress.step("clean", () => removeContainers(leftovers));
  if (!(await hasImage(image))) await progress.step("pull", () => pullImage(image, interrupted));
  const wanted = { purpose, project, image, command, superuser };
  const container = await progress.step("start", () => startContainer(wanted, interrupted));
  try {
    return await work(container);
  } catch (error) {
    throw interrupted.aborted ? error : await ofThisMachine(container, what, asFailure(error));
  } finally {
    const left = await container.remove();
    if (left) progress.note(`warning: the container could not be removed; next: ${left}`);
  }
}

async function ofThisMachine(container: Throwaway, what: string, failure: Failure): Promise<Failure> {
  const ended = await container.whyEnded().catch(() => undefined);
  const isFull = /No space left on device/.test(failure.details ?? "") || failure.read?.includes("disk-full");
  const why = ended ?? (isFull ? "Docker's disk is full" : undefined);
  if (!why) return failure;
  return new Failure(what, why, ["docker system df"], { details: failure.message, cause: failure });
}

async function restore<T>(
  job: Containing,
  container: Throwaway,
  source: OpenSource,
  globals: string,
  work: (brought: Brought) => Promise<T>,
): Promise<T> {
  const { plan, what, target, progress } = job;
  const { place } = container;
  const { manifest } = plan.backup;
  const admin = await openPsql(place);
  try {
    const { versionNumber, folder } = await requireFit(admin, job);
    const disk = await requireRoom(container, job, folder);
    const watch = watchDisk(place, disk, what);
    const interrupted = AbortSignal.any([job.interrupted, watch.full]);
    const major = Math.floor(versionNumber / 10_000);
    try {
      const refused = await applyGlobals(place, globalsScript(globals, place.user), interrupted);
      job.warnings.push(...refused.map((text) => `of the roles Postgres did not accept: ${text}`));
      await requireRoles(admin, manifest);
      const started = performance.now();
      await admin.execute(createScript(target, manifest.settings.owner, manifest.server), 300);
      const meter = transferMeter("restore");
      await progress.step("restore", () => load({ place, source, target, major, meter, progress, interrupted }));
      await admin.execute(settingsScript(target, manifest.settings, await rolesOf(admin)));
      return await work({ container, source, admin, started, interrupted });
    } catch (error) {
      throw watch.full.aborted ? noRoom(what, "it was nearly full, so that it was given up") : error;
    } finally {
      await watch.stop();
    }
  } finally {
    await admin.close();
  }
}

/** @throws {Failure} exit 2 where this image can never restore it, whatever is in the backup. */
async function requireFit(admin: Psql, { what, plan: { image, backup } }: Containing) {
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
  throw new Failure(`${what} with ${image}`, reasons.join(", "), next, {
    exitCode: exitCodes.usage,
    read: "docs/drill.md",
  });
}

async function requireRoom({ place }: Throwaway, { what, plan: { neededBytes } }: Containing, folder: string) {
  const disk = await diskOf(place, folder);
  const room = disk && roomOn(disk);
  if (room === undefined || room >= neededBytes) return disk;
  throw noRoom(what, `there are ${formatBytes(room)} to use, it takes about ${formatBytes(neededBytes)}`);
}

const noRoom = (what: string, why: string) => new Failure(`${what} on Docker's disk`, why, ["docker system df"]);

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
