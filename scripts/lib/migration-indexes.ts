// Indexes that are not valid: what a CREATE INDEX CONCURRENTLY leaves that has failed. With `if not exists` the next run takes it for
// the real one, dbmate records the file as applied, and a unique index keeps nothing unique.
import type { MigrationFile, Section } from "./migration-file.ts";
import type { Statement } from "./migration-statements.ts";
import type { Psql } from "./psql.ts";

export type InvalidIndex = {
  oid: number;
  /** "public.accounts_email_key", quoted where it has to be. */
  index: string;
  /** Without its schema, unquoted. */
  name: string;
  /** Undefined where it is one of the search path. */
  schema?: string;
  /** At this moment, CONCURRENTLY. */
  isBeingBuilt: boolean;
  /** The process that does, where it is known. */
  builtBy?: number | null;
};

/**
 * Not those of partitioned tables: one made ONLY there is not valid until all its parts are, and that is as it should be. Of another user
 * who builds one nobody sees more than that he is at it, and which tables he holds.
 */
export const listInvalidIndexes = `select c.oid::bigint as oid, format('%I.%I', n.nspname, c.relname) as index, c.relname as name, n.nspname as schema,
  b.pid is not null as "isBeingBuilt", b.pid as "builtBy"
from pg_index i join pg_class c on c.oid = i.indexrelid join pg_namespace n on n.oid = c.relnamespace
left join lateral (select min(p.pid) as pid from pg_stat_progress_create_index p
  where p.datname = current_database() and (p.index_relid = c.oid
    or p.index_relid is null and exists (select from pg_locks l where l.pid = p.pid and l.relation = i.indrelid))) b on true
where not i.indisvalid and c.relkind = 'i' order by 2`;

export const invalidIndexes = (psql: Psql): Promise<InvalidIndex[]> => psql.rows<InvalidIndex>(listInvalidIndexes);

type InTheWay = InvalidIndex & { file: MigrationFile };

/**
 * Those that one of these files would make, and that no statement before that gets out of the way. Pure. Postgres' parser says what a
 * statement does: a file that it cannot read, and what a program puts together, counts as neither.
 */
export async function indexesInTheWay(
  invalid: readonly InvalidIndex[],
  pending: readonly MigrationFile[],
): Promise<InTheWay[]> {
  if (invalid.length === 0) return [];
  const deeds = await Promise.all(
    pending.map(async (file) => (await deedsIn(file.sections[0]!.up)).map((deed) => ({ ...deed, file }))),
  );
  return invalid.flatMap((index) => {
    const first = deeds.flat().find(({ makes, mends }) => [...makes, ...mends].some((name) => isNameOf(name, index)));
    return first?.makes.some((name) => isNameOf(name, index)) ? [{ ...index, file: first.file }] : [];
  });
}

/** Those that nobody has to get out of the way before this runs once more: a DROP INDEX CONCURRENTLY that was cut off goes on then. Pure. */
export async function notMendedBy<Index extends InvalidIndex>(
  sections: readonly Section[],
  invalid: readonly Index[],
): Promise<Index[]> {
  if (invalid.length === 0) return [];
  const mends = (await Promise.all(sections.map(deedsIn))).flat().flatMap((deed) => deed.mends);
  return invalid.filter((index) => !mends.some((name) => isNameOf(name, index)));
}

type Name = { schema: string | undefined; name: string };

type Deed = {
  makes: readonly Name[];
  /** Drops, builds again or gives another name. */
  mends: readonly Name[];
};

const isNameOf = (made: Name, { name, schema }: InvalidIndex) =>
  made.name === name && (made.schema === undefined || schema === undefined || made.schema === schema);

async function deedsIn(section: Section): Promise<Deed[]> {
  const { statementsOf } = await import("./migration-statements.ts");
  return (await statementsOf(section)).map(deedOf);
}

function deedOf({ node, tree }: Statement): Deed {
  const { relation, idxname, objects } = tree as Tree;
  const its = (name: string | undefined): Name[] => (name ? [{ schema: relation?.schemaname, name }] : []);
  // An index is in the schema of its table.
  if (node === "IndexStmt") return { makes: its(idxname), mends: [] };
  const isMended =
    (node === "ReindexStmt" && tree.kind === "REINDEX_OBJECT_INDEX") ||
    (node === "RenameStmt" && tree.renameType === "OBJECT_INDEX");
  if (isMended) return { makes: [], mends: its(relation?.relname) };
  const isDropped = node === "DropStmt" && tree.removeType === "OBJECT_INDEX";
  return { makes: [], mends: isDropped ? objects!.map(nameOf) : [] };
}

/** As far as it is of use here. */
type Tree = {
  relation?: { schemaname?: string; relname?: string };
  idxname?: string;
  objects?: { List: { items: { String: { sval: string } }[] } }[];
};

/** DATABASE.SCHEMA.NAME, and less. */
function nameOf({ List: { items } }: NonNullable<Tree["objects"]>[number]): Name {
  const [name, schema] = items.map(({ String: { sval } }) => sval).reverse();
  return { schema, name: name! };
}
