// Indexes that are not valid: what a CREATE INDEX CONCURRENTLY leaves that has failed. With `if not exists` the next run takes it for
// the real one, dbmate records the file as applied, and a unique index keeps nothing unique.
import type { MigrationFile } from "./migration-file.ts";
import type { Psql } from "./psql.ts";

export type InvalidIndex = {
  oid: number;
  /** "public.accounts_email_key", quoted where it has to be. */
  index: string;
  /** Without its schema, unquoted. */
  name: string;
  /** At this moment, CONCURRENTLY. */
  isBeingBuilt: boolean;
  /** The process that does, where it is known. */
  builtBy?: number | null;
};

/**
 * Not those of partitioned tables: one made ONLY there is not valid until all its parts are, and that is as it should be. Of another user
 * who builds one nobody sees more than that he is at it, and which tables he holds.
 */
const listInvalidIndexes = `select c.oid::bigint as oid, format('%I.%I', n.nspname, c.relname) as index, c.relname as name,
  b.pid is not null as "isBeingBuilt", b.pid as "builtBy"
from pg_index i join pg_class c on c.oid = i.indexrelid join pg_namespace n on n.oid = c.relnamespace
left join lateral (select min(p.pid) as pid from pg_stat_progress_create_index p
  where p.datname = current_database() and (p.index_relid = c.oid
    or p.index_relid is null and exists (select from pg_locks l where l.pid = p.pid and l.relation = i.indrelid))) b on true
where not i.indisvalid and c.relkind = 'i' order by 2`;

export const invalidIndexes = (psql: Psql): Promise<InvalidIndex[]> => psql.rows<InvalidIndex>(listInvalidIndexes);

/** From how Postgres itself writes it: `one_x`, `app."One x"`. */
export function asInvalidIndex(index: string): InvalidIndex {
  const [, quoted, plain] = /(?:"((?:[^"]|"")+)"|([^".]+))$/.exec(index)!;
  return { oid: 0, index, isBeingBuilt: false, name: quoted?.replaceAll('""', '"') ?? plain! };
}

export type InTheWay = InvalidIndex & { file: MigrationFile };

/** Those that one of these files would make, and that no file before that, nor itself, drops. Pure. */
export function indexesInTheWay(invalid: readonly InvalidIndex[], pending: readonly MigrationFile[]): InTheWay[] {
  const code = pending.map(({ sections }) => withoutComments(sections[0]!.up.sql));
  return invalid.flatMap((index) => {
    const at = code.findIndex((sql) => creates(sql, index.name));
    const isDropped = code.slice(0, at + 1).some((sql) => drops(sql, index.name));
    return at < 0 || isDropped ? [] : [{ ...index, file: pending[at]! }];
  });
}

const withoutComments = (sql: string) => sql.replaceAll(/--.*$/gm, "").replaceAll(/\/\*.*?\*\//gs, "");

const creates = (sql: string, name: string) =>
  new RegExp(`\\bcreate\\s[^;(]*\\bindex\\s[^;(]*?${asWritten(name)}\\s+on\\s`, "i").test(sql);

const drops = (sql: string, name: string) => new RegExp(`\\bdrop\\s+index\\s[^;]*?${asWritten(name)}`, "i").test(sql);

/** In quotes or without, and not as a part of another name. */
const asWritten = (name: string) => `(?<![\\w$])"?${name.replaceAll(/[\\^$.*+?()[\]{}|]/g, "\\$&")}"?(?![\\w$])`;
