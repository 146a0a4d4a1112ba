// A restore with its proof, beside `gpg -d | gunzip | psql` into a new database; and how long its swap keeps eight clients waiting.
// Of a database of more than 1 GB; on one machine that is database, client and storage at once.   npm run bench -- restore
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { flow } from "../../scripts/lib/flow.ts";
import { run } from "../../scripts/lib/run.ts";
import { interruption } from "../../scripts/lib/wait.ts";
import { startClients } from "../lab/clients.ts";
import { type Measured, measureVerb } from "./backup/kit.ts";
import { type BackupStand, gpgWords, mebibytes, olderDump, withLoadedDatabase } from "./backup/stand.ts";
import { median, table } from "./deploy/numbers.ts";

const rounds = 3;
const older = "older.sql.gz.gpg";

export async function bench(): Promise<void> {
  const interrupted = interruption();
  const home = await mkdtemp(join(tmpdir(), "dbops-gpg-"));
  try {
    await withLoadedDatabase(async (stand) => {
      await measureVerb(stand.lab, "backup", []);
      await withGpg(stand, home, () => makeOlder(stand, home));
      const own: Measured[] = [];
      const olderSeconds: number[] = [];
      for (let round = 0; round < rounds; round++) {
        interrupted.throwIfAborted();
        own.push(await measureVerb(stand.lab, "restore", ["latest", "--into", "look"]));
        await stand.lab.sql("drop database look", "postgres");
        olderSeconds.push(await withGpg(stand, home, () => measureOlder(stand, home)));
        await stand.lab.sql("drop database look", "postgres");
      }
      const swaps: Swap[] = [];
      for (let round = 0; round < rounds; round++) {
        interrupted.throwIfAborted();
        swaps.push(await measureSwap(stand));
      }
      report(stand, own, olderSeconds, swaps);
    });
  } finally {
    await rm(home, { recursive: true, force: true });
  }
}

async function withGpg<T>({ lab }: BackupStand, home: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } finally {
    await run({ argv: ["gpgconf", "--kill", "all"], environment: { ...lab.environment, GNUPGHOME: home } });
  }
}

async function makeOlder({ lab, container }: BackupStand, home: string): Promise<void> {
  const environment = { ...lab.environment, GNUPGHOME: home };
  const gpg = { name: "gpg", argv: [...gpgWords, "--symmetric", "--output", "-"], secret: lab.passphrase };
  const stages = [...olderDump(container), gpg].map((stage) => ({ ...stage, environment }));
  await (await lab.store()).put(older, flow(stages).output);
}

/** From the same bucket, into a database that has just been created. Nothing is compared. */
async function measureOlder({ lab, container }: BackupStand, home: string): Promise<number> {
  const environment = { ...lab.environment, GNUPGHOME: home };
  const psql = ["docker", "exec", "--interactive", container, "psql", "--quiet", "--set=ON_ERROR_STOP=1"];
  const stages = [
    { name: "gpg", argv: [...gpgWords, "--decrypt"], secret: lab.passphrase },
    { name: "gunzip", argv: ["gunzip"] },
    { name: "psql", argv: [...psql, "--username=dbops_app", "--dbname=look"] },
  ].map((stage) => ({ ...stage, environment }));
  const store = await lab.store();
  const begun = performance.now();
  await lab.sql("create database look", "postgres");
  for await (const _ of flow(stages, { input: store.get(older), stallSeconds: Number.POSITIVE_INFINITY }).output);
  return (performance.now() - begun) / 1000;
}

type Swap = { usualMilliseconds: number; longestMilliseconds: number; failed: number };

/** A whole restore under eight clients; what they wait while it loads is the processors' fault, and told apart. */
async function measureSwap({ lab }: BackupStand): Promise<Swap> {
  const { PGHOST: host, PGPORT: port, PGUSER: user, PGPASSWORD: password } = lab.postgres as Record<string, string>;
  const clients = await startClients(
    { host: host!, port: Number(port), user: user!, password: password!, database: "dbops_app" },
    8,
  );
  let usualMilliseconds = 0;
  try {
    await measureVerb(lab, "restore", ["latest", "--yes", "--no-safety-backup"], (line) => {
      if (/done +validate/.test(line)) usualMilliseconds = clients.mark().longestGapMilliseconds;
    });
    await clients.allServed();
    const { longestGapMilliseconds, failed } = await clients.stop();
    return { usualMilliseconds, longestMilliseconds: longestGapMilliseconds, failed };
  } finally {
    await clients.stop().catch(() => {});
    await measureVerb(lab, "restore", ["--undo", "--yes"]);
  }
}

function report(
  { databaseBytes }: BackupStand,
  own: readonly Measured[],
  olderSeconds: readonly number[],
  swaps: readonly Swap[],
): void {
  const seconds = median(own.map((one) => one.seconds));
  const other = median(olderSeconds);
  const rate = (of: number) => `${(databaseBytes / 2 ** 20 / of).toFixed(0)} MiB/s`;
  console.log(`a database of ${mebibytes(databaseBytes)}; ${rounds} rounds, in turns`);
  console.log(
    table([
      ["", "seconds", "of the database", "restore / it"],
      ["restore, with its proof", seconds.toFixed(2), rate(seconds), ""],
      ["gpg -d | gunzip | psql", other.toFixed(2), rate(other), (seconds / other).toFixed(2)],
    ]),
  );
  const peak = Math.max(...own.map(({ peakBytes }) => peakBytes));
  console.log(`  the process took at most ${mebibytes(peak)} of memory`);
  console.log(
    table([
      ["the swap, seen by 8 clients", "ms", "queries failed", "longest while it loaded"],
      ...swaps.map(({ longestMilliseconds, failed, usualMilliseconds }, n) => [
        `  round ${n + 1}`,
        longestMilliseconds.toFixed(0),
        `${failed}`,
        `${usualMilliseconds.toFixed(0)} ms`,
      ]),
    ]),
  );
  console.log(`  to restore in place keeps them waiting for all of its time: ${other.toFixed(0)} s`);
}
