// scripts/lib/database-swap.ts against a real Postgres, and what gets in its way: whatever it says afterwards is true, and the live
// database is never closed for long.
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "bun:test";
import { reopen, swapDatabases } from "../../scripts/lib/database-swap.ts";
import { type Failure, formatFailure } from "../../scripts/lib/failure.ts";
import type { Place } from "../../scripts/lib/place.ts";
import { openPsql, type Psql } from "../../scripts/lib/psql.ts";
import { poll } from "../../scripts/lib/wait.ts";
import { postgresEnvironment } from "../lab/debian-programs.ts";
import { startPostgres, type TestPostgres } from "../lab/postgres.ts";

let server: TestPostgres;
let place: Place;
let psql: Psql;
beforeAll(async () => {
  server = await startPostgres({ database: "app" });
  const { PATH } = await postgresEnvironment();
  const { host, port, user, password } = server;
  const connection = { PGHOST: host, PGPORT: `${port}`, PGUSER: user, PGPASSWORD: password };
  const client = (argv: readonly string[], database = "app") => ({
    argv,
    environment: { PATH, ...connection, PGDATABASE: database },
  });
  place = { name: "the test's Postgres", environment: "local", database: "app", client } as unknown as Place;
  psql = await openPsql(place, "postgres");
}, 120_000);
afterAll(async () => {
  await psql?.close();
  await server?.stop();
});

const swap = { live: "shop", next: "shop_restore", keep: "shop_before" };
const names = async () =>
  (
    await psql.rows<{ datname: string }>(
      "select datname || case when datallowconn then '' else ' CLOSED' end as datname from pg_database where datname like 'shop%' order by 1",
    )
  ).map(({ datname }) => datname);
/** Which of the two it is, whatever it is called: they have comments. */
const isRestored = async () =>
  (
    await psql.rows<{ it: string }>(
      "select shobj_description(oid, 'pg_database') as it from pg_database where datname = 'shop'",
    )
  )[0]!.it;

beforeEach(async () => {
  await psql.execute("create database shop; comment on database shop is 'old';");
  await psql.execute("create database shop_restore; comment on database shop_restore is 'restored';");
});
afterEach(async () => {
  for (const name of ["shop", "shop_restore", "shop_before"]) {
    await psql.execute(`drop database if exists ${name} with (force)`);
  }
});

test("both names, with clients connected to both", async () => {
  const clients = ["shop", "shop_restore"].map((database) => server.connect({ database, max: 1 }));
  for (const client of clients) await client`select 1`;
  await swapDatabases(psql, swap);
  expect([await names(), await isRestored()]).toEqual([["shop", "shop_before"], "restored"]);
});

test("when the door cannot be closed, nothing at all is done, and that is what is said", async () => {
  const other = server.connect({ database: "postgres", max: 1 });
  let letGo = () => {};
  const held = new Promise<void>((resolve) => {
    letGo = resolve;
  });
  const changing = other.begin(async (sql) => {
    await sql`alter database shop connection limit 50`;
    await held;
  });
  await poll({ seconds: 10 }, async () => {
    const [row] = await psql.rows(
      "select 1 from pg_stat_activity where state = 'idle in transaction' and query ~ 'connection limit'",
    );
    return row;
  });
  const swapping = swapDatabases(psql, swap).then(
    () => "swapped",
    (error: Failure) => formatFailure(error),
  );
  const watching = await openPsql(place, "postgres");
  await poll({ seconds: 10 }, async () => {
    const [row] = await watching.rows(
      "select 1 from pg_stat_activity where wait_event_type = 'Lock' and query ~ 'allow_connections false'",
    );
    return row;
  });
  await watching.close();
  letGo();
  await changing;
  expect(await swapping).toStartWith(
    `"shop" is as it was: the restored "shop_restore" could not take its place: tuple concurrently updated`,
  );
  expect([await names(), await isRestored()]).toEqual([["shop", "shop_restore"], "old"]);
}, 60_000);

test("a session that does not end keeps the door closed for seconds only, and is named", async () => {
  const client = server.connect({ database: "shop", max: 1 });
  const [row] = await client<{ pid: number }[]>`select pg_backend_pid() as pid`;
  process.kill(row!.pid, "SIGSTOP");
  try {
    const watching = await openPsql(place, "postgres");
    const door: boolean[] = [];
    let isOver = false;
    const looking = poll({ seconds: 60 }, async () => {
      const [now] = await watching.rows<{ open: boolean }>(
        "select datallowconn as open from pg_database where datname = 'shop'",
      );
      if (door.at(-1) !== now!.open) door.push(now!.open);
      return isOver || undefined;
    });
    const failure = await swapDatabases(psql, swap).catch((error: Failure) => error);
    isOver = true;
    await looking;
    await watching.close();
    expect(formatFailure(failure as Failure)).toStartWith(
      `"shop" is as it was: the restored "shop_restore" could not take its place: these sessions do not end: ${row!.pid} (app, `,
    );
    // Three times closed, and open in between.
    expect(door.filter((open) => !open).length).toBe(3);
    expect(await names()).toEqual(["shop", "shop_restore"]);
  } finally {
    process.kill(row!.pid, "SIGCONT");
  }
}, 60_000);

test("a swap that was cut off behind the closed door: it opens again", async () => {
  await psql.execute("alter database shop allow_connections false");
  expect(await reopen(psql, swap)).toBe(true);
  expect(await names()).toEqual(["shop", "shop_restore"]);
});
