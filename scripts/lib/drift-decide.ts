// What a repair is made of: the look at the database, what the user says to it, and the plan that comes of both.
import { expectedCatalog } from "./catalog-expected.ts";
import { prepareLook } from "./drift-apply.ts";
import { type Assessing, type Assessment, assess } from "./drift-assess.ts";
import { where } from "./drift-check.ts";
import { deltaPackage, deltaVersion } from "./drift-delta.ts";
import { counted, editedIn, formatFindings, structureFindings } from "./drift-findings.ts";
import { type Forward, type Keep, makeForward } from "./drift-forward.ts";
import { noFile } from "./drift-history.ts";
import { decideNames, newVersions, type Versions, versionsInFrontOf } from "./drift-names.ts";
import { obstaclesTo, undirected } from "./drift-obstacles.ts";
import { planRepair, type Renamed, type RepairPlan } from "./drift-plan.ts";
import type { DriftRequest } from "./drift-request.ts";
import { wantedCatalog } from "./drift-structure.ts";
import { exitCodes, Failure } from "./failure.ts";
import type { MigrationFile } from "./migration-file.ts";
import { addCommand } from "./packages.ts";
import type { Place } from "./place.ts";
import type { Progress } from "./progress.ts";
import { inDatabase } from "./psql.ts";
import { choose } from "./terminal.ts";

export type Repairing = DriftRequest & {
  place: Place;
  scratch: Assessing["scratch"];
  progress: Progress;
  interrupted: AbortSignal;
  /** Lets others migrate while somebody is asked. */
  unlocked: <T>(ask: () => Promise<T>) => Promise<T>;
};

/** What has been found, and what is to be done about it. */
export type Decided = {
  before: Assessment;
  plan: RepairPlan;
  /** Of the database when everything is done; those of a forward migration that `migrate up` has yet to apply stay. */
  filesAfter: MigrationFile[];
  matches: Record<string, string>;
};

/** @returns undefined where nothing differs. @throws {Failure} exit 5 for what nobody but the user can decide. */
export async function decide(repairing: Repairing, files: readonly MigrationFile[]): Promise<Decided | undefined> {
  const { settings, directory, place, scratch, flags, interrupted } = repairing;
  const matches = parseMatches(flags.match, files);
  const look = (list: readonly MigrationFile[]) =>
    inDatabase(place, place.database, interrupted, (psql) =>
      assess({ psql, settings, directory, files: list, scratch, matches, name: `${place.database} on ${place.name}` }),
    );
  const before = await look(files);
  if (counted(before.findings).length === 0) return undefined;
  // Of a name nobody can count on.
  const counting = before.history.unknown.filter((version) => /^\d+$/.test(version));
  const versions = newVersions([...files.map(({ version }) => version), ...counting]);
  const renamed = await decideNames(files, before, look, versions);
  const names = files.map((file) => renamed.find(({ from }) => from === file)?.to ?? file);
  const assessment = renamed.length > 0 ? await look(names) : before;
  const isInOrder = flags.match.includes(inOrderFlag);
  const saidApplied = parseApplied(flags, assessment);
  const gone = Object.keys(matches).filter((version) => matches[version] === noFile);
  const obstacles = obstaclesTo({
    ...assessment,
    files: names,
    renamed,
    isInOrder,
    saidApplied,
    gone,
    at: where(flags),
  });
  refuseObstacles(obstacles, before);
  if (renamed.length > 0) await tryNewPlaces(repairing, assessment, names, renamed);
  const forward = await decideStructure(repairing, assessment, versions);
  const plan = planRepair({ assessment, renamed, forward, stamp: versions.stamp });
  const added = forward?.files.filter(({ version }) => !names.some((file) => file.version === version)) ?? [];
  const filesAfter = [...names, ...added];
  await prepareLook({ directory, live: assessment.live, assessment, plan, scratch });
  return { before, plan, filesAfter, matches };
}

/** @throws {Failure} exit 5 where a file cannot come behind those that it stood in front of. */
async function tryNewPlaces(
  { directory, scratch }: Repairing,
  { live }: Assessment,
  files: readonly MigrationFile[],
  renamed: readonly Renamed[],
): Promise<void> {
  const wanted = { ...wantedCatalog(directory, files, live), scratch: () => scratch(live) };
  await expectedCatalog(wanted).catch((error: unknown) => {
    if (!(error instanceof Failure) || error.exitCode !== exitCodes.saidNo) throw error;
    const moves = renamed.map(({ from, to }) => `${from.file} as ${to.file}`);
    throw new Failure(
      "Nothing was repaired",
      `in their new order the files cannot be applied: ${error.message}`,
      error.next,
      {
        exitCode: exitCodes.refused,
        details: [...moves, ...(error.details ? [error.details] : [])].join("\n"),
        read: "docs/runbook/drift-found.md",
      },
    );
  });
}

const inOrderFlag = "order";

function parseMatches(words: readonly string[], files: readonly MigrationFile[]): Record<string, string> {
  // A name may have the sign in it.
  const pairs = words
    .filter((word) => word !== inOrderFlag)
    .map((word) => word.match(/^(.+)=(.*)$/s)?.slice(1) ?? [word]);
  const known = new Set([noFile, ...files.map(({ version }) => version)]);
  const wrong = pairs.find(([, version = ""]) => !known.has(version));
  if (!wrong) return Object.fromEntries(pairs) as Record<string, string>;
  const why = `--match ${wrong.join("=")} is not NUMBER=VERSION with the version of a file in migrations/, nor NUMBER=${noFile}`;
  throw new Failure("Cannot run this command", why, ["ls migrations"], { exitCode: exitCodes.usage });
}

/** @throws {Failure} exit 2 for a file of which nobody has asked whether it is applied. */
function parseApplied(flags: DriftRequest["flags"], { present, applied, history, live }: Assessment): string[] {
  const asked = flags.applied.map((word) => word.replace(/^.*\//, ""));
  const open = [...present, ...editedIn(applied, history, live)];
  const unknown = asked.find((name) => !open.some(({ file }) => file === name));
  if (unknown === undefined) return asked;
  const why = `--applied ${unknown} is neither an edited file nor one whose structure is there and whose version is not`;
  const next = [`bun scripts/drift.ts check${where(flags)}`];
  throw new Failure("Cannot run this command", why, next, { exitCode: exitCodes.usage });
}

function refuseObstacles(obstacles: ReturnType<typeof obstaclesTo>, { findings }: Assessment): void {
  if (obstacles.length === 0) return;
  const [first] = obstacles;
  const details = [
    ...formatFindings(counted(findings)),
    ...obstacles.slice(1).map(({ why }) => why),
    ...(first!.details ? [first!.details] : []),
  ];
  throw new Failure(
    "Nothing was repaired",
    first!.why,
    obstacles.flatMap(({ next }) => next),
    {
      exitCode: exitCodes.refused,
      details: details.join("\n"),
      read: first!.read ?? "docs/runbook/drift-found.md",
    },
  );
}

/** @throws {Failure} exit 5 where nobody says which side is right, or no migration can be made of it. */
async function decideStructure(
  repairing: Repairing,
  assessment: Assessment,
  versions: Versions,
): Promise<Forward | undefined> {
  const { place, scratch, flags, directory, interrupted } = repairing;
  const open = undirected(assessment);
  if (open.length === 0) return undefined;
  const lines = formatFindings(structureFindings(open));
  const keep = (flags.keep as Keep | undefined) ?? (await repairing.unlocked(() => ask(lines)));
  const server = await scratch(assessment.live);
  const newVersion = keep === "database" ? versionsInFrontOf(assessment, versions) : versions.next;
  const made = await inDatabase(place, place.database, interrupted, (psql) =>
    makeForward({ assessment, keep, psql, scratch: server, newVersion }),
  );
  if ("files" in made) {
    if (keep === "files") return made;
    const { allowWhatIsThere } = await import("./drift-lint.ts");
    const before = [...assessment.applied, ...assessment.pending];
    return { ...made, files: await allowWhatIsThere({ files: made.files, before, directory, interrupted }) };
  }
  const byHand =
    "bun scripts/migrate.ts new NAME      # write it by hand, then run this again: what is there by then is noted";
  const install = addCommand(directory, `${deltaPackage}@${deltaVersion}`);
  throw new Failure(
    "No migration can be made of what differs",
    made.why,
    made.isMissing ? [install, byHand] : [byHand],
    {
      exitCode: exitCodes.refused,
      details: [...lines, ...(made.details ? [made.details] : [])].join("\n"),
      read: "docs/runbook/drift-found.md",
    },
  );
}

async function ask(lines: readonly string[]): Promise<Keep> {
  const text = [
    ...lines,
    "Which side is right?",
    "  database   what is there stays, and a new migration makes it in every other database",
    "  files      a new migration takes the database back to migrations/; what it loses is shown first",
  ].join("\n");
  return await choose({ text, answers: ["database", "files"], flag: "--keep database or --keep files" });
}
