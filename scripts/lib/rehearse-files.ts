// Applies pending files to a restored database, one after the other, and writes down what each does: how long it takes, which locks it
// holds and for how long, which tables are written anew, and by how much the database grows.
import type { Failure } from "./failure.ts";
import type { MigrationFile } from "./migration-file.ts";
import { createHistory } from "./migration-replay.ts";
import type { Statement } from "./migration-statements.ts";
import type { Psql } from "./psql.ts";
import { type Applied, applyFile, openSession, Refused } from "./rehearse-apply.ts";
import type { Guard } from "./rehearse-guard.ts";
import { type Held, rankOf } from "./rehearse-locks.ts";
import { type Relation, type Relations, readRelations } from "./rehearse-relations.ts";

/** Rows of which each is on the disk once more: of a table that was written anew, or that an UPDATE has changed. */
type Rewritten = { table: string; rows: number; line: number; by: "rewrite" | "update" };

export type RehearsedFile = {
  file: string;
  version: string;
  /** The live database has it already, only the backup does not: applied because the others need it, and held against no limit. */
  isLive: boolean;
  transaction: boolean;
  seconds: number;
  statements: (Pick<Statement, "sql" | "line" | "node"> & { seconds: number })[];
  /** On tables that there were before; the strongest of each first. */
  locks: Held[];
  rewritten: Rewritten[];
  /** By how much the database is larger afterwards. */
  bytes: number;
  /** The same for each table, also a new one or one that is gone; the greatest change first. */
  tables: { table: string; bytes: number }[];
};

export type Pending = MigrationFile & { isLive: boolean };

type Files = {
  psql: Psql;
  /** A session in another database of that server. */
  watcher: Psql;
  files: readonly Pending[];
  /** Exact, from the comparison with the manifest: `{"public.accounts": 12}`. */
  rows: Readonly<Record<string, number>>;
  guard?: Guard;
  /** Told of each that begins, and does the work. */
  step<T>(name: string, work: () => Promise<T>): Promise<T>;
};

export type Outcome = {
  files: RehearsedFile[];
  /** Why the file after these could not be applied; exit 3. */
  failure?: Failure;
};

/** @throws {Failure} when the database cannot be asked any more; a file that fails is a finding, and comes back. */
export async function rehearseFiles({ psql, watcher, files, rows: counted, guard, step }: Files): Promise<Outcome> {
  await psql.execute(createHistory);
  const session = await openSession(psql, watcher, guard);
  const done: RehearsedFile[] = [];
  let before = await readRelations(psql);
  /** What the app of today uses: nothing that a pending file has made. */
  let known = before;
  let rows = new Map([...before.byOid].map(([oid, { name }]) => [oid, counted[name] ?? 0]));
  for (const [index, file] of files.entries()) {
    if (files[index - 1]?.isLive) known = before;
    try {
      const applied = await step(file.version, () => applyFile(session, file, known, before));
      const after = await readRelations(psql);
      done.push(describe(file, applied, before, after, rows));
      rows = countedOn(applied, before, after, rows);
      before = after;
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      return { files: done, failure: error.failure };
    }
  }
  return { files: done };
}

/** By the number of its table. */
type Rows = ReadonlyMap<number, number>;

function countedOn({ emptied }: Applied, before: Relations, after: Relations, rows: Rows): Map<number, number> {
  const each = [...after.byOid.values()].map((now) => {
    const kept = emptied.has(now.oid) ? 0 : (rows.get(now.oid) ?? 0);
    return [now.oid, Math.max(0, kept + addedTo(now, before))] as const;
  });
  return new Map(each);
}

function addedTo({ oid, inserted, deleted }: Relation, before: Relations): number {
  const then = before.byOid.get(oid) ?? { inserted: 0, deleted: 0 };
  return inserted - then.inserted - (deleted - then.deleted);
}

function describe(
  { file, version, isLive, sections }: Pending,
  applied: Applied,
  before: Relations,
  after: Relations,
  rows: Rows,
): RehearsedFile {
  const { statements, seconds, locks } = applied;
  const { transaction } = sections[0]!.up;
  return {
    ...{ file, version, isLive, transaction },
    seconds: rounded(seconds.reduce((sum, each) => sum + each, 0)),
    statements: statements.map(({ sql, line, node }, index) => ({
      sql,
      line,
      node,
      seconds: rounded(seconds[index]!),
    })),
    locks: locks
      .filter(({ mode }) => mode !== "AccessShareLock")
      .map((lock) => ({ ...lock, seconds: rounded(lock.seconds) }))
      .sort((one, other) => one.table.localeCompare(other.table) || rankOf(other.mode) - rankOf(one.mode)),
    rewritten: [...after.byOid.values()].flatMap((now) => rewrittenOf(now, applied, before, rows)),
    bytes: after.databaseBytes - before.databaseBytes,
    tables: growth(before, after),
  };
}

const rounded = (seconds: number) => Math.round(seconds * 1000) / 1000;

function rewrittenOf(now: Relation, applied: Applied, before: Relations, rows: Rows): Rewritten[] {
  const { statements, replacedAt, updatedAt, emptied } = applied;
  const then = before.byOid.get(now.oid);
  if (!then || now.kind !== "r") return [];
  const lineAt = (index = 0) => statements[index]?.line ?? 1;
  const isReplaced = now.file !== then.file && now.heapBytes > 0 && !(emptied.has(now.oid) && !replacedAt.has(now.oid));
  const had = rows.get(now.oid) ?? 0;
  const updated = now.updated - then.updated;
  const table = now.name;
  const most = Math.max(had, had + addedTo(now, before));
  return [
    ...(isReplaced ? [{ table, rows: most, line: lineAt(replacedAt.get(now.oid)), by: "rewrite" as const }] : []),
    ...(updated > 0 ? [{ table, rows: updated, line: lineAt(updatedAt.get(now.oid)), by: "update" as const }] : []),
  ];
}

function growth(before: Relations, after: Relations): RehearsedFile["tables"] {
  const oids = new Set([...before.byOid.keys(), ...after.byOid.keys()]);
  const changes = [...oids].flatMap((oid) => {
    const [then, now] = [before.byOid.get(oid), after.byOid.get(oid)];
    const bytes = (now?.bytes ?? 0) - (then?.bytes ?? 0);
    return bytes === 0 ? [] : [{ table: (now ?? then)!.name, bytes }];
  });
  return changes.sort((one, other) => Math.abs(other.bytes) - Math.abs(one.bytes));
}
