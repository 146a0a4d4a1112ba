// Versions that are applied and have no file here: whose they may be, and what that keeps a repair from. Pure.
import { list, namesOf } from "./drift-findings.ts";
import type { Obstacle, Standing } from "./drift-obstacles.ts";

/**
 * A version without a file here: somebody else may well have it. To take it for gone would apply that file once more, and to go back to what
 * the files say would drop what it has made. One that is older than a file here, with a structure that is the same without it, is gone.
 */
export function ofNewerFiles(standing: Standing): Obstacle[] {
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
export function perhapsApplied(standing: Standing): Obstacle[] {
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
      why: `${list(versions)} ${were} no file here; whether ${one} ${namesOf(rows)}, which ${rows.length === 1 ? "writes" : "write"} rows, nobody can see`,
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
export const quoted = (word: string) => (/^[\w.=-]+$/.test(word) ? word : inQuotes(word));
const inQuotes = (word: string) => `'${word.replaceAll("'", `'\\''`)}'`;

/** Which commits of all branches have files of these versions. */
export const whereFilesAre = (versions: readonly string[]) =>
  `git fetch && git log --all --oneline -- ${versions.map((version) => inQuotes(`migrations/${version}*`)).join(" ")}`;
