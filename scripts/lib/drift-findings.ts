// What is not as it should be, in words: each finding with its kind, and the page of the runbook that says what to do. Pure.
import { type Difference, formatDifferences } from "./catalog-diff.ts";
import type { CatalogObject } from "./catalog-objects.ts";
import type { ReadHistory } from "./drift-history.ts";
import type { Live, NotValidConstraint } from "./drift-live.ts";
import type { Unseen } from "./drift-rows.ts";
import { type MigrationFile, withSameVersion } from "./migration-file.ts";
import { stateOf, type Tracked, versionsIn } from "./migration-state.ts";

/** In the order in which they are shown, and mended. */
export const kinds = [
  "integer history",
  "duplicate version",
  "unknown version",
  "missing version",
  "out of order",
  "edited file",
  "invalid index",
  "not valid",
  "privilege",
  "structure",
] as const;

export type Kind = (typeof kinds)[number];

export type Finding = {
  kind: Kind;
  /** A version, a file, an object. */
  what: string;
  why: string;
  /** More of it, line by line. */
  details?: string[];
  /** The page that explains it. */
  read: string;
  /** Also where every migration is applied: nothing that would have to be mended. */
  isAsWanted?: true;
};

const pages: Partial<Record<Kind, string>> = {
  "duplicate version": "docs/runbook/duplicate-version.md",
  "edited file": "docs/runbook/edited-migration.md",
  privilege: "docs/runbook/app-does-not-start.md",
};
const page = (kind: Kind) => pages[kind] ?? "docs/runbook/drift-found.md";

const finding = (kind: Kind, what: string, why: string, details: readonly string[] = []): Finding => ({
  ...{ kind, what, why, read: page(kind) },
  ...(details.length > 0 && { details: [...details] }),
});

/** The history with numbers read as the files that they stand for. */
export function trackedOf({ converted, known, unknown }: ReadHistory, { recorded }: Pick<Live, "recorded">): Tracked {
  return { applied: [...known, ...unknown, ...converted.map(({ file }) => file.version)].sort(), recorded };
}

/** Applied files that are not what was applied. */
export function editedIn(
  files: readonly MigrationFile[],
  history: ReadHistory,
  live: Pick<Live, "recorded">,
): MigrationFile[] {
  const versions = new Set(versionsIn(stateOf(files, trackedOf(history, live)), "edited"));
  return files.filter(({ version }) => versions.has(version));
}

type Versions = {
  /** Also two of one version. */
  files: readonly MigrationFile[];
  /** One for each. */
  single: readonly MigrationFile[];
  history: ReadHistory;
  live: Pick<Live, "recorded" | "history">;
  /** Of files that are not applied, and have their effect in the database all the same. */
  present: readonly string[];
  unseen: readonly Unseen[];
};

export function versionFindings({ files, single, history, live, present, unseen }: Versions): Finding[] {
  const state = stateOf(single, trackedOf(history, live));
  const ofVersion = (version: string) => single.find((file) => file.version === version);
  const fileOf = (version: string) => ofVersion(version)?.file ?? version;
  // A number may stand for each of them.
  const unnoted = history.undecided.length > 0 ? [] : present;
  const isPresent = new Set(present);
  const late = versionsIn(state, "out of order").filter((version) => !isPresent.has(version));
  return [
    ...integerFindings(history),
    ...withSameVersion(files).map((same) => {
      const names = same.map(({ file }) => file).join(" and ");
      const why = `both have the version ${same[0]!.version}: dbmate applies the first alone, and fails at the second`;
      return finding("duplicate version", names, why);
    }),
    ...history.repeated.map((version) => finding("duplicate version", version, "schema_migrations has it twice")),
    ...history.unknown.map((version) => {
      const was = live.recorded[version]?.file;
      return finding("unknown version", version, `applied${was ? ` as ${was}` : ""}, and there is no such file here`);
    }),
    ...unnoted.map((version) => {
      const rows = unseen.find(({ file }) => file === fileOf(version));
      if (!rows) return finding("missing version", fileOf(version), "what it makes is there, and its version is not");
      const why = "what it makes of the structure is there, and its version is not; what else it does nobody can see";
      return finding("missing version", rows.file, why, rows.statements);
    }),
    ...late.map((version) =>
      finding("out of order", fileOf(version), "not applied, and older than one that is: dbmate refuses it"),
    ),
    ...versionsIn(state, "edited").map((version) =>
      finding("edited file", fileOf(version), "it is not what was applied", [
        `applied  ${live.recorded[version]!.file}, sha256 ${live.recorded[version]!.sha256.slice(0, 12)}…`,
        `here     ${fileOf(version)}, sha256 ${ofVersion(version)!.sha256.slice(0, 12)}…`,
      ]),
    ),
  ];
}

/** "1 number", "3 names": how many, and what they are. */
export function numbersOf(versions: readonly string[]): string {
  const numbers = versions.filter((version) => /^\d+$/.test(version)).length;
  const words = [...(numbers > 0 ? ["number"] : []), ...(numbers < versions.length ? ["name"] : [])];
  return `${versions.length} ${words.map((word) => (versions.length === 1 ? word : `${word}s`)).join(" and ")}`;
}

function integerFindings({ converted, undecided, unfit, otherTool }: ReadHistory): Finding[] {
  if (otherTool) return [finding("integer history", "schema_migrations", `it is a table of ${otherTool}`)];
  const versions = [...converted.map(({ version }) => version), ...undecided];
  if (versions.length === 0 && unfit.length === 0) return [];
  const reasons = [...unfit, ...(versions.length > 0 ? [`${numbersOf(versions)} for versions`] : [])];
  const lines = [
    ...converted.map(({ version, file, by }) => `${version} is ${file.file}, by ${by}`),
    ...undecided.map((version) => `${version} may be any file, or none that is here any more`),
  ];
  return [finding("integer history", "schema_migrations", `dbmate cannot go on with it: ${reasons.join("; ")}`, lines)];
}

type Structure = {
  live: Live;
  expected: readonly CatalogObject[];
  /** All of them. */
  differences: readonly Difference[];
};

/** Constraints that the files make whole, and nobody has validated here. */
export function unvalidated({ live, differences }: Pick<Structure, "live" | "differences">): NotValidConstraint[] {
  return differences.flatMap((difference) => toValidate(difference, live));
}

/** @returns the constraints that would only have to be validated for it to be no difference; none where that is not all. */
function toValidate({ what, kind, name, expected, actual }: Difference, { notValid }: Pick<Live, "notValid">) {
  if (what !== "changed" || expected === undefined || actual === undefined) return [];
  const own = notValid.filter(({ object }) => object.kind === kind && object.name === name);
  const forgotten = own.filter((constraint) => validated(expected, constraint) === expected);
  return forgotten.reduce(validated, actual) === expected ? forgotten : [];
}

/** @returns the definition of a constraint, a column or a domain as it would be if that constraint were valid. */
function validated(definition: string, { constraint, object }: NotValidConstraint): string {
  if (object.kind === "column") return definition.replace("not null not valid", "not null");
  if (object.kind === "constraint") return definition.replace(/ NOT VALID(?= disabled$|$)/, "");
  const begin = definition.indexOf(` constraint ${constraint} CHECK `);
  if (begin < 0) return definition;
  const next = definition.indexOf(" constraint ", begin + 1);
  const end = next < 0 ? definition.length : next;
  return definition.slice(0, begin) + definition.slice(begin, end).replace(/ NOT VALID$/, "") + definition.slice(end);
}

const relations = ["table", "view", "materialized view", "foreign table"];

/** What Postgres itself says. */
export function faultFindings({ live, expected, differences }: Structure): Finding[] {
  const { invalidIndexes, notValid, privileges, user } = live;
  const isWanted = (kind: string, name: string) => expected.some((one) => one.kind === kind && one.name === name);
  const differs = new Set(differences.map(({ kind, name }) => `${kind} ${name}`));
  const forgotten = new Set(unvalidated({ live, differences }));
  return [
    ...invalidIndexes.map(({ name, table, definition }) =>
      finding("invalid index", name, `of ${table}: it slows down every write, and is used for no query`, [definition]),
    ),
    ...notValid.flatMap((constraint) => {
      const { name, definition, object } = constraint;
      const one = finding("not valid", name, "it holds for new rows; nobody has looked at the others", [definition]);
      if (forgotten.has(constraint)) return [one];
      // Between two deploys that is how it should be. Any other one is a difference of the structure.
      const isAsMade = isWanted(object.kind, object.name) && !differs.has(`${object.kind} ${object.name}`);
      return isAsMade ? [{ ...one, isAsWanted: true as const }] : [];
    }),
    ...privileges.flatMap(({ table, exists, missing }) => {
      if (!exists) {
        const one = finding("privilege", table, "the app needs it, and there is no such table");
        // A migration that is not applied yet may make it; or dbops.config.ts is wrong.
        const isMade = [table, `public.${table}`].some((name) => relations.some((kind) => isWanted(kind, name)));
        return [isMade ? one : { ...one, isAsWanted: true as const }];
      }
      if (missing.length === 0) return [];
      return [finding("privilege", table, `"${user}" may not ${missing.join(", ")}, which the app does`)];
    }),
  ];
}

const sides = { expected: "migrations/", actual: "the database" };

export function structureFindings(differences: readonly Difference[]): Finding[] {
  const why = {
    missing: "only in migrations/",
    unexpected: "only in the database",
    changed: "not as migrations/ make it",
  };
  return differences.map((one) =>
    finding("structure", `${one.kind} ${one.name}`, why[one.what], formatDifferences([one], sides).slice(1)),
  );
}

/**
 * Without those that are told as an invalid index or a constraint that is not valid: they would be counted twice.
 * @returns what is left to be said of the structure.
 */
export function besidesFaults(differences: readonly Difference[], live: Live): Difference[] {
  const indexes = new Set(live.invalidIndexes.map(({ name }) => name));
  return differences.filter((one) => {
    const { what, kind, name, expected, actual } = one;
    if (toValidate(one, live).length > 0) return false;
    if (kind !== "index" || !indexes.has(name) || what === "missing") return true;
    return what === "changed" && `${expected} invalid` !== actual;
  });
}

export const counted = (findings: readonly Finding[]): Finding[] => findings.filter(({ isAsWanted }) => !isAsWanted);

export function formatFindings(findings: readonly Finding[]): string[] {
  return findings.flatMap(({ kind, what, why, details = [] }) => [
    `  ${kind.padEnd(17)}  ${what}: ${why}`,
    ...details.map((line) => `  ${" ".repeat(17)}    ${line.trim()}`),
  ]);
}

/** Some of many. */
export const list = (values: readonly string[]) =>
  values.length <= 5 ? values.join(", ") : `${values.slice(0, 5).join(", ")} and ${values.length - 5} more`;

export const namesOf = (files: readonly { file: string }[]) => list(files.map(({ file }) => file));
