// Where the lab keeps what it has downloaded and built. Everything in it is whole or absent, and can be deleted at any time.
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from "node:fs";
import { homedir } from "node:os";
import { basename, dirname, join } from "node:path";

export function cacheFolder(...names: string[]): string {
  const folder =
    process.env.DBOPS_LAB_CACHE ?? join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "create-dbops-lab");
  return join(folder, ...names);
}

/** Eight letters that differ from one cache folder to another: two labs on one machine never share a name. */
export function labId(): string {
  return hashOf(cacheFolder()).slice(0, 8);
}

/** The folder for sockets and pid files of the running lab. Short, because a socket path may have 107 bytes; empty after a reboot. */
export function stateFolder(...names: string[]): string {
  return join("/run", `create-dbops-lab-${labId()}`, ...names);
}

export function hashOf(...parts: readonly (string | Uint8Array)[]): string {
  const hash = createHash("sha256");
  // The length goes in as well, so that ("ab", "c") and ("a", "bc") differ.
  for (const part of parts) hash.update(`${part.length}:`).update(part);
  return hash.digest("hex");
}

/** Returns the path after building it if it is absent. It is built beside its place and renamed, so nobody sees half of it. */
export async function whole(path: string, build: (temporary: string) => Promise<void>): Promise<string> {
  if (existsSync(path)) return path;
  mkdirSync(dirname(path), { recursive: true });
  removeAbandoned(path);
  const temporary = `${path}.${process.pid}.part`;
  try {
    await build(temporary);
    // Two processes may have built the same: the first one's stands.
    if (!existsSync(path)) renameSync(temporary, path);
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
  return path;
}

/** What a process left half-built when it was killed. */
function removeAbandoned(path: string): void {
  for (const name of readdirSync(dirname(path)).filter((other) => other.startsWith(`${basename(path)}.`))) {
    const owner = /\.(\d+)\.part/.exec(name)?.[1];
    const isAbandoned = owner !== undefined && (Number(owner) === process.pid || !existsSync(`/proc/${owner}`));
    if (isAbandoned) rmSync(join(dirname(path), name), { recursive: true, force: true });
  }
}

/** Announces a piece of work on stderr, does it, and says how long it took. */
export async function step<T>(title: string, work: () => Promise<T>): Promise<T> {
  const started = performance.now();
  const result = await work();
  say(`${title} (${((performance.now() - started) / 1000).toFixed(1)} s)`);
  return result;
}

export function say(line: string): void {
  console.error(`==> lab: ${line}`);
}
