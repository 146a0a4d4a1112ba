// scripts/drift.ts check and repair on a real Postgres: every kind of drift made, found, repaired and looked for again; what is refused, and
// what is said then.
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
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
    make: (project) =>
      project.write(
        `${versionOf(orders)}_create_coupons.sql`,
        "-- migrate:up\ncreate table coupons (id int);\n-- migrate:down\ndrop table coupons;\n",
      ),
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
  "a file that comes too late": {
    make: (project) =>
      project.write(
        "20260101090050_create_coupons.sql",
        "-- migrate:up\ncreate table coupons (id int);\n-- migrate:down\ndrop table coupons;\n",
      ),
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
  next: bun scripts/migrate.ts up
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
  const plan = await project.drift(["repair", "--plan", "--keep", "files"]);
  const said = plan.stderr.replaceAll(/2026\d{10}/g, "VERSION").replace(/ of .*: 2/, " of DATABASE: 2");
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

The structure stays as it is until bun scripts/migrate.ts up applies them.
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
