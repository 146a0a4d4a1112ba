// One backup from beginning to end: the place and gpg opened and closed again, the backup made, people and the dead-man monitor told.
import { runBackup } from "./backup-run.ts";
import { type BackupValues, backupSettings } from "./backup-values.ts";
import { asFailure } from "./failure.ts";
import { formatBytes } from "./figures.ts";
import { openGpg } from "./gpg.ts";
import type { Manifest } from "./manifest.ts";
import { notify } from "./notify.ts";
import { ping } from "./ping.ts";
import { openPlace, type Where } from "./place.ts";
import type { Progress } from "./progress.ts";
import { redact } from "./redact.ts";
import type { Store } from "./s3.ts";
import { transferMeter } from "./transfer-meter.ts";

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
  /** How large a dump is beside its database, from the backup before; for the time that is left. */
  usualRatio?: number | undefined;
};

/**
 * @returns the manifest.
 * @throws {Failure} what went wrong, after people were told; nothing is listed then.
 */
export async function makeBackup(making: Making): Promise<Manifest> {
  const { wanted, values, progress } = making;
  const { settings, on } = wanted.where;
  const started = performance.now();
  const tell = async (outcome: "done" | "failed", summary: string, details?: string) => {
    const news = { what: "backup", project: settings.name, environment: on, outcome, summary };
    const seconds = Math.round(performance.now() - started) / 1000;
    const lines = await notify(
      settings.notifications,
      { ...news, seconds, ...(details && { details }) },
      values.values,
    );
    for (const line of lines) progress.note(line);
  };
  try {
    const manifest = await make(making);
    const { dump, databaseBytes } = manifest;
    if (values.pingUrl) {
      const problem = await ping(values.pingUrl);
      if (problem)
        progress.note(`warning: the monitor of ${backupSettings(settings).pingFrom} was not told: ${problem}`);
    }
    await tell("done", `${manifest.id}: ${formatBytes(dump.bytes)} of ${formatBytes(databaseBytes)}`);
    return manifest;
  } catch (error) {
    const { message, details } = asFailure(error);
    await tell("failed", redact(message, values.secrets), details && redact(details, values.secrets));
    throw error;
  }
}

async function make({ wanted, values, store, progress, interrupted, usualRatio }: Making): Promise<Manifest> {
  const { where, ...what } = wanted;
  const { settings, directory } = where;
  const gpg = await openGpg(values.lock, directory);
  try {
    const place = await progress.step("connect", () => openPlace(where));
    const meter = transferMeter("dump");
    const onBytes = (sent: number, databaseBytes: number) =>
      meter.at(sent, usualRatio === undefined ? undefined : databaseBytes * usualRatio);
    try {
      const job = { ...what, place, store, gpg, lock: values.lock.kind, project: settings.name, directory };
      return await runBackup({ ...job, progress, onBytes, interrupted });
    } finally {
      meter.end();
      await place.close();
    }
  } finally {
    await gpg.close();
  }
}
