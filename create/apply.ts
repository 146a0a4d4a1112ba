// Writes a plan. Every file is whole or absent: written under another name, then renamed. A run that was cut off is
// completed by the next one, which replaces the other name if it was left behind.
import { chmodSync, mkdirSync, realpathSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { exitCodes, Failure } from "../scripts/lib/failure.ts";
import type { Plan } from "./plan.ts";

type Write = { path: string; text: string; mode: number };

/**
 * @throws {Failure} exit 1, naming the file, for instance on a full disk: what was written so far stays.
 * Exit 2 when not even the folder can be made.
 */
export function applyPlan(directory: string, plan: Plan): void {
  const writes = plan.files.flatMap(({ write }) => write ?? []);
  if (writes.length === 0) return;
  makeTarget(directory);
  for (const write of plan.opening ? [plan.opening, ...writes] : writes) {
    try {
      makeFolder(dirname(join(directory, write.path)), 0o755);
      writeWhole(directory, write);
    } catch (error) {
      throw new Failure(
        `Cannot write "${join(directory, write.path)}"`,
        (error as Error).message,
        ["the same command again, once that is mended: it completes the project"],
        { cause: error },
      );
    }
  }
}

/** Some places take no folder although they say that they can be written to: nobody knows before trying. */
function makeTarget(directory: string): void {
  try {
    makeFolder(directory);
  } catch (error) {
    const why = `"${directory}" cannot be made: ${(error as Error).message}`;
    throw new Failure("Cannot create the project, nothing was written", why, ["create-dbops --help"], {
      exitCode: exitCodes.usage,
      cause: error,
    });
  }
}

/**
 * One level at a time: Node's own recursion never ends in a place such as /proc, where the parent exists and nothing
 * can be made in it.
 * @param mode set whatever the umask says: containers with another user read these through bind mounts.
 */
function makeFolder(folder: string, mode?: number): void {
  if (statSync(folder, { throwIfNoEntry: false })) return;
  makeFolder(dirname(folder), mode);
  mkdirSync(folder);
  if (mode !== undefined) chmodSync(folder, mode);
}

function writeWhole(directory: string, { path, text, mode }: Write): void {
  const file = throughLink(join(directory, path));
  const theirs = statSync(file, { throwIfNoEntry: false });
  const temporary = `${file}.writing`;
  rmSync(temporary, { force: true });
  writeFileSync(temporary, text, { mode: mode & 0o700, flag: "wx" });
  chmodSync(temporary, theirs ? theirs.mode & 0o777 : mode);
  renameSync(temporary, file);
}

/** A file of theirs may be a symbolic link: the file that it names is changed, the link stays. */
function throughLink(file: string): string {
  try {
    return realpathSync(file);
  } catch {
    return file;
  }
}
