// The only files that talk to object storage are this one and its parts, s3-*.ts: Backblaze B2, AWS, R2, MinIO, Ceph.
// What they do the same way is used, the rest is avoided: parts of equal size (R2), Content-MD5 on every upload (B2 and AWS
// refuse uploads into a locked bucket without a checksum, and B2, Ceph and R2 have refused the newer ones), one DELETE for
// each object (for many at once the SDK sends a checksum of its own), path style wherever there is an endpoint.
import type { Settings } from "./config.ts";
import { packageMissing } from "./packages.ts";
import { type Credentials, newClient, type Patience, requester, type Storage, usualPatience } from "./s3-client.ts";
import { download } from "./s3-download.ts";
import { listObjects, listUnfinished } from "./s3-list.ts";
import { abortUpload } from "./s3-object.ts";
import { removeAll } from "./s3-remove.ts";
import { type PutOptions, upload } from "./s3-upload.ts";

export type { Credentials } from "./s3-client.ts";
export { partBytesFor } from "./s3-upload.ts";

/** Keys are relative to the configured prefix: `${store.name}/${key}` is where an object is, for people. */
export type Store = {
  /** As nameOfStore() has it. */
  name: string;
  /**
   * Streams it in parts. An error of the body, or the signal, removes the parts again, and no object appears; it rejects with
   * that error or the signal's reason once they are gone. Resolves only when the object is there, in full.
   * A streamed chunk is given away: its memory is freed as soon as it is copied, and must not be used after it was yielded.
   * @returns number and sha256 of the bytes that were sent.
   */
  put(
    key: string,
    body: AsyncIterable<Uint8Array> | string | Uint8Array,
    options?: PutOptions,
  ): Promise<{ bytes: number; sha256: string }>;
  /** Streams it. A stalled or cut-off download throws; it never ends early as if it were whole. */
  get(key: string, options?: { interrupted?: AbortSignal }): AsyncIterable<Uint8Array>;
  getText(key: string): Promise<string>;
  /** Every object below a prefix, however many. */
  list(prefix: string): Promise<{ key: string; bytes: number; modified: Date }[]>;
  /** Multipart uploads that were begun and neither completed nor aborted. MinIO shows none: it removes them by itself. */
  listUnfinished(prefix: string): Promise<{ key: string; uploadId: string; begun: Date }[]>;
  /** Harmless where it is gone already. */
  abortUnfinished(key: string, uploadId: string): Promise<void>;
  /**
   * Removes them with all their versions, one after the other in this order, and stops at the first that cannot be removed.
   * Harmless where one is gone already.
   * @throws {Failure} exit 5 when object lock keeps one.
   */
  remove(keys: readonly string[]): Promise<void>;
  close(): void;
};

/** "s3://bucket/prefix", or "s3://bucket" without one. */
export const nameOfStore = ({ bucket, prefix }: Pick<NonNullable<Settings["backup"]>, "bucket" | "prefix">) =>
  prefix ? `s3://${bucket}/${prefix}` : `s3://${bucket}`;

/** Talks to nobody yet: what is wrong with the bucket or the key is found by the first request. */
export async function openStore(
  backup: NonNullable<Settings["backup"]>,
  credentials: Credentials,
  patience: Patience = usualPatience,
): Promise<Store> {
  const sdk = await import("@aws-sdk/client-s3").catch(packageMissing);
  const client = newClient(sdk, backup, credentials);
  const { bucket: Bucket, prefix, accessKeyFrom } = backup;
  const name = nameOfStore(backup);
  const before = prefix ? `${prefix}/` : "";
  const ask = requester({ backup, credentials }, patience);
  const storage: Storage = { sdk, client, Bucket, before, accessKeyFrom, name, patience, ask };
  return {
    name,
    put: (key, body, options) => upload(storage, key, body, options),
    get: (key, options) => download(storage, key, options),
    async getText(key) {
      const chunks: Uint8Array[] = [];
      for await (const chunk of download(storage, key)) chunks.push(chunk);
      return Buffer.concat(chunks).toString();
    },
    list: (listed) => listObjects(storage, listed),
    listUnfinished: (listed) => listUnfinished(storage, listed),
    abortUnfinished: (key, uploadId) => abortUpload(storage, key, uploadId),
    remove: (keys) => removeAll(storage, keys),
    close: () => client.destroy(),
  };
}
