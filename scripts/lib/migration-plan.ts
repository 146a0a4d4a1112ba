// What `migrate up` would apply, and every reason against it. Pure.
import { exitCodes, Failure } from "./failure.ts";
import type { MigrationFile } from "./migration-file.ts";
import { type InvalidIndex, indexesInTheWay } from "./migration-indexes.ts";
import { stateOf, type Tracked, versionsIn } from "./migration-state.ts";
import { inSomePsql, type SqlByHand } from "./sql-by-hand.ts";

/** What one look at a database has shown. */
export type Seen = Tracked & { invalid: readonly InvalidIndex[] };

export type UpPlan = {
  /** Oldest first. */
  pending: readonly MigrationFile[];
  /** What is wrong with those that are applied, and does not keep the others from it. */
  warnings: readonly string[];
};

/**
 * Also without the lock: what is not valid only because another runner builds it just now is none of its business.
 * @throws {Failure} exit 2 for a file that came too late.
 */
export function planUp(files: readonly MigrationFile[], seen: Seen): UpPlan {
  const rows = stateOf(files, seen);
  const late = versionsIn(rows, "out of order");
  if (late.length > 0) {
    const verb = late.length === 1 ? "is" : "are";
    const why = `${late.join(", ")} ${verb} older than ${[...seen.applied].sort().at(-1)}, which is applied already`;
    throw new Failure("Nothing was migrated", why, ["give the file in migrations/ a newer version"], {
      exitCode: exitCodes.usage,
      read: "docs/runbook/migration-failed.md",
    });
  }
  const isPending = new Set(versionsIn(rows, "pending"));
  const pending = files.filter(({ version }) => isPending.has(version));
  const warnings = rows.flatMap(({ version, file, state }) => {
    if (state === "missing file") return [`${file ?? version} is applied, and there is no such file in migrations/`];
    return state === "edited" ? [`${file} was edited after it had been applied`] : [];
  });
  return { pending, warnings };
}

/**
 * Under the lock: no other runner is at it then. With the index of a run that failed, the file would fail; one that somebody builds by
 * hand is not valid either, and must not be dropped for that.
 * @throws {Failure} exit 3 for what has to be dropped, 4 for what has to be waited for.
 */
export async function requireNoneInTheWay(
  invalid: readonly InvalidIndex[],
  pending: readonly MigrationFile[],
  what: string,
  byHand: SqlByHand = inSomePsql,
): Promise<void> {
  const inTheWay = await indexesInTheWay(invalid, pending);
  const read = "docs/runbook/migration-failed.md";
  const beingBuilt = inTheWay.find(({ isBeingBuilt }) => isBeingBuilt);
  if (beingBuilt) {
    const { file, index, builtBy } = beingBuilt;
    const who = builtBy ? `Postgres process ${builtBy}` : "somebody";
    const why = `migrations/${file.file} makes the index ${index}, which ${who} is building just now`;
    throw new Failure(what, why, ["the same command again, when it has ended"], { exitCode: exitCodes.locked, read });
  }
  const [first] = inTheWay;
  if (!first) return;
  const why = `migrations/${first.file.file} makes the index ${first.index}, which is there, left by a run that failed, and not valid`;
  const drops = dropCommands(
    inTheWay.map(({ index }) => index),
    byHand,
  );
  throw new Failure(what, why, [...drops, "the same command again"], { exitCode: exitCodes.saidNo, read });
}

export const dropCommands = (indexes: readonly string[], byHand: SqlByHand = inSomePsql) =>
  indexes.map((index) => byHand(`drop index concurrently ${index};`));
