// Brings a backup back: beside the live database, proven there, then swapped in.   bun scripts/restore.ts latest --on production
// Never restores into the live database; what was live stays, under another name, and --undo swaps it back.
// docs/restore.md explains it; docs/runbook/restore-by-hand.md does it without the kit.
import { type Arguments, parseArguments, usage } from "./lib/args.ts";
import type { BackupValues, ReadingValues } from "./lib/backup-values.ts";
import type { Settings } from "./lib/config.ts";
import { packageMissing } from "./lib/packages.ts";
import type { Place } from "./lib/place.ts";
import type { Progress } from "./lib/progress.ts";
import type { Psql } from "./lib/psql.ts";
import type { Wanted } from "./lib/restore-plan.ts";
import type { OpenSource } from "./lib/restore-source.ts";
import { asTyped } from "./lib/runtime.ts";
import type { Store } from "./lib/s3.ts";
import { runIfMain } from "./lib/verb.ts";

const commandLine = {
  command: "bun scripts/restore.ts",
  purpose: "Restores a backup beside the live database, proves it row by row, and swaps both; or swaps back.",
  words: ["[latest|BACKUP|FILE]"],
  flags: {
    on: { value: "ENVIRONMENT", oneOf: ["local", "production"], default: "local", help: "whose database" },
    "database-url": { value: "URL", help: "instead of that: another database, with the pg_restore of this machine" },
    from: { value: "ENVIRONMENT", help: "whose latest backup; default: of the one that is restored" },
    at: { value: "TIME", help: "the newest backup of that time or before it, like 2026-11-21T03:00Z" },
    into: { value: "NAME", help: "a new database of that name; the live one is not touched" },
    tables: { value: "TABLE", many: true, help: "only these, into a new schema beside the live tables" },
    "to-version": { value: "VERSION", help: "apply pending migrations up to this one only (default: all)" },
    "no-safety-backup": { help: "do not back up the present database first" },
    undo: { help: "swap back what was live before the last restore" },
    clean: { help: "remove what interrupted restores and rehearsals left, or the database that is named" },
    confirm: { value: "NAME", help: "answers the question on production beforehand: the project's name" },
    yes: { help: "answers it on this machine" },
    plan: { help: "print what would be done, and do nothing" },
    json: { help: "one JSON document on stdout" },
  },
  examples: [
    "bun scripts/restore.ts latest --on production --plan",
    "bun scripts/restore.ts 2026-11-21T03-00-00Z-4f2c1a2b --into look_here",
    "bun scripts/restore.ts --from production           # its latest backup, into the database on this machine",
    "bun scripts/restore.ts --undo --on production",
    "bun scripts/restore.ts old.sql.gz.gpg              # of pg_dump | gzip | gpg, too",
  ],
  notes: [
    "Environment: BACKUP_ACCESS_KEY_ID, BACKUP_SECRET_ACCESS_KEY, BACKUP_PASSPHRASE; what is not there is looked up in .env.tpl.",
    "Exit codes: 0 done; 1 failed, 2 flags, configuration, values, 3 the backup or the server does not allow it, 4 another restore is",
    "at work, 5 not confirmed, 130 interrupted: after each of these the live database is as it was.",
  ].join("\n"),
} as const;

type Flags = Arguments<typeof commandLine>;

type Request = {
  settings: Settings;
  directory: string;
  flags: Flags;
  place: Place;
  /** A session beside the live database, with the lock. */
  admin: Psql;
  progress: Progress;
  interrupted: AbortSignal;
};

export async function main(argv: readonly string[]): Promise<void> {
  const flags = parseArguments(argv, commandLine);
  const [which] = flags._;
  requireSense(flags);
  const { loadConfig } = await import("./lib/config.ts").catch(packageMissing);
  const { interruption } = await import("./lib/wait.ts");
  const interrupted = interruption();
  const directory = process.cwd();
  const work = { settings: await loadConfig(directory), directory, flags, interrupted };
  try {
    if (flags.undo) return await onServer(work, undo);
    if (flags.clean) return await onServer(work, clean);
    await fromBucketOrFile(work, which ?? "latest");
  } catch (error) {
    throw error === interrupted.reason ? await nothingChanged(interrupted.reason) : error;
  }
}

type Work = Pick<Request, "settings" | "directory" | "flags" | "interrupted">;

async function fromBucketOrFile(work: Work, which: string): Promise<void> {
  const { asFailure } = await import("./lib/failure.ts");
  const { redactFailure } = await import("./lib/redact.ts");
  const { orInterrupted } = await import("./lib/wait.ts");
  const bucket = await orInterrupted(work.interrupted, openBucket(work));
  try {
    const source = await openSource(work, bucket, which);
    await onServer(work, (request) => restore(request, source, bucket)).finally(source.close);
  } catch (error) {
    // As it is: nothing of it is secret, and it is recognized.
    if (error === work.interrupted.reason) throw error;
    throw redactFailure(asFailure(error), bucket.reading.secrets);
  } finally {
    bucket.store?.close();
  }
}

/** Before there was anything to take back. */
async function nothingChanged({ what, why }: { what: string; why: string }): Promise<Error> {
  const { exitCodes, Failure } = await import("./lib/failure.ts");
  return new Failure(what, `${why}; nothing was changed`, [], { exitCode: exitCodes.interrupted });
}

function requireSense(flags: Flags): void {
  const [which] = flags._;
  if (!which && !flags.at && !flags.undo && !flags.clean) throw usage(commandLine, "it takes a backup, such as latest");
  if (flags.undo && (which || flags.clean)) throw usage(commandLine, "--undo stands alone");
  if (flags.at && which && which !== "latest") throw usage(commandLine, `"${which}" and --at are two answers`);
  if (flags.at && Number.isNaN(Date.parse(flags.at))) throw usage(commandLine, `--at: "${flags.at}" is no time`);
  if (flags.into && flags.tables.length > 0) throw usage(commandLine, "--into and --tables are two answers");
  if (flags.into && !/^[a-z_][a-z0-9_]{0,62}$/.test(flags.into)) {
    throw usage(commandLine, "--into takes lower case letters, digits and _ only, 63 at most");
  }
}

/** Opens everything, does the work, closes everything. */
async function onServer(work: Work, act: (request: Request) => Promise<void>): Promise<void> {
  const { openPlace } = await import("./lib/place.ts").catch(packageMissing);
  const { openServer } = await import("./lib/restore-server.ts");
  const { createProgress } = await import("./lib/progress.ts");
  const { settings, directory, flags, interrupted } = work;
  const progress = createProgress();
  const place = await openPlace({ settings, directory, on: flags.on, url: flags["database-url"] }, interrupted);
  try {
    const admin = await openServer(place, progress, { mayChange: !flags.plan });
    try {
      interrupted.throwIfAborted();
      await act({ ...work, place, admin, progress });
    } finally {
      await admin.close();
    }
  } finally {
    await place.close();
  }
}

type Bucket = {
  reading: Omit<ReadingValues, "credentials">;
  /** For the backup of the present database. */
  making: BackupValues | undefined;
  store: Store | undefined;
};

/** A file needs none, unless the present database is backed up first. */
async function openBucket({ settings, directory, flags }: Work): Promise<Bucket> {
  const { kindOfFile } = await import("./lib/restore-source.ts").catch(packageMissing);
  const { openStore } = await import("./lib/s3.ts").catch(packageMissing);
  const values = await import("./lib/backup-values.ts").catch(packageMissing);
  const makesOne = !flags.into && flags.tables.length === 0 && !flags["no-safety-backup"] && !flags.plan;
  if (kindOfFile(flags._[0] ?? "") && !makesOne) {
    return { reading: await values.readPassphrase(settings, directory), making: undefined, store: undefined };
  }
  const making = makesOne ? await values.readBackupValues(settings, directory) : undefined;
  const reading = making ?? (await values.readReadingValues(settings, directory));
  return { reading, making, store: await openStore(values.backupSettings(settings), reading.credentials) };
}

async function openSource(
  { settings, directory, flags, interrupted }: Work,
  { reading, store }: Bucket,
  which: string,
): Promise<OpenSource> {
  const { kindOfFile, openFile, openStored } = await import("./lib/restore-source.ts");
  const { orInterrupted } = await import("./lib/wait.ts");
  if (kindOfFile(which)) return await openFile(which, reading, directory);
  const { chooseBackup, listBackups } = await import("./lib/backup-list.ts");
  const { environmentOf } = await import("./lib/place.ts");
  const listing = await orInterrupted(interrupted, listBackups(store!, settings.name));
  for (const problem of listing.problems) console.error(`warning: ${problem}`);
  const backup = chooseBackup(listing, which, {
    environment: flags.from ?? environmentOf({ on: flags.on, url: flags["database-url"] }),
    before: flags.at ? new Date(flags.at) : undefined,
  });
  // Who asks for the latest one has to hear that it is not the last one that was made.
  const { environment } = backup.manifest;
  const newer = listing.backups.filter((it) => it.id > backup.id && it.manifest.environment === environment);
  for (const { id, broken } of which === "latest" && !flags.at ? newer : [])
    if (broken) console.error(`warning: the backup ${id} is newer, and broken: ${broken}`);
  return await openStored(backup, store!, reading, directory);
}

async function restore(request: Request, source: OpenSource, bucket: Bucket): Promise<void> {
  const { settings, directory, flags, place, admin, progress, interrupted } = request;
  const { observe } = await import("./lib/restore-server.ts");
  const { formatPlan, planRestore } = await import("./lib/restore-plan.ts");
  const { runRestore } = await import("./lib/restore-run.ts");
  const { schemaName } = await import("./lib/restore-tables.ts");
  const { formatRestored } = await import("./lib/restore-output.ts");
  const { writeProof } = await import("./lib/proof.ts");
  const { requireForDbmate } = await import("./lib/dbmate.ts");
  const wanted = await whatIsWanted(request);
  const { observed, live, disk } = await observe(place, admin);
  const plan = planRestore(source, wanted, observed);
  // Now, and not after an hour.
  if (plan.pending.length > 0) requireForDbmate(place, process.env);
  if (flags.plan) {
    const { source: _, ...rest } = plan;
    return console.log(flags.json ? JSON.stringify({ source: source.name, ...rest }) : formatPlan(plan, wanted));
  }
  console.error(formatPlan(plan, wanted));
  const part = wanted.tables && { tables: wanted.tables, schema: schemaName(wanted.now) };
  const change = part ? `adds the schema "${part.schema}" to` : "replaces";
  if (!flags.into) await confirmed(request, `This ${change} "${plan.live}" on ${place.name}.`);
  if (plan.safetyBackup) await backUpFirst(request, bucket);
  const upTo = flags["to-version"];
  const migrations = upTo ? wanted.migrations.filter((version) => version <= upTo) : wanted.migrations;
  const restored = await runRestore({
    ...{ plan, source, place, admin, observed, live, disk, migrations, directory, progress, interrupted },
    ...{ schema: settings.schema, part },
    onProof: (problems, restoreSeconds) =>
      writeProof(bucket.store, source.folder, { by: "restore", problems, restoreSeconds }, progress),
  });
  console.log(
    flags.json
      ? JSON.stringify({ source: source.name, ...restored })
      : asTyped(formatRestored(restored, source.name, place.environment)),
  );
}

async function whatIsWanted({ directory, flags, place }: Request): Promise<Wanted> {
  const { availableMigrations } = await import("./lib/database-migrate.ts");
  const migrations = await availableMigrations(place, directory);
  const toVersion = flags["to-version"];
  if (toVersion && !migrations.includes(toVersion)) {
    throw usage(commandLine, `--to-version: migrations/ has no ${toVersion}`);
  }
  const safetyBackup = !flags["no-safety-backup"];
  const tables = flags.tables.length > 0 ? flags.tables : undefined;
  const where = { database: place.database, place: place.name, now: new Date() };
  return { ...where, into: flags.into, tables, safetyBackup, toVersion, migrations };
}

/** @throws {Failure} exit 5 unless somebody typed what it is done to. */
async function confirmed({ flags, settings, place, interrupted }: Request, text: string): Promise<void> {
  interrupted.throwIfAborted();
  const { confirm } = await import("./lib/terminal.ts");
  const { orInterrupted } = await import("./lib/wait.ts");
  const { exitCodes, Failure } = await import("./lib/failure.ts");
  const isLocal = place.environment === "local";
  const answer = isLocal || place.environment === "production" ? settings.name : place.environment;
  if (flags.confirm === answer || (isLocal && flags.yes)) return;
  if (flags.confirm !== undefined) {
    const why = `--confirm says "${flags.confirm}", and this is "${answer}"`;
    throw new Failure("Nothing was changed", why, [`the same command with --confirm ${answer}`], {
      exitCode: exitCodes.refused,
      details: text,
    });
  }
  await orInterrupted(interrupted, confirm({ text, answer, flag: isLocal ? "--yes" : `--confirm ${answer}` }));
}

async function backUpFirst(request: Request, { making, store }: Bucket): Promise<void> {
  const { makeBackup } = await import("./lib/backup-make.ts");
  const { beforeRestore } = await import("./lib/manifest.ts");
  const { settings, directory, flags, progress, interrupted } = request;
  const where = { settings, directory, on: flags.on, url: flags["database-url"] };
  const wanted = { where, format: "custom", label: beforeRestore } as const;
  const { id } = await makeBackup({ wanted, values: making!, store: store!, progress, interrupted });
  progress.note(`the present database is in the backup ${id}`);
}

async function undo(request: Request): Promise<void> {
  const { applyUndo, formatUndo, planUndo } = await import("./lib/restore-undo.ts");
  const { databasesOf, preparedIn } = await import("./lib/restore-server.ts");
  const { flags, place, admin, progress, interrupted } = request;
  const now = new Date();
  const plan = planUndo(place.database, await databasesOf(admin), now, await preparedIn(admin));
  const text = formatUndo(plan, place.name, now);
  if (flags.plan) return console.log(flags.json ? JSON.stringify(plan) : text);
  console.error(text);
  await confirmed(request, `This replaces "${plan.live}" on ${place.name}.`);
  interrupted.throwIfAborted();
  await progress.step("swap", () => applyUndo(place, admin, plan));
  const done = { database: plan.live, was: plan.next.name, kept: plan.keep };
  const line = `"${plan.next.name}" is "${plan.live}" again${plan.keep ? `; what was live is "${plan.keep}"` : ""}`;
  console.log(flags.json ? JSON.stringify(done) : line);
}

async function clean(request: Request): Promise<void> {
  const { applyClean, formatCleaned, planClean } = await import("./lib/restore-undo.ts");
  const { databasesOf, tryTurn } = await import("./lib/restore-server.ts");
  const { flags, place, admin, interrupted } = request;
  const [named] = flags._;
  const isRehearsing = !(await tryTurn(admin, "rehearse", place.database));
  const plan = planClean(place.database, await databasesOf(admin), named, isRehearsing);
  if (flags.plan)
    return console.log(flags.json ? JSON.stringify(plan) : `Would remove ${plan.removed.join(", ") || "nothing"}.`);
  if (named) await confirmed(request, `This removes "${named}" on ${place.name} for ever.`);
  interrupted.throwIfAborted();
  await applyClean(admin, plan);
  console.log(flags.json ? JSON.stringify(plan) : asTyped(formatCleaned(plan, place.environment)));
}

await runIfMain(import.meta, main);
