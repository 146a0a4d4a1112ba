// Statements that reach beyond the database that they are run in: a role, another database, a setting of the whole server, another
// server, a file. In a database beside the live one they would change what the live one lives with, so that a rehearsal of them needs a
// server of its own. What the text does not show, rehearse-guard.ts sees before the commit. Pure.
import type { Statement } from "./migration-statements.ts";

/** By the name of the node. */
const always = [
  ...["CreateRoleStmt", "AlterRoleStmt", "AlterRoleSetStmt", "DropRoleStmt", "GrantRoleStmt"],
  ...["ReassignOwnedStmt", "DropOwnedStmt", "AlterSystemStmt"],
  ...["CreatedbStmt", "DropdbStmt", "AlterDatabaseStmt", "AlterDatabaseSetStmt", "AlterDatabaseRefreshCollStmt"],
  ...["CreateTableSpaceStmt", "DropTableSpaceStmt", "AlterTableSpaceOptionsStmt", "AlterTableMoveAllStmt"],
  ...["CreateSubscriptionStmt", "AlterSubscriptionStmt", "DropSubscriptionStmt"],
  // Another server; those that there are cannot be reached any more.
  ...["CreateFdwStmt", "AlterFdwStmt", "CreateForeignServerStmt", "AlterForeignServerStmt", "CreateUserMappingStmt"],
  // A library.
  "LoadStmt",
];

/** COMMENT ON, GRANT ON, ALTER … OWNER TO, RENAME, SECURITY LABEL: by what they are about. */
const objects = ["OBJECT_ROLE", "OBJECT_DATABASE", "OBJECT_TABLESPACE", "OBJECT_SUBSCRIPTION", "OBJECT_PARAMETER_ACL"];

/** In the text of a DO or of a function, which nobody knows before it runs. Too many are better than too few. */
const inText = new RegExp(
  [
    "\\b(?:create|alter|drop|comment\\s+on)\\s+(?:role|user|group|database|tablespace|subscription|server)\\b",
    "\\b(?:create|alter)\\s+foreign\\s+data\\b",
    "\\bon\\s+(?:database|tablespace|parameter)\\b",
    // Of a role: without ON.
    "\\bgrant\\b(?:(?!\\bon\\b)[^;])*\\bto\\b",
    "\\brevoke\\b(?:(?!\\bon\\b)[^;])*\\bfrom\\b",
    "\\b(?:alter\\s+system|reassign\\s+owned|drop\\s+owned|reindex\\s+(?:system|database))\\b",
    "\\bcopy\\b[^;]*\\b(?:program|to)\\b",
    "\\bload\\s+'",
  ].join("|"),
  "i",
);

/** Functions that do. */
const calls = new RegExp(
  `\\b(?:${[
    "dblink\\w*|http_(?:get|post|put|patch|delete|head)|aws_\\w+\\.\\w+|cron\\.\\w+",
    "pg_(?:terminate|cancel)_backend|pg_reload_conf|pg_rotate_logfile\\w*|pg_promote|pg_switch_wal|pg_wal_replay_\\w+",
    "pg_backup_st\\w+|pg_create_restore_point|pg_\\w*replication_slot\\w*|pg_replication_origin_\\w+|pg_logical_emit_message",
    "pg_stat_reset_(?:shared|slru|replication_slot|subscription_stats)|pg_stat_statements_reset",
    "lo_export|pg_file_\\w+",
  ].join("|")})(?="?\\s*\\()`,
  "i",
);

/** What belongs to the server, written to as if it were a table. */
const catalogs = new RegExp(
  `\\b(?:insert\\s+into|update|delete\\s+from|merge\\s+into|lock|table)\\s+(?:table\\s+|only\\s+)*(?:"?pg_catalog"?\\s*\\.\\s*)?"?(?:${[
    "pg_authid|pg_auth_members|pg_database|pg_db_role_setting|pg_tablespace|pg_parameter_acl|pg_subscription",
    "pg_shdepend|pg_shdescription|pg_shseclabel|pg_replication_origin",
  ].join("|")})\\b`,
  "i",
);

const safeLanguages = ["sql", "plpgsql", "plperl", "pltcl", "plv8", "plrust"];

const reindexed = ["REINDEX_OBJECT_SYSTEM", "REINDEX_OBJECT_DATABASE"];

const kept = ["TRANS_STMT_SAVEPOINT", "TRANS_STMT_RELEASE", "TRANS_STMT_ROLLBACK_TO"];

type Seen = Pick<Statement, "node" | "tree" | "sql">;

/**
 * @param transaction whether there is one around it, in which one can look at what was done before it counts.
 * @returns what it is that reaches so far, "ALTER ROLE"; undefined for a statement that stays at home.
 */
export function reachesFurther({ node, tree, sql }: Seen, transaction = true): string | undefined {
  // As Postgres reads it, and as it is: what looks like a comment may be part of a text.
  const texts = [sql, sql.replaceAll(/\/\*.*?\*\//gs, " ").replaceAll(/--[^\n]*/g, " ")];
  const words = texts[1]!.trim().split(/\s+/).slice(0, 2).join(" ").toUpperCase();
  const found = (pattern: RegExp) => texts.map((text) => pattern.exec(text)?.[0]).find(Boolean);
  const anywhere = found(calls) ?? found(catalogs);
  if (anywhere) return anywhere;
  if (node === undefined) return found(inText);
  if (node === "DoStmt" || node === "CreateFunctionStmt") {
    const language = foreignLanguage(tree);
    if (language) return `LANGUAGE ${language}`;
    return found(inText) ?? (node === "DoStmt" && !transaction ? found(/\bexecute\b/i) : undefined);
  }
  if (always.includes(node)) return words;
  if (node === "TransactionStmt" && !kept.includes(tree.kind as string)) return words;
  // Of a text that nobody has read, and it may commit.
  if (node === "CallStmt" && !transaction) return "CALL";
  if (node === "ReindexStmt" && reindexed.includes(tree.kind as string)) return words;
  const about = [tree.objtype, tree.objectType, tree.renameType];
  if (about.some((object) => objects.includes(object as string))) return words;
  if (node !== "CopyStmt" || !tree.filename) return undefined;
  return tree.is_program ? "COPY … PROGRAM" : tree.is_from ? undefined : "COPY … TO a file";
}

/** Which may do on the server whatever its system user may. */
function foreignLanguage(tree: Seen["tree"]): string | undefined {
  const options = (tree.options ?? tree.args ?? []) as { DefElem?: { defname?: string; arg?: unknown } }[];
  const named = options.find(({ DefElem }) => DefElem?.defname === "language")?.DefElem?.arg as
    | { String?: { sval?: string } }
    | undefined;
  const name = named?.String?.sval;
  return name !== undefined && !safeLanguages.includes(name.toLowerCase()) ? name : undefined;
}
