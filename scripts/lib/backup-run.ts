// Makes one backup: pg_dump where Postgres is, gpg here, then the bucket, in one stream without a temporary file; and last of all
// the manifest, without which it is no backup. Whatever goes wrong before leaves nothing that looks like one.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { type Clients, type DumpOptions, dumpStage, globalsStage, gzipStage, readClients } from "./backup-programs.ts";
import { countRows, type Facts, readFacts } from "./catalog.ts";
import { exitCodes, Failure } from "./failure.ts";
import { type FlowOptions, flow } from "./flow.ts";
import type { Gpg, Lock } from "./gpg.ts";
import { type Manifest, names, newBackupId } from "./manifest.ts";
import type { Place } from "./place.ts";
import type { Progress } from "./progress.ts";
import { openPsql, type Psql, quoteLiteral } from "./psql.ts";
import { restoreInstructions } from "./restore-instructions.ts";
import { partBytesFor, type Store } from "./s3.ts";
import { takeSnapshot } from "./snapshot.ts";
import { untilTrailer } from "./sql-text.ts";

export type BackupJob = {
  place: Place;
  store: Store;
  gpg: Gpg;
  lock: Lock["kind"];
  /** The name of the passphrase's variable, for RESTORE.txt. */
  passphraseFrom: string;
  project: string;
  /** Of the project, for its kit's version. */
  directory: string;
  format: Manifest["format"];
  tables?: readonly string[] | undefined;
  label?: string | undefined;
  progress: Progress;
  /** Told how many encrypted bytes have gone up, and how large the database is. */
  onBytes?: (sent: number, databaseBytes: number) => void;
  interrupted: AbortSignal;
};

const triesMaximum = 10;

/**
 * @returns the manifest as it lies in the bucket.
 * @throws {Failure} exit 4 when another backup of this database is being made; otherwise what went wrong, with nothing listed.
 */
export async function runBackup(job: BackupJob): Promise<Manifest> {
  for (let tries = 1; tries <= triesMaximum; tries += 1) {
    try {
      return await tryBackup(job);
    } catch (error) {
      if (!wasLockedOut(error)) throw error;
      job.progress.note(
        "somebody changes the structure of a table just now, and goes first: once more from the beginning",
      );
    }
  }
  const why = `somebody changed the structure of a table, or truncated one, in each of ${triesMaximum} attempts`;
  throw new Failure("Cannot dump the database", why, ["the same command again, once it is done"]);
}

/**
 * Somebody who wants a table for himself came between our snapshot and pg_dump: he waits for us, pg_dump for him, and behind them
 * everybody else, until pg_dump gives up.
 */
const wasLockedOut = (error: unknown) =>
  error instanceof Failure &&
  error.what === "pg_dump failed" &&
  /due to (?:statement|lock) timeout[\s\S]*LOCK TABLE/.test(error.details ?? "");

async function tryBackup(job: BackupJob): Promise<Manifest> {
  const { place, progress, project, store, interrupted } = job;
  const psql = await openPsql(place);
  // Else Ctrl-C would wait for whatever is being asked: a lock for a minute, a count for an hour.
  const onAbort = () => void psql.close();
  interrupted.addEventListener("abort", onAbort);
  try {
    interrupted.throwIfAborted();
    await takeTurn(psql, place);
    const id = newBackupId(new Date());
    const folder = `${project}/${id}`;
    try {
      const manifest = await progress.step("dump", () => dumpAll(job, psql, id, folder));
      interrupted.throwIfAborted();
      await progress.step("manifest", () => store.put(`${folder}/${names.manifest}`, formatManifest(manifest)));
      return manifest;
    } catch (error) {
      await removeRemains(store, folder, progress);
      throw error;
    }
  } catch (error) {
    // What the interruption has broken is no news.
    throw interrupted.aborted ? interrupted.reason : error;
  } finally {
    interrupted.removeEventListener("abort", onAbort);
    await psql.close();
  }
}

export const formatManifest = (manifest: Manifest) => `${JSON.stringify(manifest, undefined, 2)}\n`;

/** One at a time for each database: held by this session, so that it ends with us, however we end. */
async function takeTurn(psql: Psql, place: Place): Promise<void> {
  const key = `hashtextextended(${quoteLiteral("dbops backup")}, 0)`;
  const [row] = await psql.rows<{ ours: boolean }>(`select pg_try_advisory_lock(${key}) as ours`);
  if (row!.ours) return;
  const [other] = await psql.rows<{ since: string }>(
    `select to_char(min(a.backend_start) at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"') as since
     from pg_locks l join pg_stat_activity a using (pid)
     where l.locktype = 'advisory' and l.granted and l.database = (select oid from pg_database where datname = current_database())
       and (l.classid::bigint << 32) + l.objid::bigint = ${key}`,
  );
  const why = `another backup of ${place.database} is being made, since ${other?.since ?? "just now"}`;
  throw new Failure("Nothing was backed up", why, ["wait for it, then the same command again"], {
    exitCode: exitCodes.locked,
  });
}

/** Everything but the manifest. */
async function dumpAll(job: BackupJob, psql: Psql, id: string, folder: string): Promise<Manifest> {
  const { place, store, gpg, format, tables, label, project, progress, interrupted } = job;
  const started = performance.now();
  const { isSuperuser, databaseBytes, server } = await readFacts(psql);
  const clients = await readClients(place, server.versionNumber);
  if (!isSuperuser) progress.note(`${place.user} is no superuser: the roles are saved without their passwords`);
  const giveUp = new AbortController();
  const signal = AbortSignal.any([interrupted, giveUp.signal]);
  const put = async (name: string, output: AsyncIterable<Uint8Array>, onBytes?: (sent: number) => void) => {
    const options = { partBytes: partBytesFor(databaseBytes), interrupted: signal, ...(onBytes && { onBytes }) };
    return { name, ...(await store.put(`${folder}/${name}`, output, options)) };
  };
  // At once: a program that has died must not wait behind an upload that hangs, and have its end taken for the upload's fault.
  const flowing = { interrupted: signal, onFailure: (error: unknown) => giveUp.abort(error) };
  const roles = flow([globalsStage(place, isSuperuser), gpg.encrypt()], flowing);
  const globals = await put(names.globals, roles.output);
  // As late as possible: from here on nobody can change the structure of a table, and pg_dump has yet to take its own locks.
  const snapshot = await takeSnapshot(psql);
  const dumpOptions = { format, tables, snapshot: snapshot.id };
  const onBytes = (sent: number) => job.onBytes?.(sent, databaseBytes);
  onBytes(0);
  const dumping = put(names.dump[format], dumped(job, dumpOptions, clients, flowing), onBytes);
  // Meanwhile, in the very same snapshot.
  const looking = readFacts(psql).then(async (facts) => ({
    ...{ facts, rows: await countRows(psql, tables ? [] : snapshot.tables) },
  }));
  const endOther = [() => void psql.close(), (error: unknown) => giveUp.abort(error)] as const;
  const [dump, { facts, rows }] = await bothOrFirstFailure(dumping, looking, ...endOther);
  await psql.execute("commit");
  const manifest: Manifest = {
    version: 1,
    ...{ id, project, environment: place.environment, database: place.database, host: place.name },
    ...(label && { label }),
    at: facts.at,
    seconds: Math.round(performance.now() - started) / 1000,
    format,
    ...(tables && { tables: [...tables] }),
    encryption: {
      kind: job.lock,
      ...(gpg.fingerprints.length > 0 && { recipients: gpg.fingerprints }),
      program: gpg.version,
    },
    ...{ dump, globals },
    client: { pgDump: clients.pgDump, kit: await kitVersion(job.directory) },
    rows,
    ...withoutExtras(facts),
  };
  await store.put(`${folder}/${names.instructions}`, instructionsOf(manifest, job.passphraseFrom));
  return manifest;
}

const instructionsOf = (manifest: Manifest, passphraseFrom: string) =>
  restoreInstructions({ ...manifest, dump: manifest.dump.name, globals: manifest.globals.name, passphraseFrom });

function withoutExtras({ at: _, isSuperuser: __, ...facts }: Facts) {
  return facts;
}

/** The encrypted dump. */
function dumped({ place, gpg }: BackupJob, options: DumpOptions, clients: Clients, flowing: FlowOptions) {
  const dump = dumpStage(place, options, clients);
  if (options.format === "custom") return flow([dump, gpg.encrypt()], flowing).output;
  // SQL text that is cut off is still SQL text: only its last line tells.
  const text = untilTrailer(flow([dump], flowing).output);
  return flow([gzipStage, gpg.encrypt()], { ...flowing, input: text }).output;
}

/** Whichever fails first ends the other, which is waited for: what goes on would disturb what comes next. */
async function bothOrFirstFailure<A, B>(
  one: Promise<A>,
  other: Promise<B>,
  endOther: (error: unknown) => void,
  endOne: (error: unknown) => void,
): Promise<[A, B]> {
  let first: { error: unknown } | undefined;
  const noteAnd = (end: (error: unknown) => void) => (error: unknown) => {
    first ??= { error };
    end(error);
  };
  one.catch(noteAnd(endOther));
  other.catch(noteAnd(endOne));
  const [a, b] = await Promise.allSettled([one, other]);
  if (first) throw first.error;
  return [(a as PromiseFulfilledResult<A>).value, (b as PromiseFulfilledResult<B>).value];
}

/** What a failed backup has already put there is no backup, and `prune` would find it; but nobody should have to pay for it. */
async function removeRemains(store: Store, folder: string, progress: Progress): Promise<void> {
  try {
    const remains = await store.list(`${folder}/`);
    // The manifest first, should it be there in spite of a lost answer.
    const isManifest = (key: string) => Number(key.endsWith(`/${names.manifest}`));
    const keys = remains.map(({ key }) => key).sort((one, other) => isManifest(other) - isManifest(one));
    if (keys.length > 0) await store.remove(keys);
  } catch {
    progress.note(
      `what was uploaded so far stays in ${store.name}, and is no backup; next: bun scripts/backup.ts prune`,
    );
  }
}

/** Which kit wrote this project's files. */
async function kitVersion(directory: string): Promise<string> {
  const text = await readFile(join(directory, ".dbops/manifest.json"), "utf8").catch(() => "{}");
  return (JSON.parse(text) as { kit?: string }).kit ?? "unknown";
}
