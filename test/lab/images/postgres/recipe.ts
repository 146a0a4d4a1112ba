// Stand-in for the official postgres: see CONTRACT.md.
import { cpSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { imageNames } from "../names.ts";
import { postgresClient } from "../postgres-client.ts";
import { makeFolder, type Recipe, writeFile } from "../root.ts";

const uid = 70;

export const postgres: Recipe = {
  image: imageNames.postgres,
  packages: [
    ...["postgresql-18", ...postgresClient.packages, "bash", "gosu", "tzdata", "xz-utils", "zstd"],
    ...["gpg", "gpg-agent", "gpgconf", "libgcc-s1", "libstdc++6"],
  ],
  without: [
    ...postgresClient.without,
    ...[
      "adduser",
      "debconf",
      "debianutils",
      "locales",
      "netbase",
      "openssl",
      "perl-base",
      "postgresql-common",
      "procps",
    ],
    ...["base-files", "sensible-utils", "ssl-cert", "systemd", "ucf"],
  ],
  programs: [],
  users: [{ name: "postgres", id: uid, home: "/var/lib/postgresql", shell: "/bin/sh" }],
  finish(root) {
    postgresClient.link(root, "usr/local/bin");
    useAlpineLocale(root);
    const sample = join(root, "usr/share/postgresql/18/postgresql.conf.sample");
    const listening = readFileSync(sample, "utf8").replace(/^#?listen_addresses\s*=\s*\S+/m, "listen_addresses = '*'");
    writeFileSync(sample, listening);
    makeFolder(root, "var/lib/postgresql", uid, 0o1777);
    makeFolder(root, "run/postgresql", uid, 0o3777);
    makeFolder(root, "docker-entrypoint-initdb.d", 0, 0o755);
    const entry = readFileSync(new URL("docker-entrypoint.sh", import.meta.url));
    writeFile(root, "usr/local/bin/docker-entrypoint.sh", entry, 0o755);
    putAside(root, "gnupg", ["gpg", "gpg-agent", "gpgconf"]);
    writeFile(root, "usr/bin/apk", readFileSync(new URL("apk", import.meta.url)), 0o755);
  },
  installsPackages: false,
  instructions: [
    "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "ENV LANG=en_US.utf8",
    "ENV PG_MAJOR=18",
    "ENV PGDATA=/var/lib/postgresql/18/docker",
    "VOLUME /var/lib/postgresql",
    "STOPSIGNAL SIGINT",
    "EXPOSE 5432",
    'ENTRYPOINT ["docker-entrypoint.sh"]',
    'CMD ["postgres"]',
  ],
};

/** musl accepts any locale name and always compares byte by byte: under this name glibc gets the locale that does the same. */
function useAlpineLocale(root: string): void {
  const folder = join(root, "usr/lib/locale");
  const plain = readdirSync(folder).find((name) => /^C\.utf-?8$/i.test(name))!;
  cpSync(join(folder, plain), join(folder, "en_US.utf8"), { recursive: true });
}

/** Programs that the official image does not have until its `apk` has added them: ours finds them here. */
function putAside(root: string, name: string, programs: readonly string[]): void {
  const folder = join("usr/libexec/apk", name);
  makeFolder(root, folder, 0, 0o755);
  for (const program of programs) renameSync(join(root, "usr/bin", program), join(root, folder, program));
}
