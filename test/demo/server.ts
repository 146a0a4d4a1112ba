// A lab server, a registry, and a project that can be deployed to it, for whoever shows or measures that. All of it is gone
// afterwards, whatever happens.
import type { Config } from "../../scripts/lib/config.ts";
import { exitCodes, Failure } from "../../scripts/lib/failure.ts";
import { phase } from "../../scripts/lib/terminal.ts";
import { untilAborted } from "../../scripts/lib/wait.ts";
import { requireDebian } from "../lab/debian-sources.ts";
import { createDeployProject, type DeployProject } from "../lab/deploy-project.ts";
import { findEngine, stopEngine } from "../lab/engine.ts";
import { type Load, type Report, startLoad } from "../lab/load.ts";
import { type Registry, startRegistry } from "../lab/registry.ts";
import { type Server, startServer } from "../lab/server.ts";

export type Stand = { server: Server; registry: Registry; project: DeployProject; interrupted: AbortSignal };

type Wanted = { interrupted: AbortSignal; config?: Partial<Config> };

/** @throws {Failure} exit 2 where there can be no lab server; what `work` throws. */
export async function withServer<T>(
  { interrupted, config = {} }: Wanted,
  work: (stand: Stand) => Promise<T>,
): Promise<T> {
  requireServer();
  const engineBefore = await findEngine();
  const takeDown: (() => Promise<void>)[] = [];
  try {
    phase("a server with sshd and Docker, a registry, and a project");
    const registry = await startRegistry();
    takeDown.unshift(registry.stop);
    interrupted.throwIfAborted();
    const server = await startServer({ kind: "docker", withImages: true });
    takeDown.unshift(server.stop);
    interrupted.throwIfAborted();
    const project = await createDeployProject({ server, registry, config });
    takeDown.unshift(project.remove);
    phase(`${project.directory} is to be deployed to ${server.user}@${server.address}`);
    interrupted.throwIfAborted();
    return await work({ server, registry, project, interrupted });
  } finally {
    phase("taking everything down");
    if (!engineBefore) takeDown.push(stopEngine);
    await inTurn(takeDown);
  }
}

/** All of them, also after one that failed. */
async function inTurn(steps: readonly (() => Promise<void>)[]): Promise<void> {
  const [first, ...rest] = steps;
  if (first) await first().finally(() => inTurn(rest));
}

function requireServer(): void {
  try {
    requireDebian();
  } catch (cause) {
    throw new Failure(
      "Cannot bring up a server to deploy to",
      "it is a second host on this machine, and that takes root on Debian with apt-get",
      ["npm run demo    # shows what needs neither"],
      { exitCode: exitCodes.usage, cause },
    );
  }
}

export type Line = { text: string; stream: "stdout" | "stderr" /** On the clock of performance.now(). */; at: number };

export type VerbRun = { seconds: number; lines: readonly Line[]; stdout: string };

type How = {
  /** How it is expected to end. Default 0. */
  exitCode?: number;
  environment?: Readonly<Record<string, string>>;
  onLine?: (text: string) => void;
};

/** The verb is told to end, and undoes what it did, before we go. */
const stopSeconds = 60;

/**
 * Runs a verb as a person does, logged in to the registry through the environment.
 * @throws {Failure} when it ends otherwise than expected; when interrupted, once the verb has ended.
 */
export async function runVerb(stand: Stand, verb: string, words: readonly string[], how: How = {}): Promise<VerbRun> {
  const { registry, project, interrupted } = stand;
  const { exitCode = exitCodes.done } = how;
  interrupted.throwIfAborted();
  const login = { DBOPS_REGISTRY_USER: registry.user, DBOPS_REGISTRY_PASSWORD: registry.password };
  const lines: Line[] = [];
  const started = performance.now();
  const program = await project.start(verb, words, {
    environment: { ...login, ...how.environment },
    onLine(text, stream) {
      lines.push({ text, stream, at: performance.now() });
      how.onLine?.(text);
    },
  });
  await Promise.race([program.ended, untilAborted(interrupted)]);
  const seconds = (performance.now() - started) / 1000;
  if (interrupted.aborted) await program.stop("SIGTERM", stopSeconds);
  const ended = await program.ended;
  interrupted.throwIfAborted();
  if (ended !== exitCode) {
    const why = `it ended with ${ended}, not with ${exitCode}`;
    // Whoever has shown all lines need not repeat them.
    const details = how.onLine
      ? {}
      : {
          details: lines
            .slice(-30)
            .map(({ text }) => text)
            .join("\n"),
        };
    throw new Failure(`"${commandOf(verb, words)}" went wrong`, why, [], details);
  }
  const stdout = lines.filter(({ stream }) => stream === "stdout").map(({ text }) => text);
  return { seconds, lines, stdout: stdout.join("\n") };
}

export const commandOf = (verb: string, words: readonly string[]) => ["bun", `scripts/${verb}.ts`, ...words].join(" ");

/** Requests a second, the most that this machine carries: what is asked for, or a half or a quarter of it. */
const rates = [520, 260, 130];
const triedSeconds = 2;

/** Load on the project, half of it POST, on kept connections. It has answered well for a while already. */
export async function startFittingLoad({ project }: Stand): Promise<{ load: Load; requestsPerSecond: number }> {
  for (const requestsPerSecond of rates) {
    const load = await startLoad({ ...project.target, requestsPerSecond, clients: 48 });
    const report = await load.until(({ seconds }) => seconds >= triedSeconds);
    if (report.rate >= requestsPerSecond * 0.9 || requestsPerSecond === rates.at(-1))
      return { load, requestsPerSecond };
    await load.stop();
    phase(`this machine is too busy for ${requestsPerSecond} requests a second`);
  }
  throw new Error("there is a last rate");
}

/** What has come in between two reports. */
export function between(before: Report, after: Report): Pick<Report, "requests" | "failed" | "failures"> {
  const kinds = Object.keys(after.failures) as (keyof Report["failures"])[];
  const failures = kinds.map((kind) => [kind, after.failures[kind]! - (before.failures[kind] ?? 0)] as const);
  return {
    requests: after.requests - before.requests,
    failed: after.failed - before.failed,
    failures: Object.fromEntries(failures.filter(([, count]) => count > 0)),
  };
}

/** How often a release itself said 500, as nginx' log on the server has it. Nothing but a broken release ever does. */
export async function errorsOfTheApp({ server, project }: Stand): Promise<number> {
  const label = "--filter label=com.docker.compose";
  const nginx = `docker ps --quiet ${label}.project=${project.name} ${label}.service=nginx`;
  const { stdout } = await server.ssh(
    `docker logs "$(${nginx})" 2>/dev/null | grep --count '"upstream_status":"500"' || true`,
  );
  return Number(stdout);
}
