// The validator against a real Postgres in every state that it must tell apart: exact words and exit codes, one round
// trip, and health routes that answer while the database hangs or is gone.
import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import postgres from "postgres";
import { run, start } from "../../scripts/lib/run.ts";
import { poll } from "../../scripts/lib/wait.ts";
import { type Expectation, expectedVersions, healthRoutes, validate } from "../../scripts/validator.ts";
import config from "../../templates/dbops.config.ts";
import { startCountingProxy } from "../lab/counting-proxy.ts";
import { freePort, startPostgres, type TestPostgres } from "../lab/postgres.ts";
import {
  applyMigrations,
  asEnvironment,
  type Project,
  runTypeScript,
  runValidator,
  writeProject,
} from "../lab/starter.ts";

let server: TestPostgres;
let project: Project;
let owner: postgres.Sql;
let environment: Record<string, string>;
/** By name alone: to select is enough. The starter's own dbops.config.ts asks for more. */
const criticalTables = ["accounts", "sessions", "audit_log"];

beforeAll(async () => {
  [server, project] = await Promise.all([startPostgres(), writeProject()]);
  environment = asEnvironment(server);
  owner = server.connect({ max: 2, backoff: () => 0.1 });
  await owner`create role reader login password 'test'`;
  // What an app does before it listens, with the expectation on its command line.
  await writeFile(
    join(project.directory, "start.ts"),
    `import postgres from "postgres";
    import { validateOrExit } from "./scripts/validator.ts";
    const sql = postgres({ backoff: () => 0.1, onnotice: () => {} });
    await validateOrExit(sql, JSON.parse(process.argv[2]!));
    console.log("started");
    await sql.end();`,
  );
});

afterAll(async () => {
  await server?.stop();
  await project?.remove();
});

/** Each test begins with the starter schema, freshly migrated. */
beforeEach(async () => {
  await owner`drop schema public cascade`;
  await owner`create schema public`;
  await owner`grant usage on schema public to public`;
  await applyMigrations(server, project);
});

type Verdict = { lines: string[]; exitCode: number };

/** What the app does at its start: the lines it prints, and its exit code. */
async function startUp(changes: Record<string, string> = {}, wants: Expectation = {}): Promise<Verdict> {
  const expectation = JSON.stringify({ ...config.schema, waitSeconds: 0, ...wants });
  const { stdout, stderr, exitCode } = await run({
    argv: [...runTypeScript("bun", "start.ts"), expectation],
    directory: project.directory,
    environment: { ...environment, ...changes },
    accept: [0, 1],
  });
  return { lines: `${stderr}${stdout}`.trimEnd().split("\n"), exitCode };
}

/** What the command says: only the lines that report a problem, and its exit code. */
async function command(changes: Record<string, string> = {}): Promise<Verdict> {
  const { stdout, exitCode } = await runValidator(project, { ...environment, ...changes });
  const lines = stdout.trimEnd().split("\n");
  return { lines: lines.filter((line) => !line.startsWith("ok    ")), exitCode };
}

/** Both must refuse with the same problems, the command with 3 and the app with 1. */
async function expectRefusal(problems: string[], changes: Record<string, string> = {}): Promise<void> {
  const fails = problems.length === 1 ? "1 check fails" : `${problems.length} checks fail`;
  expect(await command(changes)).toEqual({ lines: problems, exitCode: 3 });
  expect(await startUp(changes)).toMatchObject({
    lines: [
      ...problems.map((problem) => `validator: ${problem}`),
      expect.stringMatching(new RegExp(`^validator: not starting( after 0 s)?: ${fails}, see above$`)),
    ],
    exitCode: 1,
  });
}

const migrateNext = "next: bun scripts/migrate.ts up (without the kit: docker compose up migrations)";

test("a fitting database: the app starts, the command exits 0 and says what it has looked at", async () => {
  expect(await startUp()).toEqual({ lines: ["started"], exitCode: 0 });
  const { stdout, exitCode } = await runValidator(project, environment);
  expect(exitCode).toBe(0);
  expect(
    stdout
      .replace(/[\d.]+ ms/, "N ms")
      .trimEnd()
      .split("\n"),
  ).toEqual([
    "ok    connection: answered in N ms",
    "ok    server: PostgreSQL 18.4",
    "ok    migrations: 4 applied, none pending",
    "ok    tables: 3 critical, all usable",
    "ok    extensions: as expected",
    "ok    indexes: none invalid",
  ]);
});

test("--json is one document, and is written for exit 3 as well", async () => {
  await owner`delete from schema_migrations where version > '20260101090100'`;
  const { stdout, exitCode } = await runValidator(project, environment, ["--json"]);
  expect(exitCode).toBe(3);
  expect(JSON.parse(stdout)).toMatchObject({
    ok: false,
    connected: true,
    migrations: { pending: ["20260101090200", "20260101090300"] },
  });
});

test("on a laptop the command finds the database through .env, whatever the shell lacks", async () => {
  const { user, password, database, port } = server;
  const lines = { POSTGRES_USER: user, POSTGRES_PASSWORD: password, POSTGRES_DB: database, POSTGRES_PORT: `${port}` };
  const text = Object.entries(lines).map(([name, value]) => `${name}=${value}\n`);
  await writeFile(join(project.directory, ".env"), text.join(""));
  const result = await runValidator(project, {});
  expect(result.exitCode).toBe(0);
});

test("Postgres is not there", async () => {
  const changes = { PGPORT: `${await freePort()}` };
  await expectRefusal(
    [
      "fail  connection: The connection was refused; next: start Postgres: docker compose up -d postgres (without Docker: bun scripts/up.ts); or correct PGHOST and PGPORT",
    ],
    changes,
  );
});

test("the password is wrong: said at once, although there is time to wait", async () => {
  await expectRefusal(
    ["fail  connection: The password or the user name is wrong; next: correct PGUSER and PGPASSWORD"],
    { PGPASSWORD: "hunter2" },
  );
  const started = performance.now();
  const { exitCode } = await startUp({ PGPASSWORD: "hunter2" }, { waitSeconds: 30 });
  expect({ exitCode, quick: performance.now() - started < 5000 }).toEqual({ exitCode: 1, quick: true });
});

test("the database does not exist", async () => {
  await expectRefusal(["fail  connection: The database does not exist; next: correct PGDATABASE, or create it"], {
    PGDATABASE: "elsewhere",
  });
});

test("the database was never migrated: the one question survives that there is no table to ask", async () => {
  await owner`drop schema public cascade`;
  await owner`create schema public`;
  const missing = criticalTables.map(
    (name) => `fail  tables: Table ${name} is missing; next: apply the pending migrations`,
  );
  await expectRefusal([
    `fail  migrations: Expected 4 migrations, none applied: this database was never migrated; ${migrateNext}`,
    ...missing,
  ]);
});

test("the database is behind", async () => {
  await owner`delete from schema_migrations where version > '20260101090100'`;
  await expectRefusal([`fail  migrations: Expected 4 migrations, only 2 applied; ${migrateNext}`]);
});

test("the database is ahead: a warning, and the app starts, or no rollback ever could", async () => {
  await owner`insert into schema_migrations values ('20270101000000')`;
  const warning =
    "warn  migrations: The database is ahead of this release by 1: 20270101000000; next: nothing after a rollback; otherwise deploy the release that has them";
  expect(await command()).toEqual({ lines: [warning], exitCode: 0 });
  expect(await startUp()).toEqual({ lines: [`validator: ${warning}`, "started"], exitCode: 0 });
});

test("a critical table is missing", async () => {
  await owner`drop table sessions`;
  await expectRefusal(["fail  tables: Table sessions is missing; next: look for it in another schema, or restore it"]);
});

const asReader = { PGUSER: "reader", PGPASSWORD: "test" };

test("the role has no rights on the tables", async () => {
  await owner`grant select on schema_migrations, sessions to reader`;
  await owner`grant select, insert on accounts to reader`;
  await expectRefusal(
    ["fail  tables: Table audit_log is not usable by this role, it lacks: insert; next: grant it to the app's role"],
    asReader,
  );
});

test("the role has rights on the tables, but not on their schema", async () => {
  await owner`grant select, insert on all tables in schema public to reader`;
  await owner`revoke usage on schema public from public`;
  const lacks = "is not usable by this role, it lacks: usage on its schema; next: grant it to the app's role";
  await expectRefusal(
    [
      'fail  migrations: The table schema_migrations cannot be read by this role, or has no column "version"; next: grant select on schema_migrations, and usage on its schema, to the app\'s role',
      ...criticalTables.map((name) => `fail  tables: Table ${name} ${lacks}`),
    ],
    asReader,
  );
});

test("the connection is read-only", async () => {
  await owner`grant select, insert on all tables in schema public to reader`;
  await owner`alter role reader set default_transaction_read_only = on`;
  try {
    await expectRefusal(
      ["fail  server: The connection is read-only; next: look for default_transaction_read_only in role and database"],
      asReader,
    );
  } finally {
    await owner`alter role reader reset default_transaction_read_only`;
  }
});

test("an index whose building failed is a warning that names it", async () => {
  await owner.unsafe(`create schema "Odd"; create table "Odd"."Tab" (a int); insert into "Odd"."Tab" values (1), (1)`);
  const failed = await owner`create unique index concurrently "Ix" on "Odd"."Tab" (a)`.catch(({ code }) => code);
  expect(failed).toBe("23505");
  try {
    expect(await command()).toEqual({
      lines: [
        'warn  indexes: Index "Odd"."Ix" is invalid: building it was interrupted; next: reindex index concurrently "Odd"."Ix";',
      ],
      exitCode: 0,
    });
  } finally {
    await owner`drop schema "Odd" cascade`;
  }
});

test("names are exact: mixed case, quotes, other schemas, a tracking table of its own", async () => {
  await owner.unsafe(`
    create schema "Odd's";
    create table "Odd's"."Mixed Case" (a int);
    create table "Odd's"."Versions" (version text);
    insert into "Odd's"."Versions" values ('1'), ('2'), ('2'), ('a"<b>&''\\');`);
  try {
    const report = await validate(owner, {
      versions: ["1", "2"],
      migrationsTable: "Odd's.Versions",
      criticalTables: [
        "Odd's.Mixed Case",
        "Odd's.mixed case",
        "accounts",
        { name: "sessions", privileges: ["delete"] },
      ],
    });
    expect(report.migrations.applied).toEqual(["1", "2", `a"<b>&'\\`]);
    expect(report.tables.map(({ exists }) => exists)).toEqual([true, false, true, true]);
    expect(report.problems.map(({ severity, check }) => `${severity} ${check}`)).toEqual([
      "fail tables",
      "warn migrations",
      "warn migrations",
    ]);
  } finally {
    await owner`drop schema "Odd's" cascade`;
  }
});

// ------------------------------------------------------------------------------------------------- round trips

test("one round trip, with 400 versions and 50 tables, and without the tracking table", async () => {
  const many = Array.from({ length: 400 }, (_, index) => `${20_270_000_000_000 + index}`);
  await owner`insert into schema_migrations select unnest(${many}::text[])`;
  const proxy = await startCountingProxy(server.port);
  const sql = server.connect({ port: proxy.port, max: 1 });
  try {
    await sql`select 1`;
    const tables = Array.from({ length: 50 }, (_, index) => criticalTables[index % 3]!);
    const versions = [...expectedVersions(join(project.directory, "migrations")), ...many];
    proxy.reset();
    const report = await validate(sql, { versions, criticalTables: tables });
    expect({ roundTrips: proxy.roundTrips(), ok: report.ok }).toEqual({ roundTrips: 1, ok: true });
    expect(report.migrations.applied).toHaveLength(404);

    await owner`drop table schema_migrations`;
    proxy.reset();
    expect((await validate(sql, { versions })).ok).toBe(false);
    expect(proxy.roundTrips()).toBe(1);

    // The counter can count further: a query with a parameter is described first, then run.
    proxy.reset();
    await sql`select ${"x"}::text`;
    expect(proxy.roundTrips()).toBe(2);
  } finally {
    await sql.end({ timeout: 0 });
    await proxy.stop();
  }
});

// ----------------------------------------------------------------------------------------- waiting at the start

test("the app waits for a database that hangs and comes back, then starts", async () => {
  await server.kill("SIGSTOP");
  const lines: string[] = [];
  const app = await start({
    argv: [...runTypeScript("bun", "start.ts"), JSON.stringify({ criticalTables, waitSeconds: 20 })],
    directory: project.directory,
    environment,
    onLine: (line) => lines.push(line),
  });
  try {
    await new Promise((resolve) => setTimeout(resolve, 1000));
    expect(lines).toEqual([]);
    await server.kill("SIGCONT");
    expect({ exitCode: await app.ended, lines }).toEqual({ exitCode: 0, lines: ["started"] });
  } finally {
    await server.kill("SIGCONT");
    await app.stop("SIGKILL", 1);
  }
});

test("the app gives up on a database that goes on hanging", async () => {
  await server.kill("SIGSTOP");
  try {
    expect(await startUp({}, { waitSeconds: 1 })).toEqual({
      lines: [
        "validator: fail  connection: The database does not answer in time; next: docker compose logs --tail 20 postgres",
        "validator: not starting after 1 s: 1 check fails, see above",
      ],
      exitCode: 1,
    });
  } finally {
    await server.kill("SIGCONT");
  }
});

// ------------------------------------------------------------------------------------------------ health routes

const paths = ["/health", "/health/ready", "/health/database", "/api/health/db"];

/** The routes as an app serves them, on a pool like the starter app's. */
function routesOn(sql: postgres.Sql) {
  const handle = healthRoutes(sql, {
    criticalTables,
    versions: expectedVersions(join(project.directory, "migrations")),
  });
  return async (path: string): Promise<{ code: number; seconds: number }> => {
    const started = performance.now();
    const response = await handle(new Request(`http://localhost${path}`));
    await response!.json();
    return { code: response!.status, seconds: (performance.now() - started) / 1000 };
  };
}

test("/health/ready: a hundred requests at once cost one query, and a change shows within a second", async () => {
  const proxy = await startCountingProxy(server.port);
  const sql = server.connect({ port: proxy.port, max: 10 });
  const get = routesOn(sql);
  try {
    await sql`select 1`;
    proxy.reset();
    const answers = await Promise.all(Array.from({ length: 100 }, () => get("/health/ready")));
    expect(new Set(answers.map(({ code }) => code))).toEqual(new Set([200]));
    expect(proxy.roundTrips()).toBe(1);

    await owner`drop table sessions`;
    const changed = performance.now();
    const refused = await poll(
      { seconds: 3, everyMilliseconds: 20 },
      async () => (await get("/health/ready")).code === 503 || undefined,
    );
    expect({ refused, milliseconds: performance.now() - changed }).toMatchObject({ refused: true });
    expect(performance.now() - changed).toBeLessThan(1500);
  } finally {
    await sql.end({ timeout: 0 });
    await proxy.stop();
  }
});

test("a hung database hangs no health route, collects nothing, and is forgotten when it is back", async () => {
  const sql = server.connect({ max: 10 });
  const get = routesOn(sql);
  try {
    expect(await Promise.all(paths.map(async (path) => (await get(path)).code))).toEqual([200, 200, 200, 200]);
    await server.kill("SIGSTOP");
    const end = performance.now() + 4500;
    // Twenty callers who ask again and again, more than the pool has connections.
    const callers = Array.from({ length: 20 }, async (_, index) => {
      const answers: { path: string; code: number; seconds: number }[] = [];
      while (performance.now() < end) {
        const path = paths[index % paths.length]!;
        answers.push({ path, ...(await get(path)) });
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
      return answers;
    });
    const answers = (await Promise.all(callers)).flat();
    expect(Math.max(...answers.map(({ seconds }) => seconds))).toBeLessThan(2.3);
    expect(answers.filter(({ path }) => path === "/health").every(({ code }) => code === 200)).toBe(true);
    expect(answers.filter(({ code, seconds }) => code === 503 && seconds > 1.5)).not.toHaveLength(0);

    await server.kill("SIGCONT");
    const back = performance.now();
    const healed = await poll({ seconds: 5 }, async () => (await get("/health/database")).code === 200 || undefined);
    expect(healed).toBe(true);
    expect(performance.now() - back).toBeLessThan(3000);
    // Two looks may be under way for each of the two kinds, so four connections were ever needed, plus this one.
    const [{ count }] = (await owner`
      select count(*)::int from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()`) as [
      { count: number },
    ];
    expect(count).toBeLessThanOrEqual(6);
  } finally {
    await server.kill("SIGCONT");
    await sql.end({ timeout: 0 });
  }
});

test("a port that accepts and never says a word hangs no health route, and collects no sockets", async () => {
  const sockets = new Set<Socket>();
  const silent = createServer((socket) => {
    sockets.add(socket.on("error", () => {}).on("close", () => sockets.delete(socket)));
    // Unread bytes would hide that the other side has closed.
    socket.resume();
  });
  await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
  const { port } = silent.address() as { port: number };
  const sql = postgres({ host: "127.0.0.1", port, max: 10, connect_timeout: 1, backoff: () => 0.25 });
  const get = routesOn(sql);
  try {
    const end = performance.now() + 4500;
    while (performance.now() < end) {
      const answers = await Promise.all(paths.map(get));
      expect(answers.map(({ code }) => code)).toEqual([200, 503, 503, 503]);
      expect(Math.max(...answers.map(({ seconds }) => seconds))).toBeLessThan(2.3);
      expect(sockets.size).toBeLessThanOrEqual(4);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  } finally {
    await sql.end({ timeout: 0 });
    for (const socket of sockets) socket.destroy();
    silent.close();
  }
});

test("killed with SIGKILL, the database is reported gone within 3 s and back by itself", async () => {
  const sql = server.connect({ max: 10, backoff: () => 0.25 });
  const get = routesOn(sql);
  try {
    expect((await get("/health/database")).code).toBe(200);
    const killed = performance.now();
    await server.kill("SIGKILL");
    const gone = await poll({ seconds: 5 }, async () => (await get("/health/database")).code === 503 || undefined);
    expect({ gone, inTime: performance.now() - killed < 3000 }).toEqual({ gone: true, inTime: true });
    await server.restart();
    const back = performance.now();
    const healed = await poll({ seconds: 5 }, async () => (await get("/health/database")).code === 200 || undefined);
    expect({ healed, inTime: performance.now() - back < 3000 }).toEqual({ healed: true, inTime: true });
  } finally {
    await sql.end({ timeout: 0 });
  }
});

const knexHistory = `create table knex_migrations (id serial primary key, name varchar(255), batch int, migration_time timestamptz);
  insert into knex_migrations (name) values ('1_a.js'), ('2_b.js');`;

test('tracker "auto": dbmate\'s own history first, and else the one whose columns tell it', async () => {
  await owner.unsafe(knexHistory);
  // What it has followed may still be there.
  expect(await startUp({}, { tracker: "auto" })).toEqual({ lines: ["started"], exitCode: 0 });
  await owner`drop table schema_migrations`;
  expect(await startUp({}, { tracker: "auto", versions: ["1_a", "2_b"] })).toEqual({ lines: ["started"], exitCode: 0 });
  expect(await startUp({}, { tracker: "knex", versions: ["1_a", "2_b", "3_c"] })).toEqual({
    lines: [
      "validator: fail  migrations: Expected 3 migrations, only 2 applied; next: npx knex migrate:latest",
      "validator: not starting: 1 check fails, see above",
    ],
    exitCode: 1,
  });
  await owner`create table alembic_version (version_num varchar(32) primary key)`;
  expect(await startUp({}, { tracker: "auto", versions: [] })).toMatchObject({
    lines: [
      "validator: fail  migrations: Several tables could be the history of migrations: public.alembic_version (alembic), public.knex_migrations (knex); next: name one: `tracker` or `migrationsTable`",
      expect.any(String),
    ],
  });
  expect(await startUp({}, { tracker: "auto", migrationsTable: "knex_migrations", versions: ["1_a", "2_b"] })).toEqual({
    lines: ["started"],
    exitCode: 0,
  });
});

test('tracker "auto": a table of dbmate that is empty says nothing beside a history; and files of another tool are not none', async () => {
  await owner.unsafe(`create table kept as table schema_migrations; delete from schema_migrations; ${knexHistory}`);
  expect(await startUp({}, { tracker: "auto", versions: ["1_a", "2_b", "3_c"] })).toMatchObject({
    lines: [
      "validator: fail  migrations: Expected 3 migrations, only 2 applied; next: npx knex migrate:latest",
      expect.any(String),
    ],
  });
  // Adopted, and nothing applied since: not in this database.
  await owner.unsafe("create schema dbops; create table dbops.adopted_histories (history text)");
  expect(await startUp({}, { tracker: "auto", versions: ["1"] })).toMatchObject({
    lines: [
      `validator: fail  migrations: Expected 1 migration, none applied: this database was never migrated; ${migrateNext}`,
      expect.any(String),
    ],
  });
  await owner.unsafe("insert into schema_migrations table kept");
  const folder = await mkdtemp(join(tmpdir(), "dbops-validator-"));
  try {
    for (const name of ["schema.sql", "1_a.js"]) await writeFile(join(folder, name), "");
    expect(await startUp({}, { tracker: "auto", migrationsFolder: folder })).toMatchObject({
      lines: [
        `validator: fail  migrations: No migration of dbmate in "${folder}", and other files; next: set \`migrationsFolder\`, or \`versions\``,
        expect.any(String),
      ],
    });
  } finally {
    await rm(folder, { recursive: true });
  }
});

test('tracker "auto": a table of the app that has the columns of a history, and not the name, is none beside one that has both', async () => {
  await owner.unsafe(`drop table schema_migrations; ${knexHistory}
    create table reports (id bigint, name text, run_on timestamptz); create table shipments (id int, name text, run_on timestamptz);`);
  const fits = { lines: ["started"], exitCode: 0 };
  expect(await startUp({}, { tracker: "auto", versions: ["1_a", "2_b"] })).toEqual(fits);
  // Called otherwise, it may be any of them.
  await owner`alter table knex_migrations rename to moves`;
  expect(await startUp({}, { tracker: "auto", versions: [] })).toMatchObject({
    lines: [
      "validator: fail  migrations: Several tables could be the history of migrations: public.moves (knex), public.reports (node-pg-migrate), public.shipments (node-pg-migrate); next: name one: `tracker` or `migrationsTable`",
      expect.any(String),
    ],
  });
  expect(await startUp({}, { tracker: "knex", versions: ["1_a", "2_b"] })).toEqual(fits);
  await owner`alter table reports rename to pgmigrations`;
  expect(await startUp({}, { tracker: "node-pg-migrate", versions: [] })).toEqual(fits);
});

test('tracker "auto": a history that this role may not read, none at all, and files that nobody can name', async () => {
  await owner.unsafe(
    `drop table schema_migrations; ${knexHistory} grant select on accounts, sessions, audit_log to reader`,
  );
  const reader = { PGUSER: "reader" };
  expect(await startUp(reader, { tracker: "auto", versions: ["1_a"], criticalTables })).toMatchObject({
    lines: [
      "validator: fail  migrations: The table public.knex_migrations cannot be read by this role; next: grant select on public.knex_migrations, and usage on its schema, to the app's role",
      expect.any(String),
    ],
  });
  expect(await startUp({}, { tracker: "auto", migrationsFolder: "nowhere" })).toMatchObject({
    lines: [
      expect.stringMatching(
        /^validator: fail {2}migrations: Cannot tell the expected migrations: there is no ".*\/nowhere"; next: set `migrationsFolder`, or `versions`$/,
      ),
      expect.any(String),
    ],
  });
  await owner`drop table knex_migrations`;
  expect(await startUp({}, { tracker: "auto", versions: ["1_a"] })).toMatchObject({
    lines: [
      `validator: fail  migrations: Expected 1 migration, none applied: this database was never migrated; ${migrateNext}`,
      expect.any(String),
    ],
  });
});
