// Bounded waiting: every wait of this kit ends, says what it waited for, and can be interrupted.
import { exitCodes, Failure } from "./failure.ts";

type Wait = { seconds: number; everyMilliseconds?: number; interrupted?: AbortSignal };

/**
 * Asks again and again until the answer is not undefined.
 * @returns the answer, or undefined when the time is over.
 * @throws what the question throws, at once; the signal's reason when it is aborted.
 */
export async function poll<T>(wait: Wait, ask: () => Promise<T | undefined>): Promise<T | undefined> {
  const end = performance.now() + wait.seconds * 1000;
  do {
    wait.interrupted?.throwIfAborted();
    const answer = await ask();
    if (answer !== undefined) return answer;
    await new Promise((resolve) => setTimeout(resolve, wait.everyMilliseconds ?? 50));
  } while (performance.now() < end);
  return undefined;
}

type WaitingFor = {
  what: string;
  /** The commands to go on with when the time is over. */
  next: readonly string[];
};

/**
 * Settles like the promise, but waits no longer than the seconds, and no longer than until the signal is aborted.
 * What is behind the promise goes on: the caller stops it.
 * @throws {Failure} when the time is over; the signal's reason when it is aborted.
 */
export async function within<T>(wait: Wait, promise: Promise<T>, { what, next }: WaitingFor): Promise<T> {
  wait.interrupted?.throwIfAborted();
  let tidyUp = () => {};
  const tooLong = new Promise<never>((_, reject) => {
    const over = () => reject(new Failure(`Gave up waiting for ${what}`, `nothing within ${wait.seconds} s`, next));
    const timer = setTimeout(over, wait.seconds * 1000);
    const onAbort = () => reject(wait.interrupted?.reason);
    wait.interrupted?.addEventListener("abort", onAbort);
    tidyUp = () => {
      clearTimeout(timer);
      wait.interrupted?.removeEventListener("abort", onAbort);
    };
  });
  return await Promise.race([promise, tooLong]).finally(tidyUp);
}

/** Resolves when the signal is aborted: for a program that serves until somebody ends it. */
export function untilAborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}

/** Settles like the promise, or throws the signal's reason as soon as it is aborted; what is behind the promise goes on then. */
export async function orInterrupted<T>(interrupted: AbortSignal, promise: Promise<T>): Promise<T> {
  const aborted = untilAborted(interrupted).then(() => {
    throw interrupted.reason;
  });
  return await Promise.race([promise, aborted]);
}

/**
 * Aborted by Ctrl-C, SIGTERM or a closed terminal, or when nobody reads our output any more, as behind `| head -1`; with
 * a Failure that exits 130. From then on none of these ends this process by itself: whoever calls this unwinds, and
 * stops what it has started on the way.
 */
export function interruption(): AbortSignal {
  const controller = new AbortController();
  const interrupt = (why: string) =>
    controller.abort(new Failure("Interrupted", why, [], { exitCode: exitCodes.interrupted }));
  for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(name, () => interrupt(`by ${name}`));
  for (const stream of [process.stdout, process.stderr]) {
    stream.on("error", () => interrupt("nobody reads the output any more"));
  }
  return controller.signal;
}
