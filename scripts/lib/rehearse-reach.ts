// Statements that reach beyond the database that they are run in: a role, another database, a setting of the whole server. In a database
// beside the live one they would change what the live one lives with, so that a rehearsal of them needs a server of its own. Pure.
import type { Statement } from "./migration-statements.ts";

/** By the name of the node. */
const always = [
  ...["CreateRoleStmt", "AlterRoleStmt", "AlterRoleSetStmt", "DropRoleStmt", "GrantRoleStmt"],
  ...["ReassignOwnedStmt", "DropOwnedStmt", "AlterSystemStmt"],
  ...["CreatedbStmt", "DropdbStmt", "AlterDatabaseStmt", "AlterDatabaseSetStmt", "AlterDatabaseRefreshCollStmt"],
  ...["CreateTableSpaceStmt", "DropTableSpaceStmt", "AlterTableSpaceOptionsStmt", "AlterTableMoveAllStmt"],
  ...["CreateSubscriptionStmt", "AlterSubscriptionStmt", "DropSubscriptionStmt"],
];

/** COMMENT ON, GRANT ON, ALTER … OWNER TO, RENAME, SECURITY LABEL: by what they are about. */
const objects = ["OBJECT_ROLE", "OBJECT_DATABASE", "OBJECT_TABLESPACE", "OBJECT_SUBSCRIPTION"];

/** In the text of a DO, which nobody knows before it runs. Too many are better than too few. */
const inText = new RegExp(
  [
    "\\b(?:create|alter|drop|comment\\s+on)\\s+(?:role|user|group|database|tablespace|subscription)\\b",
    "\\bon\\s+(?:database|tablespace)\\b",
    "\\b(?:alter\\s+system|reassign\\s+owned|drop\\s+owned)\\b",
    "\\bcopy\\b[^;]*\\bprogram\\b",
  ].join("|"),
  "i",
);

/** Functions that do. */
const calls = /\b(?:dblink\w*|pg_terminate_backend|pg_cancel_backend|pg_reload_conf)(?=\s*\()/i;

/** @returns what it is that reaches so far, "ALTER ROLE"; undefined for a statement that stays at home. */
export function reachesFurther({ node, tree, sql }: Pick<Statement, "node" | "tree" | "sql">): string | undefined {
  const words = sql.trim().split(/\s+/).slice(0, 2).join(" ").toUpperCase();
  const called = calls.exec(sql)?.[0];
  if (called) return called;
  if (node === undefined || node === "DoStmt") return inText.exec(sql)?.[0];
  if (always.includes(node)) return words;
  const about = [tree.objtype, tree.objectType, tree.renameType];
  if (about.some((object) => objects.includes(object as string))) return words;
  return node === "CopyStmt" && tree.is_program ? "COPY … PROGRAM" : undefined;
}
