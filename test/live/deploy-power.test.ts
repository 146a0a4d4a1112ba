// The server loses its power, or its engine is restarted, in the middle of a deploy. What serves afterwards, by itself, is one
// of the two versions; and the next deploy leaves nothing behind of the one that was cut off.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { poll } from "../../scripts/lib/wait.ts";
import {
  deployUntil,
  liveAndNext,
  runDeploy,
  type Scene,
  serving,
  settled,
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
