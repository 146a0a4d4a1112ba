// A text of SQL statement by statement: by Postgres' own parser, so that a semicolon or a `--` within a function or a text parts nothing.
import type { Node } from "libpg-query";
import { Failure } from "./failure.ts";
import type { Position } from "./lint-rules.ts";
import type { Section } from "./migration-file.ts";
import { packageMissing } from "./packages.ts";

export type Parsed = {
  /** The name of its node in the parse tree, "AlterTableStmt". */
  node: string;
  /** That node. */
  tree: Readonly<Record<string, unknown>>;
  /** The two in one, as the parser gives them. */
  whole: Node;
  /** In the bytes of the text: from its first word to the semicolon, or to the end of the text. */
  start: number;
  end: number;
};

/** Where it stops; it counts characters there. */
export type ParseError = Error & { sqlDetails?: { cursorPosition: number } };

/** @throws {ParseError} for what Postgres 18 could not read. */
export async function parseSql(sql: string): Promise<Parsed[]> {
  const { parse } = await import("libpg-query").catch(packageMissing);
  // Which the parser refuses.
  if (sql === "") return [];
  const { stmts = [] } = await parse(sql);
  const length = Buffer.byteLength(sql);
  return stmts.map(({ stmt, stmt_location: start = 0, stmt_len: own }) => {
    const whole = stmt!;
    const [[node, tree]] = Object.entries(whole) as [[string, Parsed["tree"]]];
    return { node, tree, whole, start, end: own ? start + own : length };
  });
}

export type Statement = {
  /** From its first word, without a semicolon. */
  sql: string;
  /** In the file; the first is 1. */
  line: number;
  /** Undefined where it could not be parsed. */
  node: string | undefined;
  tree: Parsed["tree"];
};

/** What cannot be parsed is one statement: a newer server may know more than this parser, and where it does not, its own words are better. */
export async function statementsOf(section: Section): Promise<Statement[]> {
  const { sql, line } = section;
  const parsed = await parseSql(sql).catch((error: unknown) => {
    if (error instanceof Failure) throw error;
    return undefined;
  });
  if (!parsed) return [{ sql, line, node: undefined, tree: {} }];
  const bytes = Buffer.from(sql);
  const positionOf = positionsIn(section);
  return parsed.map(({ node, tree, start, end }) => {
    const text = bytes.toString("utf8", start, end);
    return { sql: text.trimEnd(), line: positionOf(start).line, node, tree };
  });
}

/** From bytes of the section to lines and characters of the file. */
export function positionsIn({ sql, line }: Section): (byte: number) => Position {
  const bytes = Buffer.from(sql);
  const starts = [0];
  for (let at = bytes.indexOf(10); at >= 0; at = bytes.indexOf(10, at + 1)) starts.push(at + 1);
  return (byte) => {
    let [low, high] = [0, starts.length];
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (starts[middle]! <= byte) low = middle;
      else high = middle;
    }
    return { line: line + low, column: [...bytes.subarray(starts[low], byte).toString()].length + 1 };
  };
}
