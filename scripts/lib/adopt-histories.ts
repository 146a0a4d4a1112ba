// Reads from a database which of its tables are histories of migrations. Only ever reads.
import { companionOf, nameOf, recogniseUsual, type Table } from "./adopt-detect.ts";
import type { Recorded } from "./migration-record.ts";
import { type Psql, quoteLiteral } from "./psql.ts";

/** Where the kit remembers which histories it has taken over: also those that no shape tells. */
export const createAdopted = `create table if not exists dbops.adopted_histories (
  history text primary key,
  tool text not null,
  adopted_at timestamptz not null default now()
)`;

/** Those with at most 15 columns: a history has ten at most. */
export async function readTables(psql: Psql): Promise<Table[]> {
  return await psql.rows<Table>(
    `select n.nspname as schema, c.relname as name, jsonb_object_agg(a.attname, pg_catalog.format_type(a.atttypid, null)) as columns
     from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
     join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
     where c.relkind in ('r', 'p') and n.nspname !~ '^pg_' and n.nspname not in ('information_schema', 'dbops')
     group by n.nspname, c.relname having count(*) <= 15 order by 1, 2`,
  );
}

export type Adopted = {
  /** "schema.table" */
  history: string;
  tool: string;
  /** Those that were written down as applied, as they were. */
  files: Recorded[];
};

/** Those that have been adopted, the last one first. */
export async function readAdopted(psql: Psql): Promise<Adopted[]> {
  const [there] = await psql.rows<{ exists: boolean }>(
    "select to_regclass('dbops.adopted_histories') is not null as exists",
  );
  if (!there!.exists) return [];
  return await psql.rows<Adopted>(
    // One transaction has written both, and so they have the same time.
    `select a.history, a.tool, coalesce((select jsonb_agg(jsonb_build_object('version', m.version, 'file', m.file, 'sha256', m.sha256) order by m.version)
       from dbops.migration_files m where m.recorded_at = a.adopted_at), '[]') as files
     from dbops.adopted_histories a order by a.adopted_at desc, a.history`,
  );
}

type History = Pick<Adopted, "history" | "tool">;

/**
 * What stays out of comparisons, as "schema.table": these histories, and what lies beside them. Nothing that an app may have made itself: a
 * table is not left out because of its columns. Pure.
 */
export const leftOut = (histories: readonly History[]): string[] =>
  unique(histories.flatMap(({ history, tool }) => [history, companionOf(history, tool) ?? history]));

/** Histories of tools that nobody has taken over, called as they usually are: left by a tool that was there before. Pure. */
export const othersAmong = (tables: readonly Table[], histories: readonly string[]): History[] =>
  recogniseUsual(tables)
    .map(({ tool, table }) => ({ history: nameOf(table), tool: tool as string }))
    .filter(({ history, tool }) => tool !== "dbmate" && !histories.includes(history));

const unique = (names: readonly string[]) => [...new Set(names)].sort();

/** With "schema.*" for each of their schemas that holds nothing else in this database: drizzle and Supabase make one for their history. */
export async function withSchemas(psql: Psql, histories: readonly string[]): Promise<string[]> {
  const schemas = unique(histories.map((name) => name.slice(0, name.indexOf("."))));
  if (schemas.every((schema) => schema === "public")) return [...histories];
  const array = (values: readonly string[]) => `array[${values.map(quoteLiteral).join(", ")}]::text[]`;
  const list = array(histories);
  const rows = await psql.rows<{ schema: string }>(
    `select n.nspname as schema from pg_catalog.pg_namespace n
     where n.nspname <> 'public' and n.nspname !~ '^pg_' and n.nspname = any (${array(schemas)})
       and not exists (select from pg_catalog.pg_class c where c.relnamespace = n.oid and c.relkind in ('r', 'p', 'v', 'm', 'f')
         and n.nspname || '.' || c.relname <> all (${list}))
       and not exists (select from pg_catalog.pg_proc p where p.pronamespace = n.oid)
       and not exists (select from pg_catalog.pg_type t where t.typnamespace = n.oid and t.typtype in ('e', 'd', 'r'))
     order by 1`,
  );
  return [...histories, ...rows.map(({ schema }) => `${schema}.*`)];
}
