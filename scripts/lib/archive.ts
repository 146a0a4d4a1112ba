// A tar archive from a handful of small files: what one request can carry to the server, where `tar` takes it apart.

import { exitCodes, Failure } from "./failure.ts";

export type ArchiveFile = { path: string; content: Buffer; mode?: number };

const blockBytes = 512;

/**
 * The files in the "ustar" format, modes 0644 unless said otherwise, owners and times left to whoever unpacks it.
 * @throws {Failure} exit 2: a path longer than its 100 bytes.
 */
export function archive(files: readonly ArchiveFile[]): Buffer {
  const blocks = files.flatMap(({ path, content, mode = 0o644 }) => {
    const padding = Buffer.alloc((blockBytes - (content.length % blockBytes)) % blockBytes);
    return [header(path, content.length, mode), content, padding];
  });
  return Buffer.concat([...blocks, Buffer.alloc(2 * blockBytes)]);
}

/** POSIX.1-1988: numbers are octal text; the checksum is that of a header whose checksum is eight spaces. */
function header(path: string, bytes: number, mode: number): Buffer {
  if (Buffer.byteLength(path) > 100) {
    const why = "its path is longer than 100 bytes";
    throw new Failure(`Cannot send "${path}"`, why, ["give it a shorter name"], { exitCode: exitCodes.usage });
  }
  const block = Buffer.alloc(blockBytes);
  const octal = (value: number, digits: number) => `${value.toString(8).padStart(digits, "0")}\0`;
  block.write(path, 0);
  block.write(octal(mode, 7), 100);
  block.write(octal(0, 7), 108);
  block.write(octal(0, 7), 116);
  block.write(octal(bytes, 11), 124);
  block.write(octal(0, 11), 136);
  block.write("        0", 148);
  block.write("ustar\x0000", 257);
  const checksum = block.reduce((sum, byte) => sum + byte, 0);
  block.write(`${checksum.toString(8).padStart(6, "0")}\0 `, 148);
  return block;
}
