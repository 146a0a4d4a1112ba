// What `migrate up`, `down` and a deploy do not begin at all: where dbmate would record what has not happened, or nothing could be taken
// back. The rules are those of `migrate lint`, which nobody has to run.
import { exitCodes, Failure } from "./failure.ts";
import { applyAllows } from "./lint-allow.ts";
import type { RuleName } from "./lint-rules.ts";
import { lintSections } from "./lint-section.ts";
import { parseFiles } from "./lint-sql.ts";
import type { MigrationFile, Section } from "./migration-file.ts";

/** The first one also where it is allowed: nobody could say any more what has become of such a file. */
const refused: readonly RuleName[] = [
  "transaction-control",
  "several-without-transaction",
  "concurrently-if-not-exists",
];

/**
 * Pure. What Postgres' parser cannot read is not refused: a newer server may be able to, and says better what is wrong.
 * @param what did not happen, for the message. @throws {Failure} exit 2 with every place.
 */
export async function requireAppliable(
  files: readonly MigrationFile[],
  direction: "up" | "down",
  what: string,
): Promise<void> {
  const suspects = files.filter(({ sections }) => sections.some((section) => isSuspect(section[direction])));
  const parsed = (await parseFiles(suspects)).map(({ migration, sections }) => ({
    migration,
    sections: sections.filter((section) => section.direction === direction),
  }));
  const found = parsed.flatMap(lintSections).filter(({ rule }) => refused.includes(rule));
  const allowed = new Set(applyAllows(parsed, found, () => false).allowed.map(placeOf));
  const left = found.filter((each) => each.rule === refused[0] || !allowed.has(placeOf(each)));
  if (left.length === 0) return;
  const names = [...new Set(left.map(({ file }) => file))];
  const why = `${names.join(", ")} ${names.length === 1 ? "does" : "do"} what dbmate would not apply as it looks`;
  throw new Failure(what, why, [`bun scripts/migrate.ts lint ${names.map((name) => `migrations/${name}`).join(" ")}`], {
    exitCode: exitCodes.usage,
    details: left.map(({ file, line, rule, message }) => `${file}:${line}: ${message} (${rule})`).join("\n"),
    read: "docs/migrations.md",
  });
}

/** Most files are not, and parsing hundreds of them takes a second. The rules decide. */
const isSuspect = (section: Section | undefined) =>
  section !== undefined && (!section.transaction || words.test(section.sql));

/** One of these is in each statement about a transaction. */
const words = /\b(?:abort|begin|commit|end|prepare|release|rollback|savepoint|start|concurrently)\b/i;

const placeOf = ({ file, line, column, rule }: { file: string; line: number; column: number; rule: string }) =>
  `${file}:${line}:${column} ${rule}`;
