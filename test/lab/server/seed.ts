// What makes a lab server this one and no other: its keys, name and addresses, laid out as changes to the root file system
// that all servers share. boot.sh puts them on the disk at the first boot.
import { chownSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { run } from "../../../scripts/lib/run.ts";
import { certificatesFile, hostCertificates } from "../images/root.ts";
import type { Slot } from "./record.ts";
import type { ServerKind } from "./root.ts";
import { toolsEnvironment } from "./tools.ts";

export type Keys = { hostKey: string; privateKeyFile: string; knownHostsFile: string };

const deployUser = 1000;

/** Read by every service script of Debian's before it starts anything. */
const forServices = `# Without the right to raise limits (in some virtual machines) services do with those that they are given.
ulimit() { command ulimit "$@" 2>/dev/null || true; }
# A service started by a package's installation must not keep the pipes of apt open: whoever reads them would wait for ever.
exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-
`;

export const seedFolder = (slot: Slot) => join(slot.storage, "seed");

/** Makes new keys and writes the seed. Returns what a client has to know. */
export async function writeSeed(slot: Slot, kind: ServerKind, hostname: string): Promise<Keys> {
  const privateKeyFile = await makeKey(slot, "client_key");
  const hostKeyFile = await makeKey(slot, "host_key");
  const put = (path: string, content: string | Buffer, mode = 0o644) => {
    mkdirSync(dirname(join(seedFolder(slot), path)), { recursive: true });
    writeFileSync(join(seedFolder(slot), path), content, { mode });
  };
  put("etc/ssh/ssh_host_ed25519_key", readFileSync(hostKeyFile), 0o600);
  put("etc/ssh/ssh_host_ed25519_key.pub", readFileSync(`${hostKeyFile}.pub`));
  put("etc/ssh/sshd_config.d/lab.conf", "PasswordAuthentication no\n");
  put("etc/hostname", `${hostname}\n`);
  put("etc/hosts", `127.0.0.1 localhost\n${slot.address} ${hostname}\n`);
  // boot.sh has mounted them; Docker's service would try again.
  put("etc/fstab", "cgroup /sys/fs/cgroup cgroup noauto 0 0\n");
  put("etc/resolv.conf", readFileSync("/etc/resolv.conf"));
  put("usr/lib/lsb/init-functions.d/00-lab", forServices);
  // Debian starts what it installs; where it does not know the init system it wants to be told so.
  put("usr/sbin/policy-rc.d", "#!/bin/sh\nexit 0\n", 0o755);
  put("usr/local/sbin/lab-init", readFileSync(new URL("init.sh", import.meta.url)), 0o755);
  const certificates = hostCertificates();
  if (certificates) put(certificatesFile, certificates);
  const publicKey = readFileSync(`${privateKeyFile}.pub`);
  authorize(join(seedFolder(slot), "root"), publicKey, 0);
  if (kind === "docker") authorize(join(seedFolder(slot), "home/deploy"), publicKey, deployUser);

  const hostKey = readFileSync(`${hostKeyFile}.pub`, "utf8").split(" ").slice(0, 2).join(" ");
  const knownHostsFile = join(slot.folder, "known_hosts");
  writeFileSync(knownHostsFile, `${slot.address} ${hostKey}\n`);
  return { hostKey, privateKeyFile, knownHostsFile };
}

async function makeKey(slot: Slot, name: string): Promise<string> {
  const file = join(slot.folder, name);
  const argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", slot.name, "-f", file];
  await run({ argv, environment: await toolsEnvironment() });
  return file;
}

/** A home whose owner may log in with the key. sshd refuses one that others could write to. */
function authorize(home: string, publicKey: Buffer, owner: number): void {
  mkdirSync(dirname(home), { recursive: true });
  for (const folder of [home, join(home, ".ssh")]) mkdirSync(folder, { mode: 0o700 });
  writeFileSync(join(home, ".ssh/authorized_keys"), publicKey, { mode: 0o600 });
  for (const path of [home, join(home, ".ssh"), join(home, ".ssh/authorized_keys")]) chownSync(path, owner, owner);
}
