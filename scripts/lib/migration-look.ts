// What a database says of its migrations. Only reads.
import { invalidIndexes } from "./migration-indexes.ts";
import type { Seen } from "./migration-plan.ts";
import { readTracked } from "./migration-record.ts";
import type { Psql } from "./psql.ts";

export async function look(psql: Psql): Promise<Seen> {
  return { ...(await readTracked(psql)), invalid: await invalidIndexes(psql) };
}
