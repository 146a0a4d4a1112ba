// The catalog that the migration files make, found by applying them to a database of their own. That takes seconds, so the result is kept
// in .dbops/cache, under the sha256 of everything that it depends on; a file that is not whole is made anew.
import { createHash } from "node:crypto";
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { type CatalogObject, catalogVersion, fingerprint, readObjects } from "./catalog-objects.ts";
import type { MigrationFile } from "./migration-file.ts";
import { replay } from "./migration-replay.ts";
import type { Scratch } from "./scratch.ts";

export type ExpectedCatalog = {
  /** See catalog-objects.ts. */
  fingerprint: string;
  objects: CatalogObject[];
};

type Wanted = {
  directory: string;
  /** In the order in which they are applied. */
  files: readonly MigrationFile[];
  /** The live server's. A catalog of another one would differ by itself. */
  versionNumber: number;
  owner: string;
  roles: readonly string[];
  histories: readonly string[];
  /** Called where nothing is kept. */
  scratch: () => Promise<Scratch>;
};

/** @throws {Failure} exit 3 naming the file that cannot be applied to an empty database. */
export async function expectedCatalog(wanted: Wanted): Promise<ExpectedCatalog> {
  const { directory, files, scratch, histories } = wanted;
  const path = join(directory, ".dbops/cache", `catalog-${keyOf(wanted)}.json`);
  const kept = await readFile(path, "utf8").then(parse, () => undefined);
  if (kept) return kept;
  const server = await scratch();
  const found = await server.inNew(async (psql) => {
    await replay(psql, files);
    return { fingerprint: await fingerprint(psql, { histories }), objects: await readObjects(psql, { histories }) };
  });
  await mkdir(join(directory, ".dbops/cache"), { recursive: true });
  await writeFile(`${path}.${process.pid}`, JSON.stringify(found));
  await rename(`${path}.${process.pid}`, path);
  return found;
}

/** Not the image: its name says less than the server's version. */
function keyOf({ files, versionNumber, owner, roles, histories }: Wanted): string {
  const sums = files.map(({ file, sha256 }) => [file, sha256]);
  const parts = [catalogVersion, sums, versionNumber, owner, [...roles].sort(), [...histories].sort()];
  return createHash("sha256").update(JSON.stringify(parts)).digest("hex").slice(0, 32);
}

const keptCatalog = z.object({
  fingerprint: z.string(),
  objects: z.array(
    z.object({ kind: z.string(), name: z.string(), parent: z.string().nullable(), definition: z.string() }),
  ),
});

function parse(text: string): ExpectedCatalog | undefined {
  try {
    return keptCatalog.parse(JSON.parse(text));
  } catch {
    return undefined;
  }
}
