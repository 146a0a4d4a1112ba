// The migrations as they were before the work at hand: in git, where this branch left the default branch or another.
import { exitCodes, Failure } from "./failure.ts";
import { type MigrationFile, parseMigration } from "./migration-file.ts";
import { type Result, run } from "./run.ts";

export type Base = {
  /** "main (3f2a1b0)" */
  name: string;
  commit: string;
  /** In dbmate's order; without those that it cannot have applied. */
  files: MigrationFile[];
};

/**
 * Where HEAD and the reference part: of two branches the last common commit, of an earlier commit that one itself.
 * @param reference of git; undefined for origin's default branch. @throws {Failure} exit 2 where git cannot say.
 */
export async function findBase(directory: string, reference: string | undefined): Promise<Base> {
  await requireRepository(directory);
  const name = await findReference(directory, reference);
  const { exitCode, stdout } = await git(directory, ["merge-base", "HEAD", name]);
  if (exitCode !== 0) throw unknown(`git does not see where HEAD and ${name} part`, [await deepen(directory)]);
  const commit = stdout.trim();
  return { name: `${name} (${commit.slice(0, 7)})`, commit, files: await readFiles(directory, commit) };
}

async function readFiles(directory: string, commit: string): Promise<MigrationFile[]> {
  const listed = await git(directory, ["ls-tree", "-z", "--name-only", commit, "migrations/"]);
  const names = listed.stdout.split("\0").filter(isMigration).sort();
  if (names.length === 0) return [];
  const stdin = names.map((name) => `${commit}:./${name}\n`).join("");
  const { stdout } = await run({ argv: ["git", "cat-file", "--batch"], directory, stdin });
  let rest = Buffer.from(stdout);
  const files = names.map((name) => {
    // "OID blob SIZE", the file, and a line feed.
    const begin = rest.indexOf(10) + 1;
    const size = /^[0-9a-f]+ blob (\d+)\n$/.exec(rest.toString("utf8", 0, begin))?.[1];
    if (size === undefined) throw unknown(`git does not give all of migrations/ at ${commit.slice(0, 7)} in UTF-8`);
    const end = begin + Number(size);
    const text = rest.toString("utf8", begin, end);
    rest = rest.subarray(end + 1);
    return parseMigration(name.replace("migrations/", ""), text);
  });
  const readable = files.filter(({ sections }) => sections.length > 0);
  // Of one version it applies the first.
  return readable.filter(({ version }, at) => readable.findIndex((other) => other.version === version) === at);
}

const isMigration = (path: string) => /^migrations\/\d[^/]*\.sql$/.test(path);

/** Those of its files that are other ones here, or are not here any more. */
export async function changedSince(directory: string, { commit, files }: Base): Promise<string[]> {
  const words = ["diff", "--name-only", "--no-renames", "--relative", "--diff-filter=MD", commit, "--", "migrations/"];
  const { stdout } = await git(directory, words);
  return stdout.split("\n").filter((path) => files.some(({ file }) => path === `migrations/${file}`));
}

const git = (directory: string, words: readonly string[]): Promise<Result> =>
  run({ argv: ["git", ...words], directory, accept: [0, 1, 127, 128] });

const without =
  "the same command with --no-incremental      # then it stays unknown whether an older database comes out the same";

const unknown = (why: string, next: readonly string[] = []) =>
  new Failure("Cannot find the migrations to begin from", why, [...next, without], { exitCode: exitCodes.usage });

async function requireRepository(directory: string): Promise<void> {
  const { exitCode, stderr } = await git(directory, ["rev-parse", "--git-dir"]);
  if (exitCode === 0) return;
  if (exitCode === 127) throw unknown("git is not installed");
  throw unknown(stderr.includes("not a git repository") ? "this is no git repository" : firstLine(stderr));
}

const firstLine = (text: string) =>
  text
    .trim()
    .split("\n")[0]!
    .replace(/^fatal: /, "");

async function commitOf(directory: string, reference: string): Promise<string | undefined> {
  const words = ["rev-parse", "--verify", "--quiet", "--end-of-options", `${reference}^{commit}`];
  const { exitCode, stdout } = await git(directory, words);
  return exitCode === 0 ? stdout.trim() : undefined;
}

/** A checkout in CI does not know which branch is the default one. */
const usual = ["main", "master"];

async function findReference(directory: string, reference: string | undefined): Promise<string> {
  if (reference !== undefined) {
    if (await commitOf(directory, reference)) return reference;
    throw unknown(`git knows no commit "${reference}" here`, ["git fetch origin"]);
  }
  const { stdout } = await git(directory, ["symbolic-ref", "--quiet", "--short", "refs/remotes/origin/HEAD"]);
  const candidates = [stdout.trim(), ...usual.map((branch) => `origin/${branch}`)].filter(Boolean);
  for (const branch of candidates) if (await commitOf(directory, branch)) return branch;
  throw unknown("git knows no default branch of origin here", ["git fetch origin", "the same command with --base REF"]);
}

async function deepen(directory: string): Promise<string> {
  const { stdout } = await git(directory, ["rev-parse", "--is-shallow-repository"]);
  return stdout.trim() === "true" ? "git fetch --unshallow origin" : "the same command with --base REF";
}
