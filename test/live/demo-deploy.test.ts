// The demo of deploys as the README promises it: one JSON document without a failed request, then nothing is left.
import { beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { randomUUID } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { run, start } from "../../scripts/lib/run.ts";
import { poll } from "../../scripts/lib/wait.ts";
import { startEngine } from "../lab/engine.ts";
import { ensureImages } from "../lab/images.ts";
import { allProcesses } from "../lab/processes.ts";
import { repository } from "../lab/repository.ts";
import { records } from "../lab/server/record.ts";

setDefaultTimeout(300_000);

// An engine that is there before is not taken down by the demo.
beforeAll(async () => void (await ensureImages(await startEngine())));

/** In the environment of each process that the demo starts. */
const mark = `demo-${randomUUID()}`;
const command = (flags: readonly string[]) => [process.execPath, "test/demo.ts", "--deploy", ...flags];

function whatIsLeft(demo: number, output: string) {
  const environmentOf = (pid: number) => {
    try {
      return readFileSync(`/proc/${pid}/environ`, "utf8");
    } catch {
      // It has ended while we looked.
      return "";
    }
  };
  const directory = /^==> (\S+) is to be deployed to /m.exec(output)![1]!;
  return {
    project: existsSync(directory),
    processes: allProcesses().filter((pid) => environmentOf(pid).includes(mark)),
    hosts: records().filter(({ owner }) => owner !== "lab" && owner.pid === demo),
  };
}
const nothing = { project: false, processes: [], hosts: [] };

test("--json --once: one document, no failed request, and everything is gone", async () => {
  const stdout: string[] = [];
  const stderr: string[] = [];
  const demo = await start({
    argv: command(["--json", "--once"]),
    directory: repository,
    environment: { MARK: mark },
    onLine: (line, stream) => (stream === "stdout" ? stdout : stderr).push(line),
  });
  const code = await demo.ended;
  const output = [...stdout, ...stderr].join("\n");
  expect({ code, output }).toEqual({ code: 0, output: expect.any(String) });
  expect(stdout).toHaveLength(1);
  const document = JSON.parse(stdout[0]!);
  console.log(document);
  const positive = expect.any(Number);
  expect(document).toEqual({
    requests: positive,
    failed: 0,
    deploys: 2,
    deploySeconds: [positive, positive],
    flipBackSeconds: positive,
    answersOfBrokenRelease: positive,
    rollbackSeconds: positive,
    requestsPerSecond: positive,
  });
  for (const value of Object.values(document)
    .flat()
    .filter((value) => value !== document.failed)) {
    expect(value).toBeGreaterThan(0);
  }
  // What the verbs print is what a person sees.
  for (const line of [
    /^\$ bun scripts\/deploy\.ts --image \S+:v2$/m,
    /^Release 2 serves \S+:v2 from green, after [\d.]+ s; schema \d+$/m,
    /^ {2}FAILED bake +[\d.]+ s$/m,
    /^ +switched back to release 2 in [\d.]+ s$/m,
    /^Release 3 was not deployed: app-blue answers with errors: .*; release 2 serves as before$/m,
    /^Release 4 \(release 1 again\) serves \S+@sha256:\w+ from blue, after [\d.]+ s$/m,
  ]) {
    expect(output).toMatch(line);
  }
  expect(whatIsLeft(demo.pid, output)).toEqual(nothing);
});

test("Ctrl-C in the middle of a deploy: it is taken back, and then nothing is left either", async () => {
  const lines: string[] = [];
  const demo = await start({
    argv: command([]),
    directory: repository,
    environment: { MARK: mark },
    onLine: (line) => lines.push(line),
    ownGroup: true,
  });
  let code: number | NodeJS.Signals | undefined;
  void demo.ended.then((ended) => {
    code = ended;
  });
  const isBaking = () =>
    lines.some((line) => line.includes("release 2 into green")) && lines.at(-1)!.includes("switch");
  await poll({ seconds: 240 }, async () => isBaking() || code !== undefined || undefined);
  expect({ code, lines }).toEqual({ code: undefined, lines });
  process.kill(demo.pid, "SIGINT");
  expect(await demo.ended).toBe(130);
  const output = lines.join("\n");
  expect(output).toMatch(/^Release 2 was not deployed: .*; release 1 serves as before$/m);
  expect(output).toEndWith("Interrupted: by SIGINT");
  expect(whatIsLeft(demo.pid, output)).toEqual(nothing);
});

test.each([
  {
    name: "where there is no root",
    argv: ["unshare", "--user", ...command(["--once"])],
    says:
      "Cannot bring up a server to deploy to: it is a second host on this machine, and that takes root on Debian with apt-get\n" +
      "  next: npm run demo    # shows what needs neither\n",
  },
  {
    name: "with --engine embedded",
    argv: command(["--engine", "embedded"]),
    says:
      "Cannot show a deploy: a server has Docker, so --engine embedded makes no sense\n" +
      "  next: npm run demo -- --deploy\n",
  },
])("$name it is exit 2", async ({ argv, says }) => {
  const { stdout, stderr } = await run({ argv, directory: repository, accept: [2] });
  expect({ stdout, stderr }).toEqual({ stdout: "", stderr: says });
});
