// What the kit remembers of migrations beside dbmate's own table: the sha256 of each file as it was applied, or first found applied. In a
// schema of its own, `dbops`, which every backup carries and nobody needs who works without the kit.
import type { MigrationFile } from "./migration-file.ts";
import type { Tracked } from "./migration-state.ts";
import { type Psql, quoteLiteral } from "./psql.ts";

export const ownSchema = "dbops";

/** Only where it is not there: a role that may write to it need not be one that may create it. */
const createTable = `do $$ begin
  if exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'dbops' and c.relname = 'migration_files') then
    return;
  end if;
  create schema if not exists dbops;
  create table dbops.migration_files (
    version text primary key,
    file text not null,
    sha256 text not null,
    recorded_at timestamptz not null default now()
  );
  comment on schema dbops is 'What create-dbops remembers. Nothing works less well without it.';
  comment on table dbops.migration_files is 'Migration files as they were when they were applied, or first found applied: "drift check" finds those that were edited since.';
end $$`;

/** One look: two queries, because one that names a missing table fails as a whole. Writes nothing. */
export async function readTracked(psql: Psql): Promise<Tracked> {
  const [there] = await psql.rows<{ applied: boolean; recorded: boolean }>(
    `select to_regclass('schema_migrations') is not null as applied,
       exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace
         where n.nspname = 'dbops' and c.relname = 'migration_files'
           and has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select')) as recorded`,
  );
  const none = "select null::text as version, null::text as file, null::text as sha256 where false";
  const rows = await psql.rows<{ source: "applied" | "recorded"; version: string; file: string; sha256: string }>(
    `select 'applied' as source, a.* from (${there!.applied ? "select version::text, null::text, null::text from schema_migrations" : none}) a (version, file, sha256)
     union all
     select 'recorded', r.* from (${there!.recorded ? "select version, file, sha256 from dbops.migration_files" : none}) r (version, file, sha256)`,
  );
  const of = (source: string) => rows.filter((row) => row.source === source);
  return {
    applied: of("applied")
      .map(({ version }) => version)
      .sort(),
    recorded: Object.fromEntries(of("recorded").map(({ version, file, sha256 }) => [version, { file, sha256 }])),
  };
}

export type Recorded = Pick<MigrationFile, "version" | "file" | "sha256">;

/**
 * One transaction, of which nothing stays when any of it fails.
 * @param files to be applied. Those that are applied by now are left as they were noted: an edit of them would never be seen again.
 * @param applied by something that notes no sums, such as a plain `docker compose up`: as they are now, where nothing is known of them.
 */
export const recordStatements = (files: readonly Recorded[], applied: readonly Recorded[] = []) =>
  ["begin; ", files.length > 0 ? `${recordPending(files)};\n` : "", firstSeen(applied), "commit;"].join("");

/** Asked for as it runs: a statement that names a missing table fails as a whole. */
function recordPending(files: readonly Recorded[]): string {
  const insert = (where: string) => `insert into dbops.migration_files (version, file, sha256)
    select * from (values ${valuesOf(files)}) pending (version, file, sha256) ${where}
    on conflict (version) do update set file = excluded.file, sha256 = excluded.sha256, recorded_at = now();`;
  const body = `begin
  if to_regclass('schema_migrations') is null then
    ${insert("where true")}
  else
    ${insert("where not exists (select from schema_migrations s where s.version::text = pending.version)")}
  end if;
end`;
  return `${createTable};\ndo ${quoteLiteral(body)}`;
}

function firstSeen(files: readonly Recorded[]): string {
  if (files.length === 0) return "";
  return `${createTable};
insert into dbops.migration_files (version, file, sha256) values ${valuesOf(files)} on conflict do nothing;
`;
}

const valuesOf = (files: readonly Recorded[]) =>
  files.map((one) => `(${[one.version, one.file, one.sha256].map(quoteLiteral).join(", ")})`).join(", ");

/** For whoever is in a transaction already. @param files at least one. */
export function recordWithin(files: readonly Recorded[]): string {
  return `${createTable};
insert into dbops.migration_files (version, file, sha256) values ${valuesOf(files)}
  on conflict (version) do update set file = excluded.file, sha256 = excluded.sha256, recorded_at = now()`;
}

/**
 * Before they are applied, so that a process that dies in between leaves no applied file without its sum. A row whose version is not
 * applied says nothing, and is written again by the next attempt.
 */
export async function record(psql: Psql, files: readonly Recorded[], applied: readonly Recorded[] = []): Promise<void> {
  if (files.length + applied.length === 0) return;
  await psql.execute(recordStatements(files, applied));
}

/** Of those that are not applied: whoever applies another file of that version without the kit has not edited it. */
export async function forget(psql: Psql, versions: readonly string[]): Promise<void> {
  if (versions.length === 0) return;
  await psql.execute(forgetStatement(versions));
}

/** @param versions at least one. */
export function forgetStatement(versions: readonly string[]): string {
  const deletion = `delete from dbops.migration_files n where n.version in (${versions.map(quoteLiteral).join(", ")})`;
  const body = `begin
  if to_regclass('dbops.migration_files') is null then
    return;
  elsif to_regclass('schema_migrations') is null then
    ${deletion};
  else
    ${deletion} and not exists (select from schema_migrations s where s.version::text = n.version);
  end if;
end`;
  return `do ${quoteLiteral(body)}`;
}
