// Whether the files of an adoption make the database that is there: applied to an empty one, and compared object by object.
import { withSchemas } from "./adopt-histories.ts";
import type { AdoptPlan } from "./adopt-plan.ts";
import { compareCatalogs, formatDifferences } from "./catalog-diff.ts";
import { fingerprint, readObjects } from "./catalog-objects.ts";
import { exitCodes, Failure } from "./failure.ts";
import type { MigrationFile } from "./migration-file.ts";
import { replay } from "./migration-replay.ts";
import type { Psql } from "./psql.ts";
import type { Scratch } from "./scratch.ts";

export type Proof = {
  /** Of the database, at the moment of the proof; the transaction that writes looks once more. */
  fingerprint: string;
  /** Those that are applied, in order. */
  applied: MigrationFile[];
};

type Proving = {
  plan: AdoptPlan;
  scratch: Scratch;
  live: Psql;
  histories: readonly string[];
  /** Of what is in the database. */
  owner: string;
  /** `--applied`: of several files with one number, these. */
  decided: readonly string[];
};

/** More would take minutes. */
const attemptsMaximum = 16;

/** @throws {Failure} exit 3 with what differs; exit 5 where the database does not tell which of several files is applied. */
export async function prove(proving: Proving): Promise<Proof> {
  const { plan, live, histories } = proving;
  const choices = choicesOf(plan, proving.decided);
  const wanted = await fingerprint(live, { histories, owner: proving.owner });
  const fitting: MigrationFile[][] = [];
  let last: Outcome | undefined;
  for (const chosen of choices) {
    const applied = plan.files
      .filter((file) => file.applied || chosen.has(file.migration.file))
      .map(({ migration }) => migration);
    const outcome = await attempt(proving, applied, wanted);
    if (outcome.equal) fitting.push(applied);
    // The first one has all of them; its differences say most.
    last ??= outcome;
  }
  if (fitting.length === 1) {
    requireInOrder(plan, fitting[0]!);
    return { fingerprint: wanted, applied: fitting[0]! };
  }
  if (fitting.length > 1) throw undecidable(plan);
  throw last!.failure ?? different(plan, last!.differences);
}

/** Of two files with one number only the second may have been applied; dbmate would refuse the first. */
function requireInOrder({ files }: AdoptPlan, applied: readonly MigrationFile[]): void {
  const newest = applied
    .map(({ version }) => version)
    .sort()
    .at(-1)!;
  const between = files.filter(({ migration }) => !applied.includes(migration) && migration.version < newest);
  if (between.length === 0) return;
  const why = "the database shows that newer files are applied, and these are not";
  const next = [
    "give them a number after all others, if they are still to be applied; else take them out of the folder",
  ];
  throw new Failure("Cannot adopt", why, next, {
    exitCode: exitCodes.saidNo,
    details: [...new Set(between.map(({ from }) => from))].join("\n"),
    read: "docs/adopt.md",
  });
}

type Outcome = { equal: boolean; differences: string[]; failure?: Failure };

async function attempt(
  { scratch, live, histories, owner }: Proving,
  applied: readonly MigrationFile[],
  wanted: string,
): Promise<Outcome> {
  const there = { histories, owner };
  const tables = histories.filter((name) => !name.endsWith(".*"));
  return await scratch.inNew(async (psql): Promise<Outcome> => {
    try {
      await replay(psql, applied);
    } catch (error) {
      if (!(error instanceof Failure) || error.exitCode !== exitCodes.saidNo) throw error;
      return { equal: false, differences: [], failure: notApplicable(error) };
    }
    const here = { histories: await withSchemas(psql, tables), owner: scratch.place.user };
    if ((await fingerprint(psql, here)) === wanted) return { equal: true, differences: [] };
    const found = compareCatalogs(await readObjects(psql, here), await readObjects(live, there));
    const differences = formatDifferences(found, {
      expected: "the files",
      actual: "the database",
    });
    return { equal: false, differences };
  });
}

/** Every way to choose at least one of each group, all of them first. @throws {Failure} exit 5 when there are too many. */
export function choicesOf({ undecided }: Pick<AdoptPlan, "undecided">, decided: readonly string[]): Set<string>[] {
  let choices: Set<string>[] = [new Set()];
  for (const { sources } of undecided) {
    const asked = sources.filter(({ from }) => decided.some((name) => from === name || from.endsWith(`/${name}`)));
    const subsets = asked.length > 0 ? [asked] : subsetsOf(sources);
    choices = choices.flatMap((chosen) =>
      subsets.map((subset) => new Set([...chosen, ...subset.flatMap(({ files }) => files)])),
    );
    if (choices.length > attemptsMaximum) throw tooMany(undecided);
  }
  return choices;
}

/** All but the empty one, the largest first. */
function subsetsOf<T>(all: readonly T[]): T[][] {
  const subsets = Array.from({ length: 2 ** all.length - 1 }, (_, bits) =>
    all.filter((_one, at) => (bits + 1) & (1 << at)),
  );
  return subsets.sort((one, other) => other.length - one.length);
}

function tooMany(undecided: AdoptPlan["undecided"]): Failure {
  const why = `${undecided.length} numbers belong to several files each, and the history does not say which`;
  return refused(why, undecided);
}

function undecidable({ undecided }: AdoptPlan): Failure {
  return refused("several files have one number, and the database does not show which of them is applied", undecided);
}

function refused(why: string, undecided: AdoptPlan["undecided"]): Failure {
  const lists = undecided.map(({ key, sources }) => ({ key, names: sources.map(({ from }) => from) }));
  const flags = lists.flatMap(({ names }) => names.map((name) => `--applied ${name}`));
  return new Failure("Cannot adopt", why, [`the same command with those that are applied: ${flags.join(" ")}`], {
    exitCode: exitCodes.refused,
    details: lists.map(({ key, names }) => `${key}: ${names.join(", ")}`).join("\n"),
    read: "docs/adopt.md",
  });
}

function notApplicable({ what, why, details }: Failure): Failure {
  const next = ["the same command with --baseline      # which needs no files"];
  return new Failure("Nothing was adopted", `the files do not make a database: ${what}: ${why}`, next, {
    exitCode: exitCodes.saidNo,
    ...(details && { details }),
    read: "docs/adopt.md",
  });
}

const linesMaximum = 60;

function different({ way }: AdoptPlan, differences: readonly string[]): Failure {
  const count = differences.filter((line) => !line.startsWith(" ")).length;
  const why = `the files do not make this database: ${count === 1 ? "1 difference" : `${count} differences`}`;
  const more = differences.length - linesMaximum;
  const details = more > 0 ? [...differences.slice(0, linesMaximum), `… ${more} more lines`] : differences;
  const next =
    way === "import"
      ? ["the same command with --baseline      # takes the database as it is"]
      : ["bring the database to the same state as the one that the baseline is of"];
  return new Failure("Nothing was adopted", why, next, {
    exitCode: exitCodes.saidNo,
    details: details.join("\n"),
    read: "docs/adopt.md",
  });
}
