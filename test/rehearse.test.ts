// What a rehearsal decides and says: the plan and every reason against it, which locks make the app wait, what is above the limits, and
// what people read of it. test/live/migrate-rehearse.test.ts measures.
import { describe, expect, test } from "bun:test";
import { asFailure, formatFailure } from "../scripts/lib/failure.ts";
import { type MigrationFile, parseMigration } from "../scripts/lib/migration-file.ts";
import { statementsOf } from "../scripts/lib/migration-statements.ts";
import type { RehearsedFile } from "../scripts/lib/rehearse-files.ts";
import { aboveLimits, judge, type Limits } from "../scripts/lib/rehearse-limits.ts";
import { type Held, inWords, type Mode, nameOf, worthTelling } from "../scripts/lib/rehearse-locks.ts";
import { formatNothing, formatPlan, planRehearsal, type Seen, type Wanted } from "../scripts/lib/rehearse-plan.ts";
import { reachesFurther } from "../scripts/lib/rehearse-reach.ts";
import { formatRehearsed, rehearsedAsJson } from "../scripts/lib/rehearse-report.ts";
import type { Observed } from "../scripts/lib/restore-plan.ts";
import { backupAt, manifestAt } from "./lab/backup-samples.ts";

const now = new Date("2026-11-21T15:00:00Z");
const limits: Limits = { fileSeconds: 300, lockSeconds: 2, rewrittenRows: 1_000_000 };
const migration = (file: string, sql = "select 1;", options = ""): MigrationFile =>
  parseMigration(file, `-- migrate:up${options}\n${sql}\n\n-- migrate:down\nselect 1;\n`);

describe("statementsOf()", () => {
  const parts = async (sql: string) => {
    const { up } = migration("20261101000000_x.sql", sql).sections[0]!;
    return (await statementsOf(up)).map(({ sql: text, line, node }) => [line, node, text]);
  };

  test("by Postgres' own parser, each with its line", async () => {
    expect(
      await parts("-- why: ü;\nselect 'a;b';\n\n/* so */ do $$ begin\n  null; end $$;\nupdate a set b = 1 -- end"),
    ).toEqual([
      [3, "SelectStmt", "select 'a;b'"],
      [5, "DoStmt", "do $$ begin\n  null; end $$"],
      [7, "UpdateStmt", "update a set b = 1 -- end"],
    ]);
  });

  test("nothing at all, and what nobody can parse", async () => {
    expect(await parts("-- nothing yet")).toEqual([]);
    expect(await parts("selec 1;\nselect 2;")).toEqual([[1, undefined, expect.stringContaining("selec 1;")]]);
  });
});

describe("reachesFurther()", () => {
  const reach = async (sql: string, transaction = true) => {
    const [statement] = await statementsOf(migration("20261101000000_x.sql", sql).sections[0]!.up);
    return reachesFurther(statement!, transaction);
  };
  test.each([
    ["create role reader", "CREATE ROLE"],
    ["alter user reader set work_mem = '1MB'", "ALTER USER"],
    ["drop role reader", "DROP ROLE"],
    ["grant one to two", "GRANT ONE"],
    ["alter system set work_mem = '1MB'", "ALTER SYSTEM"],
    ["alter database shop set work_mem = '1MB'", "ALTER DATABASE"],
    ["alter database shop owner to me", "ALTER DATABASE"],
    ["alter role a rename to b", "ALTER ROLE"],
    ["comment on database shop is 'x'", "COMMENT ON"],
    ["grant connect on database shop to reader", "GRANT CONNECT"],
    ["drop owned by reader", "DROP OWNED"],
    ["create subscription a connection 'x' publication b", "CREATE SUBSCRIPTION"],
    ["copy a to program 'sh'", "COPY … PROGRAM"],
    ["do $$ begin if true then create  role x; end if; end $$", "create  role"],
    ["do $$ begin execute format('alter database %I set a = 1', current_database()); end $$", "alter database"],
    ["select dblink_exec('x', 'y')", "dblink_exec"],
    ["select pg_terminate_backend(pid) from pg_stat_activity", "pg_terminate_backend"],
    ["nobody can parse: create role x", "create role"],
    ["do $$ begin grant pg_read_all_data to app; end $$", "grant pg_read_all_data to"],
    ["do $$ begin execute 'grant reporting to app'; end $$", "grant reporting to"],
    ["do $$ begin execute format('revoke %I from %I', 'a', 'b'); end $$", "revoke %I from"],
    ["do $$ begin grant/* so */reporting -- why\n to app; end $$", "grant/* so */reporting -- why\n to"],
    ["do $$ begin create /* so */ role x; end $$", "create   role"],
    [
      "create function f() returns void language plpgsql as $$ begin alter role app set work_mem = '1MB'; end $$",
      "alter role",
    ],
    ["create procedure f() language plpgsql as $$ begin perform pg_cancel_backend(1); end $$", "pg_cancel_backend"],
    ["create function f() returns void language c as 'lib', 'f'", "LANGUAGE c"],
    ["do language plpython3u $$ import os $$", "LANGUAGE plpython3u"],
    ["load 'auto_explain'", "LOAD 'AUTO_EXPLAIN'"],
    ["select pg_drop_replication_slot('x')", "pg_drop_replication_slot"],
    ["select pg_create_logical_replication_slot('x', 'pgoutput')", "pg_create_logical_replication_slot"],
    ['select pg_catalog."pg_reload_conf"()', "pg_reload_conf"],
    ["select lo_export(1, '/tmp/x')", "lo_export"],
    ["select pg_stat_reset_shared('bgwriter')", "pg_stat_reset_shared"],
    ["select net.http_post('https://example.com')", "http_post"],
    ["copy a to '/tmp/x'", "COPY … TO a file"],
    ["do $$ begin copy a to '/tmp/x'; end $$", "copy a to"],
    ["update pg_database set datallowconn = false", "update pg_database"],
    ['delete from only pg_catalog."pg_auth_members"', 'delete from only pg_catalog."pg_auth_members'],
    ["lock table pg_authid", "lock table pg_authid"],
    ["reindex system", "REINDEX SYSTEM"],
    ["grant set on parameter work_mem to app", "GRANT SET"],
    ["create server other foreign data wrapper postgres_fdw", "CREATE SERVER"],
    ["alter foreign data wrapper postgres_fdw handler postgres_fdw_handler", "ALTER FOREIGN"],
    ["create user mapping for app server other", "CREATE USER"],
    ["commit", "COMMIT"],
    ["prepare transaction 'x'", "PREPARE TRANSACTION"],
  ])("%s", async (sql, words) => {
    expect(await reach(sql)).toBe(words);
  });
  test.each([
    ["call fill()", "CALL"],
    ["do $$ begin execute 'al' || 'ter role app superuser'; end $$", "execute"],
  ])("without a transaction nobody can look before it counts: %s", async (sql, words) => {
    expect([await reach(sql, false), await reach(sql)]).toEqual([words, undefined]);
  });
  test.each([
    "create table roles (id int)",
    "grant select on accounts to reader",
    "comment on table accounts is 'alter system'",
    "insert into texts values ('create role')",
    "alter table accounts owner to me",
    "do $$ begin update accounts set role = 'user'; end $$",
    "create function f() returns void language sql as 'select pg_sleep(1)'",
    "do $$ begin grant select on a to app; revoke all on a from app; end $$",
    "do language plpgsql $$ begin update a set b = 1; commit; end $$",
    "select * from pg_database",
    "savepoint a",
    "release a",
    "rollback to a",
    "reindex table a",
    "copy a from '/tmp/x'",
    "select pg_stat_reset()",
    "create extension dblink",
  ])("stays at home: %s", async (sql) => {
    expect(await reach(sql)).toBeUndefined();
  });
});

describe("locks", () => {
  test.each<[Mode, string, string]>([
    ["AccessExclusiveLock", "ACCESS EXCLUSIVE", "reads and writes wait"],
    ["ExclusiveLock", "EXCLUSIVE", "writes wait, reads go on"],
    ["ShareRowExclusiveLock", "SHARE ROW EXCLUSIVE", "writes wait, reads go on"],
    ["ShareLock", "SHARE", "writes wait, reads go on"],
    [
      "ShareUpdateExclusiveLock",
      "SHARE UPDATE EXCLUSIVE",
      "reads and writes go on, VACUUM and other changes of the table wait",
    ],
    ["RowExclusiveLock", "ROW EXCLUSIVE", "reads and writes go on, but for writes to the same rows"],
    ["RowShareLock", "ROW SHARE", "reads and writes go on"],
    ["AccessShareLock", "ACCESS SHARE", "reads and writes go on"],
  ])("%s", (mode, name, words) => {
    expect([nameOf(mode), inWords(mode)]).toEqual([name, words]);
  });

  test("of each table the strongest, and one that makes the app wait for longer than that", () => {
    const held = (table: string, mode: Mode, seconds: number): Held => ({ table, mode, seconds, line: 2 });
    const [short, long, quick] = [
      held("a", "AccessExclusiveLock", 1),
      held("a", "ShareLock", 9),
      held("b", "ShareLock", 1),
    ];
    const rest = [
      held("a", "RowExclusiveLock", 20),
      held("a", "ShareRowExclusiveLock", 0.5),
      held("b", "RowShareLock", 3),
    ];
    expect(worthTelling([...rest, quick, long, short])).toEqual([short, long, quick]);
  });
});

const { settings, extensions } = manifestAt("2026-11-21T03:00:00Z");
const observed: Observed = {
  live: { databaseBytes: 12_000_000, migrations: ["20261101000000"], settings, extensions, sessions: 0 },
  ...{ databases: ["postgres", "shop", "template0", "template1"], roles: ["postgres", "shop"] },
  ...{ available: { plpgsql: "1.0" }, versionNumber: 180_006, freeBytes: 10_000_000_000 },
  ...{ replication: [], preparedTransactions: 0 },
};
const wanted: Wanted = {
  ...{ which: "latest", environment: "production", database: "shop", place: "deploy@app.example.com" },
  ...{ flags: " --on production", limits, now },
};
const backup = backupAt("2026-11-21T03:00:00Z");
const beside: Seen = {
  listing: { backups: [backup], remains: [], unreadable: [], problems: [] },
  files: [migration("20261101000000_first.sql"), migration("20261121000000_second.sql")],
  liveMigrations: ["20261101000000"],
  reaching: {},
  ground: { kind: "beside", observed },
};
const container: Seen = {
  ...beside,
  ground: { kind: "container", stack: { postgres: "postgres:18-alpine" }, image: undefined, leftovers: [] },
};

describe("formatPlan()", () => {
  const textOf = (seen: Partial<Seen> = {}, want: Partial<Wanted> = {}) => {
    const all = { ...wanted, ...want };
    return formatPlan(planRehearsal(all, { ...beside, ...seen }), all);
  };

  test("the usual one", () => {
    expect(
      textOf(),
    ).toBe(`Rehearsal of 1 migration with backup 2026-11-21T03-00-00Z-4f2c1a2b, as it was 12 h ago (2026-11-21T03:00:00Z), 2.0 MB
  on deploy@app.example.com, beside "shop", which is not touched
  1. restore into a new database "shop_rehearse_20261121T150000"; it takes about 14.4 MB of disk
  2. check it: 2 tables, row by row counted
  3. apply 20261121000000_second.sql
  4. remove that database
  limits: 300 s for a file, 2 s for a lock that makes the app wait, 1000000 rows written anew`);
  });

  test("after one that was cut off, of a backup that lacks what the live database has, with everything to warn of", () => {
    const broken = backupAt("2026-11-21T14:00:00Z", { broken: "database.dump.gpg is missing" });
    const old = backupAt("2026-11-20T03:00:00Z", {}, { migrations: ["20261101000000", "20261102000000"] });
    const databases = [...observed.databases, "shop_rehearse_20261120T100000", "shop_restore_20261120T100000"];
    const files = [...beside.files, migration("20261122000000_third.sql")];
    const liveMigrations = ["20261101000000", "20261121000000"];
    const ground = { kind: "beside", observed: { ...observed, databases } } as const;
    expect(
      textOf({ listing: { ...beside.listing, backups: [broken, old] }, ground, files, liveMigrations }),
    ).toBe(`Rehearsal of 2 migrations with backup 2026-11-20T03-00-00Z-4f2c1a2b, as it was 36 h ago (2026-11-20T03:00:00Z), 2.0 MB
  on deploy@app.example.com, beside "shop", which is not touched
  1. remove "shop_rehearse_20261120T100000", left by a rehearsal that was cut off
  2. restore into a new database "shop_rehearse_20261121T150000"; it takes about 14.4 MB of disk
  3. check it: 2 tables, row by row counted
  4. apply 20261121000000_second.sql, which the live database has already
  5. apply 20261122000000_third.sql
  6. remove that database
  limits: 300 s for a file, 2 s for a lock that makes the app wait, 1000000 rows written anew
  warning: the backup 2026-11-21T14-00-00Z-4f2c1a2b is newer, and broken: database.dump.gpg is missing
  warning: the backup has migrations that migrations/ lacks: 20261102000000`);
  });

  test("in a container", () => {
    expect(
      textOf({ ...container, liveMigrations: [] }),
    ).toBe(`Rehearsal of 1 migration with backup 2026-11-21T03-00-00Z-4f2c1a2b, as it was 12 h ago (2026-11-21T03:00:00Z), 2.0 MB
  on this machine
  1. start postgres:18-alpine in a container without a network; it takes about 14.4 MB of disk
  2. restore into it: the roles, then the database
  3. check it: 2 tables, row by row counted
  4. apply 20261121000000_second.sql
  5. remove the container
  limits: 300 s for a file, 2 s for a lock that makes the app wait, 1000000 rows written anew`);
  });

  test("nothing that the backup lacks", () => {
    const plan = planRehearsal(wanted, { ...beside, files: beside.files.slice(0, 1) });
    expect([plan.pending, formatNothing(plan)]).toEqual([
      [],
      "Nothing to rehearse: the backup 2026-11-21T03-00-00Z-4f2c1a2b has all files of migrations/",
    ]);
  });

  test("nothing that the live database lacks: no restore on its server for that, whatever is in the files or would not fit", () => {
    const liveMigrations = ["20261101000000", "20261121000000"];
    const reaching = { "20261121000000_second.sql": ["x"] };
    const ground = { kind: "beside", observed: { ...observed, freeBytes: 0 } } as const;
    const plan = planRehearsal(wanted, { ...beside, liveMigrations, reaching, ground });
    expect([plan.pending, formatNothing(plan)]).toEqual([
      [],
      "Nothing to rehearse: the live database has all files of migrations/; of these, the backup 2026-11-21T03-00-00Z-4f2c1a2b lacks 20261121000000_second.sql",
    ]);
  });

  test("while another rehearsal is at work: its database is none that was left", () => {
    const databases = [...observed.databases, "shop_rehearse_20261121T145900"];
    const ground = { kind: "beside", observed: { ...observed, databases }, isBusy: true } as const;
    const text = textOf({ ground });
    expect(text).not.toContain('remove "shop_rehearse_20261121T145900"');
    expect(text.split("\n").at(-1)).toBe("  warning: another rehearsal of it is at work, and there can only be one");
  });
});

describe("planRehearsal() refuses", () => {
  const refused = (seen: Partial<Seen>, want: Partial<Wanted> = {}) => {
    try {
      planRehearsal({ ...wanted, ...want }, { ...beside, ...seen });
    } catch (error) {
      const failure = asFailure(error);
      return [failure.exitCode, formatFailure(failure)];
    }
    throw new Error("it did not refuse");
  };

  test("without a backup", () => {
    expect(refused({ listing: { ...beside.listing, backups: [] } })).toEqual([
      3,
      `There is no backup to rehearse with: there is none of the whole database of production
  next: bun scripts/backup.ts --on production
  next: bun scripts/backup.ts list
  read: docs/rehearse.md`,
    ]);
    // One of production is wanted here, and that one has to be made.
    const ofProduction = { flags: " --from production" };
    expect(refused({ listing: { ...beside.listing, backups: [] } }, ofProduction)).toEqual([
      3,
      `There is no backup to rehearse with: there is none of the whole database of production
  next: bun scripts/backup.ts --on production
  next: bun scripts/backup.ts list
  read: docs/rehearse.md`,
    ]);
  });

  test("one of some tables", () => {
    const some = backupAt("2026-11-21T03:00:00Z", {}, { tables: ["accounts"] });
    expect(refused({ listing: { ...beside.listing, backups: [some] } }, { which: some.id })).toEqual([
      2,
      `Cannot rehearse with 2026-11-21T03-00-00Z-4f2c1a2b: it holds accounts only
  next: bun scripts/migrate.ts rehearse latest --on production`,
    ]);
  });

  test("one whose migrations nobody has recorded", () => {
    const unknown = backupAt("2026-11-21T03:00:00Z", {}, { migrations: [] });
    const listing = { ...beside.listing, backups: [unknown] };
    expect(refused({ listing }, { flags: " --from production" })).toEqual([
      3,
      `Cannot rehearse with 2026-11-21T03-00-00Z-4f2c1a2b: its database has tables and no schema_migrations, so that nobody knows which files it has
  next: bun scripts/drift.ts adopt --on production
  read: docs/rehearse.md`,
    ]);
  });

  test("a file that is older than what is applied", () => {
    const files = [migration("20261001000000_late.sql"), ...beside.files];
    expect(refused({ files })).toEqual([
      2,
      `Cannot rehearse: 20261001000000_late.sql is older than 20261101000000, which is applied already
  next: give the file in migrations/ a newer version
  read: docs/runbook/migration-failed.md`,
    ]);
  });

  test("what changes more than its database, beside the live one alone", () => {
    const reaching = { "20261121000000_second.sql": ["migrations/20261121000000_second.sql:2: CREATE ROLE"] };
    expect(refused({ reaching })).toEqual([
      3,
      `Cannot rehearse beside the live database: 1 statement changes more than the database that it is run in
  | migrations/20261121000000_second.sql:2: CREATE ROLE
  next: bun scripts/migrate.ts rehearse --on production --in-container
  read: docs/rehearse.md`,
    ]);
    // The same backup there: what was asked for, or the latest one of the same environment.
    const [, withAnother] = refused({ reaching }, { which: backup.id, flags: " --from production" });
    expect(withAnother).toContain(
      `  next: bun scripts/migrate.ts rehearse ${backup.id} --from production --in-container\n`,
    );
    expect(planRehearsal(wanted, { ...container, reaching }).pending).toHaveLength(1);
    // One that the backup has already is not run.
    expect(planRehearsal(wanted, { ...beside, reaching: { "20261101000000_first.sql": ["x"] } }).pending).toHaveLength(
      1,
    );
  });

  test("everything that would make the restore fail after an hour, at once", () => {
    const ground: Seen["ground"] = {
      kind: "beside",
      observed: { ...observed, roles: ["postgres"], freeBytes: 1_000_000 },
    };
    expect(refused({ ground })).toEqual([
      3,
      `Cannot rehearse with 2026-11-21T03-00-00Z-4f2c1a2b on deploy@app.example.com: 2 reasons
  | the role "shop" is missing: it is in the backup's globals.sql.gpg, see its RESTORE.txt
  | there are 1.0 MB free, it takes about 14.4 MB
  next: mend it, then the same command again
  next: or: bun scripts/migrate.ts rehearse --on production --in-container
  read: docs/rehearse.md`,
    ]);
  });
});

const statement = (line: number, seconds: number, sql: string, node: string) => ({ line, seconds, sql, node });
const rehearsed = (changes: Partial<RehearsedFile> = {}): RehearsedFile => ({
  ...{ file: "20261121000000_second.sql", version: "20261121000000", isLive: false, transaction: true, seconds: 0.02 },
  statements: [statement(2, 0.02, "alter table a add column b int", "AlterTableStmt")],
  ...{ locks: [], rewritten: [], bytes: 0, tables: [] },
  ...changes,
});
const lock = (table: string, mode: Mode, seconds: number, line = 2): Held => ({ table, mode, seconds, line });
const widening = statement(2, 4.2, "alter table public.readings\n  alter column value type bigint", "AlterTableStmt");

describe("judge()", () => {
  const said = (changes: Partial<RehearsedFile>, other: Partial<Limits> = {}) =>
    judge([rehearsed(changes)], { ...limits, ...other }).map(({ limit, line, says, instead }) => [
      limit,
      line,
      says,
      instead,
    ]);
  const batches = "batches of some thousand rows, each a transaction of its own";
  const column = "a new column of that type, filled in batches, and the names swapped";

  test("within the limits, and what the live database has already", () => {
    expect(said({})).toEqual([]);
    expect(said({ seconds: 300, locks: [lock("public.a", "AccessExclusiveLock", 2)] })).toEqual([]);
    expect(said({ isLive: true, seconds: 9000 })).toEqual([]);
  });

  test("locks that make nobody wait may be held for hours", () => {
    const modes: Mode[] = ["ShareUpdateExclusiveLock", "RowExclusiveLock", "RowShareLock"];
    expect(said({ locks: modes.map((mode) => lock("public.a", mode, 250)) })).toEqual([]);
  });

  test("a change of a type", () => {
    const locks = [lock("public.readings", "AccessExclusiveLock", 4.21), lock("public.readings", "ShareLock", 4.21)];
    const rewritten = [{ table: "public.readings", rows: 3_000_000, line: 2, by: "rewrite" as const }];
    expect(said({ seconds: 4.22, statements: [widening], locks, rewritten })).toEqual([
      [
        "lockSeconds",
        2,
        "ACCESS EXCLUSIVE on public.readings for 4.2 s, lockSeconds is 2: reads and writes wait",
        column,
      ],
      ["rewrittenRows", 2, "3000000 rows of public.readings are written anew, rewrittenRows is 1000000", column],
    ]);
  });

  test("a lock that another statement makes long", () => {
    const update = statement(4, 60, "update a set b = 1", "UpdateStmt");
    const locks = [lock("public.a", "AccessExclusiveLock", 60.1)];
    const rewritten = [{ table: "public.a", rows: 2_000_000, line: 4, by: "update" as const }];
    expect(said({ seconds: 60.1, statements: [...rehearsed().statements, update], locks, rewritten })).toEqual([
      [
        "lockSeconds",
        2,
        "ACCESS EXCLUSIVE on public.a for 60 s, lockSeconds is 2: reads and writes wait",
        "line 4 takes 60 s of that, and a lock is held until the commit: a file of its own for it",
      ],
      ["rewrittenRows", 4, "2000000 rows of public.a are updated, rewrittenRows is 1000000", batches],
    ]);
  });

  test("writes wait for longer than reads do", () => {
    const index = statement(2, 30, "create index on a (b)", "IndexStmt");
    const drop = statement(3, 3, "drop index c", "DropStmt");
    const locks = [lock("public.a", "AccessExclusiveLock", 3, 3), lock("public.a", "ShareLock", 33)];
    expect(said({ seconds: 33, statements: [index, drop], locks })).toEqual([
      [
        "lockSeconds",
        3,
        "ACCESS EXCLUSIVE on public.a for 3.0 s, lockSeconds is 2: reads and writes wait",
        "smaller steps, in files of their own",
      ],
      [
        "lockSeconds",
        2,
        "SHARE on public.a for 33 s, lockSeconds is 2: writes wait, reads go on",
        "create index concurrently, alone in a file with transaction:false",
      ],
    ]);
  });

  test.each([
    ["alter table a add constraint b check (c > 0)", "AlterTableStmt", /^the constraint NOT VALID/],
    ["alter table a add foreign key (b) references c", "AlterTableStmt", /^the constraint NOT VALID/],
    [
      "alter table a alter column b set not null",
      "AlterTableStmt",
      /^a constraint NOT NULL … NOT VALID \(before Postgres 18: a check\), and VALIDATE in a file of its own$/,
    ],
    ["alter table a alter b type bigint", "AlterTableStmt", /^a new column of that type/],
    ['alter table a alter column "my b" set data type bigint', "AlterTableStmt", /^a new column of that type/],
    ["alter table a add constraint b check (type in ('c'))", "AlterTableStmt", /^the constraint NOT VALID/],
    ["alter table type add check (c > 0)", "AlterTableStmt", /^the constraint NOT VALID/],
    ["alter table a alter column type set not null", "AlterTableStmt", /^a constraint NOT NULL … NOT VALID/],
    ["alter table a add column type text default f()", "AlterTableStmt", /^the column without what is computed/],
    [
      "alter table a add column b uuid default gen_random_uuid()",
      "AlterTableStmt",
      /^the column without what is computed/,
    ],
    ["delete from a", "DeleteStmt", /^batches/],
    ["refresh materialized view a", "RefreshMatViewStmt", /^refresh materialized view concurrently$/],
    ["reindex table a", "ReindexStmt", /^reindex … concurrently/],
    ["vacuum full a", "VacuumStmt", /^smaller steps/],
  ])("instead of %s", (sql, node, instead) => {
    const [found] = said({ seconds: 301, statements: [statement(2, 301, sql, node)] });
    expect(found).toEqual([
      "fileSeconds",
      2,
      "the file takes 5 min, fileSeconds is 300",
      expect.stringMatching(instead),
    ]);
  });

  test("as a failure", () => {
    const locks = [lock("public.readings", "AccessExclusiveLock", 4.21)];
    const failure = aboveLimits(judge([rehearsed({ statements: [widening], locks })], limits));
    expect([failure.exitCode, formatFailure(failure)]).toEqual([
      3,
      `The pending migrations are above the limits: 1 finding
  | migrations/20261121000000_second.sql:2: ACCESS EXCLUSIVE on public.readings for 4.2 s, lockSeconds is 2: reads and writes wait
  |   instead: a new column of that type, filled in batches, and the names swapped
  next: write it in smaller steps, then the same command again
  next: or, if nobody minds: raise migrations.rehearse in dbops.config.ts
  read: docs/migrations.md`,
    ]);
  });
});

describe("formatRehearsed()", () => {
  const plan = planRehearsal(wanted, beside);
  const file = rehearsed({
    ...{ seconds: 14.34, bytes: 139_264, statements: [statement(2, 14.3, widening.sql, widening.node)] },
    locks: [lock("public.readings", "AccessExclusiveLock", 14.31), lock("public.readings", "ShareLock", 14.31)],
    rewritten: [{ table: "public.readings", rows: 300_000, line: 2, by: "rewrite" }],
    tables: [
      { table: "public.readings", bytes: 27_000_000 },
      { table: "public.gone", bytes: -2_500_000 },
      { table: "public.small", bytes: 8192 },
    ],
  });
  const early = rehearsed({ file: "20261120000000_early.sql", isLive: true });
  const update = rehearsed({
    ...{ file: "20261122000000_third.sql", locks: [lock("public.a", "RowExclusiveLock", 0.02)] },
    rewritten: [{ table: "public.a", rows: 1, line: 2, by: "update" }],
  });

  test("within the limits", () => {
    const ended = { plan, outcome: { files: [early, file, update] }, findings: [] };
    expect(
      formatRehearsed(ended, limits, now),
    ).toBe(`Rehearsed 3 files with backup 2026-11-21T03-00-00Z-4f2c1a2b, as it was 12 h ago: within the limits: 300 s for a file, 2 s for a lock that makes the app wait, 1000000 rows written anew
  20261120000000_early.sql  0.02 s, database as large as before; the live database has it already
  20261121000000_second.sql  14 s, database +139 kB
    line 2: 14 s  alter table public.readings alter column value type bigint
    lock: ACCESS EXCLUSIVE on public.readings for 14 s from line 2: reads and writes wait
    written anew: 300000 rows of public.readings, line 2
    size: public.readings +27.0 MB
    size: public.gone -2.5 MB
  20261122000000_third.sql  0.02 s, database as large as before
    lock: ROW EXCLUSIVE on public.a for 0.02 s from line 2: reads and writes go on, but for writes to the same rows
    updated: 1 row of public.a, line 2
  measured on this server, with all of it in the cache and nobody else at these tables: with the app at work it takes longer`);
  });

  test("above them, in a container", () => {
    const outcome = { files: [file] };
    const ended = { plan: planRehearsal(wanted, container), outcome, findings: judge([file], limits) };
    const lines = formatRehearsed(ended, limits, now).split("\n");
    expect([lines[0], lines.at(-1)]).toEqual([
      "Rehearsed 1 file with backup 2026-11-21T03-00-00Z-4f2c1a2b, as it was 12 h ago: above the limits",
      "  measured in a container on this machine, with nobody else at work: the server's own figures are others",
    ]);
  });

  test("for programs, with the file that fails", () => {
    const failure = asFailure(new Error("no"));
    const ended = { plan, outcome: { files: [update], failure }, findings: [] };
    expect(rehearsedAsJson(ended, limits)).toEqual({
      ...{ backup: backup.id, at: "2026-11-21T03:00:00Z", limits, files: [update], findings: [] },
      where: { kind: "beside", target: "shop_rehearse_20261121T150000", leftovers: [] },
      failed: { what: "Unexpected error", why: "no" },
    });
  });
});
