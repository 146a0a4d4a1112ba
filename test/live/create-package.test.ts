// The package, as every package manager gets it from a registry: downloaded, started, and a project is there.
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { brotliDecompressSync } from "node:zlib";
import { type Payload, readKit } from "../../create/kit.ts";
import { type Manifest, manifestPath } from "../../create/manifest.ts";
import { renderProject } from "../../create/render.ts";
import { run } from "../../scripts/lib/run.ts";
import { cacheFolder, whole } from "../lab/cache.ts";
import { type Registry, startRegistry } from "../lab/npm-registry.ts";
import { programs, repository } from "../lab/repository.ts";
import { cleanEnvironment, packScaffolder, type Scaffolder } from "../lab/scaffolder.ts";

setDefaultTimeout(120_000);

let scaffolder: Scaffolder;
let kit: Payload;
let registry: Registry;
let otherManagers: string;

beforeAll(async () => {
  scaffolder = await packScaffolder();
  kit = readKit(repository);
  registry = await startRegistry([scaffolder.tarball]);
  otherManagers = await installOtherManagers();
});
afterAll(async () => {
  await registry?.stop();
  scaffolder?.remove();
});

/** pnpm and yarn are npm packages themselves. */
async function installOtherManagers(): Promise<string> {
  const packages = ["pnpm@10.34.8", "yarn@1.22.22"];
  return whole(cacheFolder("package-managers", packages.join("-")), async (temporary) => {
    await run({ argv: ["npm", "install", "--no-save", "--prefix", temporary, ...packages], timeoutSeconds: 120 });
  });
}

test("the tarball holds the program and nothing that needs installing", () => {
  const { files, bytes, bytesUnpacked } = scaffolder.contents;
  expect(files).toEqual(["LICENSE", "README.md", "dist/create-dbops.mjs", "package.json"]);
  expect(bytes).toBeLessThan(450_000);
  expect(bytesUnpacked).toBeLessThan(1_500_000);
  const manifest = JSON.parse(readFileSync(join(scaffolder.program, "..", "..", "package.json"), "utf8"));
  expect(manifest.dependencies ?? {}).toEqual({});
  expect(statSync(scaffolder.program).mode & 0o777).toBe(0o755);
  const text = readFileSync(scaffolder.program, "utf8");
  expect(text).toStartWith("#!/usr/bin/env node\n");
  // A path of the machine that built it would be a leak: in the program, and in the files that it carries.
  expect(text).not.toContain(repository);
  const [, carried] = /brotliDecompressSync\w*\(Buffer\.from\("([^"]+)"/.exec(text)!;
  const payload = brotliDecompressSync(Buffer.from(carried!, "base64")).toString();
  expect(payload).toBe(JSON.stringify(kit));
  expect(payload).not.toContain(repository);
});

const starts: { argv: string[]; runtime: "bun" | "deno"; next: string[] }[] = [
  { argv: ["npx", "--yes", "create-dbops"], runtime: "bun", next: ["npm install", "npm run up"] },
  { argv: ["npm", "create", "--yes", "dbops", "--"], runtime: "bun", next: ["npm install", "npm run up"] },
  { argv: ["bunx", "create-dbops"], runtime: "bun", next: ["bun install", "bun run up"] },
  { argv: ["bun", "create", "dbops"], runtime: "bun", next: ["bun install", "bun run up"] },
  {
    argv: ["pnpm", "create", "dbops"],
    runtime: "bun",
    next: ["pnpm install --no-frozen-lockfile", "pnpm run up"],
  },
  { argv: ["yarn", "create", "dbops"], runtime: "bun", next: ["yarn install", "yarn run up"] },
  { argv: ["deno", "run", "-A", "npm:create-dbops"], runtime: "deno", next: ["deno install", "deno task up"] },
  { argv: ["deno", "create", "-y", "npm:dbops", "--"], runtime: "deno", next: ["deno install", "deno task up"] },
];

// One on PATH would be started by bunx instead of ours, whatever version it is.
afterEach(() => expect(Bun.which("create-dbops")).toBeNull());

test.each(starts)("$argv writes a whole project", async ({ argv, runtime, next }) => {
  const home = scaffolder.folder();
  const here = scaffolder.folder();
  const onPath = [join(otherManagers, "node_modules", ".bin"), programs, process.env.PATH];
  const { stdout, stderr } = await run({
    argv: [...argv, "shop", "--no-install", "--json"],
    directory: here,
    environment: cleanEnvironment({
      HOME: home,
      XDG_CACHE_HOME: undefined,
      PATH: onPath.join(":"),
      npm_config_registry: registry.url,
      NPM_CONFIG_REGISTRY: registry.url,
      npm_config_userconfig: join(home, ".npmrc"),
      BUN_INSTALL_CACHE_DIR: join(home, "bun"),
      BUN_TMPDIR: home,
      TMPDIR: home,
      DENO_DIR: join(home, "deno"),
      // As root, yarn would install it for the whole machine.
      PREFIX: join(home, "yarn"),
      YARN_GLOBAL_FOLDER: join(home, "yarn-global"),
      YARN_CACHE_FOLDER: join(home, "yarn-cache"),
      NO_PROXY: "127.0.0.1",
      no_proxy: "127.0.0.1",
    }),
    timeoutSeconds: 60,
  });
  // yarn and pnpm print around what they start: ours is the one line that is JSON.
  const line = stdout.split("\n").find((text) => text.startsWith("{"));
  expect({ line: line !== undefined, stderr }).toMatchObject({ line: true });
  const answer = JSON.parse(line!);
  expect(answer.directory).toBe(join(here, "shop"));
  expect(answer.answers.runtime).toBe(runtime);
  expect(answer.next).toEqual(["cd shop", "docker compose up", ...next]);

  const project = join(here, "shop");
  const manifest: Manifest = JSON.parse(readFileSync(join(project, manifestPath), "utf8"));
  for (const { path, text, mode } of renderProject(kit, manifest.answers)) {
    expect({ path, text: readFileSync(join(project, path), "utf8") }).toEqual({ path, text });
    expect({ path, mode: statSync(join(project, path)).mode & 0o777 }).toEqual({ path, mode });
  }
  expect(statSync(join(project, ".env")).mode & 0o777).toBe(0o600);
  expect(existsSync(join(project, ".git"))).toBe(true);
});
