// Which migration file each row of a history stands for. Pure. A row is matched by its version; one whose version no file has by what it is
// called; one of a tool that counts 1, 2, 3 also by its number, then by its place in the order; and never where two files would do.
import type { History } from "./drift-live.ts";
import type { MigrationFile } from "./migration-file.ts";

export type Match = { version: string; file: MigrationFile; by: "version" | "name" | "number" | "order" | "flag" };

export type ReadHistory = {
  /** One for each row that stands for a file of another version: those of an integer history, Unix times, names. In the order of the files. */
  converted: Match[];
  /** The versions that are a file's own. */
  known: string[];
  /** Versions without a file: applied by a newer checkout, or their file is gone. */
  unknown: string[];
  /** Versions that may stand for a file here, and nothing says for which: numbers of an integer history, and what two are called. */
  undecided: string[];
  /** Versions that the table has twice. */
  repeated: string[];
  /** Why dbmate cannot work with the table as it is: a column of another type, or one that it would not fill. */
  unfit: string[];
  /** The columns are those of a tool that `drift adopt` knows better. */
  otherTool: string | undefined;
};

/** What a user says of a version whose file is gone. */
export const noFile = "none";

/** At most so many digits: no timestamp, which has 14, or 10 in seconds. */
export const isNumber = (version: string) => /^\d{1,9}$/.test(version);

/** @param flags what the user says: version of a row → version of the file, or "none". */
export function readHistory(
  files: readonly MigrationFile[],
  history: History,
  flags: Readonly<Record<string, string>> = {},
): ReadHistory {
  const versions = history.rows.map(({ version }) => version);
  const distinct = [...new Map(history.rows.map((row) => [row.version, row])).values()];
  const byVersion = new Map(files.map((file) => [file.version, file]));
  const known = distinct.filter(({ version }) => byVersion.has(version)).map(({ version }) => version);
  const others = distinct.filter(({ version }) => !byVersion.has(version));
  const open = others.filter(({ version }) => flags[version] !== noFile);
  const free = files.filter(({ version }) => !known.includes(version));
  const converted = matchRows(open, free, flags);
  const matched = new Set(converted.map(({ version }) => version));
  const left = free.filter((file) => !converted.some((match) => match.file === file));
  const isOpen = (row: Row) =>
    isNumber(row.version) || flags[row.version] !== undefined || left.some((file) => isCalled(row, file));
  const undecided = open.filter((row) => !matched.has(row.version) && isOpen(row)).map(({ version }) => version);
  return {
    converted,
    known,
    unknown: others.map(({ version }) => version).filter((one) => !matched.has(one) && !undecided.includes(one)),
    undecided,
    repeated: [...new Set(versions.filter((version, index) => versions.indexOf(version) !== index))],
    unfit: whyUnfit(history),
    otherTool: toolOf(history) ?? (converted.length + undecided.length > 0 ? whoNotesFailures(history) : undefined),
  };
}

type Row = History["rows"][number];

function matchRows(
  rows: readonly Row[],
  files: readonly MigrationFile[],
  flags: Readonly<Record<string, string>>,
): Match[] {
  const matches: Match[] = [];
  const left = () => files.filter((file) => !matches.some((match) => match.file === file));
  const open = () => rows.filter(({ version }) => !matches.some((match) => match.version === version));
  /** Only where one row and one file have each other. */
  const pair = (by: Match["by"], fits: (row: Row, file: MigrationFile) => boolean) => {
    const [candidates, waiting] = [left(), open()];
    for (const row of waiting) {
      const [file, second] = candidates.filter((one) => fits(row, one));
      if (!file || second || waiting.filter((other) => fits(other, file)).length !== 1) continue;
      matches.push({ version: row.version, file, by });
    }
  };
  pair("flag", ({ version }, file) => flags[version] === file.version);
  pair("name", (row, file) => bareOf(nameOf(row)) === bareOf(file.file));
  pair("name", isCalled);
  pair("number", ({ version }, file) => isNumber(version) && Number(version) === Number(file.version));
  // A name that no file has says that the order is another one.
  const numbers = rows.filter(({ version }) => isNumber(version));
  const inOrder = open()
    .filter(({ version }) => isNumber(version))
    .sort((one, other) => Number(one.version) - Number(other.version));
  const isWhole = numbers.length === inOrder.length && inOrder.every(isNext) && inOrder.every(({ name }) => !name);
  if (isWhole && inOrder.length <= left().length) {
    const candidates = left();
    matches.push(...inOrder.map(({ version }, index) => ({ version, file: candidates[index]!, by: "order" as const })));
  }
  return matches.sort((one, other) => (one.file.version < other.file.version ? -1 : 1));
}

/** From 0 or 1 on, without a gap: who counts otherwise has lost one, or has never had it. */
const isNext = ({ version }: Row, index: number, all: readonly Row[]) =>
  Number(version) === Number(all[0]!.version) + index && Number(all[0]!.version) <= 1;

/** Some tools take the name for the version. */
const nameOf = ({ version, name }: Row) => name || (/^\d+$/.test(version) ? "" : version);

const isCalled = (row: Row, { file }: MigrationFile) =>
  slugOf(nameOf(row)) !== "" && slugOf(nameOf(row)) === slugOf(file);

/** Without its folder, and what kind of file it is. */
const bareOf = (name: string) =>
  name
    .toLowerCase()
    .replace(/^.*\//, "")
    .replace(/(\.up)?\.\w{2,3}$/, "");

/** "0003-Create_Accounts.sql" and "20260101090000_create_accounts.sql" are both create_accounts. */
const slugOf = (name: string) =>
  bareOf(name)
    .replace(/^v?\d+[\s_.-]*/, "")
    .replace(/[^a-z0-9]+/g, "_");

/** dbmate has one column, of text, and it is the key. */
function whyUnfit({ columns, isKeyed }: History): string[] {
  const version = columns.find(({ name }) => name === "version");
  const isText = version === undefined || /^(character varying|text|character)/.test(version.type);
  return [
    ...(version && !isText ? [`version is ${version.type}, not text`] : []),
    ...columns
      .filter(({ name, isRequired }) => name !== "version" && isRequired)
      .map(({ name }) => `${name} must not be null`),
    ...(version && !isKeyed ? ["version is not its key"] : []),
  ];
}

/** Tools that call their table the same, and whose rows mean something else. */
function toolOf({ columns, isOfRails }: History): string | undefined {
  if (isOfRails) return "Rails";
  const names = columns.map(({ name }) => name);
  if (columns.length > 0 && !names.includes("version")) return "another tool";
  if (names.includes("dirty")) return "golang-migrate";
  if (names.includes("inserted_at")) return "Ecto";
  return undefined;
}

/** A row there may be of a migration that has failed, or was taken back: `drift adopt` looks at that. */
function whoNotesFailures({ columns }: History): string | undefined {
  const notes = columns.find(({ name }) => failureColumns.test(name));
  return notes && `another tool, which notes in "${notes.name}" what became of each`;
}

const failureColumns =
  /^(?:success(?:ful)?|succeeded|fail(?:ed|ure)|errors?|status|state|result|(?:failed|rolled_back|rolledback|reverted|undone)(?:_at|_on)?)$/i;
