// What people read of a rehearsal: each file with its time, its locks, what it has written anew, and what it takes of the disk.
import { formatAge, formatBytes, formatSeconds } from "./figures.ts";
import { printable } from "./printable.ts";
import type { Outcome, RehearsedFile } from "./rehearse-files.ts";
import { type Finding, formatLimits, judge, type Limits } from "./rehearse-limits.ts";
import { inWords, nameOf, worthTelling } from "./rehearse-locks.ts";
import type { RehearsalPlan } from "./rehearse-plan.ts";

export type Ended = {
  plan: RehearsalPlan;
  outcome: Outcome;
  findings: Finding[];
};

export const judged = (plan: RehearsalPlan, outcome: Outcome, limits: Limits): Ended => ({
  ...{ plan, outcome },
  findings: judge(outcome.files, limits),
});

export function formatRehearsed({ plan, outcome, findings }: Ended, limits: Limits, now: Date): string {
  const { files, failure } = outcome;
  const count = files.length === 1 ? "1 file" : `${files.length} files`;
  const end = failure
    ? "and the next one fails"
    : findings.length === 0
      ? `within the limits: ${formatLimits(limits)}`
      : "above the limits";
  const { backup, where } = plan;
  return [
    `Rehearsed ${count} with backup ${backup.id}, as it was ${formatAge(backup.manifest.at, now)} ago: ${end}`,
    ...files.flatMap(formatFile),
    `  ${honesty[where.kind]}`,
  ].join("\n");
}

/** What the figures do not say. */
const honesty = {
  beside:
    "measured on this server, with all of it in the cache and nobody else at these tables: with the app at work it takes longer",
  container: "measured in a container on this machine, with nobody else at work: the server's own figures are others",
} as const;

const slowSeconds = 1;
const statementCharacters = 80;
const smallBytes = 1e6;
const tablesMaximum = 10;

function formatFile(file: RehearsedFile): string[] {
  const slow = file.statements.filter(({ seconds }) => seconds >= slowSeconds);
  const grown = file.tables.filter(({ bytes }) => Math.abs(bytes) >= smallBytes).slice(0, tablesMaximum);
  return [
    `  ${file.file}  ${formatTime(file.seconds)}, database ${formatGrowth(file.bytes)}${file.isLive ? "; the live database has it already" : ""}`,
    ...slow.map(({ line, seconds, sql }) => `    line ${line}: ${formatTime(seconds)}  ${oneLine(sql)}`),
    ...worthTelling(file.locks).map(
      ({ table, mode, seconds, line }) =>
        `    lock: ${nameOf(mode)} on ${table} for ${formatTime(seconds)} from line ${line}: ${inWords(mode)}`,
    ),
    ...file.rewritten.map(
      ({ table, rows, line, by }) =>
        `    ${by === "rewrite" ? "written anew" : "updated"}: ${rows === 1 ? "1 row" : `${rows} rows`} of ${table}, line ${line}`,
    ),
    ...grown.map(({ table, bytes }) => `    size: ${table} ${formatGrowth(bytes)}`),
  ];
}

/** Milliseconds matter where nothing does. */
const formatTime = (seconds: number) => (seconds < 10 ? `${seconds.toFixed(2)} s` : formatSeconds(seconds));

const formatGrowth = (bytes: number) =>
  bytes === 0 ? "as large as before" : `${bytes < 0 ? "-" : "+"}${formatBytes(Math.abs(bytes))}`;

function oneLine(sql: string): string {
  const text = printable(sql).replaceAll(/\s+/g, " ").trim();
  return text.length <= statementCharacters ? text : `${text.slice(0, statementCharacters - 1)}…`;
}

export function rehearsedAsJson({ plan, outcome, findings }: Ended, limits: Limits) {
  const { backup, where } = plan;
  const { files, failure } = outcome;
  return {
    ...{ backup: backup.id, at: backup.manifest.at, where, limits, files, findings },
    ...(failure && { failed: { what: failure.what, why: failure.why } }),
  };
}
