// What stands in the way of a repair, whatever is chosen: what nobody but the user can decide, or do. Pure.
import type { Assessment } from "./drift-assess.ts";
import { editedIn, list, namesOf } from "./drift-findings.ts";
import type { Match } from "./drift-history.ts";
import type { Renamed } from "./drift-plan.ts";
import { isKept } from "./drift-repairs.ts";
import { ofNewerFiles, perhapsApplied, quoted } from "./drift-unknown.ts";
import { type MigrationFile, sameVersions } from "./migration-file.ts";

/** Why something cannot be repaired, with what to do. */
export type Obstacle = { why: string; details?: string; next: string[]; read?: string };

export type Standing = Pick<
  Assessment,
  "history" | "live" | "differences" | "present" | "unseen" | "applied" | "pending"
> & {
  files: readonly MigrationFile[];
  /** Files that get a new name, which has to be said by the one that they have. */
  renamed: readonly Renamed[];
  /** The user says that these are applied, with all that they do: names of files. */
  saidApplied: readonly string[];
  /** The user says that the numbers are the files' places. */
  isInOrder: boolean;
  /** Versions of which the user says that nobody has their file any more. */
  gone: readonly string[];
  /** The flags that lead to the same database, for what is to be typed. */
  at: string;
};

export function obstaclesTo(standing: Standing): Obstacle[] {
  const { otherTool } = standing.history;
  return [
    ...(otherTool ? [ofOtherTool(otherTool, standing)] : []),
    ...(otherTool ? [] : [ofNewerFiles, perhapsApplied, withoutMatch].flatMap((find) => find(standing))),
    ...matchedByOrder(standing),
    ...presentWithRows(standing),
    ...editedWithRows(standing),
    ...repairsToApply(standing),
    ...sharedVersions(standing),
    ...partitionedIndexes(standing),
  ];
}

const ofOtherTool = (tool: string, { at }: Standing): Obstacle => ({
  why: `schema_migrations is a table of ${tool}`,
  next: [`bun scripts/drift.ts adopt --plan${at}`],
  read: "docs/adopt.md",
});

function withoutMatch({ history, files }: Standing): Obstacle[] {
  const { undecided } = history;
  const [number] = undecided;
  if (number === undefined) return [];
  const andSoOn = undecided.length > 1 ? ", and so on for each" : "";
  return [
    {
      why: `nothing says which files ${list(undecided)} of schema_migrations stand for`,
      details: files.map(({ version, file }) => `${version}  ${file}`).join("\n"),
      next: [
        `the same command with --match ${quoted(`${number}=VERSION`)}${andSoOn}; --match ${quoted(`${number}=none`)} where there is no such file any more`,
      ],
    },
  ];
}

/** By its place alone a number may stand for another file: where what is there speaks against it, or where nothing can, the user says it. */
function matchedByOrder({ history, differences, present, unseen, isInOrder }: Standing): Obstacle[] {
  const byOrder = history.converted.filter(({ by }) => by === "order");
  if (byOrder.length === 0 || isInOrder) return [];
  const next = ["the same command with --match NUMBER=VERSION for each, or with --match order if that is right"];
  const against = [...speakingAgainst(differences, byOrder), ...laterOnes(present)];
  if (against.length > 0) {
    const isLacking = differences.some(({ what }) => what === "missing");
    const files = isLacking ? "files whose tables are not all there" : "files that what is there speaks against";
    return [
      {
        why: `by their order the numbers of schema_migrations stand for ${files}`,
        details: [...history.converted.map(asLine), ...against].join("\n"),
        next,
      },
    ];
  }
  const rowsAlone = unseen.filter(({ file, isAll }) => isAll && byOrder.some((match) => match.file.file === file));
  if (rowsAlone.length === 0) return [];
  const why = `by their order alone the numbers of schema_migrations stand for ${namesOf(rowsAlone)}, which nobody can see in the database`;
  return [{ why, details: byOrder.map(asLine).join("\n"), next }];
}

const asLine = ({ version, file, by }: Match) => `${version} is ${file.file}, by ${by}`;

/** What is missing; and anything else that differs, and that one of these files names: it may not have been applied. */
function speakingAgainst(differences: Standing["differences"], byOrder: readonly Match[]): string[] {
  const text = byOrder
    .map(({ file }) => file.sections[0]?.up.sql ?? "")
    .join("\n")
    .toLowerCase();
  const words = new Set(text.match(/[\p{L}_][\p{L}\p{N}_$]*/gu));
  const isNamed = ({ kind, name }: Standing["differences"][number]) => {
    if (kind === "comment" || kind === "grant") return words.has(kind);
    const [own] = name.toLowerCase().match(/[\p{L}_][\p{L}\p{N}_$]*(?="?(?:\(.*\))?$)/u) ?? [];
    return own === undefined || words.has(own);
  };
  return differences
    .filter((difference) => difference.what === "missing" || isNamed(difference))
    .map(({ what, kind, name }) => `${what.padEnd(10)}  ${kind} ${name}`);
}

/** Who has applied that one, has applied those before it, by other numbers. What a repair has written that was killed is no such sign. */
const laterOnes = (present: Standing["present"]) =>
  present
    .filter(({ file }) => !isKept(file))
    .map(({ file }) => `there       what ${file} makes, and no number stands for it`);

const unsaid = ({ unseen, saidApplied }: Standing) => unseen.filter(({ file }) => !saidApplied.includes(file));

function presentWithRows(standing: Standing): Obstacle[] {
  const doubtful = unsaid(standing).filter(({ file }) => standing.present.some((one) => one.file === file));
  if (doubtful.length === 0) return [];
  const makes = doubtful.length === 1 ? "makes is" : "make is";
  return [
    {
      why: `the structure that ${namesOf(doubtful)} ${makes} there; whether the rest was done nobody can see`,
      next: [
        ...doubtful.map(({ file }) => `look for what migrations/${file} writes; what is missing, write by hand`),
        `the same command with ${areApplied(doubtful)}      # once all of it is there`,
      ],
    },
  ];
}

function editedWithRows(standing: Standing): Obstacle[] {
  const { applied, history, live } = standing;
  const edited = editedIn(applied, history, live);
  const rewritten = unsaid(standing).filter(({ file }) => edited.some((one) => one.file === file));
  if (rewritten.length === 0) return [];
  const writes = rewritten.length === 1 ? "was edited, and writes" : "were edited, and write";
  return [
    {
      why: `${namesOf(rewritten)} ${writes} rows; whether those that are there are the same nobody can see`,
      details: rewritten.flatMap(({ file, statements }) => statements.map((text) => `${file}  ${text}`)).join("\n"),
      next: [
        ...rewritten.map(({ file }) => `git log -p migrations/${file}      # what is no longer so in it`),
        `the same command with ${areApplied(rewritten)}      # once the rows are what it writes`,
      ],
      read: "docs/runbook/edited-migration.md",
    },
  ];
}

const areApplied = (files: readonly { file: string }[]) => files.map(({ file }) => `--applied ${file}`).join(" ");

const repairsToApply = ({ files, live, history, at }: Standing): Obstacle[] =>
  files
    .filter(({ version }) => live.repairs.includes(version) && !history.known.includes(version))
    .map(({ file }) => ({
      why: `migrations/${file}, which a repair has written, is not applied yet`,
      next: [`bun scripts/migrate.ts up${at}`],
    }));

const sharedVersions = ({ files }: Standing): Obstacle[] =>
  sameVersions(files).map((text) => ({
    why: `nothing says which was applied: ${text}`,
    next: ["give the other one a newer version: rename it"],
    read: "docs/runbook/duplicate-version.md",
  }));

const partitionedIndexes = ({ live }: Standing): Obstacle[] =>
  live.invalidIndexes
    .filter(({ isPartitioned }) => isPartitioned)
    .map(({ name, table }) => ({
      why: `index ${name} waits for one on each partition of ${table}`,
      next: [`for each partition: create index concurrently …; alter index ${name} attach partition …`],
    }));

/** The differences that need somebody to say which side is right: not those that a step takes away by itself. */
export function undirected({ differences, live }: Pick<Assessment, "differences" | "live">): Assessment["differences"] {
  const granted = live.privileges
    .filter(({ exists, missing }) => exists && missing.length > 0)
    .map(({ table }) => table);
  return differences.filter(({ kind, name }) => !(kind === "grant" && granted.some((table) => isGrantOn(name, table))));
}

const isGrantOn = (name: string, table: string) => name === `on table ${table}` || name === `on table public.${table}`;
