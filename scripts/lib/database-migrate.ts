// Applies pending migrations to a database that is not the one of the settings: to a restored one, before anybody uses it.
import { cp, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { migrate, migrationFailure } from "./dbmate.ts";
import { exitCodes, Failure } from "./failure.ts";
import type { Place } from "./place.ts";
import { run } from "./run.ts";

type Migrating = {
  place: Place;
  /** Of the project here. */
  directory: string;
  target: string;
  /** The newest that is applied; undefined for all. */
  toVersion: string | undefined;
  interrupted: AbortSignal;
  onLine: (line: string) => void;
};

const migrateSeconds = 3600;

/** Versions of the migrations/ that would be applied, oldest first: those of the live release, where Postgres is in its stack. */
export async function availableMigrations(place: Place, directory: string): Promise<string[]> {
  if (!place.inStack) return await migrationsHere(directory);
  return versionsOf((await run(place.inStack(["ls", "migrations"]))).stdout.split("\n"));
}

/** The same of this project, as it lies here. */
export const migrationsHere = async (directory: string): Promise<string[]> =>
  versionsOf(await readdir(join(directory, "migrations")).catch(() => []));

const versionsOf = (files: readonly string[]) => files.flatMap((file) => /^(\d+).*\.sql$/.exec(file)?.[1] ?? []).sort();

/** @throws {Failure} exit 3 with dbmate's words: the restored database stays behind, and the live one as it is. */
export async function applyMigrations(migrating: Migrating): Promise<void> {
  try {
    await (migrating.place.inStack ? throughStack(migrating) : fromHere(migrating));
  } catch (error) {
    if (migrating.interrupted.aborted || !(error instanceof Failure)) throw error;
    const { what, why, details, read } = error;
    const extra = { ...(details && { details }), ...(read && { read }) };
    throw new Failure(what, why, [], { exitCode: exitCodes.saidNo, cause: error, ...extra });
  }
}

/** dbmate knows no last version: it gets a folder with those files alone. /dev/shm is the one place that it can write to. */
const upTo = `mkdir /dev/shm/migrations && for file in /db/migrations/*.sql; do
  version=$(basename "$file" | sed 's/[^0-9].*//')
  if [ -n "$version" ] && ! [ "$version" \\> "$1" ]; then cp "$file" /dev/shm/migrations/; fi
done && exec dbmate --migrations-dir /dev/shm/migrations up --strict`;

async function throughStack({ place, target, toVersion, onLine }: Migrating): Promise<void> {
  const url = `postgres://postgres:5432/${encodeURIComponent(target)}?sslmode=disable`;
  const words = [
    ...["docker", "compose", "run", "--rm", "--no-deps", "--no-TTY", "--quiet-pull"],
    ...["--env", `PGDATABASE=${target}`, "--env", `DATABASE_URL=${url}`],
    ...(toVersion ? ["--entrypoint", "sh", "migrations", "-c", upTo, "sh", toVersion] : ["migrations"]),
  ];
  const { exitCode, stdout, stderr } = await run({
    ...place.inStack!(words),
    ...{ timeoutSeconds: migrateSeconds, accept: [0, 1, 2, 125, 126, 127] },
  });
  const lines = `${stdout}${stderr}`.split("\n").filter(Boolean);
  if (exitCode !== 0) throw migrationFailure(lines, exitCode);
  for (const line of lines.filter((it) => it.startsWith("Applied: "))) onLine(line);
}

async function fromHere({ place, directory, target, toVersion, interrupted, onLine }: Migrating): Promise<void> {
  const connection = place.connection!;
  const job = { project: directory, database: { ...connection, database: target }, interrupted, onLine };
  if (!toVersion) return await migrate(job);
  const files = await mkdtemp(join(tmpdir(), "dbops-migrations-"));
  try {
    for (const file of await readdir(join(directory, "migrations"))) {
      const version = /^(\d+).*\.sql$/.exec(file)?.[1];
      if (version && version <= toVersion) await cp(join(directory, "migrations", file), join(files, file));
    }
    await migrate({ ...job, files });
  } finally {
    await rm(files, { recursive: true, force: true });
  }
}
