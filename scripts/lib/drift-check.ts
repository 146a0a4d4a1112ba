// `drift check`: whether a database is what its migrations make of it. Never writes to it; exit 3 when anything differs.
import { type Assessment, assess, readAllMigrations } from "./drift-assess.ts";
import { counted, type Finding, formatFindings, kinds } from "./drift-findings.ts";
import { withOpened } from "./drift-open.ts";
import type { DriftFlags, DriftRequest } from "./drift-request.ts";
import { whereFilesAre } from "./drift-unknown.ts";
import { exitCodes } from "./failure.ts";
import { createProgress } from "./progress.ts";
import { inDatabase } from "./psql.ts";
import { asTyped } from "./runtime.ts";
import { interruption } from "./wait.ts";

export async function check(request: DriftRequest): Promise<void> {
  const { settings, directory, flags } = request;
  const interrupted = interruption();
  const progress = createProgress();
  // Read while the connection is made; what is wrong with them is said all the same.
  const reading = readAllMigrations(directory);
  reading.catch(() => {});
  const opening = { what: "Cannot tell what the migrations make", progress, interrupted };
  const { assessment, name } = await withOpened(request, opening, async ({ place, scratch }) => {
    const name = `${place.database} on ${place.name}`;
    const assessment = await inDatabase(place, place.database, interrupted, async (psql) => {
      return await assess({ psql, settings, directory, files: await reading, scratch, name });
    });
    return { assessment, name };
  });
  console.log(flags.json ? JSON.stringify(asJson(name, assessment)) : asTyped(formatCheck(name, assessment, flags)));
  if (counted(assessment.findings).length > 0) process.exitCode = exitCodes.saidNo;
}

export function asJson(database: string, assessment: Assessment) {
  const { findings, pending, present, live } = assessment;
  const names = (list: Assessment["pending"]) => list.map(({ file }) => file);
  return {
    database,
    differences: counted(findings).length,
    findings: findings.map(({ isAsWanted, ...finding }) => ({ ...finding, ...(isAsWanted && { isAsWanted }) })),
    /** Not applied yet: that is no difference. */
    pending: names(pending.filter((file) => !present.includes(file))),
    applied: live.history.rows.length,
    /** Histories of tools that were there before, which nobody has adopted. */
    notCompared: assessment.others,
    /** Of the applied ones: whether they were edited since, nobody can tell. */
    withoutSum: names(withoutSum(assessment)),
  };
}

function formatCheck(name: string, assessment: Assessment, flags: Pick<DriftFlags, "on" | "database-url">): string {
  const { findings, applied, pending, present } = assessment;
  const waiting = pending.length - present.length;
  const known = `${applied.length} applied${waiting > 0 ? `, ${waiting} to apply` : ""}`;
  const differences = counted(findings);
  const notes = findings.filter(({ isAsWanted }) => isAsWanted);
  const asWanted =
    notes.length > 0 ? ["", "As migrations/ have it, and so no difference:", ...formatFindings(notes)] : [];
  const unseen = [...aboutOthers(assessment), ...aboutSums(assessment)];
  if (differences.length === 0) {
    return [`${name} is what migrations/ make of it: ${known}`, ...asWanted, ...unseen].join("\n");
  }
  const count = differences.length === 1 ? "1 difference" : `${differences.length} differences`;
  return [
    `${name} is not what migrations/ make of it: ${count}; ${known}`,
    ...formatFindings(inOrder(differences)),
    ...asWanted,
    ...unseen,
    "",
    ...nextOf(assessment, differences, flags),
  ].join("\n");
}

function nextOf(assessment: Assessment, differences: readonly Finding[], flags: Parameters<typeof where>[0]): string[] {
  const { pending, live, history } = assessment;
  // Before its history is dbmate's, nothing else can be mended.
  if (history.otherTool) return ["  read: docs/adopt.md", `  next: bun scripts/drift.ts adopt --plan${where(flags)}`];
  return [
    ...[...new Set(differences.map(({ read }) => read))].map((page) => `  read: ${page}`),
    ...pending
      .filter(({ version }) => live.repairs.includes(version))
      .map(
        ({ file }) =>
          `  next: bun scripts/migrate.ts up${where(flags)}      # applies ${file}, which a repair has written`,
      ),
    ...(history.unknown.length > 0 ? [`  next: ${whereFilesAre(history.unknown)}`] : []),
    `  next: bun scripts/drift.ts repair --plan${where(flags)}`,
  ];
}

const withoutSum = ({ applied, live }: Assessment) => applied.filter(({ version }) => !live.recorded[version]);

function aboutOthers({ others }: Assessment): string[] {
  if (others.length === 0) return [];
  const [look, makes] = others.length === 1 ? ["it looks", "makes it"] : ["they look", "makes them"];
  return ["", `Not compared: ${others.join(", ")}: no migration ${makes}, and ${look} like another tool's history.`];
}

/** Applied by a plain `docker compose up`, for instance. */
function aboutSums(assessment: Assessment): string[] {
  const files = withoutSum(assessment);
  if (files.length === 0) return [];
  if (assessment.live.isRecordHidden) {
    const { user } = assessment.live;
    return [
      "",
      `"${user}" may not read dbops.migration_files: whether applied files were edited since cannot be seen.`,
    ];
  }
  const [these, they, them] =
    files.length === 1
      ? [`the sum of ${files[0]!.file}`, "it was", "it"]
      : [`the sums of ${files.length} applied files`, "they were", "them"];
  const next = `The next migrate up or deploy that applies something notes ${them}.`;
  return ["", `Nobody has noted ${these}: whether ${they} edited since cannot be seen. ${next}`];
}

/** By kind; within one as they were found. */
export const inOrder = (findings: readonly Finding[]): Finding[] =>
  [...findings].sort((one, other) => kinds.indexOf(one.kind) - kinds.indexOf(other.kind));

/** The flags that lead to the same database, for a command that is to be typed. */
export function where(flags: Pick<DriftFlags, "on" | "database-url">): string {
  const url = flags["database-url"];
  return url ? ` --database-url '${url}'` : flags.on === "local" ? "" : ` --on ${flags.on}`;
}
