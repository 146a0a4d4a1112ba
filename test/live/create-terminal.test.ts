// The scaffolder on a real terminal: what it asks, what an answer does, and what Ctrl-C leaves behind.
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { manifestPath } from "../../create/manifest.ts";
import { cleanEnvironment, offline, packScaffolder, type Scaffolder, textOf, treeOf } from "../lab/scaffolder.ts";

setDefaultTimeout(120_000);

let scaffolder: Scaffolder;
beforeAll(async () => {
  scaffolder = await packScaffolder();
});
afterAll(() => scaffolder?.remove());

describe("on a terminal", () => {
  /** Questions, each with what is typed as soon as it is on the screen. */
  type Dialogue = readonly (readonly [string, string])[];

  /** Types each answer when its question has appeared. Resolves with the exit code and all that was on the screen. */
  async function onTerminal(words: string[], directory: string, dialogue: Dialogue, environment = {}) {
    let screen = "";
    const waiting = [...dialogue];
    const child = Bun.spawn(["node", scaffolder.program, ...words], {
      cwd: directory,
      env: { ...withoutUndefined(cleanEnvironment(environment)), TERM: "xterm" },
      timeout: 20_000,
      terminal: {
        cols: 120,
        rows: 40,
        data(terminal, data) {
          screen += new TextDecoder().decode(data);
          const [question, answer] = waiting[0] ?? [];
          if (question === undefined || !screen.includes(question)) return;
          waiting.shift();
          terminal.write(answer!);
        },
      },
    });
    const exitCode = await child.exited;
    child.terminal?.close();
    return { exitCode, screen, unanswered: waiting.map(([question]) => question) };
  }

  function withoutUndefined(changes: Record<string, string | undefined>): Record<string, string> {
    const merged = Object.entries({ ...process.env, ...changes }).filter(([, value]) => value !== undefined);
    return Object.fromEntries(merged) as Record<string, string>;
  }

  test("asks for what was not said, and writes what was answered", async () => {
    const here = scaffolder.folder();
    const { exitCode, screen, unanswered } = await onTerminal(["--no-install"], here, [
      ["Where shall the project go?", "shop\r"],
      ["What is it called?", "\r"],
      ["And its database", "\r"],
      ["Under which domain", "\x15shop.example.org\r"],
      ["Which runtime", "\x1b[B\r"],
    ]);
    expect({ exitCode, unanswered, screen }).toMatchObject({ exitCode: 0, unanswered: [] });
    expect(JSON.parse(textOf(here, "shop", manifestPath)).answers).toMatchObject({
      name: "shop",
      database: "shop",
      domain: "shop.example.org",
      server: "deploy@shop.example.org",
      runtime: "deno",
      app: true,
    });
  });

  test.each([
    { title: "at the first question", words: [], dialogue: [["Where shall", "\x03"]] },
    {
      title: "at the last one",
      words: ["shop"],
      dialogue: [
        ["What is it called?", "\r"],
        ["And its database", "\r"],
        ["Under which domain", "\r"],
        ["Which runtime", "\x03"],
      ],
    },
    { title: "with Escape", words: ["shop"], dialogue: [["What is it called?", "\x1b"]] },
  ] as { title: string; words: string[]; dialogue: Dialogue }[])(
    "Ctrl-C $title: exit 130, nothing written",
    async ({ words, dialogue }) => {
      const here = scaffolder.folder();
      const { exitCode, unanswered, screen } = await onTerminal(words, here, dialogue);
      expect({ exitCode, unanswered, screen }).toMatchObject({ exitCode: 130, unanswered: [] });
      expect(screen).toContain("Cancelled: nothing was written");
      expect(treeOf(here)).toEqual({});
    },
  );

  test("shows the plan before it writes among their files, and No means no", async () => {
    const here = scaffolder.folder({ "package.json": "{}\n", "compose.yaml": "services: {}\n" });
    const before = treeOf(here);
    const { exitCode, screen } = await onTerminal([".", "--name", "shop", "--no-install"], here, [
      ["And its database", "\r"],
      ["Under which domain", "\r"],
      ["Which runtime", "\r"],
      ["Write this into", "n"],
    ]);
    expect({ exitCode, screen }).toMatchObject({ exitCode: 130 });
    expect(screen).toContain("compose.yaml.dbops (yours stays)");
    expect(treeOf(here)).toEqual(before);
  });

  test("Ctrl-C while the packages are fetched: exit 130, the project stays, and it says how to go on", async () => {
    // Accepts every connection, and never answers.
    const silent = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
    const here = scaffolder.folder();
    const registry = `http://127.0.0.1:${silent.port}/`;
    const { exitCode, screen } = await onTerminal(["shop", "--yes"], here, [["==> npm install", "\x03"]], {
      npm_config_user_agent: "npm/11.0.0",
      npm_config_registry: registry,
      npm_config_cache: scaffolder.folder(),
    });
    silent.stop(true);
    expect({ exitCode, screen }).toMatchObject({ exitCode: 130 });
    expect(screen).toContain('Cannot run "npm install": interrupted; the project in');
    expect(existsSync(join(here, "shop", "compose.yaml"))).toBe(true);
  });

  test("--yes asks nothing", async () => {
    const here = scaffolder.folder();
    const { exitCode } = await onTerminal(["shop", ...offline], here, []);
    expect(exitCode).toBe(0);
    expect(existsSync(join(here, "shop", "compose.yaml"))).toBe(true);
  });
});
