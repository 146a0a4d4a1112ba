// bun scripts/migrate.ts verify: whether a new database to which all files are applied, one that was made earlier and got the files that it
// lacked, and migrations/schema.sql are the same. For CI: touches no real database, and writes nothing.
import { compareCatalogs } from "./catalog-diff.ts";
import { type CatalogObject, type CatalogOptions, readObjects } from "./catalog-objects.ts";
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
import { type Comparison, formatGood, isEqual, outOfOrder, type Verified, whyNotGood } from "./verify-output.ts";
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
    if (base?.schema === undefined) {
      if (base) progress.note(`${base.name} has no ${schemaFile} yet: there is no older database to begin from`);
      return compared;
    }
    const changed = await changedSince(directory, base);
    // Nothing new since then: it would be the database that is there already.
    const isSame = base.schema === schema && isEqual(compared.schema);
    const increment = isSame
      ? { added: 0, outOfOrder: [], ...compared.schema }
      : await progress.step("increment", () => compareIncrement(scratch, base, files, fresh));
    if (increment.differences.length === 0) {
      for (const path of changed) progress.note(`${path} is another one in ${base.name}, and makes the same`);
    }
    return { ...compared, increment: { base, changed, ...increment } };
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
  objects: CatalogObject[];
  /** In order. */
  versions: string[];
};

/** A dump has neither owners nor grants: dbmate leaves them out. */
const options: CatalogOptions = { withoutRoles: true };

async function look(psql: Psql): Promise<Made> {
  return { objects: await readObjects(psql, options), versions: await versionsOf(psql) };
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
  const { database, versions: before } = await scratch.inNew(async (psql, name) => {
    const next = ["the same command with --base REF, another commit", "the same command with --no-incremental"];
    await loadSchema(psql, base.schema!, { name: `${schemaFile} of ${base.name}`, next });
    return { database: name, versions: await versionsOf(psql) };
  });
  const added = files.filter(({ version }) => !before.includes(version));
  // The file has changed the settings of the session that has loaded it.
  const made = await scratch.inSame(database, async (psql) => {
    await replay(psql, added).catch((error) => {
      if (!(error instanceof Failure)) throw error;
      const { what: failed, why, next, exitCode, details, read } = error;
      const extra = { ...(details && { details }), ...(read && { read }) };
      throw new Failure(`${failed} to a database of ${base.name}`, why, next, { exitCode, ...extra, cause: error });
    });
    return await look(psql);
  });
  return { added: added.length, outOfOrder: outOfOrder(before, added), ...compare(fresh, made) };
}

function compare(expected: Made, actual: Made): Comparison {
  const versions = {
    missing: expected.versions.filter((version) => !actual.versions.includes(version)),
    unexpected: actual.versions.filter((version) => !expected.versions.includes(version)),
  };
  return { versions, differences: compareCatalogs(expected.objects, actual.objects) };
}
