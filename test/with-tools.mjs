// What every npm script starts with: installs the project's own tools when they are missing or older than the lock
// file, then runs a TypeScript file with Bun. Plain JavaScript for Node 20, because nothing else is there yet.
import { spawn, spawnSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { constants } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const installedFor = join(root, "node_modules", ".installed-for");
const lock = readFileSync(join(root, "package-lock.json"), "utf8");

if (!existsSync(installedFor) || readFileSync(installedFor, "utf8") !== lock) {
  console.error("==> npm install: the tools of this repository, into node_modules");
  // Not `npm ci`: it refuses a lock file without the other platforms' binaries, which not every registry has. --no-save
  // keeps the lock file as it is.
  const install = spawnSync("npm", ["install", "--no-save", "--loglevel=notice"], {
    cwd: root,
    stdio: ["ignore", 2, 2],
  });
  if (install.status !== 0) {
    console.error("Cannot install the tools: npm install failed, see above\n  next: npm install");
    process.exit(1);
  }
  writeFileSync(installedFor, lock);
}

const [file, ...rest] = process.argv.slice(2);
const tools = join(root, "node_modules", ".bin");
const child = spawn(join(tools, "bun"), ["--no-env-file", join(root, file), ...rest], {
  stdio: "inherit",
  env: { ...process.env, PATH: `${tools}${delimiter}${process.env.PATH}` },
});
// A terminal's Ctrl-C reaches Bun by itself, a SIGTERM does not. Either way Bun tidies up and we wait for it.
process.on("SIGINT", () => {});
process.on("SIGTERM", () => child.kill("SIGTERM"));
child.on("error", (error) => {
  console.error(`Cannot run ${join(tools, "bun")}: ${error.message}\n  next: npm install`);
  process.exit(1);
});
child.on("exit", (code, signal) => process.exit(code ?? 128 + (constants.signals[signal] ?? 1)));
