// The rule foreign-key-without-index. Postgres indexes the key that is referenced, and not the columns that refer to it. Pure.
import type { ColumnDef, Constraint, IndexStmt, Node } from "libpg-query";
import { nameOf, namesIn, type Relation, relationKinds, relationOf, textsOf } from "./lint-names.ts";
import { type Finding, finding, type Position } from "./lint-rules.ts";
import type { ParsedFile, Statement } from "./lint-sql.ts";

type Index = { relation: Relation; columns: readonly string[]; name: string };

type ForeignKey = Index & { file: string; at: Position };

/** What the files have made, and not dropped, up to a place. */
type Made = { foreignKeys: ForeignKey[]; indexes: Index[] };

type Here = { made: Made; file: string; statement: Statement };

/**
 * The index may be made in any file: concurrently it has to be one of its own.
 * @param files all of them, in dbmate's order. @param isJudged of which the findings are wanted.
 */
export function lintForeignKeys(files: readonly ParsedFile[], isJudged: (file: string) => boolean): Finding[] {
  const made: Made = { foreignKeys: [], indexes: [] };
  for (const { migration, sections } of files) {
    const statements = sections.filter(({ direction }) => direction === "up").flatMap((section) => section.statements);
    for (const statement of statements) follow({ made, file: migration.file, statement });
  }
  const bad = made.foreignKeys.filter((key) => isJudged(key.file) && !made.indexes.some((index) => serves(index, key)));
  return bad.map(({ relation, columns, file, at }) => {
    const message = `no index of ${relation} begins with ${columns.join(", ")}: each delete in the other table reads all of it`;
    return finding(file, at, "foreign-key-without-index", message);
  });
}

function serves(index: Index, { relation, columns }: ForeignKey): boolean {
  const first = index.columns.slice(0, columns.length);
  return index.relation === relation && columns.every((column) => first.includes(column));
}

function follow(here: Here): void {
  const { made, statement } = here;
  const { node } = statement;
  if ("CreateStmt" in node) {
    const relation = relationOf(node.CreateStmt.relation!);
    for (const element of node.CreateStmt.tableElts ?? []) addElement(here, relation, element);
  } else if ("AlterTableStmt" in node && node.AlterTableStmt.relation) {
    const relation = relationOf(node.AlterTableStmt.relation);
    for (const cmd of node.AlterTableStmt.cmds ?? []) {
      const { subtype, name, def } = "AlterTableCmd" in cmd ? cmd.AlterTableCmd : {};
      if (def && (subtype === "AT_AddColumn" || subtype === "AT_AddConstraint")) addElement(here, relation, def);
      if (subtype === "AT_DropConstraint") forget(made, (item) => item.relation === relation && item.name === name);
      if (subtype === "AT_DropColumn")
        forget(made, (item) => item.relation === relation && item.columns.includes(name!));
    }
  } else if ("IndexStmt" in node) addIndex(made, node.IndexStmt);
  else if ("DropStmt" in node) drop(made, node.DropStmt);
  else if ("RenameStmt" in node) rename(made, node.RenameStmt);
  else if ("AlterObjectSchemaStmt" in node && node.AlterObjectSchemaStmt.relation) {
    const { relation, newschema } = node.AlterObjectSchemaStmt;
    changeRelation(made, relationOf(relation), nameOf([newschema!, relation.relname!]));
  }
}

function addElement(here: Here, relation: Relation, element: Node): void {
  const { indexes } = here.made;
  if ("ColumnDef" in element) addColumn(here, relation, element.ColumnDef);
  else if ("Constraint" in element) addConstraint(here, relation, element.Constraint);
  else if ("TableLikeClause" in element && (element.TableLikeClause.options ?? 0) & likeIndexes) {
    const source = relationOf(element.TableLikeClause.relation!);
    indexes.push(...indexes.filter((index) => index.relation === source).map((index) => ({ ...index, relation })));
  }
}

/** LIKE … INCLUDING INDEXES: CREATE_TABLE_LIKE_INDEXES of Postgres' parsenodes.h. INCLUDING ALL sets it too. */
const likeIndexes = 1 << 6;

function addColumn(here: Here, relation: Relation, { colname, constraints = [] }: ColumnDef): void {
  for (const constraint of constraints) {
    if ("Constraint" in constraint) addConstraint(here, relation, constraint.Constraint, [colname!]);
  }
}

/** @param column of a constraint that stands beside one. */
function addConstraint(here: Here, relation: Relation, constraint: Constraint, column?: readonly string[]): void {
  const { made, file, statement } = here;
  const { contype, conname, keys, fk_attrs, indexname, location } = constraint;
  const table = relation.split(".").at(-1)!;
  if (contype === "CONSTR_FOREIGN") {
    const columns = column ?? textsOf(fk_attrs);
    const at = location === undefined ? statement.start : statement.positionOf(location);
    made.foreignKeys.push({ relation, columns, name: conname ?? `${table}_${columns.join("_")}_fkey`, file, at });
  } else if ((contype === "CONSTR_PRIMARY" || contype === "CONSTR_UNIQUE") && !indexname) {
    const columns = column ?? textsOf(keys);
    const usual = contype === "CONSTR_PRIMARY" ? `${table}_pkey` : `${table}_${columns.join("_")}_key`;
    made.indexes.push({ relation, columns, name: conname ?? usual });
  }
}

/** Only what finds the rows of one key: a btree or hash, of all rows or of those where the column is not null. */
function addIndex(
  made: Made,
  { relation, idxname = "", accessMethod, indexParams = [], whereClause }: IndexStmt,
): void {
  const columns = indexParams.map((param) => ("IndexElem" in param && param.IndexElem.name) || "");
  if (accessMethod !== "btree" && accessMethod !== "hash") return;
  if (whereClause && !isNotNull(whereClause, columns[0]!)) return;
  made.indexes.push({ relation: relationOf(relation!), columns, name: idxname });
}

function isNotNull(where: Node, column: string): boolean {
  if (!("NullTest" in where) || where.NullTest.nulltesttype !== "IS_NOT_NULL") return false;
  const { arg } = where.NullTest;
  return arg !== undefined && "ColumnRef" in arg && textsOf(arg.ColumnRef.fields).at(-1) === column;
}

type Rename = Extract<Node, { RenameStmt: unknown }>["RenameStmt"];

function rename(made: Made, { renameType, relation, subname, newname }: Rename): void {
  if (!relation || !renameType) return;
  const from = relationOf(relation);
  for (const index of made.indexes) {
    if (renameType === "OBJECT_INDEX" && index.name === relation.relname) index.name = newname!;
  }
  for (const item of [...made.foreignKeys, ...made.indexes]) {
    if (item.relation !== from) continue;
    if (renameType === "OBJECT_TABCONSTRAINT" && item.name === subname) item.name = newname!;
    if (renameType === "OBJECT_COLUMN") item.columns = item.columns.map((name) => (name === subname ? newname! : name));
  }
  if (!relationKinds[renameType]) return;
  changeRelation(made, from, nameOf([...(relation.schemaname ? [relation.schemaname] : []), newname!]));
}

function changeRelation({ foreignKeys, indexes }: Made, from: Relation, to: Relation): void {
  for (const item of [...foreignKeys, ...indexes]) if (item.relation === from) item.relation = to;
}

type Drop = Extract<Node, { DropStmt: unknown }>["DropStmt"];

function drop(made: Made, { removeType, objects = [] }: Drop): void {
  if (!removeType) return;
  for (const names of objects.map(namesIn)) {
    if (removeType === "OBJECT_INDEX") made.indexes = made.indexes.filter(({ name }) => name !== names.at(-1));
    else if (relationKinds[removeType]) forget(made, ({ relation }) => relation === nameOf(names));
    else if (removeType === "OBJECT_SCHEMA") forget(made, ({ relation }) => relation.startsWith(`${names[0]}.`));
  }
}

function forget(made: Made, isGone: (item: Index) => boolean): void {
  made.foreignKeys = made.foreignKeys.filter((item) => !isGone(item));
  made.indexes = made.indexes.filter((item) => !isGone(item));
}
