// The backup before a repair: the way back that a repair itself does not have once it is done. By the same code as `backup now`.
import { listBackups } from "./backup-list.ts";
import { makeBackup } from "./backup-make.ts";
import { backupSettings, readBackupValues } from "./backup-values.ts";
import type { DriftRequest } from "./drift-request.ts";
import { asFailure, exitCodes, Failure } from "./failure.ts";
import { environmentOf } from "./place.ts";
import type { Progress } from "./progress.ts";
import { redactFailure } from "./redact.ts";
import { openStore } from "./s3.ts";
import { within } from "./wait.ts";

export type DriftBackup = {
  /** @returns its id. @throws {Failure} when there is none: nothing has been changed then. */
  make(label: string): Promise<string>;
  close(): void;
};

const listSeconds = 300;
const without = "the same command with --no-backup";

/**
 * Reads the values and looks into the bucket, before anything begins.
 * @returns undefined where none is wanted.
 * @throws {Failure} exit 5 where none can be made, because nothing says where to; 2 when a value is missing or the bucket cannot be used.
 */
export async function openDriftBackup(
  { settings, directory, flags }: DriftRequest,
  progress: Progress,
  interrupted: AbortSignal,
): Promise<DriftBackup | undefined> {
  if (flags["no-backup"]) return undefined;
  if (!settings.backup) {
    const why = "dbops.config.ts does not say where backups go, and without one there is no way back";
    const next = [without, 'for a backup: add   backup: { bucket: "…" },   to dbops.config.ts'];
    throw new Failure("Nothing was changed", why, next, { exitCode: exitCodes.refused, read: "docs/backup.md" });
  }
  const values = await readBackupValues(settings, directory).catch((error) => {
    throw noBackup(error);
  });
  const clean = (error: unknown) =>
    interrupted.aborted ? interrupted.reason : redactFailure(noBackup(error), values.secrets);
  const store = await openStore(backupSettings(settings), values.credentials);
  try {
    const bucket = { what: store.name, next: ["the same command again"] };
    const { backups } = await within({ seconds: listSeconds, interrupted }, listBackups(store, settings.name), bucket);
    const where = { settings: { ...settings, notifications: [] }, directory, on: flags.on, url: flags["database-url"] };
    const environment = environmentOf(where);
    const last = backups.find(({ manifest }) => !manifest.tables && manifest.environment === environment)?.manifest;
    return {
      async make(label) {
        const usualRatio = last && last.dump.bytes / last.databaseBytes;
        const wanted = { where, format: "custom", label } as const;
        const made = await makeBackup({ wanted, values, store, usualRatio, interrupted, progress }).catch((error) => {
          throw clean(error);
        });
        return made.id;
      },
      close: () => store.close(),
    };
  } catch (error) {
    store.close();
    throw clean(error);
  }
}

function noBackup(error: unknown): Failure {
  const { what, why, next, exitCode, details, read } = asFailure(error);
  return new Failure("Cannot back up the database, and nothing was changed", `${what}: ${why}`, [...next, without], {
    exitCode: exitCode === exitCodes.saidNo ? exitCodes.failed : exitCode,
    ...(details && { details }),
    read: read ?? "docs/backup.md",
    cause: error,
  });
}
