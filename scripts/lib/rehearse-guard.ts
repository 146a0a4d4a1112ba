// What keeps a rehearsal beside the live database at home, where the text of a file does not show what it does: in a function that was
// there before, in a text that is put together. Within the transaction, so that what should not be is taken back before it counts.
import { exitCodes, Failure } from "./failure.ts";
import type { Psql, SqlError } from "./psql.ts";

/** Of one rehearsal; undefined in a container, where there is nothing else. */
export type Guard = {
  /** What to type instead. */
  next: string;
  /** Of the server, 180006. */
  versionNumber: number;
};

/**
 * What the present transaction has written to the catalogs that all databases share. Postgres keeps the lock on most of them until the
 * end; of the others one sees rows of a transaction that is not committed, and those of others nobody sees. Its own database's row is its own.
 */
const written = (versionNumber: number) => `select distinct name from (
    select c.relname::text from pg_locks l join pg_class c on c.oid = l.relation
    where l.pid = pg_backend_pid() and l.locktype = 'relation' and l.granted and l.database = 0 and c.relkind = 'r'
      and l.mode not in ('AccessShareLock', 'RowShareLock', 'ShareUpdateExclusiveLock')
    union all
    select name from (
      select 'pg_database' as name, xmin from pg_database where datname <> current_database()
      union all select 'pg_tablespace', xmin from pg_tablespace
      union all select 'pg_replication_origin', xmin from pg_replication_origin
      ${versionNumber < 150_000 ? "" : "union all select 'pg_parameter_acl', xmin from pg_parameter_acl"}) r
    where age(xmin) <= 0
      and pg_xact_status((pg_current_xact_id_if_assigned()::text::bigint - age(xmin))::text::xid8) = 'in progress'
  ) r(name) order by 1`;

/** @throws {Failure} exit 3, and the transaction is rolled back. */
export async function requireAtHome(psql: Psql, { next, versionNumber }: Guard, at: string): Promise<void> {
  const found = await psql.rows<{ name: string }>(written(versionNumber));
  if (found.length === 0) return;
  await psql.execute("rollback");
  const names = found.map(({ name }) => name).join(", ");
  const why = `it changes more than the database that it is run in (${names}), and was taken back`;
  throw new Failure(`Cannot rehearse ${at} beside the live database`, why, [next], {
    exitCode: exitCodes.saidNo,
    read: "docs/rehearse.md",
  });
}

/**
 * The backup brings foreign servers along, with passwords: what a file writes there would be written. Without a handler nothing of them can
 * be read any more, and without a mapping dblink() finds no password either. And functions that reach another server by themselves, which a
 * trigger may call, get a name by which nobody finds them.
 */
const cutOffScript = `do $$
declare
  each record;
  is_super boolean := rolsuper from pg_roles where rolname = current_user;
begin
  for each in select p.oid::regprocedure as function, proname from pg_proc p
    join pg_depend d on d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e'
    join pg_extension e on d.refclassid = 'pg_extension'::regclass and d.refobjid = e.oid
    where extname in ('dblink', 'http', 'aws_lambda', 'aws_s3') and proname not like 'cut_off_%' and prokind = 'f' loop
    execute format('alter function %s rename to %I', each.function, 'cut_off_' || each.proname);
  end loop;
  for each in select srvname, case umuser when 0 then 'public' else quote_ident(usename) end as role
    from pg_user_mappings where umid is not null loop
    execute format('drop user mapping for %s server %I', each.role, each.srvname);
  end loop;
  for each in select fdwname from pg_foreign_data_wrapper w
    where fdwhandler <> 0 and (is_super or exists (select from pg_foreign_server where srvfdw = w.oid)) loop
    execute format('alter foreign data wrapper %I no handler', each.fdwname);
  end loop;
end $$`;

/** In the rehearsal's own database. @throws {Failure} exit 3 where its role may not. */
export async function cutOff(psql: Psql, { next }: Guard): Promise<void> {
  await psql.execute(cutOffScript).catch((error: SqlError) => {
    const why = `its connections to other servers (CREATE SERVER, dblink) cannot be taken away: ${error.why}`;
    throw new Failure("Cannot rehearse beside the live database", why, [next], {
      ...{ exitCode: exitCodes.saidNo, cause: error },
      read: "docs/rehearse.md",
    });
  });
}

/** By SQLSTATE, what Postgres says then. */
const cutOffErrors: Readonly<Record<string, RegExp>> = {
  "55000": / has no handler$/,
  "42704": /^user mapping not found/,
  "42883": /^function (?:[\w"]+\.)?(?:dblink|http|aws_)\w*\(.* does not exist$/,
};

/** @returns what to say where it is only that which keeps the file from being applied. */
export function whyCutOff({ code, why }: SqlError, at: string): Failure | undefined {
  if (!cutOffErrors[code]?.test(why)) return undefined;
  return new Failure(
    `Cannot rehearse ${at}`,
    "it uses another server, and no rehearsal reaches one",
    ["put what is about the other server into a file of its own, and apply that without a rehearsal"],
    { exitCode: exitCodes.saidNo, read: "docs/rehearse.md" },
  );
}
