// Counts what became of requests. Pure: it is told the time.
import type { BreakKind } from "./connection.ts";

export type FailureKind = BreakKind | "5xx" | "4xx" | "wrong answer";

export type FailedRequest = {
  /** ISO 8601, when it was known to have failed. */
  at: string;
  kind: FailureKind;
  /** "POST /orders?id=17" */
  request: string;
  why: string;
};

export type Report = {
  /** All that were due so far. */
  requests: number;
  ok: number;
  failed: number;
  /** Due, and not yet answered or failed. */
  pending: number;
  failures: Partial<Record<FailureKind, number>>;
  /** The first 20. */
  firstFailures: FailedRequest[];
  /** Right answers by the release that gave them. */
  releases: Record<string, number>;
  /** Connections that were opened: those of the clients, and one for each that the server has closed. */
  connections: number;
  seconds: number;
  /** Right answers per second. */
  rate: number;
  /** From when a request was due, to 5 % exactly. */
  milliseconds: { p50: number; p99: number; max: number };
};

const describedAtMost = 20;
/** Each class of the histogram reaches 5 % further than the one before, from 0.1 ms on. */
const growth = Math.log(1.05);
const smallest = 0.1;

export class Tally {
  readonly #started: number;
  readonly #histogram: number[] = [];
  readonly #failures: Report["failures"] = {};
  readonly #firstFailures: FailedRequest[] = [];
  readonly #releases: Record<string, number> = {};
  #ok = 0;
  #failed = 0;
  #max = 0;
  requests = 0;
  connections = 0;

  /** @param started on the clock of performance.now(), as all times here. */
  constructor(started: number) {
    this.#started = started;
  }

  answered(release: string, milliseconds: number): void {
    this.#ok += 1;
    this.#releases[release] = (this.#releases[release] ?? 0) + 1;
    const index = Math.max(0, Math.ceil(Math.log(milliseconds / smallest) / growth));
    this.#histogram[index] = (this.#histogram[index] ?? 0) + 1;
    this.#max = Math.max(this.#max, milliseconds);
  }

  failed(failure: FailedRequest): void {
    this.#failed += 1;
    this.#failures[failure.kind] = (this.#failures[failure.kind] ?? 0) + 1;
    if (this.#firstFailures.length < describedAtMost) this.#firstFailures.push(failure);
  }

  report(now: number): Report {
    const seconds = (now - this.#started) / 1000;
    return {
      requests: this.requests,
      ok: this.#ok,
      failed: this.#failed,
      pending: this.requests - this.#ok - this.#failed,
      failures: { ...this.#failures },
      firstFailures: [...this.#firstFailures],
      releases: { ...this.#releases },
      connections: this.connections,
      seconds: rounded(seconds),
      rate: rounded(this.#ok / seconds),
      milliseconds: { p50: this.#percentile(0.5), p99: this.#percentile(0.99), max: rounded(this.#max) },
    };
  }

  #percentile(share: number): number {
    let below = 0;
    for (const [index, count = 0] of this.#histogram.entries()) {
      below += count;
      if (below >= this.#ok * share) return rounded(smallest * Math.exp(index * growth));
    }
    return 0;
  }
}

const rounded = (value: number) => Math.round(value * 10) / 10;
