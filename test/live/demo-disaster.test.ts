// The demo of a disaster as the README promises it: one JSON document with every row back, then nothing is left.
import { beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { run, start } from "../../scripts/lib/run.ts";
import { poll } from "../../scripts/lib/wait.ts";
import { startEngine } from "../lab/engine.ts";
import { ensureImages } from "../lab/images.ts";
import { processesIn } from "../lab/processes.ts";
import { repository } from "../lab/repository.ts";
import { records } from "../lab/server/record.ts";

setDefaultTimeout(300_000);

let dockerEnvironment: Record<string, string>;
// An engine that is there before is not taken down by the demo.
beforeAll(async () => {
  const engine = await startEngine();
  await ensureImages(engine);
  dockerEnvironment = engine.environment;
});

const command = (flags: readonly string[]) => [process.execPath, "test/demo.ts", "--disaster", ...flags];

async function whatIsLeft(demo: number, output: string) {
  const folder = /create-dbops (\.demo\/once-\w+)/.exec(output)![1]!;
  const name = `dbops-demo-${folder.slice(".demo/".length).toLowerCase()}`;
  const lists = [["ps", "--all"], ["volume", "ls"], ["network", "ls"], ["images"]].map(async (words) => {
    const { stdout } = await run({ argv: ["docker", ...words], environment: dockerEnvironment });
    return stdout.split("\n").filter((line) => line.includes(name));
  });
  return {
    project: existsSync(join(repository, folder)),
    processes: processesIn(join(repository, folder)),
    inDocker: (await Promise.all(lists)).flat(),
    hosts: records().filter(({ owner }) => owner !== "lab" && owner.pid === demo),
  };
}
const nothing = { project: false, processes: [], inDocker: [], hosts: [] };

test("--json --once: one document, every row is back, and everything is gone", async () => {
  const stdout: string[] = [];
  const stderr: string[] = [];
  const demo = await start({
    argv: command(["--json", "--once"]),
    directory: repository,
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
    bytes: positive,
    backupSeconds: positive,
    restoreSeconds: positive,
    interruptionMs: positive,
    rowsEqual: true,
  });
  expect(document.bytes).toBeGreaterThan(50e6);
  // What the verbs print is what a person sees.
  for (const line of [
    /^\$ bun scripts\/backup\.ts --label "before the disaster"$/m,
    /^==> the disaster: the containers and the database's volume are removed, for good$/m,
    /^\$ bun scripts\/restore\.ts latest --yes --no-safety-backup$/m,
    /^ {2}done {3}swap +[\d.]+ s$/m,
    /^ {4}eight clients: \d+ queries failed, the longest wait was \d+ ms$/m,
  ]) {
    expect(output).toMatch(line);
  }
  expect(await whatIsLeft(demo.pid, output)).toEqual(nothing);
});

test("Ctrl-C in the middle of the backup: it ends, and then nothing is left either", async () => {
  const lines: string[] = [];
  const demo = await start({
    argv: command(["--once"]),
    directory: repository,
    onLine: (line) => lines.push(line),
    ownGroup: true,
  });
  let code: number | NodeJS.Signals | undefined;
  void demo.ended.then((ended) => {
    code = ended;
  });
  const isBackingUp = () => lines.some((line) => /done +connect/.test(line));
  await poll({ seconds: 240 }, async () => isBackingUp() || code !== undefined || undefined);
  expect({ code, lines }).toEqual({ code: undefined, lines });
  process.kill(demo.pid, "SIGINT");
  expect(await demo.ended).toBe(130);
  expect(await whatIsLeft(demo.pid, lines.join("\n"))).toEqual(nothing);
});

test.each([
  {
    name: "where there is no root",
    argv: ["unshare", "--user", ...command(["--once"])],
    says:
      "Cannot bring up a storage server: it is made of Debian's packages, and that takes root on Debian with apt-get\n" +
      "  next: npm run demo    # shows what needs neither\n",
  },
  {
    name: "with --engine embedded",
    argv: command(["--engine", "embedded"]),
    says:
      "Cannot show a disaster: the volume that is lost is Docker's, so --engine embedded makes no sense\n" +
      "  next: npm run demo -- --disaster\n",
  },
])("$name it is exit 2", async ({ argv, says }) => {
  const { stdout, stderr } = await run({ argv, directory: repository, accept: [2] });
  expect({ stdout, stderr }).toEqual({ stdout: "", stderr: says });
});
