// What a verb says when the project's packages are not installed, instead of a stack trace of the runtime.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { exitCodes, Failure } from "./failure.ts";

const managers = {
  bun: { lock: "bun.lock", install: "bun install", add: "bun add --dev --exact " },
  pnpm: { lock: "pnpm-lock.yaml", install: "pnpm install", add: "pnpm add --save-dev --save-exact " },
  yarn: { lock: "yarn.lock", install: "yarn install", add: "yarn add --dev --exact " },
  deno: { lock: "deno.lock", install: "deno install", add: "deno add --dev npm:" },
  npm: { lock: "package-lock.json", install: "npm install", add: "npm install --save-dev --save-exact " },
};

/** By its lock file; where there is none, by who runs this. */
function managerOf(project: string) {
  const known = Object.values(managers).find(({ lock }) => existsSync(join(project, lock)));
  return known ?? managers[process.versions.deno ? "deno" : process.versions.bun ? "bun" : "npm"];
}

/** The command that installs this project's packages. */
export const installCommand = (project: string): string => managerOf(project).install;

/** @param exact "name@1.2.3", for development alone. */
export const addCommand = (project: string, exact: string): string => managerOf(project).add + exact;

/**
 * For `await import("./lib/….ts").catch(packageMissing)`: a static import fails before there is anybody to explain it.
 * @throws {Failure} exit 2 when a package is missing; otherwise the error as it came.
 */
export function packageMissing(error: unknown): never {
  const { message } = error as Error;
  const name =
    /Cannot find (?:package|module) ['"]([^'"]+)['"]/i.exec(message)?.[1] ??
    /(?:matching package for|Import|Could not find) ['"](?:npm:)?([^'"]+?)(?:@[\d.]+)?['"]/i.exec(message)?.[1];
  if (!name || name.startsWith(".") || name.startsWith("/")) throw error;
  throw new Failure(
    "Cannot run this verb",
    `npm package "${name}" is not installed here`,
    [installCommand(process.cwd())],
    {
      exitCode: exitCodes.usage,
      cause: error,
    },
  );
}
