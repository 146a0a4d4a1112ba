// scripts/drill.ts with a real backup in a real S3 server, and a real container to restore it into: what is equal, what is not, and
// what is left when it is cut off.
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { GetObjectCommand, PutObjectCommand } from "@aws-sdk/client-s3";
import { listBackups } from "../../scripts/lib/backup-list.ts";
import type { Manifest, Proof } from "../../scripts/lib/manifest.ts";
import { planPrune } from "../../scripts/lib/retention.ts";
import { type Result, run, start } from "../../scripts/lib/run.ts";
import { watchArgv } from "../lab/argv-watch.ts";
import { type BackupProject, createBackupProject } from "../lab/backup-project.ts";
import { type Op, startOp } from "../lab/op.ts";
import { programs } from "../lab/repository.ts";
import { type Sink, startSink } from "../lab/sink.ts";
import { type Job, startJob } from "../lab/workflow.ts";

setDefaultTimeout(120_000);

let folder: string;
let lab: BackupProject;
let sink: Sink;
/** The backup that most tests drill. */
let good: Manifest;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "dbops-drill-"));
  [lab, sink] = await Promise.all([createBackupProject(folder), startSink()]);
  await lab.project.compose(["run", "--rm", "migrations"]);
  await lab.sql(content);
  await configure({});
  good = await backUp();
}, 300_000);
afterEach(async () => {
  sink.clear();
  expect(await containers()).toEqual([]);
});
afterAll(async () => {
  for (const home of ["nobody", "owner"].map((name) => join(folder, name))) {
    await run({ argv: ["gpgconf", "--kill", "all"], environment: { GNUPGHOME: home }, accept: [0, 1, 2] });
  }
  await Promise.all([lab?.remove(), sink?.stop()]);
  rmSync(folder, { recursive: true, force: true });
});

/** Of everything that needs more than its rows to come back: owners, roles in roles, tablespaces, grants, settings. */
const content = `
  create role reader nologin; create role "Odd Owner" login password 'secret of a role'; grant reader to "Odd Owner";
  alter role reader set work_mem = '6MB'; alter role dbops_app set log_statement = 'none';
  create extension pg_trgm; create schema "Other Schema"; create extension citext with schema "Other Schema";
  create table "Other Schema".big as select g as id, md5(g::text)::"Other Schema".citext as text from generate_series(1, 50000) g;
  create index on "Other Schema".big using gin ((text::text) gin_trgm_ops);
  create table owned (id int generated always as identity, note text); alter table owned owner to "Odd Owner";
  insert into owned (note) select 'note ' || g from generate_series(1, 10) g; grant select on owned to reader;
  set allow_in_place_tablespaces = on; create tablespace quick location '';
  create table elsewhere (id int) tablespace quick; insert into elsewhere select generate_series(1, 3);
  create table parts (at date not null) partition by range (at);
  create table parts_1 partition of parts for values from ('2026-01-01') to ('2026-02-01'); insert into parts values ('2026-01-05');
  select lo_from_bytea(0, 'a large object');
  alter database dbops_app set search_path = "$user", public, "Other Schema"; alter database dbops_app connection limit 77;
  alter role reader in database dbops_app set statement_timeout = '11s'; comment on database dbops_app is 'ours';
  grant connect on database dbops_app to reader with grant option; revoke temporary on database dbops_app from public; analyze;`;

async function configure(backup: Parameters<BackupProject["configure"]>[0]): Promise<void> {
  // Without production, whose latest backup would be meant.
  await lab.configure(backup, { local: {} });
  const file = readFileSync(join(lab.project.directory, "dbops.config.ts"), "utf8");
  const told = `  notifications: [{ kind: "webhook", urlFrom: "WEBHOOK_URL" }],\n  backup:`;
  await lab.project.write("dbops.config.ts", file.replace("  backup:", told));
}

async function backUp(words: readonly string[] = [], environment = {}): Promise<Manifest> {
  const { exitCode, stdout, stderr } = await lab.backup(["now", "--json", ...words], {
    ...environment,
    WEBHOOK_URL: sink.url,
  });
  expect([exitCode, exitCode === 0 ? "" : stderr]).toEqual([0, ""]);
  sink.clear();
  return JSON.parse(stdout);
}

const verb = (words: readonly string[], environment: Record<string, string | undefined> = {}) => ({
  argv: [process.execPath, "scripts/drill.ts", ...words],
  directory: lab.project.directory,
  environment: { ...lab.environment, WEBHOOK_URL: `${sink.url}/drill`, ...environment },
});

const drill = (words: readonly string[] = [], environment = {}): Promise<Result> =>
  run({ ...verb(words, environment), accept: [0, 1, 2, 3, 130], timeoutSeconds: 100 });

/** Of this test's drills, running or not. */
async function containers(): Promise<string[]> {
  const words = ["ps", "--all", "--filter", "label=dbops.drill=dbops-app", "--format", "{{.Names}}"];
  return (await lab.project.docker(words)).stdout.split("\n").filter(Boolean);
}

async function news(): Promise<Record<string, unknown>> {
  const [request] = await sink.received(1);
  return JSON.parse(request!.body);
}

const backups = async () => (await listBackups(await lab.store(), "dbops-app")).backups;
const proofsOf = async (id: string): Promise<Proof[]> => (await backups()).find((backup) => backup.id === id)!.proofs;

async function object(key: string): Promise<Buffer> {
  const client = lab.s3.client();
  const { Body } = await client.send(new GetObjectCommand({ Bucket: "backups", Key: key }));
  const bytes = Buffer.from(await Body!.transformToByteArray());
  client.destroy();
  return bytes;
}

async function put(key: string, body: Buffer): Promise<void> {
  const client = lab.s3.client();
  await client.send(new PutObjectCommand({ Bucket: "backups", Key: key, Body: body }));
  client.destroy();
}

/** A backup like the good one, with a manifest or a dump that is not, as the only one below the prefix. */
async function spoiled(prefix: string, change: (manifest: Manifest) => void, bytes = (dump: Buffer) => dump) {
  const manifest = structuredClone(good);
  change(manifest);
  for (const name of [good.dump.name, good.globals.name]) {
    const whole = await object(`dbops-app/${good.id}/${name}`);
    await put(`${prefix}/dbops-app/${good.id}/${name}`, name === good.dump.name ? bytes(whole) : whole);
  }
  await put(`${prefix}/dbops-app/${good.id}/manifest.json`, Buffer.from(JSON.stringify(manifest)));
  await configure({ prefix });
}

test("the latest is restored, compared and measured; list shows it, prune keeps it, and no secret is in a command line", async () => {
  const watch = await watchArgv(lab.secrets);
  const { exitCode, stdout, stderr } = await drill(["--json"]);
  const { found, rounds } = await watch.stop();
  expect([exitCode, exitCode === 0 ? "" : stderr]).toEqual([0, ""]);
  expect([found, rounds > 3]).toEqual([[], true]);
  const result = JSON.parse(stdout);
  const rows = Object.values(good.rows).reduce((sum, count) => sum + count, 0);
  const bytes = good.dump.bytes + good.globals.bytes;
  expect(result).toEqual({
    ...{ backup: good.id, at: good.at, ageHours: expect.any(Number), tooOld: false, image: "postgres:18-alpine" },
    ...{
      equal: true,
      rowsEqual: true,
      problems: [],
      warnings: [],
      rows,
      tables: Object.keys(good.rows).length,
      migrated: 0,
      bytes,
    },
    restoreSeconds: expect.any(Number),
  });
  expect(await proofsOf(good.id)).toEqual([
    {
      ...{ version: 1, at: expect.any(String), by: "drill", equal: true, problems: [], bytes },
      restoreSeconds: result.restoreSeconds,
    },
  ]);
  expect(await news()).toEqual({
    ...{ what: "drill", project: "dbops-app", environment: "local", outcome: "done", seconds: expect.any(Number) },
    summary: expect.stringMatching(
      /^Backup \S+ restores: 5\d+ rows in \d+ tables, equal to its manifest, usable after /,
    ),
  });
  const list = await lab.backup(["list"]);
  expect(list.stdout).toMatch(/ {2}drill [\d.]+ s ago, in [\d.]+ s( |\n)/);
  const later = await backUp(["--format", "plain"]);
  const { kept } = planPrune(await backups(), [], { days: 1 }, new Date());
  const keptBecause = Object.fromEntries(kept.map(({ backup, reasons }) => [backup.id, reasons]));
  expect([keptBecause[good.id], keptBecause[later.id]]).toEqual([
    ["proven", "days"],
    ["newest", "days"],
  ]);
  expect(stderr).toContain("done   validate");
});

test("--plan says what it would do, and does nothing", async () => {
  const { exitCode, stdout } = await drill([good.id, "--plan"]);
  expect(exitCode).toBe(0);
  expect(stdout).toMatch(
    new RegExp(`^Drill of backup ${good.id}, as it was .* ago \\(.*\\), [\\d.]+ MB
  in s3://backups/dbops-app, made of dbops_app on this machine
  1. start postgres:18-alpine in a container without a network; it takes about [\\d.]+ MB of disk
  2. restore into it: the roles, then the database
  3. compare it with the manifest: 8 tables, row by row counted
  4. check with the validator that the app can work with it
  5. remove the container, and write down beside the backup what was found
$`),
  );
  expect(sink.requests).toEqual([]);
});

test("two at once are in nobody's way: the latest, which is SQL text, and another", async () => {
  const before = (await proofsOf(good.id)).length;
  const both = await Promise.all([drill(), drill([good.id])]);
  expect(both.map(({ exitCode, stderr }) => [exitCode, exitCode === 0 ? "" : stderr])).toEqual([
    [0, ""],
    [0, ""],
  ]);
  const proofs = (await backups()).map(({ id, proofs }) => [id === good.id, proofs.length]);
  expect(proofs).toEqual([
    [false, 1],
    [true, before + 1],
  ]);
});

test("another number of rows than its manifest says: 3, everybody hears of it, and list shows it", async () => {
  await spoiled("lies", (manifest) => {
    manifest.rows["public.accounts"] = 7;
    manifest.rows["public.gone"] = 5;
  });
  const { exitCode, stdout, stderr } = await drill(["--json"]);
  const problems = ["public.accounts: 0 rows instead of 7", "public.gone: missing"];
  expect(exitCode).toBe(3);
  const why = "What was restored is not what was backed up: 2 differences";
  expect(JSON.parse(stdout)).toMatchObject({ backup: good.id, equal: false, problems, why });
  const summary = `Backup ${good.id} cannot be relied on: ${why}`;
  expect(stderr).toEndWith(`${summary}
  | ${problems.join("\n  | ")}
  next: bun scripts/backup.ts --on production      # a new one, then drill that
  read: docs/drill.md
`);
  expect(await news()).toMatchObject({ outcome: "failed", summary, details: problems.join("\n") });
  expect(await proofsOf(good.id)).toMatchObject([{ by: "drill", equal: false, problems }]);
  expect((await lab.backup(["list"])).stdout).toMatch(/ {2}drill FAILED [\d.]+ s ago/);
});

test("a flipped bit: 3, and nobody takes the backup for a good one any more", async () => {
  await spoiled(
    "flipped",
    () => {},
    (dump) => {
      dump[dump.length >> 1]! ^= 1;
      return dump;
    },
  );
  const { exitCode, stdout, stderr } = await drill();
  expect([exitCode, stdout]).toEqual([3, ""]);
  expect(stderr).toContain("its sha256 is not the one in its manifest: bytes of it have changed since it was made");
  expect(await news()).toMatchObject({ outcome: "failed" });
  expect(await proofsOf(good.id)).toMatchObject([{ by: "drill", equal: false }]);
});

test("a newest backup that is too old is drilled all the same, and the end is 3", async () => {
  const at = new Date(Date.now() - 75 * 3_600_000).toISOString();
  await spoiled("old", (manifest) => {
    manifest.at = at;
  });
  const { exitCode, stdout, stderr } = await drill(["--json"]);
  expect(exitCode).toBe(3);
  expect(JSON.parse(stdout)).toMatchObject({ at, tooOld: true, equal: true, problems: [] });
  const summary = "Nobody makes backups any more: the newest backup is 3 days old, and backup.maximumAgeHours is 26";
  expect(stderr).toContain(`\n${summary}\n`);
  expect(await news()).toMatchObject({ outcome: "failed", summary });
  expect(await proofsOf(good.id)).toMatchObject([{ by: "drill", equal: true }]);
});

describe("without a container:", () => {
  test("no backup at all, and a newest one that is broken", async () => {
    await configure({ prefix: "empty" });
    const { exitCode, stderr } = await drill();
    const summary = "There is no backup to drill: s3://backups/empty/dbops-app has none of the whole database of local";
    expect([exitCode, stderr.split("\n")[0]]).toEqual([3, summary]);
    expect(await news()).toMatchObject({ outcome: "failed", summary, environment: "local" });
    sink.clear();
    await spoiled("broken", (manifest) => {
      manifest.globals.bytes += 1;
    });
    const broken = await drill();
    expect([broken.exitCode, broken.stderr.split("\n")[0]]).toEqual([
      3,
      expect.stringMatching(/^Backup \S+ is broken: globals.sql.gpg has \d+ bytes, its manifest says \d+$/),
    ]);
    expect(await news()).toMatchObject({ outcome: "failed" });
  });

  test("the wrong passphrase says nothing about the backup: 3, and no word about it beside it", async () => {
    await spoiled("wrong-passphrase", () => {});
    const { exitCode, stderr } = await drill([], { BACKUP_PASSPHRASE: "wrong" });
    expect(exitCode).toBe(3);
    expect(stderr).toContain("Cannot decrypt the backup: the passphrase is not the one that it was encrypted with");
    expect(await news()).toMatchObject({ outcome: "failed" });
    expect(await proofsOf(good.id)).toEqual([]);
  });

  test("no Docker, no such image, one without an extension, no room on its disk: that is this machine's fault", async () => {
    await configure({});
    const ends = async (words: string[], environment = {}) => {
      sink.clear();
      const { exitCode, stderr } = await drill(words, environment);
      expect((await news()).outcome).toBe("failed");
      return [exitCode, stderr.split("\n").find((line) => /^(Cannot|Docker)/.test(line))];
    };
    const nowhere = { DOCKER_HOST: `unix://${folder}/none.sock` };
    expect(await ends([], nowhere)).toEqual([1, expect.stringMatching(/^Cannot drill: no Docker Engine answers \(/)]);
    expect(await ends(["--image", "localhost:1/no/such:image"])).toEqual([
      1,
      expect.stringMatching(/^Docker cannot pull localhost:1\/no\/such:image: /),
    ]);
    await spoiled("huge", (manifest) => {
      manifest.extensions.postgis = "3.6.0";
    });
    expect(await ends([])).toEqual([2, "Cannot drill with postgres:18-alpine: it does not have the extension postgis"]);
    await spoiled("huge", (manifest) => {
      manifest.databaseBytes = 9e15;
    });
    expect(await ends([])).toEqual([
      1,
      expect.stringMatching(/^Cannot drill on Docker's disk: there are [\d.]+ [GT]B to use, it takes about 10800 TB$/),
    ]);
    expect(await proofsOf(good.id)).toEqual([]);
  });
});

test("for a recipient: whoever has the secret key drills without a passphrase, and nobody else", async () => {
  const owner = { GNUPGHOME: join(folder, "owner"), BACKUP_PASSPHRASE: undefined };
  mkdirSync(owner.GNUPGHOME, { mode: 0o700 });
  const gpg = (...argv: string[]) => run({ argv: ["gpg", "--batch", ...argv], environment: owner });
  await gpg("--passphrase", "", "--quick-generate-key", "owner <owner@example.com>", "future-default");
  await lab.project.write("backup-key.asc", (await gpg("--armor", "--export", "owner@example.com")).stdout);
  await configure({ prefix: "recipients", recipients: ["backup-key.asc"] });
  const { id } = await backUp([], owner);
  const { exitCode, stdout, stderr } = await drill([], owner);
  expect([exitCode, exitCode === 0 ? "" : stderr]).toEqual([0, ""]);
  expect(stdout).toStartWith(`Backup ${id} restores: `);
  const stranger = await drill([], { BACKUP_PASSPHRASE: undefined });
  expect([stranger.exitCode, stranger.stderr]).toEqual([3, expect.stringContaining("has no secret key for it")]);
  expect((await proofsOf(id)).length).toBe(1);
});

/** Does it as soon as the line is there. */
async function disturbedAt(
  pattern: RegExp,
  disturb: (pid: number) => unknown,
): Promise<{ code: number | string; lines: string[] }> {
  const lines: string[] = [];
  const { promise: started, resolve } = Promise.withResolvers<number>();
  const program = await start({
    ...verb([]),
    ownGroup: true,
    async onLine(line) {
      lines.push(line);
      if (pattern.test(line)) await disturb(await started);
    },
  });
  resolve(program.pid);
  return { code: await program.ended, lines };
}

const send = (signal: NodeJS.Signals) => (pid: number) => process.kill(-pid, signal);

test.each([/^ {2}5\. remove/, /done {3}roles/, /done {3}start/])(
  "Ctrl-C at %p: the container is gone, and it was no proof of anything",
  async (pattern) => {
    await configure({});
    const before = (await backups()).map(({ proofs }) => proofs.length);
    const { code, lines } = await disturbedAt(pattern, send("SIGINT"));
    expect([code, lines.at(-1)]).toEqual([130, "Interrupted: by SIGINT"]);
    expect(await containers()).toEqual([]);
    expect((await backups()).map(({ proofs }) => proofs.length)).toEqual(before);
    expect(await news()).toMatchObject({ outcome: "interrupted" });
  },
);

test("its container dies: 1, because that says nothing about the backup", async () => {
  await configure({});
  const before = (await backups()).map(({ proofs }) => proofs.length);
  const kill = async () => lab.project.docker(["kill", ...(await containers())]);
  const { code, lines } = await disturbedAt(/done {3}start/, kill);
  expect([code, lines]).toEqual([1, expect.arrayContaining(["Cannot drill: its container has ended with 137"])]);
  expect((await backups()).map(({ proofs }) => proofs.length)).toEqual(before);
});

describe("killed with a container running,", () => {
  let left: string;
  let volume: string;
  beforeAll(async () => {
    await configure({});
    expect((await disturbedAt(/done {3}start/, send("SIGKILL"))).code).toBe("SIGKILL");
    [left = ""] = await containers();
    const format = ["inspect", "--format", "{{range .Mounts}}{{.Name}}{{end}}", left];
    volume = (await lab.project.docker(format)).stdout.trim();
    expect([left, volume]).toEqual([
      expect.stringMatching(/^dbops-drill-dbops-app-/),
      expect.stringMatching(/^\w{64}$/),
    ]);
    await lab.project.write(
      "migrations/20991231000001_one.sql",
      "-- migrate:up\ncreate table one ();\n-- migrate:down\n",
    );
  });

  test("its leftovers are removed by the next one, which applies a pending migration too", async () => {
    const { exitCode, stdout, stderr } = await drill([good.id]);
    expect([exitCode, exitCode === 0 ? "" : stderr]).toEqual([0, ""]);
    expect(stderr).toContain(`  1. remove the container ${left}, left by a drill that was cut off\n`);
    expect(stderr).toContain("         Applied: 20991231000001_one.sql in ");
    expect(stdout).toContain("\n  1 migration applied, as a restore would");
    const volumes = (await lab.project.docker(["volume", "ls", "--quiet"])).stdout;
    expect(volumes.split("\n")).not.toContain(volume);
  });

  test("and where the migration fails, a restore would fail: 3", async () => {
    await lab.project.write(
      "migrations/20991231000001_one.sql",
      "-- migrate:up\ncreate tabel one ();\n-- migrate:down\n",
    );
    const { exitCode, stderr } = await drill([good.id]);
    expect(exitCode).toBe(3);
    const sentence = `Backup ${good.id} is whole, and a restore of it would stop: `;
    expect(stderr).toContain(`${sentence}Cannot apply migrations/20991231000001_one.sql: `);
    const [newest] = await proofsOf(good.id);
    expect(newest).toMatchObject({ equal: false, problems: [expect.stringContaining("20991231000001_one.sql")] });
    rmSync(join(lab.project.directory, "migrations/20991231000001_one.sql"));
  });
});

describe("drill.yml", () => {
  let op: Op;
  let job: Job | undefined;
  const secrets = () => ({
    "backup-key-id": lab.s3.accessKeyId,
    "backup-secret-key": lab.s3.secretAccessKey,
    "backup-passphrase": lab.passphrase,
  });

  beforeAll(async () => {
    op = await startOp({ items: [{ vault: "production", title: "dbops-app", fields: secrets() }] });
    await lab.configure({}, { local: {} });
    const { directory, write } = lab.project;
    const template = readFileSync(join(directory, ".env.tpl"), "utf8");
    await write(".env.tpl", template.replaceAll(/^# (BACKUP_\w+=)/gm, "$1"));
    // Of a checkout nothing is installed.
    rmSync(join(directory, "node_modules"));
    const identity = ["-c", "user.name=octocat", "-c", "user.email=octocat@example.com", "-c", "commit.gpgsign=false"];
    for (const words of [
      ["init", "--quiet"],
      ["add", "--all"],
      ["commit", "--quiet", "--message=all"],
    ]) {
      await run({ argv: ["git", ...identity, ...words], directory, environment: { GIT_CONFIG_GLOBAL: "/dev/null" } });
    }
  });
  afterEach(async () => await job?.remove());
  afterAll(async () => await op?.stop());

  const startWorkflow = (backup: string): Promise<Job> =>
    startJob({
      file: ".github/workflows/drill.yml",
      repository: lab.project.directory,
      values: {
        "inputs.backup": backup,
        "secrets.OP_SERVICE_ACCOUNT_TOKEN": op.environment.OP_SERVICE_ACCOUNT_TOKEN!,
      },
      actions: {
        "actions/checkout": async () => undefined,
        "oven-sh/setup-bun": async () => programs,
        "1password/install-cli-action": async () => op.environment.PATH!.split(":")[0],
      },
      environment: Object.fromEntries(
        ["PATH", "DOCKER_HOST", "DOCKER_CONFIG"].flatMap((name) =>
          lab.environment[name] ? [[name, lab.environment[name]]] : [],
        ),
      ),
    });

  test("on its schedule it proves the latest, with what 1Password knows", async () => {
    job = await startWorkflow("");
    const names = ["Check the input", "Check out", "Set up Bun", "Set up 1Password", "Install packages", "Drill"];
    expect(await job.ended, job.log()).toEqual(names.map((name) => ({ name, result: "done" })));
    expect(job.log()).toMatch(/^Backup \S+ restores: /m);
    expect(Object.values(secrets()).filter((secret) => job!.log().includes(secret))).toEqual([]);
  });

  test.each(["$(touch gotcha)", "latest; touch gotcha", "--image=evil", "2026-11-21T03-00-00Z-4f2c1a2b\n--plan"])(
    "refuses %p, before anything is set up",
    async (backup) => {
      job = await startWorkflow(backup);
      expect(await job.ended).toEqual([{ name: "Check the input", result: 2 }]);
      expect(job.log()).toStartWith('::error::"backup" takes latest, or an id like ');
    },
  );
});
