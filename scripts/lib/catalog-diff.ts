// Where a database is not what its migrations make: object by object, for people to read. Pure.
import type { CatalogObject } from "./catalog-objects.ts";

export type Difference = {
  /** missing: only expected; unexpected: only there; changed: both, and not the same. */
  what: "missing" | "unexpected" | "changed";
  kind: string;
  name: string;
  expected?: string;
  actual?: string;
};

type Found = { what: Difference["what"]; object: CatalogObject; other?: CatalogObject };

/** Whatever belongs to something that is missing or unexpected as a whole goes without saying. A table stands before what belongs to it. */
export function compareCatalogs(expected: readonly CatalogObject[], actual: readonly CatalogObject[]): Difference[] {
  const [wanted, there] = [byKey(expected), byKey(actual)];
  const [wantedNames, thereNames] = [namesOf(expected), namesOf(actual)];
  const keys = [...new Set([...wanted.keys(), ...there.keys()])];
  const found = keys.flatMap((key): Found[] => {
    const [object, other] = [wanted.get(key), there.get(key)];
    if (object && other) return object.definition === other.definition ? [] : [{ what: "changed", object, other }];
    if (object) return goesWithParent(object, wantedNames, thereNames) ? [] : [{ what: "missing", object }];
    return goesWithParent(other!, thereNames, wantedNames) ? [] : [{ what: "unexpected", object: other! }];
  });
  return found
    .sort((one, other) => compare(placeOf(one.object), placeOf(other.object)))
    .map(({ what, object: { kind, name, definition }, other }) => ({
      ...{ what, kind, name },
      ...(what !== "unexpected" && { expected: definition }),
      ...(what !== "missing" && { actual: other?.definition ?? definition }),
    }));
}

const byKey = (objects: readonly CatalogObject[]) =>
  new Map(objects.map((object) => [`${object.kind}\n${object.name}`, object]));

/** Of what can be a parent: a grant on a table has its name, and is none. */
const namesOf = (objects: readonly CatalogObject[]) =>
  new Set(objects.filter(({ name }) => !name.startsWith("on ")).map(({ name }) => name));

/** Only where the parent is there on the one side: else nobody would hear of it. */
const goesWithParent = ({ parent }: CatalogObject, here: ReadonlySet<string>, there: ReadonlySet<string>) =>
  parent !== null && here.has(parent) && !there.has(parent);

/** Beside its parent, behind it. */
const placeOf = ({ kind, name, parent }: CatalogObject) =>
  parent === null ? [name, "", kind, ""] : [parent, "1", kind, name];

/** By code units, everywhere the same. */
function compare(one: readonly string[], other: readonly string[]): number {
  const at = one.findIndex((text, index) => text !== other[index]);
  if (at < 0) return 0;
  return one[at]! < other[at]! ? -1 : 1;
}

/** A line or several for each. @param where what the two sides are called: "migrations/", "the database". */
export function formatDifferences(
  differences: readonly Difference[],
  where: { expected: string; actual: string },
): string[] {
  return differences.flatMap(({ what, kind, name, expected = "", actual = "" }) => {
    const thing = `${kind} ${name}`;
    if (what === "missing") return [`missing     ${thing}: only in ${where.expected}`, ...indented(linesOf(expected))];
    if (what === "unexpected") return [`unexpected  ${thing}: only in ${where.actual}`, ...indented(linesOf(actual))];
    const [wanted, found] = whereTheyDiffer(linesOf(expected), linesOf(actual));
    return [`changed     ${thing}`, ...side(where.expected, wanted), ...side(where.actual, found)];
  });
}

const linesOf = (text: string) => text.split("\n").filter((line) => line.trim());

/** Of long texts, functions above all: without the lines that are equal at both ends, but for one in front. */
function whereTheyDiffer(one: readonly string[], other: readonly string[]): [readonly string[], readonly string[]] {
  const shorter = Math.min(one.length, other.length);
  let start = 0;
  while (start < shorter && one[start] === other[start]) start += 1;
  let end = 0;
  while (end < shorter - start && one.at(-1 - end) === other.at(-1 - end)) end += 1;
  const cut = (lines: readonly string[]) => lines.slice(Math.max(0, start - 1), lines.length - end);
  return [cut(one), cut(other)];
}

const linesMaximum = 8;

function indented(lines: readonly string[]): string[] {
  const more = lines.length - linesMaximum;
  const shown = more > 0 ? [...lines.slice(0, linesMaximum), `… ${more} more lines`] : lines;
  return shown.map((line) => `              ${line}`);
}

const side = (name: string, lines: readonly string[]) => [
  `            ${name}:`,
  ...indented(lines.length > 0 ? lines : ["(nothing)"]),
];
