// The rows of a history beside the files of its folder: what is applied, what is not, and what nobody can tell. Pure.
import type { Entry, Source, ToolFacts } from "./adopt-tools.ts";
import { versionOf } from "./adopt-version.ts";

export type Match = {
  /** In the order in which they have to be applied. */
  sources: readonly Source[];
  applied: ReadonlySet<Source>;
  /** Several files that one entry may mean: two with the number 40. */
  undecided: readonly { key: string; sources: readonly Source[] }[];
  /** Applied, and there is no file. */
  unknown: readonly Entry[];
  /** Applied, and the file is not what was applied. */
  edited: readonly Source[];
};

export function match(
  { counts }: Pick<ToolFacts, "counts">,
  entries: readonly Entry[],
  unsorted: readonly Source[],
): Match {
  const sources = [...unsorted, ...rebuilt(entries, unsorted)].sort(inOrder);
  const found = entries.map((entry) => ({ entry, sources: candidates(entry, sources) }));
  const applied = new Set(found.flatMap((one) => (one.sources.length === 1 ? one.sources : [])));
  if (counts === "mark") {
    const newest = BigInt(entries.at(-1)?.key ?? "-1");
    for (const source of sources) if (BigInt(source.digits) < newest) applied.add(source);
  }
  const edited = found.flatMap(({ entry, sources: [source] }) =>
    source?.sha256 && entry.sha256 && source.sha256 !== entry.sha256 ? [source] : [],
  );
  return {
    ...{ sources, applied, edited },
    undecided: found.flatMap((one) => (one.sources.length > 1 ? [{ key: one.entry.key, sources: one.sources }] : [])),
    unknown: found.flatMap((one) => (one.sources.length === 0 ? [one.entry] : [])),
  };
}

/** The whole name tells more than the number, so the first of its keys that any file has decides. */
function candidates({ key, sha256, also = [] }: Entry, sources: readonly Source[]): Source[] {
  const same = sha256 ? sources.filter((source) => source.sha256 === sha256) : [];
  if (same.length === 1) return same;
  const names = sources.filter(({ keys, path }) => path === key || keys[0] === key);
  const found = names.length > 0 ? names : sources.filter(({ keys }) => keys.includes(key));
  const called = found.filter(({ keys, name }) => also.some((one) => one === name || keys.includes(one)));
  return called.length === 1 ? called : found;
}

/** One row, a number, and files with smaller ones: it says how far the database is, not which file was applied. */
export function countsAsMark(entries: readonly Entry[], sources: readonly Source[]): boolean {
  const [only, ...more] = entries;
  const isNumber = (digits: string) => /^\d{1,9}$/.test(digits);
  if (!only || more.length > 0 || !isNumber(only.key)) return false;
  return sources.some(({ digits }) => isNumber(digits) && Number(digits) < Number(only.key));
}

/** Of what the tool has kept the SQL of, and nobody the file. */
function rebuilt(entries: readonly Entry[], sources: readonly Source[]): Source[] {
  return entries.flatMap(({ key, label = key, sql }) => {
    if (!sql || !/^\d+$/.test(key) || sources.some(({ keys }) => keys.includes(key))) return [];
    const name = label.replace(/^\d+_?/, "");
    const path = `the history itself, ${label}`;
    return [{ keys: [key], path, digits: key, name, sql: { up: sql, down: "" }, isRebuilt: true }];
  });
}

/** By version, then by what decides between equal ones; what is repeated comes last. */
function inOrder(one: Source, other: Source): number {
  const repeated = Number(one.repeatable ?? false) - Number(other.repeatable ?? false);
  if (repeated !== 0) return repeated;
  return (
    compare(versionOf(one.digits), versionOf(other.digits)) ||
    compareNumbers(one.after ?? [], other.after ?? []) ||
    compare(one.path, other.path)
  );
}

const compare = (one: string, other: string) => (one < other ? -1 : one > other ? 1 : 0);

function compareNumbers(one: readonly number[], other: readonly number[]): number {
  const at = one.findIndex((number, index) => number !== (other[index] ?? 0));
  if (at >= 0) return one[at]! - (other[at] ?? 0);
  return one.length - other.length;
}
