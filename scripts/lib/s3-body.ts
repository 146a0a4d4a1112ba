// What is uploaded, filled into one buffer after the other.

export type StoreBody = AsyncIterable<Uint8Array> | string | Uint8Array;

export type BodyReader = {
  /** Of each buffer. */
  fillBytes: number;
  /**
   * The filled beginning of the buffer, which is less than all of it only at the end of the body.
   * @throws what the body throws; the signal's reason at once when it is aborted.
   */
  fill(buffer: Buffer): Promise<Buffer>;
  /** Tells the body that nobody reads on, and waits a little for it to end: programs may be writing it. Never rejects. */
  close(): Promise<void>;
};

const endsWithinSeconds = 10;

export function readerOf(body: StoreBody, partBytes: number, signal: AbortSignal): BodyReader {
  const whole = typeof body === "string" ? Buffer.from(body) : body instanceof Uint8Array ? body : undefined;
  const chunks = (whole ? only(whole) : (body as AsyncIterable<Uint8Array>))[Symbol.asyncIterator]();
  let chunk: Uint8Array = new Uint8Array();
  let rest = chunk;
  const aborted = new Promise<never>((_, reject) => {
    const onAbort = () => reject(signal.reason);
    if (signal.aborted) onAbort();
    else signal.addEventListener("abort", onAbort);
  });
  aborted.catch(() => {});

  async function fill(buffer: Buffer): Promise<Buffer> {
    let filled = 0;
    while (filled < buffer.length) {
      if (rest.length === 0) {
        if (!whole) free(chunk);
        const { done, value } = await chunks.next();
        if (done || signal.aborted) break;
        chunk = value;
        rest = value;
      }
      const taken = rest.subarray(0, buffer.length - filled);
      buffer.set(taken, filled);
      filled += taken.length;
      rest = rest.subarray(taken.length);
    }
    return buffer.subarray(0, filled);
  }

  return {
    // One byte more than a small body has, so that it ends within its first buffer.
    fillBytes: Math.min(partBytes, whole ? whole.length + 1 : partBytes),
    fill: (buffer) => Promise.race([aborted, fill(buffer)]),
    async close() {
      let timer: ReturnType<typeof setTimeout> | undefined;
      const tooLong = new Promise((resolve) => {
        timer = setTimeout(resolve, endsWithinSeconds * 1000);
      });
      await Promise.race([tooLong, chunks.return?.()]).catch(() => {});
      clearTimeout(timer);
    },
  };
}

async function* only(bytes: Uint8Array) {
  yield bytes;
}

/**
 * The memory of a chunk that was copied, at once: the collector gets to it so late that on Bun a fast dump would take 80 MB
 * more. Small chunks may share theirs with others.
 */
function free(chunk: Uint8Array): void {
  const { buffer } = chunk;
  // Node has transfer() from 21 on.
  if (chunk.length === buffer.byteLength && "transfer" in buffer) buffer.transfer(0);
}
