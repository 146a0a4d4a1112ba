// scripts/lib/drift-history.ts: which file each row of a history stands for, and where nothing says it.
import { expect, test } from "bun:test";
import { readHistory } from "../scripts/lib/drift-history.ts";
import type { History } from "../scripts/lib/drift-live.ts";
import { parseMigration } from "../scripts/lib/migration-file.ts";

const files = ["20260101090000_create_accounts", "20260101090100_create_sessions", "20260101090200_audit"].map((name) =>
  parseMigration(`${name}.sql`, "-- migrate:up\nselect 1;\n-- migrate:down\n"),
);
const [accounts, sessions, audit] = files.map(({ version }) => version) as [string, string, string];

type Row = string | [string, string];
const version = { name: "version", type: "character varying", isRequired: true };
const historyOf = (rows: readonly Row[], columns: History["columns"] = [version], isKeyed = true): History => ({
  ...{ columns, isKeyed, hasPrimaryKey: isKeyed },
  rows: rows.map((row) => (typeof row === "string" ? { version: row, name: null } : { version: row[0], name: row[1] })),
});

/** "1 = 20260101090000 by order" for each. */
function read(rows: readonly Row[], flags: Record<string, string> = {}) {
  const { converted, known, unknown, undecided, repeated } = readHistory(files, historyOf(rows), flags);
  const pairs = converted.map((match) => `${match.version} = ${match.file.version} by ${match.by}`);
  return { converted: pairs, known, unknown, undecided, repeated };
}

const nothing: Record<"converted" | "known" | "unknown" | "undecided" | "repeated", string[]> = {
  ...{ converted: [], known: [], unknown: [], undecided: [], repeated: [] },
};

test("versions of files are themselves, others are unknown, and one twice is told", () => {
  expect(read([accounts, sessions])).toEqual({ ...nothing, known: [accounts, sessions] });
  expect(read([accounts, "20251231000000", accounts])).toEqual({
    ...nothing,
    known: [accounts],
    unknown: ["20251231000000"],
    repeated: [accounts],
  });
});

test.each<[string, Row[], string[]]>([
  ["in their order, from 1", ["1", "2"], [`1 = ${accounts} by order`, `2 = ${sessions} by order`]],
  ["in their order, from 0", ["0", "1"], [`0 = ${accounts} by order`, `1 = ${sessions} by order`]],
  [
    "in the order of numbers, not of texts",
    ["001", "002", "3"],
    [`001 = ${accounts} by order`, `002 = ${sessions} by order`, `3 = ${audit} by order`],
  ],
  [
    "by name, whatever the order",
    [
      ["7", "create_sessions"],
      ["9", "009-Create_Accounts.sql"],
    ],
    [`9 = ${accounts} by name`, `7 = ${sessions} by name`],
  ],
])("numbers stand for files %s", (_, rows, converted) => {
  expect(read(rows)).toEqual({ ...nothing, converted });
});

test("what is a file's version already is no candidate for a number", () => {
  expect(read([accounts, "1"])).toEqual({ ...nothing, known: [accounts], converted: [`1 = ${sessions} by order`] });
});

test.each<[string, Row[]]>([
  ["one is left out", ["1", "3"]],
  ["they begin with neither 0 nor 1", ["2", "3"]],
  ["there are more than files", ["1", "2", "3", "4"]],
  ["a name is none of a file", [["1", "create_accounts_table"]]],
])("nothing is guessed where %s", (_, rows) => {
  const undecided = rows.map((row) => (typeof row === "string" ? row : row[0]));
  expect(read(rows)).toEqual({ ...nothing, undecided });
});

test("a name that two rows have is nobody's", () => {
  const rows: Row[] = [
    ["1", "create_accounts"],
    ["2", "create_accounts"],
  ];
  expect(read(rows)).toEqual({ ...nothing, undecided: ["1", "2"] });
});

test("numbered files are found by number", () => {
  const numbered = ["040_a.sql", "041_b.sql"].map((name) => parseMigration(name, "-- migrate:up\n-- migrate:down\n"));
  const { converted } = readHistory(numbered, historyOf(["40", "41"]));
  expect(converted.map((match) => [match.version, match.file.version, match.by])).toEqual([
    ["40", "040", "number"],
    ["41", "041", "number"],
  ]);
});

test("the user may say it, also that there is no such file any more", () => {
  expect(read(["1", "3"], { "1": sessions, "3": "none" })).toEqual({
    ...nothing,
    converted: [`1 = ${sessions} by flag`],
    unknown: ["3"],
  });
});

test.each<[string, Row[], Record<string, string>, Partial<typeof nothing>]>([
  [
    "Unix times with names",
    [
      ["1735689600", "create_sessions"],
      ["1735689601000", "create_accounts"],
      ["20250101000000", "audit.sql"],
    ],
    {},
    {
      converted: [
        `1735689601000 = ${accounts} by name`,
        `1735689600 = ${sessions} by name`,
        `20250101000000 = ${audit} by name`,
      ],
    },
  ],
  [
    "names of files",
    ["001_create_accounts.sql", "20260101090100_create_sessions", "V3__Audit.sql"],
    {},
    {
      converted: [
        `001_create_accounts.sql = ${accounts} by name`,
        `20260101090100_create_sessions = ${sessions} by name`,
        `V3__Audit.sql = ${audit} by name`,
      ],
    },
  ],
  [
    "Unix times, and the user says one",
    ["1735689600", "1735689601"],
    { "1735689601": sessions },
    { converted: [`1735689601 = ${sessions} by flag`], unknown: ["1735689600"] },
  ],
  [
    "a name of a file, and the user says which it is now",
    ["002_sessions.sql"],
    { "002_sessions.sql": sessions },
    { converted: [`002_sessions.sql = ${sessions} by flag`] },
  ],
  ["what no file is called like", ["1735689600", "003_more.sql"], {}, { unknown: ["003_more.sql", "1735689600"] }],
  [
    "a name of a file, and the user says that nobody has it",
    ["003_audit.sql"],
    { "003_audit.sql": "none" },
    { unknown: ["003_audit.sql"] },
  ],
  [
    "two that are called like one file",
    ["003_audit.sql", "004_audit.sql"],
    {},
    { undecided: ["003_audit.sql", "004_audit.sql"] },
  ],
  [
    "two that the user says the same of",
    ["1735689600", "1735689601"],
    { "1735689600": sessions, "1735689601": sessions },
    { undecided: ["1735689600", "1735689601"] },
  ],
])("versions that count otherwise: %s", (_, rows, flags, expected) => {
  const sorted = [...rows].sort((one, other) => (String(one) < String(other) ? -1 : 1));
  expect(read(sorted, flags)).toEqual({ ...nothing, ...expected });
});

test("of two files that are called alike, the one of that very name", () => {
  const alike = ["001_update.sql", "005_update.sql"];
  const numbered = ["20260101090000_update.sql", ...alike].map((name) =>
    parseMigration(name, "-- migrate:up\n-- migrate:down\n"),
  );
  const { converted } = readHistory(numbered, historyOf(alike));
  expect(converted.map((match) => [match.version, match.file.version, match.by])).toEqual([
    ["001_update.sql", "001", "name"],
    ["005_update.sql", "005", "name"],
  ]);
});

test.each<[string, History["columns"], boolean, string[], string | undefined]>([
  ["dbmate's own", [version], true, [], undefined],
  [
    "with a time beside it",
    [version, { name: "applied_at", type: "timestamptz", isRequired: false }],
    true,
    [],
    undefined,
  ],
  ["of numbers", [{ ...version, type: "integer" }], true, ["version is integer, not text"], undefined],
  ["without a key", [version], false, ["version is not its key"], undefined],
  [
    "with a name that must be there",
    [version, { name: "name", type: "text", isRequired: true }],
    true,
    ["name must not be null"],
    undefined,
  ],
  [
    "golang-migrate's",
    [
      { ...version, type: "bigint" },
      { name: "dirty", type: "boolean", isRequired: true },
    ],
    true,
    ["version is bigint, not text", "dirty must not be null"],
    "golang-migrate",
  ],
  [
    "somebody else's",
    [{ name: "id", type: "integer", isRequired: true }],
    false,
    ["id must not be null"],
    "another tool",
  ],
])("what dbmate cannot work with: a table %s", (_, columns, isKeyed, unfit, otherTool) => {
  const found = readHistory(files, historyOf([], columns, isKeyed));
  expect([found.unfit, found.otherTool]).toEqual([unfit, otherTool]);
});

const told = { name: "success", type: "boolean", isRequired: true };

test.each<[string, Partial<History>, Row[], string | undefined]>([
  ["Rails', whose versions look like dbmate's", { isOfRails: true }, [accounts, "20250101000000"], "Rails"],
  [
    "one of numbers that also says which have failed",
    { columns: [{ ...version, type: "integer" }, told] },
    ["1", "2"],
    'another tool, which notes in "success" what became of each',
  ],
  ["dbmate's, to which somebody has added a column", { columns: [version, told] }, [accounts], undefined],
])("a history is left to drift adopt: %s", (_, changes, rows, tool) => {
  expect(readHistory(files, { ...historyOf(rows), ...changes }).otherTool).toBe(tool);
});
