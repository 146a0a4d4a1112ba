// What the demo of a disaster says at its end.

export type Result = {
  /** Of the database, as Postgres counts them. */
  bytes: number;
  /** From the command to its end. */
  backupSeconds: number;
  /** From the command to its end, proof and swap included. */
  restoreSeconds: number;
  /** The longest that one of eight clients was without an answer while the databases were swapped. */
  interruptionMs: number;
  /** Of every table, with a hash of all that they hold. */
  rowsEqual: boolean;
};

type Contents = { before: string; lost: string; after: string };

export function formatSummary(result: Result, { before, lost, after }: Contents): string {
  const { bytes, backupSeconds, restoreSeconds, interruptionMs, rowsEqual } = result;
  const row = (name: string, value: string, says = "") =>
    `  ${name.padEnd(22)} ${value.padStart(9)}   ${says}`.trimEnd();
  const seconds = (value: number) => `${value.toFixed(1)} s`;
  return [
    "",
    rowsEqual ? "Everything is back, row by row." : "NOT everything is back.",
    row("the database", `${(bytes / 1e6).toFixed(0)} MB`, counts(before)),
    row("backup", seconds(backupSeconds)),
    row("after the disaster", "", counts(lost)),
    row("restore", seconds(restoreSeconds), counts(after)),
    row("longest interruption", `${interruptionMs} ms`, "seen by eight clients, while the databases were swapped"),
  ].join("\n");
}

const counts = (contents: string) =>
  contents
    .split("\n")
    .map((line) => {
      const [table = "", rows = ""] = line.split(" ");
      return `${table.replace(/^public\./, "")} ${Number(rows).toLocaleString("en")}`;
    })
    .join(", ");
