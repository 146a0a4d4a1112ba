// The text of a baseline, and what stands in front of the first file of an adoption. Pure; adopt-baseline.ts runs pg_dump.
import { asideName, type Table } from "./adopt-detect.ts";
import { without } from "./adopt-sql.ts";
import { notAdopted } from "./migration-outcome.ts";
import { type Parsed, parseSql } from "./migration-statements.ts";
import { quoteIdentifier, quoteLiteral } from "./psql.ts";

/**
 * In front of the first file: a database that has the old history and not dbmate's would get everything a second time, and a file that
 * begins with DROP TABLE IF EXISTS would not even fail. Where the history has dbmate's own name, dbmate goes on in it: versions that are there
 * before the first file has run are the old tool's.
 */
export function guardOf({ tool, table, nameIsTaken }: { tool: string; table: Table; nameIsTaken: boolean }): string {
  const name = quoteLiteral(`${quoteIdentifier(table.schema)}.${quoteIdentifier(table.name)}`);
  const isTaken = nameIsTaken || table.name === asideName;
  return `-- Whoever deploys before the database is adopted is stopped here.
do $$ begin
  if ${isTaken ? "exists (select from schema_migrations)" : `to_regclass(${name}) is not null`} then
    raise exception '${tool} ${notAdopted}' using hint = 'bun scripts/drift.ts adopt, then again';
  end if;
end $$;

`;
}

export const baselineMark = (tool: string) => `-- Baseline: what ${tool} had made of the database.`;

/**
 * Without what is psql's own, what differs from one dump to the next, and pg_dump's settings: an empty search_path would be there still when
 * dbmate writes the version down. Without user mappings, too: they hold a password, and the file goes into a repository.
 */
export async function baselineText(dump: string, tool: string, guard = ""): Promise<string> {
  const sql = withoutFrame(dump);
  const removed = new Map<Parsed, string>();
  for (const statement of await parseSql(sql)) {
    const { node, tree } = statement;
    if (node === "VariableSetStmt" || isSetConfig(statement)) removed.set(statement, "");
    if (node === "CreateUserMappingStmt")
      removed.set(statement, `-- Left out, with its password: a user mapping for the server ${tree.servername}`);
  }
  return `${baselineMark(tool)}
-- Rows are not in it: what earlier migrations had inserted has to be inserted again in a new database.
-- dbops:allow down-empty what it makes is the whole database

-- migrate:up

${guard}-- Functions may name what comes after them.
set local check_function_bodies = false;

${without(Buffer.from(sql), removed).trim()}

-- migrate:down
`;
}

/** \\restrict, the versions, and the words at both ends. */
function withoutFrame(dump: string): string {
  const key = /^\\restrict (\w+)$/m.exec(dump)?.[1];
  const lines = key ? dump.replace(`\\restrict ${key}\n`, "").replace(`\\unrestrict ${key}\n`, "") : dump;
  const [start, end] = ["dump", "dump complete"].map((words) => `--\n-- PostgreSQL database ${words}\n--\n`) as [
    string,
    string,
  ];
  const at = lines.lastIndexOf(end);
  const body = at < 0 ? lines : lines.slice(0, at) + lines.slice(at + end.length);
  return body.replace(start, "").replace(/^-- Dumped from .*\n-- Dumped by .*\n/m, "");
}

/** SELECT pg_catalog.set_config('search_path', '', false) */
const isSetConfig = ({ node, tree }: Parsed) =>
  node === "SelectStmt" && JSON.stringify(tree).includes('"sval":"set_config"');
