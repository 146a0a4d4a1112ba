// The programs that the scaffolder starts: git, the package manager, and `up` when asked for.
import { exitCodes, Failure } from "../scripts/lib/failure.ts";
import { type Running, start } from "../scripts/lib/run.ts";
import { quoted } from "./report.ts";

type Program = {
  argv: readonly string[];
  directory: string;
  environment?: Readonly<Record<string, string | undefined>>;
  /** Without one it runs until it ends, or somebody ends it. */
  timeoutSeconds?: number;
};

type End = { code: number | NodeJS.Signals; interrupted: boolean };

/** git's own variables, set inside a hook, would point at another repository. */
const noGitVariables = { GIT_DIR: undefined, GIT_WORK_TREE: undefined, GIT_INDEX_FILE: undefined };

export function gitInit(directory: string): Promise<void> {
  return mustSucceed({
    argv: ["git", "init", "--quiet"],
    directory,
    environment: noGitVariables,
    timeoutSeconds: 30,
  });
}

export function install(argv: readonly string[], directory: string): Promise<void> {
  return mustSucceed({ argv, directory, timeoutSeconds: 900 });
}

/** Runs in the foreground; Ctrl-C is its affair. @returns its exit code. */
export async function runUp(argv: readonly string[], directory: string): Promise<number> {
  const { code } = await runToEnd({ argv, directory });
  return typeof code === "number" ? code : exitCodes.failed;
}

/** @throws {Failure} exit 1 or 130: the project stays as written, and the message says so. */
async function mustSucceed(program: Program): Promise<void> {
  const { code, interrupted } = await runToEnd(program);
  if (code === 0) return;
  const command = program.argv.join(" ");
  const why = interrupted ? "interrupted" : `it ended with ${code}, see above`;
  throw new Failure(
    `Cannot run "${command}"`,
    `${why}; the project in "${program.directory}" is written and whole`,
    [`cd ${quoted(program.directory)}`, command],
    { exitCode: interrupted ? exitCodes.interrupted : exitCodes.failed },
  );
}

const stopSeconds = 60;

/** Its output goes to stderr: stdout is for our own report. We never end before it does. */
async function runToEnd({ argv, directory, environment = {}, timeoutSeconds }: Program): Promise<End> {
  let running: Running | undefined;
  let interrupted = false;
  const timers: NodeJS.Timeout[] = [];
  const stopAfter = (seconds: number) =>
    timers.push(setTimeout(() => running?.stop("SIGTERM", stopSeconds), seconds * 1000));
  // Ctrl-C reaches the program as well as us, so it is only waited for; a SIGTERM reaches us alone.
  const onInterrupt = () => {
    interrupted = true;
    stopAfter(stopSeconds);
  };
  const onTerminate = () => {
    interrupted = true;
    stopAfter(0);
  };
  process.on("SIGINT", onInterrupt).on("SIGTERM", onTerminate);
  try {
    running = await start({ argv, directory, environment, onLine: (line) => console.error(line) });
    // Said when it is there: whoever reads this and presses Ctrl-C reaches it.
    console.error(`==> ${argv.join(" ")}`);
    if (timeoutSeconds !== undefined) stopAfter(timeoutSeconds);
    return { code: await running.ended, interrupted };
  } finally {
    for (const timer of timers) clearTimeout(timer);
    process.off("SIGINT", onInterrupt).off("SIGTERM", onTerminate);
  }
}
