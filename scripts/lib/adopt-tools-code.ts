// The tools whose migrations are programs: their files cannot be taken over, only what they have made. Some of them run SQL files too.
import type { Entry, FolderFile, Row, Source, ToolFacts } from "./adopt-tools.ts";

const text = (value: unknown) => String(value ?? "");

/** Without the ending: the history of a program that was compiled has another one than its source. */
const stem = (path: string) => path.replace(/^.*\//, "").replace(/(\.d)?\.(js|cjs|mjs|ts|cts|mts|sql|rb|exs|py)$/, "");

const byColumn =
  (column: string) =>
  (rows: readonly Row[]): Entry[] =>
    rows.map((row) => ({ key: stem(text(row[column])) }));

/** Files directly in the folder whose names the pattern splits into digits and name. */
function named(files: readonly FolderFile[], pattern: RegExp, keyOf: (parts: RegExpExecArray, path: string) => string) {
  return files.flatMap(({ path }): Source[] => {
    const parts = pattern.exec(path);
    return parts ? [{ keys: [keyOf(parts, path)], path, digits: parts[1]!, name: stem(parts[2]!) }] : [];
  });
}

/** "20260101120000_create_users.js" */
const numbered = /^(\d+)[_-]([^/]*\.(?:js|cjs|mjs|ts|cts|mts))$/;

/** Like it, and "20260101120000_create_users.sql" as plain SQL. */
function numberedOrSql(
  files: readonly FolderFile[],
  sections: (sql: string) => { up: string; down: string },
): Source[] {
  const plain = files.flatMap(({ path, text: sql }): Source[] => {
    const [, digits, name] = /^(\d+)[_-]([^/]*)\.sql$/.exec(path) ?? [];
    return digits && !/\.down$/.test(name!)
      ? [{ keys: [stem(path), path], path, digits, name: name!.replace(/\.up$/, ""), sql: sections(sql) }]
      : [];
  });
  return [...named(files, numbered, (_, path) => stem(path)), ...plain];
}

/** node-pg-migrate's own marks: "-- Up Migration", "-- Down Migration". */
function upAndDown(sql: string): { up: string; down: string } {
  const up = /^\s*--[\s-]*up\s+migration.*$/im.exec(sql);
  const down = /^\s*--[\s-]*down\s+migration.*$/im.exec(sql);
  if (!down) return { up: sql, down: "" };
  return down.index < (up?.index ?? 0)
    ? { up: sql.slice(up!.index), down: sql.slice(down.index, up!.index) }
    : { up: sql.slice(0, down.index), down: sql.slice(down.index) };
}

const upAlone = (sql: string) => ({ up: sql, down: "" });

const holdsAdvisoryLock = (key: string) =>
  `select exists (select from pg_locks where locktype = 'advisory' and granted
     and database = (select oid from pg_database where datname = current_database())
     and (classid::bigint << 32) + objid::bigint = ${key}) as busy`;

export const codeTools = {
  knex: {
    order: "id",
    folders: ["migrations", "db/migrations", "src/migrations", "src/db/migrations"],
    command: "npx knex migrate:latest",
    entries: byColumn("name"),
    busy: "select exists (select from LOCK where is_locked <> 0) as busy",
    sources: (files) => numberedOrSql(files, upAlone),
  },
  "node-pg-migrate": {
    order: "id",
    folders: ["migrations", "db/migrations"],
    command: "npx node-pg-migrate up",
    entries: byColumn("name"),
    busy: holdsAdvisoryLock("7241865325823964"),
    sources: (files) => numberedOrSql(files, upAndDown),
  },
  sequelize: {
    order: "name",
    folders: ["migrations", "db/migrations", "src/migrations"],
    command: "npx sequelize-cli db:migrate",
    entries: byColumn("name"),
    sources: (files) => numberedOrSql(files, upAlone),
  },
  typeorm: {
    order: "id",
    folders: ["src/migrations", "src/migration", "migrations", "migration"],
    command: "npx typeorm migration:run",
    entries: (rows) => rows.map((row) => ({ key: text(row.timestamp), label: text(row.name) })),
    // The class in the file decides, and its name ends in the same digits.
    sources: (files) => named(files, /^(\d{13})-([^/]*\.[cm]?[jt]s)$/, ([, digits]) => digits!),
  },
  rails: {
    order: "version",
    folders: ["db/migrate"],
    command: "bin/rails db:migrate",
    entries: (rows) => rows.map((row) => ({ key: text(row.version) })),
    sources: (files) => named(files, /^(\d+)_([^/]*\.rb)$/, ([, digits]) => digits!),
  },
  ecto: {
    order: "version",
    folders: ["priv/repo/migrations"],
    command: "mix ecto.migrate",
    entries: (rows) => rows.map((row) => ({ key: text(row.version) })),
    sources: (files) => named(files, /^(\d+)_([^/]*\.exs)$/, ([, digits]) => digits!),
  },
  django: {
    order: "id",
    // Each app has a folder of its own, the packages' apps included.
    folders: [],
    command: "python manage.py migrate",
    entries: (rows) => rows.map((row) => ({ key: `${text(row.app)}.${text(row.name)}` })),
    sources: () => [],
  },
  alembic: {
    order: "version_num",
    folders: ["alembic/versions", "migrations/versions", "versions"],
    command: "alembic upgrade head",
    entries: (rows) => rows.map((row) => ({ key: text(row.version_num) })),
    sources: revisions,
    counts: "heads",
  },
} as const satisfies Readonly<Record<string, ToolFacts>>;

/** Only the newest that nothing else builds on: all others are applied where these are. */
function revisions(files: readonly FolderFile[]): Source[] {
  const found = files.flatMap(({ path, text: program }) => {
    const revision = /^revision\b[^=\n]*=\s*["']([^"']+)["']/m.exec(program)?.[1];
    const [, before = ""] = /^down_revision\b[^=\n]*=\s*(\([^)]*\)|.*)$/m.exec(program) ?? [];
    const parents = [...before.matchAll(/["']([^"']+)["']/g)].map(([, parent]) => parent!);
    return revision && path.endsWith(".py") ? [{ path, revision, parents }] : [];
  });
  const built = new Set(found.flatMap(({ parents }) => parents));
  return found
    .filter(({ revision }) => !built.has(revision))
    .map(({ path, revision }) => ({ keys: [revision], path, digits: "0", name: stem(path) }));
}
