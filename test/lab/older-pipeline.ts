// What stands in many a crontab, as it stands there: pg_dump | gzip | gpg into a file, the file into a bucket; and back by
// gpg | gunzip | psql. In sh, which knows no pipefail. For a comparison of what it notices with what the kit does.
//   const older = await openOlderPipeline(folder, environment);   await older.backup();   await older.restore("database");
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { run } from "../../scripts/lib/run.ts";

type Environment = Readonly<Record<string, string | undefined>>;

export type OlderPipeline = {
  /** @param changes DISK is a folder that has 256 kB of room. @returns the exit code. */
  backup(changes?: Environment): Promise<number>;
  /** Of the object in the bucket, into an empty database of that name. @returns the exit code. */
  restore(database: string, changes?: Environment): Promise<number>;
  close(): Promise<void>;
};

const curl =
  'curl --fail --silent --aws-sigv4 aws:amz:us-east-1:s3 --header "x-amz-content-sha256: UNSIGNED-PAYLOAD" --user "$BUCKET_KEY"';
const upload = `${curl} --upload-file "$FILE" "$URL"`;
const download = `${curl} --output "$FILE.back" "$URL"`;
const gpg = "gpg --batch --yes --quiet --pinentry-mode loopback --passphrase-file passphrase.txt";

const backupScript = `pg_dump "$PGDATABASE" | gzip | ${gpg} --symmetric --output "$FILE" && ${upload}`;
const restoreScript = `${download} && ${gpg} --decrypt "$FILE.back" | gunzip | psql --quiet`;

/** @param environment of Postgres' programs, with BUCKET_KEY ("id:secret") and the object's URL. */
export async function openOlderPipeline(
  folder: string,
  environment: Environment,
  passphrase: string,
): Promise<OlderPipeline> {
  const home = join(folder, "older");
  mkdirSync(home, { recursive: true, mode: 0o700 });
  writeFileSync(join(home, "passphrase.txt"), passphrase);
  const own = { ...environment, GNUPGHOME: home, FILE: join(home, "backup.sql.gz.gpg") };
  const sh = async (script: string, changes: Environment = {}) => {
    const all = { ...own, ...changes };
    if (changes.PASSPHRASE !== undefined) writeFileSync(join(home, "passphrase.txt"), changes.PASSPHRASE);
    const line = `${script}; echo $? > code`;
    // Full for this one alone, and gone with it.
    const full = 'mkdir -p "$DISK" && mount -t tmpfs -o size=256k none "$DISK" || exit';
    const argv = changes.DISK ? ["unshare", "--mount", "sh", "-c", `${full}\n${line}`] : ["sh", "-c", line];
    await run({ argv, directory: home, environment: all, timeoutSeconds: 100 });
    writeFileSync(join(home, "passphrase.txt"), passphrase);
    return Number(readFileSync(join(home, "code"), "utf8"));
  };
  return {
    backup: (changes) => sh(backupScript, changes),
    restore: (PGDATABASE, changes) => sh(restoreScript, { ...changes, PGDATABASE }),
    async close() {
      await run({ argv: ["gpgconf", "--kill", "all"], environment: { GNUPGHOME: home } });
    },
  };
}
