// dbmate and psql: one database, whatever the environment says, and however psql was led there.
import { afterAll, beforeAll, beforeEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type postgres from "postgres";
import { formatFailure } from "../../scripts/lib/failure.ts";
import { lookAfter } from "../../scripts/lib/migration-apply.ts";
import { readMigrations } from "../../scripts/lib/migration-file.ts";
import { lockMigrations } from "../../scripts/lib/migration-lock.ts";
import { notApplied } from "../../scripts/lib/migration-outcome.ts";
import { type DbmateRun, runDbmate } from "../../scripts/lib/migration-run.ts";
import { directPlace } from "../../scripts/lib/place.ts";
import { sendSignal } from "../../scripts/lib/run.ts";
import { poll } from "../../scripts/lib/wait.ts";
import { postgresEnvironment } from "../lab/debian-programs.ts";
import { migrateIn, migration, writeMigrations } from "../lab/migrate.ts";
import { startPostgres, type TestPostgres } from "../lab/postgres.ts";
import { argvOf, childrenOf } from "../lab/processes.ts";
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
    await sql`select string_agg(name, ' ' order by name collate "C") as names
    from (select schemaname || '.' || tablename as name from pg_tables where schemaname in ('public', 'app', 'dbops')) q`
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

describe("one that does not end", () => {
  /** Of a file that takes ten minutes, in a folder beside the project's. */
  async function slow(more: Partial<DbmateRun>) {
    await writeMigrations(directory, {
      "1_people.sql": migration("create table people (id int);\nselect pg_sleep(600);"),
    });
    const files = await readMigrations(directory);
    const place = { ...directPlace(server, "test"), environment: "local" };
    const interrupted = new AbortController().signal;
    const job = { place, directory, files, words: ["up", "--strict"], interrupted, onLine: () => {}, ...more } as const;
    const lock = await lockMigrations({ place, waitSeconds: 0, interrupted, onWait: () => {} });
    return { files, place, lock, running: runDbmate(job) };
  }

  test("is ended when its time is over, and so is what it has begun", async () => {
    const { files, place, lock, running } = await slow({ timeoutSeconds: 1 });
    try {
      const end = await running;
      const seen = await lookAfter({ place, interrupted: new AbortController().signal }, lock, end);
      expect(await tables()).toBe("public.schema_migrations");
      expect(formatFailure(notApplied({ pending: files, applied: seen.applied, spoilt: [], end, tries: 1 }))).toBe(
        `Cannot apply migrations/1_people.sql: it was not done within 1.0 s, and was ended
  | applied: none
  | taken back whole: 1_people.sql
  next: the same command again
  read: docs/runbook/migration-failed.md`,
      );
    } finally {
      await lock.release();
    }
  });

  test("and hears nothing either: an interruption waits no longer than 15 s", async () => {
    const controller = new AbortController();
    const { place, lock, running } = await slow({ interrupted: controller.signal });
    let folders: string[] = [];
    try {
      const shell = await poll({ seconds: 20 }, async () => childrenOf(process.pid).find(runsDbmate));
      await poll({ seconds: 20 }, async () => (await isSleeping()) || undefined);
      const prefix = join(tmpdir(), "dbops-migrations.");
      folders = childrenOf(shell!).flatMap((pid) => argvOf(pid).filter((word) => word.startsWith(prefix)));
      expect(folders).toHaveLength(1);
      // As where Docker hangs.
      sendSignal(-shell!, "SIGSTOP");
      controller.abort(new Error("interrupted"));
      const end = await running;
      expect(end).toEqual({ code: "SIGKILL", lines: ["Applying: 1_people.sql"], isCutOff: true });
      expect((await lookAfter({ place, interrupted: controller.signal }, lock, end)).applied).toEqual([]);
      expect(await tables()).toBe("public.schema_migrations");
    } finally {
      await lock.release();
      // Nobody was left who could.
      for (const folder of folders) await rm(folder, { recursive: true });
    }
  });

  const runsDbmate = (pid: number) => argvOf(pid).some((word) => word.includes("dbops-migrations"));
  const isSleeping = async () =>
    (
      await sql`select from pg_stat_activity where query like '%pg_sleep(600)%' and state = 'active' and pid <> pg_backend_pid()`
    ).length > 0;
});
