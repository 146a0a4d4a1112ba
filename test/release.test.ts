// scripts/lib/release.ts: what a server remembers about its releases, and which of them may go.
import { describe, expect, test } from "bun:test";
import {
  backupFor,
  chooseTarget,
  formatHistory,
  keptIn,
  latest,
  nextNumber,
  parseHistory,
  parseRecords,
  planPrune,
  type Release,
  type Removal,
  restoreCommand,
  successes,
} from "../scripts/lib/release.ts";

const record = (release: number, changes: Partial<Release> = {}): Release => ({
  release,
  verb: "deploy",
  image: `shop:${release}`,
  reference: `shop@sha256:${release}`,
  imageId: `sha256:id${release}`,
  configHash: "c0ffee",
  slot: "blue",
  schemaVersion: "20260101090000",
  previous: release - 1,
  who: "ann@laptop",
  at: "2026-01-02T12:00:00.000Z",
  seconds: 3.25,
  steps: { pull: 1 },
  outcome: "done",
  ...changes,
});
const lines = (...records: Release[]) => records.map((one) => `${JSON.stringify(one)}\n`).join("");

describe("parseRecords()", () => {
  test("reads every whole line, and nothing else", () => {
    const text = lines(record(1), record(2, { outcome: "failed", reason: "start: it does not" }));
    expect(parseRecords(text)).toEqual([record(1), record(2, { outcome: "failed", reason: "start: it does not" })]);
    expect(parseRecords("")).toEqual([]);
  });

  test.each([
    { name: "cut off by a power failure", line: lines(record(2)).slice(0, 40) },
    { name: "zeros, as some file systems leave them", line: "\0".repeat(80) },
    { name: "something else that is JSON", line: '[1,2]\n"three"\nnull\n{}' },
  ])("leaves out a line that is $name", ({ line }) => {
    expect(parseRecords(`${lines(record(1))}${line}\n${lines(record(3))}`)).toEqual([record(1), record(3)]);
  });
});

const kept = (one: Release) => ({ ...one, kept: true });
const pruned = (one: Release) => ({ ...one, kept: false });

test("parseHistory() begins with what is live, and whose files are kept", () => {
  const records = lines(record(1), record(2), record(12));
  expect(parseHistory(`12 12 2\n${records}`)).toEqual({
    live: 12,
    records: [pruned(record(1)), kept(record(2)), kept(record(12))],
  });
  expect(parseHistory(` 1\n${lines(record(1))}`)).toEqual({ live: undefined, records: [kept(record(1))] });
  expect(parseHistory(`1\n${lines(record(1))}`)).toEqual({ live: 1, records: [pruned(record(1))] });
  expect(parseHistory("\n")).toEqual({ live: undefined, records: [] });
  expect(parseHistory("0\n")).toEqual({ live: 0, records: [] });
});

test.each([
  { name: "nothing", records: [], kept: [], live: 0, next: 1 },
  { name: "the live one", records: [], kept: [], live: 7, next: 8 },
  {
    name: "a failed one",
    records: [record(1), record(9, { outcome: "failed" as const })],
    kept: [1],
    live: 1,
    next: 10,
  },
  { name: "a folder without a line", records: [record(1)], kept: [1, 12], live: 1, next: 13 },
])("nextNumber() after $name is $next", ({ records, kept, live, next }) => {
  expect(nextNumber(records, kept, live)).toBe(next);
});

test("keptIn() knows numbers only", () => {
  expect(keptIn("1\n12\n.new\nlost+found\n7b\n\n")).toEqual([1, 12]);
});

test("the last line about a release counts for how it stands, the first success for when it served", () => {
  const [first, undone, again] = [record(1), record(1, { outcome: "undone" }), record(1, { at: "2026-02-02" })];
  expect(latest([first, undone], 1)).toBe(undone);
  expect(latest([first], 2)).toBeUndefined();
  expect(successes([first, undone, record(3), record(2, { outcome: "failed" }), again])).toEqual([record(3), first]);
});

describe("planPrune()", () => {
  const all = [1, 2, 3, 4, 5, 6, 7];
  const rows: {
    name: string;
    records?: Release[];
    kept?: number[];
    live?: number;
    keep: number;
    present?: string[];
    removals: Removal[];
  }[] = [
    {
      name: "files and images beyond the newest that served",
      keep: 3,
      removals: [
        { release: 1, imageId: "sha256:id1" },
        { release: 2, imageId: "sha256:id2" },
        { release: 3, imageId: "sha256:id3" },
        { release: 4, imageId: "sha256:id4" },
      ],
    },
    {
      name: "not the live one nor the one before, however few are kept",
      live: 2,
      keep: 2,
      removals: [3, 4, 5, 6].map((release) => ({ release, imageId: `sha256:id${release}` })),
    },
    { name: "nothing while there are not more", keep: 7, removals: [] },
    {
      name: "one that failed does not count, and goes",
      records: all.map((number) => record(number, number > 4 ? { outcome: "failed", imageId: "" } : {})),
      live: 4,
      keep: 4,
      removals: [{ release: 5 }, { release: 6 }, { release: 7 }],
    },
    {
      name: "an image that a kept release shares stays",
      records: all.map((number) => record(number, { imageId: number % 2 ? "odd" : "even" })),
      keep: 2,
      removals: [1, 2, 3, 4, 5].map((release) => ({ release })),
    },
    {
      name: "files that are there, and images that are there",
      kept: [2, 7],
      keep: 2,
      present: ["sha256:id1", "sha256:id7"],
      removals: [{ release: 1, imageId: "sha256:id1" }, { release: 2 }],
    },
    {
      name: "the image of one that failed and left no files",
      records: all.map((number) => record(number, number === 3 ? { outcome: "failed" } : {})),
      kept: [1, 2, 4, 5, 6, 7],
      keep: 6,
      removals: [{ release: 3, imageId: "sha256:id3" }],
    },
    { name: "a folder that nobody has written down", kept: [9, 7], keep: 2, present: [], removals: [{ release: 9 }] },
  ];
  test.each(rows)(
    "$name",
    ({ records = all.map((number) => record(number)), kept = all, live = 7, keep, present, removals }) => {
      const images = present ?? records.map(({ imageId }) => imageId);
      expect(planPrune(records, kept, { release: live, previous: live - 1 }, keep, images)).toEqual(removals);
    },
  );
});

test("formatHistory() is a table, newest first, the live one marked, and what nobody can go back to", () => {
  const records = [
    pruned(record(1, { schemaVersion: "" })),
    pruned(record(2, { outcome: "failed", who: "octocat", seconds: 61, reason: "healthy: app-green is not healthy" })),
    kept(record(3, { verb: "rollback", image: "ghcr.io/me/shop:3" })),
  ];
  expect(formatHistory(records, 3)).toBe(
    `
release  verb      outcome  when (UTC)           took    schema          who         image
3 *      rollback  done     2026-01-02 12:00:00  3.3 s   20260101090000  ann@laptop  ghcr.io/me/shop:3
2        deploy    failed   2026-01-02 12:00:00  61.0 s  20260101090000  octocat     shop:2             healthy: app-green is not healthy
1        deploy    done     2026-01-02 12:00:00  3.3 s   -               ann@laptop  shop:1             its files are gone: no way back to it
`.trim(),
  );
  expect(formatHistory([], undefined)).toBe("There is no release yet.");
});

describe("backupFor() is the newest backup that was made before anything was migrated beyond a release", () => {
  const at = (schemaVersion: string, backup?: string) => ({ schemaVersion, ...(backup && { backup }) });
  const rows: { name: string; records: Release[]; of: number; backup: string | undefined }[] = [
    { name: "none was made", records: [record(1, at("1")), record(2, at("2"))], of: 1, backup: undefined },
    {
      name: "the one of the next deploy",
      records: [record(1, at("1")), record(2, at("2", "b2"))],
      of: 1,
      backup: "b2",
    },
    {
      name: "not one that was made when the schema was further already",
      records: [record(1, at("1")), record(2, at("2", "b2")), record(3, at("3", "b3"))],
      of: 1,
      backup: "b2",
    },
    {
      name: "of the release before the last",
      records: [record(1, at("1")), record(2, at("2", "b2")), record(3, at("3", "b3"))],
      of: 2,
      backup: "b3",
    },
    {
      name: "of a deploy that failed, whose migrations stayed",
      records: [record(1, at("1")), record(2, { ...at("2", "b2"), outcome: "failed" }), record(3, at("3", "b3"))],
      of: 1,
      backup: "b2",
    },
    {
      name: "the newer of two: the database was restored, and migrated again",
      records: [
        record(1, at("1")),
        record(2, at("2", "b2")),
        record(1, { ...at("1"), verb: "rollback" }),
        record(3, at("2", "b3")),
      ],
      of: 1,
      backup: "b3",
    },
  ];
  test.each(rows)("$name", ({ records, of, backup }) => {
    expect(backupFor(records, records.find(({ release }) => release === of)!)).toBe(backup!);
  });

  test("and the command says up to where the migrations go, where the server has newer ones", () => {
    const command = "bun scripts/restore.ts 2026-11-21T03-00-00Z-4f2c1a2b --on production --confirm shop";
    expect(restoreCommand("2026-11-21T03-00-00Z-4f2c1a2b", "shop")).toBe(command);
    expect(restoreCommand("2026-11-21T03-00-00Z-4f2c1a2b", "shop", "20260101090000")).toBe(
      `${command} --to-version 20260101090000`,
    );
  });
});

describe("chooseTarget() without a number", () => {
  const back = (release: number, previous: number) => record(release, { verb: "rollback", previous });
  const rows: { name: string; records: Release[]; live: number | undefined; target: number | undefined }[] = [
    { name: "what served before", records: [record(1), record(2), record(3)], live: 3, target: 2 },
    { name: "nothing before the second", records: [record(1)], live: 1, target: undefined },
    {
      name: "not one that failed",
      records: [record(1), record(2, { outcome: "undone" }), record(3, { previous: 1 })],
      live: 3,
      target: 1,
    },
    {
      name: "not the bad one that somebody has gone back from before",
      records: [record(1), record(2), back(1, 2), record(3, { previous: 1 })],
      live: 3,
      target: 1,
    },
    {
      name: "twice: further back, not forward",
      records: [record(1), record(2), record(3), back(2, 3)],
      live: 2,
      target: 1,
    },
    {
      name: "from a release that repeats another: before that one",
      records: [record(1), record(2), record(3), record(4, { verb: "rollback", of: 2, previous: 3 })],
      live: 4,
      target: 1,
    },
    {
      name: "one that was cut off is passed over",
      records: [record(1), record(2), record(4, { previous: 3 })],
      live: 4,
      target: 2,
    },
    { name: "nothing says what is live: the newest", records: [record(1), record(2)], live: undefined, target: 2 },
  ];
  test.each(rows)("$name", ({ records, live, target }) => {
    if (target === undefined) expect(() => chooseTarget(records, live, undefined)).toThrow("there is no earlier one");
    else expect(chooseTarget(records, live, undefined).release).toBe(target);
  });
});
