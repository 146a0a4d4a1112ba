// The app as a process of this machine, with the variables that its container would get.
import { asFailure, exitCodes, Failure } from "./failure.ts";
import { type Running, start } from "./run.ts";
import type { Project } from "./stack.ts";

export type App = Running & {
  /** Settles when it has ended by itself. Never rejects. */
  failure: Promise<Failure>;
  /** Throws that Failure if it has ended already. */
  throwIfEnded(): void;
  lastLines(): string;
};

/**
 * @param onLine gets what the app writes.
 * @throws {Failure} exit 2 when there is no such program.
 */
export async function startApp(project: Project, onLine: (line: string) => void): Promise<App> {
  const lines: string[] = [];
  const program = await start({
    argv: project.config.app.command,
    directory: project.directory,
    environment: appEnvironment(project),
    onLine: (line) => {
      lines.push(line);
      if (lines.length > 20) lines.shift();
      onLine(line);
    },
    ownGroup: true,
  }).catch((error) => {
    throw new Failure("Cannot start the app", asFailure(error).why, ["set app.command in dbops.config.ts"], {
      exitCode: exitCodes.usage,
      cause: error,
    });
  });
  const lastLines = () => lines.join("\n");
  let ended: Failure | undefined;
  const failure = program.ended.then((code) => {
    ended = endedByItself("The app", code, lastLines(), "docs/runbook/app-does-not-start.md");
    return ended;
  });
  const throwIfEnded = () => {
    if (ended) throw ended;
  };
  return { ...program, failure, throwIfEnded, lastLines };
}

/** What compose.yaml sets, over all of .env: there the app's own variables stand. */
export function appEnvironment({ database, httpPort, environment }: Project): Record<string, string> {
  const { host, port, user, password } = database;
  const login = `${encodeURIComponent(user)}:${encodeURIComponent(password)}`;
  return {
    ...environment,
    PORT: `${httpPort}`,
    // A container listens on all its addresses and Compose publishes one; here the app itself has to keep to it.
    HOST: "127.0.0.1",
    PGHOST: host,
    PGPORT: `${port}`,
    PGUSER: user,
    PGPASSWORD: password,
    PGDATABASE: database.database,
    DATABASE_URL: `postgres://${login}@${host}:${port}/${database.database}?sslmode=disable`,
  };
}

/** @param code an exit code or a signal. */
export function endedByItself(what: string, code: number | NodeJS.Signals, lastLines: string, read?: string): Failure {
  const how = typeof code === "number" ? `with exit code ${code}` : `by ${code}`;
  return new Failure(`${what} has ended by itself`, how, ["bun scripts/up.ts"], {
    details: lastLines,
    ...(read && { read }),
  });
}
