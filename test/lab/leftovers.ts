// Ends an engine and whatever it left running or mounted, found by its own folders, never by a program's name.
import { existsSync, readdirSync, readFileSync, rmdirSync, rmSync } from "node:fs";
import { run, sendSignal } from "../../scripts/lib/run.ts";
import { poll } from "../../scripts/lib/wait.ts";
import { allProcesses, argvOf, childrenOf } from "./processes.ts";

type Leftovers = { pidFile: string; folders: readonly string[] };

// dockerd gives its containers 5 s ("shutdown-timeout") and then wants a moment for itself.
const stopWithinSeconds = 30;

export async function endLeftovers({ pidFile, folders }: Leftovers): Promise<void> {
  const pid = existsSync(pidFile) ? Number(readFileSync(pidFile, "utf8")) : undefined;
  if (pid && processesOf(folders).includes(pid)) {
    process.kill(pid, "SIGTERM");
    await poll({ seconds: stopWithinSeconds }, async () => (processesOf(folders).includes(pid) ? undefined : true));
  }
  // A container's own processes carry none of our paths: ending a shim's container goes through its children.
  for (const left of processesOf(folders)) for (const one of [...descendantsOf(left), left]) sendSignal(one, "SIGKILL");
  await poll({ seconds: 5 }, async () => (processesOf(folders).length > 0 ? undefined : true));
  const mounts = readFileSync("/proc/self/mounts", "utf8")
    .split("\n")
    .map((line) => line.split(" ")[1] ?? "");
  // Last mounted first: one may lie on another.
  for (const mount of mounts
    .reverse()
    .filter((path) => folders.some((folder) => `${path}/`.startsWith(`${folder}/`)))) {
    await run({ argv: ["umount", "--lazy", mount], accept: [0, 1, 32] });
  }
}

/** containerd creates these wherever it runs, whatever its configuration says. Inner ones first. */
const sharedFolders = [
  ...["/opt/containerd/bin", "/opt/containerd/lib", "/opt/containerd", "/run/containerd/s", "/run/containerd"],
  ...["/run/docker/plugins", "/run/docker"],
];

export function absentSharedFolders(): string[] {
  return sharedFolders.filter((folder) => !existsSync(folder));
}

/** Removes folders that were absent before the engine came, unless somebody else has put something into them. */
export function removeSharedFolders(folders: readonly string[]): void {
  for (const folder of folders.filter((path) => existsSync(path) && readdirSync(path).length === 0)) rmdirSync(folder);
}

/**
 * Removes pid files that name no process of the engine: after a power cut the number is free, or somebody else's, and both
 * dockerd and containerd would take that process for themselves and refuse to start.
 */
export function removeStalePidFiles(pidFiles: readonly string[], folders: readonly string[]): void {
  const alive = processesOf(folders);
  for (const file of pidFiles.filter((path) => existsSync(path))) {
    if (!alive.includes(Number(readFileSync(file, "utf8")))) rmSync(file);
  }
}

/** Processes whose command line names a file inside one of the folders: dockerd, containerd and the containers' shims. */
function processesOf(folders: readonly string[]): number[] {
  const programs = /(dockerd|containerd|containerd-shim-runc-v2|docker-proxy)$/;
  return allProcesses().filter((pid) => {
    const argv = argvOf(pid);
    const names = (folder: string) => argv.some((word) => word.includes(`${folder}/`));
    return programs.test(argv[0] ?? "") && folders.some(names);
  });
}

function descendantsOf(pid: number): number[] {
  return childrenOf(pid).flatMap((child) => [...descendantsOf(child), child]);
}
