// What `drift adopt` decides by, read from the database and from the folders of the project. Nothing is written.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { convert, type Part } from "./adopt-convert.ts";
import { companionOf, detect, keyColumnOf, nameOf, type Recognised, type Table } from "./adopt-detect.ts";
import { findFolder } from "./adopt-files.ts";
import { type Adopted, leftOut, othersAmong, readAdopted, readTables, withSchemas } from "./adopt-histories.ts";
import { countsAsMark, type Match, match } from "./adopt-match.ts";
import { baselineEnding, betweenApplied, chooseWay, type Observed, type Way } from "./adopt-plan.ts";
import { facts, type Row, type Source, type ToolFacts } from "./adopt-tools.ts";
import { where } from "./drift-check.ts";
import type { DriftRequest } from "./drift-request.ts";
import { exitCodes, Failure } from "./failure.ts";
import { findMigrations, type MigrationFile, readMigrations } from "./migration-file.ts";
import { readTracked } from "./migration-record.ts";
import { type Psql, quoteIdentifier, quoteLiteral } from "./psql.ts";

export type Seen = Observed & {
  way: ReturnType<typeof chooseWay>;
  rows: readonly Row[];
  readRows(psql: Psql): Promise<Row[]>;
  owner: string;
  roles: string[];
};

/** @param adopted the one that a run which was cut off has adopted, where this one ends its work. */
export async function observe(psql: Psql, { directory, flags }: DriftRequest, adopted?: Adopted): Promise<Seen> {
  const [tables, before] = [await readTables(psql), await readAdopted(psql)];
  const at = where(flags);
  const asked = adopted
    ? { tool: adopted.tool, table: adopted.history, adopted: [], at }
    : { tool: flags.tool, table: flags.table, adopted: before.map(({ history }) => history), at };
  const history = detect(tables, asked);
  const tool = facts[history.tool as keyof typeof facts];
  const readRows = rowsReader(history.table, tool);
  const rows = await readRows(psql);
  await requireSettled(psql, history, tool, rows, tables);
  const entries = tool.entries(rows, keyColumnOf(history.table));
  if (entries.length === 0) throw empty(history, at);
  const folder = await findFolder({
    ...{ directory, asked: flags.files, usual: tool.folders },
    isIts: (files) => tool.sources(files).length > 0,
  });
  const sources = folder ? tool.sources(folder.files) : [];
  const isMark = history.tool === "hand-written" && countsAsMark(entries, sources);
  const found = match(isMark ? { counts: "mark" } : tool, entries, sources);
  const existing = await existingMigrations(directory);
  const wasBaseline = adopted?.files.some(({ file }) => file.endsWith(baselineEnding)) ?? false;
  const choosing = { match: found, folder: folder?.path, existing, history };
  const way = chooseWay(choosing, flags.baseline || wasBaseline);
  const taken = await readTaken(psql, history, { isAdopted: adopted !== undefined, at });
  const own = leftOut([...before, { history: nameOf(history.table), tool: history.tool }, ...taken.own]);
  const isThere = new Set(tables.map(nameOf));
  const notCompared = leftOut(othersAmong(tables, own)).filter((name) => !own.includes(name) && isThere.has(name));
  return {
    ...{ history, entries, match: found, folder: folder?.path, way, rows, readRows, existing },
    histories: await withSchemas(psql, [...own, ...notCompared]),
    ...{ notCompared, isMark },
    parts: await convertAll(needed(found, way.way), folder?.path, history.table),
    ...taken,
  };
}

const rowsReader = (table: Table, { order }: ToolFacts) => {
  const name = quoted(table);
  return (psql: Psql) => psql.rows<Row>(`select t.* from ${name} t order by ${order}`);
};

const quoted = ({ schema, name }: Pick<Table, "schema" | "name">) =>
  `${quoteIdentifier(schema)}.${quoteIdentifier(name)}`;

/** @throws {Failure} exit 3 after a migration that failed; exit 4 while one is running. */
async function requireSettled(
  psql: Psql,
  { tool: name, table }: Recognised,
  { problems, busy }: ToolFacts,
  rows: readonly Row[],
  tables: readonly Table[],
): Promise<void> {
  const wrong = problems?.(rows) ?? [];
  if (wrong.length > 0) {
    throw new Failure(
      "Cannot adopt",
      `${name} has left a migration half-done`,
      [
        name === "hand-written"
          ? "finish them, or take them back; then make the rows say so, and the same command again"
          : `mend it with ${name}, then the same command again`,
      ],
      {
        exitCode: exitCodes.saidNo,
        details: wrong.join("\n"),
        read: "docs/runbook/dirty-state.md",
      },
    );
  }
  const beside = companionOf(nameOf(table), name);
  const lock = tables.find((one) => nameOf(one) === beside);
  if (!busy || (busy.includes("LOCK") && !lock)) return;
  const [row] = await psql.rows<{ busy: boolean }>(busy.replace("LOCK", lock ? quoted(lock) : ""));
  if (!row!.busy) return;
  throw new Failure(
    "Cannot adopt",
    `${name} is migrating, or was killed while it did`,
    ["the same command again, once it is done"],
    {
      exitCode: exitCodes.locked,
      read: "docs/runbook/dirty-state.md",
    },
  );
}

function empty({ tool, table }: Recognised, at: string): Failure {
  return new Failure(
    "There is nothing to adopt",
    `${nameOf(table)}, the history of ${tool}, is empty`,
    [`bun scripts/migrate.ts up${at}`],
    {
      exitCode: exitCodes.saidNo,
      read: "docs/adopt.md",
    },
  );
}

/** With a baseline, what is applied is in it. What cannot be converted and is not needed stays unsaid. */
function needed(found: Match, way: Way): readonly Source[] {
  if (way === "import") return found.sources;
  const { applied, undecided } = found;
  const inBaseline = [...applied, ...undecided.flatMap(({ sources }) => sources), ...betweenApplied(found)];
  return found.sources.filter((one) => !inBaseline.includes(one));
}

async function convertAll(
  sources: readonly Source[],
  folder: string | undefined,
  table: Table,
): Promise<Map<Source, Part[]>> {
  const parts = new Map<Source, Part[]>();
  for (const source of sources) {
    const path = folder ? `${folder}/${source.path}` : source.path;
    if (source.sql) parts.set(source, await convert(path, source.sql.up, table));
  }
  return parts;
}

/** @throws {Failure} exit 2 when the old tool's files lie where dbmate reads its own. */
async function existingMigrations(directory: string): Promise<MigrationFile[]> {
  if (!existsSync(join(directory, "migrations"))) return [];
  const { files, problems } = await findMigrations(directory);
  const foreign = [...problems, ...files.flatMap((file) => (file.sections.length === 0 ? [file.file] : []))];
  if (foreign.length === 0) return await readMigrations(directory);
  const next = [
    "git mv migrations migrations-before && mkdir migrations      # the old tool's files get a folder of their own",
    "the same command with --files migrations-before",
  ];
  throw new Failure("Cannot adopt", "files that are not dbmate's lie in migrations/", next, {
    exitCode: exitCodes.usage,
    details: foreign.join("\n"),
    read: "docs/adopt.md",
  });
}

type Taken = Pick<Seen, "nameIsTaken" | "tracked" | "owner" | "roles"> & {
  /** dbmate's own table, where it has one. */
  own: { history: string; tool: string }[];
};

/** @throws {Failure} exit 5 when dbmate's own table has something in it, or its name belongs to a third one. */
async function readTaken(
  psql: Psql,
  { tool, table }: Recognised,
  { isAdopted, at }: { isAdopted: boolean; at: string },
): Promise<Taken> {
  const [row] = await psql.rows<{
    name: string | null;
    isIt: boolean;
    isText: boolean;
    owner: string;
    roles: string[];
  }>(
    `select (select n.nspname || '.' || c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
         where c.oid = to_regclass('schema_migrations')) as name,
       to_regclass('schema_migrations') = ${quoteLiteral(quoted(table))}::regclass as "isIt",
       exists (select from pg_attribute where attrelid = to_regclass('schema_migrations') and attname = 'version'
         and atttypid in ('text'::regtype, 'varchar'::regtype)) as "isText",
       (select pg_get_userbyid(relowner) from pg_class where oid = ${quoteLiteral(quoted(table))}::regclass) as owner,
       array(select rolname from pg_roles where rolname !~ '^pg_' order by rolname) as roles`,
  );
  const { name, isIt, isText, owner, roles } = row!;
  if (name && !isIt && !isText) throw inTheWay("it is the history of another tool", tool, at);
  const tracked = await readTracked(psql);
  if (isIt) return { nameIsTaken: true, tracked: { ...tracked, applied: [] }, owner, roles, own: [] };
  const { length } = tracked.applied;
  if (length > 0 && !isAdopted)
    throw inTheWay(`it has ${length === 1 ? "1 version" : `${length} versions`} already`, tool, at);
  return { nameIsTaken: false, tracked, owner, roles, own: name ? [{ history: name, tool: "dbmate" }] : [] };
}

function inTheWay(why: string, tool: string, at: string): Failure {
  const next = [`bun scripts/drift.ts check${at}      # what dbmate's own history and the files have in common`];
  return new Failure(`Cannot adopt from ${tool}`, `there is a table schema_migrations, and ${why}`, next, {
    exitCode: exitCodes.refused,
    read: "docs/adopt.md",
  });
}
