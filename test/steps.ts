// Runs the steps of `npm run ok` and `npm test`, one after the other or in lanes, and says at the end where the time went.
import { mkdir, readFile, rm } from "node:fs/promises";
import { Failure } from "../scripts/lib/failure.ts";
import { start } from "../scripts/lib/run.ts";

export type Step = {
  name: string;
  argv: readonly string[];
  environment?: Record<string, string>;
  /** For a `bun test`: the name of the report in which its tests are counted. */
  report?: string;
  /** Nothing else runs beside it. */
  alone?: boolean;
};

/** JUnit files go into this git-ignored folder. */
const reports = ".lab/reports";

export type Done = { name: string; seconds: number; passed: number; failed: number };

/** @throws {Failure} for a step that failed, ran no test, or skipped one: a skipped test proves nothing. */
export async function runStep(step: Step, onLine: (line: string) => void = console.log): Promise<Done> {
  onLine(`==> ${step.name}`);
  const started = performance.now();
  const junit = step.report && `${reports}/${step.report}.xml`;
  if (junit) {
    await mkdir(reports, { recursive: true });
    // The last run's, which would count should this run write none.
    await rm(junit, { force: true });
  }
  const counting = junit ? ["--only-failures", "--reporter=junit", `--reporter-outfile=${junit}`] : [];
  const argv = [...step.argv, ...counting];
  const program = await start({ argv, environment: step.environment ?? {}, onLine: (line) => onLine(line) });
  const code = await program.ended;
  const seconds = (performance.now() - started) / 1000;
  const { tests, failures, skipped } = junit ? await counts(junit) : { tests: 0, failures: 0, skipped: 0 };
  if (code !== 0) throw new Failure(`Step "${step.name}" failed`, `"${argv.join(" ")}" ended with ${code}`);
  if (junit && tests === 0) throw new Failure(`Step "${step.name}" proves nothing`, "it ran no test");
  if (skipped > 0) throw new Failure(`Step "${step.name}" proves too little`, `${skipped} tests were skipped`);
  return { name: step.name, seconds, passed: tests - failures - skipped, failed: failures };
}

export async function runSteps(steps: readonly Step[]): Promise<Done[]> {
  const done: Done[] = [];
  for (const step of steps) done.push(await runStep(step));
  return done;
}

/**
 * Runs steps side by side, so many at a time, then those that want to be alone; all of them, even when one fails. What a step
 * prints comes in one piece, at its end.
 * @throws {Failure} naming every step that failed.
 */
export async function runInLanes(steps: readonly Step[], lanes: number): Promise<Done[]> {
  const done: Done[] = [];
  const failed: string[] = [];
  const lane = async (waiting: Step[]) => {
    for (let step = waiting.shift(); step; step = waiting.shift()) {
      const lines: string[] = [];
      try {
        const result = await runStep(step, (line) => lines.push(line));
        lines.push(`${result.seconds.toFixed(1).padStart(7)} s  ${result.passed} passed`);
        done.push(result);
      } catch (error) {
        lines.push(`FAILED: ${(error as Error).message}`);
        failed.push(step.name);
      }
      console.log(lines.join("\n"));
    }
  };
  const sociable = steps.filter(({ alone }) => !alone);
  await Promise.all(Array.from({ length: lanes }, () => lane(sociable)));
  await lane(steps.filter(({ alone }) => alone));
  if (failed.length > 0) throw new Failure("Tests failed", `in ${failed.sort().join(", ")}`);
  return done;
}

/** Where the time went; the last line is the count that CI reads. */
export function formatDone(done: readonly Done[]): string {
  const total = (of: (step: Done) => number) => done.reduce((sum, step) => sum + of(step), 0);
  return [
    "",
    ...done.map(({ name, seconds }) => `${seconds.toFixed(1).padStart(7)} s  ${name}`),
    `${total(({ seconds }) => seconds)
      .toFixed(1)
      .padStart(7)} s  in all`,
    "",
    `${total(({ passed }) => passed)} passed, ${total(({ failed }) => failed)} failed`,
  ].join("\n");
}

async function counts(junit: string): Promise<{ tests: number; failures: number; skipped: number }> {
  const head = /<testsuites[^>]*>/.exec(await readFile(junit, "utf8").catch(() => ""))?.[0] ?? "";
  const attribute = (name: string) => Number(new RegExp(` ${name}="(\\d+)"`).exec(head)?.[1] ?? 0);
  return { tests: attribute("tests"), failures: attribute("failures"), skipped: attribute("skipped") };
}
