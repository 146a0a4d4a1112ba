// Docker Compose as this project uses it: is there an engine, and the commands as data.
import { exitCodes, Failure } from "./failure.ts";
import { type Command, run } from "./run.ts";

/** An engine that does not answer within this time is as good as none. */
const answerSeconds = 10;

/** @returns why Docker cannot be used, or undefined when engine and Compose answer. */
export async function whyNoDocker(): Promise<string | undefined> {
  const ask = (argv: readonly string[]) => run({ argv, timeoutSeconds: answerSeconds });
  try {
    await ask(["docker", "version", "--format", "{{.Server.Version}}"]);
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    if (error.why.includes("not installed")) return "docker is not installed";
    return `no Docker Engine answers (${error.details?.split("\n")[0] ?? error.why})`;
  }
  const compose = await ask(["docker", "compose", "version", "--short"]).catch(() => undefined);
  return compose ? undefined : "docker has no Compose plugin";
}

/** @throws {Failure} exit 2 when --engine docker was asked for and cannot be had. */
export function requireDocker(why: string | undefined): void {
  if (!why) return;
  throw new Failure(
    "Cannot use Docker",
    why,
    ["start Docker, then run this again", "bun scripts/up.ts --engine embedded"],
    {
      exitCode: exitCodes.usage,
    },
  );
}

/** `docker compose …` in the project's directory, where .env names the Compose files. */
export function compose(project: string, words: readonly string[], options: Partial<Command> = {}): Command {
  return { argv: ["docker", "compose", ...words], directory: project, ...options };
}

/** @param appImage what .env names instead of a build: to build would give our image the name of a pulled one. */
export const composeUp = (waitSeconds: number, appImage: string | undefined) =>
  [
    "up",
    ...(appImage ? [] : ["--build"]),
    ...["--detach", "--remove-orphans", "--wait", "--wait-timeout", `${waitSeconds}`],
  ] as const;

export const composeDown = (volumes: boolean) =>
  ["down", "--remove-orphans", ...(volumes ? ["--volumes"] : [])] as const;

export type Service = { Service: string; State: string; ExitCode: number; Health: string };

/** The containers of the project, also those that have ended. */
export async function services(project: string): Promise<Service[]> {
  const { stdout } = await run(compose(project, ["ps", "--all", "--format", "json"]));
  return stdout
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line) as Service);
}

/** Those to blame when `up --wait` has failed: they ended badly, or run and are not healthy. In the order of `ps`. */
export function failedServices(all: readonly Service[]): string[] {
  const failed = all.filter(({ State, ExitCode, Health }) =>
    State === "exited" || State === "dead" ? ExitCode !== 0 : Health === "unhealthy",
  );
  return failed.map(({ Service }) => Service);
}

/** The last lines that a service has written. */
export async function lastLines(project: string, service: string, lines: number): Promise<string> {
  const { stdout } = await run(
    compose(project, ["logs", "--no-color", "--no-log-prefix", "--tail", `${lines}`, service]),
  );
  return stdout.trimEnd();
}

/** The volumes of the project that exist, by their names on this machine. */
export async function volumes(project: string, name: string): Promise<string[]> {
  const { stdout } = await run({
    argv: ["docker", "volume", "ls", "--quiet", "--filter", `label=com.docker.compose.project=${name}`],
    directory: project,
  });
  return stdout.split("\n").filter(Boolean);
}
