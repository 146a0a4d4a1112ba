// Releases: what one is, how it is remembered on the server (its files in releases/ID, a line in releases.jsonl), and which
// of them may go.
import { exitCodes, Failure } from "./failure.ts";
import { onOneLine } from "./printable.ts";
import type { Slot } from "./upstream.ts";

/** One deploy or rollback, as a line of releases.jsonl. No secret in it: it is printed, and kept. */
export type Release = {
  release: number;
  verb: "deploy" | "rollback";
  /** As asked for, a tag perhaps. */
  image: string;
  /** What runs: "name@sha256:…", or the tag that an image sent over SSH got on the server. */
  reference: string;
  imageId: string;
  /** Of all its files and values. */
  configHash: string;
  slot: Slot;
  /** The newest migration when it went live, "" without any. */
  schemaVersion: string;
  /** The id of the backup that was made before its migrations. */
  backup?: string;
  /** What served before; 0 before the first. */
  previous: number;
  /** Of a rollback under a new number: the release that it repeats. */
  of?: number;
  who: string;
  /** ISO 8601, when it began. */
  at: string;
  seconds: number;
  steps: Readonly<Record<string, number>>;
  outcome: "done" | "failed" | "undone" | "interrupted";
  /** Why, unless done; one line. */
  reason?: string;
};

/** The lines that can be read. One that was cut off when the power failed is not worth an error. */
export function parseRecords(text: string): Release[] {
  return text.split("\n").flatMap((line) => {
    try {
      const record = JSON.parse(line) as Release;
      const { release, outcome, at, seconds, image } = record;
      const isWhole =
        [release, seconds].every(Number.isFinite) && [outcome, at, image].every((text) => typeof text === "string");
      return isWhole ? [record] : [];
    } catch {
      return [];
    }
  });
}

/** A record, and whether the server still has the files of that release: without them nobody can go back to it. */
export type Remembered = Release & { kept: boolean };

/** The answer of `history`: the numbers of the live release and of those whose files are kept, then the records. */
export function parseHistory(text: string): { live: number | undefined; records: Remembered[] } {
  const [first = "", ...rest] = text.split("\n");
  const [live = "", ...kept] = first.split(" ");
  const records = parseRecords(rest.join("\n"));
  return {
    live: live === "" ? undefined : Number(live),
    records: records.map((record) => ({ ...record, kept: kept.includes(`${record.release}`) })),
  };
}

/** The number of the next one: never used before, also not by one that failed. */
export function nextNumber(records: readonly Release[], kept: readonly number[], live: number): number {
  return Math.max(0, live, ...records.map(({ release }) => release), ...kept) + 1;
}

/** Numbers whose files are on the server, from a listing of releases/. */
export function keptIn(listing: string): number[] {
  return listing.split("\n").flatMap((name) => (/^\d+$/.test(name) ? [Number(name)] : []));
}

/** The last line about a release says how it stands. */
export function latest(records: readonly Release[], number: number): Release | undefined {
  return records.findLast(({ release }) => release === number);
}

/** The releases that went live and stayed, newest first, each once. */
export function successes<R extends Release>(records: readonly R[]): R[] {
  const done = new Map<number, R>();
  for (const record of records) {
    if (record.outcome === "done") done.set(record.release, done.get(record.release) ?? record);
  }
  return [...done.values()].sort((a, b) => b.release - a.release);
}

/** What served before a release when it was first deployed: who goes back twice does not meet what he came from. */
function predecessor(records: readonly Release[], number: number | undefined): Release | undefined {
  const all = successes(records);
  if (number === undefined) return all[0];
  const first = all.find(({ release }) => release === number);
  if (first?.of !== undefined && first.of < number) return predecessor(records, first.of);
  return all.find(({ release }) => release === first?.previous) ?? all.find(({ release }) => release < number);
}

/**
 * The release to go back to: the one asked for, or what served before the live one. Where nothing says which is live, the newest.
 * @throws {Failure} exit 2, naming those that there are.
 */
export function chooseTarget(
  records: readonly Release[],
  live: number | undefined,
  wanted: number | undefined,
): Release {
  const all = successes(records);
  const target = wanted === undefined ? predecessor(records, live) : all.find(({ release }) => release === wanted);
  if (target) return target;
  const there = all.map(({ release }) => release).join(", ");
  const why =
    wanted === undefined
      ? "there is no earlier one"
      : `release ${wanted} has never served; these have: ${there || "none"}`;
  throw new Failure("Cannot go back", why, ["bun scripts/rollback.ts --list"], { exitCode: exitCodes.usage });
}

/** The newest backup that holds the data as a release knows it: made before anything was migrated beyond its schema. */
export function backupFor(records: readonly Release[], { schemaVersion }: Release): string | undefined {
  const fits = (index: number) => (records[index - 1]?.schemaVersion ?? "") <= schemaVersion;
  return records.findLast(({ backup }, index) => backup !== undefined && fits(index))?.backup;
}

/** @param toVersion where the server has newer migrations, which would be applied to it at once. */
export function restoreCommand(backup: string, project: string, toVersion?: string): string {
  const upTo = toVersion ? ` --to-version ${toVersion}` : "";
  return `bun scripts/restore.ts ${backup} --on production --confirm ${project}${upTo}`;
}

export type Removal = { release: number; imageId?: string };

/**
 * What may go: files of releases beyond the newest `keep` successes, and images that none of the kept ones uses; also those of
 * deploys that failed. Never what belongs to the live release, nor to the one before it.
 * @param present ids of the images that are on the server.
 */
export function planPrune(
  records: readonly Release[],
  kept: readonly number[],
  live: { release: number; previous: number },
  keep: number,
  present: readonly string[],
): Removal[] {
  // The live one counts too, and is not recorded yet.
  const newest = successes(records.filter(({ release }) => release !== live.release)).slice(0, keep - 1);
  const stay = new Set([live.release, live.previous, ...newest.map(({ release }) => release)]);
  const used = new Set([...stay].map((number) => latest(records, number)?.imageId));
  const imageOf = (number: number) => {
    const imageId = latest(records, number)?.imageId;
    return imageId && !used.has(imageId) && present.includes(imageId) ? imageId : undefined;
  };
  const all = new Set([...kept, ...records.map(({ release }) => release)]);
  return [...all]
    .filter((number) => !stay.has(number) && (kept.includes(number) || imageOf(number)))
    .sort((a, b) => a - b)
    .map((release) => ({ release, ...(imageOf(release) && { imageId: imageOf(release) }) }) as Removal);
}

/** The table of `deploy --history` and `rollback --list`, newest first. */
export function formatHistory(records: readonly Remembered[], live: number | undefined): string {
  if (records.length === 0) return "There is no release yet.";
  const rows = records
    .toReversed()
    .map((record) => [
      `${record.release}${record.release === live ? " *" : ""}`,
      record.verb,
      record.outcome,
      record.at.slice(0, 19).replace("T", " "),
      `${record.seconds.toFixed(1)} s`,
      record.schemaVersion || "-",
      record.who,
      record.image,
      record.outcome === "done" && !record.kept
        ? "its files are gone: no way back to it"
        : onOneLine(record.reason ?? ""),
    ]);
  const head = ["release", "verb", "outcome", "when (UTC)", "took", "schema", "who", "image", ""];
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]!.length)));
  const line = (row: readonly string[]) =>
    row
      .map((text, column) => text.padEnd(widths[column]!))
      .join("  ")
      .trimEnd();
  return [head, ...rows].map(line).join("\n");
}
