// The backup before a deploy's migrations: made where there are some, whole, and from before them; without it nothing is migrated.
import { afterAll, beforeAll, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { BackupSettings } from "../../scripts/lib/backup-values.ts";
import type { Manifest } from "../../scripts/lib/manifest.ts";
import type { Release } from "../../scripts/lib/release.ts";
import { type Result, run, sendSignal } from "../../scripts/lib/run.ts";
import { openStore, type Store } from "../../scripts/lib/s3.ts";
import { poll } from "../../scripts/lib/wait.ts";
import type { PushedImage } from "../lab/deploy-app.ts";
import { createDeployProject, type DeployProject } from "../lab/deploy-project.ts";
import { failureIn, lookAt, recordsOn } from "../lab/deploy-traces.ts";
import { type Registry, startRegistry } from "../lab/registry.ts";
import { type S3, startS3 } from "../lab/s3.ts";
import { type S3Proxy, startS3Proxy } from "../lab/s3-proxy.ts";
import { type Server, startServer } from "../lab/server.ts";

setDefaultTimeout(120_000);

let server: Server;
let registry: Registry;
let s3: S3;
let proxy: S3Proxy;
let store: Store;
let project: DeployProject;
const images: PushedImage[] = [];
const passphrase = "correct $horse 'battery";
/** The newest of the shipped migrations. */
const shipped = "20260101090300";

beforeAll(async () => {
  [server, registry, s3] = await Promise.all([
    startServer({ kind: "docker", withImages: true }),
    startRegistry(),
    startS3(),
  ]);
  proxy = await startS3Proxy(s3.endpoint);
  await s3.createBucket("backups");
  const backup = { bucket: "backups", endpoint: proxy.url };
  project = await createDeployProject({ server, registry, config: { deploy: { bakeSeconds: 0 }, backup } });
  store = await openStore({ ...backup, region: s3.region, endpoint: s3.endpoint } as BackupSettings, s3);
  for (const release of ["a1", "a2"]) images.push(await project.buildApp({ release }));
}, 300_000);
beforeEach(() => proxy.clear());
afterAll(async () => {
  store?.close();
  await Promise.all([project?.remove(), proxy?.stop()]);
  await Promise.all([server?.stop(), registry?.stop(), s3?.stop()]);
});

const login = () => ({ DBOPS_REGISTRY_USER: registry.user, DBOPS_REGISTRY_PASSWORD: registry.password });
const values = () => ({
  BACKUP_ACCESS_KEY_ID: s3.accessKeyId,
  BACKUP_SECRET_ACCESS_KEY: s3.secretAccessKey,
  BACKUP_PASSPHRASE: passphrase,
});
const withoutIt =
  '  next: or without a backup: the same command with --no-backup; for ever: deploy: { backup: "never" }';
let serving = "";
const other = () => images.find(({ release }) => release !== serving)!;

/** Of the image that does not serve. */
async function deploy(words: readonly string[] = [], environment: Record<string, string> = values()): Promise<Result> {
  const image = other();
  const result = await project.run("deploy", ["--image", image.pinned, ...words], {
    environment: { ...login(), ...environment },
    accept: [0, 1, 2, 3, 4, 5],
  });
  if (result.exitCode === 0 && !words.includes("--plan")) serving = image.release;
  return result;
}

const migration = (version: string, statements: string) =>
  project.write(`migrations/${version}_test.sql`, `-- migrate:up\n${statements}\n\n-- migrate:down\nselect 1;\n`);
const removeMigration = (version: string) => rm(join(project.directory, `migrations/${version}_test.sql`));

async function manifests(): Promise<Manifest[]> {
  const objects = await store.list(`${project.name}/`);
  const keys = objects.map(({ key }) => key).filter((key) => key.endsWith("/manifest.json"));
  return await Promise.all(keys.map(async (key) => JSON.parse(await store.getText(key)) as Manifest));
}

/** Neither a backup nor a part of one. */
async function expectEmptyBucket(): Promise<void> {
  expect([await store.list(""), await store.listUnfinished("")]).toEqual([[], []]);
}

/** Everything on the server is as it was, and nobody has been told a word of it there. */
async function unchanged(work: () => Promise<void>): Promise<void> {
  const before = await lookAt(server, project);
  await work();
  expect(await lookAt(server, project)).toEqual(before);
}

/** In the database, or another one, on the server. */
async function sql(statements: string, database = "dbops_app"): Promise<string> {
  const psql = `psql -U "$POSTGRES_USER" -d ${database} -qtA -v ON_ERROR_STOP=1`;
  const script = `docker exec -i ${project.name}-postgres-1 sh -c '${psql}' <<'END'\n${statements}\nEND`;
  return (await server.ssh(script)).stdout.trim();
}

test("where nothing is pending, nobody asks for a bucket or a value: the first deploy, and the next", async () => {
  const first = await deploy([], {});
  expect([first.exitCode, first.stderr]).toEqual([
    0,
    expect.stringContaining("backup    none: there is no database yet"),
  ]);
  const next = await deploy([], {});
  expect([next.exitCode, next.stderr.includes("backup")], next.stderr).toEqual([0, false]);
  expect(proxy.requests).toEqual([]);
});

test("a value that is missing: exit 2 before anything begins, and how to do without", async () => {
  await migration("20990101000001", "create table later (id int); update accounts set email = 'changed@x';");
  await unchanged(async () => {
    const { exitCode, stderr } = await deploy([], { ...values(), BACKUP_PASSPHRASE: "" });
    expect([exitCode, stderr.includes("==>"), stderr.includes("lock")]).toEqual([2, false, false]);
    expect(failureIn(stderr)).toBe(
      `Cannot back up the database before the migrations: Cannot work with backups: BACKUP_PASSPHRASE is not set, neither in the environment nor in .env.tpl
  next: add them to .env.tpl, or: export BACKUP_PASSPHRASE=…
  next: the same command again
${withoutIt}
  read: docs/backup.md`,
    );
  });
});

test("the plan says it, and looks into the bucket, which has to be there", async () => {
  const { exitCode, stdout } = await deploy(["--plan"]);
  expect([exitCode, stdout]).toEqual([
    0,
    expect.stringContaining("\n  backup   back up the database first (the first one)\n"),
  ]);
  expect(JSON.parse((await deploy(["--plan", "--json", "--no-backup"])).stdout)).toMatchObject({ backup: false });
  proxy.hit(/^GET .*list-type=2/, { status: 404, code: "NoSuchBucket" });
  const refused = await deploy(["--plan"]);
  expect([refused.exitCode, failureIn(refused.stderr)]).toEqual([
    2,
    expect.stringContaining("Cannot back up the database before the migrations: Cannot list s3://backups/shop/: "),
  ]);
});

test("--rehearse without a backup that could be restored: nothing was changed", async () => {
  await unchanged(async () => {
    const { exitCode, stderr } = await deploy(["--rehearse"]);
    expect([exitCode, failureIn(stderr)]).toEqual([
      3,
      `Nothing was deployed: the migrations could not be rehearsed: There is no backup to rehearse with: there is none of the whole database of production
  next: bun scripts/backup.ts --on production
  next: bun scripts/backup.ts list
  next: or without it: the same command without --rehearse
  read: docs/rehearse.md`,
    ]);
  });
});

test("a bucket that takes nothing: nothing is migrated, and nothing was changed", async () => {
  await unchanged(async () => {
    proxy.hit(/^(PUT|POST) .*database.dump/, { status: 507, code: "InsufficientCapacity" });
    const { exitCode, stderr } = await deploy();
    expect(exitCode).toBe(1);
    expect(stderr).toContain("\n  FAILED backup");
    expect(failureIn(stderr).replace(/shop\/[\w-]+Z-\w+/, "shop/ID")).toBe(
      `Cannot back up the database before the migrations: Cannot write s3://backups/shop/ID/database.dump.gpg: the storage has no room left for the bucket "backups": its quota is used up, or its disks are full; nothing was changed
  next: bun scripts/backup.ts prune
  next: raise the quota at the storage
${withoutIt}
  read: docs/backup.md`,
    );
    expect(await sql("select to_regclass('later')")).toBe("");
    await expectEmptyBucket();
  });
});

test("Ctrl-C in the middle of it: nothing was changed, and nothing is left", async () => {
  await unchanged(async () => {
    proxy.hit(/^(PUT|POST) .*database.dump/, "hang");
    let stderr = "";
    const program = await project.start("deploy", ["--image", other().pinned], {
      environment: { ...login(), ...values() },
      onLine: (line) => {
        stderr += `${line}\n`;
      },
    });
    const isUploading = () =>
      proxy.requests.some(({ label }) => /^(PUT|POST) .*database.dump/.test(label)) || undefined;
    expect(await poll({ seconds: 30 }, async () => isUploading())).toBe(true);
    sendSignal(program.pid, "SIGINT");
    expect(await program.ended).toBe(130);
    expect(failureIn(stderr)).toBe(`Interrupted: by SIGINT; nothing was changed
  next: the same command again
  read: docs/deploy.md`);
    await expectEmptyBucket();
  });
});

test("a deploy with something to migrate: its backup is from before, and can be restored", async () => {
  await sql("insert into accounts (email, password_hash) values ('as@was', 'x')");
  const { exitCode, stdout, stderr } = await deploy();
  expect([
    exitCode,
    stderr.match(/done +(bucket|lock|backup|upload|migrate) /g)?.map((line) => line.split(/ +/)[1]),
  ]).toEqual([0, ["bucket", "lock", "backup", "upload", "migrate"]]);
  expect(await sql("select to_regclass('later'), email from accounts")).toBe("later|changed@x");
  const [manifest] = await manifests();
  const { id } = manifest!;
  expect(manifest).toMatchObject({
    label: "before release 3",
    environment: "production",
    rows: { "public.accounts": 1 },
  });
  const record = (await recordsOn(server, project)).at(-1)!;
  expect(record).toMatchObject({ release: 3, outcome: "done", backup: id });
  // Its steps are one step.
  expect(Object.keys(record.steps)).not.toContain("dump");
  expect(stdout).toContain(`\n  the database before its migrations: backup ${id}\n`);
  const words = [id, "--into", "look_here", "--to-version", shipped, "--on", "production"];
  await project.run("restore", words, { environment: values() });
  expect(await sql("select to_regclass('later'), email from accounts", "look_here")).toBe("|as@was");
});

test("the release before comes back, and with it the command for its data", async () => {
  const [{ id }] = (await manifests()) as [Manifest];
  const { stdout } = await project.run("rollback", [], { environment: login() });
  serving = other().release;
  const command = `bun scripts/restore.ts ${id} --on production --confirm shop`;
  expect(stdout).toContain(`\n  the data of then, without what was written since: ${command}\n`);
});

test("a migration fails: the command that it names brings the data back", async () => {
  await migration("20990101000002", "delete from accounts;");
  await migration("20990101000003", "select 1 / 0;");
  const { exitCode, stderr } = await deploy();
  expect(exitCode).toBe(1);
  expect(await sql("select count(*) from accounts")).toBe("0");
  const { backup } = (await recordsOn(server, project)).at(-1) as Release;
  const command = `bun scripts/restore.ts ${backup} --on production --confirm shop`;
  expect(failureIn(stderr)).toContain(
    `\n  next: ${command}   # only if the data is damaged: what was written since is lost\n`,
  );
  const [, , ...words] = command.split(" ");
  await project.run("restore", words, { environment: values() });
  expect(await sql("select email from accounts; select max(version) from schema_migrations")).toBe(
    "changed@x\n20990101000001",
  );
});

test("--no-backup migrates without one, also where no value is set", async () => {
  await removeMigration("20990101000003");
  const before = await manifests();
  const { exitCode, stderr } = await deploy(["--no-backup"], {});
  expect([exitCode, stderr]).toEqual([
    0,
    expect.stringContaining("backup   none: --no-backup, so there is no way back"),
  ]);
  expect(await sql("select count(*) from accounts")).toBe("0");
  expect((await manifests()).length).toBe(before.length);
  expect((await recordsOn(server, project)).at(-1)).not.toHaveProperty("backup");
});

test("--rehearse: above the limits nothing is deployed, and nothing was changed; within them it is", async () => {
  const limited = (fileSeconds: number) =>
    project.configure({
      ...{ deploy: { bakeSeconds: 0 }, backup: { bucket: "backups", endpoint: proxy.url } },
      migrations: { rehearse: { fileSeconds } },
    });
  await migration("20990101000004", "alter table accounts add column nickname text;\nselect pg_sleep(1);");
  // "latest" never means the one that a restore has made, to be safe.
  const made = (await manifests()).filter(({ label }) => label?.startsWith("before release"));
  const id = made
    .map((manifest) => manifest.id)
    .sort()
    .at(-1);
  await limited(0.5);
  const before = await sql("select datname from pg_database order by 1");
  await unchanged(async () => {
    const { exitCode, stderr } = await deploy(["--rehearse"]);
    expect(exitCode, stderr).toBe(3);
    expect(stderr).toContain(
      "  rehearse  1 pending, on the restored latest backup; above the limits nothing is deployed\n",
    );
    expect(stderr).toContain(`Rehearsed 2 files with backup ${id}, as it was `);
    expect(stderr).toMatch(/\n {2}20990101000002_test\.sql {2}.*; the live database has it already\n/);
    expect(
      failureIn(stderr).replace(/takes [\d.]+ s/, "takes TIME"),
    ).toBe(`Nothing was deployed: The pending migrations are above the limits: 1 finding
  | migrations/20990101000004_test.sql:3: the file takes TIME, fileSeconds is 0.5
  |   instead: smaller steps, in files of their own
  next: write it in smaller steps, then the same command again
  next: or, if nobody minds: raise migrations.rehearse in dbops.config.ts
  next: or without it: the same command without --rehearse
  read: docs/migrations.md`);
  });
  await limited(60);
  const { exitCode, stderr } = await deploy(["--rehearse"]);
  const steps = stderr.match(/done +(rehearse|lock|backup|migrate) /g)?.map((line) => line.split(/ +/)[1]);
  expect([exitCode, steps], stderr).toEqual([0, ["rehearse", "lock", "backup", "migrate"]]);
  expect(await sql("select count(nickname) from accounts")).toBe("0");
  expect(await sql("select datname from pg_database order by 1")).toBe(before);
});

test("--rehearse, where the newest backup has what is to be applied: it would try nothing, and says so", async () => {
  const { stdout } = await project.run("backup", ["--on", "production", "--json"], { environment: values() });
  const { id } = JSON.parse(stdout) as Manifest;
  await sql(
    "alter table accounts drop column nickname; delete from schema_migrations where version = '20990101000004'",
  );
  await unchanged(async () => {
    const { exitCode, stderr } = await deploy(["--rehearse"]);
    expect([exitCode, failureIn(stderr)]).toEqual([
      3,
      `Nothing was deployed: the migrations could not be rehearsed: Cannot rehearse with ${id}: it has 20990101000004 already, which is to be applied
  next: bun scripts/backup.ts --on production   # as the database is now; then the same command again
  next: or with an older one by hand: bun scripts/migrate.ts rehearse BACKUP --on production
  next: or without it: the same command without --rehearse
  read: docs/rehearse.md`,
    ]);
  });
});

test("where another runner has the lock nothing was migrated: no command for data that is damaged", async () => {
  const lock = "select pg_advisory_lock(hashtextextended('dbops migrate', 0)), pg_sleep(600)";
  const session = sql(lock).catch(() => "");
  const isHeld = async () =>
    (await sql("select count(*) from pg_locks where locktype = 'advisory'")) === "1" || undefined;
  expect(await poll({ seconds: 30 }, isHeld)).toBe(true);
  const { exitCode, stderr } = await deploy(["--wait", "0"]);
  await sql("select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory'");
  await session;
  const failure = failureIn(stderr).replace(/process \d+, since [\d-]+ [\d:]+ UTC/, "process N, since TIME");
  expect([exitCode, failure.replaceAll(/elease \d+/g, "elease N")]).toEqual([
    4,
    `Release N was not deployed: Cannot migrate: another runner (Postgres process N, since TIME) migrates this database (waited 0 s); release N serves as before
  next: the same command with --wait 600
  read: docs/runbook/migration-hangs.md`,
  ]);
  expect((await deploy()).exitCode).toBe(0);
  expect(await sql("select count(nickname) from accounts")).toBe("0");
});

test("a server that makes its backups itself: a deploy brings the service there, from a private image, and replaces it without asking", async () => {
  const own = { ...values(), BACKUP_PASSPHRASE: "correct horse" };
  const image = `${project.image}-backup`;
  await project.configure({ backup: { bucket: "backups", endpoint: s3.endpoint, schedule: "*/15 * * * * *" } });
  const names = Object.keys(own);
  await project.edit(".env.tpl", (text) =>
    [
      text,
      "COMPOSE_PROFILES=backup",
      `BACKUP_IMAGE=${image}:1`,
      ...names.map((it) => `${it}='secret://${it}'`),
      "",
    ].join("\n"),
  );
  const docker = (words: string[], more = {}) =>
    run({
      argv: ["docker", ...words],
      directory: project.directory,
      environment: { ...registry.environment, ...more },
      timeoutSeconds: 120,
      ...(words[1] === "rm" && { accept: [0, 1] }),
    });
  try {
    const build = ["compose", "--file", "compose.yaml", "--profile", "backup", "build", "--quiet", "backup"];
    await docker(build, { POSTGRES_PASSWORD: "none", BACKUP_IMAGE: `${image}:1` });
    await docker(["tag", `${image}:1`, `${image}:2`]);
    for (const tag of [1, 2]) await docker(["push", "--quiet", `${image}:${tag}`]);
  } finally {
    await docker(["image", "rm", `${image}:1`, `${image}:2`]);
  }
  const running = async () => {
    const format = "{{.Config.Image}} {{.State.Health.Status}} {{len .Mounts}}";
    return (await server.ssh(`docker inspect --format '${format}' ${project.name}-backup-1`)).stdout.trim();
  };
  const first = await deploy([], own);
  expect([first.exitCode, await running()], first.stderr).toEqual([0, `${image}:1 healthy 0`]);
  const id = await poll({ seconds: 40, everyMilliseconds: 500 }, async () => {
    const { stdout } = await server.ssh(`docker logs ${project.name}-backup-1 2>&1`);
    return /backup done: ([^,]+),/.exec(stdout)?.[1];
  });
  const made = JSON.parse(await store.getText(`${project.name}/${id}/manifest.json`)) as Manifest;
  expect(made).toMatchObject({ environment: "production", host: "postgres:5432", rows: { "public.accounts": 0 } });
  const left = await server.ssh(
    `ls -A ~/.docker/config.json 2>/dev/null || true; grep -c '^BACKUP_' ${project.folder}/.env`,
  );
  expect(left.stdout).toBe("4\n");

  await project.edit(".env.tpl", (text) => text.replaceAll(`${image}:1`, `${image}:2`));
  const plan = await deploy(["--plan"], own);
  expect([plan.exitCode, plan.stdout.includes("DOWNTIME")], plan.stdout).toEqual([0, false]);
  expect(plan.stdout).toContain("recreate backup\n");
  const second = await deploy([], own);
  expect([second.exitCode, await running()], second.stderr).toEqual([0, `${image}:2 healthy 0`]);

  // And a deploy that fails puts it back.
  await project.edit(".env.tpl", (text) => text.replaceAll(`${image}:2`, `${image}:1`));
  const bad = await project.buildApp({ release: "bad", behaviour: "prints-environment" });
  const environment = { ...login(), ...own };
  const third = await project.run("deploy", ["--image", bad.pinned], { environment, accept: [1] });
  expect(third.stderr).toContain("done   services");
  expect(await running()).toBe(`${image}:2 healthy 0`);
});
