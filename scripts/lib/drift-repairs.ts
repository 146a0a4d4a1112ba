// Where a repair has found something to take back: dbops.drift_repairs. A migration that does so asks that table, and does nothing in a
// database whose own does not name it.
import type { MigrationFile } from "./migration-file.ts";
import { type Psql, quoteLiteral } from "./psql.ts";

/** What the migration is called that brings into the files what is in a database. */
export const keptName = "keep_what_the_database_has";
export const isKept = (file: string) => new RegExp(`^\\d+_${keptName}(?:_\\d+)?\\.sql$`).test(file);

export const noteRepairs = (files: readonly Pick<MigrationFile, "version">[]) => `create schema if not exists dbops;
create table if not exists dbops.drift_repairs (version text primary key, found_at timestamptz not null default now());
comment on table dbops.drift_repairs is 'Migrations that take back what was changed here by hand; in other databases they do nothing.';
insert into dbops.drift_repairs (version) values ${files.map(({ version }) => `(${quoteLiteral(version)})`).join(", ")} on conflict do nothing`;

/** Whoever may not read a table that is there should hear of it. It is there only where something was repaired. */
export const isNoted = (version: string) => [
  "if exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'dbops' and c.relname = 'drift_repairs') then",
  `if exists (select from dbops.drift_repairs where version = ${quoteLiteral(version)}) then`,
];

export const asksForRepairs = <File extends Pick<MigrationFile, "version" | "text">>(files: readonly File[]): File[] =>
  files.filter(({ version, text }) => text.includes(isNoted(version).at(-1)!));

/** @returns those of the files that take something back in this database. */
export async function notedIn<File extends Pick<MigrationFile, "version" | "text">>(
  psql: Psql,
  files: readonly File[],
): Promise<File[]> {
  const asking = asksForRepairs(files);
  if (asking.length === 0) return [];
  const [there] = await psql.rows<{ readable: boolean }>(
    `select exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'dbops'
       and c.relname = 'drift_repairs' and has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select')) as readable`,
  );
  if (!there!.readable) return [];
  const rows = await psql.rows<{ version: string }>("select version from dbops.drift_repairs");
  return asking.filter((file) => rows.some(({ version }) => version === file.version));
}
