// Brings up what the live tests need, says how it stands, takes it down again.
// bun test/lab/lab.ts up [--all] [--json] | down [--cache] | status [--json] | env
import { existsSync, rmSync } from "node:fs";
import { parseArguments } from "../../scripts/lib/args.ts";
import { exitCodes, Failure } from "../../scripts/lib/failure.ts";
import { runIfMain } from "../../scripts/lib/verb.ts";
import { cacheFolder, say, step } from "./cache.ts";
import { type Engine, findEngine, startEngine, stopEngine } from "./engine.ts";
import { ensureImages, observeImages } from "./images.ts";
import { startRegistry } from "./registry.ts";
import { startS3 } from "./s3.ts";
import { listSlots } from "./server/record.ts";
import { releaseAllSlots } from "./server/slot.ts";
import { startServer } from "./server.ts";

const line = {
  command: "bun test/lab/lab.ts",
  purpose:
    "Brings up a Docker Engine, the images and the servers that the live tests use; status says how they stand, env prints what a shell needs.",
  words: ["up|down|status|env"],
  flags: {
    all: { help: "with up: also a server, a registry and an S3 server, which stay until down" },
    json: { help: "print one JSON document on stdout" },
    cache: { help: "with down: also delete what was downloaded and built" },
  },
  examples: ["bun test/lab/lab.ts up", 'eval "$(bun test/lab/lab.ts env)" && docker compose version'],
} as const;

async function main(argv: readonly string[]): Promise<void> {
  const { _: words, all, json, cache } = parseArguments(argv, line);
  const verbs: Record<string, () => Promise<void>> = {
    up: () => up(all, json),
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

async function up(all: boolean, json: boolean): Promise<void> {
  const started = performance.now();
  const engine = await startEngine();
  const images = await ensureImages(engine);
  if (all) await startHosts();
  const seconds = Number(((performance.now() - started) / 1000).toFixed(1));
  say(`ready in ${seconds} s: ${engine.version} (${engine.origin}), ${Object.keys(images).length} images`);
  if (json) console.log(JSON.stringify({ ...engine, images, hosts: listSlots(), seconds }));
}

/** They belong to the lab and not to this process, which is about to end. One of each is enough. */
async function startHosts(): Promise<void> {
  const hosts = {
    server: () => startServer({ kind: "docker", withImages: true, owner: "lab" }),
    registry: () => startRegistry({ owner: "lab" }),
    s3: () => startS3({ owner: "lab" }),
  };
  for (const [purpose, start] of Object.entries(hosts)) {
    const isUp = listSlots().some((host) => host.owner === "lab" && host.purpose === purpose);
    if (!isUp) await step<unknown>(`${purpose} up`, start);
  }
}

async function down(cache: boolean): Promise<void> {
  await step("servers, registries and S3 servers removed", releaseAllSlots);
  await step("engine, containers, bridges and firewall rules removed", stopEngine);
  if (cache) rmSync(cacheFolder(), { recursive: true, force: true });
}

async function status(json: boolean): Promise<void> {
  const engine = await findEngine();
  const images = engine ? await observeImages(engine) : {};
  if (json) {
    console.log(JSON.stringify({ engine: engine ?? null, images, hosts: listSlots(), cache: cacheFolder() }));
    return;
  }
  console.log(engine ? `${engine.version} (${engine.origin})` : "no engine runs");
  for (const [name, origin] of Object.entries(images)) console.log(`  ${name.padEnd(34)} ${origin}`);
  for (const { purpose, address, description } of listSlots()) {
    console.log(`${purpose} ${address}`);
    for (const [name, value] of Object.entries(description)) console.log(`  ${name.padEnd(12)} ${value}`);
  }
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
