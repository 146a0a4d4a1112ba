// A scaffolded project for tests of `up`, on ports of its own, and `up` as a process in it.
import { randomBytes } from "node:crypto";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { Answers } from "../../create/answers.ts";
import { type Result, run, start } from "../../scripts/lib/run.ts";
import { poll } from "../../scripts/lib/wait.ts";
import { freePort } from "./postgres.ts";
import { linkPackages, writeProjectFiles } from "./project-files.ts";
import { programs } from "./repository.ts";

export type Runtime = Answers["runtime"];

export type StackProject = {
  name: string;
  directory: string;
  url: string;
  /** HTTP_PORT and POSTGRES_PORT, and how to reach Docker. No .env: it is as in a teammate's fresh clone. */
  environment: Record<string, string>;
  /** Adds or replaces a file. */
  write(path: string, text: string): Promise<void>;
  /** `up FLAGS` to its end. */
  up(flags: readonly string[], runtime?: Runtime): Promise<Result>;
  /** `up FLAGS` that keeps running. */
  start(flags: readonly string[], runtime?: Runtime): Promise<RunningUp>;
  /** Ends what runs, and removes data and files. */
  remove(): Promise<void>;
};

export type RunningUp = {
  pid: number;
  lines: string[];
  ended: Promise<number | NodeJS.Signals>;
  /** Until it has written these words; throws with its output when it ends instead. */
  until(words: string): Promise<void>;
};

export async function createStackProject(
  options: { runtime?: Runtime; docker?: Record<string, string> } = {},
): Promise<StackProject> {
  const { runtime = "bun", docker = {} } = options;
  const name = `dbops-stack-${randomBytes(4).toString("hex")}`;
  const { directory, write } = await writeProjectFiles({ name, database: "app", runtime });
  await linkPackages(directory);
  const [httpPort, postgresPort] = [await freePort(), await freePort()];
  const environment = { ...docker, HTTP_PORT: `${httpPort}`, POSTGRES_PORT: `${postgresPort}` };
  return {
    name,
    directory,
    url: `http://127.0.0.1:${httpPort}`,
    environment,
    write,
    up: (flags, by = "bun") =>
      run({ argv: command(by, flags), directory, environment, accept: [0, 1, 2, 3, 4, 5, 130], timeoutSeconds: 180 }),
    start: (flags, by = "bun") => startUp(command(by, flags), directory, environment),
    async remove() {
      await run({
        // Where a Docker is installed and does not answer, `up` refuses to say that nothing is left.
        argv: command("bun", [...(options.docker ? [] : ["--engine", "embedded"]), "--down", "--volumes", "--yes"]),
        directory,
        environment,
        timeoutSeconds: 180,
      });
      await rm(directory, { recursive: true, force: true });
    },
  };
}

function command(runtime: Runtime, flags: readonly string[]): string[] {
  const program = join(programs, runtime);
  return [program, ...(runtime === "deno" ? ["run", "-A"] : []), "scripts/up.ts", ...flags];
}

async function startUp(argv: string[], directory: string, environment: Record<string, string>): Promise<RunningUp> {
  const lines: string[] = [];
  const program = await start({ argv, directory, environment, onLine: (line) => lines.push(line), ownGroup: true });
  let ended = false;
  void program.ended.then(() => {
    ended = true;
  });
  return {
    pid: program.pid,
    lines,
    ended: program.ended,
    async until(words) {
      const written = await poll({ seconds: 60, everyMilliseconds: 2 }, async () => {
        if (lines.some((line) => line.includes(words))) return true;
        return ended ? false : undefined;
      });
      if (!written) throw new Error(`up has not written "${words}":\n${lines.join("\n")}`);
    },
  };
}
