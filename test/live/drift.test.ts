// scripts/drift.ts check and repair on a real Postgres: every kind of drift made, found, repaired and looked for again; what is refused, and
// what is said then.
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { poll } from "../../scripts/lib/wait.ts";
import { createDriftLab, type DriftLab, type DriftProject, driftMigrations } from "../lab/drift-project.ts";

setDefaultTimeout(120_000);

let lab: DriftLab;
beforeAll(async () => {
  lab = await createDriftLab();
});
afterAll(() => lab?.stop());

const repairWords = ["repair", "--yes", "--no-backup"];
const [accounts, orders, index] = Object.keys(driftMigrations) as [string, string, string];
const versionOf = (file: string) => file.split("_")[0]!;

type Found = { differences: number; findings: { kind: string; what: string; why: string; isAsWanted?: true }[] };

async function check(project: DriftProject): Promise<{ exitCode: number; said: string[]; document: Found }> {
  const { exitCode, stdout, stderr } = await project.drift(["check", "--json"]);
  expect(stderr).toBe("");
  const document = JSON.parse(stdout) as Found;
  const said = document.findings.map(({ kind, what, why }) => `${kind}: ${what}: ${why}`);
  return { exitCode, said, document };
}

/** Repaired, and looked at again. @returns the document of the repair. */
async function repair(project: DriftProject, words: readonly string[] = []) {
  const { exitCode, stdout, stderr } = await project.drift([...repairWords, "--json", ...words]);
  expect({ exitCode, ...(exitCode !== 0 && { stderr }) }).toEqual({ exitCode: 0 });
  return JSON.parse(stdout) as { before: number; repaired: number; after: number; files: string[]; steps: string[] };
}

test("a database that is what its migrations make: exit 0, nothing written", async () => {
  const project = await lab.project({ criticalTables: ["accounts", { name: "orders", privileges: ["insert"] }] });
  await lab.sql(`alter database ${project.database} set default_transaction_read_only = on`);
  const { exitCode, stdout, stderr } = await project.drift(["check"]);
  const name = `${project.database} on 127.0.0.1:${lab.server.port}`;
  expect({ exitCode, stdout, stderr }).toEqual({
    ...{ exitCode: 0, stderr: "" },
    stdout: `${name} is what migrations/ make of it: 3 applied\n`,
  });
  await project.write("20260201000000_later.sql", "-- migrate:up\ncreate table later (id int);\n-- migrate:down\n");
  expect((await project.drift(["check"])).stdout).toBe(
    `${name} is what migrations/ make of it: 3 applied, 1 to apply\n`,
  );
});

type Case = {
  make: (project: DriftProject) => Promise<unknown>;
  found: string[];
  words?: string[];
  /** Where the words add to what is found. */
  differences?: number;
  afterwards?: (project: DriftProject) => Promise<unknown>;
};

const rowsOf = (project: DriftProject) => project.sql("select version from schema_migrations order by version");
const createCoupons = "-- migrate:up\ncreate table coupons (id int);\n-- migrate:down\ndrop table coupons;\n";
const allVersions = [accounts, orders, index].map(versionOf).join("\n");

const cases: Record<string, Case> = {
  "an integer history, in order": {
    make: (project) =>
      project.sql(`drop table schema_migrations; create table schema_migrations (version integer primary key);
        insert into schema_migrations values (1), (2), (3)`),
    found: [
      "integer history: schema_migrations: dbmate cannot go on with it: version is integer, not text; 3 numbers for versions",
    ],
    async afterwards(project) {
      expect(await rowsOf(project)).toBe(allVersions);
      expect(await project.sql("select count(*) from dbops.migration_files")).toBe("3");
    },
  },
  "an integer history with names and a serial key": {
    make: (project) =>
      project.sql(`drop table schema_migrations;
        create table schema_migrations (id serial primary key, version bigint not null, name text not null);
        insert into schema_migrations (version, name) values (20, 'create_orders'), (7, '007_Create_Accounts.sql'), (40, 'index_orders.up.sql')`),
    found: [
      "integer history: schema_migrations: dbmate cannot go on with it: version is bigint, not text; name must not be null; version is not its key; 3 numbers for versions",
    ],
    async afterwards(project) {
      expect(await rowsOf(project)).toBe(allVersions);
      await project.sql("insert into schema_migrations (version) values ('20300101000000')");
      await project.sql("delete from schema_migrations where version = '20300101000000'");
    },
  },
  "an integer history with a gap, said by hand": {
    make: (project) =>
      project.sql(`delete from schema_migrations; insert into schema_migrations values ('1'), ('2'), ('4'), ('9')`),
    found: ["integer history: schema_migrations: dbmate cannot go on with it: 4 numbers for versions"],
    words: ["--match", `1=${versionOf(accounts)},2=${versionOf(orders)},4=${versionOf(index)}`, "--match", "9=none"],
    differences: 2,
    afterwards: async (project) => expect(await rowsOf(project)).toBe(allVersions),
  },
  "a version twice": {
    make: (project) =>
      project.sql(`alter table schema_migrations drop constraint schema_migrations_pkey;
        insert into schema_migrations values ('${versionOf(orders)}')`),
    found: [
      "integer history: schema_migrations: dbmate cannot go on with it: version is not its key",
      `duplicate version: ${versionOf(orders)}: schema_migrations has it twice`,
    ],
    afterwards: async (project) => expect(await rowsOf(project)).toBe(allVersions),
  },
  "two files of one version": {
    make: (project) => project.write(`${versionOf(orders)}_create_coupons.sql`, createCoupons),
    found: [
      `duplicate version: ${versionOf(orders)}_create_coupons.sql and ${orders}: both have the version ${versionOf(orders)}: dbmate applies the first alone, and fails at the second`,
    ],
    async afterwards(project) {
      const [, , , renamed] = await project.files();
      expect(renamed).toMatch(/^20\d{12}_create_coupons\.sql$/);
      await project.migrate();
    },
  },
  "a version without a file": {
    make: (project) => project.sql("insert into schema_migrations values ('20251231000000')"),
    found: ["unknown version: 20251231000000: applied, and there is no such file here"],
    async afterwards(project) {
      expect(await rowsOf(project)).toBe(allVersions);
      const copies = await project.sql(
        "select tablename from pg_tables where schemaname = 'dbops' and tablename like 'schema_migrations_%'",
      );
      expect(await project.sql(`select count(*) from dbops.${copies}`)).toBe("4");
    },
  },
  "a file whose effect is there, and its version is not": {
    make: (project) => project.sql(`delete from schema_migrations where version = '${versionOf(orders)}'`),
    found: [`missing version: ${orders}: what it makes is there, and its version is not`],
    afterwards: async (project) => expect(await rowsOf(project)).toBe(allVersions),
  },
  "a file whose effect is there, and an older one that is to be applied": {
    async make(project) {
      await project.sql("create table later (id int)");
      await project.write("20260301000000_coupons.sql", createCoupons);
      await project.write("20260302000000_later.sql", "-- migrate:up\ncreate table later (id int);\n-- migrate:down\n");
    },
    found: ["missing version: 20260302000000_later.sql: what it makes is there, and its version is not"],
    async afterwards(project) {
      expect(await rowsOf(project)).toBe(`${allVersions}\n20260302000000`);
      expect((await project.files()).at(-1)).toMatch(/^202[6-9]\d{10}_coupons\.sql$/);
      await project.migrate();
    },
  },
  "a file that comes too late": {
    make: (project) => project.write("20260101090050_create_coupons.sql", createCoupons),
    found: [
      "out of order: 20260101090050_create_coupons.sql: not applied, and older than one that is: dbmate refuses it",
    ],
    async afterwards(project) {
      expect((await project.files()).at(-1)).toMatch(/^20\d{12}_create_coupons\.sql$/);
      await project.migrate();
    },
  },
  "a file that was edited": {
    make: (project) => project.write(accounts, `-- A remark.\n${driftMigrations[accounts]}`),
    found: [`edited file: ${accounts}: it is not what was applied`],
  },
  "an invalid index": {
    make: (project) =>
      project.sql("update pg_index set indisvalid = false where indexrelid = 'orders_account_id_idx'::regclass"),
    found: [
      "invalid index: public.orders_account_id_idx: of public.orders: it slows down every write, and is used for no query",
    ],
    afterwards: async (project) =>
      expect(
        await project.sql("select indisvalid from pg_index where indexrelid = 'orders_account_id_idx'::regclass"),
      ).toBe("t"),
  },
  "an invalid index that a migration left which failed": {
    async make(project) {
      await project.sql("insert into accounts (email) values ('a'), ('a')");
      await project.sql("create unique index concurrently accounts_email_key on accounts (email)").catch(() => {});
    },
    found: [
      "invalid index: public.accounts_email_key: of public.accounts: it slows down every write, and is used for no query",
    ],
    afterwards: async (project) =>
      expect(await project.sql("select to_regclass('accounts_email_key') is null")).toBe("t"),
  },
  "a constraint that nobody has validated": {
    make: (project) =>
      project.sql(`alter table orders drop constraint orders_total_positive;
        alter table orders add constraint orders_total_positive check (total >= 0) not valid`),
    found: ["not valid: public.orders.orders_total_positive: it holds for new rows; nobody has looked at the others"],
  },
  "a column that was made by hand, and stays": {
    make: (project) => project.sql("alter table accounts add column nickname text not null default 'none'"),
    found: ["structure: column public.accounts.nickname: only in the database"],
    words: ["--keep", "database"],
    async afterwards(project) {
      const [, , , file] = await project.files();
      expect(file).toMatch(/^20\d{12}_keep_what_the_database_has\.sql$/);
      expect(await rowsOf(project)).toBe(`${allVersions}\n${versionOf(file!)}`);
      // What its last part says is true as well.
      await project.sql("alter table accounts drop column nickname");
    },
  },
  "a column that was made by hand, and stays, beside a file that is to be applied": {
    async make(project) {
      await project.write("20260301000000_coupons.sql", createCoupons);
      await project.sql("alter table accounts add column nickname text");
    },
    found: ["structure: column public.accounts.nickname: only in the database"],
    words: ["--keep", "database"],
    async afterwards(project) {
      const kept = "20260101090201_keep_what_the_database_has.sql";
      expect((await project.files()).slice(3)).toEqual([kept, "20260301000000_coupons.sql"]);
      expect(await rowsOf(project)).toBe(`${allVersions}\n${versionOf(kept)}`);
      await project.migrate();
    },
  },
  "tables, types, functions and views made by hand, which stay": {
    make: (project) =>
      project.sql(`create type mood as enum ('good', 'bad');
        create table notes (id serial primary key, account_id bigint references accounts (id), mood mood default 'good', body text);
        create index notes_body_idx on notes (lower(body));
        create view moods as select mood, count(*) as how_many from notes group by mood;
        create function add_one(i int) returns int language plpgsql as $f$ begin return i + 1; end $f$;
        alter table orders drop column total;
        comment on table accounts is 'Who buys; "and" who looks.';`),
    found: [
      "structure: column public.orders.total: only in migrations/",
      "structure: comment on table public.accounts: only in the database",
      "structure: constraint public.orders.orders_total_positive: only in migrations/",
      "structure: enum public.mood: only in the database",
      "structure: function public.add_one(integer): only in the database",
      "structure: table public.notes: only in the database",
      "structure: view public.moods: only in the database",
    ],
    words: ["--keep", "database"],
  },
};

describe.each(Object.entries(cases))("%s", (_, { make, found, words, differences = found.length, afterwards }) => {
  test("is found, repaired, and not found again", async () => {
    const project = await lab.project();
    await make(project);
    const first = await check(project);
    expect(first.said.toSorted()).toEqual(found.toSorted());
    expect([first.exitCode, first.document.differences]).toEqual([3, found.length]);
    const { before, repaired, after } = await repair(project, words);
    expect({ before, repaired, after }).toEqual({ before: differences, repaired: differences, after: 0 });
    expect((await check(project)).said).toEqual([]);
    await afterwards?.(project);
  });
});

test("tables of the app that have the columns of another tool's history, or of what lies beside one: no difference", async () => {
  const project = await lab.project();
  const tables = `create table reports (id bigint primary key, name text, run_on timestamptz);
create table order_metadata (key text, value text, created_at timestamptz, updated_at timestamptz);
create table knex_migrations_lock (index serial primary key, is_locked int);
create table knex_migrations (id serial primary key, name varchar(255), batch int, migration_time timestamptz);`;
  await project.write("20260201000000_reports.sql", `-- migrate:up\n${tables}\n\n-- migrate:down\n`);
  await project.migrate();
  expect((await check(project)).said).toEqual([]);
  await project.sql("drop table reports");
  expect((await check(project)).said).toEqual(["structure: table public.reports: only in migrations/"]);
});

test("dbmate's own table in another schema than public, with what the app has there, and alone", async () => {
  const project = await lab.project();
  await project.write("20260201000000_app.sql", "-- migrate:up\ncreate schema app;\n\n-- migrate:down\n");
  await project.migrate();
  await project.sql(
    `alter table schema_migrations set schema app; alter database ${project.database} set search_path = app, public`,
  );
  expect((await check(project)).said).toEqual([]);
  await project.sql("create table app.more (id int); grant usage on schema app to pg_monitor");
  expect((await check(project)).said).toEqual([
    "structure: grant on schema app: only in the database",
    "structure: table app.more: only in the database",
  ]);
});

test("beside a history that was adopted: what is made by hand becomes a migration, and the history stays out of it", async () => {
  const project = await lab.project();
  await project.sql(`create table knex_migrations (id serial primary key, name varchar(255), batch int, migration_time timestamptz);
    create table knex_migrations_lock (index serial primary key, is_locked int);
    create schema history; create table history.applied (id serial primary key, filename text);
    create table dbops.adopted_histories (history text primary key, tool text not null, adopted_at timestamptz not null default now());
    insert into dbops.adopted_histories values ('public.knex_migrations', 'knex'), ('history.applied', 'hand-written');
    alter table accounts add column nickname text`);
  expect((await check(project)).said).toEqual(["structure: column public.accounts.nickname: only in the database"]);
  const other = await lab.copyOf(project);
  expect((await repair(project, ["--keep", "database"])).after).toBe(0);
  const file = (await project.files()).at(-1)!;
  const text = await Bun.file(`${project.directory}/migrations/${file}`).text();
  expect(text).toContain('ADD COLUMN "nickname" text');
  expect(text).not.toMatch(/knex|history/);
  expect((await repair(other, ["--keep", "files"])).after).toBe(1);
  await other.migrate();
  expect((await check(other)).said).toEqual([]);
});

test("two files of one version, of which nothing says which was applied but what builds on it", async () => {
  const project = await lab.project();
  await project.sql("delete from dbops.migration_files");
  const coupons = `${versionOf(orders)}_create_coupons.sql`;
  await project.write(coupons, "-- migrate:up\ncreate table coupons (id int);\n\n-- migrate:down\n");
  const both = `${coupons} and ${orders}: both have the version ${versionOf(orders)}`;
  expect((await check(project)).said).toEqual([
    `duplicate version: ${both}: dbmate applies the first alone, and fails at the second`,
  ]);
  expect((await repair(project)).after).toBe(0);
  expect(await project.files()).toEqual([accounts, orders, index, expect.stringMatching(/_create_coupons\.sql$/)]);
});

test("an applied file that nobody can apply any more: nobody is told to correct it", async () => {
  const project = await lab.project();
  await project.write(orders, "-- migrate:up\ncreate table orders (id bigint references nobody);\n-- migrate:down\n");
  const { exitCode, stdout, stderr } = await project.drift(["check"]);
  expect({ exitCode, stdout, stderr }).toEqual({
    ...{ exitCode: 3, stdout: "" },
    stderr: `Cannot apply migrations/${orders} to an empty database: relation "nobody" does not exist (42P01); it is applied in this database: it was edited since, or needs what an empty database does not have
  | ERROR:  42P01: relation "nobody" does not exist
  next: git log --patch -- migrations/${orders}
  read: docs/runbook/edited-migration.md
`,
  });
});

test("of a role that may read the tables of the app alone", async () => {
  const project = await lab.project();
  const role = "drift_reader";
  await project.sql(
    `create role ${role} login password 'test'; grant select on all tables in schema public to ${role}`,
  );
  const url = project.url.replace("app@", `${role}@`);
  const { exitCode, stdout, stderr } = await project.drift(["check", "--json", "--database-url", url], {
    PGPASSWORD: "test",
  });
  const said = (JSON.parse(stdout) as Found).findings.map(({ what, why }) => `${what}: ${why}`);
  const text = await project.drift(["check", "--database-url", url], { PGPASSWORD: "test" });
  expect(text.stdout.split("\n").at(-5)).toBe(
    `"${role}" may not read dbops.migration_files: whether applied files were edited since cannot be seen.`,
  );
  expect([exitCode, said, stderr]).toEqual([
    3,
    ["accounts", "orders"].map((table) => `grant on table public.${table}: only in the database`),
    "",
  ]);
});

test("of a history that is another tool's: what to do is to adopt it", async () => {
  const project = await lab.project();
  await project.sql("alter table schema_migrations add column dirty boolean not null default false");
  const { exitCode, stdout } = await project.drift(["check"]);
  expect([exitCode, stdout.trimEnd().split("\n").slice(1)]).toEqual([
    3,
    [
      "  integer history    schema_migrations: it is a table of golang-migrate",
      "",
      "  read: docs/adopt.md",
      `  next: bun scripts/drift.ts adopt --plan --database-url '${project.url}'`,
    ],
  ]);
});

test("beside somebody who keeps a table from everybody: it waits for a moment, and keeps nobody", async () => {
  const project = await lab.project();
  await project.sql("create view v as select * from accounts; create view w as select * from orders");
  const sql = lab.server.connect({ database: project.database, max: 1, connection: { application_name: "keeper" } });
  const holder = await sql.reserve();
  try {
    await holder`begin`;
    await holder`lock table orders in access exclusive mode`;
    const [row] = await holder`select pg_backend_pid() as pid`;
    const { exitCode, stdout, stderr } = await project.drift(["check"]);
    expect([exitCode, stdout, stderr]).toEqual([
      4,
      "",
      `Cannot look at the structure: process ${row!.pid} (keeper) keeps orders
  next: the same command again, once that is over
  read: docs/runbook/migration-hangs.md
`,
    ]);
  } finally {
    await holder`rollback`;
    holder.release();
    await sql.end();
  }
  expect((await check(project)).exitCode).toBe(3);
});

test("beside somebody who waits for such a table: likewise", async () => {
  const project = await lab.project();
  await project.sql("create view w as select * from orders");
  const open = (name: string) =>
    lab.server.connect({ database: project.database, max: 1, connection: { application_name: name } });
  const [reader, changer] = [open("reader"), open("changer")];
  try {
    const [holder, waiter] = await Promise.all([reader.reserve(), changer.reserve()]);
    await holder`begin`;
    await holder`select from orders`;
    const [row] = await waiter`select pg_backend_pid() as pid`;
    const waits = waiter`alter table orders add column later int`.execute();
    const isWaiting = () => holder`select from pg_locks where pid = ${row!.pid} and not granted`;
    await poll({ seconds: 30 }, async () => ((await isWaiting()).length > 0 ? true : undefined));
    const { exitCode, stdout, stderr } = await project.drift(["check"]);
    expect([exitCode, stdout, stderr]).toEqual([
      4,
      "",
      `Cannot look at the structure: process ${row!.pid} (changer) waits to keep orders
  next: the same command again, once that is over
  read: docs/runbook/migration-hangs.md
`,
    ]);
    await holder`rollback`;
    await waits;
    holder.release();
    waiter.release();
  } finally {
    await Promise.all([reader.end({ timeout: 0 }), changer.end({ timeout: 0 })]);
  }
});

const countries = "20260201000000_create_countries.sql";

test("a file whose table was made by hand, and whose rows nobody has written: nothing is noted, unless it is said", async () => {
  const project = await lab.project();
  const text = "create table countries (code text primary key);\ninsert into countries values ('at'), ('ch');";
  await project.write(countries, `-- migrate:up\n${text}\n\n-- migrate:down\ndrop table countries;\n`);
  await project.sql("create table countries (code text primary key)");
  const why = "what it makes of the structure is there, and its version is not; what else it does nobody can see";
  expect((await check(project)).said).toEqual([`missing version: ${countries}: ${why}`]);
  const before = await project.everything();
  const refused = await project.drift(repairWords);
  expect([refused.exitCode, refused.stdout, refused.stderr]).toEqual([
    5,
    "",
    `Nothing was repaired: the structure that ${countries} makes is there; whether the rest was done nobody can see
  |   missing version    ${countries}: ${why}
  |                        INSERT countries
  next: look for what migrations/${countries} writes; what is missing, write by hand
  next: the same command with --applied ${countries}      # once all of it is there
  read: docs/runbook/drift-found.md
`,
  ]);
  const other = await project.drift([...repairWords, "--applied", accounts]);
  expect([other.exitCode, other.stderr]).toEqual([
    2,
    `Cannot run this command: --applied ${accounts} is neither an edited file nor one whose structure is there and whose version is not
  next: bun scripts/drift.ts check --database-url '${project.url}'
`,
  ]);
  expect(await project.everything()).toBe(before);
  await project.sql("insert into countries values ('at'), ('ch')");
  const { repaired, after } = await repair(project, ["--applied", `migrations/${countries}`]);
  expect({ repaired, after }).toEqual({ repaired: 1, after: 0 });
  expect((await check(project)).said).toEqual([]);
});

test("an integer history that by its order alone stands for a file of rows: only where somebody says so", async () => {
  const project = await lab.project();
  const rows = "20260101090300_first_account.sql";
  await project.write(rows, "-- migrate:up\ninsert into accounts (email) values ('a');\n\n-- migrate:down\n");
  await project.sql("delete from schema_migrations; insert into schema_migrations values ('1'), ('2'), ('3'), ('4')");
  const refused = await project.drift(repairWords);
  expect([refused.exitCode, refused.stderr.split("\n")[0]]).toEqual([
    5,
    `Nothing was repaired: by their order alone the numbers of schema_migrations stand for ${rows}, which nobody can see in the database`,
  ]);
  expect((await repair(project, ["--match", "order"])).after).toBe(0);
  expect(await rowsOf(project)).toBe(`${allVersions}\n${versionOf(rows)}`);
});

test("files that were numbered, and have times by now: the numbers follow, by the names that were noted", async () => {
  const project = await lab.project();
  const names = await project.files();
  await project.sql("drop table orders, accounts; truncate schema_migrations, dbops.migration_files");
  const numbers = ["1", "2", "9"];
  for (const [at, name] of names.entries()) await project.rename(name, name.replace(/^\d+/, numbers[at]!));
  await project.migrate();
  expect((await project.drift(["check"])).exitCode).toBe(0);
  for (const [at, name] of names.entries()) await project.rename(name.replace(/^\d+/, numbers[at]!), name);
  const { exitCode, stderr } = await project.drift(["repair", "--plan"]);
  const lines = stderr.split("\n").filter((line) => line.includes("→"));
  expect([exitCode, lines.map((line) => line.trim())]).toEqual([
    0,
    names.map((name, at) => `${numbers[at]} → ${name.split("_")[0]}  ${name}, by name`),
  ]);
  await repair(project);
  expect((await project.drift(["check"])).exitCode).toBe(0);
});

test("a column that was made by hand, taken back by a migration that does nothing elsewhere", async () => {
  const project = await lab.project();
  const other = await lab.copyOf(project);
  await project.sql("alter table accounts add column nickname text; drop index orders_account_id_idx");
  const { before, repaired, after, files } = await repair(project, ["--keep", "files"]);
  expect({ before, repaired, after }).toEqual({ before: 2, repaired: 0, after: 2 });
  const again = await project.drift([...repairWords, "--keep", "files"]);
  expect([again.exitCode, again.stderr]).toEqual([
    5,
    `Nothing was repaired: migrations/${files[0]}, which a repair has written, is not applied yet
  |   structure          column public.accounts.nickname: only in the database
  |                        text
  |   structure          index public.orders_account_id_idx: only in migrations/
  |                        CREATE INDEX orders_account_id_idx ON public.orders USING btree (account_id)
  next: bun scripts/migrate.ts up --database-url '${project.url}'
  read: docs/runbook/drift-found.md
`,
  ]);
  await project.migrate();
  expect((await check(project)).said).toEqual([]);
  await other.write(files[0]!, await Bun.file(`${project.directory}/migrations/${files[0]}`).text());
  await other.migrate();
  expect((await check(other)).said).toEqual([]);
});

test("a plan changes nothing; nor does a repair of what needs none", async () => {
  const project = await lab.project();
  await project.sql(
    "alter table accounts add column nickname text; insert into schema_migrations values ('20251231000000')",
  );
  const before = await project.everything();
  const plan = await project.drift(["repair", "--plan", "--keep", "files", "--match", "20251231000000=none"]);
  const said = plan.stderr
    .replaceAll(/2026\d{10}/g, "VERSION")
    .replace(project.url, "URL")
    .replace(/ of .*: 2/, " of DATABASE: 2");
  expect([plan.exitCode, plan.stdout, said]).toEqual([
    0,
    "Nothing was changed.\n",
    `Repair of DATABASE: 2 differences
  backup     none: dbops.config.ts does not say where to, and it takes --no-backup
  in one transaction, which goes through only if nothing is left at its end:
    - keep a copy of schema_migrations as dbops.schema_migrations_VERSION
        4 rows, 3 of them applied files
    - remove the version without a file from schema_migrations: 20251231000000
        is this checkout older than the database? Then stop here: git pull
    - note that VERSION_back_to_what_the_files_say.sql has something to take back here
  files, to be committed to git:
    - write migrations/VERSION_back_to_what_the_files_say.sql
        | -- LOSES DATA; takes ACCESS EXCLUSIVE
        | ALTER TABLE "public"."accounts" DROP COLUMN "nickname";

The structure stays as it is until bun scripts/migrate.ts up --database-url 'URL' applies them.
`,
  ]);
  expect(await project.everything()).toBe(before);
  const clean = await lab.project();
  const name = `${clean.database} on 127.0.0.1:${lab.server.port}`;
  const { exitCode, stdout, stderr } = await clean.drift(["repair"]);
  expect([exitCode, stdout, stderr]).toEqual([0, `${name} is what migrations/ make of it: nothing to repair\n`, ""]);
});

test("a privilege that is missing, and a table that is: of a role that is no superuser", async () => {
  const project = await lab.project({
    criticalTables: [{ name: "accounts", privileges: ["select", "insert"] }, "orders", "coupons"],
  });
  await lab.sql("create role shop login password 'shop'");
  const owned = ["accounts", "orders", "schema_migrations", "dbops.migration_files"];
  await project.sql(`${owned.map((table) => `alter table ${table} owner to shop`).join(";")};
    alter schema dbops owner to shop; grant create on schema public to shop; revoke create on schema public from shop;
    revoke insert on accounts from shop`);
  const asShop = (words: readonly string[]) =>
    project.drift([...words, "--database-url", project.url.replace("app@", "shop@")], { PGPASSWORD: "test" });
  await lab.sql("alter role shop password 'test'");
  const { exitCode, stdout } = await asShop(["check", "--json"]);
  const found = JSON.parse(stdout) as Found;
  expect(found.findings.map(({ what, why, isAsWanted }) => [what, why, isAsWanted])).toEqual([
    ["accounts", '"shop" may not insert, which the app does', undefined],
    ["coupons", "the app needs it, and there is no such table", true],
    ["grant on table public.accounts", "only in the database", undefined],
  ]);
  expect([exitCode, found.differences]).toEqual([3, 2]);
  const { exitCode: repaired, stderr } = await asShop(repairWords);
  expect([repaired, repaired === 0 ? "" : stderr]).toEqual([0, ""]);
  expect((await asShop(["check"])).exitCode).toBe(0);
});
