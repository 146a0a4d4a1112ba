// How much room a restore may take, how often it looks, and what people read when there is none left.
import { expect, test } from "bun:test";
import { Failure, formatFailure } from "../scripts/lib/failure.ts";
import type { Place } from "../scripts/lib/place.ts";
import { explainDisk, nextLookSeconds, parseDf, reserveOf, roomOn, watchDisk } from "../scripts/lib/restore-disk.ts";

test.each([
  [
    "Filesystem     1024-blocks     Used Available Capacity Mounted on\n/dev/vda 263112156 30702004 75432320 29% /data\n",
    { bytes: 263_112_156 * 1024, freeBytes: 75_432_320 * 1024 },
  ],
  ["df: /data: No such file or directory", undefined],
  ["", undefined],
])("parseDf() %#", (text, seen) => {
  expect(parseDf(text)).toEqual(seen);
});

test.each([
  [100e6, 128e6],
  [2e9, 200e6],
  [1e12, 512e6],
])("reserveOf() a disk of %p bytes", (bytes, reserve) => {
  expect(reserveOf({ bytes })).toBe(reserve);
});

test("roomOn() is never less than nothing", () => {
  expect([100e6, 300e6].map((freeBytes) => roomOn({ folder: "/data", bytes: 2e9, freeBytes }))).toEqual([0, 100e6]);
});

test.each([
  [0, 0.2],
  [400e6, 1],
  [1e12, 5],
])("nextLookSeconds() with room for %p bytes", (room, seconds) => {
  expect(nextLookSeconds(room)).toBe(seconds);
});

/** Its disk has less room with every look. */
function fillingPlace(...free: number[]) {
  const left = [...free];
  const client = () => ({ argv: ["echo", `/dev/sda 2000000 0 ${Math.floor((left.shift() ?? 0) / 1024)} 1% /data`] });
  return { name: "app.example.com", client } as unknown as Place;
}

test("watchDisk() ends a restore in time", async () => {
  const disk = { folder: "/data", bytes: 2e9, freeBytes: 250e6 };
  const { full, stop } = watchDisk(fillingPlace(210e6, 190e6), disk, "Cannot restore old.sql");
  await new Promise((resolve) => full.addEventListener("abort", resolve));
  await stop();
  expect(formatFailure(full.reason)).toBe(
    `Cannot restore old.sql: the disk of app.example.com has 190 MB left, which the live database needs
  next: make room, then the same command again
  read: docs/runbook/restore-disk-full.md`,
  );
  expect(full.reason.exitCode).toBe(3);
});

test("watchDisk() says nothing where there is room, or nobody can tell", async () => {
  for (const disk of [{ folder: "/data", bytes: 2e9, freeBytes: 1e9 }, undefined]) {
    const { full, stop } = watchDisk(fillingPlace(), disk, "Cannot restore old.sql");
    await stop();
    expect(full.aborted).toBe(false);
  }
});

test("explainDisk()", () => {
  const said = 'ERROR:  could not extend file "base/1/2": No space left on device';
  const failure = new Failure("pg_restore failed", "it exited with 1", [], { details: said });
  expect(
    formatFailure(explainDisk("Cannot restore old.sql", failure)),
  ).toBe(`Cannot restore old.sql: a disk of the database is full
  | ${said}
  next: make room, then the same command again
  read: docs/runbook/restore-disk-full.md`);
  const other = new Failure("pg_restore failed", "it exited with 1", [], { details: "ERROR: something else" });
  expect(explainDisk("Cannot restore old.sql", other)).toBe(other);
});
