// The whole test suite, from nothing: quick checks, then the lab's real servers, then every live test against them.
// Run it: npm test                       all of it; the lab is taken down again if this run brought it up
//         npm test -- --keep             leave the lab running: the next run starts at once
//         npm test -- compose validator  only the live tests whose file names begin with one of these words
import { readdirSync, readFileSync } from "node:fs";
import { parseArguments } from "../scripts/lib/args.ts";
import { exitCodes, Failure } from "../scripts/lib/failure.ts";
import { run } from "../scripts/lib/run.ts";
import { runIfMain } from "../scripts/lib/verb.ts";
import { type Engine, findEngine, startEngine, stopEngine } from "./lab/engine.ts";
import { ensureImages } from "./lab/images.ts";
import { listSlots } from "./lab/server/record.ts";
import { releaseAllSlots } from "./lab/server/slot.ts";
import { quickSteps } from "./ok.ts";
import { type Done, formatDone, runInLanes, runSteps, type Step } from "./steps.ts";

const line = {
  command: "npm test --",
  purpose: "Runs everything: format, lint, types, pure tests, and the live tests against real servers.",
  words: ["[WORD...]"],
  flags: { keep: { help: "leave the lab's engine running" } },
} as const;

async function main(argv: readonly string[]): Promise<void> {
  const { _: words, keep } = parseArguments(argv, line);
  const done: Done[] = words.length > 0 ? [] : await runSteps(quickSteps);
  const wasRunning = (await findEngine()) !== undefined;
  try {
    const started = performance.now();
    const engine = await startEngine();
    await ensureImages(engine);
    done.push({ name: "lab up", seconds: (performance.now() - started) / 1000, passed: 0, failed: 0 });
    const before = await observeEngine(engine);
    done.push(await runLiveTests(engine, words));
    await refuseLeftovers(engine, before);
  } finally {
    if (!wasRunning && !keep) {
      await releaseAllSlots();
      await stopEngine();
    }
  }
  console.log(formatDone(done));
}

/** One process a file, two at a time: they wait for servers more than they compute. */
async function runLiveTests(engine: Engine, words: readonly string[]): Promise<Done> {
  const started = performance.now();
  const folder = new URL("live/", import.meta.url);
  const files = readdirSync(folder)
    .filter((file) => file.endsWith(".test.ts") && (words.length === 0 || words.some((word) => file.startsWith(word))))
    .map((file) => ({ file, text: readFileSync(new URL(file, folder), "utf8") }))
    // The longest text tends to take the longest: begun first, it does not run alone at the end.
    .sort((a, b) => b.text.length - a.text.length);
  if (files.length === 0) {
    const why = `no file in test/live begins with "${words.join('" or "')}"`;
    throw new Failure("Cannot run the live tests", why, [], { exitCode: exitCodes.usage });
  }
  const steps = files.map(
    ({ file, text }): Step => ({
      name: file.replace(/\.test\.ts$/, ""),
      argv: ["bun", "--no-env-file", "test", "--timeout=300000", `./test/live/${file}`],
      environment: engine.environment,
      report: `live-${file}`,
      alone: text.startsWith("// Runs alone:"),
    }),
  );
  const done = await runInLanes(steps, 2);
  return {
    name: `live tests, ${files.length} files`,
    seconds: (performance.now() - started) / 1000,
    passed: done.reduce((sum, { passed }) => sum + passed, 0),
    failed: 0,
  };
}

/** Every container, volume, network and lab host there is, as "kind name". */
async function observeEngine({ environment }: Engine): Promise<Set<string>> {
  const lists = {
    container: ["ps", "--all", "--format", "{{.Names}}"],
    volume: ["volume", "ls", "--format", "{{.Name}}"],
    network: ["network", "ls", "--format", "{{.Name}}"],
  };
  const found = Object.entries(lists).map(async ([kind, words]) => {
    const { stdout } = await run({ argv: ["docker", ...words], environment });
    return stdout
      .split("\n")
      .filter(Boolean)
      .map((name) => `${kind} ${name}`);
  });
  const hosts = listSlots().map(({ purpose, address }) => `${purpose} ${address}`);
  return new Set([...(await Promise.all(found)).flat(), ...hosts]);
}

/** Tests clean up after themselves: somebody's engine may be the one that answered. */
async function refuseLeftovers(engine: Engine, before: ReadonlySet<string>): Promise<void> {
  const left = [...(await observeEngine(engine))].filter((name) => !before.has(name));
  if (left.length > 0) throw new Failure("The tests are not clean", `they left ${left.join(", ")}`, []);
}

await runIfMain(import.meta, main);
