// The only place that opens database connections.
import { join } from "node:path";
import postgres from "postgres";
import { readEnvironment } from "./environment.ts";
import { exitCodes, Failure } from "./failure.ts";

export type Connection = { host: string; port: number; user: string; password: string; database: string };

export type Sql = postgres.Sql;

/**
 * Opens no connection yet: the first query does, and fails within timeoutSeconds if nobody answers.
 * Whoever calls this calls `sql.end()`, or uses withConnection().
 */
export function connect(
  connection: Connection,
  options: { timeoutSeconds?: number; connections?: number; onClose?: () => void } = {},
): Sql {
  return postgres({
    ...connection,
    max: options.connections ?? 1,
    connect_timeout: options.timeoutSeconds ?? 5,
    onclose: options.onClose ?? (() => {}),
    // Notices ("relation exists, skipping") would land on stdout in the middle of a JSON document.
    onnotice: () => {},
  });
}

/** Does the work on one connection and closes it, whatever happens. */
export async function withConnection<T>(connection: Connection, work: (sql: Sql) => Promise<T>): Promise<T> {
  const sql = connect(connection);
  return await work(sql).finally(() => sql.end({ timeout: 1 }));
}

/**
 * A client for the database that this machine's app uses: in a container PGHOST and its like, or DATABASE_URL; in the
 * project's directory what .env says, on the loopback port that both engines of `up` listen on.
 * @throws {Failure} exit 2 when nothing says which.
 */
export async function connectAsConfigured(
  environment: Readonly<Record<string, string | undefined>>,
  directory: string,
): Promise<Sql> {
  const options = { max: 1, connect_timeout: 5, onnotice: () => {} };
  // postgres.js reads PGHOST, PGPORT, PGUSER, PGPASSWORD and PGDATABASE by itself.
  if (environment.PGHOST) return postgres(options);
  if (environment.DATABASE_URL) return postgres(environment.DATABASE_URL, options);
  const { POSTGRES_DB, POSTGRES_USER, POSTGRES_PASSWORD, POSTGRES_PORT } = await readEnvironment(
    join(directory, ".env"),
  );
  if (!POSTGRES_DB || !POSTGRES_USER || !POSTGRES_PASSWORD) {
    throw new Failure(
      "Cannot tell which database",
      "neither PGHOST nor DATABASE_URL is set, and .env lacks POSTGRES_DB, POSTGRES_USER or POSTGRES_PASSWORD",
      ["cd to the project's root", "bun scripts/up.ts"],
      { exitCode: exitCodes.usage },
    );
  }
  const port = Number(environment.POSTGRES_PORT ?? POSTGRES_PORT ?? 5432);
  const connection = { host: "127.0.0.1", port, user: POSTGRES_USER, password: POSTGRES_PASSWORD };
  return connect({ ...connection, database: POSTGRES_DB });
}
