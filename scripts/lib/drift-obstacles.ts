// What stands in the way of a repair, whatever is chosen: what nobody but the user can decide, or do. Pure.
import type { Assessment } from "./drift-assess.ts";
import { editedIn } from "./drift-findings.ts";
import type { Match } from "./drift-history.ts";
import type { Renamed } from "./drift-plan.ts";
import { isKept } from "./drift-repairs.ts";
import { type MigrationFile, sameVersions } from "./migration-file.ts";

/** Why something cannot be repaired, with what to do. */
export type Obstacle = { why: string; details?: string; next: string[]; read?: string };

type Standing = Pick<Assessment, "history" | "live" | "differences" | "present" | "unseen" | "applied" | "pending"> & {
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

/** What stands in the way, whatever is chosen. */
export function obstaclesTo(standing: Standing): Obstacle[] {
  const { history, live, differences, files, isInOrder, present, unseen, applied, saidApplied, at } = standing;
  const { otherTool, undecided, converted } = history;
  const lacking = differences.filter(({ what }) => what === "missing");
  const [number] = undecided;
  const candidates = files.map(({ version, file }) => `${version}  ${file}`);
  const byOrder = converted.filter(({ by }) => by === "order");
  const against = byOrder.length > 0 ? [...speakingAgainst(differences, byOrder), ...laterOnes(present)] : [];
  const rowsAlone = unseen.filter(({ file, isAll }) => isAll && byOrder.some((match) => match.file.file === file));
  const unsaid = unseen.filter(({ file }) => !saidApplied.includes(file));
  const doubtful = unsaid.filter(({ file }) => present.some((one) => one.file === file));
  const edited = editedIn(applied, history, live);
  const rewritten = unsaid.filter(({ file }) => edited.some((one) => one.file === file));
  return [
    ...(otherTool
      ? [
          {
            why: `schema_migrations is a table of ${otherTool}`,
            next: [`bun scripts/drift.ts adopt --plan${at}`],
            read: "docs/adopt.md",
          },
        ]
      : []),
    ...(otherTool ? [] : [...ofNewerFiles(standing), ...perhapsApplied(standing)]),
    ...(number !== undefined && !otherTool
      ? [
          {
            why: `nothing says which files ${list(undecided)} of schema_migrations stand for`,
            details: candidates.join("\n"),
            next: [
              `the same command with --match ${quoted(`${number}=VERSION`)}${undecided.length > 1 ? ", and so on for each" : ""}; --match ${quoted(`${number}=none`)} where there is no such file any more`,
            ],
          },
        ]
      : []),
    ...(against.length > 0 && !isInOrder
      ? [
          {
            why:
              lacking.length > 0
                ? "by their order the numbers of schema_migrations stand for files whose tables are not all there"
                : "by their order the numbers of schema_migrations stand for files that what is there speaks against",
            details: [
              ...converted.map(({ version, file, by }) => `${version} is ${file.file}, by ${by}`),
              ...against,
            ].join("\n"),
            next: ["the same command with --match NUMBER=VERSION for each, or with --match order if that is right"],
          },
        ]
      : []),
    ...(rowsAlone.length > 0 && against.length === 0 && !isInOrder
      ? [
          {
            why: `by their order alone the numbers of schema_migrations stand for ${names(rowsAlone)}, which nobody can see in the database`,
            details: byOrder.map(({ version, file, by }) => `${version} is ${file.file}, by ${by}`).join("\n"),
            next: ["the same command with --match NUMBER=VERSION for each, or with --match order if that is right"],
          },
        ]
      : []),
    ...(doubtful.length > 0
      ? [
          {
            why: `the structure that ${names(doubtful)} ${doubtful.length === 1 ? "makes is" : "make is"} there; whether the rest was done nobody can see`,
            next: [
              ...doubtful.map(({ file }) => `look for what migrations/${file} writes; what is missing, write by hand`),
              `the same command with ${doubtful.map(({ file }) => `--applied ${file}`).join(" ")}      # once all of it is there`,
            ],
          },
        ]
      : []),
    ...(rewritten.length > 0
      ? [
          {
            why: `${names(rewritten)} ${rewritten.length === 1 ? "was edited, and writes" : "were edited, and write"} rows; whether those that are there are the same nobody can see`,
            details: rewritten
              .flatMap(({ file, statements }) => statements.map((text) => `${file}  ${text}`))
              .join("\n"),
            next: [
              ...rewritten.map(({ file }) => `git log -p migrations/${file}      # what is no longer so in it`),
              `the same command with ${rewritten.map(({ file }) => `--applied ${file}`).join(" ")}      # once the rows are what it writes`,
            ],
            read: "docs/runbook/edited-migration.md",
          },
        ]
      : []),
    ...files
      .filter(({ version }) => live.repairs.includes(version) && !history.known.includes(version))
      .map(({ file }) => ({
        why: `migrations/${file}, which a repair has written, is not applied yet`,
        next: [`bun scripts/migrate.ts up${at}`],
      })),
    ...sameVersions(files).map((text) => ({
      why: `nothing says which was applied: ${text}`,
      next: ["give the other one a newer version: rename it"],
      read: "docs/runbook/duplicate-version.md",
    })),
    ...live.invalidIndexes
      .filter(({ isPartitioned }) => isPartitioned)
      .map(({ name, table }) => ({
        why: `index ${name} waits for one on each partition of ${table}`,
        next: [`for each partition: create index concurrently …; alter index ${name} attach partition …`],
      })),
  ];
}

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

/**
 * A version without a file here: somebody else may well have it. To take it for gone would apply that file once more, and to go back to what
 * the files say would drop what it has made. One that is older than a file here, with a structure that is the same without it, is gone.
 */
function ofNewerFiles(standing: Standing): Obstacle[] {
  const { live } = standing;
  const versions = doubtfulVersions(standing);
  if (versions.length === 0) return [];
  const called = versions.map((version) => live.recorded[version]?.file ?? version);
  const [were, they, file] = versions.length === 1 ? ["was", "it", "that file"] : ["were", "them", "those files"];
  return [
    {
      why: `${list(called)} ${were} applied, and no file here has ${they}: this checkout may be older than the database`,
      next: [
        `${whereFilesAre(versions)}      # then: git pull, or git merge what has ${they}`,
        `the same command with ${noneOf(versions)}      # only if nobody has ${file} any more`,
      ],
    },
  ];
}

function doubtfulVersions({ history, live, differences, files, gone }: Standing): string[] {
  const newest = [...files.map(({ version }) => version)].sort().at(-1) ?? "";
  const isDoubtful = (version: string) => live.recorded[version] || version > newest || differences.length > 0;
  return history.unknown.filter((version) => !gone.includes(version) && isDoubtful(version));
}

/** What was applied by another version would be applied once more; where that makes nothing in the structure, nothing would stop it. */
function perhapsApplied(standing: Standing): Obstacle[] {
  const { history, present, pending, unseen, gone, renamed } = standing;
  const versions = history.unknown.filter((version) => !gone.includes(version));
  const open = pending.filter((file) => !present.includes(file));
  const rows = unseen.flatMap(({ file, statements }) => {
    const found = open.find((one) => one.file === file);
    return found ? [{ ...(renamed.find(({ to }) => to.file === file)?.from ?? found), statements }] : [];
  });
  if (versions.length === 0 || rows.length === 0) return [];
  const [were, one, none] =
    versions.length === 1
      ? ["was applied, and has", "it was", "it was not"]
      : ["were applied, and have", "one of them was", "none of them was"];
  const asked = doubtfulVersions(standing);
  const rest = versions.filter((version) => !asked.includes(version));
  return [
    {
      why: `${list(versions)} ${were} no file here; whether ${one} ${names(rows)}, which ${rows.length === 1 ? "writes" : "write"} rows, nobody can see`,
      details: rows.flatMap(({ file, statements }) => statements.map((text) => `${file}  ${text}`)).join("\n"),
      next: [
        ...rows.map(({ file, version }) =>
          versions.length === 1
            ? `the same command with --match ${quoted(`${versions[0]}=${version}`)}      # if it was ${file}`
            : `the same command with --match VERSION=${version}      # the one of them that was ${file}`,
        ),
        ...(rest.length > 0 ? [`the same command with ${noneOf(rest)}      # if ${none}`] : []),
      ],
    },
  ];
}

const noneOf = (versions: readonly string[]) =>
  versions.map((version) => `--match ${quoted(`${version}=none`)}`).join(" ");

/** One word for a shell. */
const quoted = (word: string) => (/^[\w.=-]+$/.test(word) ? word : inQuotes(word));
const inQuotes = (word: string) => `'${word.replaceAll("'", `'\\''`)}'`;

/** Which commits of all branches have files of these versions. */
export const whereFilesAre = (versions: readonly string[]) =>
  `git fetch && git log --all --oneline -- ${versions.map((version) => inQuotes(`migrations/${version}*`)).join(" ")}`;

const names = (files: readonly { file: string }[]) => list(files.map(({ file }) => file));

/** Some of many. */
export const list = (values: readonly string[]) =>
  values.length <= 5 ? values.join(", ") : `${values.slice(0, 5).join(", ")} and ${values.length - 5} more`;

/** The differences that need somebody to say which side is right: not those that a step takes away by itself. */
export function undirected({ differences, live }: Pick<Assessment, "differences" | "live">): Assessment["differences"] {
  const granted = live.privileges
    .filter(({ exists, missing }) => exists && missing.length > 0)
    .map(({ table }) => table);
  return differences.filter(({ kind, name }) => !(kind === "grant" && granted.some((table) => isGrantOn(name, table))));
}

const isGrantOn = (name: string, table: string) => name === `on table ${table}` || name === `on table public.${table}`;
