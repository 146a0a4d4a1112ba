// What is not as it should be, in words: each finding with its kind, and the page of the runbook that says what to do. Pure.
import { type Difference, formatDifferences } from "./catalog-diff.ts";
import type { CatalogObject } from "./catalog-objects.ts";
import type { ReadHistory } from "./drift-history.ts";
import type { Live, NotValidConstraint } from "./drift-live.ts";
import { type MigrationFile, sameVersions } from "./migration-file.ts";
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

type Versions = {
  /** Also two of one version. */
  files: readonly MigrationFile[];
  /** One for each. */
  single: readonly MigrationFile[];
  history: ReadHistory;
  live: Pick<Live, "recorded" | "history">;
  /** Of files that are not applied, and have their effect in the database all the same. */
  present: readonly string[];
};

export function versionFindings({ files, single, history, live, present }: Versions): Finding[] {
  const state = stateOf(single, trackedOf(history, live));
  const ofVersion = (version: string) => single.find((file) => file.version === version);
  const fileOf = (version: string) => ofVersion(version)?.file ?? version;
  // A number may stand for each of them.
  const unnoted = history.undecided.length > 0 ? [] : present;
  const isPresent = new Set(present);
  const late = versionsIn(state, "out of order").filter((version) => !isPresent.has(version));
  return [
    ...integerFindings(history),
    ...sameVersions(files).map((text) => {
      const [names, why] = text.split(": ") as [string, string];
      return finding("duplicate version", names, `${why}: dbmate applies the first alone, and fails at the second`);
    }),
    ...history.repeated.map((version) => finding("duplicate version", version, "schema_migrations has it twice")),
    ...history.unknown.map((version) => {
      const was = live.recorded[version]?.file;
      return finding("unknown version", version, `applied${was ? ` as ${was}` : ""}, and there is no such file here`);
    }),
    ...unnoted.map((version) =>
      finding("missing version", fileOf(version), "what it makes is there, and its version is not"),
    ),
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

function integerFindings({ converted, undecided, unfit, otherTool }: ReadHistory): Finding[] {
  if (otherTool) return [finding("integer history", "schema_migrations", `it is a table of ${otherTool}`)];
  const count = converted.length + undecided.length;
  if (count === 0 && unfit.length === 0) return [];
  const reasons = [...unfit, ...(count > 0 ? [`${count} ${count === 1 ? "number" : "numbers"} for versions`] : [])];
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
  const names = new Set(differences.filter(isNotValidAlone).map(({ name }) => name));
  return live.notValid.filter(({ name }) => names.has(name));
}

const isNotValidAlone = ({ what, kind, expected, actual }: Difference) =>
  what === "changed" && kind === "constraint" && `${expected} NOT VALID` === actual;

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
      const { name, definition } = constraint;
      const one = finding("not valid", name, "it holds for new rows; nobody has looked at the others", [definition]);
      if (forgotten.has(constraint)) return [one];
      // Between two deploys that is how it should be. Any other one is a difference of the structure.
      const isAsMade = isWanted("constraint", name) && !differs.has(`constraint ${name}`);
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
    if (isNotValidAlone(one)) return false;
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
