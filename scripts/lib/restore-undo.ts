// The way back after a restore, and the removal of what restores leave: databases that say in their names what they are.
import { dropScript } from "./database-create.ts";
import { freeName, type Leftover, leftoversOf } from "./database-names.ts";
import { exitCodes, Failure } from "./failure.ts";
import { formatAge } from "./figures.ts";
import { flagsFor, type Place } from "./place.ts";
import type { Psql } from "./psql.ts";
import { swapSurely } from "./restore-server.ts";

export type UndoPlan = {
  live: string;
  /** What becomes live again. */
  next: Leftover;
  /** What the present one is called from then on; undefined where there is none. */
  keep: string | undefined;
};

/**
 * The present one gets a name of the same kind, so that undoing twice changes nothing.
 * @param prepared transactions that nobody can send away, by database.
 * @throws {Failure} exit 3 when there is no way back.
 */
export function planUndo(
  live: string,
  databases: readonly string[],
  now: Date,
  prepared: Readonly<Record<string, number>> = {},
): UndoPlan {
  const [next] = leftoversOf(live, databases).filter(({ kind }) => kind === "before");
  if (!next) {
    throw new Failure(
      "There is nothing to undo",
      `no database is called ${live}_before_…`,
      ["bun scripts/backup.ts list      # what was live before is the one with the label before-restore"],
      { exitCode: exitCodes.saidNo, read: "docs/runbook/wrong-backup-restored.md" },
    );
  }
  const held = [live, next.name].filter((name) => prepared[name]);
  if (held.length > 0) {
    const why = `prepared transactions keep ${held.map((name) => `"${name}"`).join(" and ")} from being renamed`;
    throw new Failure("Cannot swap back", why, ["select * from pg_prepared_xacts;", "the same command again"], {
      exitCode: exitCodes.saidNo,
    });
  }
  return { live, next, keep: databases.includes(live) ? freeName(live, "before", now, databases) : undefined };
}

export function formatUndo({ live, next, keep }: UndoPlan, place: string, now: Date): string {
  const age = `${formatAge(next.at.toISOString(), now)} ago`;
  return [
    `Swap back on ${place}`,
    `  "${next.name}", which was live until ${age}, becomes "${live}"`,
    ...(keep ? [`  the present "${live}" becomes "${keep}", with everything that was written to it since then`] : []),
  ].join("\n");
}

export async function applyUndo(place: Place, admin: Psql, plan: UndoPlan): Promise<void> {
  await swapSurely(place, admin, { live: plan.live, next: plan.next.name, keep: plan.keep });
}

export type CleanPlan = { removed: string[]; stay: string[] };

/**
 * Remains of restores always, and of rehearsals unless one is at work; what was live before a restore only when it is named.
 * @throws {Failure} exit 2 for a name that is none of these.
 */
export function planClean(
  live: string,
  databases: readonly string[],
  named: string | undefined,
  isRehearsing = false,
): CleanPlan {
  const found = leftoversOf(live, databases);
  const names = (kind: Leftover["kind"]) => found.filter((it) => it.kind === kind).map(({ name }) => name);
  if (named === undefined) {
    const removed = [...names("restore"), ...(isRehearsing ? [] : names("rehearse"))];
    return { removed, stay: names("before") };
  }
  if (found.some(({ name }) => name === named)) {
    return { removed: [named], stay: found.map(({ name }) => name).filter((name) => name !== named) };
  }
  const there = found.length === 0 ? "there is none" : `there are: ${found.map(({ name }) => name).join(", ")}`;
  throw new Failure(`Cannot remove "${named}"`, `it is no database that a restore left; ${there}`, [], {
    exitCode: exitCodes.usage,
  });
}

export async function applyClean(admin: Psql, { removed }: CleanPlan): Promise<void> {
  for (const name of removed) await admin.execute(dropScript(name), 600);
}

/** @param environment for the command to go on with. */
export function formatCleaned({ removed, stay }: CleanPlan, environment: string): string {
  const gone = removed.length === 0 ? "Nothing to remove" : `Removed ${removed.join(", ")}`;
  return [
    stay.length === 0 ? gone : `${gone}; there are still ${stay.join(", ")}`,
    ...stay
      .slice(-1)
      .map(
        (name) =>
          `  next: bun scripts/restore.ts ${name} --clean${flagsFor(environment)}      # only when nobody wants it back`,
      ),
  ].join("\n");
}
