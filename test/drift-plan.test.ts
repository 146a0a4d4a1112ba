// scripts/lib/drift-plan.ts, drift-obstacles.ts, drift-names.ts and drift-findings.ts: what a repair does with what was found, in statements and
// in words, and what it leaves to people.
import { describe, expect, test } from "bun:test";
import type { Difference } from "../scripts/lib/catalog-diff.ts";
import type { Assessment } from "../scripts/lib/drift-assess.ts";
import { besidesFaults, faultFindings, formatFindings, unvalidated } from "../scripts/lib/drift-findings.ts";
import { readHistory } from "../scripts/lib/drift-history.ts";
import type { Live } from "../scripts/lib/drift-live.ts";
import { newVersions } from "../scripts/lib/drift-names.ts";
import { obstaclesTo, undirected } from "../scripts/lib/drift-obstacles.ts";
import { formatPlan, planRepair } from "../scripts/lib/drift-plan.ts";
import { parseMigration } from "../scripts/lib/migration-file.ts";

const files = ["20260101090000_accounts.sql", "20260101090100_orders.sql"].map((name) =>
  parseMigration(name, "-- migrate:up\nselect 1;\n-- migrate:down\n"),
);
const [accounts, orders] = files as [(typeof files)[number], (typeof files)[number]];

const liveOf = (changes: Partial<Live> = {}): Live => ({
  ...{ versionNumber: 180006, user: "shop", owner: "shop", roles: ["shop"], recorded: {}, repairs: [], adopted: [] },
  history: {
    columns: [{ name: "version", type: "character varying", isRequired: true }],
    ...{ isKeyed: true, hasPrimaryKey: true },
    rows: files.map(({ version }) => ({ version, name: null })),
  },
  ...{ invalidIndexes: [], notValid: [], privileges: [] },
  ...changes,
});

function assessmentOf(changes: Partial<Assessment> & { live?: Live } = {}): Assessment {
  const { live = liveOf() } = changes;
  return {
    ...{ live, history: readHistory(files, live.history), applied: files, pending: [], present: [] },
    ...{ expected: { fingerprint: "", objects: [] }, objects: [], differences: [], unvalidated: [], findings: [] },
    ...changes,
  };
}

const planOf = (changes: Partial<Assessment> & { live?: Live }) =>
  planRepair({ assessment: assessmentOf(changes), renamed: [], forward: undefined, stamp: "20261121140000" });

const invalid = (name: string) => ({
  ...{ name: `public.${name}`, path: ["public", name], table: "public.orders", isPartitioned: false },
  definition: `CREATE INDEX ${name} ON public.orders USING btree (id)`,
});

describe("planRepair()", () => {
  test("does nothing where nothing is", () => {
    expect(planOf({})).toEqual({ alone: [], together: [], files: [], forward: undefined });
  });

  test.each<[string, string[], string]>([
    ["a migration makes it", ["public.orders_idx"], "reindex index concurrently public.orders_idx"],
    ["none does", [], "drop index concurrently if exists public.orders_idx"],
  ])("an invalid index, where %s", (_, wanted, statement) => {
    const live = liveOf({ invalidIndexes: [invalid("orders_idx")] });
    const objects = wanted.map((name) => ({ kind: "index", name, parent: null, definition: "" }));
    const { alone } = planOf({ live, expected: { fingerprint: "", objects } });
    expect(alone.map(({ statements }) => statements)).toEqual([[statement]]);
  });

  test("what a REINDEX has left is dropped, whatever it is called after", () => {
    const live = liveOf({ invalidIndexes: [invalid("orders_idx_ccnew1")] });
    const objects = [{ kind: "index", name: "public.orders_idx_ccnew1", parent: null, definition: "" }];
    const { alone } = planOf({ live, expected: { fingerprint: "", objects } });
    expect(alone[0]!.statements).toEqual(["drop index concurrently if exists public.orders_idx_ccnew1"]);
  });

  test("an integer history: a copy first, then the table, then its rows; each name quoted", () => {
    const columns = [
      { name: "version", type: "integer", isRequired: true },
      { name: 'a "name"', type: "text", isRequired: true },
    ];
    const rows = ["1", "2"].map((version) => ({ version, name: null }));
    const live = liveOf({ history: { columns, isKeyed: false, hasPrimaryKey: false, rows } });
    const { together } = planOf({ live });
    expect(together.map(({ what }) => what)).toEqual([
      "keep a copy of schema_migrations as dbops.schema_migrations_20261121140000",
      "keep each version once in schema_migrations",
      "make schema_migrations a table that dbmate can work with",
      "write 2 numbers of schema_migrations as the versions of their files",
    ]);
    expect(together.flatMap(({ statements }) => statements).slice(0, 9)).toEqual([
      "create schema if not exists dbops",
      "create table dbops.schema_migrations_20261121140000 as table schema_migrations",
      "delete from schema_migrations a using schema_migrations b where a.ctid > b.ctid and a.version = b.version",
      'alter table schema_migrations alter column "a ""name""" drop not null',
      "alter table schema_migrations alter column version drop identity if exists",
      "alter table schema_migrations alter column version drop default",
      "alter table schema_migrations alter column version type varchar using version::text",
      "alter table schema_migrations add primary key (version)",
      "update schema_migrations set version = v.new from (values ('1', '20260101090000'), ('2', '20260101090100')) v (old, new) where version = v.old",
    ]);
  });

  test("a version without a file, one that is not noted, and an edited file", () => {
    const rows = [
      { version: accounts.version, name: null },
      { version: "20251231000000", name: null },
    ];
    const recorded = { [accounts.version]: { file: accounts.file, sha256: "other" } };
    const live = liveOf({ history: { ...liveOf().history, rows }, recorded });
    const { together } = planOf({ live, applied: [accounts], present: [orders] });
    expect(together.map(({ what, statements }) => [what, statements[0]])).toEqual([
      [
        "keep a copy of schema_migrations as dbops.schema_migrations_20261121140000",
        "create schema if not exists dbops",
      ],
      [
        "remove the version without a file from schema_migrations: 20251231000000",
        "delete from schema_migrations where version in ('20251231000000')",
      ],
      [
        "note 1 file as applied, whose every change is there",
        "insert into schema_migrations (version) values ('20260101090100')",
      ],
      ["take the sums of 1 edited file as they are now", expect.stringContaining(accounts.sha256)],
    ]);
  });

  test("in words", () => {
    const plan = planOf({ live: liveOf({ invalidIndexes: [invalid("orders_idx")], privileges: [lacking] }) });
    expect(
      formatPlan(plan, { database: "shop on this machine", differences: 2, backup: "into s3://backups/shop" }),
    ).toBe(
      `Repair of shop on this machine: 2 differences
  backup     into s3://backups/shop
  first, one by one, each of which may be repeated:
    - drop the index public.orders_idx of public.orders: no migration that is applied makes it
  in one transaction, which goes through only if nothing is left at its end:
    - grant insert on "orders" to "shop"`,
    );
  });
});

const lacking = { table: "orders", exists: true, missing: ["insert"] };
const added: Difference = { what: "unexpected", kind: "column", name: "public.orders.note", actual: "text" };
const dropped: Difference = { what: "missing", kind: "table", name: "public.orders", expected: "owner (owner)" };

test("undirected(): what a grant mends needs no choice between the sides", () => {
  const grant: Difference = { what: "unexpected", kind: "grant", name: "on table public.orders", actual: "" };
  const other: Difference = { ...grant, name: "on table public.accounts" };
  const live = liveOf({ privileges: [lacking] });
  expect(undirected({ differences: [grant, other, added], live })).toEqual([other, added]);
});

describe("obstaclesTo()", () => {
  const whys = (changes: Partial<Assessment> & { live?: Live }, isInOrder = false, all = files) =>
    obstaclesTo({ ...assessmentOf(changes), files: all, isInOrder }).map(({ why }) => why);
  const numbered = liveOf({
    history: { ...liveOf().history, rows: ["1", "2"].map((version) => ({ version, name: null })) },
  });

  test("none for what can be mended", () => {
    expect(whys({ differences: [added] })).toEqual([]);
    expect(whys({ live: numbered, differences: [added] })).toEqual([]);
  });

  test("numbers in order, whose tables are not there", () => {
    const why = "by their order the numbers of schema_migrations stand for files whose tables are not all there";
    expect(whys({ live: numbered, differences: [dropped] })).toEqual([why]);
    expect(whys({ live: numbered, differences: [dropped] }, true)).toEqual([]);
  });

  test("a migration of an earlier repair that waits to be applied", () => {
    const rows = [{ version: accounts.version, name: null }];
    const live = liveOf({ repairs: [orders.version], history: { ...liveOf().history, rows } });
    expect(whys({ live, differences: [added] })).toEqual([
      "migrations/20260101090100_orders.sql, which a repair has written, is not applied yet",
    ]);
  });

  test("two files of one version, and an index of a partitioned table", () => {
    const twin = parseMigration("20260101090100_twin.sql", orders.text);
    const live = liveOf({ invalidIndexes: [{ ...invalid("orders_idx"), isPartitioned: true }] });
    expect(whys({ live }, false, [...files, twin])).toEqual([
      "nothing says which was applied: 20260101090100_orders.sql and 20260101090100_twin.sql: both have the version 20260101090100",
      "index public.orders_idx waits for one on each partition of public.orders",
    ]);
  });
});

test.each<[string, string[], string[]]>([
  ["now, and a second later", ["20260101090000"], ["20261121140000", "20261121140001"]],
  ["behind a file of the future", ["20270101000059"], ["20270101000060", "20270101000061"]],
  ["behind numbered files", ["099"], ["20261121140000", "20261121140001"]],
  ["behind numbers that sort last, as texts", ["99"], ["991", "992"]],
])("newVersions(): %s", (_, known, expected) => {
  const { next, stamp } = newVersions(known, new Date("2026-11-21T14:00:00.500Z"));
  expect([stamp, next(), next()]).toEqual(["20261121140000", ...expected]);
});

describe("faults that Postgres names itself", () => {
  const constraint = (name: string) => ({
    ...{ name: `public.orders.${name}`, path: ["public", "orders", name], table: "public.orders", constraint: name },
    definition: "CHECK ((total >= 0)) NOT VALID",
  });
  const forgotten: Difference = {
    ...{ what: "changed", kind: "constraint", name: "public.orders.forgotten" },
    ...{ expected: "CHECK ((total >= 0))", actual: "CHECK ((total >= 0)) NOT VALID" },
  };
  const index: Difference = {
    what: "changed",
    kind: "index",
    name: "public.orders_idx",
    expected: "I",
    actual: "I invalid",
  };
  const live = liveOf({
    invalidIndexes: [invalid("orders_idx")],
    notValid: [constraint("forgotten"), constraint("wanted"), constraint("by_hand")],
  });
  const byHand: Difference = {
    what: "unexpected",
    kind: "constraint",
    name: "public.orders.by_hand",
    actual: "CHECK …",
  };
  const differences = [forgotten, index, byHand];

  test("are told once, and no more as a difference of the structure", () => {
    expect(besidesFaults(differences, live)).toEqual([byHand]);
    expect(unvalidated({ live, differences }).map(({ constraint }) => constraint)).toEqual(["forgotten"]);
    const expected = ["forgotten", "wanted"].map((name) => ({
      ...{ kind: "constraint", name: `public.orders.${name}`, parent: "public.orders", definition: "" },
    }));
    const found = faultFindings({ live, expected, differences });
    expect(found.map(({ kind, what, isAsWanted }) => [kind, what, isAsWanted ?? false])).toEqual([
      ["invalid index", "public.orders_idx", false],
      ["not valid", "public.orders.forgotten", false],
      ["not valid", "public.orders.wanted", true],
    ]);
    expect(formatFindings(found.slice(1, 2))).toEqual([
      "  not valid          public.orders.forgotten: it holds for new rows; nobody has looked at the others",
      "                       CHECK ((total >= 0)) NOT VALID",
    ]);
  });
});
