// Stand-in for oven/bun: see CONTRACT.md.
import { readFileSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { imageNames, versionIn } from "../names.ts";
import { architecture } from "../npm-program.ts";
import { makeFolder, type Recipe, writeFile } from "../root.ts";

export const bun: Recipe = {
  image: imageNames.bun,
  packages: [],
  without: [],
  programs: [
    {
      package: `@oven/bun-linux-${architecture.bun}@${versionIn(imageNames.bun)}`,
      file: "bin/bun",
      to: "usr/local/bin/bun",
    },
  ],
  users: [{ name: "bun", id: 1000, home: "/home/bun", shell: "/bin/sh" }],
  finish(root) {
    symlinkSync("/usr/local/bin/bun", join(root, "usr/local/bin/bunx"));
    makeFolder(root, "usr/local/bun-node-fallback-bin", 0, 0o755);
    symlinkSync("/usr/local/bin/bun", join(root, "usr/local/bun-node-fallback-bin/node"));
    const entry = readFileSync(new URL("docker-entrypoint.sh", import.meta.url));
    writeFile(root, "usr/local/bin/docker-entrypoint.sh", entry, 0o755);
    makeFolder(root, "home/bun", 1000, 0o755);
    makeFolder(root, "home/bun/app", 0, 0o755);
  },
  installsPackages: true,
  instructions: [
    "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/bun-node-fallback-bin",
    "ENV BUN_RUNTIME_TRANSPILER_CACHE_PATH=0",
    "ENV BUN_INSTALL_BIN=/usr/local/bin",
    "WORKDIR /home/bun/app",
    'ENTRYPOINT ["/usr/local/bin/docker-entrypoint.sh"]',
    'CMD ["/usr/local/bin/bun"]',
  ],
};
