// scripts/migrate.ts on a Postgres of its own, with the dbmate of npm: runners that come at once, are killed, meet locks, and fail. What
// counts each time is what the database says afterwards, and whether the message said the same.
import { afterAll, beforeAll, beforeEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, readdirSync, rmSync, symlinkSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type postgres from "postgres";
import { poll } from "../../scripts/lib/wait.ts";
import { postgresEnvironment } from "../lab/debian-programs.ts";
import { migrateIn, migration, type Runner, writeMigrations } from "../lab/migrate.ts";
import { startPostgres, type TestPostgres } from "../lab/postgres.ts";
import { allProcesses, argvOf } from "../lab/processes.ts";
import { linkPackages, writeProjectFiles } from "../lab/project-files.ts";

setDefaultTimeout(120_000);

let server: TestPostgres;
let sql: postgres.Sql;
let directory: string;
let temporary: string;
let migrate: ReturnType<typeof migrateIn>;
let drift: ReturnType<typeof migrateIn>["run"];
/** One that has to be asked, and cannot be. */
let unsure: ReturnType<typeof migrateIn>;
/** One that waits for a lock for a moment only. */
let hasty: ReturnType<typeof migrateIn>;
const place = () => `"app" on 127.0.0.1:${server.port}`;
const byHand = (statement: string) =>
  `psql --host 127.0.0.1 --port ${server.port} --username app --dbname app --command '${statement}'`;

beforeAll(async () => {
  [server, { directory }] = await Promise.all([startPostgres(), writeProjectFiles()]);
  await linkPackages(directory);
  temporary = mkdtempSync(join(tmpdir(), "dbops-migrate-"));
  sql = server.connect({ max: 6 });
  const url = `postgres://app@127.0.0.1:${server.port}/app`;
  const environment = { ...(await postgresEnvironment()), PGPASSWORD: server.password, TMPDIR: temporary };
  unsure = migrateIn({ directory, environment, words: ["--database-url", url] });
  migrate = migrateIn({ directory, environment, words: ["--database-url", url, "--yes"] });
  const words = ["--database-url", url, "--scratch-url", url];
  drift = migrateIn({ verb: "drift", directory, environment, words }).run;
  hasty = migrateIn({
    directory,
    environment,
    words: ["--database-url", `${url}?options=-c%20lock_timeout%3D300ms`, "--yes"],
  });
});
afterAll(async () => {
  await server?.stop();
  await rm(directory, { recursive: true, force: true });
  // What a runner has unpacked goes with it, however it ended.
  const left = readdirSync(temporary);
  rmSync(temporary, { recursive: true });
  expect(left).toEqual([]);
});
beforeEach(async () => {
  // Also what a test has left that failed: the next one would wait for it.
  await sql`select pg_terminate_backend(pid) from pg_stat_activity
    where application_name = 'dbops-migrate' or state = 'idle in transaction'`;
  // As a new database has it.
  await sql.unsafe(`drop schema if exists dbops cascade; drop schema public cascade;
    create schema public authorization pg_database_owner; grant usage on schema public to public`);
});

const applied = async (): Promise<string[]> => {
  const [there] = await sql`select to_regclass('public.schema_migrations') is not null as yes`;
  if (!there!.yes) return [];
  return (await sql`select version from schema_migrations order by 1`).map(({ version }) => version as string);
};
const recorded = async () =>
  (await sql`select version from dbops.migration_files order by 1`).map((row) => row.version);
const invalid = async () =>
  (await sql`select indexrelid::regclass::text as name from pg_index where not indisvalid`).map((row) => row.name);
/** Files that have come to this: dbmate's statement waits for a lock of ours. */
const isBlocked = () =>
  until("select from pg_stat_activity where application_name = 'dbops-migrate' and wait_event_type = 'Lock'");
const sleeps = () => until("select from pg_stat_activity where wait_event = 'PgSleep'");

/** Until that has a row. */
async function until(query: string): Promise<void> {
  const ask = async () => (await sql.unsafe(query)).length > 0 || undefined;
  if (!(await poll({ seconds: 30, everyMilliseconds: 20 }, ask))) throw new Error(`waited in vain until "${query}"`);
}

/** Holds something until it is told to let go. */
async function hold(statements: string): Promise<() => Promise<void>> {
  const session = await sql.reserve();
  await session.unsafe(`begin; ${statements}`);
  return async () => {
    await session.unsafe("rollback");
    session.release();
  };
}

const people = migration("create table people (id int, email text);");
const three = {
  "1_people.sql": people,
  // No transaction takes back what would be done twice.
  "2_insert.sql": migration("insert into people values (1, 'a@x');", { options: "transaction:false" }),
  "3_index.sql": migration("create index concurrently people_email on people (email);", {
    options: "transaction:false",
  }),
};

describe("several runners at once", () => {
  test.each([2, 10])("%d: one applies, the others wait, and nothing is done twice", async (count) => {
    await writeMigrations(directory, { "0_wait.sql": migration("select pg_advisory_xact_lock(1);"), ...three });
    const letGo = await hold("select pg_advisory_xact_lock(1)");
    const runners = await Promise.all(Array.from({ length: count }, () => migrate.start(["up", "--json"])));
    await Promise.all(runners.map((runner) => runner.until(/applying 0_wait|is at it: waiting/)));
    await letGo();
    const ends = await Promise.all(runners.map((runner) => runner.end()));
    expect(ends.map(({ exitCode, stderr }) => [exitCode, exitCode === 0 ? "" : stderr])).toEqual(
      ends.map(() => [0, ""]),
    );
    const counts = ends.map(({ stdout }) => (JSON.parse(stdout) as { applied: unknown[] }).applied.length);
    expect(counts.sort()).toEqual([...Array.from({ length: count - 1 }, () => 0), 4]);
    expect([await applied(), await invalid(), [...(await sql`select id from people`)]]).toEqual([
      ["0", "1", "2", "3"],
      [],
      [{ id: 1 }],
    ]);
  });

  test("ten, and an index CONCURRENTLY in a run of its own: nobody gets between the runs", async () => {
    await writeMigrations(directory, { "1_people.sql": people });
    await migrate.run(["up"]);
    await writeMigrations(directory, { ...three, "4_more.sql": migration("create table more (id int);") });
    // The index waits for it, the row before does not.
    const letGo = await hold("insert into people values (0)");
    const runners = await Promise.all(Array.from({ length: 10 }, () => migrate.start(["up", "--json"])));
    await Promise.all(runners.map((runner) => runner.until(/applying 3_index|is at it: waiting/)));
    // That long it waits in a run of its own alone.
    await Promise.any(runners.map((runner) => runner.until(", at most 15 min; the app does not")));
    await letGo();
    const ends = await Promise.all(runners.map((runner) => runner.end()));
    expect(ends.map(({ exitCode, stderr }) => [exitCode, exitCode === 0 ? "" : stderr])).toEqual(
      ends.map(() => [0, ""]),
    );
    const done = ends.map(({ stdout }) => (JSON.parse(stdout) as { applied: { version: string }[] }).applied);
    expect(done.filter((some) => some.length > 0).map((some) => some.map(({ version }) => version))).toEqual([
      ["2", "3", "4"],
    ]);
    expect([await applied(), await recorded(), await invalid(), [...(await sql`select id from people`)]]).toEqual([
      ["1", "2", "3", "4"],
      ["1", "2", "3", "4"],
      [],
      [{ id: 1 }],
    ]);
  });

  test("who does not want to wait is told who is at it, with 4; who waits builds nothing twice, also CONCURRENTLY", async () => {
    await writeMigrations(directory, { "1_people.sql": people });
    await migrate.run(["up"]);
    await writeMigrations(directory, three);
    const letGo = await hold("lock table people in share mode");
    const first = await migrate.start(["up"]);
    await isBlocked();
    const refused = await migrate.run(["up", "--wait", "0"]);
    const waiting = await migrate.start(["up"]);
    await waiting.until("is at it: waiting, at most 60 s");
    await letGo();
    expect(refused).toMatchObject({ exitCode: 4, stdout: "" });
    expect(refused.stderr).toMatch(
      /\nNothing was changed: another runner \(Postgres process \d+, since [\d-]+ [\d:]+ UTC\) migrates this database \(waited 0 s\)\n {2}next: the same command with --wait 600\n$/,
    );
    expect((await first.end()).exitCode).toBe(0);
    expect(await waiting.end()).toMatchObject({
      exitCode: 0,
      stdout: `Another runner has just applied what was pending to ${place()}\n`,
    });
    expect([await applied(), await invalid(), [...(await sql`select id from people`)]]).toEqual([
      ["1", "2", "3"],
      [],
      [{ id: 1 }],
    ]);
  });

  test("dbmate that somebody else has left behind is waited for, although it holds no lock", async () => {
    await writeMigrations(directory, three);
    const left = server.connect({ max: 1, connection: { application_name: "dbops-migrate" } });
    await left`select 1`;
    const refused = await migrate.run(["up", "--wait", "0"]);
    expect([refused.exitCode, refused.stderr]).toEqual([
      4,
      expect.stringMatching(/\nNothing was changed: dbmate \(Postgres process /),
    ]);
    const waiting = await migrate.start(["up"]);
    await waiting.until("dbmate (Postgres process ");
    await left.end();
    expect((await waiting.end()).exitCode).toBe(0);
  });

  test("what was read is what is applied, whatever becomes of the files meanwhile", async () => {
    await writeMigrations(directory, {
      "1_wait.sql": migration("select pg_advisory_xact_lock(1);"),
      "2_people.sql": people,
    });
    const letGo = await hold("select pg_advisory_xact_lock(1)");
    const runner = await migrate.start(["up"]);
    await isBlocked();
    await writeMigrations(directory, {
      "1_wait.sql": migration("select 1;"),
      "2_people.sql": migration("create table others (id int);"),
    });
    await letGo();
    expect((await runner.end()).exitCode).toBe(0);
    expect([
      ...(await sql`select to_regclass('people') is not null as people, to_regclass('others') is not null as others`),
    ]).toEqual([{ people: true, others: false }]);
    const { stdout } = await migrate.run(["status", "--json"]);
    expect(JSON.parse(stdout).counts).toEqual({ edited: 2 });
  });
});

test("files that something else has applied get their sum from the next runner; one that has a sum keeps it", async () => {
  await writeMigrations(directory, { "1_people.sql": people, "2_more.sql": migration("create table more (id int);") });
  await migrate.run(["up"]);
  await sql`delete from dbops.migration_files where version = '1'`;
  // Since then edited: the one that nobody noted, and the other one.
  const edited = {
    "1_people.sql": `${people}-- more words`,
    "2_more.sql": migration("create table more (id bigint);"),
  };
  await writeMigrations(directory, { ...edited, "3_last.sql": migration("create table last (id int);") });
  expect((await migrate.run(["up"])).exitCode).toBe(0);
  expect(await recorded()).toEqual(["1", "2", "3"]);
  const { stdout } = await migrate.run(["status", "--json"]);
  expect(JSON.parse(stdout).counts).toEqual({ applied: 2, edited: 1 });
});

const ownDbmate = () =>
  allProcesses().filter((pid) => argvOf(pid).join(" ").includes(`--migrations-dir ${temporary}/`));

describe("killed", () => {
  const none: readonly string[] = [];
  const wait = (number: number) => `select pg_advisory_xact_lock(${number});`;
  const files = {
    "1_people.sql": migration(
      `${wait(1)}\ncreate table people (id int);\n${wait(2)}\ninsert into people values (1);\n${wait(3)}`,
    ),
    "2_more.sql": migration(`insert into people values (2);\n${wait(4)}`),
    "3_index.sql": migration("create index concurrently people_id on people (id);", { options: "transaction:false" }),
  };

  test.each([
    { at: 1, before: none },
    { at: 2, before: none },
    { at: 3, before: none },
    { at: 4, before: ["1"] as readonly string[] },
  ])("at statement $at: its file is taken back, and the next runner does the rest", async ({ at, before }) => {
    await writeMigrations(directory, files);
    const letGo = await hold(`select pg_advisory_xact_lock(${at})`);
    const runner = await migrate.start(["up"]);
    await isBlocked();
    runner.signal("SIGKILL");
    expect((await runner.end()).exitCode).toBe("SIGKILL");
    expect(await applied()).toEqual([...before]);
    // Else it would commit what it is at, and that would be well, too.
    expect(await poll({ seconds: 20 }, async () => ownDbmate().length === 0 || undefined)).toBe(true);
    const next = await migrate.start(["up", "--json"]);
    await letGo();
    const { exitCode, stdout, stderr } = await next.end();
    expect([exitCode, exitCode === 0 ? "" : stderr]).toEqual([0, ""]);
    expect((JSON.parse(stdout).applied as { version: string }[]).map(({ version }) => version)).toEqual(
      ["1", "2", "3"].filter((version) => !before.includes(version)),
    );
    expect([
      await applied(),
      await recorded(),
      [...(await sql`select id from people order by 1`)],
      await invalid(),
    ]).toEqual([["1", "2", "3"], ["1", "2", "3"], [{ id: 1 }, { id: 2 }], []]);
  });

  test("while an index is built: what it leaves is found, and not taken for an index", async () => {
    await writeMigrations(directory, files);
    await writeMigrations(directory, { "1_people.sql": files["1_people.sql"], "2_more.sql": files["2_more.sql"] });
    await migrate.run(["up"]);
    await writeMigrations(directory, files);
    // What it has to wait for is older than it: it can be let go of by nobody but us.
    const letGo = await hold("select count(*) from people; insert into people values (3)");
    const runner = await migrate.start(["up"]);
    await isBlocked();
    runner.signal("SIGKILL");
    await runner.end();
    const [row] = await sql`select pid from pg_stat_activity where application_name = 'dbops-migrate'`;
    if (row) await sql`select pg_terminate_backend(${row.pid}, 5000)`;
    await letGo();
    expect([await applied(), await invalid()]).toEqual([["1", "2"], ["people_id"]]);
    const next = await migrate.run(["up"]);
    expect([next.exitCode, next.stderr]).toEqual([
      3,
      `To apply to ${place()}, oldest first:
  3_index.sql   without a transaction
Nothing was migrated: migrations/3_index.sql makes the index public.people_id, which is there, left by a run that failed, and not valid
  next: ${byHand("drop index concurrently public.people_id;")}
  next: the same command again
  read: docs/runbook/migration-failed.md
`,
    ]);
    await sql`drop index concurrently people_id`;
    expect((await migrate.run(["up"])).exitCode).toBe(0);
    expect([await applied(), await invalid()]).toEqual([["1", "2", "3"], []]);
  });

  test.each([
    {
      name: "its session in Postgres",
      kill: () => sql`select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'dbops-migrate'`,
      why: "driver: bad connection",
    },
    {
      name: "dbmate itself",
      kill: async () => ownDbmate().forEach((pid) => void process.kill(pid, "SIGKILL")),
      why: "dbmate ended with 137",
    },
  ])("$name: the message says what is applied, and it is so", async ({ kill, why }) => {
    await writeMigrations(directory, files);
    const letGo = await hold("select pg_advisory_xact_lock(4)");
    const runner = await migrate.start(["up"]);
    await isBlocked();
    await kill();
    await letGo();
    const { exitCode, stderr } = await runner.end();
    expect([exitCode, stderr.slice(stderr.indexOf("Cannot"))]).toEqual([
      1,
      `Cannot apply migrations/2_more.sql: ${why}
  | applied: 1_people.sql
  | taken back whole: 2_more.sql
  | not applied: 3_index.sql
  next: the same command again
  read: docs/runbook/migration-failed.md
`,
    ]);
    expect([await applied(), await recorded()]).toEqual([["1"], ["1"]]);
  });

  test("the server itself, which comes back: what is applied is looked up in a session of its own", async () => {
    const more = { ...files, "2_more.sql": migration("insert into people values (2);\nselect pg_sleep(60);") };
    await writeMigrations(directory, more);
    const runner = await migrate.start(["up"]);
    await sleeps();
    await server.kill("SIGKILL");
    await server.restart();
    const { exitCode, stderr } = await runner.end();
    expect([exitCode, stderr]).toEqual([
      1,
      expect.stringContaining("\n  | applied: 1_people.sql\n  | taken back whole: 2_more.sql\n"),
    ]);
    expect(await applied()).toEqual(["1"]);
  });
});

describe("interrupted", () => {
  const files = {
    "1_people.sql": people,
    "2_wait.sql": migration("insert into people values (1);\nselect pg_sleep(60);"),
    "3_more.sql": migration("insert into people values (2);"),
  };

  test.each(["SIGINT", "SIGTERM"] as const)(
    "by %s: Postgres stops at once, and the message says what is applied",
    async (name) => {
      await writeMigrations(directory, files);
      const runner = await migrate.start(["up"]);
      await sleeps();
      runner.signal(name);
      const { exitCode, stdout, stderr } = await runner.end();
      expect([exitCode, stdout, stderr.slice(stderr.indexOf("Interrupted"))]).toEqual([
        130,
        "",
        `Interrupted: by ${name}, while migrations were applied
  | applied: 1_people.sql
  | taken back whole: 2_wait.sql
  | not applied: 3_more.sql
  next: the same command again
`,
      ]);
      expect([
        await applied(),
        await recorded(),
        [...(await sql`select from pg_stat_activity where application_name = 'dbops-migrate'`)],
      ]).toEqual([["1"], ["1"], []]);
    },
  );

  test("while it waits for another runner: nothing was changed", async () => {
    await writeMigrations(directory, files);
    const first = await migrate.start(["up"]);
    await sleeps();
    const second = await migrate.start(["up"]);
    await second.until("is at it: waiting");
    second.signal("SIGINT");
    expect(await second.end()).toMatchObject({ exitCode: 130, stdout: "" });
    first.signal("SIGINT");
    expect((await first.end()).exitCode).toBe(130);
  });
});

describe("a lock that somebody has", () => {
  const files = { "1_people.sql": people, "2_column.sql": migration("alter table people add column age int;") };
  const prepare = async (): Promise<{ letGo: () => Promise<void>; runner: Runner }> => {
    await writeMigrations(directory, { "1_people.sql": people });
    await migrate.run(["up"]);
    await writeMigrations(directory, files);
    return { letGo: await hold("select * from people"), runner: await hasty.start(["up"]) };
  };

  test("is waited for a moment, and then the file is tried again", async () => {
    const { letGo, runner } = await prepare();
    await runner.until("somebody holds a lock that it needs; trying again (2 of 4)");
    await letGo();
    expect(await runner.end()).toMatchObject({
      exitCode: 0,
      stdout: expect.stringContaining("1 migration applied to "),
    });
    expect(await applied()).toEqual(["1", "2"]);
  });

  test("is not waited for for ever: four tries, and nothing was changed", async () => {
    const { letGo, runner } = await prepare();
    const { exitCode, stderr } = await runner.end();
    await letGo();
    expect([exitCode, stderr.slice(stderr.indexOf("Cannot"))]).toEqual([
      1,
      `Cannot apply migrations/2_column.sql: canceling statement due to lock timeout (55P03); it was tried 4 times
  | applied: none
  | taken back whole: 2_column.sql
  next: the same command again
  read: docs/runbook/migration-hangs.md
`,
    ]);
    expect(await applied()).toEqual(["1"]);
  });
});

test("what has done a part by then is not tried again, and the message says that it stays", async () => {
  await writeMigrations(directory, { "1_people.sql": people });
  await migrate.run(["up"]);
  const fill =
    "/* in batches */ do $$ begin insert into people values (7); commit; alter table people add age int; end $$;";
  await writeMigrations(directory, {
    "1_people.sql": people,
    "2_fill.sql": migration(fill, { options: "transaction:false" }),
    "3_more.sql": migration("create table more (id int);"),
  });
  const letGo = await hold("select * from people");
  const { exitCode, stderr } = await hasty.run(["up"]);
  await letGo();
  expect([exitCode, stderr]).toEqual([
    1,
    `To apply to ${place()}, oldest first:
  2_fill.sql   without a transaction
  3_more.sql
         applying 2_fill.sql
Cannot apply migrations/2_fill.sql: canceling statement due to lock timeout (55P03)
  | applied: none
  | not one transaction, so what it did until then stays: 2_fill.sql
  | not applied: 3_more.sql
  next: the same command again
  read: docs/runbook/migration-hangs.md
`,
  ]);
  expect([await applied(), [...(await sql`select id from people`)]]).toEqual([["1"], [{ id: 7 }]]);
});

describe("a statement that fails", () => {
  test("the second of its file, which is taken back whole; with the line of the file", async () => {
    await writeMigrations(directory, {
      "1_people.sql": people,
      "2_bad.sql": migration("create table two (id int);\n\nalter table people\n  add column age integr;"),
      "3_more.sql": migration("create table three (id int);"),
    });
    const { exitCode, stdout, stderr } = await migrate.run(["up"]);
    expect([exitCode, stdout, stderr]).toEqual([
      1,
      "",
      `To apply to ${place()}, oldest first:
  1_people.sql
  2_bad.sql
  3_more.sql
         applying 1_people.sql
         applying 2_bad.sql
Cannot apply migrations/2_bad.sql:7: type "integr" does not exist (42704)
  | 7: add column age integr;
  | applied: 1_people.sql
  | taken back whole: 2_bad.sql
  | not applied: 3_more.sql
  next: correct migrations/2_bad.sql
  next: the same command again
  read: docs/runbook/migration-failed.md
`,
    ]);
    expect([await applied(), await recorded(), [...(await sql`select to_regclass('two') as two`)]]).toEqual([
      ["1"],
      ["1"],
      [{ two: null }],
    ]);
  });

  const allowed = "-- dbops:allow concurrently-if-not-exists somebody thinks so\n";
  test.each([
    ["", ""],
    ["if not exists ", allowed],
  ])("a unique index, CONCURRENTLY %s: never recorded as done", async (clause, allow) => {
    const index = migration(`${allow}create unique index concurrently ${clause}people_email on people (email);`, {
      options: "transaction:false",
    });
    await writeMigrations(directory, {
      "1_people.sql": people,
      "2_twice.sql": migration("insert into people values (1, 'a@x'), (2, 'a@x');"),
      "3_index.sql": index,
    });
    const first = await migrate.run(["up"]);
    expect([first.exitCode, first.stderr.slice(first.stderr.indexOf("Cannot"))]).toEqual([
      1,
      `Cannot apply migrations/3_index.sql: could not create unique index "people_email" (23505)
  | applied: 1_people.sql, 2_twice.sql
  | not one transaction, so what it did until then stays: 3_index.sql
  | left behind, and not valid: public.people_email
  next: ${byHand("drop index concurrently public.people_email;")}
  next: correct migrations/3_index.sql
  next: the same command again
  read: docs/runbook/migration-failed.md
`,
    ]);
    const again = await migrate.run(["up"]);
    expect([again.exitCode, again.stderr]).toEqual([
      3,
      expect.stringMatching(/\nNothing was migrated: migrations\/3_index.sql makes the index public.people_email, /),
    ]);
    const status = await migrate.run(["status", "--exit-code", "--json"]);
    expect([status.exitCode, JSON.parse(status.stdout)]).toMatchObject([
      3,
      { counts: { applied: 2, pending: 1 }, invalidIndexes: ["public.people_email"] },
    ]);
    const check = await drift(["check", "--json"]);
    const { differences, findings } = JSON.parse(check.stdout) as {
      differences: number;
      findings: { kind: string; what: string }[];
    };
    // Behind it are remarks: the starter app's tables are not made here.
    const [only] = findings;
    expect([check.exitCode, differences, only!.kind, only!.what]).toEqual([
      3,
      1,
      "invalid index",
      "public.people_email",
    ]);
    expect(await applied()).toEqual(["1", "2"]);
    await sql.unsafe("delete from people where id = 2");
    await sql`drop index concurrently people_email`;
    expect((await migrate.run(["up"])).exitCode).toBe(0);
    expect([await applied(), await invalid(), (await migrate.run(["status", "--exit-code"])).exitCode]).toEqual([
      ["1", "2", "3"],
      [],
      0,
    ]);
  });
});

const concurrent = { options: "transaction:false", down: "drop index concurrently people_id;" };
const index = migration("create index concurrently people_id on people (id);", concurrent);
/** It waits for that transaction, and is not valid meanwhile. */
const isBuilding = () =>
  until("select from pg_stat_progress_create_index where index_relid <> 0 and phase like 'waiting%'");

describe("an index that is being built CONCURRENTLY", () => {
  const prepare = async () => {
    await writeMigrations(directory, { "1_people.sql": people });
    await migrate.run(["up"]);
    await writeMigrations(directory, { "1_people.sql": people, "2_index.sql": index });
    return await hold("insert into people values (1)");
  };

  test("by another runner: who comes meanwhile waits, and is told to drop nothing", async () => {
    const letGo = await prepare();
    const first = await migrate.start(["up"]);
    await isBuilding();
    const refused = await migrate.run(["up", "--wait", "0"]);
    const second = await migrate.start(["up"]);
    await second.until("is at it: waiting, at most 60 s");
    await letGo();
    expect([refused.exitCode, refused.stderr]).toEqual([
      4,
      expect.stringMatching(/\nNothing was changed: another runner \(Postgres process \d+, /),
    ]);
    const ends = [await first.end(), await second.end()];
    expect(ends.map(({ exitCode, stdout }) => [exitCode, stdout.split(" to ")[0]])).toEqual([
      [0, "1 migration applied"],
      [0, "Another runner has just applied what was pending"],
    ]);
    expect([await applied(), await invalid()]).toEqual([["1", "2"], []]);
  });

  test("by hand, and it is that of a file: it has to be waited for; `status` says who builds it", async () => {
    const letGo = await prepare();
    const building = sql.unsafe("create index concurrently people_id on people (id)").execute();
    await isBuilding();
    const [builder] = await sql`select pid from pg_stat_progress_create_index`;
    const { exitCode, stderr } = await migrate.run(["up"]);
    const { stdout } = await migrate.run(["status"]);
    const { stdout: document } = await migrate.run(["status", "--json"]);
    await letGo();
    await building;
    expect([exitCode, stderr]).toEqual([
      4,
      `To apply to ${place()}, oldest first:
  2_index.sql   without a transaction
Nothing was migrated: migrations/2_index.sql makes the index public.people_id, which Postgres process ${builder!.pid} is building just now
  next: the same command again, when it has ended
  read: docs/runbook/migration-failed.md
`,
    ]);
    expect(stdout).toEndWith(
      `\n  public.people_id is not valid yet: Postgres process ${builder!.pid} is building it\n`,
    );
    expect(JSON.parse(document)).toMatchObject({ invalidIndexes: [], indexesBeingBuilt: ["public.people_id"] });
    expect(await applied()).toEqual(["1"]);
  });

  test("waits for a transaction that reads another table, for as long as that takes, and says for whom", async () => {
    const letGo = await prepare();
    await letGo();
    await sql.unsafe("create table other (id int)");
    const reader = server.connect({ max: 1, connection: { application_name: "nightly report" } });
    await reader.unsafe("begin isolation level repeatable read; select * from other");
    const [{ pid }] = (await reader`select pg_backend_pid() as pid`) as unknown as [{ pid: number }];
    const runner = await migrate.start(["up"]);
    await runner.until(
      new RegExp(
        `\\n {9}waits for Postgres process ${pid} \\(nightly report, its transaction since [\\d-]+ [\\d:]+ UTC\\), at most 15 min; the app does not\\n`,
      ),
    );
    // Longer than that of everything else.
    await until(
      `select where clock_timestamp() > (select xact_start + interval '7 s' from pg_stat_activity where pid = ${pid})`,
    );
    await reader.unsafe("commit");
    await reader.end();
    const { exitCode, stderr } = await runner.end();
    expect([exitCode, stderr.match(/waits for/g)]).toEqual([0, ["waits for"]]);
    expect([await applied(), await invalid()]).toEqual([["1", "2"], []]);
  });

  test("and cannot be: what it has left is dropped, and the next run does it", async () => {
    await writeMigrations(directory, {
      "1_people.sql": people,
      "2_rows.sql": migration("insert into people values (1);"),
    });
    await migrate.run(["up"]);
    // As if the time for a lock were over, which is 15 minutes: for as long as there is a row in "busy".
    await sql.unsafe(`create table busy (); insert into busy default values;
      create function slow(int) returns int immutable language plpgsql as $$ begin
        if exists (select from public.busy) then
          raise exception using errcode = '55P03', message = 'canceling statement due to lock timeout';
        end if;
        return $1;
      end $$`);
    const slow = migration("create index concurrently people_id on people (slow(id));", concurrent);
    await Bun.write(join(directory, "migrations/3_index.sql"), slow);
    const failed = await migrate.run(["up"]);
    const left = await invalid();
    await sql.unsafe("delete from busy");
    const again = await migrate.run(["up"]);
    expect([left, failed.exitCode, failed.stderr]).toEqual([
      [],
      1,
      `To apply to ${place()}, oldest first:
  3_index.sql   without a transaction
         applying 3_index.sql
         drops the index that it could not finish: public.people_id
Cannot apply migrations/3_index.sql: canceling statement due to lock timeout (55P03)
  | applied: none
  | taken back whole: 3_index.sql
  next: the same command again
  read: docs/runbook/migration-hangs.md
`,
    ]);
    expect([again.exitCode, await applied(), await invalid()]).toEqual([0, ["1", "2", "3"], []]);
  });
});

describe("an index that is dropped CONCURRENTLY, interrupted: the same command again drops the rest of it", () => {
  const inUse = async (files: Readonly<Record<string, string>>) => {
    await writeMigrations(directory, { "1_people.sql": people, "2_index.sql": index });
    await migrate.run(["up"]);
    await writeMigrations(directory, { "1_people.sql": people, "2_index.sql": index, ...files });
    return await hold("insert into people values (1)");
  };

  test("up", async () => {
    const letGo = await inUse({ "3_drop.sql": migration("drop index concurrently people_id;", concurrent) });
    const runner = await migrate.start(["up"]);
    await runner.until("waits for Postgres process ");
    const half = await invalid();
    runner.signal("SIGINT");
    const { exitCode, stderr } = await runner.end();
    await letGo();
    const again = await migrate.run(["up"]);
    expect([half, exitCode, stderr.slice(stderr.indexOf("Interrupted"))]).toEqual([
      ["people_id"],
      130,
      `Interrupted: by SIGINT, while migrations were applied
  | applied: none
  | not one transaction, so what it did until then stays: 3_drop.sql
  next: the same command again
`,
    ]);
    expect([again.exitCode, await applied(), await invalid()]).toEqual([0, ["1", "2", "3"], []]);
  });

  test("down", async () => {
    const letGo = await inUse({});
    const runner = await migrate.start(["down", "--lose-data"]);
    await isBlocked();
    runner.signal("SIGINT");
    const { exitCode, stderr } = await runner.end();
    const half = await invalid();
    await letGo();
    const again = await migrate.run(["down", "--lose-data"]);
    expect([half, exitCode, stderr.slice(stderr.indexOf("Interrupted"))]).toEqual([
      ["people_id"],
      130,
      `Interrupted: by SIGINT; it is not one transaction: what it did until then stays
  next: the same command again
`,
    ]);
    expect([again.exitCode, await applied(), await invalid()]).toEqual([0, ["1"], []]);
  });
});

test("an index that somebody else is building just now is none that is not valid", async () => {
  await writeMigrations(directory, { "1_people.sql": people });
  await migrate.run(["up"]);
  await writeMigrations(directory, { "1_people.sql": people, "2_more.sql": migration("create table more ();") });
  const letGo = await hold("insert into people values (1)");
  const runner = await migrate.start(["up"]);
  const building = sql.unsafe("create index concurrently by_hand on people (id)").execute();
  const ended = await runner.end();
  await until("select from pg_index where not indisvalid");
  await writeMigrations(directory, {
    "1_people.sql": people,
    "2_more.sql": migration("create table more ();"),
    "3_last.sql": migration("create table last ();"),
  });
  const { exitCode } = await migrate.run(["up"]);
  await letGo();
  await building;
  expect([ended.exitCode, exitCode, await applied(), await invalid()]).toEqual([0, 0, ["1", "2", "3"], []]);
});

test("a database that is not this machine's stack is migrated only by who says so", async () => {
  await writeMigrations(directory, { "1_people.sql": people });
  const { exitCode, stdout, stderr } = await unsure.run(["up"]);
  expect([exitCode, stdout, stderr]).toEqual([
    5,
    "",
    `To apply to ${place()}, oldest first:
  1_people.sql
Nothing was changed: this needs --yes where there is no terminal to ask on
  | This migrates ${place()}. It makes no backup first; bun scripts/backup.ts --database-url … does, and so does a deploy.
  next: the same command with --yes
`,
  ]);
  expect(await applied()).toEqual([]);
  expect((await migrate.run(["up"])).exitCode).toBe(0);
  expect(await unsure.run(["up"])).toMatchObject({ exitCode: 0, stderr: "" });
});

describe("down", () => {
  test("takes back the newest alone, and forgets its sum", async () => {
    await writeMigrations(directory, {
      "1_people.sql": people,
      "2_more.sql": migration("create table more ();", { down: "drop table more;" }),
    });
    await migrate.run(["up"]);
    const warning = `This takes back migrations/2_more.sql on ${place()}:
  | drop table more;
What it drops is lost, with all that was written since; and the app that runs may need it.
Forward is safer: bun scripts/migrate.ts new NAME
`;
    const asked = await unsure.run(["down", "--lose-data"]);
    expect([asked.exitCode, asked.stderr]).toEqual([
      5,
      `${warning}Nothing was changed: this needs --yes where there is no terminal to ask on
  | This takes back migrations/2_more.sql on ${place()}.
  next: the same command with --yes
`,
    ]);
    const hurried = await migrate.run(["down"]);
    expect([hurried.exitCode, hurried.stderr]).toEqual([
      5,
      `${warning}Nothing was taken back: what it drops of ${place()} is lost, and nobody has said that it may be
  next: bun scripts/migrate.ts new NAME      # forward
  next: the same command with --lose-data
  read: docs/migrations.md
`,
    ]);
    expect(await applied()).toEqual(["1", "2"]);
    const { exitCode, stdout, stderr } = await migrate.run(["down", "--lose-data"]);
    expect([exitCode, stdout, stderr]).toEqual([0, `Taken back on ${place()}: migrations/2_more.sql\n`, warning]);
    expect([await applied(), await recorded(), [...(await sql`select to_regclass('more') as more`)]]).toEqual([
      ["1"],
      ["1"],
      [{ more: null }],
    ]);
  });

  test("refuses where the newest has no file, of which dbmate would take back the one before", async () => {
    await writeMigrations(directory, { "1_people.sql": people, "2_more.sql": migration("create table more ();") });
    await migrate.run(["up"]);
    await writeMigrations(directory, { "1_people.sql": people });
    const { exitCode, stderr } = await migrate.run(["down"]);
    expect([exitCode, stderr]).toEqual([
      5,
      `Nothing was taken back: the newest that is applied is 2_more.sql, and there is no such file in migrations/
  next: bring the file back from git
  read: docs/migrations.md
`,
    ]);
    expect(await applied()).toEqual(["1", "2"]);
  });

  test("refuses where there is no statement, and where a part of them would stay", async () => {
    const down = "/* there is no way back */";
    await writeMigrations(directory, { "1_people.sql": migration("create table people (id int);", { down }) });
    await migrate.run(["up"]);
    const nothing = await migrate.run(["down", "--lose-data"]);
    const half = migration("create table people (id int);", { down: "drop table people; commit; select nope;" });
    await writeMigrations(directory, { "1_people.sql": half });
    const byHalf = await migrate.run(["down", "--lose-data"]);
    expect([nothing, byHalf].map(({ exitCode, stderr }) => [exitCode, stderr.split("\n")[0]])).toEqual([
      [5, 'Nothing was taken back: migrations/1_people.sql has nothing under "-- migrate:down"'],
      [2, "Nothing was taken back: 1_people.sql does what dbmate would not apply as it looks"],
    ]);
    expect([await applied(), await recorded()]).toEqual([["1"], ["1"]]);
  });

  test("interrupted, it takes nothing back", async () => {
    const down = "drop table people;\nselect pg_sleep(60);";
    await writeMigrations(directory, { "1_people.sql": migration("create table people (id int);", { down }) });
    await migrate.run(["up"]);
    const runner = await migrate.start(["down", "--lose-data"]);
    await sleeps();
    runner.signal("SIGINT");
    const { exitCode, stderr } = await runner.end();
    expect([exitCode, stderr.slice(stderr.indexOf("Interrupted"))]).toEqual([
      130,
      "Interrupted: by SIGINT; nothing of it was taken back\n  next: the same command again\n",
    ]);
    expect([await applied(), [...(await sql`select from people`)]]).toEqual([["1"], []]);
  });

  test("interrupted when it is done, it says so", async () => {
    const down = "select pg_advisory_xact_lock(1);\ndrop table people;";
    await writeMigrations(directory, { "1_people.sql": migration("create table people (id int);", { down }) });
    await migrate.run(["up"]);
    const letGo = await hold("select pg_advisory_xact_lock(1)");
    const runner = await migrate.start(["down", "--lose-data"]);
    await isBlocked();
    // As if dbmate's session were not gone yet, so that it is still looking.
    const left = server.connect({ max: 1, connection: { application_name: "dbops-migrate" } });
    await left`select 1`;
    await letGo();
    await until("select where to_regclass('people') is null");
    runner.signal("SIGINT");
    const { exitCode, stdout, stderr } = await runner.end();
    await left.end();
    expect([exitCode, stdout, stderr.slice(stderr.indexOf("Interrupted"))]).toEqual([
      130,
      "",
      "Interrupted: by SIGINT; migrations/1_people.sql is taken back all the same\n",
    ]);
    expect([await applied(), await recorded()]).toEqual([[], []]);
  });

  test("one that fails takes nothing back, and says where", async () => {
    await writeMigrations(directory, {
      "1_people.sql": migration("create table people ();", { down: "drop table people;\ndrop table people;" }),
    });
    await migrate.run(["up"]);
    const { exitCode, stderr } = await migrate.run(["down", "--lose-data"]);
    expect([exitCode, stderr]).toEqual([
      1,
      expect.stringContaining('table "people" does not exist (42P01); nothing of it was taken back\n'),
    ]);
    expect(await applied()).toEqual(["1"]);
  });
});

describe("a role", () => {
  test("that may not create a schema migrates all the same, and is told what is lost by that", async () => {
    await sql.unsafe("create role low login password 'low'; grant all on schema public to low");
    try {
      await writeMigrations(directory, { "1_people.sql": people });
      const url = `postgres://low@127.0.0.1:${server.port}/app`;
      const { run: asLow } = migrateIn({
        directory,
        environment: { ...(await postgresEnvironment()), PGPASSWORD: "low" },
        words: ["--database-url", url, "--yes"],
      });
      const { exitCode, stderr } = await asLow(["up"]);
      expect([exitCode, stderr]).toEqual([
        0,
        expect.stringContaining(
          "         warning: the sums of the files cannot be kept (permission denied for database app): ",
        ),
      ]);
      expect(await applied()).toEqual(["1"]);
    } finally {
      await sql.unsafe("drop owned by low; drop role low");
    }
  });

  test("that may only read can ask for the status", async () => {
    await writeMigrations(directory, { "1_people.sql": people });
    await migrate.run(["up"]);
    await sql.unsafe(
      "create role reader login password 'reader'; grant usage on schema public to reader; grant select on schema_migrations to reader",
    );
    try {
      const url = `postgres://reader@127.0.0.1:${server.port}/app`;
      const { run: asReader } = migrateIn({
        directory,
        environment: { ...(await postgresEnvironment()), PGPASSWORD: "reader" },
        words: ["--database-url", url, "--yes"],
      });
      const { exitCode, stdout } = await asReader(["status", "--json"]);
      expect([exitCode, JSON.parse(stdout).counts]).toEqual([0, { applied: 1 }]);
    } finally {
      await sql.unsafe("drop owned by reader; drop role reader");
    }
  });
});

test("without psql on this machine: what `up --engine embedded` runs is migrated by our own driver", async () => {
  await writeMigrations(directory, three);
  const bin = mkdtempSync(join(tmpdir(), "dbops-bin-"));
  const here = ["sh", "head", "tar", "mktemp", "rm", "wc"];
  for (const name of here) symlinkSync(Bun.which(name)!, join(bin, name));
  const environment = { PATH: bin, TMPDIR: temporary, POSTGRES_PORT: `${server.port}` };
  await Bun.write(
    join(directory, ".env"),
    `POSTGRES_DB=app\nPOSTGRES_USER=app\nPOSTGRES_PASSWORD=${server.password}\nCOMPOSE_PROJECT_NAME=none\n`,
  );
  try {
    const { run: local } = migrateIn({ directory, environment });
    const { exitCode, stdout, stderr } = await local(["up"]);
    expect([exitCode, exitCode === 0 ? "" : stderr, stdout]).toEqual([
      0,
      "",
      expect.stringMatching(/^3 migrations applied to "app" on this machine, in /),
    ]);
    expect([await applied(), await recorded()]).toEqual([
      ["1", "2", "3"],
      ["1", "2", "3"],
    ]);
    expect((await local(["status"])).stdout).toContain('3 applied: "app" on this machine\n');
  } finally {
    rmSync(bin, { recursive: true });
    await rm(join(directory, ".env"));
  }
});
