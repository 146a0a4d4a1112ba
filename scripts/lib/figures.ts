// Sizes, times and rates as people read them.

const units = ["bytes", "kB", "MB", "GB", "TB"] as const;

/** "512 bytes", "1.5 GB": powers of 1000, as disks and bills have them. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  // What would be rounded to "1000 kB" is 1.0 MB.
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  const digits = unit === 0 || value >= 100 ? 0 : 1;
  return `${value.toFixed(digits)} ${units[unit]}`;
}

/** "40 s", "12 min", "3 h", "2 days": never a false precision. */
export function formatSeconds(seconds: number): string {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 2 * 3600) return `${Math.round(seconds / 60)} min`;
  if (seconds < 48 * 3600) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86_400)} days`;
}

/** How long ago. @param at ISO 8601 */
export const formatAge = (at: string, now: Date) => formatSeconds(Math.max(0, (now.getTime() - Date.parse(at)) / 1000));
