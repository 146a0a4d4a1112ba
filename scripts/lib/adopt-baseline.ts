// A migration that makes a database as it is now, from pg_dump: where the migrations that made it are code, or cannot be applied again.
import type { CatalogObject } from "./catalog-objects.ts";
import { Failure } from "./failure.ts";
import { ownSchema } from "./migration-record.ts";
import type { Place } from "./place.ts";
import { type Psql, quoteLiteral } from "./psql.ts";
import { run } from "./run.ts";

const dumpSeconds = 600;

export const baselineMark = (tool: string) => `-- Baseline: what ${tool} had made of the database.`;

type Wanted = {
  place: Place;
  psql: Psql;
  tool: string;
  /** As CatalogOptions.histories has them. */
  histories: readonly string[];
  objects: readonly CatalogObject[];
  interrupted: AbortSignal;
};

/** @returns the text of the file. @throws {Failure} exit 1 with pg_dump's words. */
export async function dumpBaseline({ place, psql, tool, histories, objects, interrupted }: Wanted): Promise<string> {
  const sequences = await ownedSequences(psql, histories);
  const leftOut = ["public.schema_migrations", ...histories, ...sequences];
  const argv = [
    ...["pg_dump", "--schema-only", "--encoding=UTF8", "--no-password", `--exclude-schema=${ownSchema}`],
    // They begin to copy as soon as they are made, and hold a password.
    "--no-subscriptions",
    // Who makes it owns it, as with any migration; unless there are several owners.
    ...(ownersOf(objects).every((owner) => owner === place.user) ? ["--no-owner"] : []),
    ...leftOut.map(exclusion),
  ];
  const dump = await run({ ...place.client(argv), timeoutSeconds: dumpSeconds, interrupted }).catch(
    (error: unknown) => {
      if (interrupted.aborted || !(error instanceof Failure)) throw error;
      const why = error.details?.split("\n").at(-1) ?? error.why;
      throw new Failure("Cannot dump the structure of the database", why, [], {
        details: error.details ?? "",
        cause: error,
      });
    },
  );
  return baselineText(dump.stdout, tool);
}

/** A pattern of pg_dump that means exactly this table, or with ".*" this schema. */
function exclusion(name: string): string {
  const dot = name.indexOf(".");
  const [schema, table] = [name.slice(0, dot), name.slice(dot + 1)];
  const quoted = (word: string) => `"${word.replaceAll('"', '""')}"`;
  return table === "*" ? `--exclude-schema=${quoted(schema)}` : `--exclude-table=${quoted(schema)}.${quoted(table)}`;
}

/** pg_dump leaves those of a table that it leaves out. */
async function ownedSequences(psql: Psql, histories: readonly string[]): Promise<string[]> {
  const rows = await psql.rows<{ name: string }>(
    `select n.nspname || '.' || s.relname as name from pg_catalog.pg_class s join pg_catalog.pg_namespace n on n.oid = s.relnamespace
     join pg_catalog.pg_depend d on d.classid = 'pg_class'::regclass and d.objid = s.oid and d.refclassid = 'pg_class'::regclass and d.deptype in ('a', 'i')
     join pg_catalog.pg_class t on t.oid = d.refobjid join pg_catalog.pg_namespace tn on tn.oid = t.relnamespace
     where s.relkind = 'S' and tn.nspname || '.' || t.relname = any (array[${histories.map(quoteLiteral).join(", ")}]::text[])`,
  );
  return rows.map(({ name }) => name);
}

/** "owner app as …": as catalog-objects.ts words it. Of schema public it is always Postgres' own role. */
const ownersOf = (objects: readonly CatalogObject[]): string[] =>
  objects
    .filter(({ kind, name }) => kind !== "schema" || name !== "public")
    .flatMap(({ definition }) => /^owner (\S+)/.exec(definition)?.[1] ?? []);

/** pg_dump's own settings: an empty search_path would be there still when dbmate writes the version down. */
const session =
  /^(SET (statement_timeout|lock_timeout|idle_in_transaction_session_timeout|transaction_timeout|client_encoding|standard_conforming_strings|check_function_bodies|xmloption|client_min_messages|row_security|default_tablespace|default_table_access_method) = |SELECT pg_catalog\.set_config\('search_path', '', false\);$)/;

/** With its options, among which is a password: the file goes into a repository. Quotes in it are doubled. */
const userMapping = /^CREATE USER MAPPING FOR (.+ SERVER .+?) OPTIONS \((?:'(?:[^']|'')*'|[^'])*?\);$/gm;

/** Without what is psql's own, and what differs from one dump to the next. Pure. */
export function baselineText(dump: string, tool: string): string {
  const body = dump
    .replaceAll("\r\n", "\n")
    .replace(userMapping, "-- Left out: the user mapping for $1, which may hold a password.")
    .replace(/^--\n-- PostgreSQL database dump(?: complete)?\n--\n/gm, "")
    .split("\n")
    .filter((line) => !/^\\(un)?restrict |^-- Dumped (from|by) /.test(line) && !session.test(line))
    .join("\n")
    .replace(/\n{3,}/g, "\n\n")
    .trim();
  return `${baselineMark(tool)}
-- Rows are not in it: what earlier migrations had inserted has to be inserted again in a new database.

-- migrate:up

-- Functions may name what comes after them.
set local check_function_bodies = false;

${body}

-- migrate:down
`;
}
