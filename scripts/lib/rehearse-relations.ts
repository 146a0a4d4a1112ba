// What there is in a database before and after a file: its tables, how large they are, which file each is in, and how many rows were
// written. And what the session that is at it holds and has done so far, which nobody else can see.
import type { Psql } from "./psql.ts";
import type { Mode } from "./rehearse-locks.ts";

export type Relation = {
  oid: number;
  /** "public.accounts" */
  name: string;
  /** pg_class.relkind: r is a table with rows, i an index. */
  kind: string;
  /** Of an index: of its table. */
  table: number | null;
  /** Another one means that all of it was written anew, or thrown away; 0 where there is none. */
  file: number;
  /** Of its rows alone. */
  heapBytes: number;
  /** With its indexes and its TOAST table; of a table alone. */
  bytes: number;
} & Counts;

/** Since the statistics began; what counts is by how much they grow. */
export type Counts = { inserted: number; updated: number; deleted: number };

export type Relations = { databaseBytes: number; byOid: ReadonlyMap<number, Relation> };

/** What is committed, and what the present transaction has done: the session tells the statistics of it only afterwards. */
const counts = ["inserted", "updated", "deleted"]
  .map(
    (what) =>
      `coalesce(pg_stat_get_tuples_${what}(c.oid), 0) + coalesce(pg_stat_get_xact_tuples_${what}(c.oid), 0) as ${what}`,
  )
  .join(", ");

const sizeSeconds = 600;

/** Everything but Postgres' own. */
export async function readRelations(psql: Psql): Promise<Relations> {
  const rows = await psql.rows<Relation & { databaseBytes: number }>(
    `select c.oid::bigint as oid, n.nspname || '.' || c.relname as name, c.relkind as kind, i.indrelid::bigint as "table",
       c.relfilenode::bigint as file, case when c.relkind = 'r' then pg_relation_size(c.oid) else 0 end as "heapBytes",
       case when c.relkind in ('r', 'm') then pg_total_relation_size(c.oid) else 0 end as bytes, ${counts}
     from pg_class c join pg_namespace n on n.oid = c.relnamespace left join pg_index i on i.indexrelid = c.oid
     where c.relkind in ('r', 'p', 'm', 'v', 'f', 'S', 'i', 'I') and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'`,
    sizeSeconds,
  );
  const [size] = await psql.rows<{ bytes: number }>(
    "select pg_database_size(current_database()) as bytes",
    sizeSeconds,
  );
  return { databaseBytes: size!.bytes, byOid: new Map(rows.map((row) => [row.oid, row])) };
}

export type Locked = { oid: number; modes: Mode[] } & Pick<Relation, "file"> & Counts;

/** What the session itself has locked: everything that it has changed is among it. */
export async function readLocked(psql: Psql): Promise<Locked[]> {
  return await psql.rows<Locked>(
    `select l.oid::bigint as oid, l.modes, coalesce(c.relfilenode::bigint, 0) as file, ${counts}
     from (select relation as oid, jsonb_agg(distinct mode) as modes from pg_locks
       where pid = pg_backend_pid() and locktype = 'relation' and granted
         and database = (select oid from pg_database where datname = current_database()) group by 1) l
     left join pg_class c on c.oid = l.oid`,
  );
}
