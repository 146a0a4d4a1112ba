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
    invalidIndexes: [],
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

test("two runners at once, with an index CONCURRENTLY: one applies, the other waits", async () => {
  await writeMigrations(project.directory, {
    "1_people.sql": people,
    "2_insert.sql": migration("insert into people values (1);", { options: "transaction:false" }),
    "3_sleep.sql": migration("select pg_sleep(2);"),
    "4_index.sql": migration("create index concurrently people_id on people (id);", { options: "transaction:false" }),
  });
  const first = await migrate.start(["up", "--json"]);
  await sleeps();
  const second = await migrate.start(["up", "--json"]);
  await second.until("is at it: waiting, at most 60 s");
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
