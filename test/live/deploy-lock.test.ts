// Several people deploy at once: one does, the others are told who it is, or wait until he has done, and look again.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { hostname, userInfo } from "node:os";
import type { Holder } from "../../scripts/lib/lock.ts";
import { sendSignal, start } from "../../scripts/lib/run.ts";
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

let scene: Scene;
beforeAll(async () => {
  scene = await startScene({ releases: ["a1", "a2", "a3"], config: { deploy: { bakeSeconds: 3 } } });
}, 300_000);
afterAll(() => scene?.stop());

const who = `${userInfo().username}@${hostname()}`;
const holder = async (): Promise<Holder> =>
  JSON.parse((await scene.server.ssh(`cat ${scene.project.folder}/lock.json`)).stdout);

test("one deploys, one is refused at once, one waits and then deploys, one waits and loses patience", async () => {
  const { next, later } = await liveAndNext(scene);
  const first = await deployUntil(scene, next, "lock");
  const [refused, waiting, leaving] = await Promise.all([
    runDeploy(scene, later, ["--wait", "0"]),
    startDeploy(scene, later, ["--wait", "60"]),
    startDeploy(scene, later, ["--wait", "60"]),
  ]);
  await leaving.until("observe");
  sendSignal(leaving.program.pid, "SIGINT");

  const { at } = await holder();
  expect({ ...refused, seconds: 0, stderr: refused.stderr.slice(refused.stderr.indexOf("Nothing")) }).toEqual({
    exitCode: 4,
    stdout: "",
    stderr: `Nothing was changed: ${who}, since ${at}, for "deploy of ${next.pinned}", holds the lock (waited 0 s)
  next: the same command with --wait 600
  next: bun scripts/deploy.ts --history
  read: docs/runbook/deploy-is-locked.md
`,
    seconds: 0,
  });
  expect((await leaving.end()).exitCode).toBe(130);
  expect((await first.end()).exitCode).toBe(0);

  const waited = await waiting.end();
  expect(waited.exitCode).toBe(0);
  expect(waited.stderr).toContain("         another deploy came in between: looking again\n");
  const { at: state, records } = await settled(scene);
  expect(state).toEqual(serving(later.release));
  // What the one who waited saw at first was wrong by then: it is the release after the one that it had waited for.
  const [before, last] = records.slice(-2);
  expect(before).toMatchObject({ image: next.pinned, outcome: "done" });
  expect(last).toMatchObject({
    image: later.pinned,
    outcome: "done",
    release: before!.release + 1,
    previous: before!.release,
  });
}, 180_000);

test("who waited for just what he wanted has nothing to do", async () => {
  const { next } = await liveAndNext(scene);
  const first = await deployUntil(scene, next, "lock");
  const second = await runDeploy(scene, next, ["--wait", "60"]);
  const { records } = await settled(scene);
  expect(second).toMatchObject({
    exitCode: 0,
    stdout: `Release ${records.at(-1)!.release} serves exactly this already.\n`,
  });
  expect((await first.end()).exitCode).toBe(0);
}, 120_000);

test("the lock of one who was killed is free as soon as the server has tidied up", async () => {
  const { next } = await liveAndNext(scene);
  const first = await deployUntil(scene, next, "switch");
  const second = await startDeploy(scene, next, ["--wait", "60"]);
  await second.until("observe");
  killWithSsh(first);
  const { exitCode } = await second.end();
  expect(exitCode).toBe(0);
  const { at, records } = await settled(scene);
  expect(at).toEqual(serving(next.release));
  expect(records.slice(-2).map(({ outcome }) => outcome)).toEqual(["interrupted", "done"]);
  expect(records.at(-1)!.previous).toBe(records.at(-2)!.previous);
}, 120_000);

test("one who was killed while he waited for the lock does not get it", async () => {
  const { next, later } = await liveAndNext(scene);
  const first = await deployUntil(scene, next, "lock");
  const second = await startDeploy(scene, later, ["--wait", "60"]);
  await second.until("observe");
  killWithSsh(second);
  expect((await first.end()).exitCode).toBe(0);
  expect((await settled(scene)).at).toEqual(serving(next.release));
}, 120_000);

test("whoever locks it by hand, with flock and without a word, is nobody in particular", async () => {
  const { server, project } = scene;
  const { next } = await liveAndNext(scene);
  await settled(scene);
  const held = Promise.withResolvers<void>();
  const byHand = await start({
    argv: [
      "ssh",
      ...server.sshArguments,
      `deploy@${server.address}`,
      `flock ${project.folder}/lock sh -c 'echo held; cat'`,
    ],
    environment: server.environment,
    input: true,
    onLine: () => held.resolve(),
  });
  await held.promise;
  const { exitCode, stderr } = await runDeploy(scene, next, ["--wait", "1"]);
  expect(exitCode).toBe(4);
  expect(stderr).toContain("\nNothing was changed: somebody holds the lock (waited 1 s)\n");
  byHand.endInput();
  expect(await byHand.ended).toBe(0);
}, 120_000);
