// Whoever deploys goes away in the middle: killed after any step, cancelled, or asked to stop. One of the two versions serves
// throughout, the server tidies up by itself, and the next deploy comes further.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Release } from "../../scripts/lib/release.ts";
import { run, sendSignal } from "../../scripts/lib/run.ts";
import { poll } from "../../scripts/lib/wait.ts";
import {
  type DeployAtWork,
  deployUntil,
  killWithSsh,
  liveAndNext,
  nothing,
  runDeploy,
  type Scene,
  serving,
  settled,
  startDeploy,
  startScene,
} from "../lab/interrupted-deploy.ts";
import { type Load, startLoad } from "../lab/load.ts";
import { allProcesses, argvOf, childrenOf } from "../lab/processes.ts";

let scene: Scene;
beforeAll(async () => {
  scene = await startScene({ config: { deploy: { bakeSeconds: 1, stopFirst: ["worker"] } } });
  const worker = `
  worker:
    extends: { file: compose.yaml, service: app }
    build: !reset null
    image: \${RELEASE_IMAGE:-release-image-is-not-set.invalid/in-env}

  nginx:
`;
  await scene.project.edit("compose/production.yaml", (text) => text.replace("\n  nginx:\n", worker));
}, 300_000);
afterAll(() => scene?.stop());

const workers = ["worker"];
let migrations = 0;
/** One that is pending, and takes its time. */
async function addMigration(seconds: number): Promise<void> {
  migrations += 1;
  const text = `-- migrate:up\nselect pg_sleep(${seconds});\n\n-- migrate:down\nselect 1;\n`;
  await scene.project.write(`migrations/2099010100000${migrations}_slow.sql`, text);
}

test("a first deploy that is killed leaves nothing that runs, and the next one comes further", async () => {
  await scene.project.resetServer();
  for (const step of ["files", "services", "healthy", "bake"]) {
    const deploy = await deployUntil(scene, scene.images[0]!, step);
    killWithSsh(deploy);
    expect((await deploy.end()).exitCode).toBe("SIGKILL");
    const { at, records } = await settled(scene);
    const wentOn = records.at(-1)?.outcome === "done";
    // The server may have heard that there is no way back, or not yet.
    if (step !== "bake" || !wentOn) {
      expect({ step, ...at }).toEqual({ step, ...nothing });
      expect(records.every(({ outcome }) => outcome === "interrupted")).toBe(true);
    }
  }
  expect(await runDeploy(scene, scene.images[0]!)).toMatchObject({ exitCode: 0 });
  expect((await settled(scene)).at).toEqual(serving("a1", workers));
}, 300_000);

describe("while a release serves", () => {
  let load: Load;
  beforeAll(async () => {
    await liveAndNext(scene);
    load = await startLoad({ ...scene.project.target, requestsPerSecond: 40 });
  }, 120_000);
  afterAll(() => load?.stop());

  /** Everybody was answered, by one of the two. */
  async function expectNoFailure(): Promise<void> {
    const { failed, firstFailures } = await load.settle();
    expect({ failed, firstFailures }).toEqual({ failed: 0, firstFailures: [] });
  }

  test.each([
    ...["lock", "upload", "image", "files", "migrate", "start", "healthy", "switch", "workers"].map((step) => ({
      step,
      goes: "back",
    })),
    // The next thing that the server hears is that there is no way back; it may hear it or not.
    { step: "bake", goes: "back or on" },
    { step: "commit", goes: "on" },
    { step: "drain", goes: "on" },
  ])(
    "killed with its ssh after $step: the server goes $goes by itself",
    async ({ step, goes }) => {
      const { live, next } = await liveAndNext(scene);
      if (step === "migrate") await addMigration(0);
      const before = (await settled(scene)).records.length;
      const deploy = await deployUntil(scene, next, step);
      killWithSsh(deploy);
      expect((await deploy.end()).exitCode).toBe("SIGKILL");
      const { at, records } = await settled(scene);
      const outcome = records.slice(before).at(-1)?.outcome;
      const isOn = goes === "on" || (goes === "back or on" && outcome === "done");
      expect(at).toEqual(serving((isOn ? next : live).release, workers));
      // Killed after "lock" it may not even have said which release it is about.
      if (step !== "lock") expect(outcome).toBe(isOn ? "done" : "interrupted");
      await expectNoFailure();
    },
    120_000,
  );

  test.each([
    { step: "start", signal: "SIGKILL", exitCode: "SIGKILL" },
    { step: "upload", signal: "SIGHUP", exitCode: 130 },
    { step: "start", signal: "SIGINT", exitCode: 130 },
    { step: "workers", signal: "SIGTERM", exitCode: 130 },
  ] as const)(
    "the verb alone gets $signal after $step: back, and it ends with $exitCode",
    async ({ step, signal, exitCode }) => {
      const { live, next } = await liveAndNext(scene);
      const deploy = await deployUntil(scene, next, step);
      sendSignal(deploy.program.pid, signal);
      const end = await deploy.end();
      expect(end).toMatchObject({ exitCode, stdout: "" });
      const { at, records } = await settled(scene);
      expect(at).toEqual(serving(live.release, workers));
      const record = records.at(-1)!;
      expect(record.outcome).toBe("interrupted");
      if (exitCode === 130) expect(whatItSays(record, signal)).toContain(lastWords(end.stderr));
      await expectNoFailure();
    },
    120_000,
  );

  test("asked to stop when there is no way back any more, it ends well", async () => {
    const { next } = await liveAndNext(scene);
    const deploy = await deployUntil(scene, next, "commit");
    sendSignal(deploy.program.pid, "SIGINT");
    const end = await deploy.end();
    expect(end.exitCode).toBe(0);
    expect(end.stdout).toContain(`serves ${next.pinned}`);
    expect((await settled(scene)).at).toEqual(serving(next.release, workers));
    await expectNoFailure();
  }, 120_000);

  test("cancelled as GitHub does it, in a long migration: it says what the server will do, which then does it", async () => {
    const { live, next } = await liveAndNext(scene);
    await addMigration(13);
    const deploy = await deployUntil(scene, next, "files");
    await scene.server.ssh("until docker ps | grep --quiet migrations-run; do sleep 0.1; done");
    const end = await cancelAsGitHub(deploy);
    expect(end).toMatchObject({ exitCode: 130, stdout: "" });
    const { at, records } = await settled(scene);
    const record = records.at(-1)!;
    expect(record).toMatchObject({ outcome: "interrupted", reason: "migrate: Interrupted: by SIGINT" });
    const applied = `; the migrations 2099010100000${migrations} may have been applied, and stay`;
    expect(lastWords(end.stderr)).toBe(whatItSays(record, "SIGINT", applied)[1]!);
    expect(at).toEqual(serving(live.release, workers));
    await expectNoFailure();
  }, 120_000);

  test("and the next deploy succeeds", async () => {
    const { next } = await liveAndNext(scene);
    expect(await runDeploy(scene, next)).toMatchObject({ exitCode: 0 });
    expect((await settled(scene)).at).toEqual(serving(next.release, workers));
    await expectNoFailure();
  }, 120_000);
});

describe("asked to stop while this machine is at work for it", () => {
  const goes = async (words: string) => {
    const found = () => allProcesses().some((pid) => argvOf(pid).join(" ") === words);
    expect(await poll({ seconds: 10 }, async () => (found() ? undefined : "gone"))).toBe("gone");
  };
  const comes = (words: string) =>
    poll({ seconds: 60 }, () => Promise.resolve(allProcesses().find((pid) => argvOf(pid).join(" ") === words)));

  test("while it builds: the build ends, and nothing has been asked of the server", async () => {
    const { project } = scene;
    // Of no other build on this machine.
    await project.edit("app/Dockerfile", (text) => text.replace("\nUSER ", "\nRUN sleep 73.25\nUSER "));
    let stderr = "";
    const program = await project.start("deploy", ["--build"], {
      onLine: (line) => {
        stderr += `${line}\n`;
      },
    });
    expect(await comes("sleep 73.25")).toBeNumber();
    sendSignal(program.pid, "SIGTERM");
    expect(await program.ended).toBe(130);
    expect(stderr.replaceAll(/ +\d+\.\d+ s/g, "")).toBe(`  done   secrets
  FAILED build
Interrupted: by SIGTERM
`);
    await goes("sleep 73.25");
    expect(childrenOf(program.pid)).toEqual([]);
  }, 120_000);

  test("while it sends the image: nothing is left of it", async () => {
    const { server, registry, project } = scene;
    const { live } = await liveAndNext(scene);
    const { pinned } = await project.buildApp({ release: "sent" });
    const docker = (...words: string[]) => run({ argv: ["docker", ...words], environment: registry.environment });
    await docker("pull", "--quiet", pinned);
    await server.slow(8);
    try {
      const deploy = await startDeploy(scene, { pinned }, ["--transfer", "ssh"]);
      expect(await comes(`docker save ${pinned}`)).toBeNumber();
      sendSignal(deploy.program.pid, "SIGTERM");
      const end = await deploy.end();
      expect(end).toMatchObject({ exitCode: 130, stdout: "" });
      await goes(`docker save ${pinned}`);
      const { at, records } = await settled(scene);
      expect(at).toEqual(serving(live.release, workers));
      expect(whatItSays(records.at(-1)!, "SIGTERM")).toContain(lastWords(end.stderr));
    } finally {
      await server.fast();
      await docker("image", "rm", "--force", pinned);
    }
  }, 120_000);
});

const lastWords = (stderr: string) => stderr.slice(stderr.lastIndexOf("\nRelease ") + 1);

/** Within the time that GitHub gives it, or not: each is true when it is said. */
function whatItSays({ release, previous }: Release, signal: string, more = ""): string[] {
  const said = `Release ${release} was not deployed: Interrupted: by ${signal};`;
  return [
    `${said} release ${previous} serves as before
  next: the same command again
  read: docs/deploy.md
`,
    `${said} the connection ended first: the server goes back to release ${previous} by itself, once its present step has ended, unless it went down${more}
  next: the same command again
  next: bun scripts/deploy.ts --history
  read: docs/deploy.md
`,
  ];
}

/** SIGINT, SIGTERM 7.5 s later, SIGKILL to everything 10 s later. */
async function cancelAsGitHub(deploy: DeployAtWork) {
  const timers = [
    setTimeout(() => sendSignal(deploy.program.pid, "SIGTERM"), 7_500),
    setTimeout(() => killWithSsh(deploy), 10_000),
  ];
  sendSignal(deploy.program.pid, "SIGINT");
  const end = await deploy.end();
  timers.forEach(clearTimeout);
  return end;
}
