// Whose history of migrations the tables of a database are, by the names and types of their columns: four tools call theirs
// schema_migrations. Pure: adopt-histories.ts reads the tables.
import { type Columns, companions, kindOf, type Shape, shapes } from "./adopt-shapes.ts";
import { exitCodes, Failure } from "./failure.ts";

export type Table = {
  schema: string;
  name: string;
  /** The types of its columns by their names, as format_type() has them without lengths. */
  columns: Columns;
};

/** "hand-written" is a table that looks like a history, and is none of a known tool. */
export type Tool = (typeof shapes)[number]["tool"] | "hand-written";

export type Recognised = { tool: Tool; table: Table };

export const tools: readonly Tool[] = [...shapes.map(({ tool }) => tool), "hand-written"];

/** What an old history is called where dbmate needs its name. scripts/validator.ts knows it as well. */
export const asideName = "schema_migrations_before_dbmate";

export const nameOf = ({ schema, name }: Pick<Table, "schema" | "name">) => `${schema}.${name}`;

/** Every history of a known tool. Of a table that fits several, the first in the list of shapes is told. */
export function recognise(tables: readonly Table[]): Recognised[] {
  return tables.flatMap((table) => {
    const shape = shapes.find((one: Shape) => fits(one, table, tables));
    return shape ? [{ tool: shape.tool, table }] : [];
  });
}

/** @param others all tables, for what has to lie beside it. */
function fits(shape: Shape, table: Table, others: readonly Table[]): boolean {
  const { columns, optional = {}, named, beside } = shape;
  return (
    hasColumns(table, columns, optional) &&
    (!named || new RegExp(named, "i").test(nameOf(table))) &&
    (!beside || liesBeside(beside, table, others))
  );
}

/** Where the table that was there before was put aside, what has its name now is dbmate's. */
function liesBeside(beside: Columns, table: Table, others: readonly Table[]): boolean {
  const inSchema = others.filter(({ schema }) => schema === table.schema);
  const isReplaced = table.name !== asideName && inSchema.some(({ name }) => name === asideName);
  return !isReplaced && inSchema.some((other) => hasColumns(other, beside));
}

function hasColumns(table: Table, columns: Columns, optional: Columns = {}): boolean {
  const wanted = Object.entries(columns);
  const found = Object.entries(table.columns);
  const known = { ...optional, ...columns };
  return (
    wanted.every(([name]) => Object.hasOwn(table.columns, name)) &&
    found.every(([name, type]) => known[name] === kindOf(type))
  );
}

/** Those that are called as nearly all are: of a table that only has the columns, nobody knows whether it is an app's. */
export const recogniseUsual = (tables: readonly Table[]): Recognised[] =>
  recognise(tables).filter(({ tool, table }) => shapes.find((shape) => shape.tool === tool)!.usual === table.name);

/** "schema.table" of what the tool keeps beside that history; undefined where it keeps nothing. */
export function companionOf(history: string, tool: string): string | undefined {
  const dot = history.indexOf(".");
  const name = companions[tool]?.(history.slice(dot + 1));
  return name && `${history.slice(0, dot)}.${name}`;
}

/** The columns that may name a migration in a table that somebody has made up, best first. */
export const keyColumns = "version migration migration_name migration_id filename file_name file script name id".split(
  " ",
);
const historyName = /migration|schema_version|schema_history|db_version|schema_changes/i;

/** @returns undefined for a table that is no history. */
export function keyColumnOf({ columns }: Table): string | undefined {
  const isKey = (name: string) => ["text", "number"].includes(kindOf(columns[name] ?? ""));
  return keyColumns.find(isKey);
}

type Asked = {
  /** `--tool`; its shape is then enough, whatever the table is called. */
  tool: string | undefined;
  /** `--table`: "table" or "schema.table". */
  table: string | undefined;
  /** "schema.table" of histories that have been adopted already. */
  adopted: readonly string[];
  /** To be typed behind a command, so that it is about the same database: " --on production". */
  at: string;
};

/**
 * The one history that is meant.
 * @throws {Failure} exit 2 when several could be, or the flags name what is not there; exit 3 when there is none.
 */
export function detect(tables: readonly Table[], { tool, table: asked, adopted, at }: Asked): Recognised {
  if (tool !== undefined && !tools.includes(tool as Tool)) {
    throw new Failure("Cannot adopt", `"${tool}" is no tool that this knows`, [`--tool ${tools.join(", ")}`], usage);
  }
  const candidates = tables
    .filter((table) => !adopted.includes(nameOf(table)))
    .filter((table) => asked === undefined || asked === table.name || asked === nameOf(table));
  const found = candidatesOf(candidates, tables, tool as Tool | undefined);
  if (found.length === 1) return found[0]!;
  if (found.length > 1) throw ambiguous(found, tool);
  const isDbmates = recognise(candidates).some((one) => one.tool === "dbmate");
  if (isDbmates && !asked && !tool) throw dbmatesOwn(at);
  throw nothingFound(tables, asked, tool);
}

function candidatesOf(candidates: readonly Table[], all: readonly Table[], tool: Tool | undefined): Recognised[] {
  const isHistory = (table: Table) => historyName.test(nameOf(table)) && keyColumnOf(table) !== undefined;
  const byHand = (some: readonly Table[]) =>
    some.filter(isHistory).map((table) => ({ tool: "hand-written" as const, table }));
  if (tool === "hand-written") return byHand(candidates);
  if (tool !== undefined) return ofTool(candidates, all, tool);
  const known = recognise(all).filter(({ table }) => candidates.includes(table));
  const foreign = known.filter((one) => one.tool !== "dbmate");
  if (foreign.length > 0) return foreign;
  return byHand(candidates.filter((table) => !known.some((one) => one.table === table)));
}

/** By the columns alone; where that leaves several, by the name as well. */
function ofTool(candidates: readonly Table[], all: readonly Table[], tool: Tool): Recognised[] {
  const shape: Shape = shapes.find((one) => one.tool === tool)!;
  const { named: _, ...unnamed } = shape;
  const byColumns = candidates.filter((table) => fits(unnamed, table, all));
  const byName = byColumns.filter((table) => fits(shape, table, all));
  return (byName.length > 0 ? byName : byColumns).map((table) => ({ tool, table }));
}

const usage = { exitCode: exitCodes.usage } as const;

function ambiguous(found: readonly Recognised[], tool: string | undefined): Failure {
  const isOneTool = new Set(found.map((one) => one.tool)).size === 1;
  const list = found.map((one) => `${one.tool}: ${nameOf(one.table)}`);
  const next = found.map((one) => (isOneTool ? `--table ${nameOf(one.table)}` : `--tool ${one.tool}`));
  const what = tool ?? "another tool";
  return new Failure("Cannot adopt", `${found.length} tables could be the history of ${what}`, unique(next), {
    ...usage,
    details: list.join("\n"),
    read: "docs/adopt.md",
  });
}

function dbmatesOwn(at: string): Failure {
  const why = "the only history of migrations is dbmate's own, schema_migrations";
  const next = [
    `bun scripts/drift.ts check${at}`,
    "the same command with --tool hand-written      # if something else has filled it",
  ];
  return new Failure("There is nothing to adopt", why, next, { exitCode: exitCodes.saidNo, read: "docs/adopt.md" });
}

function nothingFound(tables: readonly Table[], asked: string | undefined, tool: string | undefined): Failure {
  const wanted = `${asked ? `a table "${asked}" that is ` : ""}the history of ${tool ?? "another tool"}`;
  const why = `among ${tables.length === 1 ? "1 table" : `${tables.length} tables`} there is not ${wanted}`;
  return new Failure("There is nothing to adopt", why, ["--tool NAME --table TABLE      # which table it is"], {
    exitCode: exitCodes.saidNo,
    read: "docs/adopt.md",
  });
}

const unique = (texts: readonly string[]) => [...new Set(texts)];
