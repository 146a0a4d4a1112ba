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
  /** Backups whose manifest could not be read, newest first: nobody knows what they are. */
  unreadable: { id: string; why: string }[];
  /** Manifests and proofs that could not be read, a line each. */
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
  const listing: Listing = { backups: [], remains: [], unreadable: [], problems: [] };
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
      const copied = folder.split("/")[1] !== manifest.id;
      if (copied) throw new Failure(`Cannot use ${manifestKey}`, `it is that of ${manifest.id}, and was copied here`);
      const proofKeys = keys
        .filter((key) => /\/proof-[^/]+\.json$/.test(key))
        .sort()
        .reverse();
      const proofs = (await Promise.all(proofKeys.map((key) => readProof(store, key, listing.problems)))).flat();
      const broken = missingPart(manifest, new Map(found.map((object) => [object.key, object.bytes])), folder);
      listing.backups.push({ id: manifest.id, folder, manifest, bytes, keys, proofs, ...(broken && { broken }) });
    } catch (error) {
      const why = onOneLine(error);
      listing.unreadable.push({ id: folder.split("/")[1]!, why });
      listing.problems.push(why);
    }
  });
  listing.backups.sort((one, other) => other.id.localeCompare(one.id));
  listing.unreadable.sort((one, other) => other.id.localeCompare(one.id));
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

/** Made to be gone back to, in case; not what somebody means who asks for the latest one. */
export const isWhole = ({ manifest }: Pick<Backup, "manifest">) => !manifest.tables && manifest.label !== beforeRestore;

export type Choice = {
  /** Whose "latest" is meant: nobody wants a developer's rows in production. */
  environment: string;
  before?: Date | undefined;
  /** The very newest, and not the newest that is whole: who asks whether the latest one is good has to hear that it is broken. */
  evenBroken?: boolean;
};

/**
 * The backup that is meant: "latest" good one of the whole database, an id, a full key, or the beginning of an id that only one has.
 * @throws {Failure} exit 2 naming what there is; 3 for one that is broken, or when nobody can tell which one is the latest.
 */
export function chooseBackup(listing: Pick<Listing, "backups" | "unreadable">, wanted: string, choice: Choice): Backup {
  if (wanted === "latest") return chooseLatest(listing, choice);
  const { backups } = listing;
  const id =
    wanted
      .split("/")
      .filter((part) => part.startsWith("20"))
      .at(-1) ?? wanted;
  const found = backups.filter((backup) => backup.id === id || (id.length >= 10 && backup.id.startsWith(id)));
  if (found.length === 0) throw notFound(wanted, "there is none of that name", backups);
  if (found.length > 1) throw notFound(wanted, `${found.length} begin like that`, backups);
  return unlessBroken(found[0]!);
}

function unlessBroken(backup: Backup): Backup {
  if (!backup.broken) return backup;
  throw new Failure(`Backup ${backup.id} is broken`, backup.broken, [listThem], { exitCode: exitCodes.saidNo });
}

function chooseLatest({ backups, unreadable }: Pick<Listing, "backups" | "unreadable">, choice: Choice): Backup {
  const { environment, before, evenBroken = false } = choice;
  const inTime = (time: string) => !before || Date.parse(time) <= before.getTime();
  const good = backups.filter((one) => isWhole(one) && (evenBroken || !one.broken) && inTime(one.manifest.at));
  const newest = good.find(({ manifest }) => manifest.environment === environment);
  if (!newest) {
    const others = [...new Set(good.map(({ manifest }) => manifest.environment))];
    const of = others.length > 0 ? ` of ${environment}, only of ${others.join(", ")}` : "";
    throw notFound(
      "latest",
      before ? `none${of} was made at or before ${before.toISOString()}` : `there is none${of}`,
      backups,
    );
  }
  const unknown = unreadable.find(({ id }) => id > newest.id && inTime(timeOfId(id)!.toISOString()));
  if (!unknown) return unlessBroken(newest);
  const why = `${unknown.id} is newer than ${newest.id}, and what it is cannot be read: ${unknown.why}`;
  const next = ["the same command again", `the same with ${newest.id} instead of "latest", if that is what you want`];
  throw new Failure("Nobody can tell which backup is the latest", why, next, { exitCode: exitCodes.saidNo });
}

const listThem = "bun scripts/backup.ts list";

function notFound(wanted: string, why: string, backups: readonly Backup[]): Failure {
  const known = backups.slice(0, 5).map(({ id, manifest }) => `${id}   of ${manifest.environment}`);
  return new Failure(`Cannot find the backup "${wanted}"`, why, [listThem], {
    exitCode: exitCodes.usage,
    ...(known.length > 0 && { details: `the newest are:\n${known.join("\n")}` }),
  });
}

async function eachAtOnce<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const left = [...items];
  const worker = async () => {
    for (let item = left.shift(); item !== undefined; item = left.shift()) await work(item);
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, items.length) }, worker));
}
