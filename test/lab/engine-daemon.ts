// The lab's own Docker Engine as a daemon: its places, its options, and what it changes on the machine while it runs.
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { Failure } from "../../scripts/lib/failure.ts";
import { identify } from "../../scripts/lib/process.ts";
import { run } from "../../scripts/lib/run.ts";
import { poll } from "../../scripts/lib/wait.ts";
import { cacheFolder, stateFolder } from "./cache.ts";
import { engineFiles } from "./engine-files.ts";
import { type Version, versionOf } from "./engine-version.ts";
import { absentSharedFolders, endLeftovers, removeSharedFolders, removeStalePidFiles } from "./leftovers.ts";
import { chooseNetwork, createBridge, type Firewall, type Network, observeFirewall, removeNetwork } from "./network.ts";
import { startDaemon } from "./process.ts";

const startWithinSeconds = 60;

/** How the machine was before the engine came, and what was chosen for it. */
type Before = { network: Network; firewall: Firewall; absentFolders: string[] };

const recordFile = () => stateFolder("before.json");
const dataRoot = () => cacheFolder("data");
const ownFolders = () => [stateFolder(), dataRoot()];
export const socket = () => `unix://${stateFolder("docker.sock")}`;

/** Whether there is anything of it: running, or left over. */
export function daemonHasTraces(): boolean {
  return ownFolders().some((folder) => existsSync(folder));
}

/** PATH, DOCKER_HOST and DOCKER_CONFIG for the lab's engine, whether it runs or not. */
export async function daemonEnvironment(): Promise<Record<string, string>> {
  const { path, config } = await engineFiles();
  return { PATH: path, DOCKER_HOST: socket(), DOCKER_CONFIG: config };
}

/** @throws {Failure} with the end of its log, when it does not come up. */
export async function startDockerd(): Promise<{ environment: Record<string, string>; version: Version }> {
  const environment = await daemonEnvironment();
  mkdirSync(stateFolder(), { recursive: true, mode: 0o711 });
  const network = await prepareNetwork(environment);
  removeStalePidFiles([stateFolder("docker.pid"), stateFolder("exec/containerd/containerd.pid")], ownFolders());
  const log = cacheFolder("dockerd.log");
  writeFileSync(log, "");
  writeFileSync(stateFolder("daemon.json"), JSON.stringify(daemonOptions(network), null, 2));
  const argv = ["dockerd", "--config-file", stateFolder("daemon.json")];
  const pid = await startDaemon({ argv, environment, log });
  const version = await poll({ seconds: startWithinSeconds }, async () =>
    (await identify(pid)) ? await versionOf(environment) : null,
  );
  if (version) return { environment, version };
  const why = version === null ? "dockerd ended by itself" : `dockerd gave no answer within ${startWithinSeconds} s`;
  const details = readFileSync(log, "utf8").trimEnd().split("\n").slice(-15).join("\n");
  const next = ["bun test/lab/lab.ts down", `less ${log}`];
  throw new Failure("Cannot start the lab's Docker Engine", why, next, { details });
}

/** Ends it with all its containers, and removes its data, mounts, bridges and firewall rules. Also after it was killed. */
export async function removeDockerd(): Promise<void> {
  const environment = await daemonEnvironment();
  await killContainers(environment);
  await endLeftovers({ pidFile: stateFolder("docker.pid"), folders: ownFolders() });
  if (existsSync(recordFile())) {
    const { network, firewall, absentFolders } = JSON.parse(readFileSync(recordFile(), "utf8")) as Before;
    await removeNetwork(network, firewall, environment);
    removeSharedFolders(absentFolders);
  }
  for (const folder of ownFolders()) rmSync(folder, { recursive: true, force: true });
}

/** Their data goes anyway: waiting for each to stop by itself would cost its whole grace period. */
async function killContainers(environment: Record<string, string>): Promise<void> {
  const { stdout } = await run({ argv: ["docker", "ps", "--quiet"], environment, accept: [0, 1], timeoutSeconds: 10 });
  const names = stdout.split("\n").filter(Boolean);
  if (names.length > 0) await run({ argv: ["docker", "kill", ...names], environment, accept: [0, 1] });
}

/** A record that is there already stands: an earlier engine was not taken down, and what it found is what counts. */
async function prepareNetwork(environment: Record<string, string>): Promise<Network> {
  if (!existsSync(recordFile())) {
    const firewall = await observeFirewall(environment);
    const record: Before = { network: chooseNetwork(), firewall, absentFolders: absentSharedFolders() };
    writeFileSync(recordFile(), JSON.stringify(record));
  }
  const { network } = JSON.parse(readFileSync(recordFile(), "utf8")) as Before;
  await createBridge(network, environment);
  return network;
}

function daemonOptions({ bridge, pool }: Network) {
  return {
    hosts: [socket()],
    "data-root": dataRoot(),
    "exec-root": stateFolder("exec"),
    pidfile: stateFolder("docker.pid"),
    bridge,
    "default-address-pools": [{ base: pool, size: 24 }],
    "log-level": "warn",
    "shutdown-timeout": 5,
  };
}
