// What people read when a restore has ended well.
import { flagsFor } from "./place.ts";
import type { Restored } from "./restore-run.ts";

/** @param environment for the commands to go on with. */
export function formatRestored(restored: Restored, source: string, environment: string): string {
  const { database, kept, schema, rows, tables, migrated, seconds } = restored;
  const where = flagsFor(environment);
  const counted = `${rows} rows in ${tables === 1 ? "1 table" : `${tables} tables`}`;
  const also = migrated === 0 ? "" : `, ${migrated === 1 ? "1 migration" : `${migrated} migrations`} applied`;
  const place = schema ? `the schema "${schema}" of "${database}"` : `"${database}"`;
  return [
    `Restored ${source}: ${place} has ${counted}${also}, ready after ${seconds.toFixed(1)} s`,
    ...(schema
      ? [`  next: insert into public.X select * from ${schema}.X where …;   drop schema ${schema} cascade;`]
      : []),
    ...(kept
      ? [
          `  what was live is "${kept}"`,
          `  next: bun scripts/restore.ts --undo${where}      # swaps back`,
          `  next: bun scripts/restore.ts ${kept} --clean${where}      # removes it, once nobody wants it back`,
        ]
      : []),
  ].join("\n");
}
