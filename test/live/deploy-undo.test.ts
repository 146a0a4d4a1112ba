// Undoing under the worst conditions: the disk is full, the release brought a worker along, the upstream file is lost. What served
// goes on serving, and nobody says "as before" when it is not so.
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { PushedImage } from "../lab/deploy-app.ts";
import { createDeployProject, type DeployProject } from "../lab/deploy-project.ts";
import { failureIn, recordsOn } from "../lab/deploy-traces.ts";
import { type Registry, startRegistry } from "../lab/registry.ts";
import { type Server, startServer } from "../lab/server.ts";

setDefaultTimeout(120_000);

let server: Server;
let registry: Registry;
let project: DeployProject;
let good: PushedImage;
let better: PushedImage;
let errors: PushedImage;

beforeAll(async () => {
  [server, registry] = await Promise.all([startServer({ kind: "docker", withImages: true }), startRegistry()]);
  project = await createDeployProject({ server, registry, config: { deploy: { bakeSeconds: 20 } } });
  good = await project.buildApp({ release: "good" });
  better = await project.buildApp({ release: "better" });
  errors = await project.buildApp({ release: "errors", behaviour: "live-errors" });
  await project.configure({ deploy: { bakeSeconds: 0 } });
  await project.run("deploy", ["--image", good.pinned], { environment: login() });
}, 300_000);
afterAll(async () => {
  await project?.remove();
  await server?.stop();
  await registry?.stop();
});

const login = () => ({ DBOPS_REGISTRY_USER: registry.user, DBOPS_REGISTRY_PASSWORD: registry.password });
const serving = async () => (await project.ask("/")).release;
const stamp = async () =>
  (await server.ssh(`sed -n 's/^ *default "\\(.*\\)";/\\1/p' ${project.folder}/nginx/upstream/production.conf`)).stdout;
const upstream = () => `${project.folder}/nginx/upstream/production.conf`;
const running = async () => (await server.ssh("docker ps --format '{{.Names}}' | sort")).stdout.trim().split("\n");

/** Runs a deploy of the release that fails once visitors meet it, while there are some. @returns its exit code and stderr. */
async function failInBake(whenLive: () => Promise<void>) {
  const lines: string[] = [];
  let isLive = () => {};
  const live = new Promise<void>((resolve) => {
    isLive = resolve;
  });
  const deploy = await project.start("deploy", ["--image", errors.pinned], {
    environment: login(),
    onLine(line) {
      lines.push(line);
      if (/^ {2}done {3}switch /.test(line)) isLive();
    },
  });
  await Promise.race([live, deploy.ended]);
  await whenLive();
  let ended = false as boolean;
  void deploy.ended.then(() => {
    ended = true;
  });
  while (!ended) await project.ask("/").catch(() => {});
  return { exitCode: await deploy.ended, stderr: lines.join("\n") };
}

test("a worker that only the undone release has is gone with it", async () => {
  const worker =
    "services:\n  worker:\n    image: ${RELEASE_IMAGE:-none.invalid/none}\n    networks: [database]\n    environment: { BEHAVIOUR: worker }\n\n";
  await project.edit("compose/production.yaml", (text) => text.replace("services:\n", worker));
  await project.configure({ deploy: { bakeSeconds: 20, stopFirst: ["worker"] } });
  const { exitCode, stderr } = await failInBake(async () => {});
  expect({ exitCode, release: await serving() }).toEqual({ exitCode: 1, release: "good" });
  expect(failureIn(stderr)).toMatch(/; release \d+ serves as before\n/);
  expect(await running()).not.toContain(`${project.name}-worker-1`);
  await project.edit("compose/production.yaml", (text) => text.replace(worker, "services:\n"));
  await project.configure({ deploy: { bakeSeconds: 0 } });
});

test("an upstream file that says nothing: no deploy takes the server for an empty one, and a rollback mends it", async () => {
  await server.ssh(`truncate --size 0 ${upstream()}`);
  const { stderr } = await project.run("deploy", ["--image", better.pinned], { environment: login(), accept: [3] });
  const live = (await recordsOn(server, project)).findLast(({ outcome }) => outcome === "done")!.release;
  expect(
    failureIn(stderr),
  ).toBe(`Nothing was deployed: nginx/upstream/production.conf there does not say which release serves, \
and there have been some, up to ${live}
  next: bun scripts/rollback.ts --list
  next: bun scripts/rollback.ts --to ${live}
  read: docs/runbook/roll-back-by-hand.md`);
  // nginx has not read it yet.
  expect(await serving()).toBe("good");
  const { stderr: warned } = await project.run("rollback", ["--to", `${live}`], { environment: login() });
  expect(warned).toContain("nginx/upstream/production.conf there is lost, and is made anew from what nginx says\n");
  expect(await serving()).toBe("good");
  expect(await stamp()).toBe(`${live + 2} green live\n`);
});

describe("a rollback that fails, from an upstream file that is gone,", () => {
  /** Of one that takes long to start, and of the good one after it, which serves. */
  let numbers: [slow: number, good: number];
  /** Without the patience that it needs. */
  const goBack = async () => {
    await project.configure({ deploy: { bakeSeconds: 0, healthSeconds: 2 } });
    const { stderr } = await project.run("rollback", ["--to", `${numbers[0]}`], { environment: login(), accept: [1] });
    await project.configure({ deploy: { bakeSeconds: 0 } });
    return failureIn(stderr);
  };

  beforeAll(async () => {
    const slow = await project.buildApp({ release: "slow", behaviour: "slow-boot", amount: 8000 });
    for (const { pinned } of [slow, good]) await project.run("deploy", ["--image", pinned], { environment: login() });
    const done = (await recordsOn(server, project)).slice(-2);
    numbers = [done[0]!.release, done[1]!.release];
  }, 120_000);

  test("leaves one that names what serves", async () => {
    const [slow, last] = numbers;
    await server.ssh(`rm ${upstream()}`);
    const failure = await goBack();
    expect(failure).toStartWith(`Release ${slow} does not serve again: app-blue is not healthy: `);
    expect(failure).toContain(`; release ${last} serves as before\n`);
    expect([await serving(), await stamp()]).toEqual(["good", `${last} green live\n`]);
    const { stdout } = await project.run("rollback", ["--to", `${last}`]);
    expect(stdout).toBe(`Release ${last} serves already.\n`);
  });

  test("leaves none where nginx was down too, and the same to a good release brings all of it back", async () => {
    const [slow, last] = numbers;
    await server.ssh(`rm ${upstream()}; docker stop ${project.name}-nginx-1`);
    const failure = await goBack();
    expect(failure).toStartWith(`Release ${slow} does not serve again: app-blue is not healthy: `);
    expect(failure).toContain("; nothing serves, Postgres and its data stay\n");
    expect((await server.ssh(`test -e ${upstream()}`, { accept: [1] })).exitCode).toBe(1);
    expect(await running()).not.toContain(`${project.name}-app-blue-1`);
    await project.run("rollback", ["--to", `${last}`], { environment: login() });
    expect([await serving(), await stamp()]).toEqual(["good", `${last} green live\n`]);
  });
});

test("the disk fills up while the new release is watched: the old one serves again all the same", async () => {
  await project.configure({ deploy: { bakeSeconds: 20 } });
  const before = await stamp();
  const { exitCode, stderr } = await failInBake(() => server.fillDisk());
  const seen = { stamp: await stamp(), running: await running() };
  await server.freeDisk();
  const slot = before.split(" ")[1];
  expect(seen).toEqual({ stamp: before, running: expect.arrayContaining([`${project.name}-app-${slot}-1`]) });
  expect({ exitCode, release: await serving() }).toEqual({ exitCode: 1, release: "good" });
  expect(failureIn(stderr)).toMatch(/^Release \d+ was not deployed/);
  await project.configure({ deploy: { bakeSeconds: 0 } });
  await project.run("deploy", ["--image", better.pinned], { environment: login() });
  expect(await serving()).toBe("better");
  // Whatever was written half on the full disk, the line after it can be read.
  const { stdout } = await server.ssh(`tail -n 1 ${project.folder}/releases.jsonl`);
  expect(JSON.parse(stdout)).toMatchObject({ outcome: "done", image: better.pinned });
});

test("a first deploy that finds a port taken says so, and leaves nothing that serves", async () => {
  await project.resetServer();
  const other = "docker run --detach --name other --publish 80:80 $(docker images --quiet nginx | head -n 1)";
  await server.ssh(other);
  const { stderr } = await project.run("deploy", ["--image", good.pinned], { environment: login(), accept: [1] });
  await server.ssh("docker rm --force other");
  const { address } = server;
  const failure = failureIn(stderr);
  expect(failure).toStartWith(
    `Release 1 was not deployed: Cannot start nginx on ${address}: port 80 is taken; nothing serves, Postgres and its data stay\n`,
  );
  expect(failure).toEndWith(`
  next: on the server: docker ps; sudo ss -ltnp   # who has it
  next: then the same command again
  read: docs/runbook/port-is-taken.md`);
  expect(await running()).toEqual([`${project.name}-postgres-1`]);
  await project.run("deploy", ["--image", good.pinned], { environment: login() });
  expect(await serving()).toBe("good");
});
