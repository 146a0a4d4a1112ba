// The secrets behind the references in .env.tpl: which of them are there, as a server's .env, or for one command here.
//   bun scripts/secrets.ts check
// Never prints a value, unless told --stdout, and never passes one as an argument.
import { existsSync, readFileSync } from "node:fs";
import { constants } from "node:os";
import { join, resolve } from "node:path";
import { type Arguments, parseArguments, usage } from "./lib/args.ts";
import { exitCodes, Failure } from "./lib/failure.ts";
import { packageMissing } from "./lib/packages.ts";
import { runIfMain } from "./lib/verb.ts";

const commandLine = {
  command: "bun scripts/secrets.ts",
  purpose: "Reads what the references in .env.tpl stand for: `secrets` in dbops.config.ts says from where.",
  words: ["inject|check|run"],
  rest: "COMMAND",
  flags: {
    out: { value: "FILE", help: "inject: the file to write, readable for you alone (default: .env.production)" },
    stdout: { help: "inject: print it instead" },
    template: { value: "FILE", help: "run: another file with references than .env.tpl" },
    plan: { help: "inject: print what would be done, ask nobody, write nothing" },
    yes: { help: "inject: replace a file that was not made from .env.tpl" },
    json: { help: "one JSON document on stdout: names and problems, never a value" },
  },
  examples: [
    "bun scripts/secrets.ts check",
    "bun scripts/secrets.ts inject                       # writes .env.production",
    "bun scripts/secrets.ts run -- bun scripts/app.ts    # with the values in its environment, hidden in its output",
  ],
  notes: [
    "A deploy reads the secrets by itself; this is for looking, and for work by hand. docs/secrets.md has the rest.",
    "Exit codes: 0 done; 1 the provider refused; 2 flags, .env.tpl, or not signed in; 3 check found something wrong;",
    "5 a file would have been lost. run: what COMMAND exits with.",
  ].join("\n"),
} as const;

type Flags = Arguments<typeof commandLine>;

/** What the other words have no use for. */
const flagsOf = {
  inject: ["out", "stdout", "plan", "yes", "json"],
  check: ["json"],
  run: ["template", "--"],
} as const;

export async function main(argv: readonly string[]): Promise<void> {
  const flags = parseArguments(argv, commandLine);
  const word = flags._[0];
  if (word !== "inject" && word !== "check" && word !== "run")
    throw usage(commandLine, "it takes inject, check or run");
  const useful: readonly string[] = flagsOf[word];
  const given = Object.entries(flags).filter(([name, value]) => name !== "_" && value && `${value}` !== "");
  const useless = given.find(([name]) => !useful.includes(name))?.[0];
  if (useless) throw usage(commandLine, `${useless === "--" ? "-- COMMAND" : `--${useless}`} does not go with ${word}`);
  if (word === "inject") return await inject(flags);
  if (word === "check") return await check(flags);
  if (flags["--"].length === 0) throw usage(commandLine, "run needs a command: run -- COMMAND");
  await runWith(flags, flags["--"]);
}

async function inject(flags: Flags): Promise<void> {
  if (flags.stdout && (flags.json || flags.out)) throw usage(commandLine, "--stdout goes without --json and --out");
  const directory = process.cwd();
  const { secrets, backup } = await readSettings(directory);
  const { readTemplate, referencesOf, templateFailure, templateProblems } = await importSecret();
  const template = await readTemplate(join(directory, ".env.tpl"));
  const problems = templateProblems(template, secrets.provider);
  if (problems.length > 0) throw templateFailure(problems);
  const target = flags.stdout ? undefined : (flags.out ?? ".env.production");
  if (flags.plan) return printPlan(planInject(referencesOf(template), secrets.provider, target), flags);
  const { formatEnvironment, madeByUs, readServerEnvironment } = await import("./lib/server-environment.ts");
  if (target && !flags.yes) refuseToReplace(resolve(directory, target), target, madeByUs);
  const { writeSecretFile } = await import("./lib/environment.ts");
  const { values } = await readServerEnvironment({ secrets, backup }, directory);
  const text = formatEnvironment(values);
  if (!target) return void process.stdout.write(text);
  await writeSecretFile(resolve(directory, target), text);
  const names = Object.keys(values);
  console.log(flags.json ? JSON.stringify({ file: target, names }) : `wrote ${target}: ${names.length} values`);
}

/** @param target the file, or undefined for stdout. */
export function planInject(references: readonly string[], provider: string, target: string | undefined): string[] {
  return [
    references.length > 0
      ? `ask ${provider} once, for all of ${references.join(", ")}`
      : "ask nobody: there is no reference in .env.tpl",
    target ? `write ${target}, readable for you alone` : "print the values, secrets among them",
  ];
}

/** A developer's own .env must not be lost: the password in it belongs to the data. */
function refuseToReplace(path: string, name: string, firstLine: string): void {
  if (!existsSync(path) || readFileSync(path, "utf8").startsWith(firstLine)) return;
  const why = "it was not made from .env.tpl, and would be lost";
  throw new Failure(`Cannot replace ${name}`, why, ["the same command with --out ANOTHER, or with --yes"], {
    exitCode: exitCodes.refused,
  });
}

async function check(flags: Flags): Promise<void> {
  const directory = process.cwd();
  const { secrets } = await readSettings(directory);
  const { readTemplate } = await importSecret();
  const { checkTemplate, formatChecked } = await import("./lib/secret-check.ts");
  const values = await checkTemplate(secrets, await readTemplate(join(directory, ".env.tpl")), directory);
  const ok = values.every(({ problem }) => !problem);
  console.log(flags.json ? JSON.stringify({ ok, provider: secrets.provider, values }) : formatChecked(values));
  process.exitCode = ok ? exitCodes.done : exitCodes.saidNo;
}

/** The command sees the values in its environment; whoever reads its output does not. */
async function runWith(flags: Flags, command: readonly string[]): Promise<void> {
  const directory = process.cwd();
  const { secrets: settings } = await readSettings(directory);
  const { readTemplate, resolveTemplate, substituteAll } = await importSecret();
  const { secretsOf } = await import("./lib/server-environment.ts");
  const { formsOf, redact } = await import("./lib/redact.ts");
  const { maskInGitHubActions } = await import("./lib/github.ts");
  const { sendSignal, start } = await import("./lib/run.ts");
  const template = await readTemplate(resolve(directory, flags.template ?? ".env.tpl"));
  const resolved = await resolveTemplate(settings, template, directory);
  const secret = secretsOf(template, resolved);
  maskInGitHubActions(secret);
  const hidden = formsOf(secret);
  const program = await start({
    argv: command,
    environment: substituteAll(template, resolved),
    input: "inherit",
    onLine: (line, stream) => process[stream].write(`${redact(line, hidden)}\n`),
  });
  // A terminal sends its Ctrl-C to the command as well; anybody else's signals reach this process alone.
  const toHandOn = process.stdin.isTTY ? (["SIGTERM", "SIGHUP"] as const) : (["SIGTERM", "SIGHUP", "SIGINT"] as const);
  for (const name of toHandOn) process.on(name, () => sendSignal(program.pid, name));
  if (process.stdin.isTTY) process.on("SIGINT", () => {});
  // Nobody reads the output any more: what a pipe's writer gets then.
  for (const stream of [process.stdout, process.stderr]) stream.on("error", () => sendSignal(program.pid, "SIGPIPE"));
  const code = await program.ended;
  // Not process.exit(), with which Bun drops what a slow reader has not taken yet.
  process.exitCode = typeof code === "number" ? code : 128 + constants.signals[code];
}

async function readSettings(directory: string) {
  const { loadConfig } = await import("./lib/config.ts").catch(packageMissing);
  return await loadConfig(directory);
}

const importSecret = async () => await import("./lib/secret.ts").catch(packageMissing);

function printPlan(steps: readonly string[], flags: Flags): void {
  console.log(flags.json ? JSON.stringify({ steps }) : steps.map((step) => `==> ${step}`).join("\n"));
}

await runIfMain(import.meta, main);
