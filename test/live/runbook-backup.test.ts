// The pages of the runbook about backups, followed to the letter: the fault is made, then the blocks of its page are run by a plain
// bash, on the server in /opt/NAME or on a laptop over plain ssh, in a project whose scripts have been deleted.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  CreateBucketCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  PutBucketVersioningCommand,
  PutObjectCommand,
} from "@aws-sdk/client-s3";
import { type Result, run } from "../../scripts/lib/run.ts";
import { poll } from "../../scripts/lib/wait.ts";
import { watchArgv } from "../lab/argv-watch.ts";
import { s3ClientsEnvironment } from "../lab/debian-programs.ts";
import { createDeployProject, type DeployProject } from "../lab/deploy-project.ts";
import { plainSsh } from "../lab/plain-ssh.ts";
import { type Registry, startRegistry } from "../lab/registry.ts";
import { repository } from "../lab/repository.ts";
import { blocksOf } from "../lab/runbook.ts";
import { type S3, startS3 } from "../lab/s3.ts";
import { type Server, startServer } from "../lab/server.ts";

setDefaultTimeout(300_000);

const passphrase = `correct "horse' $1 \\ battery`;
let folder: string;
let server: Server;
let registry: Registry;
let s3: S3;
let project: DeployProject;
/** Of somebody's laptop: ssh, gpg, clients for S3, and nothing of ours. */
let laptop: Record<string, string | undefined>;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "dbops-runbook-"));
  [server, registry, s3] = await Promise.all([
    startServer({ kind: "docker", withImages: true }),
    startRegistry(),
    startS3(),
  ]);
  const install = "apt-get --quiet update && apt-get install --quiet --yes --no-install-recommends gpg curl";
  const installed = server.ssh(install, { user: "root", timeoutSeconds: 200 });
  await s3.createBucket("backups");
  const backup = { bucket: "backups", prefix: "some/where", endpoint: s3.endpoint };
  project = await createDeployProject({ server, registry, config: { deploy: { bakeSeconds: 0 }, backup } });
  const { pinned } = await project.buildStarter({ release: "s1" });
  const login = { DBOPS_REGISTRY_USER: registry.user, DBOPS_REGISTRY_PASSWORD: registry.password };
  await project.run("deploy", ["--image", pinned], { environment: login });
  await installed;
  rmSync(join(project.directory, "scripts"), { recursive: true });
  const [ssh, clients] = await Promise.all([plainSsh(folder, sshConfiguration()), s3ClientsEnvironment()]);
  const gnupg = join(folder, "gnupg");
  mkdirSync(gnupg, { mode: 0o700 });
  const nobody = { AWS_ACCESS_KEY_ID: undefined, AWS_SECRET_ACCESS_KEY: undefined, BACKUP_PASSPHRASE: undefined };
  const bin = [join(folder, "bin"), ...clients.PATH.split(":").slice(0, 2)].join(":");
  laptop = { ...ssh, PATH: `${bin}:${ssh.PATH}`, GNUPGHOME: gnupg, HOME: folder, ...nobody };
  await sql(`alter database dbops_app set statement_timeout to '7s';
    alter database dbops_app set search_path to public, "Odd, one";
    alter role dbops_app in database dbops_app set work_mem to '5MB';
    alter database dbops_app connection limit 50;
    revoke temporary on database dbops_app from public;
    create role partner login password 'first';
    create role auditor nologin;
    grant select on accounts to auditor, partner;`);
}, 300_000);
afterAll(async () => {
  await project?.remove();
  await Promise.all([server?.stop(), registry?.stop(), s3?.stop()]);
  rmSync(folder, { recursive: true, force: true });
});

const accounts = "select count(*) from accounts";

test("restore-by-hand, from a laptop: roles, rows, settings and newer migrations; the kit knows what it left", async () => {
  const page = "restore-by-hand";
  await begin();
  const id = await backUp();
  // Neither is what "latest" means.
  await backUp("--label", "before-restore");
  await backUp("--tables", "accounts");
  const settings = await settingsOf("dbops_app");
  await sql(
    `drop owned by auditor; drop role auditor; alter role partner password 'second'; truncate accounts cascade;`,
  );
  const secondPassword = await sql("select rolpassword from pg_authid where rolname = 'partner'");
  const later = "-- migrate:up\ncreate table later (id int);\n-- migrate:down\n";
  await server.ssh(`cat >${project.folder}/migrations/20991231000001_later.sql <<'END'\n${later}END`);

  const blocks = await blocksOf(page, "Mitigation");
  const clients = blocks.filter((block) => block.includes("fetch() {"));
  expect(clients.map((block) => /rclone|aws s3|curl/.exec(block)![0])).toEqual(["rclone", "aws s3", "curl"]);
  const probe = `(mkdir probe && cd probe && fetch '*/manifest.json' && find . -name manifest.json | wc -l; rm -r ../probe)`;
  const probed = blocks.map((block) => (clients.includes(block) ? `${block}${probe}` : block));
  const watch = await watchArgv([passphrase, s3.secretAccessKey]);
  const said = await onLaptop([
    `server() { ssh deploy@${server.address} "cd ${project.folder} && $1"; }`,
    ...(await blocksOf(page, "Diagnosis")),
    bucketWords(),
    ...probed,
    ...(await blocksOf(page, "Verify")),
  ]);
  expect((await watch.stop()).found).toEqual([]);
  const [count, ...others] = said.stdout.match(/^\d+$/gm)!;
  expect([Number(count) >= 3, others]).toEqual([true, [count!, count!]]);
  expect(said.stdout).toContain(`\n${id}\ndatabase.dump.gpg: OK\nglobals.sql.gpg: OK\nreadable\nthe same rows\n`);
  expect(said.stdout).toContain("Applied: 20991231000001_later.sql");
  expect(said.stdout).toContain("COMMIT\n");
  expect(said.stdout).toContain('{"status":"ready"}');
  expect(await sql(`${accounts}; select has_table_privilege('auditor', 'accounts', 'select'); table later`)).toBe(
    "1000\nt",
  );
  expect(await settingsOf("dbops_app")).toEqual(settings);
  // Newer than the backup.
  expect(await sql("select rolpassword from pg_authid where rolname = 'partner'")).toBe(secondPassword);
  await appWorks();

  const undone = await kit("restore", ["--undo", "--on", "production", "--confirm", "shop"]);
  expect([undone.exitCode, undone.stdout]).toEqual([0, expect.stringMatching(/^"dbops_app_before_\d{8}T\d{6}" is /)]);
  expect(await sql(accounts)).toBe("0");
  await forget();
  await server.ssh(`rm ${project.folder}/migrations/20991231000001_later.sql`);
});

test("restore-by-hand, on the server itself, with curl, there and back", async () => {
  const page = "restore-by-hand";
  await begin();
  await backUp();
  await sql("truncate accounts cascade");
  const blocks = (await blocksOf(page, "Mitigation")).filter((block) => !/rclone|aws s3/.test(block));
  const script = [
    `rm -rf ~/empty && mkdir ~/empty && cd ~/empty`,
    `server() { (cd ${project.folder} && bash -c "$1"); }`,
    ...(await blocksOf(page, "Diagnosis")),
    bucketWords(),
    ...[...blocks, ...(await blocksOf(page, "Verify"))],
  ];
  const there = await onServer([...script, "declare -p live stamp >~/names"], answers());
  expect(there.stdout).toContain("the same rows\n");
  expect(await sql(accounts)).toBe("1000");
  await appWorks();
  const functions = ["Diagnosis", "Mitigation"].map((section) => blocksOf(page, section));
  const swap = (await Promise.all(functions)).flat().filter((block) => block.includes("swap() {"));
  const definition = swap.join("").replace(/^swap ".*$/m, "");
  const [server_, pg] = [script[1]!, /^pg\(\) .*$/m.exec(script[2]!)![0]];
  await onServer([server_, ". ~/names; user=dbops_app", pg, definition, ...(await blocksOf(page, "Back again"))]);
  expect(await sql(accounts)).toBe("0");
  await appWorks();
  // Nothing goes on there, and no passphrase is kept.
  expect((await server.ssh("pgrep gpg-agent || rm -r ~/empty ~/names; ls -A ~/.gnupg")).stdout).toBe("pubring.kbx\n");
  await forget();
});

test("restore-refused: a role is missing", async () => {
  const page = "restore-refused";
  await begin();
  await sql("create role accountant nologin; grant select on accounts to accountant");
  const id = await backUp();
  await sql("drop owned by accountant; drop role accountant");
  const plan = () => kit("restore", [id, "--on", "production", "--plan"]);
  const refused = await plan();
  expect([refused.exitCode, refused.stderr]).toEqual([3, expect.stringContaining(`read: docs/runbook/${page}.md`)]);
  expect(refused.stderr).toContain('the role "accountant" is missing');
  const diagnosis = await onServer(await blocksOf(page, "Diagnosis"));
  expect(diagnosis.stdout).toContain("partner");
  expect(diagnosis.stdout).not.toContain("accountant");
  await onServer([(await indented(page, "create role")).replace("NAME", "accountant")]);
  expect((await plan()).exitCode).toBe(0);
});

test("wrong-backup-restored: back by hand, and what was written meanwhile; back with the kit", async () => {
  const page = "wrong-backup-restored";
  await begin();
  const wrong = await backUp();
  await sql("insert into accounts (email, password_hash) values ('right@example.com', 'x')");
  const words = ["--on", "production", "--confirm", "shop"];
  expect((await kit("restore", [wrong, ...words, "--no-safety-backup"])).stderr).toContain("done   swap");
  const restoredAt = await sql("select clock_timestamp()");
  expect(await sql(accounts)).toBe("1000");
  await sql("insert into accounts (email, password_hash) values ('meanwhile@example.com', 'x')");
  const [diagnosis, mitigation, verify] = await Promise.all(
    ["Diagnosis", "Mitigation", "Verify"].map((section) => blocksOf(page, section)),
  );
  const said = await onServer([
    ...[...diagnosis!, mitigation![0]!, "table=accounts", mitigation![1]!, ...verify!],
    `pg psql -v ON_ERROR_STOP=1 -d "$live" <<'END'`,
    (await indented(page, "insert into"))
      .replaceAll("NAME", "accounts")
      .replaceAll("COLUMNS", "email, password_hash")
      .replace("TIME", restoredAt),
    "END",
  ]);
  expect(said.stdout).toMatch(/^dbops_app_before_\d{8}T\d{6}$/m);
  expect(said.stdout).toContain("COMMIT\n");
  expect(said.stdout).toContain("COPY 1001\n");
  expect(said.stdout).toContain('{"status":"ready"}');
  expect(await sql("select email from accounts where email ~ '^[rm]' order by 1")).toBe(
    "meanwhile@example.com\nright@example.com",
  );
  await appWorks();
  const undo = (await indented(page, "bun scripts/restore.ts --undo")).trim().split(" ").slice(2);
  expect((await kit("restore", [...undo, "--confirm", "shop"])).exitCode).toBe(0);
  expect(await sql(accounts)).toBe("1001");
  await forget();
});

test("restore-disk-full: refused beforehand; by hand, in the middle of it; removed in the page's order", async () => {
  const page = "restore-disk-full";
  await begin();
  await sql("create table heavy as select g, repeat(md5(g::text), 30) t from generate_series(1, 30000) g");
  const id = await backUp();
  const leave = "fallocate --length=$(($(df --output=avail --block-size=1 / | tail -1) - 25000000)) /filler";
  const restored = "dbops_app_restore_20261121T010203";
  const pg = "docker compose exec -T postgres";
  await sql(`create database "dbops_app_before_20260101T000000"`, "postgres");
  await sql(`create database "dbops_app_before_20260201T000000"`, "postgres");
  await server.ssh(leave, { user: "root" });
  try {
    const refused = await kit("restore", [id, "--on", "production", "--confirm", "shop"]);
    expect([refused.exitCode, refused.stderr]).toEqual([
      3,
      expect.stringMatching(/there are .* free, it takes about /),
    ]);
    const failed = await onServer(
      [
        `${pg} createdb -U dbops_app ${restored} </dev/null`,
        `${pg} pg_dump -U dbops_app -Fc dbops_app </dev/null | ${pg} pg_restore -U dbops_app --exit-on-error -d ${restored}`,
      ],
      { accept: [1] },
    );
    expect(failed.stderr).toMatch(/No space left on device|server closed the connection unexpectedly/);
    // Where not even its log found room, Postgres has stopped, and those that ask it cannot work.
    const diagnosis = await onServer(["set +e", ...(await blocksOf(page, "Diagnosis"))]);
    expect(diagnosis.stdout).toMatch(/ (9\d|100)% \//);
    expect(diagnosis.stdout).toContain("No space left on device");
  } finally {
    await server.freeDisk();
  }
  const [, pgFunction] = await blocksOf(page, "Diagnosis").then(([block]) => /^(pg\(\) .*)$/m.exec(block!)!);
  await onServer([pgFunction!, ...(await blocksOf(page, "Mitigation")), ...(await blocksOf(page, "Verify"))]);
  await appWorks();
  expect(await sql("select datname from pg_database where datname like 'dbops%' order by 1")).toBe(
    "dbops_app\ndbops_app_before_20260201T000000",
  );
  expect((await kit("restore", [id, "--on", "production", "--plan"])).exitCode).toBe(0);
  await sql("drop table heavy");
  await forget();
});

test("bucket-gone: what the storage says; a backup without it; what deletion marks hide; a new bucket", async () => {
  const page = "bucket-gone";
  await begin();
  const [, look] = await blocksOf(page, "Diagnosis");
  const asked = async (bucket: string, keys: Keys = s3) => {
    const [read] = await blocksOf(page, "Diagnosis");
    const words = `endpoint=${s3.endpoint} region=us-east-1 bucket=${bucket}`;
    return (await onLaptop([words, read!, look!], { stdin: answers(keys) })).stdout;
  };
  expect(await asked("backups")).toMatch(/<ListBucketResult[\s\S]*\n200\n$/);
  expect(await asked("nowhere")).toMatch(/NoSuchBucket[\s\S]*\n404\n$/);
  expect(await asked("backups", s3.stranger)).toMatch(/AccessDenied[\s\S]*\n403\n$/);
  expect(await asked("backups", { ...s3, accessKeyId: "REVOKED" })).toMatch(/InvalidAccessKeyId[\s\S]*\n403\n$/);
  expect(await asked("backups", { ...s3, secretAccessKey: "not/this+one" })).toMatch(/SignatureDoesNotMatch/);

  await configure({ bucket: "nowhere" });
  const without = await kit("backup", ["--on", "production"]);
  expect([without.exitCode, without.stderr]).toEqual([2, expect.stringContaining('has no bucket "nowhere"')]);
  expect(without.stderr).toContain(`read: docs/runbook/${page}.md`);

  // More patient than the lab's own, with all that runs beside it.
  const client = s3.client({ requestHandler: { connectionTimeout: 20_000, requestTimeout: 20_000 } });
  for (const Bucket of ["versions", "another"]) await client.send(new CreateBucketCommand({ Bucket }));
  const versions = { Bucket: "versions", VersioningConfiguration: { Status: "Enabled" as const } };
  await client.send(new PutBucketVersioningCommand(versions));
  const object = { Bucket: "versions", Key: "shop/a b/manifest.json" };
  await client.send(new PutObjectCommand({ ...object, Body: "{}" }));
  await client.send(new DeleteObjectCommand(object));
  const read = () => client.send(new GetObjectCommand(object)).then(({ Body }) => Body!.transformToString());
  await expect(read()).rejects.toThrow();
  const [ask] = await blocksOf(page, "Diagnosis");
  const { stdout, directory } = await onLaptop([
    `endpoint=${s3.endpoint} region=us-east-1 bucket=versions`,
    ...[ask!, `server() { ssh deploy@${server.address} "cd ${project.folder} && $1"; }`],
    ...(await blocksOf(page, "Mitigation")),
  ]);
  expect(await read()).toBe("{}");
  client.destroy();
  expect(stdout).toMatch(/ database\.dump\.gpg\n.* globals\.sql\.gpg\n/);

  await configure({ bucket: "another" });
  const dump = join(directory, "database.dump.gpg");
  const looked = await kit("restore", [dump, "--on", "production", "--into", "look_here"]);
  expect([looked.exitCode, await sql(accounts, "look_here")]).toEqual([0, "1000"]);
  await sql("drop database look_here", "postgres");
  const check = () => kit("backup", ["check", "--on", "production"]);
  expect((await check()).exitCode).toBe(3);
  await backUp();
  expect([(await kit("backup", ["verify", "--on", "production"])).exitCode, (await check()).exitCode]).toEqual([0, 0]);
});

test("backup-missing: nobody makes them, and somebody holds a lock", async () => {
  const page = "backup-missing";
  await begin();
  await configure({ prefix: "missing" });
  const check = () => kit("backup", ["check", "--on", "production"]);
  const missing = await check();
  expect([missing.exitCode, missing.stderr]).toEqual([3, expect.stringContaining(`read: docs/runbook/${page}.md`)]);
  const holder = sql("begin; lock table accounts; select pg_sleep(600)").catch(() => "ended");
  const backup = backUp();
  const diagnosis = await poll({ seconds: 40 }, async () => {
    const { stdout } = await onServer(await blocksOf(page, "Diagnosis"));
    return /\{\d+\} +\| lock table/.test(stdout) ? stdout : undefined;
  });
  expect(diagnosis).not.toMatch(/^backup /m);
  expect(diagnosis).toMatch(/^COMPOSE_PROFILES=blue$/m);
  const [, pid] = /\{(\d+)\} +\| lock table/.exec(diagnosis!)!;
  await onServer([(await indented(page, "pg_terminate_backend")).replace("PID", pid!)]);
  expect([await holder, (await backup).length]).toEqual(["ended", 29]);
  expect((await check()).exitCode).toBe(0);
});

function sshConfiguration(): string {
  const files = `IdentityFile ${server.privateKeyFile}\nUserKnownHostsFile ${server.knownHostsFile}\n`;
  return `${files}IdentitiesOnly yes\nBatchMode yes\n`;
}

type Keys = Pick<S3, "accessKeyId" | "secretAccessKey">;

const bucketWords = () => `endpoint=${s3.endpoint} region=us-east-1 place=backups/some/where/shop`;

/** What the pages ask for, one after the other. */
const answers = ({ accessKeyId, secretAccessKey }: Keys = s3) => `${accessKeyId}\n${secretAccessKey}\n${passphrase}\n`;

/** In one bash, in an empty directory. */
async function onLaptop(parts: readonly string[], { stdin = answers() } = {}): Promise<Result & { directory: string }> {
  const directory = mkdtempSync(join(folder, "empty-"));
  const script = ["set -eu", ...parts].join("\n");
  const words = { argv: ["bash", "-c", script], directory, environment: laptop, timeoutSeconds: 200 };
  return { ...(await run({ ...words, stdin })), directory };
}

type OnServer = { stdin?: string; accept?: readonly number[] };

/** Likewise, in the project's directory there. */
function onServer(parts: readonly string[], options: OnServer | string = {}): Promise<Result> {
  const { stdin = "", accept = [0] } = typeof options === "string" ? { stdin: options } : options;
  const command = ["set -euo pipefail", `cd ${project.folder}`, ...parts].join("\n");
  const argv = ["ssh", ...server.sshArguments, `deploy@${server.address}`];
  return run({
    argv: [...argv, `bash -c '${command.replaceAll("'", `'\\''`)}'`],
    ...{ environment: server.environment, stdin, accept, timeoutSeconds: 100 },
  });
}

/** Lines that are not run as they stand, because somebody has to put a name in. */
async function indented(page: string, beginning: string): Promise<string> {
  const text = readFileSync(join(repository, "docs/runbook", `${page}.md`), "utf8");
  const line = text.split("\n").find((one) => /^ {4}/.test(one) && one.includes(beginning));
  if (line === undefined) throw new Error(`${page}.md has no indented line with "${beginning}"`);
  return line.trim();
}

async function kit(verb: "backup" | "restore", words: readonly string[]): Promise<Result> {
  const values = { BACKUP_ACCESS_KEY_ID: s3.accessKeyId, BACKUP_SECRET_ACCESS_KEY: s3.secretAccessKey };
  return await run({
    argv: ["bun", "--no-env-file", join(repository, "scripts", `${verb}.ts`), ...words],
    directory: project.directory,
    environment: { ...project.environment, ...values, BACKUP_PASSPHRASE: passphrase, NO_COLOR: "1" },
    ...{ accept: [0, 1, 2, 3, 4, 5], timeoutSeconds: 100 },
  });
}

/** @returns its id. */
async function backUp(...words: readonly string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await kit("backup", ["--on", "production", "--json", ...words]);
  expect(exitCode, stderr).toBe(0);
  return JSON.parse(stdout).id;
}

/** Every test has the same data, and the bucket where it should be. */
async function begin(): Promise<void> {
  await configure({ prefix: "some/where" });
  await sql(`truncate accounts cascade;
    insert into accounts (email, password_hash) select g || '@example.com', 'x' from generate_series(1, 1000) g`);
}

const configure = (backup: { bucket?: string; prefix?: string }) =>
  project.configure({ backup: { bucket: "backups", endpoint: s3.endpoint, ...backup } });

/** @returns what psql prints, without decoration. */
async function sql(statements: string, database = "dbops_app"): Promise<string> {
  const psql = `psql --no-psqlrc --quiet --tuples-only --no-align --set=ON_ERROR_STOP=1 -U dbops_app -d ${database}`;
  return (await onServer([`docker compose exec -T postgres ${psql}`], statements)).stdout.trim();
}

/** What belongs to a database and not to its content. */
async function settingsOf(database: string): Promise<string[]> {
  const grants = "(select string_agg(a::text, ' ' order by a::text) from unnest(datacl) a)";
  const parameters =
    "(select string_agg(setrole || setconfig::text, ' ' order by setrole) from pg_db_role_setting where setdatabase = d.oid)";
  const text = await sql(
    `select datconnlimit, pg_get_userbyid(datdba), ${grants}, ${parameters} from pg_database d where datname = '${database}'`,
  );
  return text.split("|");
}

/** Its connections were cut a moment ago. */
async function appWorks(): Promise<void> {
  const isReady = async () => ((await project.ask("/health/ready")).status === 200 ? true : undefined);
  expect(await poll({ seconds: 20 }, isReady)).toBe(true);
}

/** Removes what was live before. */
async function forget(): Promise<void> {
  const drop =
    "select format('drop database %I with (force)', datname) from pg_database where datname ~ '_before_' \\gexec";
  await sql(drop, "postgres");
}
