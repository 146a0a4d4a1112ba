// Part of catalog-query.ts: everything that is no table and belongs to none.
import type { QueryWords } from "./catalog-query.ts";

export const otherSelects = ({ owner, versionNumber }: QueryWords): string[] => [
  `select 'pg_namespace'::regclass, s.oid, 'schema', s.name, null, concat_ws(' ', ${owner("s.nspowner")}) from schemas s`,

  `select 'pg_extension'::regclass, e.oid, 'extension', quote_ident(e.extname), null, 'in schema ' || quote_ident(n.nspname)
  from pg_extension e join pg_namespace n on n.oid = e.extnamespace`,

  `select 'pg_proc'::regclass, p.oid, p.kind, p.name, null, concat_ws(' ', ${owner("p.proowner")}, case when p.prokind <> 'a' then pg_get_functiondef(p.oid) else (
    select concat_ws(' ', case g.aggkind when 'o' then 'ordered set' when 'h' then 'hypothetical set' end, 'returns', format_type(p.prorettype, null),
      'step', g.aggtransfn, 'type', format_type(g.aggtranstype, null), 'start ' || quote_literal(g.agginitval), 'final ' || nullif(g.aggfinalfn, 0), g.aggfinalmodify,
      case when g.aggfinalextra then 'extra' end, 'combine ' || nullif(g.aggcombinefn, 0), 'serial ' || nullif(g.aggserialfn, 0), 'deserial ' || nullif(g.aggdeserialfn, 0),
      'moving ' || nullif(g.aggmtransfn, 0), nullif(g.aggminvtransfn, 0), nullif(g.aggmfinalfn, 0), quote_literal(g.aggminitval),
      'sort ' || nullif(g.aggsortop, 0)::regoperator, 'space ' || nullif(g.aggtransspace, 0), 'parallel', p.proparallel)
    from pg_aggregate g where g.aggfnoid = p.oid) end)
  from routines p`,

  `select 'pg_type'::regclass, t.oid, t.kind, t.name, null, concat_ws(' ', ${owner("t.typowner")},
    (select 'of ' || string_agg(quote_literal(e.enumlabel), ', ' order by e.enumsortorder) from pg_enum e where e.enumtypid = t.oid),
    case when t.typtype = 'd' then concat_ws(' ', format_type(t.typbasetype, t.typtypmod),
      (select 'collate ' || t.typcollation::regcollation from pg_type b where b.oid = t.typbasetype and b.typcollation <> t.typcollation)) end,
    case when t.typnotnull then 'not null' end,
    'default ' || t.typdefault,
    (select string_agg('constraint ' || quote_ident(c.conname) || ' ' || pg_get_constraintdef(c.oid), ' ' order by c.conname collate "C")
      from pg_constraint c where c.contypid = t.oid and c.contype = 'c'),
    (select concat_ws(' ', 'of', format_type(g.rngsubtype, null), 'collate ' || nullif(g.rngcollation, 0)::regcollation, 'canonical ' || nullif(g.rngcanonical, 0),
      'difference ' || nullif(g.rngsubdiff, 0), (select 'by ' || o.opcname from pg_opclass o where o.oid = g.rngsubopc and not o.opcdefault),
      'multirange ' || g.rngmultitypid::regtype) from pg_range g where g.rngtypid = t.oid),
    (select string_agg(concat_ws(' ', quote_ident(a.attname), format_type(a.atttypid, a.atttypmod),
      (select 'collate ' || a.attcollation::regcollation from pg_type b where b.oid = a.atttypid and b.typcollation <> a.attcollation)), ', ' order by a.attnum)
      from pg_attribute a where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped),
    case when t.typtype = 'b' then concat_ws(' ', t.typinput, t.typoutput) end)
  from types t`,

  `select 'pg_event_trigger'::regclass, e.oid, 'event trigger', quote_ident(e.evtname), null, concat_ws(' ', ${owner("e.evtowner")}, 'on', e.evtevent,
    'for ' || array_to_string(e.evttags, ', '), 'does', e.evtfoid::regprocedure,
    case e.evtenabled when 'D' then 'disabled' when 'R' then 'enabled on replicas' when 'A' then 'enabled always' end)
  from pg_event_trigger e where not exists (select from members m where m.classid = 'pg_event_trigger'::regclass and m.objid = e.oid)`,

  `select 'pg_publication'::regclass, p.oid, 'publication', quote_ident(p.pubname), null, concat_ws(' ', ${owner("p.pubowner")},
    concat_ws(', ', case when p.pubinsert then 'insert' end, case when p.pubupdate then 'update' end, case when p.pubdelete then 'delete' end,
      case when p.pubtruncate then 'truncate' end),
    case when p.pubviaroot then 'via the root' end, 'of', case when p.puballtables then 'all tables' end,
    (select string_agg(${publishedTable(versionNumber)}, ', ' order by r.prrelid::regclass::text collate "C") from pg_publication_rel r where r.prpubid = p.oid)
    ${versionNumber >= 150000 ? publishedSchemas : ""})
  from pg_publication p`,

  ...rareSelects,
];

const publishedTable = (versionNumber: number) =>
  versionNumber < 150000
    ? "r.prrelid::regclass::text"
    : `concat_ws(' ', r.prrelid::regclass, (select '(' || string_agg(quote_ident(a.attname), ', ' order by a.attnum) || ')' from pg_attribute a
        where a.attrelid = r.prrelid and a.attnum = any (r.prattrs)), 'where ' || pg_get_expr(r.prqual, r.prrelid))`;

const publishedSchemas = `, (select 'schemas ' || string_agg(s.pnnspid::regnamespace::text, ', ' order by s.pnnspid::regnamespace::text collate "C")
      from pg_publication_namespace s where s.pnpubid = p.oid)`;

/** Those that few databases have: their name as Postgres writes it, and what is told of it in a few words. */
const rare = (
  catalog: string,
  definition: string,
) => `select '${catalog}'::regclass, o.oid, i.type, i.identity, null, concat_ws(' ', ${definition})
  from ${catalog} o, pg_identify_object('${catalog}'::regclass, o.oid, 0) i
  where o.oid >= 16384 and not exists (select from members m where m.classid = '${catalog}'::regclass and m.objid = o.oid)
    -- With it goes what Postgres makes for it by itself.
    and not exists (select from pg_depend d where d.classid = '${catalog}'::regclass and d.objid = o.oid and d.deptype = 'i')
    and (i.schema is null or i.schema in (select name from schemas))`;

const rareSelects = [
  rare(
    "pg_operator",
    `'does', o.oprcode, 'commutator ' || nullif(o.oprcom, 0)::regoperator, 'negator ' || nullif(o.oprnegate, 0)::regoperator,
    'restrict ' || nullif(o.oprrest, 0), 'join ' || nullif(o.oprjoin, 0), case when o.oprcanmerge then 'merges' end, case when o.oprcanhash then 'hashes' end`,
  ),
  rare("pg_opclass", "format_type(o.opcintype, null), case when o.opcdefault then 'default' end"),
  rare("pg_opfamily", "null"),
  rare("pg_cast", "o.castcontext, o.castmethod, nullif(o.castfunc, 0)::regprocedure"),
  rare("pg_transform", "nullif(o.trffromsql, 0)::regprocedure, nullif(o.trftosql, 0)::regprocedure"),
  rare("pg_collation", "to_jsonb(o) - '{oid,collname,collnamespace,collowner,collversion}'::text[]"),
  rare("pg_conversion", "o.conproc, case when o.condefault then 'default' end"),
  rare(
    "pg_ts_config",
    `'parser', (select p.prsname from pg_ts_parser p where p.oid = o.cfgparser),
    (select string_agg(m.maptokentype || ' ' || m.mapdict::regdictionary, ', ' order by m.maptokentype, m.mapseqno) from pg_ts_config_map m where m.mapcfg = o.oid)`,
  ),
  rare("pg_ts_dict", "(select t.tmplname from pg_ts_template t where t.oid = o.dicttemplate), o.dictinitoption"),
  rare("pg_language", "case when o.lanpltrusted then 'trusted' end"),
  rare("pg_foreign_data_wrapper", "'handler ' || nullif(o.fdwhandler, 0)::regproc, o.fdwoptions::text"),
  rare(
    "pg_foreign_server",
    `'of', (select quote_ident(w.fdwname) from pg_foreign_data_wrapper w where w.oid = o.srvfdw), o.srvtype, o.srvversion, o.srvoptions::text`,
  ),
];
