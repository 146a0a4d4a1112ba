// The starter app as a process on Bun and on Deno, over a real Postgres: its routes, its logs, and how it stops.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { cp, writeFile } from "node:fs/promises";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import type { Sql } from "postgres";
import { run } from "../../scripts/lib/run.ts";
import { poll } from "../../scripts/lib/wait.ts";
import { startPostgres, type TestPostgres } from "../lab/postgres.ts";
import { statusOfRaw } from "../lab/raw.ts";
import { programs, repository } from "../lab/repository.ts";
import {
  type App,
  applyMigrations,
  asEnvironment,
  get,
  type Project,
  startApp,
  untilCode,
  untilListening,
  writeProject,
} from "../lab/starter.ts";

let server: TestPostgres;
let project: Project;
let owner: Sql;

beforeAll(async () => {
  [server, project] = await Promise.all([startPostgres(), writeProject()]);
  await applyMigrations(server, project);
  owner = server.connect({ max: 2, backoff: () => 0.1 });
});

afterAll(async () => {
  await server?.stop();
  await project?.remove();
});

test("the scaffolded files pass both type checkers, in a user's layout", async () => {
  await cp(join(repository, "tsconfig.json"), join(project.directory, "base.json"));
  const settings = { extends: "./base.json", include: ["app", "scripts", "dbops.config.ts"] };
  await writeFile(join(project.directory, "tsconfig.json"), JSON.stringify(settings));
  const check = (argv: string[]) => run({ argv, directory: project.directory, timeoutSeconds: 60, accept: [0, 1, 2] });
  const [tsc, deno] = await Promise.all([
    check([join(programs, "tsc")]),
    check([join(programs, "deno"), "check", "app/main.ts"]),
  ]);
  expect({ tsc: tsc.stdout, deno: deno.exitCode === 0 ? "" : deno.stderr }).toEqual({ tsc: "", deno: "" });
});

describe.each(["bun", "deno"] as const)("on %s", (runtime) => {
  /** Starts the app, does the work, and stops it whatever happens. */
  async function withApp(environment: Record<string, string>, work: (app: App) => Promise<void>): Promise<void> {
    const app = await startApp(project, runtime, { ...asEnvironment(server), ...environment });
    try {
      await untilListening(app);
      await work(app);
    } finally {
      await app.stop();
    }
  }

  async function post(app: App, body: string): Promise<{ code: number; body: Record<string, unknown> }> {
    const response = await fetch(`${app.url}/accounts`, { method: "POST", body });
    return { code: response.status, body: (await response.json()) as Record<string, unknown> };
  }

  test("a Host that makes no address is told so, and is not counted as a request in flight", async () => {
    let lines: string[] = [];
    await withApp({}, async (app) => {
      for (let times = 0; times < 3; times++) expect(await statusOfRaw(app.url, { host: "1.2.3.4.5" })).toBe(400);
      lines = app.lines;
    });
    expect(lines.join("\n")).toContain('"cut_off":0');
  });

  test("accounts are created, listed and audited; a bad request is told why", async () => {
    await withApp({}, async (app) => {
      const password = "correct horse battery staple";
      const email = `${runtime}@example.com`;
      const created = await post(app, JSON.stringify({ email, password }));
      expect(created).toEqual({ code: 201, body: { id: expect.any(String), email, created_at: expect.any(String) } });
      expect(await post(app, JSON.stringify({ email: email.toUpperCase(), password }))).toEqual({
        code: 409,
        body: { error: "there is an account with this email" },
      });
      const listed = await get(`${app.url}/accounts?limit=1`);
      const { id, created_at } = created.body;
      expect(listed.body).toEqual({ accounts: [{ id, created_at }] });
      const audited = await owner`select action from audit_log where account_id = ${created.body.id as string}`;
      expect(audited.map(({ action }) => action)).toEqual(["account.created"]);

      for (const [body, code] of [
        ["not json", 400],
        ["null", 422],
        [JSON.stringify({ email: "x", password }), 422],
        [JSON.stringify({ email: "y@example.com", password: "short" }), 422],
        [JSON.stringify({ email: "zero\0@example.com", password }), 422],
        [JSON.stringify({ email: "half\ud800@example.com", password }), 422],
        [JSON.stringify({ email, password: "x".repeat(20_000) }), 413],
      ] as const) {
        expect((await post(app, body)).code).toBe(code);
      }
      expect((await get(`${app.url}/accounts?limit=0`)).code).toBe(422);
      expect((await get(`${app.url}/nowhere`)).code).toBe(404);
      expect(app.lines.join("\n")).not.toContain(password);
    });
  });

  test("each request is one JSON line with nginx's id, and never its query", async () => {
    await withApp({}, async (app) => {
      const response = await fetch(`${app.url}/accounts?token=hunter2`, {
        headers: { "x-request-id": "0123456789abcdef" },
      });
      expect(response.headers.get("x-request-id")).toBe("0123456789abcdef");
      await fetch(app.url, { headers: { "x-request-id": 'forged id" }' } });
      const requests = await poll({ seconds: 2 }, async () => {
        const found = app.lines.map((line) => JSON.parse(line)).filter(({ message }) => message === "request");
        return found.length === 2 ? found : undefined;
      });
      const shape = {
        time: expect.any(String),
        level: "info",
        message: "request",
        ms: expect.any(Number),
        method: "GET",
        status: 200,
      };
      expect(requests).toEqual([
        { ...shape, path: "/accounts", request_id: "0123456789abcdef" },
        { ...shape, path: "/", request_id: expect.stringMatching(/^[0-9a-f-]{36}$/) },
      ]);
      expect(app.lines.join("\n")).not.toContain("hunter2");
    });
  });

  test("HEALTH_TOKEN: without it only the status, with it the release as well, and the same code", async () => {
    await withApp({ HEALTH_TOKEN: "s3cret", RELEASE: "a1b2c3" }, async (app) => {
      for (const [path, status] of [
        ["/health", "ok"],
        ["/health/ready", "ready"],
        ["/health/database", "healthy"],
        ["/api/health/db", "healthy"],
      ] as const) {
        expect(await get(`${app.url}${path}`)).toMatchObject({ code: 200, body: { status } });
        expect(Object.keys((await get(`${app.url}${path}`)).body)).toEqual(["status"]);
      }
      const ready = await get(`${app.url}/health/ready`, { authorization: "Bearer s3cret" });
      expect(ready.body).toEqual({ status: "ready", timestamp: expect.any(String), release: "a1b2c3", problems: [] });
    });
  });

  test("SIGTERM under load, another release taking over: no request fails, and the app exits 0", async () => {
    const [app, successor] = await Promise.all([
      startApp(project, runtime, asEnvironment(server)),
      startApp(project, runtime, asEnvironment(server)),
    ]);
    try {
      await Promise.all([untilListening(app), untilListening(successor)]);
      const load = run({
        argv: ["node", join(repository, "test/lab/keep-alive-load.mjs"), `${app.port}`, `${successor.port}`, "12"],
        timeoutSeconds: 40,
      });
      const busy = await poll({ seconds: 10 }, async () => app.lines.length > 500 || undefined);
      expect(busy).toBe(true);
      app.signal("SIGTERM");
      const { answered, failed } = JSON.parse((await load).stdout);
      expect({ failed, exitCode: await app.ended }).toEqual({ failed: {}, exitCode: 0 });
      expect(answered).toBeGreaterThan(1000);
      expect(app.lines.at(-1)).toContain('"message":"stopped","cut_off":0');
    } finally {
      await Promise.all([app.stop(), successor.stop()]);
    }
  });

  /** Starts the app and has one request wait for a lock; the work says when to give it free. */
  async function withBlockedRequest(work: (app: App, answer: Promise<string>, release: () => void) => Promise<void>) {
    const app = await startApp(project, runtime, { ...asEnvironment(server), STOP_SECONDS: "4" });
    const { promise: released, resolve: release } = Promise.withResolvers<void>();
    const lock = owner.begin(async (transaction) => {
      await transaction`lock table accounts in access exclusive mode`;
      await released;
    });
    try {
      await untilListening(app);
      const answer = fetch(`${app.url}/accounts`).then(
        ({ status }) => `answered ${status}`,
        () => "cut off",
      );
      await untilBlocked();
      await work(app, answer, release);
    } finally {
      release();
      await lock;
      await app.stop();
    }
  }

  test("SIGTERM while a request waits for the database: it is answered first", async () => {
    await withBlockedRequest(async (app, answer, release) => {
      app.signal("SIGTERM");
      // Longer than the app waits for quiet, so that its server has really stopped meanwhile.
      setTimeout(release, 2500);
      expect({ answer: await answer, exitCode: await app.ended }).toEqual({ answer: "answered 200", exitCode: 0 });
    });
  });

  test("a request that outlives the grace period is cut off, and the exit code says so", async () => {
    await withBlockedRequest(async (app, answer) => {
      const begun = performance.now();
      app.signal("SIGTERM");
      expect({ exitCode: await app.ended, answer: await answer }).toEqual({ exitCode: 1, answer: "cut off" });
      expect(performance.now() - begun).toBeLessThan(6000);
    });
  });

  async function untilBlocked(): Promise<void> {
    const blocked = await poll({ seconds: 5 }, async () => {
      const rows = await owner`select pid from pg_stat_activity where wait_event_type = 'Lock'`;
      return rows.length > 0 || undefined;
    });
    expect(blocked).toBe(true);
  }

  test("kill -9 of Postgres while serving: 503 within 3 s, and healthy again by itself", async () => {
    await withApp({}, async (app) => {
      await untilCode(`${app.url}/health/database`, 200, 5);
      await server.kill("SIGKILL");
      expect(await untilCode(`${app.url}/health/database`, 503, 3)).toBeLessThan(3);
      expect(await get(`${app.url}/health/database`)).toMatchObject({
        body: { status: "unhealthy", database: { connected: false, error: expect.any(String) } },
      });
      expect((await get(`${app.url}/health`)).code).toBe(200);
      await server.restart();
      expect(await untilCode(`${app.url}/health/database`, 200, 5)).toBeLessThan(3);
      expect((await get(`${app.url}/accounts`)).code).toBe(200);
    });
  });

  test("SIGTERM while it still waits for the database: it ends at once", async () => {
    let hasTried = false;
    // Accepts and never says a word: that it is tried at all tells that the signal's handler is there.
    const silent = createServer(() => {
      hasTried = true;
    });
    await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
    const { port } = silent.address() as AddressInfo;
    const app = await startApp(project, runtime, { ...asEnvironment(server), PGPORT: `${port}` });
    try {
      expect(await poll({ seconds: 20 }, async () => hasTried || undefined)).toBe(true);
      const begun = performance.now();
      app.signal("SIGTERM");
      expect(await app.ended).toBe(0);
      expect(performance.now() - begun).toBeLessThan(1000);
    } finally {
      await app.stop();
      silent.close();
    }
  });

  test("what is missing from the environment is said at once, and no value with it", async () => {
    const app = await startApp(project, runtime, {
      ...asEnvironment(server),
      PGUSER: undefined,
      PGPASSWORD: undefined,
    });
    expect(await app.ended).toBe(1);
    expect(app.lines.join("\n")).toContain("Missing from the environment: PGUSER, PGPASSWORD");
  });
});
