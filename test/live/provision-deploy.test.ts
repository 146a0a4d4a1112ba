// The whole way of a new server, with the shipped verbs alone: bare Debian, provisioned, deployed to twice, its engine restarted
// (nobody notices: provision turns live-restore on), its power cut, rolled back.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { fingerprintOf } from "../../scripts/lib/known-hosts.ts";
import { run } from "../../scripts/lib/run.ts";
import { poll } from "../../scripts/lib/wait.ts";
import { createDeployProject, type DeployProject } from "../lab/deploy-project.ts";
import { recordsOn } from "../lab/deploy-traces.ts";
import { imageNames } from "../lab/images/names.ts";
import { startLoad } from "../lab/load.ts";
import { type Registry, startRegistry } from "../lab/registry.ts";
import { type Server, startServer } from "../lab/server.ts";

setDefaultTimeout(180_000);

let server: Server;
let registry: Registry;
let project: DeployProject;

beforeAll(async () => {
  [server, registry] = await Promise.all([startServer({ kind: "bare" }), startRegistry()]);
  // The project's part of the server's preparation: an owner for its folder, which provision then finds.
  await server.ssh("useradd --create-home --shell /bin/bash deploy");
  project = await createDeployProject({ server, registry, config: { deploy: { bakeSeconds: 0 } } });
  await project.write("known_hosts", "");
}, 300_000);
afterAll(async () => {
  await project?.remove();
  await server?.stop();
  await registry?.stop();
});

const login = () => ({ DBOPS_REGISTRY_USER: registry.user, DBOPS_REGISTRY_PASSWORD: registry.password });
const deploy = async (release: string) => {
  const { pinned } = await project.buildApp({ release });
  return project.run("deploy", ["--image", pinned], { environment: login() });
};

test("a deploy to a server that nobody has vouched for is refused, and says what to do", async () => {
  const { stderr } = await project.run("deploy", ["--image", "any/image:1"], { accept: [2] });
  expect(stderr).toContain(`Cannot trust ${server.address} yet`);
  expect(stderr).toContain("next: bun scripts/provision.ts --pin");
});

test("provisioned, it takes a first deploy; provisioned again, there is nothing to do", async () => {
  const fingerprint = fingerprintOf({ key: server.hostKey.split(" ")[1]! });
  await project.run("provision", ["--yes", "--fingerprint", fingerprint]);
  const { stdout } = await project.run("provision", ["--yes", "--json"]);
  expect(JSON.parse(stdout)).toMatchObject({ steps: [] });
  // What a server elsewhere pulls from public registries.
  await server.loadImages([imageNames.postgres, imageNames.nginx, imageNames.dbmate]);
  await deploy("a1");
  expect((await project.ask("/")).release).toBe("a1");
});

test("under load: a second deploy and a restart of the engine fail no request", async () => {
  const load = await startLoad({ ...project.target, requestsPerSecond: 300 });
  try {
    await deploy("a2");
    expect((await project.ask("/")).release).toBe("a2");
    await server.ssh("service docker restart", { user: "root", timeoutSeconds: 90 });
    const isBack = async () => (await server.ssh("docker info", { accept: [0, 1] })).exitCode === 0 || undefined;
    expect(await poll({ seconds: 30 }, isBack)).toBe(true);
    expect(await load.settle()).toMatchObject({ failed: 0, firstFailures: [] });
  } finally {
    await load.stop();
  }
});

test("after a power cut it serves the same release by itself, and a rollback works", async () => {
  await server.powerOff();
  await server.powerOn();
  const answer = async () => (await project.ask("/").catch(() => undefined))?.release;
  expect(await poll({ seconds: 60 }, answer)).toBe("a2");
  // Postgres may take a few seconds more: until it answers nothing is changed.
  const rollback = () => project.run("rollback", [], { accept: [0, 3] });
  expect(await poll({ seconds: 60 }, async () => (await rollback()).exitCode === 0 || undefined)).toBe(true);
  expect((await project.ask("/")).release).toBe("a1");
  expect((await recordsOn(server, project)).map(({ release, outcome }) => [release, outcome])).toEqual([
    [1, "done"],
    [2, "done"],
    [1, "done"],
  ]);
});

test("the deploy user may do this, and is root nowhere else", async () => {
  const ssh = ["ssh", ...server.sshArguments, `deploy@${server.address}`, "sudo -n true"];
  await run({ argv: ssh, environment: server.environment, accept: [1, 127] });
  const { stdout } = await server.ssh(`stat --format '%U %a' ${join("/opt", project.name)}`);
  expect(stdout).toBe("deploy 755\n");
});
