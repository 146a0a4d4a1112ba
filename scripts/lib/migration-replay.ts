// Applies migration files one after the other through one session of psql, as dbmate would, to a database that nobody uses: in a
// hundredth of the time, and with a look at it between two files. The live database is migrated by dbmate itself.
import { exitCodes, Failure } from "./failure.ts";
import type { MigrationFile } from "./migration-file.ts";
import { type Psql, quoteLiteral, SqlError } from "./psql.ts";

/** As dbmate 2.36 makes it. */
const historyTable = (name: string) => `create table if not exists ${name} (version varchar primary key)`;
export const createHistory = historyTable("schema_migrations");

const fileSeconds = 6 * 3600;

/**
 * In the given order. What a file says about its session (search_path, role) holds for those after it, as it does with dbmate.
 * @param onFile hears of each that has been applied, and how long it took.
 * @throws {Failure} exit 3 naming file and line; what that file did is taken back, unless it has no transaction.
 */
export async function replay(
  psql: Psql,
  files: readonly MigrationFile[],
  onFile: (file: MigrationFile, seconds: number) => void = () => {},
): Promise<void> {
  // With its schema: a file may have made one that comes first in the search path.
  await psql.execute(historyTable("public.schema_migrations"));
  for (const file of files) {
    const begun = performance.now();
    await applyFile(psql, file);
    onFile(file, (performance.now() - begun) / 1000);
  }
  await psql.execute("reset session authorization; reset role; reset search_path");
}

async function applyFile(psql: Psql, file: MigrationFile): Promise<void> {
  const { up } = file.sections[0]!;
  requireNoData(file);
  const insert = `insert into public.schema_migrations (version) values (${quoteLiteral(file.version)})`;
  try {
    if (up.transaction) await psql.execute("begin");
    await psql.execute(asOneQuery(up.sql), fileSeconds);
    await psql.execute(up.transaction ? `${insert}; commit` : insert);
  } catch (error) {
    if (!(error instanceof SqlError)) throw error;
    await psql.execute("rollback");
    throw fileFailed(file, error);
  }
}

/**
 * The text goes to the server as it is, in one piece, as dbmate sends it: psql parts nothing at semicolons, takes no `:name` or backslash for
 * its own, and no quotation mark that is never closed makes it wait for the rest.
 */
export const asOneQuery = (sql: string) => `select ${quoteLiteral(sql)} \\gexec`;

/** psql would take what it is told next for the rows. */
const readsItsData = /(?:^|;)\s*copy\s[^;]*\sfrom\s+stdin\b/i;

/** @throws {Failure} exit 3 for a file that wants rows. */
export function requireNoData({ file, sections }: MigrationFile): void {
  if (!readsItsData.test(sections[0]!.up.sql.replaceAll(/--.*$/gm, ""))) return;
  const why = "COPY … FROM STDIN wants rows, which dbmate does not send";
  throw new Failure(`Cannot apply migrations/${file}`, why, [`write INSERT instead, in migrations/${file}`], {
    exitCode: exitCodes.saidNo,
    read: "docs/runbook/migration-failed.md",
  });
}

/** @param line of the file, where it is known better than from what psql shows. */
export function fileFailed(
  file: MigrationFile,
  { why, code, details }: SqlError,
  line = lineOf(file, details ?? ""),
): Failure {
  const at = line ? `migrations/${file.file}:${line}` : `migrations/${file.file}`;
  return new Failure(`Cannot apply ${at}`, `${why} (${code})`, [`correct migrations/${file.file}`], {
    exitCode: exitCodes.saidNo,
    ...(details && { details }),
    read: "docs/runbook/migration-failed.md",
  });
}

/** Of the file. Postgres counts from the beginning of what it was sent; in a function that is called, from the beginning of another text. */
function lineOf({ sections }: MigrationFile, details: string): number | undefined {
  const counted = /^LINE (\d+): /m.exec(details)?.[1];
  return counted && !/^QUERY: /m.test(details) ? sections[0]!.up.line + Number(counted) - 1 : undefined;
}
