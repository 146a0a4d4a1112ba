// The server that something is restored on: one restore at a time, a live database that clients can reach, and what there is to know
// before anything is changed.
import { type Facts, readFacts } from "./catalog.ts";
import { leftoversOf } from "./database-names.ts";
import { NotSwapped, reopen, type Swap, swapDatabases } from "./database-swap.ts";
import { exitCodes, Failure } from "./failure.ts";
import type { Place } from "./place.ts";
import type { Progress } from "./progress.ts";
import { openPsql, type Psql, quoteLiteral } from "./psql.ts";
import { type Disk, diskOf, roomOn } from "./restore-disk.ts";
import type { Observed } from "./restore-plan.ts";
import { poll } from "./wait.ts";

/** Databases cannot be renamed from within, nor removed. */
export const maintenanceOf = (live: string) => (live === "postgres" ? "template1" : "postgres");

/**
 * @returns a session beside the live database, which holds the lock until it ends.
 * @throws {Failure} exit 4 while another restore of this database is at work.
 */
export async function openServer(
  place: Place,
  progress: Progress,
  { mayChange }: { mayChange: boolean },
): Promise<Psql> {
  const live = place.database;
  const admin = await openPsql(place, maintenanceOf(live));
  try {
    await takeTurn(admin, "restore", live);
    if (await isClosed(admin, live)) progress.note(await openIfCutOff(admin, live, mayChange));
    return admin;
  } catch (error) {
    await admin.close();
    throw error;
  }
}

/** Nobody else is at work, so a swap was cut off; unless there is nothing that was to be swapped: then somebody has closed it by hand. */
async function openIfCutOff(admin: Psql, live: string, mayChange: boolean): Promise<string> {
  const closed = `"${live}" takes no connections`;
  const ofSwaps = leftoversOf(live, await databasesOf(admin)).filter(({ kind }) => kind !== "rehearse");
  if (ofSwaps.length === 0) return `warning: ${closed}: somebody has closed it`;
  if (!mayChange) return `warning: ${closed}: a swap was cut off; without --plan it would be opened again`;
  const isOpen = await reopen(admin, { live });
  return `${closed}: a swap was cut off; ${isOpen ? "it takes them again" : "and it CANNOT be opened again"}`;
}

async function isClosed(admin: Psql, live: string): Promise<boolean> {
  const [row] = await admin.rows(
    `select 1 from pg_database where datname = ${quoteLiteral(live)} and not datallowconn`,
  );
  return row !== undefined;
}

/** A rehearsal has its own: it may take an hour, and somebody who has to restore cannot wait for that. */
type Turn = "restore" | "rehearse";

const nouns: Readonly<Record<Turn, string>> = { restore: "restore", rehearse: "rehearsal" };

const lockKey = (turn: Turn, live: string) => `hashtextextended(${quoteLiteral(`dbops ${turn} ${live}`)}, 0)`;

/** @returns whether the session has the lock now, which it keeps until it ends. */
export async function tryTurn(admin: Psql, turn: Turn, live: string): Promise<boolean> {
  const [row] = await admin.rows<{ ours: boolean }>(`select pg_try_advisory_lock(${lockKey(turn, live)}) as ours`);
  return row!.ours;
}

/** @throws {Failure} exit 4 with who has it. */
export async function takeTurn(admin: Psql, turn: Turn, live: string): Promise<void> {
  if (await tryTurn(admin, turn, live)) return;
  const key = lockKey(turn, live);
  const [other] = await admin.rows<{ since: string; pid: number }>(
    `select to_char(a.backend_start at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"') as since, a.pid
     from pg_locks l join pg_stat_activity a using (pid)
     where l.locktype = 'advisory' and l.granted and l.database = (select oid from pg_database where datname = current_database())
       and (l.classid::bigint << 32) + l.objid::bigint = ${key}`,
  );
  const who = other ? `since ${other.since}, in the session ${other.pid}` : "since just now";
  const why = `another ${nouns[turn]} of ${live} is at work, ${who}`;
  throw new Failure("Nothing was changed", why, ["wait for it, then the same command again"], {
    exitCode: exitCodes.locked,
  });
}

export const databasesOf = async (admin: Psql): Promise<string[]> =>
  (await admin.rows<{ name: string }>("select datname as name from pg_database order by 1")).map(({ name }) => name);

/** Transactions that nobody can send away, by database: it cannot be renamed as long as it has one. */
export async function preparedIn(admin: Psql): Promise<Record<string, number>> {
  const rows = await admin.rows<{ name: string; count: number }>(
    "select database as name, count(*) as count from pg_prepared_xacts group by 1",
  );
  return Object.fromEntries(rows.map(({ name, count }) => [name, count]));
}

export type Seen = { observed: Observed; live: Facts | undefined; disk: Disk | undefined };

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
  const disk = place.inStack && folder ? await diskOf(place, folder) : undefined;
  const freeBytes = disk && roomOn(disk);
  return {
    observed: { ...rest, live: live && { ...live.facts, sessions: live.sessions }, databases, freeBytes },
    ...{ live: live?.facts, disk },
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

/** It may have happened or not, and the server does not answer. */
export class UnknownOutcome extends Failure {}

/**
 * Swaps, and knows afterwards whether it did, also when the session is lost meanwhile.
 * @throws {UnknownOutcome} when the server does not answer any more.
 */
export async function swapSurely(place: Place, admin: Psql, swap: Swap): Promise<void> {
  try {
    await swapDatabases(admin, swap);
  } catch (error) {
    if (error instanceof NotSwapped) throw error;
    const isDone = await askWhetherSwapped(place, swap).catch(() => undefined);
    if (isDone) return;
    if (isDone === false) throw error;
    const { why, details } = error as Failure;
    const next = [`psql --list      # is there a "${swap.keep ?? swap.live}"? Then it was`, "the same command again"];
    throw new UnknownOutcome(`Nobody can tell whether "${swap.live}" was swapped`, why, next, {
      ...{ exitCode: exitCodes.failed, cause: error },
      ...(details && { details }),
    });
  }
}

const lostSessionSeconds = 60;

/** The lock is free once the lost session has ended, with whatever it still did. */
async function askWhetherSwapped(place: Place, swap: Swap): Promise<boolean | undefined> {
  const admin = await openPsql(place, maintenanceOf(place.database));
  try {
    const isOver = await poll({ seconds: lostSessionSeconds }, async () => {
      return (await tryTurn(admin, "restore", place.database)) || undefined;
    });
    if (!isOver) return undefined;
    if (await isClosed(admin, swap.live)) await reopen(admin, swap);
    const names = await databasesOf(admin);
    // It may also be gone because somebody else took it for a leftover.
    return !names.includes(swap.next) && names.includes(swap.keep ?? swap.live);
  } finally {
    await admin.close();
  }
}
