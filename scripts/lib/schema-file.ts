// migrations/schema.sql: what all migrations make together, as pg_dump writes it, with the versions at its end: what `dbmate load` takes.
// Byte by byte the same wherever it is made, by whichever patch release.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { exitCodes, Failure } from "./failure.ts";
import { ownSchema } from "./migration-record.ts";
import { asOneQuery } from "./migration-replay.ts";
import type { Place } from "./place.ts";
import { type Psql, quoteLiteral, SqlError } from "./psql.ts";
import { run } from "./run.ts";

export const schemaFile = "migrations/schema.sql";

/** With line feeds alone, whatever git has made of them. @returns undefined where there is none. */
export async function readSchemaFile(directory: string): Promise<string | undefined> {
  const text = await readFile(join(directory, schemaFile), "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw new Failure(`Cannot read ${schemaFile}`, error.message, [], { exitCode: exitCodes.usage });
  });
  return text?.replaceAll("\r\n", "\n");
}

const dumpSeconds = 600;

/**
 * The text of the file for a database, whose server must be of pg_dump's own major: another one writes the same in other words.
 * @throws {Failure} exit 2 where pg_dump is not there or does not fit, 1 where it fails.
 */
export async function dumpSchema(
  place: Place,
  { database, versionNumber, versions }: { database: string; versionNumber: number; versions: readonly string[] },
  interrupted: AbortSignal,
): Promise<string> {
  const key = restrictOption(await requirePgDump(place, versionNumber));
  const words = [
    // Bounds of partitions are written in the session's time zone.
    ...["env", "PGTZ=UTC", "pg_dump"],
    // What dbmate gives it, too.
    ...["--format=plain", "--encoding=UTF8", "--schema-only", "--no-privileges", "--no-owner", ...key],
    `--exclude-schema=${ownSchema}`,
  ];
  const { stdout } = await run({ ...place.client(words, database), timeoutSeconds: dumpSeconds, interrupted }).catch(
    (error) => {
      if (interrupted.aborted || !(error instanceof Failure)) throw error;
      const { why, details } = error;
      throw new Failure("Cannot dump the schema", why, [], { ...(details && { details }) });
    },
  );
  return schemaText(stdout, versions);
}

type PgDump = { major: number; minor: number };

async function requirePgDump(place: Place, versionNumber: number): Promise<PgDump> {
  const wanted = Math.floor(versionNumber / 10_000);
  const next = [`apt-get install postgresql-client-${wanted}      # or: brew install postgresql@${wanted}`];
  const unfit = (why: string) => new Failure("Cannot dump the schema", why, next, { exitCode: exitCodes.usage });
  const { stdout } = await run(place.client(["pg_dump", "--version"])).catch((error: Failure) => {
    if (!/not installed|not found/.test(`${error.why}${error.details}`)) throw error;
    throw unfit(`"pg_dump" is not installed on ${place.name}`);
  });
  const [, major = "", minor = "0"] = /(\d+)(?:\.(\d+))?/.exec(stdout) ?? [];
  if (Number(major) !== wanted) throw unfit(`its pg_dump is of version ${major}, the server of ${wanted}`);
  return { major: Number(major), minor: Number(minor) };
}

/** Since these, pg_dump puts a random word into each dump, unless it is told one; older ones do not know the option. */
const restricting: Readonly<Record<number, number>> = { 13: 22, 14: 19, 15: 14, 16: 10, 17: 6 };

const restrictOption = ({ major, minor }: PgDump) =>
  major >= 18 || minor >= (restricting[major] ?? 99) ? ["--restrict-key=dbmate"] : [];

/** Pure. @param dump as pg_dump writes it. */
export function schemaText(dump: string, versions: readonly string[]): string {
  const withoutReleases = dump.replace(/^-- Dumped from .*\n-- Dumped by .*\n+/m, "");
  // The title that dbmate takes away, too.
  const body = withoutReleases.replace(/^(?:(?:--.*)?\n)+/, "").trimEnd();
  const rows = versions.map((version) => `    (${quoteLiteral(version)})`).join(",\n");
  const insert = versions.length > 0 ? `INSERT INTO public.schema_migrations (version) VALUES\n${rows};\n` : "";
  return `${body}\n\n\n--\n-- Dbmate schema migrations\n--\n\n${insert}`;
}

/**
 * Into a new database, by a session that should not be used for anything else: the file changes its settings.
 * @throws {Failure} exit 3 with the line that Postgres refuses; nothing of it is left then.
 */
export async function loadSchema(
  psql: Psql,
  text: string,
  { name, next }: { name: string; next: readonly string[] },
): Promise<void> {
  // For psql alone: the server does not know these two commands.
  const sql = text.replaceAll(/^\\(?:un)?restrict \S+$/gm, "");
  try {
    await psql.execute(asOneQuery(sql), dumpSeconds);
  } catch (error) {
    if (!(error instanceof SqlError)) throw error;
    const line = /^LINE (\d+): /m.exec(error.details ?? "")?.[1];
    throw new Failure(`Cannot load ${line ? `${name}:${line}` : name}`, `${error.why} (${error.code})`, next, {
      exitCode: exitCodes.saidNo,
      ...(error.details && { details: error.details }),
    });
  }
}

export const mendSchema = `bun scripts/migrate.ts dump      # then commit ${schemaFile}`;
