// What `backup schedule` works with: the real clock, bucket, database and people; its log; and the sign of life that the container's
// health check reads.
import { mkdir, rename, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { newestGood } from "./backup-age.ts";
import { listBackups } from "./backup-list.ts";
import { makeBackup } from "./backup-make.ts";
import { formatTime, runSchedule } from "./backup-schedule.ts";
import { openTimes } from "./backup-schedule-times.ts";
import { type BackupValues, backupSettings, type WatchingValues } from "./backup-values.ts";
import { asFailure, exitCodes, Failure } from "./failure.ts";
import { formatBytes } from "./figures.ts";
import { notify } from "./notify.ts";
import { environmentOf, type Where } from "./place.ts";
import { onOneLine } from "./printable.ts";
import type { Progress } from "./progress.ts";
import { redact, redactFailure } from "./redact.ts";
import { openStore, type Store } from "./s3.ts";
import { usualPatience } from "./s3-client.ts";

type Service = { where: Where; values: BackupValues; interrupted: AbortSignal };

/**
 * Ends when it is interrupted.
 * @throws {Failure} exit 2 when somebody who should hear of it could not; 130 when a backup was cut off by that: nothing of it is listed.
 */
export async function serveSchedule({ where, values, interrupted }: Service): Promise<void> {
  const { settings } = where;
  const backup = backupSettings(settings);
  const environment = environmentOf(where);
  requireListeners(where, values);
  const log = (line: string) => console.error(`${formatTime(Date.now())}  ${onOneLine(redact(line, values.secrets))}`);
  // A connection of its own each time: one that has been idle for a night is not to be relied on.
  const withStore = async <T>(work: (store: Store) => Promise<T>): Promise<T> => {
    const store = await openStore(backup, values.credentials, { ...usualPatience, note: (line) => log(line.trim()) });
    try {
      return await work(store);
    } catch (error) {
      throw redactFailure(asFailure(error), values.secrets);
    } finally {
      store.close();
    }
  };
  const progress: Progress = { step: (_, work) => work(), note: log, seconds: () => ({}) };
  const beat = await openHeart();
  log(`backups of ${settings.name}, ${environment}: ${backup.schedule} (cron, UTC)`);
  const { cutOff } = await runSchedule({
    times: await openTimes(backup.schedule),
    maximumAgeHours: backup.maximumAgeHours,
    clock: { now: () => new Date(), sleep },
    backUp: () =>
      withStore(async (store) => {
        const wanted = { where, format: "custom" as const };
        const made = await makeBackup({ wanted, values, store, progress, interrupted, byItself: true });
        return `${made.id}, ${formatBytes(made.dump.bytes)} of ${formatBytes(made.databaseBytes)}, after ${made.seconds.toFixed(1)} s`;
      }),
    lookUp: () =>
      withStore(async (store) => {
        const listing = await listBackups(store, settings.name);
        for (const problem of listing.problems) log(`warning: ${problem}`);
        return newestGood(listing, environment, new Date());
      }),
    tell: (news) => tellAge(where, values, news).then((lines) => lines.forEach(log)),
    ...{ log, beat, interrupted },
  });
  if (cutOff) {
    const next = ["it is made up for when this is started again"];
    throw new Failure("Interrupted", "a backup was cut off, and nothing of it is listed", next, {
      exitCode: exitCodes.interrupted,
    });
  }
}

/** Whoever runs a command sees a warning. Here nobody looks, until the day when it would have mattered. */
function requireListeners({ settings }: Where, { values }: BackupValues): void {
  const { pingFrom } = backupSettings(settings);
  const names = [...(pingFrom ? [pingFrom] : []), ...settings.notifications.map(({ urlFrom }) => urlFrom)];
  const missing = [...new Set(names)].filter((name) => !values[name]);
  if (missing.length === 0) return;
  const [first] = missing;
  const why = `${missing.join(", ")} ${missing.length === 1 ? "is" : "are"} not set, and nobody would hear of a failure`;
  const next = [`in compose.yaml, under environment of backup:   ${first}: \${${first}:-}   and its value in .env`];
  throw new Failure("Cannot watch over the backups", why, next, { exitCode: exitCodes.usage, read: "docs/backup.md" });
}

/** @returns a line for each of those who could not be told. */
export async function tellAge(
  where: Where,
  { values, secrets }: WatchingValues,
  { recovered, sentence }: { recovered: boolean; sentence: string },
): Promise<string[]> {
  const { settings } = where;
  const said = redact(sentence, secrets);
  const news = {
    ...{ what: "backup", project: settings.name, environment: environmentOf(where) },
    ...(recovered
      ? { outcome: "done" as const, summary: `there is a recent backup again: ${said}` }
      : { outcome: "failed" as const, summary: `no recent backup: ${said}` }),
  };
  // Whoever has heard of the trouble hears of its end too.
  const targets = settings.notifications.map((target) => ({ ...target, on: "always" as const }));
  return await notify(targets, news, values);
}

function sleep(milliseconds: number, interrupted: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      interrupted.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, milliseconds);
    interrupted.addEventListener("abort", end);
    if (interrupted.aborted) end();
  });
}

/** The health check of compose.yaml: this file is younger than two minutes, and begins with "ok". */
async function openHeart(): Promise<(problem: string | undefined) => void> {
  const folder = join(tmpdir(), "dbops-backup");
  await mkdir(folder, { recursive: true });
  const file = join(folder, "health");
  let writing = Promise.resolve();
  return (problem) => {
    const text = problem === undefined ? "ok\n" : `FAILED: ${onOneLine(problem)}\n`;
    // One after the other; where it cannot be written it grows old, and that says it as well.
    writing = writing
      .then(() => writeFile(`${file}.new`, text))
      .then(() => rename(`${file}.new`, file))
      .catch(() => {});
  };
}
