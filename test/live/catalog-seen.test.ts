// scripts/lib/catalog-seen.ts on a real Postgres: each change of the structure makes it look again, and nothing else does.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fingerprint } from "../../scripts/lib/catalog-objects.ts";
import { seenFingerprint } from "../../scripts/lib/catalog-seen.ts";
import type { Settings } from "../../scripts/lib/config.ts";
import { openPlace } from "../../scripts/lib/place.ts";
import { openPsql, type Psql } from "../../scripts/lib/psql.ts";
import { startPostgres, type TestPostgres } from "../lab/postgres.ts";

setDefaultTimeout(60_000);

const before = process.env.PGPASSWORD;
const directory = mkdtempSync(join(tmpdir(), "dbops-seen-"));
let server: TestPostgres;
let psql: Psql;
async function connect({ port }: TestPostgres): Promise<Psql> {
  const url = `postgres://app@127.0.0.1:${port}/app?sslmode=disable`;
  return await openPsql(await openPlace({ settings: {} as Settings, directory, on: "local", url }));
}
beforeAll(async () => {
  server = await startPostgres();
  process.env.PGPASSWORD = server.password;
  psql = await connect(server);
  await psql.execute(`create role anna; create role bo; create table t (id int, name text); create type mood as enum ('a');
    create function f() returns int language sql as 'select 1'; create sequence s; grant select on t to anna; create view v as select 1 as one`);
});
afterAll(async () => {
  await psql?.close();
  await server?.stop();
  rmSync(directory, { recursive: true, force: true });
  if (before === undefined) delete process.env.PGPASSWORD;
  else process.env.PGPASSWORD = before;
});

/** Whether all objects had to be read; and that the answer is right in any case. */
async function looksAgain(besides: readonly unknown[] = [], at = psql, name = "app"): Promise<boolean> {
  let counted = false;
  const found = await seenFingerprint({ psql: at, directory, name, besides }, async () => {
    counted = true;
    return await fingerprint(at);
  });
  expect(found).toBe(await fingerprint(at));
  return counted;
}

test("once, and not a second time", async () => {
  expect([await looksAgain(), await looksAgain(), await looksAgain()]).toEqual([true, false, false]);
  expect([await looksAgain(["other"]), await looksAgain(["other"]), await looksAgain()]).toEqual([true, false, true]);
});

test.each([
  "alter table t add column more int",
  "alter table t alter column more set default 1",
  "alter table t drop column more",
  "alter table t add constraint positive check (id > 0) not valid",
  "alter table t validate constraint positive",
  "create index t_id_idx on t (id)",
  "update pg_index set indisvalid = false where indexrelid = 't_id_idx'::regclass",
  "comment on table t is 'one'",
  "comment on table t is 'two'",
  "alter type mood add value 'b'",
  "create or replace function f() returns int language sql as 'select 2'",
  "create or replace view v as select 2 as one",
  "alter sequence s increment by 7",
  "grant insert on t to anna",
  "revoke insert on t from anna",
  "alter table t enable row level security",
  "create policy p on t using (true)",
  "alter default privileges grant select on tables to bo",
  "alter table t owner to anna",
  "create schema other; create statistics st on id, name from t",
  "create publication pub for table t",
  "alter publication pub set (publish = 'insert')",
  "drop publication pub",
  "begin; alter role anna rename to anna_was; alter role bo rename to anna; alter role anna_was rename to bo; commit",
])("%s", async (statement) => {
  await psql.execute(statement);
  expect([await looksAgain(), await looksAgain()]).toEqual([true, false]);
});

test("not for rows, nor for what looks after them", async () => {
  await psql.execute(
    "insert into t values (1, 'a'), (2, 'b'); analyze t; select nextval('s'); update t set name = 'c'; delete from t",
  );
  await psql.execute("vacuum t");
  await psql.execute("vacuum (freeze, analyze)");
  await psql.execute("begin; alter table t add column undone int; rollback");
  expect(await looksAgain()).toBe(false);
});

test("a server that was made anew, by as many statements: each has its place and its transaction again", async () => {
  for (const type of ["bigint", "integer"]) {
    const anew = await startPostgres();
    const session = await connect(anew);
    try {
      await session.execute(`create table t (id int primary key, x ${type})`);
      expect([await looksAgain([], session, "anew"), await looksAgain([], session, "anew")]).toEqual([true, false]);
    } finally {
      await session.close();
      await anew.stop();
    }
  }
});

test("a server that was started again: it may have been put back to where it was, and have gone on otherwise", async () => {
  await looksAgain();
  expect(await looksAgain()).toBe(false);
  await psql.close();
  await server.restart();
  psql = await connect(server);
  expect([await looksAgain(), await looksAgain()]).toEqual([true, false]);
});
