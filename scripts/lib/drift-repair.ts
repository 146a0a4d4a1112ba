// `drift repair`: makes a database what its migrations make of it, or the migrations what it is. Observes, plans, prints, asks; then one
// transaction, which is taken back unless a look at its end finds nothing that differs.
import { carryOut } from "./drift-apply.ts";
import { readAllMigrations } from "./drift-assess.ts";
import { openDriftBackup } from "./drift-backup.ts";
import { where } from "./drift-check.ts";
import { type Decided, decide, type Repairing } from "./drift-decide.ts";
import { counted } from "./drift-findings.ts";
import { withOpened } from "./drift-open.ts";
import { formatPlan, type RepairPlan } from "./drift-plan.ts";
import type { DriftRequest } from "./drift-request.ts";
import { lockMigrations } from "./migration-lock.ts";
import { createProgress } from "./progress.ts";
import { asTyped } from "./runtime.ts";
import { nameOfStore } from "./s3.ts";
import { readSchemaFile } from "./schema-file.ts";
import { confirm } from "./terminal.ts";
import { interruption } from "./wait.ts";

export async function repair(request: DriftRequest): Promise<void> {
  const interrupted = interruption();
  const progress = createProgress();
  const opening = { what: "Cannot repair the database", progress, interrupted };
  await withOpened(request, opening, async ({ place, scratch }) => {
    const { flags } = request;
    const repairing = { ...request, place, scratch, progress, interrupted };
    if (flags.plan) return await plan({ ...repairing, unlocked: (ask) => ask() });
    const waitSeconds = Number(flags.wait);
    const onWait = (holder: string) => progress.note(`waiting for ${holder}`);
    const take = () => lockMigrations({ place, waitSeconds, interrupted, onWait });
    let lock = await take();
    /** Who has gone for lunch should not keep a deploy out. What changes meanwhile is seen by the look that follows. */
    const unlocked: Repairing["unlocked"] = async (ask) => {
      await lock.release();
      const answer = await ask();
      lock = await take();
      return answer;
    };
    try {
      await plan({ ...repairing, unlocked });
    } finally {
      await lock.release();
    }
  });
}

async function plan(repairing: Repairing): Promise<void> {
  const { place, directory, flags, interrupted } = repairing;
  const database = `${place.database} on ${place.name}`;
  const files = await readAllMigrations(directory);
  const decided = await decide(repairing, files);
  if (!decided) {
    const nothing = { database, before: 0, repaired: 0, after: 0, steps: [], files: [], backup: null };
    return console.log(
      flags.json ? JSON.stringify(nothing) : `${database} is what migrations/ make of it: nothing to repair`,
    );
  }
  const differences = counted(decided.before.findings).length;
  // A plan alone needs no values, and looks into no bucket.
  const backup = flags.plan ? undefined : await openDriftBackup(repairing, repairing.progress, interrupted);
  try {
    const about = { database, differences, backup: describeBackup(repairing), at: where(flags) };
    console.error(asTyped(formatPlan(decided.plan, about)));
    if (flags.plan)
      return console.log(flags.json ? JSON.stringify(planAsJson(database, decided)) : "Nothing was changed.");
    const question = { text: `This changes ${database}.`, answer: place.environment, flag: "--yes" };
    if (!flags.yes) await repairing.unlocked(() => confirm(question));
    const id = await backup?.make("before drift repair");
    interrupted.throwIfAborted();
    const left = await carryOut({ ...repairing, ...decided, files });
    await report(repairing, { database, decided, differences, left: left.length, backup: id });
  } finally {
    backup?.close();
  }
}

function describeBackup({ flags, settings: { name, backup } }: Repairing): string {
  if (flags["no-backup"]) return "none (--no-backup)";
  if (!backup) return "none: dbops.config.ts does not say where to, and it takes --no-backup";
  return `into ${nameOfStore(backup)}/${name}, before anything else`;
}

const stepsOf = ({ alone, together, files }: RepairPlan) => [
  ...[...alone, ...together].map(({ what }) => what),
  ...files.flatMap((change) => {
    if ("reuse" in change) return [];
    return "rename" in change ? `rename ${change.rename} to ${change.to.file}` : `write ${change.write.file}`;
  }),
];

const filesIn = ({ files }: RepairPlan) =>
  files.map((change) => ("rename" in change ? change.to : "reuse" in change ? change.reuse : change.write).file);

const planAsJson = (database: string, { before, plan }: Decided) => ({
  database,
  before: counted(before.findings).length,
  steps: stepsOf(plan),
  files: filesIn(plan),
});

type Done = { database: string; decided: Decided; differences: number; left: number; backup: string | undefined };

async function report(
  { flags, directory }: Repairing,
  { database, decided, differences, left, backup }: Done,
): Promise<void> {
  const { plan } = decided;
  const files = filesIn(plan);
  const repaired = differences - left;
  const document = {
    database,
    before: differences,
    repaired,
    after: left,
    steps: stepsOf(plan),
    files,
    backup: backup ?? null,
  };
  if (flags.json) {
    console.log(JSON.stringify(document));
    return;
  }
  const back = backup
    ? [`  backup: ${backup}      # the way back: bun scripts/restore.ts ${backup}${where(flags)}`]
    : [];
  const rest = left === 0 ? "nothing differs any more" : `${left} left, which the new migration takes away`;
  // It has the versions in it.
  const dump = (await readSchemaFile(directory)) === undefined ? "" : "bun scripts/migrate.ts dump && ";
  const commit = files.length > 0 ? [`  next: ${dump}git add migrations && git commit      # ${files.join(", ")}`] : [];
  const isNew = plan.forward !== undefined;
  const lint = isNew ? ["  next: bun scripts/migrate.ts lint      # what it would mean for other databases"] : [];
  const apply = left > 0 ? [`  next: bun scripts/migrate.ts up${where(flags)}`] : [];
  console.log(
    asTyped(
      [`${repaired} of ${differences} repaired in ${database}: ${rest}`, ...back, ...lint, ...commit, ...apply].join(
        "\n",
      ),
    ),
  );
}
