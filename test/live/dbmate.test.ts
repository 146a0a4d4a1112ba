// dbmate and psql: one database, whatever the environment says, and however psql was led there.
import { afterAll, beforeAll, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import { rm } from "node:fs/promises";
import type postgres from "postgres";
import { postgresEnvironment } from "../lab/debian-programs.ts";
import { migrateIn, migration, writeMigrations } from "../lab/migrate.ts";
import { startPostgres, type TestPostgres } from "../lab/postgres.ts";
import { linkPackages, writeProjectFiles } from "../lab/project-files.ts";

setDefaultTimeout(120_000);

let server: TestPostgres;
let sql: postgres.Sql;
let directory: string;
let environment: Record<string, string>;

beforeAll(async () => {
  [server, { directory }] = await Promise.all([startPostgres(), writeProjectFiles()]);
  await linkPackages(directory);
  sql = server.connect({ max: 2 });
  environment = { ...(await postgresEnvironment()), PGPASSWORD: server.password };
  await writeMigrations(directory, {
    "1_people.sql": migration("create table people (id int);", { down: "drop table people;" }),
  });
});
afterAll(async () => {
  await server?.stop();
  await rm(directory, { recursive: true, force: true });
});
beforeEach(async () => {
  await sql.unsafe("drop schema public cascade; create schema public; drop schema if exists dbops, app cascade");
});

const migrateTo = (parameters = "") => {
  const url = `postgres://app@127.0.0.1:${server.port}/app${parameters}`;
  return migrateIn({ directory, environment, words: ["--database-url", url, "--yes"] });
};
const tables = async () =>
  (
    await sql`select string_agg(schemaname || '.' || tablename, ' ' order by 1) as names from pg_tables
    where schemaname in ('public', 'app', 'dbops')`
  )[0]!.names as string | null;

test("what the environment says leads dbmate nowhere else", async () => {
  const misleading = {
    // Nobody listens there.
    ...{ PGHOSTADDR: "127.0.0.9", PGSERVICE: "nope", PGSERVICEFILE: "/nope", PGPORT: "1", PGDATABASE: "nope" },
    ...{ DBMATE_MIGRATIONS_TABLE: "elsewhere", DBMATE_MIGRATIONS_DIR: "/nope", DBMATE_DRIVER: "mysql" },
    ...{ DATABASE_URL: "postgres://nope/nope", DBMATE_NO_DUMP_SCHEMA: "false", DBMATE_SCHEMA_FILE: "/nope" },
  };
  const up = await migrateTo().run(["up"], misleading);
  expect([up.exitCode, up.stdout]).toEqual([
    0,
    expect.stringMatching(/^1 migration applied to "app" on 127\.0\.0\.1:/),
  ]);
  expect(await tables()).toBe("dbops.migration_files public.people public.schema_migrations");
  const down = await migrateTo().run(["down", "--lose-data"], misleading);
  expect([down.exitCode, down.stdout]).toEqual([
    0,
    `Taken back on "app" on 127.0.0.1:${server.port}: migrations/1_people.sql\n`,
  ]);
  expect(await tables()).toBe("dbops.migration_files public.schema_migrations");
});

test("what leads psql to a schema leads dbmate there", async () => {
  await sql.unsafe("create schema app");
  expect((await migrateTo().run(["up"], { PGOPTIONS: "-c search_path=app" })).exitCode).toBe(0);
  expect(await tables()).toContain("app.people");
});

test("a server that is not the one asked for: dbmate obeys as psql does", async () => {
  const { exitCode, stderr } = await migrateTo("?target_session_attrs=standby").run(["up"]);
  expect([exitCode, stderr]).toEqual([1, expect.stringContaining("server is not in hot standby mode")]);
  expect((await migrateTo("?target_session_attrs=read-write").run(["up"])).exitCode).toBe(0);
  expect(await tables()).toContain("public.people");
});

test("where dbmate cannot be as careful as psql, nothing is done", async () => {
  for (const words of [["up"], ["up", "--plan"], ["down"]]) {
    const { exitCode, stdout, stderr } = await migrateTo("?channel_binding=require").run(words);
    expect([exitCode, stdout, stderr]).toEqual([
      2,
      "",
      `Cannot migrate: channel_binding=require is for psql alone: dbmate connects without it
  next: leave it out, and say instead: sslmode=verify-full
`,
    ]);
  }
  expect(await tables()).toBeNull();
});
