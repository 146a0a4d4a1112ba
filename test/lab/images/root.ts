// The root file system that all stand-in images begin with: a busybox userland as in Alpine, and no package manager.
// Underneath is glibc, not musl: Debian has no musl build of what goes on top.
import { chmodSync, chownSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { run } from "../../../scripts/lib/run.ts";
import { fetchPackages, unpack, versionsOf } from "../debian.ts";
import type { ImageName } from "./names.ts";
import { fetchProgram, type NpmProgram, placeProgram } from "./npm-program.ts";

export type User = { name: string; id: number; home: string; shell: string };

export type Recipe = {
  /** The official name and tag, as the Compose files and Dockerfiles say it. */
  image: ImageName;
  /** Debian packages, beside those of every image. */
  packages: readonly string[];
  /** Packages that Debian wants beside them and the image does without: maintainer tools, perl. */
  without: readonly string[];
  programs: readonly NpmProgram[];
  users: readonly User[];
  /** What is left to do in the unpacked root: links, configuration, entry scripts. */
  finish(root: string): void | Promise<void>;
  /** It installs packages in a `docker build`: it gets to know the registry and the certificates that this machine uses. */
  installsPackages: boolean;
  /** Dockerfile instructions for `docker import --change`. */
  instructions: readonly string[];
};

const inEveryImage = ["busybox-static", "libc6", "libc-bin"];

// Debian's busybox is built with programs that Alpine's is not, and nobody shall come to rely on them.
const notInAlpine = "dpkg dpkg-deb ftpget ftpput httpd rpm rpm2cpio ssl_server telnet telnetd tftp".split(" ");

const folders = "dev etc home mnt opt proc root run srv sys tmp usr/local/bin var/log var/tmp".split(" ");

/** Fills an empty folder with the recipe's root file system. Returns what went in, with versions. */
export async function makeRoot(recipe: Recipe, root: string): Promise<string[]> {
  const [debs] = await Promise.all([
    fetchPackages({ suite: "forky", packages: [...inEveryImage, ...recipe.packages], installed: recipe.without }),
    ...recipe.programs.map(fetchProgram),
  ]);
  await unpack(debs, root);
  for (const name of folders) mkdirSync(join(root, name), { recursive: true });
  for (const name of ["tmp", "var/tmp"]) chmodSync(join(root, name), 0o1777);
  if (!existsSync(join(root, "var/run"))) symlinkSync("../run", join(root, "var/run"));
  writeAccounts(root, recipe.users);
  writeFileSync(join(root, "etc/nsswitch.conf"), "hosts: files dns\npasswd: files\ngroup: files\n");
  writeFileSync(
    join(root, "etc/os-release"),
    `ID=dbops-stand-in\nPRETTY_NAME="create-dbops stand-in for ${recipe.image}"\n`,
  );
  const certificates = hostCertificates();
  if (certificates) writeFile(root, certificatesFile, certificates, 0o644);
  await linkApplets(root);
  for (const program of recipe.programs) await placeProgram(program, root);
  await recipe.finish(root);
  return [...versionsOf(debs), ...recipe.programs.map((program) => program.package)];
}

/** Where Debian, Alpine and this machine keep the authorities they trust. */
export const certificatesFile = "/etc/ssl/certs/ca-certificates.crt";

/** What this machine trusts: with a private authority in between, a build inside a container meets it as well. */
export function hostCertificates(): Buffer | undefined {
  return existsSync(certificatesFile) ? readFileSync(certificatesFile) : undefined;
}

/** Writes a file of the image, with the folders above it. */
export function writeFile(root: string, path: string, content: string | Buffer, mode: number): void {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  writeFileSync(join(root, path), content);
  chmodSync(join(root, path), mode);
}

/** Creates a folder of the image that belongs to a user. */
export function makeFolder(root: string, path: string, owner: number, mode: number): void {
  mkdirSync(join(root, path), { recursive: true });
  chownSync(join(root, path), owner, owner);
  chmodSync(join(root, path), mode);
}

function writeAccounts(root: string, users: readonly User[]): void {
  const all = [
    { name: "root", id: 0, home: "/root", shell: "/bin/sh" },
    ...users,
    { name: "nobody", id: 65534, home: "/", shell: "/sbin/nologin" },
  ];
  const passwd = all.map(({ name, id, home, shell }) => `${name}:x:${id}:${id}:${name}:${home}:${shell}\n`);
  const group = all.map(({ name, id }) => `${name}:x:${id}:\n`);
  writeFileSync(join(root, "etc/passwd"), passwd.join(""));
  writeFileSync(join(root, "etc/group"), group.join(""));
  writeFileSync(join(root, "etc/shadow"), all.map(({ name }) => `${name}:!::0:::::\n`).join(""), { mode: 0o600 });
}

/** /bin/sh and its company. A program that a package brought stays. */
async function linkApplets(root: string): Promise<void> {
  const { stdout } = await run({ argv: [join(root, "usr/bin/busybox"), "--list"] });
  for (const applet of stdout.trim().split("\n")) {
    const isThere = existsSync(join(root, "usr/bin", applet)) || existsSync(join(root, "usr/sbin", applet));
    if (!isThere && !notInAlpine.includes(applet)) symlinkSync("busybox", join(root, "usr/bin", applet));
  }
}
