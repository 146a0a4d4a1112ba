// Carries a repair out. Interrupted at any moment, the database is as it was before, or repaired: what comes before the transaction may be
// repeated, and a new file is there before the database says that it is applied.
import { rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expectedCatalog } from "./catalog-expected.ts";
import { type Assessing, type Assessment, assess } from "./drift-assess.ts";
import { where } from "./drift-check.ts";
import { counted, type Finding, formatFindings } from "./drift-findings.ts";
import { mendIndexes } from "./drift-indexes.ts";
import type { Live } from "./drift-live.ts";
import { type FileChange, mends, type RepairPlan, type Step } from "./drift-plan.ts";
import type { DriftFlags } from "./drift-request.ts";
import { wantedCatalog } from "./drift-structure.ts";
import { exitCodes, Failure } from "./failure.ts";
import type { MigrationFile } from "./migration-file.ts";
import type { Place } from "./place.ts";
import type { Progress } from "./progress.ts";
import { inDatabase, type Psql, SqlError } from "./psql.ts";

type Wanting = {
  directory: string;
  live: Live;
  assessment: Assessment;
  plan: RepairPlan;
  scratch: Assessing["scratch"];
};

/** What the look at the end will ask for: it should not have to wait for it with a transaction open. */
export async function prepareLook({ directory, live, assessment, plan, scratch }: Wanting): Promise<void> {
  const { applied, present } = assessment;
  const { keep, files = [] } = plan.forward ?? {};
  const sets = keep === "files" ? [[], ...files.map((file) => [file])] : [files];
  for (const added of sets) {
    const wanted = wantedCatalog(directory, [...applied, ...present, ...added], live);
    await expectedCatalog({ ...wanted, scratch: () => scratch(live) });
  }
}

export type Applying = {
  place: Place;
  settings: Assessing["settings"];
  directory: string;
  scratch: Assessing["scratch"];
  progress: Progress;
  interrupted: AbortSignal;
  plan: RepairPlan;
  before: Assessment;
  /** Those that the assessment before was made of, and those of afterwards. */
  files: readonly MigrationFile[];
  filesAfter: readonly MigrationFile[];
  matches: Assessing["matches"];
  flags: Pick<DriftFlags, "on" | "database-url">;
};

const stepSeconds = 6 * 3600;
/** Who waits for a table keeps everybody else waiting who comes behind. */
const lockSeconds = 10;

/** @returns what is left: nothing, or what a new migration takes away. @throws {Failure} exit 3 when more is: it is taken back. */
export async function carryOut(applying: Applying): Promise<Finding[]> {
  const { place, plan, progress, interrupted } = applying;
  const work = <T>(does: (psql: Psql) => Promise<T>) => inDatabase(place, place.database, interrupted, does);
  if (plan.alone.length > 0) {
    await progress.step("indexes", () => mendIndexes({ place, steps: plan.alone, progress, interrupted }));
  }
  interrupted.throwIfAborted();
  return await progress
    .step("repair", () => work((psql) => inOneTransaction(psql, applying)))
    .catch((error: unknown) => {
      throw withDone(error, plan.alone);
    });
}

/** The indexes are not in the transaction, and stay mended whatever becomes of it. */
function withDone(error: unknown, alone: readonly Step[]): unknown {
  if (alone.length === 0 || !(error instanceof Failure) || error.exitCode === exitCodes.interrupted) return error;
  const { what, why, next, exitCode, details, read } = error;
  const done = alone.map((step) => `done before it: ${step.what}`);
  return new Failure(what.replace(/^Nothing was repaired/, "The rest was not repaired"), why, next, {
    ...{ exitCode, details: [...(details ? [details.trimEnd()] : []), ...done].join("\n"), cause: error },
    ...(read && { read }),
  });
}

async function inOneTransaction(psql: Psql, applying: Applying): Promise<Finding[]> {
  const { directory, plan, before, interrupted } = applying;
  const done: (() => Promise<void>)[] = [];
  let isCommitting = false;
  await psql.execute(`begin; set local lock_timeout = '${lockSeconds}s'`);
  try {
    if (before.live.history.columns.length > 0) await lockHistory(psql);
    await requireSame(psql, applying);
    for (const { what, statements } of plan.together) {
      // The session ends by itself then, but maybe not before its last statement.
      interrupted.throwIfAborted();
      await step(psql, what, statements);
    }
    const left = await requireNothingLeft(psql, applying);
    interrupted.throwIfAborted();
    for (const change of plan.files) done.push(await changeFile(directory, change).catch(cannotChange));
    interrupted.throwIfAborted();
    isCommitting = true;
    await psql.execute("commit");
    return left;
  } catch (error) {
    // Whether it went through nobody knows then. A file too many the next run notes; a version without its file would be worse.
    if (isCommitting) throw error;
    await psql.execute("rollback").catch(() => {});
    for (const undo of done.reverse()) await undo();
    throw error;
  }
}

/** Nobody is to note a version meanwhile; who reads it, is not kept. */
async function lockHistory(psql: Psql): Promise<void> {
  await psql.execute("lock table schema_migrations in share row exclusive mode").catch((error: unknown) => {
    if (!(error instanceof SqlError)) throw error;
    throw notRepaired("lock schema_migrations", error);
  });
}

async function step(psql: Psql, what: string, statements: readonly string[]): Promise<void> {
  await psql.execute(statements.join(";\n"), stepSeconds).catch((error: unknown) => {
    if (!(error instanceof SqlError)) throw error;
    throw notRepaired(what, error);
  });
}

/** Nothing is to be mended where somebody has only kept a table for too long. */
function notRepaired(what: string, { code, why, details }: SqlError): Failure {
  const isKept = code === "55P03";
  const kept = `somebody has kept the table for ${lockSeconds} s`;
  const next = [...(isKept ? [] : ["mend what the error names"]), "the same command again"];
  return new Failure(`Nothing was repaired: cannot ${what}`, isKept ? kept : why, next, {
    exitCode: isKept ? exitCodes.locked : exitCodes.saidNo,
    ...(details && { details }),
    ...(isKept && { read: "docs/runbook/migration-hangs.md" }),
  });
}

const look = (psql: Psql, { settings, directory, scratch, matches }: Applying, files: readonly MigrationFile[]) =>
  assess({ psql, settings, directory, scratch, files, ...(matches && { matches }), inTransaction: true });

/** Between the look that the plan is made of and now, somebody may have been at it; the indexes are mended by now. */
async function requireSame(psql: Psql, applying: Applying): Promise<void> {
  const { before, files, plan } = applying;
  const now = await look(psql, applying, files);
  const text = ({ findings }: Assessment) =>
    JSON.stringify(findings.filter(({ kind, what }) => kind !== "invalid index" && !isIndexOf(before, what)));
  const isBroken = now.findings.some(({ kind, what }) => kind === "invalid index" && mends(plan.alone, what));
  if (text(now) === text(before) && !isBroken) return;
  throw new Failure("Nothing was repaired", "the database has changed since the plan was made", [
    "the same command again",
  ]);
}

/** One that was dropped, and goes without saying. */
const isIndexOf = ({ live }: Assessment, what: string) =>
  live.invalidIndexes.some(({ name }) => what === `index ${name}`);

async function requireNothingLeft(psql: Psql, applying: Applying): Promise<Finding[]> {
  const { plan, filesAfter, flags } = applying;
  const { findings } = await look(psql, applying, filesAfter);
  const left = counted(findings);
  const isForwards = plan.forward?.keep === "files";
  const steps = [...plan.alone, ...plan.together];
  // An index goes with its constraint.
  const isForward = ({ kind, what }: Finding) =>
    kind === "structure" || (kind === "invalid index" && !mends(steps, what));
  const unexpected = left.filter((finding) => !(isForwards && isForward(finding)));
  if (unexpected.length === 0) return left;
  throw new Failure(
    "Nothing was repaired",
    "not all would be as it should, so everything was taken back",
    [`bun scripts/drift.ts check${where(flags)}`],
    {
      exitCode: exitCodes.saidNo,
      details: formatFindings(unexpected).join("\n"),
      read: "docs/runbook/drift-found.md",
    },
  );
}

/** Whole, or not at all. @returns how to take it back. */
async function changeFile(directory: string, change: FileChange): Promise<() => Promise<void>> {
  const path = (file: string) => join(directory, "migrations", file);
  if ("rename" in change) {
    await rename(path(change.rename), path(change.to.file));
    return () => rename(path(change.to.file), path(change.rename));
  }
  if ("reuse" in change) return async () => {};
  const { file, text } = change.write;
  const temporary = path(`.${file}.${process.pid}`);
  try {
    await writeFile(temporary, text);
    await rename(temporary, path(file));
  } finally {
    await rm(temporary, { force: true });
  }
  return () => rm(path(file), { force: true });
}

/** A git checkout meanwhile, a full disk. */
function cannotChange(error: unknown): never {
  const why = `a file in migrations/ cannot be changed: ${(error as Error).message}`;
  throw new Failure("Nothing was repaired", why, ["the same command again"], { cause: error });
}
