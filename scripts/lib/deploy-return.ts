// A connection that has ended in the middle of a deploy does not tell what became of it. This connects once more, and looks:
// a server that has noticed the loss did by itself what it was told. Where that was not done, because its agent was killed
// there (kill -9, out of memory), it is done from here.
import type { Job } from "./deployment.ts";
import { asFailure, exitCodes, Failure } from "./failure.ts";
import { takeLock } from "./lock.ts";
import { parseHistory, type Release } from "./release.ts";
import type { Result } from "./run.ts";
import { type Call, openSession, patienceSeconds, type Session } from "./session.ts";
import { poll } from "./wait.ts";

/** As the server has it: what it was told to do when it loses us. */
export type Told = {
  calls: readonly Call[];
  /** Its bound. */
  seconds: number;
  /** Whether nothing of it is left to do. @param record what the server has recorded about this deploy. */
  isOver(live: number | undefined, record: Release | undefined): boolean;
};

export type Returned = {
  /** Nothing was left to do. */
  byServer: boolean;
  /** What the calls have printed; `serving` where there was nothing to do. */
  result: Result;
  /** What the server has written down by itself. */
  record?: Release | undefined;
};

/** A line that was dead for a moment; a firewall that has to see first that the old connection is gone. */
const reachSeconds = 15;
/** A server that has noticed late, and still has something to end. */
const waitSeconds = patienceSeconds + 60;

/** @throws {Failure} when it cannot be told: no way in, somebody else is at work, or was in between. */
export async function returnAfterLoss(job: Job, { calls, seconds, isOver }: Told): Promise<Returned> {
  const { state, plan, who, at, wanted, interrupted } = job;
  const started = performance.now();
  const session = await reconnect(job);
  try {
    const left = Math.ceil(waitSeconds - (performance.now() - started) / 1000);
    // Whoever has it is not done yet: an agent that lives, or the step of one that was killed.
    const holder = { who, at, why: `the end of the deploy of ${wanted.image}` };
    const { live } = await takeLock(session, holder, left, interrupted);
    const { records } = parseHistory((await session.call(["history"])).stdout);
    const newest = records.at(-1);
    const isOurs = newest?.release === plan.release && newest.at === at;
    if (!isOurs && newest?.at !== state.records.at(-1)?.at) throw otherDeploy(newest);
    const record = isOurs ? newest : undefined;
    if (isOver(live, record)) return { byServer: true, result: await session.call(["serving"]), record };
    job.progress.note("connected again: the server has not done it by itself, so it is done from here");
    session.ifLost(calls);
    const result = await session.giveUp(seconds);
    if (!result) throw new Failure(`Lost the connection to ${job.server.host}`, "again, while this was done");
    return { byServer: false, result };
  } finally {
    await session.close();
  }
}

async function reconnect({ server, wanted, interrupted }: Job): Promise<Session> {
  let reason: unknown;
  const open = () =>
    openSession({ server, directory: wanted.directory, project: wanted.settings.name }).catch((error) => {
      reason = error;
      // Any other stays until somebody changes it.
      if (asFailure(error).exitCode !== exitCodes.failed) throw error;
      return undefined;
    });
  const session = await poll({ seconds: reachSeconds, everyMilliseconds: 1000, interrupted }, open);
  if (!session) throw reason;
  return session;
}

function otherDeploy(record: Release | undefined): Failure {
  const by = record ? `release ${record.release}, by ${record.who}` : "its record is gone";
  return new Failure("Nothing more was changed", `another deploy was at work meanwhile: ${by}`);
}
