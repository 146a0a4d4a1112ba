// One moment of a database, held still: pg_dump and the counting of rows both look at it.
import { listTables, plainName, qualified, type Table } from "./catalog.ts";
import { Failure } from "./failure.ts";
import { type Psql, SqlError } from "./psql.ts";

export type Snapshot = {
  /** For `pg_dump --snapshot`, while the session's transaction lasts. */
  id: string;
  tables: Table[];
};

const lockSeconds = 60;
const triesMaximum = 5;

/**
 * Begins a transaction that sees one moment, with every table locked against changes of its structure *before* that moment:
 * TRUNCATE and rewriting ALTER TABLEs are not MVCC-safe, and a dump that begins between snapshot and lock finds such a table empty,
 * without an error (PostgreSQL documentation, "Caveats" of MVCC).
 * @throws {Failure} when a table stays locked by somebody, or tables come and go all the time.
 */
export async function takeSnapshot(psql: Psql): Promise<Snapshot> {
  for (let tries = 1; tries <= triesMaximum; tries += 1) {
    const expected = await listTables(psql);
    await psql.execute(`begin isolation level repeatable read read only; set local lock_timeout = '${lockSeconds}s'`);
    try {
      if (expected.length > 0) {
        await psql.execute(`lock table ${expected.map(qualified).join(", ")} in access share mode`, lockSeconds + 30);
      }
      const tables = await listTables(psql);
      if (tables.map(plainName).join("\n") === expected.map(plainName).join("\n")) {
        const [row] = await psql.rows<{ id: string }>("select pg_export_snapshot() as id");
        return { id: row!.id, tables };
      }
    } catch (error) {
      await psql.execute("rollback");
      // A table of the list is gone.
      if (error instanceof SqlError && error.code === "42P01") continue;
      throw error instanceof SqlError && error.code === "55P03" ? lockedTable(error) : error;
    }
    await psql.execute("rollback");
  }
  const why = `tables came or went in each of ${triesMaximum} attempts: a migration seems to be at work`;
  throw new Failure("Cannot take a snapshot of the database", why, ["the same command again, once it is done"]);
}

function lockedTable({ details }: SqlError): Failure {
  const why = `somebody has held a lock on a table for ${lockSeconds} s: a migration, or a forgotten transaction`;
  const next = ["docs/runbook/migration-failed.md shows how to find who it is", "the same command again"];
  return new Failure("Cannot take a snapshot of the database", why, next, { ...(details && { details }) });
}
