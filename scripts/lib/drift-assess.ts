// Compares a live database with its migration files, and says all that differs. Only ever reads the database; what the files make is tried
// in another one, and kept in .dbops/cache.
import type { Difference } from "./catalog-diff.ts";
import type { ExpectedCatalog } from "./catalog-expected.ts";
import type { CatalogObject } from "./catalog-objects.ts";
import type { Settings } from "./config.ts";
import {
  besidesFaults,
  type Finding,
  faultFindings,
  structureFindings,
  unvalidated,
  versionFindings,
} from "./drift-findings.ts";
import { type ReadHistory, readHistory } from "./drift-history.ts";
import { type Live, type NotValidConstraint, readLive } from "./drift-live.ts";
import { compareStructure, type Outside } from "./drift-structure.ts";
import { findMigrations, type MigrationFile, readMigrations, whyUnreadable } from "./migration-file.ts";
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
  /** What the user says an integer history's numbers are: number → version. */
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
  /** What the applied and the present ones make. Its objects are left out where the database is equal and nothing else is wrong in it. */
  expected: ExpectedCatalog;
  /** Of the live database; likewise. */
  objects: CatalogObject[];
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

const beginLook = "begin transaction isolation level repeatable read read only";

/** @throws {Failure} exit 3 when the applied files cannot be applied to an empty database. */
export async function assess(assessing: Assessing): Promise<Assessment> {
  if (assessing.inTransaction) return await look(assessing, async (work) => await work());
  const { psql } = assessing;
  let wasLeft = false;
  /** A container takes seconds, and whoever makes an index concurrently would wait for our snapshot all the while. */
  const outside: Outside = async (work) => {
    wasLeft = true;
    await psql.execute("rollback");
    return await work().finally(() => psql.execute(beginLook));
  };
  try {
    await psql.execute(beginLook);
    const found = await look(assessing, outside);
    if (!wasLeft) return found;
    // Of one moment, with what is kept by now.
    await psql.execute(`rollback; ${beginLook}`);
    return await look(assessing, outside);
  } finally {
    await psql.execute("rollback").catch(() => {});
  }
}

async function look(assessing: Assessing, outside: Outside): Promise<Assessment> {
  const { psql, settings, files, matches } = assessing;
  const live = await readLive(psql, settings);
  const single = singleVersions(files, live);
  const history = readHistory(single, live.history, matches);
  const versions = new Set([...history.known, ...history.converted.map(({ file }) => file.version)]);
  const applied = single.filter(({ version }) => versions.has(version));
  const pending = single.filter(({ version }) => !versions.has(version));
  const structure = await compareStructure(assessing, outside, live, { applied, pending });
  const { present, expected, all } = structure;
  const differences = besidesFaults(all, live);
  const findings = [
    ...versionFindings({ files, single, history, live, present: present.map(({ version }) => version) }),
    ...faultFindings({ live, expected: expected.objects, differences: all }),
    ...structureFindings(differences),
  ];
  const found = { ...structure, differences, unvalidated: unvalidated({ live, differences: all }) };
  return { ...found, live, history, applied, pending, findings };
}

/** Of two files with one version that which was applied, if that is noted; else the first, as dbmate takes them. */
export function singleVersions(files: readonly MigrationFile[], { recorded }: Pick<Live, "recorded">): MigrationFile[] {
  const same = Map.groupBy(files, ({ version }) => version);
  return [...same].map(([version, all]) => all.find(({ file }) => file === recorded[version]?.file) ?? all[0]!);
}
