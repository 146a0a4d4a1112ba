// After the files: git, dependencies, the report, and `up` when asked for. Each can fail, and the project stays.
import { Failure, failureAsJson, formatFailure } from "../scripts/lib/failure.ts";
import type { Answers } from "./answers.ts";
import type { Flags } from "./command-line.ts";
import { isInRepository, type Observed } from "./observe.ts";
import { detectPackageManager, installCommand, isOnPath, runtimeFromPackage } from "./package-manager.ts";
import type { Plan } from "./plan.ts";
import { gitInit, install, runUp } from "./programs.ts";
import { runWith } from "./render.ts";
import { formatNext, formatPlan, formatSummary, fromHere, nextCommands, nextNotes } from "./report.ts";

type Outcome = { flags: Flags; observed: Observed; answers: Answers; plan: Plan; failure?: Failure | undefined };

export async function finish(outcome: Outcome): Promise<void> {
  const failure = await initAndInstall(outcome);
  print({ ...outcome, failure });
  if (failure) process.exitCode = failure.exitCode;
  else if (outcome.flags.up) await bringUp(outcome);
}

/** @returns what went wrong: it is reported together with the project, which is written already. */
async function initAndInstall({ flags, observed, answers, plan }: Outcome): Promise<Failure | undefined> {
  const { directory, entries } = observed;
  const isChanged = plan.files.some(({ path, write }) => path === "package.json" && write);
  const isInstalled = entries.includes("node_modules") || entries.includes(".pnp.cjs");
  try {
    if (!flags["no-git"] && isOnPath("git") && !isInRepository(directory)) await gitInit(directory);
    if (!flags["no-install"] && (isChanged || !isInstalled)) {
      await install(installCommand(managerOf(observed, answers)), directory);
    }
  } catch (error) {
    if (error instanceof Failure) return error;
    throw error;
  }
}

async function bringUp({ answers, observed }: Outcome): Promise<void> {
  const prefix = isOnPath(answers.runtime) ? "" : `${runtimeFromPackage(managerOf(observed, answers))} `;
  const argv = `${prefix}${runWith(answers.runtime, "scripts/up.ts")}`.split(" ");
  process.exitCode = await runUp(argv, observed.directory);
}

function managerOf({ entries }: Observed, { runtime }: Answers) {
  return detectPackageManager({ userAgent: process.env.npm_config_user_agent ?? "", entries, runtime, isOnPath });
}

export function print({ flags, observed, answers, plan, failure }: Outcome): void {
  const { directory } = observed;
  const circumstances = {
    answers,
    observed,
    manager: managerOf(observed, answers),
    directory: fromHere(directory, process.cwd()),
    hasRuntime: isOnPath(answers.runtime),
    needsInstall: flags["no-install"] || flags["dry-run"] || failure !== undefined,
  };
  const next = nextCommands(plan, circumstances);
  const notes = nextNotes(plan, circumstances);
  if (flags.json) {
    const files = plan.files.map(({ path, action }) => ({ path, action }));
    const error = failure ? JSON.parse(failureAsJson(failure)) : {};
    console.log(JSON.stringify({ directory, dryRun: flags["dry-run"], answers, files, next, notes, ...error }));
  } else {
    console.log(flags["dry-run"] ? formatPlan(directory, plan) : formatSummary(directory, plan));
    console.log(formatNext(next, notes));
  }
  if (failure) console.error(formatFailure(failure));
}
