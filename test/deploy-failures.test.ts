// scripts/lib/deploy-failures.ts: each reason why a deploy cannot go on, as people read it. Most of them happen in test/live/;
// here are those that would take a broken registry, or a server that cannot be mended.
import { describe, expect, test } from "bun:test";
import {
  afterForward,
  afterUndo,
  checkArchitecture,
  cutOff,
  migrationFailed,
  nginxRefuses,
  noLockSession,
  notSeen,
  pullFailed,
  schemaRefused,
} from "../scripts/lib/deploy-failures.ts";
import type { Plan } from "../scripts/lib/deploy-plan.ts";
import { Failure, formatFailure } from "../scripts/lib/failure.ts";
import { parseMigration } from "../scripts/lib/migration-file.ts";
import type { Result } from "../scripts/lib/run.ts";

const said = (failure: Failure) => `${formatFailure(failure)}\nexit ${failure.exitCode}`;

describe("pullFailed()", () => {
  const docker = "Error response from daemon: ";
  const rows: { name: string; code?: number; stderr: string; why: string }[] = [
    { name: "took too long", code: 124, stderr: "", why: "it took longer than 1800 s" },
    {
      name: "wrong password",
      code: 10,
      stderr: `${docker}Get "https://ghcr.io/v2/": unauthorized: authentication required`,
      why: "the registry does not accept DBOPS_REGISTRY_USER and DBOPS_REGISTRY_PASSWORD",
    },
    {
      name: "wrong password, on Docker Hub",
      code: 10,
      stderr: `${docker}unauthorized: incorrect username or password`,
      why: "the registry does not accept DBOPS_REGISTRY_USER and DBOPS_REGISTRY_PASSWORD",
    },
    {
      name: "no registry to log in to",
      code: 10,
      stderr: `${docker}Get "https://10.0.0.1:5000/v2/": dial tcp 10.0.0.1:5000: connect: connection refused`,
      why: "the registry does not answer",
    },
    {
      name: "no login",
      stderr: `${docker}Head "https://ghcr.io/v2/me/shop/manifests/1": no basic auth credentials`,
      why: "the registry wants a login: set DBOPS_REGISTRY_USER and DBOPS_REGISTRY_PASSWORD",
    },
    {
      name: "no such repository, as Docker Hub says it",
      stderr: `${docker}pull access denied for me/shop, repository does not exist or may require 'docker login'`,
      why: "the registry wants a login: set DBOPS_REGISTRY_USER and DBOPS_REGISTRY_PASSWORD",
    },
    {
      name: "no such tag",
      stderr: `${docker}manifest for ghcr.io/me/shop:1 not found: manifest unknown`,
      why: "the registry does not have it",
    },
    {
      name: "no such host",
      stderr: `${docker}Get "https://ghcr.example/v2/": dial tcp: lookup ghcr.example on 127.0.0.53:53: no such host`,
      why: "the registry does not answer",
    },
    { name: "cut off", stderr: "unexpected EOF", why: "the registry does not answer" },
    { name: "something else", stderr: `${docker}invalid tar header`, why: "see below" },
  ];
  test.each(rows)("$name", ({ code = 11, stderr, why }) => {
    const details = stderr ? `  | ${stderr}\n` : "";
    expect(said(pullFailed("ghcr.io/me/shop:1", code, `${stderr}\n`, 1800))).toBe(
      `The server cannot pull ghcr.io/me/shop:1: ${why}
${details}  next: docker pull ghcr.io/me/shop:1   # here, with the same credentials
  next: or send it over SSH: the same command with --transfer ssh
exit 1`.replace("\n\n", "\n"),
    );
  });

  test("a full disk has a page of its own", () => {
    const stderr = "failed to register layer: write /usr/lib/x: no space left on device";
    expect(said(pullFailed("ghcr.io/me/shop:1", 11, stderr, 1800))).toBe(
      `The server cannot pull ghcr.io/me/shop:1: the server's disk is full
  | ${stderr}
  next: on the server: docker system df
  read: docs/runbook/disk-full.md
exit 1`,
    );
  });
});

describe("afterUndo()", () => {
  const plan = { previous: { release: 7, slot: "blue" } } as Plan;
  const first = { previous: undefined } as Plan;
  const result = (stdout: string, changes: Partial<Result> = {}): Result => ({
    ...{ exitCode: 0, stdout, stderr: "", seconds: 1 },
    ...changes,
  });
  const look = "bun scripts/deploy.ts --history";
  const containers = "on the server: docker compose ps --all";
  const byHand = "read docs/runbook/roll-back-by-hand.md";
  const rows: { name: string; result?: Result; plan?: Plan; byServer?: true; says: string; next: string[] }[] = [
    {
      name: "nobody has told",
      says: "the connection ended first: the server goes back to release 7 by itself, once its present step has ended, unless it went down",
      next: [look],
    },
    {
      name: "nobody has told, of the first one",
      plan: first,
      says: "the connection ended first: the server removes it by itself, once its present step has ended, unless it went down",
      next: [look],
    },
    {
      name: "as before",
      result: result("switched back in 90 ms\nserving 7 blue live ready=yes\n"),
      says: "release 7 serves as before",
      next: [],
    },
    {
      name: "as before, with something left",
      result: result("serving 7 blue live ready=yes\n", { exitCode: 1, stderr: "one\nrm: cannot remove\n" }),
      says: "release 7 serves as before, but not everything was taken back: rm: cannot remove",
      next: [containers],
    },
    {
      name: "found as before",
      result: result("serving 7 blue live ready=yes\n"),
      byServer: true,
      says: "the server went back by itself: release 7 serves as before",
      next: [],
    },
    {
      name: "found otherwise",
      result: result("serving 9 blue live ready=yes\n"),
      byServer: true,
      says: 'and release 7 could not be shown to serve again: nginx says "9 blue live", ready: yes',
      next: [containers, byHand],
    },
    {
      name: "the first one, found removed",
      plan: first,
      result: result(""),
      byServer: true,
      says: "the server went back by itself: nothing serves, Postgres and its data stay",
      next: [],
    },
    {
      name: "the wrong one",
      result: result("serving 8 green bake ready=yes\n"),
      says: 'and release 7 could not be shown to serve again: nginx says "8 green bake", ready: yes',
      next: [containers, byHand],
    },
    {
      name: "not ready",
      result: result("serving 7 blue live ready=no\n"),
      says: 'and release 7 could not be shown to serve again: nginx says "7 blue live", ready: no',
      next: [containers, byHand],
    },
    {
      name: "another release that begins with the same digit",
      result: result("serving 70 blue live ready=yes\n"),
      says: 'and release 7 could not be shown to serve again: nginx says "70 blue live", ready: yes',
      next: [containers, byHand],
    },
    {
      name: "nginx is gone",
      result: result("", { exitCode: 1 }),
      says: "and release 7 could not be shown to serve again: nginx does not answer",
      next: [containers, byHand],
    },
    {
      name: "the first one",
      plan: first,
      result: result(""),
      says: "nothing serves, Postgres and its data stay",
      next: [],
    },
    {
      name: "the first one, with something left",
      plan: first,
      result: result("", { exitCode: 1 }),
      says: "nothing serves, Postgres and its data stay; not everything could be taken back",
      next: [look],
    },
  ];
  test.each(rows)("$name", ({ result, plan: one = plan, byServer, says, next }) => {
    expect(afterUndo(result, one, byServer)).toEqual({ says, next });
  });

  test("nobody could look: only what is known is said", () => {
    const unseen = new Failure("Cannot reach 10.0.0.1", "no answer from port 22: Connection timed out");
    const why =
      "what serves now could not be seen: Cannot reach 10.0.0.1: no answer from port 22: Connection timed out";
    expect([notSeen(unseen, plan), notSeen(unseen, first)]).toEqual([
      { says: `${why}; the server was told to go back to release 7 by itself`, next: [look] },
      { says: `${why}; the server was told to remove it by itself`, next: [look] },
    ]);
  });
});

test("afterForward() says who is to do the rest", () => {
  const next = ["bun scripts/deploy.ts --history", "on the server: docker compose ps --all"];
  const failed = { exitCode: 1, stdout: "", stderr: "no", seconds: 1 };
  const unseen = new Failure("Cannot reach 10.0.0.1", "it is there, but nobody listens on port 22");
  expect([afterForward(failed), afterForward(undefined), afterForward(undefined, unseen)]).toEqual([
    { says: "what is left to do has failed twice", next },
    { says: "the server tries the rest by itself", next },
    {
      says: "what became of it could not be seen: Cannot reach 10.0.0.1: it is there, but nobody listens on port 22; the server was told to do it by itself",
      next,
    },
  ]);
});

describe("migrationFailed()", () => {
  const file = parseMigration("2_b.sql", "-- migrate:up\nalter table b add c int;\n-- migrate:down\n");
  const after = { pending: [file], applied: [], spoilt: [], tries: 1 };
  const ended = (...lines: string[]) => ({ end: { code: 2, lines: ["Applying: 2_b.sql", ...lines] } });

  test("says what has become of each file", () => {
    const end = ended('Error: line: 2, column: 1, position: 15: pq: relation "b" does not exist (42P01)');
    expect(said(migrationFailed({ ...after, ...end, spoilt: ["public.one"] }))).toBe(
      `Cannot apply migrations/2_b.sql:2: relation "b" does not exist (42P01)
  | 2: alter table b add c int;
  | applied: none
  | taken back whole: 2_b.sql
  | left behind, and not valid: public.one
  next: in psql: drop index concurrently public.one;
  next: correct migrations/2_b.sql
  next: the same command again
  read: docs/runbook/relation-does-not-exist.md
exit 1`,
    );
  });

  test("where somebody had a lock, how to find out who", () => {
    const end = ended("Error: pq: canceling statement due to lock timeout (55P03)");
    expect(said(migrationFailed({ ...after, ...end, tries: 4 }))).toBe(
      `Cannot apply migrations/2_b.sql: canceling statement due to lock timeout (55P03); it was tried 4 times
  | applied: none
  | taken back whole: 2_b.sql
  next: on the server: docker compose exec postgres sh -c 'psql -U $POSTGRES_USER $POSTGRES_DB -c "select pid, now() - xact_start as since, query from pg_stat_activity where xact_start is not null order by 2 desc"'
  next: the same command again
  read: docs/runbook/migration-hangs.md
exit 1`,
    );
  });

  test("a container that does not start is no fault of a file", () => {
    const refused = "Error response from daemon: No such image: ghcr.io/amacneil/dbmate:2.36.0";
    expect(said(migrationFailed({ ...after, end: { code: 1, lines: [refused] } }))).toBe(
      `Cannot migrate: the container of dbmate does not start
  | ${refused}
  next: on the server: docker compose pull migrations
  next: the same command again
exit 1`,
    );
  });
});

test("noLockSession() gives Postgres' own words", () => {
  const stderr =
    'psql: error: connection to server at "127.0.0.1", port 5432 failed: FATAL:  the database system is starting up\n';
  expect(said(noLockSession(stderr))).toBe(
    `Cannot migrate: there is no session for the lock: connection to server at "127.0.0.1", port 5432 failed: FATAL:  the database system is starting up
  next: on the server: docker compose ps postgres; docker compose logs --tail 50 postgres
  next: the same command again
  read: docs/runbook/database-unhealthy.md
exit 3`,
  );
});

test("nginxRefuses() names the project's own files", () => {
  const stderr = '[emerg] unknown directive "x" in /tmp/check/nginx/shared/app.conf:3\n';
  expect(said(nginxRefuses(stderr))).toBe(`nginx does not accept the new configuration: nginx -t has failed
  | [emerg] unknown directive "x" in nginx/shared/app.conf:3
  next: correct nginx/, then deploy again
  read: docs/runbook/bad-nginx-configuration.md
exit 2`);
});

test("checkArchitecture() accepts the server's own, and says how to build for it", () => {
  const image = { reference: "shop:1", id: "sha256:1d", architecture: "arm64", release: "1" };
  expect(() => checkArchitecture("shop:1", image, "arm64")).not.toThrow();
  expect(() => checkArchitecture("shop:1", image, "amd64")).toThrow(
    "Cannot run shop:1 on the server: it is made for arm64, the server is amd64",
  );
});

test("cutOff() names the setting", () => {
  expect(cutOff("blue", 7)).toBe(
    "some requests or websockets of app-blue took longer than 7 s and were cut off (deploy.drainSeconds)",
  );
});

test("schemaRefused() names the data of then last: it costs what was written since", () => {
  const plan = { release: 7, schemaAhead: { live: "20260301090000", release: "20260101090000" } } as Plan;
  const command =
    "bun scripts/restore.ts 2026-11-21T03-00-00Z-4f2c1a2b --on production --confirm shop --to-version 20260101090000";
  expect(said(schemaRefused(plan, "/health/database answers 503", "", true, [`${command}   # the data of then`]))).toBe(
    `Release 7 does not fit the database: it was built for 20260101090000, the database is at 20260301090000, and /health/database answers 503
  next: bun scripts/rollback.ts --list
  next: if you know that it works: the same command with --ignore-schema
  next: ${command}   # the data of then
  read: docs/runbook/rollback-refused.md
exit 5`,
  );
});
