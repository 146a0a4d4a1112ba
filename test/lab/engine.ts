// The Docker Engine that the live tests use: the one that answers, else one of the lab's own, on a socket and a data root
// of its own. It is started once, outlives the process that started it, and stopEngine() leaves nothing of it behind.
import { existsSync, mkdirSync } from "node:fs";
import { exitCodes, Failure } from "../../scripts/lib/failure.ts";
import { cacheFolder, say, stateFolder } from "./cache.ts";
import { requireDebian } from "./debian-sources.ts";
import { daemonEnvironment, daemonHasTraces, removeDockerd, socket, startDockerd } from "./engine-daemon.ts";
import { isAtLeast, type Version, versionOf } from "./engine-version.ts";
import { withLock } from "./process.ts";

export type Engine = {
  origin: "answering" | "lab";
  /** What a child process needs beside process.env, so that plain `docker compose` reaches this engine. */
  environment: Record<string, string>;
  /** "engine 28.5.2, compose 2.40.3" */
  version: string;
};

/** start_interval, `!reset` and `--wait` as our Compose files use them. */
const composeAtLeast = [2, 30] as const;

const lockWithinSeconds = 600;

/** @throws {Failure} when none answers and none can be started (exit 2 where the machine is at fault). */
export async function startEngine(): Promise<Engine> {
  const found = await answeringEngine();
  if (found) return found;
  requireDebian();
  mkdirSync(cacheFolder(), { recursive: true });
  return withLock(
    cacheFolder("engine.lock"),
    lockWithinSeconds,
    async () => (await runningLab()) ?? (await startLab()),
  );
}

/** The engine that startEngine() would return without starting one. */
export async function findEngine(): Promise<Engine | undefined> {
  return (await answeringEngine()) ?? (await runningLab());
}

/** Stops the lab's engine and removes all of it but the cache. Twice is safe; an engine of somebody else's is not touched. */
export async function stopEngine(): Promise<void> {
  if (!daemonHasTraces()) return;
  mkdirSync(cacheFolder(), { recursive: true });
  await withLock(cacheFolder("engine.lock"), lockWithinSeconds, removeDockerd);
}

async function answeringEngine(): Promise<Engine | undefined> {
  const environment = Object.fromEntries(
    ["PATH", "DOCKER_HOST", "DOCKER_CONFIG"].flatMap((name) => (process.env[name] ? [[name, process.env[name]!]] : [])),
  );
  const version = await versionOf(environment);
  if (!version) return undefined;
  if (!version.compose || !isAtLeast(version.compose, composeAtLeast)) {
    throw new Failure(
      "Cannot use the Docker Engine that answers",
      `its Compose is ${version.compose ?? "missing"}, it must be at least ${composeAtLeast.join(".")}`,
      ["docker compose version    # install or update the Compose plugin"],
      { exitCode: exitCodes.usage },
    );
  }
  return asEngine(process.env.DOCKER_HOST === socket() ? "lab" : "answering", environment, version);
}

async function runningLab(): Promise<Engine | undefined> {
  if (!existsSync(stateFolder("docker.sock"))) return undefined;
  const environment = await daemonEnvironment();
  const version = await versionOf(environment);
  return version && asEngine("lab", environment, version);
}

async function startLab(): Promise<Engine> {
  const started = performance.now();
  const { environment, version } = await startDockerd();
  const engine = asEngine("lab", environment, version);
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  say(`no Docker Engine answered; started our own (${engine.version}) on ${socket()} (${seconds} s)`);
  return engine;
}

function asEngine(origin: Engine["origin"], environment: Record<string, string>, { engine, compose }: Version): Engine {
  return { origin, environment, version: `engine ${engine}, compose ${compose}` };
}
