// What `migrate up` would apply, and every reason against it. Pure.
import { exitCodes, Failure } from "./failure.ts";
import type { MigrationFile } from "./migration-file.ts";
import { type InvalidIndex, indexesInTheWay } from "./migration-indexes.ts";
import { stateOf, type Tracked, versionsIn } from "./migration-state.ts";

/** What one look at a database has shown. */
export type Seen = Tracked & { invalid: readonly InvalidIndex[] };

export type UpPlan = {
  /** Oldest first. */
  pending: readonly MigrationFile[];
  /** What is wrong with those that are applied, and does not keep the others from it. */
  warnings: readonly string[];
};

/** @throws {Failure} exit 2 for a file that came too late; 3 for an invalid index that one of them would take for its own. */
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
  requireNoneInTheWay(seen.invalid, pending, "Nothing was migrated");
  const warnings = rows.flatMap(({ version, file, state }) => {
    if (state === "missing file") return [`${file ?? version} is applied, and there is no such file in migrations/`];
    return state === "edited" ? [`${file} was edited after it had been applied`] : [];
  });
  return { pending, warnings };
}

/** @throws {Failure} exit 3 */
export function requireNoneInTheWay(
  invalid: readonly InvalidIndex[],
  pending: readonly MigrationFile[],
  what: string,
): void {
  const inTheWay = indexesInTheWay(invalid, pending);
  const [first] = inTheWay;
  if (!first) return;
  const why = `migrations/${first.file.file} makes the index ${first.index}, which is there, left by a run that failed, and not valid`;
  throw new Failure(what, why, [...dropCommands(inTheWay.map(({ index }) => index)), "the same command again"], {
    exitCode: exitCodes.saidNo,
    read: "docs/runbook/migration-failed.md",
  });
}

export const dropCommands = (indexes: readonly string[]) =>
  indexes.map((index) => `in psql: drop index concurrently ${index};`);
