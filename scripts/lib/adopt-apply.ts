// Writes an adoption down: first, in one transaction, what is applied; then the files. In that order, because files that nobody knows to be
// applied would be applied by the next deploy, and versions without a file do nothing until this is run again.
import { constants, copyFile, link, mkdir, open, rm } from "node:fs/promises";
import { join } from "node:path";
import { asideName, type Table } from "./adopt-detect.ts";
import { createAdopted } from "./adopt-histories.ts";
import type { AdoptPlan } from "./adopt-plan.ts";
import type { Proof } from "./adopt-prove.ts";
import type { Row } from "./adopt-tools.ts";
import { fingerprint } from "./catalog-objects.ts";
import { exitCodes, Failure } from "./failure.ts";
import type { MigrationFile } from "./migration-file.ts";
import { recordWithin } from "./migration-record.ts";
import { createHistory } from "./migration-replay.ts";
import { type Psql, quoteIdentifier, quoteLiteral, SqlError } from "./psql.ts";

type Applying = {
  directory: string;
  plan: AdoptPlan;
  proof: Proof;
  table: Table;
  /** Of the history, as the plan was made from it, and how to read it again. */
  rows: readonly Row[];
  readRows(psql: Psql): Promise<Row[]>;
  histories: readonly string[];
  owner: string;
  psql: Psql;
  interrupted: AbortSignal;
};

/** @throws {Failure} with nothing changed; or exit 1 with what is left to do, once the database is adopted. */
export async function apply(applying: Applying): Promise<void> {
  const { directory, plan, interrupted } = applying;
  const fresh = plan.files.filter(({ isNew }) => isNew).map(({ migration }) => migration);
  await staged(directory, fresh, async () => {
    interrupted.throwIfAborted();
    await writeVersions(applying);
  });
}

/** The files alone, for a database that knows them. */
export const publishAll = (directory: string, files: readonly MigrationFile[]): Promise<void> =>
  staged(directory, files, async () => {});

/** Whatever is wrong with the disk is found before the work; then the files appear, each whole. */
async function staged(directory: string, files: readonly MigrationFile[], work: () => Promise<void>): Promise<void> {
  const staging = join(directory, ".dbops", `adopt-${process.pid}`);
  try {
    await mkdir(staging, { recursive: true });
    await mkdir(join(directory, "migrations"), { recursive: true });
    for (const { file, text } of files) await writeWhole(join(staging, file), text);
    await work();
    for (const { file } of files) await publish(join(staging, file), join(directory, "migrations", file), file);
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
}

async function writeWhole(path: string, text: string): Promise<void> {
  const file = await open(path, "wx", 0o644);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Whole at once, and never over another. */
async function publish(from: string, to: string, file: string): Promise<void> {
  const linked = link(from, to).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "EEXIST") throw error;
    // Not every file system has links.
    return copyFile(from, to, constants.COPYFILE_EXCL);
  });
  await linked.catch((error: NodeJS.ErrnoException) => {
    const why = error.code === "EEXIST" ? "there is one by now" : error.message;
    throw new Failure(`Cannot write migrations/${file}`, `${why}; the database is adopted already`, [
      `mv migrations/${file} elsewhere, if it is there`,
      "the same command again      # writes what is missing",
    ]);
  });
}

/** The old history is held still meanwhile, and everything that was decided from is looked at again. */
async function writeVersions(applying: Applying): Promise<void> {
  const { plan, proof, table, rows, readRows, histories, owner, psql } = applying;
  const old = `${quoteIdentifier(table.schema)}.${quoteIdentifier(table.name)}`;
  try {
    await psql.execute(`begin; set local lock_timeout = '5s'; lock table ${old} in share row exclusive mode`);
    const again = await readRows(psql);
    if (JSON.stringify(again) !== JSON.stringify(rows)) throw changed(`${plan.tool} has migrated meanwhile`);
    const now = await fingerprint(psql, { histories, owner, inTransaction: true });
    if (now !== proof.fingerprint) throw changed("its structure was changed meanwhile");
    const values = proof.applied.map(({ version }) => `(${quoteLiteral(version)})`).join(", ");
    const history = plan.renamed ?? plan.history;
    await psql.execute(
      [
        ...(plan.renamed ? await renaming(psql, table) : []),
        createHistory,
        `insert into schema_migrations (version) values ${values} on conflict do nothing`,
        recordWithin(proof.applied),
        createAdopted,
        `insert into dbops.adopted_histories (history, tool) values (${quoteLiteral(history)}, ${quoteLiteral(plan.tool)}) on conflict do nothing`,
        "commit",
      ].join(";\n"),
    );
  } catch (error) {
    await psql.execute("rollback").catch(() => {});
    throw error instanceof SqlError && error.code === lockTimeout ? inUse(plan) : error;
  }
}

const lockTimeout = "55P03";

function inUse({ history, tool }: AdoptPlan): Failure {
  const why = `somebody has been writing to ${history} for 5 s: ${tool} may be migrating`;
  return new Failure("Nothing was adopted", why, ["the same command again, once it is done"], {
    exitCode: exitCodes.locked,
  });
}

/** Its primary key goes along: dbmate's table gets the name that it has everywhere else. */
async function renaming(psql: Psql, { schema, name }: Table): Promise<string[]> {
  const old = `${quoteIdentifier(schema)}.${quoteIdentifier(name)}`;
  const keys = await psql.rows<{ name: string }>(
    `select conname as name from pg_catalog.pg_constraint where conrelid = ${quoteLiteral(old)}::regclass and contype = 'p' and conname = 'schema_migrations_pkey'`,
  );
  return [
    ...keys.map((key) => `alter table ${old} rename constraint ${quoteIdentifier(key.name)} to ${asideName}_pkey`),
    `alter table ${old} rename to ${asideName}`,
  ];
}

function changed(why: string): Failure {
  return new Failure("Nothing was adopted", why, ["the same command again"], { exitCode: exitCodes.saidNo });
}
