// Reads a backup to its end, without a database: download, hash, decrypt, and pg_restore into nothing. That its rows are right only
// a restore proves; that it is whole, this does.
import type { Backup } from "./backup-list.ts";
import { openBackup, type ReadingValues } from "./backup-values.ts";
import { exitCodes, Failure } from "./failure.ts";
import { flow, type Stage } from "./flow.ts";
import { explainGpg, openGpg } from "./gpg.ts";
import { hashed } from "./hashed.ts";
import { openPlace, type Place, type Where } from "./place.ts";
import type { Progress } from "./progress.ts";
import type { Store } from "./s3.ts";
import { untilTrailer } from "./sql-text.ts";

export type Verifying = {
  backup: Backup;
  /** Whose pg_restore reads it. */
  where: Where;
  values: ReadingValues;
  store: Store;
  progress: Progress;
  interrupted: AbortSignal;
};

/** @returns seconds. @throws {Failure} exit 3 saying what is wrong with it. */
export async function verifyBackup({
  backup,
  where,
  values,
  store,
  progress,
  interrupted,
}: Verifying): Promise<number> {
  const { manifest, folder } = backup;
  const started = performance.now();
  const gpg = await openGpg(openBackup(manifest, values), where.directory);
  try {
    await progress.step("globals", () => drain(decrypted(manifest.globals)));
    const place = await openPlace(where);
    try {
      await progress.step("dump", () => readDump(place));
    } finally {
      await place.close();
    }
    return (performance.now() - started) / 1000;
  } catch (error) {
    throw asNotVerified(backup, error);
  } finally {
    await gpg.close();
  }

  function decrypted(file: Backup["manifest"]["dump"], ...then: Stage[]) {
    const key = `${folder}/${file.name}`;
    const input = hashed(store.get(key, { interrupted }), file, key);
    return flow([gpg.decrypt(), ...then], { input, interrupted, stallSeconds: Number.POSITIVE_INFINITY }).output;
  }

  async function readDump(place: Place): Promise<void> {
    if (manifest.format === "custom") {
      const words = ["pg_restore", "--file=/dev/null"];
      return await drain(decrypted(manifest.dump, { name: "pg_restore", ...place.client(words) }));
    }
    await drain(untilTrailer(decrypted(manifest.dump, { name: "gunzip", argv: ["gunzip", "--stdout"] })));
  }
}

async function drain(bytes: AsyncIterable<Uint8Array>): Promise<void> {
  for await (const _ of bytes);
}

function asNotVerified({ id }: Backup, error: unknown): Failure {
  const { message, details, next, read, exitCode } = explainGpg(error);
  // Who was interrupted, or has no passphrase, knows nothing about the backup.
  if (exitCode === exitCodes.interrupted || exitCode === exitCodes.usage) return explainGpg(error);
  return new Failure(
    `Backup ${id} is not proven to be whole`,
    message,
    next.length > 0 ? next : ["bun scripts/backup.ts list"],
    {
      ...{ exitCode: exitCodes.saidNo, cause: error },
      ...(details && { details }),
      read: read ?? "docs/backup.md",
    },
  );
}
