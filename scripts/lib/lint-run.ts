// All rules on all files: which are judged by which, what is allowed, and in what order it is told.
import { type Allowed, applyAllows } from "./lint-allow.ts";
import { lintDrops } from "./lint-drop.ts";
import { lintFiles } from "./lint-file.ts";
import { lintForeignKeys } from "./lint-foreign-key.ts";
import { type Finding, type RuleName, ruleOf } from "./lint-rules.ts";
import { lintSections } from "./lint-section.ts";
import { type ParsedFile, parseFiles } from "./lint-sql.ts";
import { squawkRules } from "./lint-squawk.ts";
import type { MigrationFile } from "./migration-file.ts";

type Wanted = {
  /** All of a project, in dbmate's order: what a file may do depends on those before it. */
  migrations: readonly MigrationFile[];
  /** Files whose names come before are applied already, and judged only by what dbmate makes of them. */
  from?: string | undefined;
  /** Instead of that: only what is found in these is told, by all rules. */
  only?: readonly string[] | undefined;
  now: Date;
  /** runSquawk(), or undefined to do without. */
  squawk: ((files: readonly ParsedFile[]) => Promise<Finding[]>) | undefined;
};

export type Linted = {
  files: number;
  /** How many of them were judged by the rules of safety. */
  judged: number;
  /** Whether it was asked. */
  squawk: boolean;
  /** In the order of the files. */
  findings: Finding[];
  allowed: Allowed[];
};

export async function lintMigrations({ migrations, from, only, now, squawk }: Wanted): Promise<Linted> {
  const isTold = (file: string) => !only || only.includes(file);
  const isJudged = (file: string) => (only ? only.includes(file) : from === undefined || file >= from);
  const files = await parseFiles(migrations);
  const judged = files.filter(({ migration }) => isJudged(migration.file));
  const found = [
    ...lintFiles(migrations, now),
    ...files.flatMap(lintSections),
    ...lintDrops(files, isJudged),
    ...lintForeignKeys(files, isJudged),
    ...(squawk ? await squawk(judged) : []),
  ];
  const isChecked = (file: string, rule: RuleName) =>
    ruleOf(rule).about !== "safety" || (isJudged(file) && (squawk !== undefined || !isSquawks(rule)));
  const { findings, allowed } = applyAllows(files, found, isChecked);
  return {
    files: files.length,
    judged: judged.length,
    squawk: squawk !== undefined,
    findings: inOrder(findings.filter(({ file }) => isTold(file))),
    allowed: inOrder(allowed.filter(({ file }) => isTold(file))),
  };
}

const isSquawks = (rule: RuleName) => squawkRules.some((name) => name === rule);

function inOrder<T extends Finding>(findings: readonly T[]): T[] {
  return [...findings].sort((one, other) => {
    if (one.file !== other.file) return one.file < other.file ? -1 : 1;
    return one.line - other.line || one.column - other.column;
  });
}
