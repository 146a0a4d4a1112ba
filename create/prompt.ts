// Asks for what the command line did not say. Only ever called on a terminal.
import { basename, resolve } from "node:path";
import { exitCodes, Failure } from "../scripts/lib/failure.ts";
import { type Answers, defaultRuntime, type Said } from "./answers.ts";
import { checkDatabase, checkDomain, checkName, databaseFrom, nameFrom } from "./names.ts";

/** A terminal on both sides and nobody's build server. At the end of its input, a prompt would hang Bun forever. */
export function canPrompt(): boolean {
  return Boolean(process.stdin.isTTY && process.stdout.isTTY && !process.env.CI);
}

export async function askForDirectory(): Promise<string> {
  const { intro, text } = await import("@clack/prompts");
  intro("create-dbops: the database half of a production app, in files you own");
  return answered(
    await text({
      message: "Where shall the project go?",
      placeholder: "my-app",
      defaultValue: "my-app",
    }),
  );
}

/** Every answer can be a plain Enter. */
export async function askForRest(said: Said, directory: string, userAgent: string): Promise<Said> {
  const { select, text } = await import("@clack/prompts");
  const ask = async (message: string, initialValue: string, check: (value: string) => string | undefined) =>
    answered(await text({ message, initialValue, validate: (value) => check(value ?? "") }));
  const name = said.name ?? (await ask("What is it called?", nameFrom(basename(resolve(directory))), checkName));
  const database =
    said.database ?? (await ask("And its database, and the role that owns it?", databaseFrom(name), checkDatabase));
  const domain =
    said.domain ??
    (await ask("Under which domain will it be served? (can be changed later)", "app.example.com", checkDomain));
  const chosen =
    said.runtime ??
    answered(
      await select<Answers["runtime"]>({
        message: "Which runtime for the app and the scripts?",
        initialValue: defaultRuntime(userAgent),
        options: [
          { value: "bun", label: "Bun" },
          { value: "deno", label: "Deno" },
        ],
      }),
    );
  return { ...said, name, database, domain, runtime: chosen };
}

/** Before anything lands among files that are there already. */
export async function askToGoOn(message: string): Promise<void> {
  const { confirm } = await import("@clack/prompts");
  if (!answered(await confirm({ message }))) throw cancelled();
}

/** Ctrl-C and Escape make clack return a symbol. */
function answered<T>(answer: T): Exclude<T, symbol> {
  if (typeof answer === "symbol") throw cancelled();
  return answer as Exclude<T, symbol>;
}

function cancelled(): Failure {
  return new Failure("Cancelled", "nothing was written", [], { exitCode: exitCodes.interrupted });
}
