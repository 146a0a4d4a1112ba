// scripts/drift.ts where it must not go on, and where it is interrupted: at each moment of a repair, the database is as it was or repaired,
// and the next run finishes.
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { poll } from "../../scripts/lib/wait.ts";
import { createDriftLab, type DriftLab, type DriftProject } from "../lab/drift-project.ts";

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

  test("a table of another tool", async () => {
    const project = await lab.project();
    await project.sql(`drop table schema_migrations; create table schema_migrations (version bigint primary key, dirty boolean not null);
      insert into schema_migrations values (20260101090200, false)`);
    const { exitCode, stderr } = await project.drift(repairWords);
    expect([exitCode, stderr.split("\n").slice(0, 1), stderr.split("\n").slice(-3)]).toEqual([
      5,
      ["Nothing was repaired: schema_migrations is a table of golang-migrate"],
      ["  next: bun scripts/drift.ts adopt --plan", "  read: docs/adopt.md", ""],
    ]);
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
  let path: string;
  beforeAll(async () => {
    const real = `${lab.environment.PATH!.split(":")[0]}/psql`;
    mkdirSync(join(folder, "bin"));
    writeFileSync(join(folder, "bin/psql"), wrapper(real));
    chmodSync(join(folder, "bin/psql"), 0o755);
    path = `${join(folder, "bin")}:${lab.environment.PATH}`;
    template = await lab.project();
    await template.sql(`${integers} alter table accounts add column nickname text`);
    // What the files make is found out here once for all.
    expect((await template.drift(["check"])).exitCode).toBe(3);
  });

  const words = [...repairWords, "--keep", "database"];
  const faultAt = (log: string, at: number, signal: string) => ({
    ...{ PATH: path, FAULT_LOG: join(folder, log), FAULT_AT: `${at}`, FAULT_SIGNAL: signal },
  });

  test("at each statement that writes, killed or told to stop", async () => {
    const whole = await lab.copyOf(template);
    expect((await whole.drift(words, faultAt("count", 0, "KILL"))).exitCode).toBe(0);
    const statements = readFileSync(join(folder, "count"), "utf8").trim().split("\n");
    expect(statements.length).toBeGreaterThan(5);
    expect(statements.at(-1)).toEndWith(" commit");
    const before = (await template.everything()).replaceAll(template.database, "DATABASE");
    for (let at = 1; at <= statements.length; at++) {
      const project = await lab.copyOf(template);
      const signal = at % 2 === 0 && at < statements.length ? "INT" : "KILL";
      const repair = await project.start(words, faultAt(`${at}`, at, signal));
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
      // At the last one the file is there, and the database does not know of it yet.
      else expect(await project.files()).toHaveLength(4);
      const again = await project.drift(words);
      expect([at, again.exitCode, again.exitCode === 0 ? "" : again.stderr]).toEqual([at, 0, ""]);
      expect(await differences(project)).toBe(0);
    }
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
