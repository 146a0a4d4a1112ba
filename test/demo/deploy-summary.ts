// What the demo of deploys says at its end.
import type { Report } from "../lab/load.ts";

/** What became of the requests during one deploy or rollback. */
export type Act = {
  seconds: number;
  requests: number;
  /** Without those that a broken release has answered. */
  failed: number;
  answersOfBrokenRelease: number;
};

export type Result = {
  /** All that the load has sent. */
  requests: number;
  /** Sent, and not answered rightly, but for the answers of the broken release. */
  failed: number;
  /** Those that went live and stayed. */
  deploys: number;
  /** Of each of them, from the command to its end. */
  deploySeconds: number[];
  /** As the verb says it: from the decision on, until nginx answers with the release before. */
  flipBackSeconds: number;
  answersOfBrokenRelease: number;
  rollbackSeconds: number;
  requestsPerSecond: number;
};

type Acts = { first: { seconds: number }; second: Act; broken: Act; back: Act };

export function formatSummary(result: Result, { first, second, broken, back }: Acts): string {
  const row = (name: string, seconds: number, says = "") =>
    `  ${name.padEnd(22)} ${seconds.toFixed(1).padStart(5)} s   ${says}`.trimEnd();
  return [
    "",
    `In all ${formatRequests(result)}; ${result.requestsPerSecond} a second, half of them POST`,
    row("the first deploy of v1", first.seconds),
    row("deploy of v2", second.seconds, formatRequests(second)),
    row("deploy of v3, broken", broken.seconds, formatRequests(broken)),
    row("rollback to v1", back.seconds, formatRequests(back)),
    `  Once v3 was found out, nginx was back at v2 in ${result.flipBackSeconds} s.`,
    "  Each deploy has watched its release for 5 s before it counted as done (deploy.bakeSeconds).",
  ].join("\n");
}

export function formatRequests({ requests, failed, answersOfBrokenRelease: errors }: Omit<Act, "seconds">): string {
  const answered = errors > 0 ? `, and ${count(errors)} that v3 itself answered with an error` : "";
  return `${count(requests)} requests, ${count(failed)} failed${answered}`;
}

export function formatFailures({ failures, firstFailures }: Report): string {
  const kinds = Object.entries(failures).map(([kind, number]) => `${kind}: ${count(number)}`);
  const lines = firstFailures.map(({ at, kind, request, why }) => `  ${at}  ${kind}  ${request}  ${why}`);
  return [`Not all was well; with the answers of v3: ${kinds.join(", ")}`, ...lines].join("\n");
}

const count = (number: number) => number.toLocaleString("en");
