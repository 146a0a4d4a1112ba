// What is restored: a backup in the bucket, or a file of this machine, also one that the older pipeline made
// (pg_dump | gzip | gpg). Each knows how its bytes are read, and what makes of them what Postgres' programs take.
import { createReadStream, statSync } from "node:fs";
import type { Backup } from "./backup-list.ts";
import { type BackupValues, openBackup } from "./backup-values.ts";
import { exitCodes, Failure } from "./failure.ts";
import type { Stage } from "./flow.ts";
import { type Gpg, openGpg } from "./gpg.ts";
import { hashed } from "./hashed.ts";
import type { Source } from "./restore-plan.ts";
import type { Store } from "./s3.ts";

export type OpenSource = Source & {
  /** Of the bucket; undefined for a file. */
  folder: string | undefined;
  /** The bytes as they lie there. Throws at their end where they are not those of the manifest. */
  read(interrupted: AbortSignal): AsyncIterable<Uint8Array>;
  /** From those bytes to what pg_restore or psql reads; none where they are that already. */
  stages(): Stage[];
  close(): Promise<void>;
};

const gunzip: Stage = { name: "gunzip", argv: ["gunzip", "--stdout"] };

export async function openStored(
  { manifest, folder }: Backup,
  store: Store,
  values: BackupValues,
  directory: string,
): Promise<OpenSource> {
  const gpg = await openGpg(openBackup(manifest, values), directory);
  const { dump, format } = manifest;
  const key = `${folder}/${dump.name}`;
  return {
    ...{ name: `backup ${manifest.id}`, manifest, format, bytes: dump.bytes, folder },
    read: (interrupted) => hashed(store.get(key, { interrupted }), dump, key),
    stages: () => [gpg.decrypt(), ...(format === "plain" ? [gunzip] : [])],
    close: gpg.close,
  };
}

/** "app.sql.gz.gpg", "app.dump": its name says what has to be done with it. Undefined for what is none of these names. */
export function kindOfFile(
  file: string,
): { format: Source["format"]; isZipped: boolean; isLocked: boolean } | undefined {
  const [, kind, zip, lock] = /\.(sql|dump|pgdump|backup)(\.gz)?(\.gpg)?$/.exec(file) ?? [];
  if (!kind) return undefined;
  return { format: kind === "sql" ? "plain" : "custom", isZipped: zip !== undefined, isLocked: lock !== undefined };
}

/** @throws {Failure} exit 2 when there is no such file, or no passphrase for a locked one. */
export async function openFile(
  file: string,
  { passphrase, passphraseFrom }: Pick<BackupValues, "passphrase" | "passphraseFrom">,
  directory: string,
): Promise<OpenSource> {
  const kind = kindOfFile(file);
  const found = statSync(file, { throwIfNoEntry: false });
  if (!kind || !found?.isFile())
    throw unusable(file, found ? "its name ends with none of .sql .dump .gz .gpg" : "there is no such file");
  if (kind.isLocked && !passphrase) {
    throw unusable(file, `it is encrypted, and ${passphraseFrom} is set neither in the environment nor in .env.tpl`);
  }
  const gpg: Gpg | undefined = kind.isLocked
    ? await openGpg({ kind: "passphrase", passphrase: passphrase! }, directory)
    : undefined;
  return {
    ...{ name: file, manifest: undefined, format: kind.format, bytes: found.size, folder: undefined },
    read: (signal) => createReadStream(file, { signal }),
    stages: () => [...(gpg ? [gpg.decrypt()] : []), ...(kind.isZipped ? [gunzip] : [])],
    close: async () => await gpg?.close(),
  };
}

const unusable = (file: string, why: string) =>
  new Failure(`Cannot restore "${file}"`, why, ["bun scripts/backup.ts list"], { exitCode: exitCodes.usage });
