// Compares a live database with its migration files, and says all that differs. Only ever reads the database; what the files make is tried
// in another one, and kept in .dbops/cache.
import type { Difference } from "./catalog-diff.ts";
import type { ExpectedCatalog } from "./catalog-expected.ts";
import { type CatalogObject, limitWaits, sayingWhoKeeps } from "./catalog-objects.ts";
import type { Settings } from "./config.ts";
import {
  besidesFaults,
  editedIn,
  type Finding,
  faultFindings,
  structureFindings,
  unvalidated,
  versionFindings,
} from "./drift-findings.ts";
import { type ReadHistory, readHistory } from "./drift-history.ts";
import { type Live, type NotValidConstraint, readLive } from "./drift-live.ts";
import { type Unseen, unseenIn } from "./drift-rows.ts";
import { cannotBeApplied, compareStructure, type Outside } from "./drift-structure.ts";
import {
  findMigrations,
  type MigrationFile,
  readMigrations,
  whyUnreadable,
  withSameVersion,
} from "./migration-file.ts";
import type { Psql } from "./psql.ts";
import type { Scratch } from "./scratch.ts";

export type Assessing = {
  psql: Psql;
  settings: Settings;
  directory: string;
  /** All of migrations/, also two of one version. */
  files: readonly MigrationFile[];
  /** Called where something has to be tried, once or several times. */
  scratch: (live: Live) => Promise<Scratch>;
  /** What the user says that versions without a file are: version of the row → version of the file. */
  matches?: Readonly<Record<string, string>>;
  /** Of the database, for people. Where it is given, what was found out about its structure is kept for the next time. */
  name?: string;
  /** For a session that is in a transaction already: the look at the end of a repair. */
  inTransaction?: boolean;
};

export type Assessment = {
  live: Live;
  history: ReadHistory;
  /** Those that are applied, by what the history says; one for each version. */
  applied: MigrationFile[];
  pending: MigrationFile[];
  /** Pending, and what they make is there already. */
  present: MigrationFile[];
  /**
   * What the structure says nothing of: of the present files, the edited ones, and those that a number stands for by its place alone; beside
   * versions without a file also of the pending ones.
   */
  unseen: Unseen[];
  /** What the applied and the present ones make. Its objects are left out where the database is equal and nothing else is wrong in it. */
  expected: ExpectedCatalog;
  /** Of the live database; likewise. */
  objects: CatalogObject[];
  /** Histories of tools that were there before, which nobody has adopted: "schema.table". */
  others: string[];
  /** Everything in it that is not compared, as CatalogOptions.histories has it. */
  leftOut: string[];
  /** Apart from what is a fault by itself, such as an invalid index. */
  differences: Difference[];
  unvalidated: NotValidConstraint[];
  findings: Finding[];
};

/** Also two files of one version, which is a finding. @throws {Failure} exit 2 for what dbmate could not read at all. */
export async function readAllMigrations(directory: string): Promise<MigrationFile[]> {
  const { files, problems } = await findMigrations(directory);
  const areFine = problems.length === 0 && !files.some(whyUnreadable);
  return areFine ? files : await readMigrations(directory);
}

const beginLook = `begin transaction isolation level repeatable read read only; ${limitWaits}`;

/** @throws {Failure} exit 3 when the applied files cannot be applied to an empty database. */
export async function assess(assessing: Assessing): Promise<Assessment> {
  if (assessing.inTransaction) return await look(assessing, async (work) => await work());
  const { psql } = assessing;
  let wasLeft = false;
  const chosen: Chosen = {};
  /** A container takes seconds, and whoever makes an index concurrently would wait for our snapshot all the while. */
  const outside: Outside = async (work) => {
    wasLeft = true;
    await psql.execute("rollback");
    return await work().finally(() => psql.execute(beginLook));
  };
  try {
    await psql.execute(beginLook);
    const found = await look(assessing, outside, chosen);
    if (!wasLeft) return found;
    // Of one moment, with what is kept by now.
    await psql.execute(`rollback; ${beginLook}`);
    return await look(assessing, outside, chosen);
  } catch (error) {
    await psql.execute("rollback").catch(() => {});
    throw await sayingWhoKeeps(psql, error);
  } finally {
    await psql.execute("rollback").catch(() => {});
  }
}

/** Of each version a file, once it is known which of them can have been applied. */
type Chosen = { single?: MigrationFile[] };

async function look(assessing: Assessing, outside: Outside, chosen: Chosen = {}): Promise<Assessment> {
  const live = await readLive(assessing.psql, assessing.settings);
  let why: unknown;
  for (const single of chosen.single ? [chosen.single] : choicesOf(assessing.files, live)) {
    try {
      const found = await lookWith(single, live, assessing, outside);
      chosen.single = single;
      return found;
    } catch (error) {
      if (!cannotBeApplied(error)) throw error;
      why ??= error;
    }
  }
  throw why;
}

async function lookWith(
  single: MigrationFile[],
  live: Live,
  assessing: Assessing,
  outside: Outside,
): Promise<Assessment> {
  const { files, matches } = assessing;
  const history = readHistory(single, live.history, matches);
  const versions = new Set([...history.known, ...history.converted.map(({ file }) => file.version)]);
  const applied = single.filter(({ version }) => versions.has(version));
  const pending = single.filter(({ version }) => !versions.has(version));
  const structure = await compareStructure(assessing, outside, live, { applied, pending });
  const { present, expected, all } = structure;
  const differences = besidesFaults(all, live);
  const byOrder = history.converted.filter(({ by }) => by === "order").map(({ file }) => file);
  const perhaps = history.unknown.length > 0 ? pending.filter((file) => !present.includes(file)) : [];
  const unseen = await unseenIn([...present, ...byOrder, ...editedIn(single, history, live), ...perhaps]);
  const findings = [
    ...versionFindings({ files, single, history, live, present: present.map(({ version }) => version), unseen }),
    ...faultFindings({ live, expected: expected.objects, differences: all }),
    ...structureFindings(differences),
  ];
  const found = { ...structure, differences, unvalidated: unvalidated({ live, differences: all }) };
  return { ...found, live, history, applied, pending, unseen, findings };
}

/** What is applied where several files have one version, and nothing says which of them was: the first, else another one on which the rest builds. */
function choicesOf(files: readonly MigrationFile[], live: Live): MigrationFile[][] {
  const versions = new Set(live.history.rows.map(({ version }) => version));
  const doubtful = withSameVersion(files).filter(
    ([one]) => versions.has(one!.version) && live.recorded[one!.version] === undefined,
  );
  const first = singleVersions(files, live);
  const others = doubtful.flatMap((same) =>
    same.slice(1).map((one) => first.map((file) => (file.version === one.version ? one : file))),
  );
  return [first, ...others].slice(0, choicesMaximum);
}

const choicesMaximum = 8;

/** Of two files with one version that which was applied, if that is noted; else the first, as dbmate takes them. */
export function singleVersions(files: readonly MigrationFile[], { recorded }: Pick<Live, "recorded">): MigrationFile[] {
  const same = Map.groupBy(files, ({ version }) => version);
  return [...same].map(([version, all]) => all.find(({ file }) => file === recorded[version]?.file) ?? all[0]!);
}
