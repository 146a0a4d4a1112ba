// Carries out a drill: a restore of a backup from beginning to end, into a container that is thrown away afterwards. What is wrong with
// the backup is a finding, and comes back with everything else that was found; what is wrong with this machine throws.
import type { DrillValues } from "./backup-values.ts";
import { readFacts } from "./catalog.ts";
import { type Brought, restoreInContainer } from "./container-restore.ts";
import { compare, type Found, lookAt } from "./database-compare.ts";
import { compareSettings, otherExtensions } from "./drill-compare.ts";
import type { DrillPlan, Stack } from "./drill-plan.ts";
import { asFailure, exitCodes, Failure } from "./failure.ts";
import type { Manifest } from "./manifest.ts";
import type { Progress } from "./progress.ts";
import { inDatabase, type Psql } from "./psql.ts";
import { type Expectation, NotAsItShouldBe, requireUsable } from "./restore-prove.ts";
import { analyze } from "./restore-run.ts";
import type { OpenSource } from "./restore-source.ts";
import type { Store } from "./s3.ts";
import { hasImage, pullImage, type Throwaway } from "./throwaway.ts";

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
  const { plan } = drilling;
  const limit = timeLimit(hoursMaximum);
  const job = { ...drilling, interrupted: AbortSignal.any([drilling.interrupted, limit.signal]) };
  const { manifest } = plan.backup;
  const bytes = manifest.dump.bytes + manifest.globals.bytes;
  const seen: Seen = { rowsEqual: false, warnings: [] };
  try {
    const containing = { ...job, purpose: "drill", what: "Cannot drill", target } as const;
    const restored = await restoreInContainer({ ...containing, warnings: seen.warnings }, (brought) =>
      prove({ ...job, interrupted: brought.interrupted }, brought, seen),
    );
    return { equal: true, ...seen, problems: [], bytes, ...restored };
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

/** What is known so far, however it ends. */
type Seen = Pick<Drilled, "rowsEqual" | "warnings">;

type Restored = Required<Pick<Drilled, "rows" | "tables" | "migrated" | "restoreSeconds">>;

async function prove(job: Drilling, { container, source, started }: Brought, seen: Seen): Promise<Restored> {
  const { manifest } = job.plan.backup;
  const found = await job.progress.step("compare", () =>
    inDatabase(container.place, target, job.interrupted, (psql) => requireSame(psql, manifest, seen.warnings)),
  );
  seen.rowsEqual = true;
  const migrated = await makeUsable(job, container, source);
  const restoreSeconds = Math.round(performance.now() - started) / 1000;
  const rows = Object.values(found.rows).reduce((sum, count) => sum + count, 0);
  return { rows, tables: Object.keys(found.rows).length, migrated, restoreSeconds };
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
