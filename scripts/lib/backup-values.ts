// The secrets that backups need: the bucket's key and the passphrase, by the names that `backup` in dbops.config.ts gives them. From this
// process's environment, as in CI; what is not there, from the provider of .env.tpl, asked once for all of them.
import { existsSync } from "node:fs";
import { join } from "node:path";
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

/** @throws {Failure} exit 2 naming every value that is missing at once, and never one of them. */
export async function readBackupValues(settings: Settings, directory: string): Promise<BackupValues> {
  const backup = backupSettings(settings);
  const { accessKeyFrom, secretKeyFrom, passphraseFrom, pingFrom, recipients } = backup;
  const needed = [accessKeyFrom, secretKeyFrom, ...(recipients.length === 0 ? [passphraseFrom] : [])];
  const useful = [
    passphraseFrom,
    ...(pingFrom ? [pingFrom] : []),
    ...settings.notifications.map(({ urlFrom }) => urlFrom),
  ];
  const values = await lookUp([...new Set([...needed, ...useful])], settings, directory);
  const missing = needed.filter((name) => !values[name]);
  if (missing.length > 0) {
    const why = `${missing.join(", ")} ${missing.length === 1 ? "is" : "are"} not set, neither in the environment nor in .env.tpl`;
    const next = [`add them to .env.tpl, or: export ${missing[0]}=…`, "the same command again"];
    throw new Failure("Cannot work with backups", why, next, page);
  }
  const passphrase = values[passphraseFrom];
  const secret = Object.values(values).filter((value) => value !== undefined);
  maskInGitHubActions(secret);
  return {
    credentials: { accessKeyId: values[accessKeyFrom]!, secretAccessKey: values[secretKeyFrom]! },
    lock:
      recipients.length > 0
        ? { kind: "recipients", files: recipients.map((file) => join(directory, file)) }
        : { kind: "passphrase", passphrase: passphrase! },
    ...{ passphrase, values, secrets: formsOf(secret) },
    pingUrl: pingFrom && values[pingFrom],
  };
}

async function lookUp(
  wanted: readonly string[],
  settings: Settings,
  directory: string,
): Promise<Record<string, string | undefined>> {
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
export function openBackup({ encryption }: Pick<Manifest, "encryption">, { passphrase }: BackupValues): Lock {
  // The secret key is in the keyring of whoever runs this.
  if (encryption.kind === "recipients") return { kind: "recipients", files: [] };
  if (passphrase) return { kind: "passphrase", passphrase };
  const why =
    "it was encrypted with a passphrase, and BACKUP_PASSPHRASE is set neither in the environment nor in .env.tpl";
  throw new Failure("Cannot open the backup", why, ["export BACKUP_PASSPHRASE=…"], page);
}
