// Applies migration files one after the other through one session of psql, as dbmate would, to a database that nobody uses: in a
// hundredth of the time. The live database is migrated by dbmate itself.
import { randomBytes } from "node:crypto";
import { exitCodes, Failure } from "./failure.ts";
import type { MigrationFile } from "./migration-file.ts";
import { type Psql, quoteIdentifier, quoteLiteral, SqlError } from "./psql.ts";

/** As dbmate 2.36 makes it. */
const historyTable = (name: string) => `create table if not exists ${name} (version varchar primary key)`;
export const createHistory = historyTable("schema_migrations");

/** An index on a big table takes its time. */
export const fileSeconds = 6 * 3600;

/**
 * In the given order. What a file says about its session (search_path, role) holds for those after it, as it does with dbmate.
 * @throws {Failure} exit 3 naming file and line; what that file did is taken back, unless it has no transaction.
 */
export async function replay(psql: Psql, files: readonly MigrationFile[]): Promise<void> {
  // With its schema: a file may have made one that comes first in the search path.
  await psql.execute(historyTable("public.schema_migrations"));
  for (const file of files) await applyFile(psql, file);
  await psql.execute("reset session authorization; reset role; reset search_path");
}

async function applyFile(psql: Psql, file: MigrationFile): Promise<void> {
  requireNoData(file);
  let error = await tried(psql, file);
  for (let attempts = 0; error && attempts < rolesMaximum && (await freeRole(psql, error)); attempts += 1) {
    error = await tried(psql, file);
  }
  if (!error) return;
  const failure = fileFailed(file, error);
  const { what, why, details, read } = failure;
  const role = takenRole(error);
  if (role === undefined || (await rolesMade(psql)) === undefined) throw failure;
  const next = [
    "the same command without --scratch-url      # in a container no role is in the way",
    `drop role ${quoteIdentifier(role)}      # on that server, if nobody needs it there`,
  ];
  throw new Failure(what, why, next, {
    exitCode: exitCodes.saidNo,
    ...(details && { details }),
    ...(read && { read }),
  });
}

/** @returns why Postgres has refused it, with nothing of it left. */
async function tried(psql: Psql, file: MigrationFile): Promise<SqlError | undefined> {
  const { up } = file.sections[0]!;
  const insert = `insert into public.schema_migrations (version) values (${quoteLiteral(file.version)})`;
  const [begin, commit, rollback] = up.transaction ? ["begin;", "commit;", "rollback;"] : ["", "", ""];
  const script = [begin, asOneQuery(up.sql), "\\if :ERROR", rollback, "\\else", `${insert}; ${commit}`, "\\endif"];
  try {
    await psql.execute(script.join("\n"), fileSeconds);
    return undefined;
  } catch (error) {
    if (!(error instanceof SqlError)) throw error;
    await psql.execute("rollback");
    return error;
  }
}

/** What the server is called (cluster_name) that scratch.ts starts. */
export const scratchName = "dbops-scratch";

/** Of a session on a server that stays: a JSON list of the roles (their oid) that scratch.ts has seen being made there by migrations. */
export const rolesSetting = "dbops.scratch_roles";

const rolesMaximum = 20;

/**
 * Roles belong to the server: one that a file makes may be there, from an earlier database or because the live server has it. On our own
 * throw-away server, or where this run has made it, it gets another name, and its objects stay its own.
 * @returns whether the file may be tried again.
 */
async function freeRole(psql: Psql, error: SqlError): Promise<boolean> {
  const role = takenRole(error);
  if (role === undefined) return false;
  const made = await rolesMade(psql);
  const [found] = await psql.rows<{ server: string; oid: string | null }>(
    `select current_setting('cluster_name') as server, to_regrole(${quoteLiteral(quoteIdentifier(role))})::oid::text as oid`,
  );
  const { server, oid } = found!;
  if (made ? !made.includes(oid ?? "") : server !== scratchName) return false;
  await psql.execute(`alter role ${quoteIdentifier(role)} rename to "dbops_former_${randomBytes(8).toString("hex")}"`);
  return true;
}

const takenRole = ({ code, why }: SqlError) =>
  code === "42710" ? /^role "(.+)" already exists$/.exec(why)?.[1] : undefined;

/** Undefined on a server that does not stay. */
async function rolesMade(psql: Psql): Promise<string[] | undefined> {
  const [row] = await psql.rows<{ made: string | null }>(`select current_setting('${rolesSetting}', true) as made`);
  return row!.made ? JSON.parse(row!.made) : undefined;
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
export function fileFailed(file: MigrationFile, error: SqlError, line = lineOf(file, error)): Failure {
  const { why, code, details } = error;
  const at = line ? `migrations/${file.file}:${line}` : `migrations/${file.file}`;
  return new Failure(`Cannot apply ${at}`, `${why} (${code})`, [`correct migrations/${file.file}`], {
    exitCode: exitCodes.saidNo,
    ...(details && { details }),
    read: "docs/runbook/migration-failed.md",
  });
}

function lineOf({ sections }: MigrationFile, error: SqlError): number | undefined {
  const lines = linesBefore(error);
  return lines === undefined ? undefined : sections[0]!.up.line + lines;
}

/** Postgres counts from the beginning of what it was sent; in a function that is called, from the beginning of another text. */
export function linesBefore({ details = "" }: SqlError): number | undefined {
  const counted = /^LINE (\d+): /m.exec(details)?.[1];
  return counted && !/^QUERY: /m.test(details) ? Number(counted) - 1 : undefined;
}
