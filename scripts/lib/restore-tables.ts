// Single tables out of a restored database, into a schema of their own beside the live tables: whoever has lost rows looks at both,
// and takes back what is missing with INSERT … SELECT. Adds to the live database, and changes nothing in it.
import { plainName, qualified, type Table } from "./catalog.ts";
import { flow, type Stage } from "./flow.ts";
import type { Place } from "./place.ts";
import { openPsql, type Psql, quoteIdentifier, quoteLiteral } from "./psql.ts";
import { chooseTables } from "./restore-plan.ts";

/** "restored_20261121_030000": two of them are never in each other's way, and it needs no quotes in SQL. */
export const schemaName = (at: Date) =>
  `restored_${at.toISOString().slice(0, 19).replaceAll(/[-:]/g, "").replace("T", "_")}`;

/**
 * Moves them into the schema, within the restored database. Without their foreign keys and triggers: those would tie them to the
 * live tables, and act on them.
 * @param psql a session in the restored database.
 * @throws {Failure} exit 2 for a name that is none of its tables.
 */
export async function gatherTables(psql: Psql, names: readonly string[], schema: string): Promise<Table[]> {
  const known = await psql.rows<Table>(`select n.nspname as schema, c.relname as name
    from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.relkind in ('r', 'p') and n.nspname !~ '^pg_'`);
  const chosen = chooseTables(names, known.map(plainName));
  const wanted = known.filter((table) => chosen.includes(plainName(table)));
  await psql.execute(`create schema ${quoteIdentifier(schema)}`);
  const moved: Table[] = [];
  for (const table of await withPartitions(psql, wanted)) {
    await psql.execute(await moveScript(psql, table, schema), 600);
    moved.push(table);
  }
  return moved;
}

async function withPartitions(psql: Psql, tables: readonly Table[]): Promise<Table[]> {
  const each = tables
    .map((table) => `select pg_partition_tree(${quoteLiteral(qualified(table))}) as t`)
    .join(" union all ");
  const partitions = await psql.rows<Table>(`select distinct n.nspname as schema, c.relname as name
    from (${each}) p join pg_class c on c.oid = (p.t).relid join pg_namespace n on n.oid = c.relnamespace`);
  const all = [...tables, ...partitions];
  return all.filter((table, index) => all.findIndex((other) => plainName(other) === plainName(table)) === index);
}

async function moveScript(psql: Psql, table: Table, schema: string): Promise<string> {
  const regclass = `${quoteLiteral(qualified(table))}::regclass`;
  const keys = await psql.rows<{ name: string }>(
    `select conname as name from pg_constraint where conrelid = ${regclass} and contype = 'f' and conparentid = 0`,
  );
  const triggers = await psql.rows<{ name: string }>(
    `select tgname as name from pg_trigger where tgrelid = ${regclass} and not tgisinternal and tgparentid = 0`,
  );
  return [
    ...keys.map(({ name }) => `alter table ${qualified(table)} drop constraint ${quoteIdentifier(name)};`),
    ...triggers.map(({ name }) => `drop trigger ${quoteIdentifier(name)} on ${qualified(table)};`),
    `alter table ${qualified(table)} set schema ${quoteIdentifier(schema)};`,
  ].join("\n");
}

/** What its session in the live database is called, so that it is found there. */
const applicationName = (schema: string) => `dbops ${schema}`;

/** All of the schema in one transaction, or nothing. */
export async function copySchema(place: Place, from: string, schema: string, interrupted: AbortSignal): Promise<void> {
  const dumpWords = [
    "pg_dump",
    "--format=custom",
    "--compress=0",
    `--schema=${quoteIdentifier(schema)}`,
    `--dbname=${from}`,
  ];
  const dump: Stage = { name: "pg_dump", ...place.supervised(dumpWords), heartbeat: true };
  const words = [
    "pg_restore",
    "--no-password",
    "--exit-on-error",
    "--single-transaction",
    `--dbname=${place.database}`,
  ];
  const restore: Stage = {
    name: "pg_restore",
    ...place.client(["env", `PGAPPNAME=${applicationName(schema)}`, ...words]),
  };
  try {
    for await (const _ of flow([dump, restore], { interrupted, stallSeconds: Number.POSITIVE_INFINITY }).output);
  } catch (error) {
    await withdraw(place, schema);
    throw error;
  }
}

const endSeconds = 10;

/** The program over there may still be at work, or may have just ended well. */
async function withdraw(place: Place, schema: string): Promise<void> {
  const psql = await openPsql(place);
  try {
    await psql.execute(`select pg_terminate_backend(pid, ${endSeconds * 1000}) from pg_stat_activity
      where application_name = ${quoteLiteral(applicationName(schema))}`);
    await psql.execute(`drop schema if exists ${quoteIdentifier(schema)} cascade`, 600);
  } finally {
    await psql.close();
  }
}
