// The scaffolder cut off in the middle, and what comes after the files gone wrong: the project is whole, or completed.
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import { manifestPath } from "../../create/manifest.ts";
import { run, start } from "../../scripts/lib/run.ts";
import { cleanEnvironment, contentsOf, offline, packScaffolder, type Scaffolder } from "../lab/scaffolder.ts";

setDefaultTimeout(120_000);

let scaffolder: Scaffolder;
beforeAll(async () => {
  scaffolder = await packScaffolder();
});
afterAll(() => scaffolder?.remove());

describe("cut off", () => {
  /** Kills its own process with SIGKILL when so many files are in place, the next one written but not yet renamed. */
  const killAfter = (files: number) =>
    `data:text/javascript,${encodeURIComponent(`
    import fs from "node:fs";
    import { syncBuiltinESMExports } from "node:module";
    const rename = fs.renameSync;
    let left = ${files};
    fs.renameSync = (from, to) => {
      if (left-- === 0) process.kill(process.pid, "SIGKILL");
      rename(from, to);
    };
    syncBuiltinESMExports();
  `)}`;

  test.each([0, 1, 2, 20, 40])(
    "by kill -9 with %d files in place: each is whole, and the next run completes the project",
    async (files) => {
      const words = ["shop", "--domain", "shop.example.org", ...offline];
      const uncut = scaffolder.folder();
      await scaffolder.create(words, uncut);
      const expected = contentsOf(join(uncut, "shop"));

      const here = scaffolder.folder();
      const argv = ["node", "--import", killAfter(files), scaffolder.program, ...words];
      const running = await start({ argv, directory: here, environment: cleanEnvironment() });
      expect(await running.ended).toBe("SIGKILL");
      const cut = contentsOf(join(here, "shop"));
      // The file that was about to be renamed; the manifest, first of all files, knows the answers and no hashes yet.
      const whole = Object.keys(cut).filter((path) => statSync(join(here, "shop", path)).isFile());
      expect(whole.filter((path) => path.endsWith(".writing"))).toHaveLength(1);
      expect(whole).toHaveLength(files + 1);
      const ours = whole.filter((path) => path !== manifestPath && !path.endsWith(".writing"));
      expect(ours.map((path) => [path, cut[path]])).toEqual(ours.map((path) => [path, expected[path]]));
      // Without the flags, unless not even the answers were kept.
      const again = files === 0 ? words : ["shop", ...offline];
      expect((await scaffolder.create(again, here)).exitCode).toBe(0);
      expect(contentsOf(join(here, "shop"))).toEqual(expected);
    },
  );

  test("an installation that fails: exit 1, the command to repeat, and the project stays", async () => {
    const here = scaffolder.folder();
    const { exitCode, stdout, stderr } = await scaffolder.create(["shop", "--json"], here, {
      environment: cleanEnvironment({
        npm_config_user_agent: "npm/11.0.0",
        npm_config_registry: "http://127.0.0.1:1/",
        npm_config_fetch_retries: "0",
        npm_config_cache: scaffolder.folder(),
      }),
    });
    expect(exitCode).toBe(1);
    const { error, next, files } = JSON.parse(stdout);
    expect(error.what).toBe('Cannot run "npm install"');
    expect(error.why).toContain("is written and whole");
    expect(next).toContain("npm install");
    expect(stderr).toContain("ECONNREFUSED");
    expect(files.length).toBeGreaterThan(40);
    expect(existsSync(join(here, "shop", "compose.yaml"))).toBe(true);
  });

  test("a package manager that is not installed: the same", async () => {
    const here = scaffolder.folder();
    const { exitCode, stderr } = await run({
      argv: [Bun.which("node")!, scaffolder.program, "shop", "--yes"],
      directory: here,
      environment: cleanEnvironment({ npm_config_user_agent: "pnpm/10.0.0", PATH: here }),
      accept: [1],
    });
    expect(exitCode).toBe(1);
    expect(stderr).toContain('"pnpm" is not installed, or not on PATH');
    expect(existsSync(join(here, "shop", "compose.yaml"))).toBe(true);
  });
});
