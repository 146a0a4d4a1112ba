// Applies one migration file to a database that nobody uses, as dbmate would apply it, and looks after each statement at what the session
// holds and has changed: within the transaction, because a lock is held until the commit, and nobody sees what is not committed.
import { asFailure, type Failure } from "./failure.ts";
import type { MigrationFile } from "./migration-file.ts";
import { asOneQuery, fileFailed, fileSeconds, linesBefore, requireNoData } from "./migration-replay.ts";
import { type Statement, statementsOf } from "./migration-statements.ts";
import { type Psql, quoteIdentifier, quoteLiteral, SqlError } from "./psql.ts";
import { type Guard, requireAtHome, whyCutOff } from "./rehearse-guard.ts";
import type { Held, Mode } from "./rehearse-locks.ts";
import { type Locked, type Relation, type Relations, readLocked } from "./rehearse-relations.ts";
import { poll } from "./wait.ts";

export type Session = {
  psql: Psql;
  /** In another database of that server: a CREATE INDEX CONCURRENTLY would wait for one in the same. */
  watcher: Psql;
  /** Of Postgres' process for it, and of its database: for the watcher. */
  pid: number;
  database: number;
  /** dbmate's table, with its schema: a file may change search_path for good. */
  history: string;
  /** What asking costs by itself: not the statement's time. */
  roundTripSeconds: number;
  guard: Guard | undefined;
};

export type Applied = {
  statements: readonly Statement[];
  /** Of each statement; the last one is what dbmate does at the end. */
  seconds: number[];
  locks: Held[];
  /** Tables whose file was replaced, and those with changed rows, with the statement that did so first. */
  replacedAt: Map<number, number>;
  updatedAt: Map<number, number>;
  /** By TRUNCATE. */
  emptied: Set<number>;
};

/** What is wrong with a file, in contrast to what is wrong with a connection. */
export class Refused extends Error {
  readonly failure: Failure;
  constructor(failure: Failure) {
    super(failure.message);
    this.failure = failure;
  }
}

const roundTrips = 5;

export async function openSession(psql: Psql, watcher: Psql, guard: Guard | undefined): Promise<Session> {
  const [own] = await psql.rows<{ pid: number; database: number; schema: string }>(
    `select pg_backend_pid() as pid, (select oid::bigint from pg_database where datname = current_database()) as database,
       (select nspname from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = 'schema_migrations'::regclass) as schema`,
  );
  const { pid, database, schema } = own!;
  const seconds: number[] = [];
  for (let count = 0; count < roundTrips; count += 1) seconds.push(await timed(() => psql.execute("select 1")));
  const history = `${quoteIdentifier(schema)}.schema_migrations`;
  return { psql, watcher, pid, database, history, roundTripSeconds: Math.min(...seconds), guard };
}

async function timed(work: () => Promise<void>): Promise<number> {
  const begun = performance.now();
  await work();
  return (performance.now() - begun) / 1000;
}

/**
 * @param known what there was before: locks on other tables make nobody wait.
 * @param before what there is now.
 * @throws {Refused}
 */
export async function applyFile(
  session: Session,
  file: MigrationFile,
  known: Relations,
  before: Relations,
): Promise<Applied> {
  const { up } = file.sections[0]!;
  try {
    requireNoData(file);
  } catch (error) {
    throw new Refused(asFailure(error));
  }
  const statements = await statementsOf(up);
  const applied: Applied = {
    ...{ statements, seconds: [], locks: [] },
    ...{ replacedAt: new Map(), updatedAt: new Map(), emptied: new Set() },
  };
  if (up.transaction) await inTransaction(session, file, applied, known, before);
  else if (statements.length > 0) await withoutTransaction(session, file, applied, known);
  const insert = `insert into ${session.history} (version) values (${quoteLiteral(file.version)})`;
  const insertSeconds = await measured(session, file, () => session.psql.execute(insert));
  const endSeconds = insertSeconds + (up.transaction ? await commit(session, file) : 0);
  applied.seconds.push(endSeconds);
  if (up.transaction) for (const lock of applied.locks) lock.seconds += endSeconds;
  return applied;
}

async function inTransaction(
  session: Session,
  file: MigrationFile,
  applied: Applied,
  known: Relations,
  before: Relations,
): Promise<void> {
  const { psql } = session;
  let last: State = before.byOid;
  await psql.execute("begin");
  for (const [index, statement] of applied.statements.entries()) {
    const seconds = await measured(session, file, () => send(psql, statement.sql), {
      ...{ line: statement.line, word: statement.line },
    });
    applied.seconds.push(seconds);
    await requireHome(session, file, statement.line);
    const locked = await readLocked(psql);
    const now = heldBy(locked, known, statement.line);
    const isNew = ({ table, mode }: Held) => !applied.locks.some((it) => it.table === table && it.mode === mode);
    applied.locks.push(...now.filter(isNew));
    for (const lock of applied.locks) lock.seconds += seconds;
    last = noteChanges(applied, locked, last, index);
  }
}

const requireHome = async ({ psql, guard }: Session, { file }: MigrationFile, line?: number) =>
  guard && (await requireAtHome(psql, guard, `migrations/${file}${line ? `:${line}` : ""}`));

/** What is deferred to the commit is done before it, and looked at. @param line where that is known. @returns how long it took. */
async function commit(session: Session, file: MigrationFile, line?: number): Promise<number> {
  const { psql } = session;
  const deferred = await measured(session, file, () => psql.execute("set constraints all immediate", fileSeconds));
  await requireHome(session, file, line);
  return deferred + (await measured(session, file, () => psql.execute("commit", fileSeconds)));
}

/** Everything that is held; an index that is locked for itself makes those wait who read its table. */
function heldBy(locked: readonly Pick<Locked, "oid" | "modes">[], known: Relations, line: number): Held[] {
  const all = locked.flatMap(({ oid, modes }) => {
    const relation = known.byOid.get(oid);
    const table = relation?.table ? known.byOid.get(relation.table) : relation;
    return table ? modes.map((mode) => ({ table: table.name, mode, line, seconds: 0 })) : [];
  });
  // A table and its indexes, mostly in the same mode.
  return [...new Map(all.map((lock) => [`${lock.mode} ${lock.table}`, lock])).values()];
}

type State = ReadonlyMap<number, Pick<Relation, "file" | "updated">>;

/** @returns what the session knows of each table now. */
function noteChanges(applied: Applied, locked: readonly Locked[], last: State, index: number): State {
  const { statements, replacedAt, updatedAt, emptied } = applied;
  const now = new Map(last);
  for (const { oid, file, updated } of locked) {
    const then = last.get(oid);
    now.set(oid, { file, updated });
    if (!then) continue;
    const isReplaced = file !== then.file && file !== 0;
    if (isReplaced && statements[index]!.node === "TruncateStmt") emptied.add(oid);
    else if (isReplaced && !replacedAt.has(oid)) replacedAt.set(oid, index);
    if (updated > then.updated && !updatedAt.has(oid)) updatedAt.set(oid, index);
  }
  return now;
}

const send = (psql: Psql, sql: string) => psql.execute(asOneQuery(sql), fileSeconds);

/** The connection, the disk, the memory, whoever ends a session: another database would have the same trouble. */
const notOfFile = /^(?:08|53|57P|58)/;

/**
 * @param sent the line of the file in which what is sent begins, and that of its first word.
 * @throws {Refused} where Postgres refuses it.
 */
async function measured(
  { psql, roundTripSeconds, guard }: Session,
  file: MigrationFile,
  work: () => Promise<void>,
  sent?: { line: number; word: number },
): Promise<number> {
  try {
    return Math.max(0, (await timed(work)) - roundTripSeconds);
  } catch (error) {
    if (!(error instanceof SqlError) || notOfFile.test(error.code)) throw error;
    await psql.execute("rollback");
    const lines = linesBefore(error);
    const line = lines === undefined ? sent?.word : sent && sent.line + lines;
    const cut = guard && whyCutOff(error, `migrations/${file.file}${line === undefined ? "" : `:${line}`}`);
    throw cut ?? new Refused(fileFailed(file, error, line));
  }
}

/** They do the same in a transaction, so that one can look before the commit; what they call may do anything. */
const takenBack = [
  ...["SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt", "TruncateStmt", "CopyStmt"],
  ...["CreateStmt", "CreateTableAsStmt", "RefreshMatViewStmt", "CreateFunctionStmt", "CreateTrigStmt", "ViewStmt"],
  ...["CreateSchemaStmt", "CreateExtensionStmt", "CommentStmt", "GrantStmt"],
];

const everyMilliseconds = 50;

/**
 * All of it at once, as dbmate sends it: of several statements Postgres makes one transaction, which is what goes wrong with them.
 * Locks come and go within a statement, so that another session looks at them, again and again.
 */
async function withoutTransaction(
  session: Session,
  file: MigrationFile,
  applied: Applied,
  known: Relations,
): Promise<void> {
  const { up } = file.sections[0]!;
  const together = { ...applied.statements[0]!, sql: applied.statements.map(({ sql }) => sql).join(";\n") };
  const watch = watchLocks(session, together, known);
  const isTakenBack = session.guard && applied.statements.every(({ node }) => takenBack.includes(node ?? ""));
  const work = async () => {
    if (isTakenBack) await session.psql.execute("begin");
    const sent = { line: up.line, word: together.line };
    const seconds = await measured(session, file, () => send(session.psql, up.sql), sent);
    return seconds + (isTakenBack ? await commit(session, file, together.line) : 0);
  };
  const running = work();
  const [ran, locks] = await Promise.allSettled([running.finally(watch.stop), watch.locks]);
  if (ran.status === "rejected") throw ran.reason;
  if (locks.status === "rejected") throw locks.reason;
  applied.statements = [together];
  applied.seconds.push(ran.value);
  applied.locks = locks.value;
}

function watchLocks({ watcher, pid, database }: Session, { sql, line }: Statement, known: Relations) {
  const seen = new Map<string, { lock: Held; from: number; to: number }>();
  // A CONCURRENTLY that removes an index locks it when nobody uses it any more.
  const isConcurrent = /\bconcurrently\b/i.test(sql);
  let isOver = false;
  const look = async () => {
    const locked = await watcher.rows<{ oid: number; modes: Mode[] }>(
      `select relation::bigint as oid, jsonb_agg(distinct mode) as modes from pg_locks
       where pid = ${pid} and locktype = 'relation' and granted and database = ${database} group by 1`,
    );
    const now = performance.now();
    const relevant = locked.filter(({ oid }) => !isConcurrent || known.byOid.get(oid)?.table === null);
    for (const lock of heldBy(relevant, known, line)) {
      const key = `${lock.table} ${lock.mode}`;
      seen.set(key, { lock, from: seen.get(key)?.from ?? now, to: now });
    }
  };
  const looking = poll({ seconds: fileSeconds, everyMilliseconds }, async () => {
    if (!isOver) await look();
    return isOver || undefined;
  });
  return {
    stop: () => {
      isOver = true;
    },
    locks: looking.then(() =>
      [...seen.values()].map(({ lock, from, to }) => ({ ...lock, seconds: (to - from) / 1000 })),
    ),
  };
}
