// One object, streamed. A connection that breaks on the way is taken up again where it broke: a restore may read for hours, and
// pauses while Postgres works. A runtime may take a connection that breaks for the end of the body, so every byte is counted.
import type { Readable } from "node:stream";
import { Failure } from "./failure.ts";
import type { Storage } from "./s3-client.ts";
import { within } from "./wait.ts";

type Interrupted = { interrupted?: AbortSignal };

/** Connections in a row that broke before they had brought so much. */
const fruitlessMaximum = 5;
const fruitBytes = 2 ** 20;

export async function* download(
  storage: Storage,
  key: string,
  { interrupted }: Interrupted = {},
): AsyncGenerator<Uint8Array, void> {
  const object = { Bucket: storage.Bucket, Key: `${storage.before}${key}` };
  const address = `${storage.name}/${key}`;
  let [bytes, fruitless] = [0, 0];
  let expected: { bytes: number; ETag: string | undefined } | undefined;
  for (;;) {
    const { sdk, client, ask } = storage;
    // Only of the very object that was begun with.
    const rest = expected && { Range: `bytes=${bytes}-`, ...(expected.ETag && { IfMatch: expected.ETag }) };
    const request = new sdk.GetObjectCommand({ ...object, ...rest });
    const send = (abortSignal: AbortSignal) => client.send(request, { abortSignal });
    const { Body, ContentLength = 0, ContentRange, ETag } = await ask(`read ${address}`, send, { interrupted });
    const before = bytes;
    let broke: unknown;
    try {
      if (expected && !ContentRange) throw new Error("the storage does not send the rest of an object");
      expected ??= { bytes: ContentLength, ETag };
      for await (const chunk of chunksOf(Body as Readable, storage, address, interrupted)) {
        bytes += chunk.length;
        yield chunk;
      }
    } catch (error) {
      interrupted?.throwIfAborted();
      broke = error;
    }
    const wanted = expected?.bytes ?? 0;
    if (bytes === wanted) return;
    fruitless = bytes - before < fruitBytes ? fruitless + 1 : 0;
    if (bytes < wanted && fruitless < fruitlessMaximum) continue;
    const why = `the download broke off after ${bytes} of ${wanted} bytes`;
    throw new Failure(`Cannot read ${address}`, why, ["the same command again"], { cause: broke });
  }
}

/** Of one answer. @throws what breaks it, also where nothing comes for too long. */
async function* chunksOf(
  body: Readable,
  { patience }: Storage,
  address: string,
  interrupted: AbortSignal | undefined,
): AsyncGenerator<Buffer, void> {
  const chunks: AsyncIterator<Buffer> = body[Symbol.asyncIterator]();
  const wait = { seconds: patience.stallSeconds, ...(interrupted && { interrupted }) };
  try {
    for (;;) {
      interrupted?.throwIfAborted();
      const { done, value } = await within(wait, chunks.next(), { what: `more of ${address}`, next: [] });
      if (done) return;
      yield value;
    }
  } finally {
    body.destroy();
  }
}
