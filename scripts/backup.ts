// Makes encrypted backups in any S3-compatible bucket, and looks after them.   bun scripts/backup.ts --on production
// A backup is either whole and provable, or it does not exist. Only reads the database; deletes nothing but with `prune`.
// bun scripts/restore.ts brings one back; docs/runbook/restore-by-hand.md does it without the kit.
import { type Arguments, parseArguments, usage } from "./lib/args.ts";
import type { Listing } from "./lib/backup-list.ts";
import type { BackupValues, BucketValues, ReadingValues, WatchingValues } from "./lib/backup-values.ts";
import type { Settings } from "./lib/config.ts";
import { formatAge, formatBytes, formatSeconds } from "./lib/figures.ts";
import type { Manifest, Proof } from "./lib/manifest.ts";
import { packageMissing } from "./lib/packages.ts";
import { asTyped } from "./lib/runtime.ts";
import type { Store } from "./lib/s3.ts";
import { formatTable } from "./lib/table.ts";
import { runIfMain } from "./lib/verb.ts";

const commandLine = {
  command: "bun scripts/backup.ts",
  purpose: "Makes encrypted backups in a bucket, lists and verifies them, and removes those that are no longer kept.",
  words: ["[now|list|verify|prune|check|schedule]", "[BACKUP]"],
  flags: {
    on: { value: "ENVIRONMENT", oneOf: ["local", "production"], default: "local", help: "whose database" },
    "database-url": { value: "URL", help: "instead of that: another database, with the pg_dump of this machine" },
    tables: {
      value: "TABLE",
      many: true,
      help: "only these, as pg_dump takes them; nothing to restore a whole database from",
    },
    format: {
      value: "FORMAT",
      oneOf: ["custom", "plain"],
      default: "custom",
      help: "plain is SQL text, gzip: slower, and larger",
    },
    recipient: {
      value: "FILE",
      many: true,
      help: "encrypt for this OpenPGP public key, and not as dbops.config.ts says",
    },
    label: { value: "TEXT", help: "a word for the list, for instance the reason" },
    plan: { help: "print what would be done, and do nothing" },
    yes: { help: "with prune: do not ask before anything is removed" },
    json: { help: "one JSON document on stdout" },
  },
  examples: [
    "bun scripts/backup.ts --on production             # now",
    "bun scripts/backup.ts list",
    "bun scripts/backup.ts verify                      # the latest: download, decrypt, read to its end",
    "bun scripts/backup.ts verify 2026-11-21T03-00-00Z-4f2c1a2b",
    "bun scripts/backup.ts prune --plan",
    "bun scripts/backup.ts check --on production       # exit 3, and notifications, when the newest is too old",
    "bun scripts/backup.ts schedule                    # makes them at their times, until it is told to stop",
  ],
  notes: [
    "Environment: BACKUP_ACCESS_KEY_ID, BACKUP_SECRET_ACCESS_KEY, BACKUP_PASSPHRASE; what is not there is looked up in .env.tpl.",
    "Exit codes: 0 done; 1 failed, and nothing half-done is listed; 2 flags, configuration, values; 3 it cannot be verified,",
    "or the database is not there; 4 another backup is being made; 5 nothing was confirmed; 130 interrupted.",
  ].join("\n"),
} as const;

type Flags = Arguments<typeof commandLine>;

export async function main(argv: readonly string[]): Promise<void> {
  const flags = parseArguments(argv, commandLine);
  const [word = "now", which] = flags._;
  const subcommand = subcommands[word];
  if (!subcommand) throw usage(commandLine, `"${word}" is none of ${Object.keys(subcommands).join(", ")}`);
  if (which !== undefined && word !== "verify") throw usage(commandLine, `"${which}" is one word too many`);
  const { loadConfig } = await import("./lib/config.ts").catch(packageMissing);
  const directory = process.cwd();
  await subcommand({ settings: await loadConfig(directory), directory, flags, which });
}

type Request = { settings: Settings; directory: string; flags: Flags; which: string | undefined };

const subcommands: Readonly<Record<string, (request: Request) => Promise<void>>> = {
  ...{ now, list, verify, prune, check, schedule },
};

/** Opens the bucket for some work, with the values that it takes, none of which is in whatever it throws. */
async function withBucket(
  settings: Settings,
  { credentials, secrets }: BucketValues,
  work: (store: Store) => Promise<void>,
): Promise<void> {
  const { openStore } = await import("./lib/s3.ts").catch(packageMissing);
  const { backupSettings } = await import("./lib/backup-values.ts");
  const { redactFailure } = await import("./lib/redact.ts");
  const { asFailure } = await import("./lib/failure.ts");
  const store = await openStore(backupSettings(settings), credentials);
  try {
    await work(store);
  } catch (error) {
    throw redactFailure(asFailure(error), secrets);
  } finally {
    store.close();
  }
}

const readValues = () => import("./lib/backup-values.ts").catch(packageMissing);

async function now({ settings, directory, flags }: Request): Promise<void> {
  const { readBackupValues } = await readValues();
  const recipients = flags.recipient.length > 0 ? flags.recipient : undefined;
  const values = await readBackupValues(settings, directory, recipients);
  await withBucket(settings, values, (store) => make(settings, directory, flags, values, store));
}

async function make(
  settings: Settings,
  directory: string,
  flags: Flags,
  values: BackupValues,
  store: Store,
): Promise<void> {
  const { makeBackup } = await import("./lib/backup-make.ts").catch(packageMissing);
  const { listBackups } = await import("./lib/backup-list.ts");
  const { interruption } = await import("./lib/wait.ts");
  const { createProgress } = await import("./lib/progress.ts");
  const where = { settings, directory, on: flags.on, url: flags["database-url"] };
  const tables = flags.tables.length > 0 ? flags.tables : undefined;
  const wanted = { where, format: flags.format as Manifest["format"], tables, label: flags.label };
  // Also finds out before the dump whether the bucket can be used at all.
  const { backups } = await listBackups(store, settings.name);
  if (flags.plan) return printPlan(wanted, store, values, flags);
  const before = backups.find(({ manifest }) => !manifest.tables && manifest.format === wanted.format)?.manifest;
  const usualRatio = before && before.dump.bytes / before.databaseBytes;
  const making = { wanted, values, store, usualRatio, interrupted: interruption(), progress: createProgress() };
  const manifest = await makeBackup(making);
  console.log(flags.json ? JSON.stringify(manifest) : asTyped(formatMade(manifest, `${store.name}/${settings.name}`)));
}

type Wanted = { where: { on: string; url: string | undefined }; tables: string[] | undefined; format: string };

function printPlan({ where, tables, format }: Wanted, store: Store, { lock }: BackupValues, flags: Flags): void {
  const database = where.url ? "the database of --database-url" : `the database of ${where.on}`;
  const what = tables ? `${tables.join(", ")} of ${database}` : database;
  const lockedFor = lock.kind === "passphrase" ? "the passphrase" : `the keys ${lock.files.join(", ")}`;
  const plan = { backUp: what, format, into: store.name, encryptedFor: lockedFor };
  const line = `Would back up ${what} into ${store.name}, format ${format}, encrypted for ${lockedFor}. Nothing was done.`;
  console.log(flags.json ? JSON.stringify(plan) : line);
}

export function formatMade({ id, dump, databaseBytes, rows, seconds, tables }: Manifest, where: string): string {
  const count = Object.values(rows).reduce((sum, value) => sum + value, 0);
  const counted = tables ? `only ${tables.join(", ")}` : `${count} rows in ${Object.keys(rows).length} tables`;
  return [
    `Backup ${id}: ${formatBytes(dump.bytes)} of ${formatBytes(databaseBytes)}, ${counted}, after ${seconds.toFixed(1)} s`,
    `  in ${where}/${id}`,
    "  next: bun scripts/backup.ts verify      # downloads it and reads it to its end",
  ].join("\n");
}

async function list({ settings, directory, flags }: Request): Promise<void> {
  const { readBucketValues } = await readValues();
  const values = await readBucketValues(settings, directory);
  await withBucket(settings, values, (store) => show(settings, flags, store));
}

async function show(settings: Settings, flags: Flags, store: Store): Promise<void> {
  const { listBackups } = await import("./lib/backup-list.ts").catch(packageMissing);
  const listing = await listBackups(store, settings.name);
  for (const problem of listing.problems) console.error(`warning: ${problem}`);
  const now = new Date();
  if (flags.json) console.log(JSON.stringify(asJson(listing)));
  else console.log(asTyped(formatList(listing, `${store.name}/${settings.name}`, now)));
}

function asJson({ backups, remains, problems }: Listing) {
  const each = backups.map(({ manifest, bytes, proofs, broken }) => ({
    ...manifest,
    bytes,
    proofs,
    ...(broken && { broken }),
  }));
  return { backups: each, remains, problems };
}

export function formatList({ backups, remains }: Listing, where: string, now: Date): string {
  const rows = backups.map(({ id, manifest, bytes, proofs, broken }) => [
    id,
    `${formatAge(manifest.at, now)} ago`,
    formatBytes(bytes),
    manifest.tables ? manifest.tables.join(" ") : `${Object.values(manifest.rows).reduce((a, b) => a + b, 0)} rows`,
    broken ? `BROKEN: ${broken}` : proofOf(proofs, now),
    manifest.label ?? "",
  ]);
  const table = [formatTable([["backup", "made", "size", "holds", "proven", "label"], ...rows]), `  in ${where}`];
  const none = [`There is no backup in ${where}`, "  next: bun scripts/backup.ts --on production"];
  const abandoned = remains.map(
    ({ folder, bytes }) => `  no backup: ${folder}, ${formatBytes(bytes)}, without a manifest`,
  );
  return [...(backups.length > 0 ? table : none), ...abandoned].join("\n");
}

function proofOf(proofs: readonly Proof[], now: Date): string {
  const [newest] = proofs;
  if (!newest) return "never";
  const { equal, by, at, restoreSeconds } = newest;
  const took = equal && restoreSeconds !== undefined ? `, in ${formatSeconds(restoreSeconds)}` : "";
  return `${equal ? by : `${by} FAILED`} ${formatAge(at, now)} ago${took}`;
}

async function verify(request: Request): Promise<void> {
  const { readReadingValues } = await readValues();
  const values = await readReadingValues(request.settings, request.directory);
  await withBucket(request.settings, values, (store) => readToItsEnd(request, values, store));
}

async function readToItsEnd(
  { settings, directory, flags, which = "latest" }: Request,
  values: ReadingValues,
  store: Store,
): Promise<void> {
  const { chooseBackup, listBackups } = await import("./lib/backup-list.ts").catch(packageMissing);
  const { environmentOf } = await import("./lib/place.ts").catch(packageMissing);
  const { verifyBackup } = await import("./lib/backup-verify.ts").catch(packageMissing);
  const { interruption } = await import("./lib/wait.ts");
  const { createProgress } = await import("./lib/progress.ts");
  const listing = await listBackups(store, settings.name);
  for (const problem of listing.problems) console.error(`warning: ${problem}`);
  const where = { settings, directory, on: flags.on, url: flags["database-url"] };
  const backup = chooseBackup(listing, which, { environment: environmentOf(where), evenBroken: true });
  const job = { backup, where, values, store, interrupted: interruption(), progress: createProgress() };
  const seconds = await verifyBackup(job);
  const verified = { id: backup.id, verified: true, seconds };
  const line = `Backup ${backup.id} is whole: ${formatBytes(backup.manifest.dump.bytes)} downloaded, decrypted and read to the end, in ${seconds.toFixed(1)} s`;
  console.log(
    flags.json
      ? JSON.stringify(verified)
      : asTyped(
          `${line}\n  next: ${backup.manifest.tables ? `bun scripts/restore.ts ${backup.id} --into NAME` : `bun scripts/drill.ts ${backup.id}`}      # that its rows are right, only a restore proves`,
        ),
  );
}

async function prune({ settings, directory, flags }: Request): Promise<void> {
  const { readBucketValues } = await readValues();
  const values = await readBucketValues(settings, directory);
  await withBucket(settings, values, (store) => removeOld(settings, flags, store));
}

async function removeOld(settings: Settings, flags: Flags, store: Store): Promise<void> {
  const { listBackups } = await import("./lib/backup-list.ts").catch(packageMissing);
  const { backupSettings } = await import("./lib/backup-values.ts");
  const { applyPrune, formatPrune, isAbandoned } = await import("./lib/backup-prune.ts");
  const { planPrune } = await import("./lib/retention.ts");
  const { confirm } = await import("./lib/terminal.ts");
  const listing = await listBackups(store, settings.name);
  for (const problem of listing.problems) console.error(`warning: ${problem}`);
  const now = new Date();
  const unfinished = await store.listUnfinished(`${settings.name}/`);
  const plan = planPrune(listing.backups, listing.remains, backupSettings(settings).keep, now);
  const old = unfinished.filter(({ begun }) => isAbandoned(begun, now));
  console.error(formatPrune(plan, old, now));
  const count = plan.removals.length + plan.remains.length + old.length;
  if (!flags.plan && count > 0) {
    if (!flags.yes)
      await confirm({ text: `This removes them from ${store.name} for ever.`, answer: settings.name, flag: "--yes" });
    await applyPrune(store, plan, old);
  }
  const removed = flags.plan ? [] : plan.removals.map(({ id }) => id);
  const document = {
    removed,
    kept: plan.kept.length,
    planned: plan.removals.map(({ id }) => id),
    remains: plan.remains.length + old.length,
  };
  console.log(
    flags.json
      ? JSON.stringify(document)
      : flags.plan
        ? "Nothing was removed."
        : `${removed.length} backups removed, ${plan.kept.length} stay.`,
  );
}

/** For whoever is not the one that makes them: a machine that is gone tells nobody. */
async function check(request: Request): Promise<void> {
  const { readWatchingValues } = await readValues();
  const values = await readWatchingValues(request.settings, request.directory);
  await withBucket(request.settings, values, (store) => requireRecent(request, values, store));
}

async function requireRecent(
  { settings, directory, flags }: Request,
  values: WatchingValues,
  store: Store,
): Promise<void> {
  const { listBackups } = await import("./lib/backup-list.ts").catch(packageMissing);
  const { describeAge, judge, newestGood } = await import("./lib/backup-age.ts");
  const { tellAge } = await import("./lib/backup-service.ts");
  const { backupSettings } = await readValues();
  const { environmentOf } = await import("./lib/place.ts");
  const { asFailure, exitCodes, Failure } = await import("./lib/failure.ts");
  const where = { settings, directory, on: flags.on, url: flags["database-url"] };
  const { maximumAgeHours } = backupSettings(settings);
  const now = new Date();
  const tell = async (sentence: string) => {
    for (const line of await tellAge(where, values, { recovered: false, sentence })) console.error(`warning: ${line}`);
  };
  const listing = await listBackups(store, settings.name).catch(async (error) => {
    await tell(describeAge({ newest: undefined, unreadable: asFailure(error).message, now, maximumAgeHours }));
    throw error;
  });
  for (const problem of listing.problems) console.error(`warning: ${problem}`);
  const newest = newestGood(listing, environmentOf(where), now);
  const sight = { newest, now, maximumAgeHours };
  const sentence = describeAge(sight);
  if (judge(undefined, sight).alarm) {
    await tell(sentence);
    const next = [`bun scripts/backup.ts --on ${flags.on}`];
    const options = { exitCode: exitCodes.saidNo, read: "docs/runbook/backup-missing.md" };
    throw new Failure("There is no recent backup", sentence, next, options);
  }
  console.log(flags.json ? JSON.stringify({ newest, maximumAgeHours }) : asTyped(`Good: ${sentence}`));
}

async function schedule({ settings, directory, flags }: Request): Promise<void> {
  const { readBackupValues } = await readValues();
  const { serveSchedule } = await import("./lib/backup-service.ts").catch(packageMissing);
  const { interruption } = await import("./lib/wait.ts");
  const where = { settings, directory, on: flags.on, url: flags["database-url"] };
  const recipients = flags.recipient.length > 0 ? flags.recipient : undefined;
  const values = await readBackupValues(settings, directory, recipients);
  await serveSchedule({ where, values, interrupted: interruption() });
  // A question to the bucket may still wait for its answer, which nobody wants any more.
  process.exit(0);
}

await runIfMain(import.meta, main);
