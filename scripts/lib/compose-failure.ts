// What to say when Docker Compose has failed: the service to blame, its last lines, and the page to read.
import { migrationFailure } from "./dbmate.ts";
import { failedServices, type Service } from "./docker.ts";
import { exitCodes, Failure } from "./failure.ts";

export type Blamed = {
  service: string;
  /** The last lines that it has written. */
  log: string;
};

/** A service without a page, such as nginx, says itself what is wrong. */
const pages: Readonly<Record<string, string>> = {
  postgres: "docs/runbook/database-unhealthy.md",
  app: "docs/runbook/app-does-not-start.md",
};

/**
 * @param lines of Compose itself. Its word comes first: a container that is started again and again "runs" half of the time.
 * @returns the service to blame, if any.
 */
export function findBlamed(lines: readonly string[], all: readonly Service[]): string | undefined {
  const named = lines.flatMap((line) => /container (\S+) is unhealthy/.exec(line)?.[1] ?? []);
  return all.find(({ Name }) => named.includes(Name))?.Service ?? failedServices(all)[0];
}

/** The engine has gone away while Compose was at work. */
export function engineGone(why: string, lines: readonly string[]): Failure {
  const what = "Docker went away while the stack was starting";
  const still = `${why}; containers may still run, the data is in its volume`;
  return new Failure(what, still, ["docker info", "bun scripts/up.ts"], { details: lines.slice(-15).join("\n") });
}

/** @param lines of Compose itself. */
export function composeFailure(lines: readonly string[], blamed: Blamed | undefined): Failure {
  const portTaken = lines.findLast((line) => /port is already allocated|address already in use/.test(line));
  if (portTaken) {
    const next = ["set HTTP_PORT or POSTGRES_PORT in .env to another port", "bun scripts/up.ts"];
    return new Failure("Cannot start the stack", "a port is taken", next, {
      details: portTaken,
      exitCode: exitCodes.usage,
      read: "docs/runbook/port-is-taken.md",
    });
  }
  if (!blamed) {
    const details = lines.slice(-15).join("\n");
    return new Failure("Cannot start the stack", "docker compose has failed", ["bun scripts/up.ts"], { details });
  }
  const log = blamed.log.split("\n");
  if (blamed.service === "migrations") return migrationFailure(log, "an error");
  const page = pages[blamed.service];
  return new Failure(
    "Cannot start the stack",
    `service "${blamed.service}" failed`,
    [`docker compose logs ${blamed.service}`, "bun scripts/up.ts"],
    { details: log.slice(-15).join("\n"), ...(page && { read: page }) },
  );
}
