// What an adoption will do, decided from what was observed. Pure: the plan that is printed is the plan that is carried out.
import { baselineMark, guardOf } from "./adopt-baseline-text.ts";
import type { Part } from "./adopt-convert.ts";
import { asideName, nameOf, type Recognised } from "./adopt-detect.ts";
import type { Match } from "./adopt-match.ts";
import { type Entry, facts, type Source } from "./adopt-tools.ts";
import { asVersion, slugOf, versionOf, versionsInOrder } from "./adopt-version.ts";
import { exitCodes, Failure } from "./failure.ts";
import { type MigrationFile, parseMigration, unreadableIn } from "./migration-file.ts";
import type { Tracked } from "./migration-state.ts";

export type Observed = {
  history: Recognised;
  entries: readonly Entry[];
  match: Match;
  /** Where its files are, from the project's root; undefined where none were found. */
  folder: string | undefined;
  /** What dbmate would be given for each of the sources, if they are all SQL. */
  parts: ReadonlyMap<Source, readonly Part[]>;
  /** What lies in migrations/ already. */
  existing: readonly MigrationFile[];
  tracked: Tracked;
  /** The history has the name that dbmate's own table must have. */
  nameIsTaken: boolean;
  /** The tables that stay out of comparisons and of a baseline. */
  histories: readonly string[];
  /** Its one row says how far the database is. */
  isMark: boolean;
  /** Of these: histories of further tools, which nobody has adopted. */
  notCompared: readonly string[];
};

export type Way = "import" | "baseline";

export type PlannedFile = {
  /** As dbmate reads it; its text is what will be written. */
  migration: MigrationFile;
  /** The file or the history that it comes from. */
  from: string;
  applied: boolean;
  /** Not in migrations/ yet. */
  isNew: boolean;
};

export type AdoptPlan = {
  tool: string;
  history: string;
  /** How many migrations the history knows as applied. */
  count: number;
  way: Way;
  /** Why there is a baseline. */
  why: string | undefined;
  files: PlannedFile[];
  /** Some of each group are applied, one at least: the database itself will say which. */
  undecided: { key: string; sources: { from: string; files: string[] }[] }[];
  /** Where the old history goes; undefined where it stays. */
  renamed: string | undefined;
  /** Histories of further tools: in no file. */
  notCompared: readonly string[];
  warnings: string[];
};

type Choosing = Pick<Observed, "match" | "folder" | "existing" | "history">;

export function chooseWay(choosing: Choosing, asked: boolean): { way: Way; why?: string } {
  const { match, folder, existing, history } = choosing;
  if (asked) return { way: "baseline", why: "it was asked for" };
  const there = findBaseline(existing, history.tool);
  if (there) return { way: "baseline", why: `migrations/${there.file} is one` };
  if (folder === undefined && match.sources.length === 0) {
    return { way: "baseline", why: "none of its files were found (--files FOLDER)" };
  }
  const needed = match.sources.filter(
    (one) => match.applied.has(one) || match.undecided.some((it) => it.sources.includes(one)),
  );
  const code = needed.filter(({ sql }) => !sql);
  if (match.unknown.length > 0) {
    const which = match.unknown.map(({ key, label = key }) => label);
    return { way: "baseline", why: `it knows migrations that have no file in ${folder}: ${few(which)}` };
  }
  if (code.length > 0)
    return { way: "baseline", why: `its files are not plain SQL: ${few(code.map(({ path }) => path))}` };
  return { way: "import" };
}

/**
 * @param baseline its text, where it is the way and migrations/ has none yet.
 * @throws {Failure} exit 3 for what must be put right first.
 */
export function planAdoption(
  observed: Observed,
  chosen: { way: Way; why?: string },
  baseline: string | undefined,
  now: Date,
): AdoptPlan {
  const { history, match, nameIsTaken } = observed;
  requireInOrder(observed, chosen.way);
  const imported = importedFiles(observed, chosen.way);
  const files = chosen.way === "baseline" ? [baselineFile(observed, baseline, now), ...imported] : imported;
  requireFree(files, observed.existing);
  requireNewest(files, observed);
  const filesOf = (source: Source) => {
    const from = fromOf(observed, source);
    return { from, files: imported.filter((one) => one.from === from).map(({ migration }) => migration.file) };
  };
  const undecided = chosen.way === "baseline" ? [] : match.undecided;
  return {
    ...{ tool: history.tool, history: nameOf(history.table), count: countOf(observed) },
    ...{ way: chosen.way, why: chosen.why, files },
    undecided: undecided.map(({ key, sources }) => ({ key, sources: sources.map(filesOf) })),
    renamed: nameIsTaken ? `${history.table.schema}.${asideName}` : undefined,
    notCompared: observed.notCompared,
    warnings: [...warningsOf(observed, chosen.way), ...waitingFiles(files, observed)],
  };
}

/** One row may stand for all files up to it. */
const countOf = ({ entries, match: { applied, undecided, unknown } }: Observed) =>
  Math.max(entries.length, applied.size + undecided.length + unknown.length);

const fromOf = ({ folder }: Pick<Observed, "folder">, { path, isRebuilt }: Source) =>
  folder && !isRebuilt ? `${folder}/${path}` : path;

/** Of all files that dbmate can apply; with a baseline only those that are not in it. */
function importedFiles(observed: Observed, way: Way): PlannedFile[] {
  const { match, parts, existing, history, nameIsTaken } = observed;
  const sources = match.sources.filter(({ sql }) => sql);
  const versions = versionsInOrder(
    sources.map(({ digits }) => digits),
    sources.map((one) => parts.get(one)?.length ?? 1),
  );
  const isUndecided = (one: Source) => match.undecided.some((it) => it.sources.includes(one));
  const between = betweenApplied(match);
  return sources.flatMap((source, at) => {
    if (way === "baseline" && (match.applied.has(source) || isUndecided(source) || between.includes(source))) return [];
    const own = parts.get(source) ?? [];
    return own.map((part, index): PlannedFile => {
      const name = own.length > 1 ? `${slugOf(source.name)}_${index + 1}` : slugOf(source.name);
      const from = fromOf(observed, source);
      const isLast = index === own.length - 1;
      const down = isLast ? source.sql!.down.trim() : "";
      const why = isLast ? "it had no way back" : "the part behind it takes it back";
      const guard = at === 0 && index === 0 && part.transaction ? guardOf({ ...history, nameIsTaken }) : "";
      const text = fileText({ from, part: { ...part, sql: guard + part.sql.trim() }, down, why });
      const migration = parseMigration(`${versions[at]![index]}_${name}.sql`, text);
      const problems = unreadableIn([migration]);
      if (problems.length > 0) throw notTaken(problems);
      return { migration, from, applied: match.applied.has(source), isNew: isNew(migration, existing) };
    });
  });
}

/** @param why there is no `down`, for `migrate lint`. */
function fileText({ from, part, down, why }: { from: string; part: Part; down: string; why: string }): string {
  const allowed = [
    ...(down ? [] : [`-- dbops:allow down-empty ${why}\n`]),
    // It is applied as it is, wherever it is.
    ...(/\bconcurrently\s+if\s+not\s+exists\b/i.test(part.sql)
      ? ["-- dbops:allow concurrently-if-not-exists it is taken over as it was applied\n"]
      : []),
  ].join("");
  const up = part.transaction ? "-- migrate:up" : "-- migrate:up transaction:false";
  return `-- From ${from}\n${allowed}\n${up}\n${part.sql}\n\n-- migrate:down\n${down ? `${down}\n` : ""}`;
}

const isNew = ({ file }: MigrationFile, existing: readonly MigrationFile[]) =>
  !existing.some((one) => one.file === file);

/** The one that is there already, from the adoption of another environment; or the one that a run which was cut off has recorded. */
function baselineFile(observed: Observed, dumped: string | undefined, now: Date): PlannedFile {
  const { history, existing, tracked, match, entries } = observed;
  const from = `pg_dump of the database that ${history.tool} has made`;
  const there = findBaseline(existing, history.tool);
  if (there) return { migration: there, from, applied: true, isNew: false };
  const recorded = Object.values(tracked.recorded).find(({ file }) => file.endsWith(baselineEnding));
  const file = recorded?.file ?? `${baselineVersion(match, entries, now)}${baselineEnding}`;
  return { migration: parseMigration(file, dumped ?? ""), from, applied: true, isNew: true };
}

export const baselineEnding = "_baseline.sql";

export const findBaseline = (existing: readonly MigrationFile[], tool: string): MigrationFile | undefined =>
  existing.find(({ file, text }) => file.endsWith(baselineEnding) && text.startsWith(baselineMark(tool)));

/** That of the newest one in it, so that it is the same for everybody and older than what is still to come; else today. */
function baselineVersion(match: Match, entries: readonly Entry[], now: Date): string {
  const applied = match.sources.filter((one) => match.applied.has(one));
  const digits = [
    ...applied.map((one) => one.digits),
    ...entries.flatMap(({ key }) => /^\d{8,17}(?=[_-]|$)/.exec(key)?.[0] ?? []),
  ].filter((one) => /[1-9]/.test(one));
  return digits.map(versionOf).sort().at(-1) ?? `${asVersion(now.getTime()).slice(0, 8)}000000`;
}

const isDone = (match: Match, one: Source) =>
  match.applied.has(one) || match.undecided.some((it) => it.sources.includes(one));

/** Not applied, as the history says, though newer ones are. A baseline is of all of it. */
export function betweenApplied(match: Match): Source[] {
  const newest = match.sources.findLastIndex((one) => isDone(match, one) && !one.repeatable);
  return match.sources.slice(0, Math.max(0, newest)).filter((one) => !isDone(match, one) && !one.repeatable);
}

/** dbmate refuses what is older than something applied, and rightly: nobody has tried the two in that order. */
function requireInOrder({ match, folder, history }: Observed, way: Way): void {
  const between = way === "baseline" ? [] : betweenApplied(match);
  const pending = match.sources.filter((one) => !isDone(match, one) && !betweenApplied(match).includes(one));
  const code = pending.filter(({ sql }) => !sql);
  const problems = [
    ...between.map(({ path }) => `${folder}/${path}: not applied, though newer ones are`),
    ...code.map(({ path }) => `${folder}/${path}: not applied, and it is no SQL`),
    ...(pending.length > 0 && match.sources.some(({ repeatable }) => repeatable)
      ? pending.map(({ path }) => `${folder}/${path}: not applied, and the repeatable ones come after it`)
      : []),
  ];
  if (problems.length > 0)
    throw notApplied([...new Set(problems)], history.tool as keyof typeof facts, between.length > 0);
}

function notApplied(problems: readonly string[], tool: keyof typeof facts, isBetween: boolean): Failure {
  const count = problems.length === 1 ? "1 of its migrations is" : `${problems.length} of its migrations are`;
  const next = [
    `apply them with ${facts[tool].command}, or take the files out of the folder; then the same command again`,
    ...(isBetween
      ? ["the same command with --baseline      # if they are applied all the same, whatever the history says"]
      : []),
  ];
  return new Failure("Cannot adopt", `${count} not applied`, next, {
    exitCode: exitCodes.saidNo,
    details: problems.join("\n"),
    read: "docs/adopt.md",
  });
}

/** Nothing is ever written over. */
function requireFree(files: readonly PlannedFile[], existing: readonly MigrationFile[]): void {
  const problems = files.flatMap(({ migration, isNew: isOurs }) => {
    const there = existing.find(({ file }) => file === migration.file);
    if (there && there.sha256 !== migration.sha256) return [`migrations/${there.file} is there, with another content`];
    const same = existing.find(({ version, file }) => version === migration.version && file !== migration.file);
    return isOurs && same ? [`migrations/${same.file} has the version of ${migration.file}`] : [];
  });
  if (problems.length > 0) throw notTaken(problems);
}

/** What is in migrations/ besides stays pending, and dbmate wants it to be newer. */
function requireNewest(files: readonly PlannedFile[], { existing, tracked }: Observed): void {
  const newest = files.filter(({ applied }) => applied).at(-1)?.migration.version ?? "";
  const planned = new Set(files.map(({ migration }) => migration.file));
  const older = existing.filter(
    ({ file, version }) => !planned.has(file) && version < newest && !tracked.applied.includes(version),
  );
  if (older.length === 0) return;
  throw notTaken(
    older.map(({ file }) => `migrations/${file} is not applied, and older than ${newest}`),
    ["delete those that came with the starter; give the others a newer version"],
  );
}

function notTaken(problems: readonly string[], next = ["docs/adopt.md says what can be done"]): Failure {
  const count = problems.length === 1 ? "1 file is in the way" : `${problems.length} files are in the way`;
  return new Failure("Cannot adopt", count, next, {
    exitCode: exitCodes.saidNo,
    details: problems.join("\n"),
    read: "docs/adopt.md",
  });
}

/** Nobody has asked for them: those of the starter, as a rule. */
function waitingFiles(files: readonly PlannedFile[], { existing, tracked }: Observed): string[] {
  const planned = new Set(files.map(({ migration }) => migration.file));
  return existing
    .filter(({ file, version }) => !planned.has(file) && !tracked.applied.includes(version))
    .map(
      ({ file }) =>
        `migrations/${file} is there already: the next migrate up or deploy applies it. If it came with the starter: git rm migrations/${file}`,
    );
}

function warningsOf({ match, folder, isMark }: Observed, way: Way): string[] {
  const edited = match.edited.map(({ path }) => `${folder}/${path} was edited after it was applied`);
  const mark = isMark ? ["its one row says how far the database is: what comes before it counts as applied"] : [];
  if (way === "import") return [...edited, ...mark];
  const between = betweenApplied(match).map(({ path }) => `${folder}/${path}`);
  const taken = between.length > 0 ? [`not in the history, and taken for a part of the baseline: ${few(between)}`] : [];
  return [
    ...mark,
    ...taken,
    "rows that migrations had inserted are not in the baseline: a new database will be without them",
  ];
}

function few(names: readonly string[]): string {
  const shown = names.slice(0, 3).join(", ");
  return names.length > 3 ? `${shown} and ${names.length - 3} more` : shown;
}
