// Part of catalog-query.ts: who may do what, where that is not what the owner and everybody have by themselves.
import type { QueryWords } from "./catalog-query.ts";

export const privilegeSelects = (words: QueryWords): string[] =>
  words.withoutRoles ? [] : [grants(words), defaultPrivileges(words)];

/** "PUBLIC: nothing; reader: SELECT, UPDATE with grant option": whose rights in an array of aclitem are other ones than by default; null for nobody's. */
const inWords = (acl: string, usual: string, { roleName }: QueryWords) => `(
    select string_agg(case when grantee = 0 then 'PUBLIC' else ${roleName("grantee")} end || ': ' || coalesce(own.rights, 'nothing'), '; '
      order by case when grantee = 0 then 'PUBLIC' else ${roleName("grantee")} end collate "C")
    from ${rights(acl)} own full join ${rights(usual)} usual using (grantee) where own.rights is distinct from usual.rights)`;

const rights = (acl: string) => `(
      select grantee, string_agg(privilege_type || case when is_grantable then ' with grant option' else '' end, ', ' order by privilege_type collate "C") as rights
      from aclexplode(${acl}) group by grantee)`;

const grants = (words: QueryWords) => `select 'grant', 'on ' || o.kind || ' ' || o.name, o.name, w.definition
  from (
    select case when r.relkind = 'S' then 'sequence' when r.relkind = 'v' then 'view' when r.relkind = 'm' then 'materialized view' else 'table' end,
      r.name, r.relacl, case when r.relkind = 'S' then 's' else 'r' end::"char", r.relowner from relations r where r.relacl is not null
    union all select 'column', c.name, a.attacl, 'c', r.relowner from relations r join pg_attribute a on a.attrelid = r.oid
      join lateral (select r.name || '.' || quote_ident(a.attname)) c (name) on true where a.attacl is not null and not a.attisdropped
    union all select p.kind, p.name, p.proacl, 'f', p.proowner from routines p where p.proacl is not null
    union all select t.kind, t.name, t.typacl, 'T', t.typowner from types t where t.typacl is not null
    union all select 'schema', s.name, s.nspacl, 'n', s.nspowner from schemas s where s.nspacl is not null
    union all select 'foreign server', quote_ident(f.srvname), f.srvacl, 'S', f.srvowner from pg_foreign_server f where f.srvacl is not null
      and not exists (select from members m where m.classid = 'pg_foreign_server'::regclass and m.objid = f.oid)
    union all select 'foreign-data wrapper', quote_ident(w.fdwname), w.fdwacl, 'F', w.fdwowner from pg_foreign_data_wrapper w where w.fdwacl is not null
      and not exists (select from members m where m.classid = 'pg_foreign_data_wrapper'::regclass and m.objid = w.oid)
  ) o (kind, name, acl, type, owner), lateral ${inWords("o.acl", "acldefault(o.type, o.owner)", words)} w (definition)
  where w.definition is not null`;

const objectTypes = `case d.defaclobjtype when 'r' then 'tables' when 'S' then 'sequences' when 'f' then 'functions' when 'T' then 'types'
    when 'n' then 'schemas' else 'large objects' end`;

const usualRights = `case when d.defaclnamespace = 0
    then acldefault(case d.defaclobjtype when 'S' then 's' else d.defaclobjtype end, d.defaclrole) end`;

/** Of what will be made. In a schema they come on top, elsewhere they stand instead of the usual ones. */
const defaultPrivileges = (words: QueryWords) => `select 'default privileges',
    concat_ws(' ', 'of', ${words.roleName("d.defaclrole")}, 'in ' || s.name, 'on', ${objectTypes}), s.name, w.definition
  from pg_default_acl d left join schemas s on s.oid = d.defaclnamespace, lateral ${inWords("d.defaclacl", usualRights, words)} w (definition)
  where (d.defaclnamespace = 0 or s.oid is not null) and w.definition is not null`;
