// A migration of another tool as files that dbmate applies the same way: without the BEGIN and COMMIT around it, which are dbmate's own,
// without the statements by which it records itself, and with each statement that must run alone in a file of its own.
import { endOf, type ParseError, parseStatements, type Statement, without } from "./adopt-sql.ts";
import { exitCodes, Failure } from "./failure.ts";

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
  const removed = new Map<Statement, string>([
    ...recording.map((one) => [one, `/* it recorded itself in ${history.name} here */`] as const),
    ...around.map((one) => [one, ""] as const),
  ]);
  const kept = others.filter((one) => !around.includes(one));
  if (kept.some(({ kind }) => kind === "TransactionStmt"))
    return [{ sql: without(bytes, removed), transaction: false }];
  if (!kept.some(runsAlone)) return [{ sql: without(bytes, removed), transaction: true }];
  return split(bytes, statements, removed);
}

async function parse(path: string, sql: string): Promise<Statement[]> {
  return await parseStatements(sql).catch((error: ParseError) => {
    const line = [...sql]
      .slice(0, error.sqlDetails?.cursorPosition ?? 0)
      .join("")
      .split("\n").length;
    const next = ["the same command with --baseline      # which needs no files"];
    throw new Failure(`Cannot take over ${path}:${line}`, `${error.message}; only plain SQL can be`, next, {
      exitCode: exitCodes.saidNo,
      read: "docs/adopt.md",
    });
  });
}

/** BEGIN in front, COMMIT at the end, and nothing of the kind between. */
function isWrapped(statements: readonly Statement[]): boolean {
  const kinds = statements.map(({ kind, node }) => (kind === "TransactionStmt" ? node.kind : undefined));
  const begins = ["TRANS_STMT_BEGIN", "TRANS_STMT_START"].includes(`${kinds[0]}`);
  return begins && kinds.at(-1) === "TRANS_STMT_COMMIT" && kinds.filter(Boolean).length === 2;
}

/** Makes, fills or changes the table of the history. */
function touches({ kind, node }: Statement, { schema, name }: History): boolean {
  const isIt = (relation: unknown) => {
    const { relname, schemaname } = (relation ?? {}) as { relname?: string; schemaname?: string };
    return relname === name && (schemaname === undefined || schemaname === schema);
  };
  if (kind === "TruncateStmt") {
    return (node.relations as { RangeVar?: unknown }[]).some(({ RangeVar }) => isIt(RangeVar));
  }
  const own = ["InsertStmt", "UpdateStmt", "DeleteStmt", "CreateStmt", "IndexStmt", "AlterTableStmt", "RenameStmt"];
  return own.includes(kind) && isIt(node.relation);
}

/** Postgres refuses it in a transaction, or behind another statement of the same message. */
function runsAlone({ kind, node }: Statement): boolean {
  const options = (node.params ?? []) as { DefElem?: { defname?: string } }[];
  return (
    (["IndexStmt", "DropStmt"].includes(kind) && node.concurrent === true) ||
    (kind === "ReindexStmt" && options.some(({ DefElem }) => DefElem?.defname === "concurrently")) ||
    (kind === "AlterTableStmt" && JSON.stringify(node.cmds).includes('"concurrent":true')) ||
    (kind === "VacuumStmt" && node.is_vacuumcmd === true) ||
    ["CreatedbStmt", "DropdbStmt", "AlterSystemStmt", "CreateTableSpaceStmt", "DropTableSpaceStmt"].includes(kind)
  );
}

/** Runs of statements that may share a transaction, and each that may not alone; comments go with what follows them. */
function split(bytes: Buffer, statements: readonly Statement[], removed: ReadonlyMap<Statement, string>): Part[] {
  const parts: Part[] = [];
  let from = 0;
  const cut = (to: number, transaction: boolean) => {
    const sql = without(bytes, removed, from, to);
    from = to;
    if (sql.replace(/--.*$|\/\*[\s\S]*?\*\//gm, "").trim()) parts.push({ sql, transaction });
  };
  let end = 0;
  for (const statement of statements) {
    if (runsAlone(statement)) {
      cut(end, true);
      cut(endOf(bytes, statement), false);
    }
    end = endOf(bytes, statement);
  }
  cut(bytes.length, true);
  return parts;
}
