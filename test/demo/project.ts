// The demo's project, made by the scaffolder as people get it, and on an engine that answers.
import { existsSync } from "node:fs";
import { chmod, mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { basename, join, relative } from "node:path";
import { compose, whyNoDocker } from "../../scripts/lib/docker.ts";
import { writeSecretFile } from "../../scripts/lib/environment.ts";
import { isFreePort } from "../../scripts/lib/port.ts";
import { run } from "../../scripts/lib/run.ts";
import { phase } from "../../scripts/lib/terminal.ts";
import { findEngine, startEngine, stopEngine } from "../lab/engine.ts";
import { ensureImages } from "../lab/images.ts";
import { freePort } from "../lab/postgres.ts";
import { linkPackages } from "../lab/project-files.ts";
import { repository } from "../lab/repository.ts";

export type DemoProject = {
  directory: string;
  engine: "docker" | "embedded";
  /** How programs reach the engine. */
  environment: Record<string, string>;
};

const lastProject = join(repository, ".demo", "my-app");

type Wanted = { engine: "docker" | "embedded" | undefined; once: boolean; interrupted: AbortSignal };

/**
 * Makes the project, has it shown, and where it is only for once, removes it whatever happens.
 * Without `once` it is .demo/my-app, made anew by each demo and left for a look; so is an engine that had to be started.
 */
export async function withProject<T>(wanted: Wanted, show: (project: DemoProject) => Promise<T>): Promise<T> {
  const engineBefore = await findEngine();
  const target = await chooseEngine(wanted.engine);
  if (!wanted.once) await removeLastProject();
  await mkdir(join(repository, ".demo"), { recursive: true });
  const directory = wanted.once ? await mkdtemp(join(repository, ".demo", "once-")) : lastProject;
  const project = { ...target, directory };
  try {
    await makeProject(project, wanted.interrupted);
    return await show(project);
  } finally {
    if (wanted.once) await removeProject(project);
    if (wanted.once && !engineBefore) await stopEngine();
  }
}

/** What the last demo without --once has left, on whichever engine. */
export async function removeLastProject(): Promise<void> {
  const engine = existsSync(lastProject) ? await findEngine() : undefined;
  const target = { engine: engine ? "docker" : "embedded", environment: engine?.environment ?? {} } as const;
  await removeProject({ ...target, directory: lastProject });
}

/** Docker if an engine answers, else embedded; where Docker is asked for and none answers, the lab's own engine. */
async function chooseEngine(wanted: Wanted["engine"]): Promise<Pick<DemoProject, "engine" | "environment">> {
  const why = wanted ? undefined : await whyNoDocker();
  if (why) phase(`without Docker: ${why}`);
  if (why || wanted === "embedded") return { engine: "embedded", environment: {} };
  if (!(await findEngine())) phase("no Docker Engine answers: the lab's own (npm run lab -- down removes it)");
  const engine = await startEngine();
  await ensureImages(engine);
  return { engine: "docker", environment: engine.environment };
}

async function makeProject({ directory }: DemoProject, interrupted: AbortSignal): Promise<void> {
  phase(`create-dbops ${relative(repository, directory)}`);
  await mkdir(directory, { recursive: true });
  // For nginx and Postgres, which run as other users.
  await chmod(directory, 0o755);
  await run({ argv: [process.execPath, "create/build.ts"], directory: repository });
  interrupted.throwIfAborted();
  const name = `dbops-demo-${basename(directory).toLowerCase()}`;
  const answers = ["--name", name, "--no-install", "--no-git", "--yes"];
  await run({ argv: ["node", "dist/create-dbops.mjs", directory, ...answers], directory: repository });
  interrupted.throwIfAborted();
  await linkPackages(directory);
  await avoidTakenPorts(join(directory, ".env"));
}

/** A demo must not fail because something else listens on 8080; the file says which port it is now. */
async function avoidTakenPorts(file: string): Promise<void> {
  let text = await readFile(file, "utf8");
  for (const [name, port] of [...text.matchAll(/^(HTTP_PORT|POSTGRES_PORT)=(\d+)$/gm)].map(
    (line) => [line[1]!, Number(line[2])] as const,
  )) {
    if ((await isFreePort(port, "0.0.0.0")) && (await isFreePort(port, "::1"))) continue;
    const free = await freePort();
    phase(`port ${port} is taken: ${name}=${free}`);
    text = text.replace(`${name}=${port}`, `${name}=${free}`);
  }
  await writeSecretFile(file, text);
}

/** Processes, containers, images, data and files. Harmless on repetition, and after a run that was killed. */
async function removeProject({ directory, engine, environment }: DemoProject): Promise<void> {
  if (existsSync(join(directory, ".env"))) {
    phase(`removing ${relative(repository, directory)}`);
    if (engine === "docker")
      await run(
        compose({ directory, environment }, ["down", "--volumes", "--rmi", "local", "--remove-orphans"], {
          environment,
          timeoutSeconds: 180,
        }),
      );
    const down = ["scripts/up.ts", "--engine", "embedded", "--down", "--volumes", "--yes"];
    await run({ argv: [process.execPath, ...down], directory, timeoutSeconds: 120 });
  }
  await rm(directory, { recursive: true, force: true });
}
