// What people and programs are told when a drill has come to a result.
import type { DrillPlan } from "./drill-plan.ts";
import { formatMigrations } from "./drill-plan.ts";
import type { Drilled } from "./drill-run.ts";
import { exitCodes, Failure } from "./failure.ts";
import { formatAge, formatBytes, formatSeconds } from "./figures.ts";

/** One line: for the notification, and the first of what is printed. */
export function summaryOf({ backup, image }: DrillPlan, { rows, tables, bytes, restoreSeconds }: Drilled): string {
  const counted = `${rows} rows in ${tables === 1 ? "1 table" : `${tables} tables`}`;
  return `Backup ${backup.id} restores: ${counted}, equal to its manifest, usable after ${formatSeconds(restoreSeconds!)} (${formatBytes(bytes)}, ${image})`;
}

/** Of a drill that has found nothing wrong. */
export function formatDrilled(plan: DrillPlan, drilled: Drilled, now: Date): string {
  const { at } = plan.backup.manifest;
  return [
    summaryOf(plan, drilled),
    `  it holds the data of ${formatAge(at, now)} ago (${at})`,
    ...(drilled.migrated ? [`  ${formatMigrations(drilled.migrated)} applied, as a restore would`] : []),
    ...[...plan.warnings, ...drilled.warnings].map((text) => `  warning: ${text}`),
  ].join("\n");
}

/** Why the drill exits with 3 although it went well or came to an end; undefined when all is well. */
export function whyNotGood({ backup, tooOld }: DrillPlan, { finding, rowsEqual }: Drilled): Failure | undefined {
  const page = { exitCode: exitCodes.saidNo, read: "docs/drill.md" } as const;
  if (finding) {
    const { message, details, next, read } = finding;
    const extra = details && { details };
    if (rowsEqual) {
      const what = `Backup ${backup.id} is whole, and a restore of it would stop`;
      return new Failure(what, message, next, { ...page, ...extra, ...(read && { read }) });
    }
    const others = ["bun scripts/backup.ts --on production      # a new one, then drill that", ...next];
    return new Failure(`Backup ${backup.id} cannot be relied on`, message, others, { ...page, ...extra });
  }
  if (!tooOld) return undefined;
  const next = ["bun scripts/backup.ts --on production", "bun scripts/backup.ts list      # when did they stop?"];
  return new Failure("Nobody makes backups any more", tooOld, next, page);
}

export function asJson({ backup, image, tooOld, warnings: planned }: DrillPlan, drilled: Drilled, now: Date) {
  const { finding, warnings, ...found } = drilled;
  const { id, manifest } = backup;
  const ageHours = Math.round((now.getTime() - Date.parse(manifest.at)) / 36_000) / 100;
  return {
    ...{ backup: id, at: manifest.at, ageHours, tooOld: tooOld !== undefined, image },
    ...found,
    ...(finding && { why: finding.message }),
    warnings: [...planned, ...warnings],
  };
}
