// templates/github/workflows about migrations: their scripts, run as GitHub runs them, in a repository with a history and with a throw-away
// Postgres. What GitHub itself does is imitated by test/lab/workflow.ts.
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { run } from "../../scripts/lib/run.ts";
import { startEngine } from "../lab/engine.ts";
import { ensureImages } from "../lab/images.ts";
import { type ProjectFiles, writeProjectFiles } from "../lab/project-files.ts";
import { programs } from "../lab/repository.ts";
import { type Job, type StepResult, startJob } from "../lab/workflow.ts";

setDefaultTimeout(120_000);

let project: ProjectFiles;
let environment: Record<string, string>;
let job: Job | undefined;
/** The first commit. */
let first: string;

beforeAll(async () => {
  const engine = await startEngine();
  await ensureImages(engine);
  environment = engine.environment;
  project = await writeProjectFiles({ name: "shop" });
  const own = JSON.parse(read("package.json"));
  own.scripts = { ...own.scripts, test: "echo the tests of the app in $GITHUB_REF_NAME" };
  await project.write("package.json", JSON.stringify(own, null, 2));
  await git("init", "--quiet", "--initial-branch=main");
  first = await commit("the project");
}, 300_000);
afterEach(async () => {
  await job?.remove();
  await git("switch", "--quiet", "main");
  await git("reset", "--quiet", "--hard", first);
});
afterAll(() => {
  if (project) rmSync(project.directory, { recursive: true, force: true });
});

const read = (path: string) => readFileSync(join(project.directory, path), "utf8");

async function git(...words: string[]): Promise<string> {
  const identity = ["-c", "user.name=octocat", "-c", "user.email=octocat@example.com", "-c", "commit.gpgsign=false"];
  const { stdout } = await run({
    argv: ["git", ...identity, ...words],
    directory: project.directory,
    environment: { GIT_CONFIG_GLOBAL: "/dev/null" },
  });
  return stdout.trim();
}

async function commit(message: string): Promise<string> {
  await git("add", "--all");
  await git("commit", "--quiet", "--allow-empty", "--message", message);
  return await git("rev-parse", "HEAD");
}

/** A table and its line in schema.sql, both as `migrate dump` would leave them, or without the latter. */
async function addMigration(version: string, { isDumped = true } = {}): Promise<void> {
  const name = `t_${version}`;
  await project.write(
    `migrations/${version}_${name}.sql`,
    `-- migrate:up\ncreate table ${name} (\n  id bigint primary key\n);\n\n-- migrate:down\ndrop table ${name};\n`,
  );
  if (!isDumped) return;
  const table = `CREATE TABLE public.${name} (id bigint NOT NULL);\nALTER TABLE public.${name} ADD PRIMARY KEY (id);\n\n--\n-- PostgreSQL database dump complete\n`;
  const text = read("migrations/schema.sql")
    .replace("--\n-- PostgreSQL database dump complete\n", table)
    .replace(/'\);\n$/, `'),\n    ('${version}');\n`);
  await project.write("migrations/schema.sql", text);
}

const start = (workflow: string, values: Record<string, string>, branch: string): Promise<Job> =>
  startJob({
    file: `.github/workflows/${workflow}.yml`,
    repository: project.directory,
    values: { "!cancelled()": "true", "github.event.repository.default_branch": "main", ...values },
    actions: { "actions/checkout": async () => undefined, "oven-sh/setup-bun": async () => programs },
    environment: { ...environment, GITHUB_REF_NAME: branch },
  });

const push = (before: string, branch = "work") => start("ci", { "github.event.before": before }, branch);
const pullRequest = () => start("schema-verify", {}, "7/merge");

const setUp = ["Check out", "Set up Bun", "Install packages"];
const results = (changes: Record<string, StepResult["result"]>, steps: readonly string[]) =>
  [...setUp, "Lint", ...steps].map((name) => ({ name, result: changes[name] ?? ("done" as const) }));
const ciSteps = ["Verify", "Check types", "Test"];

test("ci.yml: a push to a branch is verified from where it left main, and the app's own tests are run", async () => {
  await git("switch", "--quiet", "--force-create", "work");
  await addMigration("20260601000000");
  await commit("one");
  await git("update-ref", "refs/heads/main", first);
  job = await push("0".repeat(40));
  expect(await job.ended, job.log()).toEqual(results({}, ciSteps));
  expect(job.log()).toContain(
    `Good: 5 files, a database of origin/main (${first.slice(0, 7)}) with 1 more, and migrations/schema.sql make the same`,
  );
  expect(job.log()).toContain("the tests of the app in work");
}, 300_000);

test("ci.yml: a push to main is verified from the commit before it; what fails does not hide the rest", async () => {
  await addMigration("20260601000000", { isDumped: false });
  await commit("one that nobody has dumped");
  job = await push(first, "main");
  expect(await job.ended, job.log()).toEqual(results({ Verify: 3 }, ciSteps));
  expect(job.log()).toContain("missing     table public.t_20260601000000: only in migrations/");
  expect(job.log()).toContain("the tests of the app in main");
}, 300_000);

test("schema-verify.yml: what a merge would be, from main as it is now", async () => {
  await git("switch", "--quiet", "--force-create", "work");
  await addMigration("20260601000000");
  await commit("of the pull request");
  await git("switch", "--quiet", "main");
  await addMigration("20260701000000");
  const main = await commit("merged meanwhile");
  await git("switch", "--quiet", "--detach");
  await git("merge", "--quiet", "--no-ff", "--strategy-option=ours", "--message", "Merge", "work");
  await addMigration("20260601000000");
  await git("commit", "--quiet", "--all", "--amend", "--no-edit");
  await git("switch", "--quiet", "--force-create", "merge");
  job = await pullRequest();
  expect(await job.ended, job.log()).toEqual(results({ Verify: 3 }, ["Verify"]));
  expect(job.log()).toContain(`a database of HEAD^1 (${main.slice(0, 7)}), migrated, is not what a new one is:`);
  expect(job.log()).toContain(
    "late        migrations/20260601000000_t_20260601000000.sql: a newer one is applied already, so that dbmate refuses it",
  );
}, 300_000);
