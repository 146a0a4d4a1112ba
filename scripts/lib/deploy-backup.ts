// The backup before a deploy's migrations: the way back for the data, which a deploy itself does not have. Made by the same code as
// `backup now`. Loaded only where something is to be migrated, so that no other deploy asks for its values, or for the bucket.
import { listBackups } from "./backup-list.ts";
import { makeBackup } from "./backup-make.ts";
import { backupSettings, readBackupValues } from "./backup-values.ts";
import type { Settings } from "./config.ts";
import { asFailure, exitCodes, Failure } from "./failure.ts";
import type { Manifest } from "./manifest.ts";
import type { Progress } from "./progress.ts";
import { openStore } from "./s3.ts";
import { within } from "./wait.ts";

export type BackupPoint = {
  /** What the backup before this one was like; undefined where this is the first. */
  last: { bytes: number; seconds: number } | undefined;
  /** Never to be shown. */
  secrets: readonly string[];
  /** @returns the backup's id. @throws {Failure} when there is none: nothing has been changed then. */
  make(release: number, progress: Progress, interrupted: AbortSignal): Promise<string>;
  close(): void;
};

type Project = { settings: Settings; directory: string; interrupted: AbortSignal };

const listSeconds = 300;

/**
 * Reads the values and looks into the bucket, before anything begins.
 * @throws {Failure} exit 2 when a value is missing or the bucket cannot be used.
 */
export async function openBackupPoint({ settings, directory, interrupted }: Project): Promise<BackupPoint> {
  const values = await readBackupValues(settings, directory).catch((error) => {
    throw noBackup(error);
  });
  const store = await openStore(backupSettings(settings), values.credentials);
  try {
    const bucket = { what: store.name, next: ["the same command again"] };
    const { backups } = await within({ seconds: listSeconds, interrupted }, listBackups(store, settings.name), bucket);
    const last = backups.find(({ manifest }) => isOfTheSameKind(manifest))?.manifest;
    return {
      last: last && { bytes: last.dump.bytes, seconds: last.seconds },
      secrets: values.secrets,
      async make(release, progress, interrupted) {
        // The deploy tells people how it has ended; a second message about a part of it would be one too many.
        const where = { settings: { ...settings, notifications: [] }, directory, on: "production" };
        const wanted = { where, format: "custom", label: `before release ${release}` } as const;
        const usualRatio = last && last.dump.bytes / last.databaseBytes;
        const making = { wanted, values, store, usualRatio, interrupted, progress: asOneStep(progress) };
        const made = await makeBackup(making).catch((error) => {
          throw interrupted.aborted ? interrupted.reason : noBackup(error);
        });
        return made.id;
      },
      close: () => store.close(),
    };
  } catch (error) {
    store.close();
    throw interrupted.aborted ? interrupted.reason : noBackup(error);
  }
}

const isOfTheSameKind = ({ tables, format, environment }: Manifest) =>
  !tables && format === "custom" && environment === "production";

/** Its own steps would be counted twice in the times of the deploy. */
const asOneStep = ({ note }: Progress): Progress => ({ step: (_, work) => work(), note, seconds: () => ({}) });

/** A deploy's own exit codes: 3 would mean that the server is not fit. */
function noBackup(error: unknown): Failure {
  const { what, why, next, exitCode, details, read } = asFailure(error);
  const without = 'or without a backup: the same command with --no-backup; for ever: deploy: { backup: "never" }';
  return new Failure("Cannot back up the database before the migrations", `${what}: ${why}`, [...next, without], {
    exitCode: exitCode === exitCodes.saidNo ? exitCodes.failed : exitCode,
    ...(details && { details }),
    read: read ?? "docs/backup.md",
    cause: error,
  });
}
