// A migration out of what differs: one that brings a change made by hand into the files, or one that takes the database back to them.
// Whatever is written has been tried in a scratch database first, and has made there exactly what it should.
import { compareCatalogs, type Difference } from "./catalog-diff.ts";
import { readObjects } from "./catalog-objects.ts";
import type { Assessment } from "./drift-assess.ts";
import { type DeltaEngine, type Facts, loadDelta, type Renaming, type Segment } from "./drift-delta.ts";
import { besidesFaults } from "./drift-findings.ts";
import { isNoted, keptName, noteRepairs } from "./drift-repairs.ts";
import { byName } from "./drift-structure.ts";
import { exitCodes, Failure } from "./failure.ts";
import { type MigrationFile, parseMigration } from "./migration-file.ts";
import { asOneQuery, replay } from "./migration-replay.ts";
import { type Psql, SqlError } from "./psql.ts";
import type { Scratch } from "./scratch.ts";

/** Which side is right. */
export type Keep = "database" | "files";

export type Forward = {
  keep: Keep;
  /** Several where one of the statements cannot be in a transaction. */
  files: MigrationFile[];
  segments: Segment[];
};

type NoForward = {
  why: string;
  details?: string;
  /** The package that would make one. */
  isMissing?: true;
};

type Wanted = {
  assessment: Assessment;
  keep: Keep;
  /** A session of the live database, in no transaction; only read. */
  psql: Psql;
  scratch: Scratch;
  /** Of a new file: newer than those that it builds on. */
  newVersion: () => string;
};

/** @returns why there is none, where the differences can only be listed. */
export async function makeForward(wanted: Wanted): Promise<Forward | NoForward> {
  const engine = await loadDelta();
  if (!engine) return { why: "@supabase/pg-delta, which writes the statements, is not installed", isMissing: true };
  return await wanted.scratch.inNew((trial) => tryOut(engine, wanted, trial));
}

async function tryOut(engine: DeltaEngine, wanted: Wanted, trial: Psql): Promise<Forward | NoForward> {
  const { assessment, keep, psql, scratch, newVersion } = wanted;
  const { live, applied, present, expected, objects, leftOut } = assessment;
  const { owner, roles } = live;
  await replay(trial, byName([...applied, ...present]));
  const [here, there] = await readBoth(engine, { trial, psql, called: { from: scratch.place.user, to: owner } });
  const except = [
    ...live.invalidIndexes.map(({ path }) => ({ kind: "index" as const, path })),
    ...assessment.unvalidated.map(({ path }) => ({ kind: "constraint" as const, path })),
  ];
  const options = { owner, roles, except, histories: leftOut };
  const ways = orWhy(() => ({
    toDatabase: engine.plan(here, there, options),
    toFiles: engine.plan(there, here, options),
  }));
  if ("why" in ways) return ways;
  const now = () => readObjects(trial, { owner: scratch.place.user, histories: leftOut });
  // The scratch database becomes what the live one is: only from there can a way back be tried.
  const failed = await apply(trial, ways.toDatabase);
  if (failed) return failed;
  const left = besidesFaults(compareCatalogs(await now(), objects), live);
  if (left.length > 0) return unlike(left, "the database");
  if (keep === "database") {
    // Taken back, too: what a file says below "migrate:down" should be true.
    const canGoBack =
      !(await apply(trial, ways.toFiles)) && compareCatalogs(expected.objects, await now()).length === 0;
    const files = filesToKeep(ways.toDatabase, canGoBack ? ways.toFiles : [], newVersion);
    return { keep, files, segments: ways.toDatabase };
  }
  if (ways.toFiles.some(({ transaction }) => !transaction)) {
    return {
      why: "one of the statements cannot be in a transaction, and would be carried out in every other database too",
    };
  }
  const files = leftEarlier(ways.toFiles, assessment) ?? filesToGoBack(ways.toFiles, newVersion);
  await trial.execute(noteRepairs(files));
  const refused = await replay(trial, files).then(() => undefined, whyRefused);
  if (refused) return refused;
  const leftBack = besidesFaults(compareCatalogs(expected.objects, await now()), live);
  return leftBack.length > 0 ? unlike(leftBack, "what migrations/ make") : { keep, files, segments: ways.toFiles };
}

type Sides = { trial: Psql; psql: Psql; called: Renaming };

async function readBoth(engine: DeltaEngine, { trial, psql, called }: Sides): Promise<[Facts, Facts]> {
  return [await engine.read(trial, called.from === called.to ? undefined : called), await engine.read(psql)];
}

function orWhy<T extends object>(work: () => T): T | NoForward {
  try {
    return work();
  } catch (error) {
    return { why: `@supabase/pg-delta does not know how: ${(error as Error).message}` };
  }
}

/** @returns why it could not be applied. */
async function apply(psql: Psql, segments: readonly Segment[]): Promise<NoForward | undefined> {
  try {
    for (const { transaction, settings, actions } of segments) {
      if (transaction) await psql.execute("begin");
      await psql.execute(asOneQuery([...settings, ...actions.map(({ sql }) => sql)].join(";\n")), trySeconds);
      if (transaction) await psql.execute("commit");
    }
    return undefined;
  } catch (error) {
    if (!(error instanceof SqlError)) throw error;
    await psql.execute("rollback");
    return { why: `what @supabase/pg-delta wrote does not run: ${error.why}`, details: error.details ?? "" };
  }
}

const trySeconds = 3600;

/** None of the files that it speaks of is written by then. */
function whyRefused(error: unknown): NoForward {
  if (!(error instanceof Failure) || error.exitCode !== exitCodes.saidNo) throw error;
  const { why, details = "" } = error;
  return { why: `the migration that was made of it does not run: ${why}`, details };
}

function unlike(left: readonly Difference[], what: string): NoForward {
  const names = left.map(({ what: how, kind, name }) => `${how} ${kind} ${name}`);
  return { why: `what @supabase/pg-delta wrote does not make ${what}`, details: names.join("\n") };
}

/** Each a file: of a change in several files nobody can take back one. */
function filesToKeep(forward: readonly Segment[], back: readonly Segment[], newVersion: Wanted["newVersion"]) {
  const down = forward.length === 1 && back.length === 1 && back[0]!.transaction ? back[0]!.actions : [];
  return forward.map(({ transaction, settings, actions }, index) =>
    toFile(newVersion(), nameOf(keptName, index, forward), [
      "-- Brings into the files what was done by hand in a database, where it is as it is.",
      ...written(down.length > 0 ? undefined : "no single file could take it back"),
      `-- migrate:up${transaction ? "" : " transaction:false"}`,
      ...settings.map((setting) => `${setting};`),
      ...actions.flatMap((action) => [...remarks(action), `${action.sql};`]),
      "",
      `-- migrate:down${transaction ? "" : " transaction:false"}`,
      ...down.map(({ sql }) => `${sql};`),
    ]),
  );
}

/** They find nothing to do in a new database, which has never been changed by hand. */
function filesToGoBack(forward: readonly Segment[], newVersion: Wanted["newVersion"]) {
  return forward.map(({ settings, actions }, index) => {
    const version = newVersion();
    const body = [
      " begin",
      ...isNoted(version),
      ...actions.flatMap((action) => [...remarks(action), `  execute ${dollarQuoted("statement", action.sql)};`]),
      "end if;",
      "end if;",
      "end ",
    ];
    return toFile(version, nameOf(backName, index, forward), [
      "-- Takes back what was done by hand in a database. In every other one it does nothing.",
      ...written("what was done by hand is not done once more"),
      "-- migrate:up",
      ...settings.map((setting) => `${setting};`),
      `do ${dollarQuoted("drift", body.join("\n"))};`,
      "",
      "-- migrate:down",
    ]);
  });
}

const backName = "back_to_what_the_files_say";

/**
 * Files that a run has written which was killed before the database knew of them: nothing would ever make them do anything.
 * @returns undefined where there are none, or other ones.
 */
function leftEarlier(forward: readonly Segment[], { pending, live }: Assessment): MigrationFile[] | undefined {
  const open = pending.filter(({ version }) => !live.repairs.includes(version));
  const left = forward.map((_, index) =>
    open.filter(({ file }) => file.endsWith(`_${nameOf(backName, index, forward)}.sql`)),
  );
  for (const first of left[0] ?? []) {
    // Their names follow each other as they were written.
    const at = left[0]!.indexOf(first);
    const versions = left.map((files) => files[at]?.version ?? "");
    const texts = left.map((files) => files[at]?.text);
    const files = filesToGoBack(forward, () => versions.shift()!);
    if (files.every(({ text }, index) => text === texts[index])) return files;
  }
  return undefined;
}

/** With a tag that is not in the text. */
export function dollarQuoted(name: string, text: string): string {
  let tag = `$${name}$`;
  for (let count = 2; text.includes(tag); count += 1) tag = `$${name}_${count}$`;
  return `${tag}${text}${tag}`;
}

/** @param whyNoDown for `migrate lint`. */
const written = (whyNoDown: string | undefined) => [
  "-- Written by `drift repair`, and tried in a scratch database, which has no rows. Read it before it goes further.",
  ...(whyNoDown ? [`-- dbops:allow down-empty ${whyNoDown}`] : []),
  "",
];

const nameOf = (name: string, index: number, all: readonly unknown[]) =>
  all.length === 1 ? name : `${name}_${index + 1}`;

const toFile = (version: string, name: string, lines: readonly string[]) =>
  parseMigration(`${version}_${name}.sql`, `${lines.join("\n")}\n`);

export function remarks({ lock, losesData, rewrites }: Segment["actions"][number]): string[] {
  const said = [
    ...(losesData ? ["LOSES DATA"] : []),
    ...(lock ? [`takes ${lock}`] : []),
    ...(rewrites ? ["may write every row anew"] : []),
  ];
  return said.length > 0 ? [`-- ${said.join("; ")}`] : [];
}
