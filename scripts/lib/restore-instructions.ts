// RESTORE.txt: how to bring a backup back with nothing but gpg and Postgres' own programs. Lies beside every backup, unencrypted.
import { decryptByHand } from "./gpg.ts";
import type { Manifest } from "./manifest.ts";

type Known = Pick<Manifest, "id" | "database" | "at" | "format" | "tables" | "encryption" | "server" | "settings"> & {
  dump: string;
  globals: string;
  /** The name of the passphrase's variable. */
  passphraseFrom: string;
};

export function restoreInstructions(known: Known): string {
  const { id, database, at, format, tables, encryption, server, settings, dump, globals, passphraseFrom } = known;
  const major = Math.floor(server.versionNumber / 10_000);
  const decrypt = (file: string) => decryptByHand(encryption.kind, file);
  const key =
    encryption.kind === "passphrase"
      ? `The passphrase is ${passphraseFrom} of the project's secrets. Write it into passphrase.txt, without a line break at its end\n(printf %s 'the passphrase' > passphrase.txt), and delete that file afterwards.`
      : `The private key of one of these has to be in your keyring: ${encryption.recipients?.join(", ")}`;
  const restore =
    format === "custom"
      ? `${decrypt(dump)} | pg_restore --exit-on-error --single-transaction --dbname=${database}_restored`
      : `${decrypt(dump)} | gunzip | psql --single-transaction --set=ON_ERROR_STOP=1 --dbname=${database}_restored`;
  return `Backup ${id} of the database "${database}", as it was at ${at}${tables ? `; only the tables ${tables.join(", ")}` : ""}

${key}

Type all of it into one bash, after this line: without it nobody would hear of a gpg that stops half-way.
     set -o pipefail

1. Is it whole? manifest.json has the sha256 of each file.
     sha256sum ${dump}
2. Is it readable? Reads all of it, and writes nothing.
     ${decrypt(dump)} | ${format === "custom" ? "pg_restore --file=/dev/null" : "gunzip > /dev/null"} && echo readable
3. Roles, on a new server only, because it also gives them the passwords of then; "already exists" is no problem.
     ${decrypt(globals)} | psql --dbname=postgres
4. Into a new database, never into the live one (PostgreSQL ${major} or newer, and its own programs):
     createdb --template=template0 --encoding=${server.encoding} --owner=${settings.owner} ${database}_restored
     ${restore} && echo restored
5. Look at it: the numbers of rows stand in manifest.json, and under "settings" what belongs to the database itself (ALTER DATABASE … SET,
   grants on it), which you have to set again. Then let the app use it:
     psql --dbname=postgres --command='alter database "${database}" rename to "${database}_before"' \\
       --command='alter database "${database}_restored" rename to "${database}"'

With the kit: bun scripts/restore.ts ${id}
In the stack's container: docker compose exec -T postgres sh -c 'pg_restore …', with --username="$POSTGRES_USER"; docs/runbook/restore-by-hand.md
`;
}
