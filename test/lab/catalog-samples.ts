// A database that uses everything which catalog-objects.ts knows, made in two orders; and a change of every kind, with what is to be said
// of it. Roles: "reader" and "Writer" besides the owner, who is a superuser.

/** What the rest is made of. */
const foundations = [
  'create schema app; create schema "Mixed Case"',
  "create extension citext with schema app",
  "create extension postgres_fdw",
  "create type app.mood as enum ('sad', 'ok', 'happy')",
  `create domain app.email as text collate "C" not null default 'nobody@example.com'
     constraint email_has_at check (value like '%@%') constraint email_is_short check (length(value) < 200)`,
  'create type app.address as (street text, zip varchar(10) collate "C")',
  "create type app.span as range (subtype = float8, subtype_diff = float8mi)",
  "create function app.touch() returns trigger language plpgsql as $$ begin return new; end $$",
  `create function app.add(a int, b int default 1) returns int language sql immutable strict parallel safe cost 5 set search_path = '' return a + b`,
  "create table app.base (id bigint primary key, kind text)",
  `create table app.people (
     id bigint generated always as identity (start 100 increment 5) primary key,
     number serial,
     name text collate "C" not null,
     mood app.mood not null default 'ok',
     email app.email,
     status varchar(20) not null default 'new' check (status in ('new', 'old')),
     total numeric(10,2) default 0,
     double numeric generated always as (total * 2) stored,
     tags text[] not null default '{}',
     home app.address,
     during int4range,
     boss bigint references app.people,
     base_id bigint,
     created_at timestamptz not null default now(),
     constraint people_during_excl exclude using gist (during with &&),
     constraint people_name_key unique nulls not distinct (name, mood) with (fillfactor = 90)
   ) with (fillfactor = 80, toast.autovacuum_enabled = false)`,
  `create table app.events (id bigint not null, at timestamptz not null, note text check (note <> '')) partition by range (at)`,
  `create table "Mixed Case"."Order" ("Id" int primary key, "user" text)`,
];

/** Each needs what is above, and none another. */
const others = [
  "create unlogged table app.scratch (a int)",
  "create table app.copy (like app.people including defaults); alter table app.copy alter column number drop default",
  "create table app.typed of app.address",
  "create table app.child (extra int) inherits (app.base)",
  `create table app.events_2026 partition of app.events for values from ('2026-01-01 00:00:00+00') to ('2027-01-01 00:00:00+00');
   create index events_note_idx on app.events (note); alter table app.events add constraint events_pkey primary key (id, at);
   create trigger events_touch before update on app.events for each row execute function app.touch()`,
  "alter table app.people add constraint people_base_fkey foreign key (base_id) references app.base deferrable initially deferred",
  "alter table app.people add constraint people_total_check check (total >= 0) not valid",
  "alter table app.people alter column tags set storage external, alter column name set statistics 500, alter column email set (n_distinct = 5)",
  "alter table app.people replica identity using index people_pkey",
  "alter table app.base cluster on base_pkey",
  "create index people_status_idx on app.people (status) where status in ('new', 'old')",
  "create unique index people_lower_idx on app.people using btree (lower(name) desc nulls last) include (id)",
  "create statistics app.people_stats (ndistinct, dependencies) on status, mood from app.people",
  "create view app.grown as select id, name, case when status in ('new', 'old') then 1 end as known from app.people with check option",
  "create materialized view app.counted as select mood, count(*) from app.people group by mood; create unique index counted_idx on app.counted (mood)",
  "create rule people_protect as on delete to app.people where old.status = 'old' do instead nothing",
  "create trigger people_touch before update of name on app.people for each row when (old.name is distinct from new.name) execute function app.touch()",
  "create constraint trigger people_check after insert on app.people deferrable for each row execute function app.touch()",
  "alter table app.people enable row level security; alter table app.people force row level security",
  `create policy people_own on app.people as restrictive for update to reader, "Writer" using (name = current_user) with check (status in ('new', 'old'))`,
  `create policy people_all on app.people using (true)`,
  "create sequence app.numbers as int start 7 increment 2 minvalue 3 maxvalue 1000 cache 5 cycle",
  "create function app.add(a text) returns text language sql as $$ select a || '!' $$",
  `create function app.listing(out id bigint, out name text) returns setof record language sql begin atomic select id, name from app.people; end`,
  "create procedure app.clean(inout n int) language plpgsql as $$ begin n := 1; end $$",
  "create aggregate app.total(int) (sfunc = int4pl, stype = int4, initcond = '0', parallel = safe)",
  "create operator app.=== (leftarg = int, rightarg = int, function = int4eq, commutator = operator(app.===))",
  "create cast (app.address as int) with function app.zipped(app.address)",
  "create collation app.german (provider = icu, locale = 'de')",
  "create text search configuration app.words (copy = simple)",
  "create text search dictionary app.plain (template = simple, accept = false)",
  `create server elsewhere foreign data wrapper postgres_fdw options (host 'db.example.com'); grant usage on foreign server elsewhere to reader;
   create foreign table app.remote (id int options (column_name 'key'), name text) server elsewhere options (table_name 'there')`,
  "create publication changes for table only app.base, only app.people (id, name) where (id > 5) with (publish = 'insert, update')",
  'create publication schemas for tables in schema app, "Mixed Case"',
  "create function app.on_ddl() returns event_trigger language plpgsql as $$ begin end $$; create event trigger noticed on ddl_command_end when tag in ('DROP TABLE', 'CREATE TABLE') execute function app.on_ddl()",
  'grant usage on schema app to reader; grant create on schema app to "Writer"',
  'grant select on app.people to reader with grant option; grant insert, update on app.people to "Writer"; grant select (kind), update (kind) on app.base to reader',
  "grant usage on sequence app.people_number_seq to reader; grant execute on function app.add(int, int) to reader; revoke execute on function app.touch() from public; grant usage on type app.mood to reader",
  'alter table "Mixed Case"."Order" owner to "Writer"; alter schema "Mixed Case" owner to "Writer"',
];

/** Functions that the others need, and that need the foundations. */
const between = ["create function app.zipped(app.address) returns int language sql immutable return 1"];

/** Of all these, and for all that comes after. */
const last = [
  "alter default privileges in schema app grant select on tables to reader; alter default privileges revoke execute on functions from public",
  'alter default privileges for role "Writer" in schema app grant usage on sequences to reader',
  "comment on schema app is 'ours'; comment on table app.people is 'those whom we know'; comment on column app.people.name is 'as they say it'",
  "comment on view app.grown is 'a view'; comment on column app.grown.known is 'of a view'; comment on index app.people_status_idx is 'an index'",
  "comment on constraint people_pkey on app.people is 'a constraint'; comment on trigger people_touch on app.people is 'a trigger'; comment on policy people_own on app.people is 'a policy'",
  "comment on function app.add(int, int) is 'a function'; comment on type app.mood is 'an enum'; comment on column app.address.zip is 'of a type'; comment on domain app.email is 'a domain'",
  "comment on sequence app.numbers is 'a sequence'; comment on event trigger noticed is 'an event trigger'; comment on schema public is 'not the usual'",
];

export const everything: readonly string[] = [...foundations, ...between, ...others, ...last];

/** The same in the opposite order, as far as there is a choice. */
export const everythingReversed: readonly string[] = [
  ...[...foundations, ...between, ...others.toReversed()],
  ...last.toReversed(),
];

export type Change = {
  sql: string;
  /** "what kind name", of each difference. */
  says: readonly string[];
  /** Of what the dumps of a database do not have. */
  ofRoles?: true;
};

const change = (sql: string, ...says: string[]): Change => ({ sql, says });
const ofRoles = (sql: string, ...says: string[]): Change => ({ sql, says, ofRoles: true });

export const changes: readonly Change[] = [
  change("create schema more", "unexpected schema more"),
  ofRoles('alter schema "Mixed Case" owner to reader', 'changed schema "Mixed Case"'),
  change("create extension hstore", "unexpected extension hstore"),
  change(
    "create table app.more (id int primary key, at timestamptz default now()); create index on app.more (at)",
    "unexpected table app.more",
  ),
  change("drop table app.scratch", "missing table app.scratch"),
  change("drop table app.copy", "missing table app.copy"),
  ofRoles("alter table app.base owner to reader", "changed table app.base"),
  change("alter table app.scratch set logged", "changed table app.scratch"),
  change("alter table app.people reset (fillfactor)", "changed table app.people"),
  change("alter table app.people reset (toast.autovacuum_enabled)", "changed table app.people"),
  change("alter table app.people disable row level security", "changed table app.people"),
  change("alter table app.people no force row level security", "changed table app.people"),
  change("alter table app.people replica identity full", "changed table app.people"),
  change("alter table app.people replica identity using index people_name_key", "changed table app.people"),
  change("alter table app.base set without cluster", "changed table app.base"),
  change("alter table app.child no inherit app.base", "changed table app.child"),
  change(
    "alter table app.events detach partition app.events_2026",
    "changed table app.events_2026",
    ...["at", "id", "note"].map((name) => `unexpected column app.events_2026.${name}`),
    ...["events_2026_pkey", "events_note_check"].map((name) => `unexpected constraint app.events_2026.${name}`),
    "unexpected index app.events_2026_note_idx",
  ),
  change(
    "create table app.events_2027 partition of app.events for values from ('2027-01-01 00:00:00+00') to ('2028-01-01 00:00:00+00')",
    "unexpected table app.events_2027",
  ),

  change("alter table app.people add column more int", "unexpected column app.people.more"),
  change(
    "alter table app.people add column more int generated by default as identity",
    "unexpected column app.people.more",
  ),
  change("alter table app.people add column more serial", "unexpected column app.people.more"),
  change("alter table app.copy drop column total", "missing column app.copy.total"),
  change("alter table app.people drop column number", "missing column app.people.number"),
  change(
    "alter table app.copy rename column total to sum",
    "unexpected column app.copy.sum",
    "missing column app.copy.total",
  ),
  change("alter table app.copy alter column total type numeric(12,2)", "changed column app.copy.total"),
  change("alter table app.people alter column name drop not null", "changed column app.people.name"),
  change("alter table app.people alter column total drop default", "changed column app.people.total"),
  change("alter table app.people alter column id set generated by default", "changed column app.people.id"),
  change("alter table app.people alter column id set increment by 6", "changed column app.people.id"),
  change("alter table app.people alter column id drop identity", "changed column app.people.id"),
  change("alter table app.base alter column id add generated always as identity", "changed column app.base.id"),
  change("alter table app.people alter column double drop expression", "changed column app.people.double"),
  change("alter table app.people alter column tags set storage main", "changed column app.people.tags"),
  change("alter table app.copy alter column name set compression pglz", "changed column app.copy.name"),
  change("alter table app.people alter column name set statistics 100", "changed column app.people.name"),
  change("alter table app.people alter column email reset (n_distinct)", "changed column app.people.email"),
  change('alter table app.copy alter column name type text collate "default"', "changed column app.copy.name"),
  change("alter table app.events add column more int", "unexpected column app.events.more"),
  change("alter table app.events_2026 alter column note set default 'x'", "unexpected column app.events_2026.note"),
  change(
    "alter foreign table app.remote alter column id options (set column_name 'other')",
    "changed column app.remote.id",
  ),
  change("alter table app.copy add constraint copy_name_nn not null home not valid", "changed column app.copy.home"),

  change("alter table app.people drop constraint people_name_key", "missing constraint app.people.people_name_key"),
  change(
    "alter table app.people validate constraint people_total_check",
    "changed constraint app.people.people_total_check",
  ),
  change(
    "alter table app.people alter constraint people_base_fkey not deferrable",
    "changed constraint app.people.people_base_fkey",
  ),
  change("alter table app.people add check (id > 0)", "unexpected constraint app.people.people_id_check"),
  change(
    "alter table app.people rename constraint people_total_check to sum",
    "missing constraint app.people.people_total_check",
    "unexpected constraint app.people.sum",
  ),
  change("alter index app.people_name_key reset (fillfactor)", "changed constraint app.people.people_name_key"),
  change(
    "alter table app.people disable trigger all",
    ...["people_base_fkey", "people_boss_fkey"].map((name) => `changed constraint app.people.${name}`),
    ...["people_check", "people_touch"].map((name) => `changed trigger app.people.${name}`),
  ),
  change(
    "alter table app.events add constraint events_id_check check (id > 0)",
    "unexpected constraint app.events.events_id_check",
  ),

  change("drop index app.people_status_idx", "missing index app.people_status_idx"),
  change("create index more on app.people (created_at)", "unexpected index app.more"),
  change(
    "drop index app.people_lower_idx; create unique index people_lower_idx on app.people (lower(name)) include (id)",
    "changed index app.people_lower_idx",
  ),
  change(
    "update pg_index set indisvalid = false where indexrelid = 'app.people_lower_idx'::regclass",
    "changed index app.people_lower_idx",
  ),
  change("create index more on app.events (at)", "unexpected index app.more"),
  change("drop index app.counted_idx", "missing index app.counted_idx"),

  change("drop trigger people_check on app.people", "missing trigger app.people.people_check"),
  change("alter table app.people disable trigger people_touch", "changed trigger app.people.people_touch"),
  change("drop trigger events_touch on app.events", "missing trigger app.events.events_touch"),
  // Of one partition alone.
  change("alter table app.events_2026 disable trigger events_touch", "unexpected trigger app.events_2026.events_touch"),
  change(
    "alter table only app.events disable trigger events_touch",
    "changed trigger app.events.events_touch",
    "unexpected trigger app.events_2026.events_touch",
  ),
  change("drop rule people_protect on app.people", "missing rule app.people.people_protect"),
  change("alter table app.people disable rule people_protect", "changed rule app.people.people_protect"),
  change("drop policy people_all on app.people", "missing policy app.people.people_all"),
  change("alter policy people_own on app.people to reader", "changed policy app.people.people_own"),
  change("alter policy people_all on app.people using (false)", "changed policy app.people.people_all"),
  change("drop statistics app.people_stats", "missing statistics app.people_stats"),
  change("alter statistics app.people_stats set statistics 50", "changed statistics app.people_stats"),

  change(
    "create or replace view app.grown as select id, name, 2 as known from app.people with check option",
    "changed view app.grown",
  ),
  change("alter view app.grown reset (check_option)", "changed view app.grown"),
  change("alter view app.grown alter column id set default 1", "changed view app.grown"),
  change("drop view app.grown", "missing view app.grown"),
  change("drop materialized view app.counted", "missing materialized view app.counted"),
  change("alter foreign table app.remote options (set table_name 'other')", "changed foreign table app.remote"),
  change("drop foreign table app.remote", "missing foreign table app.remote"),
  change("create sequence app.more", "unexpected sequence app.more"),
  change("alter sequence app.numbers no cycle", "changed sequence app.numbers"),
  change("alter sequence app.numbers maxvalue 2000", "changed sequence app.numbers"),
  change("alter sequence app.people_number_seq owned by none", "changed sequence app.people_number_seq"),

  change(
    "create or replace function app.touch() returns trigger language plpgsql as $$ begin return null; end $$",
    "changed function app.touch()",
  ),
  change("alter function app.add(int, int) volatile", "changed function app.add(integer, integer)"),
  change("alter function app.add(int, int) reset all", "changed function app.add(integer, integer)"),
  change(
    "create function app.add(float8) returns int language sql return 1",
    "unexpected function app.add(double precision)",
  ),
  change("drop function app.add(text)", "missing function app.add(text)"),
  change(
    "create or replace procedure app.clean(inout n int) language plpgsql as $$ begin n := 2; end $$",
    "changed procedure app.clean(integer)",
  ),
  change(
    "drop aggregate app.total(int); create aggregate app.total(int) (sfunc = int4pl, stype = int4, initcond = '1', parallel = safe); grant execute on function app.total(int) to public",
    "changed aggregate app.total(integer)",
  ),
  ofRoles("alter function app.touch() owner to reader", "changed function app.touch()"),

  change("alter type app.mood rename value 'sad' to 'low'", "changed enum app.mood"),
  change("alter type app.mood add value 'sober' before 'ok'", "changed enum app.mood"),
  change("alter domain app.email drop constraint email_is_short", "changed domain app.email"),
  change("alter domain app.email drop not null", "changed domain app.email"),
  change("alter domain app.email set default 'x@y'", "changed domain app.email"),
  change("create type app.pair as (a int, b int)", "unexpected type app.pair"),
  change(
    "alter type app.address add attribute country text cascade",
    "changed type app.address",
    "unexpected column app.typed.country",
  ),
  change("create type app.other as range (subtype = int8)", "unexpected range app.other"),

  change("alter event trigger noticed disable", "changed event trigger noticed"),
  change("drop event trigger noticed", "missing event trigger noticed"),
  change(
    "create transform for int language sql (from sql with function prsd_lextype(internal), to sql with function int4recv(internal))",
    "unexpected transform for integer language sql",
  ),
  change("alter publication changes add table app.copy", "changed publication changes"),
  change("alter publication changes set table app.base, app.people (id) where (id > 5)", "changed publication changes"),
  change(
    "alter publication changes set table app.base, app.people (id, name) where (id > 6)",
    "changed publication changes",
  ),
  change("alter publication changes set (publish = 'insert')", "changed publication changes"),
  change("alter publication schemas drop tables in schema app", "changed publication schemas"),
  change("drop operator app.=== (int, int)", "missing operator app.===(integer,integer)"),
  change("drop cast (app.address as int)", "missing cast (app.address AS integer)"),
  change(
    "drop collation app.german; create collation app.german (provider = icu, locale = 'fr')",
    "changed collation app.german",
  ),
  change(
    "alter text search configuration app.words alter mapping for word with english_stem",
    "changed text search configuration app.words",
  ),
  change("alter text search dictionary app.plain (accept = true)", "changed text search dictionary app.plain"),
  change("alter server elsewhere options (set host 'other.example.com')", "changed server elsewhere"),

  ofRoles("revoke select on app.people from reader", "changed grant on table app.people"),
  ofRoles("grant select on app.base to reader", "unexpected grant on table app.base"),
  ofRoles("revoke grant option for select on app.people from reader", "changed grant on table app.people"),
  ofRoles("revoke update (kind) on app.base from reader", "changed grant on column app.base.kind"),
  ofRoles("grant select (id) on app.people to reader", "unexpected grant on column app.people.id"),
  ofRoles("revoke usage on schema app from reader", "changed grant on schema app"),
  ofRoles("grant execute on function app.touch() to public", "missing grant on function app.touch()"),
  ofRoles("revoke usage on type app.mood from reader", "missing grant on enum app.mood"),
  ofRoles("grant select on sequence app.numbers to reader", "unexpected grant on sequence app.numbers"),
  ofRoles("revoke usage on foreign server elsewhere from reader", "missing grant on foreign server elsewhere"),
  ofRoles("revoke all on app.copy from current_user", "unexpected grant on table app.copy"),
  ofRoles(
    "alter default privileges in schema app revoke select on tables from reader",
    "missing default privileges of dbops_app in app on tables",
  ),
  ofRoles(
    "alter default privileges in schema app grant insert on tables to reader",
    "changed default privileges of dbops_app in app on tables",
  ),
  ofRoles(
    "alter default privileges grant select on sequences to reader",
    "unexpected default privileges of dbops_app on sequences",
  ),

  change("comment on table app.people is 'others'", "changed comment on table app.people"),
  change("comment on column app.people.name is null", "missing comment on column app.people.name"),
  change("comment on column app.people.mood is 'new'", "unexpected comment on column app.people.mood"),
  change("comment on column app.grown.known is null", "missing comment on column app.grown.known"),
  change(
    "comment on constraint people_pkey on app.people is null",
    "missing comment on constraint app.people.people_pkey",
  ),
  change("comment on trigger people_touch on app.people is null", "missing comment on trigger app.people.people_touch"),
  change("comment on policy people_own on app.people is null", "missing comment on policy app.people.people_own"),
  change("comment on function app.add(int, int) is null", "missing comment on function app.add(integer, integer)"),
  change("comment on type app.mood is null", "missing comment on enum app.mood"),
  change("comment on column app.address.zip is null", "missing comment on column app.address.zip"),
  change("comment on schema public is 'standard public schema'", "missing comment on schema public"),
  change("comment on schema app is null", "missing comment on schema app"),
  change("comment on event trigger noticed is null", "missing comment on event trigger noticed"),
];

/** What is no difference: rows, statistics, what belongs to nobody or to the kit. */
export const noChanges: readonly string[] = [
  "insert into app.base select g, 'x' from generate_series(1, 100) g",
  "analyze app.base",
  "select nextval('app.numbers'), setval('app.people_id_seq', 500)",
  "create table public.schema_migrations (version varchar primary key); insert into public.schema_migrations values ('1')",
  "create schema dbops; create table dbops.migration_files (version text primary key); comment on schema dbops is 'the kit'",
  "create temporary table own (id serial primary key, at text); create temporary view own_view as select 1",
  "refresh materialized view app.counted",
  "grant select on app.copy to reader; revoke select on app.copy from reader",
  "grant select on app.people to reader with grant option",
  "comment on table app.copy is null",
  "alter table app.copy add column more int; alter table app.copy drop column more",
  "update pg_extension set extversion = '0.1' where extname = 'citext'",
  "set local quote_all_identifiers = on; set local intervalstyle = 'iso_8601'; set local search_path = app, public",
];
