// The programs of the lab's Docker Engine, unpacked into the cache, and the folders that go in front of PATH to run them.
import { existsSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { run } from "../../scripts/lib/run.ts";
import { cacheFolder, hashOf, step, whole } from "./cache.ts";
import { fetchPackages, unpack, versionsOf, writeWrapper } from "./debian.ts";

// Debian 12's own Compose is older than v2. sid's programs need no newer libraries than Debian 12 has.
const fromSid = ["docker.io", "docker-cli", "docker-compose", "docker-buildx", "containerd"];
const fromMachine = ["runc", "iptables", "tini", "iproute2"];

/** Counts up when the folder below is laid out differently, so that an older one is not taken for it. */
const layout = 2;

export type EngineFiles = {
  /** PATH with the engine's programs in front. */
  path: string;
  /** The folder for DOCKER_CONFIG, with Compose and buildx as plugins. */
  config: string;
};

/** Downloads and unpacks the engine, unless it is in the cache. */
export async function engineFiles(): Promise<EngineFiles> {
  const folder = cacheFolder("engine", hashOf(JSON.stringify([fromSid, fromMachine, layout])).slice(0, 12));
  if (!existsSync(folder)) {
    await step("Docker Engine, CLI, Compose and buildx unpacked from Debian packages", () => whole(folder, assemble));
  }
  const folders = ["bin", "root/usr/sbin", "root/usr/bin"].map((name) => join(folder, name));
  return { path: [...folders, process.env.PATH].join(":"), config: join(folder, "docker-config") };
}

async function assemble(folder: string): Promise<void> {
  const [sid, machine] = await Promise.all([
    fetchPackages({ suite: "sid", packages: fromSid, installed: "everything" }),
    fetchPackages({ suite: "machine", packages: fromMachine, installed: "machine" }),
  ]);
  const root = join(folder, "root");
  const bin = join(folder, "bin");
  await unpack([...machine, ...sid], root);
  mkdirSync(bin);
  writeWrapper(join(bin, "ip"), root, "usr/bin/ip");
  const backend = await firewallBackend(bin, root);
  for (const name of ["iptables", "ip6tables"].flatMap((program) => [
    program,
    `${program}-save`,
    `${program}-restore`,
  ])) {
    writeWrapper(join(bin, name), root, `usr/sbin/${backend} ${name}`);
  }
  // Where DOCKER_CONFIG points, plugins are looked for there and not in the usual place.
  const plugins = join(folder, "docker-config/cli-plugins");
  mkdirSync(plugins, { recursive: true });
  for (const name of ["docker-compose", "docker-buildx"]) {
    symlinkSync(`../../root/usr/libexec/docker/cli-plugins/${name}`, join(plugins, name));
  }
  writeFileSync(join(folder, "versions.json"), JSON.stringify(versionsOf([...sid, ...machine]), null, 2));
}

/** nftables where the kernel has it, as Debian chooses; else the legacy tables. */
async function firewallBackend(bin: string, root: string): Promise<string> {
  const probe = join(bin, "iptables");
  writeWrapper(probe, root, "usr/sbin/xtables-nft-multi iptables");
  const { exitCode } = await run({ argv: [probe, "--table", "nat", "--list-rules"], accept: [0, 1, 2, 3, 4] });
  return exitCode === 0 ? "xtables-nft-multi" : "xtables-legacy-multi";
}
