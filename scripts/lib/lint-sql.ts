// The statements of a migration with their words and the place of each, and its comments.
import type { Node } from "libpg-query";
import type { Position } from "./lint-rules.ts";
import type { MigrationFile, Section } from "./migration-file.ts";
import { type ParseError, parseSql, positionsIn } from "./migration-statements.ts";
import { packageMissing } from "./packages.ts";

type Token = { start: number; end: number; text: string };

export type Statement = {
  node: Node;
  /** Its words and signs, without comments. */
  tokens: readonly Token[];
  start: Position;
  lastLine: number;
  /** Of a byte in its section, as the tree and the tokens count them. */
  positionOf(byte: number): Position;
};

export type Comment = {
  text: string;
  line: number;
  /** Nothing else stands on its line. */
  alone: boolean;
};

export type ParsedSection = {
  direction: "up" | "down";
  section: Section;
  /** Empty where there is an error: the parser stops at it. */
  statements: Statement[];
  comments: Comment[];
  error?: Position & { message: string };
};

export type ParsedFile = { migration: MigrationFile; sections: ParsedSection[] };

/** Of every file, also of those that dbmate would not read. */
export async function parseFiles(migrations: readonly MigrationFile[]): Promise<ParsedFile[]> {
  const parsed = migrations.map(async (migration) => {
    const sections = migration.sections.flatMap(({ up, down }) => [
      parseSection("up", up),
      ...(down ? [parseSection("down", down)] : []),
    ]);
    return { migration, sections: await Promise.all(sections) };
  });
  return await Promise.all(parsed);
}

async function parseSection(direction: "up" | "down", section: Section): Promise<ParsedSection> {
  const positionOf = positionsIn(section);
  const { scan } = await import("libpg-query").catch(packageMissing);
  try {
    const parsed = await parseSql(section.sql);
    const { tokens } = await scan(section.sql);
    const words = tokens.filter((token) => !isComment(token));
    const written = linesOf(words, positionOf);
    const comments = tokens.filter(isComment).map(({ start, text }): Comment => {
      const { line } = positionOf(start);
      return { text, line, alone: !written.has(line) };
    });
    let next = 0;
    const statements = parsed.map(({ whole: node, start: from, end }): Statement => {
      while (words[next]!.start < from) next++;
      const first = next;
      while (next < words.length && words[next]!.end <= end) next++;
      const own = words.slice(first, next);
      const lastLine = positionOf(own.at(-1)!.end).line;
      return { node, tokens: own, start: positionOf(own[0]!.start), lastLine, positionOf };
    });
    return { direction, section, statements, comments };
  } catch (error) {
    return { direction, section, statements: [], comments: [], error: whereItStops(section, error as ParseError) };
  }
}

const isComment = ({ tokenName }: { tokenName: string }) => tokenName === "SQL_COMMENT" || tokenName === "C_COMMENT";

/** On which there is something. */
function linesOf(words: readonly Token[], positionOf: Statement["positionOf"]): Set<number> {
  const lines = new Set<number>();
  for (const { start, end } of words) {
    const last = positionOf(end).line;
    for (let { line } = positionOf(start); line <= last; line++) lines.add(line);
  }
  return lines;
}

/** The parser counts characters here. @throws what is no error of syntax. */
function whereItStops({ sql, line }: Section, error: ParseError): Position & { message: string } {
  const characters = error.sqlDetails?.cursorPosition;
  if (characters === undefined) throw error;
  const before = [...sql].slice(0, characters).join("").split("\n");
  return { line: line + before.length - 1, column: [...before.at(-1)!].length + 1, message: error.message };
}

/** Where each command of an ALTER TABLE begins: the tree does not say it, but they are parted by commas. */
export function commandPositions({ tokens, positionOf }: Statement, relation: { location?: number }): Position[] {
  let next = tokens.findIndex(({ start }) => start >= (relation.location ?? 0)) + 1;
  while (tokens[next]?.text === ".") next += 2;
  while (tokens[next]?.text === "*" || tokens[next]?.text === ")") next++;
  const starts = [next];
  let depth = 0;
  for (; next < tokens.length; next++) {
    const { text } = tokens[next]!;
    if (text === "(" || text === "[") depth++;
    if (text === ")" || text === "]") depth--;
    if (text === "," && depth === 0) starts.push(next + 1);
  }
  return starts.map((at) => positionOf(tokens[at]!.start));
}
