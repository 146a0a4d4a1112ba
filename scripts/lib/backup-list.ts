// The backups in a bucket: every folder with a manifest, what is known about each, and what lies there without being a backup.
import { asFailure, exitCodes, Failure } from "./failure.ts";
import { beforeRestore, type Manifest, names, type Proof, parseManifest, parseProof, timeOfId } from "./manifest.ts";
import type { Store } from "./s3.ts";

export type Backup = {
  id: string;
  /** Its folder in the bucket, without a slash at the end. */
  folder: string;
  manifest: Manifest;
  /** Of all its objects. */
  bytes: number;
  keys: string[];
  /** Newest first. */
  proofs: Proof[];
  /** Why it cannot be restored although it has a manifest: an object is missing, or has another size. */
  broken?: string;
};

/** Objects without a manifest: a backup that is being made, or that failed; by folder. */
export type Remains = { folder: string; keys: string[]; bytes: number; newest: Date };

export type Listing = {
  /** Newest first, may be empty. */
  backups: Backup[];
  remains: Remains[];
  /** Manifests that could not be read, a line each. */
  problems: string[];
};

/** How many small objects are fetched at a time. */
const atOnce = 16;

/** One listing, then every manifest and proof. */
export async function listBackups(store: Store, project: string): Promise<Listing> {
  const objects = await store.list(`${project}/`);
  const folders = Map.groupBy(
    objects.filter(({ key }) => timeOfId(key.split("/")[1] ?? "") !== undefined),
    ({ key }) => key.split("/").slice(0, 2).join("/"),
  );
  const listing: Listing = { backups: [], remains: [], problems: [] };
  await eachAtOnce([...folders], async ([folder, found]) => {
    const bytes = found.reduce((sum, object) => sum + object.bytes, 0);
    const keys = found.map(({ key }) => key);
    const manifestKey = `${folder}/${names.manifest}`;
    if (!keys.includes(manifestKey)) {
      const newest = new Date(Math.max(...found.map(({ modified }) => modified.getTime())));
      listing.remains.push({ folder, keys, bytes, newest });
      return;
    }
    try {
      const manifest = parseManifest(await store.getText(manifestKey), manifestKey);
      const proofKeys = keys
        .filter((key) => /\/proof-[^/]+\.json$/.test(key))
        .sort()
        .reverse();
      const proofs = (await Promise.all(proofKeys.map((key) => readProof(store, key, listing.problems)))).flat();
      const broken = missingPart(manifest, new Map(found.map((object) => [object.key, object.bytes])), folder);
      listing.backups.push({ id: manifest.id, folder, manifest, bytes, keys, proofs, ...(broken && { broken }) });
    } catch (error) {
      listing.problems.push(onOneLine(error));
    }
  });
  listing.backups.sort((one, other) => other.id.localeCompare(one.id));
  listing.remains.sort((one, other) => one.folder.localeCompare(other.folder));
  return listing;
}

/** @returns nothing for one that cannot be read: that says something about the proof, and nothing about the backup. */
async function readProof(store: Store, key: string, problems: string[]): Promise<Proof[]> {
  try {
    return [parseProof(await store.getText(key), key)];
  } catch (error) {
    problems.push(onOneLine(error));
    return [];
  }
}

function onOneLine(error: unknown): string {
  const { message, details } = asFailure(error);
  return details ? `${message}: ${details.split("\n")[0]}` : message;
}

function missingPart(
  { dump, globals }: Manifest,
  sizes: ReadonlyMap<string, number>,
  folder: string,
): string | undefined {
  for (const file of [dump, globals]) {
    const bytes = sizes.get(`${folder}/${file.name}`);
    if (bytes === undefined) return `${file.name} is missing`;
    if (bytes !== file.bytes) return `${file.name} has ${bytes} bytes, its manifest says ${file.bytes}`;
  }
  return undefined;
}

/**
 * The backup that is meant: "latest" of the whole database, an id, a full key, or the beginning of an id that only one has.
 * @throws {Failure} exit 2 naming what there is; 3 for one that is broken.
 */
export function chooseBackup({ backups }: Pick<Listing, "backups">, wanted: string, before?: Date): Backup {
  const whole = backups.filter(
    ({ manifest, broken }) => !manifest.tables && !broken && manifest.label !== beforeRestore,
  );
  const candidates = before ? whole.filter(({ manifest }) => Date.parse(manifest.at) <= before.getTime()) : whole;
  const known = backups.slice(0, 5).map(({ id }) => id);
  const next = ["bun scripts/backup.ts list"];
  const refuse = (why: string) =>
    new Failure(`Cannot find the backup "${wanted}"`, why, next, {
      exitCode: exitCodes.usage,
      ...(known.length > 0 && { details: `the newest are:\n${known.join("\n")}` }),
    });
  if (wanted === "latest") {
    const [newest] = candidates;
    if (newest) return newest;
    throw refuse(before ? `none was made at or before ${before.toISOString()}` : "there is none");
  }
  const id =
    wanted
      .split("/")
      .filter((part) => part.startsWith("20"))
      .at(-1) ?? wanted;
  const found = backups.filter((backup) => backup.id === id || (id.length >= 10 && backup.id.startsWith(id)));
  if (found.length === 0) throw refuse("there is none of that name");
  if (found.length > 1) throw refuse(`${found.length} begin like that`);
  const [backup] = found;
  const { id: foundId, broken } = backup!;
  if (broken) throw new Failure(`Backup ${foundId} is broken`, broken, next, { exitCode: exitCodes.saidNo });
  return backup!;
}

async function eachAtOnce<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const left = [...items];
  const worker = async () => {
    for (let item = left.shift(); item !== undefined; item = left.shift()) await work(item);
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, items.length) }, worker));
}
