// scripts/lib/tell.ts: how a deploy that did not end well is told to those who want to know. That they hear of it, test/live/ shows.
import { expect, test } from "bun:test";
import { exitCodes, Failure } from "../scripts/lib/failure.ts";
import type { Release } from "../scripts/lib/release.ts";
import { endingOf } from "../scripts/lib/tell.ts";

const failure = new Failure("Release 8 was not deployed", "it is not healthy");
const summary = "Release 8 was not deployed: it is not healthy";
const record = (outcome: Release["outcome"]) => ({ outcome, seconds: 4.5 }) as Release;

const rows: { name: string; failure?: Failure; record?: Release; ending: ReturnType<typeof endingOf> }[] = [
  { name: "before there was a record", ending: { outcome: "failed", serves: false, summary } },
  {
    name: "interrupted before there was one",
    failure: new Failure("Interrupted", "by SIGINT", [], { exitCode: exitCodes.interrupted, details: "log" }),
    ending: { outcome: "interrupted", serves: false, summary: "Interrupted: by SIGINT", details: "log" },
  },
  ...(["failed", "undone", "interrupted"] as const).map((outcome) => ({
    name: outcome,
    record: record(outcome),
    ending: { outcome, serves: false, summary, seconds: 4.5 },
  })),
  {
    name: "a release that serves, while the end of its deploy failed: that is a failure, and visitors see the new one",
    failure: new Failure("Release 8 serves, but the end of its deploy failed", "the disk is full"),
    record: record("done"),
    ending: {
      outcome: "failed",
      serves: true,
      summary: "Release 8 serves, but the end of its deploy failed: the disk is full",
      seconds: 4.5,
    },
  },
];
test.each(rows)("endingOf(): $name", ({ failure: one = failure, record, ending }) => {
  expect(endingOf(one, record)).toEqual(ending);
});
