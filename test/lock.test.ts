// scripts/lib/lock.ts: what is said to somebody who cannot have the lock. That it is one, test/live/ shows.
import { expect, test } from "bun:test";
import { formatFailure } from "../scripts/lib/failure.ts";
import { lockIsHeld } from "../scripts/lib/lock.ts";

const said = (holder: string) => {
  const failure = lockIsHeld(holder, 30);
  return `${formatFailure(failure)}\nexit ${failure.exitCode}`;
};

test("lockIsHeld() names who holds it, since when, and why", () => {
  const holder = { who: "ann@laptop", at: "2026-01-02T12:00:00.000Z", why: "deploy of ghcr.io/me/shop:4f2c1ab" };
  expect(said(JSON.stringify(holder))).toBe(
    `Nothing was changed: ann@laptop, since 2026-01-02T12:00:00.000Z, for "deploy of ghcr.io/me/shop:4f2c1ab", holds the lock (waited 30 s)
  next: the same command with --wait 600
  next: bun scripts/deploy.ts --history
  read: docs/runbook/deploy-is-locked.md
exit 4`,
  );
});

test.each(["", "{", '{"who":'])("lockIsHeld() by somebody who has not written yet: %p", (holder) => {
  expect(said(holder).split("\n")[0]).toBe("Nothing was changed: somebody holds the lock (waited 30 s)");
});
