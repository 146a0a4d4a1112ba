// The programs that the lab's servers, registry and certificates need, from this machine's own Debian release, unpacked
// into the cache. Together with the engine's they make up the PATH for all commands about lab servers.
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { cacheFolder, hashOf, step, whole } from "../cache.ts";
import { fetchPackages, unpack, writeWrapper } from "../debian.ts";
import { engineFiles } from "../engine-files.ts";

const programs = {
  "docker-registry": ["usr/bin/docker-registry"],
  e2fsprogs: ["usr/sbin/mkfs.ext4"],
  "openssh-client": ["usr/bin/ssh", "usr/bin/scp", "usr/bin/ssh-keygen", "usr/bin/ssh-keyscan"],
  openssl: ["usr/bin/openssl"],
} as const;

let environment: Promise<{ PATH: string }> | undefined;

/** PATH with these programs, and the engine's `ip` and `iptables`, in front of what the machine has. */
export function toolsEnvironment(): Promise<{ PATH: string }> {
  environment ??= prepare();
  return environment;
}

async function prepare(): Promise<{ PATH: string }> {
  const folder = cacheFolder("tools", hashOf(JSON.stringify(programs)).slice(0, 12));
  if (!existsSync(folder))
    await step("ssh, openssl and registry unpacked from packages", () => whole(folder, assemble));
  return { PATH: [join(folder, "bin"), (await engineFiles()).path].join(":") };
}

async function assemble(folder: string): Promise<void> {
  const root = join(folder, "root");
  const debs = await fetchPackages({ suite: "machine", packages: Object.keys(programs), installed: "machine" });
  await unpack(debs, root);
  mkdirSync(join(folder, "bin"));
  for (const path of Object.values(programs).flat()) {
    writeWrapper(join(folder, "bin", path.split("/").at(-1)!), root, path);
  }
}
