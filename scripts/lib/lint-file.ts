// Rules about the files themselves, before any SQL is read: names, versions, and the lines that dbmate goes by. Pure.
import { type Finding, finding, type Position } from "./lint-rules.ts";
import { type MigrationFile, whyUnreadable, withSameVersion } from "./migration-file.ts";

const top: Position = { line: 1, column: 1 };

/** @param migrations all of them, in dbmate's order. @param now versions are times, and none should lie ahead. */
export function lintFiles(migrations: readonly MigrationFile[], now: Date): Finding[] {
  const numbered = migrations.filter(({ version }) => version !== "");
  return [
    ...migrations.flatMap((migration) => [...lintName(migration, now), ...lintDirectives(migration)]),
    ...sameVersion(numbered),
    ...wrongOrder(numbered),
  ];
}

function lintName({ file, version }: MigrationFile, now: Date): Finding[] {
  if (version === "")
    return [finding(file, top, "version-missing", "dbmate skips it: its name does not begin with a number")];
  const time = timeOf(version);
  if (!time) return [finding(file, top, "version-not-a-time", `${version} is no time in UTC, such as 20260131235959`)];
  // A day, because somebody's clock and time zone may be wrong.
  if (time.getTime() < now.getTime() + 86_400_000) return [];
  const message = `${version} lies ahead: until then, --strict takes every new file for one that is out of order`;
  return [finding(file, top, "version-in-the-future", message)];
}

function timeOf(version: string): Date | undefined {
  const [, ...parts] = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)$/.exec(version) ?? [];
  if (parts.length === 0) return undefined;
  const [year, month, day, hour, minute, second] = parts;
  const iso = `${year}-${month}-${day}T${hour}:${minute}:${second}.000Z`;
  const time = new Date(iso);
  return !Number.isNaN(time.getTime()) && time.toISOString() === iso ? time : undefined;
}

function sameVersion(numbered: readonly MigrationFile[]): Finding[] {
  return withSameVersion(numbered).flatMap(([first, ...others]) =>
    others.map(({ file, version }) =>
      finding(
        file,
        top,
        "version-twice",
        `${first!.file} has the version ${version} too: one of them is never applied`,
      ),
    ),
  );
}

/** dbmate sorts the names as text: 10_x.sql comes before 9_x.sql. */
function wrongOrder(numbered: readonly MigrationFile[]): Finding[] {
  return numbered.slice(1).flatMap(({ file, version }, index) => {
    const before = numbered[index]!;
    if (BigInt(version) >= BigInt(before.version)) return [];
    return [finding(file, top, "version-order", `dbmate applies it after ${before.file}: it sorts the names as text`)];
  });
}

function lintDirectives(migration: MigrationFile): Finding[] {
  const { file, text, sections } = migration;
  const known = new Set(sections.flatMap(({ up, down }) => [up.line, ...(down ? [down.line] : [])]));
  const lines = text.split("\n");
  const misspelled = lines.flatMap((line, index) => {
    if (known.has(index + 1) || isDirective(line) || !resemblesDirective(line)) return [];
    return [
      finding(file, { line: index + 1, column: 1 }, "directive-misspelled", "dbmate takes this line for a comment"),
    ];
  });
  const options = [...known].flatMap((line) => {
    const words = lines[line - 1]!.trim()
      .split(/\s+/)
      .slice(wordsBefore(lines[line - 1]!));
    const unknown = words.find((word) => !/^transaction:(?:true|false)$/.test(word));
    if (unknown === undefined) return [];
    return [finding(file, { line, column: 1 }, "option-unknown", `dbmate ignores the option "${unknown}"`)];
  });
  return [...unreadable(migration), ...misspelled, ...options];
}

/** As dbmate knows it. */
const isDirective = (line: string) => /^--\s*migrate:(?:up|down)(?:\s|$)/.test(line);

/** Of what somebody may have meant by it. */
const resemblesDirective = (line: string) =>
  /^\s*-{2,}\s*migrat\w*(?:\s*:\s*(?:up|down)\b|\s+(?:up|down)\s*$)/i.test(line);

/** "--migrate:up" is one word, "-- migrate:up" two. */
const wordsBefore = (line: string) => (/^--\s/.test(line) ? 2 : 1);

/** What dbmate refuses, or does half of. */
function unreadable(migration: MigrationFile): Finding[] {
  const { rule, line = 1, why } = whyUnreadable(migration) ?? {};
  return rule && why ? [finding(migration.file, { line, column: 1 }, rule, why)] : [];
}
