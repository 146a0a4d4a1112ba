// bun scripts/migrate.ts dump: writes migrations/schema.sql, made by applying all files to a new database. Asks no real one.
import { rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { MigrateRequest } from "./migrate-request.ts";
import { inScratch } from "./migrate-scratch.ts";
import { readMigrations } from "./migration-file.ts";
import { replay } from "./migration-replay.ts";
import { createProgress } from "./progress.ts";
import { dumpSchema, readSchemaFile, schemaFile } from "./schema-file.ts";
import { interruption } from "./wait.ts";

export async function dump(request: MigrateRequest): Promise<void> {
  const { directory, flags } = request;
  const [progress, interrupted] = [createProgress(), interruption()];
  const files = await readMigrations(directory);
  const before = await readSchemaFile(directory);
  const text = await inScratch(request, { what: `Cannot write ${schemaFile}`, progress, interrupted }, (scratch) =>
    scratch.inNew(async (psql, database) => {
      await progress.step("files", () => replay(psql, files));
      const versions = files.map(({ version }) => version);
      const made = { database, versionNumber: scratch.versionNumber, versions };
      return await progress.step("dump", () => dumpSchema(scratch.place, made, interrupted));
    }),
  );
  const isChanged = text !== before;
  const isWritten = isChanged && !flags.plan;
  if (isWritten) await writeWhole(join(directory, schemaFile), text);
  const result = { file: schemaFile, changed: isChanged, written: isWritten, migrations: files.length };
  console.log(flags.json ? JSON.stringify({ ...result, seconds: progress.seconds() }) : sentence(result, before));
}

type Result = { changed: boolean; written: boolean; migrations: number };

function sentence({ changed, written, migrations }: Result, before: string | undefined): string {
  const of = migrations === 1 ? "1 migration makes" : `${migrations} migrations make`;
  if (!changed) return `${schemaFile} is what ${of} already; it stays as it is`;
  const how = before === undefined ? "" : " anew";
  return written ? `${schemaFile} is written${how}: what ${of}` : `${schemaFile} would be written${how}: what ${of}`;
}

/** Somebody may be reading it. */
async function writeWhole(path: string, text: string): Promise<void> {
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    await writeFile(temporary, text);
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}
