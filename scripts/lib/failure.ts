// What every verb says when it cannot go on: what failed, why, and the exact next command; and the exit code that means it.
import { onOneLine, printable } from "./printable.ts";
import { asTyped } from "./runtime.ts";

/** Exit codes of all verbs, each with one meaning. docs/exit-codes.md is the same table for people. */
export const exitCodes = {
  done: 0,
  failed: 1,
  usage: 2,
  saidNo: 3,
  locked: 4,
  refused: 5,
  interrupted: 130,
} as const;

type ExitCode = (typeof exitCodes)[keyof typeof exitCodes];

type Facts = Readonly<Record<string, unknown>>;

type FailureOptions = {
  exitCode?: ExitCode;
  /** Evidence, printed indented before the next commands: log lines, an SQL error. Never a secret. */
  details?: string;
  /** For programs, which get it with --json: what the details say in words. Never a secret. */
  facts?: Facts | undefined;
  /** The page of docs/ that explains it, from the project's root. */
  read?: string;
  cause?: unknown;
};

/** An error with everything a tired person needs. Its message is the first line: `what: why`. */
export class Failure extends Error {
  readonly what: string;
  readonly why: string;
  readonly next: readonly string[];
  readonly exitCode: ExitCode;
  readonly details: string | undefined;
  readonly facts: Facts | undefined;
  readonly read: string | undefined;

  constructor(what: string, why: string, next: readonly string[] = [], options: FailureOptions = {}) {
    super(`${what}: ${why}`, { cause: options.cause });
    this.name = "Failure";
    this.what = what;
    this.why = why;
    this.next = next;
    this.exitCode = options.exitCode ?? exitCodes.failed;
    this.details = options.details;
    this.facts = options.facts;
    this.read = options.read;
  }
}

/** The whole text of a failure as people see it, without a trailing newline. */
export function formatFailure(failure: Failure): string {
  const details = failure.details ? printable(failure.details).trimEnd().split("\n") : [];
  return [
    asTyped(onOneLine(failure.message)),
    ...details.map((line) => `  | ${line}`),
    ...failure.next.map((command) => `  next: ${asTyped(command)}`),
    ...(failure.read ? [`  read: ${failure.read}`] : []),
  ].join("\n");
}

/** The same as one JSON document, for callers that asked with --json. */
export function failureAsJson(failure: Failure): string {
  const { what, why, details, facts, read, exitCode } = failure;
  const next = failure.next.map((command) => asTyped(command));
  return JSON.stringify({ error: { what, why, details, facts, next, read, exitCode } });
}

/** The single exit for errors. A stack is printed only where DBOPS_VERBOSE is set: it helps us, not the person on call. */
export function reportAndExit(error: unknown): never {
  const failure = asFailure(error);
  // What follows "--" are the flags of another command.
  const own = process.argv.slice(0, process.argv.includes("--") ? process.argv.indexOf("--") : undefined);
  if (own.includes("--json")) console.log(failureAsJson(failure));
  console.error(formatFailure(failure));
  if (process.env.DBOPS_VERBOSE) console.error(stacksOf(error).join("\ncaused by: "));
  process.exit(failure.exitCode);
}

/** Of the error and of what led to it. Nothing else that they carry: it has been printed, or it was not meant to be. */
function stacksOf(error: unknown): string[] {
  if (!(error instanceof Error)) return error === undefined ? [] : [String(error)];
  return [error.stack ?? error.message, ...stacksOf(error.cause)];
}

export function asFailure(error: unknown): Failure {
  if (error instanceof Failure) return error;
  const message = error instanceof Error ? error.message : String(error);
  return new Failure("Unexpected error", message, ["the same command with DBOPS_VERBOSE=1 shows where"], {
    cause: error,
  });
}
