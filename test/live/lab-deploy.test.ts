// What tests of deploys stand on: a project with its server, images that behave as they are called, and load that gets through.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { pipe, run } from "../../scripts/lib/run.ts";
import { poll } from "../../scripts/lib/wait.ts";
import type { Behaviour, PushedImage } from "../lab/deploy-app.ts";
import { createDeployProject, type DeployProject } from "../lab/deploy-project.ts";
import { openWebsocket, slowRequest, startLoad } from "../lab/load.ts";
import { type Registry, startRegistry } from "../lab/registry.ts";
import { type Server, startServer } from "../lab/server.ts";

let server: Server;
let registry: Registry;
let project: DeployProject;
beforeAll(async () => {
  [server, registry] = await Promise.all([startServer({ kind: "docker", withImages: true }), startRegistry()]);
  project = await createDeployProject({ server, registry, config: { deploy: { bakeSeconds: 1 } } });
  await server.ssh(`docker login --username ${registry.user} --password-stdin ${registry.address} <<'END'
${registry.password}
END`);
}, 300_000);
afterAll(async () => {
  await project?.remove();
  await server?.stop();
  await registry?.stop();
});

test("the project's verbs find their configuration, the server by its key, and every secret", async () => {
  const program = `
    import { loadConfig } from "./scripts/lib/config.ts";
    import { readTemplate, resolveTemplate } from "./scripts/lib/secret.ts";
    const { environments, secrets, deploy } = await loadConfig();
    const values = await resolveTemplate(secrets, await readTemplate(".env.tpl"), ".");
    console.log(JSON.stringify([environments.production, deploy.bakeSeconds, Object.fromEntries(values)]));`;
  const { directory, environment, secrets } = project;
  const { stdout } = await run({ argv: ["bun", "--eval", program], directory, environment });
  const production = {
    ...{ server: `deploy@${server.address}`, port: 22, directory: "/opt/shop" },
    ...{ domain: "shop.test", image: `${registry.address}/shop` },
  };
  const values = Object.entries(secrets).map(([name, value]) => [`secret://${name}`, value]);
  expect(JSON.parse(stdout)).toEqual([production, 1, Object.fromEntries(values)]);
  expect(Object.keys(secrets)).toContain("POSTGRES_PASSWORD");

  const ssh = ["ssh", "-F", "none", "-i", environment.DBOPS_SSH_KEY_FILE!, "-o", "UserKnownHostsFile=known_hosts"];
  const argv = [...ssh, "-o", "StrictHostKeyChecking=yes", `deploy@${server.address}`, "touch /opt/shop/mine; id -un"];
  expect((await run({ argv, directory, environment })).stdout).toBe("deploy\n");
});

/** Prints what the container answers, once it listens. */
const ask = (path: string) => `
until docker logs it 2>&1 | grep -q listening; do sleep 0.05; done
docker exec it bun -e 'const answer = await fetch("http://127.0.0.1:3000${path}"); console.log(answer.status, await answer.text())'
`;
const begin = 'docker run --detach --name it --env HEALTH_TOKEN= "$image" >/dev/null';
const end = (seconds: number) =>
  `docker stop --time ${seconds} it >/dev/null; docker inspect --format '{{.State.ExitCode}}' it`;

const rows: { behaviour: Behaviour; amount?: number; does: string; script: string; prints: string }[] = [
  {
    behaviour: "ok",
    does: "is ready, and stops when it is told to",
    script: [begin, ask("/health/ready"), ask("/?id=7"), end(9)].join("\n"),
    prints: '200 {"status":"ready","release":"r"}\n200 {"release":"r","id":"7","bytes":0}\n0\n',
  },
  {
    behaviour: "crash",
    does: "says why, exits 3",
    script: 'docker run --name it "$image" 2>&1 | grep -o "cannot.*"; docker inspect --format "{{.State.ExitCode}}" it',
    prints: "cannot find the engine room\n3\n",
  },
  {
    behaviour: "prints-environment",
    does: "prints what it was given, exits 3",
    script:
      'docker run --name it --env GIVEN=hunter2 "$image" | grep GIVEN; docker inspect --format "{{.State.ExitCode}}" it',
    prints: "GIVEN=hunter2\n3\n",
  },
  {
    behaviour: "out-of-memory",
    does: "is killed for it",
    script:
      'docker run --name it --memory 128m "$image" >/dev/null; docker inspect --format "{{.State.ExitCode}} {{.State.OOMKilled}}" it',
    prints: "137 true\n",
  },
  {
    behaviour: "unhealthy",
    does: "is never ready",
    script: [begin, ask("/health"), ask("/health/ready")].join("\n"),
    prints: '200 {"status":"ok","release":"r"}\n503 {"status":"unready","release":"r"}\n',
  },
  {
    behaviour: "wrong-release",
    does: "is ready as another release",
    script: [begin, ask("/health/ready")].join("\n"),
    prints: '200 {"status":"ready","release":"not-r"}\n',
  },
  {
    behaviour: "slow-boot",
    amount: 1000,
    does: "takes its time, then is ready",
    script: `${begin}${ask("/health/ready")}docker logs it | grep -cE '"listening".*"milliseconds":[0-9]{4}'`,
    prints: '200 {"status":"ready","release":"r"}\n1\n',
  },
  {
    behaviour: "live-errors",
    does: "is ready, and answers everything else with 500",
    script: [begin, ask("/health/ready"), ask("/")].join("\n"),
    prints: '200 {"status":"ready","release":"r"}\n500 {"error":"the engine room is on fire","release":"r"}\n',
  },
  {
    behaviour: "degraded",
    does: "is ready, with a degraded database",
    script: [begin, ask("/health/ready"), ask("/health/database")].join("\n"),
    prints: '200 {"status":"ready","release":"r"}\n200 {"status":"degraded","release":"r"}\n',
  },
  {
    behaviour: "deaf",
    does: "has to be killed",
    script: [begin, ask("/health/ready"), end(1)].join("\n"),
    prints: '200 {"status":"ready","release":"r"}\n137\n',
  },
  {
    behaviour: "worker",
    amount: 10,
    does: "prints that it is at work",
    script: `${begin}\nuntil docker logs it | grep -q tick; do sleep 0.05; done; docker logs it | grep -om1 '"tick","release":"r"'`,
    prints: '"tick","release":"r"\n',
  },
];

test.each(rows)(
  'an app that is "$behaviour" $does',
  async ({ behaviour, amount, script, prints }) => {
    const built = await project.buildApp({ release: "r", behaviour, ...(amount && { amount }) });
    const { stdout } = await server.ssh(
      `trap 'docker rm --force it >/dev/null' EXIT\nimage=${built.pinned}\n${script}`,
    );
    expect(stdout).toBe(prints);
  },
  120_000,
);

test("500 requests a second come through, with a websocket open and a slow request, and what fails is counted", async () => {
  const [good, failing] = await Promise.all([
    project.buildApp({ release: "a1" }),
    project.buildApp({ release: "bad", behaviour: "live-errors", amount: 50 }),
  ]);
  expect((await slotUp(good))?.release).toBe("a1");
  const socket = await openWebsocket(project.target);
  expect(await socket.send("hello")).toBe("a1: hello");
  const slow = slowRequest(project.target, 2);
  const load = await startLoad({ ...project.target, requestsPerSecond: 520 });
  await load.until(({ requests }) => requests >= 2500);
  const well = await load.settle();
  console.log(`${well.requests} requests, ${well.failed} failed, ${well.rate} a second`, well.milliseconds);
  expect(well).toMatchObject({ failed: 0, firstFailures: [], releases: { a1: well.ok } });
  expect(well.rate).toBeGreaterThanOrEqual(500);
  expect((await slow).release).toBe("a1");
  expect(socket.isOpen()).toBe(true);

  // In place, which is what a deploy never does: requests fail while nobody is there, and then half of those of the bad one.
  await slotUp(failing);
  const { failures } = await load.until(({ releases }) => (releases.bad ?? 0) > 200);
  expect((await socket.closed).how).not.toBe("by us");
  const { requests, ok, failed } = await load.stop();
  expect(failures["5xx"]).toBeGreaterThan(100);
  expect(ok + failed).toBe(requests);
}, 180_000);

test("the starter app is pushed as two releases", async () => {
  const [one, two] = [await project.buildStarter({ release: "s1" }), await project.buildStarter({ release: "s2" })];
  expect(one.digest).not.toBe(two.digest);
  expect(JSON.parse((await slotUp(two))!.body)).toMatchObject({ accounts: "/accounts" });
  const { HEALTH_TOKEN = "" } = project.secrets;
  const headers = { "x-health-token": HEALTH_TOKEN };
  const answer = await project.ask("/health/ready", { headers });
  expect(JSON.parse(answer.body)).toMatchObject({ status: "ready", release: "s2" });
  const load = await startLoad({ ...project.target, requestsPerSecond: 100, path: "/health", echo: false, headers });
  await load.until(({ ok }) => ok > 50);
  const report = await load.stop();
  expect(report).toMatchObject({ failed: 0, releases: { s2: report.requests } });
}, 300_000);

test("resetServer() leaves the server as before the first deploy, and no image stays in the lab's engine", async () => {
  await project.resetServer();
  const { stdout } = await server.ssh(
    `docker ps --all --quiet; docker volume ls --quiet; docker image ls --quiet ${project.image}; ls -A ${project.folder}`,
  );
  expect(stdout).toBe("certificates\n");
  const argv = ["docker", "image", "ls", "--quiet", project.image];
  expect((await run({ argv, environment: registry.environment })).stdout).toBe("");
  await project.remove();
  expect(existsSync(project.directory)).toBe(false);
});

/** As by hand: the files, an .env, `docker compose up`. */
async function slotUp({ pinned }: PushedImage) {
  await pipe([
    { argv: ["tar", "--create", "--exclude=node_modules", "--exclude=known_hosts", "."], directory: project.directory },
    {
      argv: ["ssh", ...server.sshArguments, `deploy@${server.address}`, `tar --extract --directory=${project.folder}`],
      environment: server.environment,
    },
  ]);
  const values = {
    COMPOSE_FILE: "compose.yaml:compose/production.yaml",
    COMPOSE_PROFILES: "blue",
    IMAGE_BLUE: pinned,
    ...project.secrets,
  };
  const lines = Object.entries(values).map(([name, value]) => `${name}=${value}`);
  await server.ssh(
    `cd ${project.folder} && (umask 077; cat >.env) <<'END' && docker compose up --detach --wait\n${lines.join("\n")}\nEND`,
    { timeoutSeconds: 120 },
  );
  // nginx looks the slot's new address up within three seconds.
  return await poll({ seconds: 20 }, async () => {
    const answer = await project.ask("/");
    return answer.status === 502 ? undefined : answer;
  });
}
