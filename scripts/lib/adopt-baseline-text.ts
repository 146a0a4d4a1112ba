// The text of a baseline, and what stands in front of the first file of an adoption. Pure; adopt-baseline.ts runs pg_dump.
import { asideName, type Table } from "./adopt-detect.ts";
import { parseStatements, type Statement, without } from "./adopt-sql.ts";
import { quoteIdentifier, quoteLiteral } from "./psql.ts";

/**
 * In front of the first file: a database that has the old history and not dbmate's would get everything a second time, and a file that
 * begins with DROP TABLE IF EXISTS would not even fail. Nothing where the history has dbmate's own name: dbmate finds the old versions then.
 */
export function guardOf({ tool, table, nameIsTaken }: { tool: string; table: Table; nameIsTaken: boolean }): string {
  if (nameIsTaken || table.name === asideName) return "";
  const name = quoteLiteral(`${quoteIdentifier(table.schema)}.${quoteIdentifier(table.name)}`);
  return `-- Whoever deploys before the database is adopted is stopped here.
do $$ begin
  if to_regclass(${name}) is not null then
    raise exception '${tool} has migrated this database so far' using hint = 'bun scripts/drift.ts adopt, then again';
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
  const removed = new Map<Statement, string>();
  for (const statement of await parseStatements(sql)) {
    const { kind, node } = statement;
    if (kind === "VariableSetStmt" || isSetConfig(statement)) removed.set(statement, "");
    if (kind === "CreateUserMappingStmt")
      removed.set(statement, `-- Left out, with its password: a user mapping for the server ${node.servername}`);
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
const isSetConfig = ({ kind, node }: Statement) =>
  kind === "SelectStmt" && JSON.stringify(node).includes('"sval":"set_config"');
