// scripts/lib/environment.ts: a value survives being written to a .env file and read again, or is refused by name.
import { afterAll, expect, test } from "bun:test";
import { mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { encodeValue, readEnvironment, writeSecretFile } from "../scripts/lib/environment.ts";

const directory = await mkdtemp(join(tmpdir(), "dbops-environment-"));
afterAll(() => rm(directory, { recursive: true }));

test.each([
  { value: "", written: "" },
  { value: "plain-1.2/3:4@5", written: "plain-1.2/3:4@5" },
  { value: "pa$BASE", written: "'pa$BASE'" },
  { value: "pa$$word", written: "'pa$$word'" },
  { value: "a#b", written: "'a#b'" },
  { value: " spaces inside ", written: "' spaces inside '" },
  { value: 'double"quote', written: `'double"quote'` },
  { value: "back\\slash\\n", written: "'back\\slash\\n'" },
  { value: "`id` $(id)", written: "'`id` $(id)'" },
  { value: "it's", written: `"it's"` },
  { value: "ünï=cödé", written: "'ünï=cödé'" },
])("encodeValue() carries $value", async ({ value, written }) => {
  expect(encodeValue("NAME", value)).toBe(written);
  const file = join(directory, "one.env");
  await writeSecretFile(file, `NAME=${written}\n`);
  expect(await readEnvironment(file)).toEqual({ NAME: value });
});

test.each(["it's $5", `both ' and "`, "line\nbreak", "it's a back\\slash", "trailing\\"])(
  "encodeValue() refuses %j by name",
  (value) => {
    expect(() => encodeValue("API_KEY", value)).toThrow("Cannot write API_KEY: its value holds a line break, or");
    expect(() => encodeValue("API_KEY", value)).not.toThrow(value);
  },
);

test("a missing file is empty; a folder is a clear failure", async () => {
  expect(await readEnvironment(join(directory, "none.env"))).toEqual({});
  await expect(readEnvironment(directory)).rejects.toThrow(`Cannot read "${directory}"`);
});

test("writeSecretFile() makes a file only its owner can read, and leaves no temporary one behind", async () => {
  const file = join(directory, "secret.env");
  await writeSecretFile(file, "A=1\n");
  expect((await stat(file)).mode & 0o777).toBe(0o600);
  await expect(writeSecretFile(join(directory, "missing", "x.env"), "A=1\n")).rejects.toThrow("ENOENT");
  expect((await readdir(directory)).filter((name) => name.endsWith(".tmp"))).toEqual([]);
});
