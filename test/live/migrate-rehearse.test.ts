// scripts/migrate.ts rehearse with a real Postgres in a container, a real S3 server and real gpg: what pending files do to the data of a
// backup is measured beside the live database, which nobody touches, or in a container; and nothing of it stays.
import { afterAll, beforeAll, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Result, run, sendSignal } from "../../scripts/lib/run.ts";
import { poll } from "../../scripts/lib/wait.ts";
import { type BackupProject, createBackupProject } from "../lab/backup-project.ts";

setDefaultTimeout(180_000);

let folder: string;
let lab: BackupProject;
let backup: string;
const rows = 200_000;
/** Of this test's own; the shipped ones are older. */
const written: string[] = [];

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "dbops-rehearse-"));
  lab = await createBackupProject(folder);
  await lab.configure();
  await lab.project.compose(["run", "--rm", "migrations"]);
  await lab.sql(`create table readings as select g as id, g % 10 as kind, md5(g::text) as text from generate_series(1, ${rows}) g;
    alter table readings add primary key (id); create table orders (id int primary key, reading int);
    insert into orders select g, g from generate_series(1, 500) g; create view shown as select kind from readings; analyze;
    create function hidden() returns trigger language plpgsql as $$ begin execute 'al' || 'ter role dbops_app set work_mem = ''7MB'''; return null; end $$;
    create table watched (id int); create trigger hidden after insert on watched for each row execute function hidden();
    create extension postgres_fdw; create server live foreign data wrapper postgres_fdw options (dbname 'dbops_app');
    create user mapping for dbops_app server live options (user 'dbops_app'); create foreign table elsewhere (id int, reading int) server live options (table_name 'orders');
    create extension dblink; create table told (id int); create function tell() returns trigger language plpgsql as
      $$ begin perform dblink_exec('dbname=dbops_app user=dbops_app', 'insert into orders values (0, 0)'); return null; end $$;
    create trigger tell after insert on told for each row execute function tell()`);
  // Both would reach the live database.
  await lab.sql(
    "begin; insert into told values (1); rollback; insert into elsewhere values (-1, -1); delete from orders where id < 1",
  );
  const made = await lab.backup(["--json"]);
  backup = (JSON.parse(made.stdout) as { id: string }).id;
  // The backup does not know this one.
  await lab.project.write("migrations/20990101000000_early.sql", section("create table early (id int);"));
  await lab.project.compose(["run", "--rm", "migrations"]);
}, 300_000);
beforeEach(async () => {
  for (const name of written.splice(0)) rmSync(join(lab.project.directory, "migrations", name));
  await limits({});
});
afterAll(async () => {
  await lab?.remove();
  rmSync(folder, { recursive: true, force: true });
});

const section = (sql: string, options = "") => `-- migrate:up${options}\n${sql}\n\n-- migrate:down\nselect 1;\n`;

async function pending(files: Readonly<Record<string, string>>): Promise<void> {
  for (const [name, text] of Object.entries(files)) {
    written.push(`${name}.sql`);
    await lab.project.write(`migrations/${name}.sql`, text);
  }
}

async function limits(rehearse: Record<string, number>): Promise<void> {
  await lab.configure();
  const path = join(lab.project.directory, "dbops.config.ts");
  const text = readFileSync(path, "utf8");
  const line = `  migrations: { rehearse: ${JSON.stringify(rehearse)} },\n`;
  await lab.project.write("dbops.config.ts", text.replace("  deploy: {", `${line}  deploy: {`));
}

/** All that there is on the server: its databases, its roles, and every row of the live one. */
async function everything(): Promise<string> {
  const names = await lab.sql(
    "select datname from pg_database order by 1; select rolname, rolconfig from pg_roles order by 1",
  );
  const words = [
    "exec",
    lab.project.container("postgres"),
    "pg_dump",
    "-U",
    "dbops_app",
    "--restrict-key=test",
    "dbops_app",
  ];
  return names + (await lab.project.docker(words)).stdout;
}

async function untouched(work: () => Promise<void>): Promise<void> {
  const before = await everything();
  await work();
  expect(await everything()).toBe(before);
}

/** What differs from one run to the next. */
const still = (text: string) =>
  text
    .replaceAll(backup, "BACKUP")
    .replace(/as it was [\d.]+ s ago(?: \([^)]+\))?(, [\d.]+ kB|, [\d.]+ MB)?/g, "as it was SOON ago")
    .replaceAll(/_rehearse_\d{8}T\d{6}/g, "_rehearse_TIME")
    .replaceAll(/about [\d.]+ MB/g, "about ROOM")
    .replaceAll(/\d+\.\d\d s/g, "TIME")
    .replaceAll(/for [\d.]+ s(?:,|$)/g, "for TIME,")
    .replaceAll(/[+-][\d.]+ (?:MB|kB|bytes)|as large as before/g, "SIZE");

/** Without what each step took. */
const failureIn = (stderr: string) =>
  stderr.slice(stderr.search(/^(?:Cannot|The |Nothing|Interrupted|Postgres)/m)).trimEnd();

const rehearse = (words: readonly string[] = []): Promise<Result> => lab.migrate(["rehearse", ...words]);

test("a backup that has all of them: nothing to do but to say so", async () => {
  rmSync(join(lab.project.directory, "migrations/20990101000000_early.sql"));
  const { exitCode, stdout } = await rehearse();
  await lab.project.write("migrations/20990101000000_early.sql", section("create table early (id int);"));
  expect([exitCode, still(stdout)]).toEqual([
    0,
    "Nothing to rehearse: the backup BACKUP has all files of migrations/\n",
  ]);
});

test("the live database has all that the backup lacks: nothing to do either", async () => {
  const { exitCode, stdout, stderr } = await rehearse();
  expect([exitCode, still(stdout), stderr]).toEqual([
    0,
    "Nothing to rehearse: the live database has all files of migrations/; of these, the backup BACKUP lacks 20990101000000_early.sql\n",
    "",
  ]);
});

test("the plan, and nothing is done", async () => {
  await pending({ "20990102000000_wide": section("alter table readings alter column id type bigint;") });
  await untouched(async () => {
    const { exitCode, stdout } = await rehearse(["--plan"]);
    expect([exitCode, still(stdout)]).toEqual([
      0,
      `Rehearsal of 2 migrations with backup BACKUP, as it was SOON ago
  on this machine, beside "dbops_app", which is not touched
  1. restore into a new database "dbops_app_rehearse_TIME"; it takes about ROOM of disk
  2. check it: 8 tables, row by row counted
  3. apply 20990101000000_early.sql, which the live database has already
  4. apply 20990102000000_wide.sql
  5. remove that database
  limits: 300 s for a file, 2 s for a lock that makes the app wait, 1000000 rows written anew
`,
    ]);
    const { stdout: json } = await rehearse(["--plan", "--json"]);
    expect(JSON.parse(json)).toMatchObject({
      backup,
      files: [
        { file: "20990101000000_early.sql", isLive: true },
        { file: "20990102000000_wide.sql", isLive: false },
      ],
    });
  });
});

test("--from: the latest backup of another environment, which is to be made there", async () => {
  const { exitCode, stdout, stderr } = await rehearse(["--plan", "--from", "production"]);
  expect([exitCode, stdout, stderr]).toEqual([
    3,
    "",
    `There is no backup to rehearse with: there is none of the whole database of production
  next: bun scripts/backup.ts --on production
  next: bun scripts/backup.ts list
  read: docs/rehearse.md
`,
  ]);
  await pending({ "20990102000000_wide": section("alter table readings alter column id type bigint;") });
  const own = await rehearse(["--plan", "--from", "local"]);
  expect([own.exitCode, still(own.stdout).split("\n")[0]]).toEqual([
    0,
    "Rehearsal of 2 migrations with backup BACKUP, as it was SOON ago",
  ]);
});

test("what each kind of change does: locks, for how long, rows written anew, sizes; the live database is as it was", async () => {
  await limits({ fileSeconds: 60, lockSeconds: 30 });
  await pending({
    "20990102000000_wide": section(
      "drop view shown;\n-- all of it is written anew\nalter table readings\n  alter column id type bigint;\nalter table orders add column note text;",
    ),
    "20990102000001_by_kind": section("create index concurrently by_kind on readings (kind)", " transaction:false"),
    "20990102000002_positive": section("alter table readings add constraint positive check (id > 0) not valid;"),
    "20990102000003_validate": section("alter table readings validate constraint positive;"),
    "20990102000004_by_text": section("create index by_text on readings (text);"),
    "20990102000005_later": section(
      "create table later as select * from orders;\nupdate readings set kind = 0 where id <= 1000;\ntruncate orders;",
    ),
  });
  await untouched(async () => {
    const { exitCode, stdout, stderr } = await rehearse(["--json"]);
    expect([exitCode, stderr.split("\n").at(-2)], stderr).toEqual([0, expect.stringMatching(/^ {2}done {3}clean/)]);
    const found = JSON.parse(stdout);
    expect([found.backup, found.findings, found.where.kind]).toEqual([backup, [], "beside"]);
    const seen = found.files.map(
      (file: { locks: { table: string; mode: string; line: number }[]; rewritten: unknown }) => [
        file.locks.map(({ table, mode, line }) => `${table} ${mode} ${line}`),
        file.rewritten,
      ],
    );
    expect(seen).toEqual([
      [[], []],
      [
        [
          "public.orders AccessExclusiveLock 6",
          "public.readings AccessExclusiveLock 4",
          "public.readings ShareLock 4",
          "public.shown AccessExclusiveLock 2",
        ],
        [{ table: "public.readings", rows, line: 4, by: "rewrite" }],
      ],
      [["public.readings ShareUpdateExclusiveLock 2"], []],
      [["public.readings AccessExclusiveLock 2"], []],
      [["public.readings ShareUpdateExclusiveLock 2"], []],
      [["public.readings ShareLock 2"], []],
      [
        ["public.orders AccessExclusiveLock 4", "public.orders ShareLock 4", "public.readings RowExclusiveLock 3"],
        [{ table: "public.readings", rows: 1000, line: 3, by: "update" }],
      ],
    ]);
    const wide = found.files[1];
    const [orders, readings, , shown] = wide.locks.map(({ seconds }: { seconds: number }) => seconds);
    // Each is held from its statement to the commit; the view is gone in no time.
    expect([shown >= readings, readings > orders, wide.seconds >= shown]).toEqual([true, true, true]);
    const grown = found.files[2].tables[0];
    expect([grown.table, grown.bytes > 1e6, found.files[2].bytes > 1e6]).toEqual(["public.readings", true, true]);
    expect(found.files[6].tables.map(({ table }: { table: string }) => table)).toContain("public.later");
  });
});

test("the live database is gone: the files that the backup lacks are tried all the same", async () => {
  await lab.sql("alter database dbops_app rename to dbops_gone", "postgres");
  const { exitCode, stdout, stderr } = await rehearse(["--json"]);
  await lab.sql("alter database dbops_gone rename to dbops_app", "postgres");
  expect([exitCode, JSON.parse(stdout || "{}").files?.length], stderr).toEqual([0, 1]);
  expect(stderr).toContain("warning: the live database does not say what it has: all of these count\n");
});

test("above the limits: exit 3, which file, which table, which figure, and what to write instead", async () => {
  await limits({ fileSeconds: 0.3, lockSeconds: 0.2, rewrittenRows: 1000 });
  await pending({
    "20990102000000_wide": section("alter table readings alter column id type bigint;\nselect pg_sleep(0.8);"),
  });
  await untouched(async () => {
    const { exitCode, stdout, stderr } = await rehearse();
    expect([exitCode, still(stdout)], stderr).toEqual([3, expect.stringContaining(" ago: above the limits\n")]);
    expect(still(failureIn(stderr)).replaceAll(/(takes|for) [\d.]+ s/g, "$1 TIME")).toBe(
      `The pending migrations are above the limits: 3 findings
  | migrations/20990102000000_wide.sql:3: the file takes TIME, fileSeconds is 0.3
  |   instead: smaller steps, in files of their own
  | migrations/20990102000000_wide.sql:2: ACCESS EXCLUSIVE on public.readings for TIME, lockSeconds is 0.2: reads and writes wait
  |   instead: line 3 takes TIME of that, and a lock is held until the commit: a file of its own for it
  | migrations/20990102000000_wide.sql:2: ${rows} rows of public.readings are written anew, rewrittenRows is 1000
  |   instead: a new column of that type, filled in batches, and the names swapped
  next: write it in smaller steps, then the same command again
  next: or, if nobody minds: raise migrations.rehearse in dbops.config.ts
  read: docs/migrations.md`,
    );
  });
});

test("a file that fails on the data of production: its line, what was measured before it, and nothing stays", async () => {
  await pending({
    "20990102000000_fine": section("alter table orders add column note text;"),
    "20990102000001_unique": section("select 1;\n\ncreate unique index one_kind\n  on readings (kind);"),
  });
  await untouched(async () => {
    const { exitCode, stdout, stderr } = await rehearse();
    expect([exitCode, still(stdout)]).toEqual([
      3,
      `Rehearsed 2 files with backup BACKUP, as it was SOON ago: and the next one fails
  20990101000000_early.sql  TIME, database SIZE; the live database has it already
  20990102000000_fine.sql  TIME, database SIZE
    lock: ACCESS EXCLUSIVE on public.orders for TIME from line 2: reads and writes wait
  measured on this server, with all of it in the cache and nobody else at these tables: with the app at work it takes longer
`,
    ]);
    expect(failureIn(stderr)).toStartWith(
      'Cannot apply migrations/20990102000001_unique.sql:4: could not create unique index "one_kind" (23505)',
    );
    const { stdout: json } = await rehearse(["--json"]);
    expect(JSON.parse(json)).toMatchObject({
      files: [{ file: "20990101000000_early.sql" }, { file: "20990102000000_fine.sql" }],
      failed: { what: "Cannot apply migrations/20990102000001_unique.sql:4" },
    });
  });
});

test("what `up` refuses is refused here, beside and in a container", async () => {
  const two = "create index concurrently one on readings (kind);\ncreate index concurrently two on readings (text);";
  await pending({
    "20990102000000_two": section(two, " transaction:false"),
    "20990102000001_half": section("create table half (id int);\ncommit;\nselect nope;"),
  });
  for (const words of [[], ["--in-container"], ["--plan"]]) {
    const { exitCode, stdout, stderr } = await rehearse(words);
    expect([exitCode, stdout, failureIn(stderr)]).toEqual([
      2,
      "",
      `Cannot rehearse: 20990102000000_two.sql, 20990102000001_half.sql do what dbmate would not apply as it looks
  | 20990102000000_two.sql:3: when this statement fails, the one before it stays, and the file cannot be applied again (several-without-transaction)
  | 20990102000001_half.sql:3: COMMIT ends or nests the transaction of dbmate (transaction-control)
  next: bun scripts/migrate.ts lint migrations/20990102000000_two.sql migrations/20990102000001_half.sql
  read: docs/migrations.md`,
    ]);
  }
});

test("what cannot run in a transaction fails here as it would with dbmate", async () => {
  await pending({ "20990102000000_one": section("create index concurrently one on readings (kind);") });
  const { exitCode, stderr } = await rehearse();
  expect([exitCode, failureIn(stderr).split("\n")[0]]).toEqual([
    3,
    "Cannot apply migrations/20990102000000_one.sql:2: CREATE INDEX CONCURRENTLY cannot run inside a transaction block (25001)",
  ]);
});

const roles = {
  "20990102000000_role": section(
    "create table of_reader (id int);\ncreate role reader;\ngrant select on of_reader to reader;",
  ),
  "20990102000001_setting": section("do $$ begin execute 'alter database dbops_app set work_mem = ''5MB'''; end $$;"),
};

test("a change of more than the database: not beside the live one", async () => {
  await pending(roles);
  await untouched(async () => {
    const { exitCode, stderr } = await rehearse();
    expect([exitCode, failureIn(stderr)]).toEqual([
      3,
      `Cannot rehearse beside the live database: 2 statements change more than the database that it is run in
  | migrations/20990102000000_role.sql:3: CREATE ROLE
  | migrations/20990102000001_setting.sql:2: alter database
  next: bun scripts/migrate.ts rehearse --in-container
  read: docs/rehearse.md`,
    ]);
  });
});

test.each([
  ["a trigger that was there", section("select 1;\ninsert into watched values (1);"), ":3"],
  ["the same without a transaction", section("insert into watched values (1);", " transaction:false"), ":2"],
  ["a text that is put together", section("do $$ begin execute 'al' || 'ter role dbops_app reset all'; end $$;"), ":2"],
  [
    "what is deferred to the commit",
    section(
      "create table late (id int);\ncreate constraint trigger late after insert on late\n  initially deferred for each row execute function hidden();\ninsert into late values (1);",
    ),
    "",
  ],
])("%s changes more than the database: taken back, and not beside the live one", async (_, text, line) => {
  await pending({ "20990102000000_hidden": text });
  await untouched(async () => {
    const { exitCode, stdout, stderr } = await rehearse();
    expect([exitCode, stdout, failureIn(stderr)]).toEqual([
      3,
      "",
      `Cannot rehearse migrations/20990102000000_hidden.sql${line} beside the live database: it changes more than the database that it is run in (pg_db_role_setting), and was taken back; "dbops_app" was not touched
  next: bun scripts/migrate.ts rehearse --in-container
  read: docs/rehearse.md`,
    ]);
  });
});

test.each([
  ["a foreign table", "insert into elsewhere values (501, 1);"],
  ["a trigger with dblink()", "insert into told values (1);"],
])("%s reaches no other server", async (_, sql) => {
  await pending({ "20990102000000_elsewhere": section(`select 1;\n${sql}`) });
  await untouched(async () => {
    const { exitCode, stderr } = await rehearse();
    expect([exitCode, failureIn(stderr)]).toEqual([
      3,
      `Cannot rehearse migrations/20990102000000_elsewhere.sql:3: it uses another server, and no rehearsal reaches one; "dbops_app" was not touched
  next: put what is about the other server into a file of its own, and apply that without a rehearsal
  read: docs/rehearse.md`,
    ]);
  });
});

test("--in-container: the same without the server, and no container stays", async () => {
  await pending({ ...roles, "20990102000002_wide": section("alter table readings alter column id type bigint;") });
  await untouched(async () => {
    const { exitCode, stdout, stderr } = await rehearse(["--in-container", "--json"]);
    expect(exitCode, stderr).toBe(0);
    const found = JSON.parse(stdout);
    expect([found.where.kind, found.where.target]).toEqual(["container", "dbops_app"]);
    expect(found.files.at(-1)).toMatchObject({
      file: "20990102000002_wide.sql",
      rewritten: [{ table: "public.readings", rows, line: 2 }],
      locks: [{ table: "public.readings", mode: "AccessExclusiveLock", line: 2 }, { mode: "ShareLock" }],
    });
    const words = ["docker", "ps", "--all", "--quiet", "--filter", "label=dbops.rehearse"];
    expect((await run({ argv: words, environment: lab.environment })).stdout).toBe("");
  });
});

const slow = section("alter table readings add column slow int;\nselect pg_sleep(60);");

/** In the middle of a file. */
async function started(text = slow) {
  await pending({ "20990102000000_slow": text });
  const program = await lab.startMigrate(["rehearse"]);
  const isSleeping = async () => {
    const found = await lab.sql(
      "select datname from pg_stat_activity where query like '%pg_sleep%' and pid <> pg_backend_pid()",
    );
    return found || undefined;
  };
  const database = await poll({ seconds: 60, everyMilliseconds: 100 }, isSleeping);
  expect(database, program.said.stderr).toMatch(/^dbops_app_rehearse_\d{8}T\d{6}$/);
  return { program, database: database! };
}

test.each([
  ["in a transaction", slow],
  ["without one", section("select pg_sleep(60);", " transaction:false")],
])("Ctrl-C %s: exit 130, and the database is gone", async (_, text) => {
  await untouched(async () => {
    const { program } = await started(text);
    sendSignal(program.pid, "SIGINT");
    expect([await program.ended, failureIn(program.said.stderr)]).toEqual([
      130,
      'Interrupted: by SIGINT; "dbops_app" was not touched',
    ]);
  });
});

test("somebody ends its session: exit 1, because that says nothing about the file", async () => {
  await untouched(async () => {
    const { program } = await started();
    await lab.sql(
      "select pg_terminate_backend(pid) from pg_stat_activity where query like '%pg_sleep%' and pid <> pg_backend_pid()",
    );
    expect([await program.ended, failureIn(program.said.stderr)]).toEqual([
      1,
      expect.stringMatching(/^The session .* has ended: psql ended with 2; "dbops_app" was not touched\n/),
    ]);
  });
});

test("a disk that is full says nothing about the file either", async () => {
  const full = "raise exception 'could not extend file: No space left on device' using errcode = 'disk_full'";
  await pending({ "20990102000000_full": section(`do $$ begin ${full}; end $$;`) });
  const { exitCode, stderr } = await rehearse();
  expect([exitCode, failureIn(stderr).split("\n")[0]]).toEqual([
    3,
    `Cannot rehearse with ${backup}: a disk of the database is full; "dbops_app" was not touched`,
  ]);
});

test("one at a time; a restore does not wait for it; and one that was killed is cleaned up by the next, or by hand", async () => {
  const before = await everything();
  const { program, database } = await started();
  const second = await rehearse();
  expect([
    second.exitCode,
    failureIn(second.stderr)
      .replace(/since .*/, "since …")
      .split("\n")[0],
  ]).toEqual([4, "Nothing was changed: another rehearsal of dbops_app is at work, since …"]);
  const planned = await rehearse(["--plan"]);
  expect([planned.exitCode, planned.stdout.split("\n").slice(2)]).toEqual([
    0,
    expect.arrayContaining([
      expect.stringMatching(/^ {2}1\. restore into a new database/),
      "  warning: another rehearsal of it is at work, and there can only be one",
    ]),
  ]);
  const during = await lab.restore(["--clean"]);
  expect([during.exitCode, during.stdout]).toEqual([0, "Nothing to remove\n"]);
  sendSignal(program.pid, "SIGKILL");
  await program.ended;
  rmSync(join(lab.project.directory, "migrations", written.pop()!));
  await pending({ "20990102000000_quick": section("select 1;") });
  const isPlanned = async () => {
    const { exitCode, stdout } = await rehearse(["--plan"]);
    return exitCode === 0 && !stdout.includes("at work") ? stdout : undefined;
  };
  const plan = await poll({ seconds: 20, everyMilliseconds: 200 }, isPlanned);
  expect(plan).toContain(`\n  1. remove "${database}", left by a rehearsal that was cut off\n`);
  const next = await rehearse();
  expect([next.exitCode, await everything()], next.stderr).toEqual([0, before]);

  await lab.sql(`create database "${database}"`);
  const clean = await lab.restore(["--clean"]);
  expect([clean.stdout, await everything()]).toEqual([`Removed ${database}\n`, before]);
});
