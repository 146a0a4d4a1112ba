// scripts/deploy.ts as it is meant to go: the first time, the next time, with nothing to do; and everything it does on the way.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chmod, readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Plan } from "../../scripts/lib/deploy-plan.ts";
import type { Release } from "../../scripts/lib/release.ts";
import { type Result, run, start } from "../../scripts/lib/run.ts";
import { poll } from "../../scripts/lib/wait.ts";
import type { PushedImage } from "../lab/deploy-app.ts";
import { createDeployProject, type DeployProject } from "../lab/deploy-project.ts";
import { failureIn, lookAt } from "../lab/deploy-traces.ts";
import { startLoad } from "../lab/load.ts";
import { type Registry, startRegistry } from "../lab/registry.ts";
import { type Server, startServer } from "../lab/server.ts";
import { startSink } from "../lab/sink.ts";

let server: Server;
let registry: Registry;
let project: DeployProject;
const images: Record<string, PushedImage> = {};

beforeAll(async () => {
  [server, registry] = await Promise.all([startServer({ kind: "docker", withImages: true }), startRegistry()]);
  project = await createDeployProject({ server, registry, config: { deploy: { bakeSeconds: 1 } } });
  for (const release of ["a1", "a2"]) images[release] = await project.buildApp({ release });
  images.crash = await project.buildApp({ release: "crash", behaviour: "crash" });
  images.errors = await project.buildApp({ release: "errors", behaviour: "live-errors" });
}, 300_000);
afterAll(async () => {
  await project?.remove();
  await server?.stop();
  await registry?.stop();
});

const login = () => ({ DBOPS_REGISTRY_USER: registry.user, DBOPS_REGISTRY_PASSWORD: registry.password });

type Options = { environment?: Record<string, string>; accept?: number[] };
const deploy = (words: readonly string[], { environment = {}, ...options }: Options = {}) =>
  project.run("deploy", words, { environment: { ...login(), ...environment }, ...options });

/** The words of every request that a deploy sends, in their order. */
async function requestsOf(words: readonly string[]): Promise<{ requests: string[]; result: Result }> {
  const log = join(project.directory, "requests");
  const ssh = join(project.directory, "listening", "ssh");
  const real = (await run({ argv: ["which", "ssh"], environment: server.environment })).stdout.trim();
  await project.write("listening/ssh", `#!/bin/bash\nexec ${real} "$@" < <(exec tee ${log})\n`);
  await chmod(ssh, 0o755);
  const PATH = `${join(project.directory, "listening")}:${project.environment.PATH}`;
  const result = await deploy(words, { environment: { PATH } });
  // What follows a tar follows its zeros.
  const sent = [...(await readFile(log, "latin1")).matchAll(/[\n\0]call \d+ \d+ (\w+)/g)];
  return { requests: sent.map(([, name]) => name!), result };
}

/** Steps of a progress, as people see them. */
const stepsIn = (stderr: string) => [...stderr.matchAll(/^ {2}(done {2}|FAILED) (\w+)/gm)].map(([, , name]) => name);

const parse = <T>({ stdout }: Result): T => {
  expect(stdout.trim().split("\n")).toHaveLength(1);
  return JSON.parse(stdout) as T;
};

describe("an empty server", () => {
  test("is not changed by a plan", async () => {
    const before = await lookAt(server, project);
    const { stdout } = await deploy(["--image", images.a1!.pinned, "--plan"]);
    expect(stdout.split("\n")[0]).toBe(`==> shop on ${server.address}: release 1 into blue; nothing serves yet`);
    expect(stdout).toContain("\n  services  start postgres, start nginx\n  migrate   4 pending: 20260101090000, ");
    expect(await lookAt(server, project)).toEqual(before);
    expect(before.traces).toMatchObject({ containers: [], releases: [], serving: [] });
    expect((await deploy(["--history"])).stdout).toBe("There is no release yet.\n");
  });

  test("whose first release fails is left without one, and the next starts anew", async () => {
    const { stderr } = await deploy(["--image", images.crash!.pinned], { accept: [1] });
    const [first] = failureIn(stderr).split("\n");
    expect(first!.replace(/\d times/, "N times")).toBe(
      "Release 1 was not deployed: app-blue does not start: it has ended N times; nothing serves, Postgres and its data stay; " +
        "what it migrated stays applied: 20260101090000, 20260101090100, 20260101090200, 20260101090300",
    );
    const { containers, releases, sessions } = (await lookAt(server, project)).traces;
    expect({ containers, releases, sessions }).toEqual({
      containers: ["postgres running"],
      releases: [],
      sessions: [],
    });
    const { stdout } = await deploy(["--image", images.a1!.pinned, "--plan"]);
    expect(stdout.split("\n")[0]).toBe(`==> shop on ${server.address}: release 2 into blue; nothing serves yet`);
    await deploy(["--image", images.a1!.pinned]);
    expect((await project.ask("/")).release).toBe("a1");
    await project.resetServer();
  });

  test("gets its first release; with --json one document says so", async () => {
    const result = await deploy(["--image", images.a1!.pinned, "--json"]);
    const release = parse<Release>(result);
    const { stdout: id } = await server.ssh(`docker image inspect --format '{{.Id}}' ${images.a1!.pinned}`);
    expect(release).toEqual({
      ...{ release: 1, verb: "deploy", image: images.a1!.pinned, reference: images.a1!.pinned, imageId: id.trim() },
      ...{ configHash: expect.stringMatching(/^[0-9a-f]{16}$/), slot: "blue", schemaVersion: "20260101090300" },
      ...{ previous: 0, who: expect.stringMatching(/.@./), at: expect.stringMatching(/^\d{4}-.*Z$/), outcome: "done" },
      ...{ seconds: expect.any(Number), steps: expect.any(Object) },
    });
    const { traces, records } = await lookAt(server, project);
    expect(records).toEqual([release]);
    expect(stepsIn(result.stderr)).toEqual([
      ...["secrets", "connect", "observe", "lock", "upload", "image", "files", "services", "migrate", "start"],
      ...["healthy", "switch", "bake", "commit", "drain"],
    ]);
    const { containers, serving, sessions, releases, files } = traces;
    expect({ containers, serving, sessions, releases }).toEqual({
      containers: ["app-blue running", "nginx running", "postgres running"],
      serving: ["1 blue live"],
      sessions: [],
      releases: ["1"],
    });
    expect(files.filter((line) => !/^\S+ 644 /.test(line)).map((line) => line.split(" ").slice(0, 2))).toEqual([
      ["./.env", "600"],
    ]);
    expect((await project.ask("/")).release).toBe("a1");
  });
});

describe("with nothing to do", () => {
  test("a digest is told after one round trip, and nothing is changed", async () => {
    const before = await lookAt(server, project);
    const { requests, result } = await requestsOf(["--image", images.a1!.pinned]);
    expect(requests).toEqual(["observe"]);
    expect(result.stdout).toBe("Release 1 serves exactly this already.\n");
    expect(stepsIn(result.stderr)).toEqual(["secrets", "connect", "observe"]);
    expect(await lookAt(server, project)).toEqual(before);
    const document = parse(await deploy(["--image", images.a1!.pinned, "--json"]));
    expect(document).toEqual({ outcome: "nothing to do", release: 1, image: images.a1!.pinned });
    const { stdout } = await deploy(["--image", images.a1!.pinned, "--plan"]);
    expect(stdout).toBe(`==> shop on ${server.address}: nothing to do; release 1 serves from blue\n`);
  });
});

describe("the next release", () => {
  test("is planned without a change, in one document with --json", async () => {
    const before = await lookAt(server, project);
    const plan = parse<Plan>(await deploy(["--image", images.a2!.reference, "--plan", "--json"]));
    expect(plan).toMatchObject({ nothing: false, release: 2, slot: "green", services: [], pending: [], downtime: [] });
    expect(plan.steps.map(({ name }) => `${name}`)).toEqual([
      ...["lock", "upload", "image", "files", "start", "healthy", "switch", "bake", "commit", "drain"],
    ]);
    expect(await lookAt(server, project)).toEqual(before);
  });

  test("comes beside the first, takes over, and says how to go back", async () => {
    const load = await startLoad({ ...project.target, requestsPerSecond: 60, clients: 6 });
    const { stdout, stderr } = await deploy(["--image", images.a2!.reference]);
    await load.until(({ releases }) => (releases.a2 ?? 0) > 20);
    expect(await load.stop()).toMatchObject({ failed: 0, firstFailures: [] });
    expect(stdout.replace(/after [\d.]+ s/, "after N s")).toBe(
      `Release 2 serves ${images.a2!.reference} from green, after N s; schema 20260101090300
  back: bun scripts/rollback.ts      # to release 1
  next: bun scripts/deploy.ts --history
`,
    );
    // The table at the end has every step again, and the sum.
    const table = stderr.slice(stderr.lastIndexOf("\n  done"));
    expect([...table.matchAll(/^ {2}(\w+|in all) +[\d.]+ s$/gm)].map(([, name]) => name)).toEqual([
      ...stepsIn(stderr),
      "in all",
    ]);
    const { traces, records } = await lookAt(server, project);
    const [first, second] = records;
    expect(second).toMatchObject({
      release: 2,
      image: images.a2!.reference,
      reference: images.a2!.pinned,
      previous: 1,
    });
    expect(second!.configHash).toBe(first!.configHash);
    const { containers, serving } = traces;
    expect({ containers, serving }).toEqual({
      containers: ["app-blue exited", "app-green running", "nginx running", "postgres running"],
      serving: ["2 green live"],
    });
  });

  test("by its tag has nothing to do either, once the registry has said what the tag means", async () => {
    const { requests, result } = await requestsOf(["--image", images.a2!.reference]);
    expect(requests).toEqual(["observe", "pull"]);
    expect(result.stdout).toBe("Release 2 serves exactly this already.\n");
  });

  test("is what Compose by hand means, and what a reboot starts", async () => {
    const ids = `docker ps --no-trunc --format '{{.ID}} {{.Label "com.docker.compose.service"}}' | sort`;
    const before = (await server.ssh(ids)).stdout;
    const byHand = "docker compose up --detach --wait && docker compose rm --force migrations";
    await server.ssh(`cd ${project.folder} && ${byHand}`, { timeoutSeconds: 120 });
    expect((await server.ssh(ids)).stdout).toBe(before);
    await server.powerOff();
    await server.powerOn();
    while ((await project.ask("/").catch(() => undefined))?.release !== "a2") await Bun.sleep(100);
    expect((await server.ssh(ids)).stdout).toBe(before);
  });

  test("is in the history, for people and as one document", async () => {
    const { stdout } = await deploy(["--history"]);
    const lines = stdout.trimEnd().split("\n");
    expect(lines.map((line) => line.split(/\s{2,}/).slice(0, 3))).toEqual([
      ["release", "verb", "outcome"],
      ["2 *", "deploy", "done"],
      ["1", "deploy", "done"],
    ]);
    const { live, records } = parse<{ live: number; records: Release[] }>(await deploy(["--history", "--json"]));
    const written = (await lookAt(server, project)).records;
    expect({ live, records }).toEqual({ live: 2, records: written.map((record) => ({ ...record, kept: true })) });
  });
});

test("hooks and notifications are told how it ended, and none of them sees a secret", async () => {
  const sink = await startSink();
  const told = (name: string) => ["sh", "-c", `env | grep -E '^(DBOPS_|POSTGRES_PASSWORD)' | sort >${name}.txt`];
  const hooks = { before: told("before"), after: told("after"), afterFailure: told("failure") };
  const notifications = [
    { kind: "webhook", urlFrom: "EVERYTHING_URL" } as const,
    { kind: "slack", urlFrom: "TROUBLE_URL", on: "failure" } as const,
  ];
  await project.configure({ deploy: { bakeSeconds: 20, hooks }, notifications });
  const environment = { EVERYTHING_URL: `${sink.url}/everything`, TROUBLE_URL: `${sink.url}/trouble` };
  const heard = async (name: string) =>
    Object.fromEntries(
      (await readFile(join(project.directory, `${name}.txt`), "utf8"))
        .trim()
        .split("\n")
        .map((line) => line.split("=")),
    );
  const key = { DBOPS_SSH_KEY_FILE: project.environment.DBOPS_SSH_KEY_FILE };
  try {
    const load = await startLoad({ ...project.target, requestsPerSecond: 60, clients: 6 });
    const { stderr } = await deploy(["--image", images.errors!.pinned], { environment, accept: [1] }).finally(
      load.stop,
    );
    const about = { DBOPS_ENVIRONMENT: "production", DBOPS_RELEASE: "3", DBOPS_PREVIOUS_RELEASE: "2" };
    const facts = { ...key, ...about, DBOPS_IMAGE: images.errors!.pinned };
    expect(await heard("before")).toEqual(facts);
    expect(await heard("failure")).toEqual({ ...facts, DBOPS_OUTCOME: "undone" });
    const [summary] = failureIn(stderr).split("\n");
    const news = { what: "deploy", project: "shop", environment: "production", who: expect.stringMatching(/.@./) };
    const received = [...sink.requests].sort((a, b) => a.path.localeCompare(b.path));
    expect(received.map(({ path }) => path)).toEqual(["/everything", "/trouble"]);
    expect(JSON.parse(received[0]!.body)).toEqual({
      ...news,
      ...{ outcome: "undone", release: 3, image: images.errors!.pinned, summary, seconds: expect.any(Number) },
      details: expect.stringContaining('"behaviour":"live-errors"'),
    });

    sink.clear();
    await project.configure({ deploy: { bakeSeconds: 1, hooks }, notifications });
    await deploy(["--image", images.a1!.pinned], { environment });
    expect(await heard("after")).toEqual({
      ...facts,
      ...{ DBOPS_RELEASE: "4", DBOPS_IMAGE: images.a1!.pinned, DBOPS_OUTCOME: "done" },
    });
    expect(sink.requests.map(({ path }) => path)).toEqual(["/everything"]);
    expect(JSON.parse(sink.requests[0]!.body)).toEqual({
      ...news,
      ...{ outcome: "done", release: 4, image: images.a1!.pinned, seconds: expect.any(Number) },
      summary: `release 4 serves ${images.a1!.pinned}`,
    });
  } finally {
    await sink.stop();
    await project.configure({ deploy: { bakeSeconds: 1 }, notifications: [] });
  }
});

test('keepPrevious "running": the old one goes on beside the new one, and gets no request', async () => {
  await project.configure({ deploy: { bakeSeconds: 0, keepPrevious: "running" } });
  await deploy(["--image", images.a2!.pinned]);
  const { containers, serving } = (await lookAt(server, project)).traces;
  expect({ containers, serving }).toEqual({
    containers: ["app-blue running", "app-green running", "nginx running", "postgres running"],
    serving: ["5 green live"],
  });
  const answers = await Promise.all(Array.from({ length: 20 }, () => project.ask("/")));
  expect(new Set(answers.map(({ release }) => release))).toEqual(new Set(["a2"]));
  const upstream = await server.ssh(`grep '^  server' ${project.folder}/nginx/upstream/production.conf`);
  expect(upstream.stdout).toBe(
    "  server app-green:3000 resolve max_fails=0;\n  server app-blue:3000 resolve max_fails=0 down;\n",
  );
  await project.configure({ deploy: { bakeSeconds: 1 } });
});

describe("a worker", () => {
  type Tick = { container: string; time: string; release: string };
  const ticks: Tick[] = [];
  const worker = `  worker:
    <<: *service
    image: \${RELEASE_IMAGE:-not-set.invalid/x}
    environment: { BEHAVIOUR: worker, AMOUNT: "20" }
    networks: [database]
    healthcheck: { disable: true }

  nginx:`;

  test("is stopped before the next one starts, also on the way back: there are never two", async () => {
    // Every container of it, from its first line to its last: those that are removed meanwhile, too.
    const script = `follow() { docker logs --follow "$1" 2>/dev/null | sed -u "s/^/$1 /"; }
docker events --since 0m --filter label=com.docker.compose.service=worker --filter event=start --format '{{.ID}}' |
  while read -r id; do follow "$id" & done`;
    const follower = await start({
      argv: ["ssh", ...server.sshArguments, `deploy@${server.address}`, script],
      environment: server.environment,
      onLine(line) {
        const [container = "", text = ""] = line.split(/ (.*)/s);
        if (text.includes('"tick"')) ticks.push({ container, ...JSON.parse(text) });
      },
    });
    try {
      await project.edit("compose.yaml", (text) => text.replace("  nginx:", worker));
      await project.configure({ deploy: { bakeSeconds: 0, stopFirst: ["worker"] } });
      await deploy(["--image", images.a1!.pinned]);
      await comes("a1", 1);
      await deploy(["--image", images.a2!.pinned]);
      await comes("a2", 2);

      await project.configure({ deploy: { bakeSeconds: 20, stopFirst: ["worker"] } });
      const load = await startLoad({ ...project.target, requestsPerSecond: 60, clients: 6 });
      await deploy(["--image", images.errors!.pinned], { accept: [1] }).finally(load.stop);
      await comes("a2", 4);
    } finally {
      await follower.stop("SIGTERM", 5);
    }
    const containers = [...new Set(ticks.map(({ container }) => container))];
    const times = containers.map((container) => {
      const own = ticks.filter((tick) => tick.container === container);
      return { release: own[0]!.release, first: own[0]!.time, last: own.at(-1)!.time };
    });
    times.sort((a, b) => a.first.localeCompare(b.first));
    expect(times.map(({ release }) => release)).toEqual(["a1", "a2", "errors", "a2"]);
    const overlaps = times.slice(1).filter(({ first }, index) => first <= times[index]!.last);
    expect(overlaps).toEqual([]);
    expect((await lookAt(server, project)).records.at(-1)).toMatchObject({ outcome: "undone" });
  });

  const comes = async (release: string, containers: number) => {
    const seen = () => new Set(ticks.map(({ container }) => container)).size;
    while (seen() < containers || ticks.at(-1)!.release !== release) await Bun.sleep(50);
  };

  test("that would keep its old image, because nobody has named it, is refused before anything is done", async () => {
    const before = await lookAt(server, project);
    const refused = async (stopFirst: string[]) => {
      await project.configure({ deploy: { bakeSeconds: 0, stopFirst } });
      return failureIn((await deploy(["--image", images.a1!.pinned], { accept: [2] })).stderr);
    };
    expect(
      await refused([]),
    ).toBe(`Nothing was deployed: worker would keep the old image: RELEASE_IMAGE is replaced only in services that deploy.stopFirst names
  next: in dbops.config.ts: deploy: { stopFirst: ["worker"] }
  read: docs/deploy.md`);
    expect(
      await refused(["wroker"]),
    ).toBe(`Nothing was deployed: deploy.stopFirst names wroker, and compose.yaml and compose/ have no such service
  next: correct deploy.stopFirst in dbops.config.ts
  read: docs/deploy.md`);
    // Where the definitions are the live ones and are not asked for again, and where they are.
    const anyChange = (text: string) => `${text}\n# any change`;
    await project.edit("compose/production.yaml", anyChange);
    expect(await refused([])).toContain("worker would keep the old image");
    await project.edit("compose/production.yaml", (text) => text.replace(anyChange(""), ""));
    const { stdout } = await project.run("rollback", ["--plan"], { environment: login() });
    expect(stdout).toContain(
      "\n  warning: worker has RELEASE_IMAGE, and deploy.stopFirst does not name it: it stays as it is",
    );
    expect(await lookAt(server, project)).toEqual(before);
  });

  test("that is missing is a reason to deploy", async () => {
    await project.configure({ deploy: { bakeSeconds: 0, stopFirst: ["worker"] } });
    const said = async () => (await deploy(["--image", images.a2!.pinned, "--plan"])).stdout.split("\n")[0];
    expect(await said()).toContain("nothing to do");
    await server.ssh("docker stop shop-worker-1");
    expect(await said()).toMatch(/ into (blue|green); /);
    await project.edit("compose.yaml", (text) => text.replace(worker, "  nginx:"));
    await project.configure({ deploy: { bakeSeconds: 0 } });
    await server.ssh("docker rm --force shop-worker-1");
  });
});

test("what visitors get instead of a good certificate is said", async () => {
  const folder = `${project.folder}/certificates`;
  const asRoot = (script: string) => server.ssh(`set -e\ncd ${folder}\n${script}`, { user: "root" });
  const reload = "docker exec shop-nginx-1 nginx -c /etc/nginx/dbops/production.conf -s reload";
  // What was read before the reload may still be seen for a moment.
  const says = (text: string | undefined) =>
    poll({ seconds: 30, everyMilliseconds: 100 }, async () => {
      const { stdout } = await deploy(["--image", images.a2!.pinned, "--plan"]);
      return stdout.split("\n").find((line) => line.includes("certificate")) === text ? true : undefined;
    });
  const line = (text: string) => `  warning: ${text}`;
  const renew = `on the server: cd ${project.folder} && docker compose run --rm certbot`;
  await asRoot("install -d /root/good && cp --archive *.pem /root/good/");
  try {
    expect(await says(undefined)).toBe(true);
    await asRoot("chown root privkey.pem && chmod 600 privkey.pem");
    await asRoot(reload);
    const look = `on the server: cd ${project.folder} && docker compose logs --tail 20 nginx`;
    const unusable = `nginx cannot use what is in certificates/, no visitor gets through: docs/runbook/no-certificate.md; ${look}`;
    expect(await says(line(unusable))).toBe(true);

    const key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -keyout privkey.pem -out fullchain.pem";
    await asRoot(`openssl req -x509 ${key} -days 5 -subj /CN=shop.test 2>/dev/null; chown 101 *.pem; chmod 400 *.pem`);
    await asRoot(reload);
    const end = new Date(Date.now() + 5 * 86_400_000).toISOString().slice(0, 10);
    expect(await says(line(`the certificate ends on ${end}, in 4 days; ${renew}`))).toBe(true);

    await asRoot("rm *.pem");
    const missing = `there is no certificate: visitors get 503 until, ${renew}`;
    expect(await says(line(missing))).toBe(true);
    // Also at the end of a deploy, and where there is nothing to do.
    const { stdout, stderr } = await deploy(["--image", images.a2!.pinned]);
    expect(stdout).toMatch(/^Release \d+ serves /);
    expect(stderr.slice(stderr.indexOf("done   drain"))).toContain(`\n         warning: ${missing}\n`);
    expect((await deploy(["--image", images.a2!.pinned])).stderr).toContain(`\n         warning: ${missing}\n`);
  } finally {
    await asRoot(`rm -f *.pem; cp --archive /root/good/*.pem . && ${reload}`);
  }
  expect(await says(undefined)).toBe(true);
});

describe("without a registry", () => {
  test("--build makes the image here and sends it over SSH", async () => {
    registry.pause();
    try {
      const release = parse<Release>(await deploy(["--build", "--json"]));
      expect(release.image).toMatch(new RegExp(`^${project.image}:\\d{14}$`));
      expect(release).toMatchObject({ reference: `shop-release:${release.release}`, outcome: "done" });
      const headers = { "x-health-token": project.secrets.HEALTH_TOKEN! };
      const ready = await project.ask("/health/ready", { headers });
      expect(JSON.parse(ready.body)).toMatchObject({ status: "ready", release: release.image.split(":").at(-1) });
      // The starter app uses the database that the deploy has migrated.
      expect((await project.ask("/health/database", { headers })).status).toBe(200);

      const again = parse<Release>(await deploy(["--image", release.image, "--transfer", "ssh", "--json"]));
      expect(again).toEqual({ outcome: "nothing to do", release: release.release, image: release.image } as never);
      await run({ argv: ["docker", "image", "rm", release.image], environment: registry.environment });
    } finally {
      registry.resume();
    }
  });

  test.each(["a tag", "a digest"] as const)(
    "--image with %s and --transfer ssh sends what the Docker here has",
    async (by) => {
      const docker = (...words: string[]) => run({ argv: ["docker", ...words], environment: registry.environment });
      const { release, pinned } = await project.buildApp({ release: `by-${by.split(" ")[1]}` });
      await docker("pull", "--quiet", pinned);
      await docker("tag", pinned, "shop:local");
      const image = by === "a tag" ? "shop:local" : pinned;
      registry.pause();
      try {
        const record = parse<Release>(await deploy(["--image", image, "--transfer", "ssh", "--json"]));
        expect(record).toMatchObject({ image, reference: `shop-release:${record.release}`, outcome: "done" });
        expect((await project.ask("/")).release).toBe(release);
      } finally {
        registry.resume();
        await docker("image", "rm", "--force", "shop:local", pinned);
      }
      const { stderr } = await deploy(["--image", image, "--transfer", "ssh"], { accept: [2] });
      expect(failureIn(stderr)).toBe(`Cannot send ${image} over SSH: the Docker here does not have it
  next: docker pull ${image}
  next: or bun scripts/deploy.ts --build`);
    },
  );
});

test("on Deno it goes the same way, and what is beyond keepReleases is pruned", async () => {
  const ours = `docker image ls --format '{{.Repository}}:{{.Tag}}' | grep -E '^shop-release|^${project.image}' | sort`;
  const sent = (await server.ssh(ours)).stdout.split("\n").filter((line) => line.startsWith("shop-release"));
  expect(sent.length).toBeGreaterThan(2);
  await project.configure({ deploy: { bakeSeconds: 0, keepReleases: 2 } });
  const argv = ["deno", "run", "--allow-all", "scripts/deploy.ts", "--image", images.a1!.pinned, "--json"];
  const { directory, environment } = project;
  const result = await run({ argv, directory, environment: { ...environment, ...login() }, timeoutSeconds: 120 });
  const { release, outcome, previous } = parse<Release>(result);
  expect([outcome, (await project.ask("/")).release]).toEqual(["done", "a1"]);
  expect((await lookAt(server, project)).traces.releases).toEqual([`${previous}`, `${release}`]);
  // The one before has come over SSH, and is what a rollback needs.
  expect((await server.ssh(ours)).stdout.split("\n").filter((line) => line.startsWith("shop-release"))).toEqual([
    `shop-release:${previous}`,
  ]);
});

test.each([
  { words: [], message: "it takes either --image or --build" },
  { words: ["--image", "shop:1", "--build"], message: "it takes either --image or --build" },
  { words: ["--image", "shop:1", "--wait", "soon"], message: '--wait takes seconds, not "soon"' },
  { words: ["--image", "shop:1", "--dry-rum"], message: "--dry-rum" },
])("$words is a wrong command: $message", async ({ words, message }) => {
  const { exitCode, stderr, stdout } = await deploy(words, { accept: [2] });
  expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: "" });
  expect(stderr.split("\n")[0]).toContain(message);
});

test("a failure with --json is one document, too", async () => {
  const result = await deploy(["--image", `${project.image}:none`, "--json"], { accept: [1] });
  const { error } = parse<{ error: object }>(result);
  expect(error).toMatchObject({ exitCode: 1, read: "docs/runbook/image-cannot-be-pulled.md" });
});
