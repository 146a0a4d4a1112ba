// A migration of another tool as files that dbmate applies the same way: without the BEGIN and COMMIT around it, which are dbmate's own,
// without the statements by which it records itself, and with each statement that must run alone in a file of its own.
import { endOf, without } from "./adopt-sql.ts";
import { exitCodes, Failure } from "./failure.ts";
import { type Parsed, type ParseError, parseSql } from "./migration-statements.ts";

export type Part = { sql: string; transaction: boolean };

/** "schema.table", as the files may name it. */
type History = { schema: string; name: string };

/** @throws {Failure} exit 3 for what Postgres itself cannot read: psql's own commands, other placeholders. */
export async function convert(path: string, text: string, history: History): Promise<Part[]> {
  const sql = text.replace(/^\uFEFF/, "");
  const bytes = Buffer.from(sql);
  const statements = await parse(path, sql);
  const recording = statements.filter((one) => touches(one, history));
  const others = statements.filter((one) => !recording.includes(one));
  const around = isWrapped(others) ? [others[0]!, others.at(-1)!] : [];
  const removed = new Map<Parsed, string>([
    ...recording.map((one) => [one, `/* it recorded itself in ${history.name} here */`] as const),
    ...around.map((one) => [one, ""] as const),
  ]);
  const kept = others.filter((one) => !around.includes(one));
  const ends = kept.filter((one) => isBegin(one) || isCommit(one));
  const other = kept.find((one) => one.node === "TransactionStmt" && !ends.includes(one) && !isSavepoint(one));
  if (other)
    throw notPlain(
      `${path}:${lineAt(bytes, other)}`,
      `${bytes.toString("utf8", other.start, other.end).trim()}: nobody knows what it takes back`,
    );
  for (const one of ends) removed.set(one, "");
  if (ends.length === 0 && !kept.some(runsAlone)) return [{ sql: without(bytes, removed), transaction: true }];
  return split(bytes, statements, removed);
}

async function parse(path: string, sql: string): Promise<Parsed[]> {
  return await parseSql(sql).catch((error: ParseError | Failure) => {
    if (error instanceof Failure) throw error;
    const line = [...sql]
      .slice(0, error.sqlDetails?.cursorPosition ?? 0)
      .join("")
      .split("\n").length;
    throw notPlain(`${path}:${line}`, `${error.message}; only plain SQL can be`);
  });
}

function notPlain(place: string, why: string): Failure {
  const next = ["the same command with --baseline      # which needs no files"];
  return new Failure(`Cannot take over ${place}`, why, next, { exitCode: exitCodes.saidNo, read: "docs/adopt.md" });
}

const lineAt = (bytes: Buffer, { end }: Parsed) => bytes.toString("utf8", 0, end).split("\n").length;

const kindOf = ({ node, tree }: Parsed) => (node === "TransactionStmt" ? `${tree.kind ?? "TRANS_STMT_BEGIN"}` : "");
const isBegin = (one: Parsed) => ["TRANS_STMT_BEGIN", "TRANS_STMT_START"].includes(kindOf(one));
const isCommit = (one: Parsed) => kindOf(one) === "TRANS_STMT_COMMIT";
const isSavepoint = (one: Parsed) =>
  ["TRANS_STMT_SAVEPOINT", "TRANS_STMT_RELEASE", "TRANS_STMT_ROLLBACK_TO"].includes(kindOf(one));

/** BEGIN in front, COMMIT at the end, and nothing of the kind between. */
function isWrapped(statements: readonly Parsed[]): boolean {
  const [first, ...rest] = statements.filter((one) => isBegin(one) || isCommit(one));
  return (
    rest.length === 1 &&
    first === statements[0] &&
    rest[0] === statements.at(-1) &&
    isBegin(first!) &&
    isCommit(rest[0]!)
  );
}

/** Makes, fills or changes the table of the history. */
function touches({ node, tree }: Parsed, { schema, name }: History): boolean {
  const isIt = (relation: unknown) => {
    const { relname, schemaname } = (relation ?? {}) as { relname?: string; schemaname?: string };
    return relname === name && (schemaname === undefined || schemaname === schema);
  };
  if (node === "TruncateStmt") {
    return (tree.relations as { RangeVar?: unknown }[]).some(({ RangeVar }) => isIt(RangeVar));
  }
  const own = ["InsertStmt", "UpdateStmt", "DeleteStmt", "CreateStmt", "IndexStmt", "AlterTableStmt", "RenameStmt"];
  return own.includes(node) && isIt(tree.relation);
}

/** Postgres refuses it in a transaction, or behind another statement of the same message. */
function runsAlone({ node, tree }: Parsed): boolean {
  const options = (tree.params ?? []) as { DefElem?: { defname?: string } }[];
  return (
    (["IndexStmt", "DropStmt"].includes(node) && tree.concurrent === true) ||
    (node === "ReindexStmt" && options.some(({ DefElem }) => DefElem?.defname === "concurrently")) ||
    (node === "AlterTableStmt" && JSON.stringify(tree.cmds).includes('"concurrent":true')) ||
    (node === "VacuumStmt" && tree.is_vacuumcmd === true) ||
    ["CreatedbStmt", "DropdbStmt", "AlterSystemStmt", "CreateTableSpaceStmt", "DropTableSpaceStmt"].includes(node)
  );
}

/** Runs of statements that may share a transaction, or did, and each that may not alone; comments go with what follows them. */
function split(bytes: Buffer, statements: readonly Parsed[], removed: ReadonlyMap<Parsed, string>): Part[] {
  const parts: Part[] = [];
  let from = 0;
  const cut = (to: number, transaction: boolean) => {
    const sql = without(bytes, removed, from, to);
    if (!sql.replace(/--.*$|\/\*[\s\S]*?\*\//gm, "").trim()) return;
    parts.push({ sql, transaction });
    from = to;
  };
  let end = 0;
  for (const statement of statements) {
    if (runsAlone(statement)) {
      cut(end, true);
      cut(endOf(bytes, statement), false);
    }
    if (isBegin(statement)) cut(end, true);
    end = endOf(bytes, statement);
    if (isCommit(statement)) cut(end, true);
  }
  cut(bytes.length, true);
  return parts;
}
