// migrations/schema.sql as it was before the work at hand: in git, where this branch left the default branch or another.
import { exitCodes, Failure } from "./failure.ts";
import { type Result, run } from "./run.ts";
import { schemaFile } from "./schema-file.ts";

export type Base = {
  /** "main (3f2a1b0)" */
  name: string;
  commit: string;
  /** Undefined where the commit has none yet. */
  schema: string | undefined;
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
  const shown = await git(directory, ["show", `${commit}:./${schemaFile}`]);
  return { name: `${name} (${commit.slice(0, 7)})`, commit, schema: shown.exitCode === 0 ? shown.stdout : undefined };
}

/** Migration files of that commit that are other ones here, or are not here any more. */
export async function changedSince(directory: string, { commit }: Base): Promise<string[]> {
  const words = ["diff", "--name-only", "--no-renames", "--relative", "--diff-filter=MD", commit, "--", "migrations/"];
  const { stdout } = await git(directory, words);
  return stdout.split("\n").filter((path) => /^migrations\/\d[^/]*\.sql$/.test(path));
}

const git = (directory: string, words: readonly string[]): Promise<Result> =>
  run({ argv: ["git", ...words], directory, accept: [0, 1, 127, 128] });

const without =
  "the same command with --no-incremental      # then it stays unknown whether an older database comes out the same";

const unknown = (why: string, next: readonly string[] = []) =>
  new Failure("Cannot find the schema to begin from", why, [...next, without], { exitCode: exitCodes.usage });

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
