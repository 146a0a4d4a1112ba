// SQL text with some of its statements taken out, and every other byte as it was.
import type { Parsed } from "./migration-statements.ts";

/** With its semicolon. */
export function endOf(bytes: Buffer, { end }: Parsed): number {
  return bytes[end] === 0x3b ? end + 1 : end;
}

/** @param removed what stands instead of each. */
export function without(bytes: Buffer, removed: ReadonlyMap<Parsed, string>, from = 0, to = bytes.length): string {
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
