// What is known of each tool: how the rows of its table and the files of its folder are read. Data and small pure functions; what is
// the same for all of them is in adopt-match.ts. Add a tool by a shape in adopt-shapes.ts and an entry in one of the two lists.
import type { Tool } from "./adopt-detect.ts";
import { codeTools } from "./adopt-tools-code.ts";
import { sqlTools } from "./adopt-tools-sql.ts";

/** A row of the history, as to_jsonb() gives it. */
export type Row = Readonly<Record<string, unknown>>;

/** A migration that the history says is applied. */
export type Entry = {
  /** As the tool calls it; a file has the same. */
  key: string;
  /** For people, where the key says nothing. */
  label?: string;
  /** What else the row says of its name: where several files have one number. */
  also?: readonly string[];
  /** Of the file as it was applied, if the tool keeps it. */
  sha256?: string;
  /** Its SQL, if the tool keeps it. */
  sql?: string;
};

/** A file of the folder that is given. */
export type FolderFile = {
  /** From the folder, with "/". */
  path: string;
  /** Empty where nobody reads it. */
  text: string;
  sha256: string;
};

/** A migration among those files. */
export type Source = {
  /** What a row of the history calls it; several where the tool's users have a choice. */
  keys: readonly string[];
  path: string;
  /** What dbmate's version is made of. */
  digits: string;
  /** Where the digits are equal: numbers that decide, then the path. */
  after?: readonly number[];
  name: string;
  /** Undefined where it is code. */
  sql?: { up: string; down: string };
  sha256?: string;
  /** Runs again whenever it changes, after all others. */
  repeatable?: boolean;
  /** No file: the history has kept its SQL. */
  isRebuilt?: boolean;
};

export type ToolFacts = {
  /** ORDER BY for the rows of the history: as they were applied. */
  order: string;
  /** Where its files usually are, best first. */
  folders: readonly string[];
  /** What applies the rest, for whoever has to do that first. */
  command: string;
  entries(rows: readonly Row[], keyColumn?: string): Entry[];
  /** Sentences, each a reason against adopting: a migration that failed half-way. */
  problems?(rows: readonly Row[]): string[];
  /** A query of one boolean: somebody is migrating with it right now. `TABLE` is the history. */
  busy?: string;
  sources(files: readonly FolderFile[]): Source[];
  /** "mark": the one entry is the newest, and everything up to it is applied. "heads": what the entries need is applied as well. */
  counts?: "mark" | "heads";
};

export const facts: Readonly<Record<Exclude<Tool, "dbmate">, ToolFacts>> = { ...sqlTools, ...codeTools };
