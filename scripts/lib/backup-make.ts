// One backup from beginning to end: the place and gpg opened and closed again, the backup made, people and the dead-man monitor told.
import { runBackup } from "./backup-run.ts";
import { type BackupValues, backupSettings } from "./backup-values.ts";
import type { Settings } from "./config.ts";
import { asFailure, exitCodes } from "./failure.ts";
import { formatBytes } from "./figures.ts";
import { openGpg } from "./gpg.ts";
import { beforeRestore, type Manifest } from "./manifest.ts";
import { notify } from "./notify.ts";
import { ping } from "./ping.ts";
import { environmentOf, openPlace, type Where } from "./place.ts";
import type { Progress } from "./progress.ts";
import { redact } from "./redact.ts";
import type { Store } from "./s3.ts";
import { type TransferMeter, transferMeter } from "./transfer-meter.ts";

export type WantedBackup = {
  where: Where;
  format: Manifest["format"];
  tables?: readonly string[] | undefined;
  label?: string | undefined;
};

export type Making = {
  wanted: WantedBackup;
  values: BackupValues;
  store: Store;
  progress: Progress;
  interrupted: AbortSignal;
  /** How large a dump is beside its database, from the backup before; for the time that is left, which is a guess without it. */
  usualRatio?: number | undefined;
  /** By a service that nobody watches: no meter, and that it has to wait for another or is told to stop is no news. */
  byItself?: boolean;
};

/**
 * @returns the manifest.
 * @throws {Failure} what went wrong, after people were told; nothing is listed then.
 */
export async function makeBackup(making: Making): Promise<Manifest> {
  const { wanted, values, progress } = making;
  const { settings } = wanted.where;
  const environment = environmentOf(wanted.where);
  const started = performance.now();
  const tell = async (outcome: "done" | "failed" | "interrupted", summary: string, details?: string) => {
    const news = { what: "backup", project: settings.name, environment, outcome, summary };
    const seconds = Math.round(performance.now() - started) / 1000;
    const lines = await notify(
      settings.notifications,
      { ...news, seconds, ...(details && { details }) },
      values.values,
      // Who cancels a run in CI is killed ten seconds later.
      making.interrupted.aborted ? 2 : 10,
    );
    for (const line of lines) progress.note(line);
  };
  try {
    const manifest = await make(making);
    const { dump, databaseBytes } = manifest;
    if (values.pingUrl && (making.byItself || isWatched(manifest, settings))) {
      const problem = await ping(values.pingUrl);
      if (problem)
        progress.note(`warning: the monitor of ${backupSettings(settings).pingFrom} was not told: ${problem}`);
    }
    await tell("done", `${manifest.id}: ${formatBytes(dump.bytes)} of ${formatBytes(databaseBytes)}`);
    return manifest;
  } catch (error) {
    const { message, details, exitCode } = asFailure(error);
    const isNews = !making.byItself || !(exitCode === exitCodes.locked || making.interrupted.aborted);
    const outcome = exitCode === exitCodes.interrupted ? "interrupted" : "failed";
    if (isNews) await tell(outcome, redact(message, values.secrets), details && redact(details, values.secrets));
    throw error;
  }
}

/** A backup of one table, or of a laptop, must not keep the alarm quiet while the nightly one is dead. */
export function isWatched(
  { tables, label, environment }: Pick<Manifest, "tables" | "label" | "environment">,
  { environments }: Pick<Settings, "environments">,
): boolean {
  if (tables || label === beforeRestore) return false;
  return !environments.production || environment !== "local";
}

/** On a terminal the meter's line is open, and would have the next one behind it. */
function clearing(progress: Progress, meter: TransferMeter | undefined): Progress {
  return {
    ...progress,
    step: (name, work) => progress.step(name, () => work().finally(() => meter?.clear())),
    note(text) {
      meter?.clear();
      progress.note(text);
    },
  };
}

/** Most dumps are a fifth of their database. */
const firstRatio = 0.2;

async function make({ wanted, values, store, progress, interrupted, usualRatio, byItself }: Making): Promise<Manifest> {
  const { where, ...what } = wanted;
  const { settings, directory } = where;
  const gpg = await openGpg(values.lock, directory);
  try {
    const place = await progress.step("connect", () => openPlace(where, interrupted));
    const meter = byItself ? undefined : transferMeter("dump");
    const onBytes = (sent: number, databaseBytes: number) =>
      meter?.at(sent, databaseBytes * (usualRatio ?? firstRatio));
    try {
      const job = {
        ...what,
        place,
        store,
        gpg,
        lock: values.lock.kind,
        passphraseFrom: values.passphraseFrom,
        project: settings.name,
        directory,
      };
      return await runBackup({ ...job, progress: clearing(progress, meter), onBytes, interrupted });
    } finally {
      meter?.end();
      await place.close();
    }
  } finally {
    await gpg.close();
  }
}
