// scripts/lib/rehearse-guard.ts on a real Postgres: what belongs to the whole server is seen before it counts, whatever way it is written,
// and nothing else is; and in the rehearsal's database no other server can be reached.
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { type Failure, formatFailure } from "../../scripts/lib/failure.ts";
import type { Place } from "../../scripts/lib/place.ts";
import { openPsql, type Psql, type SqlError } from "../../scripts/lib/psql.ts";
import { cutOff, requireAtHome, whyCutOff } from "../../scripts/lib/rehearse-guard.ts";
import { postgresEnvironment } from "../lab/debian-programs.ts";
import { startPostgres, type TestPostgres } from "../lab/postgres.ts";

setDefaultTimeout(60_000);

let server: TestPostgres;
let psql: Psql;
const guard = { next: "the other command", versionNumber: 180_000 };
beforeAll(async () => {
  server = await startPostgres({ database: "app" });
  psql = await open();
  await psql.execute(`create database other; create role anna; create role bo; create table t (id int primary key, name text);
    create table child (id int references t); insert into t select g, 'x' from generate_series(1, 10) g;
    create function hidden() returns trigger language plpgsql as $f$ begin execute 'al' || 'ter role anna set work_mem = ''7MB'''; return null; end $f$;
    create table watched (id int); create trigger hidden after insert on watched for each row execute function hidden()`);
}, 120_000);
afterEach(() => psql.execute("rollback"));
afterAll(async () => {
  await psql?.close();
  await server?.stop();
});

const outcome = (work: Promise<unknown>) =>
  work.then(
    () => undefined,
    (error: Failure) => formatFailure(error),
  );

test.each([
  ["create role carl", "pg_auth_members, pg_authid"],
  ["alter role anna createdb", "pg_authid"],
  ["drop role bo", "pg_auth_members, pg_authid"],
  ["grant anna to bo", "pg_auth_members"],
  ["revoke anna from bo", "pg_auth_members"],
  ["alter role anna set work_mem = '7MB'", "pg_db_role_setting"],
  ["alter role anna in database app set work_mem = '7MB'", "pg_db_role_setting"],
  ["alter database other set work_mem = '7MB'", "pg_db_role_setting"],
  ["alter database other owner to anna", "pg_database"],
  ["alter database other connection limit 3", "pg_database"],
  ["alter database other rename to another", "pg_database"],
  ["grant connect on database other to anna", "pg_database"],
  ["comment on database other is 'x'", "pg_shdescription"],
  ["comment on role anna is 'x'", "pg_shdescription"],
  ["alter tablespace pg_default set (random_page_cost = 2)", "pg_tablespace"],
  ["grant create on tablespace pg_default to anna", "pg_tablespace"],
  ["grant set on parameter log_statement to anna", "pg_parameter_acl"],
  ["create subscription s connection 'dbname=x' publication p with (connect = false)", "pg_replication_origin"],
  ["select pg_replication_origin_create('x')", "pg_replication_origin"],
  ["savepoint a; create role carl; release a", "pg_auth_members, pg_authid"],
  ["do $$ begin create role carl; exception when others then null; end $$", "pg_auth_members, pg_authid"],
  ["insert into watched values (1)", "pg_db_role_setting"],
])("%s", async (sql, names) => {
  await psql.execute("begin");
  await psql.execute(sql);
  expect(await outcome(requireAtHome(psql, guard, "migrations/x.sql:3"))).toBe(
    `Cannot rehearse migrations/x.sql:3 beside the live database: it changes more than the database that it is run in (${names}), and was taken back
  next: the other command
  read: docs/rehearse.md`,
  );
  const [state] = await psql.rows<{ assigned: string | null }>(
    "select pg_current_xact_id_if_assigned()::text as assigned",
  );
  expect(state!.assigned).toBeNull();
});

test.each([
  "select 1",
  "select count(*) from pg_authid, pg_database, pg_auth_members",
  "select 1 from pg_database where datname = 'other' for share",
  "create table mine (id int); alter table mine owner to anna; grant select on mine to bo; drop table mine",
  "create schema s authorization anna; create table s.a (id int); drop owned by bo",
  "create extension hstore; create extension dblink",
  "alter table t add column extra text default 'x'; create index on t (name); reindex table t; cluster t using t_pkey",
  "create policy p on t to anna using (true); alter default privileges for role anna grant select on tables to bo",
  "update t set name = 'y'; truncate t cascade; analyze t",
  "create temp table passing as select 1; drop table passing",
  "create materialized view m as select 1; refresh materialized view m",
  "create publication p for table t; create function e() returns event_trigger language plpgsql as 'begin end'; create event trigger e on ddl_command_end execute function e()",
  "notify somebody; select lo_create(0); set role anna; reset role",
  "set role anna",
  "create type mood as enum ('a'); alter type mood add value 'b'",
  "do $$ begin create role carl; raise exception 'no'; exception when others then null; end $$",
])("at home: %s", async (sql) => {
  await psql.execute("begin");
  await psql.execute(sql);
  expect(await outcome(requireAtHome(psql, guard, "x"))).toBeUndefined();
});

test("what another session changes meanwhile is not this one's", async () => {
  await psql.execute("begin; insert into t values (11, 'x')");
  const other = await open();
  await other.execute("begin; create role carl; comment on database other is 'x'");
  expect(await outcome(requireAtHome(psql, guard, "x"))).toBeUndefined();
  await other.execute(
    "commit; alter database other connection limit 7; drop role carl; comment on database other is null",
  );
  await other.close();
  expect(await outcome(requireAtHome(psql, guard, "x"))).toBeUndefined();
});

test("a parameter that has privileges already; before PostgreSQL 15 there are none, and nobody asks", async () => {
  await psql.execute("grant set on parameter log_statement to anna; begin; grant set on parameter log_statement to bo");
  expect(await outcome(requireAtHome(psql, { ...guard, versionNumber: 140_000 }, "x"))).toBeUndefined();
  expect(await outcome(requireAtHome(psql, guard, "x"))).toContain("(pg_parameter_acl)");
  await psql.execute("revoke set on parameter log_statement from anna");
});

const elsewhere = `create extension postgres_fdw; create extension dblink;
  create server live foreign data wrapper postgres_fdw options (dbname 'other');
  create user mapping for anna server live options (user 'anna', password 'x'); create user mapping for public server live;
  create foreign table remote (id int) server live options (table_name 't');
  create function tell() returns text language plpgsql as $f$ begin return dblink_exec('dbname=other', 'create table told (id int)'); end $f$;
  create function ask() returns text language plpgsql as $f$ begin return dblink_connect('live'); end $f$`;

test("cut off from other servers", async () => {
  // Nothing is there to cut off.
  await cutOff(psql, guard);
  await psql.execute("begin");
  await psql.execute(elsewhere);
  await cutOff(psql, guard);
  const words = async (sql: string) => {
    await psql.execute("savepoint here");
    const error = await psql.execute(sql).then(
      () => undefined,
      (it: SqlError) => it,
    );
    await psql.execute("rollback to here");
    const found = error && whyCutOff(error, "migrations/x.sql:3");
    return found && formatFailure(found);
  };
  const said = `Cannot rehearse migrations/x.sql:3: it uses another server, and no rehearsal reaches one
  next: put what is about the other server into a file of its own, and apply that without a rehearsal
  read: docs/rehearse.md`;
  expect(await words("insert into remote values (1)")).toBe(said);
  expect(await words("select * from remote")).toBe(said);
  expect(await words("select tell()")).toBe(said);
  expect(await words("select ask()")).toBe(said);
  expect(await words("select dblink_connect_u('dbname=other')")).toBe(said);
  // What is not about another server.
  expect(await words("select nobody_knows()")).toBeUndefined();
  expect(await words("alter foreign table remote add column name text")).toBeUndefined();
});

test("a role that may not do that: nothing is rehearsed", async () => {
  await psql.execute("begin");
  await psql.execute(elsewhere);
  await psql.execute("set role anna");
  expect(await outcome(cutOff(psql, guard))).toMatch(
    /^Cannot rehearse beside the live database: its connections to other servers \(CREATE SERVER, dblink\) cannot be taken away: .+\n {2}next: the other command\n {2}read: docs\/rehearse\.md$/,
  );
});

async function open(): Promise<Psql> {
  const { PATH } = await postgresEnvironment();
  const { host, port, user, password } = server;
  const connection = { PGHOST: host, PGPORT: `${port}`, PGUSER: user, PGPASSWORD: password, PGDATABASE: "app" };
  const client = (argv: readonly string[]) => ({ argv, environment: { PATH, ...connection } });
  return await openPsql({
    name: "the test's Postgres",
    environment: "local",
    database: "app",
    client,
  } as unknown as Place);
}
