// Verbs with subcommands: which flags and words each of them takes, and the help that says so.
import { describe, expect, test } from "bun:test";
import { main as drift } from "../scripts/drift.ts";
import { formatHelp } from "../scripts/lib/args.ts";
import { driftFlags, driftSubcommands } from "../scripts/lib/drift-request.ts";
import { type Failure, formatFailure } from "../scripts/lib/failure.ts";
import { commandLine, subcommands } from "../scripts/lib/migrate-request.ts";
import { parseSubcommand, withSubcommands } from "../scripts/lib/subcommands.ts";
import { main as migrate } from "../scripts/migrate.ts";

const table = {
  make: { does: "makes one", word: "NAME", flags: ["plan", "json"] },
  look: { does: "looks", word: "[FILE...]", flags: ["on", "json"] },
  end: { does: "ends", flags: ["on", "wait", "plan", "json"] },
} as const;

const line = withSubcommands(
  {
    command: "bun scripts/example.ts",
    purpose: "Shows it.",
    flags: {
      on: { value: "ENVIRONMENT", oneOf: ["local", "production"], default: "local", help: "whose" },
      wait: { value: "SECONDS", default: "5", help: "how long" },
      plan: { help: "only say what would be done" },
      json: { help: "one document" },
    },
  },
  table,
);

test("the help has the subcommands, and whose each flag is", () => {
  expect(formatHelp(line)).toBe(`bun scripts/example.ts [make|look|end] [NAME|FILE...] [flags]

Shows it.

  make NAME       makes one
  look [FILE...]  looks
  end             ends

  --on local|production  with look, end: whose (default: local)
  --wait SECONDS         with end: how long (default: 5)
  --plan                 with make, end: only say what would be done
  --json                 one document
  --help                 print this`);
});

describe("parseSubcommand()", () => {
  const parse = (...argv: string[]) => {
    const { name, words, flags } = parseSubcommand(argv, line, table);
    return [name, ...words, ...Object.entries(flags).flatMap(([flag, value]) => (value === true ? [flag] : []))];
  };
  test.each([
    [
      ["make", "it", "--plan"],
      ["make", "it", "plan"],
    ],
    [
      ["--json", "make"],
      ["make", "json"],
    ],
    [
      ["look", "a", "b", "c"],
      ["look", "a", "b", "c"],
    ],
    [
      ["look", "--on", "local", "--", "--plan"],
      ["look", "--plan"],
    ],
    [["end", "--wait=9"], ["end"]],
  ])("reads %j", (argv, read) => expect(parse(...argv)).toEqual(read));

  test("takes the usual one where none is named", () => {
    expect(parseSubcommand(["--json"], line, table, "look").name).toBe("look");
  });

  const refused: [string[], string][] = [
    [[], "say which of make, look, end"],
    [["mak"], '"mak" is none of make, look, end'],
    [["constructor"], '"constructor" is none of make, look, end'],
    [["make", "--dry-rum"], "--dry-rum is not a flag of this command"],
    // Also as it is without being named.
    [["make", "--on", "local"], "--on is for look and end, not for make"],
    [["look", "--wait=5"], "--wait is for end, not for look"],
    [["make", "a", "b"], '"b" is one word too many'],
    [["end", "a"], '"a" is one word too many'],
  ];
  test.each(refused)("refuses %j", (argv, why) => expect(refusal(() => parse(...argv))).toBe(message("example", why)));
});

describe("the verbs", () => {
  const of = { migrate, drift };
  const refused: ["migrate" | "drift", string[], string][] = [
    ["migrate", ["rehearse", "--scratch-url", "x"], "--scratch-url is for dump and verify, not for rehearse"],
    ["migrate", ["up", "--scratch-url=x"], "--scratch-url is for dump and verify, not for up"],
    ["migrate", ["up", "--in-container"], "--in-container is for rehearse, not for up"],
    ["migrate", ["lint", "--on", "production"], "--on is for up, status, down and rehearse, not for lint"],
    ["migrate", ["verify", "--plan"], "--plan is for new, up, down, dump and rehearse, not for verify"],
    ["migrate", ["status", "--wait", "1"], "--wait is for up and down, not for status"],
    ["drift", ["check", "--keep", "files"], "--keep is for repair, not for check"],
    ["drift", ["--plan"], "--plan is for repair and adopt, not for check"],
    ["drift", ["repair", "--tool", "knex"], "--tool is for adopt, not for repair"],
    ["drift", ["adopt", "--no-backup"], "--no-backup is for repair, not for adopt"],
    ["drift", ["check", "now"], '"now" is one word too many'],
  ];
  test.each(refused)("%s %j", async (verb, argv, why) => {
    const failure = await of[verb](argv).catch((error: Failure) => error);
    expect(formatFailure(failure as Failure)).toBe(message(verb, why));
    expect((failure as Failure).exitCode).toBe(2);
  });

  test("have no flag that none of their subcommands takes", () => {
    const taken = (all: object) => new Set(Object.values(all).flatMap(({ flags }) => flags));
    expect(Object.keys(commandLine.flags).filter((flag) => !taken(subcommands).has(flag))).toEqual([]);
    expect(Object.keys(driftFlags).filter((flag) => !taken(driftSubcommands).has(flag))).toEqual([]);
  });
});

const message = (verb: string, why: string) =>
  `Cannot run "bun scripts/${verb}.ts": ${why}\n  next: bun scripts/${verb}.ts --help`;

function refusal(work: () => unknown): string {
  try {
    work();
    return "not refused";
  } catch (error) {
    return formatFailure(error as Failure);
  }
}
