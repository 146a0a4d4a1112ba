// What fails before a server has been asked anything: who is told of it, of the deploy and of the rollback, and who is not.
import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Config } from "../../scripts/lib/config.ts";
import { run } from "../../scripts/lib/run.ts";
import { freePort } from "../lab/postgres.ts";
import { linkPackages, type ProjectFiles, writeProjectFiles } from "../lab/project-files.ts";
import { programs, repository } from "../lab/repository.ts";
import { type Sink, startSink } from "../lab/sink.ts";

const password = "hunter2-hunter2";
const image = "ghcr.io/example/dbops-app:1";

let project: ProjectFiles;
let sink: Sink;
let port: number;
beforeAll(async () => {
  [sink, project, port] = await Promise.all([startSink(), writeProjectFiles(), freePort()]);
  await linkPackages(project.directory);
  await project.write(
    "known_hosts",
    "127.0.0.1 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIO0SlsHDJA3M8iu9qwAjDzgL0wm+OiGpgYxhJURUmJrv\n",
  );
  await project.write(
    ".env.tpl",
    `COMPOSE_FILE=compose.yaml:compose/production.yaml
DOMAIN=app.example.com
POSTGRES_DB=shop
POSTGRES_USER=shop
POSTGRES_PASSWORD=secret://EARLY_PASSWORD
TEMPLATE_URL=${sink.url}/template
`,
  );
});
afterAll(async () => {
  await sink?.stop();
  if (project) await rm(project.directory, { recursive: true, force: true });
});
beforeEach(async () => {
  sink.clear();
  await rm(join(project.directory, "hook.txt"), { force: true });
  await configure();
});

/** Nobody listens at the server's port. */
async function configure(domain = "app.example.com"): Promise<void> {
  const config: Config = {
    ...{ name: "shop", database: "shop", app: { command: ["bun"], port: 3000 } },
    schema: { criticalTables: [], extensions: [] },
    environments: {
      local: {},
      production: {
        server: "deploy@127.0.0.1",
        port,
        directory: "/opt/shop",
        domain,
        image: "ghcr.io/example/dbops-app",
      },
    },
    secrets: { provider: "env" },
    deploy: { hooks: { afterFailure: ["sh", "-c", "env | grep ^DBOPS_ | sort >hook.txt"] } },
    notifications: [
      { kind: "webhook", urlFrom: "OWN_URL", on: "failure" },
      { kind: "webhook", urlFrom: "TEMPLATE_URL" },
    ],
  };
  await project.write("dbops.config.ts", `export default ${JSON.stringify(config)};\n`);
}

type Environment = Record<string, string | undefined>;

async function refused(verb: string, words: readonly string[], exitCode: number, environment: Environment = {}) {
  const own = {
    EARLY_PASSWORD: password,
    OWN_URL: `${sink.url}/own`,
    DBOPS_SSH_KEY_FILE: undefined,
    GITHUB_ACTIONS: undefined,
  };
  const { stderr } = await run({
    argv: [join(programs, "bun"), join(repository, `scripts/${verb}.ts`), ...words],
    directory: project.directory,
    environment: { ...own, ...environment },
    accept: [exitCode],
  });
  expect(stderr).not.toContain(password);
  const file = join(project.directory, "hook.txt");
  const hook = existsSync(file) ? (await readFile(file, "utf8")).trim().split("\n") : [];
  const told = sink.requests.map(({ path, body }) => ({ path, news: JSON.parse(body) }));
  return { stderr, hook, told: told.sort((a, b) => a.path.localeCompare(b.path)) };
}

const deploy = ["--image", image];
const news = { project: "shop", environment: "production", outcome: "failed", who: expect.stringMatching(/.@./) };
const facts = ["DBOPS_ENVIRONMENT=production", `DBOPS_IMAGE=${image}`, "DBOPS_OUTCOME=failed"];

test("secrets that cannot be read: whose URL is in the environment is told, for the other it says why not", async () => {
  const { stderr, hook, told } = await refused("deploy", deploy, 2, { EARLY_PASSWORD: undefined });
  const summary = "Cannot read secrets from env: it has no EARLY_PASSWORD";
  expect(told).toEqual([{ path: "/own", news: { what: "deploy", ...news, image, summary } }]);
  expect(stderr).toContain(
    "warning: webhook was not told: TEMPLATE_URL is not in the environment, and .env.tpl was not read\n",
  );
  expect(stderr).toContain(`\n${summary}\n  next: export EARLY_PASSWORD\n`);
  expect(hook).toEqual(facts);
});

test("no way to the server: everybody is told", async () => {
  const { stderr, hook, told } = await refused("deploy", deploy, 1);
  const summary = `Cannot reach 127.0.0.1: it is there, but nobody listens on port ${port}`;
  const one = { what: "deploy", ...news, image, summary, details: expect.stringContaining("Connection refused") };
  expect(told).toEqual([
    { path: "/own", news: one },
    { path: "/template", news: one },
  ]);
  expect(stderr).toContain(`\n${summary}\n`);
  expect(hook).toEqual(facts);
});

test("a domain that nginx does not serve", async () => {
  await configure("new.example.com");
  const { stderr, told } = await refused("deploy", deploy, 2);
  const summary =
    "Cannot serve new.example.com: environments.production.domain in dbops.config.ts is no server_name in nginx/production.conf";
  expect(stderr).toContain(`\n${summary}\n`);
  expect(told.map(({ news }) => news.summary)).toEqual([summary, summary]);
});

test("a rollback that does not get there", async () => {
  const { stderr, hook, told } = await refused("rollback", [], 1);
  const summary = `Cannot reach 127.0.0.1: it is there, but nobody listens on port ${port}`;
  const details = expect.stringContaining("Connection refused");
  expect(told).toEqual([{ path: "/own", news: { what: "rollback", ...news, summary, details } }]);
  expect(stderr).toContain("TEMPLATE_URL is not in the environment, and the server's .env was not read\n");
  expect(hook).toEqual(["DBOPS_ENVIRONMENT=production", "DBOPS_OUTCOME=failed"]);
});

const half = { DBOPS_REGISTRY_USER: "ann", DBOPS_REGISTRY_PASSWORD: undefined };
test.each([
  { verb: "deploy", words: [...deploy, "--plan"], exitCode: 2, environment: { EARLY_PASSWORD: undefined } },
  { verb: "deploy", words: [...deploy, "--plan"], exitCode: 1 },
  { verb: "deploy", words: ["--history"], exitCode: 1 },
  { verb: "deploy", words: [...deploy, "--build"], exitCode: 2, says: "it takes either --image or --build" },
  {
    verb: "deploy",
    words: [...deploy, "--history"],
    exitCode: 2,
    says: "--history only prints what was deployed: no --image or --build with it",
  },
  {
    ...{ verb: "deploy", words: deploy, exitCode: 2, environment: half },
    says: "DBOPS_REGISTRY_USER is set, and DBOPS_REGISTRY_PASSWORD is not",
  },
  {
    ...{ verb: "rollback", words: [], exitCode: 2, environment: half },
    says: "DBOPS_REGISTRY_USER is set, and DBOPS_REGISTRY_PASSWORD is not",
  },
  { verb: "rollback", words: ["--plan"], exitCode: 1 },
  { verb: "rollback", words: ["--list"], exitCode: 1, environment: half },
  {
    verb: "rollback",
    words: ["--list", "--to", "2"],
    exitCode: 2,
    says: "--list only prints the releases that have served: no --to with it",
  },
])("$verb $words, exit $exitCode: nobody is told", async ({ verb, words, exitCode, environment, says = "" }) => {
  const { stderr, hook, told } = await refused(verb, words, exitCode, environment);
  expect(stderr).toContain(says);
  expect({ hook, told }).toEqual({ hook: [], told: [] });
});
