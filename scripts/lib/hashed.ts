// Hands bytes on, and throws at their end unless they are the ones that the manifest describes.
import { createHash } from "node:crypto";
import { exitCodes, Failure } from "./failure.ts";
import type { Manifest } from "./manifest.ts";

/** @throws {Failure} exit 3, instead of ending, when there were fewer, more or other bytes. */
export async function* hashed(
  bytes: AsyncIterable<Uint8Array>,
  expected: Pick<Manifest["dump"], "bytes" | "sha256">,
  name: string,
): AsyncGenerator<Uint8Array, void> {
  const sha256 = createHash("sha256");
  let count = 0;
  for await (const chunk of bytes) {
    sha256.update(chunk);
    count += chunk.length;
    yield chunk;
  }
  const wrong =
    count !== expected.bytes
      ? `it has ${count} bytes, its manifest says ${expected.bytes}`
      : sha256.digest("hex") !== expected.sha256
        ? "its sha256 is not the one in its manifest: bytes of it have changed since it was made"
        : undefined;
  if (!wrong) return;
  throw new Failure(`Cannot use ${name}`, wrong, ["bun scripts/backup.ts list      # choose another one"], {
    exitCode: exitCodes.saidNo,
  });
}
