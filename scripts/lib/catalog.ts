// What a database is, apart from its rows: the facts that a backup keeps about it, and the exact number of rows of each table.
import type { Manifest } from "./manifest.ts";
import { type Psql, quoteIdentifier, quoteLiteral } from "./psql.ts";

export type Table = { schema: string; name: string };

export type Facts = Pick<
  Manifest,
  "server" | "databaseBytes" | "partitioned" | "largeObjects" | "migrations" | "extensions" | "roles" | "settings"
> & {
  /** The server's clock, ISO 8601 UTC. */
  at: string;
  isSuperuser: boolean;
};

export const qualified = ({ schema, name }: Table) => `${quoteIdentifier(schema)}.${quoteIdentifier(name)}`;

/** As a manifest names it: exact, nothing quoted. */
export const plainName = ({ schema, name }: Table) => `${schema}.${name}`;

/**
 * Every table that holds rows which a dump carries, partitions each for itself. Not those of an extension: their rows come with
 * `CREATE EXTENSION`, unless it says otherwise.
 */
export async function listTables(psql: Psql): Promise<Table[]> {
  return await psql.rows<Table>(`select n.nspname as schema, c.relname as name
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind = 'r' and c.relpersistence <> 't'
      and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
      and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
    order by 1, 2`);
}

/** One look at everything, in the transaction that the session is in. */
export async function readFacts(psql: Psql): Promise<Facts> {
  const [facts] = await psql.rows<Facts>(`select
    to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as at,
    (select rolsuper from pg_roles where rolname = current_user) as "isSuperuser",
    pg_database_size(d.oid) as "databaseBytes",
    (select coalesce(jsonb_agg(n.nspname || '.' || c.relname order by n.nspname, c.relname), '[]') from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where c.relkind = 'p') as partitioned,
    (select count(*) from pg_largeobject_metadata) as "largeObjects",
    jsonb_build_object(
      'version', current_setting('server_version'), 'versionNumber', current_setting('server_version_num')::int,
      'encoding', pg_encoding_to_char(d.encoding), 'collate', d.datcollate, 'ctype', d.datctype,
      'provider', d.datlocprovider, 'locale', coalesce(to_jsonb(d)->>'datlocale', to_jsonb(d)->>'daticulocale')) as server,
    '[]'::jsonb as migrations,
    (select coalesce(jsonb_object_agg(extname, extversion), '{}') from pg_extension) as extensions,
    (select coalesce(jsonb_agg(distinct r.rolname order by r.rolname), '[]') from pg_shdepend s join pg_roles r on r.oid = s.refobjid
      where s.refclassid = 'pg_authid'::regclass and (s.dbid = d.oid or s.classid = 'pg_database'::regclass and s.objid = d.oid)) as roles,
    jsonb_build_object(
      'owner', pg_get_userbyid(d.datdba), 'connectionLimit', d.datconnlimit, 'comment', shobj_description(d.oid, 'pg_database'),
      'grants', coalesce((select jsonb_agg(format('%s %s %s', case when a.grantee = 0 then 'PUBLIC' else quote_ident(pg_get_userbyid(a.grantee)) end,
        a.privilege_type, a.is_grantable) order by 1) from aclexplode(d.datacl) a), '[]'),
      'parameters', coalesce((select jsonb_agg(jsonb_build_object('role', r.rolname, 'parameter', split_part(p, '=', 1), 'value', substr(p, strpos(p, '=') + 1)) order by r.rolname, p)
        from pg_db_role_setting s left join pg_roles r on r.oid = s.setrole, unnest(s.setconfig) p where s.setdatabase = d.oid), '[]')) as settings
    from pg_database d where d.datname = current_database()`);
  return { ...facts!, migrations: await appliedMigrations(psql) };
}

/** dbmate's own table, wherever the search path has it. */
export async function appliedMigrations(psql: Psql): Promise<string[]> {
  const [found] = await psql.rows<{ is: boolean }>(`select to_regclass('schema_migrations') is not null as is`);
  if (!found?.is) return [];
  const rows = await psql.rows<{ version: string }>("select version::text from schema_migrations order by 1");
  return rows.map(({ version }) => version);
}

/** Many at a time in one query: a round trip to a server takes longer than counting a small table. */
const tablesAtOnce = 200;

/** Exact, in the snapshot that the session has. @returns `{"public.accounts": 12}`. */
export async function countRows(psql: Psql, tables: readonly Table[]): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (let start = 0; start < tables.length; start += tablesAtOnce) {
    const some = tables.slice(start, start + tablesAtOnce);
    const each = some.map(
      (table) => `select ${quoteLiteral(plainName(table))} as name, count(*) as rows from ${qualified(table)}`,
    );
    const rows = await psql.rows<{ name: string; rows: number }>(each.join(" union all "), countSeconds);
    for (const row of rows) counts[row.name] = row.rows;
  }
  return counts;
}

/** A table of a terabyte is read once. */
const countSeconds = 6 * 3600;
