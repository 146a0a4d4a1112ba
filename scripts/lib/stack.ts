// What both engines of `up` share: the project's values, and the answer that proves that its stack is up.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { parse } from "dotenv";
import type { Config } from "./config.ts";
import { generatePassword, localEnvironment, readEnvironment, writeSecretFile } from "./environment.ts";
import { exitCodes, Failure } from "./failure.ts";
import type { Connection } from "./postgres.ts";
import { phase } from "./terminal.ts";
import { poll } from "./wait.ts";

export type Engine = "docker" | "embedded";

export type Project = {
  directory: string;
  config: Config;
  database: Connection;
  httpPort: number;
  /** All of .env, this process's own environment laid over it, as Compose does. */
  environment: Record<string, string>;
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
 * Reads the project's values. Where .env is missing, as in a teammate's clone because it is git-ignored, it is made,
 * and written if that is wanted: a plan changes nothing.
 * @throws {Failure} exit 2 naming every value that is missing or no port.
 */
export async function readProject(
  directory: string,
  config: Config,
  { writeMissing }: { writeMissing: boolean },
): Promise<Project> {
  const file = join(directory, ".env");
  const missing = existsSync(file) ? undefined : localEnvironment({ ...config, password: generatePassword() });
  if (missing && writeMissing) {
    phase("there is no .env yet: writing one with a new password");
    await writeSecretFile(file, missing);
  }
  const environment = withOverrides(missing ? parse(missing) : await readEnvironment(file), process.env);
  const { POSTGRES_DB = "", POSTGRES_USER = "", POSTGRES_PASSWORD = "" } = environment;
  const problems = [
    ...Object.entries({ POSTGRES_DB, POSTGRES_USER, POSTGRES_PASSWORD }).flatMap(([name, value]) =>
      value ? [] : [`${name}: is not set`],
    ),
    ...["HTTP_PORT", "POSTGRES_PORT"].flatMap((name) =>
      isPort(environment[name]) ? [] : [`${name}: not a port, "${environment[name]}"`],
    ),
  ];
  if (problems.length > 0) {
    throw new Failure("Cannot use .env", problems.join("; "), ["correct .env, then run this again"], {
      exitCode: exitCodes.usage,
    });
  }
  const port = Number(environment.POSTGRES_PORT);
  return {
    ...{ directory, config, environment },
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

/** Asks until /health/ready says yes, then returns what /health/database says. */
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
  const { text } = await ask(`${url}/health/database`, token);
  return JSON.parse(text) as unknown;
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
