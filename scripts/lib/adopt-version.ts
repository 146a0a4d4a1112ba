// How a migration that another tool has numbered is called by dbmate: by a UTC time of 14 digits, so that it sorts as text, and before
// everything that `migrate new` will make. The same file gets the same version on every machine. Pure.

/** Numbers become minutes of this day: 40 is 2000-01-01 00:40. */
const dayOfNumbers = Date.UTC(2000, 0, 1);

/** What the digits in front of a name mean. @param digits of any length, at least one. */
export function versionOf(digits: string): string {
  const number = Number(digits);
  if (digits.length === 14) return digits;
  if (digits.length === 17) return digits.slice(0, 14);
  if (digits.length === 12 && isYear(digits)) return `${digits}00`;
  if (digits.length === 8 && isYear(digits)) return `${digits}000000`;
  if (digits.length === 13) return asVersion(number);
  if (digits.length === 10 && digits >= "1000000000") return asVersion(number * 1000);
  return asVersion(dayOfNumbers + Math.min(number, minutesMaximum) * 60_000);
}

const isYear = (digits: string) => /^(19|20)\d\d(0[1-9]|1[0-2])/.test(digits);

/** Larger ones are no numbering; they come after it, in the order of their names. */
const minutesMaximum = 50_000_000;

/** In UTC. */
export function asVersion(milliseconds: number): string {
  return new Date(milliseconds).toISOString().replace(/\D/g, "").slice(0, 14);
}

/** One second later; of digits that are no time, the next number. */
export function nextVersion(version: string): string {
  const [, ...parts] = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)$/.exec(version)!;
  const [year, month, day, hour, minute, second] = parts.map(Number) as [
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  const time = Date.UTC(year, month - 1, day, hour, minute, second);
  if (asVersion(time) === version) return asVersion(time + 1000);
  return `${BigInt(version) + 1n}`.padStart(14, "0");
}

/**
 * A version for each, in the order given: the one that its digits mean, or where that would not come after the one before it, the next.
 * @param counts how many versions each takes, in front of which the next must not come; at least 1.
 */
export function versionsInOrder(digits: readonly string[], counts: readonly number[]): string[][] {
  let last = "00000000000000";
  return digits.map((own, index) => {
    const meant = versionOf(own);
    const versions: string[] = [];
    for (let count = counts[index]!; count > 0; count--) {
      last = versions.length === 0 && meant > last ? meant : nextVersion(last);
      versions.push(last);
    }
    return versions;
  });
}

/** "Create users & roles.sql" → "create_users_roles": what stands behind the version in a file's name. */
export function slugOf(name: string): string {
  const slug = name
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "_")
    .replace(/^_+|_+$/g, "");
  return slug.slice(0, 80) || "migration";
}
