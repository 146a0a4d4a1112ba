// `up` with Docker: the same project and the same answers, in containers, with nginx in front.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { rm } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { run } from "../../scripts/lib/run.ts";
import { startEngine } from "../lab/engine.ts";
import { ensureImages } from "../lab/images.ts";
import { createStackProject, type StackProject } from "./stack.ts";

setDefaultTimeout(180_000);

let project: StackProject;
beforeAll(async () => {
  const engine = await startEngine();
  await ensureImages(engine);
  project = await createStackProject({ docker: engine.environment });
});
afterAll(async () => {
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
const get = (path: string) => fetch(`${project.url}${path}`, { signal: AbortSignal.timeout(5000) });
const broken = "migrations/20990101000000_broken.sql";
const breakMigrations = () => project.write(broken, "-- migrate:up\ncreate tabel x ();\n-- migrate:down\n");

test("a migration that fails on an empty volume is named with its SQL error, and the app never starts", async () => {
  await breakMigrations();
  const { exitCode, stdout } = await project.up(["--json"]);
  expect(exitCode).toBe(1);
  const { error } = JSON.parse(stdout);
  expect(error).toMatchObject({ what: `Cannot apply ${broken}`, next: [`correct ${broken}`, "bun scripts/up.ts"] });
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
  expect(stderr).toContain(`Cannot apply ${broken}: line: 2, column: 8`);
  expect((await get("/health/ready")).status).toBe(200);
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
  expect(await docker(["volume", "ls", "--quiet", "--filter", `name=${volume}`])).toBe(`${volume}\n`);
  expect((await project.up(["--down", "--volumes", "--yes"])).stdout).toContain(`==> delete volume ${volume}\n`);
  expect(await docker(["volume", "ls", "--quiet", "--filter", `name=${volume}`])).toBe("");
});

test("a taken port is named, and an interrupted up takes down what it has started", async () => {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(Number(project.environment.HTTP_PORT), "127.0.0.1", resolve));
  const taken = await project.up([]).finally(() => server.close());
  expect(taken.exitCode).toBe(2);
  expect(taken.stderr).toContain("next: set HTTP_PORT or POSTGRES_PORT in .env to another port\n");
  await project.up(["--down"]);

  const up = await project.start([]);
  await up.until("-postgres-1  Started");
  process.kill(up.pid, "SIGINT");
  expect(await up.ended).toBe(130);
  expect(await compose(["ps", "--all", "--quiet"])).toBe("");
});
