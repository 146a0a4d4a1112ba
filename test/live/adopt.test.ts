// `drift adopt` from the tools that neither npm nor Debian has, by the tables that their documentation and sources give them; from runners
// that people have written; and everything that can go wrong: then nothing is changed. adopt-tools.test.ts has the real tools.
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { guardOf } from "../../scripts/lib/adopt-baseline-text.ts";
import { poll } from "../../scripts/lib/wait.ts";
import { type AdoptLab, type AdoptProject, startAdoptLab } from "../lab/adopt-project.ts";
import { repository } from "../lab/repository.ts";

setDefaultTimeout(60_000);

let lab: AdoptLab;

beforeAll(async () => {
  lab = await startAdoptLab();
}, 300_000);

afterAll(async () => {
  await lab?.stop();
});

/** Everything that must not have changed: the database, and the files. */
async function stateOf(project: AdoptProject): Promise<unknown> {
  const tables =
    await project.sql`select n.nspname || '.' || c.relname as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind = 'r' and n.nspname !~ '^(pg_|information)' order by 1`;
  const rows = await Promise.all(
    tables.map(({ name }) =>
      project.sql.unsafe(
        `select '${name}' as name, array_agg(to_jsonb(t)::text order by to_jsonb(t)::text) as rows from ${name} t`,
      ),
    ),
  );
  const dbops = join(project.directory, ".dbops");
  const left = existsSync(dbops) ? readdirSync(dbops).filter((name) => name.startsWith("adopt-")) : [];
  return {
    rows: rows.flatMap((one) => one.map(({ name, rows: all }) => [name, all])),
    migrations: project.migrations(),
    left,
  };
}

/** Runs it, and requires that it changed nothing. @returns exit code, and what it says after its plan. */
async function refused(project: AdoptProject, ...words: string[]): Promise<[number, string]> {
  const before = await stateOf(project);
  const { exitCode, stdout, stderr } = await project.drift(["adopt", "--yes", ...words]);
  expect(stdout).toBe("");
  expect(await stateOf(project)).toEqual(before);
  return [
    exitCode,
    stderr
      .split("\n")
      .filter((line) => !isPlan.test(line))
      .join("\n")
      .trimEnd(),
  ];
}

const isPlan = /^( {2}\d+\. | {7}|[\w-]+ has migrated | {2}warning: | {2}(done {2}|FAILED) )/;

/** Nothing differs, and one more migration can be applied. */
async function goesOn(project: AdoptProject): Promise<void> {
  const check = await project.drift(["check"]);
  expect([check.exitCode, check.stdout], check.stdout + check.stderr).toEqual([0, expect.any(String)]);
  project.write(
    "migrations/20990101000000_later.sql",
    "-- migrate:up\ncreate table later (id int);\n\n-- migrate:down\ndrop table later;\n",
  );
  const up = await project.migrate(["up", "--yes", "--json"]);
  expect([up.exitCode, up.stderr], up.stderr).toEqual([0, expect.any(String)]);
  const versions = await project.sql`select version from schema_migrations order by 1`;
  expect(versions.map(({ version }) => version)).toEqual(project.migrations().map((file) => file.slice(0, 14)));
}

const historyOf = async (project: AdoptProject, table: string) =>
  (await project.sql.unsafe(`select to_jsonb(t) as row from ${table} t order by 1`)).map(({ row }) => row);

const flywayTable = `create table flyway_schema_history (
  installed_rank int not null constraint flyway_schema_history_pk primary key, version varchar(50), description varchar(200) not null,
  type varchar(20) not null, script varchar(1000) not null, checksum int, installed_by varchar(100) not null,
  installed_on timestamp not null default now(), execution_time int not null, success boolean not null);
create index flyway_schema_history_s_idx on flyway_schema_history (success);`;

const golangTable = "create table schema_migrations (version bigint not null primary key, dirty boolean not null);";

const knexTables = `create table knex_migrations (id serial primary key, name varchar(255), batch int, migration_time timestamptz);
create table knex_migrations_lock (index serial primary key, is_locked int); insert into knex_migrations_lock (is_locked) values (0);`;

describe("by their documented tables", () => {
  test("golang-migrate: gaps, both directions, one pending; its table makes room", async () => {
    const project = await lab.project("golang");
    await project.sql.unsafe(`${golangTable} insert into schema_migrations values (7, false);
      create table people (id bigint primary key, email text not null); create index people_email on people (email)`);
    project.write("db/migrations/000001_people.up.sql", "CREATE TABLE people (id bigint PRIMARY KEY);\n");
    project.write("db/migrations/000001_people.down.sql", "DROP TABLE people;\n");
    project.write(
      "db/migrations/000007_email.up.sql",
      "BEGIN;\nALTER TABLE people ADD email text NOT NULL;\nCREATE INDEX people_email ON people (email);\nCOMMIT;\n",
    );
    project.write("db/migrations/000010_notes.up.sql", "CREATE TABLE notes (id int);\n");

    const validated = await project.validator(["--json", "--tracker", "auto", "--files", "db/migrations"]);
    expect([validated.exitCode, JSON.parse(validated.stdout)]).toMatchObject([
      3,
      { problems: [{ message: "Expected 3 migrations, only 2 applied", next: "migrate -path … -database … up" }] },
    ]);

    expect(await project.adopt()).toMatchObject({
      tool: "golang-migrate",
      way: "import",
      renamed: "public.schema_migrations_before_dbmate",
    });
    expect(project.migrations()).toEqual([
      "20000101000100_people.sql",
      "20000101000700_email.sql",
      "20000101001000_notes.sql",
    ]);
    expect(project.read("migrations/20000101000100_people.sql")).toBe(
      `-- From db/migrations/000001_people.up.sql\n\n-- migrate:up\n${guardOf({ tool: "golang-migrate", table: { schema: "public", name: "schema_migrations", columns: {} }, nameIsTaken: true })}CREATE TABLE people (id bigint PRIMARY KEY);\n\n-- migrate:down\nDROP TABLE people;\n`,
    );
    expect(await historyOf(project, "schema_migrations_before_dbmate")).toEqual([{ version: 7, dirty: false }]);
    const keys =
      await project.sql`select conrelid::regclass::text as of, conname as name from pg_constraint where contype = 'p' and conname ~ '^schema' order by 1`;
    expect(keys.map(({ of, name }) => [of, name])).toEqual([
      ["schema_migrations", "schema_migrations_pkey"],
      ["schema_migrations_before_dbmate", "schema_migrations_before_dbmate_pkey"],
    ]);
    const { stdout } = await project.migrate(["up", "--yes"]);
    expect(stdout).toContain("1 migration applied");
    await goesOn(project);
    const [, wayBack] = /^```sql\n([\s\S]*?)^```$/m.exec(readFileSync(join(repository, "docs/adopt.md"), "utf8"))!;
    await project.sql.unsafe(wayBack!);
    expect(await historyOf(project, "schema_migrations")).toEqual([{ version: 7, dirty: false }]);
  });

  test("flyway: V1_2 after V1, the repeatable ones last, an undone one not", async () => {
    const project = await lab.project("flyway");
    const row = (rank: number, version: string, script: string, type = "SQL") =>
      `insert into flyway_schema_history values (${rank}, ${version}, 'all people', '${type}', '${script}', 1, 'app', now(), 1, true);`;
    await project.sql.unsafe(`${flywayTable} ${row(0, "null", "<< Flyway Schema Creation >>", "SCHEMA")}
      ${row(1, "'1'", "V1__people.sql")} ${row(2, "'1.2'", "V1_2__email.sql")} ${row(3, "null", "R__all_people.sql")} ${row(4, "null", "R__all_people.sql")}
      create table people (id int); alter table people add email text; create view all_people as select * from people`);
    project.write("src/main/resources/db/migration/V1__people.sql", "create table people (id int);");
    project.write("src/main/resources/db/migration/V1_2__email.sql", "alter table people add email text;");
    project.write(
      "src/main/resources/db/migration/R__all_people.sql",
      "create or replace view all_people as select * from people;",
    );
    const validated = await project.validator([
      "--json",
      "--tracker",
      "flyway",
      "--files",
      "src/main/resources/db/migration",
    ]);
    expect(JSON.parse(validated.stdout)).toMatchObject({
      ok: true,
      migrations: { applied: ["1", "1.2", "R all people"], unknown: [] },
    });
    await project.adopt();
    expect(project.migrations()).toEqual([
      "20000101000100_people.sql",
      "20000101000101_email.sql",
      "20000101000102_all_people.sql",
    ]);
    expect(await historyOf(project, "flyway_schema_history")).toHaveLength(5);
    await goesOn(project);
  });

  test("ecto: its bigint table makes room for a baseline", async () => {
    const project = await lab.project("ecto");
    await project.sql.unsafe(`create table schema_migrations (version bigint primary key, inserted_at timestamp(0));
      insert into schema_migrations values (20260101120000, now()), (20260102120000, now()); create table people (id int)`);
    project.write("priv/repo/migrations/20260101120000_create_people.exs", "");
    project.write("priv/repo/migrations/20260102120000_index_people.exs", "");
    const validated = await project.validator(["--tracker", "auto", "--files", "priv/repo/migrations"]);
    expect(validated.stdout).toContain("ok    migrations: 2 applied by ecto, none pending");
    expect(await project.adopt()).toMatchObject({
      tool: "ecto",
      way: "baseline",
      renamed: "public.schema_migrations_before_dbmate",
    });
    expect(project.migrations()).toEqual(["20260102120000_baseline.sql"]);
    await goesOn(project);
  });

  test("supabase: a file that is gone is made from the history; its schema is no part of what the files make", async () => {
    const project = await lab.project("supabase");
    await project.sql.unsafe(`create schema supabase_migrations;
      create table supabase_migrations.schema_migrations (version text not null primary key, statements text[], name text);
      insert into supabase_migrations.schema_migrations values ('20260101120000', '{create table people (id int)}', 'people'),
        ('20260102120000', '{alter table people add email text,create index on people (email)}', 'email');
      create table people (id int); alter table people add email text; create index on people (email)`);
    project.write("supabase/migrations/20260101120000_people.sql", "create table people (id int);\n");
    await project.adopt();
    expect(project.migrations()).toEqual(["20260101120000_people.sql", "20260102120000_email.sql"]);
    expect(project.read("migrations/20260102120000_email.sql")).toContain(
      "alter table people add email text;\n\ncreate index on people (email);\n",
    );
    await goesOn(project);
  });
});

describe("runners that people have written", () => {
  /** Two files numbered 040, and one that records itself. */
  function writeNumbered(project: AdoptProject): void {
    project.write(
      "db/migrations/001_people.sql",
      "BEGIN;\nCREATE TABLE IF NOT EXISTS schema_migrations (version int PRIMARY KEY);\nCREATE TABLE people (id int PRIMARY KEY);\nINSERT INTO schema_migrations (version) VALUES (1);\nCOMMIT;\n",
    );
    project.write(
      "db/migrations/040_email.sql",
      "alter table people add email text;\ncreate unique index concurrently people_email on people (email);\n",
    );
    project.write("db/migrations/040_notes.sql", "create table notes (id int);\n");
    project.write("db/migrations/041_later.sql", "create table tags (id int);\n");
  }

  const made =
    "create table people (id int primary key, email text); create unique index people_email on people (email);";

  test("numbers with gaps, two files of one number, and files that record themselves: the database tells what is applied", async () => {
    const project = await lab.project("numbers");
    await project.sql.unsafe(
      `create table schema_migrations (version int primary key); insert into schema_migrations values (1), (40); ${made} create table notes (id int)`,
    );
    writeNumbered(project);
    const { files } = await project.adopt();
    expect(files.map(({ file, written }) => [file, written])).toEqual([
      ["20000101000100_people.sql", true],
      ["20000101004000_email_1.sql", true],
      ["20000101004001_email_2.sql", true],
      ["20000101004002_notes.sql", true],
      ["20000101004100_later.sql", true],
    ]);
    expect((await project.sql`select version from schema_migrations order by 1`).map(({ version }) => version)).toEqual(
      files.slice(0, 4).map(({ file }) => file.slice(0, 14)),
    );
    await goesOn(project);
  });

  test("of the two files with one number the first alone was applied: the other is newer than all that is applied, and stays pending", async () => {
    const project = await lab.project("numbers-one");
    await project.sql.unsafe(
      `create table db_migrations (id serial, version text, applied_at timestamptz default now()); insert into db_migrations (version) values ('001'), ('040'); ${made}`,
    );
    writeNumbered(project);
    await project.adopt();
    expect((await project.sql`select version from schema_migrations order by 1`).map(({ version }) => version)).toEqual(
      ["20000101000100", "20000101004000", "20000101004001"],
    );
    // 040_notes and 041.
    const { stdout } = await project.migrate(["up", "--yes"]);
    expect(stdout).toContain("2 migrations applied");
  });

  test("of the two files with one number the second alone was applied: dbmate could not apply the first any more", async () => {
    const project = await lab.project("numbers-two");
    await project.sql.unsafe(
      "create table db_migrations (version int); insert into db_migrations values (1), (40); create table people (id int primary key); create table notes (id int)",
    );
    writeNumbered(project);
    expect(await refused(project)).toEqual([
      3,
      `Cannot adopt: the database shows that newer files are applied, and these are not
  | db/migrations/040_email.sql
  next: give them a number after all others, if they are still to be applied; else take them out of the folder
  read: docs/adopt.md`,
    ]);
  });

  test("where the structure does not tell, nothing is guessed", async () => {
    const project = await lab.project("numbers-none");
    await project.sql.unsafe(
      "create table migrations (version int primary key); insert into migrations values (40); create table people (id int)",
    );
    project.write("db/migrations/040_people.sql", "create table people (id int);");
    project.write("db/migrations/040_rows.sql", "do $$ begin end $$;");
    expect(await refused(project)).toEqual([
      5,
      `Cannot adopt: several files have one number, and the database does not show which of them is applied
  | 40: db/migrations/040_people.sql, db/migrations/040_rows.sql
  next: the same command with those that are applied: --applied db/migrations/040_people.sql --applied db/migrations/040_rows.sql
  read: docs/adopt.md`,
    ]);
    await project.adopt("--applied", "040_people.sql");
    expect(await historyOf(project, "schema_migrations")).toEqual([{ version: "20000101004000" }]);
  });

  test("file names as the key", async () => {
    const project = await lab.project("names");
    await project.sql.unsafe(`create table applied_migrations (filename text primary key, applied_at timestamptz default now());
      insert into applied_migrations (filename) values ('001_people.sql'), ('002_email.sql'); create table people (id int, email text)`);
    project.write("sql/migrations/001_people.sql", "create table people (id int);");
    project.write("sql/migrations/002_email.sql", "alter table people add email text;");
    project.write("sql/migrations/003_nothing.sql", "");
    await project.adopt();
    expect(project.migrations()).toEqual([
      "20000101000100_people.sql",
      "20000101000200_email.sql",
      "20000101000300_nothing.sql",
    ]);
    // dbmate applies an empty file, too.
    await goesOn(project);
  });
});

/** Of every kind that a baseline has to carry. */
const everything = `create role adopt_reader; create role adopt_owner;
create extension pgcrypto; create extension postgres_fdw; create server other foreign data wrapper postgres_fdw options (host 'nowhere');
create user mapping for adopt_reader server other options (user 'bob', password 'se''cret); x'); create schema shop; comment on schema shop is 'what is sold';
create type shop.size as enum ('small', 'it''s large'); create domain shop.price as numeric(10, 2) check (value >= 0);
create sequence shop.numbers start 1000;
create table shop.things (id bigint generated always as identity primary key, number bigint default nextval('shop.numbers'), size shop.size not null default 'small',
  price shop.price, twice numeric generated always as (price * 2) stored, name text collate "C", made timestamptz default now(), unique (name), check (price < 100));
alter sequence shop.numbers owned by shop.things.number;
create table shop.parts (thing bigint references shop.things on delete cascade, at date) partition by range (at);
create table shop.parts_2026 partition of shop.parts for values from ('2026-01-01') to ('2027-01-01');
create index on shop.parts (at); create index things_lower on shop.things (lower(name)) where price > 1;
create function shop.touch() returns trigger language plpgsql as $$ begin new.made = now(); return new; end $$;
create trigger touch before update on shop.things for each row execute function shop.touch();
create function odd() returns void language plpgsql as E'begin\\r\\n\\n\\n\\nSET client_min_messages = warning;\\n-- Dumped from nothing\\nend';
create function later() returns setof public.not_yet language sql as 'select * from public.not_yet'`;

describe("a baseline", () => {
  test("carries everything that a database is made of, owners and grants included", async () => {
    const project = await lab.project("everything");
    await project.sql.unsafe(`create table public.not_yet (id int); ${everything};
      create view shop.cheap as select * from shop.things where price < 10; create materialized view shop.counted as select count(*) as things from shop.things;
      grant usage on schema shop to adopt_reader; grant select, insert (name) on shop.things to adopt_reader;
      alter table shop.things enable row level security; create policy own on shop.things to adopt_reader using (name = current_user);
      alter table public.not_yet owner to adopt_owner; alter default privileges in schema shop grant select on tables to adopt_reader;
      create statistics shop.both on price, name from shop.things; ${knexTables} insert into knex_migrations (name, batch, migration_time) values ('20260101120000_all.js', 1, now())`);
    await project.adopt();
    const text = project.read("migrations/20260101120000_baseline.sql");
    expect(text).toContain("ALTER TABLE public.not_yet OWNER TO adopt_owner;");
    expect(text).toContain("GRANT INSERT(name) ON TABLE shop.things TO adopt_reader;");
    expect(text).not.toMatch(/^(CREATE|ALTER) .*knex_/m);
    // It goes into a repository.
    expect(text).not.toContain("cret");
    await goesOn(project);
  });

  test("a runner that keeps one row, the number up to which the database is: its files, and with --baseline none of them", async () => {
    for (const words of [[], ["--baseline"]]) {
      const project = await lab.project(`mark${words.length}`);
      await project.sql.unsafe(
        "create table schema_version (version int); insert into schema_version values (3); create table a (id int, b int, c int)",
      );
      project.write("db/migrations/001_a.sql", "create table a (id int);");
      project.write("db/migrations/002_b.sql", "alter table a add b int;");
      project.write("db/migrations/003_c.sql", "alter table a add c int;");
      project.write("db/migrations/004_d.sql", "create table d ();");
      const { files } = await project.adopt(...words);
      expect(files.map(({ file, applied }) => [file, applied])).toEqual([
        ...(words.length > 0
          ? [["20000101000300_baseline.sql", true]]
          : ["20000101000100_a.sql", "20000101000200_b.sql", "20000101000300_c.sql"].map((file) => [file, true])),
        ["20000101000400_d.sql", false],
      ]);
      expect((await project.drift(["check"])).exitCode).toBe(0);
    }
  });

  test("what is written, migrate up applies to a new database: several transactions in one file, an index if it is not there", async () => {
    const [project, anew] = [await lab.project("several-in-one"), await lab.project("several-in-one-new")];
    await project.sql.unsafe(`create table db_migrations (version int primary key); insert into db_migrations values (1);
      create table t (id int); create table u (id int); create index t_id on t (id)`);
    project.write(
      "db/migrations/001_t.sql",
      "BEGIN;\ncreate table t (id int);\nCOMMIT;\ncreate index concurrently if not exists t_id on t (id);\nBEGIN;\ncreate table u (id int);\nCOMMIT;\n",
    );
    await project.adopt();
    const files = project.migrations();
    expect(files).toEqual(["20000101000100_t_1.sql", "20000101000101_t_2.sql", "20000101000102_t_3.sql"]);
    for (const file of files) anew.write(`migrations/${file}`, project.read(`migrations/${file}`));
    const up = await anew.migrate(["up", "--yes"]);
    expect([up.exitCode, up.exitCode === 0 ? "" : up.stderr]).toEqual([0, ""]);
    expect((await anew.drift(["check"])).exitCode).toBe(0);
  });

  test.each([
    ["int", "create table schema_migrations (version int primary key); insert into schema_migrations values (1)"],
    [
      "text",
      "create table schema_migrations (version text primary key); insert into schema_migrations values ('001_t')",
    ],
    [
      "more",
      "create table schema_migrations (version bigint primary key, at timestamptz default now()); insert into schema_migrations values (1)",
    ],
    ["golang", `${golangTable} insert into schema_migrations values (1, false)`],
  ])("a deploy before another database is adopted, whose history has dbmate's own name: %s", async (name, history) => {
    const [adopted, early] = [await lab.project(`early-${name}`), await lab.project(`early-${name}-other`)];
    for (const project of [adopted, early]) {
      await project.sql.unsafe(`${history}; create table t (id int); insert into t values (1)`);
    }
    const table = "drop table if exists t; create table t (id int);";
    adopted.write(name === "golang" ? "db/migrations/1_t.up.sql" : "db/migrations/001_t.sql", table);
    await adopted.adopt(...(name === "text" ? ["--tool", "hand-written"] : []));
    const [file] = adopted.migrations();
    early.write(`migrations/${file}`, adopted.read(`migrations/${file}`));
    const up = await early.migrate(["up", "--yes"]);
    expect([up.exitCode, up.stderr]).toEqual([1, expect.stringContaining("has migrated this database so far")]);
    expect(await early.sql`select count(*)::int as rows from t`).toMatchObject([{ rows: 1 }]);
    if (name !== "int") return;
    await goesOn(adopted);
    const anew = await lab.project(`early-${name}-new`);
    anew.write(`migrations/${file}`, adopted.read(`migrations/${file}`));
    expect((await anew.migrate(["up", "--yes"])).exitCode).toBe(0);
  });

  test("for the next environment it is the same one, where that is the same", async () => {
    const [first, second, behind] = [
      await lab.project("first"),
      await lab.project("second"),
      await lab.project("behind"),
    ];
    const history = `${knexTables} insert into knex_migrations (name, batch, migration_time) values ('20260101120000_all.js', 1, now());`;
    for (const project of [first, second])
      await project.sql.unsafe(`${history} create table people (id int, email text)`);
    await behind.sql.unsafe(`${history} create table people (id int)`);
    await first.adopt();
    const text = first.read("migrations/20260101120000_baseline.sql");
    for (const project of [second, behind]) project.write("migrations/20260101120000_baseline.sql", text);
    // A deploy that comes too early.
    const early = await second.migrate(["up", "--yes"]);
    expect([early.exitCode, early.stderr]).toEqual([
      1,
      expect.stringMatching(
        /: knex has migrated this database so far \(P0001\)\n[\s\S]*\n {2}next: bun scripts\/drift\.ts adopt --database-url …\n/,
      ),
    ]);
    expect(await second.adopt()).toMatchObject({ files: [{ written: false, applied: true }] });
    expect(await refused(behind)).toEqual([
      3,
      `Nothing was adopted: the files do not make this database: 1 difference
  | missing     column public.people.email: only in the files
  |               text
  next: bring the database to the same state as the one that the baseline is of
  read: docs/adopt.md`,
    ]);
  });
});

describe("what is refused, with nothing changed", () => {
  test.each([
    [
      "golang-migrate",
      `${golangTable} insert into schema_migrations values (3, true)`,
      "version 3 is dirty: it failed half-way",
    ],
    [
      "flyway",
      `${flywayTable} insert into flyway_schema_history values (1, '1', 'a', 'SQL', 'V1__a.sql', 1, 'app', now(), 1, false)`,
      "V1__a.sql has failed, and is not repaired",
    ],
    [
      "prisma",
      `create table _prisma_migrations (id varchar(36) primary key, checksum varchar(64) not null, finished_at timestamptz, migration_name varchar(255) not null,
       logs text, rolled_back_at timestamptz, started_at timestamptz not null default now(), applied_steps_count int not null default 0);
       insert into _prisma_migrations (id, checksum, migration_name) values ('a', 'b', '20260101120000_a')`,
      "20260101120000_a has begun and not ended: it failed, or is running",
    ],
  ])("%s has left something half-done", async (tool, statements, why) => {
    const project = await lab.project(`dirty-${tool}`);
    await project.sql.unsafe(statements);
    expect(await refused(project)).toEqual([
      3,
      `Cannot adopt: ${tool} has left a migration half-done\n  | ${why}\n  next: mend it with ${tool}, then the same command again\n  read: docs/runbook/dirty-state.md`,
    ]);
    project.write("none/README", "");
    const validated = await project.validator(["--json", "--tracker", "auto", "--files", "none"]);
    expect(JSON.parse(validated.stdout).problems[0].message).toStartWith(`Begun by ${tool}, and not ended well: `);
  });

  test("a runner of one's own says that a migration failed, in whatever words", async () => {
    const project = await lab.project("failed-by-hand");
    await project.sql.unsafe(
      `create table migrations (name text primary key, status text); insert into migrations values ('001_a.sql', 'applied'), ('002_rows.sql', 'failed'), ('003_c.sql', null);
       create table a (id int)`,
    );
    project.write("db/migrations/001_a.sql", "create table a (id int);");
    project.write("db/migrations/002_rows.sql", "insert into a values (1);");
    expect(await refused(project)).toEqual([
      3,
      `Cannot adopt: hand-written has left a migration half-done
  | a row says status = failed: {"name":"002_rows.sql","status":"failed"}
  | a row says status = null: {"name":"003_c.sql","status":null}
  next: finish them, or take them back; then make the rows say so, and the same command again
  read: docs/runbook/dirty-state.md`,
    ]);
  });

  test("knex is migrating, or was killed", async () => {
    const project = await lab.project("locked");
    await project.sql.unsafe(
      `${knexTables} update knex_migrations_lock set is_locked = 1; insert into knex_migrations (name) values ('1_a.js')`,
    );
    expect(await refused(project)).toEqual([
      4,
      "Cannot adopt: knex is migrating, or was killed while it did\n  next: the same command again, once it is done\n  read: docs/runbook/dirty-state.md",
    ]);
  });

  test("a table made by hand; with --baseline the database is taken as it is", async () => {
    const project = await lab.project("by-hand");
    await project.sql.unsafe(
      `${golangTable} insert into schema_migrations values (1, false); create table people (id int); create table by_hand (id int)`,
    );
    project.write("db/migrations/1_people.up.sql", "create table people (id int);");
    expect(await refused(project)).toEqual([
      3,
      `Nothing was adopted: the files do not make this database: 1 difference
  | unexpected  table public.by_hand: only in the database
  |               owner (owner)
  next: the same command with --baseline      # takes the database as it is
  read: docs/adopt.md`,
    ]);
    expect(await project.adopt("--baseline")).toMatchObject({ way: "baseline" });
    expect(project.migrations()).toEqual(["20000101000100_baseline.sql"]);
  });

  test("files that cannot be applied to an empty database any more", async () => {
    const project = await lab.project("broken");
    await project.sql.unsafe(
      `${golangTable} insert into schema_migrations values (2, false); create table people (id int, email text)`,
    );
    project.write("db/migrations/1_people.up.sql", "create table people (id int);");
    project.write("db/migrations/2_email.up.sql", "alter table people\n  add column email text,\n  drop column gone;");
    const [exitCode, said] = await refused(project);
    expect(exitCode).toBe(3);
    expect(said).toStartWith(
      'Nothing was adopted: the files do not make a database: Cannot apply migrations/20000101000200_email.sql: column "gone" of relation "people" does not exist (42703)\n',
    );
    expect(said).toEndWith(
      "  next: the same command with --baseline      # which needs no files\n  read: docs/adopt.md",
    );
  });

  test("two tools, none, an empty history, and dbmate's own", async () => {
    const project = await lab.project("several");
    expect((await refused(project))[1]).toStartWith(
      "There is nothing to adopt: among 0 tables there is not the history of another tool\n",
    );
    await project.sql.unsafe(knexTables);
    expect(await refused(project)).toEqual([
      3,
      `There is nothing to adopt: public.knex_migrations, the history of knex, is empty\n  next: bun scripts/migrate.ts up --database-url '${project.url}'\n  read: docs/adopt.md`,
    ]);
    await project.sql.unsafe("create table alembic_version (version_num varchar(32) primary key)");
    expect((await refused(project))[0]).toBe(2);
    await project.sql.unsafe(
      "insert into knex_migrations (name) values ('1_a.js'); create table schema_migrations (version varchar primary key); insert into schema_migrations values ('1')",
    );
    expect(await refused(project, "--tool", "knex")).toEqual([
      5,
      `Cannot adopt from knex: there is a table schema_migrations, and it has 1 version already\n  next: bun scripts/drift.ts check --database-url '${project.url}'      # what dbmate's own history and the files have in common\n  read: docs/adopt.md`,
    ]);
  });

  test("tables of the app with the columns of a history are the app's: in the baseline, in the proof, and in every check", async () => {
    const project = await lab.project("looks-like");
    await project.sql.unsafe(`create table alembic_version (version_num varchar(32) primary key); insert into alembic_version values ('1975ea83b712');
      create table reports (id bigint primary key, name text, run_on timestamptz);
      create table order_metadata (key text, value text, created_at timestamptz, updated_at timestamptz);
      create table door_lock (index serial primary key, is_locked int)`);
    expect(await refused(project)).toEqual([
      2,
      `Cannot adopt: 2 tables could be the history of another tool
  | alembic: public.alembic_version
  | node-pg-migrate: public.reports
  next: --tool alembic
  next: --tool node-pg-migrate
  read: docs/adopt.md`,
    ]);
    await project.adopt("--tool", "alembic");
    const [file] = project.migrations();
    const made = [...project.read(`migrations/${file}`).matchAll(/^CREATE TABLE (\S+)/gm)].map(([, name]) => name);
    expect(made).toEqual(["public.door_lock", "public.order_metadata", "public.reports"]);
    const check = async () => {
      const { exitCode, stdout } = await project.drift(["check", "--json"]);
      const { findings, notCompared } = JSON.parse(stdout);
      return [exitCode, findings.map(({ what }: { what: string }) => what), notCompared];
    };
    expect(await check()).toEqual([0, [], []]);
    await project.sql.unsafe("drop table reports");
    expect(await check()).toEqual([3, ["table public.reports"], []]);
  });

  test("what a third tool has left, under its usual name, is in no file, and is said", async () => {
    const project = await lab.project("third");
    await project.sql.unsafe(`create table db_migrations (version int primary key); insert into db_migrations values (1);
      create table pgmigrations (id serial primary key, name varchar(255) not null, run_on timestamp not null);
      create schema drizzle; create table drizzle.__drizzle_migrations (id serial primary key, hash text not null, created_at bigint);
      create table people (id int)`);
    // The runner's own table is made by its first file, as many do.
    project.write(
      "db/migrations/001_people.sql",
      "create table if not exists db_migrations (version int primary key); create table people (id int);",
    );
    const { stdout } = await project.drift(["adopt", "--plan", "--tool", "hand-written", "--table", "db_migrations"]);
    const others = "drizzle.__drizzle_migrations, public.pgmigrations";
    expect(stdout.split("\n").at(-2)).toBe(
      `  not compared: ${others}, which look like histories of another tool and are in no file`,
    );
    await project.adopt("--tool", "hand-written", "--table", "db_migrations");
    const check = await project.drift(["check"]);
    expect([check.exitCode, check.stdout.split("\n").slice(1)]).toEqual([
      0,
      ["", `Not compared: ${others}: no migration makes them, and they look like another tool's history.`, ""],
    ]);
    await goesOn(project);
  });

  test("the old tool's files lie where dbmate reads its own", async () => {
    const project = await lab.project("same-folder");
    await project.sql.unsafe(
      `${golangTable} insert into schema_migrations values (1, false); create table people (id int)`,
    );
    project.write("migrations/000001_people.up.sql", "create table people (id int);");
    expect(await refused(project)).toEqual([
      2,
      `Cannot adopt: files that are not dbmate's lie in migrations/
  | 000001_people.up.sql
  next: git mv migrations migrations-before && mkdir migrations      # the old tool's files get a folder of their own
  next: the same command with --files migrations-before
  read: docs/adopt.md`,
    ]);
  });
});

describe("cut off, or overtaken", () => {
  /** A history and its files, with as long a proof as is wanted. */
  async function prepared(name: string, file = "create table people (id int);"): Promise<AdoptProject> {
    const project = await lab.project(name);
    await project.sql.unsafe(
      "create table db_migrations (filename text primary key); insert into db_migrations values ('001_people.sql'); create table people (id int)",
    );
    project.write("db/migrations/001_people.sql", file);
    return project;
  }

  async function until(what: string, isSo: () => Promise<boolean>): Promise<void> {
    const found = await poll({ seconds: 30 }, async () => (await isSo()) || undefined);
    if (!found) throw new Error(`not within 30 s: ${what}`);
  }

  const sessions = async (project: AdoptProject, condition: string) =>
    (
      await project.sql.unsafe(
        `select pid from pg_stat_activity where pid <> pg_backend_pid() and application_name = 'psql' and ${condition}`,
      )
    ).length;

  const adopting = async (project: AdoptProject) => {
    const lines: string[] = [];
    const running = await project.startDrift(["adopt", "--yes", "--wait", "30"], (line) => lines.push(line));
    return { running, lines };
  };

  test("another runner has the lock: exit 4, and with --wait after it", async () => {
    const project = await prepared("lock");
    const holder = await project.sql.reserve();
    await holder`select pg_advisory_lock(hashtextextended('dbops migrate', 0))`;
    const [exitCode, said] = await refused(project);
    expect([exitCode, said]).toEqual([4, expect.stringContaining("Nothing was changed: another runner")]);
    const { running, lines } = await adopting(project);
    await until("it waits", async () => lines.some((line) => line.includes("waiting for another runner")));
    // Meanwhile the old tool goes on: what was planned is no longer so.
    await project.sql`insert into db_migrations values ('002_more.sql')`;
    await holder`select pg_advisory_unlock_all()`;
    holder.release();
    expect(await running.ended).toBe(3);
    expect(lines).toContain("Nothing was adopted: hand-written has migrated meanwhile");
    expect(project.migrations()).toEqual([]);
    await project.sql`delete from db_migrations where filename = '002_more.sql'`;
    await project.adopt();
  });

  test("the old tool is writing: exit 4 after 5 s, with nothing changed", async () => {
    const project = await prepared("writing");
    const holder = await project.sql.reserve();
    await holder`begin`;
    await holder`insert into db_migrations values ('002_more.sql')`;
    const { exitCode, stderr } = await project.drift(["adopt", "--yes"]);
    await holder`rollback`;
    holder.release();
    expect(exitCode).toBe(4);
    expect(stderr).toContain(
      "Nothing was adopted: somebody has been writing to public.db_migrations for 5 s: hand-written may be migrating\n",
    );
    expect(
      await project.sql`select to_regclass('schema_migrations') as made, to_regnamespace('dbops') as kept`,
    ).toMatchObject([{ made: null, kept: null }]);
    expect(project.migrations()).toEqual([]);
  });

  test.each(["SIGINT", "SIGKILL"] as const)(
    "%s while it proves: nothing was changed, and the next run does it",
    async (signal) => {
      const project = await prepared(
        `prove-${signal}`,
        "do $$ begin if current_setting('dbops.test', true) is null then perform pg_sleep(30); end if; end $$; create table people (id int);",
      );
      const before = await stateOf(project);
      const { running } = await adopting(project);
      await until(
        "it proves",
        async () => (await sessions(project, "query ~ 'pg_sleep' and wait_event = 'PgSleep'")) > 0,
      );
      process.kill(signal === "SIGKILL" ? -running.pid : running.pid, signal);
      expect(await running.ended).toBe(signal === "SIGKILL" ? "SIGKILL" : 130);
      expect(await stateOf(project)).toEqual(before);
      await project.sql.unsafe(
        "select pg_terminate_backend(pid) from pg_stat_activity where query ~ 'pg_sleep' and pid <> pg_backend_pid()",
      );
      await until(
        "nobody has the lock",
        async () =>
          (
            await project.sql`select from pg_locks where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())`
          ).length === 0,
      );
      project.write("db/migrations/001_people.sql", "create table people (id int);");
      await project.adopt();
    },
  );

  test.each(["SIGINT", "SIGKILL"] as const)(
    "%s while it writes: nothing was changed, and the next run does it",
    async (signal) => {
      const project = await prepared(`write-${signal}`);
      const before = await stateOf(project);
      const holder = await project.sql.reserve();
      await holder`begin`;
      await holder`insert into db_migrations values ('002_more.sql')`;
      const { running } = await adopting(project);
      await until("it waits for the table", async () => (await sessions(project, "wait_event_type = 'Lock'")) > 0);
      process.kill(signal === "SIGKILL" ? -running.pid : running.pid, signal);
      expect(await running.ended).toBe(signal === "SIGKILL" ? "SIGKILL" : 130);
      await holder`rollback`;
      holder.release();
      await until("its sessions are gone", async () => (await sessions(project, "true")) === 0);
      if (signal === "SIGKILL") rmSync(join(project.directory, ".dbops"), { recursive: true });
      expect(await stateOf(project)).toEqual(before);
      await project.adopt();
    },
  );

  test("killed between the database and the files: the next run writes the same files, also a baseline", async () => {
    const project = await prepared("between");
    const { sql } = project;
    await project.adopt();
    const text = project.read("migrations/20000101000100_people.sql");
    rmSync(join(project.directory, "migrations"), { recursive: true });
    const again = await project.drift(["adopt", "--yes"]);
    expect([again.exitCode, again.stdout]).toEqual([
      0,
      expect.stringContaining("these files were missing, and are written: 20000101000100_people.sql\n"),
    ]);
    expect(project.read("migrations/20000101000100_people.sql")).toBe(text);

    // What is missing for another reason is no business of an adoption.
    project.write("migrations/20990101000000_later.sql", "-- migrate:up\nselect 1;\n\n-- migrate:down\n");
    expect((await project.migrate(["up", "--yes"])).exitCode).toBe(0);
    rmSync(join(project.directory, "migrations/20990101000000_later.sql"));
    expect((await project.drift(["adopt", "--yes"])).stdout).toEndWith(
      "is adopted already, from hand-written: nothing to do\n",
    );

    // Not if it would be another one.
    rmSync(join(project.directory, "migrations"), { recursive: true });
    project.write("db/migrations/001_people.sql", "create table people (id bigint);");
    expect(await refused(project)).toEqual([
      3,
      expect.stringMatching(
        /^Cannot write the files that are missing: between on [\d.:]+ is adopted, and is no longer as it was then\n {2}\| migrations\/20000101000100_people.sql\n/,
      ),
    ]);

    await sql.unsafe("drop table schema_migrations; drop schema dbops cascade");
    await project.adopt("--baseline");
    const [file] = project.migrations();
    const baseline = project.read(`migrations/${file}`);
    rmSync(join(project.directory, "migrations"), { recursive: true });
    expect((await project.drift(["adopt", "--yes"])).exitCode).toBe(0);
    expect(project.read(`migrations/${file}`)).toBe(baseline);
  });
});

test("--plan and --json change nothing, and without --yes nothing is asked where nobody is", async () => {
  const project = await lab.project("plan");
  await project.sql.unsafe(
    `${golangTable} insert into schema_migrations values (1, false); create table people (id int)`,
  );
  project.write("db/migrations/1_people.up.sql", "create table people (id int);");
  const before = await stateOf(project);
  const plan = await project.drift(["adopt", "--plan", "--json"]);
  expect([plan.exitCode, plan.stderr, JSON.parse(plan.stdout)]).toEqual([
    0,
    "",
    {
      ...{
        adopted: false,
        tool: "golang-migrate",
        history: "public.schema_migrations",
        count: 1,
        way: "import",
        why: null,
      },
      ...{ undecided: [], renamed: "public.schema_migrations_before_dbmate", notCompared: [], warnings: [] },
      files: [
        { file: "20000101000100_people.sql", from: "db/migrations/1_people.up.sql", applied: true, written: true },
      ],
    },
  ]);
  const unasked = await project.drift(["adopt"]);
  expect([unasked.exitCode, unasked.stderr]).toEqual([
    5,
    expect.stringContaining("Nothing was changed: this needs --yes where there is no terminal to ask on\n"),
  ]);
  expect(await stateOf(project)).toEqual(before);
});
