// The quick loop: format, lint, types under tsc and under Deno, the pure tests. Under 30 s, no server, no network.
// Run it: npm run ok
import { runIfMain } from "../scripts/lib/verb.ts";
import { formatDone, runSteps, type Step } from "./steps.ts";

export const quickSteps: readonly Step[] = [
  { name: "format and lint", argv: ["biome", "check", "--error-on-warnings", "."] },
  { name: "types (tsc)", argv: ["tsc"] },
  { name: "types (deno check)", argv: ["deno", "check", "scripts"] },
  { name: "bundle the scaffolder", argv: ["bun", "--no-env-file", "create/build.ts"] },
  {
    name: "pure tests",
    argv: ["bun", "--no-env-file", "test", "--timeout=60000", "--path-ignore-patterns=**/live/**"],
    report: "pure",
  },
];

await runIfMain(import.meta, async () => console.log(formatDone(await runSteps(quickSteps))));
