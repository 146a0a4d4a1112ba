// Brings the bytes of a backup into an empty database: read, decrypt, and pg_restore or psql where Postgres is, in one stream. Whatever
// goes wrong on the way throws; the database is then good for nothing, and nobody uses it.
import { exitCodes, Failure } from "./failure.ts";
import { flow, type Stage } from "./flow.ts";
import { explainGpg } from "./gpg.ts";
import type { Place } from "./place.ts";
import type { Progress } from "./progress.ts";
import { explainDisk } from "./restore-disk.ts";
import type { OpenSource } from "./restore-source.ts";
import { untilTrailer } from "./sql-text.ts";
import type { TransferMeter } from "./transfer-meter.ts";

export type Loading = {
  place: Place;
  source: OpenSource;
  target: string;
  /** Of the server's own pg_restore. */
  major: number;
  meter: TransferMeter;
  progress: Progress;
  interrupted: AbortSignal;
};

/** @throws {Failure} exit 3 when the backup is not what it should be, or nothing that can be restored. */
export async function load(loading: Loading): Promise<void> {
  const { source, interrupted, meter } = loading;
  try {
    await (source.format === "custom" ? loadArchive(loading) : loadText(loading));
  } catch (error) {
    const failure = explainGpg(error);
    if (interrupted.aborted || failure.exitCode !== exitCodes.failed) throw failure;
    const explained = explainDisk(`Cannot restore ${source.name}`, failure);
    if (explained !== failure) throw explained;
    throw await whyReally(loading, failure);
  } finally {
    meter.end();
  }
}

async function loadArchive(loading: Loading): Promise<void> {
  const { source, interrupted } = loading;
  const stages = [...source.stages(), archiveStage(loading)];
  await drain(flow(stages, { input: counted(loading), interrupted, stallSeconds: Number.POSITIVE_INFINITY }).output);
}

/** Every byte is looked at before psql gets it: only its last line tells that it is whole. */
async function loadText(loading: Loading): Promise<void> {
  const { source, interrupted, place, target } = loading;
  const options = { interrupted, stallSeconds: Number.POSITIVE_INFINITY };
  const stages = source.stages();
  const text = stages.length > 0 ? flow(stages, { input: counted(loading), ...options }).output : counted(loading);
  const psql = textStage(place, target);
  await drain(flow([psql], { input: untilTrailer(staysHere(text, source.name)), ...options }).output);
}

/**
 * Above so many tables one transaction would need more locks than Postgres keeps room for by default; into a database of its own,
 * which is thrown away if anything fails, several are as good.
 */
const tablesInOneTransaction = 1000;

/** For this session alone: a crash of the server during a restore loses what is begun again anyway. */
const faster = "-c synchronous_commit=off -c maintenance_work_mem=256MB -c statement_timeout=0 -c lock_timeout=0";

/**
 * pg_restore stops once it has what it needs, and behind it gpg with its output full, which alone knows at the end of it whether all
 * of it is genuine.
 */
const toItsEnd = ["sh", "-c", '"$@" && cat > /dev/null', "sh"];

export function archiveStage({
  place,
  target,
  source,
  major,
}: Pick<Loading, "place" | "target" | "source" | "major">): Stage {
  const tables = Object.keys(source.manifest?.rows ?? {}).length;
  const transaction =
    tables <= tablesInOneTransaction ? ["--single-transaction"] : major >= 17 ? ["--transaction-size=1000"] : [];
  const words = ["pg_restore", "--no-password", "--exit-on-error", ...transaction, `--dbname=${target}`];
  return { name: "pg_restore", ...place.client(["env", `PGOPTIONS=${faster}`, ...toItsEnd, ...words], target) };
}

export function textStage(place: Place, target: string): Stage {
  const words = ["psql", "--no-psqlrc", "--no-password", "--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1"];
  return { name: "psql", ...place.client(["env", `PGOPTIONS=${faster}`, ...words, "--output=/dev/null"], target) };
}

async function* counted({ source, meter, interrupted }: Loading): AsyncGenerator<Uint8Array, void> {
  let bytes = 0;
  for await (const chunk of source.read(interrupted)) {
    bytes += chunk.length;
    meter.at(bytes, source.bytes);
    yield chunk;
  }
}

/** Text that `pg_dump --create` or pg_dumpall wrote connects to the database that it names, which may be the live one. */
async function* staysHere(text: AsyncIterable<Uint8Array>, name: string): AsyncGenerator<Uint8Array, void> {
  let tail = Buffer.from("\n");
  for await (const chunk of text) {
    const together = Buffer.concat([tail, chunk]);
    if (together.includes("\n\\connect ")) {
      throw new Failure(
        `Cannot restore ${name}`,
        "it connects to a database by its name, which may be the live one",
        [],
        {
          exitCode: exitCodes.saidNo,
          details: "pg_dump wrote it with --create, or pg_dumpall did",
        },
      );
    }
    tail = together.subarray(-16);
    yield chunk;
  }
}

/**
 * pg_restore stumbles over bytes that have changed before their end is there, and with it their hash: that is the reason then. So it is
 * read once more, to its end.
 */
async function whyReally({ source, interrupted, progress }: Loading, failure: Failure): Promise<Failure> {
  try {
    if (source.manifest) {
      progress.note("looking whether the backup itself is damaged");
      await drain(source.read(interrupted));
    }
  } catch (error) {
    return explainGpg(error);
  }
  const { what, why, next, details, cause } = failure;
  return new Failure(what, why, next, { ...{ exitCode: exitCodes.saidNo, cause }, ...(details && { details }) });
}

async function drain(bytes: AsyncIterable<Uint8Array>): Promise<void> {
  for await (const _ of bytes);
}
