// What the kit remembers of migrations beside dbmate's own table: the sha256 of each file as it was applied. In a schema of its own,
// `dbops`, which every backup carries and nobody needs who works without the kit.
import type { MigrationFile } from "./migration-file.ts";
import type { Tracked } from "./migration-state.ts";
import { type Psql, quoteLiteral } from "./psql.ts";

export const ownSchema = "dbops";

/** scripts/lib/server/deploy.sh has the same statement. */
const createTable = `create schema if not exists dbops;
create table if not exists dbops.migration_files (
  version text primary key,
  file text not null,
  sha256 text not null,
  recorded_at timestamptz not null default now()
);
comment on schema dbops is 'What create-dbops remembers. Nothing works less well without it.';
comment on table dbops.migration_files is 'Migration files as they were when they were applied: "drift check" finds those that were edited since.'`;

/** One look: two queries, because one that names a missing table fails as a whole. Writes nothing. */
export async function readTracked(psql: Psql): Promise<Tracked> {
  const [there] = await psql.rows<{ applied: boolean; recorded: boolean }>(
    `select to_regclass('schema_migrations') is not null as applied, to_regclass('dbops.migration_files') is not null as recorded`,
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

/**
 * Before they are applied, so that a process that dies in between leaves no applied file without its sum. A row whose version is not
 * applied says nothing, and is written again by the next attempt.
 */
export async function record(
  psql: Psql,
  files: readonly Pick<MigrationFile, "version" | "file" | "sha256">[],
): Promise<void> {
  if (files.length === 0) return;
  const values = files.map((one) => `(${[one.version, one.file, one.sha256].map(quoteLiteral).join(", ")})`);
  await psql.execute(`begin; ${createTable};
insert into dbops.migration_files (version, file, sha256) values ${values.join(", ")}
  on conflict (version) do update set file = excluded.file, sha256 = excluded.sha256, recorded_at = now();
commit`);
}
