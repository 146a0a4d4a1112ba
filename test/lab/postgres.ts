// A real Postgres for one test file: its own folder and port, up in about a second, gone afterwards.
//   const server = await startPostgres();   const sql = server.connect();   …   await server.stop();
import { chmod, mkdtemp } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import postgres from "postgres";
import { type Embedded, startEmbedded } from "../../scripts/lib/embedded.ts";
import { removeHome } from "../../scripts/lib/embedded-home.ts";
import type { Connection } from "../../scripts/lib/postgres.ts";
import { sendSignal } from "../../scripts/lib/run.ts";
import { childrenOf } from "./processes.ts";
import { repository } from "./repository.ts";

export type TestPostgres = Connection & {
  /** postgres://…, for programs that insist on one. */
  url: string;
  /** A postgres.js client; closed by stop(). Options override database, user, password and everything else. */
  connect(options?: postgres.Options<Record<string, never>>): postgres.Sql;
  /** To the postmaster and all its children at once: SIGKILL is a power cut, SIGSTOP a server that hangs. */
  kill(signal: "SIGKILL" | "SIGSTOP" | "SIGCONT"): Promise<void>;
  /** Starts it again on the same data and port, after a kill or from running. */
  restart(): Promise<void>;
  /** Ends it, however it is doing, and removes every trace. Harmless on repetition. */
  stop(): Promise<void>;
};

/** @param options whatever should differ from a random port, user and database "app", and settings of postgresql.conf. */
export async function startPostgres(
  options: Partial<Connection> & { settings?: Record<string, string> } = {},
): Promise<TestPostgres> {
  const directory = await mkdtemp(join(tmpdir(), "dbops-postgres-"));
  await chmod(directory, 0o755);
  const { settings, ...chosen } = options;
  const connection = {
    host: "127.0.0.1",
    port: await freePort(),
    user: "app",
    password: "test",
    database: "app",
    ...chosen,
  };
  const clients: postgres.Sql[] = [];
  const startServer = () =>
    startEmbedded({
      ...connection,
      project: repository,
      directory,
      interrupted: new AbortController().signal,
      // Nobody needs this data after a power cut of the machine; a killed postgres loses nothing by it.
      settings: { fsync: "off", max_connections: "50", shared_buffers: "32MB", ...settings },
    });
  let server: Embedded = await startServer();
  const { user, password, host, port, database } = connection;
  return {
    ...connection,
    url: `postgres://${user}:${encodeURIComponent(password)}@${host}:${port}/${database}?sslmode=disable`,
    connect(more = {}) {
      const client = postgres({ ...connection, onnotice: () => {}, ...more });
      clients.push(client);
      return client;
    },
    async kill(signal) {
      const processes = [server.pid, ...childrenOf(server.pid)];
      for (const pid of processes) sendSignal(pid, signal);
      if (signal === "SIGKILL") await server.ended;
    },
    async restart() {
      sendSignal(server.pid, "SIGCONT");
      await server.stop();
      server = await startServer();
    },
    async stop() {
      await Promise.all(clients.map((client) => client.end({ timeout: 0 })));
      for (const pid of [...childrenOf(server.pid), server.pid]) sendSignal(pid, "SIGKILL");
      await server.ended;
      await removeHome(directory);
    },
  };
}

/** A port that was free a moment ago, chosen by the kernel. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}
