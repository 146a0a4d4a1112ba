// bun scripts/migrate.ts verify: whether a new database to which all files are applied, one that was made earlier and got the files that it
// lacked, and migrations/schema.sql are the same. For CI: touches no real database, and writes nothing.
// The older one is made from the files as they were then, and not from their schema.sql: that has neither rows, on which a later file may
// build, nor grants.
import { compareCatalogs } from "./catalog-diff.ts";
import { type CatalogObject, readObjects } from "./catalog-objects.ts";
import { exitCodes, Failure, formatFailure } from "./failure.ts";
import type { MigrateRequest } from "./migrate-request.ts";
import { inScratch } from "./migrate-scratch.ts";
import { type MigrationFile, readMigrations } from "./migration-file.ts";
import { replay } from "./migration-replay.ts";
import { createProgress, type Progress } from "./progress.ts";
import type { Psql } from "./psql.ts";
import { asTyped } from "./runtime.ts";
import { type Base, changedSince, findBase } from "./schema-base.ts";
import { loadSchema, mendSchema, readSchemaFile, schemaFile } from "./schema-file.ts";
import type { Scratch } from "./scratch.ts";
import { type Comparison, formatGood, outOfOrder, type Verified, whyNotGood } from "./verify-output.ts";
import { withOtherRows } from "./verify-rows.ts";
import { interruption } from "./wait.ts";

const what = "Cannot verify the migrations";

export async function verify(request: MigrateRequest): Promise<void> {
  const { directory, flags } = request;
  const [progress, interrupted] = [createProgress(), interruption()];
  const files = await readMigrations(directory);
  const schema = await requireSchema(directory);
  const base = flags["no-incremental"] ? undefined : await findBase(directory, flags.base);
  const verified = await inScratch(request, { what, progress, interrupted }, async (scratch) => {
    const fresh = await progress.step("files", () => makeFresh(scratch, files));
    const committed = await progress.step("schema", () => makeCommitted(scratch, schema));
    const compared = { files: files.length, schema: compare(fresh, committed) };
    if (!base || base.files.length === 0) {
      if (base) progress.note(`${base.name} has no migrations yet: there is no older database to begin from`);
      return compared;
    }
    const [changed, otherRows] = await Promise.all([changedSince(directory, base), withOtherRows(base.files, files)]);
    const textsOf = (list: readonly MigrationFile[]) => list.map(({ file, sha256 }) => `${file} ${sha256}`).join("\n");
    // Nothing new since then: it would be the database that is there already.
    const increment =
      textsOf(base.files) === textsOf(files)
        ? { added: 0, outOfOrder: [], ...compare(fresh, fresh) }
        : await progress.step("increment", () => compareIncrement(scratch, base, files, fresh));
    if (increment.differences.length === 0) {
      const same = changed.filter((path) => !otherRows.includes(path));
      for (const path of same) progress.note(`${path} is another one in ${base.name}, and makes the same`);
    }
    return { ...compared, increment: { base, changed, otherRows, ...increment } };
  });
  tell(verified, flags.json, progress);
}

function tell(verified: Verified, asJson: boolean, progress: Progress): void {
  const failure = whyNotGood(verified);
  const { increment, ...rest } = verified;
  const { base, ...found } = increment ?? {};
  const document = {
    ...{ equal: !failure, ...rest },
    increment: increment ? { base: { name: base!.name, commit: base!.commit }, ...found } : null,
    seconds: progress.seconds(),
  };
  if (asJson) console.log(JSON.stringify(document));
  else if (!failure) console.log(asTyped(formatGood(verified)));
  if (!failure) return;
  console.error(formatFailure(failure));
  process.exitCode = exitCodes.saidNo;
}

async function requireSchema(directory: string): Promise<string> {
  const schema = await readSchemaFile(directory);
  if (schema !== undefined) return schema;
  throw new Failure(what, `there is no ${schemaFile}`, [mendSchema], {
    exitCode: exitCodes.saidNo,
    read: "docs/migrations.md",
  });
}

/** All is looked at as soon as it is made: a role that a later database makes anew has another name in this one from then on. */
type Made = {
  /** Without owners and grants, which a dump has not: dbmate leaves them out. */
  objects: CatalogObject[];
  /** With them. */
  withRoles: CatalogObject[];
  /** In order. */
  versions: string[];
};

async function look(psql: Psql): Promise<Made> {
  const objects = await readObjects(psql, { withoutRoles: true });
  return { objects, withRoles: await readObjects(psql), versions: await versionsOf(psql) };
}

async function versionsOf(psql: Psql): Promise<string[]> {
  const [table] = await psql.rows<{ there: boolean }>(
    "select to_regclass('public.schema_migrations') is not null as there",
  );
  if (!table!.there) return [];
  const rows = await psql.rows<{ version: string }>("select version::text from public.schema_migrations");
  return rows.map(({ version }) => version).sort();
}

const makeFresh = (scratch: Scratch, files: readonly MigrationFile[]): Promise<Made> =>
  scratch.inNew(async (psql) => {
    await replay(psql, files);
    return await look(psql);
  });

const makeCommitted = (scratch: Scratch, schema: string): Promise<Made> =>
  scratch.inNew(async (psql) => {
    await loadSchema(psql, schema, { name: schemaFile, next: [mendSchema] });
    return await look(psql);
  });

async function compareIncrement(scratch: Scratch, base: Base, files: readonly MigrationFile[], fresh: Made) {
  const before = base.files.map(({ version }) => version);
  const added = files.filter(({ version }) => !before.includes(version));
  const others = ["the same command with --base REF, another commit", "the same command with --no-incremental"];
  const database = await scratch.inNew(async (psql, name) => {
    await replay(psql, base.files).catch((error) => {
      throw told(error, (failed) => `${failed} as it is in ${base.name}`, others);
    });
    return name;
  });
  // What a file says about its session holds for those that are applied together with it, and that was earlier.
  const made = await scratch.inSame(database, async (psql) => {
    await replay(psql, added).catch((error) => {
      throw told(error, (failed) => `${failed} to a database of ${base.name}`);
    });
    return await look(psql);
  });
  const found = compare({ ...fresh, objects: fresh.withRoles }, { ...made, objects: made.withRoles });
  return { added: added.length, outOfOrder: outOfOrder(before, added), ...found };
}

function told(error: unknown, what: (failed: string) => string, instead?: string[]): unknown {
  if (!(error instanceof Failure)) return error;
  const { what: failed, why, next, exitCode, details, read } = error;
  const extra = { ...(details && { details }), ...(read && { read }) };
  return new Failure(what(failed), why, instead ?? next, { exitCode, ...extra, cause: error });
}

function compare(expected: Pick<Made, "objects" | "versions">, actual: Pick<Made, "objects" | "versions">): Comparison {
  const versions = {
    missing: expected.versions.filter((version) => !actual.versions.includes(version)),
    unexpected: actual.versions.filter((version) => !expected.versions.includes(version)),
  };
  return { versions, differences: compareCatalogs(expected.objects, actual.objects) };
}
