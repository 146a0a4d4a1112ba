// Looks at the place where the project shall go. Reads only, and only what the plan needs to know.
import { accessSync, constants, existsSync, lstatSync, readdirSync, readFileSync, type Stats, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { exitCodes, Failure } from "../scripts/lib/failure.ts";
import { type Manifest, manifestPath, parseManifest } from "./manifest.ts";
import { isJsonObject } from "./merge.ts";

export type Observed = {
  /** Absolute. */
  directory: string;
  /** Nothing in it that an app could be built from. */
  empty: boolean;
  /** Names directly in it. */
  entries: readonly string[];
  /** Names in its migrations folder. */
  migrations: readonly string[];
  manifest: Manifest | undefined;
  /** The text of a file, or nothing when there is none. */
  read(path: string): string | undefined;
};

/** What may lie in a folder that still counts as empty: what `git init` and a code host put there, and our own start. */
const neverAnApp =
  /^(\.git|\.dbops|\.DS_Store|\.idea|\.vscode|\.(git|editor)\w+|(README|LICEN[SC]E|COPYING|CHANGELOG)\b.*)$/i;

export function observe(directory: string): Observed {
  const entries = names(directory);
  // On macOS and Windows "Docs" and "docs" are the same folder: asking the disk once too often is safe, too seldom is not.
  const tops = new Set(entries.map((name) => name.toLowerCase()));
  const manifestText = entries.includes(".dbops") ? read(directory, manifestPath) : undefined;
  return {
    directory,
    empty: entries.every((name) => neverAnApp.test(name)),
    entries,
    migrations: entries.includes("migrations") ? names(join(directory, "migrations")) : [],
    manifest: manifestText === undefined ? undefined : parseManifest(manifestText),
    // A name that is not at the top need not be looked for below it: an empty target costs no reads.
    read: (path) => (tops.has(path.split("/")[0]!.toLowerCase()) ? read(directory, path) : undefined),
  };
}

function names(directory: string): string[] {
  return statOf(directory)?.isDirectory() ? readdirSync(directory) : [];
}

function read(directory: string, path: string): string | undefined {
  const file = join(directory, path);
  try {
    return statOf(file)?.isFile() ? readFileSync(file, "utf8") : undefined;
  } catch (error) {
    const why = `${(error as Error).message}; nothing was written`;
    throw new Failure(`Cannot read "${path}"`, why, [`ls -l ${file}`], { exitCode: exitCodes.usage });
  }
}

/** Nothing when there is nothing, also when a file stands where one of its folders should be. */
function statOf(path: string, stat: typeof statSync | typeof lstatSync = statSync): Stats | undefined {
  try {
    return stat(path) as Stats;
  } catch (error) {
    if (["ENOENT", "ENOTDIR"].includes((error as NodeJS.ErrnoException).code ?? "")) return undefined;
    throw error;
  }
}

/** Sentences about the target itself, before anything is planned. */
export function targetProblems(directory: string): string[] {
  try {
    const problem = folderProblem(directory);
    return problem ? [problem] : [];
  } catch (error) {
    return [`"${directory}" cannot be used: ${(error as Error).message}`];
  }
}

/** Sentences about files there that no plan can work with. */
export function contentProblems({ read, entries }: Observed): string[] {
  const packageText = read("package.json");
  const manifestText = entries.includes(".dbops") ? read(manifestPath) : undefined;
  return [
    ...(packageText !== undefined && !isJsonObject(packageText)
      ? ["package.json is not valid JSON, so nothing can be merged into it: correct it first"]
      : []),
    ...(manifestText !== undefined && !parseManifest(manifestText)
      ? [`${manifestPath} is damaged: restore it (git checkout ${manifestPath}), or remove it`]
      : []),
  ];
}

/** Sentences about folders that the plan writes into, or whose place is taken. */
export function pathProblems(directory: string, paths: readonly string[]): string[] {
  const folders = new Set(paths.map((path) => dirname(join(directory, path))));
  return [
    ...new Set([...folders].map(folderProblem).filter((problem) => problem !== undefined)),
    ...paths.map((path) => placeProblem(directory, path)).filter((problem) => problem !== undefined),
  ];
}

/** A rename would quietly replace a link that leads nowhere, or a socket. */
function placeProblem(directory: string, path: string): string | undefined {
  const stat = statOf(join(directory, path));
  if (stat?.isDirectory()) return `"${path}" is a folder, the kit has a file of that name`;
  const isThere = statOf(join(directory, path), lstatSync) !== undefined;
  return isThere && !stat?.isFile() ? `"${path}" is neither a file nor a link to one` : undefined;
}

function folderProblem(folder: string): string | undefined {
  const nearest = nearestThere(folder);
  const stat = statOf(nearest);
  if (!stat) return `"${nearest}" is a symbolic link that leads nowhere`;
  if (!stat.isDirectory()) return `"${nearest}" is a file, it must be a folder`;
  try {
    // Root passes every permission bit; the kernel still says no for a read-only mount or an immutable folder.
    accessSync(nearest, constants.W_OK | constants.X_OK);
  } catch (error) {
    return `"${nearest}" cannot be written to (${(error as NodeJS.ErrnoException).code})`;
  }
}

/** The path itself, or its closest ancestor that exists. */
function nearestThere(path: string): string {
  return statOf(path, lstatSync) ? path : nearestThere(dirname(path));
}

/** Is this folder, or one above it, the work tree of a repository? */
export function isInRepository(directory: string): boolean {
  if (existsSync(join(directory, ".git"))) return true;
  const parent = dirname(directory);
  return parent !== directory && isInRepository(parent);
}
