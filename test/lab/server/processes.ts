// Processes of others, told apart from those that get the same number later.
import { readFileSync } from "node:fs";
import { Failure } from "../../../scripts/lib/failure.ts";
import { poll } from "../process.ts";

/** A number alone may belong to somebody else by now: the time of its start tells. */
export type Identity = { pid: number; started: string };

const killWithinSeconds = 20;

export function identityOf(pid: number): Identity {
  return { pid, started: statOf(pid)?.started ?? "never" };
}

/** What has ended but has not been waited for counts as gone. */
export function isAlive({ pid, started }: Identity): boolean {
  const now = statOf(pid);
  return now?.started === started && now.state !== "Z";
}

export function childrenOf(pid: number): number[] {
  const list = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8");
  return list.split(" ").filter(Boolean).map(Number);
}

function statOf(pid: number): { state: string; started: string } | undefined {
  try {
    // The name in parentheses may hold spaces; the state follows it, and 19 fields later the start.
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").at(-1)!.split(" ");
    return { state: fields[0]!, started: fields[19]! };
  } catch {
    // No such process.
    return undefined;
  }
}

/** Ends a process and waits until it has ended. */
export async function killAndWait(pid: number): Promise<void> {
  const identity = identityOf(pid);
  if (!isAlive(identity)) return;
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It has just ended by itself.
  }
  const gone = await poll(killWithinSeconds, async () => (isAlive(identity) ? undefined : true));
  if (gone) return;
  const why = `it is still there ${killWithinSeconds} s after SIGKILL`;
  throw new Failure(`Cannot end process ${pid}`, why, [`ps -fp ${pid}`]);
}
