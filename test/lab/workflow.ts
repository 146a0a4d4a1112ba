// Runs a job of a GitHub workflow as the runner does it: the steps in order, each script in a bash of its own, until one fails.
// What `uses:` brings is the caller's; so is the value of every expression. GitHub's own part of it is a guess by its documentation.
//   const job = await startJob({ file, directory, values: { "secrets.SSH_PRIVATE_KEY": key }, actions, environment });
//   expect(await job.ended).toEqual([{ name: "Check out", result: "done" }, …]);
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parse } from "yaml";
import { type Running, run, sendSignal, start } from "../../scripts/lib/run.ts";
import { allProcesses, argvOf, killAndWait } from "./processes.ts";

type Options = {
  /** In the repository, for instance ".github/workflows/deploy.yml". */
  file: string;
  /** A git repository with everything committed. */
  repository: string;
  /** What stands for `${{ NAME }}`, by NAME. One that is missing here is an error. */
  values: Readonly<Record<string, string>>;
  /** What each action does, by its name without the version: it may return a folder for the front of PATH. */
  actions: Readonly<Record<string, () => Promise<string | undefined>>>;
  /** Everything a step finds in its environment, besides what GitHub sets. */
  environment: Readonly<Record<string, string>>;
  onLine?: (line: string, step: string) => void;
};

export type StepResult = { name: string; result: "done" | "skipped" | number | NodeJS.Signals };

export type Job = {
  /** Of the steps that were reached. */
  ended: Promise<StepResult[]>;
  /** What people see in GitHub: masked values are stars. */
  log(): string;
  /** Where it was checked out. */
  directory: string;
  /** What GitHub does to the step's first process: SIGINT, after 7.5 s SIGTERM, after 10 s it kills everything. */
  cancel(): void;
  /** Removes the runner: its folders, and what its steps have left running. */
  remove(): Promise<void>;
};

type Step = {
  name: string;
  if?: string;
  uses?: string;
  run?: string;
  env?: Record<string, string>;
  with?: Record<string, unknown>;
};
type Workflow = { jobs: Record<string, { env?: Record<string, string>; steps: Step[] }> };

export async function startJob(options: Options): Promise<Job> {
  const home = await mkdtemp(join(tmpdir(), "dbops-runner-"));
  const [directory, commandFile] = [join(home, "work"), join(home, "github-env")];
  const { jobs } = parse(await readFile(join(options.repository, options.file), "utf8")) as Workflow;
  const job = Object.values(jobs)[0]!;
  const { "fetch-depth": depth = 1 } = job.steps.find(({ name }) => name === "Check out")?.with ?? {};
  const commits = depth === 0 ? [] : [`--depth=${depth}`];
  await run({ argv: ["git", "clone", "--quiet", ...commits, `file://${options.repository}`, directory] });
  await writeFile(commandFile, "");
  const commit = (await run({ argv: ["git", "rev-parse", "HEAD"], directory })).stdout.trim();
  const environment: Record<string, string> = {
    ...options.environment,
    ...{ CI: "true", GITHUB_ACTIONS: "true", GITHUB_ACTOR: "octocat", GITHUB_SHA: commit, GITHUB_ENV: commandFile },
    ...{ GITHUB_SERVER_URL: "https://github.example", GITHUB_REPOSITORY: "me/shop", GITHUB_RUN_ID: "42" },
    ...{ GITHUB_RUN_ATTEMPT: "1" },
    ...{ RUNNER_TEMP: home, ...job.env },
  };
  const log = createLog();
  let current: Running | undefined;

  const runStep = async (step: Step): Promise<StepResult["result"]> => {
    if (step.if && evaluate(step.if, options.values) !== "true") return "skipped";
    if (step.uses) {
      const action = options.actions[step.uses.split("@")[0]!];
      if (!action) throw new Error(`nobody said what ${step.uses} does`);
      const folder = await action();
      if (folder) environment.PATH = `${folder}:${environment.PATH}`;
      return "done";
    }
    const script = join(home, "step.sh");
    await writeFile(script, step.run!);
    const own = Object.entries(step.env ?? {}).map(([name, value]) => [name, evaluate(value, options.values)]);
    current = await start({
      argv: ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", script],
      directory,
      environment: onlyThis({ ...environment, ...Object.fromEntries(own) }),
      ownGroup: true,
      onLine(line) {
        log.add(line);
        options.onLine?.(line, step.name);
      },
    });
    const result = await current.ended;
    Object.assign(environment, parseAssignments(await readFile(commandFile, "utf8")));
    return result === 0 ? "done" : result;
  };

  const runAll = async () => {
    const results: StepResult[] = [];
    let hasFailed = false;
    for (const step of job.steps) {
      // Only those that say so are run after a failure.
      if (hasFailed && !step.if?.includes("cancelled()")) continue;
      const result = await runStep(step);
      results.push({ name: step.name, result });
      hasFailed ||= result !== "done" && result !== "skipped";
    }
    return results;
  };
  return {
    ended: runAll(),
    log: log.text,
    directory,
    cancel() {
      const pid = current!.pid;
      sendSignal(pid, "SIGINT");
      const timers = [
        setTimeout(() => sendSignal(pid, "SIGTERM"), 7500),
        setTimeout(() => sendSignal(-pid, "SIGKILL"), 10_000),
      ];
      current!.ended.then(() => timers.forEach(clearTimeout));
    },
    async remove() {
      await current?.stop("SIGTERM", 5);
      await endWhatIsLeft(home);
      await rm(home, { recursive: true, force: true });
    },
  };
}

/** Text with expressions in it. `${{ inputs.image }}` may be part of a longer text. */
function evaluate(text: string, values: Options["values"]): string {
  return `${text}`.replaceAll(/\$\{\{ (.+?) \}\}/g, (_, expression: string) => {
    const value = values[expression];
    if (value === undefined) throw new Error(`nobody said what \${{ ${expression} }} is`);
    return value;
  });
}

/** Of the machine that this test runs on a runner knows where its user lives, and whom the network trusts. */
function onlyThis(environment: Record<string, string>): Record<string, string | undefined> {
  const others = Object.keys(process.env).filter(
    (name) => !/^(HOME|USER|LANG|TMPDIR)$|CERT|CA_?INFO|CA_BUNDLE|_proxy$/i.test(name),
  );
  return { ...Object.fromEntries(others.map((name) => [name, undefined])), ...environment };
}

const parseAssignments = (text: string): Record<string, string> =>
  Object.fromEntries(
    text.split("\n").flatMap((line) => (line.includes("=") ? [line.split(/=(.*)/s).slice(0, 2)] : [])),
  );

/** As the runner keeps it: a value that was masked is hidden in every later line, and the line that said so is not shown. */
function createLog() {
  const lines: string[] = [];
  const masks: string[] = [];
  return {
    add(line: string) {
      const [, mask] = /^::add-mask::(.*)$/.exec(line) ?? [];
      if (mask) masks.push(mask.replaceAll("%25", "%"));
      else lines.push(masks.reduce((shown, value) => shown.replaceAll(value, "***"), line));
    },
    text: () => lines.join("\n"),
  };
}

/** GitHub ends what a job leaves behind. */
async function endWhatIsLeft(home: string): Promise<void> {
  const left = allProcesses().filter((pid) => pid !== process.pid && argvOf(pid).some((word) => word.includes(home)));
  await Promise.all(left.map(killAndWait));
}
