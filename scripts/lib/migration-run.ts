// Runs dbmate with exactly the files that were read and checked, wherever Postgres is: whatever happens to migrations/ meanwhile.
import { tmpdir } from "node:os";
import { archive } from "./archive.ts";
import { databaseUrl, dbmateEnvironment, findDbmate, isUntrue, timeoutsFor } from "./dbmate.ts";
import type { MigrationFile } from "./migration-file.ts";
import { sessionName } from "./migration-lock.ts";
import type { Client, Place } from "./place.ts";
import { start } from "./run.ts";
import { within } from "./wait.ts";

export type DbmateRun = {
  place: Place;
  /** Instead of the one that the app uses. */
  database?: string;
  /** Of the project: its node_modules have dbmate, where that is not a container. */
  directory: string;
  files: readonly MigrationFile[];
  words: readonly ["up", "--strict"] | readonly ["rollback"];
  /** Instead of those of everything, where waiting stops nobody. */
  lockTimeoutSeconds?: number | undefined;
  interrupted: AbortSignal;
  onLine: (line: string) => void;
};

export type DbmateEnd = { code: number | NodeJS.Signals; lines: string[] };

/** An index on a big table takes its time. */
const runSeconds = 6 * 3600;

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

/** What became of the database, its exit code does not say: whoever calls this looks. @throws {Failure} when it cannot be started. */
export async function runDbmate(job: DbmateRun): Promise<DbmateEnd> {
  const { interrupted, onLine } = job;
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
  const end = () => program.endInput();
  interrupted.addEventListener("abort", end);
  try {
    const code = await within({ seconds: runSeconds }, program.ended, { what: "dbmate", next: [statusCommand] });
    return { code, lines };
  } finally {
    interrupted.removeEventListener("abort", end);
    end();
    await program.stop("SIGTERM", 20);
  }
}

const statusCommand = "bun scripts/migrate.ts status";

function commandFor(job: DbmateRun, bytes: number): Client & { directory?: string } {
  const { place, directory, words, lockTimeoutSeconds, database = place.database } = job;
  const limits = lockTimeoutSeconds ? timeoutsFor(lockTimeoutSeconds) : undefined;
  if (!place.inStack) {
    const work = [tmpdir(), `${bytes}`, findDbmate(directory), ...words];
    const connection = { ...place.connection!, database };
    const environment = { ...dbmateEnvironment(connection, process.env, limits), PGAPPNAME: sessionName };
    return { argv: ["sh", "-c", script, "sh", ...work], environment, directory };
  }
  const compose = ["docker", "compose", "--progress", "quiet", "run"];
  // Said here as well: .env may name another one since Postgres was started, and dbmate would make that.
  const url = databaseUrl({ host: "postgres", port: 5432, database }, "disable");
  const variables = [`PGAPPNAME=${sessionName}`, `PGDATABASE=${database}`, `DATABASE_URL=${url}`];
  if (limits) variables.push(`PGOPTIONS=${limits}`);
  const options = ["--rm", "--no-deps", "--no-TTY", "--quiet-pull", ...variables.flatMap((it) => ["--env", it])];
  // The one place that it can write to.
  const work = ["/dev/shm", `${bytes}`, "dbmate", ...words];
  return place.inStack([...compose, ...options, "--entrypoint", "sh", "migrations", "-c", script, "sh", ...work]);
}
