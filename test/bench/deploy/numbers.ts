// Rounds within a bound of time, and what is printed of them.

/** Does something up to so many times, at least once, and begins no round later than so many seconds after the beginning. */
export type Rounds = <T>(wanted: number, untilSeconds: number, work: () => Promise<T>) => Promise<T[]>;

export function createRounds(interrupted: AbortSignal): Rounds {
  const begun = performance.now();
  return async (wanted, untilSeconds, work) => {
    const results = [await work()];
    while (results.length < wanted && performance.now() - begun < untilSeconds * 1000) {
      interrupted.throwIfAborted();
      results.push(await work());
    }
    return results;
  };
}

/** The value that so many of all do not exceed; 0.5 is the median. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? 0;
}

export const median = (values: readonly number[]) => percentile(values, 0.5);

/** The first column to the left, the last one as it is, those in between to the right. */
export function table(rows: readonly (readonly string[])[]): string {
  const columns = Math.max(...rows.map(({ length }) => length));
  const widths = Array.from({ length: columns }, (_, column) =>
    Math.max(...rows.map((row) => row[column]?.length ?? 0)),
  );
  const cell = (text: string, column: number) => {
    if (column === 0) return text.padEnd(widths[column]!);
    return column === columns - 1 ? text : text.padStart(widths[column]!);
  };
  return rows.map((row) => `  ${row.map(cell).join("   ")}`.trimEnd()).join("\n");
}
