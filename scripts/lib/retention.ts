// Which backups may go. Pure, and blind to the clock but for what failed: rules count periods that hold a backup, so that nothing
// ages out when backups stop. Never goes: the newest good one of each database, and its newest one that has been proven by a restore.
import { type Backup, isWhole, type Remains } from "./backup-list.ts";
import type { Settings } from "./config.ts";
import { beforeRestore } from "./manifest.ts";

export type Keep = NonNullable<Settings["backup"]>["keep"];

export type PrunePlan = {
  /** Oldest last. */
  removals: Backup[];
  /** Why each of the others stays: "daily", "newest", "proven". */
  kept: { backup: Backup; reasons: string[] }[];
  /** Failed uploads, old enough that none of them can still be going on. */
  remains: Remains[];
};

/** A backup that is being made has no manifest yet either. */
export const abandonedAfterHours = 24;

export function planPrune(
  newestFirst: readonly Backup[],
  remains: readonly Remains[],
  keep: Keep,
  now: Date,
): PrunePlan {
  const reasons = new Map<Backup, string[]>();
  const because = (reason: string, backups: readonly (Backup | undefined)[]) => {
    for (const backup of backups) if (backup) reasons.set(backup, [...(reasons.get(backup) ?? []), reason]);
  };
  // A developer's backup must not stand in for production's of that day.
  for (const ofOne of Map.groupBy(newestFirst, databaseOf).values()) {
    // One with a missing part is no backup, and one made right before a restore holds what somebody wanted to be rid of: neither
    // stands in for a good one.
    const good = ofOne.filter((backup) => isWhole(backup) && !backup.broken);
    because("newest", [good[0]]);
    because("proven", [good.find(isProven)]);
    const others = ofOne.filter((backup) => !isWhole(backup) && !backup.broken);
    const alsoKept = sinceDays(others, good, "days" in keep ? keep.days : keep.daily);
    for (const one of alsoKept) because(one.manifest.tables ? "tables only" : beforeRestore, [one]);
    if ("days" in keep) because("days", ofLastDays(good, keep.days));
    else {
      because(
        "daily",
        newestPerPeriod(good, keep.daily, (at) => at.slice(0, "2026-11-21".length)),
      );
      because("weekly", newestPerPeriod(good, keep.weekly, weekOf));
      because(
        "monthly",
        newestPerPeriod(good, keep.monthly, (at) => at.slice(0, "2026-11".length)),
      );
      because(
        "yearly",
        newestPerPeriod(good, keep.yearly, (at) => at.slice(0, "2026".length)),
      );
    }
  }
  const limit = now.getTime() - abandonedAfterHours * 3_600_000;
  return {
    removals: newestFirst.filter((backup) => !reasons.has(backup)),
    kept: newestFirst
      .filter((backup) => reasons.has(backup))
      .map((backup) => ({ backup, reasons: reasons.get(backup)! })),
    remains: remains.filter(({ newest }) => newest.getTime() < limit),
  };
}

/** Who restored it last has the last word: what was good once may be damaged by now. */
const isProven = ({ proofs }: Backup) => proofs.find(({ by }) => by !== "verify")?.equal === true;

const databaseOf = ({ manifest }: Backup) => `${manifest.environment} ${manifest.database}`;

/** All backups of the last so many days that have one, counted back from the newest backup. */
function ofLastDays(newestFirst: readonly Backup[], days: number): Backup[] {
  const dayOf = ({ manifest }: Backup) => manifest.at.slice(0, "2026-11-21".length);
  const kept = new Set([...new Set(newestFirst.map(dayOf))].slice(0, days));
  return newestFirst.filter((backup) => kept.has(dayOf(backup)));
}

/** Those of single tables, and those made before a restore, stay as long as the good ones of every day do. */
function sinceDays(others: readonly Backup[], good: readonly Backup[], days: number): Backup[] {
  const oldest = ofLastDays(good, Math.max(days, 1)).at(-1);
  const since = oldest?.manifest.at.slice(0, "2026-11-21".length) ?? "";
  return others.filter(({ manifest }) => manifest.at >= since);
}

/** The newest of each of the last so many periods. In UTC, so that no change of the clocks parts a day. */
function newestPerPeriod(newestFirst: readonly Backup[], limit: number, periodOf: (at: string) => string): Backup[] {
  const periods = Map.groupBy(newestFirst, ({ manifest }) => periodOf(manifest.at));
  return [...periods.values()].slice(0, limit).map(([newest]) => newest!);
}

/** The Monday that the week begins with. */
function weekOf(at: string): string {
  const day = new Date(`${at.slice(0, "2026-11-21".length)}T00:00:00Z`);
  day.setUTCDate(day.getUTCDate() - ((day.getUTCDay() + 6) % 7));
  return day.toISOString().slice(0, "2026-11-21".length);
}
