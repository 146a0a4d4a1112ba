// What a verb says when the project's packages are not installed, instead of a stack trace of the runtime.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { exitCodes, Failure } from "./failure.ts";

const installCommands = [
  ["bun.lock", "bun install"],
  ["pnpm-lock.yaml", "pnpm install"],
  ["yarn.lock", "yarn install"],
  ["deno.lock", "deno install"],
  ["package-lock.json", "npm install"],
] as const;

/** The command that installs this project's packages, by its lock file. */
export function installCommand(project: string): string {
  const known = installCommands.find(([lock]) => existsSync(join(project, lock)));
  return known?.[1] ?? (process.versions.deno ? "deno install" : process.versions.bun ? "bun install" : "npm install");
}

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
