// The roles and tablespaces of a backup, for the container of a drill: what `pg_dumpall --globals-only` has written, nearly as it is.
import type { Backup } from "./backup-list.ts";
import { openBackup, type ReadingValues } from "./backup-values.ts";
import { flow } from "./flow.ts";
import { explainGpg, openGpg } from "./gpg.ts";
import { hashed } from "./hashed.ts";
import type { Manifest } from "./manifest.ts";
import type { Place } from "./place.ts";
import { quoteIdentifier } from "./psql.ts";
import { run } from "./run.ts";
import type { Store } from "./s3.ts";

/** @throws {Failure} exit 3 when they are not what was stored, or cannot be decrypted. */
export async function readGlobals(
  { manifest, folder }: Backup,
  store: Store,
  values: ReadingValues,
  directory: string,
  interrupted: AbortSignal,
): Promise<string> {
  const key = `${folder}/${manifest.globals.name}`;
  // Whole before gpg sees it: what gpg says then is about the key, and not about bytes that have changed.
  const input = await collected(hashed(store.get(key, { interrupted }), manifest.globals, key));
  const gpg = await openGpg(openBackup(manifest, values), directory);
  try {
    const text = await collected(flow([gpg.decrypt()], { input: once(input), interrupted }).output);
    return text.toString("utf8");
  } catch (error) {
    throw explainGpg(error);
  } finally {
    await gpg.close();
  }
}

async function collected(bytes: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of bytes) chunks.push(chunk);
  return Buffer.concat(chunks);
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array, void> {
  yield bytes;
}

/**
 * The first superuser of the original: everything that is said about it has to fit here. Postgres keeps no record of what it owns,
 * so that an owner who is none of the roles is the one; else the only superuser there was.
 */
export function superuserOf({ roles, settings }: Pick<Manifest, "roles" | "settings">, text: string): string {
  if (!roles.includes(settings.owner)) return settings.owner;
  const names = [...text.matchAll(/^ALTER ROLE (?:"((?:[^"]|"")+)"|(\S+)) WITH SUPERUSER /gm)];
  const [first, ...others] = names.map(([, quoted, plain]) => quoted?.replaceAll('""', '"') ?? plain!);
  return first !== undefined && others.length === 0 ? first : "postgres";
}

/**
 * Without the first superuser, which is there and keeps its own password; and tablespaces lie beside all other data, because the
 * disks of the original are not here.
 */
export function globalsScript(text: string, superuser: string): string {
  const isFirst = [superuser, quoteIdentifier(superuser)].flatMap((name) => [
    `CREATE ROLE ${name};`,
    `ALTER ROLE ${name} WITH `,
  ]);
  const lines = text.split("\n").filter((line) => !isFirst.some((beginning) => line.startsWith(beginning)));
  const script = lines.join("\n").replaceAll(/^(CREATE TABLESPACE .+ LOCATION) '(?:[^']|'')*';$/gm, "$1 '';");
  return `set allow_in_place_tablespaces = on;\n${script}`;
}

/** @returns what Postgres did not accept, a line each: a role may have what this version no longer knows. */
export async function applyGlobals(place: Place, script: string, interrupted: AbortSignal): Promise<string[]> {
  // Terse: else it would repeat the statement that failed, and with it the hash of a password.
  const words = ["--set=ON_ERROR_STOP=0", "--set=VERBOSITY=terse", "--output=/dev/null"];
  const psql = place.client(["psql", "--no-psqlrc", "--no-password", "--quiet", ...words]);
  const { stderr } = await run({ ...psql, stdin: script, timeoutSeconds: 300, interrupted });
  return stderr.split("\n").flatMap((line) => /ERROR: +(.+)/.exec(line)?.[1] ?? []);
}
