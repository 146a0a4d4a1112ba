// scripts/lib/args.ts: what a command line becomes, and the sentence for each mistake.
import { expect, test } from "bun:test";
import { type CommandLine, formatHelp, parseArguments } from "../scripts/lib/args.ts";
import { type Failure, formatFailure } from "../scripts/lib/failure.ts";

const line = {
  command: "bun scripts/example.ts",
  purpose: "Shows what a command line can hold.",
  words: ["[dir]"],
  flags: {
    engine: { value: "NAME", oneOf: ["docker", "embedded"], help: "what runs the database" },
    with: { value: "PART", many: true, help: "extra parts" },
    wait: { value: "SECONDS", default: "30", help: "how long to wait" },
    "dry-run": { help: "print the plan, change nothing" },
  },
  examples: ["bun scripts/example.ts here --dry-run"],
  notes: "Exit codes: 0 done, 2 usage.",
} as const satisfies CommandLine;

const defaults = { _: [], with: [], wait: "30", "dry-run": false, help: false };

test.each([
  { argv: [], parsed: {} },
  { argv: ["here", "--dry-run"], parsed: { _: ["here"], "dry-run": true } },
  { argv: ["--wait=0123"], parsed: { wait: "0123" } },
  { argv: ["--wait", "5"], parsed: { wait: "5" } },
  { argv: ["--with", "a,b", "--with=c"], parsed: { with: ["a", "b", "c"] } },
  { argv: ["--engine", "docker"], parsed: { engine: "docker" } },
  { argv: ["--", "--dry-run"], parsed: { _: ["--dry-run"] } },
])("parseArguments() reads $argv", ({ argv, parsed }) => {
  expect({ ...parseArguments(argv, line) } as object).toEqual({ ...defaults, ...parsed });
});

test.each([
  { argv: ["--dry-rum"], why: "--dry-rum is not a flag of this command" },
  { argv: ["-x"], why: "-x is not a flag of this command" },
  { argv: ["--engine", "podman"], why: '--engine takes docker or embedded, not "podman"' },
  { argv: ["one", "two"], why: '"two" is one word too many' },
  { argv: ["--wait"], why: "Option '--wait <value>' argument missing" },
  { argv: ["--dry-run=yes"], why: "Option '--dry-run' does not take an argument" },
])("parseArguments() refuses $argv", ({ argv, why }) => {
  const failure = thrown(() => parseArguments(argv, line));
  expect(formatFailure(failure)).toBe(
    `Cannot run "bun scripts/example.ts": ${why}\n  next: bun scripts/example.ts --help`,
  );
  expect(failure.exitCode).toBe(2);
});

test.each([
  { argv: ["here", "--dry-run"], parsed: { _: ["here"], "dry-run": true, "--": [] } },
  {
    argv: ["here", "--", "sh", "--dry-run", "--", "-x"],
    parsed: { _: ["here"], "--": ["sh", "--dry-run", "--", "-x"] },
  },
  { argv: ["--"], parsed: { "--": [] } },
])("parseArguments() with a rest reads $argv", ({ argv, parsed }) => {
  expect({ ...parseArguments(argv, { ...line, rest: "COMMAND" }) } as object).toEqual({ ...defaults, ...parsed });
});

test("parseArguments() takes any number of words where the last one says so", () => {
  const many = { ...line, words: ["[verb]", "[FILE...]"] };
  expect(parseArguments(["lint", "a.sql", "b.sql", "c.sql"], many)._).toEqual(["lint", "a.sql", "b.sql", "c.sql"]);
});

test("formatHelp() names the rest", () => {
  expect(formatHelp({ ...line, rest: "COMMAND" }).split("\n")[0]).toBe(
    "bun scripts/example.ts [dir] [flags] [-- COMMAND]",
  );
});

test("formatHelp() shows every flag with its value, default and choices", () => {
  expect(formatHelp(line)).toBe(`bun scripts/example.ts [dir] [flags]

Shows what a command line can hold.

  --engine docker|embedded  what runs the database
  --with PART               extra parts
  --wait SECONDS            how long to wait (default: 30)
  --dry-run                 print the plan, change nothing
  --help                    print this

Examples:
  bun scripts/example.ts here --dry-run

Exit codes: 0 done, 2 usage.`);
});

function thrown(work: () => unknown): Failure {
  try {
    work();
  } catch (error) {
    return error as Failure;
  }
  throw new Error("it succeeded");
}
