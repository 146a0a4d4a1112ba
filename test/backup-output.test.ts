// What people read of backups: the lines of scripts/backup.ts, RESTORE.txt whole, and what is missing before any of it.
import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { formatList, formatMade } from "../scripts/backup.ts";
import { formatPrune, isAbandoned } from "../scripts/lib/backup-prune.ts";
import {
  backupSettings,
  openBackup,
  readBackupValues,
  readBucketValues,
  readReadingValues,
} from "../scripts/lib/backup-values.ts";
import { parseConfig } from "../scripts/lib/config.ts";
import { asFailure, formatFailure } from "../scripts/lib/failure.ts";
import { restoreInstructions } from "../scripts/lib/restore-instructions.ts";
import { planPrune } from "../scripts/lib/retention.ts";
import { backupAt, idAt, manifestAt, proofAt } from "./lab/backup-samples.ts";

const now = new Date("2026-11-21T12:00:00Z");
const where = "s3://backups/shop";

test("what was made", () => {
  const manifest = manifestAt("2026-11-21T03:00:00Z");
  expect(
    formatMade(manifest, where),
  ).toBe(`Backup 2026-11-21T03-00-00Z-4f2c1a2b: 2.0 MB of 12.0 MB, 42 rows in 2 tables, after 12.3 s
  in s3://backups/shop/2026-11-21T03-00-00Z-4f2c1a2b
  next: bun scripts/backup.ts verify      # downloads it and reads it to its end`);
});

test("what was made of single tables", () => {
  const manifest = manifestAt("2026-11-21T03:00:00Z", { tables: ["accounts", '"Sales".*'], rows: {} });
  expect(formatMade(manifest, where)).toContain('2.0 MB of 12.0 MB, only accounts, "Sales".*, after 12.3 s\n');
});

test("the list", () => {
  const backups = [
    backupAt("2026-11-21T11:00:00Z", { broken: "database.dump.gpg is missing" }, { label: "by hand" }),
    backupAt("2026-11-21T03:00:00Z", { proofs: [proofAt("2026-11-21T09:00:00Z"), proofAt("2026-11-21T04:00:00Z")] }),
    backupAt("2026-11-20T03:00:00Z", { proofs: [proofAt("2026-11-20T12:00:00Z", { by: "restore", equal: false })] }),
    backupAt("2026-11-01T03:00:00Z", {}, { tables: ["accounts", "sessions"] }),
  ];
  const folder = `shop/${idAt("2026-11-19T03:00:00Z")}`;
  const remains = [{ folder, keys: [], bytes: 1_500, newest: now }];
  expect(formatList({ backups, remains, unreadable: [], problems: [] }, where, now)).toBe(
    `backup                         made         size    holds              proven                                label
2026-11-21T11-00-00Z-4f2c1a2b  60 min ago   2.0 MB  42 rows            BROKEN: database.dump.gpg is missing  by hand
2026-11-21T03-00-00Z-4f2c1a2b  9 h ago      2.0 MB  42 rows            drill 3 h ago
2026-11-20T03-00-00Z-4f2c1a2b  33 h ago     2.0 MB  42 rows            restore FAILED 24 h ago
2026-11-01T03-00-00Z-4f2c1a2b  20 days ago  2.0 MB  accounts sessions  never
  in s3://backups/shop
  no backup: shop/2026-11-19T03-00-00Z-4f2c1a2b, 1.5 kB, without a manifest`,
  );
});

test("the list of none, also where something lies there that is none", () => {
  const none = "There is no backup in s3://backups/shop\n  next: bun scripts/backup.ts --on production";
  expect(formatList({ backups: [], remains: [], unreadable: [], problems: [] }, where, now)).toBe(none);
  const remains = [{ folder: `shop/${idAt("2026-11-19T03:00:00Z")}`, keys: [], bytes: 1_500, newest: now }];
  expect(formatList({ backups: [], remains, unreadable: [], problems: [] }, where, now)).toBe(
    `${none}\n  no backup: shop/2026-11-19T03-00-00Z-4f2c1a2b, 1.5 kB, without a manifest`,
  );
});

test("the plan of a prune", () => {
  const backups = [
    backupAt("2026-11-21T03:00:00Z"),
    backupAt("2026-11-20T03:00:00Z"),
    backupAt("2026-11-19T03:00:00Z"),
  ];
  const folder = `shop/${idAt("2026-11-18T03:00:00Z")}`;
  const remains = [{ folder, keys: [], bytes: 1_500, newest: new Date(0) }];
  const plan = planPrune(backups, remains, { days: 2 }, now);
  const key = `shop/${idAt("2026-11-17T03:00:00Z")}/database.dump.gpg`;
  expect(formatPrune(plan, [{ key, uploadId: "1", begun: new Date(0) }], now)).toBe(
    `  stays    2026-11-21T03-00-00Z-4f2c1a2b  9 h ago  newest, days
  stays    2026-11-20T03-00-00Z-4f2c1a2b  33 h ago  days
  REMOVES  2026-11-19T03-00-00Z-4f2c1a2b  2 days ago  2.0 MB
  REMOVES  shop/2026-11-18T03-00-00Z-4f2c1a2b  no backup: without a manifest, 1.5 kB
  REMOVES  shop/2026-11-17T03-00-00Z-4f2c1a2b/database.dump.gpg  an upload that was never finished`,
  );
});

test("an upload is given up after 24 hours, and not before", () => {
  expect([24, 24.001].map((hours) => isAbandoned(new Date(now.getTime() - hours * 3_600_000), now))).toEqual([
    false,
    true,
  ]);
});

const known = { dump: "database.dump.gpg", globals: "globals.sql.gpg", passphraseFrom: "SHOP_PASSPHRASE" };

test("RESTORE.txt, with a passphrase", () => {
  expect(
    restoreInstructions({ ...manifestAt("2026-11-21T03:00:00Z"), ...known }),
  ).toBe(`Backup 2026-11-21T03-00-00Z-4f2c1a2b of the database "shop", as it was at 2026-11-21T03:00:00Z

The passphrase is SHOP_PASSPHRASE of the project's secrets. Write it into passphrase.txt, without a line break at its end
(printf %s 'the passphrase' > passphrase.txt), and delete that file afterwards.

Type all of it into one bash, after this line: without it nobody would hear of a gpg that stops half-way.
     set -o pipefail

1. Is it whole? manifest.json has the sha256 of each file.
     sha256sum database.dump.gpg
2. Is it readable? Reads all of it, and writes nothing.
     gpg --batch --pinentry-mode loopback --passphrase-file passphrase.txt --decrypt database.dump.gpg | pg_restore --file=/dev/null && echo readable
3. Roles, on a new server only, because it also gives them the passwords of then; "already exists" is no problem.
     gpg --batch --pinentry-mode loopback --passphrase-file passphrase.txt --decrypt globals.sql.gpg | psql --dbname=postgres
4. Into a new database, never into the live one (PostgreSQL 18 or newer, and its own programs):
     createdb --template=template0 --encoding=UTF8 --owner=shop shop_restored
     gpg --batch --pinentry-mode loopback --passphrase-file passphrase.txt --decrypt database.dump.gpg | pg_restore --exit-on-error --single-transaction --dbname=shop_restored && echo restored
5. Look at it: the numbers of rows stand in manifest.json, and under "settings" what belongs to the database itself (ALTER DATABASE … SET,
   grants on it), which you have to set again. Then let the app use it:
     psql --dbname=postgres --command='alter database "shop" rename to "shop_before"' \\
       --command='alter database "shop_restored" rename to "shop"'

With the kit: bun scripts/restore.ts 2026-11-21T03-00-00Z-4f2c1a2b
In the stack's container: docker compose exec -T postgres sh -c 'pg_restore …', with --username="$POSTGRES_USER"; docs/runbook/restore-by-hand.md
`);
});

test("RESTORE.txt, for keys, as SQL text, of single tables", () => {
  const text = restoreInstructions({
    ...manifestAt("2026-11-21T03:00:00Z", { format: "plain", tables: ["a", "b"] }),
    encryption: { kind: "recipients", recipients: ["AA11", "BB22"], program: "gpg (GnuPG) 2.4.7" },
    ...{ ...known, dump: "database.sql.gz.gpg" },
  });
  expect(text).toContain("as it was at 2026-11-21T03:00:00Z; only the tables a, b\n");
  expect(text).toContain("The private key of one of these has to be in your keyring: AA11, BB22\n");
  expect(text).toContain("     gpg --decrypt database.sql.gz.gpg | gunzip > /dev/null && echo readable\n");
  expect(text).toContain(
    "     gpg --decrypt database.sql.gz.gpg | gunzip | psql --single-transaction --set=ON_ERROR_STOP=1 --dbname=shop_restored && echo restored\n",
  );
  expect(text).not.toContain("passphrase");
});

const settingsWith = (backup?: object) =>
  parseConfig({
    ...{ name: "shop", database: "shop", app: { command: ["bun"], port: 3000 } },
    ...{ schema: { criticalTables: [], extensions: [] }, environments: { local: {} }, secrets: { provider: "env" } },
    ...(backup && { backup: { bucket: "backups", ...backup } }),
  });

let directory: string;
const own = { ...process.env };
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "dbops-values-"));
  for (const name of Object.keys(process.env).filter((it) => it.startsWith("BACKUP_"))) delete process.env[name];
});
afterEach(() => {
  for (const name of Object.keys(process.env)) if (!(name in own)) delete process.env[name];
  Object.assign(process.env, own);
  rmSync(directory, { recursive: true, force: true });
});

async function refusal(work: () => unknown): Promise<[string, number]> {
  try {
    await work();
  } catch (error) {
    const failure = asFailure(error);
    return [formatFailure(failure), failure.exitCode];
  }
  throw new Error("it was not refused");
}

test("no backup in dbops.config.ts", async () => {
  expect(await refusal(() => backupSettings(settingsWith()))).toEqual([
    `Cannot tell where backups go: dbops.config.ts has no backup
  next: add   backup: { bucket: "…", endpoint: "https://…", region: "…" },   to dbops.config.ts
  read: docs/backup.md`,
    2,
  ]);
});

test("every missing value is named at once, as the settings call it", async () => {
  expect(await refusal(() => readBackupValues(settingsWith({ passphraseFrom: "SHOP_PASSPHRASE" }), directory))).toEqual(
    [
      `Cannot work with backups: BACKUP_ACCESS_KEY_ID, BACKUP_SECRET_ACCESS_KEY, SHOP_PASSPHRASE are not set, neither in the environment nor in .env.tpl
  next: add them to .env.tpl, or: export BACKUP_ACCESS_KEY_ID=…
  next: the same command again
  read: docs/backup.md`,
      2,
    ],
  );
  Object.assign(process.env, { BACKUP_ACCESS_KEY_ID: "id", BACKUP_SECRET_ACCESS_KEY: "" });
  expect((await refusal(() => readBackupValues(settingsWith({ recipients: ["key.asc"] }), directory)))[0]).toStartWith(
    "Cannot work with backups: BACKUP_SECRET_ACCESS_KEY is not set, neither in the environment nor in .env.tpl\n",
  );
});

test("from the environment, the rest from .env.tpl; recipients need no passphrase, and one that is there opens older backups", async () => {
  Object.assign(process.env, { BACKUP_ACCESS_KEY_ID: "id", VAULT_KEY: "the-secret-key", VAULT_PASS: "correct horse" });
  writeFileSync(
    join(directory, ".env.tpl"),
    "BACKUP_ACCESS_KEY_ID=not-this\nBACKUP_SECRET_ACCESS_KEY=secret://VAULT_KEY\nBACKUP_PASSPHRASE=secret://VAULT_PASS\nOTHER=secret://NOT_THERE\n",
  );
  const locked = await readBackupValues(settingsWith({}), directory);
  expect(locked).toMatchObject({
    credentials: { accessKeyId: "id", secretAccessKey: "the-secret-key" },
    lock: { kind: "passphrase", passphrase: "correct horse" },
    passphrase: "correct horse",
    pingUrl: undefined,
  });
  expect(locked.secrets).toContain("the-secret-key");
  expect(openBackup({ encryption: { kind: "passphrase", program: "gpg" } }, locked)).toEqual(locked.lock);
  const forKeys = await readBackupValues(settingsWith({ recipients: ["keys/a.asc", "b.asc"] }), directory);
  expect([forKeys.lock, forKeys.passphrase]).toEqual([
    { kind: "recipients", files: [join(directory, "keys/a.asc"), join(directory, "b.asc")] },
    "correct horse",
  ]);
  const forFlag = await readBackupValues(settingsWith({ recipients: ["a.asc"] }), directory, ["keys/b.asc", "/c.asc"]);
  expect(forFlag.lock).toEqual({ kind: "recipients", files: [join(directory, "keys/b.asc"), "/c.asc"] });
});

test("to look into the bucket, nobody asks for the passphrase, nor for anything else but its key", async () => {
  writeFileSync(
    join(directory, ".env.tpl"),
    "BACKUP_ACCESS_KEY_ID=id\nBACKUP_SECRET_ACCESS_KEY=the-secret-key\nBACKUP_PASSPHRASE=secret://NOT_FOR_YOU\nMONITOR=secret://NOR_THIS\n",
  );
  const settings = settingsWith({ pingFrom: "MONITOR" });
  expect(await readBucketValues(settings, directory)).toEqual({
    credentials: { accessKeyId: "id", secretAccessKey: "the-secret-key" },
    secrets: expect.arrayContaining(["the-secret-key"]),
  });
  expect(await refusal(() => readBackupValues(settings, directory))).toEqual([
    expect.stringContaining("NOT_FOR_YOU"),
    expect.any(Number),
  ]);
});

test("a backup that was made with a passphrase, where there is none any more", async () => {
  Object.assign(process.env, { BACKUP_ACCESS_KEY_ID: "id", BACKUP_SECRET_ACCESS_KEY: "key" });
  const values = await readReadingValues(settingsWith({ passphraseFrom: "SHOP_PASSPHRASE" }), directory);
  expect(await refusal(() => openBackup({ encryption: { kind: "passphrase", program: "gpg" } }, values))).toEqual([
    `Cannot open the backup: it was encrypted with a passphrase, and SHOP_PASSPHRASE is set neither in the environment nor in .env.tpl
  next: export SHOP_PASSPHRASE=…
  read: docs/backup.md`,
    2,
  ]);
  expect(openBackup({ encryption: { kind: "recipients", program: "gpg" } }, values)).toEqual({
    kind: "recipients",
    files: [],
  });
});
