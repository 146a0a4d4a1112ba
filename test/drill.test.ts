// scripts/drill.ts: what is planned, what of the roles is restored, what counts as a difference, and what people read.
import { expect, test } from "bun:test";
import { formatList } from "../scripts/backup.ts";
import type { Backup } from "../scripts/lib/backup-list.ts";
import { parseConfig } from "../scripts/lib/config.ts";
import { compareSettings, otherExtensions } from "../scripts/lib/drill-compare.ts";
import { globalsScript, superuserOf } from "../scripts/lib/drill-globals.ts";
import { asJson, formatDrilled, whyNotGood } from "../scripts/lib/drill-output.ts";
import {
  type DrillPlan,
  formatPlan,
  majorOf,
  type Observed,
  planDrill,
  type Stack,
  type Wanted,
} from "../scripts/lib/drill-plan.ts";
import type { Drilled } from "../scripts/lib/drill-run.ts";
import { newsOf } from "../scripts/lib/drill-tell.ts";
import { exitCodes, Failure, formatFailure } from "../scripts/lib/failure.ts";
import type { Manifest } from "../scripts/lib/manifest.ts";
import { NotAsItShouldBe } from "../scripts/lib/restore-prove.ts";
import { backupAt, manifestAt, proofAt } from "./lab/backup-samples.ts";

const now = new Date("2026-11-21T12:00:00Z");
const stack: Stack = { postgres: "postgres:18-alpine", migrations: "ghcr.io/amacneil/dbmate:2.36.0" };
const wanted = (changes: Partial<Wanted> = {}): Wanted => ({
  ...{
    which: "latest",
    environment: "production",
    image: undefined,
    maximumAgeHours: 26,
    where: "s3://backups/shop",
    now,
  },
  ...changes,
});
const observed = (backups: Backup[], changes: Partial<Observed> = {}): Observed => ({
  listing: { backups, remains: [], unreadable: [], problems: [] },
  ...{ stack, migrations: ["20261101000000"], leftovers: [] },
  ...changes,
});
const at = (time: string, manifest: Partial<Manifest> = {}, changes: Partial<Backup> = {}) =>
  backupAt(time, changes, manifest);
const morning = "2026-11-21T03:00:00Z";

function refusal(work: () => unknown): Failure {
  try {
    work();
  } catch (error) {
    return error as Failure;
  }
  throw new Error("nothing was refused");
}

test("the plan, whole", () => {
  const plan = planDrill(
    wanted(),
    observed([at(morning)], { migrations: ["20261101000000", "20261120000000"], leftovers: ["dbops-drill-shop-1"] }),
  );
  expect(
    formatPlan(plan, wanted()),
  ).toBe(`Drill of backup 2026-11-21T03-00-00Z-4f2c1a2b, as it was 9 h ago (2026-11-21T03:00:00Z), 2.0 MB
  in s3://backups/shop, made of shop on deploy@app.example.com
  1. remove the container dbops-drill-shop-1, left by a drill that was cut off
  2. start postgres:18-alpine in a container without a network; it takes about 14.4 MB of disk
  3. restore into it: the roles, then the database
  4. compare it with the manifest: 2 tables, row by row counted
  5. apply 1 migration: 20261120000000
  6. check with the validator that the app can work with it
  7. remove the container, and write down beside the backup what was found`);
  const { backup: _, ...rest } = plan;
  expect(rest).toEqual({
    ...{ image: "postgres:18-alpine", command: [], leftovers: ["dbops-drill-shop-1"] },
    ...{ pending: ["20261120000000"], neededBytes: 14_400_000, tooOld: undefined, warnings: [] },
  });
});

const chosen: { name: string; backups: Backup[]; which?: string; id: string }[] = [
  { name: "the newest", backups: [at(morning), at("2026-11-20T03:00:00Z")], id: "2026-11-21T03-00-00Z-4f2c1a2b" },
  {
    name: "neither one of single tables, nor what a restore has replaced",
    backups: [
      at("2026-11-21T05:00:00Z", { tables: ["accounts"] }),
      at("2026-11-21T04:00:00Z", { label: "before-restore" }),
      at(morning),
    ],
    id: "2026-11-21T03-00-00Z-4f2c1a2b",
  },
  {
    name: "the one that is named",
    backups: [at(morning), at("2026-11-20T03:00:00Z")],
    which: "2026-11-20T03-00-00Z",
    id: "2026-11-20T03-00-00Z-4f2c1a2b",
  },
];
test.each(chosen)("latest and names: $name", ({ backups, which = "latest", id }) => {
  expect(planDrill(wanted({ which }), observed(backups)).backup.id).toBe(id);
});

type Refused = { name: string; backups: Backup[]; which: string; text: string; exitCode: number };
const refused: Refused[] = [
  {
    name: "there is none",
    backups: [at(morning, { tables: ["accounts"] })],
    which: "latest",
    text: `There is no backup to drill: s3://backups/shop has none of the whole database of production
  next: bun scripts/backup.ts list
  next: bun scripts/backup.ts --on production
  read: docs/drill.md`,
    exitCode: exitCodes.saidNo,
  },
  {
    name: "the newest is broken, whatever older ones are",
    backups: [at(morning, {}, { broken: "globals.sql.gpg is missing" }), at("2026-11-20T03:00:00Z")],
    which: "latest",
    text: "Backup 2026-11-21T03-00-00Z-4f2c1a2b is broken: globals.sql.gpg is missing\n  next: bun scripts/backup.ts list",
    exitCode: exitCodes.saidNo,
  },
  {
    name: "single tables are named",
    backups: [at(morning, { tables: ["accounts", "sessions"] })],
    which: "2026-11-21T03",
    text: `Cannot drill 2026-11-21T03-00-00Z-4f2c1a2b: it holds accounts, sessions only, and nobody has counted their rows
  next: bun scripts/drill.ts latest`,
    exitCode: exitCodes.usage,
  },
];
test.each(refused)("refused: $name", ({ backups, which, text, exitCode }) => {
  const failure = refusal(() => planDrill(wanted({ which }), observed(backups)));
  expect([formatFailure(failure), failure.exitCode as number]).toEqual([text, exitCode]);
});

test("only the latest can be too old, and by the hour", () => {
  const tooOld = (time: string, which = "latest") => planDrill(wanted({ which }), observed([at(time)])).tooOld;
  expect(tooOld("2026-11-20T10:00:00Z")).toBeUndefined();
  expect(tooOld("2026-11-20T09:59:00Z")).toBe("the newest backup is 26 h old, and backup.maximumAgeHours is 26");
  expect(tooOld("2026-11-18T12:00:00Z", "2026-11-18T12-00-00Z-4f2c1a2b")).toBeUndefined();
});

const images: { name: string; stack: Stack; asked?: string; image: string; warnings: number }[] = [
  { name: "compose.yaml's", stack, image: "postgres:18-alpine", warnings: 0 },
  { name: "the official one without compose.yaml", stack: {}, image: "postgres:18-alpine", warnings: 0 },
  {
    name: "of the backup's version",
    stack: { postgres: "postgres:19-alpine" },
    image: "postgres:18-alpine",
    warnings: 1,
  },
  {
    name: "one with extensions",
    stack: { postgres: "pgvector/pgvector:0.8.1-pg18" },
    image: "pgvector/pgvector:0.8.1-pg18",
    warnings: 0,
  },
  {
    name: "one that does not say its version",
    stack: { postgres: "ghcr.io/me/db:3" },
    image: "ghcr.io/me/db:3",
    warnings: 0,
  },
  { name: "the one that is asked for", stack, asked: "me/db:1", image: "me/db:1", warnings: 0 },
];
test.each(images)("the image: $name", ({ stack, asked, image, warnings }) => {
  const plan = planDrill(wanted({ image: asked }), observed([at(morning)], { stack }));
  expect([plan.image, plan.warnings.length]).toEqual([image, warnings]);
});

test.each([
  ["postgres:18-alpine", 18],
  ["postgres:17.6", 17],
  ["docker.io/library/postgres:18.1-alpine3.23", 18],
  [`host:5000/postgres:16@sha256:${"a".repeat(64)}`, 16],
  ["postgis/postgis:18-3.6", 18],
  ["pgvector/pgvector:pg18-trixie", 18],
  ["timescale/timescaledb:2.17.2-pg17", 17],
  ["postgres:alpine", undefined],
  ["postgres", undefined],
  ["me/db:18", undefined],
] as const)("majorOf(%p) is %p", (image, major) => {
  expect(majorOf(image)).toBe(major as number);
});

test("the first superuser: who owns everything without a record of it, else the only one, else postgres", () => {
  const owned = { settings: manifestAt(morning).settings };
  const alter = (name: string) => `ALTER ROLE ${name} WITH SUPERUSER INHERIT LOGIN;`;
  expect(superuserOf({ ...owned, roles: ["reader"] }, alter("admin"))).toBe("shop");
  expect(
    superuserOf({ ...owned, roles: ["shop"] }, `ALTER ROLE shop WITH NOSUPERUSER;\n${alter('"The ""Admin"')}`),
  ).toBe('The "Admin');
  expect(superuserOf({ ...owned, roles: ["shop"] }, `${alter("one")}\n${alter("two")}`)).toBe("postgres");
});

test("of the roles the first superuser is left out, with its password; tablespaces lie beside the rest", () => {
  const text = `SET client_encoding = 'UTF8';
CREATE ROLE reader;
ALTER ROLE reader WITH NOSUPERUSER INHERIT NOCREATEROLE NOCREATEDB NOLOGIN NOREPLICATION NOBYPASSRLS;
CREATE ROLE shop;
ALTER ROLE shop WITH SUPERUSER INHERIT LOGIN PASSWORD 'SCRAM-SHA-256$4096:x';
CREATE ROLE shopkeeper;
ALTER ROLE shop SET work_mem TO '5MB';
GRANT reader TO shopkeeper WITH INHERIT TRUE GRANTED BY shop;
CREATE TABLESPACE quick OWNER shop LOCATION '/mnt/it''s here';
GRANT ALL ON TABLESPACE quick TO reader;
`;
  expect(globalsScript(text, "shop")).toBe(`set allow_in_place_tablespaces = on;
SET client_encoding = 'UTF8';
CREATE ROLE reader;
ALTER ROLE reader WITH NOSUPERUSER INHERIT NOCREATEROLE NOCREATEDB NOLOGIN NOREPLICATION NOBYPASSRLS;
CREATE ROLE shopkeeper;
ALTER ROLE shop SET work_mem TO '5MB';
GRANT reader TO shopkeeper WITH INHERIT TRUE GRANTED BY shop;
CREATE TABLESPACE quick OWNER shop LOCATION '';
GRANT ALL ON TABLESPACE quick TO reader;
`);
  expect(globalsScript('CREATE ROLE "Odd Owner";\nALTER ROLE "Odd Owner" WITH LOGIN;\n', "Odd Owner")).toBe(
    "set allow_in_place_tablespaces = on;\n",
  );
});

test("what belongs to the database itself is compared word by word", () => {
  const settings = {
    ...{ owner: "shop", connectionLimit: 77, comment: "ours", grants: ["PUBLIC CONNECT f", "reader CONNECT t"] },
    parameters: [
      { role: null, parameter: "work_mem", value: "8MB" },
      { role: "reader", parameter: "statement_timeout", value: "11s" },
    ],
  };
  const manifest = manifestAt(morning, { settings, migrations: ["1", "2"], extensions: { citext: "1.6", gone: "1" } });
  expect(compareSettings(manifest, manifest)).toEqual([]);
  const found = structuredClone(manifest);
  found.server.collate = "en_US.utf8";
  found.settings = {
    ...settings,
    owner: "x",
    connectionLimit: -1,
    comment: null,
    grants: ["PUBLIC CONNECT f", "y CONNECT f"],
    parameters: [settings.parameters[0]!],
  };
  found.migrations = ["1"];
  found.extensions = { citext: "1.7" };
  expect(compareSettings(manifest, found)).toEqual([
    "collate: en_US.utf8 instead of C.UTF-8",
    "owner of the database: x instead of shop",
    "comment on the database: none instead of ours",
    "connection limit: -1 instead of 77",
    "grant on the database reader CONNECT t: missing",
    "grant on the database y CONNECT f: not in the original",
    "setting of reader: statement_timeout = 11s: missing",
    "migration 2: missing",
  ]);
  expect(otherExtensions(manifest, found)).toEqual(["the extension citext is 1.7 here, and was 1.6"]);
});

const good: Drilled = {
  ...{
    equal: true,
    rowsEqual: true,
    problems: [],
    warnings: ["of the roles Postgres did not accept: x"],
    rows: 42,
    tables: 2,
  },
  ...{ migrated: 1, bytes: 2_000_500, restoreSeconds: 3.21 },
};
const planOf = (time = morning): DrillPlan => planDrill(wanted(), observed([at(time)]));

test("a good end: what is printed, for people and programs", () => {
  const plan = planOf();
  expect(whyNotGood(plan, good)).toBeUndefined();
  expect(
    formatDrilled(plan, good, now),
  ).toBe(`Backup 2026-11-21T03-00-00Z-4f2c1a2b restores: 42 rows in 2 tables, equal to its manifest, usable after 3.2 s (2.0 MB, postgres:18-alpine)
  it holds the data of 9 h ago (2026-11-21T03:00:00Z)
  1 migration applied, as a restore would
  warning: of the roles Postgres did not accept: x`);
  expect(asJson(plan, good, now)).toEqual({
    ...{
      backup: plan.backup.id,
      at: morning,
      ageHours: 9,
      tooOld: false,
      image: "postgres:18-alpine",
      equal: true,
      rowsEqual: true,
    },
    ...{
      problems: [],
      warnings: good.warnings,
      rows: 42,
      tables: 2,
      migrated: 1,
      bytes: 2_000_500,
      restoreSeconds: 3.21,
    },
  });
});

const production = { server: "deploy@x.example.com", directory: "/opt/shop", domain: "x.example.com", image: "x/shop" };
const settings = parseConfig({
  ...{ name: "shop", database: "shop", app: { command: ["bun"], port: 3000 }, environments: { local: {}, production } },
  schema: { criticalTables: [], extensions: [] },
});

test("a bad end: one sentence with the evidence, which people are sent where it holds no data of the app", () => {
  const plan = planOf();
  const lines = ["public.accounts: 11 rows instead of 12", "public.x: missing"];
  const different = new NotAsItShouldBe("What was restored is not what was backed up", "2 differences", lines);
  const failed = { ...good, equal: false, rowsEqual: false, problems: lines, finding: different };
  const failure = whyNotGood(plan, failed)!;
  expect(
    formatFailure(failure),
  ).toBe(`Backup 2026-11-21T03-00-00Z-4f2c1a2b cannot be relied on: What was restored is not what was backed up: 2 differences
  | public.accounts: 11 rows instead of 12
  | public.x: missing
  next: bun scripts/backup.ts --on production      # a new one, then drill that
  read: docs/drill.md`);
  expect(failure.exitCode).toBe(exitCodes.saidNo);
  expect(newsOf({ plan, drilled: failed, failure }, settings)).toEqual({
    ...{ what: "drill", project: "shop", environment: "production", outcome: "failed", summary: failure.message },
    details: lines.join("\n"),
  });
  const refused = new Failure("pg_restore failed", "it exited with 1", [], {
    ...{ exitCode: exitCodes.saidNo, details: "DETAIL: Key (email)=(jane@example.com) already exists." },
  });
  const drilled = { ...good, equal: false, rowsEqual: false, problems: [refused.message], finding: refused };
  const news = newsOf({ plan, drilled, failure: whyNotGood(plan, drilled)! }, settings);
  expect(news.details).toBeUndefined();
});

test("where only the app or a migration would stop it, nobody is told to distrust the backup", () => {
  const finding = new Failure("Cannot apply migrations/1_x.sql", "syntax error", [], {
    ...{ exitCode: exitCodes.saidNo, read: "docs/runbook/migration-failed.md" },
  });
  const failure = whyNotGood(planOf(), { ...good, equal: false, problems: [finding.message], finding })!;
  expect(formatFailure(failure)).toBe(
    `Backup 2026-11-21T03-00-00Z-4f2c1a2b is whole, and a restore of it would stop: Cannot apply migrations/1_x.sql: syntax error
  read: docs/runbook/migration-failed.md`,
  );
});

test("a good one that is too old is no good end either", () => {
  const plan = planOf("2026-11-18T12:00:00Z");
  const failure = whyNotGood(plan, good)!;
  expect([formatFailure(failure), failure.exitCode]).toEqual([
    `Nobody makes backups any more: the newest backup is 3 days old, and backup.maximumAgeHours is 26
  next: bun scripts/backup.ts --on production
  next: bun scripts/backup.ts list      # when did they stop?
  read: docs/drill.md`,
    exitCodes.saidNo,
  ]);
  expect(newsOf({ plan, drilled: good, failure }, settings).outcome).toBe("failed");
});

test("interrupted is neither; and what failed before there was a plan is told of too", () => {
  const interrupted = new Failure("Interrupted", "by SIGINT", [], { exitCode: exitCodes.interrupted });
  expect(newsOf({ plan: planOf(), failure: interrupted }, settings).outcome).toBe("interrupted");
  const noDocker = new Failure("Cannot drill", "docker is not installed");
  expect(newsOf({ failure: noDocker }, settings)).toEqual({
    ...{ what: "drill", project: "shop", environment: "production", outcome: "failed", summary: noDocker.message },
  });
});

test("list has how long it took", () => {
  const proofs = [proofAt("2026-11-21T09:00:00Z", { restoreSeconds: 83.4 })];
  const listing = { backups: [at(morning, {}, { proofs })], remains: [], unreadable: [], problems: [] };
  expect(formatList(listing, "s3://backups/shop", now).split("\n")[1]).toBe(
    "2026-11-21T03-00-00Z-4f2c1a2b  9 h ago  2.0 MB  42 rows  drill 3 h ago, in 83 s",
  );
});
