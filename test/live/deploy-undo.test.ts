// Undoing under the worst conditions: the disk is full, the release brought a worker along, the upstream file is lost. What served
// goes on serving, and nobody says "as before" when it is not so.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
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
  await project.edit("compose/production.yaml", (text) =>
    text.replace(
      "services:\n",
      "services:\n  worker:\n    image: ${RELEASE_IMAGE:-none.invalid/none}\n    networks: [database]\n    environment: { BEHAVIOUR: worker }\n\n",
    ),
  );
  await project.configure({ deploy: { bakeSeconds: 20, stopFirst: ["worker"] } });
  const { exitCode, stderr } = await failInBake(async () => {});
  expect({ exitCode, release: await serving() }).toEqual({ exitCode: 1, release: "good" });
  expect(failureIn(stderr)).toMatch(/; release \d+ serves as before\n/);
  expect(await running()).not.toContain(`${project.name}-worker-1`);
});

test("an upstream file that says nothing: no deploy takes the server for an empty one, and a rollback mends it", async () => {
  await project.configure({ deploy: { bakeSeconds: 0 } });
  await server.ssh(`truncate --size 0 ${project.folder}/nginx/upstream/production.conf`);
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
  await project.run("rollback", ["--to", `${live}`], { environment: login() });
  expect(await serving()).toBe("good");
  expect(await stamp()).toBe(`${live} blue live\n`);
});

test("the disk fills up while the new release is watched: the old one serves again all the same", async () => {
  await project.configure({ deploy: { bakeSeconds: 20 } });
  const before = await stamp();
  const { exitCode, stderr } = await failInBake(() => server.fillDisk());
  const seen = { stamp: await stamp(), running: await running() };
  await server.freeDisk();
  expect(seen).toEqual({ stamp: before, running: expect.arrayContaining([`${project.name}-app-blue-1`]) });
  expect({ exitCode, release: await serving() }).toEqual({ exitCode: 1, release: "good" });
  expect(failureIn(stderr)).toMatch(/^Release \d+ was not deployed/);
  await project.configure({ deploy: { bakeSeconds: 0 } });
  await project.run("deploy", ["--image", better.pinned], { environment: login() });
  expect(await serving()).toBe("better");
  // Whatever was written half on the full disk, the line after it can be read.
  const { stdout } = await server.ssh(`tail -n 1 ${project.folder}/releases.jsonl`);
  expect(JSON.parse(stdout)).toMatchObject({ outcome: "done", image: better.pinned });
});
