// scripts/drift.ts where it must not go on, and where it is interrupted: at each moment of a repair, the database is as it was or repaired,
// and the next run finishes.
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { run, start } from "../../scripts/lib/run.ts";
import { poll } from "../../scripts/lib/wait.ts";
import { createDriftLab, type DriftLab, type DriftProject } from "../lab/drift-project.ts";
import { repository } from "../lab/repository.ts";

setDefaultTimeout(120_000);

let lab: DriftLab;
let folder: string;
beforeAll(async () => {
  lab = await createDriftLab();
  folder = mkdtempSync(join(tmpdir(), "dbops-drift-faults-"));
});
afterAll(async () => {
  await lab?.stop();
  rmSync(folder, { recursive: true, force: true });
});

const repairWords = ["repair", "--yes", "--no-backup"];
const integers = `drop table schema_migrations; create table schema_migrations (version integer primary key);
  insert into schema_migrations values (1), (2), (3);`;

async function differences(project: DriftProject): Promise<number> {
  const { stdout } = await project.drift(["check", "--json"]);
  return (JSON.parse(stdout) as { differences: number }).differences;
}

/** What is said, without what is different each time. */
const plainly = (text: string, { database }: DriftProject) =>
  text.replaceAll(`${database} on 127.0.0.1:${lab.server.port}`, "DATABASE").replace(/\d+\.\d\d s$/gm, "T s");

describe("is refused, and nothing is changed", () => {
  test("without a choice between the two sides, and without a terminal", async () => {
    const project = await lab.project();
    await project.sql("alter table accounts add column nickname text");
    const before = await project.everything();
    const { exitCode, stderr } = await project.drift(repairWords);
    expect([exitCode, stderr]).toEqual([
      5,
      `Nothing was changed: this needs --keep database or --keep files where there is no terminal to ask on
  |   structure          column public.accounts.nickname: only in the database
  |                        text
  | Which side is right?
  |   database   what is there stays, and a new migration makes it in every other database
  |   files      a new migration takes the database back to migrations/; what it loses is shown first
  next: the same command with --keep database or --keep files
`,
    ]);
    expect(await project.everything()).toBe(before);
  });

  test("without a backup, unless that is said", async () => {
    const project = await lab.project();
    await project.sql(integers);
    const { exitCode, stderr } = await project.drift(["repair", "--yes"]);
    expect([exitCode, stderr]).toEqual([
      5,
      `Nothing was changed: dbops.config.ts does not say where backups go, and without one there is no way back
  next: the same command with --no-backup
  next: for a backup: add   backup: { bucket: "…" },   to dbops.config.ts
  read: docs/backup.md
`,
    ]);
  });

  test("where the checkout is older than the database: its versions, its tables and their rows stay", async () => {
    const project = await lab.project();
    const coupons = "20260301000000_coupons.sql";
    await project.write(coupons, "-- migrate:up\ncreate table coupons (code text);\n\n-- migrate:down\n");
    await project.migrate();
    await project.sql("insert into coupons values ('SPRING')");
    await project.remove(coupons);
    const before = await project.everything();
    const found = `  unknown version    20260301000000: applied as ${coupons}, and there is no such file here`;
    const look = "git fetch && git log --all --oneline -- 'migrations/20260301000000*'";
    for (const side of ["files", "database"]) {
      const { exitCode, stderr } = await project.drift([...repairWords, "--keep", side]);
      expect([exitCode, stderr]).toEqual([
        5,
        `Nothing was repaired: ${coupons} was applied, and no file here has it: this checkout may be older than the database
  | ${found}
  |   structure          table public.coupons: only in the database
  |                        owner (owner)
  next: ${look}      # then: git pull, or git merge what has it
  next: the same command with --match 20260301000000=none      # only if nobody has that file any more
  read: docs/runbook/drift-found.md
`,
      ]);
    }
    expect(await project.everything()).toBe(before);
    const check = await project.drift(["check"]);
    expect([check.exitCode, check.stdout.split("\n").slice(-3, -1)]).toEqual([
      3,
      [`  next: ${look}`, `  next: bun scripts/drift.ts repair --plan --database-url '${project.url}'`],
    ]);
    const said = await project.drift([...repairWords, "--keep", "database", "--match", "20260301000000=none"]);
    expect([said.exitCode, said.exitCode === 0 ? "" : said.stderr]).toEqual([0, ""]);
    expect(await project.sql("select code from coupons")).toBe("SPRING");
  });

  test("numbers that may be any file", async () => {
    const project = await lab.project();
    await project.sql("delete from schema_migrations; insert into schema_migrations values ('1'), ('3')");
    const { exitCode, stderr } = await project.drift(repairWords);
    expect([exitCode, stderr]).toEqual([
      5,
      `Nothing was repaired: nothing says which files 1, 3 of schema_migrations stand for
  |   integer history    schema_migrations: dbmate cannot go on with it: 2 numbers for versions
  |                        1 may be any file, or none that is here any more
  |                        3 may be any file, or none that is here any more
  | 20260101090000  20260101090000_create_accounts.sql
  | 20260101090100  20260101090100_create_orders.sql
  | 20260101090200  20260101090200_index_orders.sql
  next: the same command with --match 1=VERSION, and so on for each; --match 1=none where there is no such file any more
  read: docs/runbook/drift-found.md
`,
    ]);
    const wrong = await project.drift([...repairWords, "--match", "1=2026"]);
    expect([wrong.exitCode, wrong.stderr]).toEqual([
      2,
      `Cannot run this command: --match 1=2026 is not NUMBER=VERSION with the version of a file in migrations/, nor NUMBER=none
  next: ls migrations
`,
    ]);
  });

  test("numbers whose order does not fit what is there, unless somebody says so", async () => {
    const project = await lab.project();
    await project.sql(`${integers} drop table orders`);
    const { exitCode, stderr } = await project.drift([...repairWords, "--keep", "files"]);
    expect([exitCode, stderr.split("\n")[0]]).toEqual([
      5,
      "Nothing was repaired: by their order the numbers of schema_migrations stand for files whose tables are not all there",
    ]);
    const said = await project.drift([...repairWords, "--keep", "files", "--match", "order"]);
    expect([said.exitCode, said.stdout.split("\n")[0]?.replace(/.* repaired/, "repaired")]).toEqual([
      0,
      `repaired in ${project.database} on 127.0.0.1:${lab.server.port}: 1 left, which the new migration takes away`,
    ]);
  });

  test("numbers whose order what is there speaks against: a column that should be gone, a later file that is there", async () => {
    const project = await lab.project();
    const dropped = "20260101090150_drop_email.sql";
    await project.write(dropped, "-- migrate:up\nalter table accounts drop column email;\n\n-- migrate:down\n");
    await project.sql("delete from schema_migrations; insert into schema_migrations values ('1'), ('2'), ('3')");
    const before = await project.everything();
    const { exitCode, stderr } = await project.drift([...repairWords, "--keep", "database"]);
    expect([exitCode, stderr.split("\n")[0], stderr.split("\n").slice(-8)]).toEqual([
      5,
      "Nothing was repaired: by their order the numbers of schema_migrations stand for files that what is there speaks against",
      [
        "  | 1 is 20260101090000_create_accounts.sql, by order",
        "  | 2 is 20260101090100_create_orders.sql, by order",
        `  | 3 is ${dropped}, by order`,
        "  | unexpected  column public.accounts.email",
        "  | there       what 20260101090200_index_orders.sql makes, and no number stands for it",
        "  next: the same command with --match NUMBER=VERSION for each, or with --match order if that is right",
        "  read: docs/runbook/drift-found.md",
        "",
      ],
    ]);
    expect(await project.everything()).toBe(before);
  });

  test("a file whose rows were edited: its sum is taken only where somebody has looked", async () => {
    const project = await lab.project();
    const file = "20260201000000_first_account.sql";
    const text = (email: string) =>
      `-- migrate:up\ninsert into accounts (email) values ('${email}');\n\n-- migrate:down\n`;
    await project.write(file, text("a"));
    await project.migrate();
    await project.write(file, text("b"));
    const { exitCode, stderr } = await project.drift(repairWords);
    expect([exitCode, stderr.replace(/sha256 \w+/g, "sha256 X")]).toEqual([
      5,
      `Nothing was repaired: ${file} was edited, and writes rows; whether those that are there are the same nobody can see
  |   edited file        ${file}: it is not what was applied
  |                        applied  ${file}, sha256 X…
  |                        here     ${file}, sha256 X…
  | ${file}  INSERT accounts
  next: git log -p migrations/${file}      # what is no longer so in it
  next: the same command with --applied ${file}      # once the rows are what it writes
  read: docs/runbook/edited-migration.md
`,
    ]);
    expect((await project.drift([...repairWords, "--applied", file])).exitCode).toBe(0);
    expect(await differences(project)).toBe(0);
  });

  test("a table of another tool", async () => {
    const project = await lab.project();
    await project.sql(`drop table schema_migrations; create table schema_migrations (version bigint primary key, dirty boolean not null);
      insert into schema_migrations values (20260101090200, false)`);
    const { exitCode, stderr } = await project.drift(repairWords);
    expect([exitCode, stderr.split("\n").slice(0, 1), stderr.split("\n").slice(-3)]).toEqual([
      5,
      ["Nothing was repaired: schema_migrations is a table of golang-migrate"],
      [`  next: bun scripts/drift.ts adopt --plan --database-url '${project.url}'`, "  read: docs/adopt.md", ""],
    ]);
  });

  test.each<[string, string, string]>([
    [
      "Rails'",
      `create table ar_internal_metadata (key varchar primary key, value varchar, created_at timestamp(6) not null, updated_at timestamp(6) not null);
       insert into schema_migrations values ('20250101000000')`,
      "Rails",
    ],
    [
      "of a tool that notes failures",
      `drop table schema_migrations; create table schema_migrations (version int primary key, name text, success boolean);
       insert into schema_migrations values (1, 'create_accounts', true), (2, 'create_orders', true), (3, 'index_orders', false)`,
      'another tool, which notes in "success" what became of each',
    ],
  ])("a history %s", async (_, made, tool) => {
    const project = await lab.project();
    await project.sql(made);
    const before = await project.everything();
    const { exitCode, stderr } = await project.drift(repairWords);
    expect([exitCode, stderr.split("\n")[0], stderr.split("\n").slice(-3)]).toEqual([
      5,
      `Nothing was repaired: schema_migrations is a table of ${tool}`,
      [`  next: bun scripts/drift.ts adopt --plan --database-url '${project.url}'`, "  read: docs/adopt.md", ""],
    ]);
    expect(await project.everything()).toBe(before);
  });

  test("while migrations are applied", async () => {
    const project = await lab.project();
    await project.sql(integers);
    const sql = lab.server.connect({ database: project.database, max: 1 });
    await sql`select pg_advisory_lock(hashtextextended('dbops migrate', 0))`;
    const { exitCode, stderr } = await project.drift(repairWords);
    await sql.end();
    expect([exitCode, stderr.replace(/\d{2,}/g, "N")]).toEqual([
      4,
      `         waiting for another runner (Postgres process N, since N-N-N N:N:N UTC)
Nothing was changed: another runner (Postgres process N, since N-N-N N:N:N UTC) migrates this database (waited 0 s)
  next: the same command with --wait N
`,
    ]);
  });

  test("while somebody keeps the history, or a table: exit 4, because nothing is to be mended", async () => {
    const unvalidated = `alter table orders drop constraint orders_total_positive;
      alter table orders add constraint orders_total_positive check (total >= 0) not valid`;
    const kept = async (drift: string, lock: string) => {
      const project = await lab.project();
      await project.sql(drift);
      const before = await project.everything();
      const sql = lab.server.connect({ database: project.database, max: 1 });
      await sql.unsafe(`begin; lock table ${lock}`);
      const { exitCode, stderr } = await project.drift(repairWords);
      await sql.end();
      expect(await project.everything()).toBe(before);
      return [exitCode, stderr.slice(stderr.indexOf("Nothing was"))];
    };
    const said = (what: string) => `Nothing was repaired: cannot ${what}: somebody has kept the table for 10 s
  | ERROR:  55P03: canceling statement due to lock timeout
  next: the same command again
  read: docs/runbook/migration-hangs.md
`;
    const [history, table] = await Promise.all([
      kept(integers, "schema_migrations in row exclusive mode"),
      kept(unvalidated, "orders in share update exclusive mode"),
    ]);
    expect(history).toEqual([4, said("lock schema_migrations")]);
    expect(table).toEqual([4, said("validate the constraint public.orders.orders_total_positive")]);
  });

  test("an index that cannot be valid; nothing of the attempt is left", async () => {
    const project = await lab.project();
    await project.write(
      "20260101090300_unique.sql",
      "-- migrate:up\ncreate unique index accounts_email_key on accounts (email);\n-- migrate:down\n",
    );
    await project.migrate();
    await project.sql(`update pg_index set indisvalid = false, indisready = false where indexrelid = 'accounts_email_key'::regclass;
      insert into accounts (email) values ('a@example.com'), ('a@example.com')`);
    const { exitCode, stderr } = await project.drift(repairWords);
    expect([exitCode, plainly(stderr, project)]).toEqual([
      3,
      `Repair of DATABASE: 1 difference
  backup     none (--no-backup)
  first, one by one, each of which may be repeated:
    - rebuild the index public.accounts_email_key of public.accounts
  FAILED indexes      T s
Cannot rebuild the index public.accounts_email_key of public.accounts: could not create unique index "accounts_email_key_ccnew"
  | ERROR:  23505: could not create unique index "accounts_email_key_ccnew"
  | DETAIL:  Key (email)=(a@example.com) is duplicated.
  | SCHEMA NAME:  public
  | TABLE NAME:  accounts
  | CONSTRAINT NAME:  accounts_email_key_ccnew
  next: mend what the error names
  next: the same command again
  read: docs/runbook/drift-found.md
`.replace(/ {6}T s/, `${stderr.match(/indexes( +)\d/)![1]}T s`),
    ]);
    expect(await project.sql("select count(*) from pg_index where not indisvalid")).toBe("1");
    await project.sql("delete from accounts where id > 1");
    expect((await project.drift(repairWords)).exitCode).toBe(0);
    expect(await differences(project)).toBe(0);
  });

  test("a constraint that the rows do not keep: everything is taken back", async () => {
    const project = await lab.project();
    await project.sql(`${integers} alter table orders drop constraint orders_total_positive;
      insert into accounts (email) values ('a'); insert into orders (account_id, total) values (1, -5);
      alter table orders add constraint orders_total_positive check (total >= 0) not valid`);
    const before = await project.everything();
    const { exitCode, stderr } = await project.drift(repairWords);
    const last = stderr.slice(stderr.indexOf("Nothing was"));
    expect([exitCode, last]).toEqual([
      3,
      `Nothing was repaired: cannot validate the constraint public.orders.orders_total_positive: check constraint "orders_total_positive" of relation "orders" is violated by some row
  | ERROR:  23514: check constraint "orders_total_positive" of relation "orders" is violated by some row
  | SCHEMA NAME:  public
  | TABLE NAME:  orders
  | CONSTRAINT NAME:  orders_total_positive
  next: mend what the error names
  next: the same command again
`,
    ]);
    expect(await project.everything()).toBe(before);
  });

  test("the same behind an index that was dropped: that is told", async () => {
    const project = await lab.project();
    await project.sql(`insert into accounts (email) values ('a'); alter table orders drop constraint orders_total_positive;
      insert into orders (account_id, total) values (1, -5); create unique index accounts_email_key on accounts (email);
      update pg_index set indisvalid = false where indexrelid = 'accounts_email_key'::regclass;
      alter table orders add constraint orders_total_positive check (total >= 0) not valid`);
    const { exitCode, stderr } = await project.drift(repairWords);
    const last = stderr.slice(stderr.indexOf("The rest")).split("\n");
    expect([exitCode, last[0], last.slice(4)]).toEqual([
      3,
      'The rest was not repaired: cannot validate the constraint public.orders.orders_total_positive: check constraint "orders_total_positive" of relation "orders" is violated by some row',
      [
        "  | CONSTRAINT NAME:  orders_total_positive",
        "  | done before it: drop the index public.accounts_email_key of public.accounts: no migration that is applied makes it",
        "  next: mend what the error names",
        "  next: the same command again",
        "",
      ],
    ]);
  });

  test("a database that has changed since the plan was made", async () => {
    const project = await lab.project();
    await project.sql(integers);
    const sql = lab.server.connect({ database: project.database, max: 1 });
    await sql`begin`;
    await sql`lock table schema_migrations in row exclusive mode`;
    const repair = await project.start(repairWords);
    await waitingFor("schema_migrations");
    await sql`alter table accounts add column meanwhile int`;
    await sql`commit`;
    const code = await repair.ended;
    await sql.end();
    expect([code, repair.said().split("\n").slice(-3)]).toEqual([
      1,
      ["Nothing was repaired: the database has changed since the plan was made", "  next: the same command again", ""],
    ]);
    expect(await project.sql("select count(*) from schema_migrations where version < 10")).toBe("3");
  });
});

/** Until somebody waits for a lock. */
async function waitingFor(relation: string): Promise<void> {
  const query = `select 1 from pg_stat_activity where wait_event_type = 'Lock' and query ~ '${relation}'`;
  const seen = await poll({ seconds: 60, everyMilliseconds: 100 }, async () => (await lab.sql(query)) || undefined);
  expect(seen).toBeTruthy();
}

describe("a history whose versions are no file's, and a file that only writes rows: it is not applied once more", () => {
  const seed = "20260101090300_first_account.sql";
  const files = ["create_accounts", "create_orders", "index_orders", "first_account"];
  const unixTimes = [1735689600, 1735689601, 1735689602, 1735689603];

  async function projectWith(history: string): Promise<DriftProject> {
    const project = await lab.project();
    await project.write(seed, "-- migrate:up\ninsert into accounts (email) values ('a');\n\n-- migrate:down\n");
    await project.migrate();
    // dbmate's own, and what the kit has noted, are not there yet.
    await project.sql(`drop table schema_migrations; delete from dbops.migration_files; ${history}`);
    return project;
  }

  /** `migrate up`, and whether it has applied anything. */
  async function accountsAfterUp(project: DriftProject): Promise<string> {
    const argv = [process.execPath, join(repository, "scripts/migrate.ts"), "up", "--database-url", project.url];
    const at = { directory: project.directory, environment: lab.environment, timeoutSeconds: 60 };
    expect((await run({ argv: [...argv, "--yes"], ...at })).exitCode).toBe(0);
    return await project.sql("select count(*) from accounts");
  }

  test.each<[string, string]>([
    [
      "Unix times with names",
      `create table schema_migrations (version bigint primary key, name text not null);
        insert into schema_migrations values ${unixTimes.map((time, index) => `(${time}, '${files[index]}')`).join(", ")}`,
    ],
    [
      "names of files",
      `create table schema_migrations (version text primary key);
        insert into schema_migrations values ${files.map((name, index) => `('00${index + 1}_${name}.sql')`).join(", ")}`,
    ],
  ])("%s: known by name", async (_, history) => {
    const project = await projectWith(history);
    const { exitCode, stderr } = await project.drift(repairWords);
    expect([exitCode, exitCode === 0 ? "" : stderr]).toEqual([0, ""]);
    expect(await project.sql("select string_agg(version, ' ' order by version) from schema_migrations")).toBe(
      "20260101090000 20260101090100 20260101090200 20260101090300",
    );
    expect(await accountsAfterUp(project)).toBe("1");
  });

  test("Unix times alone: only where somebody says which it was", async () => {
    const project = await projectWith(`create table schema_migrations (version bigint primary key);
      insert into schema_migrations values ${unixTimes.map((time) => `(${time})`).join(", ")}`);
    const before = await project.everything();
    const { exitCode, stderr } = await project.drift(repairWords);
    const [first, second, third, last] = unixTimes;
    const said = stderr.split("\n").filter((line) => !line.startsWith("  | "));
    expect([exitCode, said]).toEqual([
      5,
      [
        `Nothing was repaired: ${unixTimes.join(", ")} were applied, and have no file here; whether one of them was ${seed}, which writes rows, nobody can see`,
        `  next: the same command with --match VERSION=20260101090300      # the one of them that was ${seed}`,
        `  next: the same command with ${unixTimes.map((time) => `--match ${time}=none`).join(" ")}      # if none of them was`,
        "  read: docs/runbook/drift-found.md",
        "",
      ],
    ]);
    expect(await project.everything()).toBe(before);
    const others = [first, second, third].map((time) => `${time}=none`).join(",");
    const repaired = await project.drift([...repairWords, "--match", `${last}=20260101090300`, "--match", others]);
    expect([repaired.exitCode, repaired.exitCode === 0 ? "" : repaired.stderr]).toEqual([0, ""]);
    expect(await accountsAfterUp(project)).toBe("1");
  });
});

test("what was made by hand and stays is a migration that lint accepts, and so the next commit does", async () => {
  const project = await lab.project();
  await project.write("schema.sql", "-- not made anew yet\n");
  await project.sql(`alter table orders drop column total; create index orders_both_idx on orders (id, account_id);
    create table refunds (id bigint primary key, order_id bigint references orders (id))`);
  const plan = await project.drift(["repair", "--plan", "--keep", "database"]);
  const [name, ...allows] = plan.stderr.split("\n").filter((line) => /write migrations|dbops:allow/.test(line));
  expect(name).toMatch(/^ {4}- write migrations\/\d{14}_keep_what_the_database_has\.sql$/);
  const reason = "done by hand in a database, before there was this file";
  expect(allows).toEqual([
    `        | -- dbops:allow drop-without-deprecation ${reason}`,
    `        | -- dbops:allow require-concurrent-index-creation ${reason}`,
  ]);
  const { exitCode, stdout, stderr } = await project.drift([...repairWords, "--keep", "database"]);
  expect([exitCode, exitCode === 0 ? "" : stderr]).toEqual([0, ""]);
  const written = (await project.files()).find((file) => file.includes("keep_what"));
  expect(stdout.split("\n").slice(1)).toEqual([
    "  next: bun scripts/migrate.ts lint      # what it would mean for other databases",
    `  next: bun scripts/migrate.ts dump && git add migrations && git commit      # ${written}`,
    "",
  ]);
  const argv = [process.execPath, join(repository, "scripts/migrate.ts"), "lint", written!];
  const { environment } = lab;
  const lint = await run({ argv, directory: project.directory, environment, accept: [0, 3] });
  expect([lint.exitCode, lint.stdout.split("\n").filter((line) => line.includes(": error "))]).toEqual([0, []]);
  expect(await differences(project)).toBe(0);
});

test("a constraint of a domain that nobody has validated, beside a column made by hand", async () => {
  const project = await lab.project();
  await project.write(
    "20260201000000_money.sql",
    `-- migrate:up
create domain money_paid as numeric constraint positive check (value > 0);
create table payments (paid money_paid);

-- migrate:down
`,
  );
  await project.migrate();
  await project.sql(`alter domain money_paid drop constraint positive; insert into payments values (1);
    alter domain money_paid add constraint positive check (value > 0) not valid`);
  const copy = await lab.copyOf(project);
  const { stdout } = await project.drift(["check"]);
  expect(stdout.split("\n").slice(1, 3)).toEqual([
    "  not valid          public.money_paid.positive: it holds for new rows; nobody has looked at the others",
    "                       CHECK ((VALUE > (0)::numeric)) NOT VALID",
  ]);
  expect((await project.drift(repairWords)).exitCode).toBe(0);
  expect(await differences(project)).toBe(0);
  await copy.sql("alter table accounts add column nickname text");
  const both = await copy.drift([...repairWords, "--keep", "database"]);
  expect([both.exitCode, both.exitCode === 0 ? "" : both.stderr]).toEqual([0, ""]);
  expect(await differences(copy)).toBe(0);
  expect(await Bun.file(`${copy.directory}/migrations/${(await copy.files()).at(-1)}`).text()).not.toContain("money");
});

test("a function whose text has the marks of a migration in it is brought back", async () => {
  const project = await lab.project();
  const body = "begin return '$statement$ $drift$ $statement_2$'; end";
  await project.write(
    "20260201000000_marks.sql",
    `-- migrate:up\ncreate function marks() returns text language plpgsql as $f$ ${body} $f$;\n\n-- migrate:down\n`,
  );
  await project.migrate();
  await project.sql("drop function marks()");
  const { exitCode, stderr } = await project.drift([...repairWords, "--keep", "files"]);
  expect([exitCode, exitCode === 0 ? "" : stderr]).toEqual([0, ""]);
  await project.migrate();
  expect(await differences(project)).toBe(0);
  expect(await project.sql("select marks()")).toBe("$statement$ $drift$ $statement_2$");
});

test("invalid indexes of partitions, of an exclusion constraint and of a key made by hand", async () => {
  const project = await lab.project();
  await project.write(
    "20260201000000_bookings.sql",
    `-- migrate:up
create table bookings (id int primary key, room int4range, exclude using gist (room with &&));
create table measures (at date primary key, value int) partition by range (at);
create table measures_2026 partition of measures for values from ('2026-01-01') to ('2027-01-01');
create index measures_value_idx on measures (value);

-- migrate:down
`,
  );
  await project.migrate();
  await project.sql(`alter table accounts add constraint accounts_email_key unique (email);
    update pg_index set indisvalid = false where indexrelid in ('bookings_room_excl'::regclass, 'measures_2026_pkey'::regclass,
      'measures_2026_value_idx'::regclass, 'accounts_email_key'::regclass)`);
  const copy = await lab.copyOf(project);
  const invalid = "select indexrelid::regclass from pg_index where not indisvalid";
  const kept = await project.drift([...repairWords, "--keep", "database"]);
  expect([kept.exitCode, kept.exitCode === 0 ? "" : kept.stderr]).toEqual([0, ""]);
  expect([await project.sql(invalid), await differences(project)]).toEqual(["", 0]);
  // It could not be rebuilt, and need not be.
  await copy.sql("alter table accounts drop constraint accounts_email_key; insert into accounts (email) values ('a')");
  await copy.sql(`alter table accounts add constraint accounts_email_key unique (email);
    update pg_index set indisvalid = false where indexrelid = 'accounts_email_key'::regclass`);
  const back = await copy.drift([...repairWords, "--keep", "files"]);
  expect([back.exitCode, back.exitCode === 0 ? "" : back.stderr]).toEqual([0, ""]);
  expect(await copy.sql(invalid)).toBe("accounts_email_key");
  await copy.migrate();
  expect([await copy.sql(invalid), await differences(copy)]).toEqual(["", 0]);
});

test("the way back of a history, as docs/drift.md has it", async () => {
  const project = await lab.project();
  await project.sql(integers);
  const numbers = "select pg_typeof(version), version from schema_migrations order by version";
  const before = await project.sql(numbers);
  expect((await project.drift(repairWords)).exitCode).toBe(0);
  const time = await project.sql(
    "select substring(relname from '\\d+$') from pg_class where relname like 'schema_migrations_2%'",
  );
  const [, block] = /^```sql\n(begin;[\s\S]*?)^```$/m.exec(await Bun.file(join(repository, "docs/drift.md")).text())!;
  await project.sql(block!.replace("TIME", time));
  expect(await project.sql(numbers)).toBe(before);
  const again = await project.drift(repairWords);
  expect(again.exitCode, again.stderr).toBe(0);
});

test("while it asks, others may migrate", async () => {
  const project = await lab.project();
  await project.sql("alter table accounts add column nickname text");
  const argv = [process.execPath, join(repository, "scripts/drift.ts"), "repair", "--no-backup"];
  const words = [
    ...argv,
    `--database-url='${project.url}'`,
    `--scratch-url='${project.url.replace(project.database, "app")}'`,
  ].join(" ");
  let said = "";
  // It asks on a terminal alone.
  const terminal = await start({
    ...{ argv: ["script", "--quiet", "--return", "--command", words, "/dev/null"], directory: project.directory },
    ...{ environment: lab.environment, input: true, ownGroup: true },
    onLine: (line) => {
      said += `${line}\n`;
    },
  });
  const locks = () => lab.sql("select count(*) from pg_locks where locktype = 'advisory'", project.database);
  const asked = async (text: string) =>
    expect(await poll({ seconds: 60 }, async () => said.includes(text) || undefined), said).toBe(true);
  await asked("Which side is right?");
  expect(await locks()).toBe("0");
  terminal.write("database\n");
  await asked("write migrations/");
  expect(await poll({ seconds: 10 }, async () => (await locks()) === "0" || undefined)).toBe(true);
  terminal.write("127.0.0.1\n");
  expect([await terminal.ended, said.split("repaired in").length]).toEqual([0, 2]);
  expect(await differences(project)).toBe(0);
});

describe("interrupted", () => {
  /** In front of psql: kills the verb at the Nth statement of the repair's transaction that writes or locks. It lists them in a file. */
  const wrapper = (real: string) => `#!/bin/bash
parent=$PPID
count=0
while IFS= read -r line; do
  [[ $line == 'begin; set local lock_timeout'* ]] && is_repair=yes
  if [[ $is_repair$is_new == yesyes && $line =~ ^(begin|lock|create|alter|update|insert|commit) ]]; then
    count=$((count + 1))
    echo "$count $line" >> "$FAULT_LOG"
    if [[ $count == "$FAULT_AT" ]]; then
      kill "-$FAULT_SIGNAL" "$parent"
      [[ $FAULT_SIGNAL == KILL ]] && break
      # What it does about it comes before its next word.
    fi
  fi
  if [[ $line == '\\set LAST_ERROR'* ]]; then is_new=yes; else is_new=no; fi
  printf '%s\\n' "$line"
done | ${real} "$@"
`;

  let template: DriftProject;
  /** With two files of one version, of which one gets a new name. */
  let twins: DriftProject;
  let path: string;
  beforeAll(async () => {
    const real = `${lab.environment.PATH!.split(":")[0]}/psql`;
    mkdirSync(join(folder, "bin"));
    writeFileSync(join(folder, "bin/psql"), wrapper(real));
    chmodSync(join(folder, "bin/psql"), 0o755);
    path = `${join(folder, "bin")}:${lab.environment.PATH}`;
    template = await lab.project();
    await template.sql(`${integers} alter table accounts add column nickname text`);
    twins = await lab.project();
    await twins.sql("alter table accounts add column nickname text");
    await twins.write(
      "20260101090100_coupons.sql",
      "-- migrate:up\ncreate table coupons (code text);\n\n-- migrate:down\n",
    );
    // What the files make is found out here once for all.
    for (const project of [template, twins]) expect((await project.drift(["check"])).exitCode).toBe(3);
  });

  const words = [...repairWords, "--keep", "database"];
  const faultAt = (log: string, at: number, signal: string) => ({
    ...{ PATH: path, FAULT_LOG: join(folder, log), FAULT_AT: `${at}`, FAULT_SIGNAL: signal },
  });

  test.each<[string, () => DriftProject, number, number]>([
    ["numbers for versions: at each statement that writes", () => template, 4, Number.POSITIVE_INFINITY],
    ["two files of one version: at the last two statements that write", () => twins, 5, 2],
  ])("%s, killed or told to stop", async (name, from, fileCount, lastOnes) => {
    const whole = await lab.copyOf(from());
    expect((await whole.drift(words, faultAt(name, 0, "KILL"))).exitCode).toBe(0);
    const statements = readFileSync(join(folder, name), "utf8").trim().split("\n");
    expect(statements.length).toBeGreaterThan(3);
    expect(statements.at(-1)).toEndWith(" commit");
    const before = (await from().everything()).replaceAll(from().database, "DATABASE");
    for (let at = Math.max(1, statements.length - lastOnes + 1); at <= statements.length; at++) {
      const project = await lab.copyOf(from());
      const signal = at % 2 === 0 && at < statements.length ? "INT" : "KILL";
      const repair = await project.start(words, faultAt(`${name} ${at}`, at, signal));
      const code = await repair.ended;
      expect([at, code]).toEqual([at, signal === "INT" ? 130 : "SIGKILL"]);
      if (signal === "INT") expect(repair.said()).toContain("Interrupted: by SIGINT\n");
      // Its transaction ends with its session, which notices when it reads on.
      const query = `select 1 from pg_stat_activity where datname = '${project.database}'`;
      const isOver = await poll(
        { seconds: 30, everyMilliseconds: 50 },
        async () => (await lab.sql(query)) === "" || undefined,
      );
      expect(isOver).toBe(true);
      if (at < statements.length)
        expect((await project.everything()).replaceAll(project.database, "DATABASE")).toBe(before);
      // At the last one the files are as they should be, and the database does not know of it yet.
      else {
        const names = (await project.files()).map((file) => file.replace(/^\d+/, ""));
        expect(names.toSorted()).toEqual((await whole.files()).map((file) => file.replace(/^\d+/, "")).toSorted());
        expect(names).toHaveLength(fileCount);
      }
      const again = await project.drift(words);
      expect([at, again.exitCode, again.exitCode === 0 ? "" : again.stderr]).toEqual([at, 0, ""]);
      expect(await differences(project)).toBe(0);
    }
  });

  test("as it commits, with a migration that takes something back: the next run goes on with that file", async () => {
    const toFiles = [...repairWords, "--keep", "files"];
    const whole = await lab.copyOf(template);
    expect((await whole.drift(toFiles, faultAt("count-files", 0, "KILL"))).exitCode).toBe(0);
    const statements = readFileSync(join(folder, "count-files"), "utf8").trim().split("\n");
    expect(statements.at(-1)).toEndWith(" commit");
    const project = await lab.copyOf(template);
    const repair = await project.start(toFiles, faultAt("files", statements.length, "KILL"));
    expect(await repair.ended).toBe("SIGKILL");
    const files = await project.files();
    expect(files.at(-1)).toMatch(/^20\d{12}_back_to_what_the_files_say\.sql$/);
    expect(await project.sql("select to_regclass('dbops.drift_repairs') is null")).toBe("t");
    const again = await project.drift(toFiles);
    expect([again.exitCode, again.exitCode === 0 ? "" : again.stderr]).toEqual([0, ""]);
    expect(again.stderr).toContain(`    - migrations/${files.at(-1)}, which an earlier run has written\n`);
    expect(await project.files()).toEqual(files);
    await project.migrate();
    expect(await differences(project)).toBe(0);
  });

  test.each([true, false])("told to stop while an index is rebuilt; the way is free afterwards: %p", async (isFree) => {
    const project = await lab.project();
    await project.sql("update pg_index set indisvalid = false where indexrelid = 'orders_account_id_idx'::regclass");
    const sql = lab.server.connect({ database: project.database, max: 1 });
    await sql`set application_name = 'long_report'`;
    await sql`begin`;
    await sql`lock table orders in row exclusive mode`;
    const repair = await project.start(repairWords);
    const said = async () => repair.said().includes("waits for") || undefined;
    expect(await poll({ seconds: 60 }, said)).toBe(true);
    const atWork = "select 1 from pg_stat_activity where query ~* '^reindex' and state = 'active'";
    expect(await lab.sql(atWork)).toBe("1");
    const stopped = repair.stop("SIGINT", 60);
    const isOver = async () => (await lab.sql(atWork)) === "" || undefined;
    expect(await poll({ seconds: 60, everyMilliseconds: 20 }, isOver)).toBe(true);
    if (isFree) await sql`rollback`;
    await stopped;
    expect(await repair.ended).toBe(130);
    if (!isFree) await sql`rollback`;
    await sql.end();
    const words = plainly(repair.said(), project).split("\n").slice(4);
    const line = words[0]!.replace(/process \d+ \((.*) since .* UTC\)/, "process N ($1 since T)");
    expect([line, ...words.slice(1).map((word) => word.replace(/ +T s$/, " T s"))]).toEqual([
      "         waits for Postgres process N (long_report, its transaction since T), at most 6 h; nobody waits for this",
      ...(isFree
        ? []
        : [
            '         warning: "public"."orders_account_id_idx_ccnew" is left, which is not valid: the same command again drops it',
          ]),
      "  FAILED indexes T s",
      "Interrupted: by SIGINT",
      "",
    ]);
    expect(await project.sql("select count(*) from pg_index where not indisvalid")).toBe(isFree ? "1" : "2");
    const again = await project.drift(repairWords);
    expect([again.exitCode, again.exitCode === 0 ? "" : again.stderr]).toEqual([0, ""]);
    expect(await differences(project)).toBe(0);
    expect(await project.sql("select count(*) from pg_class where relname ~ '_cc(new|old)'")).toBe("0");
  });

  test.each(["SIGINT", "SIGKILL"] as const)("by %s while an index is dropped", async (name) => {
    const project = await lab.project();
    // As a migration leaves it that has failed.
    await project.sql(`create unique index accounts_email_key on accounts (email);
      update pg_index set indisvalid = false where indexrelid = 'accounts_email_key'::regclass`);
    const sql = lab.server.connect({ database: project.database, max: 1 });
    await sql`begin`;
    await sql`lock table accounts in row exclusive mode`;
    const repair = await project.start(repairWords);
    const atWork = `select 1 from pg_stat_activity where datname = '${project.database}' and wait_event_type = 'Lock'
      and query ~* '^drop index concurrently'`;
    const seen = await poll({ seconds: 60, everyMilliseconds: 50 }, async () => (await lab.sql(atWork)) || undefined);
    expect(seen, repair.said()).toBe("1");
    await repair.stop(name, name === "SIGINT" ? 60 : 0);
    expect([await repair.ended, repair.said().split("\n").slice(-3)]).toEqual(
      name === "SIGINT"
        ? [130, [expect.stringMatching(/^ {2}FAILED indexes /), "Interrupted: by SIGINT", ""]]
        : ["SIGKILL", expect.anything()],
    );
    // Told to stop, Postgres has stopped, too; and what it had begun is not valid, as before.
    if (name === "SIGINT") expect(await lab.sql(atWork)).toBe("");
    expect(await project.sql("select indexrelid::regclass from pg_index where not indisvalid")).toBe(
      "accounts_email_key",
    );
    await sql`rollback`;
    await sql.end();
    const again = await project.drift(repairWords);
    expect([again.exitCode, again.exitCode === 0 ? "" : again.stderr]).toEqual([0, ""]);
    expect(await differences(project)).toBe(0);
    expect(await project.sql("select to_regclass('accounts_email_key') is null")).toBe("t");
  });

  test("by a file that somebody takes away meanwhile: the others get their names back", async () => {
    const project = await lab.project();
    const both = ["20260101090000_coupons.sql", "20260101090100_refunds.sql"];
    for (const file of both) {
      const table = file.replace(/^\d+_|\.sql$/g, "");
      await project.write(file, `-- migrate:up\ncreate table ${table} (code text);\n\n-- migrate:down\n`);
    }
    const before = await project.everything();
    const sql = lab.server.connect({ database: project.database, max: 1 });
    await sql`begin`;
    await sql`lock table schema_migrations in row exclusive mode`;
    const repair = await project.start(repairWords);
    await waitingFor("schema_migrations");
    const text = readFileSync(join(project.directory, "migrations", both[1]!), "utf8");
    await project.remove(both[1]!);
    await sql`rollback`;
    await sql.end();
    const code = await repair.ended;
    const last = repair.said().split("\n").slice(-3);
    expect([
      code,
      last.map((line) => line.replaceAll(project.directory, "").replace(/\d+(_refunds\.sql'$)/, "N$1")),
    ]).toEqual([
      1,
      [
        "Nothing was repaired: a file in migrations/ cannot be changed: ENOENT: no such file or directory, rename '/migrations/20260101090100_refunds.sql' -> '/migrations/N_refunds.sql'",
        "  next: the same command again",
        "",
      ],
    ]);
    await project.write(both[1]!, text);
    expect(await project.everything()).toBe(before);
    const again = await project.drift(repairWords);
    expect([again.exitCode, again.exitCode === 0 ? "" : again.stderr]).toEqual([0, ""]);
    expect((await project.files()).slice(3).map((file) => file.slice(14))).toEqual(["_coupons.sql", "_refunds.sql"]);
  });

  test("while an index is rebuilt", async () => {
    const project = await lab.project();
    await project.sql("update pg_index set indisvalid = false where indexrelid = 'orders_account_id_idx'::regclass");
    const sql = lab.server.connect({ database: project.database, max: 1 });
    await sql`begin`;
    await sql`lock table orders in row exclusive mode`;
    const repair = await project.start(repairWords);
    const query = "select 1 from pg_stat_activity where wait_event_type = 'Lock' and query ~* 'reindex'";
    expect(await poll({ seconds: 60, everyMilliseconds: 100 }, async () => (await lab.sql(query)) || undefined)).toBe(
      "1",
    );
    await repair.stop("SIGKILL", 0);
    await sql`rollback`;
    await sql.end();
    expect((await project.drift(repairWords)).exitCode).toBe(0);
    expect(await differences(project)).toBe(0);
  });
});
