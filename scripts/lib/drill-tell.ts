// Tells people how a drill has ended. Nothing of it can change how.
import type { DrillValues } from "./backup-values.ts";
import type { Settings } from "./config.ts";
import { summaryOf } from "./drill-output.ts";
import type { DrillPlan } from "./drill-plan.ts";
import type { Drilled } from "./drill-run.ts";
import { exitCodes, type Failure } from "./failure.ts";
import { type News, notify } from "./notify.ts";
import { NotAsItShouldBe } from "./restore-prove.ts";

export type Ending = {
  /** Undefined where it did not come so far. */
  plan?: DrillPlan;
  drilled?: Drilled;
  /** Without secrets; undefined when all is well. */
  failure?: Failure;
};

/** @returns a line for each target that was not told. Not the backups' monitor: it must hear of nothing but new backups. */
export async function tellOfDrill(
  { settings, values }: { settings: Settings; values: DrillValues },
  ending: Ending,
  seconds: number,
): Promise<string[]> {
  const news = { ...newsOf(ending, settings), seconds };
  // Who cancels a run in CI is killed ten seconds later.
  return await notify(settings.notifications, news, values.values, news.outcome === "interrupted" ? 2 : 10);
}

export function newsOf({ plan, drilled, failure }: Ending, { name, environments }: Settings): News {
  const environment = plan?.backup.manifest.environment ?? (environments.production ? "production" : "local");
  const about = { what: "drill", project: name, environment };
  if (!failure) return { ...about, outcome: "done", summary: summaryOf(plan!, drilled!) };
  const { message, details, exitCode } = failure;
  // What Postgres says of a row that it did not take has the row in it.
  const isHarmless = !drilled?.finding || drilled.finding instanceof NotAsItShouldBe;
  return {
    ...about,
    outcome: exitCode === exitCodes.interrupted ? "interrupted" : "failed",
    summary: message,
    ...(details && isHarmless && { details }),
  };
}
