// `migrate status`: each migration once, and what the files, the database and the kit's own notes say about it. Only reads.
import { exitCodes } from "./failure.ts";
import type { MigrateRequest } from "./migrate-request.ts";
import { readMigrations } from "./migration-file.ts";
import { look } from "./migration-look.ts";
import type { Seen } from "./migration-plan.ts";
import { type MigrationRow, type MigrationState, stateOf } from "./migration-state.ts";
import { openPlace, type Place } from "./place.ts";
import { inDatabase } from "./psql.ts";
import { asTyped } from "./runtime.ts";
import { formatTable } from "./table.ts";
import { interruption } from "./wait.ts";

export async function status({ settings, directory, flags }: MigrateRequest): Promise<void> {
  const interrupted = interruption();
  const files = await readMigrations(directory);
  const place = await openPlace({ settings, directory, on: flags.on, url: flags["database-url"] }, interrupted);
  try {
    const seen = await inDatabase(place, place.database, interrupted, look);
    const rows = stateOf(files, seen);
    const { environment, database } = place;
    const invalidIndexes = seen.invalid.map(({ index }) => index);
    const document = { environment, database, migrations: rows, counts: countStates(rows), invalidIndexes };
    console.log(flags.json ? JSON.stringify(document) : asTyped(formatStatus(rows, seen, place)));
    const isWell = rows.every(({ state }) => state === "applied") && seen.invalid.length === 0;
    if (flags["exit-code"] && !isWell) process.exitCode = exitCodes.saidNo;
  } finally {
    await place.close();
  }
}

/** What each state other than "applied" asks for. */
const advice: Readonly<Partial<Record<MigrationState, string>>> = {
  pending: "bun scripts/migrate.ts up",
  "out of order": "give the file a newer version; dbmate refuses it as it is",
  edited: "bun scripts/drift.ts check      # what the database has, and the file has not",
  "missing file": "bring the file back from git; bun scripts/drift.ts repair otherwise",
};

export function formatStatus(
  rows: readonly MigrationRow[],
  { invalid }: Pick<Seen, "invalid">,
  { database, name }: Pick<Place, "database" | "name">,
): string {
  const counts = countStates(rows);
  const summary = Object.entries(counts).map(([state, number]) => `${number} ${state}`);
  const lines = rows.map(({ version, file, state }) => [state, file ?? version]);
  return [
    ...(rows.length > 0 ? [formatTable([["state", "migration"], ...lines])] : []),
    `${summary.join(", ") || "no migrations"}: "${database}" on ${name}`,
    ...Object.entries(advice).flatMap(([state, text]) => (state in counts ? [`  ${state}: ${text}`] : [])),
    ...invalid.map(({ index }) => `  the index ${index} is not valid: bun scripts/drift.ts check`),
  ].join("\n");
}

function countStates(rows: readonly MigrationRow[]): Partial<Record<MigrationState, number>> {
  const counts: Partial<Record<MigrationState, number>> = {};
  for (const { state } of rows) counts[state] = (counts[state] ?? 0) + 1;
  return counts;
}
