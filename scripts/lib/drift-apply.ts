// Carries a repair out. Interrupted at any moment, the database is as it was before, or repaired: what comes before the transaction may be
// repeated, and a new file is there before the database says that it is applied.
import { rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expectedCatalog } from "./catalog-expected.ts";
import { type Assessing, type Assessment, assess } from "./drift-assess.ts";
import { counted, type Finding, formatFindings } from "./drift-findings.ts";
import type { Live } from "./drift-live.ts";
import type { FileChange, RepairPlan, Step } from "./drift-plan.ts";
import { wantedCatalog } from "./drift-structure.ts";
import { exitCodes, Failure } from "./failure.ts";
import type { MigrationFile } from "./migration-file.ts";
import type { Place } from "./place.ts";
import type { Progress } from "./progress.ts";
import { inDatabase, type Psql, quoteIdentifier, SqlError } from "./psql.ts";

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
};

const stepSeconds = 6 * 3600;

/** @returns what is left: nothing, or what a new migration takes away. @throws {Failure} exit 3 when more is: it is taken back. */
export async function carryOut(applying: Applying): Promise<Finding[]> {
  const { place, plan, progress, interrupted } = applying;
  const work = <T>(does: (psql: Psql) => Promise<T>) => inDatabase(place, place.database, interrupted, does);
  if (plan.alone.length > 0) await progress.step("indexes", () => work((psql) => eachAlone(psql, plan.alone)));
  interrupted.throwIfAborted();
  return await progress.step("repair", () => work((psql) => inOneTransaction(psql, applying)));
}

async function eachAlone(psql: Psql, steps: readonly Step[]): Promise<void> {
  for (const { what, statements } of steps) {
    for (const statement of statements) {
      await psql.execute(statement, stepSeconds).catch(async (error: unknown) => {
        if (!(error instanceof SqlError)) throw error;
        await removeLeftover(psql, statement);
        const next = ["mend what the error names", "the same command again"];
        const extra = { exitCode: exitCodes.saidNo, ...(error.details && { details: error.details }) };
        throw new Failure(`Cannot ${what}`, error.why, next, { ...extra, read: "docs/runbook/drift-found.md" });
      });
    }
  }
}

/** A REINDEX CONCURRENTLY that fails leaves what it had begun: one more invalid index. */
async function removeLeftover(psql: Psql, statement: string): Promise<void> {
  const name = /^reindex index concurrently (.*)$/.exec(statement)?.[1];
  if (!name) return;
  const [left] = await psql.rows<{ schema: string; index: string }>(
    `select n.nspname as schema, c.relname as index from pg_index i join pg_class c on c.oid = i.indexrelid join pg_namespace n on n.oid = c.relnamespace
     where not i.indisvalid and i.indrelid = (select indrelid from pg_index where indexrelid = '${name.replaceAll("'", "''")}'::regclass)
       and c.relname ~ '_ccnew[0-9]*$'`,
  );
  if (left)
    await psql.execute(
      `drop index concurrently if exists ${quoteIdentifier(left.schema)}.${quoteIdentifier(left.index)}`,
    );
}

async function inOneTransaction(psql: Psql, applying: Applying): Promise<Finding[]> {
  const { directory, plan, before } = applying;
  const done: (() => Promise<void>)[] = [];
  let isCommitting = false;
  await psql.execute("begin; set local lock_timeout = '10s'");
  try {
    if (before.live.history.columns.length > 0) await lockHistory(psql);
    await requireSame(psql, applying);
    for (const { what, statements } of plan.together) await step(psql, what, statements);
    const left = await requireNothingLeft(psql, applying);
    for (const change of plan.files) done.push(await changeFile(directory, change));
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
    const next = ["the same command again"];
    const read = "docs/runbook/migration-hangs.md";
    const isKept = error.code === "55P03";
    const why = isKept ? `somebody keeps schema_migrations: ${error.why}` : error.why;
    throw new Failure("Nothing was repaired", why, next, isKept ? { read } : {});
  });
}

async function step(psql: Psql, what: string, statements: readonly string[]): Promise<void> {
  await psql.execute(statements.join(";\n"), stepSeconds).catch((error: unknown) => {
    if (!(error instanceof SqlError)) throw error;
    const extra = { exitCode: exitCodes.saidNo, ...(error.details && { details: error.details }) };
    throw new Failure(
      `Nothing was repaired: cannot ${what}`,
      error.why,
      ["mend what the error names", "the same command again"],
      extra,
    );
  });
}

const look = (psql: Psql, { settings, directory, scratch, matches }: Applying, files: readonly MigrationFile[]) =>
  assess({ psql, settings, directory, scratch, files, ...(matches && { matches }), inTransaction: true });

/** Between the look that the plan is made of and now, somebody may have been at it; the indexes are mended by now. */
async function requireSame(psql: Psql, applying: Applying): Promise<void> {
  const { before, files } = applying;
  const now = await look(psql, applying, files);
  const text = ({ findings }: Assessment) =>
    JSON.stringify(findings.filter(({ kind, what }) => kind !== "invalid index" && !isIndexOf(before, what)));
  if (text(now) === text(before) && !now.findings.some(({ kind }) => kind === "invalid index")) return;
  throw new Failure("Nothing was repaired", "the database has changed since the plan was made", [
    "the same command again",
  ]);
}

/** One that was dropped, and goes without saying. */
const isIndexOf = ({ live }: Assessment, what: string) =>
  live.invalidIndexes.some(({ name }) => what === `index ${name}`);

async function requireNothingLeft(psql: Psql, applying: Applying): Promise<Finding[]> {
  const { plan, filesAfter } = applying;
  const { findings } = await look(psql, applying, filesAfter);
  const left = counted(findings);
  const isForwards = plan.forward?.keep === "files";
  const unexpected = left.filter(({ kind }) => !(isForwards && kind === "structure"));
  if (unexpected.length === 0) return left;
  throw new Failure(
    "Nothing was repaired",
    "not all would be as it should, so everything was taken back",
    ["bun scripts/drift.ts check"],
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
  const { file, text } = change.write;
  const temporary = path(`.${file}.${process.pid}`);
  await writeFile(temporary, text);
  await rename(temporary, path(file));
  return () => rm(path(file), { force: true });
}
