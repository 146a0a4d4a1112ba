// Writes a plan. Every file is whole or absent: written under another name, then renamed. A run that was cut off is
// completed by the next one, which replaces the other name if it was left behind.
import { chmodSync, mkdirSync, realpathSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { Failure } from "../scripts/lib/failure.ts";
import type { Plan } from "./plan.ts";

type Write = { path: string; text: string; mode: number };

/** @throws {Failure} exit 1, naming the file, for instance on a full disk. What was written so far stays. */
export function applyPlan(directory: string, plan: Plan): void {
  const writes = plan.files.flatMap(({ write }) => write ?? []);
  if (writes.length === 0) return;
  mkdirSync(directory, { recursive: true });
  for (const write of plan.opening ? [plan.opening, ...writes] : writes) {
    try {
      makeFolders(directory, dirname(write.path));
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

/** Modes are set whatever the umask says: containers with another user read these through bind mounts. */
function makeFolders(directory: string, path: string): void {
  if (path === "." || statSync(join(directory, path), { throwIfNoEntry: false })) return;
  makeFolders(directory, dirname(path));
  mkdirSync(join(directory, path));
  chmodSync(join(directory, path), 0o755);
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
