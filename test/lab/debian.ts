// Debian packages without installing any: resolved and downloaded by apt-get with lists and cache of our own, unpacked into
// a folder by dpkg-deb. No maintainer script runs and dpkg's database is never written, so the machine stays as it is.
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { dirname, join, relative } from "node:path";
import { pipe, run } from "../../scripts/lib/run.ts";
import { cacheFolder, hashOf } from "./cache.ts";
import { requireDebian, type Suite, sourcesOf } from "./debian-sources.ts";
import { withLock } from "./process.ts";

export type PackageSet = {
  suite: Suite;
  packages: readonly string[];
  /**
   * What counts as installed already and is therefore not fetched, nor what only it needs:
   * "machine" (for programs that run here), or names (for a root file system, which starts from nothing).
   * "everything" fetches the named packages alone.
   */
  installed: "machine" | "everything" | readonly string[];
};

/**
 * Downloads packages with the dependencies that are not installed, and returns the paths of the .deb files.
 * The first answer is kept: sid and forky change daily, a set that worked goes on working.
 */
export async function fetchPackages(set: PackageSet): Promise<string[]> {
  requireDebian();
  const folder = cacheFolder("debian", set.suite);
  const decision = join(folder, `${hashOf(JSON.stringify(set)).slice(0, 16)}.json`);
  const inArchives = (name: string) => join(folder, "archives", name);
  for (const name of ["archives", "none"]) mkdirSync(join(folder, name, "partial"), { recursive: true });
  return withLock(join(folder, "lock"), 600, async () => {
    const kept = existsSync(decision) ? (JSON.parse(readFileSync(decision, "utf8")) as string[]) : undefined;
    if (kept?.every((name) => existsSync(inArchives(name)))) return kept.map(inArchives);
    const options = await openSuite(set, folder);
    const archives = (name: string) => ["-o", `Dir::Cache::archives=${join(folder, name)}`];
    // --reinstall: the named packages are fetched even where the machine has them.
    const verb =
      set.installed === "everything" ? ["download"] : ["install", "--reinstall", "--no-install-recommends", "--yes"];
    // From the real archives the list would leave out what lies there already.
    const list = ["apt-get", ...options, ...archives("none"), ...verb, "--print-uris", ...set.packages];
    const { stdout } = await run({ argv: list, timeoutSeconds: 120 });
    const names = [...stdout.matchAll(/^'\S+' (\S+\.deb) \d+/gm)].map(([, name]) => name!);
    const fetch = set.installed === "everything" ? verb : [...verb, "--download-only"];
    const download = ["apt-get", ...options, ...archives("archives"), ...fetch, ...set.packages];
    await run({ argv: download, directory: inArchives(""), timeoutSeconds: 900 });
    writeFileSync(decision, JSON.stringify(names));
    return names.map(inArchives);
  });
}

/** Fetches the suite's package lists at most once an hour, and returns the options that keep apt-get inside our folder. */
async function openSuite(set: PackageSet, folder: string): Promise<string[]> {
  const sources = join(folder, "sources");
  const status = join(folder, "status");
  for (const name of [sources, join(folder, "lists", "partial")]) mkdirSync(name, { recursive: true });
  writeFileSync(join(sources, "lab.sources"), sourcesOf(set.suite));
  writeFileSync(status, typeof set.installed === "string" ? "" : set.installed.map(pretendInstalled).join("\n"));
  const options = {
    "Dir::Etc::SourceList": "/dev/null",
    "Dir::Etc::SourceParts": sources,
    "Dir::State::Lists": join(folder, "lists"),
    "Dir::Cache": folder,
    "Dir::State::status": set.installed === "machine" ? "/var/lib/dpkg/status" : status,
    // Mirrors of rolling suites may be some days old.
    "Acquire::Check-Valid-Until": "false",
    // Root's files are out of reach for apt's own user.
    "APT::Sandbox::User": "root",
    // The real dpkg may be busy; we only download, and hold a lock of our own.
    "Debug::NoLocking": "true",
    // Some images delete downloads at once.
    "APT::Keep-Downloaded-Packages": "true",
    "APT::Update::Post-Invoke": "",
    "DPkg::Post-Invoke": "",
  };
  const asFlags = Object.entries(options).flatMap(([name, value]) => ["-o", `${name}=${value}`]);
  const hour = Math.floor(Date.now() / 3_600_000);
  const updated = join(folder, "lists", `updated-${hour}`);
  if (!existsSync(updated)) {
    await run({ argv: ["apt-get", ...asFlags, "--quiet", "update"], timeoutSeconds: 300 });
    writeFileSync(updated, "");
  }
  return asFlags;
}

/** For apt's eyes only: present in a version nothing complains about. */
function pretendInstalled(name: string): string {
  const fields = { Package: name, Status: "install ok installed", Version: "99:9999", Architecture: "all" };
  const lines = Object.entries({ ...fields, Maintainer: "nobody <nobody@localhost>", Description: "pretended" });
  return `${lines.map(([field, value]) => `${field}: ${value}`).join("\n")}\n`;
}

/**
 * Unpacks .deb files over each other into a folder, with /bin, /sbin and /lib as links into /usr, as Debian has them now.
 * Documentation, manuals and translations stay out.
 */
export async function unpack(debs: readonly string[], folder: string): Promise<void> {
  for (const name of ["bin", "sbin", "lib", "lib64"]) {
    mkdirSync(join(folder, "usr", name), { recursive: true });
    if (!existsSync(join(folder, name))) symlinkSync(`usr/${name}`, join(folder, name));
  }
  const leftOut = ["doc", "man", "info", "locale", "lintian", "bash-completion", "zsh", "fish"];
  // --keep-directory-symlink: a package that ships /lib must not replace the link.
  const extract = ["tar", "--extract", "--keep-directory-symlink", "--numeric-owner", `--directory=${folder}`];
  const exclude = leftOut.map((name) => `--exclude=./usr/share/${name}`);
  const waiting = [...debs];
  const unpackNext = async (): Promise<void> => {
    for (let deb = waiting.pop(); deb; deb = waiting.pop()) {
      await pipe([{ argv: ["dpkg-deb", "--fsys-tarfile", deb] }, { argv: [...extract, ...exclude] }]);
    }
  };
  // Decompressing is what takes the time, and packages do not share files: one lane for each core.
  await Promise.all(Array.from({ length: availableParallelism() }, unpackNext));
}

/**
 * A script at `path` that runs a program of an unpacked root with the libraries beside it, wherever the folder that holds
 * both has been moved to.
 */
export function writeWrapper(path: string, root: string, program: string): void {
  const [file, ...words] = program.split(" ");
  const libraries = readdirSync(join(root, "usr/lib")).filter((name) => name.endsWith("-linux-gnu"));
  const lines = [
    "#!/bin/sh",
    `root=$(dirname "$(readlink -f "$0")")/${relative(dirname(path), root)}`,
    `export LD_LIBRARY_PATH="${libraries.map((name) => `$root/usr/lib/${name}`).join(":")}"`,
    // iptables loads its matches and targets from here.
    `export XTABLES_LIBDIR="$root/usr/lib/${libraries[0] ?? ""}/xtables"`,
    `exec "$root/${file}" ${[...words, '"$@"'].join(" ")}`,
  ];
  writeFileSync(path, `${lines.join("\n")}\n`, { mode: 0o755 });
}

/** What was unpacked, for a report: "postgresql-18 18.6-3". */
export function versionsOf(debs: readonly string[]): string[] {
  return debs.map((path) => {
    const [name, version] = path.split("/").at(-1)!.split("_");
    return `${name} ${decodeURIComponent(version!)}`;
  });
}
