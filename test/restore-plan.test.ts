// What a restore decides from what it sees: the steps, the warnings, and every reason not to begin.
import { describe, expect, test } from "bun:test";
import { asFailure, formatFailure } from "../scripts/lib/failure.ts";
import type { Manifest } from "../scripts/lib/manifest.ts";
import {
  chooseTables,
  formatPlan,
  type Observed,
  planRestore,
  type Source,
  type Wanted,
} from "../scripts/lib/restore-plan.ts";
import { manifestAt } from "./lab/backup-samples.ts";

const manifest = (changes: Partial<Manifest> = {}) => manifestAt("2026-11-21T03:00:00Z", changes);
const source = (changes: Partial<Manifest> = {}): Source => ({
  ...{ name: "backup 2026-11-21T03-00-00Z-4f2c1a2b", manifest: manifest(changes), format: "custom", bytes: 2_000_000 },
});
const file: Source = { name: "old.sql.gz.gpg", manifest: undefined, format: "plain", bytes: 1_500_000 };

const wanted: Wanted = {
  ...{ into: undefined, tables: undefined, safetyBackup: true, toVersion: undefined, migrations: ["20261101000000"] },
  ...{ database: "shop", place: "deploy@app.example.com", now: new Date("2026-11-21T15:00:00Z") },
};

const { settings, extensions } = manifest();
const observed: Observed = {
  live: { databaseBytes: 12_000_000, migrations: ["20261101000000"], settings, extensions, sessions: 0 },
  ...{ databases: ["postgres", "shop", "template0", "template1"], roles: ["postgres", "shop"] },
  ...{ available: { plpgsql: "1.0" }, versionNumber: 180_006, freeBytes: 10_000_000_000 },
  ...{ replication: [], preparedTransactions: 0 },
};

const textOf = (from: Source, want: Partial<Wanted> = {}, seen: Partial<Observed> = {}) => {
  const all = { ...wanted, ...want };
  return formatPlan(planRestore(from, all, { ...observed, ...seen }), all);
};

describe("formatPlan()", () => {
  test("the usual one", () => {
    expect(
      textOf(source()),
    ).toBe(`Restore of backup 2026-11-21T03-00-00Z-4f2c1a2b, as it was 12 h ago (2026-11-21T03:00:00Z), 2.0 MB
  on deploy@app.example.com, made of shop on deploy@app.example.com
  1. back up the present "shop" first
  2. restore into a new database "shop_restore_20261121T150000"
  3. check it: 2 tables, row by row counted
  4. swap: "shop" becomes "shop_before_20261121T150000", "shop_restore_20261121T150000" becomes "shop"`);
  });

  test("after a disaster, without a live database", () => {
    expect(
      textOf(source(), {}, { live: undefined, databases: ["postgres"] }),
    ).toBe(`Restore of backup 2026-11-21T03-00-00Z-4f2c1a2b, as it was 12 h ago (2026-11-21T03:00:00Z), 2.0 MB
  on deploy@app.example.com, made of shop on deploy@app.example.com
  1. restore into a new database "shop_restore_20261121T150000"
  2. check it: 2 tables, row by row counted
  3. call it "shop"`);
  });

  test("beside the live one, of an older kind of file, after one that was cut off", () => {
    const databases = [...observed.databases, "shop_restore_20261120T100000", "shop_before_20261101T100000"];
    expect(textOf(file, { into: "look" }, { databases })).toBe(`Restore of old.sql.gz.gpg, 1.5 MB
  on deploy@app.example.com
  1. remove "shop_restore_20261120T100000", left by a restore that was cut off
  2. restore into a new database "shop_restore_20261121T150000"
  3. check that it is whole
  4. call it "look": the live database is not touched
  warning: there is no manifest: how many rows it should have, nobody knows; it is proven that the file is whole, no more`);
  });

  test("everything there is to warn of", () => {
    const migrations = ["20261101000000", "20261110000000", "20261115000000"];
    const live = { ...observed.live!, migrations, sessions: 12 };
    const replication = ['the replication slot "cdc"'];
    expect(
      textOf(
        source({ migrations: ["20261101000000", "20261105000000"] }),
        { migrations, toVersion: "20261110000000", safetyBackup: false },
        { live, replication },
      ),
    ).toBe(`Restore of backup 2026-11-21T03-00-00Z-4f2c1a2b, as it was 12 h ago (2026-11-21T03:00:00Z), 2.0 MB
  on deploy@app.example.com, made of shop on deploy@app.example.com
  1. restore into a new database "shop_restore_20261121T150000"
  2. check it: 2 tables, row by row counted
  3. apply 1 migrations: 20261110000000
  4. swap: "shop" becomes "shop_before_20261121T150000", "shop_restore_20261121T150000" becomes "shop"
  warning: the backup has migrations that this project's migrations/ lacks: 20261105000000
  warning: the live database is ahead of --to-version: 20261115000000; does the app that runs know that?
  warning: the replication slot "cdc" stays with the present database, under its other name
  warning: 12 sessions of the app are ended at the swap, and have to connect again`);
  });
});

describe("planRestore() refuses", () => {
  const refused = (from: Source, want: Partial<Wanted> = {}, seen: Partial<Observed> = {}) => {
    try {
      textOf(from, want, seen);
    } catch (error) {
      const failure = asFailure(error);
      return [failure.exitCode, formatFailure(failure)];
    }
    throw new Error("it did not refuse");
  };

  test("everything that would make pg_restore fail after an hour, at once", () => {
    const changes: Partial<Manifest> = {
      ...{ databaseBytes: 10_000_000_000, extensions: { plpgsql: "1.0", postgis: "3.5" }, roles: ["shop", "reader"] },
      ...{ server: { ...manifest().server, version: "19.1", versionNumber: 190_001 }, tables: ["accounts"] },
    };
    expect(refused(source(changes), {}, { preparedTransactions: 2 })).toEqual([
      3,
      `Cannot restore backup 2026-11-21T03-00-00Z-4f2c1a2b on deploy@app.example.com: 6 reasons
  | the backup is of PostgreSQL 19.1, the server is of 18
  | the role "reader" is missing: it is in the backup's globals.sql.gpg, see its RESTORE.txt
  | the extension "postgis" is not installed on the server
  | there are 10.0 GB free, it takes about 12.0 GB
  | it holds the tables accounts only: --into NAME, or --tables
  | 2 prepared transactions keep the present database from being renamed: select * from pg_prepared_xacts
  next: mend it, then the same command again
  read: docs/runbook/restore-refused.md`,
    ]);
  });

  test("a name that is taken", () => {
    expect(refused(source(), { into: "postgres" })).toEqual([
      2,
      `Cannot restore into "postgres": there is a database of that name already
  next: another name: --into postgres_2`,
    ]);
  });

  test.each([
    ["no such table", "reader", 'Cannot restore the table "reader": the backup has no such table'],
    ["one in several schemas", "log", 'Cannot restore the table "log": there are audit.log and Old.log'],
  ])("single tables: %s", (_, table, sentence) => {
    const rows = { "public.accounts": 12, "audit.log": 1, "Old.log": 2 };
    expect(refused(source({ rows }), { tables: ["accounts", table] })).toEqual([
      2,
      `${sentence}\n  next: the same command with --tables SCHEMA.TABLE`,
    ]);
  });

  test("no name that may be one: of a partitioned table, in one schema only, or of a backup that nobody has counted", () => {
    const rows = { "public.accounts": 12, "audit.log": 1, "audit.accounts": 2 };
    const tables = ["accounts", "public.accounts", "log", "parts"];
    expect(chooseTables(tables, [...Object.keys(rows), "audit.parts"])).toEqual([
      ...["public.accounts", "public.accounts", "audit.log", "audit.parts"],
    ]);
    textOf(source({ rows, partitioned: ["audit.parts"] }), { tables });
    textOf(source({ rows: {}, tables: ["other*"] }), { tables: ["other_1"] });
  });

  test("nothing where the disk cannot be asked", () => {
    const plan = planRestore(source({ databaseBytes: 10 ** 15 }), wanted, { ...observed, freeBytes: undefined });
    expect(plan.warnings).toEqual([]);
  });
});
