// The indexes that a repair rebuilds or drops, before its transaction: CONCURRENTLY, so that nobody waits for it; it waits for others, maybe
// for hours, and says for whom. Told to stop or refused, it takes away what a REINDEX has begun: an index more that is not valid.
import type { Step } from "./drift-plan.ts";
import { exitCodes, Failure } from "./failure.ts";
import { whoBlocks } from "./migration-lock.ts";
import type { Place } from "./place.ts";
import { onOneLine } from "./printable.ts";
import type { Progress } from "./progress.ts";
import { inDatabase, type Psql, quoteIdentifier, quoteLiteral, SqlError } from "./psql.ts";
import { poll } from "./wait.ts";

type Mending = { place: Place; steps: readonly Step[]; progress: Progress; interrupted: AbortSignal };

const stepSeconds = 6 * 3600;
const watchMilliseconds = 1000;
/** Whoever has told us to stop waits for this. */
const tidySeconds = 5;

export async function mendIndexes({ place, steps, progress, interrupted }: Mending): Promise<void> {
  const work = <T>(does: (psql: Psql) => Promise<T>) => inDatabase(place, place.database, interrupted, does);
  try {
    await work((psql) => work((watcher) => eachAlone(psql, watcher, steps, progress)));
  } catch (error) {
    if (interrupted.aborted) await tidyUp(place, steps, progress);
    throw error;
  }
}

async function eachAlone(psql: Psql, watcher: Psql, steps: readonly Step[], progress: Progress): Promise<void> {
  const [own] = await psql.rows<{ pid: number }>("select pg_backend_pid() as pid");
  const stopWatching = noteWaits(watcher, own!.pid, progress);
  try {
    for (const { what, statements } of steps) {
      for (const statement of statements) {
        await psql.execute(statement, stepSeconds).catch(async (error: unknown) => {
          if (!(error instanceof SqlError)) throw error;
          for (const left of await leftOf(psql, statement)) await psql.execute(dropped(left));
          const next = ["mend what the error names", "the same command again"];
          const extra = { exitCode: exitCodes.saidNo, ...(error.details && { details: error.details }) };
          throw new Failure(`Cannot ${what}`, error.why, next, { ...extra, read: "docs/runbook/drift-found.md" });
        });
      }
    }
  } finally {
    stopWatching();
  }
}

/** Each once. */
function noteWaits(watcher: Psql, pid: number, progress: Progress): () => void {
  let told = "";
  let isAsking = false;
  const ask = async () => {
    if (isAsking) return;
    isAsking = true;
    const [found] = await watcher.rows<{ who: string }>(whoBlocks(`a.pid = ${pid}`)).catch(() => []);
    isAsking = false;
    if (!found || found.who === told) return;
    told = found.who;
    progress.note(`waits for ${onOneLine(told)}, at most ${stepSeconds / 3600} h; nobody waits for this`);
  };
  const timer = setInterval(() => void ask(), watchMilliseconds);
  return () => clearInterval(timer);
}

/** In a session of its own: the other one has ended with the interruption. */
async function tidyUp(place: Place, steps: readonly Step[], progress: Progress): Promise<void> {
  const statements = steps.flatMap((step) => step.statements).filter((statement) => rebuilt(statement) !== undefined);
  if (statements.length === 0) return;
  let left: string[] = [];
  try {
    await inDatabase(place, place.database, AbortSignal.timeout(4 * tidySeconds * 1000), async (psql) => {
      await poll({ seconds: tidySeconds }, async () => ((await isRebuilding(psql)) ? undefined : true));
      const found = await Promise.all(statements.map((statement) => leftOf(psql, statement)));
      left = [...new Set(found.flat())];
      await psql.execute(`set lock_timeout = '${tidySeconds}s'`);
      for (const index of [...left]) {
        await psql.execute(dropped(index));
        left = left.filter((other) => other !== index);
      }
    });
  } catch {
    const what = left.length > 0 ? `${left.join(", ")} is left` : "an index may be left";
    progress.note(`warning: ${what}, which is not valid: the same command again drops it`);
  }
}

const rebuilt = (statement: string) => /^reindex index concurrently (.*)$/.exec(statement)?.[1];

const dropped = (index: string) => `drop index concurrently if exists ${index}`;

async function isRebuilding(psql: Psql): Promise<boolean> {
  const [row] = await psql.rows<{ busy: boolean }>(
    "select exists (select from pg_stat_progress_create_index where datname = current_database() and command = 'REINDEX CONCURRENTLY') as busy",
  );
  return row!.busy;
}

/** @returns what a REINDEX CONCURRENTLY has left that is not at work any more: quoted names. */
async function leftOf(psql: Psql, statement: string): Promise<string[]> {
  const name = rebuilt(statement);
  if (!name) return [];
  const rows = await psql.rows<{ schema: string; index: string }>(
    `select n.nspname as schema, c.relname as index from pg_index i join pg_class c on c.oid = i.indexrelid join pg_namespace n on n.oid = c.relnamespace
     where not i.indisvalid and i.indrelid = (select indrelid from pg_index where indexrelid = to_regclass(${quoteLiteral(name)}))
       and c.relname ~ '_cc(?:new|old)[0-9]*$'
       and not exists (select from pg_stat_progress_create_index p where p.index_relid = c.oid)`,
  );
  return rows.map(({ schema, index }) => `${quoteIdentifier(schema)}.${quoteIdentifier(index)}`);
}
