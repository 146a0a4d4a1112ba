// What people read when a restore has ended well: what there is now, and the commands to go on with.
import { expect, test } from "bun:test";
import { formatRestored } from "../scripts/lib/restore-output.ts";

const restored = { database: "shop", kept: "shop_before_1", rows: 42, tables: 2, migrated: 1, seconds: 61.234 };

test("swapped", () => {
  expect(formatRestored(restored, "backup X", "production")).toBe(
    `Restored backup X: "shop" has 42 rows in 2 tables, 1 migration applied, ready after 61.2 s
  what was live is "shop_before_1"
  next: bun scripts/restore.ts --undo --on production      # swaps back
  next: bun scripts/restore.ts shop_before_1 --clean --on production      # removes it, once nobody wants it back`,
  );
});

test("beside the live one", () => {
  expect(formatRestored({ ...restored, database: "look", kept: undefined, migrated: 0 }, "old.sql", "local")).toBe(
    'Restored old.sql: "look" has 42 rows in 2 tables, ready after 61.2 s',
  );
});

test("single tables", () => {
  const part = { ...restored, kept: undefined, migrated: 0, tables: 1, schema: "restored_1" };
  expect(formatRestored(part, "backup X", "local")).toBe(
    `Restored backup X: the schema "restored_1" of "shop" has 42 rows in 1 table, ready after 61.2 s
  next: insert into public.X select * from restored_1.X where …;   drop schema restored_1 cascade;`,
  );
});
