// What a repair does, step by step. Pure: the plan that is printed is carried out. What stands in its way: drift-obstacles.ts.
import type { Assessment } from "./drift-assess.ts";
import { editedIn } from "./drift-findings.ts";
import { type Forward, remarks } from "./drift-forward.ts";
import { historySteps, insertVersions } from "./drift-plan-history.ts";
import { noteRepairs } from "./drift-repairs.ts";
import type { MigrationFile } from "./migration-file.ts";
import { recordWithin } from "./migration-record.ts";
import { quoteIdentifier } from "./psql.ts";

export type Step = {
  /** A sentence for people. */
  what: string;
  details: string[];
  statements: string[];
};

export type FileChange =
  | { write: MigrationFile }
  /** A run that was killed has written it. */
  | { reuse: MigrationFile }
  | { rename: string; to: MigrationFile };

export type RepairPlan = {
  /** One statement each, which cannot be in a transaction. They come first, may be repeated, and make nothing worse. */
  alone: Step[];
  /** In one transaction, which goes through only where nothing is left at its end. */
  together: Step[];
  files: FileChange[];
  /** What stays until `migrate up` has applied the new files. */
  forward: Forward | undefined;
};

export type Renamed = { from: MigrationFile; to: MigrationFile };

type Wanted = {
  /** Of the files with their new names. */
  assessment: Assessment;
  renamed: readonly Renamed[];
  forward: Forward | undefined;
  /** For the name of the copy of the history: "20261121140000". */
  stamp: string;
};

export function planRepair({ assessment, renamed, forward, stamp }: Wanted): RepairPlan {
  const history = historySteps(assessment, stamp);
  const indexes = indexSteps(assessment, forward?.keep);
  return {
    alone: indexes.alone,
    together: [
      ...history,
      ...indexes.together,
      ...constraintSteps(assessment),
      ...privilegeSteps(assessment),
      ...sumSteps(assessment),
      ...forwardSteps(forward),
    ],
    files: [
      ...renamed.map(({ from, to }) => ({ rename: from.file, to })),
      ...(forward?.files ?? []).map((file) =>
        assessment.pending.some(({ version }) => version === file.version) ? { reuse: file } : { write: file },
      ),
    ],
    forward,
  };
}

function forwardSteps(forward: Forward | undefined): Step[] {
  if (!forward) return [];
  const { keep, files } = forward;
  const names = files.map(({ file }) => file).join(", ");
  if (keep === "files") {
    return [
      { what: `note that ${names} has something to take back here`, details: [], statements: [noteRepairs(files)] },
    ];
  }
  const statements = [insertVersions(files), recordWithin(files)];
  return [{ what: `note ${names} as applied: what it makes is there`, details: [], statements }];
}

/** What a failed REINDEX CONCURRENTLY leaves. */
const isLeftover = (name: string) => /_cc(?:new|old)\d*"?$/.test(name);

type IndexSteps = {
  /** CONCURRENTLY. */
  alone: Step[];
  /** The index of an exclusion constraint can be rebuilt in no other way. */
  together: Step[];
};

function indexSteps({ live, expected }: Assessment, keep: Forward["keep"] | undefined): IndexSteps {
  const wanted = new Set(expected.objects.filter(({ kind }) => kind === "index").map(({ name }) => name));
  const constraints = new Set(expected.objects.filter(({ kind }) => kind === "constraint").map(({ name }) => name));
  const steps: IndexSteps = { alone: [], together: [] };
  for (const { name, table, path, isAttached, constraintType } of live.invalidIndexes) {
    const asConstraint = `${table}.${quotedIfNeeded(path.at(-1)!, name)}`;
    const isMade = (wanted.has(name) || constraints.has(asConstraint) || isAttached) && !isLeftover(name);
    // With its constraint it goes, or stays.
    if (!isMade && constraintType !== null && keep === "files") continue;
    const what = `the index ${name} of ${table}`;
    if (constraintType === "x") {
      const details = ["keeps waiting who writes to the table, and whoever would use the index"];
      steps.together.push({ what: `rebuild ${what}`, details, statements: [`reindex index ${name}`] });
    } else if (isMade || constraintType !== null) {
      const statements = [`reindex index concurrently ${name}`];
      steps.alone.push({ what: `rebuild ${what}`, details: [], statements });
    } else {
      const statements = [`drop index concurrently if exists ${name}`];
      steps.alone.push({ what: `drop ${what}: no migration that is applied makes it`, details: [], statements });
    }
  }
  return steps;
}

/** Whether a plan has a step for an index. */
export const mends = (steps: readonly Step[], index: string) =>
  steps.some(({ statements }) => statements.some((statement) => statement.endsWith(` ${index}`)));

/** As it stands at the end of a whole name. */
const quotedIfNeeded = (raw: string, name: string) =>
  name.endsWith(quoteIdentifier(raw)) ? quoteIdentifier(raw) : raw;

function constraintSteps({ unvalidated }: Assessment): Step[] {
  return unvalidated.map(({ name, table, constraint, object }) => {
    const isOfDomain = object.kind === "domain";
    const means = isOfDomain
      ? "reads every table that has the domain, and keeps waiting who writes there"
      : "reads the whole table, and keeps nobody waiting who reads or writes";
    return {
      what: `validate the constraint ${name}`,
      details: [means],
      statements: [`alter ${isOfDomain ? "domain" : "table"} ${table} validate constraint ${constraint}`],
    };
  });
}

function privilegeSteps({ live: { privileges, user } }: Assessment): Step[] {
  return privileges
    .filter(({ exists, missing }) => exists && missing.length > 0)
    .map(({ table, missing }) => {
      const name = table.split(".").map(quoteIdentifier).join(".");
      const statement = `grant ${missing.join(", ")} on ${name} to ${quoteIdentifier(user)}`;
      return { what: statement, details: [], statements: [statement] };
    });
}

function sumSteps({ applied, pending, history, live }: Assessment): Step[] {
  const edited = editedIn([...applied, ...pending], history, live);
  if (edited.length === 0) return [];
  return [
    {
      what: `take the sums of ${edited.length === 1 ? "1 edited file" : `${edited.length} edited files`} as they are now`,
      details: [
        ...edited.map(({ file }) => `${file}: git log -p migrations/${file}`),
        "the structure is compared; what an edited file does to rows, nobody can see in the database",
      ],
      statements: [recordWithin(edited)],
    },
  ];
}

type About = {
  database: string;
  differences: number;
  backup: string;
  /** The flags that lead to the same database. */
  at: string;
};

export function formatPlan(
  { alone, together, files, forward }: RepairPlan,
  { database, differences, backup, at }: About,
): string {
  const count = differences === 1 ? "1 difference" : `${differences} differences`;
  const step = ({ what, details }: Step) => [`  - ${what}`, ...details.map((line) => `      ${line}`)];
  /** What `migrate lint` does not refuse there, with its reason. That nothing takes it back it would not refuse anyway. */
  const allowed = ({ text }: MigrationFile) =>
    text.split("\n").filter((line) => /^-- dbops:allow (?!down-empty )/.test(line));
  const changes = files.flatMap((change) => {
    if ("rename" in change) return [`  - rename migrations/${change.rename} to ${change.to.file}`];
    return "reuse" in change
      ? [`  - migrations/${change.reuse.file}, which an earlier run has written`]
      : [`  - write migrations/${change.write.file}`, ...allowed(change.write).map((line) => `      | ${line}`)];
  });
  const statements = (forward?.segments ?? []).flatMap(({ actions }) =>
    actions.flatMap((action) => [...remarks(action), `${action.sql};`].flatMap((text) => text.split("\n"))),
  );
  return [
    `Repair of ${database}: ${count}`,
    `  backup     ${backup}`,
    ...section("first, one by one, each of which may be repeated", alone.flatMap(step)),
    ...section("in one transaction, which goes through only if nothing is left at its end", together.flatMap(step)),
    ...section("files, to be committed to git", [...changes, ...statements.map((line) => `      | ${line}`)]),
    ...(forward?.keep === "files"
      ? ["", `The structure stays as it is until bun scripts/migrate.ts up${at} applies them.`]
      : []),
  ].join("\n");
}

const section = (title: string, lines: readonly string[]) =>
  lines.length > 0 ? [`  ${title}:`, ...lines.map((line) => `  ${line}`)] : [];
