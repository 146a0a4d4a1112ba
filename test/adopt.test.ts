// How a history of another tool is recognised, and what becomes of it: without a database. test/live/adopt.test.ts has the databases, and
// test/live/adopt-tools.test.ts the tools.
import { beforeAll, describe, expect, test } from "bun:test";
import { readFile } from "node:fs/promises";
import { baselineText } from "../scripts/lib/adopt-baseline-text.ts";
import { convert } from "../scripts/lib/adopt-convert.ts";
import { detect, recognise, type Table } from "../scripts/lib/adopt-detect.ts";
import { leftOut, othersAmong } from "../scripts/lib/adopt-histories.ts";
import { countsAsMark, match } from "../scripts/lib/adopt-match.ts";
import { chooseWay, type Observed, planAdoption } from "../scripts/lib/adopt-plan.ts";
import { formatPlan } from "../scripts/lib/adopt-plan-text.ts";
import { choicesOf } from "../scripts/lib/adopt-prove.ts";
import { type Shape, shapes } from "../scripts/lib/adopt-shapes.ts";
import { type FolderFile, facts, type Row } from "../scripts/lib/adopt-tools.ts";
import { nextVersion, slugOf, versionOf, versionsInOrder } from "../scripts/lib/adopt-version.ts";
import { parseConfig } from "../scripts/lib/config.ts";
import { asFailure, formatFailure } from "../scripts/lib/failure.ts";
import { parseMigration, whyUnreadable } from "../scripts/lib/migration-file.ts";
import { trackers } from "../scripts/validator.ts";

/** "id integer, name text" */
function table(name: string, columns: string): Table {
  const pairs = columns.split(", ").map((column) => /^(\S+) (.*)$/.exec(column)!.slice(1) as [string, string]);
  const [schema, own] = name.includes(".") ? name.split(".") : ["public", name];
  return { schema: schema!, name: own!, columns: Object.fromEntries(pairs) };
}

const varchar = "character varying";
const timestamp = "timestamp without time zone";
const timestamptz = "timestamp with time zone";

/** As the tools make them, without their lengths. */
const samples: Record<string, Table[]> = {
  alembic: [table("alembic_version", `version_num ${varchar}`)],
  dbmate: [table("schema_migrations", `version ${varchar}`)],
  django: [table("django_migrations", `id bigint, app ${varchar}, name ${varchar}, applied ${timestamptz}`)],
  drizzle: [table("drizzle.__drizzle_migrations", "id integer, hash text, created_at bigint")],
  "drizzle 1.0": [
    table(
      "drizzle.__drizzle_migrations",
      `id integer, hash text, created_at bigint, name text, applied_at ${timestamptz}`,
    ),
  ],
  ecto: [table("schema_migrations", `version bigint, inserted_at ${timestamp}`)],
  flyway: [
    table(
      "flyway_schema_history",
      `installed_rank integer, version ${varchar}, description ${varchar}, type ${varchar}, script ${varchar}, checksum integer, installed_by ${varchar}, installed_on ${timestamp}, execution_time integer, success boolean`,
    ),
  ],
  "golang-migrate": [table("schema_migrations", "version bigint, dirty boolean")],
  knex: [
    table("knex_migrations", `id integer, name ${varchar}, batch integer, migration_time ${timestamptz}`),
    table("knex_migrations_lock", "index integer, is_locked integer"),
  ],
  "node-pg-migrate": [table("pgmigrations", `id integer, name ${varchar}, run_on ${timestamp}`)],
  prisma: [
    table(
      "_prisma_migrations",
      `id ${varchar}, checksum ${varchar}, finished_at ${timestamptz}, migration_name ${varchar}, logs text, rolled_back_at ${timestamptz}, started_at ${timestamptz}, applied_steps_count integer`,
    ),
  ],
  rails: [
    table("ar_internal_metadata", `key ${varchar}, value ${varchar}, created_at ${timestamp}, updated_at ${timestamp}`),
    table("schema_migrations", `version ${varchar}`),
  ],
  sequelize: [table("SequelizeMeta", `name ${varchar}`)],
  supabase: [table("supabase_migrations.schema_migrations", "version text, statements text[], name text")],
  typeorm: [table("migrations", `id integer, timestamp bigint, name ${varchar}`)],
};

/** An app's own, some of which look a little like a history. */
const others = [
  table("accounts", `id bigint, email text, created_at ${timestamptz}`),
  table("tags", `name ${varchar}`),
  table("events", "id integer, timestamp bigint, name text"),
  table("releases", `version bigint, inserted_at ${timestamp}`),
  table("files", "id integer, hash text, created_at bigint"),
];

const message = (work: () => unknown) => {
  try {
    work();
  } catch (error) {
    return formatFailure(asFailure(error));
  }
  throw new Error("nothing was thrown");
};

const nothingAsked = { tool: undefined, table: undefined, adopted: [], at: " --on production" };

describe("whose history it is", () => {
  test.each(Object.entries(samples))("%s, among the tables of an app", (name, tables) => {
    const [tool] = name.split(" ");
    const found = recognise([...others, ...tables]).map((one) => one.tool as string);
    expect(found).toEqual([tool!]);
    if (tool !== "dbmate") expect(detect([...others, ...tables], nothingAsked).tool as string).toBe(tool!);
  });

  test("a table that nobody's shape fits, and that is called so, was written by hand", () => {
    const own = table("db_migrations", `filename text, applied_at ${timestamptz}, checksum text`);
    expect(detect([...others, own], nothingAsked)).toEqual({ tool: "hand-written", table: own });
    const integer = table("schema_migrations", "version integer, description text");
    expect(detect([...others, integer], nothingAsked).tool).toBe("hand-written");
  });

  test("two tools, and the flag that decides", () => {
    const tables = [...samples.knex!, ...samples.prisma!];
    expect(message(() => detect(tables, nothingAsked))).toBe(
      [
        "Cannot adopt: 2 tables could be the history of another tool",
        "  | knex: public.knex_migrations",
        "  | prisma: public._prisma_migrations",
        "  next: --tool knex",
        "  next: --tool prisma",
        "  read: docs/adopt.md",
      ].join("\n"),
    );
    expect(detect(tables, { ...nothingAsked, tool: "prisma" }).tool).toBe("prisma");
  });

  test("two tables of one tool, and the flag that decides", () => {
    const tables = ["a.pgmigrations", "b.pgmigrations"].map((name) =>
      table(name, `id integer, name text, run_on ${timestamp}`),
    );
    expect(message(() => detect(tables, nothingAsked))).toContain(
      "  next: --table a.pgmigrations\n  next: --table b.pgmigrations",
    );
    expect(detect(tables, { ...nothingAsked, table: "b.pgmigrations" }).table.schema).toBe("b");
  });

  test("a table of another name, when the tool is named", () => {
    const renamed = table("done", `name ${varchar}`);
    expect(
      detect([table("tags", `name ${varchar}`), renamed], { ...nothingAsked, tool: "sequelize", table: "done" }),
    ).toEqual({
      tool: "sequelize",
      table: renamed,
    });
  });

  test("none, dbmate's own, and a tool that nobody knows", () => {
    expect(message(() => detect(others, nothingAsked))).toBe(
      [
        "There is nothing to adopt: among 5 tables there is not the history of another tool",
        "  next: --tool NAME --table TABLE      # which table it is",
        "  read: docs/adopt.md",
      ].join("\n"),
    );
    expect(message(() => detect(samples.dbmate!, nothingAsked))).toBe(
      [
        "There is nothing to adopt: the only history of migrations is dbmate's own, schema_migrations",
        "  next: bun scripts/drift.ts check --on production",
        "  next: the same command with --tool hand-written      # if something else has filled it",
        "  read: docs/adopt.md",
      ].join("\n"),
    );
    expect(message(() => detect([], { ...nothingAsked, tool: "knx" }))).toStartWith(
      'Cannot adopt: "knx" is no tool that this knows\n',
    );
  });

  test("beside one that was put aside, schema_migrations is dbmate's, also where Rails was", () => {
    const aside = table("schema_migrations_before_dbmate", `version ${varchar}`);
    const found = recognise([...samples.rails!, aside]).map((one) => [one.tool as string, one.table.name]);
    expect(found).toEqual([
      ["dbmate", "schema_migrations"],
      ["rails", "schema_migrations_before_dbmate"],
    ]);
  });

  test("a history that is adopted already is none to adopt, and stays out of comparisons", () => {
    const adopted = ["public.knex_migrations"];
    expect(message(() => detect(samples.knex!, { ...nothingAsked, adopted }))).toStartWith("There is nothing to adopt");
    expect(leftOut([{ history: adopted[0]!, tool: "knex" }])).toEqual([
      "public.knex_migrations",
      "public.knex_migrations_lock",
    ]);
    const rails = { history: "app.schema_migrations_before_dbmate", tool: "rails" };
    expect(leftOut([rails, { history: "public.done", tool: "hand-written" }])).toEqual([
      "app.ar_internal_metadata",
      "app.schema_migrations_before_dbmate",
      "public.done",
    ]);
  });

  test.each(Object.entries(samples))("%s, left by a tool that was there before: by its usual name", (name, tables) => {
    const found = othersAmong([...others, ...tables], []).map(({ tool }) => tool);
    expect(found).toEqual(name === "dbmate" ? [] : [name.split(" ")[0]!]);
  });

  test("a table of an app that only has the columns of a history, or of what lies beside one", () => {
    const own = [
      table("reports", `id bigint, name text, run_on ${timestamptz}`),
      table("order_metadata", `key text, value text, created_at ${timestamptz}, updated_at ${timestamptz}`),
      table("door_lock", "index integer, is_locked integer"),
    ];
    expect(othersAmong([...others, ...own, ...samples.knex!], ["public.knex_migrations"])).toEqual([]);
  });
});

describe("versions", () => {
  test.each([
    ["20260131120000", "20260131120000"],
    ["20260131120000123", "20260131120000"],
    ["1769860800000", "20260131120000"],
    ["1769860800", "20260131120000"],
    ["202601311200", "20260131120000"],
    ["20260131", "20260131000000"],
    ["0", "20000101000000"],
    ["001", "20000101000100"],
    ["40", "20000101004000"],
    ["123456789", "20950124052000"],
  ])("%s is %s", (digits, version) => {
    expect(versionOf(digits)).toBe(version);
  });

  test("one after the other, also of the same number, and where the digits are no time", () => {
    expect(versionsInOrder(["1", "40", "40", "41"], [1, 1, 3, 1])).toEqual([
      ["20000101000100"],
      ["20000101004000"],
      ["20000101004001", "20000101004002", "20000101004003"],
      ["20000101004100"],
    ]);
    expect(nextVersion("20261231235959")).toBe("20270101000000");
    expect(nextVersion("20269999999999")).toBe("20270000000000");
    expect(slugOf("Create users & roles")).toBe("create_users_roles");
    expect(slugOf("  ")).toBe("migration");
  });
});

describe("plain SQL becomes a dbmate file", () => {
  const history = { schema: "public", name: "schema_migrations" };
  const parts = (text: string) => convert("db/1.sql", text, history);

  test("as it is", async () => {
    expect(await parts("create table a (id int); -- ü\ninsert into a values (1);")).toEqual([
      { sql: "create table a (id int); -- ü\ninsert into a values (1);", transaction: true },
    ]);
  });

  test("nothing, and a remark", async () => {
    expect(await parts("")).toEqual([{ sql: "", transaction: true }]);
    expect(await parts("-- This is an empty migration.")).toEqual([
      { sql: "-- This is an empty migration.", transaction: true },
    ]);
  });

  test("without the transaction around it, which dbmate makes", async () => {
    expect(await parts("-- first ü\nBEGIN;\ncreate table a (id int);\nCOMMIT;\n")).toEqual([
      { sql: "-- first ü\n\ncreate table a (id int);\n\n", transaction: true },
    ]);
  });

  test("with transactions of its own within it: each becomes a file", async () => {
    const text =
      "-- a\nbegin; create table a (id int); commit; create table o (id int); begin; create table b (id int); savepoint s;commit;-- end";
    expect(await parts(text)).toEqual([
      { sql: "-- a\n create table a (id int); ", transaction: true },
      { sql: " create table o (id int);", transaction: true },
      { sql: "  create table b (id int); savepoint s;", transaction: true },
    ]);
    expect(await parts("begin; create table a (id int); commit; create index concurrently i on a (id);")).toEqual([
      { sql: " create table a (id int); ", transaction: true },
      { sql: " create index concurrently i on a (id);", transaction: false },
    ]);
  });

  test("with something that takes back: nobody knows what is left", async () => {
    const failure = await parts("begin;\ncreate table a (id int);\nrollback;").catch(asFailure);
    expect(formatFailure(asFailure(failure))).toBe(
      [
        "Cannot take over db/1.sql:3: rollback: nobody knows what it takes back",
        "  next: the same command with --baseline      # which needs no files",
        "  read: docs/adopt.md",
      ].join("\n"),
    );
  });

  test("without what records itself", async () => {
    const text = `begin;
create table if not exists schema_migrations (version int primary key);
create table a (id int);
INSERT INTO public.schema_migrations (version, name) VALUES (40, 'it''s; done') ON CONFLICT DO NOTHING;
commit;`;
    expect(await parts(text)).toEqual([
      {
        sql: "\n/* it recorded itself in schema_migrations here */\ncreate table a (id int);\n/* it recorded itself in schema_migrations here */\n",
        transaction: true,
      },
    ]);
    expect(await parts("insert into other.schema_migrations values (1)")).toEqual([
      { sql: "insert into other.schema_migrations values (1)", transaction: true },
    ]);
  });

  test("what must run alone gets a file of its own, with the comment in front of it", async () => {
    const text =
      "create table a (id int);\n-- quick\ncreate index concurrently i on a (id);\nvacuum a;\nalter table a add b int;\n-- end\n";
    expect(await parts(text)).toEqual([
      { sql: "create table a (id int);", transaction: true },
      { sql: "\n-- quick\ncreate index concurrently i on a (id);", transaction: false },
      { sql: "\nvacuum a;", transaction: false },
      { sql: "\nalter table a add b int;\n-- end\n", transaction: true },
    ]);
  });

  test("what only psql understands is refused by file and line", async () => {
    const failure = await parts("create table a (id int);\n\\i other.sql\n").catch(asFailure);
    expect(formatFailure(asFailure(failure))).toBe(
      [
        'Cannot take over db/1.sql:2: syntax error at or near "\\"; only plain SQL can be',
        "  next: the same command with --baseline      # which needs no files",
        "  read: docs/adopt.md",
      ].join("\n"),
    );
  });
});

const file = (path: string, text = "select 1;", sha256 = ""): FolderFile => ({ path, text, sha256 });

type Reading = { tool: keyof typeof facts; rows: Row[]; files: FolderFile[]; keyColumn?: string };

function read({ tool, rows, files, keyColumn }: Reading) {
  const found = match(facts[tool], facts[tool].entries(rows, keyColumn), facts[tool].sources(files));
  const paths = (sources: Iterable<{ path: string }>) => [...sources].map(({ path }) => path);
  return {
    order: paths(found.sources),
    pending: paths(found.sources.filter((one) => !found.applied.has(one))),
    unknown: found.unknown.map(({ key }) => key),
    undecided: found.undecided.map(({ key, sources }) => `${key}: ${paths(sources)}`),
    edited: paths(found.edited),
  };
}

const nothing = { pending: [], unknown: [], undecided: [], edited: [] };

describe("which files are applied", () => {
  test("golang-migrate: everything up to the one number, also with gaps", () => {
    const files = ["000001_a.up.sql", "000001_a.down.sql", "000007_b.up.sql", "000010_c.up.sql"].map((path) =>
      file(path),
    );
    expect(read({ tool: "golang-migrate", rows: [{ version: 7, dirty: false }], files })).toEqual({
      ...nothing,
      order: ["000001_a.up.sql", "000007_b.up.sql", "000010_c.up.sql"],
      pending: ["000010_c.up.sql"],
    });
    expect(read({ tool: "golang-migrate", rows: [{ version: 9, dirty: false }], files }).unknown).toEqual(["9"]);
  });

  test("flyway: by version and not as text, underscores as dots, repeatable ones last, undone ones not", () => {
    const row = (version: string | null, script: string, type = "SQL") => ({
      version,
      script,
      type,
      description: "view of all",
      success: true,
    });
    const names = ["V1__a.sql", "V1_2__b.sql", "V1.10__c.sql", "V2__d.sql", "R__view_of_all.sql", "afterMigrate.sql"];
    const rows = [
      row("0", "<< Flyway Schema Creation >>", "SCHEMA"),
      row("1", "V1__a.sql"),
      row("1.2", "V1_2__b.sql"),
      row("1.10", "V1.10__c.sql"),
    ];
    const again = [
      row("2", "V2__d.sql"),
      row("2", "U2__d.sql", "UNDO_SQL"),
      row(null, "R__view_of_all.sql"),
      row(null, "R__view_of_all.sql"),
    ];
    expect(
      read({ tool: "flyway", rows: [...rows, ...again], files: names.map((path) => file(`billing/${path}`)) }),
    ).toEqual({
      ...nothing,
      order: ["V1__a.sql", "V1_2__b.sql", "V1.10__c.sql", "V2__d.sql", "R__view_of_all.sql"].map(
        (name) => `billing/${name}`,
      ),
      pending: ["billing/V2__d.sql"],
    });
  });

  test("prisma: finished and not rolled back, by folder; an edited file is told by its sum", () => {
    const row = (migration_name: string, changes: object = {}) => ({
      migration_name,
      checksum: "s1",
      finished_at: "2026",
      rolled_back_at: null,
      ...changes,
    });
    const files = ["20260101000000_a", "20260102000000_b", "20260103000000_c"].map((name) =>
      file(`${name}/migration.sql`, "", "s1"),
    );
    const rows = [
      row("20260101000000_a"),
      row("20260102000000_b", { checksum: "s2" }),
      row("20260103000000_c", { rolled_back_at: "2026" }),
    ];
    expect(read({ tool: "prisma", rows, files: [...files, file("migration_lock.toml")] })).toEqual({
      ...nothing,
      order: files.map(({ path }) => path),
      pending: ["20260103000000_c/migration.sql"],
      edited: ["20260102000000_b/migration.sql"],
    });
  });

  test("drizzle: by the sum of the file, then by its time", () => {
    const journal = JSON.stringify({
      entries: [
        { when: 1769860800000, tag: "0000_a" },
        { when: 1769860900000, tag: "0001_b" },
        { when: 1769860950000, tag: "0002_c" },
      ],
    });
    const files = [
      file("0000_a.sql", "", "s1"),
      file("0001_b.sql", "", "changed"),
      file("0002_c.sql", "", "s3"),
      file("meta/_journal.json", journal),
    ];
    const rows = [
      { hash: "s1", created_at: 1 },
      { hash: "s2", created_at: 1769860900000 },
    ];
    expect(read({ tool: "drizzle", rows, files })).toEqual({
      ...nothing,
      order: ["0000_a.sql", "0001_b.sql", "0002_c.sql"],
      pending: ["0002_c.sql"],
      edited: ["0001_b.sql"],
    });
    const folders = [
      file("20260131120000_a/migration.sql", "", "s1"),
      file("20260131120140_b/migration.sql", "", "s2"),
    ];
    expect(read({ tool: "drizzle", rows: [rows[0]!], files: folders }).pending).toEqual([
      "20260131120140_b/migration.sql",
    ]);
  });

  test("supabase: a file that is gone is made from the history", () => {
    const rows = [
      { version: "20260101000000", name: "a", statements: ["create table a ()"] },
      { version: "20260102000000", name: "b", statements: ["create table b ()", "create table c ()"] },
    ];
    const tool = facts.supabase;
    const found = match(tool, tool.entries(rows), tool.sources([file("20260101000000_a.sql")]));
    expect(found.sources.map(({ path, sql }) => [path, sql!.up])).toEqual([
      ["20260101000000_a.sql", "select 1;"],
      ["the history itself, 20260102000000_b", "create table b ();\n\ncreate table c ();\n"],
    ]);
  });

  test("hand-written: two files numbered 040, and a table that knows numbers, or names", () => {
    const files = ["001_a.sql", "040_b.sql", "040_c.sql", "041_d.sql", "001_a.down.sql", "README.sql"].map((path) =>
      file(path),
    );
    const order = ["001_a.sql", "040_b.sql", "040_c.sql", "041_d.sql"];
    const numbers = [{ version: 1 }, { version: 40 }];
    expect(read({ tool: "hand-written", rows: numbers, files })).toEqual({
      ...nothing,
      order,
      pending: ["040_b.sql", "040_c.sql", "041_d.sql"],
      undecided: ["40: 040_b.sql,040_c.sql"],
    });
    expect(read({ tool: "hand-written", rows: [{ version: "0001" }], files }).pending).toEqual(order.slice(1));
    const names = [{ filename: "db/001_a.sql" }, { filename: "040_c" }, { filename: "005_gone.sql" }];
    expect(read({ tool: "hand-written", rows: names, files, keyColumn: "filename" })).toEqual({
      ...nothing,
      order,
      pending: ["040_b.sql", "041_d.sql"],
      unknown: ["005_gone.sql"],
    });
  });

  test("code: by the name without its ending, since it may have been compiled", () => {
    const files = [file("20260101000000_a.ts"), file("20260102000000_b.ts")];
    expect(read({ tool: "knex", rows: [{ name: "20260101000000_a.js" }], files })).toEqual({
      ...nothing,
      order: files.map(({ path }) => path),
      pending: ["20260102000000_b.ts"],
    });
    expect(
      read({
        tool: "typeorm",
        rows: [{ timestamp: 1769860800000, name: "A1769860800000" }],
        files: [file("1769860800000-A.ts")],
      }),
    ).toEqual({
      ...nothing,
      order: ["1769860800000-A.ts"],
    });
  });

  test("alembic: only the newest revision is known, and must be the newest of the files", () => {
    const files = [
      file("a1_first.py", 'revision: str = "a1"\ndown_revision: Union[str, None] = None\n'),
      file("b2_second.py", "revision = 'b2'\ndown_revision = 'a1'\n"),
    ];
    expect(read({ tool: "alembic", rows: [{ version_num: "b2" }], files })).toEqual({
      ...nothing,
      order: ["b2_second.py"],
    });
    expect(read({ tool: "alembic", rows: [{ version_num: "a1" }], files })).toMatchObject({
      pending: ["b2_second.py"],
      unknown: ["a1"],
    });
  });

  test("node-pg-migrate: SQL files with both directions in one", () => {
    const [source] = facts["node-pg-migrate"].sources([
      file("1769860800000_a.sql", "-- Up Migration\ncreate table a ();\n-- Down Migration\ndrop table a;\n"),
    ]);
    expect(source!.sql).toEqual({
      up: "-- Up Migration\ncreate table a ();\n",
      down: "-- Down Migration\ndrop table a;\n",
    });
  });
});

test.each([
  ["golang-migrate", [{ version: 3, dirty: true }], ["version 3 is dirty: it failed half-way"]],
  ["flyway", [{ script: "V2__b.sql", success: false }], ["V2__b.sql has failed, and is not repaired"]],
  [
    "prisma",
    [{ migration_name: "20260101000000_a", finished_at: null, rolled_back_at: null }],
    ["20260101000000_a has begun and not ended: it failed, or is running"],
  ],
  ["hand-written", [{ version: 1, success: false }], ['a row says success = false: {"version":1,"success":false}']],
  ["golang-migrate", [{ version: 3, dirty: false }], []],
  ...(
    [
      ["status", "failed"],
      ["Status", "pending"],
      ["state", null],
      ["success", 0],
      ["ok", "false"],
      ["is_dirty", 1],
      ["applied_at", null],
      ["executedAt", null],
      ["rolled_back_at", "2026-01-01"],
      ["error", "relation does not exist"],
    ] as const
  ).map(
    ([name, value]) =>
      [
        "hand-written",
        [{ version: 1, [name]: value }],
        [`a row says ${name} = ${value}: ${JSON.stringify({ version: 1, [name]: value })}`],
      ] as const,
  ),
  ...(
    [
      { status: "applied", applied_at: "2026-01-01", rolled_back_at: null, error: null },
      { state: "SUCCESS", success: 1, failed: 0, error: "" },
      { name: "a", result: true, run_on: "2026-01-01", description: "failed" },
    ] as const
  ).map((row) => ["hand-written", [row], []] as const),
] as const)("what %s says of a migration that failed", (tool, rows, problems) => {
  expect(facts[tool].problems!(rows)).toEqual([...problems]);
});

const now = new Date("2026-11-21T12:00:00Z");

async function observed(reading: Reading, changes: Partial<Observed> = {}): Promise<Observed> {
  const tool = facts[reading.tool];
  const entries = tool.entries(reading.rows, reading.keyColumn);
  const found = match(tool, entries, tool.sources(reading.files));
  const own = table("app_migrations", "version integer");
  const parts = new Map();
  for (const source of found.sources) if (source.sql) parts.set(source, await convert(source.path, source.sql.up, own));
  return {
    ...{ history: { tool: reading.tool, table: own }, entries, match: found, folder: "db", parts, existing: [] },
    ...{ tracked: { applied: [], recorded: {} }, nameIsTaken: false, histories: [], notCompared: [], isMark: false },
    ...changes,
  };
}

const plan = (seen: Observed, baseline?: string) =>
  planAdoption(seen, chooseWay(seen, baseline !== undefined), baseline, now);

const numbered = {
  tool: "hand-written",
  rows: [{ version: 1 }, { version: 40 }],
  files: [
    file("001_init.sql", "begin;\ncreate table a (id int);\ninsert into app_migrations values (1);\ncommit;"),
    file("040_b.sql", "create index concurrently i on a (id); create index concurrently j on a (id)"),
    file("040_c.sql", "create table c ();"),
    file("041_d.sql", "create table d ();"),
    file("041_d.down.sql", "drop table d;"),
  ],
} satisfies Reading;

const guard = `-- Whoever deploys before the database is adopted is stopped here.
do $$ begin
  if to_regclass('"public"."app_migrations"') is not null then
    raise exception 'hand-written has migrated this database so far' using hint = 'bun scripts/drift.ts adopt, then again';
  end if;
end $$;

`;

describe("the plan", () => {
  test("says what lies in migrations/ already, and would be applied", async () => {
    const existing = [parseMigration("20260101000000_starter.sql", "-- migrate:up\nselect 1;\n-- migrate:down\n")];
    const { warnings } = plan(await observed(numbered, { existing }));
    expect(warnings).toEqual([
      "migrations/20260101000000_starter.sql is there already: the next migrate up or deploy applies it. If it came with the starter: git rm migrations/20260101000000_starter.sql",
    ]);
    const tracked = { applied: ["20260101000000"], recorded: {} };
    expect(plan(await observed(numbered, { existing, tracked })).warnings).toEqual([]);
  });

  test.each<[string[], string]>([
    [["public.pgmigrations"], "public.pgmigrations, which looks like the history of another tool and is in no file"],
    [["a.x", "b.y"], "a.x, b.y, which look like histories of another tool and are in no file"],
  ])("names what stays out: %j", async (notCompared, said) => {
    const lines = formatPlan(plan(await observed(numbered, { notCompared })), "shop").split("\n");
    expect(lines.at(-1)).toBe(`  not compared: ${said}`);
  });

  test("of SQL files: everything that will be written, and what the database has to decide", async () => {
    const planned = plan(await observed(numbered));
    expect(formatPlan(planned, "shop on this machine")).toBe(
      `hand-written has migrated shop on this machine: 2 migrations in public.app_migrations
  1. take its SQL files over
  2. prove it: apply the files to an empty database, and compare that one with this one
  3. write 5 files into migrations/
       20000101000100_init.sql   from db/001_init.sql
       20000101004000_b_1.sql   from db/040_b.sql
       20000101004001_b_2.sql   from db/040_b.sql
       20000101004002_c.sql   from db/040_c.sql
       20000101004100_d.sql   from db/041_d.sql
  4. write 1 version into schema_migrations, as applied
       of db/040_b.sql and db/040_c.sql, both 40: what the database proves
  5. leave pending: 20000101004100_d.sql
  6. leave public.app_migrations where it is; nothing reads it any more`,
    );
    expect(planned.files.map(({ migration }) => migration.text)).toEqual([
      `-- From db/001_init.sql\n-- dbops:allow down-empty it had no way back\n\n-- migrate:up\n${guard}create table a (id int);\n/* it recorded itself in app_migrations here */\n\n-- migrate:down\n`,
      "-- From db/040_b.sql\n-- dbops:allow down-empty the part behind it takes it back\n\n-- migrate:up transaction:false\ncreate index concurrently i on a (id);\n\n-- migrate:down\n",
      "-- From db/040_b.sql\n-- dbops:allow down-empty it had no way back\n\n-- migrate:up transaction:false\ncreate index concurrently j on a (id)\n\n-- migrate:down\n",
      "-- From db/040_c.sql\n-- dbops:allow down-empty it had no way back\n\n-- migrate:up\ncreate table c ();\n\n-- migrate:down\n",
      "-- From db/041_d.sql\n\n-- migrate:up\ncreate table d ();\n\n-- migrate:down\ndrop table d;\n",
    ]);
  });

  test("the same files are taken over once: what is there already is not written again", async () => {
    const first = plan(await observed(numbered));
    const existing = first.files.slice(0, 2).map(({ migration }) => migration);
    const second = plan(await observed(numbered, { existing }));
    expect(second.files.map(({ isNew }) => isNew)).toEqual([false, false, true, true, true]);
  });

  test("nothing is written over, and nothing stays pending that is older than what is applied", async () => {
    const other = parseMigration("20000101000100_init.sql", "-- migrate:up\nselect 1;\n-- migrate:down\n");
    const starter = parseMigration("20000101000000_starter.sql", "-- migrate:up\nselect 1;\n-- migrate:down\n");
    const refusal = async (existing: Observed["existing"]) => {
      const seen = await observed(numbered, { existing });
      return message(() => plan(seen));
    };
    expect(await refusal([other])).toBe(
      `Cannot adopt: 1 file is in the way
  | migrations/20000101000100_init.sql is there, with another content
  next: docs/adopt.md says what can be done
  read: docs/adopt.md`,
    );
    expect(await refusal([starter])).toBe(
      `Cannot adopt: 1 file is in the way
  | migrations/20000101000000_starter.sql is not applied, and older than 20000101000100
  next: delete those that came with the starter; give the others a newer version
  read: docs/adopt.md`,
    );
  });

  test("of golang-migrate, whose one row stands for all files up to it: as docs/adopt.md shows it", async () => {
    const names = ["people", "orders", "items", "prices", "taxes", "carts", "coupons", "notes"];
    const files = names.map((name, at) => file(`00000${at + 1}_${name}.up.sql`, `create table ${name} ();`));
    const own = table("schema_migrations", "version bigint, dirty boolean");
    const seen = await observed(
      { tool: "golang-migrate", rows: [{ version: 7, dirty: false }], files },
      { history: { tool: "golang-migrate", table: own }, folder: "db/migrations", nameIsTaken: true },
    );
    const lines = formatPlan(plan(seen), "shop on this machine").split("\n");
    lines.splice(5, 7, "       …");
    const page = await readFile(new URL("../docs/adopt.md", import.meta.url), "utf8");
    expect(lines.join("\n")).toBe(/```\n\$ bun scripts\/drift\.ts adopt --plan\n(.*?)\n```/s.exec(page)![1]!);
  });

  test("one row with a number says how far the database is", () => {
    const { sources } = facts["hand-written"];
    const found = sources(numbered.files);
    expect(countsAsMark([{ key: "40" }], found)).toBe(true);
    for (const keys of [["1"], ["1", "40"], ["040_b.sql"], []]) {
      expect(
        countsAsMark(
          keys.map((key) => ({ key })),
          found,
        ),
      ).toBe(false);
    }
    const { applied, undecided } = match({ counts: "mark" }, [{ key: "41" }], found);
    expect([...applied].map(({ path }) => path).sort()).toEqual([
      "001_init.sql",
      "040_b.sql",
      "040_c.sql",
      "041_d.sql",
    ]);
    expect(undecided).toEqual([]);
  });

  test("two files of one number, and a row that says the name as well", () => {
    const rows = [
      { version: 1, name: "init" },
      { version: 40, name: "040_c.sql" },
    ];
    const found = match(
      {},
      facts["hand-written"].entries(rows, "version"),
      facts["hand-written"].sources(numbered.files),
    );
    expect([[...found.applied].map(({ path }) => path), found.undecided]).toEqual([["001_init.sql", "040_c.sql"], []]);
  });

  test("a file in the middle that was never applied is refused", async () => {
    const seen = await observed({ ...numbered, rows: [{ version: 1 }, { version: 41 }] });
    expect(message(() => plan(seen))).toBe(
      `Cannot adopt: 2 of its migrations are not applied
  | db/040_b.sql: not applied, though newer ones are
  | db/040_c.sql: not applied, though newer ones are
  next: apply them with your own runner, or take the files out of the folder; then the same command again
  next: the same command with --baseline      # if they are applied all the same, whatever the history says
  read: docs/adopt.md`,
    );
  });

  const knex = {
    tool: "knex",
    rows: [{ name: "20260131120000_a.js" }],
    files: [file("20260131120000_a.js", "")],
  } satisfies Reading;
  let dump: string;
  beforeAll(async () => {
    dump = await baselineText("create table a ();\n", "knex");
  });

  test("of code: a baseline with the version of the newest", async () => {
    const seen = await observed(knex, { nameIsTaken: true });
    expect(formatPlan(plan(seen, dump), "shop on this machine").replace("it was asked for", "…")).toBe(
      `knex has migrated shop on this machine: 1 migration in public.app_migrations
  1. make a baseline of the database, because …
  2. prove it: apply the files to an empty database, and compare that one with this one
  3. write 1 file into migrations/
       20260131120000_baseline.sql   from pg_dump of the database that knex has made
  4. write 1 version into schema_migrations, as applied
  5. rename public.app_migrations to public.schema_migrations_before_dbmate: dbmate needs its name
  warning: rows that migrations had inserted are not in the baseline: a new database will be without them`,
    );
  });

  test("for the next environment the baseline that is there is taken", async () => {
    const existing = [parseMigration("20260131120000_baseline.sql", dump)];
    const planned = planAdoption(await observed(knex, { existing }), { way: "baseline", why: "" }, undefined, now);
    expect(planned.files).toMatchObject([
      { isNew: false, applied: true, migration: { file: "20260131120000_baseline.sql" } },
    ]);
  });

  test("code that is not applied yet cannot be taken over", async () => {
    const files = [...knex.files, file("20260201120000_b.js", "")];
    const seen = await observed({ ...knex, files });
    expect(message(() => plan(seen, dump))).toBe(
      `Cannot adopt: 1 of its migrations is not applied
  | db/20260201120000_b.js: not applied, and it is no SQL
  next: apply them with npx knex migrate:latest, or take the files out of the folder; then the same command again
  read: docs/adopt.md`,
    );
  });

  test("without any time in the history the baseline is of today", async () => {
    const seen = await observed({ tool: "alembic", rows: [{ version_num: "a1" }], files: [] });
    expect(plan(seen, dump).files[0]!.migration.file).toBe("20261121000000_baseline.sql");
  });

  test("SQL files after the baseline are taken over, and stay pending", async () => {
    const planned = plan(
      await observed({ ...numbered, rows: [{ version: 1 }], files: [numbered.files[0]!, ...numbered.files.slice(3)] }),
      dump,
    );
    expect(planned.files.map(({ migration, applied }) => [migration.file, applied])).toEqual([
      ["20000101000100_baseline.sql", true],
      ["20000101004100_d.sql", false],
    ]);
  });

  test.each([
    ["SQL", numbered, { way: "import" }],
    ["code", knex, { way: "baseline", why: "its files are not plain SQL: 20260131120000_a.js" }],
    [
      "no files",
      { ...knex, files: [] },
      { way: "baseline", why: "it knows migrations that have no file in db: 20260131120000_a" },
    ],
    [
      "a migration whose file is gone",
      { ...numbered, rows: [...numbered.rows, { version: 7 }] },
      { way: "baseline", why: "it knows migrations that have no file in db: 7" },
    ],
  ] as [string, Reading, ReturnType<typeof chooseWay>][])("the way with %s", async (_name, reading, way) => {
    expect(chooseWay(await observed(reading), false)).toEqual(way);
  });

  test("where there is a baseline already, as for the next environment", async () => {
    const existing = [parseMigration("20260131120000_baseline.sql", await baselineText("", "hand-written"))];
    expect(chooseWay(await observed(numbered, { existing }), false)).toEqual({
      way: "baseline",
      why: "migrations/20260131120000_baseline.sql is one",
    });
  });

  test("where no folder was found", async () => {
    const seen = await observed({ ...knex, files: [] }, { folder: undefined });
    expect(chooseWay(seen, false)).toEqual({ way: "baseline", why: "none of its files were found (--files FOLDER)" });
  });
});

describe("which of several files with one number", () => {
  const undecided = [
    {
      key: "40",
      sources: [
        { from: "db/040_b.sql", files: ["b1", "b2"] },
        { from: "db/040_c.sql", files: ["c"] },
      ],
    },
  ];
  const names = (choices: Set<string>[]) => choices.map((choice) => [...choice].join(" "));

  test("all are tried first, then each alone", () => {
    expect(names(choicesOf({ undecided }, []))).toEqual(["b1 b2 c", "b1 b2", "c"]);
    expect(names(choicesOf({ undecided: [] }, []))).toEqual([""]);
  });

  test("unless somebody knows", () => {
    expect(names(choicesOf({ undecided }, ["040_c.sql"]))).toEqual(["c"]);
    expect(names(choicesOf({ undecided }, ["db/040_b.sql", "040_c.sql"]))).toEqual(["b1 b2 c"]);
  });

  test("too many to try", () => {
    const many = ["40", "41", "42"].map((key) => ({ ...undecided[0]!, key }));
    expect(message(() => choicesOf({ undecided: many }, []))).toBe(
      `Cannot adopt: 3 numbers belong to several files each, and the history does not say which
  | 40: db/040_b.sql, db/040_c.sql
  | 41: db/040_b.sql, db/040_c.sql
  | 42: db/040_b.sql, db/040_c.sql
  next: the same command with those that are applied: --applied db/040_b.sql --applied db/040_c.sql --applied db/040_b.sql --applied db/040_c.sql --applied db/040_b.sql --applied db/040_c.sql
  read: docs/adopt.md`,
    );
  });
});

test("a dump becomes a migration: nothing of psql, and nothing that outlives it", async () => {
  const dump = `--
-- PostgreSQL database dump
--

\\restrict abc

-- Dumped from database version 18.4
-- Dumped by pg_dump version 18.4

SET statement_timeout = 0;
SET transaction_timeout = 0;
SELECT pg_catalog.set_config('search_path', '', false);
SET default_tablespace = '';

--
-- Name: a; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.a (
    id integer
);

CREATE USER MAPPING FOR app SERVER other OPTIONS (
    password 'se);
cret''x',
    "user" 'bob'
);
SELECT 1;

CREATE FUNCTION public.f() RETURNS void
    LANGUAGE plpgsql
    AS $$
begin


SET client_min_messages = warning;
-- PostgreSQL database dump
end $$;


--
-- PostgreSQL database dump complete
--

\\unrestrict abc

`;
  const text = await baselineText(dump, "knex");
  expect(text).toBe(`-- Baseline: what knex had made of the database.
-- Rows are not in it: what earlier migrations had inserted has to be inserted again in a new database.
-- dbops:allow down-empty what it makes is the whole database

-- migrate:up

-- Functions may name what comes after them.
set local check_function_bodies = false;

--
-- Name: a; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.a (
    id integer
);

-- Left out, with its password: a user mapping for the server other
SELECT 1;

CREATE FUNCTION public.f() RETURNS void
    LANGUAGE plpgsql
    AS $$
begin


SET client_min_messages = warning;
-- PostgreSQL database dump
end $$;

-- migrate:down
`);
  expect(whyUnreadable(parseMigration("1_baseline.sql", text))).toBeUndefined();
});

test("the validator has the same shapes, the same commands, and dbops.config.ts takes the same names", () => {
  const shared = (one: Shape) => ({ ...one, tool: undefined });
  expect(
    trackers.map(({ version: _, command, tracker, ...rest }) => {
      const {
        applied: _applied,
        unfinished: _unfinished,
        ...shape
      } = rest as unknown as Shape & { applied?: string; unfinished?: string };
      return { tracker, command, shape: shared({ ...shape, tool: tracker }) };
    }) as unknown[],
  ).toEqual(
    shapes.map((shape) => ({
      tracker: shape.tool,
      command: shape.tool === "dbmate" ? trackers.at(-1)!.command : facts[shape.tool].command,
      shape: shared(shape),
    })),
  );
  const settings = (tracker: string) =>
    parseConfig({
      ...{ name: "a", database: "a", app: { command: ["bun"], port: 1 }, environments: { local: {} } },
      schema: { criticalTables: [], extensions: [], tracker },
    });
  for (const { tracker } of trackers) expect(settings(tracker).schema.tracker).toBe(tracker);
  expect(settings("auto").schema.tracker).toBe("auto");
});
