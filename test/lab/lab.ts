// Brings up what the live tests need, says how it stands, takes it down again.
// bun test/lab/lab.ts up [--json] | down [--cache] | status [--json] | env
import { existsSync, rmSync } from "node:fs";
import { parseArguments } from "../../scripts/lib/args.ts";
import { exitCodes, Failure } from "../../scripts/lib/failure.ts";
import { runIfMain } from "../../scripts/lib/verb.ts";
import { cacheFolder, say, step } from "./cache.ts";
import { type Engine, findEngine, startEngine, stopEngine } from "./engine.ts";
import { ensureImages, observeImages } from "./images.ts";

const line = {
  command: "bun test/lab/lab.ts",
  purpose:
    "Brings up a Docker Engine and the images that the live tests use; status says how they stand, env prints what a shell needs.",
  words: ["up|down|status|env"],
  flags: {
    json: { help: "print one JSON document on stdout" },
    cache: { help: "with down: also delete what was downloaded and built" },
  },
  examples: ["bun test/lab/lab.ts up", 'eval "$(bun test/lab/lab.ts env)" && docker compose version'],
} as const;

async function main(argv: readonly string[]): Promise<void> {
  const { _: words, json, cache } = parseArguments(argv, line);
  const verbs: Record<string, () => Promise<void>> = {
    up: () => up(json),
    down: () => down(cache),
    status: () => status(json),
    env: printEnvironment,
  };
  const verb = verbs[words[0] ?? ""];
  if (!verb) {
    throw new Failure(
      `Cannot run "${line.command}"`,
      `it takes one of ${Object.keys(verbs).join(", ")}`,
      [`${line.command} --help`],
      {
        exitCode: exitCodes.usage,
      },
    );
  }
  await verb();
}

async function up(json: boolean): Promise<void> {
  const started = performance.now();
  const engine = await startEngine();
  const images = await ensureImages(engine);
  const seconds = Number(((performance.now() - started) / 1000).toFixed(1));
  say(`ready in ${seconds} s: ${engine.version} (${engine.origin}), ${Object.keys(images).length} images`);
  if (json) console.log(JSON.stringify({ ...engine, images, seconds }));
}

async function down(cache: boolean): Promise<void> {
  await step("engine, containers, bridges and firewall rules removed", stopEngine);
  if (cache) rmSync(cacheFolder(), { recursive: true, force: true });
}

async function status(json: boolean): Promise<void> {
  const engine = await findEngine();
  const images = engine ? await observeImages(engine) : {};
  if (json) {
    console.log(JSON.stringify({ engine: engine ?? null, images, cache: cacheFolder() }));
    return;
  }
  console.log(engine ? `${engine.version} (${engine.origin})` : "no engine runs");
  for (const [name, origin] of Object.entries(images)) console.log(`  ${name.padEnd(34)} ${origin}`);
  console.log(existsSync(cacheFolder()) ? `cache: ${cacheFolder()}` : "no cache");
}

/** Lines for a shell's eval. */
async function printEnvironment(): Promise<void> {
  const engine: Engine | undefined = await findEngine();
  if (!engine) throw new Failure("Cannot print the environment", "no engine runs", [`${line.command} up`]);
  for (const [name, value] of Object.entries(engine.environment)) {
    console.log(`export ${name}='${value.replaceAll("'", `'\\''`)}'`);
  }
}

await runIfMain(import.meta, main);
