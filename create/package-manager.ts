// Which package manager the user works with, and how its commands are spelled.
import { accessSync, constants, statSync } from "node:fs";
import { delimiter, join } from "node:path";

const packageManagers = ["npm", "pnpm", "yarn", "bun", "deno"] as const;
export type PackageManager = (typeof packageManagers)[number];

const lockFiles: Record<string, PackageManager> = {
  "package-lock.json": "npm",
  "npm-shrinkwrap.json": "npm",
  "pnpm-lock.yaml": "pnpm",
  "yarn.lock": "yarn",
  "bun.lock": "bun",
  "bun.lockb": "bun",
  "deno.lock": "deno",
};

type Traces = {
  /** npm_config_user_agent: every package manager sets it for what it starts. */
  userAgent: string;
  /** Names in the target folder. */
  entries: readonly string[];
  /** What the project's scripts run on. */
  runtime: "bun" | "deno";
  isOnPath: (program: string) => boolean;
};

/**
 * A lock file speaks for the project and comes first: whoever types `npx create-dbops .` in a pnpm repository must not
 * get a second lock file. Then the one that started us, then what is installed, the project's own runtime first.
 */
export function detectPackageManager({ userAgent, entries, runtime, isOnPath }: Traces): PackageManager {
  const locked = new Set(entries.flatMap((name) => lockFiles[name] ?? []));
  const agent = packageManagers.find((name) => userAgent.startsWith(`${name}/`));
  // Several lock files: the one of the program that started us, if it is among them.
  if (locked.size > 0) return agent && locked.has(agent) ? agent : [...locked][0]!;
  return agent ?? ([runtime, "bun", "deno"] as const).find(isOnPath) ?? "npm";
}

/** In CI, pnpm refuses by default to touch a lock file, and ours has just changed package.json. */
export function installCommand(manager: PackageManager): string[] {
  return manager === "pnpm" ? ["pnpm", "install", "--no-frozen-lockfile"] : [manager, "install"];
}

/** `run` everywhere: a bare `pnpm up` or `yarn up` would update the dependencies. */
export function runCommand(manager: PackageManager, script: string): string {
  return manager === "deno" ? `deno task ${script}` : `${manager} run ${script}`;
}

/** The runtime without installing it: npm carries both as packages. */
export function runtimeFromPackage(manager: PackageManager): string {
  return manager === "pnpm" ? "pnpm dlx" : "npx --yes";
}

export function isOnPath(program: string): boolean {
  return (process.env.PATH ?? "").split(delimiter).some((folder) => isExecutable(join(folder, program)));
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return statSync(file).isFile();
  } catch {
    return false;
  }
}
