// scripts/backup.ts with real Postgres, gpg and object storage: what it makes restores with nothing of the kit, and whatever goes wrong
// on the way, nothing is listed that is no backup. backup-server.test.ts has the one over SSH.
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { createHash } from "node:crypto";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { listBackups } from "../../scripts/lib/backup-list.ts";
import { applyPrune, isAbandoned } from "../../scripts/lib/backup-prune.ts";
import type { Manifest } from "../../scripts/lib/manifest.ts";
import { planPrune } from "../../scripts/lib/retention.ts";
import { run } from "../../scripts/lib/run.ts";
import type { Store } from "../../scripts/lib/s3.ts";
import { poll } from "../../scripts/lib/wait.ts";
import { watchArgv } from "../lab/argv-watch.ts";
import { type BackupProject, createBackupProject } from "../lab/backup-project.ts";
import { killAndWait } from "../lab/processes.ts";
import { blocksOf } from "../lab/runbook.ts";
import { type Fault, type S3Proxy, startS3Proxy } from "../lab/s3-proxy.ts";

setDefaultTimeout(120_000);

let folder: string;
let lab: BackupProject;
let proxy: S3Proxy;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "dbops-backup-"));
  lab = await createBackupProject(folder);
  proxy = await startS3Proxy(lab.s3.endpoint);
  await lab.sql(content);
}, 300_000);
afterEach(() => proxy.clear());
afterAll(async () => {
  await proxy?.stop();
  for (const home of ["nobody", "owner"].map((name) => join(folder, name)).filter(existsSync)) {
    await run({ argv: ["gpgconf", "--kill", "all"], environment: { GNUPGHOME: home } });
  }
  await lab?.remove();
  rmSync(folder, { recursive: true, force: true });
});

/** Something of everything that a dump has to carry. */
const content = `
  create schema "Sales"; create schema audit;
  create type mood as enum ('sad', 'glad'); create domain positive as int check (value > 0);
  create extension citext; create extension pgcrypto;
  create table "Sales"."Orders" (id bigint generated always as identity primary key, "Total" numeric(10,2) not null,
    note text default 'x', twice numeric generated always as ("Total" * 2) stored);
  insert into "Sales"."Orders" ("Total") select n from generate_series(1, 100000) n;
  create table audit.events (at date not null, what citext, mood mood, amount positive) partition by range (at);
  create table audit.events_2025 partition of audit.events for values from ('2025-01-01') to ('2026-01-01');
  create table audit.events_2026 partition of audit.events for values from ('2026-01-01') to ('2027-01-01');
  insert into audit.events select date '2025-07-01' + n, 'E' || n, 'glad', n from generate_series(1, 300) n;
  create table "nothing in ""it""" (n int);
  create table schema_migrations (version varchar(128) primary key);
  insert into schema_migrations values ('20261101000000'), ('20261102000000');
  create view "Sales".large as select * from "Sales"."Orders" where "Total" > 50000;
  create materialized view "Sales".sums as select count(*), sum("Total") from "Sales"."Orders";
  create function audit.note() returns trigger language plpgsql as $$ begin insert into audit.events values (now(), 'noted', 'sad', 1); return new; end $$;
  create trigger note after insert on schema_migrations for each row execute function audit.note();
  alter table audit.events_2026 enable row level security; create policy mine on audit.events_2026 using (amount > 0);
  select lo_from_bytea(0, '\\xdeadbeef') from generate_series(1, 3);
  create role reader; grant usage on schema "Sales" to reader; grant select on "Sales"."Orders" to reader;
  grant connect on database dbops_app to reader; alter database dbops_app set work_mem = '8MB';
  alter role reader in database dbops_app set search_path = audit; alter database dbops_app connection limit 90;`;

const rows = {
  "Sales.Orders": 100_000,
  "audit.events_2025": 183,
  "audit.events_2026": 117,
  'public.nothing in "it"': 0,
  "public.schema_migrations": 2,
};

/** Of every table, in the database as it is now. */
async function countsOf(database: string): Promise<Record<string, number>> {
  const answer = await lab.sql(
    `select jsonb_object_agg(n.nspname || '.' || c.relname, (xpath('/row/c/text()', query_to_xml(format('select count(*) as c from %I.%I',
       n.nspname, c.relname), false, true, '')))[1]::text::int)
     from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where relkind = 'r' and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'`,
    database,
  );
  return JSON.parse(answer);
}

const traces = async (store: Store) => {
  const [objects, uploads] = await Promise.all([store.list(""), store.listUnfinished("")]);
  return [...objects.map(({ key }) => key), ...uploads.map(({ key }) => `${key}, unfinished`)];
};

async function made(words: readonly string[] = [], environment = {}): Promise<Manifest> {
  const { exitCode, stdout, stderr } = await lab.backup([...words, "--json"], environment);
  expect([exitCode, stderr], stderr).toEqual([0, expect.any(String)]);
  return JSON.parse(stdout) as Manifest;
}

/** Every file of a backup, as somebody downloads them with any S3 client. @returns the folder. */
async function downloaded(store: Store, id: string): Promise<string> {
  const directory = mkdtempSync(join(folder, "files-"));
  for (const { key } of await store.list(`dbops-app/${id}/`)) {
    const chunks: Uint8Array[] = [];
    for await (const chunk of store.get(key)) chunks.push(chunk);
    writeFileSync(join(directory, key.split("/").at(-1)!), Buffer.concat(chunks));
  }
  return directory;
}

/** The commands of RESTORE.txt, in their order. */
const commandsOf = (text: string) =>
  text
    .split("\n")
    .filter((line) => line.startsWith("     "))
    .map((line) => line.slice(5))
    .join("\n");

async function restoredByHand(directory: string, environment: Record<string, string>): Promise<string> {
  const script = commandsOf(readFileSync(join(directory, "RESTORE.txt"), "utf8"));
  const { stdout } = await run({
    ...{ argv: ["bash", "-c", `set -e\n${script}`], directory, timeoutSeconds: 100 },
    environment: { ...lab.postgres, GNUPGHOME: home("owner"), ...environment },
  });
  return stdout;
}

function home(name: string): string {
  const path = join(folder, name);
  mkdirSync(path, { recursive: true, mode: 0o700 });
  return path;
}

/** The restored one took the live one's name; and back again. */
async function backToTheFirst(): Promise<void> {
  await lab.sql("drop database dbops_app; alter database dbops_app_before rename to dbops_app", "postgres");
}

test("a backup knows what it holds, and RESTORE.txt alone brings all of it back", async () => {
  await lab.configure({ prefix: "whole" });
  const watch = await watchArgv(lab.secrets);
  const manifest = await made(["--label", "the first"]);
  const { found, seen } = await watch.stop();
  expect([found, seen.some((line) => line.includes("pg_dump --format=custom"))]).toEqual([[], true]);
  const store = await lab.store();
  const directory = await downloaded(store, manifest.id);
  expect(JSON.parse(readFileSync(join(directory, "manifest.json"), "utf8"))).toEqual(manifest);
  expect(readdirSync(directory).sort()).toEqual([
    "RESTORE.txt",
    "database.dump.gpg",
    "globals.sql.gpg",
    "manifest.json",
  ]);
  for (const { name, bytes, sha256 } of [manifest.dump, manifest.globals]) {
    const file = readFileSync(join(directory, name));
    expect([file.length, createHash("sha256").update(file).digest("hex")]).toEqual([bytes, sha256]);
  }
  const { id: _, at: __, seconds: ___, dump: ____, globals: _____, server, client, databaseBytes, ...rest } = manifest;
  expect(rest).toEqual({
    ...{ version: 1, project: "dbops-app", environment: "local", database: "dbops_app", host: "this machine" },
    ...{ label: "the first", format: "custom", rows, largeObjects: 3 },
    partitioned: ["audit.events"],
    encryption: { kind: "passphrase", program: expect.stringMatching(/^gpg \(GnuPG\) 2\./) },
    migrations: ["20261101000000", "20261102000000"],
    extensions: { citext: expect.any(String), pgcrypto: expect.any(String), plpgsql: "1.0" },
    roles: expect.arrayContaining(["reader"]),
    settings: {
      ...{ owner: "dbops_app", connectionLimit: 90, comment: null },
      grants: expect.arrayContaining(["reader CONNECT f"]),
      parameters: [
        { role: "reader", parameter: "search_path", value: "audit" },
        { role: null, parameter: "work_mem", value: "8MB" },
      ],
    },
  });
  expect([client.pgDump, server.version, server.encoding]).toEqual([
    `pg_dump (PostgreSQL) ${server.version}`,
    expect.stringMatching(/^18\./),
    "UTF8",
  ]);
  expect(databaseBytes).toBeGreaterThan(5_000_000);
  writeFileSync(join(directory, "passphrase.txt"), lab.passphrase);
  const said = await restoredByHand(directory, {});
  expect(said).toContain(`${manifest.dump.sha256}  database.dump.gpg\n`);
  expect([said.includes("readable\n"), said.includes("restored\n")]).toEqual([true, true]);
  expect([await countsOf("dbops_app"), await countsOf("dbops_app_before")]).toEqual([rows, rows]);
  expect(
    await lab.sql(`select count(*), max(id) from "Sales"."Orders"; select count(*) from pg_largeobject_metadata;
    select has_table_privilege('reader', '"Sales"."Orders"', 'select')`),
  ).toBe("100000|100000\n3\nt");
  await backToTheFirst();
});

test("list, verify, and what --json prints is one document", async () => {
  await lab.configure({ prefix: "whole" });
  const list = await lab.backup(["list"]);
  expect([list.exitCode, list.stderr]).toEqual([0, ""]);
  expect(list.stdout).toMatch(
    /^backup +made +size +holds +proven +label\n2\S+Z-[0-9a-f]{8} +[\d.]+ \w+ ago +\d\S+ kB +100302 rows +never +the first\n {2}in s3:\/\/backups\/whole\/dbops-app\n$/,
  );
  const { backups, remains, problems } = JSON.parse((await lab.backup(["list", "--json"])).stdout);
  expect([backups.length, backups[0].label, backups[0].rows, remains, problems]).toEqual([
    1,
    "the first",
    rows,
    [],
    [],
  ]);
  const verify = await lab.backup(["verify"]);
  expect(verify.stdout).toMatch(
    /^Backup 2\S+ is whole: [\d.]+ kB downloaded, decrypted and read to the end, in [\d.]+ s\n {2}next: bun scripts\/drill.ts 2/,
  );
  const id = backups[0].id as string;
  expect(JSON.parse((await lab.backup(["verify", id, "--json"])).stdout)).toEqual({
    ...{ id, verified: true, seconds: expect.any(Number) },
  });
  const plan = await lab.backup(["--plan"]);
  expect(plan.stdout).toBe(
    "Would back up the database of local into s3://backups/whole, format custom, encrypted for the passphrase. Nothing was done.\n",
  );
  const pruned = await lab.backup(["prune", "--yes", "--json"]);
  expect(JSON.parse(pruned.stdout)).toEqual({ removed: [], kept: 1, planned: [], remains: 0 });
  expect((await traces(await lab.store())).length).toBe(4);
});

test("--format plain is SQL text that RESTORE.txt brings back too", async () => {
  await lab.configure({ prefix: "plain" });
  const manifest = await made(["--format", "plain"]);
  expect([manifest.format, manifest.dump.name, manifest.rows]).toEqual(["plain", "database.sql.gz.gpg", rows]);
  expect((await lab.backup(["verify"])).exitCode).toBe(0);
  const directory = await downloaded(await lab.store(), manifest.id);
  writeFileSync(join(directory, "passphrase.txt"), lab.passphrase);
  expect(await restoredByHand(directory, {})).toContain("restored\n");
  expect(await countsOf("dbops_app")).toEqual(rows);
  await backToTheFirst();
});

test("--tables holds these, and is not taken for the latest backup", async () => {
  await lab.configure({ prefix: "tables" });
  const manifest = await made(["--tables", '"Sales"."Orders"', "--tables", "schema_migrations"]);
  expect([manifest.tables, manifest.rows]).toEqual([['"Sales"."Orders"', "schema_migrations"], {}]);
  const { stdout } = await lab.backup(["list"]);
  expect(stdout).toContain('"Sales"."Orders" schema_migrations  never');
  const latest = await lab.backup(["verify"]);
  expect([latest.exitCode, latest.stderr]).toEqual([
    2,
    `Cannot find the backup "latest": there is none\n  | the newest are:\n  | ${manifest.id}   of local\n  next: bun scripts/backup.ts list\n`,
  ]);
  expect((await lab.backup(["verify", manifest.id])).exitCode).toBe(0);
  const none = await lab.backup(["--tables", "nonesuch"]);
  expect([none.exitCode, none.stderr]).toEqual([
    1,
    expect.stringContaining("pg_dump failed: it exited with 1\n  | pg_dump: error: no matching tables were found\n"),
  ]);
  expect((await traces(await lab.store())).length).toBe(4);
});

test("for a recipient: who makes it cannot read it, who has the secret key can", async () => {
  const owner = { GNUPGHOME: home("owner") };
  const gpg = (...argv: string[]) => run({ argv: ["gpg", "--batch", ...argv], environment: owner });
  await gpg("--passphrase", "", "--quick-generate-key", "owner <owner@example.com>", "future-default");
  const { stdout: key } = await gpg("--armor", "--export", "owner@example.com");
  await lab.project.write("backup-key.asc", key);
  await lab.configure({ prefix: "recipients", recipients: ["backup-key.asc"] });
  const noPassphrase = { BACKUP_PASSPHRASE: undefined };
  const manifest = await made([], noPassphrase);
  const fingerprint = /^fpr:+([0-9A-F]+):/m.exec((await gpg("--with-colons", "--list-keys")).stdout)![1]!;
  expect(manifest.encryption).toEqual({ kind: "recipients", recipients: [fingerprint], program: expect.any(String) });
  // The same without a word in dbops.config.ts.
  await lab.configure({ prefix: "recipient" });
  const byFlag = await made(["--recipient", "backup-key.asc"], noPassphrase);
  expect(byFlag.encryption).toEqual(manifest.encryption);
  expect((await lab.backup(["verify"], { ...noPassphrase, ...owner })).exitCode).toBe(0);
  const plan = await lab.backup(["--plan", "--recipient", "a.asc", "--recipient", "b.asc"], noPassphrase);
  expect(plan.stdout).toContain("encrypted for the keys ");
  const absent = await lab.backup(["--recipient", "absent.asc"], noPassphrase);
  expect([absent.exitCode, absent.stderr]).toEqual([
    2,
    expect.stringMatching(/^Cannot encrypt for the recipients of the backup: there is no file ".*absent\.asc"$/m),
  ]);
  await lab.configure({ prefix: "recipients", recipients: ["backup-key.asc"] });
  const stranger = await lab.backup(["verify"], { ...noPassphrase, GNUPGHOME: home("nobody") });
  expect([stranger.exitCode, stranger.stderr]).toEqual([
    3,
    expect.stringMatching(
      /Backup \S+ is not proven to be whole: Cannot decrypt the backup: it is encrypted for the key [0-9A-F]+, and the keyring of this user has no secret key for it\n/,
    ),
  ]);
  expect((await lab.backup(["verify"], { ...noPassphrase, ...owner })).exitCode).toBe(0);
  const directory = await downloaded(await lab.store(), manifest.id);
  expect(await restoredByHand(directory, owner)).toContain("restored\n");
  expect(await countsOf("dbops_app")).toEqual(rows);
  await backToTheFirst();
});

test("what is missing or wrong has its own sentence and exit code, before anything is made", async () => {
  const host = new URL(lab.s3.endpoint).host;
  const said = async (words: string[], environment = {}) => {
    const { exitCode, stderr } = await lab.backup(words, environment);
    return [exitCode, stderr.replace(/^ {2}FAILED .*\n/m, "").trimEnd()];
  };
  await lab.configure({ bucket: "no-such-bucket" });
  expect(await said([])).toEqual([
    2,
    `Cannot list s3://no-such-bucket/dbops-app/: ${host} has no bucket "no-such-bucket"\n  next: create the bucket, or correct backup.bucket in dbops.config.ts, then run this again\n  read: docs/runbook/bucket-gone.md`,
  ]);
  await lab.configure({ prefix: "refused" });
  expect(await said([], { BACKUP_SECRET_ACCESS_KEY: "wrong" })).toEqual([
    2,
    "Cannot list s3://backups/refused/dbops-app/: the secret in BACKUP_SECRET_ACCESS_KEY does not belong to the key id in BACKUP_ACCESS_KEY_ID\n  next: give BACKUP_SECRET_ACCESS_KEY its right value, then run this again\n  read: docs/runbook/bucket-gone.md",
  ]);
  const missing = { BACKUP_PASSPHRASE: undefined, BACKUP_ACCESS_KEY_ID: "" };
  expect(await said([], missing)).toEqual([
    2,
    `Cannot work with backups: BACKUP_ACCESS_KEY_ID, BACKUP_PASSPHRASE are not set, neither in the environment nor in .env.tpl
  next: add them to .env.tpl, or: export BACKUP_ACCESS_KEY_ID=…
  next: the same command again
  read: docs/backup.md`,
  ]);
  expect(await said(["--database-url", lab.url.replace("@", ":secret@")])).toEqual([
    2,
    `Cannot use --database-url: it has a password in it, and everybody on this machine can read the command lines of all programs
  next: export PGPASSWORD=…
  next: --database-url postgres://USER@HOST:PORT/DATABASE      # without it`,
  ]);
  const [exitCode, text] = await said(["--database-url", lab.url, "--json"], { PGPASSWORD: "wrong" });
  expect([exitCode, text]).toEqual([1, expect.stringContaining("password authentication failed")]);
  expect(await traces(await lab.store())).toEqual([]);
});

test("a database that a URL names, with the password of the environment", async () => {
  await lab.configure({ prefix: "url" });
  const manifest = await made(["--database-url", lab.url], { PGPASSWORD: lab.postgres.PGPASSWORD });
  expect([manifest.host, manifest.environment, manifest.rows]).toEqual([
    `127.0.0.1:${lab.postgres.PGPORT}`,
    "127.0.0.1",
    rows,
  ]);
});

test("a damaged, shortened or missing object is found by verify, with exit 3; list shows what it can", async () => {
  await lab.configure({ prefix: "damaged" });
  const { id, dump, globals } = await made();
  const store = await lab.store();
  const folderKey = `dbops-app/${id}`;
  const whole = readFileSync(join(await downloaded(store, id), dump.name));
  const verified = async (change: () => Promise<unknown>) => {
    await change();
    const { exitCode, stderr } = await lab.backup(["verify"]);
    return [
      exitCode,
      stderr
        .trimEnd()
        .split("\n")
        .filter((line) => !/^ {2}(done|FAILED) /.test(line))[0],
    ];
  };
  const flipped = Buffer.from(whole);
  flipped[whole.length >> 1]! ^= 1;
  const bitFlip = await verified(() => store.put(`${folderKey}/${dump.name}`, flipped));
  // pg_restore may notice before the end is reached.
  const why = `pg_restore failed: it exited with 1|Cannot use ${folderKey}/${dump.name}: its sha256 is not the one in its manifest: bytes of it have changed since it was made`;
  expect(bitFlip).toEqual([3, expect.stringMatching(new RegExp(`^Backup ${id} is not proven to be whole: (${why})$`))]);
  expect((await lab.backup(["list"])).stdout).not.toContain("BROKEN");
  const cut = await verified(() => store.put(`${folderKey}/${dump.name}`, Buffer.from(whole.subarray(0, 1000))));
  const shorter = `database.dump.gpg has 1000 bytes, its manifest says ${dump.bytes}`;
  expect(cut).toEqual([3, `Backup ${id} is broken: ${shorter}`]);
  expect((await lab.backup(["list"])).stdout).toContain(`BROKEN: ${shorter}`);
  const gone = await verified(() => store.remove([`${folderKey}/${dump.name}`]));
  expect(gone).toEqual([3, `Backup ${id} is broken: database.dump.gpg is missing`]);
  await store.put(`${folderKey}/${dump.name}`, Buffer.from(whole));
  expect((await verified(async () => {}))[0]).toBe(0);
  const wrong = await lab.backup(["verify"], { BACKUP_PASSPHRASE: "another one" });
  expect([wrong.exitCode, wrong.stderr]).toEqual([
    3,
    expect.stringContaining(
      `Backup ${id} is not proven to be whole: Cannot decrypt the backup: the passphrase is not the one that it was encrypted with`,
    ),
  ]);
  await store.put(`${folderKey}/${globals.name}`, "x".repeat(globals.bytes));
  const [code, line] = await verified(async () => {});
  expect([code, line]).toEqual([3, expect.stringContaining(`Backup ${id} is not proven to be whole: `)]);
});

test("nobody's TRUNCATE or ALTER TABLE makes a backup whose counts are not those of its data", async () => {
  await lab.configure({ prefix: "locks" });
  await lab.sql("create table busy (n bigint); insert into busy select generate_series(1, 1000)");
  // Held open from before the snapshot: the backup waits for it, and sees what it has made.
  const holder = lab.sql(`begin; truncate busy; insert into busy select generate_series(1, 2000);
    select pg_sleep(3); commit`);
  await poll({ seconds: 10 }, async () =>
    (await lab.sql(
      "select 1 from pg_locks where relation = 'busy'::regclass and mode = 'AccessExclusiveLock' and granted",
    ))
      ? true
      : undefined,
  );
  const [during] = await Promise.all([made(), holder]);
  expect(during.rows["public.busy"]).toBe(2000);
  // Over and over: whatever moment the snapshot takes, counts and data are of the same one.
  let isOver = false;
  const busy = (async () => {
    for (let round = 1; !isOver; round++) {
      await lab.sql(`select pg_sleep(1 + random() * 3); begin; truncate busy; insert into busy select generate_series(1, ${1000 + round}); commit;
        alter table busy alter column n type ${round % 2 === 0 ? "bigint" : "numeric"}`);
    }
  })();
  const store = await lab.store();
  try {
    for (const _ of [1, 2]) {
      const { id, rows: counted, dump } = await made();
      expect(counted["public.busy"]).toBeGreaterThan(1000);
      const directory = await downloaded(store, id);
      writeFileSync(join(directory, "passphrase.txt"), lab.passphrase);
      const decrypt = `gpg --batch --pinentry-mode loopback --passphrase-file passphrase.txt --decrypt ${dump.name}`;
      const { stdout } = await run({
        argv: [
          "bash",
          "-c",
          `set -o pipefail; ${decrypt} | pg_restore --data-only --table=busy --file=- | grep -c '^[0-9]'`,
        ],
        ...{ directory, environment: { ...lab.postgres, GNUPGHOME: home("owner") } },
      });
      expect(Number(stdout)).toBe(counted["public.busy"]!);
    }
  } finally {
    isOver = true;
    await busy;
  }
  await lab.sql("drop table busy");
});

test("prune says what would go, asks, and removes that and nothing else", async () => {
  await lab.configure({ prefix: "locks", keep: { daily: 1 } });
  const store = await lab.store();
  const all = (await listBackups(store, "dbops-app")).backups.map(({ id }) => id);
  expect(all.length).toBe(3);
  const plan = await lab.backup(["prune", "--plan"]);
  expect([
    plan.exitCode,
    plan.stdout,
    plan.stderr
      .trimEnd()
      .split("\n")
      .map((line) => line.slice(0, 40)),
  ]).toEqual([
    0,
    "Nothing was removed.\n",
    [`  stays    ${all[0]}`, ...all.slice(1).map((id) => `  REMOVES  ${id}`)].map((line) => line.slice(0, 40)),
  ]);
  const unasked = await lab.backup(["prune"]);
  expect([unasked.exitCode, unasked.stderr]).toEqual([5, expect.stringContaining("--yes")]);
  expect((await traces(store)).length).toBe(12);
  const { stdout } = await lab.backup(["prune", "--yes"]);
  expect(stdout).toBe("2 backups removed, 1 stay.\n");
  expect((await traces(store)).filter((key) => key.includes(all[0]!)).length).toBe(4);
  expect((await traces(store)).length).toBe(4);
});

test("who wants a table for himself between the snapshot and pg_dump goes first, and nobody waits for long", async () => {
  await lab.configure({ prefix: "between" });
  await lab.sql("create table wanted (n int); insert into wanted values (1)");
  const bin = join(folder, "slow-bin");
  mkdirSync(bin);
  const [reached, go] = [join(bin, "reached"), join(bin, "go")];
  const real = Bun.which("pg_dump", { PATH: lab.postgres.PATH! });
  writeFileSync(
    join(bin, "pg_dump"),
    `#!/bin/sh\n[ "$1" = --version ] || { touch ${reached}; until [ -e ${go} ]; do sleep 0.05; done; }\nexec ${real} "$@"\n`,
  );
  chmodSync(join(bin, "pg_dump"), 0o755);
  const { PGPASSWORD, PATH } = lab.postgres;
  const making = made(["--database-url", lab.url], { PGPASSWORD, PATH: `${bin}:${PATH}` });
  await poll({ seconds: 30 }, async () => (existsSync(reached) ? true : undefined));
  const truncating = lab.sql("truncate wanted; insert into wanted values (1), (2)");
  const waits = "select 1 from pg_locks where relation = 'wanted'::regclass and not granted";
  expect(await poll({ seconds: 10 }, async () => (await lab.sql(waits)) || undefined)).toBe("1");
  writeFileSync(go, "");
  const [manifest] = await Promise.all([making, truncating]);
  expect(manifest.rows["public.wanted"]).toBe(2);
  expect(lab.printed()).toContain("and goes first: once more from the beginning");
  const store = await lab.store();
  expect((await traces(store)).every((key) => key.includes(manifest.id))).toBe(true);
  await lab.sql("drop table wanted");
});

/** A backup that is in the middle: its second part is taken in, and its answer does not come. */
async function startSlowly(fault: Fault = "hang") {
  proxy.hit(/^PUT .*partNumber=/, ...Array<Fault>(40).fill(fault));
  const kit = await lab.start([]);
  const reached = await poll({ seconds: 40 }, async () =>
    proxy.requests.some(({ label }) => /partNumber=2/.test(label)) ? true : undefined,
  );
  expect(reached, kit.said.stderr).toBe(true);
  return kit;
}

/** More than can wait in pipes and buffers: pg_dump is still at work while nothing is taken from it. */
const withBulk = async () => {
  if ((await lab.sql("select to_regclass('bulk') is null")) === "f") return;
  await lab.sql(`create table bulk as select gen_random_bytes(1000) as noise from generate_series(1, 60000)`);
};

test("two at once: the second says that there is another one, with exit 4; Ctrl-C leaves nothing of the first", async () => {
  await withBulk();
  await lab.configure({ prefix: "two", endpoint: proxy.url });
  const store = await lab.store();
  const first = await startSlowly();
  const second = await lab.backup([]);
  expect([second.exitCode, second.stderr.trimEnd().split("\n").slice(-2)]).toEqual([
    4,
    [
      expect.stringMatching(/^Nothing was backed up: another backup of dbops_app is being made, since 2\S+ \S+ UTC$/),
      "  next: wait for it, then the same command again",
    ],
  ]);
  process.kill(first.pid, "SIGINT");
  expect([await first.ended, first.said.stderr.trimEnd().split("\n").at(-1)]).toEqual([130, "Interrupted: by SIGINT"]);
  expect(await traces(store)).toEqual([]);
});

test("Ctrl-C is heard while the backup waits for a lock", async () => {
  await lab.configure({ prefix: "waiting" });
  const holder = lab
    .sql("begin; lock table schema_migrations in access exclusive mode; select pg_sleep(600)")
    .catch(() => {});
  const holds =
    "select pid from pg_locks where relation = 'schema_migrations'::regclass and mode = 'AccessExclusiveLock'";
  const holderPid = await poll({ seconds: 10 }, async () => (await lab.sql(holds)) || undefined);
  const kit = await lab.start([]);
  const waits = "select 1 from pg_locks where relation = 'schema_migrations'::regclass and not granted";
  expect(await poll({ seconds: 30 }, async () => (await lab.sql(waits)) || undefined)).toBe("1");
  const interrupted = performance.now();
  process.kill(kit.pid, "SIGINT");
  expect(await kit.ended).toBe(130);
  // The lock would be waited for during a minute.
  expect(performance.now() - interrupted).toBeLessThan(30_000);
  await lab.sql(`select pg_terminate_backend(${holderPid})`);
  await holder;
  expect(await traces(await lab.store())).toEqual([]);
});

test("kill -9 in the middle: nothing is listed, nothing goes on, and prune finds what is left once it is old", async () => {
  await withBulk();
  await lab.configure({ prefix: "killed", endpoint: proxy.url });
  const store = await lab.store();
  const kit = await startSlowly();
  await killAndWait(kit.pid);
  proxy.clear();
  const { backups, remains } = await listBackups(store, "dbops-app");
  const uploads = await store.listUnfinished("dbops-app/");
  expect([backups, remains.map(({ keys }) => keys.map((key) => key.split("/")[2])), uploads.length]).toEqual([
    [],
    [["globals.sql.gpg"]],
    1,
  ]);
  const { stdout } = await lab.backup(["list"]);
  expect(stdout).toContain("There is no backup in s3://backups/killed/dbops-app\n");
  const dumps =
    "select count(*) from pg_stat_activity where application_name in ('pg_dump', 'psql') and datname = 'dbops_app' and pid <> pg_backend_pid()";
  expect(await poll({ seconds: 40 }, async () => ((await lab.sql(dumps)) === "0" ? true : undefined))).toBe(true);
  const early = await lab.backup(["prune", "--yes", "--json"]);
  expect(JSON.parse(early.stdout)).toEqual({ removed: [], kept: 0, planned: [], remains: 0 });
  const tomorrow = new Date(Date.now() + 25 * 3_600_000);
  const plan = planPrune(backups, remains, { days: 1 }, tomorrow);
  await applyPrune(
    store,
    plan,
    uploads.filter(({ begun }) => isAbandoned(begun, tomorrow)),
  );
  expect(await traces(store)).toEqual([]);
});

/** A minimal container has no pkill. */
const killDump = `for process in /proc/[0-9]*; do
  case "$(tr '\\0' ' ' <"$process/cmdline" | cut -d ' ' -f 1)" in pg_dump | */pg_dump) kill "\${process#/proc/}" ;; esac
done`;

test.each([
  [
    "pg_dump",
    (): Promise<unknown> => lab.project.docker(["exec", lab.project.container("postgres"), "sh", "-c", killDump]),
  ],
  [
    "its session",
    () => lab.sql("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'pg_dump'"),
  ],
])("%s killed in the middle: exit 1, a sentence that names pg_dump, and nothing is left", async (_, kill) => {
  await withBulk();
  await lab.configure({ prefix: "dump-killed", endpoint: proxy.url });
  // Not for ever: what pg_dump has written before is taken from it first, and then its end is seen.
  const kit = await startSlowly({ answerAfterSeconds: 2 });
  await kill();
  expect([await kit.ended, kit.said.stderr]).toEqual([
    1,
    expect.stringMatching(/^pg_dump failed: it exited with \d+$/m),
  ]);
  proxy.clear();
  expect(await traces(await lab.store())).toEqual([]);
});

test("the page for a lost passphrase, as it stands", async () => {
  const page = "lost-passphrase";
  await lab.configure({ prefix: "whole" });
  const store = await lab.store();
  const { backups } = await listBackups(store, "dbops-app");
  const directory = await downloaded(store, backups[0]!.id);
  const follow = async (section: string, where: string, environment = {}) => {
    const script = (await blocksOf(page, section)).join("\n");
    return await run({
      ...{ argv: ["bash", "-c", script], directory: where, accept: [0, 1, 2], timeoutSeconds: 100 },
      environment: { ...lab.environment, GNUPGHOME: home("owner"), ...environment },
    });
  };
  writeFileSync(join(directory, "passphrase.txt"), "not this one");
  const wrong = await follow("Diagnosis", directory);
  expect([wrong.stdout, wrong.stderr]).toEqual([
    expect.stringContaining('"kind": "passphrase"'),
    expect.stringMatching(/bad decryption|Bad session key/i),
  ]);
  expect(wrong.stdout).not.toContain("it opens");
  writeFileSync(join(directory, "passphrase.txt"), lab.passphrase);
  expect((await follow("Diagnosis", directory)).stdout).toContain("it opens\n");
  await follow("Mitigation", lab.project.directory);
  expect((await follow("Verify", lab.project.directory)).stdout).toBe("readable\n");
});

test("no secret in anything that was printed or lies in the bucket unencrypted", async () => {
  expect(lab.printed().length).toBeGreaterThan(2000);
  const texts = [lab.printed()];
  await lab.configure();
  const store = await lab.store();
  for (const { key } of (await store.list("")).filter(({ key }) => /\.(json|txt)$/.test(key)))
    texts.push(await store.getText(key));
  expect(texts.length).toBeGreaterThan(10);
  for (const secret of lab.secrets) expect(texts.filter((text) => text.includes(secret))).toEqual([]);
});

test("Postgres itself has noticed nothing of it all", async () => {
  const { stdout } = await lab.project.compose(["logs", "postgres"]);
  // Where it makes the first database, it may notice the end of the server that did so.
  const since = stdout.replace(/[\s\S]*init process complete[\s\S]*?ready to accept connections/, "");
  expect(since.length).toBeGreaterThan(1000);
  expect(since).not.toMatch(/untracked child|recovery|terminating any other/);
});
