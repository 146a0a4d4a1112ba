// The way back, what is removed and what stays, and what people read about it.
import { describe, expect, test } from "bun:test";
import { type Failure, formatFailure } from "../scripts/lib/failure.ts";
import { formatCleaned, formatUndo, planClean, planUndo } from "../scripts/lib/restore-undo.ts";

const now = new Date("2026-11-21T15:00:00Z");
const databases = [
  "postgres",
  "shop",
  "shop_before_20261120T150000",
  "shop_before_20261121T120000",
  "shop_restore_20261119T000000",
];

const textOf = (work: () => unknown) => {
  try {
    work();
  } catch (error) {
    return [(error as Failure).exitCode, formatFailure(error as Failure)];
  }
  throw new Error("it did not refuse");
};

describe("planUndo()", () => {
  test("takes the newest, and keeps the present one under a name of the same kind", () => {
    const plan = planUndo("shop", databases, now);
    expect(plan.keep).toBe("shop_before_20261121T150000");
    expect(formatUndo(plan, "deploy@app.example.com", now)).toBe(`Swap back on deploy@app.example.com
  "shop_before_20261121T120000", which was live until 3 h ago, becomes "shop"
  the present "shop" becomes "shop_before_20261121T150000", with everything that was written to it since then`);
  });

  test("twice within a second", () => {
    const taken = [...databases, "shop_before_20261121T150000"];
    expect(planUndo("shop", taken, now)).toMatchObject({
      next: { name: "shop_before_20261121T150000" },
      keep: "shop_before_20261121T150001",
    });
  });

  test("where nothing is live there is nothing to keep", () => {
    expect(planUndo("shop", databases.slice(2), now).keep).toBeUndefined();
  });

  test("refuses where somebody would keep everybody out for as long as the swap tries", () => {
    expect(textOf(() => planUndo("shop", databases, now, { shop: 1, postgres: 1 }))).toEqual([
      3,
      `Cannot swap back: prepared transactions keep "shop" from being renamed
  next: select * from pg_prepared_xacts;
  next: the same command again`,
    ]);
    expect(planUndo("shop", databases, now, { postgres: 1 }).keep).toBeDefined();
  });

  test("refuses where there is no way back", () => {
    expect(textOf(() => planUndo("shop", ["postgres", "shop"], now))).toEqual([
      3,
      `There is nothing to undo: no database is called shop_before_…
  next: bun scripts/backup.ts list      # what was live before is the one with the label before-restore
  read: docs/runbook/wrong-backup-restored.md`,
    ]);
  });
});

describe("planClean()", () => {
  test("remains alone, unless one is named", () => {
    expect(planClean("shop", databases, undefined)).toEqual({
      removed: ["shop_restore_20261119T000000"],
      stay: ["shop_before_20261121T120000", "shop_before_20261120T150000"],
    });
    expect(planClean("shop", databases, "shop_before_20261120T150000").removed).toEqual([
      "shop_before_20261120T150000",
    ]);
  });

  test("of rehearsals too, unless one is at work", () => {
    const all = [...databases, "shop_rehearse_20261121T100000"];
    const removed = ["shop_restore_20261119T000000", "shop_rehearse_20261121T100000"];
    expect(planClean("shop", all, undefined).removed).toEqual(removed);
    expect(planClean("shop", all, undefined, true).removed).toEqual(removed.slice(0, 1));
    expect(planUndo("shop", all, now).next.name).toBe("shop_before_20261121T120000");
  });

  test.each(["shop", "postgres", "look_here"])("never %p", (name) => {
    expect(textOf(() => planClean("shop", ["postgres", "shop", "look_here"], name))).toEqual([
      2,
      `Cannot remove "${name}": it is no database that a restore left; there is none`,
    ]);
  });

  test("what people read", () => {
    expect(formatCleaned({ removed: [], stay: [] }, "local")).toBe("Nothing to remove");
    expect(formatCleaned({ removed: ["a", "b"], stay: ["c", "d"] }, "production")).toBe(
      `Removed a, b; there are still c, d
  next: bun scripts/restore.ts d --clean --on production      # only when nobody wants it back`,
    );
  });
});
