// scripts/lib/retention.ts: which backups may go, and above all which never do.
import { expect, test } from "bun:test";
import type { Backup, Remains } from "../scripts/lib/backup-list.ts";
import { beforeRestore } from "../scripts/lib/manifest.ts";
import { type Keep, planPrune } from "../scripts/lib/retention.ts";
import { backupAt, proofAt } from "./lab/backup-samples.ts";

const now = new Date("2026-11-21T12:00:00Z");

/** "2026-11-21T03" */
const at = (hour: string, changes: Partial<Backup> = {}) => backupAt(`${hour}:00:00Z`, changes);
const broken = (hour: string) => at(hour, { broken: "database.dump.gpg is missing" });
const partial = (hour: string) => backupAt(`${hour}:00:00Z`, {}, { tables: ["accounts"] });
const proven = (hour: string, proof = {}) => at(hour, { proofs: [proofAt(`${hour}:30:00Z`, proof)] });

const local = (hour: string) => backupAt(`${hour}:00:00Z`, {}, { environment: "local" });
const replaced = (hour: string) => backupAt(`${hour}:00:00Z`, {}, { label: beforeRestore });

const gfs = (changes: Partial<Exclude<Keep, { days: number }>> = {}): Keep => ({
  ...{ daily: 0, weekly: 0, monthly: 0, yearly: 0 },
  ...changes,
});

/** Newest first, as the listing has them. */
const rows: { name: string; keep: Keep; backups: Backup[]; stays: string[] }[] = [
  {
    name: "one made on a laptop does not stand in for production's of that day",
    keep: gfs({ daily: 1 }),
    backups: [local("2026-11-21T12"), at("2026-11-21T03"), local("2026-11-20T12"), at("2026-11-20T03")],
    stays: ["2026-11-21T12 newest, daily", "2026-11-21T03 newest, daily"],
  },
  {
    name: "one made before a restore holds what somebody wanted to be rid of, and stands in for none",
    keep: gfs({ daily: 1 }),
    backups: [replaced("2026-11-21T10"), at("2026-11-21T03"), replaced("2026-11-20T10"), at("2026-11-20T03")],
    stays: ["2026-11-21T10 before-restore", "2026-11-21T03 newest, daily"],
  },
  { name: "of nothing, nothing", keep: gfs({ daily: 7 }), backups: [], stays: [] },
  {
    name: "the only one, whatever the rules",
    keep: gfs(),
    backups: [at("2020-01-01T03")],
    stays: ["2020-01-01T03 newest"],
  },
  {
    name: "the newest of each day, in UTC",
    keep: gfs({ daily: 2 }),
    backups: [at("2026-11-21T00"), at("2026-11-20T23"), at("2026-11-20T03"), at("2026-11-19T03")],
    stays: ["2026-11-21T00 newest, daily", "2026-11-20T23 daily"],
  },
  {
    name: "days that have a backup are counted: nothing ages out when backups stop",
    keep: gfs({ daily: 2 }),
    backups: [at("2025-03-09T03"), at("2025-01-02T03"), at("2025-01-01T03")],
    stays: ["2025-03-09T03 newest, daily", "2025-01-02T03 daily"],
  },
  {
    name: "a leap day and the days around it",
    keep: gfs({ daily: 3, monthly: 2 }),
    backups: [at("2028-03-01T03"), at("2028-02-29T03"), at("2028-02-28T03"), at("2028-02-27T03")],
    stays: ["2028-03-01T03 newest, daily, monthly", "2028-02-29T03 daily, monthly", "2028-02-28T03 daily"],
  },
  {
    name: "weeks begin on Monday, also where the year changes within one",
    keep: gfs({ weekly: 3 }),
    // Monday 4 January 2027; Sunday 3 January, in the week of Monday 28 December 2026; Sunday 27 December.
    backups: [at("2027-01-04T03"), at("2027-01-03T03"), at("2026-12-28T03"), at("2026-12-27T03"), at("2026-12-20T03")],
    stays: ["2027-01-04T03 newest, weekly", "2027-01-03T03 weekly", "2026-12-27T03 weekly"],
  },
  {
    name: "the last of each month, whatever its length",
    keep: gfs({ monthly: 3 }),
    backups: [at("2026-03-31T03"), at("2026-03-01T03"), at("2026-02-28T03"), at("2026-01-31T03"), at("2025-12-31T03")],
    stays: ["2026-03-31T03 newest, monthly", "2026-02-28T03 monthly", "2026-01-31T03 monthly"],
  },
  {
    name: "years",
    keep: gfs({ yearly: 2 }),
    backups: [at("2026-01-01T00"), at("2025-12-31T23"), at("2025-01-01T00"), at("2024-12-31T23")],
    stays: ["2026-01-01T00 newest, yearly", "2025-12-31T23 yearly"],
  },
  {
    name: "everything of the last days, with keep.days",
    keep: { days: 2 },
    backups: [at("2026-11-21T09"), at("2026-11-21T03"), at("2026-11-10T03"), at("2026-11-09T03")],
    stays: ["2026-11-21T09 newest, days", "2026-11-21T03 days", "2026-11-10T03 days"],
  },
  {
    name: "a broken one stands in for no good one",
    keep: gfs({ daily: 2 }),
    backups: [broken("2026-11-21T09"), at("2026-11-21T03"), broken("2026-11-20T03"), at("2026-11-19T03")],
    stays: ["2026-11-21T03 newest, daily", "2026-11-19T03 daily"],
  },
  {
    name: "a broken one uses up no day of keep.days either",
    keep: { days: 2 },
    backups: [broken("2026-11-21T03"), broken("2026-11-20T03"), at("2026-11-19T03"), at("2026-11-18T03")],
    stays: ["2026-11-19T03 newest, days", "2026-11-18T03 days"],
  },
  {
    name: "only broken ones: none of them is worth anything",
    keep: { days: 9 },
    backups: [broken("2026-11-21T03")],
    stays: [],
  },
  {
    name: "the newest that a restore has proven, however old it is",
    keep: gfs({ daily: 1 }),
    backups: [
      at("2026-11-21T03"),
      proven("2026-11-20T03", { equal: false }),
      proven("2025-01-02T03"),
      proven("2025-01-01T03"),
    ],
    stays: ["2026-11-21T03 newest, daily", "2025-01-02T03 proven"],
  },
  {
    name: "the last word counts: one that was good and is damaged by now proves nothing any more",
    keep: gfs({ daily: 1 }),
    backups: [
      at("2026-11-21T03"),
      at("2026-11-14T03", {
        proofs: [proofAt("2026-11-20T03:00:00Z", { equal: false }), proofAt("2026-11-15T03:00:00Z")],
      }),
      proven("2026-11-07T03"),
    ],
    stays: ["2026-11-21T03 newest, daily", "2026-11-07T03 proven"],
  },
  {
    name: "reading it to its end is no restore",
    keep: gfs({ daily: 1 }),
    backups: [at("2026-11-21T03"), proven("2026-11-20T03", { by: "verify" })],
    stays: ["2026-11-21T03 newest, daily"],
  },
  {
    name: "single tables as long as the days of whole ones, and they stand in for none",
    keep: gfs({ daily: 2 }),
    backups: [
      partial("2026-11-21T09"),
      at("2026-11-20T03"),
      partial("2026-11-19T09"),
      at("2026-11-18T03"),
      partial("2026-11-17T03"),
    ],
    stays: [
      "2026-11-21T09 tables only",
      "2026-11-20T03 newest, daily",
      "2026-11-19T09 tables only",
      "2026-11-18T03 daily",
    ],
  },
  {
    name: "the same with keep.days",
    keep: { days: 1 },
    backups: [partial("2026-11-21T09"), partial("2026-11-20T09"), at("2026-11-20T03"), partial("2026-11-19T03")],
    stays: ["2026-11-21T09 tables only", "2026-11-20T09 tables only", "2026-11-20T03 newest, days"],
  },
  {
    name: "single tables where there is nothing else",
    keep: gfs(),
    backups: [partial("2026-11-21T09")],
    stays: ["2026-11-21T09 tables only"],
  },
];

test.each(rows)("stays: $name", ({ keep, backups, stays }) => {
  const { kept, removals } = planPrune(backups, [], keep, now);
  expect(kept.map(({ backup, reasons }) => `${backup.manifest.at.slice(0, 13)} ${reasons.join(", ")}`)).toEqual(stays);
  const keptOnes = new Set(kept.map(({ backup }) => backup));
  expect(removals).toEqual(backups.filter((backup) => !keptOnes.has(backup)));
});

test("the clock decides nothing about backups", () => {
  const backups = [at("2026-11-21T03"), at("2026-11-20T03"), at("2026-11-19T03")];
  const plan = (year: number) => planPrune(backups, [], gfs({ daily: 2 }), new Date(Date.UTC(year, 0)));
  expect(plan(2050)).toEqual(plan(2026));
});

test("what is no backup goes once it is older than 24 hours, and not while it may still be made", () => {
  const remain = (newest: string): Remains => ({
    folder: `shop/${newest}`,
    keys: [],
    bytes: 1,
    newest: new Date(newest),
  });
  const young = remain("2026-11-20T12:00:00Z");
  const old = remain("2026-11-20T11:59:59Z");
  expect(planPrune([], [young, old], { days: 1 }, now)).toEqual({ removals: [], kept: [], remains: [old] });
});
