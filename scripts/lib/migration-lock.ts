// One runner of migrations at a time for each database. The lock is the session's: it ends with us, however we end.
import { exitCodes, Failure } from "./failure.ts";
import type { Place } from "./place.ts";
import { openPsql, type Psql } from "./psql.ts";
import { poll } from "./wait.ts";

/** Advisory locks belong to one database. scripts/lib/server/deploy.sh takes the same. */
export const migrationLockKey = "hashtextextended('dbops migrate', 0)";

export type MigrationLock = {
  /** The session that holds it. Nothing must run in it that takes long, and no transaction stay open: see below. */
  psql: Psql;
  release(): Promise<void>;
};

type Wanted = {
  place: Place;
  database?: string;
  /** How long to wait for another runner. 0: not at all. */
  waitSeconds: number;
  interrupted: AbortSignal;
  onWait(holder: string): void;
};

/**
 * Asks again and again, and never with the function that waits: that would be a statement with a snapshot, for which a
 * CREATE INDEX CONCURRENTLY of the runner before us waits, for ever; and Postgres cannot see that circle (measured).
 * @throws {Failure} exit 4 with who holds it.
 */
export async function lockMigrations(wanted: Wanted): Promise<MigrationLock> {
  const { place, database, waitSeconds, interrupted, onWait } = wanted;
  const psql = await openPsql(place, database);
  const onAbort = () => void psql.close();
  interrupted.addEventListener("abort", onAbort);
  const release = async () => {
    interrupted.removeEventListener("abort", onAbort);
    await psql.close();
  };
  try {
    let holder: string | undefined;
    const isOurs = await poll({ seconds: waitSeconds, everyMilliseconds: 250, interrupted }, async () => {
      const [row] = await psql.rows<{ ours: boolean }>(`select pg_try_advisory_lock(${migrationLockKey}) as ours`);
      if (row!.ours) return true;
      const before = holder;
      holder = await findHolder(psql);
      if (!before) onWait(holder);
      return undefined;
    });
    if (isOurs) return { psql, release };
    throw new Failure(
      "Nothing was migrated",
      `${holder ?? "another runner"} is at it`,
      ["the same command again, once it is done"],
      {
        exitCode: exitCodes.locked,
      },
    );
  } catch (error) {
    await release();
    throw interrupted.aborted ? interrupted.reason : error;
  }
}

/** "another runner (process 4711 of 10.0.0.3, since 2026-11-21 03:00:00 UTC)" */
async function findHolder(psql: Psql): Promise<string> {
  const [row] = await psql.rows<{ pid: number; since: string; address: string | null }>(
    `select a.pid, to_char(a.backend_start at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"') as since, host(a.client_addr) as address
     from pg_locks l join pg_stat_activity a using (pid)
     where l.locktype = 'advisory' and l.granted and l.database = (select oid from pg_database where datname = current_database())
       and (l.classid::bigint << 32) + l.objid::bigint = ${migrationLockKey} limit 1`,
  );
  if (!row) return "another runner";
  return `another runner (process ${row.pid}${row.address ? ` of ${row.address}` : ""}, since ${row.since})`;
}
