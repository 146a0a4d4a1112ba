// dbmate: the program from npm for what runs without Docker, what it is told, and what it says. With Docker it is a container of the
// same version. See migration-run.ts, which runs it.
import { createRequire } from "node:module";
import { join } from "node:path";
import { exitCodes, Failure } from "./failure.ts";
import { connectionEnvironment, type Direct, isLoopback, type Place } from "./place.ts";
import type { Connection } from "./postgres.ts";

export const timeoutsFor = (lockSeconds: number) => `-c lock_timeout=${lockSeconds}s -c statement_timeout=0`;
/** As in compose.yaml, where the reason stands. */
const timeouts = timeoutsFor(5);

type Address = Pick<Connection, "host" | "port" | "database">;

/** User and password go in by their variables. An IPv6 address stands in brackets in a URL, the folder of a socket nowhere. */
export function databaseUrl({ host, port, database }: Address, sslmode: string): string {
  const name = encodeURIComponent(database);
  if (isSocket(host)) return `postgres:///${name}?host=${encodeURIComponent(host)}&port=${port}&sslmode=${sslmode}`;
  const address = host.includes(":") ? `[${host}]` : host;
  return `postgres://${address}:${port}/${name}?sslmode=${sslmode}`;
}

const isSocket = (host: string) => host.startsWith("/");

type Environment = Readonly<Record<string, string | undefined>>;

/** As psql takes it: from the URL, else from the environment. Unencrypted only where it stays here, or where somebody says so. */
function sslmodeFor({ host, variables }: Direct, environment: Environment): string {
  const asked = variables?.PGSSLMODE ?? environment.PGSSLMODE;
  if (asked && asked !== "prefer" && asked !== "allow") return asked;
  return isLoopback(host) || isSocket(host) ? "disable" : "require";
}

/**
 * Leads dbmate to the database that psql reaches, and as safely: its driver reads the same variables, and the URL counts most.
 * @param environment ours, which the result is laid over.
 */
export function dbmateEnvironment(
  connection: Direct,
  environment: Environment,
  limits = timeouts,
): Record<string, string | undefined> {
  const ownVariables = Object.keys(environment).filter((name) => name.startsWith("DBMATE_"));
  const asked = connection.variables?.PGOPTIONS;
  const options = asked === undefined ? [environment.PGOPTIONS, limits] : [limits, asked];
  return {
    ...connectionEnvironment(connection),
    ...Object.fromEntries(ownVariables.map((name) => [name, undefined])),
    // What the URL says already, and what the driver does not know: see requireForDbmate().
    ...{ PGSSLMODE: undefined, PGCHANNELBINDING: undefined, PGREQUIREAUTH: undefined },
    DATABASE_URL: databaseUrl(connection, sslmodeFor(connection, environment)),
    PGOPTIONS: options.filter(Boolean).join(" "),
  };
}

/** @throws {Failure} exit 2 where psql is told to be more careful than dbmate can be. */
export function requireForDbmate({ connection }: Pick<Place, "connection">, environment: Environment): void {
  if (!connection) return;
  const { PGCHANNELBINDING: ofUrl } = connection.variables ?? {};
  const { PGCHANNELBINDING = "" } = environment;
  const { PGREQUIREAUTH = "" } = { ...environment, ...connection.variables };
  const asked = [
    ...(ofUrl === "require" ? ["channel_binding=require"] : []),
    ...(ofUrl === undefined && PGCHANNELBINDING === "require" ? ["PGCHANNELBINDING=require"] : []),
    ...(PGREQUIREAUTH ? [`PGREQUIREAUTH=${PGREQUIREAUTH}`] : []),
  ];
  if (asked.length === 0) return;
  const why = `${asked.join(" and ")} is for psql alone: dbmate connects without it`;
  throw new Failure("Cannot migrate", why, ["leave it out, and say instead: sslmode=verify-full"], {
    exitCode: exitCodes.usage,
  });
}

/** What to say about a dbmate that has failed: the file, the SQL error, and its output from that file on. */
export function migrationFailure(lines: readonly string[], code: number | string): Failure {
  const last = lines.findLastIndex((line) => line.startsWith("Applying: "));
  const file = lines[last]?.slice("Applying: ".length);
  const why =
    lines.findLast((line) => line.startsWith("Error: "))?.slice("Error: ".length) ?? `dbmate ended with ${code}`;
  const wrongPassword = /28P01|password authentication/.test(why);
  const correct = wrongPassword ? ["put the earlier POSTGRES_PASSWORD back into .env"] : [];
  const next = [...correct, ...(file ? [`correct migrations/${file}`] : []), "bun scripts/up.ts"];
  return new Failure(file ? `Cannot apply migrations/${file}` : "Cannot migrate", why, next, {
    details: lines
      .slice(Math.max(last, 0))
      .filter((line) => !isUntrue(line))
      .join("\n"),
    read: `docs/runbook/${wrongPassword ? "wrong-password" : "migration-failed"}.md`,
  });
}

/** dbmate says "Applied" about the file that has just failed, too. */
export const isUntrue = (line: string) => line.startsWith("Applied: ");

/** The program itself: the package's own command is a wrapper that exits 0 when a signal ends dbmate. */
export function findDbmate(project: string): string {
  const suffix = process.platform === "win32" ? ".exe" : "";
  const name = `@dbmate/${process.platform}-${process.arch}/bin/dbmate${suffix}`;
  try {
    return createRequire(createRequire(join(project, "package.json")).resolve("dbmate")).resolve(name);
  } catch (cause) {
    throw new Failure("Cannot migrate", 'npm package "dbmate" is not installed', ["npm install --save-dev dbmate"], {
      exitCode: exitCodes.usage,
      cause,
    });
  }
}
