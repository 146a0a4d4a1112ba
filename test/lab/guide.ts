// docs/migrations.md as a test needs it: its migration files, and its table of locks.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { repository } from "./repository.ts";

const page = await readFile(join(repository, "docs", "migrations.md"), "utf8");

/** By name, in the order of the page, which is that of their versions. */
export function guideFiles(): Record<string, string> {
  const blocks = [...page.matchAll(/^```sql\n-- migrations\/(\S+)\n([\s\S]*?)^```$/gm)];
  // One without a name would be run by nobody.
  if (blocks.length !== page.match(/^```sql$/gm)!.length)
    throw new Error("a block of SQL does not begin with its file");
  return Object.fromEntries(blocks.map(([, file, text]) => [file!, text!]));
}

export type LockRow = { statement: string; lock: string; waits: string; rows: string };

export function guideLocks(): LockRow[] {
  const lines = [...page.matchAll(/^\| `([^`]+)` \| ([A-Z ]+) \| ([a-z ]+) \| ([a-z ]+) \|$/gm)];
  return lines.map(([, statement, lock, waits, rows]) => ({
    statement: statement!,
    lock: lock!,
    waits: waits!,
    rows: rows!,
  }));
}
