// The lab keeps its word: an engine that plain `docker compose` reaches, and images that behave as the official ones do.
// The same stories hold for the official images; where they are pulled, they prove that the contracts are right.
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { run } from "../../scripts/lib/run.ts";
import { poll } from "../../scripts/lib/wait.ts";
import { cacheFolder } from "../lab/cache.ts";
import { type Engine, startEngine } from "../lab/engine.ts";
import { ensureImages, imageNames } from "../lab/images.ts";

const prefix = `lab-test-${process.pid}`;
const folder = mkdtempSync(join(tmpdir(), `${prefix}-`));
let engine: Engine;

// The preload sets it too, but for the first file of a run only.
setDefaultTimeout(60_000);

beforeAll(async () => {
  engine = await startEngine();
  await ensureImages(engine);
  await docker(["network", "create", prefix]);
}, 600_000);

afterAll(async () => {
  const left = (await docker(["ps", "--all", "--quiet", "--filter", `name=${prefix}`])).stdout
    .split("\n")
    .filter(Boolean);
  if (left.length > 0) await docker(["rm", "--force", "--volumes", ...left]);
  const images = await docker(["image", "ls", "--quiet", "--filter", `reference=${prefix}-*`]);
  for (const id of images.stdout.split("\n").filter(Boolean)) await docker(["image", "rm", "--force", id]);
  await docker(["network", "rm", prefix], [0, 1]);
  rmSync(folder, { recursive: true, force: true });
});

function docker(words: readonly string[], accept: readonly number[] = [0]) {
  return run({ argv: ["docker", ...words], environment: engine.environment, accept, timeoutSeconds: 120 });
}

/** Runs a command in a new container of the image, in place of its entry script, and returns what it prints. */
async function inside(image: string, ...words: readonly string[]): Promise<string> {
  const { stdout } = await docker(["run", "--rm", "--entrypoint", words[0]!, image, ...words.slice(1)]);
  return stdout.trim();
}

/** Starts a container in our network under a name of ours. */
async function startContainer(
  name: string,
  image: string,
  flags: readonly string[],
  words: readonly string[] = [],
): Promise<string> {
  await docker(["run", "--detach", "--name", `${prefix}-${name}`, "--network", prefix, ...flags, image, ...words]);
  return `${prefix}-${name}`;
}

async function waitFor(what: string, seconds: number, ask: () => Promise<boolean>): Promise<void> {
  const answer = await poll({ seconds: seconds }, async () => ((await ask()) ? true : undefined));
  expect(answer, `${what} within ${seconds} s`).toBe(true);
}

const exitCodeOf = async (container: string, ...words: readonly string[]) =>
  (await docker(["exec", container, ...words], [0, 1, 2, 3, 127])).exitCode;

const acceptsOverTcp = async (container: string) =>
  (await exitCodeOf(container, "pg_isready", "-h", "127.0.0.1")) === 0;

describe("postgres", () => {
  const { postgres } = imageNames;

  test("listens on its socket only while it initializes, and runs the init files there", async () => {
    writeFileSync(join(folder, "10-slow.sql"), "CREATE TABLE made_by_init (n int); SELECT pg_sleep(3);\n");
    const mount = `${join(folder, "10-slow.sql")}:/docker-entrypoint-initdb.d/10-slow.sql:ro`;
    const name = await startContainer("init", postgres, ["--env", "POSTGRES_PASSWORD=first", "--volume", mount]);
    await waitFor("the socket answers", 20, async () => (await exitCodeOf(name, "pg_isready")) === 0);
    expect(await acceptsOverTcp(name)).toBe(false);
    await waitFor("TCP answers", 20, () => acceptsOverTcp(name));
    const { stdout } = await docker([
      "exec",
      name,
      "psql",
      "-U",
      "postgres",
      "-Atc",
      "SELECT count(*) FROM made_by_init",
    ]);
    expect(stdout.trim()).toBe("0");
  });

  test("wants the password from another container, and takes it from a file", async () => {
    writeFileSync(join(folder, "password"), "from a file\n");
    const flags = ["--env", "POSTGRES_PASSWORD_FILE=/run/secrets/password", "--env", "POSTGRES_USER=shop"];
    const mount = ["--volume", `${join(folder, "password")}:/run/secrets/password:ro`];
    const name = await startContainer("password", postgres, [...flags, ...mount]);
    await waitFor("TCP answers", 30, () => acceptsOverTcp(name));
    const ask = (password: string) => {
      const client = ["run", "--rm", "--network", prefix, "--env", `PGPASSWORD=${password}`, postgres];
      return docker([...client, "psql", "-h", name, "-U", "shop", "-Atc", "SELECT current_database()"], [0, 2]);
    };
    expect((await ask("from a file")).stdout.trim()).toBe("shop");
    const refused = await ask("guessed");
    expect(refused.exitCode).toBe(2);
    expect(refused.stderr).toContain('password authentication failed for user "shop"');
  });

  test("keeps its data over a restart, and stops at once on its own signal", async () => {
    const name = await startContainer("restart", postgres, ["--env", "POSTGRES_PASSWORD=x", "--stop-timeout", "20"]);
    await waitFor("TCP answers", 30, () => acceptsOverTcp(name));
    await docker(["exec", name, "psql", "-U", "postgres", "-c", "CREATE TABLE kept (n int)"]);
    const { seconds } = await docker(["stop", name]);
    expect(seconds).toBeLessThan(5);
    await docker(["start", name]);
    await waitFor("TCP answers again", 30, () => acceptsOverTcp(name));
    expect(await exitCodeOf(name, "psql", "-U", "postgres", "-c", "SELECT FROM kept")).toBe(0);
    const logs = await docker(["logs", name]);
    expect(logs.stdout + logs.stderr).toContain("Skipping initialization");
  });

  test.each([
    ["no password", [], "superuser password is not specified"],
    [
      "a password twice",
      ["--env", "POSTGRES_PASSWORD=a", "--env", "POSTGRES_PASSWORD_FILE=/etc/hostname"],
      "are exclusive",
    ],
  ])("refuses to initialize with %s", async (_, flags, message) => {
    const { exitCode, stderr } = await docker(["run", "--rm", ...flags, postgres], [1]);
    expect(exitCode).toBe(1);
    expect(stderr).toContain(message);
  });

  test("has the official user, folders, locale and programs", async () => {
    const facts =
      'id -u postgres; id -g postgres; echo "$PGDATA"; echo "$LANG"; postgres --version | cut -d. -f1; type gosu zstd >/dev/null && echo tools; type curl >/dev/null 2>&1 || echo "no curl"';
    expect((await inside(postgres, "bash", "-c", facts)).split("\n")).toEqual([
      "70",
      "70",
      "/var/lib/postgresql/18/docker",
      "en_US.utf8",
      "postgres (PostgreSQL) 18",
      "tools",
      "no curl",
    ]);
    const { stdout } = await docker([
      "image",
      "inspect",
      "--format",
      "{{.Config.StopSignal}} {{json .Config.Volumes}}",
      postgres,
    ]);
    expect(stdout.trim()).toBe('SIGINT {"/var/lib/postgresql":{}}');
  });
});

describe("nginx", () => {
  const { nginx } = imageNames;

  test("fills in templates and leaves nginx's own variables alone", async () => {
    const template = 'server { listen 80; location / { return 200 "$host says ${GREETING}\\n"; } }\n';
    writeFileSync(join(folder, "default.conf.template"), template);
    const mount = `${folder}/default.conf.template:/etc/nginx/templates/default.conf.template:ro`;
    const name = await startContainer("nginx", nginx, ["--env", "GREETING=hello", "--volume", mount]);
    await waitFor("nginx answers", 10, async () => (await exitCodeOf(name, "curl", "-fs", "http://127.0.0.1")) === 0);
    const { stdout } = await docker(["exec", name, "curl", "-s", "-H", "Host: shop.test", "http://127.0.0.1"]);
    expect(stdout).toBe("shop.test says hello\n");
    expect((await docker(["exec", name, "ps"])).stdout).toMatch(/\d+ nginx +.*worker process/);
    expect((await docker(["stop", name])).seconds).toBeLessThan(5);
  });

  test("has the official user and signal, and runs other commands untouched", async () => {
    expect(await inside(nginx, "id", "-u", "nginx")).toBe("101");
    expect((await docker(["run", "--rm", nginx, "echo", "untouched"])).stdout).toBe("untouched\n");
    expect((await docker(["image", "inspect", "--format", "{{.Config.StopSignal}}", nginx])).stdout.trim()).toBe(
      "SIGQUIT",
    );
    expect(await inside(nginx, "nginx", "-v").then(() => "runs")).toBe("runs");
  });
});

describe("bun", () => {
  const { bun } = imageNames;

  test("has busybox and no curl, the user bun, and node as another name of bun", async () => {
    const facts =
      'id -u bun; pwd; type wget >/dev/null && echo wget; type curl >/dev/null 2>&1 || echo "no curl"; node -e "console.log(typeof Bun)"';
    expect((await inside(bun, "sh", "-c", facts)).split("\n")).toEqual([
      "1000",
      "/home/bun/app",
      "wget",
      "no curl",
      "object",
    ]);
  });

  test.each([
    ["a flag", ["--version"], "1.4.5"],
    ["code", ["-e", "console.log(40 + 2)"], "42"],
    ["a program", ["echo", "bare"], "bare"],
  ])("its entry script understands %s", async (_, words, answer) => {
    expect((await docker(["run", "--rm", bun, ...words])).stdout.trim()).toBe(answer);
  });

  test("installs packages in a docker build", async () => {
    expect(
      await buildAndRun("bun", `FROM ${bun}\nCOPY package.json ./\nRUN bun install\nUSER bun\n`, ["-e", script]),
    ).toBe("true\n");
  });
});

describe("deno", () => {
  const { deno } = imageNames;

  test("has the user deno, works in /, and has no curl", async () => {
    const facts = 'id -u deno; pwd; echo "$DENO_DIR"; type curl >/dev/null 2>&1 || echo "no curl"';
    expect((await inside(deno, "sh", "-c", facts)).split("\n")).toEqual(["1000", "/", "/deno-dir/", "no curl"]);
  });

  test("puts deno in front of its commands, and stops at once because tini is in front of it", async () => {
    expect((await docker(["run", "--rm", deno, "eval", "console.log(Deno.version.deno)"])).stdout).toBe("2.9.6\n");
    const name = await startContainer("deno", deno, [], ["eval", "setInterval(() => {}, 1000)"]);
    expect((await docker(["stop", name])).seconds).toBeLessThan(5);
  });

  test("installs packages in a docker build", async () => {
    const dockerfile = `FROM ${deno}\nWORKDIR /app\nCOPY package.json ./\nRUN deno install\nUSER deno\n`;
    expect(await buildAndRun("deno", dockerfile, ["eval", script])).toBe("true\n");
  });
});

const script = 'console.log((await import("is-number")).default(42))';

/** Builds an image of ours with one npm package, runs the words in it, removes it. */
async function buildAndRun(name: string, dockerfile: string, words: readonly string[]): Promise<string> {
  const context = join(folder, name);
  const tag = `${prefix}-${name}`;
  mkdirSync(context);
  writeFileSync(join(context, "Dockerfile"), dockerfile);
  writeFileSync(join(context, "package.json"), '{ "dependencies": { "is-number": "7.0.0" } }\n');
  await docker(["build", "--quiet", "--no-cache", "--tag", tag, context]);
  const { stdout } = await docker(["run", "--rm", tag, ...words]);
  return stdout;
}

test("the bridge keeps its hardware address, whatever containers come and go", async () => {
  const name = '{{index .Options "com.docker.network.bridge.name"}}';
  const bridge = (await docker(["network", "inspect", "bridge", "--format", name])).stdout.trim();
  const wasChosen = "3";
  expect(readFileSync(`/sys/class/net/${bridge}/addr_assign_type`, "utf8").trim()).toBe(wasChosen);
});

test("compose up: postgres, then dbmate's migration, then bun behind nginx", async () => {
  const project = join(folder, "project");
  mkdirSync(join(project, "migrations"), { recursive: true });
  writeFileSync(
    join(project, "migrations/20261120000000_one.sql"),
    "-- migrate:up\nCREATE TABLE one (n int);\n-- migrate:down\nDROP TABLE one;\n",
  );
  writeFileSync(join(project, "compose.yaml"), composeFile);
  writeFileSync(join(project, "default.conf"), "server { listen 80; location / { proxy_pass http://app:3000; } }\n");
  const compose = (...words: string[]) =>
    run({
      argv: ["docker", "compose", "--project-name", prefix, ...words],
      environment: engine.environment,
      directory: project,
      timeoutSeconds: 120,
    });
  try {
    await compose("up", "--wait", "--quiet-pull");
    const { stdout } = await compose("exec", "-T", "nginx", "curl", "-s", "http://127.0.0.1");
    expect(stdout).toBe("20261120000000");
    const dumped = await compose("run", "--rm", "--no-deps", "migrate", "dump");
    expect(dumped.stderr + dumped.stdout).toContain("schema.sql");
    // A second time nothing is left to do, and that is no failure.
    await compose("up", "--wait");
  } finally {
    await compose("down", "--volumes", "--timeout", "5");
  }
});

const composeFile = `
services:
  postgres:
    image: ${imageNames.postgres}
    environment: { POSTGRES_PASSWORD: secret }
    volumes: ["data:/var/lib/postgresql"]
    healthcheck: { test: ["CMD", "pg_isready", "-h", "127.0.0.1"], interval: 10s, start_period: 30s, start_interval: 200ms }
  migrate:
    image: ${imageNames.dbmate}
    command: ["--no-dump-schema", "up"]
    environment: { DATABASE_URL: "postgres://postgres:secret@postgres/postgres?sslmode=disable" }
    volumes: ["./migrations:/db/migrations:ro"]
    depends_on: { postgres: { condition: service_healthy } }
  app:
    image: ${imageNames.bun}
    init: true
    command: ["-e", "const [row] = await Bun.sql\`SELECT version FROM schema_migrations\`; Bun.serve({ port: 3000, fetch: () => new Response(row.version) })"]
    environment: { DATABASE_URL: "postgres://postgres:secret@postgres/postgres" }
    depends_on: { migrate: { condition: service_completed_successfully } }
  nginx:
    image: ${imageNames.nginx}
    volumes: ["./default.conf:/etc/nginx/conf.d/default.conf:ro"]
    depends_on: { app: { condition: service_started } }
    healthcheck: { test: ["CMD", "curl", "-fs", "http://127.0.0.1"], interval: 10s, start_period: 30s, start_interval: 200ms }
volumes: { data: {} }
`;

// In a network of its own, where a second engine disturbs nobody: the first one's firewall rules are out of reach there.
test("two processes start one engine, and taking it down leaves nothing behind", async () => {
  const engines = cacheFolder("engine");
  if (engine.origin !== "lab" || !existsSync(engines)) return;
  const cache = join(folder, "cache");
  mkdirSync(cache);
  symlinkSync(engines, join(cache, "engine"));
  const story = `
    set -eu
    ip link set lo up
    iptables-save >/dev/null
    start='import { startEngine } from "./test/lab/engine.ts"; console.log((await startEngine()).environment.DOCKER_HOST)'
    "$BUN" -e "$start" & "$BUN" -e "$start" & wait
    "$BUN" test/lab/lab.ts down
    "$BUN" test/lab/lab.ts down
    echo "links: $(ip -brief link | grep -cv '^lo ' || true)"
    echo "rules: $(iptables-save | grep -c DOCKER || true)"
  `;
  const { stdout, stderr } = await run({
    argv: ["unshare", "--net", "bash", "-c", story],
    environment: {
      ...engine.environment,
      BUN: process.execPath,
      DBOPS_LAB_CACHE: cache,
      DOCKER_HOST: undefined,
      DOCKER_CONFIG: undefined,
    },
    timeoutSeconds: 60,
  });
  const [first, second, links, rules] = stdout.trim().split("\n");
  expect(first).toStartWith("unix:///run/create-dbops-lab-");
  expect(second).toBe(first!);
  expect([links, rules]).toEqual(["links: 0", "rules: 0"]);
  expect(stderr.match(/started our own/g)).toHaveLength(1);
  expect(existsSync(join(cache, "data"))).toBe(false);
  expect(existsSync(first!.replace("unix://", "").replace("/docker.sock", ""))).toBe(false);
});
