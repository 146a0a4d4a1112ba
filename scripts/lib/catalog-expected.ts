// The catalog that the migration files make, found by applying them to a database of their own. That takes seconds, so the result is kept
// in .dbops/cache, under the sha256 of everything that it depends on; a file that is not whole is made anew.
import { createHash } from "node:crypto";
import { mkdir, open, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { type CatalogObject, catalogVersion, fingerprint, readObjects } from "./catalog-objects.ts";
import type { MigrationFile } from "./migration-file.ts";
import { replay } from "./migration-replay.ts";
import type { Scratch } from "./scratch.ts";

/** With its owner left out: the live one's has to be, too. */
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
  /** Tables that stay out, as "schema.table". */
  histories: readonly string[];
  /** Called where nothing is kept. */
  scratch: () => Promise<Scratch>;
};

const pathOf = (wanted: Omit<Wanted, "scratch">) =>
  join(wanted.directory, ".dbops/cache", `catalog-${keyOf(wanted)}.json`);

/** What an earlier call has found out; undefined where none has. */
export const keptCatalog = (wanted: Omit<Wanted, "scratch">): Promise<ExpectedCatalog | undefined> =>
  readFile(pathOf(wanted), "utf8").then(parse, () => undefined);

/** The same, and only the first lines of it: where the live one is equal, nobody asks for its objects. */
export async function keptFingerprint(wanted: Omit<Wanted, "scratch">): Promise<string | undefined> {
  const file = await open(pathOf(wanted)).catch(() => undefined);
  if (!file) return undefined;
  const { buffer, bytesRead } = await file.read({ buffer: Buffer.alloc(100) }).finally(() => file.close());
  return /^\{"fingerprint":"([0-9a-f]{64})"/.exec(buffer.toString("utf8", 0, bytesRead))?.[1];
}

/** @throws {Failure} exit 3 naming the file that cannot be applied to an empty database. */
export async function expectedCatalog(wanted: Wanted): Promise<ExpectedCatalog> {
  const { directory, files, scratch, histories } = wanted;
  const kept = await keptCatalog(wanted);
  if (kept) return kept;
  const path = pathOf(wanted);
  const server = await scratch();
  const found = await server.inNew(async (psql) => {
    await replay(psql, files);
    // Who owns everything there may be called otherwise than in the live database.
    const options = { histories, owner: server.place.user };
    return { fingerprint: await fingerprint(psql, options), objects: await readObjects(psql, options) };
  });
  await mkdir(join(directory, ".dbops/cache"), { recursive: true });
  await writeFile(`${path}.${process.pid}`, JSON.stringify(found));
  await rename(`${path}.${process.pid}`, path);
  await forgetOldest(join(directory, ".dbops/cache"));
  return found;
}

/** Each change of a file makes a new one, and of 1,000 tables it has 2 MB. */
const keptMaximum = 50;

async function forgetOldest(folder: string): Promise<void> {
  const names = (await readdir(folder)).filter((name) => /^catalog-\w+\.json$/.test(name));
  if (names.length <= keptMaximum) return;
  const withTimes = names.map(async (name) => ({ name, at: (await stat(join(folder, name))).mtimeMs }));
  const oldest = (await Promise.all(withTimes)).sort((one, other) => other.at - one.at).slice(keptMaximum);
  for (const { name } of oldest) await rm(join(folder, name), { force: true });
}

/** Not the image: its name says less than the server's version. */
function keyOf({ files, versionNumber, owner, roles, histories }: Omit<Wanted, "scratch">): string {
  const sums = files.map(({ file, sha256 }) => [file, sha256]);
  const parts = [catalogVersion, sums, versionNumber, owner, [...roles].sort(), [...histories].sort()];
  return createHash("sha256").update(JSON.stringify(parts)).digest("hex").slice(0, 32);
}

const catalogSchema = z.object({
  fingerprint: z.string(),
  objects: z.array(
    z.object({ kind: z.string(), name: z.string(), parent: z.string().nullable(), definition: z.string() }),
  ),
});

function parse(text: string): ExpectedCatalog | undefined {
  try {
    return catalogSchema.parse(JSON.parse(text));
  } catch {
    return undefined;
  }
}
