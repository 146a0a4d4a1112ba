// New names for migration files: those whose version is another one's, or comes too late, and those that a repair writes.
import { type Assessment, singleVersions } from "./drift-assess.ts";
import { trackedOf } from "./drift-findings.ts";
import type { Renamed } from "./drift-plan.ts";
import { cannotBeApplied } from "./drift-structure.ts";
import { type MigrationFile, parseMigration } from "./migration-file.ts";
import { stateOf, versionsIn } from "./migration-state.ts";

export type Versions = { stamp: string; next: () => string };

/** UTC, as `migrate new` makes them, a second apart, and behind all there are in dbmate's order, which is that of texts. */
export function newVersions(known: readonly string[], now = new Date()): Versions {
  const stampAt = (seconds: number) =>
    new Date(now.getTime() + seconds * 1000).toISOString().replace(/\D/g, "").slice(0, 14);
  const newest = [...known].sort().at(-1) ?? "";
  let count = 0;
  return {
    stamp: stampAt(0),
    next() {
      const fresh = stampAt(count++);
      if (fresh > newest) return fresh;
      // Somebody's clock is ahead, or the files are numbered.
      const counted = `${BigInt(newest) + BigInt(count)}`.padStart(newest.length, "0");
      return counted > newest ? counted : `${newest}${count}`;
    },
  };
}

/** For files whose effect is there: behind all that is applied, and in front of all that is not, which dbmate would refuse behind them. */
export function versionsInFrontOf(
  { applied, present, pending }: Pick<Assessment, "applied" | "present" | "pending">,
  versions: Versions,
): () => string {
  const sorted = (files: readonly MigrationFile[]) => files.map(({ version }) => version).sort();
  const [oldest] = sorted(pending.filter((file) => !present.includes(file)));
  if (oldest === undefined) return versions.next;
  let newest = sorted([...applied, ...present]).at(-1) ?? "0".repeat(oldest.length);
  return () => {
    newest = between(newest, oldest) ?? versions.next();
    return newest;
  };
}

/** The order is that of texts. */
function between(low: string, high: string): string | undefined {
  const counted = `${BigInt(low) + 1n}`.padStart(low.length, "0");
  return [counted, `${low}1`, `${low}01`, `${low}001`].find((version) => low < version && version < high);
}

/** New names for files whose version is another one's, or comes too late. */
export async function decideNames(
  files: readonly MigrationFile[],
  before: Assessment,
  look: (files: readonly MigrationFile[]) => Promise<Assessment>,
  versions: Versions,
): Promise<Renamed[]> {
  const { live, history, present } = before;
  const newName = (file: MigrationFile): Renamed => {
    const name = `${versions.next()}${file.file.slice(file.version.length)}`;
    return { from: file, to: parseMigration(name, file.text) };
  };
  const renamed: Renamed[] = [];
  for (const same of Map.groupBy(files, ({ version }) => version).values()) {
    if (same.length < 2) continue;
    const stays = await whichWasApplied(same, files, before, look);
    if (stays) renamed.push(...same.filter((file) => file !== stays).map(newName));
  }
  const single = singleVersions(files, live);
  const isThere = new Set(present.map(({ version }) => version));
  const tracked = trackedOf(history, live);
  // Those that are there will be noted as applied.
  const applied = [...tracked.applied, ...isThere];
  const late = new Set(versionsIn(stateOf(single, { ...tracked, applied }), "out of order"));
  renamed.push(...single.filter(({ version }) => late.has(version)).map(newName));
  return renamed;
}

/** By what is noted, else by what is there: the one with which fewer differences are left. @returns undefined where nothing says it. */
async function whichWasApplied(
  same: readonly MigrationFile[],
  files: readonly MigrationFile[],
  { live, history }: Assessment,
  look: (files: readonly MigrationFile[]) => Promise<Assessment>,
): Promise<MigrationFile | undefined> {
  const [first] = same;
  if (!history.known.includes(first!.version)) return first;
  const noted = same.find(({ file }) => file === live.recorded[first!.version]?.file);
  if (noted) return noted;
  const tried = [];
  for (const file of same) {
    const alone = files.filter((other) => other === file || !same.includes(other));
    const left = await look(alone).then(
      ({ differences }) => differences.length,
      (error: unknown) => {
        // The rest builds on another one.
        if (cannotBeApplied(error)) return Number.POSITIVE_INFINITY;
        throw error;
      },
    );
    tried.push({ file, left });
  }
  const [best, second] = tried.sort((one, other) => one.left - other.left);
  return best!.left < second!.left ? best!.file : undefined;
}
