// SQL text with some of its statements taken out, and every other byte as it was. By Postgres' own parser: a semicolon in a function body
// parts nothing, and a line of it that looks like a statement is none.

export type Statement = {
  /** The name of its node in the parse tree, "AlterTableStmt", and that node. */
  kind: string;
  node: Record<string, unknown>;
  /** In the bytes of the text, without the semicolon behind it. */
  start: number;
  end: number;
};

export type ParseError = Error & { sqlDetails?: { cursorPosition: number } };

/** @throws {ParseError} for what Postgres 18 could not read. */
export async function parseStatements(sql: string): Promise<Statement[]> {
  // Which the parser refuses.
  if (sql === "") return [];
  const { parse } = await import("libpg-query");
  const { stmts = [] } = await parse(sql);
  const length = Buffer.byteLength(sql);
  return stmts.map(({ stmt, stmt_location: start = 0, stmt_len: own }) => {
    const [[kind, node]] = Object.entries(stmt ?? {}) as [[string, Record<string, unknown>]];
    return { kind, node, start, end: own ? start + own : length };
  });
}

/** With its semicolon. */
export function endOf(bytes: Buffer, { end }: Statement): number {
  return bytes[end] === 0x3b ? end + 1 : end;
}

/** @param removed what stands instead of each. */
export function without(bytes: Buffer, removed: ReadonlyMap<Statement, string>, from = 0, to = bytes.length): string {
  const pieces: string[] = [];
  let at = from;
  for (const [statement, instead] of [...removed].sort(([one], [other]) => one.start - other.start)) {
    if (statement.start < from || statement.start >= to) continue;
    pieces.push(bytes.toString("utf8", at, statement.start), instead);
    at = endOf(bytes, statement);
  }
  pieces.push(bytes.toString("utf8", at, to));
  return pieces.join("");
}
