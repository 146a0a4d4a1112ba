// Applies migration files one after the other through one session of psql, as dbmate would, to a database that nobody uses: in a
// hundredth of the time, and with a look at it between two files. The live database is migrated by dbmate itself.
import { exitCodes, Failure } from "./failure.ts";
import type { MigrationFile } from "./migration-file.ts";
import { type Psql, quoteLiteral, SqlError } from "./psql.ts";

/** As dbmate 2.36 makes it. */
export const createHistory = "create table if not exists schema_migrations (version varchar primary key)";

const fileSeconds = 6 * 3600;

/**
 * In the given order. A file without a transaction is sent as it is.
 * @param onFile hears of each that has been applied, and how long it took.
 * @throws {Failure} exit 3 naming file and line; what that file did is taken back, unless it has no transaction.
 */
export async function replay(
  psql: Psql,
  files: readonly MigrationFile[],
  onFile: (file: MigrationFile, seconds: number) => void = () => {},
): Promise<void> {
  await psql.execute(createHistory);
  for (const file of files) {
    const begun = performance.now();
    await applyFile(psql, file);
    onFile(file, (performance.now() - begun) / 1000);
  }
}

async function applyFile(psql: Psql, file: MigrationFile): Promise<void> {
  const { up } = file.sections[0]!;
  const insert = `insert into schema_migrations (version) values (${quoteLiteral(file.version)})`;
  try {
    if (up.transaction) {
      await psql.execute(`begin;\n${up.sql}\n;\n${insert};\ncommit`, fileSeconds);
    } else {
      await psql.execute(up.sql, fileSeconds);
      await psql.execute(insert);
    }
  } catch (error) {
    if (!(error instanceof SqlError)) throw error;
    await psql.execute("rollback");
    throw fileFailed(file, error);
  }
}

export function fileFailed(file: MigrationFile, { why, code, details }: SqlError): Failure {
  const line = lineOf(file, details ?? "");
  const at = line ? `migrations/${file.file}:${line}` : `migrations/${file.file}`;
  return new Failure(`Cannot apply ${at}`, `${why} (${code})`, [`correct migrations/${file.file}`], {
    exitCode: exitCodes.saidNo,
    ...(details && { details }),
    read: "docs/runbook/migration-failed.md",
  });
}

/** psql shows the line that it means, cut off where it is long, and counts from the beginning of the statement alone. */
function lineOf({ text, sections }: MigrationFile, details: string): number | undefined {
  const shown = /^LINE \d+: (.*)$/m.exec(details)?.[1]?.replace(/^\.\.\.|\.\.\.$/g, "");
  if (!shown?.trim()) return undefined;
  const index = text.split("\n").findIndex((line, at) => at >= sections[0]!.up.line && line.includes(shown));
  return index < 0 ? undefined : index + 1;
}
