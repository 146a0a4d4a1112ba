// Stand-in for denoland/deno: see CONTRACT.md.
import { readFileSync, renameSync } from "node:fs";
import { join } from "node:path";
import { imageNames, versionIn } from "../names.ts";
import { architecture } from "../npm-program.ts";
import { makeFolder, type Recipe, writeFile } from "../root.ts";

export const deno: Recipe = {
  image: imageNames.deno,
  packages: ["libgcc-s1", "tini"],
  without: [],
  programs: [
    {
      package: `@deno/linux-${architecture.other}-glibc@${versionIn(imageNames.deno)}`,
      file: "deno",
      to: "usr/bin/deno",
    },
  ],
  users: [{ name: "deno", id: 1000, home: "/home/deno", shell: "/bin/sh" }],
  finish(root) {
    renameSync(join(root, "usr/bin/tini"), join(root, "tini"));
    const entry = readFileSync(new URL("docker-entrypoint.sh", import.meta.url));
    writeFile(root, "usr/local/bin/docker-entrypoint.sh", entry, 0o755);
    makeFolder(root, "home/deno", 1000, 0o755);
    makeFolder(root, "deno-dir", 1000, 0o755);
  },
  installsPackages: true,
  instructions: [
    "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "ENV DENO_USE_CGROUPS=1",
    "ENV DENO_DIR=/deno-dir/",
    "ENV DENO_INSTALL_ROOT=/usr/local",
    `ENV DENO_VERSION=${versionIn(imageNames.deno)}`,
    'ENTRYPOINT ["/tini", "--", "docker-entrypoint.sh"]',
    `CMD ["eval", "console.log('Welcome to Deno!')"]`,
  ],
};
