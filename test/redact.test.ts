// scripts/lib/redact.ts and github.ts: what a secret looks like wherever it may turn up, and that it is hidden there.
import { afterEach, expect, spyOn, test } from "bun:test";
import { Failure } from "../scripts/lib/failure.ts";
import { maskCommands, maskInGitHubActions } from "../scripts/lib/github.ts";
import { formsOf, redact, redactFailure } from "../scripts/lib/redact.ts";

test.each([
  { value: "plain-one", forms: ["plain-one", "cGxhaW4tb25l", "BsYWluLW9u", "wbGFpbi1v"] },
  { value: "a/b+c?d", forms: ["a/b+c?d", "a%2Fb%2Bc%3Fd", "YS9iK2M/ZA==", "YS9iK2M_ZA==", "YS9iK2M/"] },
  { value: 'say "hi"', forms: ['say "hi"', "say%20%22hi%22", 'say \\"hi\\"', "c2F5ICJoaSI="] },
  { value: "abc", forms: [] },
  { value: "    ", forms: [] },
])("formsOf() $value", ({ value, forms }) => {
  expect(formsOf([value])).toEqual(forms.length > 0 ? expect.arrayContaining([...forms]) : []);
});

test.each(["", "x", "xy", "user:"])("base64 hides a secret behind %j and before anything", (before) => {
  const secret = "pä$$word/+?>~";
  for (const after of ["", "\n", "ab", "abcd"]) {
    const shown = redact(Buffer.from(before + secret + after).toString("base64"), formsOf([secret]));
    const rest = shown.split("[secret]");
    expect(rest).toHaveLength(2);
    // At either end at most the groups in which a neighbour has a share: two bytes of the secret.
    const groups = (neighbour: string) => 4 * Math.ceil((Buffer.byteLength(neighbour) + 2) / 3);
    expect(rest[0]!.length).toBeLessThanOrEqual(groups(before));
    expect(rest[1]!.length).toBeLessThanOrEqual(groups(after));
  }
});

test("formsOf() has each line of a value of several lines, and nothing twice", () => {
  const key = "-----BEGIN KEY-----\nMIIB\r\nx\n-----END KEY-----\n";
  const forms = formsOf([key, key]);
  expect(forms).toContain(key);
  expect(forms).toContain("-----BEGIN KEY-----");
  expect(forms).toContain("MIIB");
  expect(forms).not.toContain("x");
  expect(new Set(forms).size).toBe(forms.length);
});

test.each([
  { text: "password=hunter2-hunter2", secrets: ["hunter2"], shown: "password=[secret]-[secret]" },
  { text: "longer first: abcdef", secrets: ["abcd", "abcdef"], shown: "longer first: [secret]" },
  { text: "a short one: abc", secrets: ["abc"], shown: "a short one: abc" },
  { text: "not a pattern: aXb a.b$", secrets: ["a.b$"], shown: "not a pattern: aXb [secret]" },
  { text: "$& stays", secrets: ["other"], shown: "$& stays" },
])("redact() $text", ({ text, secrets, shown }) => {
  expect(redact(text, secrets)).toBe(shown);
});

test("redactFailure() has no secret left, neither in its texts nor in what led to it", () => {
  const first = Object.assign(new Error("password hunter2 is wrong"), { details: "hunter2", cause: "hunter2!" });
  const second = new Failure("Cannot log in", "hunter2 was refused", [], { details: "log of hunter2", cause: first });
  const failure = new Failure("Cannot deploy hunter2", "see hunter2", ["echo hunter2"], {
    details: "a hunter2 b",
    exitCode: 3,
    read: "docs/deploy.md",
    facts: { applied: ["hunter2.sql"], failed: { file: "a.sql", line: 2 } },
    cause: second,
  });
  const redacted = redactFailure(failure, ["hunter2"]);
  const { what, why, next, details, exitCode, read, facts } = redacted;
  expect({ what, why, next, details, exitCode, read, facts }).toEqual({
    what: "Cannot deploy [secret]",
    why: "see [secret]",
    next: ["echo [secret]"],
    details: "a [secret] b",
    exitCode: 3,
    read: "docs/deploy.md",
    facts: { applied: ["[secret].sql"], failed: { file: "a.sql", line: 2 } },
  });
  // Where it was thrown, which is what DBOPS_VERBOSE is for.
  const place = import.meta.file;
  const [one, two] = [redacted.cause as Error, (redacted.cause as Error).cause as Error];
  const stacks = [redacted.stack!, one.stack!, two.stack!];
  expect(stacks.map((stack) => stack.includes(place) && !stack.includes("hunter2"))).toEqual([true, true, true]);
  expect(Object.keys(two)).not.toContain("details");
  expect([one.message, two.message, two.cause]).toEqual([
    "Cannot log in: [secret] was refused",
    "password [secret] is wrong",
    "[secret]!",
  ]);
});

test("maskCommands() escapes what the runner would read otherwise, and never breaks a line", () => {
  const commands = maskCommands(["100%\n}\n"]);
  expect(commands).toContain("::add-mask::100%25");
  expect(commands).toContain("::add-mask::100%2525");
  expect(commands).toContain("::add-mask::100%2525%250A%257D%250A");
  expect(commands).not.toContain("::add-mask::}");
  expect(commands.filter((command) => !/^::add-mask::[^\r\n]{4,}$/.test(command))).toEqual([]);
});

const log = spyOn(console, "error");
const before = process.env.GITHUB_ACTIONS;
afterEach(() => {
  log.mockReset();
  if (before === undefined) delete process.env.GITHUB_ACTIONS;
  else process.env.GITHUB_ACTIONS = before;
});

test("maskInGitHubActions() says nothing anywhere else: the line is the secret", () => {
  delete process.env.GITHUB_ACTIONS;
  maskInGitHubActions(["hunter2"]);
  expect(log.mock.calls).toEqual([]);
  process.env.GITHUB_ACTIONS = "true";
  log.mockImplementation(() => {});
  maskInGitHubActions(["hunter2"]);
  expect(log.mock.calls.slice(0, 2)).toEqual([["::add-mask::hunter2"], ["::add-mask::aHVudGVyMg=="]]);
});
