// What `migrate verify` has found, and how it is told. Pure.
import { type Difference, formatDifferences } from "./catalog-diff.ts";
import { exitCodes, Failure } from "./failure.ts";
import type { MigrationFile } from "./migration-file.ts";
import type { Base } from "./schema-base.ts";
import { mendSchema, schemaFile } from "./schema-file.ts";

/** With what all files make in a new database. */
export type Comparison = {
  /** missing: only the files have them; unexpected: no file has them. */
  versions: { missing: string[]; unexpected: string[] };
  differences: Difference[];
};

export type Verified = {
  /** How many. */
  files: number;
  schema: Comparison;
  increment?: Comparison & {
    base: Base;
    /** How many files it lacked. */
    added: number;
    /** Names of those that dbmate would refuse, because a newer one is applied. */
    outOfOrder: string[];
    /** Files that are other ones than in the base. */
    changed: string[];
    /** Those that write other rows. */
    otherRows: string[];
  };
};

/** @param before versions that a database of the base has. */
export function outOfOrder(
  before: readonly string[],
  added: readonly Pick<MigrationFile, "file" | "version">[],
): string[] {
  const newest = [...before].sort().at(-1) ?? "";
  return added.filter(({ version }) => version < newest).map(({ file }) => file);
}

export function formatGood({ files, increment }: Verified): string {
  const all = files === 1 ? "1 file" : `${files} files`;
  if (!increment) return `Good: ${all} and ${schemaFile} make the same`;
  const { base, added } = increment;
  const older = added === 0 ? `a database of ${base.name}` : `a database of ${base.name} with ${added} more`;
  return `Good: ${all}, ${older}, and ${schemaFile} make the same`;
}

/** Undefined where all is well. */
export function whyNotGood({ schema, increment }: Verified): Failure | undefined {
  const [ofSchema, ofIncrement] = [schemaLines(schema), increment ? incrementLines(increment) : []];
  const count = countOf(schema) + (increment ? countOfIncrement(increment) : 0);
  if (count === 0) return undefined;
  const next = [
    ...(ofSchema.length > 0 ? [mendSchema] : []),
    ...(increment && ofIncrement.length > 0 ? mend(increment) : []),
  ];
  const why = count === 1 ? "1 difference" : `${count} differences`;
  return new Failure("The migrations do not make one and the same schema", why, next, {
    exitCode: exitCodes.saidNo,
    details: [...ofSchema, ...ofIncrement].join("\n"),
    read: "docs/migrations.md",
  });
}

const isEqual = (comparison: Comparison): boolean => countOf(comparison) === 0;

const countOf = ({ versions, differences }: Comparison) =>
  versions.missing.length + versions.unexpected.length + differences.length;

const countOfIncrement = (increment: Increment) =>
  countOf(increment) + increment.outOfOrder.length + increment.otherRows.length;

function schemaLines(schema: Comparison): string[] {
  if (isEqual(schema)) return [];
  const { missing, unexpected } = schema.versions;
  return [
    `${schemaFile} is not what migrations/ make:`,
    ...missing.map((version) => `missing     version ${version}: only in migrations/`),
    ...unexpected.map((version) => `unexpected  version ${version}: only in ${schemaFile}`),
    ...formatDifferences(schema.differences, { expected: "migrations/", actual: schemaFile }),
  ];
}

type Increment = NonNullable<Verified["increment"]>;

function incrementLines(increment: Increment): string[] {
  const { base, versions, differences, changed, otherRows } = increment;
  if (countOfIncrement(increment) === 0) return [];
  const edited = changed.filter((path) => differences.length > 0 || otherRows.includes(path));
  const also = (path: string) => (otherRows.includes(path) ? ", and writes other rows" : "");
  return [
    `a database of ${base.name}, migrated, is not what a new one is:`,
    ...edited.map((path) => `edited      ${path}: not the one of ${base.name}${also(path)}`),
    ...increment.outOfOrder.map(
      (file) => `late        migrations/${file}: a newer one is applied already, so that dbmate refuses it`,
    ),
    ...versions.unexpected.map((version) => `missing     a file for version ${version}, which is applied already`),
    ...formatDifferences(differences, { expected: "a new database", actual: `a database of ${base.name}, migrated` }),
  ];
}

/** What has been applied to a database somewhere, no edited file changes any more. */
function mend({ base, differences, versions, changed, otherRows, outOfOrder }: Increment): string[] {
  const isStructure = differences.length > 0 || versions.unexpected.length > 0;
  const isOther = isStructure || otherRows.length > 0;
  const back = (isStructure ? changed : otherRows).map((path) => `git checkout ${base.commit.slice(0, 7)} -- ${path}`);
  return [
    ...outOfOrder.map(
      (file) =>
        `git mv migrations/${file} migrations/YYYYMMDDHHMMSS${file.replace(/^\d+/, "")}      # a time that is newer`,
    ),
    ...(isOther ? back : []),
    ...(isOther ? ["bun scripts/migrate.ts new NAME      # what is to be different goes into a new file"] : []),
  ];
}
