// What run.ts and flow.ts know about child processes alike: their environment, their end, their output, their pipes.
import type { ChildProcess } from "node:child_process";
import type { Readable, Writable } from "node:stream";
import type { Command } from "./run.ts";

/** From SIGTERM to SIGKILL. */
export const killAfterSeconds = 5;

export function mergedEnvironment(changes: Command["environment"]): Record<string, string> {
  const merged = Object.entries({ ...process.env, ...changes }).filter(([, value]) => value !== undefined);
  return Object.fromEntries(merged) as Record<string, string>;
}

export function whenEnded(child: ChildProcess): Promise<number | NodeJS.Signals> {
  return new Promise((resolve) => {
    child.once("error", () => resolve(notFound));
    child.once("close", (code, signal) => resolve(code ?? signal ?? 128));
  });
}

/** The shell's exit code for a missing program; but `docker exec` and ssh hand on the one of a program far away. */
export const notFound = 127;

/** Of a program that failed, for people. */
export function howItEnded({ argv }: Pick<Command, "argv">, code: number | NodeJS.Signals, stderr: string): string {
  if (code === notFound && (stderr === "" || stderr.includes(`exec: ${argv[0]}: not found`))) return missing(argv[0]!);
  return typeof code === "number" ? `it exited with ${code}` : `it was ended by ${code}`;
}

export const missing = (program: string) => `"${program}" is not installed, or not on PATH`;

/**
 * Does nothing when the process is gone.
 * Not child.kill(): Deno's does nothing when called a second time, so a SIGKILL after a SIGTERM would be lost.
 */
export function sendSignal(pid: number | undefined, signal: NodeJS.Signals): void {
  try {
    if (pid !== undefined) process.kill(pid, signal);
  } catch {
    // Already gone, which is what was wanted.
  }
}

/** A grandchild may hold the pipes open for as long as it lives, and a program counts as ended only when they are closed. */
export function stopReading(child: ChildProcess | undefined): void {
  child?.stdout?.destroy();
  child?.stderr?.destroy();
}

/** All that came, or about the last so many bytes; also from a program that could not be started: its exit code tells the rest. */
export async function collect(
  stream: Readable,
  lastBytes = Number.POSITIVE_INFINITY,
  onBytes: () => void = () => {},
): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      onBytes();
      chunks.push(chunk);
      bytes += chunk.length;
      while (bytes - chunks[0]!.length > lastBytes) bytes -= chunks.shift()!.length;
    }
  } catch {
    // Cut off: what has come counts.
  }
  return Buffer.concat(chunks).toString();
}

/**
 * Everything from one to the other, and then its end; or as much as the other one takes. Never rejects: what went wrong, the
 * programs' exit codes say, and who throws in `from`.
 * Not node's pipeline(): in Bun 1.4.5 its flowing streams now and then lose count of their own buffers and throw where nobody
 * can catch it (measured under `bun test`, 9 of 600 runs; this one 0 of 600).
 */
export async function copy(from: AsyncIterable<Uint8Array>, to: Writable): Promise<void> {
  try {
    for await (const chunk of from) {
      // Leaving the loop closes the other end as well.
      if (to.destroyed) break;
      if (!to.write(chunk) && !to.destroyed) await takesMore(to);
    }
    to.end();
  } catch {
    to.destroy();
  }
}

/** Or never will. */
function takesMore(to: Writable): Promise<void> {
  return new Promise((resolve) => {
    const events = ["close", "drain", "error"] as const;
    const done = () => {
      for (const event of events) to.off(event, done);
      resolve();
    };
    for (const event of events) to.on(event, done);
  });
}

export function send(stdin: Writable, text: string | Buffer): void {
  ignoreBrokenPipe(stdin);
  stdin.end(text);
}

/** A program may end without reading all of its input. Its exit code says whether that was a failure. */
export function ignoreBrokenPipe(stdin: Writable): void {
  stdin.on("error", () => {});
}
