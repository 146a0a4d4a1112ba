// scripts/lib/drift-plan.ts, drift-obstacles.ts, drift-names.ts and drift-findings.ts: what a repair does with what was found, in statements and
// in words, and what it leaves to people.
import { describe, expect, test } from "bun:test";
import type { Difference } from "../scripts/lib/catalog-diff.ts";
import type { Assessment } from "../scripts/lib/drift-assess.ts";
import { besidesFaults, faultFindings, formatFindings, unvalidated } from "../scripts/lib/drift-findings.ts";
import { dollarQuoted } from "../scripts/lib/drift-forward.ts";
import { readHistory } from "../scripts/lib/drift-history.ts";
import type { Live, NotValidConstraint } from "../scripts/lib/drift-live.ts";
import { newVersions, versionsInFrontOf } from "../scripts/lib/drift-names.ts";
import { obstaclesTo, undirected } from "../scripts/lib/drift-obstacles.ts";
import { formatPlan, planRepair, type Renamed } from "../scripts/lib/drift-plan.ts";
import { parseMigration } from "../scripts/lib/migration-file.ts";

const files = ["20260101090000_accounts.sql", "20260101090100_orders.sql"].map((name) =>
  parseMigration(name, "-- migrate:up\nselect 1;\n-- migrate:down\n"),
);
const [accounts, orders] = files as [(typeof files)[number], (typeof files)[number]];

const liveOf = (changes: Partial<Live> = {}): Live => ({
  ...{ versionNumber: 180006, user: "shop", owner: "shop", roles: ["shop"], recorded: {}, repairs: [], copies: [] },
  history: {
    columns: [{ name: "version", type: "character varying", isRequired: true }],
    ...{ isKeyed: true, hasPrimaryKey: true },
    rows: files.map(({ version }) => ({ version, name: null })),
  },
  ...{ histories: [], invalidIndexes: [], notValid: [], privileges: [] },
  ...changes,
});

function assessmentOf(changes: Partial<Assessment> & { live?: Live } = {}): Assessment {
  const { live = liveOf() } = changes;
  return {
    ...{
      live,
      history: readHistory(files, live.history),
      applied: files,
      pending: [],
      present: [],
      unseen: [],
      others: [],
      leftOut: [],
    },
    ...{ expected: { fingerprint: "", objects: [] }, objects: [], differences: [], unvalidated: [], findings: [] },
    ...changes,
  };
}

const planOf = (changes: Partial<Assessment> & { live?: Live }) =>
  planRepair({ assessment: assessmentOf(changes), renamed: [], forward: undefined, stamp: "20261121140000" });

const invalid = (name: string) => ({
  ...{ name: `public.${name}`, path: ["public", name], table: "public.orders" },
  ...{ isPartitioned: false, isAttached: false, constraintType: null },
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

  test.each<[string, Partial<Live["invalidIndexes"][number]>, string[][]]>([
    [
      "a part of an index of a partitioned table",
      { isAttached: true },
      [["reindex index concurrently public.orders_idx"], []],
    ],
    ["of a key made by hand", { constraintType: "u" }, [["reindex index concurrently public.orders_idx"], []]],
    ["of an exclusion constraint", { constraintType: "x" }, [[], ["reindex index public.orders_idx"]]],
  ])("an invalid index: %s", (_, changes, expected) => {
    const live = liveOf({ invalidIndexes: [{ ...invalid("orders_idx"), ...changes }] });
    const { alone, together } = planOf({ live });
    expect([alone, together].map((steps) => steps.flatMap(({ statements }) => statements))).toEqual(expected);
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
    const again = planOf({ live: { ...live, copies: ["schema_migrations_20261121140000"] } });
    expect(again.together[0]!.what).toBe(
      "keep a copy of schema_migrations as dbops.schema_migrations_20261121140000_2",
    );
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

  test("a history of names is written as the versions of their files", () => {
    const rows = ["001_accounts.sql", "1735689600"].map((version) => ({
      version,
      name: version === "1735689600" ? "orders" : null,
    }));
    const { together } = planOf({ live: liveOf({ history: { ...liveOf().history, rows } }) });
    expect(together.slice(1).map(({ what, details, statements }) => [what, details, statements[0]])).toEqual([
      [
        "write 2 numbers and names of schema_migrations as the versions of their files",
        [
          "001_accounts.sql → 20260101090000  20260101090000_accounts.sql, by name",
          "1735689600 → 20260101090100  20260101090100_orders.sql, by name",
        ],
        "update schema_migrations set version = v.new from (values ('001_accounts.sql', '20260101090000'), ('1735689600', '20260101090100')) v (old, new) where version = v.old",
      ],
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
      formatPlan(plan, { database: "shop on this machine", differences: 2, backup: "into s3://backups/shop", at: "" }),
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

test("dollarQuoted(): with a tag that the text does not have", () => {
  expect(["a", "$t$", "$t$ $t_2$"].map((text) => dollarQuoted("t", text))).toEqual([
    "$t$a$t$",
    "$t_2$$t$$t_2$",
    "$t_3$$t$ $t_2$$t_3$",
  ]);
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
  const obstacles = (
    changes: Partial<Assessment> & { live?: Live },
    isInOrder = false,
    all = files,
    gone: string[] = [],
    renamed: Renamed[] = [],
  ) =>
    obstaclesTo({
      ...{ ...assessmentOf(changes), files: all, isInOrder, saidApplied: [], gone, renamed },
      at: " --on production",
    });
  const whys = (...of: Parameters<typeof obstacles>) => obstacles(...of).map(({ why }) => why);
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

  test("numbers in order, beside what a file makes that none stands for; unless a repair has written it", () => {
    const [later, kept] = ["20260201000000_later.sql", "20260201000000_keep_what_the_database_has_2.sql"].map((name) =>
      parseMigration(name, orders.text),
    );
    const why = "by their order the numbers of schema_migrations stand for files that what is there speaks against";
    expect(whys({ live: numbered, present: [later!] })).toEqual([why]);
    expect(whys({ live: numbered, present: [later!] }, true)).toEqual([]);
    expect(whys({ live: numbered, present: [kept!] })).toEqual([]);
  });

  test("numbers in order, and what differs that one of their files names", () => {
    const text = "-- migrate:up\nalter table orders drop column note;\n-- migrate:down\n";
    const named = [accounts, parseMigration(orders.file, text)];
    const history = readHistory(named, numbered.history);
    expect(whys({ live: numbered, history, differences: [added] })).toHaveLength(1);
    const other = { ...added, name: "public.orders.notes" };
    const quoted = { ...added, name: 'public.orders."Note"' };
    expect(whys({ live: numbered, history, differences: [other] })).toEqual([]);
    expect(whys({ live: numbered, history, differences: [quoted] })).toHaveLength(1);
  });

  const withVersions = (versions: string[], recorded: Live["recorded"] = {}) => {
    const rows = [...files.map(({ version }) => version), ...versions].map((version) => ({ version, name: null }));
    return liveOf({ recorded, history: { ...liveOf().history, rows } });
  };

  test("versions that a newer checkout may have the files of", () => {
    const [old, noted, newer] = ["20251231000000", "20251231000001", "20260301000000"] as const;
    const live = withVersions([old, noted, newer], { [noted]: { file: `${noted}_coupons.sql`, sha256: "" } });
    expect(obstacles({ live })).toEqual([
      {
        why: `${noted}_coupons.sql, ${newer} were applied, and no file here has them: this checkout may be older than the database`,
        next: [
          `git fetch && git log --all --oneline -- 'migrations/${noted}*' 'migrations/${newer}*'      # then: git pull, or git merge what has them`,
          `the same command with --match ${noted}=none --match ${newer}=none      # only if nobody has those files any more`,
        ],
      },
    ]);
    expect(whys({ live }, false, files, [noted, newer])).toEqual([]);
    expect(whys({ live: withVersions([old]) })).toEqual([]);
    expect(whys({ live: withVersions([old]), differences: [added] })).toEqual([
      `${old} was applied, and no file here has it: this checkout may be older than the database`,
    ]);
    expect(whys({ live: withVersions([old]), differences: [added] }, false, files, [old])).toEqual([]);
  });

  test("versions without a file, beside a pending file that writes rows: it may have been one of them", () => {
    const seed = parseMigration(
      "20260101090200_seed.sql",
      "-- migrate:up\ninsert into t values (1);\n-- migrate:down\n",
    );
    const unseen = [{ file: seed.file, statements: ["INSERT t"], isAll: true }];
    const all = [...files, seed];
    const [one, other] = ["1735689600", "1735689601"] as const;
    const changes = (versions: string[]) => {
      const live = withVersions(versions);
      return { live, history: readHistory(all, live.history), pending: [seed], unseen };
    };
    expect(obstacles(changes([one]), false, all)).toEqual([
      {
        why: `${one} was applied, and has no file here; whether it was ${seed.file}, which writes rows, nobody can see`,
        details: `${seed.file}  INSERT t`,
        next: [
          `the same command with --match ${one}=20260101090200      # if it was ${seed.file}`,
          `the same command with --match ${one}=none      # if it was not`,
        ],
      },
    ]);
    expect(obstacles(changes([one, other]), false, all)).toEqual([
      {
        why: `${one}, ${other} were applied, and have no file here; whether one of them was ${seed.file}, which writes rows, nobody can see`,
        details: `${seed.file}  INSERT t`,
        next: [
          `the same command with --match VERSION=20260101090200      # the one of them that was ${seed.file}`,
          `the same command with --match ${one}=none --match ${other}=none      # if none of them was`,
        ],
      },
    ]);
    expect(whys(changes([one]), false, all, [one])).toEqual([]);
    expect(whys({ ...changes([one]), unseen: [] }, false, all)).toEqual([]);
    // One that comes too late is to be said by the version that it has.
    const from = parseMigration("20251231000000_seed.sql", seed.text);
    expect(obstacles(changes([one]), false, all, [], [{ from, to: seed }])[0]!.next[0]).toBe(
      `the same command with --match ${one}=20251231000000      # if it was ${from.file}`,
    );
    // What to do about such a version is said once.
    const nexts = obstacles({ ...changes([one]), differences: [added] }, false, all).flatMap(({ next }) => next);
    expect(nexts).toEqual([
      `git fetch && git log --all --oneline -- 'migrations/${one}*'      # then: git pull, or git merge what has it`,
      `the same command with --match ${one}=none      # only if nobody has that file any more`,
      `the same command with --match ${one}=20260101090200      # if it was ${seed.file}`,
    ]);
  });

  test("versions of any text, to be typed", () => {
    expect(obstacles({ live: withVersions(["it's; gone"]) })[0]!.next).toEqual([
      `git fetch && git log --all --oneline -- 'migrations/it'\\''s; gone*'      # then: git pull, or git merge what has it`,
      `the same command with --match 'it'\\''s; gone=none'      # only if nobody has that file any more`,
    ]);
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

test.each<[string, string[], string[], string[]]>([
  ["nothing to be applied", ["20260101090000"], [], ["20261121140000", "20261121140001"]],
  ["in front of what is to be applied", ["20260101090000"], ["20260301000000"], ["20260101090001", "20260101090002"]],
  ["seconds apart", ["20260101090000"], ["20260101090002"], ["20260101090001", "202601010900011"]],
  ["one behind the other", ["20260101090000"], ["20260101090001"], ["202601010900001", "202601010900002"]],
  ["numbered", ["001", "002"], ["003", "004"], ["0021", "0022"]],
  ["nothing applied", [], ["20260101090000"], ["00000000000001", "00000000000002"]],
])("versionsInFrontOf(): %s", (_, applied, pending, expected) => {
  const fileOf = (version: string) => parseMigration(`${version}_a.sql`, "-- migrate:up\n-- migrate:down\n");
  const versions = newVersions([...applied, ...pending], new Date("2026-11-21T14:00:00Z"));
  const next = versionsInFrontOf({ applied: applied.map(fileOf), present: [], pending: pending.map(fileOf) }, versions);
  expect([next(), next()]).toEqual(expected);
});

describe("faults that Postgres names itself", () => {
  const constraint = (name: string, table = "orders", object?: NotValidConstraint["object"]): NotValidConstraint => ({
    ...{ name: `public.${table}.${name}`, path: ["public", table, name], table: `public.${table}`, constraint: name },
    definition: "CHECK ((total >= 0)) NOT VALID",
    object: object ?? { kind: "constraint", name: `public.${table}.${name}` },
  });
  const forgotten: Difference = {
    ...{ what: "changed", kind: "constraint", name: "public.orders.forgotten" },
    ...{ expected: "CHECK ((total >= 0))", actual: "CHECK ((total >= 0)) NOT VALID" },
  };
  const ofColumn = constraint("orders_total_not_null", "orders", { kind: "column", name: "public.orders.total" });
  const ofDomain = (name: string) => constraint(name, "money", { kind: "domain", name: "public.money" });
  const changed = (kind: string, name: string, expected: string, actual: string): Difference => ({
    ...{ what: "changed", kind, name, expected, actual },
  });
  const [small, large] = ["constraint large CHECK ((VALUE < 9))", "constraint small CHECK ((VALUE > 0))"];
  const domain = (actual: string, expected = `numeric ${small} ${large}`) =>
    changed("domain", "public.money", expected, actual);
  const column = (actual: string) => changed("column", "public.orders.total", "numeric not null default 0", actual);

  test.each<[string, Difference, NotValidConstraint[], string[]]>([
    ["a NOT NULL", column("numeric not null not valid default 0"), [ofColumn], ["orders_total_not_null"]],
    ["a NOT NULL of another default", column("numeric not null not valid default 1"), [ofColumn], []],
    [
      "a foreign key whose trigger is off",
      changed("constraint", "public.orders.fk", "FOREIGN KEY (a) disabled", "FOREIGN KEY (a) NOT VALID disabled"),
      [constraint("fk")],
      ["fk"],
    ],
    ["the first of a domain", domain(`numeric ${small} NOT VALID ${large}`), [ofDomain("large")], ["large"]],
    ["the last of a domain", domain(`numeric ${small} ${large} NOT VALID`), [ofDomain("small")], ["small"]],
    [
      "both of a domain",
      domain(`numeric ${small} NOT VALID ${large} NOT VALID`),
      ["large", "small"].map(ofDomain),
      ["large", "small"],
    ],
    [
      "of two of a domain that which the files make valid",
      domain(`numeric ${small} NOT VALID ${large} NOT VALID`, `numeric ${small} NOT VALID ${large}`),
      ["large", "small"].map(ofDomain),
      ["small"],
    ],
    ["a domain with another default", domain(`numeric default 1 ${small} ${large} NOT VALID`), [ofDomain("small")], []],
  ])("is validated: %s", (_, difference, notValid, expected) => {
    const live = liveOf({ notValid });
    const differences = [difference];
    expect(unvalidated({ live, differences }).map((one) => one.constraint)).toEqual(expected);
    expect(besidesFaults(differences, live)).toEqual(expected.length > 0 ? [] : differences);
  });

  test("in statements", () => {
    const { together } = planOf({ unvalidated: [ofColumn, ofDomain("small")] });
    expect(together.flatMap(({ statements }) => statements)).toEqual([
      "alter table public.orders validate constraint orders_total_not_null",
      "alter domain public.money validate constraint small",
    ]);
  });

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
