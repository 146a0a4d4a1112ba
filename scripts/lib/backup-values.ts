// The secrets that backups need: the bucket's key and the passphrase, by the names that `backup` in dbops.config.ts gives them; for each
// purpose no more than it takes: who may only look at the bucket need not be able to read the passphrase. From this
// process's environment, as in CI; what is not there, from the provider of .env.tpl, asked once for all of them.
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import type { Settings } from "./config.ts";
import { exitCodes, Failure } from "./failure.ts";
import { maskInGitHubActions } from "./github.ts";
import type { Lock } from "./gpg.ts";
import type { Manifest } from "./manifest.ts";
import { formsOf } from "./redact.ts";
import type { Credentials } from "./s3.ts";
import { readTemplate, resolveTemplate, substituteAll, type Template } from "./secret.ts";

export type BackupSettings = NonNullable<Settings["backup"]>;

export type BackupValues = {
  credentials: Credentials;
  /** Who can open the backups that are made. */
  lock: Lock;
  /** Opens those that were locked with a passphrase; undefined where there is none at hand. */
  passphrase: string | undefined;
  /** The name of its variable. */
  passphraseFrom: string;
  pingUrl: string | undefined;
  /** For notify(): by name. */
  values: Record<string, string | undefined>;
  /** Every secret in every form that must not be seen. */
  secrets: readonly string[];
};

const page = { exitCode: exitCodes.usage, read: "docs/backup.md" } as const;

/** @throws {Failure} exit 2 when dbops.config.ts says nothing about backups. */
export function backupSettings({ backup }: Settings): BackupSettings {
  if (backup) return backup;
  const next = ['add   backup: { bucket: "…", endpoint: "https://…", region: "…" },   to dbops.config.ts'];
  throw new Failure("Cannot tell where backups go", "dbops.config.ts has no backup", next, page);
}

/** What opens the bucket is enough to list, or to prune: nobody needs the passphrase for that. */
export type BucketValues = Pick<BackupValues, "credentials" | "secrets">;

/** And what opens a backup in it. */
export type ReadingValues = BucketValues & Pick<BackupValues, "passphrase" | "passphraseFrom">;

/** And where the notifications go. */
export type WatchingValues = BucketValues & Pick<BackupValues, "values">;

/** And all of these. */
export type DrillValues = ReadingValues & WatchingValues;

/** @throws {Failure} exit 2, like the other ones, naming every value that is missing at once, and never one of them. */
export async function readBucketValues(settings: Settings, directory: string): Promise<BucketValues> {
  const { accessKeyFrom, secretKeyFrom } = backupSettings(settings);
  return bucketValues(settings, await valuesOf([accessKeyFrom, secretKeyFrom], [], settings, directory));
}

/** For a file of this machine, which needs no bucket. */
export async function readPassphrase(
  settings: Settings,
  directory: string,
): Promise<Omit<ReadingValues, "credentials">> {
  const { passphraseFrom = "BACKUP_PASSPHRASE" } = settings.backup ?? {};
  const passphrase = (await valuesOf([], [passphraseFrom], settings, directory))[passphraseFrom];
  return { passphrase, passphraseFrom, secrets: formsOf(passphrase === undefined ? [] : [passphrase]) };
}

/** For backups that were made before: what opens them, each one's manifest says, and not today's settings. */
export async function readReadingValues(settings: Settings, directory: string): Promise<ReadingValues> {
  const { accessKeyFrom, secretKeyFrom, passphraseFrom } = backupSettings(settings);
  const values = await valuesOf([accessKeyFrom, secretKeyFrom], [passphraseFrom], settings, directory);
  return { ...bucketValues(settings, values), passphrase: values[passphraseFrom], passphraseFrom };
}

/** For whoever looks how old they are. */
export async function readWatchingValues(settings: Settings, directory: string): Promise<WatchingValues> {
  const { accessKeyFrom, secretKeyFrom } = backupSettings(settings);
  const useful = settings.notifications.map(({ urlFrom }) => urlFrom);
  const values = await valuesOf([accessKeyFrom, secretKeyFrom], useful, settings, directory);
  return { ...bucketValues(settings, values), values };
}

/** For whoever opens one and tells people what was found. */
export async function readDrillValues(settings: Settings, directory: string): Promise<DrillValues> {
  const { accessKeyFrom, secretKeyFrom, passphraseFrom } = backupSettings(settings);
  const useful = [passphraseFrom, ...settings.notifications.map(({ urlFrom }) => urlFrom)];
  const values = await valuesOf([accessKeyFrom, secretKeyFrom], useful, settings, directory);
  return { ...bucketValues(settings, values), passphrase: values[passphraseFrom], passphraseFrom, values };
}

/** For making one. @param recipients files of public keys, instead of those in the settings. */
export async function readBackupValues(
  settings: Settings,
  directory: string,
  recipients: readonly string[] = backupSettings(settings).recipients,
): Promise<BackupValues> {
  const { accessKeyFrom, secretKeyFrom, passphraseFrom, pingFrom } = backupSettings(settings);
  const needed = [accessKeyFrom, secretKeyFrom, ...(recipients.length === 0 ? [passphraseFrom] : [])];
  const useful = [
    passphraseFrom,
    ...(pingFrom ? [pingFrom] : []),
    ...settings.notifications.map(({ urlFrom }) => urlFrom),
  ];
  const values = await valuesOf(needed, useful, settings, directory);
  const passphrase = values[passphraseFrom];
  return {
    ...bucketValues(settings, values),
    lock:
      recipients.length > 0
        ? { kind: "recipients", files: recipients.map((file) => resolve(directory, file)) }
        : { kind: "passphrase", passphrase: passphrase! },
    ...{ passphrase, passphraseFrom, values },
    pingUrl: pingFrom && values[pingFrom],
  };
}

type Values = Record<string, string | undefined>;

function bucketValues(settings: Settings, values: Values): BucketValues {
  const { accessKeyFrom, secretKeyFrom } = backupSettings(settings);
  return {
    credentials: { accessKeyId: values[accessKeyFrom]!, secretAccessKey: values[secretKeyFrom]! },
    secrets: formsOf(Object.values(values).filter((value) => value !== undefined)),
  };
}

async function valuesOf(
  needed: readonly string[],
  useful: readonly string[],
  settings: Settings,
  directory: string,
): Promise<Values> {
  const values = await lookUp([...new Set([...needed, ...useful])], settings, directory);
  const missing = needed.filter((name) => !values[name]);
  if (missing.length > 0) {
    const why = `${missing.join(", ")} ${missing.length === 1 ? "is" : "are"} not set, neither in the environment nor in .env.tpl`;
    const next = [`add them to .env.tpl, or: export ${missing[0]}=…`, "the same command again"];
    throw new Failure("Cannot work with backups", why, next, page);
  }
  maskInGitHubActions(Object.values(values).filter((value) => value !== undefined));
  return values;
}

async function lookUp(wanted: readonly string[], settings: Settings, directory: string): Promise<Values> {
  const own = Object.fromEntries(wanted.map((name) => [name, process.env[name] || undefined]));
  const absent = wanted.filter((name) => !own[name]);
  const file = join(directory, ".env.tpl");
  if (absent.length === 0 || !existsSync(file)) return own;
  const all = await readTemplate(file);
  // Only these: whoever makes backups need not be able to read every other secret of the app.
  const template: Template = Object.fromEntries(absent.flatMap((name) => (all[name] ? [[name, all[name]]] : [])));
  const resolved = await resolveTemplate(settings.secrets, template, directory);
  return { ...own, ...substituteAll(template, resolved) };
}

/** What opens a backup that was made before, whatever the settings say today. @throws {Failure} exit 2 without the passphrase. */
export function openBackup(
  { encryption }: Pick<Manifest, "encryption">,
  { passphrase, passphraseFrom }: Pick<BackupValues, "passphrase" | "passphraseFrom">,
): Lock {
  // The secret key is in the keyring of whoever runs this.
  if (encryption.kind === "recipients") return { kind: "recipients", files: [] };
  if (passphrase) return { kind: "passphrase", passphrase };
  const why = `it was encrypted with a passphrase, and ${passphraseFrom} is set neither in the environment nor in .env.tpl`;
  throw new Failure("Cannot open the backup", why, [`export ${passphraseFrom}=…`], page);
}
