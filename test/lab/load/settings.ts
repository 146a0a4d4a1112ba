// What the load's process is told, and what it tells.
import type { Target } from "./connection.ts";
import type { Report } from "./tally.ts";

export type Settings = {
  target: Target;
  /** Kept connections: so many requests can be in flight. 24 carry about 1,100 requests a second that wait 15 ms each. */
  clients: number;
  requestsPerSecond: number;
  /** Of all requests, from 0 to 1. */
  postShare: number;
  /** How long the app lets each request wait, a random time between the two. */
  delayMilliseconds: readonly [number, number];
  path: string;
  /** The server gives the request's id and size back (test/lab/apps). Without, only GETs are sent, and 200 is right. */
  echo: boolean;
  /** Of every request; the starter app tells its release on /health to those with the x-health-token. */
  headers: Readonly<Record<string, string>>;
  /** An answer that takes longer is a failure. */
  timeoutSeconds: number;
  /** The load ends then by itself, whoever has forgotten it. */
  secondsAtMost: number;
};

/** A report, and until when (Date.now()) it is complete: all that was due before has been answered or has failed. */
export type Snapshot = Report & { decidedUntil: number };

/** Exit code of a load that nobody has stopped in time. */
export const timeIsOver = 3;
