// The one query behind catalog-objects.ts: a select for each kind of object, and what several of them need in front. It runs with an
// empty search path, in which Postgres' own names need no schema and all others get theirs.
import { otherSelects } from "./catalog-query-others.ts";
import { privilegeSelects } from "./catalog-query-privileges.ts";
import { columnsOfTables, tableSelects } from "./catalog-query-tables.ts";
import { ownSchema } from "./migration-record.ts";
import { quoteLiteral } from "./psql.ts";

/** What the parts of the query are made with. */
export type QueryWords = {
  /** SQL for the name of the role with that oid. */
  roleName(oid: string): string;
  /** SQL for "owner NAME", or for nothing. */
  owner(oid: string): string;
  withoutRoles: boolean;
  /** Of the server. */
  versionNumber: number;
};

type Wanted = {
  histories: readonly string[];
  owner: string | undefined;
  withoutRoles: boolean;
  versionNumber: number;
};

/** @returns `with … result (kind, name, parent, definition)`, to be followed by a select from result. */
export function objectsQuery({ histories, owner, withoutRoles, versionNumber }: Wanted): string {
  const roleName = (oid: string) => {
    const name = `pg_get_userbyid(${oid})::text`;
    return owner === undefined ? name : `coalesce(nullif(${name}, ${quoteLiteral(owner)}), '(owner)')`;
  };
  const words: QueryWords = {
    ...{ roleName, withoutRoles, versionNumber },
    owner: (oid) => (withoutRoles ? "null" : `'owner ' || ${roleName(oid)}`),
  };
  const all = "\n  union all\n  ";
  return `with ${foundations(["public.schema_migrations", ...histories])},
${columnsOfTables},
objects (class, oid, kind, name, parent, definition) as (
  ${[...tableSelects(words), ...otherSelects(words)].join(all)}
),
result (kind, name, parent, definition) as (
  select kind, name, parent, ${inOneForm("definition")} from objects
  union all
  ${[commentsOfOthers, commentsOfRelations, ...privilegeSelects(words)].join(all)}
)`;
}

/** What belongs to Postgres, to an extension, to this kit or to a history of migrations is left out here. */
const foundations = (histories: readonly string[]) => `members as materialized (
  select classid, objid from pg_depend where deptype = 'e'
),
schemas as materialized (
  select n.*, quote_ident(n.nspname) as name from pg_namespace n
  where n.nspname !~ '^pg_' and n.nspname not in ('information_schema', ${quoteLiteral(ownSchema)})
    and n.nspname || '.*' <> all (array[${histories.map(quoteLiteral).join(", ")}])
    and not exists (select from members m where m.classid = 'pg_namespace'::regclass and m.objid = n.oid)
),
histories as materialized (
  select c.oid from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where n.nspname || '.' || c.relname = any (array[${histories.map(quoteLiteral).join(", ")}])
),
-- Sequences of columns: of a serial one, or (is_identity) of an identity.
owned as materialized (
  select d.objid as sequence, d.refobjid as relation, d.refobjsubid as number, d.deptype = 'i' as is_identity
  from pg_depend d join pg_sequence q on q.seqrelid = d.objid
  where d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass and d.refobjsubid > 0 and d.deptype in ('a', 'i')
),
relations as materialized (
  select c.*, s.name || '.' || quote_ident(c.relname) as name from pg_class c join schemas s on s.oid = c.relnamespace
  where c.relpersistence <> 't' and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S', 'i', 'I')
    and not exists (select from members m where m.classid = 'pg_class'::regclass and m.objid = c.oid)
    and not exists (select from histories h where h.oid = c.oid)
    and not exists (select from owned o join histories h on h.oid = o.relation where o.sequence = c.oid)
),
routines as materialized (
  select p.*, s.name || '.' || quote_ident(p.proname) || '(' || oidvectortypes(p.proargtypes) || ')' as name,
    case p.prokind when 'p' then 'procedure' when 'a' then 'aggregate' else 'function' end as kind
  from pg_proc p join schemas s on s.oid = p.pronamespace
  -- Not those that came with a range type.
  where not exists (select from pg_depend d where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype in ('e', 'i'))
),
types as materialized (
  select t.*, s.name || '.' || quote_ident(t.typname) as name,
    case t.typtype when 'e' then 'enum' when 'd' then 'domain' when 'r' then 'range' else 'type' end as kind
  from pg_type t join schemas s on s.oid = t.typnamespace
  where (t.typtype in ('e', 'd', 'r') or t.typtype = 'b' and t.typcategory <> 'A'
      or t.typtype = 'c' and exists (select from pg_class c where c.oid = t.typrelid and c.relkind = 'c'))
    and not exists (select from members m where m.classid = 'pg_type'::regclass and m.objid = t.oid)
)`;

const commentsOfOthers = `select 'comment', 'on ' || o.kind || ' ' || o.name, o.name, d.description
  from pg_description d join objects o on o.class = d.classoid and o.oid = d.objoid
  where d.objoid >= 2200 and d.classoid not in ('pg_class'::regclass, 'pg_extension'::regclass)
    and (d.objoid is distinct from to_regnamespace('public') or d.description <> 'standard public schema')`;

/** Also of what is in no list of its own: columns of views and of composite types, indexes of constraints. */
const commentsOfRelations = `select 'comment', 'on ' || case when d.objsubid > 0 then 'column' else k.kind end || ' ' || concat_ws('.', r.name, quote_ident(a.attname)),
    concat_ws('.', r.name, case when r.relkind in ('r', 'p', 'f') then quote_ident(a.attname) end), d.description
  from pg_description d
  join (select oid, name, relkind from relations union all select typrelid, name, 'c' from types where typrelid <> 0) r on r.oid = d.objoid
  join (values ('r'::"char", 'table'), ('p', 'table'), ('v', 'view'), ('m', 'materialized view'), ('f', 'foreign table'),
    ('S', 'sequence'), ('i', 'index'), ('I', 'index'), ('c', 'type')) k (relkind, kind) using (relkind)
  left join pg_attribute a on a.attrelid = d.objoid and a.attnum = d.objsubid and d.objsubid > 0
  where d.classoid = 'pg_class'::regclass`;

/**
 * Of one expression Postgres writes two texts: \`status in ('a', 'b')\` of a varchar is ANY ((ARRAY['a'::character varying, …])::text[])
 * until it has been dumped and restored, and ANY (ARRAY[('a'::character varying)::text, …]) ever after.
 */
function inOneForm(definition: string): string {
  const literal = "'(?:[^']|'')*'::character varying";
  const eachCast = quoteLiteral(String.raw`\((${literal})\)::text(?!\[)`);
  const allCast = quoteLiteral(String.raw`\((ARRAY\[(?:${literal}(?:, )?)+\])\)::text\[\]`);
  const replaced = `regexp_replace(regexp_replace(${definition}, ${eachCast}, '\\1', 'g'), ${allCast}, '\\1', 'g')`;
  return `case when ${definition} like '%::character varying%::text%' then ${replaced} else ${definition} end`;
}
