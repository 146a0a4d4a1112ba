// Removing objects for good. In a versioned bucket, as every bucket of Backblaze B2 is, a plain DELETE only hides an object, which
// stays and is paid for. So each version is removed by its own id; and what object lock keeps is not hidden, but stays visible.
import { exitCodes, Failure } from "./failure.ts";
import type { Storage } from "./s3-client.ts";
import { statusOf } from "./s3-failure.ts";
import { listVersions } from "./s3-list.ts";

/** In this order, and not a step further than the first that cannot be removed. */
export async function removeAll(storage: Storage, keys: readonly string[]): Promise<void> {
  for (const key of keys) {
    const versions = await versionsOf(storage, key);
    if (!versions) await removeByName(storage, key);
    else for (const id of versions) await removeVersion(storage, key, id);
  }
}

/** The oldest first: so the object stays visible until nothing of it is left. Undefined where there are none (R2), or we may not see them. */
async function versionsOf(storage: Storage, key: string): Promise<string[] | undefined> {
  return listVersions(storage, key).catch((error) => {
    if ([403, 405, 501].includes(statusOf(error) ?? 0)) return undefined;
    throw error;
  });
}

async function removeByName(storage: Storage, key: string): Promise<void> {
  const { sdk, client, ask, Bucket, accessKeyFrom } = storage;
  const request = new sdk.DeleteObjectCommand({ Bucket, Key: `${storage.before}${key}` });
  const doing = `remove ${storage.name}/${key}`;
  const answer = await ask(doing, (abortSignal) => client.send(request, { abortSignal }));
  if (!answer.DeleteMarker) return;
  const why = `it is hidden now, and still there: the bucket keeps versions, and the key in ${accessKeyFrom} may not list them`;
  const rights = "s3:ListBucketVersions and s3:DeleteObjectVersion";
  throw new Failure(`Cannot ${doing}`, why, [`give the key the rights ${rights} at the storage, then run this again`], {
    exitCode: exitCodes.usage,
  });
}

async function removeVersion(storage: Storage, key: string, VersionId: string): Promise<void> {
  const { sdk, client, ask, Bucket } = storage;
  const version = { Bucket, Key: `${storage.before}${key}`, VersionId };
  const doing = `remove ${storage.name}/${key}`;
  const request = new sdk.DeleteObjectCommand(version);
  await ask(doing, (abortSignal) => client.send(request, { abortSignal })).catch(async (error) => {
    if (statusOf(error) === 403) throw (await lockedUntil(storage, version, doing)) ?? error;
    throw error;
  });
}

type Version = { Bucket: string; Key: string; VersionId: string };

/** A locked version and a key without the right are refused in the same words. */
async function lockedUntil(
  { sdk, client, ask }: Storage,
  version: Version,
  doing: string,
): Promise<Failure | undefined> {
  const request = new sdk.HeadObjectCommand(version);
  const send = (abortSignal: AbortSignal) => client.send(request, { abortSignal });
  const { ObjectLockRetainUntilDate: until, ObjectLockLegalHoldStatus: hold } = await ask(doing, send).catch(() => ({
    ObjectLockRetainUntilDate: undefined,
    ObjectLockLegalHoldStatus: undefined,
  }));
  const isLocked = until && until.getTime() > Date.now();
  if (!isLocked && hold !== "ON") return undefined;
  const why = isLocked
    ? `object lock keeps it until ${until.toISOString()}`
    : "object lock keeps it: it is under a legal hold";
  const next = isLocked
    ? ["the same command again, after that"]
    : ["lift the legal hold at the storage, then run this again"];
  return new Failure(`Cannot ${doing}`, why, next, { exitCode: exitCodes.refused });
}
