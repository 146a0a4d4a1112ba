// What the kit promises: no request fails in a deploy. 520 a second, half of them POSTs, on connections that are kept open.
import { afterAll, beforeAll, expect, test } from "bun:test";
import type { Release } from "../../scripts/lib/release.ts";
import type { PushedImage } from "../lab/deploy-app.ts";
import { createDeployProject, type DeployProject } from "../lab/deploy-project.ts";
import { lookAt } from "../lab/deploy-traces.ts";
import { openWebsocket, type Report, slowRequest, startLoad } from "../lab/load.ts";
import { type Registry, startRegistry } from "../lab/registry.ts";
import { type Server, startServer } from "../lab/server.ts";

let server: Server;
let registry: Registry;
let project: DeployProject;
const images: PushedImage[] = [];

beforeAll(async () => {
  [server, registry] = await Promise.all([startServer({ kind: "docker", withImages: true }), startRegistry()]);
  project = await createDeployProject({ server, registry, config: { deploy: { bakeSeconds: 0 } } });
  for (const release of ["a1", "a2", "a3"]) images.push(await project.buildApp({ release }));
  await deploy(images[0]!);
}, 300_000);
afterAll(async () => {
  await project?.remove();
  await server?.stop();
  await registry?.stop();
});

const deploy = async ({ pinned }: PushedImage): Promise<Release> => {
  const environment = { DBOPS_REGISTRY_USER: registry.user, DBOPS_REGISTRY_PASSWORD: registry.password };
  return JSON.parse((await project.run("deploy", ["--image", pinned, "--json"], { environment })).stdout);
};

const tell = (what: string, { requests, failed, rate, milliseconds, seconds, releases }: Report) =>
  console.log(
    `${what}: ${requests} requests in ${Math.round(seconds)} s, ${failed} failed, ${Math.round(rate)} a second`,
    JSON.stringify({ milliseconds, releases }),
  );

test("20 deploys in a row fail no request", async () => {
  const load = await startLoad({ ...project.target, requestsPerSecond: 520 });
  const took: number[] = [];
  for (let count = 1; count <= 20; count++) took.push((await deploy(images[count % images.length]!)).seconds);
  const report = await load.stop();
  took.sort((a, b) => a - b);
  tell(`20 deploys, ${took[0]} to ${took.at(-1)} s each, half of them below ${took[9]} s`, report);
  expect(report).toMatchObject({ failed: 0, failures: {}, firstFailures: [] });
  expect(report.rate).toBeGreaterThanOrEqual(500);
  expect(Object.keys(report.releases).sort()).toEqual(["a1", "a2", "a3"]);
  const { records, traces } = await lookAt(server, project);
  expect(traces.releases).toEqual(["17", "18", "19", "20", "21"]);
  expect(records.slice(-20).map(({ outcome }) => outcome)).toEqual(Array.from({ length: 20 }, () => "done"));
}, 600_000);

test("a slow request is answered by the one that took it, websockets live until the end of the drain", async () => {
  await project.configure({ deploy: { bakeSeconds: 1, drainSeconds: 7 } });
  const load = await startLoad({ ...project.target, requestsPerSecond: 520 });
  const sockets = await Promise.all(Array.from({ length: 5 }, () => openWebsocket(project.target)));
  const old = (await project.ask("/")).release;
  const next = images.find(({ release }) => release !== old)!;
  const slow = slowRequest(project.target, 5);
  const finished = deploy(next);
  await load.until(({ releases }) => (releases[next.release] ?? 0) > 100);
  // It has been taken over, and the old one still talks to those who hold on to it.
  expect(await sockets[0]!.send("still there?")).toBe(`${old}: still there?`);
  expect((await slow).release).toBe(old);
  const { seconds } = await finished;
  const ends = await Promise.all(sockets.map(({ closed }) => closed));
  console.log(`websockets after ${seconds} s:`, ends.map(({ how, code = "" }) => `${how} ${code}`.trim()).join(", "));
  // nginx closes them; a client opens its own anew. None was reset.
  expect(ends.filter(({ how }) => how !== "ended" && how !== "said")).toEqual([]);
  const report = await load.stop();
  tell("1 deploy with 5 websockets and a request of 5 s", report);
  expect(report).toMatchObject({ failed: 0, failures: {}, firstFailures: [] });
  const again = await openWebsocket(project.target);
  expect(await again.send("hello")).toBe(`${next.release}: hello`);
  again.close();
}, 300_000);
