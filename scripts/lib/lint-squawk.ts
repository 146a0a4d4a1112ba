// What squawk knows about locks and rewrites, of the up section alone: it would take the down section for a part of it.
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Node, RangeVar } from "libpg-query";
import { exitCodes, Failure } from "./failure.ts";
import { newTable, relationOf } from "./lint-names.ts";
import { type Finding, finding, type Position, type RuleName } from "./lint-rules.ts";
import type { ParsedFile, ParsedSection, Statement } from "./lint-sql.ts";
import { installCommand } from "./packages.ts";
import { run } from "./run.ts";

/** Of squawk's rules those that are about safety, each with our words for it. The others are matters of taste, or lint has its own. */
const messages = {
  "adding-field-with-default": "the table is rewritten, and takes neither reads nor writes meanwhile",
  "adding-foreign-key-constraint": "all rows are checked, and both tables take no writes meanwhile",
  "adding-not-nullable-field": "all rows are checked, and the table takes neither reads nor writes meanwhile",
  "adding-required-field": "it fails where there are rows, and the version that runs meanwhile cannot insert any",
  "adding-serial-primary-key-field": "its index is built while the table takes neither reads nor writes",
  "ban-alter-domain-with-add-constraint": "every table with the domain is read, and takes no writes meanwhile",
  "ban-drop-database": "it drops a database",
  "ban-drop-not-null": "the version of the app that runs meanwhile does not expect a null",
  "changing-column-type":
    "the table may be rewritten, takes neither reads nor writes meanwhile, and the app may not know the type",
  "constraint-missing-not-valid": "all rows are checked, and the table takes neither reads nor writes meanwhile",
  "disallowed-unique-constraint": "its index is built while the table takes neither reads nor writes",
  "identifier-too-long": "Postgres cuts this name off after 63 bytes",
  "require-concurrent-index-creation": "the table takes no writes while the index is built",
  "require-concurrent-index-deletion": "the table takes neither reads nor writes until every query of it is done",
  "require-concurrent-partition-detach": "the table takes neither reads nor writes until every query of it is done",
  "require-concurrent-reindex":
    "the table takes no writes while the index is built, and queries that would use it wait",
} as const satisfies Partial<Record<RuleName, string>>;

export const squawkRules = Object.keys(messages) as (keyof typeof messages)[];

/** Its JSON reporter counts lines from 0, and columns in bytes from 0. */
type Violation = {
  file: string;
  line: number;
  column: number;
  line_end: number;
  column_end: number;
  message: string;
  rule_name: string;
};

/** @throws {Failure} exit 2 when it is not installed in the project. */
export async function runSquawk(
  project: string,
  files: readonly ParsedFile[],
  interrupted?: AbortSignal,
): Promise<Finding[]> {
  const program = findSquawk(project);
  const sections = files.flatMap(({ migration, sections: [up] }) =>
    up && !up.error && up.statements.length > 0 ? [{ file: migration.file, up }] : [],
  );
  const folder = await mkdtemp(join(tmpdir(), "dbops-lint-"));
  try {
    const config = join(folder, "squawk.toml");
    await writeFile(config, "");
    const findings: Finding[] = [];
    for (const transaction of [true, false]) {
      const own = sections.filter(({ up }) => up.section.transaction === transaction);
      findings.push(
        ...(await judge([program, "--config", config], join(folder, String(transaction)), own, interrupted)),
      );
    }
    return findings;
  } finally {
    await rm(folder, { recursive: true });
  }
}

async function judge(
  program: readonly string[],
  folder: string,
  sections: readonly { file: string; up: ParsedSection }[],
  interrupted?: AbortSignal,
): Promise<Finding[]> {
  const [first] = sections;
  if (!first) return [];
  await mkdir(folder);
  for (const { file, up } of sections) {
    // Empty lines in front: the lines that it names are those of the file.
    await writeFile(join(folder, file), Buffer.concat([Buffer.from("\n".repeat(up.section.line - 1)), shown(up)]));
  }
  const inTransaction = first.up.section.transaction ? ["--assume-in-transaction"] : [];
  const { stdout, stderr } = await run({
    argv: [...program, "--reporter", "json", "--pg-version", "18", ...inTransaction, "*.sql"],
    directory: folder,
    // It exits 1 when it has found anything.
    accept: [0, 1],
    timeoutSeconds: 300,
    interrupted,
  }).catch((error: Failure) => {
    throw interrupted?.aborted ? error : doesNotRun(error.why, error.details);
  });
  if (!stdout.startsWith("[")) throw doesNotRun("its answer is not JSON", stderr);
  const violations = JSON.parse(stdout) as Violation[];
  return sections.flatMap(({ file, up }) => {
    const own = violations.filter((violation) => violation.file === file);
    return own.flatMap((violation) => asFinding(file, up, violation, own) ?? []);
  });
}

function asFinding(file: string, up: ParsedSection, violation: Violation, all: readonly Violation[]) {
  const { line, column, rule_name: name, message } = violation;
  const bytes = Buffer.from(up.section.sql.split("\n")[line + 1 - up.section.line] ?? "");
  const at = { line: line + 1, column: [...bytes.subarray(0, column).toString()].length + 1 };
  if (name === "syntax-error") {
    const why = `squawk cannot read it, so nothing in this file was judged: ${message}`;
    return finding(file, at, "squawk-cannot-read", why);
  }
  if (!isOurs(name)) return undefined;
  if (name === "constraint-missing-not-valid" && all.some((other) => saysItBetter(violation, other))) return undefined;
  if (name !== "identifier-too-long" && isOfNewTable(up.statements, at)) return undefined;
  return finding(file, at, name, messages[name]);
}

/** Whether it is about a table that the file has made itself: nobody uses that yet. squawk knows it of some of its rules alone. */
function isOfNewTable(statements: readonly Statement[], { line, column }: Position): boolean {
  const at = statements.findLastIndex(
    ({ start }) => start.line < line || (start.line === line && start.column <= column),
  );
  const { node } = statements[at] ?? {};
  if (!node || (!("AlterTableStmt" in node) && !("IndexStmt" in node))) return false;
  const { relation } = "AlterTableStmt" in node ? node.AlterTableStmt : node.IndexStmt;
  const name = relation && relationOf(relation);
  return statements.slice(0, at).some(({ node: before }) => newTable(before) === name);
}

/** squawk takes what IF NOT EXISTS names for made, and for empty. So it is shown another name there, as long as the true one. */
function shown({ section, statements }: ParsedSection): Buffer {
  const bytes = Buffer.from(section.sql);
  for (const { node, tokens } of statements) {
    const name = perhapsNewTable(node);
    if (!name) continue;
    const at = tokens.findIndex(({ start }) => start >= (name.location ?? 0));
    const { start, end, text } = tokens[at + (name.schemaname === undefined ? 0 : 2)]!;
    const quote = text.indexOf('"');
    bytes.fill("x", start + quote + 1, quote < 0 ? end : end - 1);
  }
  return bytes;
}

function perhapsNewTable(node: Node): RangeVar | undefined {
  if ("CreateStmt" in node && node.CreateStmt.if_not_exists) return node.CreateStmt.relation;
  return "CreateTableAsStmt" in node && node.CreateTableAsStmt.if_not_exists
    ? node.CreateTableAsStmt.into?.rel
    : undefined;
}

const isOurs = (name: string): name is keyof typeof messages => Object.hasOwn(messages, name);

/** NOT VALID is no advice for an index, and squawk gives it all the same. */
function saysItBetter(general: Violation, other: Violation): boolean {
  const more = ["adding-foreign-key-constraint", "adding-serial-primary-key-field", "disallowed-unique-constraint"];
  if (!more.includes(other.rule_name)) return false;
  const isBehind = other.line > general.line || (other.line === general.line && other.column >= general.column);
  return (
    isBehind &&
    (other.line < general.line_end || (other.line === general.line_end && other.column <= general.column_end))
  );
}

const without = "bun scripts/migrate.ts lint --no-squawk      # without the rules about locks";

/** Where the C library is another one, for instance. */
const doesNotRun = (why: string, details?: string) =>
  new Failure("Cannot judge migrations/", `squawk does not run here: ${why}`, [without], details ? { details } : {});

/** The program itself: npm's command is a wrapper that starts it. */
function findSquawk(project: string): string {
  const name = process.platform === "win32" ? "squawk.exe" : "squawk";
  try {
    const wrapper = createRequire(createRequire(join(project, "package.json")).resolve("squawk-cli/package.json"));
    return wrapper.resolve(`@squawk-cli/${process.platform}-${process.arch}/bin/${name}`);
  } catch (cause) {
    const why = 'npm package "squawk-cli" is not installed here';
    throw new Failure("Cannot judge migrations/", why, [installCommand(project), without], {
      ...{ exitCode: exitCodes.usage, cause },
    });
  }
}
