// What stands in the way of a repair, whatever is chosen: what nobody but the user can decide, or do. Pure.
import type { Assessment } from "./drift-assess.ts";
import { type MigrationFile, sameVersions } from "./migration-file.ts";

/** Why something cannot be repaired, with what to do. */
export type Obstacle = { why: string; details?: string; next: string[]; read?: string };

type Standing = Pick<Assessment, "history" | "live" | "differences"> & {
  files: readonly MigrationFile[];
  /** The user says that the numbers are the files' places. */
  isInOrder: boolean;
};

/** What stands in the way, whatever is chosen. */
export function obstaclesTo({ history, live, differences, files, isInOrder }: Standing): Obstacle[] {
  const { otherTool, undecided, converted } = history;
  const lacking = differences.filter(({ what }) => what === "missing");
  const [number] = undecided;
  const candidates = files.map(({ version, file }) => `${version}  ${file}`);
  return [
    ...(otherTool
      ? [
          {
            why: `schema_migrations is a table of ${otherTool}`,
            next: ["bun scripts/drift.ts adopt --plan"],
            read: "docs/adopt.md",
          },
        ]
      : []),
    ...(number !== undefined && !otherTool
      ? [
          {
            why: `nothing says which files ${list(undecided)} of schema_migrations stand for`,
            details: candidates.join("\n"),
            next: [
              `the same command with --match ${number}=VERSION${undecided.length > 1 ? ", and so on for each" : ""}; --match ${number}=none where there is no such file any more`,
            ],
          },
        ]
      : []),
    ...(converted.some(({ by }) => by === "order") && lacking.length > 0 && !isInOrder
      ? [
          {
            why: "by their order the numbers of schema_migrations stand for files whose tables are not all there",
            details: [
              ...converted.map(({ version, file, by }) => `${version} is ${file.file}, by ${by}`),
              ...lacking.map(({ kind, name }) => `missing     ${kind} ${name}`),
            ].join("\n"),
            next: ["the same command with --match NUMBER=VERSION for each, or with --match order if that is right"],
          },
        ]
      : []),
    ...files
      .filter(({ version }) => live.repairs.includes(version) && !history.known.includes(version))
      .map(({ file }) => ({
        why: `migrations/${file}, which a repair has written, is not applied yet`,
        next: ["bun scripts/migrate.ts up"],
      })),
    ...sameVersions(files).map((text) => ({
      why: `nothing says which was applied: ${text}`,
      next: ["give the other one a newer version: rename it"],
      read: "docs/runbook/duplicate-version.md",
    })),
    ...live.invalidIndexes
      .filter(({ isPartitioned }) => isPartitioned)
      .map(({ name, table }) => ({
        why: `index ${name} waits for one on each partition of ${table}`,
        next: [`for each partition: create index concurrently …; alter index ${name} attach partition …`],
      })),
  ];
}

/** Some of many. */
export const list = (values: readonly string[]) =>
  values.length <= 5 ? values.join(", ") : `${values.slice(0, 5).join(", ")} and ${values.length - 5} more`;

/** The differences that need somebody to say which side is right: not those that a step takes away by itself. */
export function undirected({ differences, live }: Pick<Assessment, "differences" | "live">): Assessment["differences"] {
  const granted = live.privileges
    .filter(({ exists, missing }) => exists && missing.length > 0)
    .map(({ table }) => table);
  return differences.filter(({ kind, name }) => !(kind === "grant" && granted.some((table) => isGrantOn(name, table))));
}

const isGrantOn = (name: string, table: string) => name === `on table ${table}` || name === `on table public.${table}`;
