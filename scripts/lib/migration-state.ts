// What the files, the database and the kit's own notes say about each migration, put side by side. Pure.
import type { MigrationFile } from "./migration-file.ts";

/** What a database knows of its migrations. */
export type Tracked = {
  /** The versions of schema_migrations, as text. */
  applied: readonly string[];
  /** By version: the sha256 of each file as it was when `migrate up` applied it, or found it applied by something else. */
  recorded: Readonly<Record<string, { file: string; sha256: string }>>;
};

export type MigrationState = "applied" | "pending" | "edited" | "out of order" | "missing file";

export type MigrationRow = {
  version: string;
  /** Where there is none any more: as it was called when it was applied, if that is known. */
  file: string | undefined;
  state: MigrationState;
};

/**
 * Each migration once, in dbmate's order.
 *   edited        applied, and the file is not what was applied
 *   out of order  pending, and older than one that is applied: dbmate --strict refuses it
 *   missing file  applied, and there is no such file
 */
export function stateOf(files: readonly MigrationFile[], { applied, recorded }: Tracked): MigrationRow[] {
  const isApplied = new Set(applied);
  const newest = [...applied].sort().at(-1) ?? "";
  const known = files.map(({ file, version, sha256 }): MigrationRow => {
    if (!isApplied.has(version)) return { file, version, state: version < newest ? "out of order" : "pending" };
    const then = recorded[version];
    return { file, version, state: then && then.sha256 !== sha256 ? "edited" : "applied" };
  });
  const versions = new Set(files.map(({ version }) => version));
  const missing = applied
    .filter((version) => !versions.has(version))
    .map((version): MigrationRow => ({ version, file: recorded[version]?.file, state: "missing file" }));
  return [...known, ...missing].sort((one, other) => (one.version < other.version ? -1 : 1));
}

/** The versions in that state. */
export const versionsIn = (rows: readonly MigrationRow[], ...states: readonly MigrationState[]): string[] =>
  rows.filter(({ state }) => states.includes(state)).map(({ version }) => version);
