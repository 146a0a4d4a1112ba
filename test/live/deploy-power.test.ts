// The server loses its power, or its engine is restarted, in the middle of a deploy. What serves afterwards, by itself, is one
// of the two versions; and the next deploy leaves nothing behind of the one that was cut off.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { poll } from "../../scripts/lib/wait.ts";
import {
  deployUntil,
  killWithSsh,
  liveAndNext,
  runDeploy,
  type Scene,
  serving,
  settled,
  startDeploy,
  startScene,
} from "../lab/interrupted-deploy.ts";
import { slowRequest } from "../lab/load.ts";

let scene: Scene;
beforeAll(async () => {
  scene = await startScene({ config: { deploy: { bakeSeconds: 1 } } });
}, 300_000);
afterAll(() => scene?.stop());

/** Nobody does anything meanwhile. */
const release = () =>
  poll(
    { seconds: 60, everyMilliseconds: 100 },
    async () => (await scene.project.ask("/").catch(() => undefined))?.release,
  );

/** What a deploy at the next opportunity makes of it. */
async function expectToConverge(): Promise<void> {
  const { next } = await liveAndNext(scene);
  expect(await runDeploy(scene, next)).toMatchObject({ exitCode: 0 });
  expect((await settled(scene)).at).toEqual(serving(next.release));
}

const slowMigration = "-- migrate:up\nselect pg_sleep(2);\n\n-- migrate:down\nselect 1;\n";

describe("a power cut", () => {
  test("in a first deploy: the next one succeeds", async () => {
    await scene.project.resetServer();
    const deploy = await deployUntil(scene, scene.images[0]!, "migrate");
    await scene.server.powerOff();
    expect((await deploy.end()).exitCode).toBe(1);
    await scene.server.powerOn();
    expect(await runDeploy(scene, scene.images[0]!)).toMatchObject({ exitCode: 0 });
    expect((await settled(scene)).at).toEqual(serving("a1"));
  }, 180_000);

  test.each([
    { step: "files", serves: "old", while: "it migrates" },
    { step: "start", serves: "old", while: "the new one starts" },
    { step: "switch", serves: "new", while: "it watches the new one" },
    { step: "commit", serves: "new", while: "the old one ends" },
  ])(
    "while $while: the $serves one serves after the boot, and the next deploy tidies up",
    async ({ step, serves }) => {
      const { live, next } = await liveAndNext(scene);
      if (step === "files") await scene.project.write("migrations/20990101000000_slow.sql", slowMigration);
      const deploy = await deployUntil(scene, next, step);
      await scene.server.powerOff();
      const end = await deploy.end();
      expect(end).toMatchObject({ exitCode: 1, stdout: "" });
      expect(end.stderr).toContain(`Lost the connection to ${scene.server.address}`);
      await scene.server.powerOn();
      expect(await release()).toBe((serves === "old" ? live : next).release);
      await expectToConverge();
    },
    180_000,
  );
});

describe("a power cut while services are recreated", () => {
  const asking = (limit: string) => (text: string) =>
    text.replace(/(shm_size: 256m\n {4}mem_limit: )\S+/, `$1${limit}`);
  /** Has to be fetched from a registry that does not answer, or never becomes healthy. */
  const blocking = (how: string) => `  blocking: { ${how} }\n\n  nginx:\n    <<: *service\n`;
  const plain = blocking("").slice(blocking("").indexOf("  nginx:"));
  const memory = async () => {
    const { stdout } = await scene.server.ssh("docker inspect --format '{{.HostConfig.Memory}}' shop-postgres-1");
    return Number(stdout) / 2 ** 20;
  };
  const plan = async () => {
    const { stdout } = await runDeploy(scene, (await liveAndNext(scene)).next, ["--plan"]);
    return stdout.split("\n").filter((line) => line.startsWith("  DOWNTIME"));
  };
  const downtime = ["  DOWNTIME: postgres is recreated, because its definition has changed"];

  /** Cuts the power when `isThere`, in a deploy which never comes further than "services". */
  async function cutOff(limit: string, how: string, isThere: () => Promise<true | undefined>): Promise<void> {
    const { next } = await liveAndNext(scene);
    await scene.project.edit("compose.yaml", (text) => asking(limit)(text).replace(plain, blocking(how)));
    const deploy = await startDeploy(scene, next, ["--allow-downtime"]);
    await deploy.until("files");
    expect(await poll({ seconds: 60, everyMilliseconds: 200 }, isThere)).toBe(true);
    await scene.server.powerOff();
    killWithSsh(deploy);
    await deploy.end();
    await scene.project.edit("compose.yaml", (text) => text.replace(blocking(how), plain));
    await scene.server.powerOn();
    await release();
    await scene.server.ssh(
      "docker ps --all --quiet --filter name=shop-blocking | xargs --no-run-if-empty docker rm --force",
    );
  }

  async function converge(words: readonly string[] = []): Promise<void> {
    const { next } = await liveAndNext(scene);
    expect(await runDeploy(scene, next, words)).toMatchObject({ exitCode: 0 });
    expect((await settled(scene)).at).toEqual(serving(next.release));
  }

  test("before one was: the files are the new ones, and it still is a change", async () => {
    await converge();
    await converge();
    const wantsImage = async () =>
      (await scene.server.ssh("pgrep --full 'compose .* up .* blocking'", { accept: [0, 1] })).exitCode === 0 ||
      undefined;
    scene.registry.pause();
    try {
      await cutOff("900m", `image: ${scene.registry.address}/none:1`, wantsImage);
    } finally {
      scene.registry.resume();
    }
    expect(await memory()).toBe(1024);
    expect((await scene.server.ssh("grep -c 'mem_limit: 900m' /opt/shop/compose.yaml")).stdout).toBe("1\n");
    expect(await plan()).toEqual(downtime);
    await converge(["--allow-downtime"]);
    expect(await memory()).toBe(900);
    // A rollback's plan shows it as well, and is no refusal.
    const { stdout } = await scene.project.run("rollback", ["--plan"]);
    expect(stdout).toContain(`\n${downtime[0]}`);
  }, 240_000);

  test("after one was: it is none any more, and going back is one", async () => {
    const recreated = async () => ((await memory().catch(() => 0)) === 800 ? true : undefined);
    const unhealthy = 'image: nginx:1.30-alpine, healthcheck: { test: ["CMD", "false"] }';
    await cutOff("800m", unhealthy, recreated);
    expect(await memory()).toBe(800);
    expect(await plan()).toEqual([]);
    await scene.project.edit("compose.yaml", asking("900m"));
    expect(await plan()).toEqual(downtime);
    await scene.project.edit("compose.yaml", asking("800m"));
    await converge();
    expect(await memory()).toBe(800);
    expect(await plan()).toEqual([]);
    await scene.project.edit("compose.yaml", asking("1g"));
    await converge(["--allow-downtime"]);
  }, 240_000);
});

describe("the engine is restarted", () => {
  // Long enough for the restart to come before the end.
  beforeAll(() => scene.project.configure({ deploy: { bakeSeconds: 3 } }));

  /** Of the containers that serve: "nginx 2026-…". */
  const startTimes = async () => {
    const format = '{{index .Config.Labels "com.docker.compose.service"}} {{.State.StartedAt}}';
    const { stdout } = await scene.server.ssh(`docker inspect --format '${format}' $(docker ps --quiet) | sort`);
    return stdout.split("\n").filter(Boolean);
  };

  /** The way in is longer than a step: the engine goes down some time during those that follow. */
  const restartEngine = () => scene.server.ssh("service docker restart", { user: "root" });

  async function restartAfter(step: string) {
    const { live, next } = await liveAndNext(scene);
    const before = await startTimes();
    const deploy = await deployUntil(scene, next, step);
    await restartEngine();
    const end = await deploy.end();
    return { live, next, before, end };
  }

  test("and all containers with it: the server waits for it, then goes back", async () => {
    const { live, end } = await restartAfter("switch");
    expect(end).toMatchObject({ exitCode: 1, stdout: "" });
    expect(end.stderr).toMatch(/^Release \d+ was not deployed: .* release \d+ serves as before$/m);
    expect(await release()).toBe(live.release);
    expect((await settled(scene)).at).toEqual(serving(live.release));
    await expectToConverge();
  }, 120_000);

  describe("and they go on, with live-restore", () => {
    beforeAll(async () => {
      await liveAndNext(scene);
      const configure = `echo '{"live-restore":true}' >/etc/docker/daemon.json; kill -HUP $(cat /run/docker.pid)`;
      const isOn = "until [ $(docker info --format '{{.LiveRestoreEnabled}}') = true ]; do sleep 0.1; done";
      await scene.server.ssh(`${configure}\n${isOn}`, { user: "root" });
    }, 120_000);

    test.each(["start", "switch"])(
      "after %s: the old one has never been away",
      async (step) => {
        const { live, before, end } = await restartAfter(step);
        expect(end).toMatchObject({ exitCode: 1, stdout: "" });
        expect(end.stderr).toMatch(/^Release \d+ was not deployed: .* release \d+ serves as before$/m);
        expect((await settled(scene)).at).toEqual(serving(live.release));
        expect(await startTimes()).toEqual(before);
        expect(await release()).toBe(live.release);
      },
      120_000,
    );

    test("after commit: the rest is done at the second try", async () => {
      const { next } = await liveAndNext(scene);
      const deploy = await deployUntil(scene, next, "healthy");
      // The old one has something to do until after the restart.
      const slow = slowRequest(scene.project.target, 10).catch(() => undefined);
      await deploy.until("commit");
      await restartEngine();
      const end = await deploy.end();
      await slow;
      expect(end.exitCode).toBe(0);
      expect(end.stderr).toContain("         warning: the end of the deploy had to be done twice: ");
      expect((await settled(scene)).at).toEqual(serving(next.release));
      await expectToConverge();
    }, 120_000);
  });
});
