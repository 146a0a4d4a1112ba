// What has become of the files after a run of dbmate, by what the database says of itself, and how people are told. Pure.
import { exitCodes, Failure } from "./failure.ts";
import type { MigrationFile, Section } from "./migration-file.ts";
import { dropCommands } from "./migration-plan.ts";
import type { DbmateEnd } from "./migration-run.ts";
import { inSomePsql, type SqlByHand } from "./sql-by-hand.ts";

export type AppliedFile = {
  version: string;
  file: string;
  /** Undefined where dbmate has not said it. */
  seconds?: number;
};

export type Outcome = {
  /** What was to be done. */
  pending: readonly MigrationFile[];
  /** The versions of schema_migrations, looked up afterwards. */
  applied: readonly string[];
  /** Indexes that are not valid now, and were valid before, or not there. */
  spoilt: readonly string[];
  end: DbmateEnd;
  tries: number;
  byHand?: SqlByHand;
  /** " --on production": what the next command needs to reach the same database. */
  flags?: string;
  /** The index that the failed file has begun to build, which is all that it does. */
  isDropped?: boolean;
};

/**
 * Whether a lock that somebody else had is all that went wrong, and nothing would be done twice: of a file without a transaction, or
 * with one that it ends by itself, a part may have been done. Postgres' parser knows; what it cannot read is not tried again.
 */
export async function mayTryAgain(outcome: Pick<Outcome, "pending" | "applied" | "spoilt" | "end">): Promise<boolean> {
  const { end, spoilt } = outcome;
  if (!isLock(end) || spoilt.length > 0) return false;
  const failed = failedFile(outcome);
  return failed !== undefined && (await isAllOrNothing(failed.sections[0]!.up));
}

async function isAllOrNothing(section: Section): Promise<boolean> {
  const { statementsOf } = await import("./migration-statements.ts");
  const statements = await statementsOf(section);
  if (statements.some(({ node }) => node === undefined || node === "TransactionStmt")) return false;
  const [first] = statements;
  // A program may commit in between.
  return section.transaction || (statements.length === 1 && first!.node !== "DoStmt" && first!.node !== "CallStmt");
}

export const isLock = ({ lines }: DbmateEnd) => lines.some((line) => /^Error: .*(?:lock timeout|\(55P03\))/.test(line));

/** Whether Postgres has something against the file: not where its time was over, or the connection. */
const isWrong = ({ lines }: DbmateEnd) => lines.some((line) => /^Error: .*\((?!55P03|57P|08)\w{5}\)$/.test(line));

/** dbmate says what it begins, and "Applied" about the file that has just failed, too. */
function failedFile({
  pending,
  applied,
  end,
}: Pick<Outcome, "pending" | "applied" | "end">): MigrationFile | undefined {
  const begun = end.lines.findLast((line) => line.startsWith("Applying: "))?.slice("Applying: ".length);
  return pending.find(({ file, version }) => file === begun && !applied.includes(version));
}

/** "Applied: 20260101090000_x.sql in 1m2.5s", by file. */
export function secondsIn(lines: readonly string[]): Record<string, number> {
  const found = lines.flatMap((line) => {
    const [, file, time] = /^Applied: (.+) in (\S+)$/.exec(line) ?? [];
    return file && time ? [[file, seconds(time)] as const] : [];
  });
  return Object.fromEntries(found);
}

const unitSeconds: Readonly<Record<string, number>> = { h: 3600, m: 60, s: 1, ms: 1e-3, µs: 1e-6, us: 1e-6, ns: 1e-9 };

function seconds(time: string): number {
  const parts = [...time.matchAll(/([\d.]+)(h|ms|µs|us|ns|m|s)/g)];
  return parts.reduce((sum, [, number, unit]) => sum + Number(number) * unitSeconds[unit!]!, 0);
}

/** @returns what to throw where not everything is applied. */
export function notApplied(outcome: Outcome): Failure {
  const { end, spoilt, tries, byHand, flags = "" } = outcome;
  const failed = failedFile(outcome);
  const { why } = errorIn(end);
  const at = lineIn(failed, end);
  const file = failed && `migrations/${failed.file}`;
  const tried = tries > 1 ? `; it was tried ${tries} times` : "";
  const page = pageFor(end);
  const isPassword = page === wrongPassword;
  const next = [
    ...(isPassword ? ["put the earlier POSTGRES_PASSWORD back into .env"] : []),
    ...(page === notAdoptedPage
      ? [`bun scripts/drift.ts adopt${flags}`]
      : file && isWrong(end)
        ? [`correct ${file}`]
        : []),
  ];
  const source = at ? failed!.text.split("\n")[at - 1]?.trim() : undefined;
  return new Failure(
    file ? `Cannot apply ${file}${at ? `:${at}` : ""}` : "Cannot migrate",
    `${why}${tried}`,
    [...dropCommands(spoilt, byHand), ...next, "the same command again"],
    {
      details: [
        ...(source ? [`${at}: ${source}`] : []),
        ...statement(outcome),
        ...(file ? [] : end.lines.slice(-10)),
      ].join("\n"),
      facts: factsOf(outcome),
      read: page,
    },
  );
}

/** @param reason of the signal. */
export function interruptedIn(outcome: Outcome, { what, why }: Failure): Failure {
  return new Failure(
    what,
    `${why}, while migrations were applied`,
    [...dropCommands(outcome.spoilt, outcome.byHand), "the same command again"],
    {
      exitCode: exitCodes.interrupted,
      details: statement(outcome).join("\n"),
      facts: factsOf(outcome),
    },
  );
}

/** Where all of a part is applied, and others may follow it. */
export function spoiltAfter(outcome: Outcome): Failure {
  const { pending, applied } = outcome;
  const done = pending.filter(({ version }) => applied.includes(version)).map(({ file }) => file);
  if (done.length === pending.length) return spoiltIn(outcome, "Everything is applied");
  const { what, why, next, exitCode, facts, read } = spoiltIn(outcome, `${done.join(", ")} ${isOrAre(done)} applied`);
  return new Failure(what, why, [...next, "the same command again, for the others"], {
    exitCode,
    facts,
    ...(read && { read }),
  });
}

const isOrAre = (names: readonly string[]) => (names.length === 1 ? "is" : "are");

/** @param done what has been done all the same: an index that is not valid keeps nothing unique, and answers no query. */
export function spoiltIn({ spoilt, byHand = inSomePsql }: Pick<Outcome, "spoilt" | "byHand">, done: string): Failure {
  const verb = isOrAre(spoilt);
  const next = spoilt.map((index) => byHand(`reindex index concurrently ${index};`));
  return new Failure(`${done}, but not as it should be`, `${spoilt.join(", ")} ${verb} not valid`, next, {
    exitCode: exitCodes.saidNo,
    facts: { notValid: spoilt },
    read: "docs/runbook/migration-failed.md",
  });
}

type DownEnd = {
  file: MigrationFile;
  end: DbmateEnd;
  /** What it was about to make, or has spoilt, and would be in its way. */
  spoilt: readonly string[];
  /** Of the signal, where it was interrupted. */
  reason: Failure | undefined;
  byHand?: SqlByHand;
};

/** Of `migrate down`, where it is still applied. */
export function downFailed({ file: { file, sections }, end, spoilt, reason, byHand }: DownEnd): Failure {
  const { line, why } = errorIn(end);
  const { down } = sections[0]!;
  const stays = down!.transaction
    ? "nothing of it was taken back"
    : "it is not one transaction: what it did until then stays";
  const next = [...dropCommands(spoilt, byHand), "the same command again"];
  if (reason) return new Failure(reason.what, `${reason.why}; ${stays}`, next, { exitCode: exitCodes.interrupted });
  const at = line ? `:${down!.line + line - 1}` : "";
  const correct = isWrong(end) ? [`correct its part under "-- migrate:down"`] : [];
  return new Failure(`Cannot take back migrations/${file}${at}`, `${why}; ${stays}`, [...correct, ...next], {
    read: pageFor(end),
  });
}

/** What was applied and what was not, for programs. One that ends its transaction by itself is refused before: see migration-refusals.ts. */
function factsOf(outcome: Outcome) {
  const { pending, applied, spoilt, end, isDropped = false } = outcome;
  const failed = failedFile(outcome);
  const line = lineIn(failed, end);
  const isDone = ({ version }: MigrationFile) => applied.includes(version);
  const names = (files: readonly MigrationFile[]) => files.map(({ file }) => file);
  return {
    applied: names(pending.filter(isDone)),
    ...(failed && {
      failed: {
        file: failed.file,
        ...(line && { line }),
        isTakenBack: isDropped || failed.sections[0]!.up.transaction,
      },
    }),
    notApplied: names(pending.filter((file) => file !== failed && !isDone(file))),
    notValid: spoilt,
  };
}

/** The same for people, a line for each case that there is. */
function statement(outcome: Outcome): string[] {
  const { applied, failed, notApplied: rest, notValid } = factsOf(outcome);
  const became = failed?.isTakenBack ? "taken back whole" : "not one transaction, so what it did until then stays";
  return [
    `applied: ${applied.join(", ") || "none"}`,
    ...(failed ? [`${became}: ${failed.file}`] : []),
    ...(notValid.length > 0 ? [`left behind, and not valid: ${notValid.join(", ")}`] : []),
    ...(rest.length > 0 ? [`not applied: ${rest.join(", ")}`] : []),
  ];
}

/** In the file, where Postgres has said it. */
function lineIn(failed: MigrationFile | undefined, end: DbmateEnd): number | undefined {
  const { line } = errorIn(end);
  return failed && line ? failed.sections[0]!.up.line + line - 1 : undefined;
}

/** "Error: line: 2, column: 8, position: 22: pq: syntax error at or near "tabel" (42601)" */
function errorIn({ lines, code }: DbmateEnd): { line?: number; why: string } {
  const last = lines.findLast((line) => line.startsWith("Error: "));
  const [, line, why] = /^Error: (?:line: (\d+), column: \d+, position: \d+: )?(?:pq: )?(.*)$/.exec(last ?? "") ?? [];
  // Where it is, counted from another beginning.
  if (why) return { ...(line && { line: Number(line) }), why: why.replace(/ at position \d+:\d+(?= \(\w{5}\)$)/, "") };
  if (code === 0) return { why: "dbmate says that it is done, and schema_migrations says that it is not" };
  const said = lines.findLast((it) => !/^Appl(?:ying|ied): /.test(it));
  // Of one that was killed, only a shell has something to say.
  return { why: (Number(code) < 128 && said) || `dbmate ended with ${code}` };
}

const wrongPassword = "docs/runbook/wrong-password.md";
const notAdoptedPage = "docs/adopt.md";

/** What the first of the adopted files says where another tool's history is still the one that counts. */
export const notAdopted = "has migrated this database so far";

function pageFor({ lines }: DbmateEnd): string {
  const text = lines.join("\n");
  if (/\(28P01\)|password authentication/.test(text)) return wrongPassword;
  if (text.includes(`${notAdopted} (P0001)`)) return notAdoptedPage;
  if (/lock timeout|\(55P03\)/.test(text)) return "docs/runbook/migration-hangs.md";
  if (/\(42P07\)/.test(text)) return "docs/runbook/relation-already-exists.md";
  if (/\(42P01\)/.test(text)) return "docs/runbook/relation-does-not-exist.md";
  return "docs/runbook/migration-failed.md";
}
