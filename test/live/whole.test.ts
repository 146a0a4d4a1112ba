// The whole way of a new user, from the packed tarball: a project is written, `docker compose up` brings it up with its own
// image behind nginx, its packages are installed, `up --engine embedded` brings the same up without Docker; on Bun and on Deno.
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { run, start } from "../../scripts/lib/run.ts";
import { type Engine, startEngine } from "../lab/engine.ts";
import { ensureImages } from "../lab/images.ts";
import { until, up } from "../lab/observe.ts";
import { freePort } from "../lab/postgres.ts";
import { programs } from "../lab/repository.ts";
import { cleanEnvironment, packScaffolder, type Scaffolder } from "../lab/scaffolder.ts";

setDefaultTimeout(300_000);

let scaffolder: Scaffolder;
let engine: Engine;

beforeAll(async () => {
  [scaffolder, engine] = await Promise.all([packScaffolder(), startEngine()]);
  await ensureImages(engine);
});
afterAll(() => scaffolder?.remove());

const runtimes = [
  { runtime: "bun", install: ["bun", "install"], embedded: ["bun", "scripts/up.ts", "--engine", "embedded"] },
  // Not `deno install`: it wants the binaries of every platform, which not every registry that tests can reach has.
  {
    runtime: "deno",
    install: ["npm", "install"],
    embedded: ["deno", "run", "-A", "scripts/up.ts", "--engine", "embedded"],
  },
];

describe.each(runtimes)("on $runtime", ({ runtime, install, embedded }) => {
  let directory: string;
  let url: string;
  let environment: Record<string, string | undefined>;

  beforeAll(async () => {
    const name = `dbops-whole-${runtime}`;
    directory = join(scaffolder.folder(), name);
    const written = await scaffolder.create([directory, "--runtime", runtime, "--no-install", "--yes"], "/");
    expect(written.exitCode).toBe(0);
    const [httpPort, postgresPort] = [await freePort(), await freePort()];
    const file = join(directory, ".env");
    const text = readFileSync(file, "utf8").replace("=8080", `=${httpPort}`).replace("=5432", `=${postgresPort}`);
    writeFileSync(file, text);
    url = `http://localhost:${httpPort}`;
    environment = cleanEnvironment({ ...engine.environment, PATH: `${programs}:${engine.environment.PATH}` });
  });

  test("docker compose up --wait, then all four routes through nginx", async () => {
    const compose = (...words: string[]) =>
      run({ argv: ["docker", "compose", ...words], directory, environment, timeoutSeconds: 240 });
    try {
      await compose(...up);
      await expectHealth(url);
      const { headers } = await fetch(`${url}/health`);
      expect(headers.get("x-content-type-options")).toBe("nosniff");
    } finally {
      await compose("down", "--volumes", "--rmi", "local", "--timeout", "5");
    }
  });

  test("up --engine embedded, then all four routes", async () => {
    await run({ argv: install, directory, environment, timeoutSeconds: 240 });
    const lines: string[] = [];
    const program = await start({
      argv: embedded,
      directory,
      environment: environment as Record<string, string>,
      onLine: (line) => lines.push(line),
    });
    try {
      const isUp = async () => lines.some((line) => line.includes(`is up at ${url} (embedded`));
      expect(await until(60, isUp), lines.join("\n")).toBe(true);
      await expectHealth(url);
    } finally {
      await program.stop("SIGTERM", 30);
      await run({ argv: [...embedded, "--down", "--volumes", "--yes"], directory, environment });
    }
    expect(await program.ended).toBe(0);
  });
});

const time = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
const versions = ["20260101090000", "20260101090100", "20260101090200", "20260101090300"];

/** Every field that the routes promise, by name; others may be there too. */
async function expectHealth(url: string): Promise<void> {
  const get = async (path: string) => {
    const response = await fetch(url + path, { signal: AbortSignal.timeout(5000) });
    return { code: response.status, body: await response.json() };
  };
  expect(await get("/health")).toMatchObject({ code: 200, body: { status: "ok", timestamp: time } });
  expect(await get("/health/ready")).toMatchObject({ code: 200, body: { status: "ready" } });
  expect(await get("/health/database")).toMatchObject({
    code: 200,
    body: {
      status: "healthy",
      timestamp: time,
      database: { connected: true, responseTime: expect.any(Number) },
      migrations: { applied: versions, latest: versions.at(-1), count: 4 },
      schema: {
        critical_tables: ["accounts", "sessions", "audit_log"].map((name) => ({ name, exists: true })),
        all_tables_exist: true,
      },
    },
  });
  expect(await get("/api/health/db")).toMatchObject({
    code: 200,
    body: {
      database: {
        status: "healthy",
        latency_ms: expect.any(Number),
        version: expect.stringMatching(/^18\./),
        size_mb: expect.any(Number),
        active_connections: expect.any(Number),
        max_connections: expect.any(Number),
      },
      migrations: {
        current_revision: versions.at(-1),
        head_revision: versions.at(-1),
        pending: 0,
        is_up_to_date: true,
      },
    },
  });
}
