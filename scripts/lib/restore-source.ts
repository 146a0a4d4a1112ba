// What is restored: a backup in the bucket, or a file of this machine, also one that the older pipeline made
// (pg_dump | gzip | gpg). Each knows how its bytes are read, and what makes of them what Postgres' programs take.
import { closeSync, createReadStream, openSync, readSync, statSync } from "node:fs";
import type { Backup } from "./backup-list.ts";
import { openBackup, type ReadingValues } from "./backup-values.ts";
import { exitCodes, Failure } from "./failure.ts";
import type { Stage } from "./flow.ts";
import { type Lock, openGpg } from "./gpg.ts";
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

/** What opens those that were locked with a passphrase. */
type Key = Pick<ReadingValues, "passphrase" | "passphraseFrom">;

const gunzip: Stage = { name: "gunzip", argv: ["gunzip", "--stdout"] };

export async function openStored(
  { manifest, folder }: Backup,
  store: Store,
  values: Key,
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
export async function openFile(file: string, values: Key, directory: string): Promise<OpenSource> {
  const kind = kindOfFile(file);
  const found = statSync(file, { throwIfNoEntry: false });
  if (!kind || !found?.isFile())
    throw unusable(file, found ? "its name ends with none of .sql .dump .gz .gpg" : "there is no such file");
  const gpg = kind.isLocked ? await openGpg(lockOf(file, values), directory) : undefined;
  return {
    ...{ name: file, manifest: undefined, format: kind.format, bytes: found.size, folder: undefined },
    read: (signal) => createReadStream(file, { signal }),
    stages: () => [...(gpg ? [gpg.decrypt()] : []), ...(kind.isZipped ? [gunzip] : [])],
    close: async () => await gpg?.close(),
  };
}

/** The first byte of an OpenPGP message has the kind of its first packet (RFC 9580, 4.2): 1 is a session key for a public key. */
function lockOf(file: string, { passphrase, passphraseFrom }: Key): Lock {
  const first = Buffer.alloc(1);
  const opened = openSync(file, "r");
  readSync(opened, first);
  closeSync(opened);
  const kind = first[0]! & 0x40 ? first[0]! & 0x3f : (first[0]! & 0x3f) >> 2;
  if (kind === 1) return { kind: "recipients", files: [] };
  if (passphrase) return { kind: "passphrase", passphrase };
  throw unusable(file, `it is encrypted, and ${passphraseFrom} is set neither in the environment nor in .env.tpl`);
}

const unusable = (file: string, why: string) =>
  new Failure(`Cannot restore "${file}"`, why, ["bun scripts/backup.ts list"], { exitCode: exitCodes.usage });
