// The root file system of a lab server: a Debian with its package database in order, so that apt works there as anywhere.
// Built once for each kind and kept unpacked in the cache, where servers use it as the read-only layer below their own disk.
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { run } from "../../../scripts/lib/run.ts";
import { cacheFolder, hashOf, step, whole } from "../cache.ts";
import { fetchPackages, unpack } from "../debian.ts";
import { withLock } from "../process.ts";

/** "docker" has a Docker Engine with Compose, and the user `deploy`; "bare" has neither: what a provider hands over. */
export type ServerKind = "docker" | "bare";

// The release whose own packages have a Compose as new as our files need, so that a bare server can get it by apt.
const suite = "forky";

const packages: Record<ServerKind, readonly string[]> = {
  bare: [
    "?essential",
    ...[
      "apt",
      "ca-certificates",
      "iproute2",
      "iptables",
      "less",
      "mount",
      "openssh-server",
      "passwd",
      "procps",
      "sudo",
    ],
    // Without it apt would answer "sysusers" with the whole of systemd, which nobody starts here.
    "systemd-standalone-sysusers",
  ],
  docker: ["docker.io", "docker-cli", "docker-compose", "docker-buildx"],
};

const buildWithinSeconds = 900;

const file = (name: string) => new URL(name, import.meta.url).pathname;

/** Returns the folder of the root file system. Nobody writes into it. */
export async function serverRoot(kind: ServerKind): Promise<string> {
  const parts = [
    JSON.stringify([suite, packages]),
    ...["root.ts", "install.sh"].map((name) => readFileSync(file(name))),
  ];
  const folder = cacheFolder("servers", `${kind}-${hashOf(...parts).slice(0, 12)}`);
  mkdirSync(dirname(folder), { recursive: true });
  // One process at a time: another may be making the same one.
  return withLock(cacheFolder("servers", `${kind}.lock`), buildWithinSeconds, () =>
    whole(folder, (temporary) =>
      step(`root file system of a ${kind} server made from packages`, () => build(kind, temporary)),
    ),
  );
}

async function build(kind: ServerKind, root: string): Promise<void> {
  const bare = await fetchPackages({ suite, packages: packages.bare, installed: [] });
  if (kind === "bare") {
    // dpkg runs inside: what it needs itself has to be there before it can install anything.
    await unpack(await fetchPackages({ suite, packages: ["?essential"], installed: [] }), root);
    for (const name of ["dev", "proc", "sys", "run", "tmp"]) mkdirSync(join(root, name), { recursive: true });
    await install(root, bare);
    useThisMachinesMirror(root);
    // A machine's own: every server gets its own, or makes one.
    await run({ argv: ["sh", "-c", 'rm -f "$0"/etc/hostname "$0"/etc/machine-id "$0"/etc/ssh/ssh_host_*', root] });
    return;
  }
  await run({ argv: ["cp", "--archive", await serverRoot("bare"), root], timeoutSeconds: 120 });
  const all = await fetchPackages({ suite, packages: [...packages.bare, ...packages.docker], installed: [] });
  await install(
    root,
    all.filter((deb) => !bare.includes(deb)),
  );
  await run({ argv: ["chroot", root, "useradd", "--create-home", "--shell=/bin/bash", "--groups=docker", "deploy"] });
  // It has no password; useradd's own "!" is what a locked account looks like.
  await run({ argv: ["chroot", root, "usermod", "--password=*", "deploy"] });
}

/** Packages come from where this machine gets its own. */
function useThisMachinesMirror(root: string): void {
  const sources = cacheFolder("debian", suite, "sources", "lab.sources");
  copyFileSync(sources, join(root, "etc/apt/sources.list.d/lab.sources"));
  // As in debian.ts: mirrors of rolling suites may be some days old.
  writeFileSync(join(root, "etc/apt/apt.conf.d/lab"), 'Acquire::Check-Valid-Until "false";\n');
}

async function install(root: string, debs: readonly string[]): Promise<void> {
  const words = [root, dirname(debs[0]!), ...debs.map((path) => basename(path))];
  const argv = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", file("install.sh"), ...words];
  await run({ argv, timeoutSeconds: buildWithinSeconds });
}
