// One statement as a command that can be typed, for the database that a message is about.
import type { Place } from "./place.ts";

export type SqlByHand = (sql: string) => string;

/** Where nobody knows how to get there. */
export const inSomePsql: SqlByHand = (sql) => `in psql: ${sql}`;

export function sqlByHand({
  environment,
  user,
  database,
  connection,
  inStack,
}: Pick<Place, "environment" | "user" | "database" | "connection" | "inStack">): SqlByHand {
  const psql = (sql: string, where: readonly string[]) =>
    ["psql", ...where, "--username", user, "--dbname", database, "--command", sql].map(asWord).join(" ");
  if (connection) return (sql) => psql(sql, ["--host", connection.host, "--port", `${connection.port}`]);
  if (!inStack) return inSomePsql;
  const there = environment === "production" ? "on the server, where compose.yaml is: " : "";
  return (sql) => `${there}docker compose exec postgres ${psql(sql, [])}`;
}

const asWord = (word: string) => (/^[\w@.:/-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);
