// Changes two databases' names in one transaction, while clients keep coming back: whoever is connected to the live one is sent away,
// and finds the other behind the same name a moment later. Both renames happen, or neither does.
import { Failure } from "./failure.ts";
import { type Psql, quoteIdentifier, quoteLiteral, SqlError } from "./psql.ts";

export type Swap = {
  /** The name that the app uses. */
  live: string;
  /** What gets that name. */
  next: string;
  /** What the present one is called from then on; undefined where there is none. */
  keep: string | undefined;
};

/** The live database is closed during each, for up to five seconds. */
const triesMaximum = 3;
const objectInUse = "55006";

/**
 * @param psql a session in another database, such as "postgres".
 * @throws {Failure} when somebody cannot be sent away: the names are as they were then, and clients can connect.
 */
export async function swapDatabases(psql: Psql, swap: Swap): Promise<void> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await psql.execute(swapScript(swap), 60);
    } catch (error) {
      await reopen(psql, swap);
      if (!(error instanceof SqlError)) throw error;
      // Somebody who is no client got in between: an autovacuum worker, or a background worker that starts again.
      if (error.code === objectInUse && tries < triesMaximum) continue;
      throw notSwapped(swap, error);
    }
  }
}

/**
 * No newcomers, everybody out, both names, newcomers again. The rename itself looks for sessions only ten times a second, so they
 * are gone before it begins, autovacuum's as well, which a superuser alone may end; the first commit need not reach the disk, for whatever it says is undone after a crash by reopen().
 */
export function swapScript({ live, next, keep }: Swap): string {
  const rename = (from: string, to: string) =>
    `alter database ${quoteIdentifier(from)} rename to ${quoteIdentifier(to)};`;
  if (keep === undefined) return rename(next, live);
  return `set synchronous_commit = off;
alter database ${quoteIdentifier(live)} allow_connections false;
set synchronous_commit = on;
do $$
begin
  for tries in 1..5000 loop
    perform pg_terminate_backend(pid) from pg_stat_activity
      where datname in (${quoteLiteral(live)}, ${quoteLiteral(next)}) and (
        backend_type in ('client backend', 'parallel worker', 'logical replication worker')
        or (select rolsuper from pg_roles where rolname = current_user)
      );
    exit when not found;
    perform pg_sleep(0.002);
    perform pg_stat_clear_snapshot();
  end loop;
end $$;
begin;
${rename(live, keep)}
${rename(next, live)}
alter database ${quoteIdentifier(keep)} allow_connections true;
commit;`;
}

/** Also what a restore does first of all that finds the live database closed: one was cut off between its two commits. */
export async function reopen(psql: Psql, { live }: Pick<Swap, "live">): Promise<void> {
  await psql.execute("rollback").catch(() => {});
  await psql.execute(`alter database ${quoteIdentifier(live)} allow_connections true`).catch(() => {});
}

function notSwapped({ live, next }: Swap, { why, details }: SqlError): Failure {
  return new Failure(
    `"${live}" is as it was`,
    `the restored "${next}" could not take its place: ${why}`,
    [
      `select pid, usename, backend_type, state from pg_stat_activity where datname = ${quoteLiteral(live)};`,
      "the same command again",
    ],
    { ...(details && { details }) },
  );
}
