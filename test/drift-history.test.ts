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

const nothing = { converted: [], known: [], unknown: [], undecided: [], repeated: [] };

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
