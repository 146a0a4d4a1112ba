// flow() of scripts/lib/flow.ts, the pipe that every backup and restore runs through: whatever its programs do, a crash is never taken
// for the end of the data. The cases are in lab/flow-cases.ts, because all three runtimes have to agree on them.
import { describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { flow } from "../scripts/lib/flow.ts";
import { identify, isRunning } from "../scripts/lib/process.ts";
import { run } from "../scripts/lib/run.ts";
import { poll } from "../scripts/lib/wait.ts";
import { watchArgv } from "./lab/argv-watch.ts";
import { cases, line, outcomeOf } from "./lab/flow-cases.ts";
import { childrenOf } from "./lab/processes.ts";
import { programs, repository } from "./lab/repository.ts";

describe("what comes out", () => {
  test.each(cases)("$name", async ({ run, says }) => expect(await run()).toBe(says), 30_000);

  const expected = Object.fromEntries(cases.map(({ name, says }) => [name, says]));
  const file = join(repository, "test/lab/flow-cases.ts");
  test("the same under Deno and under Node", async () => {
    const folder = mkdtempSync(join(tmpdir(), "dbops-flow-"));
    // A bundle in JavaScript, because not every Node reads TypeScript.
    const bundle = join(folder, "cases.mjs");
    await run({ argv: [process.execPath, "build", file, "--target=node", `--outfile=${bundle}`] });
    const runtimes = [
      [join(programs, "deno"), "run", "--allow-all", file],
      ["node", bundle],
    ];
    const results = await Promise.all(runtimes.map((argv) => run({ argv, timeoutSeconds: 90 })));
    rmSync(folder, { recursive: true });
    expect(results.map(({ stdout }) => JSON.parse(stdout))).toEqual([expected, expected]);
  }, 100_000);
});

test("who does not read hears of a failure all the same, at once and only once; and of no end that is a good one", async () => {
  const heard: unknown[] = [];
  const onFailure = (error: unknown) => heard.push((error as Error).message);
  const unread = flow(line("head -c 1000 /dev/zero; exit 7", "cat"), { onFailure });
  expect(await poll({ seconds: 10 }, async () => heard[0])).toBe("a failed: it exited with 7");
  await unread.stop();
  const good = flow(line("echo", "cat"), { onFailure });
  for await (const _ of good.output);
  await good.stop();
  await flow(line("sleep 100", "cat"), { onFailure }).stop();
  expect(heard).toEqual(["a failed: it exited with 7"]);
});

describe("nobody is left", () => {
  /** Of this process, without those of other tests: none runs beside. */
  const noChildren = () => poll({ seconds: 5 }, async () => (childrenOf(process.pid).length === 0 ? true : undefined));

  test("when the reader leaves early", async () => {
    for await (const _ of flow([
      { name: "zeros", argv: ["cat", "/dev/zero"] },
      { name: "cat", argv: ["cat"] },
    ]).output)
      break;
    expect(childrenOf(process.pid)).toEqual([]);
  });

  test("when nobody ever reads, and stop() is called, twice", async () => {
    const running = flow([
      { name: "zeros", argv: ["cat", "/dev/zero"] },
      { name: "cat", argv: ["cat"] },
    ]);
    await Promise.all([running.stop(), running.stop()]);
    expect(childrenOf(process.pid)).toEqual([]);
    await running.stop();
  });

  test("when a program and what it has started ignore SIGTERM", async () => {
    const script = "trap '' TERM; sh -c 'trap \"\" TERM; echo $$; while :; do sleep 0.1; done' & wait; wait";
    const { output, stop } = flow([{ name: "deaf", argv: ["sh", "-c", script] }]);
    const { value } = await output.next();
    const grandchild = (await identify(Number(value!.toString())))!;
    expect(await isRunning(grandchild)).toBe(true);
    await stop();
    expect(await poll({ seconds: 5 }, async () => ((await isRunning(grandchild)) ? undefined : "gone"))).toBe("gone");
    expect(childrenOf(process.pid)).toEqual([]);
  }, 20_000);

  test("when a program fails, and when the input waits for ever", async () => {
    async function* never(): AsyncGenerator<Uint8Array> {
      yield new Uint8Array(1);
      await new Promise(() => {});
    }
    const stages = [{ name: "a", argv: ["sh", "-c", "exit 3"] }];
    expect(await outcomeOf(flow(stages, { input: never() }))).toBe("a failed: it exited with 3");
    expect(await noChildren()).toBe(true);
  }, 20_000);
});

test("the secret is in no command line", async () => {
  const secret = crypto.randomUUID();
  const watch = await watchArgv([secret]);
  const argv = ["sh", "-c", "cat <&3 >/dev/null; sleep 0.3; echo seen"];
  expect(await outcomeOf(flow([{ name: "a", argv, secret }]))).toBe("5 bytes");
  const { found, seen } = await watch.stop();
  expect(found).toEqual([]);
  expect(seen.filter((line) => line.includes("echo seen"))).toHaveLength(1);
});

test("a program that reads no input hears every few seconds that we are alive", async () => {
  const argv = ["sh", "-c", "read -r line && echo heard; cat >/dev/null"];
  const { output, stop } = flow([{ name: "a", argv, heartbeat: true }]);
  expect((await output.next()).value?.toString()).toBe("heard\n");
  await stop();
}, 20_000);

test("a gigabyte flows through in the memory of ten megabytes", async () => {
  const script = `
    import { flow } from "./scripts/lib/flow.ts";
    const cat = { name: "cat", argv: ["cat"] };
    const peakOf = async (bytes) => {
      let [peak, count] = [0, 0];
      for await (const chunk of flow([{ name: "head", argv: ["head", "-c", String(bytes), "/dev/zero"] }, cat, cat]).output) {
        count += chunk.length;
        peak = Math.max(peak, process.memoryUsage.rss());
      }
      return { peak, count };
    };
    const few = await peakOf(10e6);
    const many = await peakOf(1e9);
    console.log(JSON.stringify({ count: many.count, ratio: many.peak / few.peak }));`;
  const { stdout } = await run({ argv: [process.execPath, "-e", script], directory: repository, timeoutSeconds: 60 });
  const { count, ratio } = JSON.parse(stdout);
  expect(count).toBe(1e9);
  // Whoever kept the bytes would need twenty times as much.
  expect(ratio).toBeLessThan(3);
}, 60_000);
