// Stand-in for ghcr.io/amacneil/dbmate: see CONTRACT.md.
import { imageNames, versionIn } from "../names.ts";
import { architecture } from "../npm-program.ts";
import { postgresClient } from "../postgres-client.ts";
import type { Recipe } from "../root.ts";

export const dbmate: Recipe = {
  image: imageNames.dbmate,
  packages: [...postgresClient.packages, "tzdata"],
  without: postgresClient.without,
  programs: [
    {
      package: `@dbmate/linux-${architecture.other}@${versionIn(imageNames.dbmate)}`,
      file: "bin/dbmate",
      to: "usr/local/bin/dbmate",
    },
  ],
  users: [],
  finish: (root) => postgresClient.link(root, "usr/bin"),
  installsPackages: false,
  instructions: [
    "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    'ENTRYPOINT ["/usr/local/bin/dbmate"]',
  ],
};
