// What both engines of `up` share: the project's values, and the answer that proves that its stack is up.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { parse } from "dotenv";
import type { Config } from "./config.ts";
import { generatePassword, localEnvironment, readEnvironment } from "./environment.ts";
import { exitCodes, Failure } from "./failure.ts";
import { applyPending } from "./migration-apply.ts";
import { readMigrations } from "./migration-file.ts";
import type { Place } from "./place.ts";
import type { Connection } from "./postgres.ts";
import { phase, quote } from "./terminal.ts";
import { poll } from "./wait.ts";

export type Engine = "docker" | "embedded";

export type Project = {
  directory: string;
  config: Config;
  database: Connection;
  httpPort: number;
  /** All of .env, this process's own environment laid over it, as Compose does. */
  environment: Record<string, string>;
  /** The text of an .env for this project, where it has none. */
  newEnvironment?: string;
};

/** A stack that is up. */
export type Stack = {
  engine: Engine;
  url: string;
  seconds: number;
  /** What /health/database answered. */
  health: unknown;
};

/**
 * Reads the project's values, and changes nothing. Where .env is missing, as in a teammate's clone because it is
 * git-ignored, they are new ones.
 * @throws {Failure} exit 2 naming every value that is missing or no port.
 */
export async function readProject(directory: string, config: Config): Promise<Project> {
  const file = join(directory, ".env");
  const newEnvironment = existsSync(file) ? undefined : localEnvironment({ ...config, password: generatePassword() });
  const environment = withOverrides(newEnvironment ? parse(newEnvironment) : await readEnvironment(file), process.env);
  const { POSTGRES_DB = "", POSTGRES_USER = "", POSTGRES_PASSWORD = "" } = environment;
  const problems = [
    ...Object.entries({ POSTGRES_DB, POSTGRES_USER, POSTGRES_PASSWORD }).flatMap(([name, value]) =>
      value ? [] : [`${name}: is not set`],
    ),
    ...["HTTP_PORT", "POSTGRES_PORT"].flatMap((name) =>
      isPort(environment[name]) ? [] : [`${name}: not a port, "${environment[name]}"`],
    ),
  ];
  if (problems.length === 0 && Number(environment.HTTP_PORT) === Number(environment.POSTGRES_PORT)) {
    problems.push(`HTTP_PORT and POSTGRES_PORT: both are ${environment.HTTP_PORT}, each needs a port of its own`);
  }
  if (problems.length > 0) {
    throw new Failure("Cannot use .env", problems.join("; "), ["correct .env, then run this again"], {
      exitCode: exitCodes.usage,
    });
  }
  const port = Number(environment.POSTGRES_PORT);
  return {
    directory,
    config,
    environment,
    ...(newEnvironment && { newEnvironment }),
    httpPort: Number(environment.HTTP_PORT),
    database: { host: "127.0.0.1", port, user: POSTGRES_USER, password: POSTGRES_PASSWORD, database: POSTGRES_DB },
  };
}

/** As with Compose: a variable of the shell wins over the file, `HTTP_PORT=8081 bun scripts/up.ts`. */
export function withOverrides(
  file: Record<string, string>,
  shell: Record<string, string | undefined>,
): Record<string, string> {
  const values: Record<string, string> = { HTTP_PORT: "8080", POSTGRES_PORT: "5432", ...file };
  // The optional ones too, although .env need not name them: Compose hands them on from the shell.
  for (const name of ["APP_IMAGE", "HEALTH_TOKEN", ...Object.keys(values)]) {
    const value = shell[name] ?? values[name];
    if (value !== undefined) values[name] = value;
  }
  return values;
}

function isPort(text: string | undefined): boolean {
  return /^\d{1,5}$/.test(text ?? "") && Number(text) > 0 && Number(text) < 65536;
}

/** How long another runner may take, such as a `migrate up` in the next terminal. */
const runnerSeconds = 60;

/** Applies what is pending to the stack's database, which answers. @throws {Failure} as applyPending() does. */
export async function migrateStack({ directory }: Project, place: Place, interrupted: AbortSignal): Promise<void> {
  phase("dbmate up");
  const files = await readMigrations(directory);
  const note = (text: string) => quote("dbmate", text);
  await applyPending({ place, directory, files, waitSeconds: runnerSeconds, note, interrupted });
}

type Health = {
  port: number;
  seconds: number;
  interrupted: AbortSignal;
  /** The HEALTH_TOKEN, if there is one: without it the app tells its status and nothing more. */
  token: string | undefined;
  /** Throws when waiting longer is pointless. */
  stillHopeful?: () => void;
  /** What to say when the time is over: the commands to go on with, and what the app has written. */
  otherwise: { next: readonly string[]; lastLines?: () => string };
};

/**
 * Asks until /health/ready says yes, then returns what /health/database says.
 * @throws {Failure} exit 1 without the first yes, 3 without the second.
 */
export async function untilHealthy(wanted: Health): Promise<unknown> {
  const { port, seconds, interrupted, token, stillHopeful, otherwise } = wanted;
  // Not "localhost": on its other address, ::1, a stranger may listen.
  const url = `http://127.0.0.1:${port}`;
  let lastAnswer = "no answer yet";
  const ready = await poll({ seconds, interrupted }, async () => {
    stillHopeful?.();
    const answer = await ask(`${url}/health/ready`, token);
    lastAnswer = answer.text;
    return answer.ok || undefined;
  });
  if (!ready) {
    const why = `after ${seconds} s ${url}/health/ready says: ${lastAnswer}`;
    throw new Failure("The app is not ready", why, otherwise.next, {
      ...(otherwise.lastLines && { details: otherwise.lastLines() }),
      read: "docs/runbook/app-does-not-start.md",
    });
  }
  const { ok, text } = await ask(`${url}/health/database`, token);
  const health = ok ? healthOf(text) : undefined;
  if (health) return health;
  const why = `${url}/health/database says: ${text.slice(0, 200)}`;
  throw new Failure("The app is ready, its database route is not", why, [`curl -i ${url}/health/database`], {
    exitCode: exitCodes.saidNo,
    read: "docs/validator.md",
  });
}

/** @returns undefined for anything else than the validator's answer, such as the page of an app that answers every path. */
function healthOf(text: string): { status: string } | undefined {
  try {
    const answer = JSON.parse(text) as { status?: unknown } | null;
    return typeof answer?.status === "string" ? { ...answer, status: answer.status } : undefined;
  } catch {
    return undefined;
  }
}

async function ask(url: string, token: string | undefined): Promise<{ ok: boolean; text: string }> {
  const headers: Record<string, string> = token ? { "x-health-token": token } : {};
  try {
    const response = await fetch(url, { headers, signal: AbortSignal.timeout(3000) });
    return { ok: response.ok, text: (await response.text()).trim() };
  } catch (error) {
    return { ok: false, text: (error as Error).message };
  }
}
