// How a transfer is getting on: bytes, rate, and about how long it still takes. On a terminal one line that changes, a few times a
// second; elsewhere a line every ten seconds.
import { formatBytes, formatSeconds } from "./figures.ts";

export type TransferMeter = {
  /** @param bytes so far. @param expected about how many it will be; undefined where nobody knows. */
  at(bytes: number, expected: number | undefined): void;
  /** Takes the changing line away, until there is something new: before another line is printed. */
  clear(): void;
  /** The same for good. */
  end(): void;
};

const everySeconds = { terminal: 0.25, log: 10 };

type Output = { isTTY?: boolean; write(text: string): unknown };

export function transferMeter(
  what: string,
  output: Output = process.stderr,
  clock = () => performance.now(),
  regularly = everySoOften,
): TransferMeter {
  const began = clock();
  const isTerminal = output.isTTY === true && !process.env.CI;
  let shown = isTerminal ? Number.NEGATIVE_INFINITY : began;
  let isLineOpen = false;
  let last: { bytes: number; expected: number | undefined } | undefined;
  const seconds = isTerminal ? everySeconds.terminal : everySeconds.log;
  const show = () => {
    const now = clock();
    if (!last || (now - shown) / 1000 < seconds) return;
    shown = now;
    const line = formatTransfer(what, last.bytes, (now - began) / 1000, last.expected);
    output.write(isTerminal ? `\r\u001b[K${line}` : `${line}\n`);
    isLineOpen = isTerminal;
  };
  // Also where nothing moves: a line that says so is better than none.
  const stop = regularly(seconds, show);
  const clear = () => {
    if (isLineOpen) output.write("\r\u001b[K");
    isLineOpen = false;
    last = undefined;
  };
  return {
    at(bytes, expected) {
      last = { bytes, expected };
      show();
    },
    clear,
    end() {
      stop();
      clear();
    },
  };
}

/** @returns what ends it. Keeps nobody from ending. */
function everySoOften(seconds: number, work: () => void): () => void {
  const timer = setInterval(work, seconds * 1000);
  timer.unref();
  return () => clearInterval(timer);
}

/** "  dump     1.2 GB, 85 MB/s, about 40 s left" */
export function formatTransfer(what: string, bytes: number, seconds: number, expected: number | undefined): string {
  const rate = bytes / Math.max(seconds, 0.001);
  const left = expected === undefined || rate === 0 ? undefined : Math.max(0, expected - bytes) / rate;
  return [
    `  ${what.padEnd(8)} ${formatBytes(bytes)}`,
    `${formatBytes(rate)}/s`,
    ...(left === undefined || left === 0 ? [] : [`about ${formatSeconds(left)} left`]),
  ].join(", ");
}
