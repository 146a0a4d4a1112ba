// One runner of migrations at a time for each database. The lock is the session's: it ends with us, however we end.
import { exitCodes, Failure } from "./failure.ts";
import type { Place } from "./place.ts";
import { openPsql, type Psql } from "./psql.ts";
import { poll } from "./wait.ts";

/** What dbmate's sessions are called, by PGAPPNAME: one whose runner was killed may go on for a while, without the lock. */
export const sessionName = "dbops-migrate";

/** Advisory locks belong to one database. */
const lockKey = "hashtextextended('dbops migrate', 0)";

export const isDbmate = `a.application_name = '${sessionName}' and a.datname = current_database()`;

/**
 * Whether nobody else migrates, and the lock is ours now. Never with the function that waits for it: that would be a statement with a
 * snapshot, for which a CREATE INDEX CONCURRENTLY of the runner before us waits, for ever; and Postgres cannot see that circle
 * (measured). On one line each, because a deploy sends them to the server: see migrate() in scripts/lib/server/deploy.sh.
 */
export const tryLock = `select pg_try_advisory_lock(${lockKey}) and not exists (select from pg_stat_activity a where ${isDbmate}) as ours`;

/** Who does, as the beginning of a sentence: "another runner (Postgres process 4711, since 2026-11-21 03:00:00 UTC)". */
export const whoMigrates = [
  "select what || ' (Postgres process ' || pid || ', since ' || to_char(since at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS') || ' UTC)' as who from (",
  "select 1 as rank, 'another runner' as what, a.pid, a.backend_start as since from pg_locks l join pg_stat_activity a using (pid)",
  "where l.locktype = 'advisory' and l.granted and l.pid <> pg_backend_pid() and l.database = (select oid from pg_database where datname = current_database())",
  `and (l.classid::bigint << 32) + l.objid::bigint = ${lockKey}`,
  `union all select 2, 'dbmate', a.pid, a.backend_start from pg_stat_activity a where ${isDbmate}`,
  ") q order by rank limit 1",
].join(" ");

/** For whom a session waits: "Postgres process 4711 (pg_dump, its transaction since 2026-11-21 03:00:00 UTC)". */
export const whoBlocks = (session: string) =>
  [
    "select 'Postgres process ' || b.pid || coalesce(' (' || nullif(concat_ws(', ', nullif(b.application_name, ''),",
    // Not known of another user's.
    "'its transaction since ' || to_char(b.xact_start at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS') || ' UTC'), '') || ')', '') as who",
    "from pg_stat_activity a cross join lateral unnest(pg_blocking_pids(a.pid)) p (pid) join pg_stat_activity b on b.pid = p.pid",
    `where ${session} order by b.xact_start limit 1`,
  ].join(" ");

/** For whom dbmate waits. */
export const whoIsInTheWay = whoBlocks(isDbmate);

/** Ends what dbmate is doing in this database. Its transaction is rolled back. */
export const endDbmate = `select pg_terminate_backend(a.pid) from pg_stat_activity a where ${isDbmate}`;

/** For as long as anybody but us may be at it: until the last of dbmate's sessions is gone, which may be about to commit. */
export async function untilDbmateIsGone(psql: Psql, seconds: number): Promise<boolean> {
  const gone = await poll({ seconds }, async () => {
    const [row] = await psql.rows<{ left: number }>(
      `select count(*)::int as left from pg_stat_activity a where ${isDbmate}`,
    );
    return row!.left === 0 || undefined;
  });
  return gone ?? false;
}

export type MigrationLock = {
  /** The session that holds it. No transaction must stay open in it: what is built CONCURRENTLY would wait for that. */
  psql: Psql;
  /** The caller does so also when it is interrupted, and not before what it has started has ended. */
  release(): Promise<void>;
};

type Wanted = {
  place: Place;
  /** How long to wait for another runner. 0: not at all. */
  waitSeconds: number;
  interrupted: AbortSignal;
  onWait(holder: string): void;
};

/** A machine that fell asleep, or whose line was cut, keeps the lock no longer than this. */
const silenceSeconds = 60;
const aliveSeconds = 15;

/** Asks again and again. @throws {Failure} exit 4 with who holds it. */
export async function lockMigrations(wanted: Wanted): Promise<MigrationLock> {
  const { place, interrupted } = wanted;
  interrupted.throwIfAborted();
  const psql = await openPsql(place);
  const onAbort = () => void psql.close();
  interrupted.addEventListener("abort", onAbort);
  try {
    await untilOurs(psql, wanted);
    await psql.execute(
      `do $$ begin perform set_config(name, '${silenceSeconds}s', false) from pg_settings where name = 'idle_session_timeout'; end $$`,
    );
  } catch (error) {
    await psql.close();
    throw interrupted.aborted ? interrupted.reason : error;
  } finally {
    interrupted.removeEventListener("abort", onAbort);
  }
  // Where it has ended all the same, the next question in it says so.
  const alive = setInterval(() => void psql.execute("select").catch(() => {}), aliveSeconds * 1000);
  return {
    psql,
    async release() {
      clearInterval(alive);
      await psql.close();
    },
  };
}

async function untilOurs(psql: Psql, { waitSeconds, interrupted, onWait }: Wanted): Promise<void> {
  let holder: string | undefined;
  const isOurs = await poll({ seconds: waitSeconds, everyMilliseconds: 250, interrupted }, async () => {
    const [row] = await psql.rows<{ ours: boolean }>(tryLock);
    if (row!.ours) return true;
    const before = holder;
    const [found] = await psql.rows<{ who: string }>(whoMigrates);
    holder = found?.who ?? holder;
    if (!before && holder) onWait(holder);
    return undefined;
  });
  if (!isOurs) throw somebodyElse(holder, waitSeconds);
}

function somebodyElse(holder: string | undefined, waitedSeconds: number): Failure {
  const why = `${holder ?? "another runner"} migrates this database (waited ${waitedSeconds} s)`;
  return new Failure("Nothing was changed", why, ["the same command with --wait 600"], { exitCode: exitCodes.locked });
}
