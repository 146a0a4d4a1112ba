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

/** Objects of a table that is missing or unexpected as a whole go without saying. Tables first, each with what belongs to it. */
export function compareCatalogs(expected: readonly CatalogObject[], actual: readonly CatalogObject[]): Difference[] {
  const key = ({ kind, name }: CatalogObject) => `${kind}\n${name}`;
  const [wanted, found] = [expected, actual].map((list) => new Map(list.map((object) => [key(object), object]))) as [
    Map<string, CatalogObject>,
    Map<string, CatalogObject>,
  ];
  const relations = (list: readonly CatalogObject[]) =>
    new Set(list.filter(({ kind }) => /table|view$/.test(kind)).map(({ name }) => name));
  const [wantedRelations, foundRelations] = [relations(expected), relations(actual)];
  const missing = expected
    .filter((object) => !found.has(key(object)) && isBesides(object, foundRelations))
    .map(({ kind, name, definition }): Difference => ({ what: "missing", kind, name, expected: definition }));
  const unexpected = actual
    .filter((object) => !wanted.has(key(object)) && isBesides(object, wantedRelations))
    .map(({ kind, name, definition }): Difference => ({ what: "unexpected", kind, name, actual: definition }));
  const changed = expected.flatMap((object): Difference[] => {
    const other = found.get(key(object));
    if (!other || other.definition === object.definition) return [];
    const { kind, name } = object;
    return [{ what: "changed", kind, name, expected: object.definition, actual: other.definition }];
  });
  return [...missing, ...unexpected, ...changed].sort(
    (one, other) => compare(one.name, other.name) || compare(one.kind, other.kind),
  );
}

const isBesides = ({ parent }: CatalogObject, relations: ReadonlySet<string>) =>
  parent === null || relations.has(parent);

/** By code units, everywhere the same. */
const compare = (one: string, other: string) => (one < other ? -1 : one > other ? 1 : 0);

/** A line or several for each. @param where what the two sides are called: "migrations/", "the database". */
export function formatDifferences(
  differences: readonly Difference[],
  where: { expected: string; actual: string },
): string[] {
  return differences.flatMap(({ what, kind, name, expected = "", actual = "" }) => {
    const thing = `${kind} ${name}`;
    if (what === "missing") return [`missing     ${thing}: only in ${where.expected}`, ...indented(expected)];
    if (what === "unexpected") return [`unexpected  ${thing}: only in ${where.actual}`, ...indented(actual)];
    return [`changed     ${thing}`, ...sides(where.expected, expected), ...sides(where.actual, actual)];
  });
}

const linesMaximum = 8;

function indented(text: string): string[] {
  const lines = text.split("\n").filter((line) => line.trim());
  const shown =
    lines.length <= linesMaximum
      ? lines
      : [...lines.slice(0, linesMaximum), `… ${lines.length - linesMaximum} more lines`];
  return shown.map((line) => `              ${line}`);
}

const sides = (name: string, text: string) => [`            ${name}:`, ...indented(text || "(nothing)")];
