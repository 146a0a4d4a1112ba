// When the scaffolder says no: a sentence, exit 2, and nothing written.
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { chmodSync, existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { manifestPath } from "../../create/manifest.ts";
import { run } from "../../scripts/lib/run.ts";
import { cleanEnvironment, offline, packScaffolder, type Scaffolder, treeOf } from "../lab/scaffolder.ts";

setDefaultTimeout(120_000);

let scaffolder: Scaffolder;
beforeAll(async () => {
  scaffolder = await packScaffolder();
});
afterAll(() => scaffolder?.remove());

describe("says no with exit 2, and nothing is written", () => {
  const refusals: { title: string; files: Record<string, string>; words: string[]; why: string }[] = [
    { title: "no folder named, no terminal", files: {}, words: [], why: "[dir] is missing" },
    { title: "the path is a file", files: { shop: "" }, words: ["shop"], why: 'shop" is a file, it must be a folder' },
    { title: "the path lies below a file", files: { shop: "" }, words: ["shop/a/b"], why: 'shop" is a file' },
    {
      title: "a file where a folder belongs",
      files: { nginx: "" },
      words: [".", "--name", "shop"],
      why: 'nginx" is a file',
    },
    {
      title: "a folder where a file belongs",
      files: { "AGENTS.md/x": "" },
      words: [".", "--name", "shop"],
      why: '"AGENTS.md" is a folder',
    },
    { title: "no name can be made", files: {}, words: ["日本語"], why: "say --name NAME" },
    { title: "a name for the shell", files: {}, words: ["shop", "--name", "$(touch hacked)"], why: "--name" },
    { title: "a name with a path", files: {}, words: ["shop", "--name", "../../etc"], why: "--name" },
    {
      title: "a database that SQL reads as a word",
      files: {},
      words: ["shop", "--database", "user"],
      why: '--database "user" is a name that Postgres keeps',
    },
    {
      title: "a server that is an option",
      files: {},
      words: ["shop", "--server", "a@-oProxyCommand=x"],
      why: "--server",
    },
    { title: "an unknown flag", files: {}, words: ["shop", "--dry-rum"], why: "--dry-rum is not a flag" },
    { title: "two folders", files: {}, words: ["shop", "store"], why: '"store" is one word too many' },
    {
      title: "an extra that is not there",
      files: {},
      words: ["shop", "--with", "moon"],
      why: '--with "moon" is unknown',
    },
    { title: "--force of a file that is none of ours", files: {}, words: ["shop", "--force", "x"], why: '--force "x"' },
    { title: "--force of the secrets", files: {}, words: ["shop", "--force", ".env"], why: "it holds your secrets" },
    {
      title: "package.json is no JSON",
      files: { "package.json": "{," },
      words: [".", "--name", "shop"],
      why: "package.json is not valid JSON",
    },
    {
      title: "the manifest is damaged",
      files: { [manifestPath]: "{}" },
      words: [".", "--name", "shop"],
      why: "is damaged",
    },
  ];

  test.each(refusals)("$title", async ({ files, words, why }) => {
    const here = scaffolder.folder(files);
    const before = treeOf(here);
    const { exitCode, stderr, stdout } = await scaffolder.create(words, here);
    expect({ exitCode, stdout, stderr }).toEqual({ exitCode: 2, stdout: "", stderr: expect.stringContaining(why) });
    expect(treeOf(here)).toEqual(before);
  });

  test.each(["a link that leads nowhere", "a pipe"])("%s where a file belongs", async (kind) => {
    const here = scaffolder.folder();
    const argv = kind === "a pipe" ? ["mkfifo", "compose.yaml"] : ["ln", "-s", "nowhere", "compose.yaml"];
    await run({ argv, directory: here });
    const before = treeOf(here);
    const { exitCode, stderr } = await scaffolder.create([".", "--name", "shop"], here);
    expect({ exitCode, stderr }).toMatchObject({
      exitCode: 2,
      stderr: expect.stringContaining('"compose.yaml" is neither'),
    });
    expect(treeOf(here)).toEqual(before);
  });

  test("every problem at once, and as one JSON document", async () => {
    const here = scaffolder.folder({ "shop/package.json": "nonsense" });
    const { exitCode, stdout } = await scaffolder.create(
      ["shop", "--name", "A", "--domain", "http://x", "--json"],
      here,
    );
    const { error } = JSON.parse(stdout);
    expect(exitCode).toBe(2);
    expect(error.why).toBe("3 problems");
    expect(error.details.split("\n").map((line: string) => line.slice(0, 12))).toEqual([
      "package.json",
      '--name "A" m',
      '--domain "ht',
    ]);
  });

  test("a folder that cannot be written to", async () => {
    const here = scaffolder.folder();
    mkdirSync(join(here, "sealed"));
    const argv = ["node", scaffolder.program, "sealed/shop", ...offline];
    const { exitCode, stderr } = await run({
      argv: sealed(join(here, "sealed"), argv),
      directory: here,
      environment: cleanEnvironment(),
      accept: [2],
    });
    expect(exitCode).toBe(2);
    expect(stderr).toMatch(/sealed" cannot be written to \((EROFS|EACCES)\)/);
    expect(Object.keys(treeOf(here))).toEqual(["sealed"]);
  });

  test.each(["/proc/dbops-shop", "/proc/dbops-shop/a/b"])("%s, where no folder can be made", async (target) => {
    const here = scaffolder.folder();
    const words = [target, "--name", "shop", "--json", ...offline];
    const { exitCode, stdout } = await scaffolder.create(words, here, { timeoutSeconds: 10 });
    const { error } = JSON.parse(stdout);
    expect({ exitCode, what: error.what }).toEqual({
      exitCode: 2,
      what: "Cannot create the project, nothing was written",
    });
    expect(error.why).toContain('"/proc');
    expect(existsSync(target)).toBe(false);
  });

  /** Permission bits do not stop root: a read-only mount, in a mount namespace of its own, does. */
  function sealed(folder: string, argv: string[]): string[] {
    if (process.getuid!() !== 0) {
      chmodSync(folder, 0o555);
      return argv;
    }
    const script = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && shift && exec "$@"';
    return ["unshare", "--mount", "sh", "-c", script, "sh", folder, ...argv];
  }
});
