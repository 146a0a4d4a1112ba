// The folder in which another tool keeps its migrations: only what may be one is read.
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { join, relative, resolve } from "node:path";
import type { FolderFile } from "./adopt-tools.ts";
import { exitCodes, Failure } from "./failure.ts";

export type Folder = {
  /** From the project's root. */
  path: string;
  files: FolderFile[];
};

const endings = /\.(sql|js|cjs|mjs|ts|cts|mts|rb|exs|py)$/;
const isRead = (path: string) => /\.(sql|py)$/.test(path) || path === "meta/_journal.json";

type Wanted = {
  directory: string;
  /** `--files`. */
  asked: string | undefined;
  /** Where they usually are. */
  usual: readonly string[];
  /** Whether these are migrations of the tool. */
  isIts: (files: readonly FolderFile[]) => boolean;
};

/**
 * The folder that was asked for, or the first of the usual ones that has any; undefined when there is none.
 * @throws {Failure} exit 2 when the one that was asked for is not there.
 */
export async function findFolder({ directory, asked, usual, isIts }: Wanted): Promise<Folder | undefined> {
  if (asked !== undefined) {
    if (existsSync(resolve(directory, asked))) return await readFolder(directory, asked);
    throw new Failure("Cannot adopt", `there is no folder ${asked} in ${directory}`, ["--files FOLDER"], {
      exitCode: exitCodes.usage,
    });
  }
  for (const path of usual) {
    if (!existsSync(join(directory, path))) continue;
    const folder = await readFolder(directory, path);
    if (isIts(folder.files)) return folder;
  }
  return undefined;
}

async function readFolder(directory: string, folder: string): Promise<Folder> {
  const root = resolve(directory, folder);
  const found = await readdir(root, { recursive: true, withFileTypes: true });
  const paths = found
    .filter((entry) => entry.isFile())
    .map((entry) => relative(root, join(entry.parentPath, entry.name)).replaceAll("\\", "/"))
    .filter((path) => (endings.test(path) || isRead(path)) && !path.includes("node_modules/"))
    .sort();
  const files = await Promise.all(
    paths.map(async (path): Promise<FolderFile> => {
      if (!isRead(path)) return { path, text: "", sha256: "" };
      const bytes = await readFile(join(root, path));
      return { path, text: bytes.toString("utf8"), sha256: createHash("sha256").update(bytes).digest("hex") };
    }),
  );
  const path = relative(directory, root) || ".";
  // What dbmate itself applies is nobody else's, also where the other tool's folder has the same name.
  const isOurs = ({ text }: FolderFile) => path === "migrations" && /^--\s*migrate:up/m.test(text);
  return { path, files: files.filter((file) => !isOurs(file)) };
}
