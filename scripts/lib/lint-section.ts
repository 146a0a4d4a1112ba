// Rules about what dbmate does with the statements of a section, up or down, and with the transaction around them. Pure.
import type { Node } from "libpg-query";
import { type Finding, finding } from "./lint-rules.ts";
import type { ParsedFile, ParsedSection, Statement } from "./lint-sql.ts";

export function lintSections({ migration, sections }: ParsedFile): Finding[] {
  return sections.flatMap((section) => lintSection(migration.file, section));
}

function lintSection(file: string, { direction, section, statements, error }: ParsedSection): Finding[] {
  if (error) return [finding(file, error, "syntax", error.message)];
  const { line, transaction } = section;
  if (statements.length === 0) {
    const [rule, message] =
      direction === "up"
        ? (["up-empty", "it would be taken for applied, and nothing has happened"] as const)
        : (["down-empty", "`migrate down` would say that it is taken back, and nothing has happened"] as const);
    return [finding(file, { line, column: 1 }, rule, message)];
  }
  const [, second] = statements;
  const several = "when this statement fails, the one before it stays, and the file cannot be applied again";
  return [
    ...(!transaction && second ? [finding(file, second.start, "several-without-transaction", several)] : []),
    ...statements.flatMap((statement) => lintStatement(file, transaction, statement)),
  ];
}

function lintStatement(file: string, transaction: boolean, { node, start }: Statement): Finding[] {
  const alone = transaction && whatNeedsNone(node);
  const control = transactionControl(node);
  const setting = settingThatStays(node);
  return [
    ...(alone ? [finding(file, start, "needs-no-transaction", `${alone} cannot run inside a transaction`)] : []),
    ...(hidesInvalidIndex(node)
      ? [
          finding(
            file,
            start,
            "concurrently-if-not-exists",
            "an INVALID index that a failed run has left would be taken for this one",
          ),
        ]
      : []),
    ...(control
      ? [finding(file, start, "transaction-control", `${control} ends or nests the transaction of dbmate`)]
      : []),
    ...(changesHistory(node)
      ? [finding(file, start, "records-itself", "it changes schema_migrations, and then dbmate fails, or loses count")]
      : []),
    ...(setting
      ? [finding(file, start, "setting-outlives-file", `${setting} stays as it is for the files behind it`)]
      : []),
  ];
}

/** As Postgres names it, where it refuses to run it in a transaction block. */
function whatNeedsNone(node: Node): string | undefined {
  if ("IndexStmt" in node && node.IndexStmt.concurrent) return "CREATE INDEX CONCURRENTLY";
  if ("DropStmt" in node && node.DropStmt.concurrent) return "DROP INDEX CONCURRENTLY";
  if ("ReindexStmt" in node) {
    const { kind, params = [] } = node.ReindexStmt;
    if (params.some((param) => "DefElem" in param && param.DefElem.defname === "concurrently"))
      return "REINDEX CONCURRENTLY";
    return kind === "REINDEX_OBJECT_TABLE" || kind === "REINDEX_OBJECT_INDEX" ? undefined : "this REINDEX";
  }
  if ("AlterTableStmt" in node) {
    const detaches = node.AlterTableStmt.cmds?.some(
      (cmd) =>
        "AlterTableCmd" in cmd &&
        cmd.AlterTableCmd.def !== undefined &&
        "PartitionCmd" in cmd.AlterTableCmd.def &&
        cmd.AlterTableCmd.def.PartitionCmd.concurrent,
    );
    return detaches ? "DETACH PARTITION CONCURRENTLY" : undefined;
  }
  if ("VacuumStmt" in node) return node.VacuumStmt.is_vacuumcmd ? "VACUUM" : undefined;
  if ("ClusterStmt" in node) return node.ClusterStmt.relation ? undefined : "CLUSTER without a table";
  const [kind] = Object.keys(node);
  return needNone[kind!];
}

const needNone: Readonly<Record<string, string>> = {
  CreatedbStmt: "CREATE DATABASE",
  DropdbStmt: "DROP DATABASE",
  CreateTableSpaceStmt: "CREATE TABLESPACE",
  DropTableSpaceStmt: "DROP TABLESPACE",
  AlterSystemStmt: "ALTER SYSTEM",
};

function hidesInvalidIndex(node: Node): boolean {
  return "IndexStmt" in node && node.IndexStmt.concurrent === true && node.IndexStmt.if_not_exists === true;
}

const controls: Readonly<Record<string, string>> = {
  TRANS_STMT_BEGIN: "BEGIN",
  TRANS_STMT_START: "START TRANSACTION",
  TRANS_STMT_COMMIT: "COMMIT",
  TRANS_STMT_ROLLBACK: "ROLLBACK",
  TRANS_STMT_PREPARE: "PREPARE TRANSACTION",
  TRANS_STMT_COMMIT_PREPARED: "COMMIT PREPARED",
  TRANS_STMT_ROLLBACK_PREPARED: "ROLLBACK PREPARED",
};

/** Savepoints are none of it. */
function transactionControl(node: Node): string | undefined {
  return "TransactionStmt" in node ? controls[node.TransactionStmt.kind ?? ""] : undefined;
}

/** SET without LOCAL, and set_config() that is not local: dbmate applies all files in one session. */
function settingThatStays(node: Node): string | undefined {
  if ("VariableSetStmt" in node) {
    const { kind, is_local, name } = node.VariableSetStmt;
    const isReset = kind === "VAR_RESET" || kind === "VAR_RESET_ALL";
    return isReset || is_local || name === "TRANSACTION" ? undefined : (name ?? "a setting");
  }
  if (!("SelectStmt" in node)) return undefined;
  for (const target of node.SelectStmt.targetList ?? []) {
    const value = "ResTarget" in target ? target.ResTarget.val : undefined;
    if (!value || !("FuncCall" in value)) continue;
    const [name, , local] = value.FuncCall.args ?? [];
    const called = value.FuncCall.funcname?.at(-1);
    if (!called || !("String" in called) || called.String.sval !== "set_config") continue;
    const isLocal = local && "A_Const" in local && local.A_Const.boolval?.boolval === true;
    if (!isLocal) return (name && "A_Const" in name && name.A_Const.sval?.sval) || "a setting";
  }
  return undefined;
}

const changes = new Set([
  ...["InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt", "TruncateStmt"],
  ...["CreateStmt", "AlterTableStmt", "RenameStmt", "DropStmt"],
]);

/** Also where it is one part of a larger statement, such as a WITH. */
function changesHistory(node: Node): boolean {
  const search = (value: unknown): boolean => {
    if (typeof value !== "object" || value === null) return false;
    return Object.entries(value).some(([key, part]) => (changes.has(key) && isAboutHistory(part)) || search(part));
  };
  return search(node);
}

type Named = { schemaname?: string; relname?: string };

function isAboutHistory(statement: unknown): boolean {
  const {
    relation,
    relations = [],
    objects = [],
  } = statement as {
    relation?: Named;
    relations?: { RangeVar?: Named }[];
    objects?: { List?: { items?: { String?: { sval?: string } }[] } }[];
  };
  const dropped = objects.map(({ List }): Named => {
    const names = List?.items?.map((item) => item.String?.sval) ?? [];
    return { relname: names.at(-1) ?? "", ...(names.length > 1 && { schemaname: names.at(-2) ?? "" }) };
  });
  const tables = [relation ?? {}, ...relations.map(({ RangeVar }) => RangeVar ?? {}), ...dropped];
  return tables.some(
    ({ schemaname = "public", relname }) => relname === "schema_migrations" && schemaname === "public",
  );
}
