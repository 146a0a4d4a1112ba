// Runs dbmate with exactly the files that were read and checked, wherever Postgres is: whatever happens to migrations/ meanwhile.
import { tmpdir } from "node:os";
import { archive } from "./archive.ts";
import { databaseUrl, dbmateEnvironment, findDbmate, isUntrue, timeoutsFor } from "./dbmate.ts";
import { formatSeconds } from "./figures.ts";
import type { MigrationFile } from "./migration-file.ts";
import { sessionName } from "./migration-lock.ts";
import type { Client, Place } from "./place.ts";
import { start } from "./run.ts";
import { within } from "./wait.ts";

export type DbmateRun = {
  place: Place;
  /** Of the project: its node_modules have dbmate, where that is not a container. */
  directory: string;
  files: readonly MigrationFile[];
  words: readonly ["up", "--strict"] | readonly ["rollback"];
  /** Instead of those of everything, where waiting stops nobody. */
  lockTimeoutSeconds?: number | undefined;
  /** Default 6 hours: an index on a big table takes its time. */
  timeoutSeconds?: number;
  interrupted: AbortSignal;
  onLine: (line: string) => void;
};

export type DbmateEnd = {
  code: number | NodeJS.Signals;
  lines: string[];
  /** It did not end by itself: what it has begun in Postgres may go on. */
  isCutOff?: boolean;
};

const runSeconds = 6 * 3600;
/** Told to end, it tidies up; and is killed after that, with what runs Docker for it, which may hang. */
const tidySeconds = 10;
const killSeconds = 5;

/**
 * For any sh, also that of a container: where to work, how many bytes of tar come first on stdin, dbmate, and its words. dbmate ends when
 * stdin does, which is when we end, however that is: else it would go on without the lock.
 */
const script = [
  "exec 3<&0",
  // What it says may find nobody any more, and it has to tidy up all the same.
  "trap : PIPE",
  `folder=$(mktemp -d "$1/dbops-migrations.XXXXXX") || exit 126`,
  `trap 'rm -rf "$folder"' EXIT`,
  `head -c "$2" >"$folder/files.tar" && [ "$(wc -c <"$folder/files.tar")" -eq "$2" ] && tar -x -f "$folder/files.tar" -C "$folder" || exit 126`,
  "program=$3; shift 3",
  `"$program" --env-file "" --migrations-dir "$folder" --migrations-table schema_migrations --no-dump-schema "$@" </dev/null 3<&- & dbmate=$!`,
  `{ while read -r _; do :; done; kill "$dbmate"; } <&3 >/dev/null 2>&1 & watch=$!`,
  'code=0; wait "$dbmate" || code=$?',
  'kill "$watch"',
  'exit "$code"',
].join("\n");

/**
 * Interrupted, or out of time, it is ended, which takes 15 s at most. What became of the database, its exit code does not say: whoever
 * calls this looks.
 * @throws {Failure} when it cannot be started.
 */
export async function runDbmate(job: DbmateRun): Promise<DbmateEnd> {
  const { interrupted, onLine, timeoutSeconds = runSeconds } = job;
  interrupted.throwIfAborted();
  const files = archive(job.files.map(({ file, text }) => ({ path: file, content: Buffer.from(text) })));
  const lines: string[] = [];
  const program = await start({
    ...commandFor(job, files.length),
    input: true,
    ownGroup: true,
    onLine(line) {
      lines.push(line);
      if (!isUntrue(line)) onLine(line);
    },
  });
  program.write(files);
  const endsWithin = (seconds: number, until?: AbortSignal) =>
    within({ seconds, ...(until && { interrupted: until }) }, program.ended, { what: "dbmate", next: [] }).then(
      () => true,
      () => false,
    );
  const hasEnded = await endsWithin(timeoutSeconds, interrupted);
  program.endInput();
  if (!hasEnded) await endsWithin(tidySeconds);
  await program.stop("SIGTERM", killSeconds);
  const code = await program.ended;
  if (hasEnded) return { code, lines };
  if (!interrupted.aborted) lines.push(`Error: it was not done within ${formatSeconds(timeoutSeconds)}, and was ended`);
  return { code, lines, isCutOff: true };
}

function commandFor(job: DbmateRun, bytes: number): Client & { directory?: string } {
  const { place, directory, words, lockTimeoutSeconds } = job;
  const limits = lockTimeoutSeconds ? timeoutsFor(lockTimeoutSeconds) : undefined;
  if (!place.inStack) {
    const work = [tmpdir(), `${bytes}`, findDbmate(directory), ...words];
    const environment = { ...dbmateEnvironment(place.connection!, process.env, limits), PGAPPNAME: sessionName };
    return { argv: ["sh", "-c", script, "sh", ...work], environment, directory };
  }
  const compose = ["docker", "compose", "--progress", "quiet", "run"];
  // Said here as well: .env may name another one since Postgres was started, and dbmate would make that.
  const url = databaseUrl({ host: "postgres", port: 5432, database: place.database }, "disable");
  const variables = [`PGAPPNAME=${sessionName}`, `PGDATABASE=${place.database}`, `DATABASE_URL=${url}`];
  if (limits) variables.push(`PGOPTIONS=${limits}`);
  const options = ["--rm", "--no-deps", "--no-TTY", "--quiet-pull", ...variables.flatMap((it) => ["--env", it])];
  // The one place that it can write to.
  const work = ["/dev/shm", `${bytes}`, "dbmate", ...words];
  return place.inStack([...compose, ...options, "--entrypoint", "sh", "migrations", "-c", script, "sh", ...work]);
}
