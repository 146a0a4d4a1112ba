// scripts/lib/hooks.ts with real programs: such as do their work, fail, hang, do not react to SIGTERM, or are not there.
import { afterAll, afterEach, beforeAll, beforeEach, expect, type Mock, spyOn, test } from "bun:test";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Failure } from "../../scripts/lib/failure.ts";
import { type Hooks, runAfter, runBefore } from "../../scripts/lib/hooks.ts";
import { poll } from "../../scripts/lib/wait.ts";

let directory: string;
let stderr: Mock<typeof console.error>;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "dbops-hooks-"));
});
beforeEach(() => {
  stderr = spyOn(console, "error").mockImplementation(() => {});
});
afterEach(() => stderr.mockRestore());
afterAll(() => rm(directory, { recursive: true, force: true }));

const facts = { environment: "production", release: 9, image: "ghcr.io/me/shop:abc", previousRelease: 8 };
const sh = (script: string) => ["sh", "-c", script];
const hooks = (programs: Hooks["programs"], more: Partial<Hooks> = {}): Hooks => ({
  programs,
  directory,
  secrets: [],
  ...more,
});
const printed = () => stderr.mock.calls.map(([line]) => line);
const written = (name: string) => readFile(join(directory, name), "utf8");

test("a project without hooks starts nothing", async () => {
  await runBefore(hooks({}), facts);
  expect(await runAfter(hooks({}), { ...facts, outcome: "done" })).toEqual([]);
  expect(printed()).toEqual([]);
});

test("runs in the project, knows the facts, and both its outputs are quoted", async () => {
  const told = 'echo "$DBOPS_ENVIRONMENT $DBOPS_RELEASE $DBOPS_IMAGE $DBOPS_PREVIOUS_RELEASE ${DBOPS_OUTCOME-not set}"';
  await runBefore(hooks({ before: sh(`${told} > told; echo out; echo err >&2; printf unfinished`) }), facts);
  expect(await written("told")).toBe("production 9 ghcr.io/me/shop:abc 8 not set\n");
  expect(printed().sort()).toEqual(["hook     | err", "hook     | out", "hook     | unfinished"]);
});

test.each([
  { outcome: "done" as const, runs: "after" },
  { outcome: "failed" as const, runs: "afterFailure" },
  { outcome: "undone" as const, runs: "afterFailure" },
  { outcome: "interrupted" as const, runs: "afterFailure" },
])("$outcome runs $runs and no other", async ({ outcome, runs }) => {
  const program = (name: string) => sh(`echo "${name} $DBOPS_OUTCOME" >> ${outcome}`);
  const programs = { before: program("before"), after: program("after"), afterFailure: program("afterFailure") };
  expect(await runAfter(hooks(programs), { ...facts, outcome })).toEqual([]);
  expect(await written(outcome)).toBe(`${runs} ${outcome}\n`);
});

test("no secret is in its environment, and one that it prints all the same is not shown", async () => {
  const secret = "hunter2-hunter2";
  process.env.SHOP_PASSWORD = secret;
  process.env.DBOPS_REGISTRY_PASSWORD = "registry-hunter2";
  try {
    await runBefore(hooks({ before: sh(`env > environment; echo "found ${secret}"`) }, { secrets: [secret] }), facts);
  } finally {
    delete process.env.SHOP_PASSWORD;
    delete process.env.DBOPS_REGISTRY_PASSWORD;
  }
  expect(await written("environment")).not.toContain("hunter2");
  expect(await written("environment")).toContain(`PATH=${process.env.PATH}\n`);
  expect(printed()).toEqual(["hook     | found [secret]"]);
});

type Broken = { name: string; program: string[]; limitSeconds?: number; why: string };

const broken: Broken[] = [
  { name: "exits with 3", program: sh("exit 3"), why: "exited with 3" },
  { name: "kills itself", program: sh("kill -KILL $$"), why: "was ended by SIGKILL" },
  {
    name: "is not there",
    program: ["no-such-program"],
    why: 'could not be started: "no-such-program" is not installed, or not on PATH',
  },
  { name: "hangs", program: ["sleep", "300"], limitSeconds: 0.3, why: "was not done within 0.3 s, and was stopped" },
];

test.each(broken)("before: $name: a failure, exit 1", async ({ program, limitSeconds = 10, why }) => {
  const refused = runBefore(hooks({ before: program }, { limitSeconds }), facts);
  const byHand = `${program.join(" ")}   # by hand, until it is content`;
  const expected = new Failure('Refused by the hook "before"', `"${program.join(" ")}" ${why}; nothing was changed`, [
    byHand,
    "the same command again",
  ]);
  await expect(refused).rejects.toEqual(expected);
  expect(expected.exitCode).toBe(1);
});

test.each(broken)("afterwards: $name: a line, and the outcome stays", async ({ program, limitSeconds = 10, why }) => {
  const programs = { after: program, afterFailure: program };
  const end = (outcome: "done" | "failed") => runAfter(hooks(programs, { limitSeconds }), { ...facts, outcome });
  expect(await end("done")).toEqual([`The hook "after" ${why}; the outcome stays: done`]);
  expect(await end("failed")).toEqual([`The hook "afterFailure" ${why}; the outcome stays: failed`]);
});

test("one that ignores SIGTERM is killed, with what it has started", async () => {
  const deaf = "trap '' TERM; echo $$ > deaf; (trap '' TERM; exec sleep 300) & echo $! >> deaf; wait; sleep 300";
  const why = await runAfter(hooks({ after: sh(deaf) }, { limitSeconds: 0.5 }), { ...facts, outcome: "done" });
  expect(why).toEqual(['The hook "after" was not done within 0.5 s, and was stopped; the outcome stays: done']);
  const pids = (await written("deaf")).trim().split("\n");
  expect(pids.length).toBe(2);
  const gone = await poll({ seconds: 5 }, async () => !pids.some((pid) => existsSync(`/proc/${pid}/exe`)) || undefined);
  expect(gone).toBe(true);
});

test("one that leaves a program behind which holds its output ends with it at the limit", async () => {
  const program = sh("sleep 300 & echo $! > left; exit 0");
  const why = await runAfter(hooks({ after: program }, { limitSeconds: 0.5 }), { ...facts, outcome: "done" });
  expect(why).toEqual(['The hook "after" was not done within 0.5 s, and was stopped; the outcome stays: done']);
  expect(existsSync(`/proc/${(await written("left")).trim()}/exe`)).toBe(false);
});

test("an interruption stops it at once, and is what is reported", async () => {
  const controller = new AbortController();
  const reason = new Failure("Interrupted", "by SIGTERM", [], { exitCode: 130 });
  const before = runBefore(hooks({ before: sh("echo $$ > begun; exec sleep 300") }), facts, controller.signal);
  await poll({ seconds: 10 }, async () => existsSync(join(directory, "begun")) || undefined);
  controller.abort(reason);
  await expect(before).rejects.toBe(reason);
  expect(existsSync(`/proc/${(await written("begun")).trim()}`)).toBe(false);
});
