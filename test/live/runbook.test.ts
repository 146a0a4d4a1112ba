// The runbook, followed to the letter: the fault is made, then every block of its page is run by a plain shell with
// docker compose, in a project whose scripts have been deleted.
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdir, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fingerprintOf } from "../../scripts/lib/known-hosts.ts";
import { type Result, run } from "../../scripts/lib/run.ts";
import { poll } from "../../scripts/lib/wait.ts";
import { startEngine } from "../lab/engine.ts";
import { brokenMigration, up } from "../lab/observe.ts";
import { plainSsh } from "../lab/plain-ssh.ts";
import { buildAppImage, createProject, type Project } from "../lab/project.ts";
import { repository } from "../lab/repository.ts";
import { blocksOf } from "../lab/runbook.ts";
import { startServer } from "../lab/server.ts";

setDefaultTimeout(120_000);

let project: Project;
let environment: Record<string, string>;

beforeAll(async () => {
  project = await createProject();
  await project.setEnvironment({ APP_IMAGE: await buildAppImage(project) });
  await rm(join(project.directory, "scripts"), { recursive: true });
  await project.compose(up);
  const { environment: engine } = await startEngine();
  environment = { ...engine, COMPOSE_PROJECT_NAME: project.name, HTTP_PORT: new URL(project.url).port };
});
afterAll(() => project?.remove());

const withTests = [
  "runbook",
  "runbook-migrations",
  "runbook-drift",
  "runbook-deploy",
  "runbook-backup",
  "runbook-server-gone",
  "backup",
  "adopt-stack",
];

test("every page is in the index, and every page has a test here or in one of the files beside", async () => {
  const pages = (await readdir(join(repository, "docs/runbook"))).filter((page) => page !== "README.md").sort();
  const index = await readFile(join(repository, "docs/runbook/README.md"), "utf8");
  const linked = new Set([...index.matchAll(/\(([\w-]+\.md)\)/g)].map(([, page]) => page!));
  expect([...linked].sort()).toEqual(pages);
  const tests = await Promise.all(withTests.map((name) => readFile(join(import.meta.dir, `${name}.test.ts`), "utf8")));
  expect(pages.filter((page) => !tests.join("").includes(`"${page.replace(/\.md$/, "")}"`))).toEqual([]);
});

test("README: the first look", async () => {
  const output = await follow("README");
  expect(output).toContain("postgres");
});

test("migration-failed", async () => {
  const page = "migration-failed";
  await project.write(brokenMigration.path, brokenMigration.text);
  await project.compose(up, { accept: [1] });
  const diagnosis = await follow(page, "Diagnosis");
  expect(diagnosis).toContain(`Applying: ${brokenMigration.path.split("/").at(-1)}`);
  expect(diagnosis).toContain("Pending: 1");
  await rm(join(project.directory, brokenMigration.path));
  await follow(page, "Mitigation");
  expect(await follow(page, "Verify")).toContain("Pending: 0");
});

test("app-does-not-start", async () => {
  const page = "app-does-not-start";
  await sql("alter table sessions rename to sessions_gone");
  await project.compose(["restart", "app"]);
  // 0 as well: Compose 2.40 does not always say that this time is over.
  await project.compose(["up", "--detach", "--wait", "--wait-timeout", "10", "app"], { accept: [0, 1] });
  expect(await follow(page, "Diagnosis")).toContain("fail  tables: Table sessions is missing");
  await sql("alter table sessions_gone rename to sessions");
  await follow(page, "Mitigation");
  expect(await follow(page, "Verify")).toContain('"status":"ready"');
});

test("database-unhealthy", async () => {
  const page = "database-unhealthy";
  await project.compose(["kill", "--signal", "SIGKILL", "postgres"]);
  // Blocks that ask Postgres itself cannot work while it is down: here they may fail, after Mitigation they may not.
  expect(await follow(page, "Diagnosis", { mayFail: true })).toContain("Exited (137)");
  await follow(page, "Mitigation");
  await follow(page, "Diagnosis");
  expect(await follow(page, "Verify")).toContain('"status":"healthy"');
});

test("wrong-password", async () => {
  const page = "wrong-password";
  await project.setEnvironment({ POSTGRES_PASSWORD: `new $1 "#\\ word` });
  await project.compose(up, { accept: [1] });
  expect(await follow(page, "Diagnosis")).toContain("password authentication failed for user");
  await follow(page, "Mitigation");
  await follow(page, "Verify");
});

test("port-is-taken", async () => {
  expect(await follow("port-is-taken", "Diagnosis")).toContain(project.name);
  await follow("port-is-taken", "Mitigation");
  await follow("port-is-taken", "Verify");
});

describe("on a server", () => {
  test("no-certificate", async () => {
    const server = await createProject({ overlay: "production" });
    try {
      await mkdir(join(server.directory, "certificates"));
      // Healthy it is only with a slot behind it, which this page does not need.
      await server.compose(["up", "--detach", "--no-deps", "nginx"]);
      const ask = () => fetch(server.url, { redirect: "manual" }).catch(() => undefined);
      const answer = (await poll({ seconds: 10 }, ask))!;
      expect([answer.status, await answer.text()]).toEqual([
        503,
        expect.stringContaining("There is no certificate yet"),
      ]);
      await follow("no-certificate", "Diagnosis", { in: server });
    } finally {
      await server.remove();
    }
  });
});

test("host-key-changed", async () => {
  const page = "host-key-changed";
  const server = await startServer({ kind: "docker" });
  const tools = await mkdtemp(join(tmpdir(), "dbops-runbook-"));
  const login = `IdentityFile ${server.privateKeyFile}\nBatchMode yes\n`;
  const environment = await plainSsh(tools, login);
  const pinned = "AAAAC3NzaC1lZDI1NTE5AAAAIO0SlsHDJA3M8iu9qwAjDzgL0wm+OiGpgYxhJURUmJrv";
  const fingerprint = fingerprintOf({ key: server.hostKey.split(" ")[1]! });
  try {
    await project.write("known_hosts", `${server.address} ssh-ed25519 ${pinned}\n`);
    const diagnosis = await follow(page, "Diagnosis", { environment });
    expect(diagnosis.match(/SHA256:\S+/g)).toEqual([fingerprintOf({ key: pinned }), fingerprint]);
    await expect(follow(page, "Verify", { environment })).rejects.toThrow();
    expect(await follow(page, "Mitigation", { environment })).toContain(fingerprint);
    await follow(page, "Verify", { environment });
  } finally {
    await server.stop();
    for (const path of [tools, join(project.directory, "known_hosts")])
      await rm(path, { recursive: true, force: true });
  }
});

/** Runs a section's blocks in a shell, each to its end. @returns what they printed. */
async function follow(
  page: string,
  section?: string,
  options: { mayFail?: boolean; in?: Project; environment?: Record<string, string | undefined> } = {},
): Promise<string> {
  const where = options.in ?? project;
  let printed = "";
  for (const block of await blocksOf(page, section)) {
    const { stdout, stderr }: Result = await run({
      argv: ["bash", "-euo", "pipefail", "-c", block],
      directory: where.directory,
      environment: { ...environment, COMPOSE_PROJECT_NAME: where.name, ...options.environment },
      accept: options.mayFail ? [0, 1] : [0],
      timeoutSeconds: 120,
    });
    printed += stdout + stderr;
  }
  return printed;
}

async function sql(statement: string): Promise<void> {
  const client = 'psql -v ON_ERROR_STOP=1 -U "$POSTGRES_USER" -d "$POSTGRES_DB"';
  await project.compose(["exec", "-T", "postgres", "sh", "-c", client], { stdin: statement });
}
