// docs/migrations.md on a real Postgres 18: its files are applied one after the other by dbmate while two versions of an app go on
// working, and its table of locks is measured again.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Sql } from "postgres";
import { databaseUrl, findDbmate, timeoutsFor } from "../../scripts/lib/dbmate.ts";
import { run } from "../../scripts/lib/run.ts";
import { poll } from "../../scripts/lib/wait.ts";
import { guideFiles, guideLocks, type LockRow } from "../lab/guide.ts";
import { startPostgres, type TestPostgres } from "../lab/postgres.ts";
import { repository } from "../lab/repository.ts";

setDefaultTimeout(120_000);

let server: TestPostgres;
let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "dbops-guide-"));
  server = await startPostgres();
});
afterAll(async () => {
  await server?.stop();
  await rm(folder, { recursive: true });
});

const files = Object.entries(guideFiles());

const up = () => dbmate("up", "--strict");
const down = () => dbmate("rollback");

async function dbmate(...words: string[]): Promise<void> {
  const url = ["--url", databaseUrl(server, "disable"), "--migrations-dir", folder, "--no-dump-schema"];
  const environment = { PGUSER: server.user, PGPASSWORD: server.password, PGOPTIONS: timeoutsFor(5) };
  await run({ argv: [findDbmate(repository), "--env-file", "", ...url, ...words], environment });
}

/** What a version of the app does all day; each statement fails where the schema is not one for it. */
type Version = readonly string[];

const fullName: Version = [
  "insert into customers (full_name) values ('old ' || gen_random_uuid())",
  "update customers set full_name = full_name || '!' where id = (select max(id) from customers)",
  "select id, full_name from customers limit 1",
];
const displayName: Version = [
  "insert into customers (display_name) values ('new ' || gen_random_uuid())",
  "update customers set display_name = display_name || '?' where id = (select max(id) from customers)",
  "select id, display_name from customers limit 1",
];
const orders: Version = ["insert into orders (total) values (1)", "select id, total from orders limit 1"];
const ordersOf: Version = [
  "insert into orders (total, customer_id) select 2, max(id) from customers",
  "select customer_id from orders limit 1",
];
const currencies: Version = ["insert into orders (total, currency) values (3, 'CHF')"];

/** The versions that may run from a file on, until the next one that is named: those of the deploy, and the one before it. */
const versionsFrom: Readonly<Record<string, readonly Version[]>> = {
  create_customers: [fullName],
  add_display_name: [fullName, displayName],
  drop_full_name: [displayName],
  create_orders: [displayName, orders],
  add_customer_to_orders: [displayName, orders, ordersOf],
  add_currency_to_orders: [displayName, orders, ordersOf, currencies],
  deprecate_orders: [displayName, orders],
  drop_orders: [displayName],
};

async function work(sql: Sql, versions: readonly Version[]): Promise<void> {
  for (const statement of versions.flat()) await sql.unsafe(statement);
}

test("each file is applied while both versions of the app work, and taken back and applied again", async () => {
  const sql = server.connect({ max: 1 });
  const app = server.connect({ max: 1 });
  let versions: readonly Version[] = [];
  const both = () => [...versions];
  for (const [file, text] of files) {
    await writeFile(join(folder, file), text);
    const name = file.replace(/^\d+_|\.sql$/g, "");
    const isContract = name.startsWith("drop_");
    const next = versionsFrom[name] ?? versions;
    // The old version alone goes on while the file is applied; where something is removed, the one that lives without it.
    const meanwhile = (isContract ? next : versions).flat();
    let applied = false;
    const working = (async () => {
      while (!applied) await work(app, [meanwhile.length > 0 ? meanwhile : ["select 1"]]);
    })();
    await up().finally(() => {
      applied = true;
    });
    await working;
    versions = next;
    await work(sql, both());
    if (name === "create_customers") {
      await sql`insert into customers (full_name) select 'row ' || n from generate_series(1, 2500) n`;
    }
    if (name === "fill_display_name") {
      expect(await sql`select 1 from customers where full_name is distinct from display_name`).toHaveLength(0);
    }
    if (isContract) continue;
    await down();
    await up();
    await work(sql, both());
  }
  const applied = await sql`select version from schema_migrations order by 1`;
  expect(applied.map(({ version }) => version)).toEqual(files.map(([file]) => file.slice(0, 14)));
  const left = await sql`select table_name || '.' || column_name as name from information_schema.columns
    where table_schema = 'public' and table_name <> 'schema_migrations' order by 1`;
  expect(left.map(({ name }) => name)).toEqual(["customers.display_name", "customers.id", "customers.region"]);
  const invalid = await sql`select 1 from pg_constraint where not convalidated
    union all select 1 from pg_index where not indisvalid`;
  expect(invalid).toHaveLength(0);
  const refused = await sql`insert into customers (display_name) select display_name from customers limit 1`.catch(
    ({ code }) => code,
  );
  expect(refused).toBe("23505");
});

const tables = `
  drop table if exists t, u cascade;
  create table u (id bigint primary key);
  create table t (id bigint primary key, name text not null, size int, code varchar(20), u_id bigint);
  insert into u select n from generate_series(1, 1000) n;
  insert into t select n, 'name ' || n, n, 'code', n from generate_series(1, 1000) n;
  create index t_size_idx on t (size);
  create unique index t_name_key on t (name);
  alter table t add constraint t_size_check check (size > 0) not valid;
  alter table t add constraint t_u_id_fkey foreign key (u_id) references u not valid;
  create or replace function f() returns trigger language plpgsql as 'begin return new; end';
  select pg_stat_force_next_flush()`;

/** From the weakest to the strongest. */
const modes = [
  ...["ROW EXCLUSIVE", "SHARE UPDATE EXCLUSIVE", "SHARE", "SHARE ROW EXCLUSIVE", "EXCLUSIVE", "ACCESS EXCLUSIVE"],
];

/** "AccessExclusiveLock" is ACCESS EXCLUSIVE. */
const modeOf = (name: string) =>
  name
    .replace(/Lock$/, "")
    .replace(/(?<=[a-z])(?=[A-Z])/g, " ")
    .toUpperCase();

const counters = `select pg_relation_filenode('t')::int as node, pg_relation_size('t') / 8192 as pages,
  pg_stat_get_xact_blocks_fetched('t'::regclass)::int as fetched, pg_stat_get_xact_tuples_updated('t'::regclass)::int as updated`;

type Counters = { node: number; pages: string; fetched: number; updated: number };

function whatOfRows(before: Counters, after: Counters): string {
  if (after.node !== before.node) return after.pages === "0" ? "removed" : "all written anew";
  if (after.updated > before.updated) return "all written anew";
  return after.fetched - before.fetched >= Number(before.pages) ? "all read" : "untouched";
}

/** What another session has to wait for while the first one holds its lock. */
async function whatWaits(other: Sql): Promise<string> {
  const waits = async (statement: string) => {
    const cannot = await other
      .unsafe(`begin; set local lock_timeout = '50ms'; ${statement}; rollback`)
      .catch((error) => {
        expect(error.code).toBe("55P03");
        return true;
      });
    if (cannot === true) await other.unsafe("rollback");
    return cannot === true;
  };
  if (await waits("select 1 from t where size = 1")) return "reads and writes";
  if (await waits("delete from t where false")) return "writes";
  return (await waits("lock table t in share update exclusive mode")) ? "other changes" : "nothing";
}

async function measureInTransaction(sql: Sql, other: Sql, statement: string): Promise<LockRow> {
  await sql.unsafe("begin");
  const [before] = await sql.unsafe<Counters[]>(counters);
  await sql.unsafe(statement);
  // A table under a new name is the same one.
  const held = await sql`select mode from pg_locks where pid = pg_backend_pid() and relation = 't'::regclass`;
  const [after] = await sql.unsafe<Counters[]>(counters);
  const waits = await whatWaits(other);
  await sql.unsafe("rollback");
  const ranks = held.map(({ mode }) => modes.indexOf(modeOf(mode)));
  return { statement, lock: modes[Math.max(...ranks)]!, waits, rows: whatOfRows(before!, after!) };
}

/** One that cannot run inside a transaction: somebody holds a lock that none of these goes with, so it is seen which it asks for. */
async function measureAlone(sql: Sql, other: Sql, statement: string): Promise<LockRow> {
  await sql.unsafe(tables);
  const [session] = await sql`select pg_backend_pid() as pid`;
  await other.unsafe("begin; lock table t in share update exclusive mode");
  const [before] = await sql.unsafe<Counters[]>(whole);
  const running = sql.unsafe(statement).execute();
  const asked = await poll({ seconds: 10, everyMilliseconds: 10 }, async () => {
    const [row] =
      await other`select mode from pg_locks where pid = ${session!.pid} and relation = 't'::regclass and not granted`;
    return row?.mode as string | undefined;
  });
  await other.unsafe("commit");
  await running;
  await sql.unsafe("select pg_stat_force_next_flush()");
  const [after] = await sql.unsafe<Counters[]>(whole);
  const lock = modeOf(asked!);
  await sql.unsafe(`begin; lock table t in ${lock} mode`);
  const waits = await whatWaits(other);
  await sql.unsafe("rollback");
  return { statement, lock, waits, rows: whatOfRows(before!, after!) };
}

const whole = `select pg_relation_filenode('t')::int as node, pg_relation_size('t') / 8192 as pages,
  pg_stat_get_blocks_fetched('t'::regclass)::int as fetched, 0 as updated`;

test("the table of locks is what Postgres 18 does", async () => {
  const sql = server.connect({ max: 1 });
  const other = server.connect({ max: 1 });
  await sql.unsafe(tables);
  const rows = guideLocks();
  expect(rows.length).toBeGreaterThan(25);
  const measured: LockRow[] = [];
  for (const { statement } of rows) {
    const isAlone = /\bconcurrently\b|\bvacuum\b/.test(statement);
    measured.push(await (isAlone ? measureAlone : measureInTransaction)(sql, other, statement));
  }
  expect(measured).toEqual(rows);
});
