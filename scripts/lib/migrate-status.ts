// `migrate status`: each migration once, and what the files, the database and the kit's own notes say about it. Only reads.
import { exitCodes } from "./failure.ts";
import type { MigrateRequest } from "./migrate-request.ts";
import { readMigrations } from "./migration-file.ts";
import type { InvalidIndex } from "./migration-indexes.ts";
import { look } from "./migration-look.ts";
import type { Seen } from "./migration-plan.ts";
import { type MigrationRow, type MigrationState, stateOf, versionsIn } from "./migration-state.ts";
import { flagsFor, openPlace, type Place } from "./place.ts";
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
    const indexesThat = (are: boolean) =>
      seen.invalid.filter(({ isBeingBuilt }) => isBeingBuilt === are).map(({ index }) => index);
    const indexes = { invalidIndexes: indexesThat(false), indexesBeingBuilt: indexesThat(true) };
    const counts = countStates(rows);
    const withoutSum = notNoted(rows, seen);
    const document = { environment, database, migrations: rows, counts, withoutSum, ...indexes };
    console.log(flags.json ? JSON.stringify(document) : asTyped(formatStatus(rows, seen, place)));
    // What somebody is building will be valid when he has ended.
    const isWell = rows.every(({ state }) => state === "applied") && indexes.invalidIndexes.length === 0;
    if (flags["exit-code"] && !isWell) process.exitCode = exitCodes.saidNo;
  } finally {
    await place.close();
  }
}

/** What each state other than "applied" asks for. @param where the flags that lead to the same database. */
const adviceFor = (where: string): Readonly<Partial<Record<MigrationState, string>>> => ({
  pending: `bun scripts/migrate.ts up${where}`,
  "out of order": "give the file a newer version; dbmate refuses it as it is",
  edited: `bun scripts/drift.ts check${where}      # what the database has, and the file has not`,
  "missing file": `bring the file back from git; bun scripts/drift.ts repair${where} otherwise`,
});

export function formatStatus(
  rows: readonly MigrationRow[],
  { invalid, recorded }: Pick<Seen, "invalid" | "recorded">,
  { database, name, environment }: Pick<Place, "database" | "name" | "environment">,
): string {
  const where = flagsFor(environment);
  const counts = countStates(rows);
  const unnoted = notNoted(rows, { recorded }).length;
  const edits = `an edit of ${unnoted === 1 ? "it" : "them"} would not be seen`;
  const summary = Object.entries(counts).map(([state, number]) => `${number} ${state}`);
  const lines = rows.map(({ version, file, state }) => [state, file ?? version]);
  return [
    ...(rows.length > 0 ? [formatTable([["state", "migration"], ...lines])] : []),
    `${summary.join(", ") || "no migrations"}: "${database}" on ${name}`,
    ...Object.entries(adviceFor(where)).flatMap(([state, text]) => (state in counts ? [`  ${state}: ${text}`] : [])),
    ...(unnoted > 0
      ? [`  ${unnoted} applied by something else than \`migrate up\` or a deploy, and not noted: ${edits}`]
      : []),
    ...invalid.map((index) => `  ${formatInvalid(index, where)}`),
  ].join("\n");
}

const formatInvalid = ({ index, isBeingBuilt, builtBy }: InvalidIndex, where: string) =>
  isBeingBuilt
    ? `${index} is not valid yet: ${builtBy ? `Postgres process ${builtBy}` : "somebody"} is building it`
    : `the index ${index} is not valid: bun scripts/drift.ts check${where}`;

/** The versions of which nobody knows what the file was like when it was applied. */
const notNoted = (rows: readonly MigrationRow[], { recorded }: Pick<Seen, "recorded">): string[] =>
  versionsIn(rows, "applied").filter((version) => !recorded[version]);

function countStates(rows: readonly MigrationRow[]): Partial<Record<MigrationState, number>> {
  const counts: Partial<Record<MigrationState, number>> = {};
  for (const { state } of rows) counts[state] = (counts[state] ?? 0) + 1;
  return counts;
}
