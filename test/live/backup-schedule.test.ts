// The service `backup` of compose.yaml: its image built from the Dockerfile that is shipped, real Postgres and object storage, and
// somebody who hears of it. What it decides is in test/backup-schedule.test.ts.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { run } from "../../scripts/lib/run.ts";
import { poll } from "../../scripts/lib/wait.ts";
import { type BackupProject, createBackupProject } from "../lab/backup-project.ts";
import { type Sink, startSink } from "../lab/sink.ts";

setDefaultTimeout(90_000);

let folder: string;
let lab: BackupProject;
let sink: Sink;
let container: string;
/** With what a .env file can hold. */
const passphrase = 'ü "$ of the service';

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "dbops-schedule-"));
  lab = await createBackupProject(folder);
  sink = await startSink(new URL(lab.s3.endpoint).hostname);
  await lab.project.compose(["run", "--rm", "migrations"]);
  await lab.sql("create table orders as select n, md5(n::text) as text from generate_series(1, 1000) n");
  await configure("*/5 * * * * *");
  const file = join(lab.project.directory, "compose.yaml");
  // As the comment there says.
  const lines = "PING_URL: ${PING_URL:-}\n      NEWS_URL: ${NEWS_URL:-}";
  await lab.project.write("compose.yaml", readFileSync(file, "utf8").replace(/# BACKUP_PING_URL: .*/, lines));
  await lab.project.setEnvironment({
    ...{ COMPOSE_PROFILES: "backup", PING_URL: `${sink.url}/ping`, NEWS_URL: `${sink.url}/news` },
    BACKUP_ACCESS_KEY_ID: lab.s3.accessKeyId,
    BACKUP_SECRET_ACCESS_KEY: lab.s3.secretAccessKey,
    BACKUP_PASSPHRASE: passphrase,
  });
  container = lab.project.container("backup");
  await lab.project.compose(["build", "--quiet", "backup"], { timeoutSeconds: 240 });
}, 300_000);
afterAll(async () => {
  await lab?.s3.faults.resume();
  await Promise.all([lab?.remove(), sink?.stop()]);
  rmSync(folder, { recursive: true, force: true });
});

async function configure(schedule: string, changes = {}): Promise<void> {
  await lab.configure({ prefix: "schedule", schedule, pingFrom: "PING_URL", ...changes });
  const file = join(lab.project.directory, "dbops.config.ts");
  const news = 'notifications: [{ kind: "webhook", urlFrom: "NEWS_URL", on: "failure" }],\n  deploy: {';
  await lab.project.write("dbops.config.ts", readFileSync(file, "utf8").replace("deploy: {", news));
}

/** What people have heard so far: the outcome and the sentence. */
const news = () =>
  sink.requests.flatMap(({ path, body }) => {
    if (path !== "/news") return [];
    const { what, project, environment, outcome, summary } = JSON.parse(body);
    expect([what, project, environment]).toEqual(["backup", "dbops-app", "local"]);
    return [`${outcome}: ${summary}`];
  });
const pings = () => sink.requests.filter(({ path }) => path === "/ping").length;

const log = async () => (await lab.project.docker(["logs", container])).stderr;

/** The log from its first line that has the text, once there is one. */
async function logFrom(text: string | RegExp, seconds = 30): Promise<string> {
  const found = await poll({ seconds, everyMilliseconds: 200 }, async () => {
    const lines = (await log()).split("\n");
    const index = lines.findIndex((line) => (typeof text === "string" ? line.includes(text) : text.test(line)));
    return index < 0 ? undefined : lines.slice(index).join("\n");
  });
  if (found === undefined) throw new Error(`no line with ${text} in:\n${await log()}`);
  return found;
}

/** What Docker asks, asked now: its own answer is half a minute old. */
async function health(): Promise<{ exitCode: number; says: string }> {
  const { stdout } = await lab.project.docker(["inspect", "--format", "{{json .Config.Healthcheck.Test}}", container]);
  const [, command] = JSON.parse(stdout) as [string, string];
  const answer = await lab.project.docker(["exec", container, "sh", "-c", command], { accept: [0, 1] });
  return { exitCode: answer.exitCode, says: answer.stdout };
}

const objects = async () => {
  const store = await lab.store();
  const [whole, begun] = await Promise.all([store.list(""), store.listUnfinished("")]);
  return [...whole.map(({ key }) => key), ...begun.map(({ key }) => `${key}, unfinished`)].sort();
};

test("a bucket that refuses everything: the failure and the absence are told, and their end, by itself", async () => {
  await lab.s3.faults.suspend();
  await lab.project.compose(["up", "--detach", "--wait", "backup"]);
  await logFrom("ALARM: ");
  const heard = (await sink.received(2)).length;
  expect(heard).toBeGreaterThanOrEqual(2);
  const told = news();
  expect(told.filter((line) => line.startsWith("failed: no recent backup: nobody can tell whether "))).toHaveLength(1);
  expect(told.filter((line) => !line.includes("no recent backup"))[0]).toStartWith("failed: ");
  expect(await health()).toEqual({ exitCode: 1, says: expect.stringMatching(/^FAILED: /) });
  expect(pings()).toBe(0);

  await lab.s3.faults.resume();
  await logFrom("recovered: ");
  await poll({ seconds: 10 }, async () => news().some((line) => line.startsWith("done: ")) || undefined);
  expect(news().at(-1)).toMatch(/^done: there is a recent backup again: the newest good backup, \S+, is \d+\.\d s old/);
  // The backup is seen in the bucket before the monitor has been asked.
  expect(await poll({ seconds: 20 }, async () => pings() >= 1 || undefined)).toBe(true);
  expect(await health()).toEqual({ exitCode: 0, says: "ok\n" });
});

test("its log is one line for each event, in UTC, without a secret; it runs as nobody special, and leaves no volume", async () => {
  await logFrom(/backup done: /);
  const text = await log();
  const lines = text.split("\n").filter(Boolean);
  expect(lines.filter((line) => !/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC {2}\S/.test(line))).toEqual([]);
  expect(lines[0]).toEndWith("backups of dbops-app, local: */5 * * * * * (cron, UTC)");
  expect([...lab.secrets, passphrase].filter((secret) => text.includes(secret))).toEqual([]);
  const format = "{{.Config.User}} {{len .Mounts}} {{.HostConfig.ReadonlyRootfs}}";
  expect((await lab.project.docker(["inspect", "--format", format, container])).stdout).toBe("postgres 0 true\n");
  // Nothing secret, and nothing that the service does not need, is in the image.
  const { stdout } = await lab.project.docker(["exec", container, "ls", "-A", "/backup"]);
  expect(stdout.split("\n").filter(Boolean)).toEqual(["dbops.config.ts", "node_modules", "package.json", "scripts"]);
});

test("while another one is being made, its own is skipped, and nobody is alarmed", async () => {
  const before = news().length;
  const holding = lab.sql("select pg_advisory_lock(hashtextextended('dbops backup', 0)); select pg_sleep(6)");
  const skipped = await logFrom("skipped: Nothing was backed up: another backup of dbops_app is being made, since ");
  await holding;
  expect(skipped).not.toContain("FAILED");
  expect(news()).toHaveLength(before);
  expect((await health()).exitCode).toBe(0);
});

test("a backup that it has made restores", async () => {
  const restore = [process.execPath, "scripts/restore.ts", "latest", "--into", "restored", "--json"];
  const options = { directory: lab.project.directory, environment: { ...lab.environment, ...ours() } };
  const { stdout } = await run({ argv: restore, ...options, timeoutSeconds: 60 });
  expect(JSON.parse(stdout)).toMatchObject({ database: "restored" });
  const sum = "select count(*), md5(string_agg(text, '' order by n)) from orders";
  expect(await lab.sql(sum, "restored")).toBe(await lab.sql(sum));
});

test("told to stop in the middle of one, it takes that back within its time; idle, it ends at once", async () => {
  const holding = lab
    .sql("begin; lock table orders in access exclusive mode; select pg_sleep(30)")
    .catch(() => "ended");
  // The roles are uploaded before it waits for the tables.
  const begun = await poll({ seconds: 25, everyMilliseconds: 200 }, async () => {
    const now = await objects();
    const folders = new Set(now.map((key) => key.slice(0, key.lastIndexOf("/"))));
    return [...folders].find((one) => now.includes(`${one}/globals.sql.gpg`) && !now.includes(`${one}/manifest.json`));
  });
  expect(begun).toBeString();
  const started = performance.now();
  await lab.project.docker(["stop", container]);
  const seconds = (performance.now() - started) / 1000;
  const { stdout } = await lab.project.docker(["inspect", "--format", "{{.State.ExitCode}}", container]);
  expect([stdout.trim(), seconds < 30]).toEqual(["130", true]);
  expect((await objects()).filter((key) => key.startsWith(`${begun}/`) || key.endsWith("unfinished"))).toEqual([]);
  const text = await logFrom("told to stop");
  expect(text).toContain("backup cut off: nothing of it is listed\n");
  expect(text).toContain("Interrupted: a backup was cut off, and nothing of it is listed\n");
  const others =
    "select count(*) from pg_stat_activity where application_name ~ 'psql|pg_dump' and pid <> pg_backend_pid()";
  await lab.sql(
    "select pg_terminate_backend(pid) from pg_stat_activity where query like '%pg_sleep(30)%' and pid <> pg_backend_pid()",
  );
  await holding;
  expect(await lab.sql(others)).toBe("0");

  // Not in a container: what it does there is the same.
  await configure("0 3 1 1 *");
  const service = await lab.start(["schedule"], ours());
  await poll({ seconds: 20 }, async () => service.said.stderr.includes("the newest good backup, ") || undefined);
  service.stop("SIGTERM", 5);
  const stopped = performance.now();
  expect(await service.ended).toBe(0);
  expect(performance.now() - stopped).toBeLessThan(2000);
  expect(service.said.stderr).toEndWith("UTC  stopped\n");
  expect(service.said.stdout).toBe("");
});

test("where somebody who should hear of it could not, it does not even start", async () => {
  const { exitCode, stderr } = await lab.backup(["schedule"], { ...ours(), NEWS_URL: undefined });
  expect(exitCode).toBe(2);
  expect(stderr).toStartWith(
    "Cannot watch over the backups: NEWS_URL is not set, and nobody would hear of a failure\n  next: in compose.yaml,",
  );
});

test("`check` says it from elsewhere: 0 with a recent one, 3 without, and people hear of it", async () => {
  const good = await lab.backup(["check"], ours());
  expect([good.exitCode, good.stdout]).toEqual([0, expect.stringMatching(/^Good: the newest good backup, \S+, is /)]);
  sink.clear();
  // Another environment's backup is none of this one.
  const url = await lab.backup(["check", "--database-url", lab.url, "--json"], ours());
  expect([url.exitCode, JSON.parse(url.stdout).error.exitCode]).toEqual([3, 3]);
  expect(url.stderr).toContain("There is no recent backup: there is no good backup\n");
  expect(sink.requests.map(({ path, body }) => [path, JSON.parse(body).summary])).toEqual([
    ["/news", "no recent backup: there is no good backup"],
  ]);
  sink.clear();
  const down = await lab.backup(["check"], { ...ours(), BACKUP_SECRET_ACCESS_KEY: "wrong" });
  expect(down.exitCode).not.toBe(0);
  expect(news()[0]).toStartWith("failed: no recent backup: nobody can tell whether there is a good backup: ");
});

const ours = () => ({
  ...{ PING_URL: `${sink.url}/ping`, NEWS_URL: `${sink.url}/news`, BACKUP_PASSPHRASE: passphrase },
});
