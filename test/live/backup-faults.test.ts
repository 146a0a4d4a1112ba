// What kills backups, for real, at a random byte of the dump: pg_dump, gpg, the kit itself, the storage, a clock. Afterwards the data is what
// it was, nothing is listed that cannot be restored, nothing lies there that `prune` would not name, and the last sentence says what it was.
// The seed is printed; DBOPS_SEED=… repeats a run. What goes wrong on the way to a server is in backup-server.test.ts.
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { listBackups } from "../../scripts/lib/backup-list.ts";
import { applyPrune, isAbandoned } from "../../scripts/lib/backup-prune.ts";
import type { Manifest } from "../../scripts/lib/manifest.ts";
import { planPrune } from "../../scripts/lib/retention.ts";
import type { Store } from "../../scripts/lib/s3.ts";
import { poll } from "../../scripts/lib/wait.ts";
import { type BackupProject, createBackupProject, type Started } from "../lab/backup-project.ts";
import { argvOf, childrenOf } from "../lab/processes.ts";
import { randomFrom } from "../lab/random.ts";
import { type Fault, type S3Proxy, startS3Proxy } from "../lab/s3-proxy.ts";

setDefaultTimeout(120_000);

const mebibyte = 2 ** 20;
const partBytes = 8 * mebibyte;
const random = randomFrom("backup-faults");

let folder: string;
let lab: BackupProject;
let proxy: S3Proxy;
let store: Store;
let before: string;
let prefixes = 0;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "dbops-faults-"));
  lab = await createBackupProject(folder);
  proxy = await startS3Proxy(lab.s3.endpoint);
  // More than can wait in pipes and buffers: pg_dump is still at work when the last of the bytes below comes by.
  await lab.sql(`create extension pgcrypto; create table bulk as select n, gen_random_bytes(1000) as noise from generate_series(1, 45000) n;
    create table accounts (id bigint generated always as identity primary key, email text);
    insert into accounts (email) select 'a' || n from generate_series(1, 1000) n;
    create table schema_migrations (version varchar(128) primary key); insert into schema_migrations values ('20261101000000');`);
  await freshPrefix();
  before = await fingerprint();
}, 300_000);
afterEach(() => proxy.clear());
afterAll(async () => {
  await proxy?.stop();
  await lab?.remove();
  rmSync(folder, { recursive: true, force: true });
});

/** Of its own: a storage that is overloaded may carry out a request long after it was given up, and sent again. */
async function freshPrefix(): Promise<void> {
  prefixes += 1;
  await lab.configure({ prefix: `faults-${prefixes}`, endpoint: proxy.url });
  store = await lab.store();
}

const fingerprint = () =>
  lab.sql(`select count(*), sum(n), md5(string_agg(md5(noise), '' order by n)) from bulk;
    select count(*), md5(string_agg(email, ',' order by id)), max(id) from accounts; select last_value from accounts_id_seq;
    select string_agg(version, ',') from schema_migrations; select count(*) from pg_class where relnamespace = 'public'::regnamespace`);

/** Of the dump's bytes, early enough that the rest of it still has to be read. */
const someByte = () => random.below(15_000_000);

/** @param goOn lets the upload go on. */
type Strike = (kit: Started, goOn: () => void) => Promise<unknown>;

/** Stops the upload in the middle, at that byte, and does something to the one who makes it; what he says and how he ends. */
async function struck(byte: number, strike: Strike) {
  let reached = () => {};
  const isThere = new Promise<void>((resolve) => {
    reached = resolve;
  });
  let free = () => {};
  const isOver = new Promise<void>((resolve) => {
    free = resolve;
  });
  const work = () => {
    reached();
    return isOver;
  };
  proxy.hit(new RegExp(`^PUT .*partNumber=${1 + Math.floor(byte / partBytes)}&`), { atByte: byte % partBytes, work });
  const kit = await lab.start([]);
  const early = kit.ended.then((code) => {
    throw new Error(`it ended with ${code} before byte ${byte}: ${kit.said.stderr}`);
  });
  early.catch(() => {});
  try {
    await Promise.race([isThere, early]);
    await strike(kit, free);
    // The storage may still hang: whose fault it was must be told all the same.
    return { exitCode: await kit.ended, last: lastOf(kit.said.stderr) };
  } finally {
    free();
    proxy.clear();
  }
}

/** Its last sentence, without steps, notes and the lines below it. */
const lastOf = (stderr: string) =>
  stderr
    .trimEnd()
    .split("\n")
    .filter((line) => !/^ {2}/.test(line))
    .at(-1);

/** What lies in the bucket now: backups, folders without a manifest, uploads that were begun. */
async function found() {
  const [{ backups, remains, problems }, unfinished] = await Promise.all([
    listBackups(store, "dbops-app"),
    store.listUnfinished("dbops-app/"),
  ]);
  expect(problems).toEqual([]);
  return { backups, remains, unfinished };
}

const nothing = { backups: [], remains: [], unfinished: [] };

/** A minimal container has no pkill. */
const killDump = `for process in /proc/[0-9]*; do
  case "$(tr '\\0' ' ' <"$process/cmdline" | cut -d ' ' -f 1)" in pg_dump | */pg_dump) kill -KILL "\${process#/proc/}" ;; esac
done`;

const gpgOf = (kit: Started) => childrenOf(kit.pid).filter((pid) => argvOf(pid)[0] === "gpg");

// What has died in the container is known only when all has been taken that it wrote before: `docker exec` ends no sooner.
const victims: [who: string, strike: Strike, exitCode: number, sentence: string][] = [
  [
    "pg_dump",
    (_, goOn) => lab.project.docker(["exec", lab.project.container("postgres"), "sh", "-c", killDump]).finally(goOn),
    1,
    "pg_dump failed: it exited with 137",
  ],
  [
    "pg_dump's session",
    (_, goOn) =>
      lab
        .sql("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'pg_dump'")
        .finally(goOn),
    1,
    "pg_dump failed: it exited with 1",
  ],
  [
    "gpg",
    async (kit) => {
      const pids = gpgOf(kit);
      expect(pids).toHaveLength(1);
      for (const pid of pids) process.kill(pid, "SIGKILL");
    },
    1,
    "gpg failed: it was ended by SIGKILL",
  ],
  ["the kit, by Ctrl-C", async (kit) => process.kill(kit.pid, "SIGINT"), 130, "Interrupted: by SIGINT"],
];

test.each(victims.flatMap((victim) => [victim, victim].map((each) => [someByte(), ...each] as const)))(
  "at byte %d the end of %s",
  async (byte, _, strike, exitCode, sentence) => {
    await freshPrefix();
    expect(await struck(byte, strike)).toEqual({ exitCode, last: sentence });
    expect([await found(), await fingerprint()]).toEqual([nothing, before]);
  },
);

test.each([[someByte()], [someByte()]])(
  "at byte %d the end of the kit, by SIGKILL: prune names all that is left",
  async (byte) => {
    await freshPrefix();
    const { exitCode } = await struck(byte, async (kit) => process.kill(kit.pid, "SIGKILL"));
    expect(exitCode).toBe("SIGKILL");
    const { backups, remains, unfinished } = await found();
    expect([backups, remains.length, unfinished.length, await fingerprint()]).toEqual([[], 1, 1, before]);
    const tomorrow = new Date(Date.now() + 25 * 3_600_000);
    const old = unfinished.filter(({ begun }) => isAbandoned(begun, tomorrow));
    await applyPrune(store, planPrune(backups, remains, { days: 1 }, tomorrow), old);
    expect(await found()).toEqual(nothing);
  },
);

/** Exit 0, and read to its end again. */
async function whole(words: readonly string[] = [], environment = {}): Promise<Manifest> {
  const { exitCode, stdout, stderr } = await lab.backup([...words, "--json"], environment);
  expect(exitCode, stderr).toBe(0);
  const verified = await lab.backup(["verify"], environment);
  expect(verified.exitCode, verified.stderr).toBe(0);
  return JSON.parse(stdout) as Manifest;
}

const part = (number: number) => new RegExp(`^PUT .*partNumber=${number}&`);

test("a storage that fails, drags, breaks the connection, damages and forgets, and each time only for a while: a whole backup", async () => {
  await freshPrefix();
  const plan: [RegExp, Fault][] = [
    [part(1), { status: 500, code: "InternalError" }],
    [part(2), { resetAfter: random.below(partBytes) }],
    [part(3), { answerAfterSeconds: 1 }],
    [part(4), "damage"],
    [part(5), "lose the answer"],
    [/^POST .*uploadId/, "lose the answer"],
    [/^PUT .*manifest\.json/, { status: 503, code: "SlowDown" }],
    [/^GET .*database\.dump/, { cutAnswerAfter: random.below(30_000_000) + mebibyte }],
    [/^GET .*manifest\.json/, { resetAfter: 0 }],
  ];
  for (const [requests, fault] of plan) proxy.hit(requests, fault);
  const { rows } = await whole();
  expect(rows).toEqual({ "public.accounts": 1000, "public.bulk": 45_000, "public.schema_migrations": 1 });
  for (const [requests] of plan) {
    expect(proxy.requests.filter(({ label }) => requests.test(label)).length, `${requests}`).toBeGreaterThan(0);
  }
  expect(await fingerprint()).toBe(before);
});

const forbidden = `Cannot write KEY: the key in BACKUP_ACCESS_KEY_ID has no right to do that in the bucket "backups"`;

test.each<[what: string, requests: RegExp, fault: Fault, exitCode: number, sentence: string]>([
  ["takes the rights away in the middle", part(3), { status: 403, code: "AccessDenied" }, 2, forbidden],
  [
    "is full in the middle",
    part(4),
    { status: 507, code: "InsufficientCapacity" },
    3,
    'Cannot write KEY: the storage has no room left for the bucket "backups": its quota is used up, or its disks are full',
  ],
  [
    "has no such bucket any more at the end of the dump",
    /^POST .*uploadId/,
    { status: 404, code: "NoSuchBucket" },
    2,
    'Cannot write KEY: HOST has no bucket "backups"',
  ],
  ["does not take the manifest", /^PUT .*manifest\.json/, { status: 403, code: "AccessDenied" }, 2, forbidden],
])("a storage that %s: nothing is listed, nothing is left", async (_, requests, fault, exitCode, sentence) => {
  await freshPrefix();
  proxy.hit(requests, fault);
  const { exitCode: code, stderr } = await lab.backup([]);
  const key = lastOf(stderr)?.match(/s3:\/\/backups\/faults-\d+\/dbops-app\/[^/]+\/[^/: ]+/)?.[0] ?? "nothing";
  const said = lastOf(stderr)?.replace(key, "KEY").replace(new URL(proxy.url).host, "HOST");
  expect([code, said]).toEqual([exitCode, sentence]);
  expect([await found(), await fingerprint()]).toEqual([nothing, before]);
});

test("where nothing can be removed either, it says that something is left, and it is no backup; prune has its name", async () => {
  await freshPrefix();
  proxy.hit(/^PUT .*manifest\.json/, { status: 403, code: "AccessDenied" });
  proxy.hit(/^DELETE/, ...Array<Fault>(10).fill({ status: 403, code: "AccessDenied" }));
  const { exitCode, stderr } = await lab.backup([]);
  expect([exitCode, stderr]).toEqual([
    2,
    expect.stringContaining(
      `what was uploaded so far stays in s3://backups/faults-${prefixes}, and is no backup; next: bun scripts/backup.ts prune\n`,
    ),
  ]);
  proxy.clear();
  const { backups, remains } = await found();
  expect([backups.length, remains.map(({ keys }) => keys.length)]).toEqual([0, [3]]);
  const list = await lab.backup(["list"]);
  expect([list.exitCode, list.stdout]).toEqual([0, expect.stringContaining(`  no backup: ${remains[0]!.folder}, `)]);
  expect((await lab.backup(["verify"])).exitCode).toBe(2);
  expect((await lab.restore(["latest", "--into", "look"])).exitCode).toBe(2);
});

test.each([-1, 1])(
  "a machine whose clock is %d hours off: the storage refuses that once, and the backup is whole",
  async (hours) => {
    await freshPrefix();
    const preload = join(folder, "clock.js");
    writeFileSync(
      preload,
      `const now = Date.now; const off = ${hours * 3_600_000};
     globalThis.Date = class extends Date { constructor(...given) { given.length ? super(...given) : super(now() + off); }
       static now() { return now() + off; } };`,
    );
    const { at } = await whole([], { BUN_OPTIONS: `--preload=${preload}` });
    // The database's own clock.
    expect(Math.abs(Date.parse(at) - Date.now())).toBeLessThan(300_000);
    const [{ backups }] = [await found()];
    const named = Date.parse(backups[0]!.id.replace(/T(\d\d)-(\d\d)-(\d\d)Z.*/, "T$1:$2:$3Z"));
    expect(Math.abs(named - Date.now() - hours * 3_600_000)).toBeLessThan(300_000);
  },
);

test("a migration while the dump is at work: new tables and rows go on, a change of a table waits, the backup knows nothing of it", async () => {
  let altering: Promise<string> | undefined;
  const waits = "select count(*) from pg_locks where relation = 'bulk'::regclass and not granted";
  const work = async () => {
    await lab.sql(`insert into accounts (email) select 'late' from generate_series(1, 50); create table late (n int);
      insert into schema_migrations values ('20261102000000')`);
    altering = lab.sql("alter table bulk add column late int default 1");
    await poll({ seconds: 10 }, async () => ((await lab.sql(waits)) === "1" ? true : undefined));
    const hasty = lab.sql("set lock_timeout = '100ms'; alter table accounts add column late int");
    await expect(hasty).rejects.toThrow();
  };
  await freshPrefix();
  const byte = someByte();
  proxy.hit(part(1 + Math.floor(byte / partBytes)), { atByte: byte % partBytes, work });
  const { rows, migrations } = await whole();
  await altering;
  expect([rows, migrations]).toEqual([
    { "public.accounts": 1000, "public.bulk": 45_000, "public.schema_migrations": 1 },
    ["20261101000000"],
  ]);
  expect(await lab.sql("select count(*) from accounts; select count(late) from bulk")).toBe("1050\n45000");
});

test("a manifest without its dump, and a dump without its manifest, beside a good one: listed as what they are, and the good one stays", async () => {
  const [{ backups }] = [await found()];
  const good = backups[0]!;
  const copyTo = async (id: string, names: readonly string[]) => {
    for (const name of names) {
      const text = await store.getText(`${good.folder}/${name}`);
      await store.put(`dbops-app/${id}/${name}`, text.replaceAll(good.id, id));
    }
  };
  const [noDump, noManifest] = ["2099-01-02T03-04-05Z-0000000a", "2099-01-02T03-04-06Z-0000000b"];
  await copyTo(noDump, ["manifest.json", "globals.sql.gpg", "RESTORE.txt"]);
  await copyTo(noManifest, ["RESTORE.txt"]);
  const list = await lab.backup(["list"]);
  expect([list.exitCode, list.stdout.split("\n").map((line) => line.replace(/ {2,}/g, "  "))]).toEqual([
    0,
    [
      expect.stringMatching(/^backup /),
      expect.stringMatching(new RegExp(`^${noDump} .*BROKEN: database.dump.gpg is missing`)),
      expect.stringMatching(new RegExp(`^${good.id} .*never`)),
      `  in s3://backups/faults-${prefixes}/dbops-app`,
      expect.stringMatching(new RegExp(`^ {2}no backup: dbops-app/${noManifest}, .* without a manifest$`)),
      "",
    ],
  ]);
  const latest = await lab.backup(["verify"]);
  expect([latest.exitCode, lastOf(latest.stderr)]).toEqual([
    3,
    `Backup ${noDump} is broken: database.dump.gpg is missing`,
  ]);
  expect((await lab.backup(["verify", good.id])).exitCode).toBe(0);
  const unknown = await lab.backup(["verify", noManifest]);
  expect([unknown.exitCode, lastOf(unknown.stderr)]).toEqual([
    2,
    `Cannot find the backup "${noManifest}": there is none of that name`,
  ]);
  const restore = await lab.restore(["latest", "--into", "look", "--plan", "--json"]);
  expect([restore.exitCode, JSON.parse(restore.stdout).source]).toEqual([0, `backup ${good.id}`]);
  const pruned = await lab.backup(["prune", "--plan"]);
  expect([pruned.exitCode, pruned.stderr]).toEqual([0, expect.stringMatching(new RegExp(`stays +${good.id}`))]);
});

test("list and prune take the bucket's key, and neither the passphrase nor a sight of it", async () => {
  const without = { BACKUP_PASSPHRASE: undefined };
  expect((await lab.backup(["list"], without)).exitCode).toBe(0);
  expect((await lab.backup(["prune", "--plan"], without)).exitCode).toBe(0);
  const { backups } = await found();
  const good = backups.find(({ broken }) => !broken)!;
  const { exitCode, stderr } = await lab.backup(["verify", good.id], without);
  expect([exitCode, stderr]).toEqual([
    2,
    `Cannot open the backup: it was encrypted with a passphrase, and BACKUP_PASSPHRASE is set neither in the environment nor in .env.tpl
  next: export BACKUP_PASSPHRASE=…
  read: docs/backup.md
`,
  ]);
});

test("without the programs of Postgres on this machine: which package has them", async () => {
  const bin = join(folder, "few");
  mkdirSync(bin);
  const link = (name: string) => symlinkSync(Bun.which(name, { PATH: lab.environment.PATH! })!, join(bin, name));
  // The last ones are what the lab's own psql takes.
  for (const name of ["bun", "sh", "bash", "gpg", "gpgconf", "readlink", "dirname", "unshare", "mount"]) link(name);
  const few = { ...lab.postgres, PATH: bin };
  const noPsql = await lab.backup(["--database-url", lab.url], few);
  expect([noPsql.exitCode, noPsql.stderr.split("\n").slice(1)]).toEqual([
    2,
    [
      expect.stringMatching(/^Cannot reach the database of 127\.0\.0\.1:\d+: "psql" is not installed, or not on PATH$/),
      "  next: install Postgres' own programs, on Debian: apt-get install postgresql-client",
      "",
    ],
  ]);
  link("psql");
  const noDump = await lab.backup(["--database-url", lab.url], few);
  expect([noDump.exitCode, lastOf(noDump.stderr), noDump.stderr]).toEqual([
    2,
    expect.stringMatching(/^Cannot dump the database: "pg_dump" is not installed on 127\.0\.0\.1:\d+$/),
    expect.stringContaining("\n  next: apt-get install postgresql-client-18      # or: brew install postgresql@18\n"),
  ]);
  expect((await found()).remains.length).toBe(1);
});

test("Postgres has noticed nothing of it, and no session of a backup is left", async () => {
  const sessions =
    "select count(*) from pg_stat_activity where application_name in ('pg_dump', 'psql') and datname = 'dbops_app' and pid <> pg_backend_pid()";
  expect(await poll({ seconds: 40 }, async () => ((await lab.sql(sessions)) === "0" ? true : undefined))).toBe(true);
  const { stdout } = await lab.project.compose(["logs", "postgres"]);
  const since = stdout.replace(/[\s\S]*init process complete[\s\S]*?ready to accept connections/, "");
  expect(since).not.toMatch(/untracked child|recovery|terminating any other/);
  for (const secret of lab.secrets) expect(lab.printed()).not.toContain(secret);
});
