// scripts/lib/transfer-meter.ts: how a transfer is getting on, for people and for logs.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { formatTransfer, transferMeter } from "../scripts/lib/transfer-meter.ts";

const before = process.env.CI;
beforeAll(() => {
  delete process.env.CI;
});
afterAll(() => {
  if (before === undefined) delete process.env.CI;
  else process.env.CI = before;
});

test.each([
  {
    bytes: 1_200_000_000,
    seconds: 14.1,
    expected: 4_600_000_000,
    text: "  dump     1.2 GB, 85.1 MB/s, about 40 s left",
  },
  { bytes: 1_200_000_000, seconds: 14.1, expected: undefined, text: "  dump     1.2 GB, 85.1 MB/s" },
  // It became larger than the one before.
  { bytes: 5_000, seconds: 1, expected: 4_000, text: "  dump     5.0 kB, 5.0 kB/s" },
  { bytes: 0, seconds: 0, expected: 4_000, text: "  dump     0 bytes, 0 bytes/s" },
])("$text", ({ bytes, seconds, expected, text }) => {
  expect(formatTransfer("dump", bytes, seconds, expected)).toBe(text);
});

function metered(isTTY: boolean, milliseconds: readonly number[]): string[] {
  const written: string[] = [];
  let now = 0;
  const meter = transferMeter("dump", { isTTY, write: (text) => written.push(text) }, () => now);
  for (const time of milliseconds) {
    now = time;
    meter.at(time * 1000, 100_000_000);
  }
  meter.end();
  meter.end();
  return written;
}

test("in a log a line every ten seconds, and none for what is done sooner", () => {
  expect(metered(false, [9_999])).toEqual([]);
  expect(metered(false, [5_000, 10_000, 15_000, 20_000])).toEqual([
    "  dump     10.0 MB, 1.0 MB/s, about 90 s left\n",
    "  dump     20.0 MB, 1.0 MB/s, about 80 s left\n",
  ]);
});

test.each([
  [false, ["  dump     1.0 MB, 100 kB/s, about 17 min left\n", "  dump     1.0 MB, 50.0 kB/s, about 33 min left\n"]],
  [
    true,
    [
      "\r\u001b[K  dump     1.0 MB, 1.0 MB/s, about 99 s left",
      "\r\u001b[K  dump     1.0 MB, 100 kB/s, about 17 min left",
    ],
  ],
])("also while nothing moves (terminal: %p)", (isTTY, lines) => {
  const written: string[] = [];
  const times = isTTY ? [1_000, 1_000, 10_000] : [1_000, 10_000, 20_000];
  let now = 0;
  let tick = () => {};
  let isOver = false;
  const regularly = (_: number, work: () => void) => {
    tick = work;
    return () => {
      isOver = true;
    };
  };
  const meter = transferMeter("dump", { isTTY, write: (text) => written.push(text) }, () => now, regularly);
  tick();
  [now] = times as [number];
  meter.at(1_000_000, 100_000_000);
  for (const time of times.slice(1)) {
    now = time;
    tick();
  }
  expect(written).toEqual(lines);
  meter.clear();
  now = 100_000;
  tick();
  expect(written.slice(lines.length)).toEqual(isTTY ? ["\r\u001b[K"] : []);
  meter.end();
  expect(isOver).toBe(true);
});

test("on a terminal one line that changes four times a second, and is taken away at the end", () => {
  expect(metered(true, [100, 200, 400])).toEqual([
    "\r\u001b[K  dump     100 kB, 1.0 MB/s, about 100 s left",
    "\r\u001b[K  dump     400 kB, 1.0 MB/s, about 100 s left",
    "\r\u001b[K",
  ]);
});

test("on a terminal of CI too, lines", () => {
  process.env.CI = "true";
  try {
    expect(metered(true, [10_000])).toEqual(["  dump     10.0 MB, 1.0 MB/s, about 90 s left\n"]);
  } finally {
    delete process.env.CI;
  }
});
