// `bun scripts/migrate.ts lint`: reads migrations/, and says what dbmate would do otherwise than it looks, and what would stop the app.
import { realpathSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { exitCodes, Failure, formatFailure } from "./failure.ts";
import type { Allowed } from "./lint-allow.ts";
import type { Finding } from "./lint-rules.ts";
import { type Linted, lintMigrations } from "./lint-run.ts";
import { runSquawk } from "./lint-squawk.ts";
import type { MigrateRequest } from "./migrate-request.ts";
import { findMigrations, type MigrationFile } from "./migration-file.ts";
import { onOneLine } from "./printable.ts";
import { asTyped } from "./runtime.ts";
import { interruption } from "./wait.ts";

export async function lint({ settings, directory, flags, words }: MigrateRequest): Promise<void> {
  const interrupted = interruption();
  const { files } = await findMigrations(directory);
  const only = words.length > 0 ? words.map((word) => namedFile(files, directory, word)) : undefined;
  const squawk = flags["no-squawk"]
    ? undefined
    : (judged: Parameters<typeof runSquawk>[1]) => runSquawk(directory, judged, interrupted);
  const { lintFrom: from } = settings.migrations;
  const linted = await lintMigrations({ migrations: files, from, only, now: new Date(), squawk });
  console.log(flags.json ? JSON.stringify(linted) : asTyped(formatLinted(linted)));
  const failure = whyNotGood(linted);
  if (!failure) return;
  console.error(formatFailure(failure));
  process.exitCode = exitCodes.saidNo;
}

/** As it is typed with the help of the shell, "migrations/2026….sql", or only its name. Another project may have one of that name. */
function namedFile(files: readonly MigrationFile[], directory: string, word: string): string {
  const name = basename(word);
  const isHere =
    word === name || realFolder(resolve(directory, word)) === realFolder(join(directory, "migrations", name));
  if (isHere && files.some(({ file }) => file === name)) return name;
  throw new Failure(`Cannot judge ${word}`, "it is none of the files in migrations/ here", ["ls migrations"], {
    exitCode: exitCodes.usage,
  });
}

/** Of a path, however it is written. */
function realFolder(path: string): string {
  try {
    return realpathSync.native(dirname(path));
  } catch {
    return dirname(path);
  }
}

/** Everything that was found, and the sum of it in the last line. */
function formatLinted({ files, judged, squawk, findings, allowed }: Linted): string {
  const spared = judged < files ? `, ${judged} of them by the rules of safety` : "";
  return [
    ...findings.flatMap(formatFinding),
    ...allowed.map(formatAllowed),
    `${count(files, "file")} judged${spared}${squawk ? "" : ", without squawk"}: ${sumOf(findings)}, ${allowed.length} allowed`,
  ].join("\n");
}

function formatFinding({ file, line, column, severity, rule, message, advice }: Finding): string[] {
  return [
    `migrations/${file}:${line}:${column}: ${severity} ${rule}: ${onOneLine(message)}`,
    `  do: ${onOneLine(advice)}`,
  ];
}

function formatAllowed({ file, line, column, rule, reason }: Allowed): string {
  return `migrations/${file}:${line}:${column}: allowed ${rule}: ${onOneLine(reason)}`;
}

const count = (number: number, what: string) => `${number} ${what}${number === 1 ? "" : "s"}`;

function sumOf(findings: readonly Finding[]): string {
  const errors = findings.filter(({ severity }) => severity === "error").length;
  return `${count(errors, "error")}, ${count(findings.length - errors, "warning")}`;
}

/** Undefined where there are at most warnings. */
export function whyNotGood({ findings }: Linted): Failure | undefined {
  const errors = findings.filter(({ severity }) => severity === "error");
  const [first] = errors;
  if (!first) return undefined;
  const next = [`correct migrations/${first.file}:${first.line}, then: bun scripts/migrate.ts lint`];
  return new Failure("The migrations are not safe to apply", count(errors.length, "error"), next, {
    exitCode: exitCodes.saidNo,
    read: "docs/migrations.md",
  });
}
