// The demo as the README promises it: one JSON document, then nothing is left.
import { beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { run, start } from "../../scripts/lib/run.ts";
import { poll } from "../../scripts/lib/wait.ts";
import { startEngine } from "../lab/engine.ts";
import { ensureImages } from "../lab/images.ts";
import { processesIn } from "../lab/processes.ts";
import { repository } from "../lab/repository.ts";

setDefaultTimeout(180_000);

let dockerEnvironment: Record<string, string>;
beforeAll(async () => {
  const engine = await startEngine();
  await ensureImages(engine);
  dockerEnvironment = engine.environment;
});

const command = (flags: readonly string[]) => [process.execPath, "test/demo.ts", "--once", ...flags];
/** Other demos run beside us, and have folders of their own. */
const folderIn = (output: string) => /create-dbops (\.demo\/once-\w+)/.exec(output)![1]!;

test.each(["embedded", "docker"])("--json --once --engine %s: one document, and everything is gone", async (engine) => {
  const { stdout, stderr } = await run({
    argv: command(["--json", "--engine", engine]),
    directory: repository,
    environment: engine === "docker" ? dockerEnvironment : {},
    timeoutSeconds: 240,
  });
  const answer = JSON.parse(stdout);
  expect(Object.keys(answer)).toEqual(["engine", "url", "seconds", "health"]);
  expect(answer).toMatchObject({ engine, health: { status: "healthy", schema: { all_tables_exist: true } } });
  expect(answer.url).toMatch(/^http:\/\/localhost:\d+$/);
  const folder = folderIn(stderr);
  expect(existsSync(join(repository, folder))).toBe(false);
  expect(processesIn(join(repository, folder))).toEqual([]);
  const name = `dbops-demo-${folder.slice(".demo/".length).toLowerCase()}`;
  for (const words of [["ps", "--all"], ["volume", "ls"], ["network", "ls"], ["images"]]) {
    const { stdout } = await run({ argv: ["docker", ...words], environment: dockerEnvironment });
    expect(stdout).not.toContain(name);
  }
});

test("Ctrl-C in the middle leaves nothing either", async () => {
  const lines: string[] = [];
  const demo = await start({
    argv: command(["--engine", "embedded"]),
    directory: repository,
    onLine: (line) => lines.push(line),
    ownGroup: true,
  });
  const started = await poll(
    { seconds: 60 },
    async () => lines.some((line) => line.includes("postgres on port")) || undefined,
  );
  expect(started).toBe(true);
  const folder = join(repository, folderIn(lines.join("\n")));
  expect(existsSync(folder)).toBe(true);
  process.kill(demo.pid, "SIGINT");
  expect(await demo.ended).toBe(130);
  expect(existsSync(folder)).toBe(false);
});

test("an unknown flag is exit 2", async () => {
  const { stderr } = await run({ argv: command(["--fireworks"]), directory: repository, accept: [2] });
  expect(stderr).toContain('Cannot run "npm run demo --": --fireworks is not a flag of this command');
});
