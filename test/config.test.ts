// scripts/lib/config.ts: the shipped dbops.config.ts is valid, and every problem is told at once with its path.
import { expect, test } from "bun:test";
import { loadConfig, parseConfig } from "../scripts/lib/config.ts";
import { type Failure, formatFailure } from "../scripts/lib/failure.ts";
import shipped from "../templates/dbops.config.ts";

test("the shipped file is valid, and what it does not say has a default", () => {
  const settings = parseConfig(shipped);
  expect(settings).toMatchObject(shipped);
  expect(settings.environments.production?.port).toBe(22);
  expect(settings.secrets).toEqual({ provider: "op" });
  expect(settings.deploy).toEqual({
    healthSeconds: 60,
    bakeSeconds: 5,
    errorPercent: 5,
    drainSeconds: 30,
    keepReleases: 5,
    freeGigabytes: 1,
    keepPrevious: "stopped",
    backup: "beforeMigrations",
    stopFirst: [],
    hooks: {},
  });
});

test("all problems at once, each with its path", () => {
  const wrong = { ...shipped, name: "My App", databse: "x", app: { command: [], port: "3000" } };
  expect(failureOf(() => parseConfig(wrong))).toBe(`Cannot use dbops.config.ts: 4 problems
  | name: lower case letters, digits, - and _ only
  | app.command: the program and its arguments
  | app.port: Invalid input: expected number, received string
  | the whole: Unrecognized key: "databse"
  next: correct dbops.config.ts, then run this again`);
});

test("migrations.lintFrom is a version, and not the name of a file", () => {
  const from = (lintFrom: string) => parseConfig({ ...shipped, migrations: { lintFrom } }).migrations.lintFrom;
  expect(from("20260101000000")).toBe("20260101000000");
  expect(failureOf(() => from("20260101000000_create.sql"))).toBe(`Cannot use dbops.config.ts: 1 problem
  | migrations.lintFrom: the version of a migration: the digits in front of its name
  next: correct dbops.config.ts, then run this again`);
});

test("no file is exit 2 and says where it looked", async () => {
  await expect(loadConfig("/")).rejects.toMatchObject({
    message: "Cannot read dbops.config.ts: there is none in /",
    exitCode: 2,
  });
});

function failureOf(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    return formatFailure(error as Failure);
  }
  return "it succeeded";
}
