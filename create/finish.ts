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
async function initAndInstall({ flags, observed, plan }: Outcome): Promise<Failure | undefined> {
  const { directory, entries } = observed;
  const isChanged = plan.files.some(({ path, write }) => path === "package.json" && write);
  const isInstalled = entries.includes("node_modules") || entries.includes(".pnp.cjs");
  try {
    if (!flags["no-git"] && isOnPath("git") && !isInRepository(directory)) await gitInit(directory);
    if (!flags["no-install"] && (isChanged || !isInstalled))
      await install(installCommand(manager(observed)), directory);
  } catch (error) {
    if (error instanceof Failure) return error;
    throw error;
  }
}

async function bringUp({ answers, observed }: Outcome): Promise<void> {
  const prefix = isOnPath(answers.runtime) ? "" : `${runtimeFromPackage(manager(observed))} `;
  const argv = `${prefix}${runWith(answers.runtime, "scripts/up.ts")}`.split(" ");
  process.exitCode = await runUp(argv, observed.directory);
}

function manager({ entries }: Observed) {
  return detectPackageManager({ userAgent: process.env.npm_config_user_agent ?? "", entries, isOnPath });
}

export function print({ flags, observed, answers, plan, failure }: Outcome): void {
  const { directory, entries } = observed;
  const circumstances = {
    answers,
    manager: manager(observed),
    directory: fromHere(directory, process.cwd()),
    hasRuntime: isOnPath(answers.runtime),
    needsInstall: flags["no-install"] || flags["dry-run"] || failure !== undefined,
    entries,
    conflicts: plan.conflicts,
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
