// scripts/lib/figures.ts and table.ts: sizes, times and columns as people read them.
import { expect, test } from "bun:test";
import { formatAge, formatBytes, formatSeconds } from "../scripts/lib/figures.ts";
import { formatTable } from "../scripts/lib/table.ts";

test.each([
  [0, "0 bytes"],
  [999, "999 bytes"],
  [1000, "1.0 kB"],
  [99_949, "99.9 kB"],
  [123_456, "123 kB"],
  [999_499, "999 kB"],
  [999_999, "1.0 MB"],
  [1_500_000_000, "1.5 GB"],
  [2_340_000_000_000, "2.3 TB"],
  [5_000_000_000_000_000, "5000 TB"],
])("%d bytes", (bytes, text) => expect(formatBytes(bytes)).toBe(text));

test.each([
  [0, "0.0 s"],
  [9.94, "9.9 s"],
  [40.4, "40 s"],
  [119, "119 s"],
  [120, "2 min"],
  [7199, "120 min"],
  [7200, "2 h"],
  [47 * 3600, "47 h"],
  [48 * 3600, "2 days"],
  [400 * 86_400, "400 days"],
])("%d seconds", (seconds, text) => expect(formatSeconds(seconds)).toBe(text));

test("an age, also where the clock of the one who made it was ahead", () => {
  const now = new Date("2026-11-21T12:00:00Z");
  expect(
    ["2026-11-21T11:00:00Z", "2026-11-01T12:00:00Z", "2026-11-21T12:00:09Z"].map((at) => formatAge(at, now)),
  ).toEqual(["60 min", "20 days", "0.0 s"]);
});

test("columns line up, and no line ends with spaces", () => {
  expect(
    formatTable([
      ["backup", "size", "label"],
      ["a", "1.0 kB", ""],
      ["longer than that", "2", "x y"],
    ]),
  ).toBe(["backup            size    label", "a                 1.0 kB", "longer than that  2       x y"].join("\n"));
});
