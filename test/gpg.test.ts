// scripts/lib/gpg.ts as far as it goes without gpg; live/gpg.test.ts has the rest.
import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { asFailure, Failure, formatFailure } from "../scripts/lib/failure.ts";
import { decryptByHand, explainGpg, openGpg } from "../scripts/lib/gpg.ts";
import { run } from "../scripts/lib/run.ts";

const empty = mkdtempSync(join(tmpdir(), "dbops-no-gpg-"));
afterAll(() => rmSync(empty, { recursive: true, force: true }));

const unusable = [
  { name: "an empty one", passphrase: "", why: "it is empty" },
  { name: "one of two lines", passphrase: "one\ntwo", why: "it has a line break in it" },
  { name: "one with a carriage return at its end", passphrase: "one\r", why: "it has a line break in it" },
];
test.each(unusable)("a passphrase that gpg would not read as it is: $name", async ({ passphrase, why }) => {
  const failure = await openGpg({ kind: "passphrase", passphrase }, empty).then(() => undefined, asFailure);
  expect(formatFailure(failure!)).toBe(`Cannot use the passphrase of the backups: ${why}
  next: openssl rand -base64 32      # makes a good one`);
  expect(failure!.exitCode).toBe(2);
});

test("a machine without gpg", async () => {
  const before = process.env.PATH;
  // run() looks for bash once, at its first use.
  await run({ argv: ["true"] });
  process.env.PATH = empty;
  const failure = await openGpg({ kind: "passphrase", passphrase: "x" }, empty).then(() => undefined, asFailure);
  process.env.PATH = before;
  expect(formatFailure(failure!)).toBe(`Cannot encrypt or decrypt: "gpg" is not installed, or not on PATH
  next: install GnuPG, on Debian: apt-get install gnupg      # or: brew install gnupg`);
  expect(failure!.exitCode).toBe(2);
});

test("what is not gpg's is left as it is", () => {
  const other = new Failure("pg_restore failed", "it exited with 1");
  expect(explainGpg(other)).toBe(other);
  const killed = explainGpg(
    new Failure("gpg --decrypt failed", "it was ended by SIGKILL", [], { details: "[GNUPG:] ENC_TO X" }),
  );
  expect(formatFailure(killed)).toBe("Cannot decrypt the backup: it was ended by SIGKILL");
  expect(killed.exitCode).toBe(1);
});

test("by hand", () => {
  expect(decryptByHand("passphrase", "database.dump.gpg")).toBe(
    "gpg --batch --pinentry-mode loopback --passphrase-file passphrase.txt --decrypt database.dump.gpg",
  );
  expect(decryptByHand("recipients", "database.dump.gpg")).toBe("gpg --decrypt database.dump.gpg");
});
