// The names of the databases that a restore makes, and how they are found again.
import { expect, test } from "bun:test";
import { databaseName, leftoversOf } from "../scripts/lib/database-names.ts";

const at = new Date("2026-11-21T03:04:05.678Z");

test.each([
  ["shop", "restore", "shop_restore_20261121T030405"],
  ["shop", "before", "shop_before_20261121T030405"],
  ["shop", "rehearse", "shop_rehearse_20261121T030405"],
  ["a".repeat(63), "restore", `${"a".repeat(39)}_restore_20261121T030405`],
  ["ü".repeat(31), "before", `${"ü".repeat(20)}_before_20261121T030405`],
] as const)("databaseName(%p, %p)", (live, kind, name) => {
  expect(databaseName(live, kind, at)).toBe(name);
  expect(Buffer.byteLength(name)).toBeLessThanOrEqual(63);
  expect(leftoversOf(live, [name])).toEqual([{ name, kind, at: new Date("2026-11-21T03:04:05Z") }]);
});

test("leftoversOf() finds those of this database alone, newest first", () => {
  const all = [
    ...["postgres", "shop", "shop_restore", "shop_restore_2026", "shop_before_20261399T999999", "my_before_life"],
    ...["shop_before_20261120T000000", "shop_restore_20261121T000000", "shop_before_20261122T000000"],
    ...["shop_two_before_20261122T000000", "workshop_before_20261122T000000"],
  ];
  expect(leftoversOf("shop", all).map(({ name }) => name)).toEqual([
    "shop_before_20261122T000000",
    "shop_restore_20261121T000000",
    "shop_before_20261120T000000",
  ]);
});
