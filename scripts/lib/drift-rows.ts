// What a migration does that nobody can see in the structure of a database: rows that it writes, functions that it calls. That all it changes
// in the structure is there says nothing of those.
import type { MigrationFile } from "./migration-file.ts";
import type { Statement } from "./migration-statements.ts";

export type Unseen = {
  file: string;
  /** Each such statement, in short: "INSERT countries". */
  statements: string[];
  /** It consists of nothing else. */
  isAll: boolean;
};

/** @returns those of the files that have such statements. */
export async function unseenIn(files: readonly MigrationFile[]): Promise<Unseen[]> {
  if (files.length === 0) return [];
  const { statementsOf } = await import("./migration-statements.ts");
  const found = files.map(async ({ file, sections }): Promise<Unseen> => {
    const all = await statementsOf(sections[0]!.up);
    const statements = all.flatMap((one) => describe(one) ?? []);
    return { file, statements, isAll: statements.length === all.length };
  });
  return (await Promise.all(found)).filter(({ statements }) => statements.length > 0);
}

export const isUnseen = (statement: Statement): boolean => describe(statement) !== undefined;

const writes: Readonly<Record<string, string>> = {
  ...{ InsertStmt: "INSERT", UpdateStmt: "UPDATE", DeleteStmt: "DELETE", MergeStmt: "MERGE", CopyStmt: "COPY" },
  ...{ TruncateStmt: "TRUNCATE", CallStmt: "CALL", ExecuteStmt: "EXECUTE" },
};

/** @returns undefined where the structure says whether it was done. */
function describe({ node, tree }: Statement): string | undefined {
  if (node === undefined) return "what cannot be parsed";
  const verb = writes[node];
  if (verb) return [verb, ...relationsOf(tree)].join(" ");
  const text = JSON.stringify(tree);
  if (node === "SelectStmt") return isSetting(text) ? undefined : "SELECT";
  if (node === "DoStmt") return doesWrite(tree) ? "DO" : undefined;
  if (node === "ExplainStmt") return text.includes('"defname":"analyze"') ? "EXPLAIN ANALYZE" : undefined;
  if (node === "CreateTableAsStmt") return isView(tree) ? undefined : "CREATE TABLE AS";
  // A sequence that starts anew, by itself or with its column.
  if (text.includes('"defname":"restart"')) return "RESTART of a sequence";
  return undefined;
}

const relationsOf = (tree: Statement["tree"]): string[] => {
  const one = (tree.relation as { relname?: string } | undefined)?.relname;
  const several = (tree.relations as { RangeVar?: { relname: string } }[] | undefined) ?? [];
  return [...(one ? [one] : []), ...several.flatMap(({ RangeVar }) => RangeVar?.relname ?? [])];
};

/** A view has the rows of others, or none yet. */
const isView = ({ objtype, into }: Statement["tree"]) =>
  objtype === "OBJECT_MATVIEW" || (into as { skipData?: boolean } | undefined)?.skipData === true;

/** It calls nothing but set_config(), and writes nowhere. */
function isSetting(text: string): boolean {
  const called = [...text.matchAll(/"funcname":\[(.*?)\]/g)].map(
    ([, names]) => names!.match(/"sval":"(\w+)"(?!.*"sval")/)?.[1],
  );
  return (
    called.every((name) => name === "set_config") &&
    !/"(?:IntoClause|intoClause|InsertStmt|UpdateStmt|DeleteStmt|MergeStmt)"/.test(text)
  );
}

/** One that only asks, makes or changes objects, and refuses, does not. Of a function that is called nobody knows. */
function doesWrite({ args }: Statement["tree"]): boolean {
  const parts = args as { DefElem?: { defname?: string; arg?: { String?: { sval?: string } } } }[];
  const body = parts.find(({ DefElem }) => DefElem?.defname === "as")?.DefElem?.arg?.String?.sval ?? "insert";
  const bare = body.replaceAll(/--.*$|\/\*[\s\S]*?\*\//gm, " ").replaceAll(/'(?:[^']|'')*'/g, "''");
  const rest = bare.replaceAll(definition, " ");
  const calls = [...rest.matchAll(/([\w$.]+|")\s*\(/g)].map(([, name]) =>
    name!.toLowerCase().replace(/^pg_catalog\./, ""),
  );
  return (
    /\b(?:insert|update|delete|merge|copy|truncate|call|perform|execute|create|alter)\b/i.test(rest) ||
    !calls.every(isHarmless)
  );
}

/** What the structure says whether it was done; not a table with the rows of a query. */
const definition =
  /\b(?:create|alter|drop|comment|grant|revoke)\b(?![^;]*\brestart\b)(?!\s+(?:temp(?:orary)?\s+|unlogged\s+)?table\b[^;]*\bas\b)[^;]*;/gi;

const isHarmless = (name: string) =>
  /^(?:if|elsif|when|while|until|in|exists|and|or|not|select|from|where|any|all|some|array|case|return|values|as|on|using)$/.test(
    name,
  ) ||
  /^(?:to_reg\w+|has_\w+_privilege|pg_get_\w+|format|coalesce|nullif|greatest|least|quote_\w+|current_setting|current_schemas?|count|min|max|array_agg|string_agg|bool_(?:and|or)|lower|upper|length|version|now|regexp_\w+|format_type|set_config)$/.test(
    name,
  );
