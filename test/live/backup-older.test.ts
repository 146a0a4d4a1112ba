// The older pipeline and the kit, through the same faults, side by side: what each notices, what it leaves, what comes back. The table in
// docs/backup.md is this test's, cell by cell.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Store } from "../../scripts/lib/s3.ts";
import { poll } from "../../scripts/lib/wait.ts";
import { type BackupProject, createBackupProject } from "../lab/backup-project.ts";
import { type OlderPipeline, openOlderPipeline } from "../lab/older-pipeline.ts";
import { repository } from "../lab/repository.ts";
import { type S3Proxy, startS3Proxy } from "../lab/s3-proxy.ts";

setDefaultTimeout(300_000);

let folder: string;
let lab: BackupProject;
let proxy: S3Proxy;
let older: OlderPipeline;
/** Where the older one puts its object. */
let store: Store;
let original: string;
let kits = 0;
const olderKey = "app.sql.gz.gpg";
const urlAt = (endpoint: string, bucket = "backups") => `${endpoint}/${bucket}/older/${olderKey}`;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "dbops-older-"));
  lab = await createBackupProject(folder);
  proxy = await startS3Proxy(lab.s3.endpoint);
  // The validator wants the first three.
  await lab.sql(`create table accounts (id int); create table sessions (id int); create table audit_log (id int);
    create table people as select n as id, 'person' || n as name from generate_series(1, 1000) n;
    create table orders as select n as id, md5(n::text) as text from generate_series(1, 60000) n`);
  await lab.configure({ prefix: "older" });
  store = await lab.store();
  const { accessKeyId, secretAccessKey } = lab.s3;
  const bucket = { BUCKET_KEY: `${accessKeyId}:${secretAccessKey}`, URL: urlAt(lab.s3.endpoint) };
  older = await openOlderPipeline(folder, { ...lab.postgres, PGDATABASE: "dbops_app", ...bucket }, lab.passphrase);
  original = await content("dbops_app");
}, 300_000);
afterAll(async () => {
  await older?.close();
  await proxy?.stop();
  await lab?.remove();
  rmSync(folder, { recursive: true, force: true });
});

/** Numbers of rows and a hash of them; nothing of a table that is not there. */
async function content(database: string): Promise<string> {
  const there = await lab.sql(
    "select string_agg(relname, ' ' order by relname) from pg_class where relname in ('people', 'orders') and relkind = 'r'",
    database,
  );
  const each = (name: string) => `select count(*), md5(string_agg(${name}::text, ',' order by id)) from ${name};`;
  return there === "" ? "" : await lab.sql(there.split(" ").map(each).join("\n"), database);
}

/** What is in a database that was restored, in the words of the table. */
async function outcome(database: string): Promise<string> {
  const found = await content(database);
  if (found === original) return "all rows";
  return found === "" ? "nothing in it" : "rows missing or wrong";
}

type Cells = { backup: string; restore: string };

/** Into an empty database. */
async function olderRestored(changes = {}): Promise<string> {
  await lab.sql("drop database if exists restored; create database restored", "postgres");
  const code = await older.restore("restored", changes);
  return `exit ${code}, ${await outcome("restored")}`;
}

async function throughOlder(changes = {}, damage?: (whole: Buffer) => Buffer, atRestore = {}): Promise<Cells> {
  await store.remove([olderKey]);
  const code = await older.backup(changes);
  const isThere = (await store.list(olderKey)).length > 0;
  const backup = `exit ${code}, ${isThere ? "a file in the bucket" : "no file"}`;
  if (!isThere) return { backup, restore: "" };
  await damaged(store, olderKey, damage);
  return { backup, restore: await olderRestored(atRestore) };
}

async function throughKit(
  environment = {},
  damage?: (whole: Buffer) => Buffer,
  atRestore = {},
  { url = lab.url, bucket = {} } = {},
): Promise<Cells> {
  kits += 1;
  await lab.configure({ prefix: `kit-${kits}`, endpoint: proxy.url, ...bucket });
  const { exitCode } = await lab.backup(["--database-url", url], { ...lab.postgres, ...environment });
  const mine = "bucket" in bucket ? undefined : await lab.store();
  const keys = (await mine?.list(""))?.map(({ key }) => key) ?? [];
  const backup = `exit ${exitCode}, ${keys.length > 0 ? "a backup" : "no backup"}`;
  const dump = keys.find((key) => key.endsWith("database.dump.gpg"));
  if (!mine || !dump) return { backup, restore: "" };
  await damaged(mine, dump, damage);
  const name = `kit_${kits}`;
  const restored = await lab.restore([dump.split("/")[1]!, "--into", name], atRestore);
  const isThere = await lab.sql(`select count(*) from pg_database where datname = '${name}'`, "postgres");
  return {
    backup,
    restore: `exit ${restored.exitCode}, ${isThere === "1" ? await outcome(name) : "no database"}`,
  };
}

async function damaged(where: Store, key: string, damage: ((whole: Buffer) => Buffer) | undefined): Promise<void> {
  if (!damage) return;
  const chunks: Uint8Array[] = [];
  for await (const chunk of where.get(key)) chunks.push(chunk);
  await where.put(key, damage(Buffer.concat(chunks)));
}

/** PATH with another pg_dump in front: the real one, killed once so many bytes of it have come. */
function withDyingDump(bytes: number): { PATH: string } {
  const bin = join(folder, "dying");
  mkdirSync(bin, { recursive: true });
  const real = Bun.which("pg_dump", { PATH: lab.postgres.PATH! });
  writeFileSync(
    join(bin, "pg_dump"),
    `#!/bin/bash
[ "$1" = --version ] && exec ${real} "$@"
( echo $BASHPID > ${bin}/pid; exec ${real} "$@" ) | { head --bytes=${bytes}; kill -KILL "$(cat ${bin}/pid)"; }
exit "\${PIPESTATUS[0]}"
`,
  );
  chmodSync(join(bin, "pg_dump"), 0o755);
  return { PATH: `${bin}:${lab.postgres.PATH}` };
}

/** PATH with a pg_dump in front during which a migration comes: once it has begun to write. */
function withPausingDump(): { environment: { PATH: string }; reached: () => Promise<unknown>; goOn: () => void } {
  const bin = mkdtempSync(join(folder, "pausing-"));
  const real = Bun.which("pg_dump", { PATH: lab.postgres.PATH! });
  writeFileSync(
    join(bin, "pg_dump"),
    `#!/bin/bash
[ "$1" = --version ] && exec ${real} "$@"
${real} "$@" | { head --bytes=100000; touch ${bin}/reached; until [ -e ${bin}/go ]; do sleep 0.05; done; cat; }
exit "\${PIPESTATUS[0]}"
`,
  );
  chmodSync(join(bin, "pg_dump"), 0o755);
  return {
    environment: { PATH: `${bin}:${lab.postgres.PATH}` },
    reached: () => poll({ seconds: 60 }, async () => (readIfThere(join(bin, "reached")) === "" ? true : undefined)),
    goOn: () => writeFileSync(join(bin, "go"), ""),
  };
}

function readIfThere(file: string): string | undefined {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return undefined;
  }
}

/** A migration in the middle of a dump; its change of a table has to wait for the end of it. */
async function withMigration(through: (environment: { PATH: string }) => Promise<Cells>): Promise<Cells> {
  const { environment, reached, goOn } = withPausingDump();
  const cells = through(environment);
  await reached();
  await lab.sql("create table late (id int); insert into orders select n, 'late' from generate_series(60001, 60100) n");
  const altering = lab.sql("alter table orders add column late int; alter table orders drop column late");
  const waits = "select 1 from pg_locks where relation = 'orders'::regclass and not granted";
  expect(await poll({ seconds: 20 }, async () => (await lab.sql(waits)) || undefined)).toBe("1");
  goOn();
  await altering;
  const result = await cells;
  await lab.sql("drop table late; delete from orders where id > 60000");
  return result;
}

const half = (whole: Buffer) => whole.subarray(0, whole.length >> 1);
const flipped = (whole: Buffer) => {
  const changed = Buffer.from(whole);
  changed[whole.length >> 1]! ^= 1;
  return changed;
};
const empty = () => Buffer.alloc(0);

/** These two would be in each other's way. */
const duringMigration = "a migration during the dump";

const faults: { what: string; older: () => Promise<Cells>; kit: () => Promise<Cells> }[] = [
  { what: "none", older: () => throughOlder(), kit: () => throughKit() },
  {
    what: "`pg_dump` is killed midway",
    older: () => throughOlder(withDyingDump(1_500_020)),
    kit: () => throughKit(withDyingDump(500_000)),
  },
  {
    what: "the database's name is misspelt",
    older: () => throughOlder({ PGDATABASE: "dbops_ap" }),
    kit: () => throughKit({}, undefined, {}, { url: lab.url.replace(/dbops_app$/, "dbops_ap") }),
  },
  {
    what: "the disk for the file is full",
    older: () => throughOlder({ DISK: join(folder, "disk"), FILE: join(folder, "disk/backup.sql.gz.gpg") }),
    kit: () => throughKit(),
  },
  {
    what: "the upload breaks off",
    older: async () => {
      proxy.hit(/^PUT .*older/, { resetAfter: 100_000 });
      return await throughOlder({ URL: urlAt(proxy.url) });
    },
    kit: async () => {
      proxy.hit(/^PUT .*database\.dump/, { resetAfter: 100_000 });
      return await throughKit();
    },
  },
  {
    what: "the bucket is gone",
    older: () => throughOlder({ URL: urlAt(lab.s3.endpoint, "no-such-bucket") }),
    kit: () => throughKit({}, undefined, {}, { bucket: { bucket: "no-such-bucket" } }),
  },
  {
    what: duringMigration,
    older: () => withMigration(throughOlder),
    kit: () => withMigration(throughKit),
  },
  { what: "half of the object is lost later", older: () => throughOlder({}, half), kit: () => throughKit({}, half) },
  { what: "one bit of it flips", older: () => throughOlder({}, flipped), kit: () => throughKit({}, flipped) },
  { what: "an empty object is in its place", older: () => throughOlder({}, empty), kit: () => throughKit({}, empty) },
  {
    what: "the passphrase is another one",
    older: () => throughOlder({}, undefined, { PASSPHRASE: "another" }),
    kit: () => throughKit({}, undefined, { BACKUP_PASSPHRASE: "another" }),
  },
];

/** What nobody hears of: an exit 0, and not all rows. */
const marked = (cell: string) => (/^exit 0, (?!all rows|a backup|no file)/.test(cell) ? `**${cell}**` : cell);

test("side by side: what each notices is what docs/backup.md says", async () => {
  const rows: string[] = [];
  for (const { what, older: throughThat, kit } of faults) {
    const [that, ours] =
      what === duringMigration ? [await throughThat(), await kit()] : await Promise.all([throughThat(), kit()]);
    const lost = /rows missing|nothing in it/.test(that.restore);
    const cells = [lost ? marked(that.backup) : that.backup, marked(that.restore), ours.backup, ours.restore];
    rows.push(`| ${[what, ...cells.map((cell) => cell || "–")].join(" | ")} |`);
    // Whatever happens, the kit never says that all is well where it is not.
    expect(ours.restore, what).not.toMatch(/exit 0, (?!all rows)/);
  }
  const page = readFileSync(join(repository, "docs/backup.md"), "utf8");
  const section = page.split("## Beside the older pipeline\n")[1]!.split("\n## ")[0]!;
  const shown = section.split("\n").filter((line) => line.startsWith("| ") && !line.startsWith("| ---"));
  expect(shown.slice(1).join("\n")).toBe(rows.join("\n"));
  expect(await content("dbops_app")).toBe(original);
});
