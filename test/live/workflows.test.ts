// templates/github/workflows: their scripts, run as GitHub runs them, against a registry and a server of the lab. What GitHub
// itself does (checking out, setting up, masking) is imitated by test/lab/workflow.ts.
import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { existsSync, symlinkSync } from "node:fs";
import { mkdtemp, readFile, rm, unlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Config } from "../../scripts/lib/config.ts";
import { run } from "../../scripts/lib/run.ts";
import { createDeployProject, type DeployProject } from "../lab/deploy-project.ts";
import { type Op, startOp } from "../lab/op.ts";
import { type Registry, startRegistry } from "../lab/registry.ts";
import { programs } from "../lab/repository.ts";
import { type Server, startServer } from "../lab/server.ts";
import { type Sink, startSink } from "../lab/sink.ts";
import { type Job, type StepResult, startJob } from "../lab/workflow.ts";

let server: Server;
let registry: Registry;
let project: DeployProject;
let op: Op;
let sink: Sink;
let privateKey: string;
let runner: string;
let job: Job | undefined;

const secrets = { "postgres-password": "$hunter2 %postgres#", "health-token": "health-hunter2-hunter2" };

beforeAll(async () => {
  [server, registry, sink] = await Promise.all([
    startServer({ kind: "docker", withImages: true }),
    startRegistry(),
    startSink(),
  ]);
  op = await startOp({ items: [{ vault: "production", title: "shop", fields: { ...secrets, webhook: sink.url } }] });
  project = await createDeployProject({
    server,
    registry,
    config: config(),
  });
  await project.edit(".env.tpl", (text) => {
    const item = (name: string) => `'op://production/shop/${name.toLowerCase().replaceAll("_", "-")}'`;
    return `${text.replaceAll(/'secret:\/\/(\w+)'/g, (_, name) => item(name))}WEBHOOK_URL=${item("WEBHOOK")}\n`;
  });
  privateKey = await readFile(server.privateKeyFile, "utf8");
  runner = await mkdtemp(join(tmpdir(), "dbops-runner-home-"));
  // Of a checkout nothing is installed; and the workflow's own `bun install` must not write into this repository.
  await unlink(join(project.directory, "node_modules"));
  await git("init", "--quiet", "--initial-branch=main");
  await commit("the first");
}, 300_000);
afterEach(async () => {
  await job?.remove();
  sink?.clear();
});
afterAll(async () => {
  if (project) await removeImages();
  await Promise.all([project?.remove(), op?.stop(), sink?.stop(), rm(runner, { recursive: true, force: true })]);
  await server?.stop();
  await registry?.stop();
}, 60_000);

const config = (): Partial<Config> => ({
  secrets: { provider: "op" },
  deploy: { bakeSeconds: 1, hooks: { before: ["sh", "-c", 'echo "checking $DBOPS_IMAGE"'] } },
  notifications: [{ kind: "webhook", urlFrom: "WEBHOOK_URL" }],
});

const everyStep = [
  "Check out",
  "Set up Bun",
  "Set up 1Password",
  "Install packages",
  "Load the SSH key",
  "Log in to the registry",
  "Build",
  "Push",
  "Deploy",
];
const buildSteps = ["Log in to the registry", "Build", "Push"];
const results = (names: readonly string[], result: StepResult["result"]) => names.map((name) => ({ name, result }));
const done = results(everyStep, "done");
const lastStep = async (of: Job) => (await of.ended).at(-1);

test("a push to main builds, pushes and deploys: on an empty server, then beside what serves", async () => {
  for (const message of ["the first", "the second"]) {
    const sha = await commit(message);
    const opCalls = op.calls().length;
    job = await start("deploy");
    expect(await job.ended, job.log()).toEqual(done);
    expect(await release()).toBe(sha);
    expect(job.log()).toContain(`hook     | checking ${project.image}:${sha}`);
    expectNoSecretIn(job);
    expect(op.calls().length).toBe(opCalls + 1);
    const [news] = await sink.received(1);
    expect(JSON.parse(news!.body)).toMatchObject({
      ...{ what: "deploy", project: "shop", outcome: "done", who: "octocat in GitHub Actions" },
      url: "https://github.example/me/shop/actions/runs/42",
    });
    sink.clear();
    await job.remove();
  }
}, 300_000);

test("by hand, an image that is there already is not built again", async () => {
  const earlier = await git("rev-parse", "HEAD~1");
  job = await start("deploy", { image: `${project.image}:${earlier}` });
  const expected = done.map((step) =>
    buildSteps.includes(step.name) ? { ...step, result: "skipped" as const } : step,
  );
  expect(await job.ended, job.log()).toEqual(expected);
  expect(await release()).toBe(earlier);
}, 300_000);

test("what would interrupt the service is refused, until somebody ticks the box", async () => {
  const serving = await release();
  await project.edit("compose.yaml", (text) => text.replace("pids_limit: 128", "pids_limit: 129"));
  const sha = await commit("nginx has to be recreated");
  job = await start("deploy");
  expect(await lastStep(job), job.log()).toEqual({ name: "Deploy", result: 5 });
  expect(await release()).toBe(serving);
  await job.remove();
  job = await start("deploy", { image: `${project.image}:${sha}`, allowDowntime: true });
  expect(await lastStep(job), job.log()).toEqual({ name: "Deploy", result: "done" });
  expect(await release()).toBe(sha);
}, 300_000);

test("cancelled in the middle of the switch, it goes back before GitHub kills it", async () => {
  const serving = await release();
  await project.configure({ ...config(), deploy: { bakeSeconds: 300 } });
  try {
    await commit("a long look");
    job = await start("deploy", {}, (line) => {
      if (/done +switch/.test(line)) job!.cancel();
    });
    expect(await lastStep(job), job.log()).toEqual({ name: "Deploy", result: 130 });
    expect(await release()).toBe(serving);
  } finally {
    await project.configure(config());
  }
}, 300_000);

test("the commands for a laptop do the same", async () => {
  const sha = await commit("from a laptop");
  const laptop = await mkdtemp(join(runner, "laptop-"));
  await git("clone", "--quiet", project.directory, laptop);
  const guide = await readFile(join(laptop, "docs/github-actions.md"), "utf8");
  const block = guide.split("## The same by hand")[1]!.match(/```sh\n([\s\S]+?)```/)![1]!;
  const environment = {
    ...project.environment,
    PATH: [op.environment.PATH, project.environment.PATH].join(":"),
    OP_SERVICE_ACCOUNT_TOKEN: op.environment.OP_SERVICE_ACCOUNT_TOKEN!,
    DBOPS_REGISTRY_USER: registry.user,
    DBOPS_REGISTRY_PASSWORD: registry.password,
  };
  await run({ argv: ["bun", "install"], directory: laptop, environment });
  await run({ argv: ["bash", "-e", "-c", block], directory: laptop, environment, timeoutSeconds: 240 });
  expect(await release()).toBe(sha);
}, 300_000);

test.each([
  { name: "missing", sshKey: "", says: "SSH_PRIVATE_KEY: is not set, see docs/github-actions.md" },
  { name: "broken", sshKey: "not a key", says: "(stdin)" },
])(
  "an SSH key that is $name ends it before anything is built",
  async ({ sshKey, says }) => {
    job = await start("deploy", { sshKey });
    const expected = results(everyStep.slice(0, everyStep.indexOf("Load the SSH key")), "done");
    expect(await job.ended).toEqual([...expected, { name: "Load the SSH key", result: 1 }]);
    expect(job.log()).toContain(says);
  },
  300_000,
);

test("rollback.yml goes back to the release before, and to any by its number, without asking op", async () => {
  const serving = await release();
  const sha = await commit("to be taken back");
  job = await start("deploy");
  expect(await lastStep(job), job.log()).toEqual({ name: "Deploy", result: "done" });
  const number = JSON.parse((await sink.received(1))[0]!.body).release;
  const opCalls = op.calls().length;
  for (const { target, serves } of [
    { target: "", serves: serving },
    { target: `${number}`, serves: sha },
  ]) {
    await job.remove();
    job = await start("rollback", { release: target });
    expect(await lastStep(job), job.log()).toEqual({ name: "Roll back", result: "done" });
    expect(await release()).toBe(serves);
    expectNoSecretIn(job);
  }
  expect(op.calls().length).toBe(opCalls);
}, 300_000);

/** What serves, as it says to whoever knows the token. */
async function release(): Promise<string> {
  const { body } = await project.ask("/health", { headers: { "X-Health-Token": secrets["health-token"] } });
  return JSON.parse(body).release;
}

/** `git WORDS` in the project, as somebody whom no configuration of this machine knows. */
async function git(...words: string[]): Promise<string> {
  const identity = ["-c", "user.name=octocat", "-c", "user.email=octocat@example.com", "-c", "commit.gpgsign=false"];
  const environment = { GIT_CONFIG_GLOBAL: "/dev/null" };
  return (await run({ argv: ["git", ...identity, ...words], directory: project.directory, environment })).stdout.trim();
}

/** @returns its hash. */
async function commit(message: string): Promise<string> {
  await project.write("README.md", message);
  await git("add", "--all");
  await git("commit", "--quiet", "--allow-empty", "--message", message);
  return git("rev-parse", "HEAD");
}

type Inputs = { image?: string; allowDowntime?: boolean; release?: string; sshKey?: string };

async function start(
  workflow: "deploy" | "rollback",
  inputs: Inputs = {},
  onLine?: (line: string) => void,
): Promise<Job> {
  return startJob({
    file: `.github/workflows/${workflow}.yml`,
    repository: project.directory,
    values: {
      "!inputs.image": `${!inputs.image}`,
      "inputs.image": inputs.image ?? "",
      "inputs.allow-downtime": `${inputs.allowDowntime ?? false}`,
      "inputs.release": inputs.release ?? "",
      "secrets.SSH_PRIVATE_KEY": inputs.sshKey ?? privateKey,
      "secrets.OP_SERVICE_ACCOUNT_TOKEN": op.environment.OP_SERVICE_ACCOUNT_TOKEN!,
      "vars.REGISTRY_USER || github.actor": registry.user,
      "secrets.REGISTRY_PASSWORD || github.token": registry.password,
    },
    actions: {
      "actions/checkout": async () => undefined,
      "oven-sh/setup-bun": async () => programs,
      "1password/install-cli-action": async () => op.environment.PATH!.split(":")[0],
    },
    environment: await runnerEnvironment(),
    ...(onLine && { onLine }),
  });
}

/** A docker that talks to the lab's engine and is logged in nowhere yet, and the programs that every runner has. */
async function runnerEnvironment(): Promise<Record<string, string>> {
  const { DOCKER_CONFIG, ...engine } = registry.environment;
  const plugins = join(DOCKER_CONFIG!, "cli-plugins");
  const configuration = await mkdtemp(join(runner, "docker-"));
  if (existsSync(plugins)) symlinkSync(plugins, join(configuration, "cli-plugins"));
  const path = [server.environment.PATH, engine.PATH ?? process.env.PATH].join(":");
  return { ...engine, PATH: path, DOCKER_CONFIG: configuration };
}

/** A runner is thrown away; this engine stays. */
async function removeImages(): Promise<void> {
  const docker = (words: string[]) => run({ argv: ["docker", ...words], environment: registry.environment });
  const { stdout } = await docker(["image", "ls", "--format", "{{.Repository}}:{{.Tag}}", project.image]);
  const references = stdout.split("\n").filter(Boolean);
  if (references.length > 0) await docker(["image", "rm", ...references]);
}

function expectNoSecretIn({ log }: Job): void {
  const everything = [
    ...Object.values(secrets),
    registry.password,
    op.environment.OP_SERVICE_ACCOUNT_TOKEN!,
    privateKey,
  ];
  expect(everything.filter((secret) => log().includes(secret))).toEqual([]);
}
