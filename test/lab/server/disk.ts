// A lab server's disk: a sparse file with an ext4 file system. With the kit's images it is the copy of one on which an
// engine has loaded them before: copying takes a second, loading ten.
import { existsSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { run } from "../../../scripts/lib/run.ts";
import { cacheFolder, hashOf, whole } from "../cache.ts";
import type { Engine } from "../engine.ts";
import { imageNames } from "../images.ts";
import { withLock } from "../process.ts";
import type { Slot } from "./record.ts";
import { toolsEnvironment } from "./tools.ts";

const size = "6G";
const makeWithinSeconds = 300;

export const diskFile = (slot: Slot) => join(slot.storage, "disk");

export async function makeDisk(slot: Slot, template?: string): Promise<void> {
  const disk = diskFile(slot);
  if (template) return void (await run({ argv: ["cp", "--sparse=always", template, disk], timeoutSeconds: 120 }));
  // -m 0: when the disk is full, it is full for root as well.
  const options = ["-q", "-F", "-m", "0", "-E", "nodiscard,lazy_itable_init=1,lazy_journal_init=1"];
  await run({ argv: ["mkfs.ext4", ...options, disk, size], environment: await toolsEnvironment() });
}

/**
 * A disk in the cache on which the kit's images are loaded as they are in the lab's engine now.
 * @param make makes it at the path that it is given, where there is none yet.
 */
export async function diskWithImages(engine: Engine, make: (path: string) => Promise<void>): Promise<string> {
  const argv = ["docker", "image", "inspect", "--format", "{{.Id}}", ...Object.values(imageNames)];
  const { stdout } = await run({ argv, environment: engine.environment });
  const folder = cacheFolder("servers");
  const name = `images-${hashOf(stdout, size).slice(0, 12)}.disk`;
  mkdirSync(folder, { recursive: true });
  return withLock(join(folder, "images.lock"), makeWithinSeconds, async () => {
    const isThere = existsSync(join(folder, name));
    const path = await whole(join(folder, name), make);
    // Of images that the engine no longer has.
    const others = readdirSync(folder).filter((other) => /^images-\w+\.disk$/.test(other) && other !== name);
    if (!isThere) for (const other of others) rmSync(join(folder, other));
    return path;
  });
}
