// What people see while a plan is carried out: one line for each step with its time, on stderr.

import { printable } from "./printable.ts";

export type Progress = {
  /** Runs a step and prints its line when it has ended, well or not. */
  step<T>(name: string, work: () => Promise<T>): Promise<T>;
  /** A remark about the step that is running. */
  note(text: string): void;
  /** Seconds of each step so far. */
  seconds(): Record<string, number>;
};

export function createProgress(print: (line: string) => void = console.error): Progress {
  const seconds: Record<string, number> = {};
  return {
    async step(name, work) {
      const started = performance.now();
      let end = "failed";
      try {
        const result = await work();
        end = "done";
        return result;
      } finally {
        seconds[name] = Math.round(performance.now() - started) / 1000;
        print(
          `${end === "done" ? "  done  " : "  FAILED"} ${name.padEnd(9)} ${seconds[name].toFixed(2).padStart(7)} s`,
        );
      }
    },
    note: (text) => print(`         ${printable(text)}`),
    seconds: () => ({ ...seconds }),
  };
}

/** The summary at the end. */
export function formatTimes(seconds: Readonly<Record<string, number>>): string {
  const rows = Object.entries(seconds);
  const total = rows.reduce((sum, [, value]) => sum + value, 0);
  const line = (name: string, value: number) => `  ${name.padEnd(9)} ${value.toFixed(2).padStart(7)} s`;
  return [...rows.map(([name, value]) => line(name, value)), line("in all", total)].join("\n");
}
