// The demo of drift as the README promises it: one JSON document with every difference repaired, then nothing is left.
import { beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { run } from "../../scripts/lib/run.ts";
import { startEngine } from "../lab/engine.ts";
import { ensureImages } from "../lab/images.ts";
import { repository } from "../lab/repository.ts";

setDefaultTimeout(300_000);

let environment: Record<string, string>;
// An engine that is there before is not taken down by the demo.
beforeAll(async () => {
  const engine = await startEngine();
  await ensureImages(engine);
  environment = engine.environment;
});

const demo = (flags: readonly string[], accept: number[]) =>
  run({
    argv: [process.execPath, "test/demo.ts", "--drift", ...flags],
    ...{ directory: repository, accept, timeoutSeconds: 240 },
  });

test("--json --once: three differences, three repaired, none left; and everything is gone", async () => {
  const { stdout, stderr } = await demo(["--json", "--once"], [0]);
  expect(stdout).toBe('{"before":3,"repaired":3,"after":0}\n');
  // What the verbs print is what a person sees.
  for (const line of [
    /^\$ bun scripts\/drift\.ts check$/m,
    /^ {2}integer history {4}schema_migrations: /m,
    /^ {2}invalid index {6}public\.accounts_nickname_key: /m,
    /^ {2}structure {10}column public\.accounts\.nickname: only in the database$/m,
    /^ {8}\| ALTER TABLE "public"\."accounts" ADD COLUMN "nickname" text;$/m,
    / is what migrations\/ make of it: 5 applied$/m,
  ]) {
    expect(stderr).toMatch(line);
  }
  const folder = /create-dbops (\.demo\/once-\w+)/.exec(stderr)![1]!;
  expect(existsSync(join(repository, folder))).toBe(false);
  const name = `dbops-demo-${folder.slice(".demo/".length).toLowerCase()}`;
  for (const words of [
    ["ps", "--all"],
    ["volume", "ls"],
    ["network", "ls"],
  ]) {
    const { stdout: list } = await run({ argv: ["docker", ...words], environment });
    expect(list).not.toContain(name);
  }
});

test("with --engine embedded it is exit 2", async () => {
  const { stdout, stderr } = await demo(["--engine", "embedded"], [2]);
  expect({ stdout, stderr }).toEqual({
    stdout: "",
    stderr: `Cannot show drift: migrations are tried in a container, so --engine embedded makes no sense
  next: npm run demo -- --drift
`,
  });
});
