// `migrate up`: what is pending, said before it is done, and what has become of it.
import type { Settings } from "./config.ts";
import { requireForDbmate } from "./dbmate.ts";
import { formatSeconds } from "./figures.ts";
import type { MigrateRequest } from "./migrate-request.ts";
import { readMigrations } from "./migration-file.ts";
import { look } from "./migration-look.ts";
import type { AppliedFile } from "./migration-outcome.ts";
import { planUp, type UpPlan } from "./migration-plan.ts";
import { packageMissing } from "./packages.ts";
import { flagsFor, openPlace, type Place } from "./place.ts";
import { inDatabase } from "./psql.ts";
import { asTyped } from "./runtime.ts";
import { confirm } from "./terminal.ts";
import { interruption, orInterrupted } from "./wait.ts";

export async function up({ settings, directory, flags }: MigrateRequest): Promise<void> {
  const interrupted = interruption();
  const files = await readMigrations(directory);
  const place = await openPlace({ settings, directory, on: flags.on, url: flags["database-url"] }, interrupted);
  const tell = (text: string, document: unknown) => console.log(flags.json ? JSON.stringify(document) : asTyped(text));
  const { database, environment } = place;
  try {
    requireForDbmate(place, process.env);
    const plan = planUp(files, await inDatabase(place, database, interrupted, look));
    for (const warning of plan.warnings) console.error(`warning: ${warning}`);
    const pending = plan.pending.map(({ version, file }) => ({ version, file }));
    const { warnings } = plan;
    if (pending.length > 0) {
      const { requireAppliable } = await import("./migration-refusals.ts").catch(packageMissing);
      await requireAppliable(plan.pending, "up", "Nothing was migrated");
    }
    if (flags.plan) return tell(formatPlan(plan, place), { environment, database, pending, warnings });
    if (pending.length === 0)
      return tell(formatNothing(place, files.length), { environment, database, applied: [], warnings });
    console.error(formatPlan(plan, place));
    if (!flags.yes) await confirmed(place, settings, interrupted);
    // Not before: most of the time there is nothing to do.
    const { applyPending } = await import("./migration-apply.ts");
    const started = performance.now();
    const note = (text: string) => console.error(`         ${text}`);
    const waitSeconds = Number(flags.wait);
    const applied = await applyPending({ place, directory, files, waitSeconds, note, interrupted });
    const seconds = Math.round(performance.now() - started) / 1000;
    tell(formatApplied(applied, place, seconds), { environment, database, applied, warnings, seconds });
  } finally {
    await place.close();
  }
}

/** Not in the stack of this machine, where it is done ten times a day. @throws {Failure} exit 5 */
async function confirmed(
  { environment, database, name }: Place,
  settings: Settings,
  interrupted: AbortSignal,
): Promise<void> {
  // A URL of this machine may be the near end of a tunnel.
  if (environment === "local") return;
  const answer = environment === "production" ? settings.name : environment;
  const text = `This migrates "${database}" on ${name}. It makes no backup first; bun scripts/backup.ts${flagsFor(environment)} does, and so does a deploy.`;
  await orInterrupted(interrupted, confirm({ text: asTyped(text), answer, flag: "--yes" }));
}

const count = (files: number) => (files === 1 ? "1 migration" : `${files} migrations`);

const formatNothing = ({ database, name }: Place, files: number) =>
  `Nothing is pending: all ${count(files)} are applied to "${database}" on ${name}`;

export function formatPlan({ pending }: UpPlan, { database, name }: Pick<Place, "database" | "name">): string {
  if (pending.length === 0) return `Would apply nothing to "${database}" on ${name}`;
  const each = pending.map(
    ({ file, sections }) => `  ${file}${sections[0]!.up.transaction ? "" : "   without a transaction"}`,
  );
  return [`To apply to "${database}" on ${name}, oldest first:`, ...each].join("\n");
}

/** @param seconds of all of it, with the time for dbmate to start. */
export function formatApplied(
  applied: readonly AppliedFile[],
  { database, name }: Pick<Place, "database" | "name">,
  seconds: number,
): string {
  if (applied.length === 0) return `Another runner has just applied what was pending to "${database}" on ${name}`;
  const each = applied.map(
    (one) => `  ${(one.seconds === undefined ? "?" : `${one.seconds.toFixed(2)} s`).padStart(9)}  ${one.file}`,
  );
  return [`${count(applied.length)} applied to "${database}" on ${name}, in ${formatSeconds(seconds)}`, ...each].join(
    "\n",
  );
}
