// The rules drop-without-deprecation and truncate: what an app may use goes only after an earlier file has called it deprecated. Pure.
// That is a comment in the database, `comment on column t.c is 'deprecated: …'`, so that everybody who looks at it can read it too.
import type { Node } from "libpg-query";
import { nameOf, namesIn, newTable, type Relation, relationKinds, relationOf, textsOf } from "./lint-names.ts";
import { type Finding, finding, type Position } from "./lint-rules.ts";
import { commandPositions, type ParsedFile, type Statement } from "./lint-sql.ts";

/** What a file has done up to a place in it. Columns are "t.c", schemas "schema s". */
type Doing = {
  file: string;
  /** In an earlier file. */
  deprecated: ReadonlySet<string>;
  /** By this file, before. */
  made: Set<string>;
  /** By this file, anywhere: a view that is dropped and made again is changed, not gone. */
  views: ReadonlySet<Relation>;
};

/** @param files all of them, in dbmate's order. @param isJudged of which the findings are wanted. */
export function lintDrops(files: readonly ParsedFile[], isJudged: (file: string) => boolean): Finding[] {
  const deprecated = new Set<string>();
  return files.flatMap(({ migration: { file }, sections }) => {
    const statements = sections.filter(({ direction }) => direction === "up").flatMap((section) => section.statements);
    const views = new Set(statements.flatMap(({ node }) => viewIn(node) ?? []));
    const doing: Doing = { file, deprecated, made: new Set(), views };
    const findings = isJudged(file) ? statements.flatMap((statement) => lintStatement(doing, statement)) : [];
    // Only now: what is deprecated and dropped in one file was never deprecated.
    for (const { node } of statements) noteComment(deprecated, node);
    return findings;
  });
}

function viewIn(node: Node): Relation | undefined {
  if ("ViewStmt" in node) return relationOf(node.ViewStmt.view!);
  return "CreateTableAsStmt" in node ? relationOf(node.CreateTableAsStmt.into!.rel!) : undefined;
}

function noteComment(deprecated: Set<string>, node: Node): void {
  if (!("CommentStmt" in node)) return;
  const { objtype = "", object, comment = "" } = node.CommentStmt;
  const names = namesIn(object);
  const isSchema = objtype === "OBJECT_SCHEMA";
  if (!isSchema && objtype !== "OBJECT_COLUMN" && !relationKinds[objtype]) return;
  const name = isSchema ? `schema ${names.join(".")}` : nameOf(names);
  if (/^\s*deprecated\b/i.test(comment)) deprecated.add(name);
  else deprecated.delete(name);
}

function lintStatement(doing: Doing, statement: Statement): Finding[] {
  const { node, start } = statement;
  const { made } = doing;
  const table = newTable(node);
  if (table) made.add(table);
  if ("DropStmt" in node) {
    const { removeType = "", objects = [] } = node.DropStmt;
    return objects.flatMap((object) => lintDropped(doing, start, removeType, namesIn(object)));
  } else if ("DropOwnedStmt" in node) {
    const roles = (node.DropOwnedStmt.roles ?? []).map((role) => ("RoleSpec" in role && role.RoleSpec.rolename) || "");
    return gone(
      doing,
      start,
      "property of",
      [roles.join(" and ")],
      "is dropped",
      "drop what is to go, each by its name",
    );
  } else if ("TruncateStmt" in node) {
    return lintTruncate(doing, statement, node.TruncateStmt);
  } else if ("AlterEnumStmt" in node && node.AlterEnumStmt.oldVal) {
    const { oldVal, newVal, typeName } = node.AlterEnumStmt;
    const advice = "add a new value, and change over as the guide shows";
    return gone(
      doing,
      start,
      "value",
      [`${oldVal} of the type ${nameOf(textsOf(typeName))}`],
      `becomes ${newVal}`,
      advice,
    );
  } else if ("RenameStmt" in node && node.RenameStmt.relation) {
    const { renameType = "", relationType = "", relation, subname, newname } = node.RenameStmt;
    const from = relationOf(relation);
    const how = `becomes ${newname}`;
    if (renameType === "OBJECT_COLUMN" && relationKinds[relationType]) {
      return gone(doing, start, "column", [`${from}.${subname}`, from], how);
    }
    const to = nameOf([...(relation.schemaname ? [relation.schemaname] : []), newname!]);
    if (relationKinds[renameType]) return moved(doing, start, renameType, from, to, how);
  } else if ("AlterObjectSchemaStmt" in node && node.AlterObjectSchemaStmt.relation) {
    const { objectType = "", relation, newschema } = node.AlterObjectSchemaStmt;
    const to = nameOf([newschema!, relation.relname!]);
    const how = `moves to the schema ${newschema}`;
    if (relationKinds[objectType]) return moved(doing, start, objectType, relationOf(relation), to, how);
  } else if ("AlterTableStmt" in node && node.AlterTableStmt.relation) {
    const { relation, cmds = [] } = node.AlterTableStmt;
    const table = relationOf(relation);
    const places = commandPositions(statement, relation);
    return cmds.flatMap((cmd, index) => {
      const { subtype, name, def, missing_ok } = "AlterTableCmd" in cmd ? cmd.AlterTableCmd : {};
      if (subtype === "AT_AddColumn" && !missing_ok && def && "ColumnDef" in def)
        made.add(`${table}.${def.ColumnDef.colname}`);
      if (subtype !== "AT_DropColumn") return [];
      return gone(doing, places[index] ?? start, "column", [`${table}.${name}`, table], "is dropped");
    });
  } else if ("ViewStmt" in node) {
    made.add(relationOf(node.ViewStmt.view!));
  }
  return [];
}

type Truncate = Extract<Node, { TruncateStmt: unknown }>["TruncateStmt"];

function lintTruncate(
  { file, made, deprecated }: Doing,
  { start }: Statement,
  { relations, behavior }: Truncate,
): Finding[] {
  const tables = (relations ?? []).flatMap((relation) => ("RangeVar" in relation ? relationOf(relation.RangeVar) : []));
  // That has a rule of its own.
  const used = tables.filter((table) => !made.has(table) && !deprecated.has(table) && table !== "schema_migrations");
  if (used.length === 0) return [];
  const others = behavior === "DROP_CASCADE" ? ", and whatever refers to them" : "";
  const message = `it empties ${used.join(" and ")}${others}: the version of the app that runs meanwhile may need the rows`;
  return [finding(file, start, "truncate", message)];
}

function lintDropped(doing: Doing, at: Position, removeType: string, names: readonly string[]): Finding[] {
  if (removeType === "OBJECT_SCHEMA") return gone(doing, at, "schema", [`schema ${names.join(".")}`], "is dropped");
  const kind = relationKinds[removeType];
  if (!kind || (kind.endsWith("view") && doing.views.has(nameOf(names)))) return [];
  return gone(doing, at, kind, [nameOf(names)], "is dropped");
}

function moved(doing: Doing, at: Position, kind: string, from: Relation, to: Relation, how: string): Finding[] {
  if (doing.made.has(from)) doing.made.add(to);
  return gone(doing, at, relationKinds[kind]!, [from], how);
}

/** @param names its own, and that of its table: what that is, its columns are too. */
function gone(
  { file, made, deprecated }: Doing,
  at: Position,
  kind: string,
  names: string[],
  how: string,
  otherAdvice?: string,
): Finding[] {
  if (names.some((name) => made.has(name) || deprecated.has(name))) return [];
  const name = names[0]!.replace(/^schema /, "");
  const message = `the ${kind} ${name} ${how}, and the version of the app that runs meanwhile may use it`;
  const advice = otherAdvice ?? `in an earlier deploy: comment on ${kind} ${name} is 'deprecated: …';`;
  return [finding(file, at, "drop-without-deprecation", message, advice)];
}
