// The stack as plain processes: Postgres from npm, the migrations, then the app; stopped in the opposite order.
import { existsSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { endedByItself, startApp } from "./app.ts";
import { claim, readClaim, recordApp, release } from "./claim.ts";
import { type Embedded, startEmbedded } from "./embedded.ts";
import { stopLeftover } from "./embedded-data.ts";
import { dataHome, removeHome } from "./embedded-home.ts";
import type { Failure } from "./failure.ts";
import { embeddedPlace } from "./place.ts";
import { requireFreePort } from "./port.ts";
import { identify, stopProcess } from "./process.ts";
import { asTyped } from "./runtime.ts";
import { migrateStack, type Project, type Stack, untilHealthy } from "./stack.ts";
import { phase, quote } from "./terminal.ts";

export type EmbeddedStack = Omit<Stack, "seconds"> & {
  /** Settles when a part has ended by itself, with the Failure that says which. Never rejects. */
  broken: Promise<Failure>;
  /** Stops the app, then Postgres, and gives the project free. */
  stop(): Promise<void>;
};

const readySeconds = 60;
/** As long as Compose gives it, see stop_grace_period in compose.yaml. */
const appStopSeconds = 35;
/** Longer than the app and Postgres may take, one after the other. */
const downSeconds = 60;

const homeOf = (project: Project) => join(project.directory, ".dbops", "embedded");

/**
 * @param onAppLine gets what the app writes.
 * @throws {Failure} from the first part that did not come up; what came up before it is stopped then, also when interrupted.
 */
export async function upEmbedded(
  project: Project,
  interrupted: AbortSignal,
  onAppLine: (line: string) => void,
): Promise<EmbeddedStack> {
  const directory = homeOf(project);
  await mkdir(directory, { recursive: true });
  const killed = await claim(directory);
  const undo = [() => release(directory)];
  const stop = async () => {
    for (let step = undo.pop(); step; step = undo.pop()) await step();
  };
  try {
    if (killed?.app && (await stopProcess(killed.app, "SIGTERM", appStopSeconds)))
      phase("stopped an app that a killed `up` had left running");
    await requireFreePort(project.httpPort, ["0.0.0.0", "127.0.0.1", "::1"], "HTTP_PORT");
    const postgres = await startPostgres(project, interrupted);
    undo.push(() => postgres.stop());
    await migrateStack(project, embeddedPlace(project.database), interrupted);
    phase(`${project.config.app.command.join(" ")} on port ${project.httpPort}`);
    const app = await startApp(project, onAppLine);
    undo.push(() => app.stop("SIGTERM", appStopSeconds));
    const appIdentity = await identify(app.pid);
    if (appIdentity) await recordApp(directory, appIdentity);
    const health = await untilHealthy({
      port: project.httpPort,
      seconds: readySeconds,
      interrupted,
      token: project.environment.HEALTH_TOKEN,
      stillHopeful: app.throwIfEnded,
      otherwise: { next: ["bun scripts/up.ts"], lastLines: app.lastLines },
    });
    return {
      engine: "embedded",
      url: `http://localhost:${project.httpPort}`,
      health,
      broken: Promise.race([
        app.failure,
        postgres.ended.then((code) => endedByItself("Postgres", code, postgres.logTail())),
      ]),
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** Ends what `up` is running in this project, from another terminal, or what a killed one has left. */
export async function downEmbedded(project: Project, withData: boolean): Promise<void> {
  const directory = homeOf(project);
  const found = await readClaim(directory);
  if (found && (await stopProcess(found.owner, "SIGTERM", downSeconds)))
    phase(`stopped \`up\`, process ${found.owner.pid}`);
  if (found?.app && (await stopProcess(found.app, "SIGTERM", appStopSeconds))) phase("stopped the app");
  if (await stopLeftover(join(await dataHome(directory), "data"))) phase("stopped Postgres");
  await release(directory);
  if (withData) await removeHome(directory);
}

/** The folder with the data, if there is one. */
export async function embeddedData(project: Project): Promise<string[]> {
  return [join(await dataHome(homeOf(project)), "data")].filter((folder) => existsSync(folder));
}

/** What there is to take down, and the folders with the data. */
export async function observeEmbedded(project: Project): Promise<{ running: boolean; folders: string[] }> {
  const directory = homeOf(project);
  const found = await readClaim(directory);
  const folders = [...new Set([await dataHome(directory), directory])].filter((folder) => existsSync(folder));
  return { running: found !== undefined, folders };
}

async function startPostgres(project: Project, interrupted: AbortSignal): Promise<Embedded> {
  const { database, directory } = project;
  phase(`postgres on port ${database.port}`);
  const postgres = await startEmbedded({ ...database, project: directory, directory: homeOf(project), interrupted });
  if (postgres.home !== homeOf(project))
    quote(
      "postgres",
      asTyped(
        `runs as an unprivileged user; data and log are in ${postgres.home}; removing the project does not remove them, bun scripts/up.ts --down --volumes does`,
      ),
    );
  return postgres;
}
