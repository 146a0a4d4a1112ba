// The statements of a swap, and what is done when they are refused. test/live/restore.test.ts has clients that come back meanwhile.
import { describe, expect, test } from "bun:test";
import { reopen, swapDatabases, swapScript } from "../scripts/lib/database-swap.ts";
import { Failure, formatFailure } from "../scripts/lib/failure.ts";
import { type Psql, SqlError } from "../scripts/lib/psql.ts";

const swap = { live: 'o"dd', next: "it's new", keep: "kept" };

/** Remembers what it was sent; throws what it is given, once each. */
function fakePsql(errors: readonly (Error | undefined)[]) {
  const sent: string[] = [];
  const left = [...errors];
  const psql: Psql = {
    rows: () => Promise.reject(new Error("not asked")),
    async execute(statements) {
      sent.push(statements);
      const error = statements.includes("rename") ? left.shift() : undefined;
      if (error) throw error;
    },
    close: async () => {},
  };
  return { psql, sent };
}

describe("swapScript()", () => {
  test("closes the door, sends everybody away, renames both in one transaction, and opens it again", () => {
    const sessions = `datname in ('o"dd', 'it''s new') and (
        backend_type in ('client backend', 'parallel worker', 'logical replication worker')
        or (select rolsuper from pg_roles where rolname = current_user)
      )`;
    expect(swapScript(swap)).toBe(`set synchronous_commit = off;
alter database "o""dd" allow_connections false;
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
    if clock_timestamp() > begun + interval '3 s' then
      raise exception using errcode = '55006', message = 'these sessions do not end: ' || (
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
alter database "o""dd" rename to "kept";
alter database "it's new" rename to "o""dd";
alter database "kept" allow_connections true;
commit;
\\endif
\\endif`);
  });

  test("one name where nothing is live", () => {
    expect(swapScript({ live: "shop", next: "shop_restore_1", keep: undefined })).toBe(
      'alter database "shop_restore_1" rename to "shop";',
    );
  });
});

const inUse = () => new SqlError("55006", 'database "shop" is being accessed by other users', "ERROR:  55006");
const opened = ["rollback; set synchronous_commit = on", 'alter database "o""dd" allow_connections true'];

describe("swapDatabases()", () => {
  test("tries again when somebody got in between, with the door open meanwhile", async () => {
    const { psql, sent } = fakePsql([inUse(), inUse()]);
    await swapDatabases(psql, swap);
    const script = swapScript(swap);
    expect(sent).toEqual([script, ...opened, script, ...opened, script]);
  });

  test("gives up after three times, says who to look for, and leaves the door open", async () => {
    const { psql, sent } = fakePsql(Array.from({ length: 20 }, inUse));
    const failure = await swapDatabases(psql, { ...swap, live: "shop", next: "new" }).catch((error: Failure) => error);
    expect(sent.filter((statements) => statements.includes("rename"))).toHaveLength(3);
    expect(sent.at(-1)).toBe('alter database "shop" allow_connections true');
    expect(formatFailure(failure as Failure)).toBe(
      `"shop" is as it was: the restored "new" could not take its place: database "shop" is being accessed by other users
  | ERROR:  55006
  next: select pid, usename, backend_type, state from pg_stat_activity where datname = 'shop';
  next: the same command again`,
    );
  });

  test("any other refusal at once, and a lost session as it is", async () => {
    const denied = new SqlError("42501", "must be owner of database shop", "");
    const first = fakePsql([denied]);
    await expect(swapDatabases(first.psql, swap)).rejects.toThrow("must be owner of database shop");
    expect(first.sent).toEqual([swapScript(swap), ...opened]);
    const lost = new Failure("The session has ended", "the connection was lost");
    const second = fakePsql([lost]);
    await expect(swapDatabases(second.psql, swap)).rejects.toBe(lost);
  });
});

test("where the door cannot be opened again, that is said first of all", async () => {
  const sent: string[] = [];
  const psql: Psql = {
    rows: () => Promise.reject(new Error("not asked")),
    async execute(statements) {
      sent.push(statements);
      if (statements.includes("rename")) throw inUse();
      throw new SqlError("XX000", "tuple concurrently updated", "");
    },
    close: async () => {},
  };
  expect(await reopen(psql, { live: "shop" })).toBe(false);
  const failure = await swapDatabases(psql, { live: "shop", next: "new", keep: "kept" }).catch(
    (error: Failure) => error,
  );
  expect(formatFailure(failure as Failure)).toBe(
    `"shop" has its name, and TAKES NO CONNECTIONS: the restored "new" could not take its place: database "shop" is being accessed by other users
  | ERROR:  55006
  next: psql: alter database "shop" allow_connections true;      # first of all
  next: select pid, usename, backend_type, state from pg_stat_activity where datname = 'shop';
  next: the same command again`,
  );
});
