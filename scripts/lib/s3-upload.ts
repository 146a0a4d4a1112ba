// One object, streamed in parts, out of a few buffers that are used again and again. By hand, because @aws-sdk/lib-storage
// needs 270 to 420 MiB on Bun for a large stream, which is too much beside a database on a small server; answers an abort before
// the parts are gone; lets a failing clean-up hide what went wrong; and takes a lost answer for a failed upload.
import { createHash } from "node:crypto";
import { Failure } from "./failure.ts";
import { readerOf, type StoreBody } from "./s3-body.ts";
import type { Storage } from "./s3-client.ts";
import { objectWriter } from "./s3-object.ts";

const mebibyte = 2 ** 20;
const smallestPartBytes = 8 * mebibyte;
const partsAtMost = 10_000;
/** For the buffers of one upload together, where at least two fit into it. */
const bufferBytes = 24 * mebibyte;

/**
 * Part size for a dump whose database has so many bytes: a dump half as large again still fits into the 10,000 parts that there
 * may be. Most are a fifth of their database; of nothing but random bytes, zstd:1 makes 2 % more than they were, gzip 14 %.
 * 8 MiB for a database of up to 52 GiB, 16 MiB for twice that; two parts are kept in memory.
 */
export function partBytesFor(databaseBytes: number): number {
  const needed = Math.ceil((1.5 * databaseBytes) / partsAtMost / mebibyte) * mebibyte;
  return Math.max(smallestPartBytes, needed);
}

export type PutOptions = {
  /** Of every part but the last. Default 8 MiB, for objects of up to 78 GiB. */
  partBytes?: number;
  /** Gets the number of bytes that the storage has confirmed. */
  onBytes?: (sent: number) => void;
  interrupted?: AbortSignal;
};

export async function upload(
  storage: Storage,
  key: string,
  body: StoreBody,
  { partBytes = smallestPartBytes, onBytes, interrupted }: PutOptions = {},
): Promise<{ bytes: number; sha256: string }> {
  // Aborted by whatever goes wrong first, here or outside; its reason is what is thrown in the end.
  const stopping = new AbortController();
  const { signal } = stopping;
  const stop = (reason: unknown) => stopping.abort(reason);
  const onAbort = () => stop(interrupted?.reason);
  interrupted?.addEventListener("abort", onAbort);
  if (interrupted?.aborted) onAbort();

  const source = readerOf(body, partBytes, signal);
  const object = objectWriter(storage, key, signal);
  const turns = Math.max(2, Math.floor(bufferBytes / partBytes));
  const buffers: Buffer[] = [];
  const inFlight: Promise<void>[] = [];
  const sha256 = createHash("sha256");
  let [bytes, confirmedBytes] = [0, 0];
  const send = async (data: Buffer, number: number) => {
    await object.sendPart(number, data);
    confirmedBytes += data.length;
    onBytes?.(confirmedBytes);
  };
  try {
    for (let number = 1, isLast = false; !isLast; number++) {
      const turn = number % turns;
      await inFlight[turn];
      buffers[turn] ??= Buffer.allocUnsafeSlow(source.fillBytes);
      const data = await source.fill(buffers[turn]);
      isLast = data.length < source.fillBytes;
      sha256.update(data);
      bytes += data.length;
      if (isLast && number === 1) {
        await object.sendWhole(data);
        onBytes?.(bytes);
      } else if (data.length > 0) {
        if (number > partsAtMost) throw tooLarge(storage, key, partBytes);
        if (number === 1) await object.begin();
        inFlight[turn] = send(data, number).catch(stop);
      }
    }
    await Promise.all(inFlight);
    signal.throwIfAborted();
    await object.complete(bytes);
  } catch (error) {
    stop(error);
    await Promise.all([...inFlight, source.close()]);
    throw await object.undo(signal.reason);
  } finally {
    interrupted?.removeEventListener("abort", onAbort);
  }
  await object.confirmSize(bytes);
  return { bytes, sha256: sha256.digest("hex") };
}

function tooLarge({ name }: Storage, key: string, partBytes: number): Failure {
  const why = `it is larger than ${partsAtMost} parts of ${partBytes / mebibyte} MiB, and there may be no more`;
  return new Failure(`Cannot write ${name}/${key}`, why);
}
