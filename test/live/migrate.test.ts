// scripts/migrate.ts in a Compose stack, as people have it: dbmate in its container, psql in that of Postgres.
import { afterAll, beforeAll, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { run } from "../../scripts/lib/run.ts";
import { poll } from "../../scripts/lib/wait.ts";
import { startEngine } from "../lab/engine.ts";
import { migrateIn, migration, writeMigrations } from "../lab/migrate.ts";
import { createProject, type Project } from "../lab/project.ts";
import { linkPackages } from "../lab/project-files.ts";
import { programs } from "../lab/repository.ts";

setDefaultTimeout(120_000);

let project: Project;
let migrate: ReturnType<typeof migrateIn>;
let environment: Record<string, string>;

beforeAll(async () => {
  ({ environment } = await startEngine());
  project = await createProject();
  await project.setEnvironment({ COMPOSE_PROJECT_NAME: project.name });
  await linkPackages(project.directory);
  migrate = migrateIn({ directory: project.directory, environment });
  await project.compose(["up", "--detach", "--wait", "postgres"]);
}, 300_000);
afterAll(() => project?.remove());
beforeEach(async () => {
  await sql("drop schema public cascade; create schema public; drop schema if exists dbops cascade");
  expect(await containers()).toBe("");
});

async function sql(text: string): Promise<string> {
  const psql = ["psql", "-h", "127.0.0.1", "-U", "dbops_app", "-v", "ON_ERROR_STOP=1", "-qtA", "--file=-"];
  return (await project.compose(["exec", "-T", "postgres", ...psql], { stdin: text })).stdout.trim();
}

/** Those of dbmate, running or not. */
const containers = async () =>
  (
    await project.docker([
      "ps",
      "--all",
      "--quiet",
      "--filter",
      `label=com.docker.compose.project=${project.name}`,
      "--filter",
      "label=com.docker.compose.service=migrations",
    ])
  ).stdout;

async function until(query: string): Promise<void> {
  const seen = await poll({ seconds: 30 }, async () => (await sql(query)) !== "" || undefined);
  if (!seen) throw new Error(`waited in vain until "${query}"`);
}

const applied = () => sql("select string_agg(version, ' ' order by version) from schema_migrations");
const people = migration("create table people (id int);");
const sleeping = migration("insert into people values (1);\nselect pg_sleep(60);");
const sleeps = () => until("select pid from pg_stat_activity where wait_event = 'PgSleep'");

test("a day: new, up, status, down; each says what it does, and twice is harmless", async () => {
  await writeMigrations(project.directory, { "20260101000000_people.sql": people.replaceAll("\n", "\r\n") });
  const made = await migrate.run(["new", "Add größe", "--json"]);
  const { version, file } = JSON.parse(made.stdout);
  expect(file).toBe(`migrations/${version}_add_gro_e.sql`);
  const template = await readFile(join(project.directory, "migrations/TEMPLATE.sql"), "utf8");
  expect(await readFile(join(project.directory, file), "utf8")).toBe(template);
  await project.write(
    file,
    migration('alter table people add column "größe ☃" int;', { down: 'alter table people drop column "größe ☃";' }),
  );

  const plan = await migrate.run(["up", "--plan"]);
  expect(plan.stdout).toBe(
    `To apply to "dbops_app" on this machine, oldest first:\n  20260101000000_people.sql\n  ${version}_add_gro_e.sql\n`,
  );
  expect(await sql("select to_regclass('schema_migrations'), to_regnamespace('dbops')")).toBe("|");

  const up = await migrate.run(["up"]);
  expect([up.exitCode, up.stdout]).toEqual([
    0,
    expect.stringMatching(
      /^2 migrations applied to "dbops_app" on this machine, in [\d.]+ s\n +\d\.\d\d s {2}20260101000000_people.sql\n +\d\.\d\d s {2}\d{14}_add_gro_e.sql\n$/,
    ),
  ]);
  expect(await sql('select "größe ☃" from people; select count(*) from dbops.migration_files')).toBe("2");

  expect(await migrate.run(["up"])).toMatchObject({
    exitCode: 0,
    stdout: 'Nothing is pending: all 2 migrations are applied to "dbops_app" on this machine\n',
    stderr: "",
  });
  expect(JSON.parse((await migrate.run(["status", "--json"])).stdout)).toEqual({
    environment: "local",
    database: "dbops_app",
    migrations: [
      { version: "20260101000000", file: "20260101000000_people.sql", state: "applied" },
      { version, file: `${version}_add_gro_e.sql`, state: "applied" },
    ],
    counts: { applied: 2 },
    withoutSum: [],
    invalidIndexes: [],
    indexesBeingBuilt: [],
  });
  const down = await migrate.run(["down", "--yes", "--json"]);
  expect(JSON.parse(down.stdout)).toEqual({
    environment: "local",
    database: "dbops_app",
    version,
    file: `${version}_add_gro_e.sql`,
  });
  expect(await applied()).toBe("20260101000000");
});

test("under Deno", async () => {
  await writeMigrations(project.directory, { "1_people.sql": people });
  const deno = (words: string[]) =>
    run({
      argv: [join(programs, "deno"), "run", "-A", "--quiet", "scripts/migrate.ts", ...words],
      directory: project.directory,
      environment,
    });
  expect((await deno(["up"])).stdout).toStartWith('1 migration applied to "dbops_app" on this machine, in ');
  expect((await deno(["status"])).stdout).toBe(
    'state    migration\napplied  1_people.sql\n1 applied: "dbops_app" on this machine\n',
  );
});

test("an error has its line in the file, and what was applied stays", async () => {
  await writeMigrations(project.directory, {
    "1_people.sql": people,
    "2_bad.sql": migration("select 1;\nselect oops;"),
  });
  const { exitCode, stdout, stderr } = await migrate.run(["up"]);
  expect([exitCode, stdout, stderr.slice(stderr.indexOf("Cannot"))]).toEqual([
    1,
    "",
    `Cannot apply migrations/2_bad.sql:5: column "oops" does not exist (42703)
  | 5: select oops;
  | applied: 1_people.sql
  | taken back whole: 2_bad.sql
  next: correct migrations/2_bad.sql
  next: the same command again
  read: docs/runbook/migration-failed.md
`,
  ]);
  expect(await applied()).toBe("1");
});

test("a program gets what was applied and what was not; what Compose's own service has applied is counted by `status`", async () => {
  await writeMigrations(project.directory, { "1_people.sql": people });
  await project.compose(["run", "--rm", "--no-deps", "--no-TTY", "migrations"]);
  await project.write("migrations/2_more.sql", migration("create table more (id int);"));
  await project.write("migrations/3_bad.sql", migration("select oops;"));
  await project.write("migrations/4_last.sql", migration("select 1;"));
  const status = await migrate.run(["status", "--json"]);
  expect(JSON.parse(status.stdout)).toMatchObject({ counts: { applied: 1, pending: 3 }, withoutSum: ["1"] });
  const { exitCode, stdout } = await migrate.run(["up", "--json"]);
  expect([exitCode, JSON.parse(stdout).error.facts]).toEqual([
    1,
    {
      applied: ["2_more.sql"],
      failed: { file: "3_bad.sql", line: 4, isTakenBack: true },
      notApplied: ["4_last.sql"],
      notValid: [],
    },
  ]);
  const then = await migrate.run(["status", "--json"]);
  expect(JSON.parse(then.stdout)).toMatchObject({ counts: { applied: 2, pending: 2 }, withoutSum: [] });
});

test("what dbmate would not apply as it looks is not begun", async () => {
  await writeMigrations(project.directory, {
    "1_people.sql": people,
    "2_half.sql": migration("insert into people values (1); commit;\ninsert into people values (2);"),
    "3_two.sql": migration("analyze people;\nanalyze;", { options: "transaction:false" }),
  });
  const says = `  | 2_half.sql:4: COMMIT ends or nests the transaction of dbmate (transaction-control)
  | 3_two.sql:5: when this statement fails, the one before it stays, and the file cannot be applied again (several-without-transaction)
  next: bun scripts/migrate.ts lint migrations/2_half.sql migrations/3_two.sql
  read: docs/migrations.md
`;
  for (const words of [["up"], ["up", "--plan"]]) {
    const { exitCode, stdout, stderr } = await migrate.run(words);
    expect([exitCode, stdout, stderr]).toEqual([
      2,
      "",
      `Nothing was migrated: 2_half.sql, 3_two.sql do what dbmate would not apply as it looks\n${says}`,
    ]);
  }
  expect(await sql("select to_regclass('people'), to_regnamespace('dbops')")).toBe("|");
  const lint = await migrate.run(["lint", "--no-squawk", "migrations/2_half.sql", "migrations/3_two.sql"]);
  expect([lint.exitCode, lint.stdout]).toEqual([3, expect.stringContaining("transaction-control")]);
});

test("an index that could not be built: the command that it names is one", async () => {
  await writeMigrations(project.directory, {
    "1_people.sql": people,
    "2_twice.sql": migration("insert into people values (1), (1);"),
    "3_index.sql": migration('create unique index concurrently "people\'s" on people (id);', {
      options: "transaction:false",
    }),
  });
  const { exitCode, stdout } = await migrate.run(["up", "--json"]);
  const { next } = JSON.parse(stdout).error as { next: string[] };
  expect([exitCode, next]).toEqual([
    1,
    [
      `docker compose exec postgres psql --username dbops_app --dbname dbops_app --command 'drop index concurrently public."people'\\''s";'`,
      "correct migrations/3_index.sql",
      "the same command again",
    ],
  ]);
  await run({ argv: ["sh", "-c", next[0]!], directory: project.directory, environment });
  expect(await sql("select 'invalid' from pg_index where not indisvalid")).toBe("");
  await sql("delete from people");
  expect((await migrate.run(["up"])).exitCode).toBe(0);
});

test("an index CONCURRENTLY waits for a report that takes longer than any other lock may, and says for whom", async () => {
  await writeMigrations(project.directory, { "1_people.sql": people });
  await migrate.run(["up"]);
  const index = migration("create index concurrently people_id on people (id);", { options: "transaction:false" });
  await project.write("migrations/2_index.sql", index);
  await sql("create table other ()");
  const report = sql(
    "set application_name = 'report'; begin isolation level repeatable read; select from other; select pg_sleep(90);",
  ).catch(() => "was ended");
  await sleeps();
  const runner = await migrate.start(["up"]);
  await runner.until(
    /\n {9}waits for Postgres process \d+ \(report, its transaction since .+\), at most 15 min; the app does not\n/,
  );
  await until(
    "select pid from pg_stat_activity where application_name = 'dbops-migrate' and clock_timestamp() - query_start > interval '7 s'",
  );
  await sql("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'report'");
  expect([await report, (await runner.end()).exitCode, await applied()]).toEqual(["was ended", 0, "1 2"]);
  expect(await sql("select 'invalid' from pg_index where not indisvalid")).toBe("");
});

test("two runners at once, with an index CONCURRENTLY: one applies, the other waits", async () => {
  await writeMigrations(project.directory, {
    "1_people.sql": people,
    "2_insert.sql": migration("insert into people values (1);", { options: "transaction:false" }),
    "3_wait.sql": migration(
      "do $$ begin while not exists (select from go) loop perform pg_sleep(0.1); end loop; end $$;",
    ),
    "4_index.sql": migration("create index concurrently people_id on people (id);", { options: "transaction:false" }),
  });
  await sql("create table go ()");
  const first = await migrate.start(["up", "--json"]);
  await sleeps();
  const second = await migrate.start(["up", "--json"]);
  await second.until("is at it: waiting, at most 60 s");
  await sql("insert into go default values");
  const ends = [await first.end(), await second.end()];
  expect(ends.map(({ exitCode, stdout }) => [exitCode, JSON.parse(stdout).applied.length])).toEqual([
    [0, 4],
    [0, 0],
  ]);
  expect([
    await applied(),
    await sql("select id from people; select 'invalid' from pg_index where not indisvalid"),
  ]).toEqual(["1 2 3 4", "1"]);
});

test.each([
  { name: "SIGINT", exitCode: 130 },
  { name: "SIGKILL", exitCode: "SIGKILL" },
] as const)(
  "$name: dbmate's container goes, its file is taken back, and the next runner does the rest",
  async ({ name, exitCode }) => {
    await writeMigrations(project.directory, { "1_people.sql": people, "2_sleep.sql": sleeping });
    const runner = await migrate.start(["up"]);
    await sleeps();
    runner.signal(name);
    const ended = await runner.end();
    expect(ended.exitCode).toBe(exitCode);
    if (name === "SIGINT")
      expect(ended.stderr).toContain("\n  | applied: 1_people.sql\n  | taken back whole: 2_sleep.sql\n");
    const isGone = await poll({ seconds: 20 }, async () => (await containers()) === "" || undefined);
    expect([isGone, await applied()]).toEqual([true, "1"]);
    await writeMigrations(project.directory, {
      "1_people.sql": people,
      "2_sleep.sql": migration("insert into people values (2);"),
    });
    const next = await migrate.start(["up"]);
    // What the killed one has begun in Postgres, nobody but Postgres ends: the next runner waits for it.
    if (name === "SIGKILL") {
      await next.until("dbmate (Postgres process ");
      await sql("select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'PgSleep'");
    }
    expect((await next.end()).exitCode).toBe(0);
    expect([await applied(), await sql("select id from people")]).toEqual(["1 2", "2"]);
  },
);

test("where Postgres does not run, it says how to start it", async () => {
  await writeMigrations(project.directory, { "1_people.sql": people });
  await project.compose(["stop", "--timeout", "5", "postgres"]);
  const { exitCode, stdout } = await migrate.run(["up", "--json"]);
  await project.compose(["up", "--detach", "--wait", "postgres"]);
  expect([exitCode, JSON.parse(stdout).error]).toMatchObject([
    1,
    { what: "Cannot reach the database of this machine", next: ["bun scripts/up.ts"] },
  ]);
});
