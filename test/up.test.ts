// What `up` decides and says, without starting anything.
import { describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { appEnvironment, startApp } from "../scripts/lib/app.ts";
import { type Blamed, composeFailure, engineGone, findBlamed } from "../scripts/lib/compose-failure.ts";
import type { Config } from "../scripts/lib/config.ts";
import { migrationFailure } from "../scripts/lib/dbmate.ts";
import { composeUp, failedServices, requireDocker, type Service } from "../scripts/lib/docker.ts";
import { formatFailure } from "../scripts/lib/failure.ts";
import { packageMissing } from "../scripts/lib/packages.ts";
import { type Project, readProject, withOverrides } from "../scripts/lib/stack.ts";
import { isNews } from "../scripts/lib/stack-docker.ts";
import { chooseEngine, type Found, formatStack, planDown, planUp } from "../scripts/up.ts";

const config: Config = {
  name: "shop",
  database: "shop",
  app: { command: ["bun", "app/main.ts"], port: 3000 },
  schema: { criticalTables: [], extensions: [] },
  environments: { local: {} },
};
const project: Project = {
  directory: "/home/ann/shop",
  config,
  httpPort: 8080,
  database: { host: "127.0.0.1", port: 5432, user: "shop", password: "secret", database: "shop" },
  environment: {},
};

const messageOf = (throwing: () => unknown): string => {
  try {
    throwing();
  } catch (error) {
    return formatFailure(error as Parameters<typeof formatFailure>[0]);
  }
  throw new Error("it threw nothing");
};

describe("chooseEngine()", () => {
  const rows = [
    { name: "takes Docker if it answers", wanted: undefined, why: undefined, chosen: ["docker", "an engine answers"] },
    {
      name: "says why not",
      wanted: undefined,
      why: "docker is not installed",
      chosen: ["embedded", "docker is not installed"],
    },
    { name: "does as asked", wanted: "embedded", why: undefined, chosen: ["embedded", "as asked"] },
  ] as const;
  test.each(rows)("$name", ({ wanted, why, chosen: [engine, because] }) => {
    expect(chooseEngine(wanted, why)).toEqual({ engine, because });
  });

  test("--engine docker without Docker is refused with both ways out", () => {
    expect(messageOf(() => requireDocker("docker is not installed", "bun scripts/up.ts --engine embedded"))).toBe(
      [
        "Cannot use Docker: docker is not installed",
        "  next: start Docker, then run this again",
        "  next: bun scripts/up.ts --engine embedded",
      ].join("\n"),
    );
  });
});

test("planUp() names the engine with its reason, and every part with its address", () => {
  expect(planUp({ engine: "embedded", because: "docker is not installed" }, project)).toEqual([
    "up shop: engine embedded, docker is not installed",
    "postgres: database shop on 127.0.0.1:5432, its data is kept",
    "dbmate: what is pending in migrations/",
    "app: bun app/main.ts, http://localhost:8080",
  ]);
  expect(planUp({ engine: "docker", because: "as asked" }, project).slice(3)).toEqual([
    "app: built from its Dockerfile",
    "nginx: http://localhost:8080",
  ]);
});

describe("planDown()", () => {
  const nothing: Found = { containers: [], volumes: [], running: false, folders: [] };
  const everything: Found = {
    containers: ["app", "nginx"],
    volumes: ["shop_postgres"],
    running: true,
    folders: ["/data"],
  };
  const rows = [
    { name: "finds nothing to do", found: nothing, deleteData: true, steps: ["nothing to do"] },
    {
      name: "keeps the data unless told otherwise",
      found: everything,
      deleteData: false,
      steps: ["stop app and postgres", "remove containers: app, nginx"],
    },
    {
      name: "names all data that it deletes",
      found: everything,
      deleteData: true,
      steps: ["stop app and postgres", "remove containers: app, nginx", "delete volume shop_postgres", "delete /data"],
    },
    {
      name: "deletes the data of a stack that is down",
      found: { ...nothing, folders: ["/data"] },
      deleteData: true,
      steps: ["delete /data"],
    },
    {
      name: "does not claim to have seen what it has not",
      found: { ...nothing, unseen: "no Docker Engine answers" },
      deleteData: false,
      steps: ["containers and volumes were not looked at: no Docker Engine answers"],
    },
  ];
  test.each(rows)("$name", ({ found, deleteData, steps }) => {
    expect(planDown(found, deleteData)).toEqual(steps);
  });
});

test("formatStack() prints the URL, the health and three commands", () => {
  const text = formatStack(
    { engine: "embedded", url: "http://localhost:8080", seconds: 1.2, health: { status: "healthy" } },
    project,
  );
  expect(text).toBe(
    [
      "shop is up at http://localhost:8080 (embedded, 1.2 s)",
      '  health: {"status":"healthy"}',
      "  next: curl http://localhost:8080/health/database",
      "  next: bun scripts/validator.ts   # the database against migrations/",
      "  next: bun scripts/up.ts --down   # the data stays; Ctrl-C does the same",
    ].join("\n"),
  );
});

describe("withOverrides()", () => {
  const rows = [
    { name: "has the default ports", file: {}, shell: {}, values: { HTTP_PORT: "8080", POSTGRES_PORT: "5432" } },
    {
      name: "lets the shell win",
      file: { HTTP_PORT: "81" },
      shell: { HTTP_PORT: "82" },
      values: { HTTP_PORT: "82", POSTGRES_PORT: "5432" },
    },
    {
      name: "takes the optional ones, which .env need not name",
      file: {},
      shell: { APP_IMAGE: "registry.example.com/mine:1", HEALTH_TOKEN: "t" },
      values: {
        HTTP_PORT: "8080",
        POSTGRES_PORT: "5432",
        APP_IMAGE: "registry.example.com/mine:1",
        HEALTH_TOKEN: "t",
      },
    },
    {
      name: "takes nothing else from the shell",
      file: { A: "1" },
      shell: { B: "2" },
      values: { A: "1", HTTP_PORT: "8080", POSTGRES_PORT: "5432" },
    },
  ];
  test.each(rows)("$name", ({ file, shell, values }) => {
    expect(withOverrides(file, shell)).toEqual(values);
  });
});

test("appEnvironment() is .env with what Compose sets, the password encoded only in the URL", () => {
  const nasty = {
    ...project,
    database: { ...project.database, password: "a:/?#@% b" },
    environment: { STRIPE_KEY: "k", PORT: "1" },
  };
  expect(appEnvironment(nasty)).toEqual({
    STRIPE_KEY: "k",
    PORT: "8080",
    HOST: "127.0.0.1",
    PGHOST: "127.0.0.1",
    PGPORT: "5432",
    PGUSER: "shop",
    PGPASSWORD: "a:/?#@% b",
    PGDATABASE: "shop",
    DATABASE_URL: "postgres://shop:a%3A%2F%3F%23%40%25%20b@127.0.0.1:5432/shop?sslmode=disable",
  });
});

describe("startApp()", () => {
  const failureOf = async (command: string[]) => {
    const app = { ...project, directory: ".", config: { ...config, app: { command, port: 3000 } } };
    return formatFailure(
      await startApp(app, () => {}).then(
        ({ failure }) => failure,
        (error) => error,
      ),
    );
  };

  test("names the setting to correct when there is no such program", async () => {
    expect(await failureOf(["no-such-program", "app.ts"])).toBe(
      [
        'Cannot start the app: "no-such-program" is not installed, or not on PATH',
        "  next: set app.command in dbops.config.ts",
      ].join("\n"),
    );
  });

  test("shows the last words of an app that has ended, and the page that helps", async () => {
    expect(await failureOf(["sh", "-c", "echo I am tired; exit 7"])).toBe(
      [
        "The app has ended by itself: with exit code 7",
        "  | I am tired",
        "  next: bun scripts/up.ts",
        "  read: docs/runbook/app-does-not-start.md",
      ].join("\n"),
    );
  });
});

test("readProject() refuses one port for two", async () => {
  const folder = mkdtempSync(join(tmpdir(), "dbops-up-"));
  const values = "POSTGRES_DB=shop\nPOSTGRES_USER=shop\nPOSTGRES_PASSWORD=x\nHTTP_PORT=9000\nPOSTGRES_PORT=9000\n";
  writeFileSync(join(folder, ".env"), values);
  const failure = await readProject(folder, config).catch((error) => error);
  rmSync(folder, { recursive: true });
  expect(failure.exitCode).toBe(2);
  expect(formatFailure(failure)).toBe(
    [
      "Cannot use .env: HTTP_PORT and POSTGRES_PORT: both are 9000, each needs a port of its own",
      "  next: correct .env, then run this again",
    ].join("\n"),
  );
});

test("migrationFailure() names the file and the SQL error, and leaves out what dbmate claims", () => {
  const lines = [
    "Applying: 1_first.sql",
    "Applied: 1_first.sql in 2ms",
    "Applying: 2_second.sql",
    "Applied: 2_second.sql in 1ms",
    'Error: line: 2, column: 8, position: 22: pq: syntax error at or near "tabel" (42601)',
  ];
  expect(formatFailure(migrationFailure(lines, 2))).toBe(
    [
      'Cannot apply migrations/2_second.sql: line: 2, column: 8, position: 22: pq: syntax error at or near "tabel" (42601)',
      "  | Applying: 2_second.sql",
      '  | Error: line: 2, column: 8, position: 22: pq: syntax error at or near "tabel" (42601)',
      "  next: correct migrations/2_second.sql",
      "  next: bun scripts/up.ts",
      "  read: docs/runbook/migration-failed.md",
    ].join("\n"),
  );
  const wrongPassword = ['Error: pq: password authentication failed for user "shop" (28P01)'];
  expect(migrationFailure(wrongPassword, 1)).toMatchObject({
    next: ["put the earlier POSTGRES_PASSWORD back into .env", "bun scripts/up.ts"],
    read: "docs/runbook/wrong-password.md",
  });
  expect(migrationFailure([], "SIGKILL").message).toBe("Cannot migrate: dbmate ended with SIGKILL");
});

const service = (Service: string, State: string, ExitCode = 0, Health = ""): Service => ({
  Name: `shop-${Service}-1`,
  Service,
  State,
  ExitCode,
  Health,
});

test("failedServices() blames what ended badly or is unhealthy, not what waits for it", () => {
  const all = [
    service("postgres", "running", 0, "healthy"),
    service("migrations", "exited", 2),
    service("app", "created"),
    service("nginx", "created"),
  ];
  expect(failedServices(all)).toEqual(["migrations"]);
  expect(failedServices([service("migrations", "exited"), service("app", "running", 0, "unhealthy")])).toEqual(["app"]);
  // Left from an earlier start, which is not why this one has failed.
  const earlier = service("migrations", "exited", 2);
  expect(failedServices([earlier, service("postgres", "running", 0, "unhealthy")])).toEqual(["postgres", "migrations"]);
  expect(failedServices([service("app", "restarting", 1)])).toEqual(["app"]);
});

test("findBlamed() takes Compose's word first: what is started again and again runs half of the time", () => {
  const all = [service("migrations", "exited", 2), service("app", "running", 0, "starting")];
  expect(findBlamed(["dependency failed to start: container shop-app-1 is unhealthy"], all)).toBe("app");
  expect(findBlamed(["a line that names nobody"], all)).toBe("migrations");
  expect(findBlamed([], [])).toBeUndefined();
});

test("engineGone() keeps what Compose said last", () => {
  expect(formatFailure(engineGone("no Docker Engine answers", ["Container shop-app-1  Starting", "EOF"]))).toBe(
    [
      "Docker went away while the stack was starting: no Docker Engine answers; containers may still run, the data is in its volume",
      "  | Container shop-app-1  Starting",
      "  | EOF",
      "  next: docker info",
      "  next: bun scripts/up.ts",
    ].join("\n"),
  );
});

describe("composeFailure()", () => {
  const log = 'FATAL:  database "shop" does not exist';
  const rows: { name: string; lines: string[]; blamed: Blamed | undefined; text: string[] }[] = [
    {
      name: "a taken port",
      lines: ["Bind for 127.0.0.1:8080 failed: port is already allocated"],
      blamed: undefined,
      text: [
        "Cannot start the stack: a port is taken",
        "  | Bind for 127.0.0.1:8080 failed: port is already allocated",
        "  next: set HTTP_PORT or POSTGRES_PORT in .env to another port",
        "  next: bun scripts/up.ts",
        "  read: docs/runbook/port-is-taken.md",
      ],
    },
    {
      name: "a volume whose first start was cut off",
      lines: ["dependency failed to start: container shop-postgres-1 is unhealthy"],
      blamed: { service: "postgres", log },
      text: [
        'Cannot start the stack: service "postgres" failed',
        `  | ${log}`,
        "  next: docker compose logs postgres",
        "  next: bun scripts/up.ts",
        "  read: docs/runbook/database-unhealthy.md",
      ],
    },
    {
      name: "an app that ends",
      lines: [],
      blamed: { service: "app", log: "none applied" },
      text: [
        'Cannot start the stack: service "app" failed',
        "  | none applied",
        "  next: docker compose logs app",
        "  next: bun scripts/up.ts",
        "  read: docs/runbook/app-does-not-start.md",
      ],
    },
    {
      name: "what no service is to blame for",
      lines: ["failed to solve: no space left on device"],
      blamed: undefined,
      text: [
        "Cannot start the stack: docker compose has failed",
        "  | failed to solve: no space left on device",
        "  next: bun scripts/up.ts",
      ],
    },
  ];
  test.each(rows)("explains $name", ({ lines, blamed, text }) => {
    expect(formatFailure(composeFailure(lines, blamed))).toBe(text.join("\n"));
  });
});

describe("isNews()", () => {
  const rows: [string, boolean][] = [
    ["#9 [build 4/7] RUN bun install --production", true],
    ["#9 0.689 1 package installed [505.00ms]", false],
    [" Container shop-app-1  Healthy", true],
    [" Container shop-app-1  Waiting", false],
    ["Applied: 2_second.sql in 1ms", false],
    ["Error: pq: syntax error", true],
  ];
  test.each(rows)("%s: %p", (line, shown) => {
    expect(isNews(line)).toBe(shown);
  });
});

describe("packageMissing()", () => {
  const rows = [
    { runtime: "Bun", message: "Cannot find package 'zod' from '/shop/scripts/lib/config.ts'", name: "zod" },
    {
      runtime: "Deno",
      message: 'Could not find "@clack/prompts" in a node_modules folder. Deno expects',
      name: "@clack/prompts",
    },
  ];
  test.each(rows)("explains what $runtime says about $name", ({ message, name }) => {
    const text = messageOf(() => packageMissing(new Error(message)));
    expect(text).toStartWith(`Cannot run this verb: npm package "${name}" is not installed here\n  next: `);
  });

  test("passes on every other error", () => {
    const error = new Error("Cannot find module './lib/gone.ts'");
    expect(() => packageMissing(error)).toThrow(error);
  });
});

test.each([
  { appImage: undefined, build: true },
  { appImage: "", build: true },
  { appImage: "registry.example/app:1", build: false },
])("composeUp() builds only what no image is named for: $appImage", ({ appImage, build }) => {
  const words = ["up", ...(build ? ["--build"] : []), "--detach", "--remove-orphans", "--wait", "--wait-timeout", "60"];
  expect([...composeUp(60, appImage)]).toEqual(words);
});
