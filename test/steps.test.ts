// The suite's own runner: side by side or not, every step runs, and one that failed is not lost among the others.
import { afterAll, afterEach, expect, spyOn, test } from "bun:test";
import { formatDone, runInLanes, type Step } from "./steps.ts";

const printed: string[] = [];
const log = spyOn(console, "log").mockImplementation((text: string) => void printed.push(text));
afterEach(() => void printed.splice(0));
afterAll(() => log.mockRestore());

const says = (name: string, code = 0): Step => ({ name, argv: ["sh", "-c", `echo "${name} speaks"; exit ${code}`] });

test("all steps run, those that want to be alone last, and each one's words stay together", async () => {
  const done = await runInLanes([{ ...says("alone"), alone: true }, says("one"), says("two"), says("three")], 2);
  expect(done.map(({ name }) => name).at(-1)).toBe("alone");
  expect(done.map(({ name }) => name).sort()).toEqual(["alone", "one", "three", "two"]);
  for (const name of ["one", "two", "three", "alone"]) {
    expect(printed.some((text) => text.startsWith(`==> ${name}\n${name} speaks\n`))).toBe(true);
  }
});

test("after a failed step the others still run, and the failed ones are named", async () => {
  const run = runInLanes([says("bad", 3), says("good"), { ...says("worse", 1), alone: true }], 2);
  await expect(run).rejects.toMatchObject({ what: "Tests failed", why: "in bad, worse" });
  expect(printed.join("\n")).toContain("good speaks");
  expect(printed.join("\n")).toContain('FAILED: Step "bad" failed');
});

test("the last line counts all tests", () => {
  const done = [
    { name: "a", seconds: 1.25, passed: 3, failed: 0 },
    { name: "b", seconds: 10, passed: 4, failed: 0 },
  ];
  const expected = ["", "    1.3 s  a", "   10.0 s  b", "   11.3 s  in all", "", "7 passed, 0 failed"];
  expect(formatDone(done).split("\n")).toEqual(expected);
});
