// The rules of `migrate lint`: for each of them files that it finds something in, and files that it lets pass.
import { expect, test } from "bun:test";
import { type RuleName, rules } from "../scripts/lib/lint-rules.ts";
import { alone, type Files, first, migration, only, second, third, told } from "./lab/lint.ts";

type Case = { rule: RuleName; bad: Files; found: string[]; good: Files };

const cases: Case[] = [
  {
    rule: "version-missing",
    bad: { "create.sql": migration("select 1;") },
    found: ["create.sql:1:1 version-missing: dbmate skips it: its name does not begin with a number"],
    good: only(migration("select 1;")),
  },
  {
    rule: "version-twice",
    bad: { "20260101000000_a.sql": migration("select 1;"), "20260101000000_b.sql": migration("select 2;") },
    found: [
      "20260101000000_b.sql:1:1 version-twice: 20260101000000_a.sql has the version 20260101000000 too: one of them is never applied",
    ],
    good: { "20260101000000_a.sql": migration("select 1;"), "20260101000001_b.sql": migration("select 2;") },
  },
  {
    rule: "version-order",
    bad: { "10_ten.sql": migration("select 1;"), "9_nine.sql": migration("select 1;") },
    found: [
      "10_ten.sql:1:1 version-not-a-time: 10 is no time in UTC, such as 20260131235959",
      "9_nine.sql:1:1 version-not-a-time: 9 is no time in UTC, such as 20260131235959",
      "9_nine.sql:1:1 version-order: dbmate applies it after 10_ten.sql: it sorts the names as text",
    ],
    good: { [first]: migration("select 1;"), [second]: migration("select 1;") },
  },
  {
    rule: "version-not-a-time",
    bad: { "20260231000000_february.sql": migration("select 1;") },
    found: [
      "20260231000000_february.sql:1:1 version-not-a-time: 20260231000000 is no time in UTC, such as 20260131235959",
    ],
    good: { "20240229235959_leap_year.sql": migration("select 1;") },
  },
  {
    rule: "version-in-the-future",
    bad: { "20261122120000_tomorrow.sql": migration("select 1;") },
    found: [
      "20261122120000_tomorrow.sql:1:1 version-in-the-future: 20261122120000 lies ahead: until then, --strict takes every new file for one that is out of order",
    ],
    good: { "20261122115959_soon.sql": migration("select 1;") },
  },
  {
    rule: "encoding",
    bad: only(Buffer.from(migration("select 1;\nselect 'gr\u00fcn';"), "latin1")),
    found: [`${first}:3:1 encoding: it is not UTF-8`],
    good: only(migration("select 'gr\u00fcn', '\ufffd';")),
  },
  {
    rule: "up-missing",
    bad: only("select 1;\n"),
    found: [`${first}:1:1 up-missing: there is no line "-- migrate:up"`],
    good: only(migration("select 1;")),
  },
  {
    rule: "down-missing",
    bad: only("-- migrate:up\nselect 1;\n"),
    found: [`${first}:1:1 down-missing: there is no line "-- migrate:down" behind "-- migrate:up"`],
    good: only(migration("select 1;")),
  },
  {
    rule: "statement-before-up",
    bad: only(`-- why\n\nset search_path = x;\n${migration("select 1;")}`),
    found: [`${first}:3:1 statement-before-up: a statement stands in front of "-- migrate:up"`],
    good: only(`-- why\n\n  -- and how\n${migration("select 1;")}`),
  },
  {
    rule: "several-sections",
    bad: only(migration("select 1;") + migration("select 2;")),
    found: [`${first}:6:1 several-sections: a second "-- migrate:up"; dbmate would take back this part alone`],
    good: only(migration("select 1;\nselect 2;")),
  },
  {
    rule: "directive-misspelled",
    bad: only(migration("select 1;\n -- migrate:down\nselect 2;")),
    found: [`${first}:3:1 directive-misspelled: dbmate takes this line for a comment`],
    good: only(migration("-- migrate down only at night\nselect 1;")),
  },
  {
    rule: "option-unknown",
    bad: only("-- migrate:up transaction: false\nselect 1;\n-- migrate:down\nselect 1;\n"),
    found: [`${first}:1:1 option-unknown: dbmate ignores the option "transaction:"`],
    good: only("--migrate:up   transaction:false \nselect 1;\n-- migrate:down transaction:true\nselect 1;\n"),
  },
  {
    rule: "syntax",
    bad: only(migration("select 'é';\n  selct 2;")),
    found: [`${first}:3:3 syntax: syntax error at or near "selct"`],
    good: only(migration("select 'selct; -- migrate', $$ it's; $$;")),
  },
  {
    rule: "up-empty",
    bad: only(migration("-- nothing yet\n;")),
    found: [`${first}:1:1 up-empty: it would be taken for applied, and nothing has happened`],
    good: only(migration("select 1;")),
  },
  {
    rule: "down-empty",
    bad: only(migration("select 1;", "-- cannot be undone")),
    found: [`${first}:4:1 down-empty: \`migrate down\` would say that it is taken back, and nothing has happened`],
    good: only(migration("select 1;", "select 2;")),
  },
  {
    rule: "several-without-transaction",
    bad: only(alone("create index concurrently i on t (a);\ncreate index concurrently j on t (b);")),
    found: [
      `${first}:3:1 several-without-transaction: when this statement fails, the one before it stays, and the file cannot be applied again`,
    ],
    good: only(alone("create index concurrently i on t (a); -- ;")),
  },
  {
    rule: "needs-no-transaction",
    bad: only(migration("create index concurrently i on t (a);")),
    found: [`${first}:2:1 needs-no-transaction: CREATE INDEX CONCURRENTLY cannot run inside a transaction`],
    good: only(alone("create index concurrently i on t (a);")),
  },
  {
    rule: "transaction-control",
    bad: only(migration("begin;\nselect 1;\ncommit;")),
    found: [
      `${first}:2:1 transaction-control: BEGIN ends or nests the transaction of dbmate`,
      `${first}:4:1 transaction-control: COMMIT ends or nests the transaction of dbmate`,
    ],
    good: only(migration("savepoint s;\nrelease s;\ndo $$ begin perform 1; end $$;")),
  },
  {
    rule: "concurrently-if-not-exists",
    bad: only(alone("create unique index concurrently if not exists i on t (a);")),
    found: [
      `${first}:2:1 concurrently-if-not-exists: an INVALID index that a failed run has left would be taken for this one`,
    ],
    good: only(alone("create unique index concurrently i on t (a);")),
  },
  {
    rule: "records-itself",
    bad: only(migration("insert into schema_migrations (version) values ('20260101000000');")),
    found: [`${first}:2:1 records-itself: it changes schema_migrations, and then dbmate fails, or loses count`],
    good: only(migration("insert into notes (text) select version from schema_migrations;")),
  },
  {
    rule: "setting-outlives-file",
    bad: only(migration("set search_path = x;")),
    found: [`${first}:2:1 setting-outlives-file: search_path stays as it is for the files behind it`],
    good: only(migration("set local search_path = x;\nselect set_config('search_path', '', true);\nreset role;")),
  },
  {
    rule: "allow-unusable",
    bad: only(migration("set role x; -- dbops:allow setting-outlives-file")),
    found: [
      `${first}:2:1 setting-outlives-file: role stays as it is for the files behind it`,
      `${first}:2:1 allow-unusable: it does not say why setting-outlives-file is allowed here`,
    ],
    good: only(migration("set role x; -- dbops:allow setting-outlives-file the files behind it want it too")),
  },
  {
    rule: "allow-unused",
    bad: only(migration("-- dbops:allow setting-outlives-file it did once\nselect 1;")),
    found: [`${first}:2:1 allow-unused: there is nothing here that setting-outlives-file would find`],
    good: only(migration("-- dbops:allow setting-outlives-file all of them want it\nset role x;")),
  },
  {
    rule: "drop-without-deprecation",
    bad: only(migration("alter table t\n  drop column a;")),
    found: [
      `${first}:3:3 drop-without-deprecation: the column t.a is dropped, and the version of the app that runs meanwhile may use it`,
    ],
    good: {
      [first]: migration("comment on column t.a is 'deprecated: b says it better';"),
      [second]: migration("alter table public.t\n  drop column a;"),
    },
  },
  {
    rule: "foreign-key-without-index",
    bad: only(migration("create table t (\n  id bigint primary key,\n  u bigint references u\n);")),
    found: [
      `${first}:4:12 foreign-key-without-index: no index of t begins with u: each delete in the other table reads all of it`,
    ],
    good: {
      [first]: migration("create table t (\n  id bigint primary key,\n  u bigint references u\n);"),
      [second]: alone("create index concurrently i on t (u, id desc);"),
    },
  },
  {
    rule: "adding-field-with-default",
    bad: only(migration("alter table t add column a timestamptz default clock_timestamp();")),
    found: [
      `${first}:2:48 adding-field-with-default: the table is rewritten, and takes neither reads nor writes meanwhile`,
    ],
    good: only(migration("alter table t add column a timestamptz not null default now();")),
  },
  {
    rule: "adding-foreign-key-constraint",
    bad: {
      [first]: alone("create index concurrently i on t (a);"),
      [second]: migration("alter table t add constraint f foreign key (a) references u;"),
    },
    found: [
      `${second}:2:19 adding-foreign-key-constraint: all rows are checked, and both tables take no writes meanwhile`,
    ],
    good: {
      [first]: alone("create index concurrently i on t (a);"),
      [second]: migration("alter table t add constraint f foreign key (a) references u not valid;"),
      [third]: migration("alter table t validate constraint f;"),
    },
  },
  {
    rule: "adding-not-nullable-field",
    bad: only(migration("alter table t alter column a set not null;")),
    found: [
      `${first}:2:30 adding-not-nullable-field: all rows are checked, and the table takes neither reads nor writes meanwhile`,
    ],
    good: {
      [first]: migration("alter table t add constraint n not null a not valid;"),
      [second]: migration("alter table t validate constraint n;"),
    },
  },
  {
    rule: "adding-required-field",
    bad: only(migration("alter table t add column a text not null;")),
    found: [
      `${first}:2:15 adding-required-field: it fails where there are rows, and the version that runs meanwhile cannot insert any`,
    ],
    good: only(migration("alter table t add column a text not null default '';")),
  },
  {
    rule: "adding-serial-primary-key-field",
    bad: only(migration("alter table t add primary key (a);")),
    found: [
      `${first}:2:19 adding-serial-primary-key-field: its index is built while the table takes neither reads nor writes`,
    ],
    good: {
      [first]: alone("create unique index concurrently t_pkey on t (a);"),
      [second]: migration("alter table t add constraint t_pkey primary key using index t_pkey;"),
    },
  },
  {
    rule: "ban-alter-domain-with-add-constraint",
    bad: only(migration("alter domain d add constraint c check (value <> '');")),
    found: [
      `${first}:2:16 ban-alter-domain-with-add-constraint: every table with the domain is read, and takes no writes meanwhile`,
    ],
    good: only(migration("alter domain d validate constraint c;")),
  },
  {
    rule: "ban-drop-database",
    bad: only(alone("drop database other;")),
    found: [`${first}:2:1 ban-drop-database: it drops a database`],
    good: only(migration("alter database other set timezone = 'UTC';")),
  },
  {
    rule: "ban-drop-not-null",
    bad: only(migration("alter table t alter column a drop not null;")),
    found: [`${first}:2:30 ban-drop-not-null: the version of the app that runs meanwhile does not expect a null`],
    good: only(migration("alter table t alter column a set default 1;")),
  },
  {
    rule: "truncate",
    bad: only(migration("truncate t, s.u cascade;")),
    found: [
      `${first}:2:1 truncate: it empties t and s.u, and whatever refers to them: the version of the app that runs meanwhile may need the rows`,
    ],
    good: {
      [first]: migration("comment on table s.u is 'deprecated: nobody reads it';"),
      [second]: migration("create table t (id int);\ntruncate t, s.u;"),
    },
  },
  {
    rule: "changing-column-type",
    bad: only(migration("alter table t alter column a type bigint;")),
    found: [
      `${first}:2:30 changing-column-type: the table may be rewritten, takes neither reads nor writes meanwhile, and the app may not know the type`,
    ],
    good: only(migration("alter table t add column b bigint;")),
  },
  {
    rule: "constraint-missing-not-valid",
    bad: only(migration("alter table t add constraint c check (a > 0);")),
    found: [
      `${first}:2:15 constraint-missing-not-valid: all rows are checked, and the table takes neither reads nor writes meanwhile`,
    ],
    good: only(migration("create table t (a int);\nalter table t add constraint c check (a > 0);")),
  },
  {
    rule: "disallowed-unique-constraint",
    bad: only(migration("alter table t add constraint u unique (a);")),
    found: [
      `${first}:2:19 disallowed-unique-constraint: its index is built while the table takes neither reads nor writes`,
    ],
    good: {
      [first]: alone("create unique index concurrently u on t (a);"),
      [second]: migration("alter table t add constraint u unique using index u;"),
    },
  },
  {
    rule: "identifier-too-long",
    bad: only(migration(`create table ${"t".repeat(64)} (a int);`)),
    found: [`${first}:2:14 identifier-too-long: Postgres cuts this name off after 63 bytes`],
    good: only(migration(`create table ${"t".repeat(63)} (a int);`)),
  },
  {
    rule: "require-concurrent-index-creation",
    bad: only(migration("create index i on t (a);")),
    found: [`${first}:2:1 require-concurrent-index-creation: the table takes no writes while the index is built`],
    good: only(migration("create table t (a int);\ncreate index i on t (a);")),
  },
  {
    rule: "require-concurrent-index-deletion",
    bad: only(migration("drop index i;")),
    found: [
      `${first}:2:1 require-concurrent-index-deletion: the table takes neither reads nor writes until every query of it is done`,
    ],
    good: only(alone("drop index concurrently i;")),
  },
  {
    rule: "require-concurrent-partition-detach",
    bad: only(migration("alter table t detach partition p;")),
    found: [
      `${first}:2:15 require-concurrent-partition-detach: the table takes neither reads nor writes until every query of it is done`,
    ],
    good: only(alone("alter table t detach partition p concurrently;")),
  },
  {
    rule: "require-concurrent-reindex",
    bad: only(migration("reindex table t;")),
    found: [
      `${first}:2:1 require-concurrent-reindex: the table takes no writes while the index is built, and queries that would use it wait`,
    ],
    good: only(alone("reindex table concurrently t;")),
  },
  {
    rule: "squawk-cannot-read",
    bad: only(migration("set names 'utf8';\ndrop index i;")),
    found: [
      `${first}:2:1 setting-outlives-file: client_encoding stays as it is for the files behind it`,
      `${first}:2:11 squawk-cannot-read: squawk cannot read it, so nothing in this file was judged: expected EQ`,
    ],
    good: only(migration("set local client_encoding = 'utf8';")),
  },
];

test("each rule is here", () => {
  expect(cases.map(({ rule }) => rule).sort()).toEqual((Object.keys(rules) as RuleName[]).sort());
});

test.each(cases)("$rule: found, and not found", async ({ rule, bad, found, good }) => {
  expect(found.filter((line) => line.includes(` ${rule}: `)).length).toBeGreaterThan(0);
  expect(await told(bad)).toEqual(found);
  expect(await told(good)).toEqual([]);
});
