// Applies pending migrations to a database that is not the one of the settings: to a restored one, before anybody uses it.
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { exitCodes, Failure } from "./failure.ts";
import { applyPending } from "./migration-apply.ts";
import { findMigrations, type MigrationFile, parseMigration, unreadableIn } from "./migration-file.ts";
import { inOther, type Place } from "./place.ts";
import { run } from "./run.ts";

type Migrating = {
  place: Place;
  /** Of the project here. */
  directory: string;
  target: string;
  /** Versions, of those that are available. */
  pending: readonly string[];
  interrupted: AbortSignal;
  onLine: (line: string) => void;
};

/** Nobody else knows the database. */
const waitSeconds = 10;

/** Versions of the migrations/ that would be applied, oldest first: those of the live release, where Postgres is in its stack. */
export async function availableMigrations(place: Place, directory: string): Promise<string[]> {
  if (!place.inStack) return await migrationsHere(directory);
  return versionsOf((await run(place.inStack(["ls", "migrations"]))).stdout.split("\n"));
}

/** The same of this project, as it lies here. */
export const migrationsHere = async (directory: string): Promise<string[]> =>
  versionsOf(await readdir(join(directory, "migrations")).catch(() => []));

const versionsOf = (files: readonly string[]) => files.flatMap((file) => /^(\d+).*\.sql$/.exec(file)?.[1] ?? []).sort();

/** As `migrate up` does it. @throws {Failure} exit 3 with dbmate's words: the restored database stays behind, and the live one as it is. */
export async function applyMigrations(migrating: Migrating): Promise<void> {
  const { place, directory, target, interrupted, onLine: note } = migrating;
  try {
    const files = await pendingFiles(migrating);
    const job = { place: inOther(place, target), directory, files, waitSeconds, note, interrupted };
    await applyPending({ ...job, isProven: true });
  } catch (error) {
    if (interrupted.aborted || !(error instanceof Failure)) throw error;
    const { what, why, details, read } = error;
    const extra = { ...(details && { details }), ...(read && { read }) };
    throw new Failure(what, why, [], { exitCode: exitCodes.saidNo, cause: error, ...extra });
  }
}

async function pendingFiles({ place, directory, pending }: Migrating): Promise<MigrationFile[]> {
  const all = place.inStack ? await filesInStack(place.inStack) : (await findMigrations(directory)).files;
  const files = all.filter(({ version }) => pending.includes(version));
  // What else may be wrong with one dbmate says; and it was good enough for the live release.
  const problems = unreadableIn(files.filter(({ sections }) => sections.length === 0));
  if (problems.length > 0) throw new Failure("Cannot migrate", problems.join("; "));
  return files;
}

/** The bytes as they are, whatever they are: a line for each file. */
const asBase64 = `cd migrations && for file in [0-9]*.sql; do
  [ -e "$file" ] || continue
  printf '%s ' "$file" && base64 <"$file" | tr -d '\\n' && echo || exit
done`;

async function filesInStack(inStack: NonNullable<Place["inStack"]>): Promise<MigrationFile[]> {
  const { stdout } = await run(inStack(["sh", "-c", asBase64]));
  const lines = stdout.split("\n").filter(Boolean);
  const files = lines.map((line) => {
    const [, file = "", content = ""] = /^(.*) (\S*)$/.exec(line) ?? [];
    return parseMigration(file, Buffer.from(content, "base64"));
  });
  return files.sort((one, other) => (one.file < other.file ? -1 : 1));
}
