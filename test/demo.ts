// Shows the kit at work, from nothing but Node and npm: a fresh project in the git-ignored .demo/, brought up for real.
//   npm run demo                                              stays up: http://localhost:8080/health
//   npm run demo -- --down                                    and is gone
//   npm run demo -- --json --once --engine embedded           one JSON document on stdout, then everything is gone again
//   npm run demo -- --deploy                                  a server, and deploys to it under load; stays until Ctrl-C
//   npm run demo -- --disaster                                a backup, a lost volume, a restore
//   npm run demo -- --drift                                   a database that is not what its migrations make, repaired
import { parseArguments } from "../scripts/lib/args.ts";
import { exitCodes, Failure } from "../scripts/lib/failure.ts";
import { runIfMain } from "../scripts/lib/verb.ts";
import { interruption } from "../scripts/lib/wait.ts";
import { deploy } from "./demo/deploy.ts";
import { disaster } from "./demo/disaster.ts";
import { drift } from "./demo/drift.ts";
import { removeLastProject } from "./demo/project.ts";
import type { Scene } from "./demo/scene.ts";
import { up } from "./demo/up.ts";

/** What can be shown. Another scene is a file beside up.ts and a line here. */
const scenes: Readonly<Record<string, Scene>> = { up, deploy, disaster, drift };

const commandLine = {
  command: "npm run demo --",
  purpose: "Creates a project and shows it at work.",
  flags: {
    engine: {
      value: "ENGINE",
      oneOf: ["docker", "embedded"],
      help: "instead of Docker if an engine answers, else embedded",
    },
    once: { help: "take everything down again and remove it" },
    down: { help: "remove what the last demo has left, and show nothing" },
    json: { help: "one JSON document on stdout" },
    ...Object.fromEntries(Object.entries(scenes).map(([name, { shows }]) => [name, { help: shows }])),
  },
} as const;

async function main(argv: readonly string[]): Promise<void> {
  const flags: Record<string, unknown> = parseArguments(argv, commandLine);
  if (flags.down) return await removeLastProject();
  const chosen = Object.keys(scenes).filter((name) => flags[name]);
  if (chosen.length > 1) {
    const why = `one scene at a time, not ${chosen.join(" and ")}`;
    throw new Failure("Cannot show the demo", why, ["npm run demo -- --help"], { exitCode: exitCodes.usage });
  }
  const scene = scenes[chosen[0] ?? "up"]!;
  const { engine, once, json } = flags as { engine?: "docker" | "embedded"; once: boolean; json: boolean };
  const result = await scene.play({ engine, once, json, interrupted: interruption() });
  if (result.exitCode !== exitCodes.done) process.exit(result.exitCode);
}

await runIfMain(import.meta, main);
