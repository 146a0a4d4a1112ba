// The disk under a restore. One that is filled up takes the live database with it: without room for its log (WAL) Postgres stops. So a
// restore asks before it begins, looks again and again while it works, and gives up in time.
import { exitCodes, Failure } from "./failure.ts";
import { formatBytes } from "./figures.ts";
import type { Place } from "./place.ts";
import { run } from "./run.ts";

export type Disk = {
  /** Where Postgres has its data. */
  folder: string;
  bytes: number;
  freeBytes: number;
};

/** The last line of `df -P -k`; undefined for what is none. */
export function parseDf(text: string): Pick<Disk, "bytes" | "freeBytes"> | undefined {
  const [, size, , free] = text.trim().split("\n").at(-1)?.split(/\s+/) ?? [];
  const [bytes, freeBytes] = [Number(size) * 1024, Number(free) * 1024];
  return Number.isFinite(bytes) && Number.isFinite(freeBytes) ? { bytes, freeBytes } : undefined;
}

/** Undefined where df says something else. */
export async function diskOf(place: Place, folder: string): Promise<Disk | undefined> {
  const { stdout } = await run({ ...place.client(["df", "-P", "-k", folder]), accept: [0, 1] });
  const seen = parseDf(stdout);
  return seen && { folder, ...seen };
}

/** Stays free for the live database, whose log grows in pieces of 16 MB. */
export const reserveOf = ({ bytes }: Pick<Disk, "bytes">) => Math.min(Math.max(bytes / 10, 128e6), 512e6);

export const roomOn = (disk: Disk) => Math.max(0, disk.freeBytes - reserveOf(disk));

/** More than one restore writes in a second, its log included. */
const bytesInASecond = 400e6;
const everySeconds = { atLeast: 0.2, atMost: 5 };

/** The less room there is, the sooner it is looked at again. */
export const nextLookSeconds = (room: number) =>
  Math.min(Math.max(room / bytesInASecond, everySeconds.atLeast), everySeconds.atMost);

export type DiskWatch = {
  /** Aborted with a Failure, exit 3, once there is too little room. */
  full: AbortSignal;
  stop(): Promise<void>;
};

/** @param disk undefined where it cannot be asked: nobody looks then. @param what is given up: "Cannot restore backup X". */
export function watchDisk(place: Place, disk: Disk | undefined, what: string): DiskWatch {
  const controller = new AbortController();
  const stopping = new AbortController();
  const watching = disk && watch(place, disk, what, controller, stopping.signal);
  return {
    full: controller.signal,
    async stop() {
      stopping.abort();
      await watching;
    },
  };
}

async function watch(place: Place, first: Disk, what: string, controller: AbortController, stopped: AbortSignal) {
  let disk: Disk | undefined = first;
  while (!stopped.aborted) {
    // A look that failed says nothing: whatever is wrong, the restore itself finds out.
    if (disk && roomOn(disk) === 0) return controller.abort(diskFull(what, place, disk));
    await pause(disk ? nextLookSeconds(roomOn(disk)) : everySeconds.atMost, stopped);
    if (!stopped.aborted) disk = await diskOf(place, first.folder).catch(() => undefined);
  }
}

function pause(seconds: number, stopped: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, seconds * 1000);
    stopped.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}

const diskFull = (what: string, place: Place, { freeBytes }: Disk) =>
  diskFailure(what, `the disk of ${place.name} has ${formatBytes(freeBytes)} left, which the live database needs`);

/** What Postgres says when the disk was full at once, or another one is than the one that is watched. */
export function explainDisk(what: string, failure: Failure): Failure {
  if (!/No space left on device/.test(failure.details ?? "")) return failure;
  return diskFailure(what, "a disk of the database is full", failure.details);
}

const diskFailure = (what: string, why: string, details?: string) =>
  new Failure(what, why, ["make room, then the same command again"], {
    ...{ exitCode: exitCodes.saidNo, read: "docs/runbook/restore-disk-full.md" },
    ...(details && { details }),
  });
