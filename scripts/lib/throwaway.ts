// A container with a Postgres that nobody else knows, without a network, which goes with all its data when the work is done: a drill
// restores into one, and migrations are tried in one. Where we were killed, the next run finds it by its labels.
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { migrationFailure } from "./dbmate.ts";
import { whyNoDocker } from "./docker.ts";
import type { Stack } from "./drill-plan.ts";
import { exitCodes, Failure } from "./failure.ts";
import { openContainer, type Place } from "./place.ts";
import { identify, isRunning } from "./process.ts";
import { run } from "./run.ts";
import { poll } from "./wait.ts";

export type Throwaway = {
  name: string;
  place: Place;
  /** @returns why it runs no more, and undefined while it does. */
  whyEnded(): Promise<string | undefined>;
  /** @throws {Failure} exit 3 with dbmate's words. */
  migrate(stack: Stack, directory: string, database: string, interrupted: AbortSignal): Promise<string[]>;
  /** With its data. @returns what to do where it could not be removed. */
  remove(): Promise<string | undefined>;
};

const docker = (...words: string[]) => ["docker", ...words];

/**
 * @param what cannot be done without one: "Cannot drill".
 * @throws {Failure} exit 1: the next run may find one.
 */
export async function requireEngine(what: string): Promise<void> {
  const why = await whyNoDocker();
  if (why) throw new Failure(what, why, ["docker info      # then the same command again"]);
}

/** Read as it stands: there may be no .env here, and what it would say is not needed. @throws {Failure} exit 2 with Compose's own words. */
export async function readStack(directory: string): Promise<Stack> {
  if (!existsSync(join(directory, "compose.yaml"))) return {};
  const words = docker("compose", "--file", "compose.yaml", "config", "--no-interpolate", "--format", "json");
  const { stdout } = await run({ argv: words, directory }).catch((error: Failure) => {
    throw new Failure("Cannot read compose.yaml", error.why, ["docker compose config"], {
      exitCode: exitCodes.usage,
      ...(error.details && { details: error.details }),
    });
  });
  const { services } = JSON.parse(stdout) as {
    services: Record<string, { image?: string; command?: string[] | null }>;
  };
  const { postgres, migrations } = services;
  return {
    ...(isPlain(postgres?.image) && { postgres: postgres.image }),
    ...(postgres?.command?.every(isPlain) && { command: postgres.command }),
    ...(isPlain(migrations?.image) && { migrations: migrations.image }),
    ...(migrations?.command?.every(isPlain) && { migrate: migrations.command }),
  };
}

/** Without a variable of .env in it. */
const isPlain = (text: string | undefined): text is string => text !== undefined && !text.includes("$");

/** What it is for, which its name and its labels say. */
export type Purpose = "drill" | "rehearse" | "scratch";

const labelOf = (purpose: Purpose) => `dbops.${purpose}`;
/** A run on another machine with the same engine cannot be asked whether it goes on. */
const foreignHours = 24;

type Labels = { name: string; machine: string; pid: string; started: string; since: string };

/** Of this project: those whose process is gone. */
export async function findLeftovers(purpose: Purpose, project: string, now: Date): Promise<string[]> {
  const label = labelOf(purpose);
  const columns = ["machine", "pid", "started", "since"].map((name) => `{{.Label "${label}.${name}"}}`);
  const format = ["{{.Names}}", ...columns].join("\t");
  const words = docker("ps", "--all", "--filter", `label=${label}=${project}`, "--format", format);
  const { stdout } = await run({ argv: words });
  const found = stdout.split("\n").filter(Boolean);
  const left = await Promise.all(
    found.map(async (line) => {
      const [name = "", machine = "", pid = "", started = "", since = ""] = line.split("\t");
      return (await isLeft({ name, machine, pid, started, since }, now)) ? [name] : [];
    }),
  );
  return left.flat().sort();
}

async function isLeft({ machine, pid, started, since }: Labels, now: Date): Promise<boolean> {
  if (machine === hostname()) return !(await isRunning({ pid: Number(pid), started }));
  return now.getTime() - Date.parse(since) > foreignHours * 3_600_000;
}

/** @throws {Failure} exit 1 with Docker's own words. */
export async function pullImage(image: string, interrupted: AbortSignal): Promise<void> {
  const argv = docker("pull", "--quiet", image);
  await run({ argv, timeoutSeconds: 900, interrupted }).catch((error: unknown) => {
    if (interrupted.aborted || !(error instanceof Failure)) throw error;
    throw engineFailed(`Docker cannot pull ${image}`, error, [`docker pull ${image}`]);
  });
}

export async function hasImage(image: string): Promise<boolean> {
  const { exitCode } = await run({ argv: docker("image", "inspect", "--format", "{{.Id}}", image), accept: [0, 1] });
  return exitCode === 0;
}

/** Docker has no disk left, or refuses something: that says nothing about the backup. */
function engineFailed(what: string, { why, details }: Failure, next: string[]): Failure {
  const said = details?.split("\n").find(Boolean);
  return new Failure(what, said ?? why, next, { ...(details && { details }) });
}

const readySeconds = 180;

/** As compose.yaml has it for postgres. Without a network nothing in the data can reach anybody, and nobody the data. */
const confinement = [
  ...["--network=none", "--memory=1g", "--shm-size=256m", "--pids-limit=256"],
  ...["--cap-drop=ALL", ...["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"].map((name) => `--cap-add=${name}`)],
  ...["--security-opt=no-new-privileges", "--log-driver=local", "--log-opt=max-size=10m", "--log-opt=max-file=2"],
];

type Wanted = { purpose: Purpose; project: string; image: string; command: readonly string[]; superuser: string };

/** @throws {Failure} exit 1 when it does not come up, with the end of its log; it is removed then. */
export async function startContainer(
  { purpose, project, image, command, superuser }: Wanted,
  interrupted: AbortSignal,
): Promise<Throwaway> {
  const name = `dbops-${purpose}-${project}-${randomBytes(4).toString("hex")}`;
  // Handed on by name, so that it stands in no command line.
  const password = { POSTGRES_PASSWORD: randomBytes(24).toString("hex") };
  const labels = await labelsOf(purpose, project);
  const container = describe(name, superuser, labels, password.POSTGRES_PASSWORD);
  const identity = ["--env=POSTGRES_PASSWORD", `--env=POSTGRES_USER=${superuser}`, "--env=POSTGRES_DB=postgres"];
  // Whoever cuts the power starts again from nothing.
  const quickly = "--env=POSTGRES_INITDB_ARGS=--no-sync";
  const words = [`--name=${name}`, ...labels, ...confinement, ...identity, quickly, image, ...command];
  try {
    // Not cut off half-way: a container that comes to be after we have looked for it would be left.
    await run({
      argv: docker("run", "--detach", "--pull=never", ...words),
      environment: password,
      timeoutSeconds: 180,
    }).catch((error: Failure) => {
      throw engineFailed(`Docker cannot start ${image}`, error, ["docker info"]);
    });
    interrupted.throwIfAborted();
    await ready(container, image, interrupted);
    return container;
  } catch (error) {
    await container.remove();
    throw error;
  }
}

async function labelsOf(purpose: Purpose, project: string): Promise<string[]> {
  const label = labelOf(purpose);
  const { pid, started } = (await identify(process.pid)) ?? { pid: process.pid, started: "" };
  const values = { machine: hostname(), pid, started, since: new Date().toISOString() };
  const each = Object.entries(values).map(([name, value]) => `--label=${label}.${name}=${value}`);
  return [`--label=${label}=${project}`, ...each];
}

/** Over TCP: while the first start creates the database, a server that is not the final one answers on the socket. */
async function ready({ place, name, whyEnded }: Throwaway, image: string, interrupted: AbortSignal): Promise<void> {
  let last = "it does not answer";
  const answers = await poll({ seconds: readySeconds, everyMilliseconds: 200, interrupted }, async () => {
    const ask = place.client(["psql", "--no-psqlrc", "--no-password", "--tuples-only", "--command=select 1"]);
    const result = await run({ ...ask, timeoutSeconds: 10 }).then(
      () => undefined,
      (error: Failure) => error,
    );
    if (!result) return true;
    last = result.details?.split("\n").at(-1) ?? result.why;
    return (await whyEnded()) ? false : undefined;
  });
  if (answers) return;
  const { stdout, stderr } = await run({ argv: docker("logs", "--tail=20", name), accept: [0, 1] });
  throw new Failure(`${image} does not come up`, (await whyEnded()) ?? last, ["the same command with --image IMAGE"], {
    details: `${stdout}${stderr}`.trimEnd(),
  });
}

function describe(name: string, superuser: string, labels: readonly string[], password: string): Throwaway {
  const migrations = `${name}-migrations`;
  return {
    name,
    place: openContainer({ id: name, database: "postgres", user: superuser }, `the container ${name}`),
    async whyEnded() {
      const format = "{{.State.Running}} {{.State.OOMKilled}} {{.State.ExitCode}}";
      const argv = docker("inspect", "--format", format, name);
      const { exitCode, stdout } = await run({ argv, accept: [0, 1] });
      const [isUp, wasKilled, code] = stdout.trim().split(" ");
      if (exitCode !== 0) return "its container is gone";
      if (isUp === "true") return undefined;
      return wasKilled === "true" ? "its container had too little memory" : `its container has ended with ${code}`;
    },
    async migrate({ migrations: image, migrate = ["up", "--strict"] }, directory, database, interrupted) {
      const words = [
        ...["--rm", "--pull=never", `--name=${migrations}`, ...labels, `--network=container:${name}`],
        ...["--user=65534:65534", "--read-only", "--memory=256m", "--pids-limit=64"],
        ...["--cap-drop=ALL", "--security-opt=no-new-privileges"],
        `--mount=type=bind,source=${join(directory, "migrations")},target=/db/migrations,readonly`,
        `--env=DATABASE_URL=postgres://127.0.0.1:5432/${encodeURIComponent(database)}?sslmode=disable`,
        ...[`--env=PGUSER=${superuser}`, "--env=PGPASSWORD", "--env=DBMATE_NO_DUMP_SCHEMA=true"],
        "--env=PGOPTIONS=-c lock_timeout=5s -c statement_timeout=0",
      ];
      const argv = docker("run", ...words, image!, ...migrate);
      const environment = { PGPASSWORD: password };
      const options = { timeoutSeconds: 6 * 3600, accept: [0, 1, 2, 125, 126, 127], interrupted };
      const { exitCode, stdout, stderr } = await run({ argv, environment, ...options });
      const lines = `${stdout}${stderr}`.split("\n").filter(Boolean);
      if (exitCode === 0) return lines.filter((line) => line.startsWith("Applied: "));
      const { what, why, details, read } = migrationFailure(lines, exitCode);
      const extra = { ...(details && { details }), ...(read && { read }) };
      // From 125 on it is Docker that failed.
      if (exitCode >= 125)
        throw new Failure(`Docker cannot start ${image}`, lines.at(-1) ?? why, ["docker info"], extra);
      throw new Failure(what, why, [], { exitCode: exitCodes.saidNo, ...extra });
    },
    async remove() {
      const names = [migrations, name];
      const isGone = await poll({ seconds: 60, everyMilliseconds: 500 }, () => removeContainers(names)).catch(
        () => false,
      );
      return isGone ? undefined : `docker rm --force --volumes ${name}`;
    },
  };
}

/** @returns undefined while one of them is still there. */
export async function removeContainers(names: readonly string[]): Promise<true | undefined> {
  if (names.length === 0) return true;
  await run({ argv: docker("rm", "--force", "--volumes", ...names), accept: [0, 1] });
  const filters = names.flatMap((name) => ["--filter", `name=^${name}$`]);
  const { stdout } = await run({ argv: docker("ps", "--all", "--quiet", ...filters) });
  return stdout.trim() === "" ? true : undefined;
}
