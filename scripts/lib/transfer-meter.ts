// How a transfer is getting on: bytes, rate, and about how long it still takes. On a terminal one line that changes, a few times a
// second; elsewhere a line every ten seconds.
import { formatBytes, formatSeconds } from "./figures.ts";

export type TransferMeter = {
  /** @param bytes so far. @param expected about how many it will be; undefined where nobody knows. */
  at(bytes: number, expected: number | undefined): void;
  /** Takes the changing line away again. */
  end(): void;
};

const everySeconds = { terminal: 0.25, log: 10 };

type Output = { isTTY?: boolean; write(text: string): unknown };

export function transferMeter(
  what: string,
  output: Output = process.stderr,
  clock = () => performance.now(),
): TransferMeter {
  const began = clock();
  const isTerminal = output.isTTY === true && !process.env.CI;
  let shown = isTerminal ? Number.NEGATIVE_INFINITY : began;
  let isLineOpen = false;
  return {
    at(bytes, expected) {
      const now = clock();
      if ((now - shown) / 1000 < (isTerminal ? everySeconds.terminal : everySeconds.log)) return;
      shown = now;
      const line = formatTransfer(what, bytes, (now - began) / 1000, expected);
      output.write(isTerminal ? `\r\u001b[K${line}` : `${line}\n`);
      isLineOpen = isTerminal;
    },
    end() {
      if (isLineOpen) output.write("\r\u001b[K");
      isLineOpen = false;
    },
  };
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
