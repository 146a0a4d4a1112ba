// templates/github/workflows about backups: their scripts, run as GitHub runs them, against a server and a bucket of the lab. What GitHub
// itself does is imitated by test/lab/workflow.ts.
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Manifest } from "../../scripts/lib/manifest.ts";
import { run } from "../../scripts/lib/run.ts";
import { type Op, startOp } from "../lab/op.ts";
import { plainSsh } from "../lab/plain-ssh.ts";
import { type ProjectFiles, writeProjectFiles } from "../lab/project-files.ts";
import { programs, repository } from "../lab/repository.ts";
import { type S3, startS3 } from "../lab/s3.ts";
import { type Server, startServer } from "../lab/server.ts";
import { type Job, startJob } from "../lab/workflow.ts";

setDefaultTimeout(120_000);

let folder: string;
let project: ProjectFiles;
let server: Server;
let s3: S3;
let op: Op;
let environment: Record<string, string>;
let secrets: Record<string, string>;
let job: Job | undefined;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "dbops-workflows-"));
  [server, s3, project] = await Promise.all([
    startServer({ kind: "docker", withImages: true }),
    startS3(),
    writeProjectFiles({ name: "shop" }),
  ]);
  secrets = {
    "backup-key-id": s3.accessKeyId,
    "backup-secret-key": s3.secretAccessKey,
    "backup-passphrase": "$hunter2 'backup\" passphrase",
  };
  op = await startOp({ items: [{ vault: "production", title: "shop", fields: secrets }] });
  await s3.createBucket("backups");
  await writeProject();
  await startStack();
  environment = { PATH: (await plainSsh(folder)).PATH! };
}, 300_000);
afterEach(async () => {
  await job?.remove();
  job = undefined;
});
afterAll(async () => {
  await Promise.all([server?.stop(), s3?.stop(), op?.stop()]);
  for (const path of [folder, project?.directory]) if (path) rmSync(path, { recursive: true, force: true });
});

/** dbops.config.ts and .env.tpl with this server, this bucket and these secrets, committed. */
async function writeProject(): Promise<void> {
  const { directory, write } = project;
  const config = readFileSync(join(directory, "dbops.config.ts"), "utf8")
    .replace(/server: "[^"]*"/, `server: "deploy@${server.address}"`)
    .replace("  deploy: {", `  backup: { bucket: "backups", endpoint: "${s3.endpoint}" },\n  deploy: {`);
  await write("dbops.config.ts", config);
  const template = readFileSync(join(directory, ".env.tpl"), "utf8");
  await write(".env.tpl", template.replaceAll(/^# (BACKUP_\w+=)/gm, "$1"));
  await write("known_hosts", `${server.address} ${server.hostKey}\n`);
  await git("init", "--quiet", "--initial-branch=main");
  await git("add", "--all");
  await git("commit", "--quiet", "--message", "the project");
}

/** `git WORDS` in the project, as somebody whom no configuration of this machine knows. */
async function git(...words: string[]): Promise<void> {
  const identity = ["-c", "user.name=octocat", "-c", "user.email=octocat@example.com", "-c", "commit.gpgsign=false"];
  await run({
    argv: ["git", ...identity, ...words],
    directory: project.directory,
    environment: { GIT_CONFIG_GLOBAL: "/dev/null" },
  });
}

/** As a deploy leaves it, without the app. */
async function startStack(): Promise<void> {
  const packed = await run({
    argv: ["sh", "-c", "tar -c compose.yaml compose migrations nginx | base64 -w 0"],
    directory: project.directory,
  });
  await server.ssh("install -d -o deploy -g deploy /opt/shop", { user: "root" });
  await server.ssh(
    `cd /opt/shop && base64 -d <<'END' | tar -x
${packed.stdout}
END
    printf '%s\\n' COMPOSE_PATH_SEPARATOR=: COMPOSE_FILE=compose.yaml:compose/development.yaml POSTGRES_PASSWORD=secret \\
      POSTGRES_DB=shop POSTGRES_USER=shop > .env
    docker compose up --detach --wait postgres && docker compose run --rm --no-TTY migrations`,
    { timeoutSeconds: 120 },
  );
}

async function sql(statements: string, database = "shop"): Promise<string> {
  const psql = `docker compose exec -T postgres psql -U shop -d ${database} -qtA -v ON_ERROR_STOP=1`;
  return (await server.ssh(`cd /opt/shop && ${psql} <<'END'\n${statements}\nEND`)).stdout.trim();
}

/** From a laptop. */
async function backUp(): Promise<Manifest> {
  const argv = ["bun", "--no-env-file", join(repository, "scripts/backup.ts"), "--on", "production", "--json"];
  const { stdout } = await run({
    ...{ argv, directory: project.directory, timeoutSeconds: 100 },
    environment: { ...environment, PATH: `${op.environment.PATH}:${environment.PATH}`, ...laptop() },
  });
  return JSON.parse(stdout) as Manifest;
}

const laptop = () => ({
  OP_SERVICE_ACCOUNT_TOKEN: op.environment.OP_SERVICE_ACCOUNT_TOKEN!,
  DBOPS_SSH_KEY_FILE: server.privateKeyFile,
  SSH_AUTH_SOCK: undefined,
});

/** A workflow that somebody has started by hand, with what he has typed. */
async function start(workflow: string, inputs: Readonly<Record<string, string>> = {}): Promise<Job> {
  return await startJob({
    file: `.github/workflows/${workflow}.yml`,
    repository: project.directory,
    values: {
      ...Object.fromEntries(Object.entries(inputs).map(([name, value]) => [`inputs.${name}`, value])),
      "!cancelled()": "true",
      "secrets.SSH_PRIVATE_KEY": readFileSync(server.privateKeyFile, "utf8"),
      "secrets.OP_SERVICE_ACCOUNT_TOKEN": op.environment.OP_SERVICE_ACCOUNT_TOKEN!,
    },
    actions: {
      "actions/checkout": async () => undefined,
      "oven-sh/setup-bun": async () => programs,
      "1password/install-cli-action": async () => op.environment.PATH!.split(":")[0],
    },
    environment,
  });
}

function expectNoSecretIn({ log }: Job): void {
  const all = [...Object.values(secrets), readFileSync(server.privateKeyFile, "utf8")];
  expect(all.filter((secret) => log().includes(secret))).toEqual([]);
}

describe("restore.yml", () => {
  const steps = [
    ...["Check the inputs", "Check out", "Set up Bun", "Set up 1Password", "Install packages", "Load the SSH key"],
    "Restore",
  ];
  const done = steps.map((name) => ({ name, result: "done" as const }));
  const count = (database?: string) => sql("select count(*) from accounts", database);
  let manifest: Manifest;

  beforeAll(async () => {
    await sql("insert into accounts (email, password_hash) select g || '@x', 'x' from generate_series(1, 100) g");
    manifest = await backUp();
    await sql("truncate accounts cascade");
  });

  test("the latest, into a new database: the live one is not touched", async () => {
    job = await start("restore", { what: "new database", backup: "latest", confirm: "shop" });
    expect(await job.ended, job.log()).toEqual(done);
    expect([await count("restored_42_1"), await count()]).toEqual(["100", "0"]);
    expectNoSecretIn(job);
  });

  test("one by its id, swapped in; and undone", async () => {
    job = await start("restore", { what: "swap", backup: manifest.id, confirm: "shop" });
    expect(await job.ended, job.log()).toEqual(done);
    expect(await count()).toBe("100");
    expectNoSecretIn(job);
    await job.remove();
    job = await start("restore", { what: "undo", backup: "latest", confirm: "shop" });
    expect(await job.ended, job.log()).toEqual(done);
    expect(await count()).toBe("0");
  });

  const good = { what: "swap", backup: "latest", confirm: "shop" };
  const id = "2026-11-21T03-00-00Z-4f2c1a2b";
  test.each([
    { name: "another project's name", inputs: { confirm: "shop2" }, says: 'the project is "shop"' },
    { name: "no name", inputs: { confirm: "" }, says: 'the project is "shop"' },
    { name: "a name that matches as a pattern", inputs: { confirm: "*" }, says: 'the project is "shop"' },
    { name: "something else to do", inputs: { what: "drop" }, says: '"what" takes' },
    { name: "two things to do", inputs: { what: "undo\nswap" }, says: '"what" takes' },
    { name: "no backup", inputs: { backup: "" }, says: '"backup" takes' },
    { name: "a command", inputs: { backup: "$(touch gotcha)" }, says: '"backup" takes' },
    { name: "an id and a command", inputs: { backup: `${id}; touch gotcha` }, says: '"backup" takes' },
    { name: "an id and another line", inputs: { backup: `${id}\ntouch gotcha` }, says: '"backup" takes' },
    { name: "a flag", inputs: { backup: "--undo" }, says: '"backup" takes' },
    { name: "a file", inputs: { backup: "../../etc/passwd.gpg" }, says: '"backup" takes' },
    { name: "a quote", inputs: { confirm: 'shop" --yes; touch gotcha; "' }, says: 'the project is "shop"' },
  ])("refuses $name, before anything is set up", async ({ inputs, says }) => {
    job = await start("restore", { ...good, ...inputs });
    expect(await job.ended).toEqual([{ name: "Check the inputs", result: 2 }]);
    expect(job.log()).toStartWith("::error::Nothing was changed: ");
    expect(job.log()).toContain(says);
    expect(readdirSync(job.directory)).not.toContain("gotcha");
  });
});

test("backup.yml makes one, reads it to its end, and finds it recent", async () => {
  const steps = [
    ...["Check out", "Set up Bun", "Set up 1Password", "Install packages", "Load the SSH key"],
    ...["Back up", "Verify", "Check"],
  ];
  job = await start("backup");
  expect(await job.ended, job.log()).toEqual(steps.map((name) => ({ name, result: "done" as const })));
  const [, id] = /^Backup (\S+): .* after \d+\.\d s$/m.exec(job.log())!;
  expect(job.log()).toContain(`Backup ${id} is whole: `);
  expect(job.log()).toContain(`Good: the newest good backup, ${id}, is `);
  expectNoSecretIn(job);
});
