// Docker Compose as this project uses it: is there an engine, and the commands as data.
import { exitCodes, Failure } from "./failure.ts";
import { type Command, run } from "./run.ts";
import type { Project } from "./stack.ts";

/** An engine that does not answer within this time is as good as none. */
const answerSeconds = 10;

export const notInstalled = "docker is not installed";

/** @returns why Docker cannot be used, or undefined when engine and Compose answer. */
export async function whyNoDocker(): Promise<string | undefined> {
  const ask = (argv: readonly string[]) => run({ argv, timeoutSeconds: answerSeconds });
  try {
    await ask(["docker", "version", "--format", "{{.Server.Version}}"]);
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    if (error.why.includes("not installed")) return notInstalled;
    return `no Docker Engine answers (${error.details?.split("\n")[0] ?? error.why})`;
  }
  const compose = await ask(["docker", "compose", "version", "--short"]).catch(() => undefined);
  return compose ? undefined : "docker has no Compose plugin";
}

/**
 * @param otherwise the command that does without.
 * @throws {Failure} exit 2 when there is a reason why it cannot be used.
 */
export function requireDocker(why: string | undefined, otherwise: string): void {
  if (!why) return;
  const next = ["start Docker, then run this again", otherwise];
  throw new Failure("Cannot use Docker", why, next, { exitCode: exitCodes.usage });
}

type Place = Pick<Project, "directory" | "environment" | "newEnvironment">;

/** `docker compose …` in the project's directory, where .env names the Compose files. */
export function compose(place: Place, words: readonly string[], options: Partial<Command> = {}): Command {
  const { directory, environment, newEnvironment } = place;
  // Where that file is missing Compose would not even list containers: it insists on a password.
  const values = newEnvironment ? { environment } : {};
  return { argv: ["docker", "compose", ...words], directory, ...values, ...options };
}

/** @param appImage what .env names instead of a build: to build would give our image the name of a pulled one. */
export const composeUp = (waitSeconds: number, appImage: string | undefined) =>
  [
    "up",
    ...(appImage ? [] : ["--build"]),
    ...["--detach", "--remove-orphans", "--wait", "--wait-timeout", `${waitSeconds}`],
  ] as const;

export type DownOptions = {
  /** Deletes the data. */
  volumes?: boolean;
  /** Instead of each service's stop_grace_period. */
  graceSeconds?: number;
};

export const composeDown = ({ volumes, graceSeconds }: DownOptions) => [
  ...["down", "--remove-orphans"],
  ...(volumes ? ["--volumes"] : []),
  ...(graceSeconds === undefined ? [] : ["--timeout", `${graceSeconds}`]),
];

export type Service = { Name: string; Service: string; State: string; ExitCode: number; Health: string };

/** The containers of the project, also those that have ended. */
export async function services(project: Project): Promise<Service[]> {
  const { stdout } = await run(compose(project, ["ps", "--all", "--format", "json"]));
  return stdout
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line) as Service);
}

/**
 * Those to blame when `up --wait` has failed: they ended badly, are started again and again, or run and are not healthy.
 * Postgres first: all others wait for it.
 */
export function failedServices(all: readonly Service[]): string[] {
  const failed = all.filter(({ State, ExitCode, Health }) =>
    State === "exited" || State === "dead" ? ExitCode !== 0 : State === "restarting" || Health === "unhealthy",
  );
  const names = failed.map(({ Service }) => Service);
  return names.sort((one, other) => Number(other === "postgres") - Number(one === "postgres"));
}

/** The last lines that a service has written. */
export async function lastLines(project: Project, service: string, lines: number): Promise<string> {
  const { stdout } = await run(
    compose(project, ["logs", "--no-color", "--no-log-prefix", "--tail", `${lines}`, service]),
  );
  return stdout.trimEnd();
}

/** The volumes that `down --volumes` would delete, by their names on this machine. */
export async function volumes(project: Project): Promise<string[]> {
  const label = `label=com.docker.compose.project=${await projectName(project)}`;
  const { stdout } = await run({ argv: ["docker", "volume", "ls", "--quiet", "--filter", label] });
  return stdout.split("\n").filter(Boolean);
}

/** Compose's own, which is not always dbops.config.ts's: COMPOSE_PROJECT_NAME and `name:` of compose.yaml decide. */
async function projectName(project: Project): Promise<string> {
  const { stdout } = await run(compose(project, ["config", "--format", "json"]));
  return (JSON.parse(stdout) as { name: string }).name;
}
