// One deploy at a time: the kernel's lock on the server, held by the remote end of the session, so that it cannot be left behind.
import { exitCodes, Failure } from "./failure.ts";
import type { Session } from "./session.ts";

export type Holder = { who: string; at: string; why: string };

/** What the one who got the lock found: another may have been at work while he waited. */
export type Found = { live: number | undefined; records: number };

/** @throws {Failure} exit 4, naming the holder, when the lock is not free within the seconds. */
export async function takeLock(
  session: Session,
  holder: Holder,
  seconds: number,
  interrupted: AbortSignal,
): Promise<Found> {
  const { exitCode, stdout } = await session.call(["take_lock", `${seconds}`], {
    stdin: JSON.stringify(holder),
    accept: [0, exitCodes.locked],
    timeoutSeconds: seconds + 30,
    interrupted,
  });
  if (exitCode === exitCodes.locked) throw lockIsHeld(stdout, seconds);
  const [live = "", records = "0"] = stdout.replace(/\n$/, "").split(" ");
  return { live: live === "" ? undefined : Number(live), records: Number(records) };
}

/** @param holder the JSON of lock.json. */
export function lockIsHeld(holder: string, waitedSeconds: number): Failure {
  const next = ["the same command with --wait 600", "bun scripts/deploy.ts --history"];
  return new Failure("Nothing was changed", `${describe(holder)} holds the lock (waited ${waitedSeconds} s)`, next, {
    exitCode: exitCodes.locked,
    read: "docs/runbook/deploy-is-locked.md",
  });
}

function describe(holder: string): string {
  try {
    const { who, at, why } = JSON.parse(holder) as Holder;
    return `${who}, since ${at}, for "${why}",`;
  } catch {
    // He has the lock and has not written yet.
    return "somebody";
  }
}
