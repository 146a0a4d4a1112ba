// One section of a migration, statement by statement: by Postgres' own parser, so that a semicolon within a function or a text parts
// nothing. What cannot be parsed is one statement, and the server says what it thinks of it.
import { parse } from "libpg-query";
import type { Section } from "./migration-file.ts";

export type Statement = {
  /** From its first word to its last, without comments around it, nor a semicolon. */
  sql: string;
  /** In the file; the first is 1. */
  line: number;
  /** The name of its node in the parse tree, "AlterTableStmt"; undefined where it could not be parsed. */
  node: string | undefined;
  /** That node. */
  tree: Readonly<Record<string, unknown>>;
};

export async function statementsOf({ sql, line }: Section): Promise<Statement[]> {
  // A newer server may know more than this parser, which is that of PostgreSQL 18; and where it does not, its own words are better.
  const stmts = await parse(sql).then(
    (parsed) => parsed.stmts ?? [],
    () => undefined,
  );
  if (!stmts) return [{ sql, line, node: undefined, tree: {} }];
  const bytes = Buffer.from(sql);
  return stmts.map(({ stmt, stmt_location: start = 0, stmt_len: length }) => {
    const text = bytes.subarray(start, length ? start + length : undefined).toString();
    const [node, tree] = Object.entries(stmt ?? {})[0] ?? [undefined, {}];
    const at = line + bytes.subarray(0, start).toString().split("\n").length - 1;
    return { sql: text.trimEnd(), line: at, node, tree: tree as Statement["tree"] };
  });
}
