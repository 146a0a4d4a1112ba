// The stack as scaffolded, with the starter app on a real engine: that it comes up whole and holds no more rights than it
// needs, and what happens when something in it fails.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { start } from "../../scripts/lib/run.ts";
import { startEngine } from "../lab/engine.ts";
import {
  brokenMigration,
  databaseHealth,
  healthPaths,
  identities,
  inspect,
  statusOf,
  until,
  up,
} from "../lab/observe.ts";
import { createProject, type Project } from "../lab/project.ts";

let project: Project;

beforeAll(async () => {
  project = await createProject();
  // Exactly as the README says: the first `up` builds the image.
  await project.compose(up, { timeoutSeconds: 300 });
});
afterAll(() => project?.remove());

test("answers all four health routes through nginx", async () => {
  expect(await Promise.all(healthPaths.map((path) => statusOf(project.url + path)))).toEqual([200, 200, 200, 200]);
  const { body } = await databaseHealth(project);
  expect(body).toMatchObject({
    status: "healthy",
    database: { connected: true },
    migrations: { latest: "20260101090300", count: 4 },
    schema: { all_tables_exist: true },
  });
});

test("a second `up` exits 0, leaves every container alone and keeps the data", async () => {
  const created = await fetch(`${project.url}/accounts`, post({ email: "kept@example.com" }));
  expect(created.status).toBe(201);
  const before = await identities(project, ["postgres", "app", "nginx"]);
  await project.compose(up);
  expect(await identities(project, ["postgres", "app", "nginx"])).toBe(before);
  const { id } = (await created.json()) as { id: string };
  expect(await (await fetch(`${project.url}/accounts?limit=1`)).json()).toMatchObject({ accounts: [{ id }] });
});

test("containers hold no rights that they do not need", async () => {
  const read = async (service: string, words: string[]) =>
    (await project.compose(["exec", "-T", service, ...words], { accept: [0, 1, 2] })).stdout.trim();
  for (const service of ["postgres", "app", "nginx"]) {
    expect(await read(service, ["grep", "NoNewPrivs", "/proc/1/status"])).toEndWith("1");
  }
  for (const service of ["app", "nginx"]) {
    expect(await read(service, ["grep", "CapBnd", "/proc/1/status"])).toEndWith("0000000000000000");
    expect(await read(service, ["id", "-u"])).not.toBe("0");
  }
  for (const service of ["postgres", "nginx"]) {
    const touched = await project.compose(["exec", "-T", service, "touch", "/etc/x"], { accept: [1] });
    expect(touched.stderr).toContain("Read-only file system");
  }
});

test("Postgres is published on loopback only, and nginx cannot even find it", async () => {
  const published = await project.compose(["port", "postgres", "5432"]);
  expect(published.stdout).toStartWith("127.0.0.1:");
  const look = ["exec", "-T", "nginx", "getent", "hosts"];
  expect((await project.compose([...look, "app"], { accept: [0] })).stdout).toContain("app");
  expect((await project.compose([...look, "postgres"], { accept: [0, 1, 2] })).stdout).toBe("");
});

test("a failing migration leaves the old app serving, and its error names file and SQL error", async () => {
  const before = await identities(project, ["app", "nginx"]);
  await project.write(brokenMigration.path, brokenMigration.text);
  try {
    const failed = await project.compose(up, { accept: [1] });
    expect(failed.stderr).toContain(`service "migrations" didn't complete successfully: exit 2`);
    const { stderr, stdout } = await project.compose(["logs", "--no-log-prefix", "migrations"]);
    expect(stdout + stderr).toContain("Applying: 29990101000000_broken.sql");
    expect(stdout + stderr).toContain(`relation "no_such_table" does not exist`);
    expect(await statusOf(`${project.url}/health/database`)).toBe(200);
    expect(await identities(project, ["app", "nginx"])).toBe(before);
  } finally {
    await rm(join(project.directory, brokenMigration.path));
  }
  await project.compose(up);
});

test("a migration that cannot get its lock gives up after 5 s instead of holding up the app", async () => {
  const blocked = "migrations/29990101000000_blocked.sql";
  await project.write(blocked, "-- migrate:up\nalter table accounts add column x int;\n\n-- migrate:down\nselect 1;\n");
  const psql = ["exec", "-T", "postgres", "psql", "-h", "127.0.0.1", "-U", "dbops_app", "-c"];
  const holder = project.compose([...psql, "begin; lock table accounts in share mode; select pg_sleep(20)"], {
    accept: [0, 2],
  });
  try {
    const holds = "select 1 from pg_locks where mode = 'ShareLock' and relation = 'accounts'::regclass";
    const isHeld = async () => (await project.compose([...psql, holds])).stdout.includes("(1 row)");
    expect(await until(10, isHeld)).toBe(true);
    const { seconds, stderr } = await project.compose(["run", "--rm", "migrations"], { accept: [2] });
    expect(stderr).toContain("canceling statement due to lock timeout");
    expect(seconds).toBeLessThan(15);
  } finally {
    await rm(join(project.directory, blocked));
    await project.compose([...psql, "select pg_terminate_backend(pid) from pg_locks where mode = 'ShareLock'"]);
    await holder;
  }
});

test("kill -9 of postgres: it is restarted, and the app finds it again by itself", async () => {
  const before = await identities(project, ["app", "nginx"]);
  const restarts = () => inspect(project, "postgres", "{{.RestartCount}}").then(Number);
  const earlier = await restarts();
  await killMainProcess(project, "postgres");
  expect(await until(30, async () => (await restarts()) > earlier)).toBe(true);
  expect(await until(30, async () => (await databaseHealth(project)).body.status === "healthy")).toBe(true);
  expect(await until(10, async () => (await statusOf(`${project.url}/health/ready`)) === 200)).toBe(true);
  expect(await identities(project, ["app", "nginx"])).toBe(before);
});

test("while postgres stays dead, /health/database says so within 3 s, and heals when it is back", async () => {
  const before = await identities(project, ["app", "nginx"]);
  await project.docker(["update", "--restart", "no", project.container("postgres")]);
  try {
    let brokeAt = 0;
    const breaks = until(20, async () => {
      if ((await databaseHealth(project)).status === 503) brokeAt = Date.now();
      return brokeAt > 0;
    });
    await killMainProcess(project, "postgres");
    expect(await breaks).toBe(true);
    const died = Date.parse(await inspect(project, "postgres", "{{.State.FinishedAt}}"));
    expect(brokeAt - died).toBeLessThan(3000);
    // Still alive, only without its database.
    expect(await statusOf(`${project.url}/health`)).toBe(200);
  } finally {
    await project.docker(["update", "--restart", "unless-stopped", project.container("postgres")]);
    await project.docker(["start", project.container("postgres")]);
  }
  expect(await until(30, async () => (await databaseHealth(project)).body.status === "healthy")).toBe(true);
  expect(await identities(project, ["app", "nginx"])).toBe(before);
});

test("stopping the app under load loses no request that it has begun", async () => {
  const [marker, statuses] = [`load-${Date.now()}`, [] as number[]];
  let isOver = false;
  const worker = async (id: number) => {
    for (let i = 0; !isOver; i++) {
      const response = await fetch(`${project.url}/accounts`, post({ email: `${marker}-${id}-${i}@example.com` }));
      statuses.push(response.status);
      if (response.status !== 201) return;
    }
  };
  const load = Promise.all([1, 2, 3, 4].map(worker));
  try {
    expect(await until(10, async () => statuses.filter((status) => status === 201).length >= 8)).toBe(true);
    await project.compose(["stop", "app"]);
    expect(await inspect(project, "app", "{{.State.ExitCode}}")).toBe("0");
  } finally {
    isOver = true;
    await load;
    await project.compose(up);
  }
  const created = statuses.filter((status) => status === 201).length;
  const count = `select count(*) from accounts where email like '${marker}%'`;
  const psql = ["exec", "-T", "postgres", "psql", "-h", "127.0.0.1", "-U", "dbops_app", "-qtAc", count];
  // Every row has its answer: what nginx refused was never begun.
  expect(Number((await project.compose(psql)).stdout)).toBe(created);
  expect(statuses.filter((status) => ![201, 502, 504].includes(status))).toEqual([]);
});

test("`watch` takes a changed file over into the running app", async () => {
  const main = await readFile(join(project.directory, "app/main.ts"), "utf8");
  const { environment } = await startEngine();
  const lines: string[] = [];
  const watch = await start({
    argv: ["docker", "compose", "--project-name", project.name, "watch", "--no-up"],
    directory: project.directory,
    environment,
    onLine: (line) => lines.push(line),
    ownGroup: true,
  });
  try {
    expect(await until(20, async () => lines.some((line) => line.includes("Watch enabled")))).toBe(true);
    await project.write(
      "app/main.ts",
      main.replace('case "GET /":', 'case "GET /changed": return new Response("yes");\n    case "GET /":'),
    );
    const isChanged = async () => (await fetch(`${project.url}/changed`)).status === 200;
    expect(await until(30, isChanged)).toBe(true);
  } finally {
    await watch.stop("SIGINT", 10);
    await project.write("app/main.ts", main);
  }
});

const post = (body: { email: string }) => ({
  method: "POST",
  headers: { "content-type": "application/json" },
  body: JSON.stringify({ ...body, password: "correct horse battery staple" }),
  signal: AbortSignal.timeout(20_000),
});

/** From a container that sees the host's processes: `docker kill` would count as "stopped by hand", and stay down. */
async function killMainProcess(project: Project, service: string): Promise<void> {
  const pid = await inspect(project, service, "{{.State.Pid}}");
  const kill = ["--entrypoint", "kill", "postgres:18-alpine", "-9", pid];
  await project.docker(["run", "--rm", "--pid", "host", "--user", "0", ...kill]);
}
