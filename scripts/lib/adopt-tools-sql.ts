// The tools whose migrations are SQL files, which dbmate can apply as well.
import { keyColumns } from "./adopt-detect.ts";
import type { Entry, FolderFile, Row, Source, ToolFacts } from "./adopt-tools.ts";

const text = (value: unknown) => String(value ?? "");
const base = (path: string) => path.replace(/^.*\//, "");

/** "000001_init.up.sql", and "000001_init.down.sql" beside it. */
const golangMigrate: ToolFacts = {
  order: "version",
  folders: ["db/migrations", "migrations", "db/migration", "internal/db/migrations"],
  command: "migrate -path … -database … up",
  // -1 is what it writes down when the very first one has been taken back.
  entries: (rows) => rows.flatMap(({ version }) => (Number(version) < 0 ? [] : [{ key: text(version) }])),
  problems: (rows) =>
    rows.filter((row) => row.dirty).map((row) => `version ${text(row.version)} is dirty: it failed half-way`),
  counts: "mark",
  sources: (files) =>
    files.flatMap(({ path, text: up }) => {
      const [, digits, name] = /^(\d+)_(.*)\.up\.sql$/.exec(path) ?? [];
      if (!digits) return [];
      const down = files.find((other) => other.path === path.replace(/\.up\.sql$/, ".down.sql"))?.text ?? "";
      return [{ keys: [`${BigInt(digits)}`], path, digits, name: name!, sql: { up, down } }];
    }),
};

const flyway: ToolFacts = {
  order: "installed_rank",
  folders: ["src/main/resources/db/migration", "db/migration", "sql", "migrations"],
  command: "flyway migrate",
  entries: flywayEntries,
  problems: (rows) =>
    rows.filter((row) => row.success === false).map((row) => `${text(row.script)} has failed, and is not repaired`),
  sources: (files) =>
    files.flatMap(({ path, text: up }): Source[] => {
      const [, version, name] = /^V(\d[\d._]*?)__(.*)\.sql$/.exec(base(path)) ?? [];
      const [, repeated] = /^R__(.*)\.sql$/.exec(base(path)) ?? [];
      const placeholder = /\$\{[\w.:]+\}/.test(up);
      const sql = placeholder ? {} : { sql: { up, down: "" } };
      if (repeated) {
        const description = repeated.replaceAll("_", " ");
        return [{ keys: [`R ${description}`], path, digits: "0", name: repeated, repeatable: true, ...sql }];
      }
      if (!version) return [];
      const parts = flywayParts(version);
      const digits = version.split(/[._]/)[0]!;
      return [{ keys: [parts.join(".")], path, digits, after: parts.slice(1), name: name!, ...sql }];
    }),
};

/** "1_02", "1.2" and "1.2.0" are the same version. */
function flywayParts(version: string): number[] {
  const parts = version.split(/[._]/).map(Number);
  while (parts.length > 1 && parts.at(-1) === 0) parts.pop();
  return parts;
}

/** A row that undoes takes the one before it back; a repeatable migration has one for each time that it ran. */
function flywayEntries(rows: readonly Row[]): Entry[] {
  const applied = new Map<string, Entry>();
  for (const row of rows) {
    const type = text(row.type);
    if (["SCHEMA", "DELETE"].includes(type)) continue;
    const key = row.version === null ? `R ${text(row.description)}` : flywayParts(text(row.version)).join(".");
    applied.delete(key);
    if (!/^UNDO/.test(type)) applied.set(key, { key, label: text(row.script) });
  }
  return [...applied.values()];
}

const prisma: ToolFacts = {
  order: "started_at, migration_name",
  folders: ["prisma/migrations", "migrations"],
  command: "npx prisma migrate deploy",
  entries: (rows) =>
    rows
      .filter((row) => row.finished_at !== null && row.rolled_back_at === null)
      .map((row) => ({ key: text(row.migration_name), sha256: text(row.checksum) })),
  problems: (rows) =>
    rows
      .filter((row) => row.finished_at === null && row.rolled_back_at === null)
      .map((row) => `${text(row.migration_name)} has begun and not ended: it failed, or is running`),
  busy: `select exists (select from pg_locks where locktype = 'advisory' and granted and classid = 0 and objid = 72707369
     and database = (select oid from pg_database where datname = current_database())) as busy`,
  sources: (files) =>
    files.flatMap(({ path, text: up, sha256 }) => {
      const [, folder, digits, name] = /^((\d+)_?([^/]*))\/migration\.sql$/.exec(path) ?? [];
      return digits ? [{ keys: [folder!], path, digits, name: name!, sha256, sql: { up, down: "" } }] : [];
    }),
};

/** Rows know the sha256 of the file, and when it was made. */
const drizzle: ToolFacts = {
  order: "created_at",
  folders: ["drizzle", "drizzle/migrations", "src/db/migrations", "migrations"],
  command: "npx drizzle-kit migrate",
  entries: (rows) =>
    rows.map((row) => {
      const label = row.name ? text(row.name) : `${text(row.hash).slice(0, 12)}…`;
      return { key: text(row.created_at), label, sha256: text(row.hash) };
    }),
  sources: (files) => [...drizzleFolders(files), ...drizzleJournal(files)],
};

/** Up to 0.45: meta/_journal.json, and a file for each of its tags. */
function drizzleJournal(files: readonly FolderFile[]): Source[] {
  const journal = files.find(({ path }) => path === "meta/_journal.json");
  const { entries } = journal
    ? (JSON.parse(journal.text) as { entries: { when: number; tag: string }[] })
    : { entries: [] };
  return entries.flatMap(({ when, tag }) => {
    const file = files.find(({ path }) => path === `${tag}.sql`);
    if (!file) return [];
    const { path, text: up, sha256 } = file;
    return [
      { keys: [`${when}`], path, digits: `${when}`, name: tag.replace(/^\d+_/, ""), sha256, sql: { up, down: "" } },
    ];
  });
}

/** From 1.0 on: a folder for each. */
function drizzleFolders(files: readonly FolderFile[]): Source[] {
  return files.flatMap(({ path, text: up, sha256 }) => {
    const [, digits, name] = /^(\d{14})_?([^/]*)\/migration\.sql$/.exec(path) ?? [];
    if (!digits) return [];
    const [year, month, day, hour, minute, second] = digits.match(/^....|../g)!.map(Number);
    const when = Date.UTC(year!, month! - 1, day, hour, minute, second);
    return [{ keys: [`${when}`], path, digits, name: name!, sha256, sql: { up, down: "" } }];
  });
}

const supabase: ToolFacts = {
  order: "version",
  folders: ["supabase/migrations"],
  command: "supabase db push",
  entries: (rows) =>
    rows.map((row) => {
      const statements = (row.statements ?? []) as string[];
      const sql = statements.length > 0 ? { sql: `${statements.join(";\n\n")};\n` } : {};
      return { key: text(row.version), label: [row.version, row.name].filter(Boolean).join("_"), ...sql };
    }),
  sources: (files) =>
    files.flatMap(({ path, text: up }) => {
      const [, digits, name] = /^(\d+)_([^/]*)\.sql$/.exec(path) ?? [];
      return digits ? [{ keys: [digits], path, digits, name: name!, sql: { up, down: "" } }] : [];
    }),
};

/** Without folders in front of a name, and without zeros in front of a number. */
const asNamed = (key: string) => (/^\d{1,9}$/.test(key) ? `${Number(key)}` : base(key));

const isTrue = (value: unknown) => /^(true|t|yes|y|1)$/i.test(text(value));
const isFalse = (value: unknown) => /^(false|f|no|n|0)$/i.test(text(value));
const settled =
  /^(applied|success|successful|succeeded|ok|done|complete|completed|executed|up|finished|migrated|installed|passed)$/i;

/** Whether a column says that a migration is not applied, or not all of it. @param name in lower case, without underscores. */
function isUnsettled(name: string, value: unknown): boolean {
  if (/^(is)?(dirty|failed|running|pending|rolledback|reverted)$/.test(name)) return isTrue(value);
  if (/^(is)?(success|successful|succeeded|ok|applied|completed|done|executed|finished)$/.test(name))
    return isFalse(value);
  if (/^(status|state|result|outcome)$/.test(name)) return !isTrue(value) && !settled.test(text(value));
  if (/^(applied|executed|finished|completed|migrated|installed|run|ran|ended)(at|on)$/.test(name))
    return value === null;
  if (/^(rolledback|reverted|undone|failed|error|errored)(at|on)$/.test(name)) return value !== null;
  return /^(error|errormessage|failure)$/.test(name) && text(value) !== "";
}

/** By file name, by the name without its ending, or by the number in front of it. */
const handWritten: ToolFacts = {
  order: "ctid",
  folders: ["db/migrations", "sql/migrations", "database/migrations", "db", "sql"],
  command: "your own runner",
  entries: (rows, keyColumn = "version") =>
    rows.map((row) => {
      const also = keyColumns.filter((name) => name !== keyColumn && typeof row[name] === "string");
      return {
        key: asNamed(text(row[keyColumn])),
        ...(also.length > 0 && { also: also.map((name) => base(text(row[name]))) }),
      };
    }),
  problems: (rows) =>
    rows.flatMap((row) => {
      const wrong = Object.entries(row).find(([name, value]) =>
        isUnsettled(name.toLowerCase().replaceAll("_", ""), value),
      );
      return wrong ? [`a row says ${wrong[0]} = ${wrong[1]}: ${JSON.stringify(row)}`] : [];
    }),
  sources: (files) =>
    files.flatMap(({ path, text: up }) => {
      const [, digits, name] = /^[a-z]{0,3}(\d+)[._-]?([^/]*)\.sql$/i.exec(path) ?? [];
      if (!digits || /[._-](down|undo|revert|rollback)$/.test(name!)) return [];
      const whole = path.replace(/\.sql$/, "");
      const down = files.find((other) => other.path === `${whole.replace(/\.up$/, "")}.down.sql`)?.text ?? "";
      const keys = [path, whole, whole.replace(/\.up$/, ""), digits, `${BigInt(digits)}`];
      return [{ keys: [...new Set(keys)], path, digits, name: name!.replace(/\.up$/, ""), sql: { up, down } }];
    }),
};

export const sqlTools = {
  ...{ flyway, prisma, drizzle, supabase },
  "golang-migrate": golangMigrate,
  "hand-written": handWritten,
} as const satisfies Readonly<Record<string, ToolFacts>>;
