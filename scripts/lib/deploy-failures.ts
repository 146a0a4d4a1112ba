// What a deploy says when it cannot go on: each reason its own sentence, with the evidence and the next command.
import type { Plan, StepName } from "./deploy-plan.ts";
import { exitCodes, Failure } from "./failure.ts";
import type { PulledImage } from "./image.ts";
import { isLock, notApplied, type Outcome } from "./migration-outcome.ts";
import type { Result } from "./run.ts";

/** Where a failure is the app's own, it may be seen on any machine. @param step undefined where it is not to blame. */
export function whatToTry(step: StepName | undefined, image: string): string {
  const isOfApp = step === "start" || step === "healthy" || step === "bake";
  return isOfApp ? `APP_IMAGE=${image} docker compose up app   # the same image here` : "the same command again";
}

/** The drain's end: whoever is still there has had his time. */
export function cutOff(slot: string, seconds: number): string {
  return `some requests or websockets of app-${slot} took longer than ${seconds} s and were cut off (deploy.drainSeconds)`;
}

/** The page about a failure of this step. */
export const pages: Partial<Record<StepName, string>> = {
  image: "docs/runbook/image-cannot-be-pulled.md",
  migrate: "docs/runbook/migration-failed.md",
  start: "docs/runbook/deploy-unhealthy.md",
  healthy: "docs/runbook/deploy-unhealthy.md",
  switch: "docs/runbook/bad-nginx-configuration.md",
  bake: "docs/runbook/deploy-unhealthy.md",
};

/** @param unseen why nobody could look what serves. */
export function notSeen({ message }: Failure, { previous }: Plan): { says: string; next: string[] } {
  const told = previous ? `go back to release ${previous.release}` : "remove it";
  const says = `what serves now could not be seen: ${message}; the server was told to ${told} by itself`;
  return { says, next: ["bun scripts/deploy.ts --history"] };
}

/**
 * What the undo printed, as a sentence. Only what the server has shown counts.
 * @param byServer it was found undone, and this is what the server showed then.
 */
export function afterUndo(
  result: Result | undefined,
  { previous }: Plan,
  byServer = false,
): { says: string; next: string[] } {
  const itself = byServer ? "the server went back by itself: " : "";
  const look = ["bun scripts/deploy.ts --history"];
  if (!result) {
    const says = previous ? `goes back to release ${previous.release}` : "removes it";
    const when = "once its present step has ended, unless it went down";
    return { says: `the connection ended first: the server ${says} by itself, ${when}`, next: look };
  }
  const serving = /^serving (.*) ready=(\w+)$/m.exec(result.stdout);
  const seen = serving ? `nginx says "${serving[1]}", ready: ${serving[2]}` : "nginx does not answer";
  if (!previous && serving) return { says: seen, next: look };
  if (!previous) {
    const left = result.exitCode === 0 ? "" : "; not everything could be taken back";
    return {
      says: `${itself}nothing serves, Postgres and its data stay${left}`,
      next: result.exitCode === 0 ? [] : look,
    };
  }
  if (serving?.[1]?.startsWith(`${previous.release} ${previous.slot} `) && serving[2] === "yes") {
    if (result.exitCode === 0) return { says: `${itself}release ${previous.release} serves as before`, next: [] };
    const trouble = result.stderr.trim().split("\n").at(-1);
    const says = `release ${previous.release} serves as before, but not everything was taken back: ${trouble}`;
    return { says, next: ["on the server: docker compose ps --all"] };
  }
  return {
    says: `and release ${previous.release} could not be shown to serve again: ${seen}`,
    next: ["on the server: docker compose ps --all", "read docs/runbook/roll-back-by-hand.md"],
  };
}

/** What came of the end of a deploy that nobody can go back from any more. */
export function afterForward(result: Result | undefined, unseen?: Failure): { says: string; next: string[] } {
  const next = ["bun scripts/deploy.ts --history", "on the server: docker compose ps --all"];
  if (result) return { says: "what is left to do has failed twice", next };
  if (!unseen) return { says: "the server tries the rest by itself", next };
  return {
    says: `what became of it could not be seen: ${unseen.message}; the server was told to do it by itself`,
    next,
  };
}

export function pullFailed(image: string, code: number, stderr: string, seconds: number): Failure {
  const details = stderr.trim();
  const wrongLogin = code === 10 && /unauthorized|denied|incorrect/i.test(details);
  const because = wrongLogin
    ? "the registry does not accept DBOPS_REGISTRY_USER and DBOPS_REGISTRY_PASSWORD"
    : reasonOfPull(details, code, seconds);
  const next = [
    `docker pull ${image}   # here, with the same credentials`,
    "or send it over SSH: the same command with --transfer ssh",
  ];
  const isFull = /no space left/i.test(details);
  return new Failure(`The server cannot pull ${image}`, because, isFull ? ["on the server: docker system df"] : next, {
    details,
    ...(isFull && { read: "docs/runbook/disk-full.md" }),
  });
}

function reasonOfPull(stderr: string, code: number, seconds: number): string {
  if (code === 124) return `it took longer than ${seconds} s`;
  if (/no basic auth|unauthorized|denied/i.test(stderr))
    return "the registry wants a login: set DBOPS_REGISTRY_USER and DBOPS_REGISTRY_PASSWORD";
  if (/manifest unknown|not found/i.test(stderr)) return "the registry does not have it";
  if (/no space left/i.test(stderr)) return "the server's disk is full";
  if (/timeout|deadline|refused|no route|no such host|unreachable|EOF/i.test(stderr))
    return "the registry does not answer";
  return "see below";
}

export function checkArchitecture(image: string, { architecture }: PulledImage, server: string): void {
  if (architecture === server) return;
  const next = [
    `build it with docker build --platform linux/${server}`,
    `or here: DOCKER_DEFAULT_PLATFORM=linux/${server} bun scripts/deploy.ts --build`,
  ];
  throw new Failure(
    `Cannot run ${image} on the server`,
    `it is made for ${architecture}, the server is ${server}`,
    next,
    {
      exitCode: exitCodes.usage,
    },
  );
}

/**
 * @param isStarted whether the release became healthy: one that does not start on this schema cannot be told to ignore it.
 * @param dataOfThen the command that brings back the data that it was made for, if there is one.
 */
export function schemaRefused(
  { release, schemaAhead }: Plan,
  says: string,
  details: string,
  isStarted: boolean,
  dataOfThen: readonly string[] = [],
): Failure {
  const what = `Release ${release} does not fit the database`;
  const why = `it was built for ${schemaAhead!.release}, the database is at ${schemaAhead!.live}, and ${says}`;
  const next = [
    "bun scripts/rollback.ts --list",
    isStarted
      ? "if you know that it works: the same command with --ignore-schema"
      : "or a deploy with a migration that gives back what it misses",
    ...dataOfThen,
  ];
  return new Failure(what, why, next, {
    exitCode: exitCodes.refused,
    ...(details && { details }),
    read: "docs/runbook/rollback-refused.md",
  });
}

export function nginxRefuses(details: string): Failure {
  const next = ["correct nginx/, then deploy again"];
  return new Failure("nginx does not accept the new configuration", "nginx -t has failed", next, {
    // Where it was tested is of no use to anybody.
    details: details.trim().replaceAll("/tmp/check/", ""),
    exitCode: exitCodes.usage,
    read: "docs/runbook/bad-nginx-configuration.md",
  });
}

export function migrationFailed(outcome: Outcome): Failure {
  const { lines } = outcome.end;
  const hasBegun = lines.some((line) => line.startsWith("Applying: "));
  if (!hasBegun && lines.some((line) => line.startsWith("Error response from daemon"))) {
    const next = ["on the server: docker compose pull migrations", "the same command again"];
    const details = lines.slice(-5).join("\n");
    return new Failure("Cannot migrate", "the container of dbmate does not start", next, { details });
  }
  const failure = notApplied(outcome);
  if (!isLock(outcome.end)) return failure;
  const { what, why, next, details, facts, read } = failure;
  return new Failure(what, why, [`on the server: ${whoHoldsLocks}`, ...next], {
    facts,
    ...(details && { details }),
    ...(read && { read }),
  });
}

/** @param stderr of the session that was to hold the lock: dbmate was not even started. */
export function noLockSession(stderr: string): Failure {
  const details = stderr.trim();
  const why =
    details
      .split("\n")
      .at(-1)!
      .replace(/^psql: error: /, "") || "Postgres does not answer";
  const next = ["on the server: docker compose ps postgres; docker compose logs --tail 50 postgres"];
  return new Failure(
    "Cannot migrate",
    `there is no session for the lock: ${why}`,
    [...next, "the same command again"],
    {
      exitCode: exitCodes.saidNo,
      ...(details.includes("\n") && { details }),
      read: "docs/runbook/database-unhealthy.md",
    },
  );
}

/** @param holder the beginning of a sentence, or nothing where it has just gone. */
export function migrationLocked(holder: string, waitedSeconds: number): Failure {
  const why = `${holder || "another runner"} migrates this database (waited ${waitedSeconds} s)`;
  return new Failure("Cannot migrate", why, ["the same command with --wait 600"], {
    exitCode: exitCodes.locked,
    read: "docs/runbook/migration-hangs.md",
  });
}

/** The oldest transaction comes first, and it is nearly always the one. */
const whoHoldsLocks =
  "docker compose exec postgres sh -c 'psql -U $POSTGRES_USER $POSTGRES_DB -c \"select pid, now() - xact_start as since, query from pg_stat_activity where xact_start is not null order by 2 desc\"'";
