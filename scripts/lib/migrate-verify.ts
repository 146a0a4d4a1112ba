// bun scripts/migrate.ts verify: whether a new database to which all files are applied, one that was made earlier and got the files that it
// lacked, and migrations/schema.sql are the same. For CI: touches no real database, and writes nothing.
import { compareCatalogs } from "./catalog-diff.ts";
import { type CatalogOptions, fingerprint, readObjects } from "./catalog-objects.ts";
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
    const compared = { files: files.length, schema: await compare(scratch, fresh, committed) };
    if (base?.schema === undefined) {
      if (base) progress.note(`${base.name} has no ${schemaFile} yet: there is no older database to begin from`);
      return compared;
    }
    const increment = await progress.step("increment", () => makeIncrement(scratch, base, files));
    const comparison = await compare(scratch, fresh, increment);
    const { added } = increment;
    const changed = await changedSince(directory, base);
    if (comparison.differences.length === 0) {
      for (const path of changed) progress.note(`${path} is another one in ${base.name}, and makes the same`);
    }
    const late = outOfOrder(increment.before, added);
    return { ...compared, increment: { base, added: added.length, outOfOrder: late, changed, ...comparison } };
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

type Made = {
  database: string;
  fingerprint: string;
  /** In order. */
  versions: string[];
};

/** A dump has neither owners nor grants: dbmate leaves them out. */
const options: CatalogOptions = { withoutRoles: true };

async function look(psql: Psql, database: string): Promise<Made> {
  return { database, fingerprint: await fingerprint(psql, options), versions: await versionsOf(psql) };
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
  scratch.inNew(async (psql, database) => {
    await replay(psql, files);
    return await look(psql, database);
  });

const makeCommitted = (scratch: Scratch, schema: string): Promise<Made> =>
  scratch.inNew(async (psql, database) => {
    await loadSchema(psql, schema, { name: schemaFile, next: [mendSchema] });
    return await look(psql, database);
  });

type Increment = Made & {
  /** Versions that the base has. */
  before: string[];
  added: MigrationFile[];
};

async function makeIncrement(scratch: Scratch, base: Base, files: readonly MigrationFile[]): Promise<Increment> {
  const { database, versions: before } = await scratch.inNew(async (psql, database) => {
    const next = ["the same command with --base REF, another commit", "the same command with --no-incremental"];
    await loadSchema(psql, base.schema!, { name: `${schemaFile} of ${base.name}`, next });
    return { database, versions: await versionsOf(psql) };
  });
  const added = files.filter(({ version }) => !before.includes(version));
  // The file has changed the settings of the session that has loaded it.
  return await scratch.inSame(database, async (psql) => {
    await replay(psql, added).catch((error) => {
      if (!(error instanceof Failure)) throw error;
      const { what, why, next, exitCode, details, read } = error;
      const extra = { ...(details && { details }), ...(read && { read }) };
      throw new Failure(`${what} to a database of ${base.name}`, why, next, { exitCode, ...extra, cause: error });
    });
    return { ...(await look(psql, database)), before, added };
  });
}

async function compare(scratch: Scratch, expected: Made, actual: Made): Promise<Comparison> {
  const versions = {
    missing: expected.versions.filter((version) => !actual.versions.includes(version)),
    unexpected: actual.versions.filter((version) => !expected.versions.includes(version)),
  };
  if (expected.fingerprint === actual.fingerprint) return { versions, differences: [] };
  const objectsOf = ({ database }: Made) => scratch.inSame(database, (psql) => readObjects(psql, options));
  return { versions, differences: compareCatalogs(await objectsOf(expected), await objectsOf(actual)) };
}
