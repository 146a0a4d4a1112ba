// scripts/lib/backup-list.ts: what counts as a backup, and which one is meant.
import { expect, test } from "bun:test";
import { chooseBackup, listBackups } from "../scripts/lib/backup-list.ts";
import { asFailure, formatFailure } from "../scripts/lib/failure.ts";
import { backupAt, idAt, manifestAt, memoryStore, proofAt } from "./lab/backup-samples.ts";

const newest = backupAt("2026-11-21T09:00:00Z", { broken: "database.dump.gpg is missing" });
const tables = backupAt("2026-11-21T06:00:00Z", {}, { tables: ["accounts"] });
const second = backupAt("2026-11-21T03:00:00Z");
const third = backupAt("2026-11-20T03:00:00Z", {}, { id: idAt("2026-11-20T03:00:00Z", "0000aaaa") });
const backups = [newest, tables, second, third];

const choices: { wanted: string; before?: string; chosen: typeof newest }[] = [
  { wanted: "latest", chosen: second },
  { wanted: "latest", before: "2026-11-21T03:00:00Z", chosen: second },
  { wanted: "latest", before: "2026-11-21T02:59:59Z", chosen: third },
  { wanted: second.id, chosen: second },
  { wanted: "2026-11-20", chosen: third },
  { wanted: tables.id, chosen: tables },
  { wanted: `shop/${third.id}`, chosen: third },
  { wanted: `s3://backups/2020s/shop/${third.id}/manifest.json`, chosen: third },
  { wanted: `shop/${third.id}/database.dump.gpg`, chosen: third },
];
test.each(choices)("$wanted, before $before", ({ wanted, before, chosen }) => {
  expect(chooseBackup({ backups, unreadable: [] }, wanted, choice(before))).toBe(chosen);
});

const known = backups.map(({ id }) => `\n  | ${id}   of production`).join("");
const refusals: { wanted: string; before?: string; text: string; exitCode: 2 | 3 }[] = [
  {
    wanted: "latest",
    before: "2025-01-01T00:00:00Z",
    text: `Cannot find the backup "latest": none was made at or before 2025-01-01T00:00:00.000Z\n  | the newest are:${known}`,
    exitCode: 2,
  },
  {
    wanted: "2026-11-21",
    text: `Cannot find the backup "2026-11-21": 3 begin like that\n  | the newest are:${known}`,
    exitCode: 2,
  },
  // Too short to be meant.
  {
    wanted: "2026",
    text: `Cannot find the backup "2026": there is none of that name\n  | the newest are:${known}`,
    exitCode: 2,
  },
  { wanted: newest.id, text: `Backup ${newest.id} is broken: database.dump.gpg is missing`, exitCode: 3 },
];
test.each(refusals)("not $wanted, before $before", ({ wanted, before, text, exitCode }) => {
  const failure = refused(() => chooseBackup({ backups, unreadable: [] }, wanted, choice(before)));
  expect([formatFailure(failure), failure.exitCode]).toEqual([`${text}\n  next: bun scripts/backup.ts list`, exitCode]);
});

test("none at all", () => {
  expect(formatFailure(refused(() => chooseBackup({ backups: [], unreadable: [] }, "latest", choice())))).toBe(
    'Cannot find the backup "latest": there is none\n  next: bun scripts/backup.ts list',
  );
});

test("the latest of one environment is never another one's", () => {
  const local = backupAt(
    "2026-11-21T12:00:00Z",
    {},
    { environment: "local", id: idAt("2026-11-21T12:00:00Z", "10ca1000") },
  );
  const listing = { backups: [local, second, third], unreadable: [] };
  expect(chooseBackup(listing, "latest", choice())).toBe(second);
  expect(chooseBackup(listing, "latest", { environment: "local" })).toBe(local);
  // By its name it is meant, whosever it is.
  expect(chooseBackup(listing, local.id, choice())).toBe(local);
  expect(formatFailure(refused(() => chooseBackup({ backups: [local], unreadable: [] }, "latest", choice())))).toBe(
    `Cannot find the backup "latest": there is none of production, only of local\n  | the newest are:\n  | ${local.id}   of local\n` +
      "  next: bun scripts/backup.ts list",
  );
});

test("the latest is not silently an older one: a newer manifest that cannot be read, and one that is broken", () => {
  const unknown = { id: idAt("2026-11-21T04:00:00Z"), why: "no access" };
  const listing = { backups: [second, third], unreadable: [unknown] };
  const failure = refused(() => chooseBackup(listing, "latest", choice()));
  expect([formatFailure(failure), failure.exitCode]).toEqual([
    `Nobody can tell which backup is the latest: ${unknown.id} is newer than ${second.id}, and what it is cannot be read: no access\n` +
      `  next: the same command again\n  next: the same with ${second.id} instead of "latest", if that is what you want`,
    3,
  ]);
  expect(chooseBackup(listing, "latest", choice("2026-11-21T03:30:00Z"))).toBe(second);
  expect(chooseBackup(listing, second.id, choice())).toBe(second);
  const all = { backups, unreadable: [] };
  expect(refused(() => chooseBackup(all, "latest", { ...choice(), evenBroken: true })).what).toBe(
    `Backup ${newest.id} is broken`,
  );
});

function choice(before?: string) {
  return { environment: "production", before: before === undefined ? undefined : new Date(before) };
}

function refused(work: () => unknown) {
  try {
    work();
  } catch (error) {
    return asFailure(error);
  }
  throw new Error("it was not refused");
}

/** Its objects as they lie in the bucket. */
function objectsOf(at: string, changes: Record<string, string | number | undefined> = {}) {
  const manifest = manifestAt(at);
  const whole: Record<string, string | number | undefined> = {
    "database.dump.gpg": manifest.dump.bytes,
    "globals.sql.gpg": manifest.globals.bytes,
    "manifest.json": JSON.stringify(manifest),
    "RESTORE.txt": "how",
    ...changes,
  };
  const entries = Object.entries(whole).flatMap(([name, content]) =>
    content === undefined ? [] : [[`shop/${manifest.id}/${name}`, content] as const],
  );
  return Object.fromEntries(entries);
}

const [day21, day20, day19, day18, day17] = ["21", "20", "19", "18", "17"].map((day) => `2026-11-${day}T03:00:00Z`);

test("a folder with a manifest is a backup, newest first; one without is none; what is neither is not looked at", async () => {
  const proofs = [proofAt("2026-11-22T03:00:00Z"), proofAt("2026-11-21T04:00:00Z", { by: "restore", equal: false })];
  const modified = new Date("2026-11-18T03:10:00Z");
  const bucket = {
    ...objectsOf(day20!),
    ...objectsOf(day21!, {
      "proof-2026-11-21T04-00-00Z.json": JSON.stringify(proofs[1]),
      "proof-2026-11-22T03-00-00Z.json": JSON.stringify(proofs[0]),
    }),
    ...objectsOf(day18!, { "manifest.json": undefined, "RESTORE.txt": undefined }),
    ...{ "shop/notes.txt": "mine", "shop/2026/manifest.json": "{}", [`other/${idAt(day21!)}/manifest.json`]: "{}" },
  };
  const { backups, remains, problems } = await listBackups(memoryStore(bucket, modified), "shop");
  expect(backups.map(({ id, proofs, broken }) => ({ id, proofs, broken }))).toEqual([
    { id: idAt(day21!), proofs, broken: undefined },
    { id: idAt(day20!), proofs: [], broken: undefined },
  ]);
  const manifest = manifestAt(day20!);
  const folder = `shop/${manifest.id}`;
  const keys = ["database.dump.gpg", "globals.sql.gpg", "manifest.json", "RESTORE.txt"].map(
    (name) => `${folder}/${name}`,
  );
  const bytes = 2_000_500 + JSON.stringify(manifest).length + "how".length;
  expect(backups[1]).toEqual({ id: manifest.id, folder, manifest, bytes, keys, proofs: [] });
  const left = `shop/${idAt(day18!)}`;
  expect(remains).toEqual([
    {
      folder: left,
      keys: [`${left}/database.dump.gpg`, `${left}/globals.sql.gpg`],
      bytes: 2_000_500,
      newest: modified,
    },
  ]);
  expect(problems).toEqual([]);
});

test("a missing or shortened part makes it broken, a manifest that cannot be read a problem, and a proof hides no backup", async () => {
  const bucket = {
    ...objectsOf(day21!, { "database.dump.gpg": undefined }),
    ...objectsOf(day20!, { "globals.sql.gpg": 499 }),
    ...objectsOf(day19!, { "manifest.json": '{"version": 2}' }),
    ...objectsOf(day18!, { "manifest.json": "cut o" }),
    ...objectsOf(day17!, { "proof-2026-11-18T03-00-00Z.json": '{"version": 2}' }),
  };
  const { backups, problems } = await listBackups(memoryStore(bucket), "shop");
  expect(backups.map(({ id, broken }) => [id, broken])).toEqual([
    [idAt(day21!), "database.dump.gpg is missing"],
    [idAt(day20!), "globals.sql.gpg has 499 bytes, its manifest says 500"],
    [idAt(day17!), undefined],
  ]);
  const notOurs = (kind: string, key: string) =>
    `Cannot read shop/${key}: it is not a ${kind} of this version of the kit: version: Invalid input: expected 1`;
  expect(problems.toSorted()).toEqual([
    notOurs("proof", `${idAt(day17!)}/proof-2026-11-18T03-00-00Z.json`),
    `Cannot read shop/${idAt(day18!)}/manifest.json: it is not JSON`,
    notOurs("manifest", `${idAt(day19!)}/manifest.json`),
  ]);
});
