// What `drift` wants to know of a live database, all of one moment: the history of its migrations as it is, what the kit has noted, who
// owns it, and what Postgres itself says is not in order. Only reads.
import { leftOut } from "./adopt-histories.ts";
import type { Settings } from "./config.ts";
import { isNumber } from "./drift-history.ts";
import { type Psql, quoteIdentifier, quoteLiteral } from "./psql.ts";

export type Column = {
  name: string;
  type: string;
  /** NOT NULL, and nothing fills it: whoever inserts a version alone is refused. */
  isRequired: boolean;
};

/** The table schema_migrations, whoever made it. */
export type History = {
  /** None: there is no such table. */
  columns: Column[];
  /** Whether the version alone is its primary key, or unique. */
  isKeyed: boolean;
  /** Whichever column it is of. */
  hasPrimaryKey: boolean;
  /** Rails keeps its notes beside it, and nobody has adopted it. */
  isOfRails?: boolean;
  /** As text, in dbmate's order; the same one several times where nothing forbids it. */
  rows: { version: string; name: string | null }[];
};

/** Named as in catalog-objects.ts; the path is the same without quotes, name by name. */
type Named = { name: string; path: string[]; table: string; definition: string };

export type InvalidIndex = Named & {
  /** One over several, on a table with partitions. */
  isPartitioned: boolean;
  /** It is a part of such a one. */
  isAttached: boolean;
  /** It belongs to a constraint: "p", "u" or "x" as in pg_constraint. */
  constraintType: string | null;
};

/** `table` is what it is a constraint of, also where that is a domain. */
export type NotValidConstraint = Named & {
  constraint: string;
  /** Where the catalog tells of it: by itself, or with its column (NOT NULL, from Postgres 18 on) or its domain. */
  object: { kind: "constraint" | "column" | "domain"; name: string };
};

type Privileges = { table: string; exists: boolean; missing: string[] };

export type Live = {
  versionNumber: number;
  user: string;
  /** Of the history, and so of all that migrations make. */
  owner: string;
  roles: string[];
  history: History;
  recorded: Record<string, { file: string; sha256: string }>;
  /** The kit has noted something, which this role may not read. */
  isRecordHidden?: boolean;
  /** Versions of migrations that take back what was done here by hand: a repair has written them. */
  repairs: string[];
  /** Names of the tables in the schema dbops that earlier repairs have kept of the history. */
  copies: string[];
  /** Tables that no migration makes, as "schema.table": dbmate's own where it is not the usual one, and the histories of other tools that `drift adopt` has taken over. */
  histories: string[];
  invalidIndexes: InvalidIndex[];
  notValid: NotValidConstraint[];
  privileges: Privileges[];
};

/** Where a history says what a version was called. */
const nameColumns = ["name", "filename", "file", "file_name", "migration", "migration_name", "description", "title"];

/** Two queries. A transaction, for one moment, is up to the caller. */
export async function readLive(psql: Psql, { schema }: Pick<Settings, "schema">): Promise<Live> {
  const [server] = await psql.rows<Server>(serverQuery(schema.criticalTables));
  const { columns, isKeyed, hasPrimaryKey, hasRecord, hasRepairs, hasAdopted, hasRails, table, ...rest } = server!;
  const name = columns.find((column) => nameColumns.includes(column.name))?.name;
  const rows = await psql.rows<Row>(
    [
      ...(columns.some((column) => column.name === "version")
        ? [
            `select 'history' as source, version::text, ${name ? `${quoteIdentifier(name)}::text` : "null"} as file, null as sha256 from schema_migrations`,
          ]
        : []),
      ...(hasRecord ? ["select 'record', version, file, sha256 from dbops.migration_files"] : []),
      ...(hasRepairs ? ["select 'repair', version, null, null from dbops.drift_repairs"] : []),
      ...(hasAdopted ? ["select 'adopted', history, tool, null from dbops.adopted_histories"] : []),
      "select 'none', null, null, null where false",
    ].join("\nunion all "),
  );
  const of = (source: Row["source"]) => rows.filter((row) => row.source === source);
  // What its file was called when it had that number: it may have a time by now.
  const numbered = new Map(
    of("record").flatMap(({ version, file }) => (isNumber(version!) ? [[version, file] as const] : [])),
  );
  const history = of("history").map(({ version, file }) => ({
    version: version!,
    name: file ?? numbered.get(version) ?? null,
  }));
  return {
    ...rest,
    history: {
      columns,
      isKeyed,
      hasPrimaryKey,
      isOfRails: hasRails && !of("adopted").some(({ file }) => file === "rails"),
      rows: history.sort((one, other) => compare(one.version, other.version)),
    },
    repairs: of("repair").map(({ version }) => version!),
    histories: [
      ...(table && table !== "public.schema_migrations" ? [table] : []),
      ...leftOut(of("adopted").map(({ version, file }) => ({ history: version!, tool: file! }))),
    ],
    recorded: Object.fromEntries(
      of("record").map(({ version, file, sha256 }) => [version, { file: file!, sha256: sha256! }]),
    ),
  };
}

type Server = Omit<Live, "history" | "recorded" | "repairs" | "histories"> &
  Omit<History, "rows" | "isOfRails"> & {
    hasRecord: boolean;
    hasRepairs: boolean;
    hasAdopted: boolean;
    hasRails: boolean;
    table: string | null;
  };
type Row = {
  source: "history" | "record" | "repair" | "adopted";
  version: string | null;
  file: string | null;
  sha256: string | null;
};

/** By code units, as dbmate sorts. */
const compare = (one: string, other: string) => (one < other ? -1 : one > other ? 1 : 0);

/** Of the kit's own tables. */
const isReadable = (table: string) => `exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = 'dbops' and c.relname = '${table}' and has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select'))`;

const serverQuery = (criticalTables: Settings["schema"]["criticalTables"]) => `
select current_setting('server_version_num')::int as "versionNumber", current_user as "user",
  coalesce((select pg_get_userbyid(relowner) from pg_class where oid = to_regclass('schema_migrations')), current_user) as owner,
  array(select rolname from pg_roles where rolname !~ '^pg_' order by rolname) as roles,
  (select n.nspname || '.' || c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = to_regclass('schema_migrations')) as "table",
  coalesce((select jsonb_agg(jsonb_build_object('name', attname, 'type', format_type(atttypid, atttypmod),
      'isRequired', attnotnull and not atthasdef and attidentity = '') order by attnum) from pg_attribute where attrelid = to_regclass('schema_migrations') and attnum > 0 and not attisdropped), '[]') as columns,
  exists (select from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
    where i.indrelid = to_regclass('schema_migrations') and i.indisunique and i.indpred is null and i.indnkeyatts = 1 and a.attname = 'version') as "isKeyed",
  exists (select from pg_index where indrelid = to_regclass('schema_migrations') and indisprimary) as "hasPrimaryKey",
  exists (select from pg_class h join pg_class r on r.relnamespace = h.relnamespace where h.oid = to_regclass('schema_migrations') and r.relname = 'ar_internal_metadata'
    and (select count(*) from pg_attribute a where a.attrelid = r.oid and a.attnum > 0 and a.attname in ('key', 'value', 'created_at', 'updated_at')) = 4) as "hasRails",
  ${isReadable("migration_files")} as "hasRecord",
  exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'dbops' and c.relname = 'migration_files')
    and not ${isReadable("migration_files")} as "isRecordHidden",
  array(select c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'dbops' and c.relname ~ '^schema_migrations_') as copies,
  ${isReadable("drift_repairs")} as "hasRepairs",
  ${isReadable("adopted_histories")} as "hasAdopted",
  -- One that is just being made is not valid either, and nothing is wrong with it.
  coalesce((select jsonb_agg(jsonb_build_object('name', format('%I.%I', n.nspname, c.relname), 'path', array[n.nspname, c.relname], 'table', format('%I.%I', tn.nspname, t.relname),
      'definition', pg_get_indexdef(i.indexrelid), 'isPartitioned', c.relkind = 'I',
      'isAttached', exists (select from pg_inherits h where h.inhrelid = c.oid),
      'constraintType', (select contype from pg_constraint k where k.conindid = c.oid and k.contype in ('p', 'u', 'x') limit 1)) order by n.nspname, c.relname)
    from pg_index i join pg_class c on c.oid = i.indexrelid join pg_namespace n on n.oid = c.relnamespace
      join pg_class t on t.oid = i.indrelid join pg_namespace tn on tn.oid = t.relnamespace
    where not i.indisvalid and n.nspname !~ '^pg_' and not exists (
      select from pg_stat_progress_create_index p where p.index_relid = c.oid
        -- Of another user one sees no more than that he is at it, and which tables he holds.
        or p.index_relid is null and exists (select from pg_locks l where l.pid = p.pid and l.relation = i.indrelid))), '[]') as "invalidIndexes",
  coalesce((select jsonb_agg(jsonb_build_object('name', format('%I.%I.%I', n.nspname, t.name, c.conname), 'path', array[n.nspname, t.name, c.conname], 'table', format('%I.%I', n.nspname, t.name),
      'constraint', quote_ident(c.conname), 'definition', pg_get_constraintdef(c.oid), 'object', case
        when c.contypid <> 0 then jsonb_build_object('kind', 'domain', 'name', format('%I.%I', n.nspname, t.name))
        when c.contype = 'n' then jsonb_build_object('kind', 'column', 'name', format('%I.%I.%I', n.nspname, t.name,
          (select attname from pg_attribute a where a.attrelid = c.conrelid and a.attnum = c.conkey[1])))
        else jsonb_build_object('kind', 'constraint', 'name', format('%I.%I.%I', n.nspname, t.name, c.conname)) end)
      order by n.nspname, t.name, c.conname)
    from pg_constraint c join (select 'pg_class'::regclass, oid, relname, relnamespace from pg_class
        union all select 'pg_type'::regclass, oid, typname, typnamespace from pg_type) t (catalog, oid, name, namespace)
      on t.catalog = case when c.contypid = 0 then 'pg_class'::regclass else 'pg_type'::regclass end and t.oid = case when c.contypid = 0 then c.conrelid else c.contypid end
      join pg_namespace n on n.oid = t.namespace
    where not c.convalidated and n.nspname !~ '^pg_'), '[]') as "notValid",
  ${criticalTables.length === 0 ? "'[]'::jsonb" : privilegesQuery(criticalTables)} as privileges`;

function privilegesQuery(tables: Settings["schema"]["criticalTables"]): string {
  const values = tables.map((table) => {
    const { name, privileges } = typeof table === "string" ? { name: table, privileges: ["select"] } : table;
    const quoted = name.split(".").map(quoteIdentifier).join(".");
    return `(${quoteLiteral(name)}, to_regclass(${quoteLiteral(quoted)}), array[${privileges.map(quoteLiteral).join(", ")}]::text[])`;
  });
  return `(select jsonb_agg(jsonb_build_object('table', name, 'exists', id is not null,
      'missing', array(select p from unnest(privileges) p where not has_table_privilege(id, p))) order by name)
    from (values ${values.join(", ")}) t (name, id, privileges))`;
}
