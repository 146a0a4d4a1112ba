// The server that something is restored on: one restore at a time, a live database that clients can reach, and what there is to know
// before anything is changed.
import { type Facts, readFacts } from "./catalog.ts";
import { reopen } from "./database-swap.ts";
import { exitCodes, Failure } from "./failure.ts";
import type { Place } from "./place.ts";
import type { Progress } from "./progress.ts";
import { openPsql, type Psql, quoteLiteral } from "./psql.ts";
import type { Observed } from "./restore-plan.ts";
import { run } from "./run.ts";

/** Databases cannot be renamed from within. */
const maintenanceOf = (live: string) => (live === "postgres" ? "template1" : "postgres");

/**
 * @returns a session beside the live database, which holds the lock until it ends.
 * @throws {Failure} exit 4 while another restore of this database is at work.
 */
export async function openServer(place: Place, progress: Progress): Promise<Psql> {
  const live = place.database;
  const admin = await openPsql(place, maintenanceOf(live));
  try {
    await takeTurn(admin, live);
    // Nobody else is at work, so it was one that was cut off.
    if (await isClosed(admin, live)) {
      await reopen(admin, { live });
      progress.note(`"${live}" took no connections: a swap was cut off; it takes them again`);
    }
    return admin;
  } catch (error) {
    await admin.close();
    throw error;
  }
}

async function isClosed(admin: Psql, live: string): Promise<boolean> {
  const [row] = await admin.rows(
    `select 1 from pg_database where datname = ${quoteLiteral(live)} and not datallowconn`,
  );
  return row !== undefined;
}

async function takeTurn(admin: Psql, live: string): Promise<void> {
  const key = `hashtextextended(${quoteLiteral(`dbops restore ${live}`)}, 0)`;
  const [row] = await admin.rows<{ ours: boolean }>(`select pg_try_advisory_lock(${key}) as ours`);
  if (row!.ours) return;
  const [other] = await admin.rows<{ since: string; pid: number }>(
    `select to_char(a.backend_start at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"') as since, a.pid
     from pg_locks l join pg_stat_activity a using (pid)
     where l.locktype = 'advisory' and l.granted and l.database = (select oid from pg_database where datname = current_database())
       and (l.classid::bigint << 32) + l.objid::bigint = ${key}`,
  );
  const who = other ? `since ${other.since}, in the session ${other.pid}` : "since just now";
  const why = `another restore of ${live} is at work, ${who}`;
  throw new Failure("Nothing was changed", why, ["wait for it, then the same command again"], {
    exitCode: exitCodes.locked,
  });
}

export const databasesOf = async (admin: Psql): Promise<string[]> =>
  (await admin.rows<{ name: string }>("select datname as name from pg_database order by 1")).map(({ name }) => name);

export type Seen = { observed: Observed; live: Facts | undefined };

export async function observe(place: Place, admin: Psql): Promise<Seen> {
  const name = quoteLiteral(place.database);
  const databases = await databasesOf(admin);
  const live = databases.includes(place.database) ? await observeLive(place) : undefined;
  const [server] = await admin.rows<
    Omit<Observed, "live" | "databases" | "freeBytes"> & { folder: string | null }
  >(`select
    (select jsonb_agg(rolname order by rolname) from pg_roles) as roles,
    (select jsonb_object_agg(name, default_version) from pg_available_extensions) as available,
    current_setting('server_version_num')::int as "versionNumber",
    (select setting from pg_settings where name = 'data_directory') as folder,
    (select coalesce(jsonb_agg(what order by what), '[]') from (
      select format('the replication slot "%s"', slot_name) from pg_replication_slots where database = ${name}
      union all select format('the subscription "%s"', s.subname) from pg_subscription s join pg_database d on d.oid = s.subdbid where d.datname = ${name}
    ) r(what)) as replication,
    (select count(*) from pg_prepared_xacts where database = ${name}) as "preparedTransactions"`);
  const { folder, ...rest } = server!;
  const freeBytes = place.inStack && folder ? await freeBytesOf(place, folder) : undefined;
  return {
    observed: { ...rest, live: live && { ...live.facts, sessions: live.sessions }, databases, freeBytes },
    live: live?.facts,
  };
}

async function observeLive(place: Place): Promise<{ facts: Facts; sessions: number }> {
  const psql = await openPsql(place);
  try {
    const facts = await readFacts(psql);
    const [row] = await psql.rows<{ count: number }>(
      `select count(*) from pg_stat_activity
       where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()`,
    );
    return { facts, sessions: row!.count };
  } finally {
    await psql.close();
  }
}

/** Of the disk with the data. Undefined where df says something else. */
async function freeBytesOf(place: Place, folder: string): Promise<number | undefined> {
  const { stdout } = await run({ ...place.client(["df", "-P", "-k", folder]), accept: [0, 1] });
  const kilobytes = Number(stdout.trim().split("\n").at(-1)?.split(/\s+/)[3]);
  return Number.isFinite(kilobytes) ? kilobytes * 1024 : undefined;
}
