// scripts/lib/archive.ts, held against the tar program that takes it apart on a server.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtemp, readdir, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ArchiveFile, archive } from "../scripts/lib/archive.ts";
import { run } from "../scripts/lib/run.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "dbops-archive-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const files: ArchiveFile[] = [
  { path: "compose.yaml", content: Buffer.from("name: shop\n") },
  { path: ".env", content: Buffer.from("PASSWORD='ä$'\n"), mode: 0o600 },
  { path: "nginx/shared/deep/er/a file with spaces, 'quotes' and ünï.conf", content: Buffer.from("x") },
  { path: "empty", content: Buffer.alloc(0) },
  // A whole block, one byte less, one byte more, and every byte that there is.
  { path: "block/511", content: Buffer.alloc(511, 1) },
  { path: "block/512", content: Buffer.alloc(512, 2) },
  { path: "block/513", content: Buffer.alloc(513, 3) },
  { path: "bytes", content: Buffer.from(Array.from({ length: 70_000 }, (_, index) => index % 256)) },
  { path: `${"n".repeat(96)}.sql`, content: Buffer.from("100 bytes is the longest name") },
  { path: "script.sh", content: Buffer.from("#!/bin/sh\n"), mode: 0o755 },
];

test("archive() makes what tar unpacks without a word: every byte, every name, every mode", async () => {
  const { stdout, stderr } = await run({ argv: ["tar", "-x", "-v", "-C", folder], stdin: archive(files) });
  expect(stderr).toBe("");
  expect(stdout.split("\n")).toHaveLength(files.length + 1);
  const found = await readdir(folder, { recursive: true, withFileTypes: true });
  expect(found.filter((entry) => entry.isFile())).toHaveLength(files.length);
  for (const { path, content, mode = 0o644 } of files) {
    expect((await readFile(join(folder, path))).equals(content)).toBe(true);
    expect([path, (await stat(join(folder, path))).mode & 0o777]).toEqual([path, mode]);
  }
});

test("an archive that lost its end, or a byte of a header, is refused", async () => {
  const whole = archive(files);
  const changed = Buffer.from(whole);
  changed[3] = 0x58;
  for (const stdin of [whole.subarray(0, 40_000), changed]) {
    const { exitCode } = await run({ argv: ["tar", "-t"], stdin, accept: [0, 2] });
    expect(exitCode).toBe(2);
  }
});

test("nothing is an archive, too", async () => {
  expect((await run({ argv: ["tar", "-t"], stdin: archive([]) })).stdout).toBe("");
});

test("archive() throws on a name longer than the format has room for", () => {
  const path = "ä".repeat(51);
  expect(() => archive([{ path, content: Buffer.alloc(0) }])).toThrow(
    `Cannot send "${path}": its path is longer than 100 bytes`,
  );
});
