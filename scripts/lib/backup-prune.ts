// Carries out what lib/retention.ts has decided.
import type { Backup } from "./backup-list.ts";
import { formatAge, formatBytes } from "./figures.ts";
import { names } from "./manifest.ts";
import { abandonedAfterHours, type PrunePlan } from "./retention.ts";
import type { Store } from "./s3.ts";

export type Unfinished = Awaited<ReturnType<Store["listUnfinished"]>>[number];

/** One that is younger may still be going on. */
export const isAbandoned = (begun: Date, now: Date) =>
  now.getTime() - begun.getTime() > abandonedAfterHours * 3_600_000;

export function formatPrune(
  { removals, kept, remains }: PrunePlan,
  unfinished: readonly Unfinished[],
  now: Date,
): string {
  const age = ({ manifest }: Backup) => `${formatAge(manifest.at, now)} ago`;
  return [
    ...kept.map(({ backup, reasons }) => `  stays    ${backup.id}  ${age(backup)}  ${reasons.join(", ")}`),
    ...removals.map((backup) => `  REMOVES  ${backup.id}  ${age(backup)}  ${formatBytes(backup.bytes)}`),
    ...remains.map(({ folder, bytes }) => `  REMOVES  ${folder}  no backup: without a manifest, ${formatBytes(bytes)}`),
    ...unfinished.map(({ key }) => `  REMOVES  ${key}  an upload that was never finished`),
  ].join("\n");
}

/** The manifest goes first: whatever is cut off here leaves stray bytes, and never a manifest without its dump. */
export async function applyPrune(
  store: Store,
  { removals, remains }: PrunePlan,
  unfinished: readonly Unfinished[],
): Promise<void> {
  for (const { folder, keys } of removals) {
    const manifest = `${folder}/${names.manifest}`;
    await store.remove([manifest, ...keys.filter((key) => key !== manifest)]);
  }
  for (const { keys } of remains) await store.remove(keys);
  for (const { key, uploadId } of unfinished) await store.abortUnfinished(key, uploadId);
}
