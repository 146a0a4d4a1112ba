// The requests that make one object, in one piece or in parts, and those that take it back.
import { createHash } from "node:crypto";
import { Readable } from "node:stream";
import { Failure } from "./failure.ts";
import type { Storage } from "./s3-client.ts";
import { nameOf, statusOf } from "./s3-failure.ts";

export type ObjectWriter = {
  sendWhole(data: Buffer): Promise<void>;
  begin(): Promise<void>;
  sendPart(number: number, data: Buffer): Promise<void>;
  /** Makes one object of the parts. Nothing to do where it was sent in one piece. */
  complete(bytes: number): Promise<void>;
  /** Removes the parts, if there are any. @returns what is to be thrown then. Never rejects. */
  undo(reason: unknown): Promise<unknown>;
  /** @throws {Failure} when another number of bytes has arrived. */
  confirmSize(bytes: number): Promise<void>;
};

const mebibyte = 2 ** 20;
/** Some storages copy the parts together while one waits. */
const completeSeconds = 300;
const undoWithinSeconds = 60;
/** A whole part at once would be copied as a whole by the runtime. */
const sliceBytes = 64 * 1024;

/** @param interrupted ends every request but those of undo() and confirmSize(). */
export function objectWriter(storage: Storage, key: string, interrupted: AbortSignal): ObjectWriter {
  const { sdk, client, ask, patience } = storage;
  const object = { Bucket: storage.Bucket, Key: `${storage.before}${key}` };
  const address = `${storage.name}/${key}`;
  const doing = `write ${address}`;
  const parts: { PartNumber: number; ETag: string | undefined }[] = [];
  let UploadId: string | undefined;

  // A locked bucket of B2 or AWS wants a checksum, and this one has been understood by every storage from the beginning.
  const content = (data: Buffer) => ({
    ...object,
    Body: Readable.from(slicesOf(data), { objectMode: false, highWaterMark: sliceBytes }),
    ContentLength: data.length,
    ContentMD5: createHash("md5").update(data).digest("base64"),
  });
  const limitsFor = (data: Buffer) => {
    const seconds = patience.requestSeconds + (patience.secondsPerMebibyte * data.length) / mebibyte;
    return { seconds, interrupted };
  };
  const sizeThere = async () => {
    const request = new sdk.HeadObjectCommand(object);
    const { ContentLength } = await ask(doing, (abortSignal) => client.send(request, { abortSignal }));
    return ContentLength;
  };

  return {
    async sendWhole(data) {
      const send = (abortSignal: AbortSignal) => client.send(new sdk.PutObjectCommand(content(data)), { abortSignal });
      await ask(doing, send, limitsFor(data));
    },
    async begin() {
      const request = new sdk.CreateMultipartUploadCommand(object);
      const send = (abortSignal: AbortSignal) => client.send(request, { abortSignal });
      ({ UploadId } = await ask(doing, send, { interrupted, uncut: true }));
    },
    async sendPart(PartNumber, data) {
      const send = (abortSignal: AbortSignal) =>
        client.send(new sdk.UploadPartCommand({ ...content(data), UploadId, PartNumber }), { abortSignal });
      const { ETag } = await ask(doing, send, limitsFor(data));
      parts[PartNumber - 1] = { PartNumber, ETag };
    },
    async complete(bytes) {
      if (!UploadId) return;
      const request = new sdk.CompleteMultipartUploadCommand({
        ...object,
        UploadId,
        MultipartUpload: { Parts: parts },
      });
      const send = (abortSignal: AbortSignal) => client.send(request, { abortSignal });
      try {
        await ask(doing, send, { seconds: completeSeconds, interrupted, uncut: true });
      } catch (error) {
        // It may have been done and its answer lost: asked again, most storages know of no such upload.
        if ((await sizeThere().catch(() => undefined)) !== bytes) throw error;
      }
    },
    async undo(reason) {
      if (!UploadId) return reason;
      try {
        await abortUpload(storage, key, UploadId, AbortSignal.timeout(undoWithinSeconds * 1000));
        return reason;
      } catch {
        return partsAreLeft(reason, address);
      }
    },
    async confirmSize(bytes) {
      const size = await sizeThere().catch((error) => {
        // A key that may write and nothing else is a good one for a server. Each part's checksum has been confirmed.
        if (statusOf(error) === 403) return bytes;
        throw error;
      });
      if (size !== bytes) throw new Failure(`Cannot ${doing}`, `${size} bytes are there, and ${bytes} were sent`);
    },
  };
}

export async function abortUpload(storage: Storage, key: string, UploadId: string, interrupted?: AbortSignal) {
  const { sdk, client, ask, Bucket, before, name } = storage;
  const request = new sdk.AbortMultipartUploadCommand({ Bucket, Key: `${before}${key}`, UploadId });
  const send = (abortSignal: AbortSignal) => client.send(request, { abortSignal });
  await ask(`remove the parts of ${name}/${key}`, send, { interrupted }).catch((error) => {
    if (nameOf(error) !== "NoSuchUpload") throw error;
  });
}

function partsAreLeft(reason: unknown, address: string): unknown {
  if (!(reason instanceof Failure)) return reason;
  const { what, why, next, exitCode, details, read } = reason;
  const note = `What was sent of ${address} is still in the bucket, as an unfinished upload; pruning removes it.`;
  return new Failure(what, why, next, {
    ...{ exitCode, cause: reason, details: details ? `${details.trimEnd()}\n${note}` : note },
    ...(read && { read }),
  });
}

function* slicesOf(data: Buffer) {
  for (let at = 0; at < data.length; at += sliceBytes) yield data.subarray(at, at + sliceBytes);
}
