// The line goes dead in the middle of a deploy: packets are dropped, nobody is told. The one who deploys notices in time, the
// server tidies up by itself while nobody can reach it, and the next deploy comes further. Where it cannot, because the agent
// itself was killed, the one who deploys comes back and does it.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { sendSignal } from "../../scripts/lib/run.ts";
import { poll } from "../../scripts/lib/wait.ts";
import {
  agentsOf,
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
  // A name of its own: by it the agent is found among all processes of this machine.
  scene = await startScene({ name: "cable", config: { deploy: { bakeSeconds: 3 } } });
  await liveAndNext(scene);
}, 300_000);
afterAll(async () => {
  await scene?.server.reconnect();
  await scene?.stop();
});

/** Until the server has given up by itself. */
const agentIsGone = () => poll({ seconds: 90 }, async () => agentsOf(scene.project).length === 0 || undefined);

const unseen = (host: string) =>
  `could not be seen: Cannot reach ${host}: no answer from port 22: Connection timed out`;

const lost = (release: number, previous: number, host: string) =>
  `Release ${release} was not deployed: Lost the connection to ${host}: what was begun there may still be running; what serves now ${unseen(host)}; the server was told to go back to release ${previous} by itself
  | Timeout, server ${host} not responding.
  next: the same command again
  next: bun scripts/deploy.ts --history
  read: docs/deploy.md
`;

async function whileCutOff<T>(work: () => Promise<T>): Promise<T> {
  await scene.server.cutOff();
  try {
    return await work();
  } finally {
    await scene.server.reconnect();
  }
}

async function cutAfter(step: string) {
  const { live, next } = await liveAndNext(scene);
  const deploy = await deployUntil(scene, next, step);
  const end = await whileCutOff(async () => {
    const end = await deploy.end();
    expect(await agentIsGone()).toBe(true);
    return end;
  });
  const { at, records } = await settled(scene);
  return { live, next, end, at, record: records.at(-1)! };
}

test("with the times that everybody has: told after 20 s, undone a few seconds later", async () => {
  const { live, end, at, record } = await cutAfter("start");
  expect(end).toMatchObject({ exitCode: 1, stdout: "" });
  expect(end.stderr).toEndWith(`\n${lost(record.release, record.previous, scene.server.address)}`);
  expect(record).toMatchObject({ outcome: "interrupted", reason: "the connection was lost" });
  expect(at).toEqual(serving(live.release));
}, 180_000);

test("a line that is dead for a few seconds only delays it", async () => {
  const { next } = await liveAndNext(scene);
  const deploy = await deployUntil(scene, next, "upload");
  await whileCutOff(() => new Promise((resolve) => setTimeout(resolve, 3000)));
  expect(await deploy.end()).toMatchObject({ exitCode: 0 });
  expect((await settled(scene)).at).toEqual(serving(next.release));
}, 120_000);

describe("the agent itself is killed there, as the kernel does it when the memory is full", () => {
  const killAgent = () => scene.server.ssh("pkill -KILL --full --oldest '^bash -s -- '");
  const killed = (host: string) =>
    `Lost the connection to ${host}: ssh ended without a word; the program on the other side was killed, or the connection was`;

  test.each(["upload", "files", "start", "switch"])(
    "after %s: whoever deploys connects again, and goes back",
    async (step) => {
      const { live, next } = await liveAndNext(scene);
      const deploy = await deployUntil(scene, next, step);
      await killAgent();
      const end = await deploy.end();
      expect(end).toMatchObject({ exitCode: 1, stdout: "" });
      const { at, records } = await settled(scene);
      expect(at).toEqual(serving(live.release));
      const { release, previous, outcome, reason } = records.at(-1)!;
      const lost = killed(scene.server.address);
      // It may have come a step further meanwhile.
      expect(reason).toEndWith(`: ${lost}`);
      expect(outcome).toBe(reason!.startsWith("bake") ? "undone" : "failed");
      expect(end.stderr).toContain("\n         connected again: ");
      expect(end.stderr).toEndWith(`\nRelease ${release} was not deployed: ${lost}; release ${previous} serves as before
  next: the same command again
  read: docs/deploy.md
`);
      expect(await runDeploy(scene, next)).toMatchObject({ exitCode: 0 });
      expect((await settled(scene)).at).toEqual(serving(next.release));
    },
    120_000,
  );

  test("in a migration: which is finished before anything is taken back", async () => {
    const { live, next } = await liveAndNext(scene);
    const text = "-- migrate:up\nselect pg_sleep(6);\n\n-- migrate:down\nselect 1;\n";
    await scene.project.write("migrations/20980101000000_slow.sql", text);
    const deploy = await deployUntil(scene, next, "files");
    await scene.server.ssh("until docker ps | grep --quiet migrations-run; do sleep 0.1; done");
    await killAgent();
    const end = await deploy.end();
    expect((await scene.server.ssh("docker ps | grep migrations-run || true")).stdout).toBe("");
    expect(end).toMatchObject({ exitCode: 1, stdout: "" });
    const { at, records } = await settled(scene);
    expect(at).toEqual(serving(live.release));
    expect(end.stderr).toContain(
      `; release ${records.at(-1)!.previous} serves as before; the migrations 20980101000000 may have been applied, and stay\n`,
    );
    const again = await runDeploy(scene, next);
    expect(again).toMatchObject({ exitCode: 0 });
    // It was finished.
    expect(again.stderr).not.toContain("  migrate ");
  }, 120_000);

  test("when there is no way back any more: whoever deploys connects again, and does the rest", async () => {
    const { next } = await liveAndNext(scene);
    const deploy = await deployUntil(scene, next, "healthy");
    // The old one has something to do until after that.
    const slow = slowRequest(scene.project.target, 8);
    await deploy.until("commit");
    await killAgent();
    const end = await deploy.end();
    expect((await slow).status).toBe(200);
    expect(end.exitCode).toBe(0);
    const warning = `warning: the end of the deploy had to be done twice: ${killed(scene.server.address)}`;
    expect(end.stderr).toContain(`\n         ${warning}\n`);
    const { at, records } = await settled(scene);
    expect(at).toEqual(serving(next.release));
    expect(records.at(-1)!.outcome).toBe("done");
  }, 120_000);

  test("and another deploy comes in between: nothing of it is touched", async () => {
    const { live, next, later } = await liveAndNext(scene);
    const deploy = await deployUntil(scene, next, "switch");
    sendSignal(-deploy.program.pid, "SIGSTOP");
    await killAgent();
    expect(await runDeploy(scene, later)).toMatchObject({ exitCode: 0 });
    sendSignal(-deploy.program.pid, "SIGCONT");
    const end = await deploy.end();
    expect(end).toMatchObject({ exitCode: 1, stdout: "" });
    const { at, records } = await settled(scene);
    const { release, who } = records.at(-1)!;
    expect(end.stderr).toContain(
      `; what serves now could not be seen: Nothing more was changed: another deploy was at work meanwhile: release ${release}, by ${who}; `,
    );
    expect(later).toEqual(live);
    expect(at).toEqual(serving(live.release));
  }, 120_000);
});

describe("with shorter times, all else as it is", () => {
  beforeAll(async () => {
    const { edit } = scene.project;
    await edit("scripts/lib/session.ts", (text) =>
      text
        .replace("patienceSeconds = 20", "patienceSeconds = 4")
        .replace("heartbeatSeconds = 5", "heartbeatSeconds = 1"),
    );
    await edit("scripts/lib/ssh.ts", (text) => text.replace('ServerAliveInterval: "5"', 'ServerAliveInterval: "1"'));
  });

  test.each(["files", "switch"])(
    "cut off after %s: the server goes back",
    async (step) => {
      const { live, end, at, record } = await cutAfter(step);
      expect(end).toMatchObject({ exitCode: 1, stdout: "" });
      expect(end.stderr).toEndWith(`\n${lost(record.release, record.previous, scene.server.address)}`);
      expect(record).toMatchObject({ outcome: "interrupted", reason: "the connection was lost" });
      expect(at).toEqual(serving(live.release));
    },
    120_000,
  );

  test("cut off when there is no way back any more: the server goes on to the end", async () => {
    const { next, end, at, record } = await cutAfter("commit");
    expect(end).toMatchObject({ exitCode: 1, stdout: "" });
    expect(end.stderr).toContain(
      `Release ${record.release} serves, but the end of its deploy failed: Lost the connection to ${scene.server.address}: what was begun there may still be running; what became of it ${unseen(scene.server.address)}; the server was told to do it by itself\n`,
    );
    expect(record.outcome).toBe("done");
    expect(at).toEqual(serving(next.release));
    const again = await runDeploy(scene, next);
    expect(again).toMatchObject({
      exitCode: 0,
      stdout: `Release ${record.release} serves exactly this already.\n`,
    });
  }, 120_000);

  test("a laptop that falls asleep while it watches: the server goes back; awake again, it is told so", async () => {
    const { live, next } = await liveAndNext(scene);
    const deploy = await deployUntil(scene, next, "switch");
    const group = [-deploy.program.pid, -deploy.sshPid()];
    for (const pid of group) sendSignal(pid, "SIGSTOP");
    expect(await agentIsGone()).toBe(true);
    for (const pid of group) sendSignal(pid, "SIGCONT");
    const end = await deploy.end();
    expect(end).toMatchObject({ exitCode: 1, stdout: "" });
    const { at, records } = await settled(scene);
    expect(at).toEqual(serving(live.release));
    const { release, previous } = records.at(-1)!;
    expect(end.stderr).toContain(
      `Release ${release} was not deployed: Lost the connection to ${scene.server.address}: `,
    );
    expect(end.stderr).toContain(`; the server went back by itself: release ${previous} serves as before\n`);
  }, 120_000);

  test("asleep when there is no way back any more: it has been done meanwhile", async () => {
    const { next } = await liveAndNext(scene);
    const deploy = await deployUntil(scene, next, "healthy");
    const slow = slowRequest(scene.project.target, 10);
    await deploy.until("commit");
    const group = [-deploy.program.pid, -deploy.sshPid()];
    for (const pid of group) sendSignal(pid, "SIGSTOP");
    expect(await agentIsGone()).toBe(true);
    for (const pid of group) sendSignal(pid, "SIGCONT");
    await slow;
    const end = await deploy.end();
    expect(end.exitCode).toBe(0);
    expect(end.stderr).toMatch(/^ {9}warning: the end of the deploy (was left to the server|had to be done twice): /m);
    const { at, records } = await settled(scene);
    expect(at).toEqual(serving(next.release));
    expect(records.at(-1)!.outcome).toBe("done");
  }, 120_000);

  test("who is quiet for longer than that, or whose step takes longer, is not lost", async () => {
    const { next } = await liveAndNext(scene);
    const text = "-- migrate:up\nselect pg_sleep(6);\n\n-- migrate:down\nselect 1;\n";
    await scene.project.write("migrations/20990101000000_slow.sql", text);
    await scene.project.configure({ deploy: { bakeSeconds: 1, hooks: { before: ["sleep", "6"] } } });
    expect(await runDeploy(scene, next)).toMatchObject({ exitCode: 0 });
    expect((await settled(scene)).at).toEqual(serving(next.release));
  }, 120_000);

  test("cut off in the middle of what it sends: half of it is not used, and the server waits no longer", async () => {
    const { project, server } = scene;
    const library = (name: string) => import(join(project.directory, "scripts/lib", name));
    const { openSession } = (await library("session.ts")) as typeof import("../../scripts/lib/session.ts");
    const { knownHostsFile, privateKeyFile: keyFile } = server;
    const session = await openSession({
      ...{ directory: project.folder, project: project.name },
      server: { user: "deploy", host: server.address, port: 22, knownHostsFile, keyFile },
    });
    session.ifLost([["touch", "undone"]]);
    await server.slow(8);
    const call = session.call(["touch", "half"], { stdin: Buffer.alloc(8e6) });
    const ended = call.then(
      () => "answered",
      (error: Error) => error.message,
    );
    // A second's worth is on its way, of eight.
    await server.ssh("until du --bytes /dev/shm/dbops.*/in | grep --quiet '^[0-9]\\{6\\}'; do sleep 0.05; done");
    await whileCutOff(async () => {
      expect(await ended).toStartWith(`Lost the connection to ${server.address}`);
      expect(await agentIsGone()).toBe(true);
    });
    await server.fast();
    expect((await server.ssh("ls; ls -A /dev/shm")).stdout).toBe("undone\n");
    await session.close();
  }, 120_000);
});
