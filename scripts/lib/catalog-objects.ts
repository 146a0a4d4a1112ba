// What a database is made of, apart from its rows: every object with a text that is equal where the object is. One query; nothing is
// written. Out of it come a fingerprint, for "the same or not", and the list, for "what is not the same".
// How each kind is found stands in catalog-query.ts and its parts.
import { objectsQuery } from "./catalog-query.ts";
import { exitCodes, Failure } from "./failure.ts";
import { type Psql, SqlError } from "./psql.ts";

export type CatalogObject = {
  /** As people call it: "table", "column", "index", "materialized view". */
  kind: string;
  /** With its schema, and quoted where SQL wants it: "public.accounts.email". */
  name: string;
  /** The name of what it belongs to, and goes with: of the table, of the column that a sequence is for; or null. */
  parent: string | null;
  definition: string;
};

export type CatalogOptions = {
  /** Tables that keep the history of migrations, as "schema.table": they differ by their nature. "schema.*" is one that holds no more. */
  histories?: readonly string[];
  /** Who owns everything: called "(owner)" in all texts, so that two servers compare where it is not called the same. */
  owner?: string | undefined;
  /** Without owners, grants and default privileges, none of which schema.sql has. */
  withoutRoles?: boolean;
  /** For a session that is in a transaction, and stays in it. */
  inTransaction?: boolean;
};

/** To be counted up with every change of the query: what was kept of an older one is not compared with it. */
export const catalogVersion = 4;

/** sha256 over all objects, hexadecimal: equal where every object is. The server counts it, and sends 64 letters. */
export async function fingerprint(psql: Psql, options: CatalogOptions = {}): Promise<string> {
  // Never in the order of the database, which another one may not have.
  const all = `string_agg(concat_ws(e'\\x1f', kind, name, definition), e'\\x1e'
    order by kind collate "C", name collate "C", definition collate "C")`;
  const sum = `encode(sha256(convert_to(coalesce(${all}, ''), 'UTF8')), 'hex')`;
  const [row] = await ask<{ sum: string }>(psql, options, `select ${sum} as sum from result`);
  return row!.sum;
}

/**
 * By kind and name. Left out: what belongs to Postgres, to an extension or to this kit; what depends on the rows; the order of columns (a
 * hand-made column that is repaired would differ for ever); the names of NOT NULL constraints, which Postgres 18 has (the column says it);
 * versions of extensions; and what is no part of a schema: subscriptions, user mappings, tablespaces, settings of the database.
 */
export async function readObjects(psql: Psql, options: CatalogOptions = {}): Promise<CatalogObject[]> {
  const inOrder = `order by kind collate "C", name collate "C", definition collate "C"`;
  return await ask<CatalogObject>(psql, options, `select * from result ${inOrder}`);
}

const lookSeconds = 120;

/** What a database or a role may have been given, and what would change the texts; jit takes longer than the query. */
const settings = [
  // Postgres leaves out of its texts what the search path makes unnecessary: with an empty one all of them are whole.
  "search_path = ''",
  ...[
    "quote_all_identifiers = off",
    "intervalstyle = 'postgres'",
    "extra_float_digits = 1",
    "bytea_output = 'hex'",
    "jit = off",
  ],
].map((setting) => `set local ${setting}`);

async function ask<Row>(psql: Psql, options: CatalogOptions, query: string): Promise<Row[]> {
  const { histories = [], owner, withoutRoles = false, inTransaction } = options;
  const [begin, end] = inTransaction
    ? ["savepoint dbops_catalog", "rollback to savepoint dbops_catalog; release savepoint dbops_catalog"]
    : ["begin transaction isolation level repeatable read read only", "rollback"];
  const leave = () => psql.execute(end).catch(() => {});
  await psql.execute([begin, ...settings, limitWaits].join(";"));
  try {
    const [server] = await psql.rows<{ versionNumber: number }>(
      `select current_setting('server_version_num')::int as "versionNumber"`,
    );
    const { versionNumber } = server!;
    const objects = objectsQuery({ histories, owner, withoutRoles, versionNumber });
    const rows = await psql.rows<Row>(`${objects} ${query}`, lookSeconds);
    await leave();
    return rows;
  } catch (error) {
    await leave();
    throw await sayingWhoKeeps(psql, error);
  }
}

const waitSeconds = 3;

/**
 * A look at a view locks what it reads, and who waits for one table keeps the others: a change of those would queue behind the look, and
 * everybody behind that. Where the transaction has a limit, it stays.
 */
export const limitWaits = `select set_config('lock_timeout',
  case current_setting('lock_timeout') when '0' then '${waitSeconds}s' else current_setting('lock_timeout') end, true)`;

/** For a session that is in no transaction which has failed. @returns the error; of a look that has waited too long a Failure with exit 4. */
export async function sayingWhoKeeps(psql: Psql, error: unknown): Promise<unknown> {
  if (!(error instanceof SqlError) || error.code !== "55P03") return error;
  const [row] = await psql.rows<{ holders: string | null }>(
    `select string_agg(distinct format('process %s (%s) %s %s', l.pid, coalesce(nullif(a.application_name, ''), 'no name'),
       case when l.granted then 'keeps' else 'waits to keep' end, l.relation::regclass), '; ') as holders
     from pg_locks l join pg_stat_activity a using (pid) join pg_class c on c.oid = l.relation and c.relnamespace <> 'pg_catalog'::regnamespace
     where l.locktype = 'relation' and l.mode = 'AccessExclusiveLock' and l.pid <> pg_backend_pid()
       and l.database = (select oid from pg_database where datname = current_database())`,
  );
  const why = row!.holders ?? "somebody has kept a table from everybody else";
  const next = ["the same command again, once that is over"];
  const read = "docs/runbook/migration-hangs.md";
  return new Failure("Cannot look at the structure", why, next, { exitCode: exitCodes.locked, cause: error, read });
}
