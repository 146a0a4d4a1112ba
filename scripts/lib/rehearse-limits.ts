// Whether what a rehearsal has measured is within the limits of dbops.config.ts; and what to write instead where it is not. Pure.
import type { Settings } from "./config.ts";
import { exitCodes, Failure } from "./failure.ts";
import { formatSeconds } from "./figures.ts";
import type { RehearsedFile } from "./rehearse-files.ts";
import { blocks, inWords, makesWait, nameOf } from "./rehearse-locks.ts";

export type Limits = Settings["migrations"]["rehearse"];

export const formatLimits = ({ fileSeconds, lockSeconds, rewrittenRows }: Limits) =>
  `${fileSeconds} s for a file, ${lockSeconds} s for a lock that makes the app wait, ${rewrittenRows} rows written anew`;

export type Finding = {
  file: string;
  line: number;
  /** The key of the limit. */
  limit: keyof Limits;
  /** Undefined for what is about the whole file. */
  table: string | undefined;
  figure: number;
  allowed: number;
  /** For people, without the file. */
  says: string;
  instead: string;
};

/** Of files that the live database has already nothing is said: they are not what is about to happen. */
export function judge(files: readonly RehearsedFile[], limits: Limits): Finding[] {
  return files.filter(({ isLive }) => !isLive).flatMap((file) => judgeFile(file, limits));
}

function judgeFile(file: RehearsedFile, { fileSeconds, lockSeconds, rewrittenRows }: Limits): Finding[] {
  const slowest = slowestOf(file.statements);
  const found = (limit: keyof Limits, line: number, rest: Omit<Finding, "file" | "line" | "limit">): Finding => ({
    ...{ file: file.file, line, limit },
    ...rest,
  });
  const tooSlow = file.seconds > fileSeconds && [
    found("fileSeconds", slowest?.line ?? 1, {
      ...{ table: undefined, figure: file.seconds, allowed: fileSeconds },
      says: `the file takes ${formatSeconds(file.seconds)}, fileSeconds is ${fileSeconds}`,
      instead: slowest ? insteadOf(slowest) : generally,
    }),
  ];
  const longest = Map.groupBy(
    file.locks.filter(({ mode, seconds }) => makesWait(mode) && seconds > lockSeconds),
    ({ table }) => table,
  );
  const tooLong = [...longest.values()].flatMap((locks) => {
    // The strongest first: what waits for a weaker one as well is said once.
    const told = locks.filter(({ mode, seconds }, index) =>
      locks.slice(0, index).every((before) => before.seconds < seconds && blocks(before.mode) !== blocks(mode)),
    );
    return told.map(({ table, mode, seconds, line }) =>
      found("lockSeconds", line, {
        ...{ table, figure: seconds, allowed: lockSeconds },
        says: `${nameOf(mode)} on ${table} for ${formatSeconds(seconds)}, lockSeconds is ${lockSeconds}: ${inWords(mode)}`,
        instead: insteadOfLock(file, line, seconds),
      }),
    );
  });
  const tooMany = file.rewritten
    .filter(({ rows }) => rows > rewrittenRows)
    .map(({ table, rows, line, by }) =>
      found("rewrittenRows", line, {
        ...{ table, figure: rows, allowed: rewrittenRows },
        says: `${rows} rows of ${table} are ${by === "rewrite" ? "written anew" : "updated"}, rewrittenRows is ${rewrittenRows}`,
        instead: insteadOf(statementAt(file, line)),
      }),
    );
  return [...(tooSlow || []), ...tooLong, ...tooMany];
}

type Statement = RehearsedFile["statements"][number];

const slowestOf = (statements: readonly Statement[]) =>
  [...statements].sort((one, other) => other.seconds - one.seconds)[0];

const statementAt = ({ statements }: RehearsedFile, line: number) => statements.find((it) => it.line === line);

/** A lock is held until the commit: what makes it long may be another statement than the one that took it. */
function insteadOfLock(file: RehearsedFile, line: number, seconds: number): string {
  const taker = statementAt(file, line);
  const slowest = slowestOf(file.statements.filter((statement) => statement.line >= line));
  if (!taker || !slowest || slowest === taker || slowest.seconds < seconds / 2) return insteadOf(taker);
  return `line ${slowest.line} takes ${formatSeconds(slowest.seconds)} of that, and a lock is held until the commit: a file of its own for it`;
}

const generally = "smaller steps, in files of their own";

/** The first that fits counts. docs/migrations.md works out those for indexes, constraints and columns, and shows batches. */
const rules: readonly { node: string; pattern: RegExp; instead: string }[] = [
  { node: "IndexStmt", pattern: /./, instead: "create index concurrently, alone in a file with transaction:false" },
  {
    node: "AlterTableStmt",
    // Not a table, or a column that is only called so.
    pattern: /\balter\s+(?!table\b)(?:column\s+)?(?!column\b)(?:"[^"]+"|\S+)\s+(?:set\s+data\s+)?type\b/i,
    instead: "a new column of that type, filled in batches, and the names swapped",
  },
  {
    node: "AlterTableStmt",
    pattern: /\badd\s+(?:constraint\b|foreign\s+key|check|unique|primary\s+key)/i,
    instead:
      "the constraint NOT VALID, and VALIDATE in a file of its own; for a key, create unique index concurrently first",
  },
  {
    node: "AlterTableStmt",
    pattern: /\bset\s+not\s+null\b/i,
    instead: "a constraint NOT NULL … NOT VALID (before Postgres 18: a check), and VALIDATE in a file of its own",
  },
  {
    node: "AlterTableStmt",
    pattern: /\badd\b/i,
    instead: "the column without what is computed for each row, filled in batches afterwards",
  },
  { node: "UpdateStmt", pattern: /./, instead: "batches of some thousand rows, each a transaction of its own" },
  { node: "DeleteStmt", pattern: /./, instead: "batches of some thousand rows, each a transaction of its own" },
  { node: "ReindexStmt", pattern: /./, instead: "reindex … concurrently, alone in a file with transaction:false" },
  { node: "RefreshMatViewStmt", pattern: /./, instead: "refresh materialized view concurrently" },
];

function insteadOf(statement: Pick<Statement, "node" | "sql"> | undefined): string {
  if (!statement) return generally;
  return (
    rules.find(({ node, pattern }) => node === statement.node && pattern.test(statement.sql))?.instead ?? generally
  );
}

/** @throws never: the failure is what is printed below the report. */
export function aboveLimits(findings: readonly Finding[]): Failure {
  const count = findings.length === 1 ? "1 finding" : `${findings.length} findings`;
  const lines = findings.flatMap(({ file, line, says, instead }) => [
    `migrations/${file}:${line}: ${says}`,
    `  instead: ${instead}`,
  ]);
  const next = [
    "write it in smaller steps, then the same command again",
    "or, if nobody minds: raise migrations.rehearse in dbops.config.ts",
  ];
  return new Failure("The pending migrations are above the limits", count, next, {
    exitCode: exitCodes.saidNo,
    details: lines.join("\n"),
    read: "docs/migrations.md",
  });
}
