// The command lines of a backup, as data: which programs, with which options, and why.
import { Failure } from "./failure.ts";
import type { Stage } from "./flow.ts";
import type { Place } from "./place.ts";
import { run } from "./run.ts";

export type DumpOptions = {
  format: "custom" | "plain";
  /** Patterns of pg_dump; undefined for the whole database. */
  tables?: readonly string[] | undefined;
  /** Exported by a transaction that is still open. */
  snapshot: string;
};

export type Clients = {
  /** "pg_dump (PostgreSQL) 18.1" */
  pgDump: string;
  major: number;
};

/**
 * Asks pg_dump for its version, which must not be older than the server's.
 * @throws {Failure} exit 2 naming the package that is missing or too old.
 */
export async function readClients(place: Place, serverVersionNumber: number): Promise<Clients> {
  const serverMajor = Math.floor(serverVersionNumber / 10_000);
  const { stdout } = await run({ ...place.client(["pg_dump", "--version"]), accept: [0] }).catch((error: Failure) => {
    const missing = error instanceof Failure && error.why.includes("not installed");
    if (!missing) throw error;
    throw clientsUnfit(`"pg_dump" is not installed on ${place.name}`, serverMajor);
  });
  const major = Number(/(\d+)[.\w]*/.exec(stdout)?.[1]);
  if (major < serverMajor)
    throw clientsUnfit(`its pg_dump is of version ${major}, the server of ${serverMajor}`, serverMajor);
  return { pgDump: stdout.trim(), major };
}

function clientsUnfit(why: string, serverMajor: number): Failure {
  const next = [`apt-get install postgresql-client-${serverMajor}      # or: brew install postgresql@${serverMajor}`];
  return new Failure("Cannot dump the database", why, next, { exitCode: 2 });
}

/** pg_dump of the snapshot, to its stdout. */
export function dumpStage(place: Place, { format, tables, snapshot }: DumpOptions, { major }: Clients): Stage {
  const words = [
    "pg_dump",
    `--format=${format}`,
    `--snapshot=${snapshot}`,
    // We hold all the locks that it needs. It can only wait behind somebody who waits for us, and with it waits the whole app.
    "--lock-wait-timeout=2s",
    ...(tables ?? []).map((pattern) => `--table=${pattern}`),
    // Five times as fast as the default gzip, and smaller (measured); for older ones the quickest gzip.
    ...(format === "custom" ? [major >= 16 ? "--compress=zstd:1" : "--compress=1"] : []),
    // What the planner knows comes along, so that the first queries after a restore are not the slowest.
    ...(major >= 18 && format === "custom" ? ["--statistics"] : []),
  ];
  return { name: "pg_dump", ...place.supervised(words), heartbeat: true };
}

/** Roles and tablespaces, which belong to no database. Without their passwords where we may not read them. */
export function globalsStage(place: Place, isSuperuser: boolean): Stage {
  const words = ["pg_dumpall", "--globals-only", ...(isSuperuser ? [] : ["--no-role-passwords"])];
  return { name: "pg_dumpall", ...place.supervised(words), heartbeat: true };
}

/** SQL text is an eighth of its size then, and everybody has gunzip. */
export const gzipStage: Stage = { name: "gzip", argv: ["gzip", "--stdout"] };
