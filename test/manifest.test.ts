// scripts/lib/manifest.ts: what a backup says of itself is read back exactly, or refused with the reason.
import { expect, test } from "bun:test";
import { formatManifest } from "../scripts/lib/backup-run.ts";
import { asFailure, formatFailure } from "../scripts/lib/failure.ts";
import { newBackupId, parseManifest, parseProof, timeOfId } from "../scripts/lib/manifest.ts";
import { manifestAt, proofAt } from "./lab/backup-samples.ts";

const at = "2026-11-21T03:00:00.123Z";

test.each([
  manifestAt(at),
  manifestAt(at, { label: "before ü", format: "plain", tables: ["public.a", '"B"'], rows: {} }),
  manifestAt(at, { encryption: { kind: "recipients", recipients: ["AB12"], program: "gpg" } }),
  manifestAt(at, {
    settings: {
      owner: "me",
      connectionLimit: 5,
      grants: ["PUBLIC CONNECT f"],
      parameters: [{ role: null, parameter: "a.b", value: "" }],
      comment: "it's ü",
    },
  }),
])("written and read again: %#", (manifest) => {
  expect(parseManifest(formatManifest(manifest), "manifest.json")).toEqual(manifest);
});

test("a proof likewise", () => {
  const proof = proofAt(at, { equal: false, restoreSeconds: 1.5, problems: ["public.a: 1 row, 2 expected"] });
  expect(parseProof(JSON.stringify(proof), "proof.json")).toEqual(proof);
});

const whole = manifestAt(at);
const unreadable: { name: string; text: string; message: string }[] = [
  { name: "cut off", text: formatManifest(whole).slice(0, 100), message: "it is not JSON" },
  {
    name: "of a later version",
    text: JSON.stringify({ ...whole, version: 2 }),
    message: "it is not a manifest of this version of the kit\n  | version: Invalid input: expected 1",
  },
  {
    name: "with a sha256 that is none, and something new",
    text: JSON.stringify({ ...whole, dump: { ...whole.dump, sha256: "abc" }, compression: "zstd" }),
    message: `it is not a manifest of this version of the kit
  | dump.sha256: Invalid string: must match pattern /^[0-9a-f]{64}$/
  | : Unrecognized key: "compression"`,
  },
  {
    name: "with fewer than no rows",
    text: JSON.stringify({ ...whole, rows: { "public.a": -1 } }),
    message: "it is not a manifest of this version of the kit\n  | rows.public.a: Too small: expected number to be >=0",
  },
];
test.each(unreadable)("refused: $name", ({ text, message }) => {
  let failure: ReturnType<typeof asFailure> | undefined;
  try {
    parseManifest(text, "shop/x/manifest.json");
  } catch (error) {
    failure = asFailure(error);
  }
  expect(formatFailure(failure!)).toBe(`Cannot read shop/x/manifest.json: ${message}`);
});

test("an id has the time in UTC, and something by chance", () => {
  const when = new Date(at);
  expect(newBackupId(when, "4f2c1a2b")).toBe("2026-11-21T03-00-00Z-4f2c1a2b");
  expect(newBackupId(when)).toMatch(/^2026-11-21T03-00-00Z-[0-9a-f]{8}$/);
  expect(newBackupId(when)).not.toBe(newBackupId(when));
});

test.each([
  ["2026-11-21T03-00-00Z-4f2c1a2b", "2026-11-21T03:00:00.000Z"],
  ["2028-02-29T23-59-59Z-00000000", "2028-02-29T23:59:59.000Z"],
  ["2026-11-21T03-00-00Z", undefined],
  ["2026-11-21T03-00-00Z-4F2C1A2B", undefined],
  ["x2026-11-21T03-00-00Z-4f2c1a2b", undefined],
  ["latest", undefined],
  ["", undefined],
])("timeOfId(%p)", (id, time) => expect(timeOfId(id)?.toISOString()).toBe(time as string));
