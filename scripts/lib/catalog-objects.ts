// What a database is made of, apart from its rows: every object with a text that is equal where the object is. One query; nothing is
// written. Out of it come a fingerprint, for "the same or not", and the list, for "what is not the same".
import { ownSchema } from "./migration-record.ts";
import { type Psql, quoteLiteral } from "./psql.ts";

export type CatalogObject = {
  /** As people call it: "table", "column", "index", "materialized view". */
  kind: string;
  /** With its schema, and quoted where SQL wants it: "public.accounts.email". */
  name: string;
  /** Of the table, view or type that it belongs to and goes with, or null. */
  parent: string | null;
  definition: string;
};

export type CatalogOptions = {
  /** Tables that keep the history of migrations, as "schema.table": they differ by their nature. */
  histories?: readonly string[];
};

/** To be counted up with every change of the query below: what was kept of an older one is not compared with it. */
export const catalogVersion = 1;

/** sha256 over all objects, hexadecimal: equal where every object is. The server counts it, and sends 64 letters. */
export async function fingerprint(psql: Psql, options: CatalogOptions = {}): Promise<string> {
  const objects = "string_agg(concat_ws(e'\\x1f', kind, name, definition), e'\\x1e' order by kind, name, definition)";
  const [row] = await inOwnWords(psql, () =>
    psql.rows<{ sum: string }>(
      `${objectsQuery(options)} select encode(sha256(convert_to(coalesce(${objects}, ''), 'UTF8')), 'hex') as sum from objects`,
      lookSeconds,
    ),
  );
  return row!.sum;
}

/** By kind and name. */
export async function readObjects(psql: Psql, options: CatalogOptions = {}): Promise<CatalogObject[]> {
  return await inOwnWords(psql, () =>
    psql.rows<CatalogObject>(
      `${objectsQuery(options)} select * from objects order by kind, name, definition`,
      lookSeconds,
    ),
  );
}

const lookSeconds = 120;

/** Postgres leaves out of its texts what the search path makes unnecessary: with an empty one all of them are whole. */
async function inOwnWords<T>(psql: Psql, work: () => Promise<T>): Promise<T> {
  await psql.execute("begin transaction isolation level repeatable read read only; set local search_path = ''");
  try {
    return await work();
  } finally {
    await psql.execute("rollback").catch(() => {});
  }
}

/**
 * Left out: what belongs to Postgres, to an extension or to this kit; statistics; the order of columns (a hand-made column that is
 * repaired would differ for ever); NOT NULL constraints by name, which Postgres 18 has (the column says it).
 */
const objectsQuery = ({ histories = [] }: CatalogOptions) => `with
extension_members as materialized (select classid, objid from pg_catalog.pg_depend where deptype = 'e'),
schemas as materialized (
  select oid, quote_ident(nspname) as name, nspname, nspowner, nspacl from pg_catalog.pg_namespace
  where nspname !~ '^pg_' and nspname not in ('information_schema', ${quoteLiteral(ownSchema)})
    and (${"'pg_namespace'::pg_catalog.regclass"}, oid) not in (select classid, objid from extension_members)
),
relations as materialized (
  select c.*, s.name || '.' || quote_ident(c.relname) as name from pg_catalog.pg_class c join schemas s on s.oid = c.relnamespace
  where c.relpersistence <> 't' and ('pg_class'::pg_catalog.regclass, c.oid) not in (select classid, objid from extension_members)
    and s.nspname || '.' || c.relname <> all (${textArray(["public.schema_migrations", ...histories])})
    -- A history's sequence and indexes go with it.
    and not exists (
      select from pg_catalog.pg_depend d join pg_catalog.pg_class t on t.oid = d.refobjid
      join pg_catalog.pg_namespace n on n.oid = t.relnamespace
      where d.classid = 'pg_class'::pg_catalog.regclass and d.objid = c.oid and d.refclassid = 'pg_class'::pg_catalog.regclass
        and d.deptype in ('a', 'i') and n.nspname || '.' || t.relname = any (${textArray(["public.schema_migrations", ...histories])})
    )
),
routines as materialized (
  select p.*, s.name || '.' || quote_ident(p.proname) || '(' || pg_catalog.pg_get_function_identity_arguments(p.oid) || ')' as name
  from pg_catalog.pg_proc p join schemas s on s.oid = p.pronamespace
  where ('pg_proc'::pg_catalog.regclass, p.oid) not in (select classid, objid from extension_members)
),
types as materialized (
  select t.*, s.name || '.' || quote_ident(t.typname) as name from pg_catalog.pg_type t join schemas s on s.oid = t.typnamespace
  where t.typtype in ('e', 'd', 'r', 'c') and ('pg_type'::pg_catalog.regclass, t.oid) not in (select classid, objid from extension_members)
    and (t.typrelid = 0 or exists (select from pg_catalog.pg_class c where c.oid = t.typrelid and c.relkind = 'c'))
),
relation_kinds (relkind, kind) as (values ('r'::"char", 'table'), ('p', 'table'), ('v', 'view'), ('m', 'materialized view'), ('f', 'foreign table'), ('S', 'sequence')),
grants as (
  -- Those that differ from what the owner has by himself.
  select kind, name, parent, string_agg(grantee || ': ' || privileges, '; ' order by grantee) as definition from (
    select o.kind, o.name, o.parent, case when a.grantee = 0 then 'PUBLIC' else pg_catalog.pg_get_userbyid(a.grantee)::text end as grantee,
      string_agg(a.privilege_type || case when a.is_grantable then ' with grant option' else '' end, ', ' order by a.privilege_type) as privileges
    from (
      select 'grant' as kind, name, null as parent, relacl as acl, case relkind when 'S' then 's' else 'r' end::"char" as type, relowner as owner from relations where relkind in ('r', 'p', 'v', 'm', 'f', 'S')
      union all select 'grant', r.name || '.' || quote_ident(a.attname), r.name, a.attacl, 'c', r.relowner from relations r join pg_catalog.pg_attribute a on a.attrelid = r.oid where a.attacl is not null and not a.attisdropped
      union all select 'grant', name, null, proacl, 'f', proowner from routines
      union all select 'grant', name, null, typacl, 'T', typowner from types
      union all select 'grant', 'schema ' || name, null, nspacl, 'n', nspowner from schemas
    ) o (kind, name, parent, acl, type, owner), pg_catalog.aclexplode(o.acl) a
    where o.acl is not null and o.acl is distinct from pg_catalog.acldefault(o.type, o.owner)
    group by 1, 2, 3, a.grantee
  ) g group by kind, name, parent
),
objects (kind, name, parent, definition) as (
  select 'schema', s.name, null, 'owner ' || pg_catalog.pg_get_userbyid(s.nspowner) from schemas s
  union all
  select 'extension', quote_ident(e.extname), null, 'in schema ' || quote_ident(n.nspname)
  from pg_catalog.pg_extension e join pg_catalog.pg_namespace n on n.oid = e.extnamespace
  union all
  select k.kind, r.name, null, concat_ws(' ',
    'owner ' || pg_catalog.pg_get_userbyid(r.relowner),
    case when r.relpersistence = 'u' then 'unlogged' end,
    'partitioned by ' || pg_catalog.pg_get_partkeydef(r.oid),
    (select 'of ' || string_agg(i.inhparent::pg_catalog.regclass::text, ', ' order by i.inhseqno) from pg_catalog.pg_inherits i where i.inhrelid = r.oid),
    pg_catalog.pg_get_expr(r.relpartbound, r.oid),
    case when r.relrowsecurity then 'row level security' end,
    case when r.relforcerowsecurity then 'forced' end,
    case when r.relkind in ('r', 'p') and r.relreplident <> 'd' then 'replica identity ' || r.relreplident end,
    'with (' || pg_catalog.array_to_string(r.reloptions, ', ') || ')',
    (select 'server ' || quote_ident(s.srvname) || ' ' || coalesce(f.ftoptions::text, '') from pg_catalog.pg_foreign_table f join pg_catalog.pg_foreign_server s on s.oid = f.ftserver where f.ftrelid = r.oid),
    case when r.relkind in ('v', 'm') then 'as ' || pg_catalog.pg_get_viewdef(r.oid) end,
    (select concat_ws(' ', pg_catalog.format_type(q.seqtypid, null), 'start', q.seqstart, 'increment', q.seqincrement, 'from', q.seqmin, 'to', q.seqmax, 'cache', q.seqcache, case when q.seqcycle then 'cycle' end)
      from pg_catalog.pg_sequence q where q.seqrelid = r.oid),
    (select 'owned by ' || d.refobjid::pg_catalog.regclass::text || '.' || quote_ident(a.attname) from pg_catalog.pg_depend d join pg_catalog.pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
      where r.relkind = 'S' and d.classid = 'pg_class'::pg_catalog.regclass and d.objid = r.oid and d.deptype in ('a', 'i') limit 1))
  from relations r join relation_kinds k using (relkind)
  union all
  select 'column', r.name || '.' || quote_ident(a.attname), r.name, concat_ws(' ',
    pg_catalog.format_type(a.atttypid, a.atttypmod),
    case when a.attcollation <> t.typcollation then 'collate ' || a.attcollation::pg_catalog.regcollation::text end,
    case when a.attnotnull then 'not null' end,
    case when a.attidentity <> '' then 'generated ' || case a.attidentity when 'a' then 'always' else 'by default' end || ' as identity' end,
    case when a.attgenerated = '' then 'default ' else 'generated ' || case a.attgenerated when 's' then 'stored' else 'virtual' end || ' as ' end || pg_catalog.pg_get_expr(d.adbin, d.adrelid),
    case when a.attstorage <> t.typstorage then 'storage ' || a.attstorage end,
    case when a.attcompression <> '' then 'compression ' || a.attcompression end)
  from relations r join pg_catalog.pg_attribute a on a.attrelid = r.oid join pg_catalog.pg_type t on t.oid = a.atttypid
  left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
  where r.relkind in ('r', 'p', 'f') and a.attnum > 0 and not a.attisdropped
  union all
  select 'constraint', r.name || '.' || quote_ident(c.conname), r.name, pg_catalog.pg_get_constraintdef(c.oid)
  from pg_catalog.pg_constraint c join relations r on r.oid = c.conrelid where c.contype in ('c', 'f', 'p', 'u', 'x')
  union all
  select 'index', i.name, r.name, pg_catalog.pg_get_indexdef(x.indexrelid) || case when x.indisvalid then '' else ' invalid' end
  from pg_catalog.pg_index x join relations i on i.oid = x.indexrelid join relations r on r.oid = x.indrelid
  where not exists (select from pg_catalog.pg_constraint c where c.conindid = x.indexrelid and c.contype in ('p', 'u', 'x'))
  union all
  select 'trigger', r.name || '.' || quote_ident(t.tgname), r.name, concat_ws(' ', pg_catalog.pg_get_triggerdef(t.oid), case t.tgenabled when 'O' then null when 'D' then 'disabled' else 'enabled ' || t.tgenabled end)
  from pg_catalog.pg_trigger t join relations r on r.oid = t.tgrelid where not t.tgisinternal and t.tgparentid = 0
  union all
  select 'rule', r.name || '.' || quote_ident(u.rulename), r.name, pg_catalog.pg_get_ruledef(u.oid)
  from pg_catalog.pg_rewrite u join relations r on r.oid = u.ev_class where u.rulename <> '_RETURN'
  union all
  select 'policy', r.name || '.' || quote_ident(p.polname), r.name, concat_ws(' ', case when p.polpermissive then 'permissive' else 'restrictive' end,
    case p.polcmd when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update' when 'd' then 'delete' else 'all' end,
    'to', (select string_agg(case when o = 0 then 'public' else pg_catalog.pg_get_userbyid(o)::text end, ', ' order by 1) from unnest(p.polroles) o),
    'using (' || pg_catalog.pg_get_expr(p.polqual, p.polrelid) || ')', 'with check (' || pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid) || ')')
  from pg_catalog.pg_policy p join relations r on r.oid = p.polrelid
  union all
  select 'statistics', s.name || '.' || quote_ident(e.stxname), r.name, pg_catalog.pg_get_statisticsobjdef(e.oid)
  from pg_catalog.pg_statistic_ext e join schemas s on s.oid = e.stxnamespace join relations r on r.oid = e.stxrelid
  union all
  select case p.prokind when 'p' then 'procedure' when 'a' then 'aggregate' else 'function' end, p.name, null, concat_ws(' ',
    'owner ' || pg_catalog.pg_get_userbyid(p.proowner),
    case when p.prokind <> 'a' then pg_catalog.pg_get_functiondef(p.oid) else (
      select concat_ws(' ', 'step', g.aggtransfn, 'type', pg_catalog.format_type(g.aggtranstype, null), 'final', g.aggfinalfn, 'start', g.agginitval, 'combine', g.aggcombinefn, p.proparallel)
      from pg_catalog.pg_aggregate g where g.aggfnoid = p.oid) end)
  from routines p
  union all
  select case t.typtype when 'e' then 'enum' when 'd' then 'domain' when 'r' then 'range' else 'type' end, t.name, null, concat_ws(' ',
    'owner ' || pg_catalog.pg_get_userbyid(t.typowner),
    (select 'of ' || string_agg(quote_literal(e.enumlabel), ', ' order by e.enumsortorder) from pg_catalog.pg_enum e where e.enumtypid = t.oid),
    case when t.typtype = 'd' then pg_catalog.format_type(t.typbasetype, t.typtypmod) end,
    case when t.typnotnull then 'not null' end,
    'default ' || t.typdefault,
    (select string_agg(quote_ident(c.conname) || ' ' || pg_catalog.pg_get_constraintdef(c.oid), ' ' order by c.conname) from pg_catalog.pg_constraint c where c.contypid = t.oid and c.contype = 'c'),
    (select 'of ' || pg_catalog.format_type(g.rngsubtype, null) from pg_catalog.pg_range g where g.rngtypid = t.oid),
    (select string_agg(quote_ident(a.attname) || ' ' || pg_catalog.format_type(a.atttypid, a.atttypmod), ', ' order by a.attnum) from pg_catalog.pg_attribute a where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped))
  from types t
  union all
  select 'event trigger', quote_ident(e.evtname), null, concat_ws(' ', e.evtevent, e.evtfoid::pg_catalog.regprocedure, e.evtenabled, e.evttags::text)
  from pg_catalog.pg_event_trigger e where ('pg_event_trigger'::pg_catalog.regclass, e.oid) not in (select classid, objid from extension_members)
  union all
  select 'publication', quote_ident(p.pubname), null, concat_ws(' ', case when p.puballtables then 'all tables' end,
    (select string_agg(pr.prrelid::pg_catalog.regclass::text, ', ' order by 1) from pg_catalog.pg_publication_rel pr where pr.prpubid = p.oid),
    p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate)
  from pg_catalog.pg_publication p
  union all
  -- Rare ones: that they are there.
  select i.type, i.identity, null, '' from (
    select 'pg_operator'::pg_catalog.regclass, o.oid from pg_catalog.pg_operator o
    union all select 'pg_opclass'::pg_catalog.regclass, o.oid from pg_catalog.pg_opclass o
    union all select 'pg_cast'::pg_catalog.regclass, o.oid from pg_catalog.pg_cast o
    union all select 'pg_collation'::pg_catalog.regclass, o.oid from pg_catalog.pg_collation o
    union all select 'pg_conversion'::pg_catalog.regclass, o.oid from pg_catalog.pg_conversion o
    union all select 'pg_ts_config'::pg_catalog.regclass, o.oid from pg_catalog.pg_ts_config o
    union all select 'pg_ts_dict'::pg_catalog.regclass, o.oid from pg_catalog.pg_ts_dict o
    union all select 'pg_language'::pg_catalog.regclass, o.oid from pg_catalog.pg_language o
    union all select 'pg_foreign_data_wrapper'::pg_catalog.regclass, o.oid from pg_catalog.pg_foreign_data_wrapper o
    union all select 'pg_foreign_server'::pg_catalog.regclass, o.oid from pg_catalog.pg_foreign_server o
  ) rare (class, oid), pg_catalog.pg_identify_object(rare.class, rare.oid, 0) i
  where rare.oid >= 16384 and (rare.class, rare.oid) not in (select classid, objid from extension_members)
  union all
  select kind, name, parent, definition from grants
  union all
  select 'default privileges', concat_ws(' ', 'of ' || pg_catalog.pg_get_userbyid(d.defaclrole), 'in ' || s.name, 'on', d.defaclobjtype), null,
    (select string_agg(case when a.grantee = 0 then 'PUBLIC' else pg_catalog.pg_get_userbyid(a.grantee)::text end || ' ' || a.privilege_type, ', ' order by 1) from pg_catalog.aclexplode(d.defaclacl) a)
  from pg_catalog.pg_default_acl d left join schemas s on s.oid = d.defaclnamespace
  union all
  select 'comment', i.type || ' ' || i.identity, null, d.description
  from pg_catalog.pg_description d, pg_catalog.pg_identify_object(d.classoid, d.objoid, d.objsubid) i
  where d.objoid >= 16384 and (d.classoid, d.objoid) not in (select classid, objid from extension_members)
    and d.classoid <> 'pg_extension'::pg_catalog.regclass
    and (d.classoid <> 'pg_namespace'::pg_catalog.regclass or d.objoid in (select oid from schemas))
    and (i.schema is null or i.schema in (select nspname from schemas))
)`;

const textArray = (values: readonly string[]) => `array[${values.map(quoteLiteral).join(", ")}]::text[]`;
