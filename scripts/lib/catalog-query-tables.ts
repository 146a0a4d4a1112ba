// Part of catalog-query.ts: tables, views and sequences, and what belongs to them.
import type { QueryWords } from "./catalog-query.ts";

/** What differs from a sequence that was made without a word. */
const sequence = `case when q.seqstart <> 1 then 'start ' || q.seqstart end, case when q.seqincrement <> 1 then 'increment ' || q.seqincrement end,
    case when q.seqmin <> 1 then 'from ' || q.seqmin end,
    case when q.seqmax <> case q.seqtypid when 'int8'::regtype then 9223372036854775807 when 'int4'::regtype then 2147483647 else 32767 end then 'to ' || q.seqmax end,
    case when q.seqcache <> 1 then 'cache ' || q.seqcache end, case when q.seqcycle then 'cycle' end`;

export const tableSelects = ({ owner, roleName }: QueryWords): string[] => [
  `select 'pg_class'::regclass, r.oid, k.kind, r.name, null, concat_ws(' ', ${owner("r.relowner")},
    case when r.relpersistence = 'u' then 'unlogged' end,
    'partitioned by ' || case when r.relkind = 'p' then pg_get_partkeydef(r.oid) end,
    'of type ' || nullif(r.reloftype, 0)::regtype,
    'of ' || i.parents,
    pg_get_expr(r.relpartbound, r.oid),
    case when r.relrowsecurity then 'row level security' end,
    case when r.relforcerowsecurity then 'forced' end,
    case r.relreplident when 'n' then 'replica identity nothing' when 'f' then 'replica identity full'
      when 'i' then (select 'replica identity ' || x.indexrelid::regclass from pg_index x where x.indrelid = r.oid and x.indisreplident) end,
    'clustered on ' || x.indexrelid::regclass,
    'using ' || m.amname,
    'with (' || array_to_string(r.reloptions, ', ') || ')',
    'toast with (' || array_to_string(t.reloptions, ', ') || ')',
    case when r.relkind = 'f' then (select concat_ws(' ', 'server ' || quote_ident(s.srvname), 'options ' || f.ftoptions::text)
      from pg_foreign_table f join pg_foreign_server s on s.oid = f.ftserver where f.ftrelid = r.oid) end,
    case when r.relkind in ('v', 'm') then 'as ' || pg_get_viewdef(r.oid) end,
    case when r.relkind = 'v' then (select string_agg('default of ' || quote_ident(a.attname) || ' ' || pg_get_expr(d.adbin, d.adrelid), ', ' order by a.attnum)
      from pg_attrdef d join pg_attribute a on a.attrelid = d.adrelid and a.attnum = d.adnum where d.adrelid = r.oid) end)
  from relations r join (values ('r'::"char", 'table'), ('p', 'table'), ('v', 'view'), ('m', 'materialized view'), ('f', 'foreign table'))
    k (relkind, kind) using (relkind)
  left join (select inhrelid, string_agg(inhparent::regclass::text, ', ' order by inhseqno) from pg_inherits group by inhrelid) i (oid, parents) on i.oid = r.oid
  left join pg_index x on x.indrelid = r.oid and x.indisclustered
  left join pg_am m on m.oid = r.relam and m.amname <> 'heap'
  left join pg_class t on t.oid = r.reltoastrelid and t.reloptions is not null`,

  // That of an identity is part of its column.
  `select 'pg_class'::regclass, r.oid, 'sequence', r.name, t.name || '.' || quote_ident(a.attname), concat_ws(' ', ${owner("r.relowner")},
    format_type(q.seqtypid, null), ${sequence}, case when r.relpersistence = 'u' then 'unlogged' end,
    'owned by ' || t.name || '.' || quote_ident(a.attname))
  from relations r join pg_sequence q on q.seqrelid = r.oid
  left join owned o on o.sequence = r.oid left join relations t on t.oid = o.relation
  left join pg_attribute a on a.attrelid = o.relation and a.attnum = o.number
  where o.is_identity is not true`,

  `select 'pg_class'::regclass, null, 'column', c.name, c.relation, concat_ws(' ', c.definition, c.identity) from columns c where c.inherited_from is null`,

  // Of a partition only those that are not as its parent has them.
  `select 'pg_class'::regclass, null, 'column', c.name, c.relation, c.definition
  from columns c join columns p on p.attrelid = c.inherited_from and p.attname = c.attname where p.definition <> c.definition`,

  `select 'pg_constraint'::regclass, c.oid, 'constraint', r.name || '.' || quote_ident(c.conname), r.name, concat_ws(' ',
    pg_get_constraintdef(c.oid), 'with (' || array_to_string(i.reloptions, ', ') || ')',
    case when c.contype = 'f' and exists (select from pg_trigger t where t.tgconstraint = c.oid and t.tgenabled = 'D') then 'disabled' end)
  from pg_constraint c join relations r on r.oid = c.conrelid
  left join pg_class i on i.oid = c.conindid and c.contype in ('p', 'u', 'x') and i.reloptions is not null
  -- Those that a partition or a child has from its parent come and go with the parent's.
  where c.contype in ('c', 'f', 'p', 'u', 'x') and c.conparentid = 0 and (c.conislocal or c.coninhcount = 0)`,

  `select 'pg_class'::regclass, i.oid, 'index', i.name, r.name, concat_ws(' ', pg_get_indexdef(i.oid), case when not x.indisvalid then 'invalid' end)
  from pg_index x join relations i on i.oid = x.indexrelid join relations r on r.oid = x.indrelid
  where not i.relispartition and not exists (select from pg_constraint c where c.conindid = i.oid and c.contype in ('p', 'u', 'x'))`,

  `select 'pg_trigger'::regclass, t.oid, 'trigger', r.name || '.' || quote_ident(t.tgname), r.name, concat_ws(' ', pg_get_triggerdef(t.oid),
    case t.tgenabled when 'D' then 'disabled' when 'R' then 'enabled on replicas' when 'A' then 'enabled always' end)
  from pg_trigger t join relations r on r.oid = t.tgrelid
  -- That of a partition comes and goes with its parent's, which may be on where it is off. Before Postgres 15 it is an internal one.
  left join pg_trigger p on p.oid = t.tgparentid
  where case when t.tgparentid = 0 then not t.tgisinternal
    else p.tgenabled <> t.tgenabled and not exists (select from pg_constraint c where c.oid = t.tgconstraint and c.contype = 'f') end`,

  `select 'pg_rewrite'::regclass, u.oid, 'rule', r.name || '.' || quote_ident(u.rulename), r.name, concat_ws(' ', pg_get_ruledef(u.oid),
    case u.ev_enabled when 'D' then 'disabled' when 'R' then 'enabled on replicas' when 'A' then 'enabled always' end)
  from pg_rewrite u join relations r on r.oid = u.ev_class where u.rulename <> '_RETURN'`,

  `select 'pg_policy'::regclass, p.oid, 'policy', r.name || '.' || quote_ident(p.polname), r.name, concat_ws(' ',
    case when p.polpermissive then 'permissive' else 'restrictive' end, 'for',
    case p.polcmd when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update' when 'd' then 'delete' else 'all' end,
    'to', (select string_agg(name, ', ' order by name collate "C") from (select case when o = 0 then 'public' else ${roleName("o")} end from unnest(p.polroles) o) of_it (name)),
    'using (' || pg_get_expr(p.polqual, p.polrelid) || ')', 'with check (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')')
  from pg_policy p join relations r on r.oid = p.polrelid`,

  `select 'pg_statistic_ext'::regclass, e.oid, 'statistics', s.name || '.' || quote_ident(e.stxname), r.name, concat_ws(' ', ${owner("e.stxowner")},
    pg_get_statisticsobjdef(e.oid), case when e.stxstattarget >= 0 then 'target ' || e.stxstattarget end)
  from pg_statistic_ext e join schemas s on s.oid = e.stxnamespace join relations r on r.oid = e.stxrelid`,
];

/** For the select of columns, and for the parents of those of partitions. */
export const columnsOfTables = `columns as materialized (
  select a.attrelid, a.attname, r.name as relation, r.name || '.' || quote_ident(a.attname) as name, i.inhparent as inherited_from,
    concat_ws(' ', format_type(a.atttypid, a.atttypmod),
      case when a.attcollation <> t.typcollation then 'collate ' || a.attcollation::regcollation end,
      case when a.attnotnull then 'not null' end,
      case when n.conrelid is not null then 'not valid' end,
      case a.attidentity when 'a' then 'generated always as identity' when 'd' then 'generated by default as identity' end,
      case a.attgenerated when '' then 'default ' when 's' then 'generated stored as ' else 'generated virtual as ' end || pg_get_expr(d.adbin, d.adrelid),
      case when a.attstorage <> t.typstorage then 'storage ' || case a.attstorage when 'p' then 'plain' when 'e' then 'external' when 'm' then 'main' else 'extended' end end,
      case a.attcompression when 'p' then 'compression pglz' when 'l' then 'compression lz4' end,
      case when a.attstattarget >= 0 then 'statistics ' || a.attstattarget end,
      'with (' || array_to_string(a.attoptions, ', ') || ')',
      'options ' || a.attfdwoptions::text) as definition,
    case when q.seqrelid is not null then concat_ws(' ', 'by ' || q.seqrelid::regclass, ${sequence}) end as identity
  from relations r join pg_attribute a on a.attrelid = r.oid join pg_type t on t.oid = a.atttypid
  -- All at once: the planner takes a thousand tables for a few, and would look for each of their defaults by itself.
  left join (select adrelid, adnum, adbin from pg_attrdef offset 0) d on d.adrelid = a.attrelid and d.adnum = a.attnum
  left join owned o on o.relation = a.attrelid and o.number = a.attnum and o.is_identity
  left join pg_sequence q on q.seqrelid = o.sequence
  left join pg_constraint n on n.conrelid = a.attrelid and n.contype = 'n' and not n.convalidated and n.conkey[1] = a.attnum
  left join pg_inherits i on r.relispartition and not a.attislocal and i.inhrelid = a.attrelid
  where r.relkind in ('r', 'p', 'f') and a.attnum > 0 and not a.attisdropped
)`;
