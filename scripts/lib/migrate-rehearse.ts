// bun scripts/migrate.ts rehearse: what the pending files would do to the data of production, tried on a restored backup of it.
// Changes nothing but a database of its own, which is gone afterwards. docs/rehearse.md explains it.
import { listBackups } from "./backup-list.ts";
import { backupSettings, readReadingValues } from "./backup-values.ts";
import { asFailure, exitCodes, formatFailure } from "./failure.ts";
import type { MigrateRequest } from "./migrate-request.ts";
import { createProgress } from "./progress.ts";
import { redactFailure } from "./redact.ts";
import { aboveLimits } from "./rehearse-limits.ts";
import { formatNothing, formatPlan, planAsJson } from "./rehearse-plan.ts";
import { formatRehearsed, rehearsedAsJson } from "./rehearse-report.ts";
import { type Rehearsal, runRehearsal } from "./rehearse-run.ts";
import { openStore } from "./s3.ts";
import { interruption, orInterrupted } from "./wait.ts";

export async function rehearse({ settings, directory, flags, words }: MigrateRequest): Promise<void> {
  const progress = createProgress();
  const interrupted = interruption();
  const values = await orInterrupted(interrupted, readReadingValues(settings, directory));
  const store = await openStore(backupSettings(settings), values.credentials);
  try {
    const listing = await orInterrupted(interrupted, listBackups(store, settings.name));
    for (const problem of listing.problems) progress.note(`warning: ${problem}`);
    const { on, "database-url": url, from, image, plan: planOnly, json } = flags;
    const onPlan: Rehearsal["onPlan"] = (plan, wanted) => {
      const text = plan.pending.length === 0 ? formatNothing(plan) : formatPlan(plan, wanted);
      if (planOnly || plan.pending.length === 0) {
        console.log(json ? JSON.stringify(planAsJson(plan, wanted)) : text);
      } else console.error(text);
      return !planOnly;
    };
    const ended = await runRehearsal({
      ...{ settings, directory, on, url, from, image, store, listing, values, onPlan, progress, interrupted },
      ...{ which: words[0] ?? "latest", inContainer: flags["in-container"], planOnly },
    });
    if (!ended) return;
    const limits = settings.migrations.rehearse;
    console.log(json ? JSON.stringify(rehearsedAsJson(ended, limits)) : formatRehearsed(ended, limits, new Date()));
    const findings = ended.findings.length > 0 ? [aboveLimits(ended.findings)] : [];
    const bad = [...findings, ...(ended.outcome.failure ? [ended.outcome.failure] : [])];
    for (const failure of bad) console.error(formatFailure(redactFailure(failure, values.secrets)));
    if (bad.length > 0) process.exitCode = exitCodes.saidNo;
  } catch (error) {
    throw redactFailure(asFailure(error), values.secrets);
  } finally {
    store.close();
  }
}
