// A rehearsal from beginning to end: the latest backup into a database of its own, the pending files there, and that database is gone again.
// Beside the live one by default, because only that server knows how long it takes there; it touches nothing of the live database.
import type { Listing } from "./backup-list.ts";
import type { ReadingValues } from "./backup-values.ts";
import type { Settings } from "./config.ts";
import { restoreInContainer } from "./container-restore.ts";
import { dropScript } from "./database-create.ts";
import { asksForRepairs, notedIn, noteRepairs } from "./drift-repairs.ts";
import { asFailure, Failure } from "./failure.ts";
import { type MigrationFile, readMigrations } from "./migration-file.ts";
import { requireAppliable } from "./migration-refusals.ts";
import { statementsOf } from "./migration-statements.ts";
import { environmentOf, flagsFor, openPlace, type Place } from "./place.ts";
import type { Progress } from "./progress.ts";
import { inDatabase, openPsql, type Psql } from "./psql.ts";
import { type Outcome, rehearseFiles } from "./rehearse-files.ts";
import { cutOff } from "./rehearse-guard.ts";
import {
  type Ground,
  inContainer,
  planRehearsal,
  type RehearsalPlan,
  type Seen,
  unappliedIn,
  type Wanted,
} from "./rehearse-plan.ts";
import { reachesFurther } from "./rehearse-reach.ts";
import { type Ended, judged } from "./rehearse-report.ts";
import { explainDisk, watchDisk } from "./restore-disk.ts";
import { requireEqual } from "./restore-prove.ts";
import { bringBack, giveSettings } from "./restore-run.ts";
import { maintenanceOf, observe, type Seen as SeenServer, takeTurn, tryTurn } from "./restore-server.ts";
import { openStored } from "./restore-source.ts";
import { asTyped } from "./runtime.ts";
import type { Store } from "./s3.ts";
import { findLeftovers, readStack, requireEngine } from "./throwaway.ts";

export type Rehearsal = {
  settings: Settings;
  directory: string;
  on: string;
  url: string | undefined;
  /** "latest", or a backup. */
  which: string;
  /** Whose latest one; undefined for that of the database that is rehearsed for. */
  from: string | undefined;
  inContainer: boolean;
  /** Of the container, instead of that of compose.yaml. */
  image: string | undefined;
  store: Store;
  listing: Listing;
  values: ReadingValues;
  /** Told before anything is made. @returns whether to go on. */
  onPlan(plan: RehearsalPlan, wanted: Wanted): boolean;
  progress: Progress;
  interrupted: AbortSignal;
  /** Nothing is done after onPlan(): another rehearsal may be at work meanwhile. */
  planOnly?: boolean;
};

/**
 * @returns undefined where it ended with the plan.
 * @throws {Failure} when it could not be rehearsed. A file that fails and figures above the limits are findings.
 */
export async function runRehearsal(asked: Rehearsal): Promise<Ended | undefined> {
  const { settings, directory } = asked;
  const files = await readMigrations(directory);
  const reaching = await whatReaches(files);
  const end = await (asked.inContainer ? inThrowaway(asked, { files, reaching }) : beside(asked, { files, reaching }));
  return end && judged(end.plan, end.outcome, settings.migrations.rehearse);
}

type Files = Pick<Seen, "files" | "reaching">;
type End = { plan: RehearsalPlan; outcome: Outcome } | undefined;

async function whatReaches(files: readonly MigrationFile[]): Promise<Record<string, string[]>> {
  const each = files.map(async ({ file, sections }) => {
    const { up } = sections[0]!;
    const statements = await statementsOf(up);
    const lines = statements.flatMap((statement) => {
      const words = reachesFurther(statement, up.transaction)?.replaceAll(/\s+/g, " ");
      return words ? [`migrations/${file}:${statement.line}: ${words}`] : [];
    });
    return [file, lines] as const;
  });
  return Object.fromEntries(await Promise.all(each));
}

async function beside(asked: Rehearsal, files: Files): Promise<End> {
  const { settings, directory, on, url, interrupted } = asked;
  const place = await openPlace({ settings, directory, on, url }, interrupted);
  try {
    const admin = await openPsql(place, maintenanceOf(place.database));
    try {
      if (!asked.planOnly) await takeTurn(admin, "rehearse", place.database);
      const isBusy = asked.planOnly === true && !(await tryTurn(admin, "rehearse", place.database));
      const server = await observe(place, admin);
      const plan = await decide(asked, files, place, { kind: "beside", observed: server.observed, isBusy });
      if (!plan) return undefined;
      return { plan, outcome: await besideLive(asked, place, admin, server, plan) };
    } finally {
      await admin.close();
    }
  } finally {
    await place.close();
  }
}

const flagsOf = ({ on, url, from }: Rehearsal) =>
  `${flagsFor(environmentOf({ on, url }))}${from === undefined ? "" : ` --from ${from}`}`;

/** @returns undefined where nothing is to be done after it. */
async function decide(asked: Rehearsal, files: Files, place: Pick<Place, "database" | "name">, ground: Ground) {
  const { settings, listing, which, from, interrupted } = asked;
  const environment = environmentOf(asked);
  const wanted: Wanted = {
    ...{ which, environment: from ?? environment, database: place.database, place: place.name },
    ...{ flags: flagsOf(asked), limits: settings.migrations.rehearse, now: new Date() },
  };
  const liveMigrations = ground.kind === "beside" ? (ground.observed.live?.migrations ?? []) : [];
  const seen = { listing, ...files, liveMigrations, ground };
  await requireAppliable(unappliedIn(wanted, seen), "up", "Cannot rehearse");
  const plan = planRehearsal(wanted, seen);
  interrupted.throwIfAborted();
  return asked.onPlan(plan, wanted) && plan.pending.length > 0 ? plan : undefined;
}

async function besideLive(
  asked: Rehearsal,
  place: Place,
  admin: Psql,
  { observed, live, disk }: SeenServer,
  { backup, where, pending }: RehearsalPlan,
): Promise<Outcome> {
  const { store, values, directory, progress } = asked;
  const { target } = where;
  const leftovers = where.kind === "beside" ? [...where.leftovers] : [];
  const what = `Cannot rehearse with ${backup.id}`;
  const source = await openStored(backup, store, values, directory);
  const watch = watchDisk(place, disk, what);
  const interrupted = AbortSignal.any([asked.interrupted, watch.full]);
  try {
    const job = { source, place, admin, observed, live, progress, interrupted, plan: { target, leftovers } };
    const found = await bringBack({ ...job, onProof: async () => {} }, () => 0);
    await giveSettings({ ...job, onProof: async () => {} });
    const outcome = await inDatabase(place, target, interrupted, async (psql) => {
      await progress.step("vacuum", () => settle(psql));
      if (live) await inDatabase(place, place.database, interrupted, (there) => takeBackAsThere(there, psql, pending));
      const next = inContainer({ which: asked.which, flags: flagsOf(asked) });
      const guard = { next, versionNumber: observed.versionNumber };
      await cutOff(psql, guard);
      return await rehearseFiles({
        psql,
        watcher: admin,
        files: pending,
        rows: found.rows,
        guard,
        step: progress.step,
      });
    });
    // What looks like the end of a file may be the end of its session.
    interrupted.throwIfAborted();
    return outcome;
  } catch (error) {
    const failure = asFailure(interrupted.aborted ? interrupted.reason : error);
    throw await untouched(explainDisk(what, failure), place);
  } finally {
    await source.close();
    await watch.stop();
    await progress
      .step("clean", () => admin.execute(dropScript(target), 600))
      .catch(() => progress.note(asTyped(`warning: "${target}" is left behind: ${leftBehind(place)}`)));
  }
}

/** What a repair has written does nothing but where it is noted; and the backup before the repair does not know of it yet. */
async function takeBackAsThere(live: Psql, copy: Psql, pending: readonly MigrationFile[]): Promise<void> {
  const noted = await notedIn(live, pending);
  if (noted.length > 0) await copy.execute(noteRepairs(noted));
}

const whyNothing =
  "takes back what was done by hand in one database, and may do nothing here; without --in-container it is tried as there";

const leftBehind = ({ environment }: Place) =>
  `the next rehearsal removes it, or bun scripts/restore.ts --clean${flagsFor(environment)}`;

/** It was never in danger, and whoever sees an error has to hear that. */
async function untouched(failure: Failure, { database }: Place): Promise<Failure> {
  const { what, why, next, exitCode, details, read, cause } = failure;
  return new Failure(what, `${why}; "${database}" was not touched`, next, {
    ...{ exitCode, cause },
    ...(details && { details }),
    ...(read && { read }),
  });
}

async function inThrowaway(asked: Rehearsal, files: Files): Promise<End> {
  const { settings, directory, image, store, values, progress, interrupted } = asked;
  const what = "Cannot rehearse";
  await requireEngine(what);
  const { name: project } = settings;
  const [stack, leftovers] = await Promise.all([readStack(directory), findLeftovers("rehearse", project, new Date())]);
  const place = { database: settings.database, name: "this machine" };
  const plan = await decide(asked, files, place, { kind: "container", stack, image, leftovers });
  if (plan?.where.kind !== "container") return undefined;
  const { target } = plan.where;
  const warnings: string[] = [];
  const containing = { project, directory, store, values, warnings, progress, interrupted, what, target };
  const job = { ...containing, purpose: "rehearse", plan: { ...plan.where, ...plan } } as const;
  const outcome = await restoreInContainer(job, async ({ container, source, admin, interrupted: ended }) => {
    for (const text of warnings) progress.note(`warning: ${text}`);
    return await inDatabase(container.place, target, ended, async (psql) => {
      const { rows } = await progress.step("compare", () =>
        requireEqual({ source, onProof: async () => {} }, psql, () => 0),
      );
      await progress.step("vacuum", () => settle(psql));
      for (const { file } of asksForRepairs(plan.pending)) progress.note(`warning: ${file} ${whyNothing}`);
      return await rehearseFiles({ psql, watcher: admin, files: plan.pending, rows, step: progress.step });
    });
  }).catch((error) => {
    throw interrupted.aborted ? interrupted.reason : error;
  });
  return { plan, outcome };
}

/**
 * What has just been loaded is not yet as a table is that has been there for long: whoever reads it first writes all of it once more. And
 * autovacuum would come for it, in the middle of a file.
 */
const settle = (psql: Psql) => psql.execute("vacuum (analyze)", 6 * 3600);
