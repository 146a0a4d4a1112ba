// The scaffolder as people get it: packed, unpacked somewhere else, started with Node in a clean environment.
import { createHash } from "node:crypto";
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { type Command, type Result, run } from "../../scripts/lib/run.ts";
import { repository } from "./repository.ts";

export type Scaffolder = {
  tarball: string;
  /** Paths in the tarball, and its size on the wire. */
  contents: { files: string[]; bytes: number; bytesUnpacked: number };
  /** dist/create-dbops.mjs out of the tarball. */
  program: string;
  /** A folder that everybody can enter, with these files; gone with remove(). */
  folder(files?: Readonly<Record<string, string>>): string;
  /** Starts the program with Node, without a terminal. Its exit code is an answer. */
  create(words: readonly string[], directory: string, options?: Partial<Command>): Promise<Result>;
  remove(): void;
};

export async function packScaffolder(): Promise<Scaffolder> {
  const home = makeFolder();
  await run({ argv: [process.execPath, join(repository, "create", "build.ts")], directory: repository });
  const packed = await run({
    // Without scripts: the build is above, and its `npm ci` is not for the middle of a test run.
    argv: ["npm", "pack", "--json", "--ignore-scripts", "--pack-destination", home],
    directory: repository,
    environment: cleanEnvironment(),
  });
  // npm 11 answers with a list, npm 12 with an object by name.
  const [answer] = Object.values(JSON.parse(packed.stdout)) as [Packed];
  const tarball = join(home, answer.filename);
  await run({ argv: ["tar", "-xzf", tarball, "-C", home] });
  const program = join(home, "package", "dist", "create-dbops.mjs");
  const folders: string[] = [home];
  return {
    tarball,
    contents: {
      files: answer.files.map(({ path }) => path).sort(),
      bytes: answer.size,
      bytesUnpacked: answer.unpackedSize,
    },
    program,
    folder(files = {}) {
      const folder = makeFolder();
      folders.push(folder);
      for (const [path, text] of Object.entries(files)) {
        mkdirSync(dirname(join(folder, path)), { recursive: true });
        writeFileSync(join(folder, path), text);
      }
      return folder;
    },
    create: (words, directory, options) =>
      run({
        argv: ["node", program, ...words],
        directory,
        environment: cleanEnvironment(),
        accept: [0, 1, 2, 130],
        ...options,
      }),
    remove: () => {
      for (const folder of folders) rmSync(folder, { recursive: true, force: true });
    },
  };
}

type Packed = { filename: string; size: number; unpackedSize: number; files: { path: string }[] };

function makeFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "dbops-create-"));
  chmodSync(folder, 0o755);
  return folder;
}

/** Removes what npm tells the programs that it starts: we are not to be taken for a part of this test run. */
export function cleanEnvironment(changes: Record<string, string | undefined> = {}) {
  const names = Object.keys(process.env).filter((name) => /^(npm_|init_cwd$|ci$|git_)/i.test(name));
  return { ...Object.fromEntries(names.map((name) => [name, undefined])), ...changes };
}

/** Everything below a folder, whole: mode, time and content of each path. Two equal trees are the same tree. */
export function treeOf(directory: string): Record<string, string> {
  const entries = readdirSync(directory, { recursive: true, withFileTypes: true });
  const rows = entries.map((entry) => {
    const path = join(entry.parentPath, entry.name);
    const { mode, mtimeNs } = lstatSync(path, { bigint: true });
    return [path.slice(directory.length + 1), `${mode.toString(8)} ${mtimeNs} ${contentOf(path)}`] as const;
  });
  return Object.fromEntries(rows.sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** Content only: what two projects have in common that were written at different times. */
export function contentsOf(directory: string): Record<string, string> {
  const rows = Object.entries(treeOf(directory)).filter(([path]) => path !== ".env" && !/^\.git(\/|$)/.test(path));
  return Object.fromEntries(rows.map(([path, row]) => [path, row.replace(/ \d+ /, " ")]));
}

function contentOf(path: string): string {
  const stat = lstatSync(path);
  if (stat.isSymbolicLink()) return readlinkSync(path);
  return stat.isFile() ? createHash("sha256").update(readFileSync(path)).digest("hex") : "";
}

/** For tests without a network, and without questions. */
export const offline = ["--no-install", "--yes"];

export const textOf = (...path: string[]) => readFileSync(join(...path), "utf8");

export const modeOf = (...path: string[]) => statSync(join(...path)).mode & 0o777;
