// scripts/lib/drift-rows.ts: what a migration does that the structure of a database says nothing of.
import { expect, test } from "bun:test";
import { unseenIn } from "../scripts/lib/drift-rows.ts";
import { parseMigration } from "../scripts/lib/migration-file.ts";

const rows: [string, string[]][] = [
  ["create table t (id int); create index on t (id); alter table t add x int default 1", []],
  [
    "insert into t values (1); update s.t set id = 2; delete from t; truncate a, b",
    ["INSERT t", "UPDATE t", "DELETE t", "TRUNCATE a b"],
  ],
  ["merge into t using u on t.id = u.id when matched then do nothing", ["MERGE t"]],
  ["copy t from '/tmp/x'; call p(); prepare q as insert into t values (1); execute q", ["COPY t", "CALL", "EXECUTE"]],
  ["select set_config('search_path', '', false); select pg_catalog.set_config('a.b', '', true); select 1", []],
  ["select setval('s', 7); select * into t from u", ["SELECT", "SELECT"]],
  ["with gone as (delete from t returning *) select count(*) from gone", ["SELECT"]],
  ["do $$ begin if to_regclass('t') is null then raise exception 'no t'; end if; end $$", []],
  ["do $$ begin create type mood as enum ('good'); exception when duplicate_object then null; end $$", []],
  ["do $$ begin -- no insert\n null; end $$", []],
  ["do $$ begin insert into t values (1); end $$", ["DO"]],
  ["do $$ declare v int; begin v := seed(); end $$", ["DO"]],
  ["do $$ declare v int; begin select app.seed () into v; end $$", ["DO"]],
  ['do $$ begin if "Seed"() > 0 then null; end if; end $$', ["DO"]],
  ["do $$ begin create table t as select 1; end $$", ["DO"]],
  ["do $$ begin alter sequence s restart; end $$", ["DO"]],
  [
    `do $$ begin
       if not exists (select from pg_type where typname = lower('Insert')) and to_regclass('t') is null then
         create table t(id int default f(1), check (id > 0)); -- update
         create trigger x before update on t for each row execute function f();
       end if;
       raise exception 'cannot delete (%)', current_setting('a.b');
     end $$`,
    [],
  ],
  ["explain analyze insert into t values (1); explain select 1", ["EXPLAIN ANALYZE"]],
  ["do $$ begin perform setval('s', 7); end $$", ["DO"]],
  [
    "create table t as select 1; create table u as select 1 with no data; create materialized view v as select 1",
    ["CREATE TABLE AS"],
  ],
  [
    "alter sequence s restart with 7; alter table t alter id restart; alter sequence s increment 2",
    ["RESTART of a sequence", "RESTART of a sequence"],
  ],
  ["create function f() returns int language sql as 'insert into t values (1) returning 1'", []],
  ["create rule r as on insert to t do instead update u set id = 1", []],
  ["this is no SQL", ["what cannot be parsed"]],
];

test.each(rows)("%s", async (sql, statements) => {
  const [found] = await unseenIn([parseMigration("1_x.sql", `-- migrate:up\n${sql};\n-- migrate:down\n`)]);
  expect(found?.statements ?? []).toEqual(statements);
});

test("whether a file has nothing else", async () => {
  const files = [
    "insert into t values (1)",
    "create table t (id int); insert into t values (1)",
    "create table t (id int)",
  ].map((sql, at) => parseMigration(`${at}_x.sql`, `-- migrate:up\n${sql};\n-- migrate:down\n`));
  expect(await unseenIn(files)).toEqual([
    { file: "0_x.sql", statements: ["INSERT t"], isAll: true },
    { file: "1_x.sql", statements: ["INSERT t"], isAll: false },
  ]);
});
