// Runners of `bun scripts/migrate.ts` for tests: one to its end, and one that is watched, waited for and killed.
//   const { run, start } = migrateIn({ directory, environment });   const runner = await start(["up"]);   await runner.until("applying");
import { mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type Result, run, sendSignal, start } from "../../scripts/lib/run.ts";
import { poll } from "../../scripts/lib/wait.ts";
import { programs } from "./repository.ts";

export type Ended = { exitCode: number | NodeJS.Signals; stdout: string; stderr: string };

export type Runner = {
  /** Until it has said so, on either stream. */
  until(words: string | RegExp): Promise<void>;
  /** To it alone, and not to what it has started. */
  signal(name: NodeJS.Signals): void;
  end(): Promise<Ended>;
};

type Where = {
  /** Another one than migrate. */
  verb?: "drift";
  directory: string;
  environment: Record<string, string>;
  /** Behind those of the caller, for instance --database-url URL. */
  words?: readonly string[];
};

export function migrateIn({ verb, directory, environment, words: more = [] }: Where) {
  const argv = (words: readonly string[]) => [
    join(programs, "bun"),
    "--no-env-file",
    `scripts/${verb ?? "migrate"}.ts`,
    ...words,
    ...more,
  ];
  return {
    run: (words: readonly string[], changes: Record<string, string> = {}): Promise<Result> =>
      run({
        argv: argv(words),
        directory,
        environment: { ...environment, ...changes },
        accept: [0, 1, 2, 3, 4, 5, 130],
        timeoutSeconds: 120,
      }),
    async start(words: readonly string[], changes: Record<string, string> = {}): Promise<Runner> {
      const output = { stdout: "", stderr: "" };
      const program = await start({
        argv: argv(words),
        directory,
        environment: { ...environment, ...changes },
        ownGroup: true,
        onLine(line, stream) {
          output[stream] += `${line}\n`;
        },
      });
      let exitCode: number | NodeJS.Signals | undefined;
      void program.ended.then((code) => {
        exitCode = code;
      });
      return {
        async until(text) {
          const said = await poll({ seconds: 60, everyMilliseconds: 20 }, async () => {
            const all = `${output.stdout}${output.stderr}`;
            if (typeof text === "string" ? all.includes(text) : text.test(all)) return true;
            return exitCode === undefined ? undefined : false;
          });
          if (!said)
            throw new Error(`it did not say "${text}", exit code ${exitCode}\n${output.stdout}${output.stderr}`);
        },
        signal: (name) => sendSignal(program.pid, name),
        end: async () => ({ exitCode: await program.ended, ...output }),
      };
    },
  };
}

/** One file of migrations/; `transaction:false` and the like behind the first line. */
export const migration = (up: string, { options = "", down = "select 1;" } = {}): string =>
  `-- What for.\n\n-- migrate:up${options && ` ${options}`}\n${up}\n\n-- migrate:down${options && ` ${options}`}\n${down}\n`;

/** These are all that there are then. */
export async function writeMigrations(directory: string, files: Readonly<Record<string, string>>): Promise<void> {
  const folder = join(directory, "migrations");
  await mkdir(folder, { recursive: true });
  const old = (await readdir(folder)).filter((name) => /^\d/.test(name) && !(name in files));
  await Promise.all(old.map((name) => rm(join(folder, name))));
  await Promise.all(Object.entries(files).map(([name, text]) => writeFile(join(folder, name), text)));
}
