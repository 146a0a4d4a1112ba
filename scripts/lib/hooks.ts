// Runs the programs of deploy.hooks in dbops.config.ts, on the machine that deploys: `before` anything is touched, then
// `after` or `afterFailure`. What they print appears on stderr as it comes. docs/notifications.md has examples.
import type { Settings } from "./config.ts";
import { Failure } from "./failure.ts";
import { redact } from "./redact.ts";
import { start } from "./run.ts";
import { quote } from "./terminal.ts";
import { within } from "./wait.ts";

type Name = keyof Settings["deploy"]["hooks"];

export type Hooks = {
  programs: Settings["deploy"]["hooks"];
  directory: string;
  /** Values that no hook gets to see, whatever the variable is called that holds one. */
  secrets: readonly string[];
  /** Default 600. The program gets SIGTERM then, and SIGKILL 5 seconds later. */
  limitSeconds?: number;
};

/** What a hook is told, in variables. What is not known, as the release before the first, is not set. */
export type Facts = {
  environment: string;
  /** Not before the end. */
  outcome?: "done" | "failed" | "undone" | "interrupted";
  release?: number;
  image?: string;
  previousRelease?: number;
};

/** @throws {Failure} exit 1: the hook did not exit 0. Nothing has been changed then. The signal's reason when interrupted. */
export async function runBefore(hooks: Hooks, facts: Facts, interrupted?: AbortSignal): Promise<void> {
  const why = await runHook("before", hooks, facts, interrupted);
  if (!why) return;
  const program = hooks.programs.before!.join(" ");
  throw new Failure('Refused by the hook "before"', `"${program}" ${why}; nothing was changed`, [
    `${program}   # by hand, until it is content`,
    "the same command again",
  ]);
}

/** Never throws: what it reports comes after the outcome, and must not hide it. @returns lines to print. */
export async function runAfter(hooks: Hooks, facts: Facts): Promise<string[]> {
  const name = facts.outcome === "done" ? "after" : "afterFailure";
  const why = await runHook(name, hooks, facts);
  return why ? [`The hook "${name}" ${why}; the outcome stays: ${facts.outcome}`] : [];
}

/** @returns what went wrong, as a phrase. */
async function runHook(name: Name, hooks: Hooks, facts: Facts, interrupted?: AbortSignal): Promise<string | undefined> {
  const argv = hooks.programs[name];
  if (!argv) return undefined;
  const { directory, limitSeconds = 600 } = hooks;
  const program = await start({
    argv,
    directory,
    environment: hookEnvironment(process.env, hooks.secrets, facts),
    // With its children: a shell script that is stopped must not leave what it started.
    ownGroup: true,
    onLine: (line) => quote("hook", redact(line, hooks.secrets)),
  }).catch((error: Error) => (error instanceof Failure ? error.why : error.message));
  if (typeof program === "string") return `could not be started: ${program}`;
  const limit = { seconds: limitSeconds, ...(interrupted && { interrupted }) };
  try {
    const code = await within(limit, program.ended, { what: `the hook "${name}"`, next: [] });
    if (code === 0) return undefined;
    return typeof code === "number" ? `exited with ${code}` : `was ended by ${code}`;
  } catch (error) {
    await program.stop("SIGTERM", 5);
    if (interrupted?.aborted) throw error;
    return `was not done within ${limitSeconds} s, and was stopped`;
  }
}

type Environment = Readonly<Record<string, string | undefined>>;

/** Found in innocent values as well: only a value that is nothing else counts as a secret then. */
const shortestPart = 8;

/** Whoever has one of these can ask the provider for every secret. */
const keysToEverything = [
  ...["OP_SERVICE_ACCOUNT_TOKEN", "OP_CONNECT_TOKEN"],
  ...["VAULT_TOKEN", "DOPPLER_TOKEN", "INFISICAL_TOKEN", "SOPS_AGE_KEY"],
];

/** What changes in the environment for a hook: undefined removes a name. */
export function hookEnvironment(own: Environment, secrets: readonly string[], facts: Facts): Environment {
  const holdsSecret = (value: string) =>
    secrets.some((secret) => value === secret || (secret.length >= shortestPart && value.includes(secret)));
  // A bad password may be a word of a path; without PATH no program would start.
  const withheld = Object.entries(own).filter(
    // OP_SESSION_ and the account's ID: what `op signin` has exported.
    ([name, value = ""]) => name.startsWith("OP_SESSION_") || (name !== "PATH" && holdsSecret(value)),
  );
  return {
    ...Object.fromEntries(withheld.map(([name]) => [name, undefined])),
    ...Object.fromEntries(keysToEverything.map((name) => [name, undefined])),
    DBOPS_REGISTRY_USER: undefined,
    DBOPS_REGISTRY_PASSWORD: undefined,
    DBOPS_ENVIRONMENT: facts.environment,
    DBOPS_OUTCOME: facts.outcome,
    DBOPS_RELEASE: facts.release?.toString(),
    DBOPS_IMAGE: facts.image,
    DBOPS_PREVIOUS_RELEASE: facts.previousRelease?.toString(),
  };
}
