// The image of the lab's S3 server: Ceph's monitor, store and gateway from Debian's packages. It stands in for no official
// image, so it has a name of its own, and is built when the first test asks for it.
import { chmodSync, copyFileSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { run } from "../../../../scripts/lib/run.ts";
import { cacheFolder, hashOf, step, whole } from "../../cache.ts";
import { fetchPackages, unpack } from "../../debian.ts";
import type { Engine } from "../../engine.ts";
import { withLock } from "../../process.ts";

// python3 comes with them: the `ceph` command is written in it.
const packages = ["busybox-static", "libc6", "libc-bin", "ceph-mon", "ceph-osd", "radosgw", "ceph-common"];

/** What the packages want beside them for disks, services and users that there are none of in a container. */
const without = [
  ...["adduser", "binutils", "cron", "cryptsetup-bin", "debconf", "debianutils", "dmsetup", "e2fsprogs", "gdisk"],
  ...["hdparm", "libpam-runtime", "logrotate", "lvm2", "media-types", "netbase", "nvme-cli", "parted", "passwd"],
  ...["perl-base", "procps", "psmisc", "readline-common", "sensible-utils", "smartmontools", "sudo", "systemd"],
  ...["sysvinit-utils", "tzdata", "uuid-runtime", "xfsprogs"],
];

const repository = "create-dbops-lab/s3";
const buildWithinSeconds = 900;

const file = (name: string) => new URL(name, import.meta.url).pathname;

/** Builds the image if the cache has none, loads it if the engine has none, and returns its name. */
export async function ensureS3Image({ environment }: Engine): Promise<string> {
  const key = hashOf(process.arch, ...["image.ts", "start.sh"].map((name) => readFileSync(file(name)))).slice(0, 16);
  const image = `${repository}:${key}`;
  const archive = cacheFolder("images", `s3-${key}.tar`);
  mkdirSync(dirname(archive), { recursive: true });
  const docker = (argv: string[], accept = [0]) =>
    run({ argv: ["docker", ...argv], environment, accept, timeoutSeconds: 300 });
  return withLock(cacheFolder("images", "s3.lock"), buildWithinSeconds, async () => {
    const present = await docker(["image", "inspect", image], [0, 1]);
    if (present.exitCode === 0) return image;
    await whole(archive, (temporary) => step("S3 server built from packages", () => build(temporary)));
    const others = readdirSync(dirname(archive)).filter(
      (name) => /^s3-\w+\.tar$/.test(name) && !archive.endsWith(name),
    );
    for (const name of others) rmSync(join(dirname(archive), name));
    const changes = ["ENV PATH=/usr/sbin:/usr/bin", "EXPOSE 7480", 'CMD ["/start.sh"]'];
    const flags = changes.flatMap((change) => ["--change", change]);
    await step("S3 server loaded", () => docker(["import", ...flags, archive, image]));
    // Of earlier recipes. One that a container still uses stays.
    const { stdout } = await docker(["image", "ls", "--format", "{{.Repository}}:{{.Tag}}", repository]);
    const outdated = stdout.split("\n").filter((name) => name && name !== image);
    for (const name of outdated) await docker(["image", "rm", name], [0, 1]);
    return image;
  });
}

async function build(archive: string): Promise<void> {
  const root = `${archive}.root`;
  try {
    await unpack(await fetchPackages({ suite: "forky", packages, installed: without }), root);
    for (const name of ["dev", "etc", "proc", "root", "run", "sys", "tmp", "var/log"]) {
      mkdirSync(join(root, name), { recursive: true });
    }
    writeFileSync(join(root, "etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n");
    writeFileSync(join(root, "etc/group"), "root:x:0:\n");
    copyFileSync(file("start.sh"), join(root, "start.sh"));
    chmodSync(join(root, "start.sh"), 0o755);
    await run({ argv: ["chroot", root, "/usr/bin/busybox", "--install", "-s", "/usr/bin"] });
    // The caches of what was unpacked: libraries in folders of their own are found by it.
    await run({ argv: ["chroot", root, "/usr/sbin/ldconfig"] });
    const argv = ["tar", "--create", "--sort=name", "--numeric-owner", "--file", archive, "--directory", root, "."];
    await run({ argv, timeoutSeconds: 300 });
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}
