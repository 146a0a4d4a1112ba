// scripts/lib/failure.ts: the whole text and JSON of a failure, and the exit code of the process that ends with it.
import { expect, test } from "bun:test";
import { join } from "node:path";
import { exitCodes, Failure, failureAsJson, formatFailure } from "../scripts/lib/failure.ts";
import { run } from "../scripts/lib/run.ts";
import { asTyped } from "../scripts/lib/runtime.ts";
import { programs } from "./lab/repository.ts";

const failure = new Failure(
  'Cannot restore "app"',
  "3 connections are open",
  ["docker compose stop web", "bun scripts/restore.ts"],
  {
    exitCode: exitCodes.refused,
    details: "pid 12\npid 13\n",
    read: "docs/runbook/restore.md",
  },
);

test("formatFailure() says what, why, the evidence, and the next commands", () => {
  expect(formatFailure(failure)).toBe(`Cannot restore "app": 3 connections are open
  | pid 12
  | pid 13
  next: docker compose stop web
  next: bun scripts/restore.ts
  read: docs/runbook/restore.md`);
});

test("failureAsJson() is one document", () => {
  expect(JSON.parse(failureAsJson(failure))).toEqual({
    error: {
      what: 'Cannot restore "app"',
      why: "3 connections are open",
      details: "pid 12\npid 13\n",
      next: ["docker compose stop web", "bun scripts/restore.ts"],
      read: "docs/runbook/restore.md",
      exitCode: 5,
    },
  });
});

test("failureAsJson() has the facts for programs, of which people read in the details", () => {
  const facts = { applied: ["1_a.sql"], failed: { file: "2_b.sql", line: 3 } };
  expect(JSON.parse(failureAsJson(new Failure("Cannot migrate", "no", [], { facts })))).toEqual({
    error: { what: "Cannot migrate", why: "no", next: [], exitCode: 1, facts },
  });
});

test.each([
  { name: "a Failure", thrown: 'new Failure("Cannot x", "y", [], { exitCode: 3 })', code: 3, stderr: "Cannot x: y\n" },
  {
    name: "anything else",
    thrown: 'new TypeError("z is not a function")',
    code: 1,
    stderr: "Unexpected error: z is not a function\n  next: the same command with DBOPS_VERBOSE=1 shows where\n",
  },
])("reportAndExit() ends the process for $name", async ({ thrown, code, stderr }) => {
  const script = `import { Failure, reportAndExit } from "./scripts/lib/failure.ts"; reportAndExit(${thrown});`;
  const result = await run({ argv: ["bun", "-e", script], accept: [code] });
  expect(result).toMatchObject({ exitCode: code, stdout: "", stderr });
});

test("DBOPS_VERBOSE shows where, and nothing that an error carries besides", async () => {
  const thrown = `Object.assign(new Failure("Cannot x", "y", [], { cause: new Error("first"), details: "log" }), { more: "z" })`;
  const script = `import { Failure, reportAndExit } from "./scripts/lib/failure.ts"; reportAndExit(${thrown});`;
  const { stderr } = await run({ argv: ["bun", "-e", script], accept: [1], environment: { DBOPS_VERBOSE: "1" } });
  const lines = stderr.split("\n").filter((line) => !/^ {4}at /.test(line));
  expect(lines).toEqual(["Cannot x: y", "  | log", "Failure: Cannot x: y", "caused by: Error: first", ""]);
  expect(stderr).toMatch(/^ {4}at /m);
});

test("docs/exit-codes.md lists every exit code", async () => {
  const page = await Bun.file("docs/exit-codes.md").text();
  const listed = [...page.matchAll(/^\| (\d+) \|/gm)].map((row) => Number(row[1]));
  expect(listed).toEqual(Object.values(exitCodes));
});

test.each([
  ["bun scripts/up.ts --down", "deno run -A scripts/up.ts --down"],
  ['Cannot run "bun scripts/up.ts"', 'Cannot run "deno run -A scripts/up.ts"'],
  ["HTTP_PORT=8081 bun scripts/up.ts", "HTTP_PORT=8081 deno run -A scripts/up.ts"],
  ["docker compose logs app", "docker compose logs app"],
])("asTyped() leaves %p to Bun, and makes it %p for Deno", (text, forDeno) => {
  expect(asTyped(text, "bun")).toBe(text);
  expect(asTyped(text, "deno")).toBe(forDeno);
});

test("under Deno every next command and the help are Deno's", async () => {
  const up = (...flags: string[]) =>
    run({ argv: [join(programs, "deno"), "run", "-A", "scripts/up.ts", ...flags], accept: [0, 2] });
  const [help, mistake] = await Promise.all([up("--help"), up("--fireworks", "--json")]);
  expect(help.stdout).toStartWith("deno run -A scripts/up.ts [flags]\n");
  expect(help.stdout).not.toContain("bun scripts/");
  expect(mistake.stderr).toBe(
    'Cannot run "deno run -A scripts/up.ts": --fireworks is not a flag of this command\n  next: deno run -A scripts/up.ts --help\n',
  );
  expect(JSON.parse(mistake.stdout).error.next).toEqual(["deno run -A scripts/up.ts --help"]);
});
