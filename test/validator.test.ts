// The validator's decisions, words and shapes, without a server; test/live/validator.test.ts has the servers.
import { afterEach, describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { formatReport } from "../scripts/lib/validator-command.ts";
import {
  buildQuery,
  type Database,
  describeDatabase,
  describeFigures,
  describeReadiness,
  type Expectation,
  expectedVersions,
  formatProblem,
  healthRoutes,
  judge,
  type Observation,
  requireEnvironment,
  type Tracker,
  validate,
} from "../scripts/validator.ts";

const now = new Date("2026-11-20T12:00:00.000Z");
const versions = ["20260101", "20260102", "20260103"];
const healthy: Observation = {
  server: { version: "18.4", major: 18, role: "app", database: "app", inRecovery: false, readOnly: false },
  tracking: { exists: true, readable: true },
  applied: versions,
  tables: [{ exists: true, missingPrivileges: [] }],
  extensions: { plpgsql: "1.0", postgis: "3.10.1" },
  invalidIndexes: [],
  statistics: { sizeBytes: 8_123_456, connections: 3, connectionsMaximum: 100 },
};
const expectation: Expectation & { versions: string[] } = { versions, criticalTables: ["accounts"] };
const migrateNext = "next: bun scripts/migrate.ts up (without the kit: docker compose up migrations)";

type Row = { name: string; seen?: Partial<Observation>; wants?: Partial<Expectation>; problems: string[] };

const rows: Row[] = [
  { name: "a fitting database", problems: [] },
  {
    name: "a database that was never migrated",
    seen: { applied: [], tracking: { exists: false, readable: false } },
    problems: [
      `fail  migrations: Expected 3 migrations, none applied: this database was never migrated; ${migrateNext}`,
    ],
  },
  {
    name: "a database that is behind",
    seen: { applied: ["20260101", "20260102"] },
    problems: [`fail  migrations: Expected 3 migrations, only 2 applied; ${migrateNext}`],
  },
  {
    name: "a migration merged late, between applied ones",
    seen: { applied: ["20260101", "20260103"] },
    problems: [`fail  migrations: Expected 3 migrations, only 2 applied; ${migrateNext}`],
  },
  {
    name: "a database that is ahead",
    seen: { applied: [...versions, "20260104", "20260105"] },
    problems: [
      "warn  migrations: The database is ahead of this release by 2: 20260104, 20260105; next: nothing after a rollback; otherwise deploy the release that has them",
    ],
  },
  {
    name: "an app without migrations on a database that has some",
    wants: { versions: [] },
    seen: { applied: ["20260101"] },
    problems: [
      "warn  migrations: The database is ahead of this release by 1: 20260101; next: nothing after a rollback; otherwise deploy the release that has them",
    ],
  },
  {
    name: "an older version without a file",
    seen: { applied: ["20251231", ...versions] },
    problems: [
      "warn  migrations: Applied, but unknown to this release: 20251231; next: bring back the deleted or renamed files in migrations/",
    ],
  },
  {
    name: "another project's database",
    seen: { applied: ["1", "2"] },
    problems: [
      "fail  migrations: Expected 3 migrations, none applied, but 2 unknown: this may be another project's database; next: check PGDATABASE before you migrate",
    ],
  },
  {
    name: "a version recorded twice",
    seen: { applied: [...versions, "20260102"] },
    problems: [
      "warn  migrations: Recorded more than once: 20260102; schema_migrations has lost its primary key; next: delete the surplus rows, then: alter table schema_migrations add primary key (version);",
    ],
  },
  {
    name: "a tracking table that this role may not read",
    seen: { applied: [], tracking: { exists: true, readable: false } },
    wants: { migrationsTable: "ops.versions" },
    problems: [
      'fail  migrations: The table ops.versions cannot be read by this role, or has no column "version"; next: grant select on ops.versions, and usage on its schema, to the app\'s role',
    ],
  },
  {
    name: "a missing table",
    seen: { tables: [{ exists: false, missingPrivileges: [] }] },
    problems: ["fail  tables: Table accounts is missing; next: look for it in another schema, or restore it"],
  },
  {
    name: "a missing table in a database that is behind",
    seen: { applied: ["20260101"], tables: [{ exists: false, missingPrivileges: [] }] },
    problems: [
      `fail  migrations: Expected 3 migrations, only 1 applied; ${migrateNext}`,
      "fail  tables: Table accounts is missing; next: apply the pending migrations",
    ],
  },
  {
    name: "a role without rights",
    seen: { tables: [{ exists: true, missingPrivileges: ["usage", "select", "delete"] }] },
    problems: [
      "fail  tables: Table accounts is not usable by this role, it lacks: usage on its schema, select, delete; next: grant it to the app's role",
    ],
  },
  {
    name: "extensions, one missing and one too old by number, not by letter",
    wants: {
      extensions: ["pg-x", { name: "postgis", minimumVersion: "3.11" }, { name: "plpgsql", minimumVersion: "1" }],
    },
    problems: [
      'fail  extensions: Extension pg-x is missing; next: create extension "pg-x"; in a migration',
      "fail  extensions: Extension postgis is 3.10.1, at least 3.11 is needed; next: alter extension postgis update; in a migration",
    ],
  },
  {
    name: "an extension that is newer by number, not by letter",
    wants: { extensions: [{ name: "postgis", minimumVersion: "3.9.9" }] },
    problems: [],
  },
  {
    name: "a server that is too old",
    seen: { server: { ...healthy.server, version: "14.20", major: 14 } },
    problems: ["fail  server: PostgreSQL 14.20 is too old, at least 15 is needed; next: upgrade the server"],
  },
  {
    name: "a standby, reported once although it is read-only too",
    seen: { server: { ...healthy.server, inRecovery: true, readOnly: true } },
    problems: [
      "fail  server: The server is in recovery: a standby, or not restored to its end; next: connect to the primary",
    ],
  },
  {
    name: "a read-only connection, another role and another database, none of them named",
    seen: { server: { ...healthy.server, readOnly: true } },
    wants: { role: "owner", database: "other" },
    problems: [
      "fail  server: Connected to another database than expected; next: correct PGDATABASE",
      "fail  server: Connected as another role than expected; next: correct PGUSER",
      "fail  server: The connection is read-only; next: look for default_transaction_read_only in role and database",
    ],
  },
  {
    name: "an invalid index",
    seen: { invalidIndexes: ['public."Odd"'] },
    problems: [
      'warn  indexes: Index public."Odd" is invalid: building it was interrupted; next: reindex index concurrently public."Odd";',
    ],
  },
];

test.each(rows)("judge() sees $name", ({ seen, wants, problems }) => {
  const report = judge({ ...healthy, ...seen }, { ...expectation, ...wants }, 1.5);
  expect(report.problems.map(formatProblem)).toEqual(problems);
  expect(report.ok).toBe(!problems.some((line) => line.startsWith("fail")));
});

test("judge() puts failures before warnings, and names at most five versions", () => {
  const later = Array.from({ length: 8 }, (_, index) => `2027010${index}`);
  const seen = { ...healthy, applied: [...versions, ...later], tables: [{ exists: false, missingPrivileges: [] }] };
  expect(judge(seen, expectation, 1).problems.map(({ check, message }) => `${check}: ${message}`)).toEqual([
    "tables: Table accounts is missing",
    "migrations: The database is ahead of this release by 8: 20270100, 20270101, 20270102, 20270103, 20270104 and 3 more",
  ]);
});

test("describeDatabase() has the shape that dashboards read: healthy", () => {
  expect(describeDatabase(judge(healthy, expectation, 1.5), now)).toEqual({
    code: 200,
    status: "healthy",
    body: {
      status: "healthy",
      timestamp: "2026-11-20T12:00:00.000Z",
      database: { connected: true, responseTime: 1.5 },
      migrations: { applied: versions, latest: "20260103", count: 3 },
      schema: { critical_tables: [{ name: "accounts", exists: true }], all_tables_exist: true },
      problems: [],
    },
  });
});

test("describeDatabase() is degraded, not down, when the database is behind and a table is missing", () => {
  const eight = Array.from({ length: 8 }, (_, index) => `${index}`);
  const seen = { ...healthy, applied: ["0", "1"], tables: [{ exists: false, missingPrivileges: [] }] };
  const { code, body } = describeDatabase(judge(seen, { ...expectation, versions: eight }, 1.5), now);
  expect(code).toBe(200);
  expect(body).toEqual({
    status: "degraded",
    timestamp: "2026-11-20T12:00:00.000Z",
    database: { connected: true, responseTime: 1.5 },
    migrations: { applied: ["0", "1"], latest: "1", count: 2, warning: "Expected 8 migrations, only 2 applied" },
    schema: { critical_tables: [{ name: "accounts", exists: false }], all_tables_exist: false },
    problems: expect.any(Array),
  });
});

test("describeReadiness() says no when the database is behind, yes when it is ahead", () => {
  const behind = judge({ ...healthy, applied: ["20260101"] }, expectation, 1);
  const ahead = judge({ ...healthy, applied: [...versions, "20260104"] }, expectation, 1);
  expect(describeReadiness(behind, now)).toMatchObject({ code: 503, status: "not_ready" });
  expect(describeReadiness(ahead, now)).toMatchObject({ code: 200, status: "ready" });
});

test("describeFigures() has the shape that dashboards read", () => {
  expect(describeFigures(judge({ ...healthy, applied: ["20260101", "20260102"] }, expectation, 1.5))).toEqual({
    code: 200,
    status: "degraded",
    body: {
      database: {
        status: "degraded",
        latency_ms: 1.5,
        version: "18.4",
        size_mb: 8.12,
        active_connections: 3,
        max_connections: 100,
      },
      migrations: { current_revision: "20260102", head_revision: "20260103", pending: 1, is_up_to_date: false },
    },
  });
});

const secrets = "db.internal 10.1.2.3 5432 carol hunter2";
const connectionRows = [
  { code: "ECONNREFUSED", message: "The connection was refused", transient: true },
  { code: "ENOTFOUND", message: "The host name cannot be resolved", transient: true },
  { code: "CONNECT_TIMEOUT", message: "The database does not answer in time", transient: true },
  { code: "CONNECTION_CLOSED", message: "The connection was lost", transient: true },
  { code: "57P03", message: "The server is starting up or shutting down", transient: true },
  { code: "28P01", message: "The password or the user name is wrong", transient: false },
  { code: "3D000", message: "The database does not exist", transient: false },
  { code: "XX000", message: "The database reported an error (XX000)", transient: false },
  { code: undefined, message: "The database reported an error (unknown)", transient: false },
];

test.each(connectionRows)("validate() explains $code in its own words, never in the driver's", async (row) => {
  const report = await validate(failing({ code: row.code, message: secrets }), expectation);
  expect(report).toMatchObject({ ok: false, connected: false, transient: row.transient });
  expect(report.problems.map(({ message }) => message)).toEqual([row.message]);
  for (const described of [describeReadiness(report, now), describeDatabase(report, now), describeFigures(report)]) {
    expect(described.code).toBe(503);
    for (const secret of secrets.split(" ")) expect(JSON.stringify(described)).not.toContain(secret);
  }
});

test("validate() looks into the errors of a host with several addresses", async () => {
  const refused = { code: "ECONNREFUSED", message: secrets };
  const report = await validate(failing(new AggregateError([refused, refused], secrets)), expectation);
  expect(report.problems[0]?.message).toBe("The connection was refused");
});

function failing(error: unknown): Database {
  return { unsafe: () => Promise.reject(error) };
}

test("buildQuery() sends names as data, whatever quotes they hold", () => {
  const query = buildQuery({ criticalTables: ["it's.a\\b"] }, { seconds: 2, statistics: false });
  expect(query).toContain(`"schema":"it''s","name":"a\\\\\\\\b"`);
  expect(query).toStartWith("set local statement_timeout = 1800;\n");
});

test("the command prints a line for each check, or for each problem", () => {
  const seen = { ...healthy, applied: ["20260101"] };
  expect(formatReport(judge(seen, expectation, 2))).toBe(
    [
      "ok    connection: answered in 2 ms",
      "ok    server: PostgreSQL 18.4",
      `fail  migrations: Expected 3 migrations, only 1 applied; ${migrateNext}`,
      "ok    tables: 1 critical, all usable",
      "ok    extensions: as expected",
      "ok    indexes: none invalid",
    ].join("\n"),
  );
});

// ------------------------------------------------------------------------------------------- files and environment

const folder = mkdtempSync(join(tmpdir(), "dbops-validator-"));
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function write(files: Record<string, string>): string {
  for (const [name, text] of Object.entries(files)) {
    const path = join(folder, name);
    rmSync(path, { force: true });
    mkdirSync(join(path, ".."), { recursive: true });
    writeFileSync(path, text);
  }
  return join(folder, "migrations");
}

test("expectedVersions() takes the leading digits of SQL files, in dbmate's order", () => {
  const files = ["10_b.sql", "9_a.sql", "20260101_x.sql", "notes.md", "TEMPLATE.sql", "20260102_x.sql.bak"];
  const path = write(Object.fromEntries(files.map((name) => [`migrations/${name}`, ""])));
  expect(expectedVersions(path)).toEqual(["10", "20260101", "9"]);
});

test("expectedVersions() reads what was baked where the folder is not there", () => {
  expect(expectedVersions(write({ "migrations.json": '["2","1"]' }))).toEqual(["1", "2"]);
});

test("expectedVersions() refuses two files with one version, and a folder that is not there", () => {
  expect(() => expectedVersions(join(folder, "migrations"))).toThrow(
    new Error(`Cannot tell the expected migrations: there is no "${join(folder, "migrations")}"`),
  );
  const path = write({ "migrations/1_a.sql": "", "migrations/1_b.sql": "" });
  expect(() => expectedVersions(path)).toThrow(new Error(`Two migrations in "${path}" have the version 1`));
});

test("expectedVersions() refuses a file that dbmate would skip without a word", () => {
  const path = write({ "migrations/1_a.sql": "", "migrations/add_users.sql": "" });
  const why = 'dbmate skips the migration "add_users.sql": its name must begin with a version, like 20260131120000_';
  expect(() => expectedVersions(path)).toThrow(new Error(why));
});

test("requireEnvironment() names everything that is missing at once, and no value", () => {
  process.env.DBOPS_TEST_SET = "hunter2";
  process.env.DBOPS_TEST_EMPTY = "";
  expect(requireEnvironment(["DBOPS_TEST_SET"])).toEqual({ DBOPS_TEST_SET: "hunter2" });
  expect(() => requireEnvironment(["DBOPS_TEST_SET", "DBOPS_TEST_EMPTY", "DBOPS_TEST_UNSET"])).toThrow(
    new Error("Missing from the environment: DBOPS_TEST_EMPTY, DBOPS_TEST_UNSET"),
  );
});

// ------------------------------------------------------------------------------------------------------ routes

const environmentNames = ["HEALTH_TOKEN", "RELEASE"] as const;
afterEach(() => {
  for (const name of [...environmentNames, "DBOPS_TEST_SET", "DBOPS_TEST_EMPTY"]) delete process.env[name];
});

const silent: Database = {
  unsafe: () => {
    throw new Error("this route must not ask the database");
  },
};

async function ask(path: string, headers: Record<string, string> = {}, method = "GET"): Promise<unknown> {
  const request = new Request(`http://app.example.com${path}`, { headers, method });
  const response = await healthRoutes(silent, expectation)(request);
  return response && { code: response.status, body: await response.json() };
}

test("GET /health answers without the database, and names the release where there is one", async () => {
  expect(await ask("/health")).toEqual({ code: 200, body: { status: "ok", timestamp: expect.any(String) } });
  process.env.RELEASE = "a1b2c3";
  expect(await ask("/health")).toMatchObject({ body: { release: "a1b2c3" } });
});

test.each([
  { path: "/", method: "GET" },
  { path: "/health/", method: "GET" },
  { path: "/health/ready/x", method: "GET" },
  { path: "/health", method: "POST" },
])("$method $path is not a health route", async ({ path, method }) => {
  expect(await ask(path, {}, method)).toBeUndefined();
});

const details = { code: 200, body: { status: "ok", timestamp: expect.any(String) } };
const statusOnly = { code: 200, body: { status: "ok" } };

test.each([
  { name: "no token", headers: {}, answer: statusOnly },
  { name: "a wrong token", headers: { authorization: "Bearer s3cre" }, answer: statusOnly },
  { name: "another scheme", headers: { authorization: "Basic s3cret" }, answer: statusOnly },
  { name: "an empty token", headers: { "x-health-token": "" }, answer: statusOnly },
  { name: "the token as bearer", headers: { authorization: "bearer s3cret" }, answer: details },
  { name: "the token in a header of its own", headers: { "x-health-token": "s3cret" }, answer: details },
])("with HEALTH_TOKEN set, a request with $name", async ({ headers, answer }) => {
  process.env.HEALTH_TOKEN = "s3cret";
  expect(await ask("/health", headers as Record<string, string>)).toEqual(answer);
});

test("an empty HEALTH_TOKEN, as Compose passes it on, is none", async () => {
  process.env.HEALTH_TOKEN = "";
  expect(await ask("/health")).toEqual(details);
});

/** Files of a folder, and what a tool with these would have written down. */
const namings: [Tracker, Record<string, string>, string[]][] = [
  [
    "knex",
    { "20260101_a.js": "", "20260102_b.ts": "", "helpers.js": "", "lib/1_c.js": "" },
    ["20260101_a", "20260102_b"],
  ],
  ["sequelize", { "20260101-a.cjs": "" }, ["20260101-a"]],
  ["node-pg-migrate", { "1767268800000_a.js": "", "1767268800001_b.sql": "" }, ["1767268800000_a", "1767268800001_b"]],
  ["typeorm", { "1767268800000-CreatePeople.ts": "", "1767268800000-x.d.txt": "" }, ["CreatePeople1767268800000"]],
  ["prisma", { "20260101_a/migration.sql": "", "migration_lock.toml": "" }, ["20260101_a"]],
  [
    "drizzle",
    { "0000_a.sql": "select 1;", "20260101000000_b/migration.sql": "select 2;", "meta/_journal.json": "{}" },
    ["select 1;", "select 2;"].map((text) => createHash("sha256").update(text).digest("hex")).sort(),
  ],
  ["golang-migrate", { "000007_a.up.sql": "", "000007_a.down.sql": "", "10_b.up.sql": "" }, ["10", "7"]],
  [
    "flyway",
    { "V1_2__a.sql": "", "sub/V2__b.sql": "", "R__all_people.sql": "", "U2__b.sql": "" },
    ["1.2", "2", "R all people"],
  ],
  ["rails", { "20260101000000_create_people.rb": "" }, ["20260101000000"]],
  ["ecto", { "20260101000000_create_people.exs": "", ".formatter.exs": "" }, ["20260101000000"]],
  ["supabase", { "20260101000000_a.sql": "" }, ["20260101000000"]],
  ["django", { "people/migrations/0001_initial.py": "", "people/migrations/__init__.py": "" }, ["people.0001_initial"]],
  [
    "alembic",
    {
      "a.py": 'revision = "ff"\ndown_revision = ("aa", "bb")\n',
      "b.py": 'revision: str = "aa"\ndown_revision: Union[str, None] = "00"\n',
      "c.py": "revision = 'bb'\ndown_revision = '00'\n",
      "d.py": "revision = '00'\ndown_revision = None\n",
    },
    ["00", "aa", "bb", "ff"],
  ],
];

test.each(namings)("expectedVersions() of %s", (tracker, files, expected) => {
  const inFolder = Object.entries(files).map(([path, text]) => [`migrations/${path}`, text]);
  expect(expectedVersions(write(Object.fromEntries(inFolder)), tracker)).toEqual(expected);
});

test("which files are migrations cannot be told without the tracker", () => {
  expect(() => expectedVersions(write({ "migrations/1_a.js": "" }), "auto")).toThrow(
    new Error("Which files are migrations, only the database says: name the tracker"),
  );
});

describe("what another tool has written down", () => {
  const seenBy = (
    tracker: Tracker,
    applied: string[],
    changes: Partial<Observation["tracking"]> = {},
  ): Observation => ({
    ...healthy,
    applied,
    tracking: { exists: true, readable: true, tracker, table: `public.${tracker}`, unfinished: [], ...changes },
  });
  const look = (seen: Observation, expected: string[]) => {
    const { migrations, problems } = judge(seen, { versions: expected, criticalTables: ["accounts"] }, 1);
    return { ...migrations, problems: problems.map(formatProblem) };
  };

  test("golang-migrate knows the newest alone, and numbers are no text", () => {
    expect(look(seenBy("golang-migrate", ["10"]), ["10", "11", "9"])).toEqual({
      ...{ tracker: "golang-migrate", expected: ["10", "11", "9"], applied: ["10", "9"], pending: ["11"], unknown: [] },
      problems: ["fail  migrations: Expected 3 migrations, only 2 applied; next: migrate -path … -database … up"],
    });
  });

  test("alembic knows the newest alone: what it builds on is applied", () => {
    const order = ["ff", "aa", "bb"];
    expect(look(seenBy("alembic", ["aa"]), order)).toMatchObject({
      applied: ["ff", "aa"],
      pending: ["bb"],
      unknown: [],
    });
    // After a rollback of the app.
    expect(look(seenBy("alembic", ["cc"]), order)).toMatchObject({
      applied: [...order, "cc"],
      pending: [],
      unknown: ["cc"],
    });
    expect(look(seenBy("alembic", []), order)).toMatchObject({ applied: [], pending: order });
  });

  test("django's packages bring migrations of their own", () => {
    expect(
      look(seenBy("django", ["auth.0001_initial", "people.0001_a", "people.0002_b"]), ["people.0001_a"]),
    ).toMatchObject({
      pending: [],
      unknown: ["people.0002_b"],
    });
  });

  test("flyway repeats itself, and that is no loss of a key", () => {
    expect(look(seenBy("flyway", ["1", "R all", "R all"]), ["1", "R all"])).toMatchObject({ problems: [] });
  });

  test("a migration that has not ended well", () => {
    expect(look(seenBy("prisma", [], { unfinished: ["20260101_a"] }), []).problems).toEqual([
      "fail  migrations: Begun by prisma, and not ended well: 20260101_a; next: mend it with prisma: docs/runbook/dirty-state.md",
    ]);
  });

  test("several tables that could be it", () => {
    const candidates = [
      { tracker: "knex" as const, table: "public.knex_migrations" },
      { tracker: "prisma" as const, table: "public._prisma_migrations" },
    ];
    expect(look(seenBy("knex", [], { exists: false, readable: false, candidates }), ["1"]).problems).toEqual([
      "fail  migrations: Several tables could be the history of migrations: public.knex_migrations (knex), public._prisma_migrations (prisma); next: name one: `tracker` or `migrationsTable`",
    ]);
  });
});
