// One replacement of the app while clients are at work, whoever does it: how long it takes, and what becomes of their requests.
import { between } from "../../demo/server.ts";
import type { Load, Report } from "../../lab/load.ts";

export type Switch = { seconds: number; requests: number; failed: number; failures: Report["failures"] };

/** Until the new release has answered so many: an address that has gone stale fails requests for seconds afterwards. */
const answersAtLeast = 2000;

/** @param work replaces the app by one that calls itself `release`. @returns what happened from its begin until all was well. */
export async function measureSwitch(load: Load, release: string, work: () => Promise<unknown>): Promise<Switch> {
  const before = await load.settle();
  const started = performance.now();
  await work();
  const seconds = (performance.now() - started) / 1000;
  const answersOf = (report: Report) => report.releases[release] ?? 0;
  await load.until((report) => answersOf(report) >= answersOf(before) + answersAtLeast, 120);
  return { seconds, ...between(before, await load.settle()) };
}
