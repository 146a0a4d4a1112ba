// The structure of a live database beside what its migrations make: by fingerprint, and object by object where that is another one.
import { readHistories } from "./adopt-histories.ts";
import { compareCatalogs, type Difference } from "./catalog-diff.ts";
import { type ExpectedCatalog, expectedCatalog, keptCatalog, keptFingerprint } from "./catalog-expected.ts";
import { type CatalogObject, fingerprint, readObjects } from "./catalog-objects.ts";
import { seenFingerprint } from "./catalog-seen.ts";
import type { Assessing, Assessment } from "./drift-assess.ts";
import type { Live } from "./drift-live.ts";
import { exitCodes, Failure } from "./failure.ts";
import type { MigrationFile } from "./migration-file.ts";

/** Does what takes long, with the transaction of the look left meanwhile. */
export type Outside = <T>(work: () => Promise<T>) => Promise<T>;

const hasFaults = ({ invalidIndexes, notValid, privileges }: Live) =>
  invalidIndexes.length > 0 || notValid.length > 0 || privileges.some(({ exists }) => !exists);

type Structure = Pick<Assessment, "present" | "expected" | "objects"> & { all: Difference[] };

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
  // What another tool has left is no part of what the files make.
  const readOptions = async () => ({ owner, histories: await readHistories(psql), inTransaction: true });
  const wanted =
    inTransaction || hasFaults(live) ? undefined : await keptFingerprint(wantedCatalog(directory, applied, live));
  let mayBeEqual = true;
  if (wanted && name !== undefined) {
    const besides = [owner, live.versionNumber, live.adopted];
    const count = async () => await fingerprint(psql, await readOptions());
    mayBeEqual = wanted === (await seenFingerprint({ psql, directory, name, besides }, count));
    // Nobody asks for the objects then.
    if (mayBeEqual) return { present: [], expected: { fingerprint: wanted, objects: [] }, objects: [], all: [] };
  }
  const options = await readOptions();
  const base = await makeApplied(make, applied, pending);
  const isKnown = base.late.length === 0;
  if (isKnown && mayBeEqual && (await fingerprint(psql, options)) === base.made.fingerprint) {
    return { present: [], expected: base.made, objects: base.made.objects, all: [] };
  }
  const objects = await readObjects(psql, options);
  const there = byKey(objects);
  if (!isKnown && !(await areThere(make, applied, base, there))) throw base.why;
  const rest = pending.filter((file) => !base.late.includes(file));
  const more = await findPresent(make, [...applied, ...base.late], { pending: rest, expected: base.made, there });
  const present = byName([...base.late, ...more]);
  const expected = more.length > 0 ? await make([...applied, ...present]) : base.made;
  return { present, expected, objects, all: compareCatalogs(expected.objects, objects) };
}

/** What files make on a server like the live one. */
export function wantedCatalog(directory: string, files: readonly MigrationFile[], live: Live) {
  const { versionNumber, owner, roles } = live;
  return { directory, files: byName(files), versionNumber, owner, roles, histories: [] };
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

const cannotBeApplied = (error: unknown): error is Failure =>
  error instanceof Failure && error.exitCode === exitCodes.saidNo;

async function makeApplied(make: Make, applied: MigrationFile[], pending: MigrationFile[]): Promise<Base> {
  try {
    return { made: await make(applied), late: [] };
  } catch (why) {
    const newest = byName(applied).at(-1)?.file ?? "";
    const late = pending.filter(({ file }) => file < newest);
    if (!cannotBeApplied(why) || late.length === 0) throw why;
    const made = await make([...applied, ...late]).catch(() => {
      throw why;
    });
    return { made, late, why };
  }
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
