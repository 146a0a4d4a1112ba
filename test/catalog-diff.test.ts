// scripts/lib/catalog-diff.ts: what is said of two lists of objects, and what goes without saying.
import { describe, expect, test } from "bun:test";
import { compareCatalogs, type Difference, formatDifferences } from "../scripts/lib/catalog-diff.ts";
import type { CatalogObject } from "../scripts/lib/catalog-objects.ts";

const object = (kind: string, name: string, definition = "", parent: string | null = null): CatalogObject => ({
  ...{ kind, name, definition, parent },
});

const table = object("table", "public.t", "owner app");
const column = object("column", "public.t.id", "bigint not null", "public.t");
const sequence = object("sequence", "public.t_id_seq", "bigint owned by public.t.id", "public.t.id");
const index = object("index", "public.t_idx", "CREATE INDEX t_idx ON public.t USING btree (id)", "public.t");
const comment = object("comment", "on column public.t.id", "the number", "public.t.id");
const grant = object("grant", "on table public.t", "reader: SELECT", "public.t");
const whole = [table, column, sequence, index, comment, grant];
const other = object("table", "public.other", "owner app");

type Row = { name: string; expected: CatalogObject[]; actual: CatalogObject[]; differences: Difference[] };
const rows: Row[] = [
  {
    name: "finds nothing where all is equal, in any order",
    expected: whole,
    actual: whole.toReversed(),
    differences: [],
  },
  { name: "finds nothing in nothing", expected: [], actual: [], differences: [] },
  {
    name: "says of a table that is missing nothing but that",
    expected: [...whole, other],
    actual: [other],
    differences: [{ what: "missing", kind: "table", name: "public.t", expected: "owner app" }],
  },
  {
    name: "and so of one that nobody expects",
    expected: [other],
    actual: [...whole, other],
    differences: [{ what: "unexpected", kind: "table", name: "public.t", actual: "owner app" }],
  },
  {
    name: "says of a column that is missing nothing of its sequence and its comment",
    expected: whole,
    actual: whole.filter((one) => ![column, sequence, comment].includes(one)),
    differences: [{ what: "missing", kind: "column", name: "public.t.id", expected: "bigint not null" }],
  },
  {
    name: "names a comment and a grant that are missing from a table that is there",
    expected: whole,
    actual: whole.filter((one) => ![grant, comment].includes(one)),
    differences: [
      { what: "missing", kind: "grant", name: "on table public.t", expected: "reader: SELECT" },
      { what: "missing", kind: "comment", name: "on column public.t.id", expected: "the number" },
    ],
  },
  {
    name: "names what has changed once, with both sides",
    expected: whole,
    actual: whole.map((one) => (one === column ? { ...column, definition: "integer" } : one)),
    differences: [
      { what: "changed", kind: "column", name: "public.t.id", expected: "bigint not null", actual: "integer" },
    ],
  },
  {
    name: "takes what has become something else for two",
    expected: [object("view", "public.v", "as select 1")],
    actual: [object("table", "public.v", "owner app")],
    differences: [
      { what: "unexpected", kind: "table", name: "public.v", actual: "owner app" },
      { what: "missing", kind: "view", name: "public.v", expected: "as select 1" },
    ],
  },
  {
    name: "hides nothing whose parent is in neither list",
    expected: [object("comment", "on column public.p.id", "x", "public.p.id")],
    actual: [],
    differences: [{ what: "missing", kind: "comment", name: "on column public.p.id", expected: "x" }],
  },
  {
    name: "puts a table before what belongs to it",
    expected: [
      object("table", "a.b", "1"),
      object("index", "a.a", "1", "a.b"),
      object("table", "a.c", "1"),
      object("column", "a.b.z", "1", "a.b"),
    ],
    actual: [
      object("table", "a.b", "2"),
      object("index", "a.a", "2", "a.b"),
      object("table", "a.c", "2"),
      object("column", "a.b.z", "2", "a.b"),
    ],
    differences: [
      ["table", "a.b"],
      ["column", "a.b.z"],
      ["index", "a.a"],
      ["table", "a.c"],
    ].map(([kind, name]) => ({ what: "changed", kind: kind!, name: name!, expected: "1", actual: "2" })),
  },
];

test.each(rows)("compareCatalogs() $name", ({ expected, actual, differences }) => {
  expect(compareCatalogs(expected, actual)).toEqual(differences);
});

describe("formatDifferences()", () => {
  const where = { expected: "migrations/", actual: "the database" };
  const numbered = (count: number, from = 1) => Array.from({ length: count }, (_, at) => `line ${at + from}`);

  test("says which side has it, and what it is", () => {
    const differences: Difference[] = [
      { what: "missing", kind: "column", name: "public.t.id", expected: "bigint not null" },
      { what: "unexpected", kind: "index", name: "public.i", actual: "CREATE INDEX i ON public.t USING btree (id)" },
      { what: "changed", kind: "policy", name: "public.t.p", expected: "for all", actual: "" },
    ];
    expect(formatDifferences(differences, where)).toEqual([
      "missing     column public.t.id: only in migrations/",
      "              bigint not null",
      "unexpected  index public.i: only in the database",
      "              CREATE INDEX i ON public.t USING btree (id)",
      "changed     policy public.t.p",
      "            migrations/:",
      "              for all",
      "            the database:",
      "              (nothing)",
    ]);
  });

  test("of a long text shows the lines that differ, and the one before", () => {
    const expected = numbered(50).join("\n");
    const actual = expected.replace("line 30\n", "another line\n\nand one more\n");
    expect(formatDifferences([{ what: "changed", kind: "function", name: "f()", expected, actual }], where)).toEqual([
      "changed     function f()",
      "            migrations/:",
      "              line 29",
      "              line 30",
      "            the database:",
      "              line 29",
      "              another line",
      "              and one more",
    ]);
  });

  test("cuts what is longer than eight lines", () => {
    const [head, ...lines] = formatDifferences(
      [{ what: "missing", kind: "view", name: "v", expected: numbered(20).join("\n") }],
      where,
    );
    expect(head).toBe("missing     view v: only in migrations/");
    expect(lines).toEqual([...numbered(8), "… 12 more lines"].map((line) => `              ${line}`));
  });

  test("shows where one of two texts goes on", () => {
    const expected = numbered(3).join("\n");
    const actual = numbered(4).join("\n");
    expect(formatDifferences([{ what: "changed", kind: "view", name: "v", expected, actual }], where)).toEqual([
      "changed     view v",
      "            migrations/:",
      "              line 3",
      "            the database:",
      "              line 3",
      "              line 4",
    ]);
  });
});
