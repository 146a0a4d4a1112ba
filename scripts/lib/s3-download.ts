// One object, streamed. A runtime may take a connection that breaks for the end of the body, so every byte is counted.
import type { Readable } from "node:stream";
import { Failure } from "./failure.ts";
import type { Storage } from "./s3-client.ts";
import { within } from "./wait.ts";

export async function* download(
  storage: Storage,
  key: string,
  { interrupted }: { interrupted?: AbortSignal } = {},
): AsyncGenerator<Uint8Array, void> {
  const { sdk, client, ask, Bucket, patience } = storage;
  const address = `${storage.name}/${key}`;
  const request = new sdk.GetObjectCommand({ Bucket, Key: `${storage.before}${key}` });
  const send = (abortSignal: AbortSignal) => client.send(request, { abortSignal });
  const { Body, ContentLength } = await ask(`read ${address}`, send, { interrupted });
  const body = Body as Readable;
  const chunks: AsyncIterator<Buffer> = body[Symbol.asyncIterator]();
  const wait = { seconds: patience.stallSeconds, ...(interrupted && { interrupted }) };
  const next = ["the same command again"];
  let bytes = 0;
  const cutOff = (cause?: unknown) =>
    new Failure(`Cannot read ${address}`, `the download broke off after ${bytes} of ${ContentLength} bytes`, next, {
      cause,
    });
  try {
    for (;;) {
      interrupted?.throwIfAborted();
      const { done, value } = await within(wait, chunks.next(), { what: `more of ${address}`, next });
      if (done) break;
      bytes += value.length;
      yield value;
    }
  } catch (error) {
    interrupted?.throwIfAborted();
    throw error instanceof Failure ? error : cutOff(error);
  } finally {
    body.destroy();
  }
  if (bytes !== ContentLength) throw cutOff();
}
