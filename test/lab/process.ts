// What scripts/lib/run.ts does not offer, because only the lab needs it: a daemon that outlives us, and a lock that
// the kernel releases when its owner dies.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { openSync } from "node:fs";
import { Failure } from "../../scripts/lib/failure.ts";

type Daemon = { argv: readonly string[]; environment: Readonly<Record<string, string>>; log: string };

/** Starts a program that goes on after this process has ended, its output appended to the log. Returns its pid. */
export async function startDaemon({ argv, environment, log }: Daemon): Promise<number> {
  const [file, ...rest] = argv as [string, ...string[]];
  const output = openSync(log, "a", 0o600);
  const child = spawn(file, rest, {
    env: { ...process.env, ...environment },
    stdio: ["ignore", output, output],
    detached: true,
    cwd: "/",
  });
  await once(child, "spawn");
  child.unref();
  return child.pid!;
}

/**
 * Does the work while holding the lock on a file. Between processes and within one.
 * flock(1) holds it for as long as the other end of its stdin is open: if we die, however suddenly, the lock is free.
 * @throws {Failure} when somebody else holds it longer than waitSeconds.
 */
export async function withLock<T>(file: string, waitSeconds: number, work: () => Promise<T>): Promise<T> {
  const holder = spawn(
    "flock",
    ["--exclusive", "--timeout", `${waitSeconds}`, file, "sh", "-c", "echo held; cat >/dev/null"],
    { stdio: ["pipe", "pipe", "inherit"] },
  );
  const ended = once(holder, "exit");
  // Resolves with a value only when "held" was printed; flock exits 1 when its time is over.
  const held = await Promise.race([once(holder.stdout, "data").then(() => true), ended.then(() => false)]);
  if (!held) {
    throw new Failure(`Cannot lock "${file}"`, `another process has held it for ${waitSeconds} s`, [
      `fuser -v ${file}`,
    ]);
  }
  try {
    return await work();
  } finally {
    holder.stdin.end();
    await ended;
  }
}
