// The dbmate program from npm, for what runs without Docker; with Docker it is a container of the same version.
import { createRequire } from "node:module";
import { join } from "node:path";
import { exitCodes, Failure } from "./failure.ts";
import { isLoopback } from "./place.ts";
import type { Connection } from "./postgres.ts";
import { start } from "./run.ts";
import { within } from "./wait.ts";

type Migration = {
  /** Whose node_modules hold dbmate and whose migrations/ are applied. */
  project: string;
  database: Connection;
  interrupted: AbortSignal;
  onLine: (line: string) => void;
  /** Instead of all of migrations/: a folder with some of its files. */
  files?: string;
  /** Default "disable": the database is on this machine. */
  sslmode?: string;
};

const migrateSeconds = 600;
/** As in compose.yaml, where the reason stands. */
export const timeouts = "-c lock_timeout=5s -c statement_timeout=0";

/**
 * Applies what is pending, oldest first; `--strict` refuses a file older than one already applied.
 * @throws {Failure} with dbmate's whole output: its last file and the SQL error.
 */
export async function migrate({
  project,
  database,
  interrupted,
  onLine,
  files,
  sslmode = "disable",
}: Migration): Promise<void> {
  const lines: string[] = [];
  const { user, password } = database;
  const program = await start({
    // Without an .env file of its own: it would refuse values that Compose accepts.
    argv: [
      findDbmate(project),
      "--env-file",
      "",
      "--migrations-dir",
      files ?? "migrations",
      "--no-dump-schema",
      "up",
      "--strict",
    ],
    directory: project,
    environment: {
      DATABASE_URL: databaseUrl(database, sslmode),
      PGUSER: user,
      PGPASSWORD: password,
      PGOPTIONS: timeouts,
    },
    onLine: (line) => {
      lines.push(line);
      if (!isUntrue(line)) onLine(line);
    },
    ownGroup: true,
  });
  const wait = { seconds: migrateSeconds, interrupted };
  const code = await within(wait, program.ended, { what: "dbmate", next: ["bun scripts/up.ts"] }).finally(() =>
    program.stop("SIGTERM", 10),
  );
  if (code !== 0) throw migrationFailure(lines, code);
}

/** User and password go in by their variables. An IPv6 address stands in brackets in a URL. */
export function databaseUrl({ host, port, database }: Connection, sslmode: string): string {
  const address = host.includes(":") ? `[${host}]` : host;
  return `postgres://${address}:${port}/${encodeURIComponent(database)}?sslmode=${sslmode}`;
}

/** dbmate does not try the one and then the other. Unencrypted only where it stays here, or where somebody says so. */
export function sslmodeFor({ host, variables }: Connection & { variables?: Readonly<Record<string, string>> }): string {
  const asked = variables?.PGSSLMODE;
  if (asked && asked !== "prefer" && asked !== "allow") return asked;
  return isLoopback(host) ? "disable" : "require";
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
