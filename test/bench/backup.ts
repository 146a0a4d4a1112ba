// A whole backup, encrypted and in the bucket, beside pg_dump that writes to nowhere, and beside `pg_dump | gzip | gpg` and an upload.
// Of a database of more than 1 GB; on one machine that is database, client and storage at once.   npm run bench -- backup
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { flow } from "../../scripts/lib/flow.ts";
import { run } from "../../scripts/lib/run.ts";
import { interruption } from "../../scripts/lib/wait.ts";
import { type Measured, measureVerb } from "./backup/kit.ts";
import { type BackupStand, gpgWords, inProject, mebibytes, olderDump, withLoadedDatabase } from "./backup/stand.ts";
import { median, table } from "./deploy/numbers.ts";

const rounds = 3;

export async function bench(): Promise<void> {
  const interrupted = interruption();
  await withLoadedDatabase(async (stand) => {
    const own: Measured[] = [];
    const dumpSeconds: number[] = [];
    for (let round = 0; round < rounds; round++) {
      interrupted.throwIfAborted();
      dumpSeconds.push(await measureDump(stand));
      own.push(await measureVerb(stand.lab, "backup", []));
    }
    const older = await measureOlder(stand);
    report(stand, own, dumpSeconds, older);
  });
}

/** Inside the container: not even the bytes of the archive leave it. */
async function measureDump({ lab, container }: BackupStand): Promise<number> {
  const dump = "pg_dump --username=dbops_app --format=custom --compress=zstd:1 dbops_app > /dev/null";
  const argv = ["docker", "exec", container, "sh", "-c", dump];
  return (await run({ argv, ...inProject(lab), timeoutSeconds: 600 })).seconds;
}

/** Without a temporary file and with our own upload, which is more than the cron line has. */
async function measureOlder({ lab, container }: BackupStand): Promise<{ seconds: number; bytes: number }> {
  const home = await mkdtemp(join(tmpdir(), "dbops-gpg-"));
  const environment = { ...lab.environment, GNUPGHOME: home };
  const gpg = { name: "gpg", argv: [...gpgWords, "--symmetric", "--output", "-"], secret: lab.passphrase };
  const stages = [...olderDump(container), gpg].map((stage) => ({ ...stage, environment }));
  const begun = performance.now();
  try {
    const { bytes } = await (await lab.store()).put("older.sql.gz.gpg", flow(stages).output);
    return { seconds: (performance.now() - begun) / 1000, bytes };
  } finally {
    await run({ argv: ["gpgconf", "--kill", "all"], environment });
    await rm(home, { recursive: true, force: true });
  }
}

function report(
  { databaseBytes }: BackupStand,
  own: readonly Measured[],
  dumpSeconds: readonly number[],
  older: { seconds: number; bytes: number },
): void {
  const seconds = median(own.map((one) => one.seconds));
  const dump = median(dumpSeconds);
  const { bytes } = own[0]!.document.dump as { bytes: number };
  const rate = (of: number) => `${(databaseBytes / 2 ** 20 / of).toFixed(0)} MiB/s`;
  console.log(`a database of ${mebibytes(databaseBytes)}; ${rounds} rounds, in turns; the older way once`);
  console.log(
    table([
      ["", "seconds", "of the database", "object", "backup / it"],
      ["backup, whole", seconds.toFixed(2), rate(seconds), mebibytes(bytes), ""],
      ["pg_dump zstd:1 > /dev/null", dump.toFixed(2), rate(dump), "", (seconds / dump).toFixed(2)],
      [
        "pg_dump | gzip | gpg, upload",
        older.seconds.toFixed(2),
        rate(older.seconds),
        mebibytes(older.bytes),
        (seconds / older.seconds).toFixed(2),
      ],
    ]),
  );
  const peak = Math.max(...own.map(({ peakBytes }) => peakBytes));
  const ratio = (bytes / older.bytes).toFixed(2);
  console.log(
    `  the object is ${ratio} of the older one's size; the process took at most ${mebibytes(peak)} of memory`,
  );
}
