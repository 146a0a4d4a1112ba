// Processes that somebody else started: who is behind a number, and stopping it without ever hitting a stranger.
import { readFile } from "node:fs/promises";
import { run, sendSignal } from "./run.ts";
import { poll } from "./wait.ts";

/** A process and a text that no later process with the same number can have. */
export type Identity = { pid: number; started: string };

/** @returns undefined when there is no such process. */
export async function identify(pid: number): Promise<Identity | undefined> {
  const started = process.platform === "linux" ? await startedOnLinux(pid) : await ps(pid, "lstart=");
  return started ? { pid, started } : undefined;
}

export async function isRunning({ pid, started }: Identity): Promise<boolean> {
  return (await identify(pid))?.started === started;
}

/** The command line of a process, empty when there is none. */
export async function commandLine(pid: number): Promise<string> {
  if (process.platform !== "linux") return await ps(pid, "command=");
  const text = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
  return text.replaceAll("\0", " ").trim();
}

/**
 * Sends the signal, waits, then SIGKILL; resolves when it is gone. Does nothing if it was gone already.
 * @returns whether it was still there.
 */
export async function stopProcess(found: Identity, signal: NodeJS.Signals, waitSeconds: number): Promise<boolean> {
  if (!(await isRunning(found))) return false;
  sendSignal(found.pid, signal);
  const gone = () => poll({ seconds: waitSeconds }, async () => ((await isRunning(found)) ? undefined : true));
  if (!(await gone()) && (await isRunning(found))) {
    sendSignal(found.pid, "SIGKILL");
    await gone();
  }
  return true;
}

/** Clock ticks since boot, with the boot they count from. A zombie has ended: only its parent has not noticed. */
async function startedOnLinux(pid: number): Promise<string> {
  const status = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
  // The second field is the program's name in parentheses and may hold spaces: count from behind it.
  const fields = status.slice(status.lastIndexOf(")") + 2).split(" ");
  if (fields.length < 20 || fields[0] === "Z") return "";
  const boot = await readFile("/proc/sys/kernel/random/boot_id", "utf8");
  return `${boot.trim()} ${fields[19]}`;
}

async function ps(pid: number, column: string): Promise<string> {
  const { stdout } = await run({ argv: ["ps", "-ww", "-o", column, "-p", `${pid}`], accept: [0, 1] });
  return stdout.trim();
}
