// The rehearsal before a deploy, with --rehearse: the pending migrations on the restored latest backup of production, before anything has
// changed, and before the deploy's lock: nobody else has to wait for it. Loaded only where something is to be migrated.
import { listBackups } from "./backup-list.ts";
import { backupSettings, readReadingValues } from "./backup-values.ts";
import type { Settings } from "./config.ts";
import { asFailure, exitCodes, Failure } from "./failure.ts";
import type { Progress } from "./progress.ts";
import { redactFailure } from "./redact.ts";
import { aboveLimits } from "./rehearse-limits.ts";
import type { RehearsalPlan } from "./rehearse-plan.ts";
import { formatRehearsed } from "./rehearse-report.ts";
import { runRehearsal } from "./rehearse-run.ts";
import { openStore } from "./s3.ts";
import { orInterrupted } from "./wait.ts";

type Project = { settings: Settings; directory: string; progress: Progress; interrupted: AbortSignal };

/**
 * @param versions what the deploy is to apply.
 * @throws {Failure} where they do not pass, or could not be rehearsed: nothing has been changed then.
 */
export async function rehearseFirst(
  { settings, directory, progress, interrupted }: Project,
  versions: readonly string[],
): Promise<void> {
  const values = await orInterrupted(interrupted, readReadingValues(settings, directory)).catch((error) => {
    throw interrupted.aborted ? interrupted.reason : notRehearsed(asFailure(error));
  });
  const store = await openStore(backupSettings(settings), values.credentials);
  try {
    const listing = await orInterrupted(interrupted, listBackups(store, settings.name));
    const ended = await runRehearsal({
      ...{ settings, directory, store, listing, values, interrupted, progress: asOneStep(progress) },
      ...{ on: "production", url: undefined, which: "latest", from: undefined, inContainer: false, image: undefined },
      onPlan(plan) {
        progress.note(`with backup ${plan.backup.id}`);
        for (const text of plan.warnings) progress.note(`warning: ${text}`);
        requireAll(plan, versions);
        return true;
      },
    });
    // With nothing to rehearse, and then there was nothing to ask for either.
    if (!ended) return;
    console.error(formatRehearsed(ended, settings.migrations.rehearse, new Date()));
    const { failure } = ended.outcome;
    if (failure) throw notPassed(failure);
    if (ended.findings.length > 0) throw notPassed(aboveLimits(ended.findings));
  } catch (error) {
    if (interrupted.aborted) throw interrupted.reason;
    const failure = error instanceof NotPassed ? error : notRehearsed(asFailure(error));
    throw redactFailure(failure, values.secrets);
  } finally {
    store.close();
  }
}

/**
 * After a bad release and the restore of the backup before it, the newest backup may have what is to be applied now.
 * @throws {Failure} exit 3 where one of them would not be tried.
 */
export function requireAll(
  { backup, pending }: Pick<RehearsalPlan, "backup" | "pending">,
  versions: readonly string[],
): void {
  const tried = pending.filter(({ isLive }) => !isLive).map(({ version }) => version);
  const left = versions.filter((version) => !tried.includes(version));
  if (left.length === 0) return;
  const why = `it has ${left.join(", ")} already, which ${left.length === 1 ? "is" : "are"} to be applied`;
  const next = [
    "bun scripts/backup.ts --on production   # as the database is now; then the same command again",
    "or with an older one by hand: bun scripts/migrate.ts rehearse BACKUP --on production",
  ];
  throw new Failure(`Cannot rehearse with ${backup.id}`, why, next, { exitCode: exitCodes.saidNo });
}

/** Its own steps would be counted twice in the times of the deploy. */
const asOneStep = ({ note }: Progress): Progress => ({ step: (_, work) => work(), note, seconds: () => ({}) });

class NotPassed extends Failure {}

const without = "or without it: the same command without --rehearse";

function notPassed({ what, why, next, details, read }: Failure): NotPassed {
  return new NotPassed("Nothing was deployed", `${what}: ${why}`, [...next, without], {
    exitCode: exitCodes.saidNo,
    ...(details && { details }),
    ...(read && { read }),
  });
}

function notRehearsed({ what, why, next, exitCode, details, read, cause }: Failure): Failure {
  const options = { exitCode, cause, ...(details && { details }), read: read ?? "docs/rehearse.md" };
  return new Failure(
    "Nothing was deployed",
    `the migrations could not be rehearsed: ${what}: ${why}`,
    [...next, without],
    options,
  );
}
