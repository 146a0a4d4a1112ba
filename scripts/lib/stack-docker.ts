// The stack in containers: `docker compose up` and `down`.
import { composeFailure, engineGone, findBlamed } from "./compose-failure.ts";
import {
  compose,
  composeDown,
  composeUp,
  type DownOptions,
  lastLines,
  services,
  volumes,
  whyNoDocker,
} from "./docker.ts";
import { asFailure, type Failure, formatFailure } from "./failure.ts";
import { localPlace } from "./place.ts";
import { requireFreePort } from "./port.ts";
import { run, start } from "./run.ts";
import { migrateStack, type Project, type Stack, untilHealthy } from "./stack.ts";
import { phase, quote } from "./terminal.ts";
import { within } from "./wait.ts";

/** Building the app's image downloads its packages; becoming healthy takes seconds. */
const upSeconds = 900;
const healthySeconds = 120;
/** Making the database takes seconds; whoever has pressed Ctrl-C should not wait much longer. */
const finishSeconds = 30;

/**
 * @throws {Failure} naming the service that failed with its last lines. Containers are left as they are, for a look.
 * When interrupted, what was not running before is taken down again.
 */
export async function upDocker(project: Project, interrupted: AbortSignal): Promise<Omit<Stack, "seconds">> {
  const wasRunning = (await services(project)).some(({ State }) => State === "running");
  // Compose notices for itself when 127.0.0.1 is taken.
  if (!wasRunning) await requireFreePort(project.httpPort, ["::1"], "HTTP_PORT");
  try {
    await migrateFirst(project, interrupted);
    phase("docker compose up");
    const words = composeUp(healthySeconds, project.environment.APP_IMAGE);
    const { code, lines } = await runCompose(project, words, interrupted);
    if (code !== 0) throw await explain(project, lines);
    const health = await untilHealthy({
      port: project.httpPort,
      seconds: 30,
      interrupted,
      token: project.environment.HEALTH_TOKEN,
      otherwise: { next: ["docker compose logs app", "bun scripts/up.ts"] },
    });
    return { engine: "docker", url: `http://localhost:${project.httpPort}`, health };
  } catch (error) {
    if (interrupted.aborted && !wasRunning) await downAfterInterruption(project);
    throw error;
  }
}

/**
 * By the code of `migrate up`, so that nobody else migrates at the same time; and Compose would take an old app down before it knows
 * whether the migrations succeed. Compose's own run of them finds nothing pending then.
 * @throws {Failure} with file and SQL error; an old app goes on serving.
 */
async function migrateFirst(project: Project, interrupted: AbortSignal): Promise<void> {
  phase("docker compose up postgres");
  const words = ["up", "--detach", "--wait", "--wait-timeout", `${healthySeconds}`, "postgres"];
  const { code, lines } = await runCompose(project, words, interrupted);
  if (code !== 0) throw await explain(project, lines);
  await migrateStack(project, await localPlace(project.directory), interrupted);
}

type Composed = { code: number | NodeJS.Signals; lines: string[] };

/** Runs Compose to its end and shows what is new in its output. */
async function runCompose(project: Project, words: readonly string[], interrupted: AbortSignal): Promise<Composed> {
  const lines: string[] = [];
  const shown = new Set<string>();
  const program = await start({
    ...compose(project, ["--progress", "plain", ...words]),
    onLine: (line) => {
      lines.push(line);
      if (isNews(line) && !shown.has(line)) quote("compose", line.trim());
      shown.add(line);
    },
    ownGroup: true,
  });
  const code = await within({ seconds: upSeconds, interrupted }, program.ended, {
    what: "docker compose",
    next: ["docker compose ps --all", "docker compose logs", "bun scripts/up.ts"],
  }).finally(() => program.stop("SIGINT", 20));
  return { code, lines };
}

/** Of the hundreds of lines that Compose prints: each step of a build, and what has become of each container. */
export function isNews(line: string): boolean {
  return /^#\d+ \[.*\d\/\d\] |^ .* (Built|Pulled|Started|Healthy|Exited|Error)\b|^(Applying|Error): /.test(line);
}

/** Containers and networks go; data only with its volumes. Harmless on repetition. */
export async function downDocker(project: Project, options: DownOptions = {}): Promise<void> {
  const words = composeDown(options);
  phase(`docker compose ${words.join(" ")}`);
  await run(compose(project, words, { timeoutSeconds: 120 }));
}

/** The first error is the one to throw: what goes wrong here as well is only told. */
export async function downAfterError(project: Project, options: DownOptions = {}): Promise<void> {
  await downDocker(project, options).catch((error) => console.error(formatFailure(asFailure(error))));
}

/** While its very first start makes the database, Postgres hears no signal, and cut off in the middle it leaves a useless volume. */
async function downAfterInterruption(project: Project): Promise<void> {
  const all = await services(project).catch(() => []);
  if (all.some(({ Service, Health }) => Service === "postgres" && Health === "starting")) {
    phase(`letting postgres finish its start first, at most ${finishSeconds} s`);
    const words = ["up", "--no-recreate", "--detach", "--wait", "--wait-timeout", `${finishSeconds}`, "postgres"];
    // Whether it did does not matter: it is stopped either way.
    await run(compose(project, words, { timeoutSeconds: finishSeconds + 2 })).catch(() => {});
  }
  await downAfterError(project, { graceSeconds: 5 });
}

/** What there is to take down: containers, and the volumes with the data. */
export async function observeDocker(project: Project): Promise<{ containers: string[]; volumes: string[] }> {
  const all = await services(project);
  return { containers: all.map(({ Service }) => Service), volumes: await volumes(project) };
}

async function explain(project: Project, lines: readonly string[]): Promise<Failure> {
  const gone = await whyNoDocker();
  if (gone) return engineGone(gone, lines);
  const service = findBlamed(lines, await services(project));
  const log = service && (await lastLines(project, service, 50));
  return composeFailure(lines, service && log !== undefined ? { service, log } : undefined);
}
