// The stack in containers: `docker compose up`, with what went wrong told in one place.
import { migrationFailure } from "./dbmate.ts";
import { compose, composeDown, composeUp, failedServices, lastLines, services, volumes } from "./docker.ts";
import { exitCodes, Failure } from "./failure.ts";
import { run, start } from "./run.ts";
import { type Project, type Stack, untilHealthy } from "./stack.ts";
import { phase, quote } from "./terminal.ts";
import { within } from "./wait.ts";

/** Building the app's image downloads its packages; becoming healthy takes seconds. */
const upSeconds = 900;
const healthySeconds = 120;

/**
 * @throws {Failure} naming the service that failed with its last lines. Containers are left as they are, for a look.
 * When interrupted, what was not running before is taken down again.
 */
export async function upDocker(project: Project, interrupted: AbortSignal): Promise<Omit<Stack, "seconds">> {
  const wasRunning = (await services(project.directory)).some(({ State }) => State === "running");
  try {
    if (wasRunning) await migrateFirst(project, interrupted);
    phase("docker compose up");
    const words = composeUp(healthySeconds, project.environment.APP_IMAGE);
    const { code, lines } = await runCompose(project, words, interrupted);
    if (code !== 0) throw await explain(project, lines);
    const url = `http://localhost:${project.httpPort}`;
    const token = project.environment.HEALTH_TOKEN;
    return { engine: "docker", url, health: await untilHealthy({ url, seconds: 30, interrupted, token }) };
  } catch (error) {
    if (interrupted.aborted && !wasRunning) await downDocker(project, false);
    throw error;
  }
}

/**
 * Compose would take the old app down before it knows whether the migrations succeed.
 * @throws {Failure} with file and SQL error; the old app goes on serving.
 */
async function migrateFirst(project: Project, interrupted: AbortSignal): Promise<void> {
  phase("docker compose run migrations");
  const { code, lines } = await runCompose(project, ["run", "--rm", "--no-TTY", "migrations"], interrupted);
  if (code !== 0) throw migrationFailure(lines, code);
}

type Composed = { code: number | NodeJS.Signals; lines: string[] };

/** Runs Compose to its end and shows what is new in its output. */
async function runCompose(project: Project, words: readonly string[], interrupted: AbortSignal): Promise<Composed> {
  const lines: string[] = [];
  const shown = new Set<string>();
  const program = await start({
    ...compose(project.directory, ["--progress", "plain", ...words]),
    onLine: (line) => {
      lines.push(line);
      if (isNews(line) && !shown.has(line)) quote("compose", line.trim());
      shown.add(line);
    },
    ownGroup: true,
  });
  const code = await within({ seconds: upSeconds, interrupted }, program.ended, "docker compose").finally(() =>
    program.stop("SIGINT", 20),
  );
  return { code, lines };
}

/** Of the hundreds of lines that Compose prints: each step of a build, and what has become of each container. */
export function isNews(line: string): boolean {
  return /^#\d+ \[.*\d\/\d\] |^ .* (Built|Pulled|Started|Healthy|Exited|Error)\b|^(Applying|Error): /.test(line);
}

/** Containers and networks go; data only with its volumes. Harmless on repetition. */
export async function downDocker(project: Project, withVolumes: boolean): Promise<void> {
  phase(`docker compose ${composeDown(withVolumes).join(" ")}`);
  await run(compose(project.directory, composeDown(withVolumes), { timeoutSeconds: 120 }));
}

/** What there is to take down: containers, and the volumes with the data. */
export async function observeDocker(project: Project): Promise<{ containers: string[]; volumes: string[] }> {
  const all = await services(project.directory);
  return {
    containers: all.map(({ Service }) => Service),
    volumes: await volumes(project.directory, project.config.name),
  };
}

async function explain(project: Project, lines: readonly string[]): Promise<Failure> {
  const because = (why: string, next: readonly string[], details: string) =>
    new Failure("Cannot start the stack", why, [...next, "bun scripts/up.ts"], { details });
  const portTaken = lines.findLast((line) => /port is already allocated|address already in use/.test(line));
  if (portTaken) {
    const next = ["set HTTP_PORT or POSTGRES_PORT in .env to another port", "bun scripts/up.ts"];
    return new Failure("Cannot start the stack", "a port is taken", next, {
      details: portTaken,
      exitCode: exitCodes.usage,
    });
  }
  const [failed] = failedServices(await services(project.directory));
  if (!failed) return because("docker compose up failed", [], lines.slice(-15).join("\n"));
  const log = await lastLines(project.directory, failed, 50);
  if (failed === "migrations") return migrationFailure(log.split("\n"), "an error");
  return because(
    `service "${failed}" failed`,
    [`docker compose logs ${failed}`],
    log.split("\n").slice(-15).join("\n"),
  );
}
