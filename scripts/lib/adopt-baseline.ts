// A migration that makes a database as it is now, from pg_dump: where the migrations that made it are code, or cannot be applied again.
import { baselineText } from "./adopt-baseline-text.ts";
import type { CatalogObject } from "./catalog-objects.ts";
import { Failure } from "./failure.ts";
import { ownSchema } from "./migration-record.ts";
import type { Place } from "./place.ts";
import { type Psql, quoteLiteral } from "./psql.ts";
import { run } from "./run.ts";

const dumpSeconds = 600;

type Wanted = {
  place: Place;
  psql: Psql;
  tool: string;
  /** See guardOf(). */
  guard: string;
  /** As CatalogOptions.histories has them. */
  histories: readonly string[];
  objects: readonly CatalogObject[];
  interrupted: AbortSignal;
};

/** @returns the text of the file. @throws {Failure} exit 1 with pg_dump's words. */
export async function dumpBaseline(wanted: Wanted): Promise<string> {
  const { place, psql, tool, guard, histories, objects, interrupted } = wanted;
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
  return await baselineText(dump.stdout, tool, guard);
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
