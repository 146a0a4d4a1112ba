// The structure of a live database beside what its migrations make: by fingerprint, and object by object where that is another one.
import { leftOut, othersAmong, readTables, withSchemas } from "./adopt-histories.ts";
import { compareCatalogs, type Difference } from "./catalog-diff.ts";
import { type ExpectedCatalog, expectedCatalog, keptCatalog, keptFingerprint } from "./catalog-expected.ts";
import { type CatalogObject, fingerprint, readObjects } from "./catalog-objects.ts";
import { seenFingerprint } from "./catalog-seen.ts";
import type { Assessing, Assessment } from "./drift-assess.ts";
import type { Live } from "./drift-live.ts";
import { exitCodes, Failure } from "./failure.ts";
import type { MigrationFile } from "./migration-file.ts";
import { type Psql, quoteIdentifier } from "./psql.ts";

/** Does what takes long, with the transaction of the look left meanwhile. */
export type Outside = <T>(work: () => Promise<T>) => Promise<T>;

const hasFaults = ({ invalidIndexes, notValid, privileges }: Live) =>
  invalidIndexes.length > 0 || notValid.length > 0 || privileges.some(({ exists }) => !exists);

type Structure = Pick<Assessment, "present" | "expected" | "objects" | "others" | "leftOut"> & { all: Difference[] };

export async function compareStructure(
  { psql, directory, scratch, name, inTransaction }: Assessing,
  outside: Outside,
  live: Live,
  { applied, pending }: Pick<Assessment, "applied" | "pending">,
): Promise<Structure> {
  const { owner } = live;
  const make: Make = async (files) => {
    const wanted = wantedCatalog(directory, files, live);
    const kept = await keptCatalog(wanted);
    return kept ?? (await outside(() => expectedCatalog({ ...wanted, scratch: () => scratch(live) })));
  };
  const leftOutBeside = async (made: readonly CatalogObject[], more: readonly string[] = []) => {
    const all = await withSchemas(psql, [...live.histories, ...more]);
    // A schema that the files make is theirs, also with nothing else in it.
    const schemas = made.filter(({ kind }) => kind === "schema").map(({ name }) => name);
    const isMade = (schema: string) => schemas.includes(schema) || schemas.includes(quoteIdentifier(schema));
    return all.filter((one) => !one.endsWith(".*") || !isMade(one.slice(0, -2)));
  };
  const options = (histories: readonly string[]) => ({ owner, histories, inTransaction: true });
  const wanted =
    inTransaction || hasFaults(live) ? undefined : await keptFingerprint(wantedCatalog(directory, applied, live));
  let unlike: string[] | undefined;
  if (wanted && name !== undefined) {
    const histories = await leftOutBeside([]);
    const besides = [owner, live.versionNumber, live.histories];
    const count = async () => await fingerprint(psql, options(histories));
    const found = await seenFingerprint({ psql, directory, name, besides }, count);
    // Nobody asks for the objects then.
    if (wanted === found) return equal({ fingerprint: wanted, objects: [] });
    unlike = histories;
  }
  const base = await makeApplied(make, applied, pending);
  const isKnown = base.late.length === 0;
  const left = await leftOutBeside(base.made.objects);
  const mayBeEqual = isKnown && unlike?.join() !== left.join();
  if (mayBeEqual && (await fingerprint(psql, options(left))) === base.made.fingerprint) return equal(base.made);
  const objects = await readObjects(psql, options(left));
  const there = byKey(objects);
  if (!isKnown && !(await areThere(make, applied, base, there))) throw base.why;
  const rest = pending.filter((file) => !base.late.includes(file));
  const more = await findPresent(make, [...applied, ...base.late], { pending: rest, expected: base.made, there });
  const present = byName([...base.late, ...more]);
  const expected = more.length > 0 ? await make([...applied, ...present]) : base.made;
  const all = compareCatalogs(expected.objects, objects);
  const others = await othersBeside(psql, live, all);
  if (others.length === 0) return { present, expected, objects, all, others, leftOut: left };
  const leftToo = await leftOutBeside(expected.objects, others);
  const without = await readObjects(psql, options(leftToo));
  const besides = compareCatalogs(expected.objects, without);
  return { present, expected, objects: without, all: besides, others, leftOut: leftToo };
}

const equal = (expected: ExpectedCatalog): Structure => ({
  ...{ present: [], expected, objects: expected.objects, all: [], others: [], leftOut: [] },
});

/** What a tool has left that was there before is no part of what the files make; unless they do make it. */
async function othersBeside(psql: Psql, { histories }: Live, differences: readonly Difference[]): Promise<string[]> {
  const isTable = ({ what, kind }: Difference) => what === "unexpected" && kind === "table";
  const unexpected = differences.filter(isTable).map(({ name }) => name.replaceAll('"', ""));
  if (unexpected.length === 0) return [];
  const others = othersAmong(await readTables(psql), histories).filter(({ history }) => unexpected.includes(history));
  return leftOut(others).filter((name) => unexpected.includes(name));
}

/** What files make on a server like the live one. */
export function wantedCatalog(directory: string, files: readonly MigrationFile[], live: Live) {
  const { versionNumber, owner, roles, histories } = live;
  return { directory, files: byName(files), versionNumber, owner, roles, histories };
}

/** In dbmate's order. */
export const byName = (files: readonly MigrationFile[]): MigrationFile[] =>
  [...files].sort((one, other) => (one.file < other.file ? -1 : 1));

type Make = (files: readonly MigrationFile[]) => Promise<ExpectedCatalog>;

/** What the applied files make. Where they build on ones that nobody has noted: with those. */
type Base = {
  made: ExpectedCatalog;
  /** Files that are older than an applied one, and without which it cannot be applied. */
  late: MigrationFile[];
  /** Why it cannot. */
  why?: Failure;
};

export const cannotBeApplied = (error: unknown): error is Failure =>
  error instanceof Failure && error.exitCode === exitCodes.saidNo;

async function makeApplied(make: Make, applied: MigrationFile[], pending: MigrationFile[]): Promise<Base> {
  try {
    return { made: await make(applied), late: [] };
  } catch (why) {
    const newest = byName(applied).at(-1)?.file ?? "";
    const late = pending.filter(({ file }) => file < newest);
    if (!cannotBeApplied(why)) throw why;
    const failure = ofApplied(why, applied);
    if (late.length === 0) throw failure;
    const made = await make([...applied, ...late]).catch(() => {
      throw failure;
    });
    return { made, late, why };
  }
}

/** Here it went well, so that it is the file that has changed, or the empty database that lacks something: nobody is to correct it. */
function ofApplied(failure: Failure, applied: readonly MigrationFile[]): Failure {
  const { what, why, next, details } = failure;
  const file = applied.find((one) => what.includes(`migrations/${one.file}`))?.file;
  // A role that is in the way has a next command of its own.
  if (!file || !next.includes(`correct migrations/${file}`)) return failure;
  const perhaps = "it is applied in this database: it was edited since, or needs what an empty database does not have";
  return new Failure(`${what} to an empty database`, `${why}; ${perhaps}`, [`git log --patch -- migrations/${file}`], {
    exitCode: exitCodes.saidNo,
    ...(details && { details }),
    read: "docs/runbook/edited-migration.md",
  });
}

type Definitions = ReadonlyMap<string, string>;

/** Whether what the late files change is in the live database: each of them as it comes out when all are applied. */
async function areThere(
  make: Make,
  applied: MigrationFile[],
  { late, made }: Base,
  there: Definitions,
): Promise<boolean> {
  const whole = byKey(made.objects);
  for (const file of late) {
    const earlier = [...applied, ...late].filter((other) => other.file < file.file);
    const before = byKey((await make(earlier)).objects);
    const after = byKey((await make([...earlier, file])).objects);
    if (!isThere(changesOf(before, after), whole, there)) return false;
  }
  return true;
}

/** The keys. */
const changesOf = (before: Definitions, after: Definitions) =>
  [...new Set([...before.keys(), ...after.keys()])].filter((key) => before.get(key) !== after.get(key));

/** A file that changes nothing in the catalog proves nothing. */
const isThere = (changed: readonly string[], wanted: Definitions, there: Definitions) =>
  changed.length > 0 && changed.every((key) => there.get(key) === wanted.get(key));

type Trying = { pending: readonly MigrationFile[]; expected: ExpectedCatalog; there: Definitions };

/** A pending file whose every change is in the live database, object by object, has been applied by somebody, or by hand. */
async function findPresent(
  make: Make,
  applied: readonly MigrationFile[],
  { pending, expected, there }: Trying,
): Promise<MigrationFile[]> {
  const present: MigrationFile[] = [];
  let before = byKey(expected.objects);
  for (const file of pending) {
    const made = await make([...applied, ...present, file]).catch((error) => {
      // It may build on one that came before it, and is not there.
      if (cannotBeApplied(error)) return undefined;
      throw error;
    });
    if (!made) continue;
    const after = byKey(made.objects);
    if (!isThere(changesOf(before, after), after, there)) continue;
    present.push(file);
    before = after;
  }
  return present;
}

const byKey = (objects: readonly CatalogObject[]) =>
  new Map(objects.map(({ kind, name, definition }) => [`${kind}\n${name}`, definition]));
