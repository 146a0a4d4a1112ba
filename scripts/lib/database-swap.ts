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

const triesMaximum = 3;
/** So long the live database is closed during each, at most; and so long it is open between two. */
const closedSeconds = 3;
const openMilliseconds = 1000;
const objectInUse = "55006";

/**
 * @param psql a session in another database, such as "postgres".
 * @throws {NotSwapped} when somebody cannot be sent away, or Postgres refuses: the names are as they were then.
 */
export async function swapDatabases(psql: Psql, swap: Swap): Promise<void> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await psql.execute(swapScript(swap), 60);
    } catch (error) {
      const isOpen = swap.keep === undefined || (await reopen(psql, swap));
      if (!(error instanceof SqlError)) throw error;
      // Somebody who is no client got in between: an autovacuum worker, or a background worker that starts again.
      if (!isOpen || error.code !== objectInUse || tries === triesMaximum) throw notSwapped(swap, error, isOpen);
      await new Promise((resolve) => setTimeout(resolve, openMilliseconds));
    }
  }
}

/**
 * No newcomers, everybody out, both names, newcomers again, in one message: each step only if the one before it was good. The rename
 * itself looks for sessions only ten times a second, so they are gone before it begins, autovacuum's as well, which a superuser alone
 * may end. The first commit need not reach the disk, for whatever it says is undone after a crash by reopen().
 */
export function swapScript({ live, next, keep }: Swap): string {
  const rename = (from: string, to: string) =>
    `alter database ${quoteIdentifier(from)} rename to ${quoteIdentifier(to)};`;
  if (keep === undefined) return rename(next, live);
  const sessions = `datname in (${quoteLiteral(live)}, ${quoteLiteral(next)}) and (
        backend_type in ('client backend', 'parallel worker', 'logical replication worker')
        or (select rolsuper from pg_roles where rolname = current_user)
      )`;
  return `set synchronous_commit = off;
alter database ${quoteIdentifier(live)} allow_connections false;
\\if :ERROR
\\else
set synchronous_commit = on;
do $$
declare
  begun timestamptz := clock_timestamp();
begin
  loop
    perform pg_terminate_backend(pid) from pg_stat_activity where ${sessions};
    exit when not found;
    if clock_timestamp() > begun + interval '${closedSeconds} s' then
      raise exception using errcode = '${objectInUse}', message = 'these sessions do not end: ' || (
        select string_agg(format('%s (%s, %s)', pid, coalesce(usename, backend_type), coalesce(state, 'at work')), ', ')
        from pg_stat_activity where ${sessions}
      );
    end if;
    perform pg_sleep(0.002);
    perform pg_stat_clear_snapshot();
  end loop;
end $$;
\\if :ERROR
\\else
begin;
${rename(live, keep)}
${rename(next, live)}
alter database ${quoteIdentifier(keep)} allow_connections true;
commit;
\\endif
\\endif`;
}

/**
 * Also what a restore does first of all that finds the live database closed: one was cut off between its two commits.
 * @returns whether it is open now.
 */
export async function reopen(psql: Psql, { live }: Pick<Swap, "live">): Promise<boolean> {
  await psql.execute("rollback; set synchronous_commit = on").catch(() => {});
  return await psql.execute(openScript(live)).then(
    () => true,
    () => false,
  );
}

const openScript = (live: string) => `alter database ${quoteIdentifier(live)} allow_connections true`;

/** Somebody could not be sent away, or Postgres refused: the names are as they were. */
export class NotSwapped extends Failure {}

function notSwapped({ live, next }: Swap, { why, details }: SqlError, isOpen: boolean): Failure {
  const what = isOpen ? `"${live}" is as it was` : `"${live}" has its name, and TAKES NO CONNECTIONS`;
  return new NotSwapped(
    what,
    `the restored "${next}" could not take its place: ${why}`,
    [
      ...(isOpen ? [] : [`psql: ${openScript(live)};      # first of all`]),
      `select pid, usename, backend_type, state from pg_stat_activity where datname = ${quoteLiteral(live)};`,
      "the same command again",
    ],
    { ...(details && { details }) },
  );
}
