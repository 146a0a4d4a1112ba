// Processes on this machine: read from /proc, because a bare Debian has no ps.
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { Failure } from "../../scripts/lib/failure.ts";
import { identify, isRunning, stopProcess } from "../../scripts/lib/process.ts";

const killWithinSeconds = 20;

export function allProcesses(): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
}

/** The words of its command line; none when it has ended, whether or not it has been waited for. */
export function argvOf(pid: number): string[] {
  return readOrEmpty(`/proc/${pid}/cmdline`).split("\0").filter(Boolean);
}

/** Not from /proc/PID/task/PID/children: that list may leave some out while others come and go. */
export function childrenOf(parent: number): number[] {
  const line = new RegExp(`^PPid:\\t${parent}$`, "m");
  return allProcesses().filter((pid) => line.test(readOrEmpty(`/proc/${pid}/status`)));
}

/** The command lines of all others that work in the directory or name it. */
export function processesIn(directory: string): string[] {
  const others = allProcesses().filter((pid) => pid !== process.pid);
  return others.flatMap((pid) => {
    const text = argvOf(pid).join(" ");
    return text && (text.includes(directory) || workingDirectory(pid).startsWith(directory)) ? [text] : [];
  });
}

/** Ends a process and waits until it has ended. */
export async function killAndWait(pid: number): Promise<void> {
  const found = await identify(pid);
  if (!found) return;
  await stopProcess(found, "SIGKILL", killWithinSeconds);
  if (!(await isRunning(found))) return;
  const why = `it is still there ${killWithinSeconds} s after SIGKILL`;
  throw new Failure(`Cannot end process ${pid}`, why, [`ps -fp ${pid}`]);
}

function workingDirectory(pid: number): string {
  try {
    return readlinkSync(`/proc/${pid}/cwd`);
  } catch {
    // It has ended while we looked.
    return "";
  }
}

function readOrEmpty(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    // A process may end between being listed and being read.
    return "";
  }
}
