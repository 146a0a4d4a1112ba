// Load on a lab server, counted without mercy: a request that was sent and not answered rightly has failed, and none is sent
// twice. Its clients run in a process of their own. What it asks of the server is what test/lab/apps answers.
//   const load = await startLoad({ ...project.target, requestsPerSecond: 500 });
//   …   await load.settle();   console.log(load.report().failed);   …   expect((await load.stop()).failed).toBe(0);
//   const socket = await openWebsocket(project.target);   …   expect(await socket.send("hello")).toBe("a1: hello");
//   const slow = slowRequest(project.target, 5);   …   expect((await slow).release).toBe("a1");
import { isIP } from "node:net";
import { Failure } from "../../scripts/lib/failure.ts";
import { type Running, start } from "../../scripts/lib/run.ts";
import { poll } from "../../scripts/lib/wait.ts";
import { type Answer, askOnce, type Target } from "./load/connection.ts";
import { type Settings, type Snapshot, timeIsOver } from "./load/settings.ts";
import type { Report } from "./load/tally.ts";
import { records } from "./server/record.ts";

export type { Answer, Target } from "./load/connection.ts";
export type { FailedRequest, FailureKind, Report } from "./load/tally.ts";
export { openWebsocket, type Websocket } from "./load/websocket.ts";

export type Load = {
  /** As of a tenth of a second ago at most. */
  report(): Report;
  /** The report once all that was due until now has been answered or has failed. */
  settle(): Promise<Report>;
  /** Resolves when the report fulfils the condition. */
  until(condition: (report: Report) => boolean, withinSeconds?: number): Promise<Report>;
  /** Sends nothing more, waits for the last answer. @throws {Failure} when the load had ended by itself before. */
  stop(): Promise<Report>;
};

type Options = Target & Partial<Omit<Settings, "target">>;

const limits = { clients: 200, requestsPerSecond: 5000, secondsAtMost: 3600 };

/** Resolves when the first answers, or failures, have come. */
export async function startLoad({ address, port, name, ca, ...options }: Options): Promise<Load> {
  requireLab(address);
  const settings: Settings = {
    target: { address, port, name, ...(ca && { ca }) },
    ...{ clients: 24, requestsPerSecond: 500, postShare: 0.5, delayMilliseconds: [0, 30] },
    ...{ path: "/", echo: true, headers: {}, timeoutSeconds: 10, secondsAtMost: 900 },
    ...options,
  };
  for (const key of Object.keys(limits) as (keyof typeof limits)[]) {
    if (settings[key] > limits[key]) throw new Failure("Cannot start the load", `${key} is above ${limits[key]}`);
  }
  let latest: Snapshot | undefined;
  let stopping = false;
  const errors: string[] = [];
  const program: Running = await start({
    argv: [process.execPath, new URL("load/main.ts", import.meta.url).pathname],
    input: true,
    // Ctrl-C is for the test, which then lets go of us.
    ownGroup: true,
    onLine(line, stream) {
      if (stream === "stdout") latest = JSON.parse(line);
      else errors.push(line);
    },
  });
  program.write(`${JSON.stringify(settings)}\n`);
  const endedEarly = (code: number | NodeJS.Signals) => {
    const why = code === timeIsOver ? `its ${settings.secondsAtMost} s were over` : `it ended with ${code}`;
    return new Failure("Cannot go on with the load", why, [], { details: errors.slice(-30).join("\n") });
  };
  let failure: Failure | undefined;
  void program.ended.then((code) => {
    if (!stopping || code !== 0) failure = endedEarly(code);
  });
  const until = async (what: string, seconds: number, condition: (snapshot: Snapshot) => boolean): Promise<Report> => {
    const found = await poll({ seconds }, async () => {
      if (failure) throw failure;
      return latest && condition(latest) ? latest : undefined;
    });
    if (found) return asReport(found);
    throw new Failure("Gave up waiting for the load", `${what} has not come within ${seconds} s`, [], {
      details: JSON.stringify(latest, null, 2),
    });
  };
  const load: Load = {
    report: () => asReport(latest!),
    settle: () => {
      const now = Date.now();
      return until("the last answer", 2 * settings.timeoutSeconds + 5, ({ decidedUntil }) => decidedUntil > now);
    },
    until: (condition, withinSeconds = 60) => until("what was waited for", withinSeconds, condition),
    async stop() {
      stopping = true;
      program.endInput();
      await Promise.race([program.ended, patience(2 * settings.timeoutSeconds + 5)]);
      await program.stop("SIGKILL", 1);
      if (failure) throw failure;
      return asReport(latest!);
    },
  };
  await load
    .until(({ ok, failed }) => ok + failed > 0, 2 * settings.timeoutSeconds)
    .catch(async (error) => {
      await program.stop("SIGKILL", 1);
      throw error;
    });
  return load;
}

/** A request that the app answers after so many seconds, on a connection of its own. @throws {Broken} when it is not answered. */
export function slowRequest(target: Target, seconds: number): Promise<Answer> {
  requireLab(target.address);
  return askOnce(target, { method: "GET", path: `/slow?milliseconds=${seconds * 1000}` }, seconds + 30);
}

/** @throws {Failure} unless the address is this machine's own loopback or one of the lab's hosts. */
function requireLab(address: string): void {
  const isLoopback = isIP(address) > 0 && (address.startsWith("127.") || address === "::1");
  if (isLoopback || records().some(({ slot }) => slot.address === address)) return;
  throw new Failure("Cannot start the load", `${address} is neither this machine nor one of the lab's hosts`);
}

function asReport({ decidedUntil: _, ...report }: Snapshot): Report {
  return report;
}

function patience(seconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, seconds * 1000).unref());
}
