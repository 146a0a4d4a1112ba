// Whether a restored database is what was backed up: the exact number of rows of every table, large objects, extensions, owners.
import { countRows, listTables, readFacts } from "./catalog.ts";
import type { Manifest } from "./manifest.ts";
import type { Psql } from "./psql.ts";

export type Found = Pick<Manifest, "rows" | "largeObjects" | "extensions" | "roles" | "migrations"> & {
  /** The server's first superuser: Postgres keeps no record of what it owns. */
  firstRole: string;
};

/** @param psql a session in the restored database. */
export async function lookAt(psql: Psql): Promise<Found> {
  const { largeObjects, extensions, roles, migrations } = await readFacts(psql);
  const [first] = await psql.rows<{ name: string }>("select rolname as name from pg_roles where oid = 10");
  const rows = await countRows(psql, await listTables(psql));
  return { rows, largeObjects, extensions, roles, migrations, firstRole: first?.name ?? "" };
}

type Expected = Pick<Manifest, "rows" | "largeObjects" | "extensions" | "roles" | "settings" | "tables">;

/** @returns a line for every difference; none means equal. */
export function compare(expected: Expected, found: Found): string[] {
  // Of a backup of some tables nobody has counted.
  if (expected.tables) return [];
  const missingExtensions = Object.keys(expected.extensions).filter((name) => found.extensions[name] === undefined);
  const lostRoles = ownersIn(expected).filter((role) => role !== found.firstRole && !found.roles.includes(role));
  return [
    ...differences(expected.rows, found.rows),
    ...(expected.largeObjects === found.largeObjects
      ? []
      : [`large objects: ${found.largeObjects} instead of ${expected.largeObjects}`]),
    ...missingExtensions.map((name) => `extension ${name}: missing`),
    ...lostRoles.map((role) => `role ${role}: owns nothing and may do nothing, and did in the original`),
  ];
}

function differences(expected: Manifest["rows"], found: Manifest["rows"]): string[] {
  const tables = [...new Set([...Object.keys(expected), ...Object.keys(found)])].sort();
  return tables.flatMap((table) => {
    const [wanted, there] = [expected[table], found[table]];
    if (wanted === there) return [];
    if (there === undefined) return [`${table}: missing`];
    if (wanted === undefined) return [`${table}: not in the original`];
    return [`${table}: ${there} rows instead of ${wanted}`];
  });
}

/** Roles of objects. Those that only the database itself knows may be others here. */
function ownersIn({ roles, settings }: Expected): string[] {
  const ofDatabase = settings.grants.map((grant) => grant.replace(/ \w+ [tf]$/, "").replace(/^"(.*)"$/, "$1"));
  return roles.filter((role) => role !== settings.owner && !ofDatabase.includes(role));
}
