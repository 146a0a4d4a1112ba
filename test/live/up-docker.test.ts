// `up` with Docker: the same project and the same answers, in containers, with nginx in front.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync } from "node:fs";
import { chmod, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { type Result, run } from "../../scripts/lib/run.ts";
import { startEngine } from "../lab/engine.ts";
import { ensureImages } from "../lab/images.ts";
import { createStackProject, type StackProject } from "../lab/stack.ts";

setDefaultTimeout(180_000);

let project: StackProject;
beforeAll(async () => {
  const engine = await startEngine();
  await ensureImages(engine);
  project = await createStackProject({ docker: engine.environment });
});
afterAll(async () => {
  await compose(["--project-name", other(), "down", "--volumes", "--timeout", "1"]);
  await compose(["down", "--volumes", "--remove-orphans", "--rmi", "local", "--timeout", "1"]);
  await project.remove();
});

const docker = async (argv: readonly string[]) =>
  (
    await run({
      argv: ["docker", ...argv],
      directory: project.directory,
      environment: project.environment,
      timeoutSeconds: 120,
    })
  ).stdout;
const compose = (words: readonly string[]) => docker(["compose", ...words]);
/** Another Compose project in the same folder. */
const other = () => `${project.name}-other`;
const volumes = (name: string) => docker(["volume", "ls", "--quiet", "--filter", `name=${name}`]);
/** `up` in an environment that differs from the others' by this. */
async function withEnvironment(changes: Record<string, string>, flags: readonly string[]): Promise<Result> {
  const before = { ...project.environment };
  Object.assign(project.environment, changes);
  return await project.up(flags).finally(() => {
    for (const name of Object.keys(changes)) delete project.environment[name];
    Object.assign(project.environment, before);
  });
}
/** An environment with a `docker` that runs these lines of shell first. */
async function fakeDocker(lines: string): Promise<Record<string, string>> {
  const real = Bun.which("docker", { PATH: project.environment.PATH! })!;
  await project.write("fake/docker", `#!/bin/sh\n${lines}\nexec ${real} "$@"\n`);
  await chmod(join(project.directory, "fake/docker"), 0o755);
  return { PATH: `${project.directory}/fake:${project.environment.PATH}` };
}
const get = (path: string) => fetch(`${project.url}${path}`, { signal: AbortSignal.timeout(5000) });
const broken = "migrations/20990101000000_broken.sql";
const breakMigrations = () => project.write(broken, "-- migrate:up\ncreate tabel x ();\n-- migrate:down\n");

test("a migration that fails on an empty volume is named with its SQL error, and the app never starts", async () => {
  await breakMigrations();
  const { exitCode, stdout } = await project.up(["--json"]);
  expect(exitCode).toBe(1);
  const { error } = JSON.parse(stdout);
  expect(error).toMatchObject({
    what: `Cannot apply ${broken}:2`,
    next: [`correct ${broken}`, "the same command again"],
  });
  expect(error.why).toContain('syntax error at or near "tabel"');
  expect(await compose(["ps", "--services", "--status", "running"])).toBe("postgres\n");
  await rm(join(project.directory, broken));
});

test("it takes Docker when an engine answers, and says what is up", async () => {
  const { exitCode, stdout, stderr } = await project.up([]);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).toContain(`==> up ${project.name}: engine docker, an engine answers\n`);
  expect(stdout).toStartWith(`${project.name} is up at ${project.url.replace("127.0.0.1", "localhost")} (docker, `);
  expect((await get("/health")).headers.get("server")).toContain("nginx");
});

test("a migration that fails on a running stack leaves the old app serving", async () => {
  await breakMigrations();
  const { exitCode, stderr } = await project.up([]);
  await rm(join(project.directory, broken));
  expect(exitCode).toBe(1);
  expect(stderr).toContain(`Cannot apply ${broken}:2: syntax error at or near "tabel" (42601)\n`);
  expect((await get("/health/ready")).status).toBe(200);
});

test("an app that ends at its start is named, with its own last words", async () => {
  const main = join(project.directory, "app/main.ts");
  const working = await readFile(main, "utf8");
  await writeFile(main, `throw new Error("I am tired");\n${working}`);
  const { exitCode, stderr } = await project.up([]);
  await writeFile(main, working);
  expect(exitCode).toBe(1);
  expect(stderr).toContain('Cannot start the stack: service "app" failed\n');
  expect(stderr).toContain("  | error: I am tired\n");
  expect(stderr).toEndWith(
    "  next: docker compose logs app\n  next: bun scripts/up.ts\n  read: docs/runbook/app-does-not-start.md\n",
  );
});

test("--once is one document, also when it cannot be taken down again", async () => {
  const fake = await fakeDocker('case "$*" in "compose down"*) echo "not today" >&2; exit 1;; esac');
  const once = () => withEnvironment(fake, ["--once", "--json"]);

  const down = 'Cannot run "docker compose down --remove-orphans"';
  const proven = await once();
  expect(proven.exitCode).toBe(1);
  expect(JSON.parse(proven.stdout).error).toMatchObject({ what: down, details: "not today" });

  await breakMigrations();
  const failed = await once();
  await rm(join(project.directory, broken));
  expect(failed.exitCode).toBe(1);
  expect(JSON.parse(failed.stdout).error.what).toBe(`Cannot apply ${broken}:2`);
  expect(failed.stderr).toContain(`${down}: it exited with 1\n  | not today\n`);
});

test("--down keeps the volume, --down --volumes needs a yes", async () => {
  const { exitCode, stdout } = await project.up(["--down"]);
  expect({ exitCode, stdout }).toMatchObject({
    exitCode: 0,
    stdout: "==> remove containers: app, migrations, nginx, postgres\n",
  });
  const volume = `${project.name}_postgres`;
  const refused = await project.up(["--down", "--volumes"]);
  expect(refused.exitCode).toBe(5);
  expect(refused.stderr).toContain(`This deletes the database of ${project.name} for good: ${volume}`);
  expect(await volumes(volume)).toBe(`${volume}\n`);
  expect((await project.up(["--down", "--volumes", "--yes"])).stdout).toContain(`==> delete volume ${volume}\n`);
  expect(await volumes(volume)).toBe("");
});

test("another password than the one the volume was made with is named, with the page that helps", async () => {
  await compose(["up", "--detach", "--wait", "postgres"]);
  const { exitCode, stderr } = await withEnvironment({ POSTGRES_PASSWORD: "another" }, []);
  expect(exitCode).toBe(1);
  expect(stderr).toContain("password authentication failed");
  expect(stderr).toEndWith(
    "  next: put the earlier POSTGRES_PASSWORD back into .env\n  next: the same command again\n  read: docs/runbook/wrong-password.md\n",
  );
  await project.up(["--down", "--volumes", "--yes"]);
});

test("a lost .env is not replaced while there is a volume, and --down does without", async () => {
  const file = join(project.directory, ".env");
  const earlier = await readFile(file, "utf8");
  await compose(["up", "--detach", "--wait", "postgres"]);
  await rm(file);
  const refused = await project.up([]);
  const down = await project.up(["--down"]);
  const written = existsSync(file);
  await writeFile(file, earlier, { mode: 0o600 });
  expect(written).toBe(false);
  expect(refused.exitCode).toBe(5);
  expect(refused.stderr).toContain(`Cannot make a new .env: `);
  expect(refused.stderr).toContain(`  | ${project.name}_postgres\n`);
  expect(down).toMatchObject({ exitCode: 0, stdout: "==> remove containers: postgres\n" });
  expect((await project.up(["--down", "--volumes", "--yes"])).exitCode).toBe(0);
});

test("--down --volumes under another project name asks before that one's volume goes", async () => {
  const volume = `${other()}_postgres`;
  const named = { COMPOSE_PROJECT_NAME: other() };
  await compose(["--project-name", other(), "create", "postgres"]);
  const plan = await withEnvironment(named, ["--down", "--volumes", "--plan"]);
  expect(plan.stdout).toContain(`==> delete volume ${volume}\n`);
  const refused = await withEnvironment(named, ["--down", "--volumes"]);
  expect(refused.exitCode).toBe(5);
  expect(refused.stderr).toContain(volume);
  expect(await volumes(volume)).toBe(`${volume}\n`);
  await withEnvironment(named, ["--down", "--volumes", "--yes"]);
  expect(await volumes(volume)).toBe("");
});

test("an engine that does not answer is not taken for one without containers", async () => {
  const silent = { DOCKER_HOST: "unix:///nonexistent.sock" };
  const down = await withEnvironment(silent, ["--down"]);
  expect(down.exitCode).toBe(0);
  expect(down.stdout).toStartWith("==> containers and volumes were not looked at: no Docker Engine answers (");
  const deleting = await withEnvironment(silent, ["--down", "--volumes", "--yes"]);
  expect({ ...deleting, seconds: 0 }).toMatchObject({ exitCode: 2, stdout: "" });
  expect(deleting.stderr).toStartWith("Cannot use Docker: no Docker Engine answers (");
  expect(deleting.stderr).toEndWith(
    "  next: start Docker, then run this again\n  next: bun scripts/up.ts --engine embedded --down --volumes\n",
  );
});

test("an engine that goes away midway is named, with what Compose said last", async () => {
  const fake = await fakeDocker(`
    case "$*" in *"plain up "*) touch fake/gone; echo "unexpected EOF" >&2; exit 1;; esac
    if [ -e fake/gone ]; then echo "Cannot connect to the Docker daemon" >&2; exit 1; fi`);
  const { exitCode, stderr } = await withEnvironment(fake, []);
  expect(exitCode).toBe(1);
  expect(stderr).toEndWith(
    [
      "Docker went away while the stack was starting: no Docker Engine answers (Cannot connect to the Docker daemon); containers may still run, the data is in its volume",
      "  | unexpected EOF",
      "  next: docker info",
      "  next: bun scripts/up.ts",
      "",
    ].join("\n"),
  );
});

test("a volume whose very first start was cut off is named, with the page that helps", async () => {
  await compose(["up", "--detach", "--wait", "postgres"]);
  await compose(["exec", "--no-TTY", "postgres", "sh", "-c", 'dropdb -U "$POSTGRES_USER" "$POSTGRES_DB"']);
  await compose(["down", "--timeout", "5"]);
  const quick = "healthcheck: { interval: 1s, start_period: 1s, retries: 2 }";
  await project.write("quick.yaml", `services: { postgres: { ${quick} } }\n`);
  const files = { COMPOSE_FILE: "compose.yaml:compose/development.yaml:quick.yaml" };
  // The second one finds a Postgres that runs.
  for (const _ of ["once", "twice"]) {
    const { exitCode, stderr } = await withEnvironment(files, []);
    expect(exitCode).toBe(1);
    expect(stderr).toContain('Cannot start the stack: service "postgres" failed\n');
    expect(stderr).toContain('FATAL:  database "app" does not exist\n');
    expect(stderr).toEndWith("  read: docs/runbook/database-unhealthy.md\n");
  }
  await project.up(["--down", "--volumes", "--yes"]);
});

test.each([
  ["127.0.0.1", "a port is taken"],
  ["::1", "another program listens on it"],
])("a taken port on %s is exit 2", async (host, why) => {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(Number(project.environment.HTTP_PORT), host, resolve));
  const { exitCode, stderr } = await project.up([]).finally(() => server.close());
  expect(exitCode).toBe(2);
  expect(stderr).toContain(`: ${why}\n`);
  expect(stderr).toMatch(/ {2}next: set HTTP_PORT .*in \.env to another port/);
  await project.up(["--down"]);
});

test("an interrupted up takes down what it has started, and leaves a volume that works", async () => {
  await project.up(["--down", "--volumes", "--yes"]);
  const up = await project.start([]);
  await up.until("-postgres-1  Started");
  const interrupted = performance.now();
  process.kill(up.pid, "SIGINT");
  expect(await up.ended).toBe(130);
  expect(performance.now() - interrupted).toBeLessThan(45_000);
  expect(up.lines.join("\n")).toContain("==> letting postgres finish its start first, at most 30 s\n");
  expect(await compose(["ps", "--all", "--quiet"])).toBe("");
  const { exitCode, stderr } = await project.up(["--once"]);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
});
