// What somebody has allowed, with a reason: `-- dbops:allow RULE REASON`. Pure.
//   in front of "-- migrate:up"            for the whole file
//   on a line of its own                   for what begins on the next line: the whole statement, or that line of it
//   behind something                       for its own line
import { type Finding, finding, isRule, type Position, type RuleName, ruleOf } from "./lint-rules.ts";
import type { Comment, ParsedFile, ParsedSection } from "./lint-sql.ts";

export type Allowed = Finding & { reason: string };

type Allow = { at: Position; rule: RuleName; reason: string; from: number; to: number };

/**
 * Takes out what is allowed, and adds what is wrong with the comments themselves.
 * @param isChecked whether a rule was applied to a file at all: else its comment cannot be called unused.
 */
export function applyAllows(
  files: readonly ParsedFile[],
  findings: readonly Finding[],
  isChecked: (file: string, rule: RuleName) => boolean,
): { findings: Finding[]; allowed: Allowed[] } {
  const allowed: Allowed[] = [];
  const left = new Set(findings);
  const added: Finding[] = [];
  for (const parsed of files) {
    const { file } = parsed.migration;
    const { allows, unusable } = allowsIn(parsed);
    added.push(...unusable);
    const own = findings.filter((each) => each.file === file && ruleOf(each.rule).about !== "file");
    const isWhole = parsed.sections.every(({ error }) => !error);
    for (const { at, rule, reason, from, to } of allows) {
      const covered = own.filter((each) => each.rule === rule && from <= each.line && each.line <= to);
      for (const each of covered) {
        if (left.delete(each)) allowed.push({ ...each, reason });
      }
      if (covered.length > 0 || !isWhole || !isChecked(file, rule)) continue;
      added.push(finding(file, at, "allow-unused", `there is nothing here that ${rule} would find`));
    }
  }
  return { findings: [...left, ...added], allowed };
}

function allowsIn({ migration: { file, text, sections }, sections: parsed }: ParsedFile) {
  const head = text.split("\n").slice(0, (sections[0]?.up.line ?? 1) - 1);
  const whole = { from: 1, to: Number.POSITIVE_INFINITY };
  const found = [
    ...head.map((line, index) => ({ text: line.trim(), line: index + 1, ...whole })),
    ...parsed.flatMap((section) => section.comments.map((comment) => ({ ...comment, ...scopeOf(section, comment) }))),
  ];
  const allows: Allow[] = [];
  const unusable: Finding[] = [];
  for (const { text: comment, line, from, to } of found) {
    if (!/dbops:\s*allow/i.test(comment)) continue;
    const at = { line, column: 1 };
    const [, rule = "", reason = ""] = /^--\s*dbops:allow\s+(\S+)\s*(.*?)\s*$/.exec(comment) ?? [];
    const why = whyUnusable(rule, reason);
    if (why || !isRule(rule)) unusable.push(finding(file, at, "allow-unusable", why ?? ""));
    else allows.push({ at, rule, reason, from, to });
  }
  return { allows, unusable };
}

function whyUnusable(rule: string, reason: string): string | undefined {
  if (rule === "") return "this comment allows nothing";
  if (!isRule(rule)) return `there is no rule "${rule}"`;
  if (ruleOf(rule).about === "file") return `nothing can allow ${rule}`;
  return reason === "" ? `it does not say why ${rule} is allowed here` : undefined;
}

function scopeOf({ section, statements }: ParsedSection, { line, alone }: Comment): { from: number; to: number } {
  if (!alone) return { from: line, to: line };
  const next = statements.find(({ lastLine }) => lastLine > line);
  // Behind all statements, or where there are none: it is about the section.
  if (!next) return { from: section.line, to: section.line };
  if (next.start.line > line) return { from: next.start.line, to: next.lastLine };
  const word = next.tokens.find(({ start }) => next.positionOf(start).line > line)!;
  const { line: below } = next.positionOf(word.start);
  return { from: below, to: below };
}
