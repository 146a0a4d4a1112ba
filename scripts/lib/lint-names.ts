// Names of tables and columns as they stand in a parse tree. One without a schema is taken for one of the schema public.
import type { Node, RangeVar } from "libpg-query";

/** "t" for that of the schema public, "s.t" for others. */
export type Relation = string;

export const nameOf = (parts: readonly string[]): string =>
  (parts.length > 1 && parts[0] === "public" ? parts.slice(1) : parts).join(".");

export const relationOf = ({ schemaname, relname }: RangeVar): Relation =>
  nameOf([...(schemaname ? [schemaname] : []), relname!]);

/** What a statement makes that holds rows; not where IF NOT EXISTS may mean one that is there already. */
export function newTable(node: Node): Relation | undefined {
  if ("CreateStmt" in node) {
    const { relation, if_not_exists } = node.CreateStmt;
    return if_not_exists ? undefined : relationOf(relation!);
  }
  if (!("CreateTableAsStmt" in node)) return undefined;
  const { into, if_not_exists } = node.CreateTableAsStmt;
  return if_not_exists ? undefined : relationOf(into!.rel!);
}

/** Of a list of words. */
export const textsOf = (nodes: readonly Node[] = []): string[] =>
  nodes.flatMap((node) => ("String" in node ? [node.String.sval ?? ""] : []));

/** The words of a name: "s" and "t" of s.t. */
export function namesIn(object: Node | undefined): string[] {
  if (object && "List" in object) return textsOf(object.List.items);
  return object && "String" in object ? [object.String.sval ?? ""] : [];
}

/** What holds rows, or looks like it, by its name in a parse tree and in SQL. */
export const relationKinds: Readonly<Record<string, string>> = {
  OBJECT_TABLE: "table",
  OBJECT_VIEW: "view",
  OBJECT_MATVIEW: "materialized view",
  OBJECT_FOREIGN_TABLE: "foreign table",
};
