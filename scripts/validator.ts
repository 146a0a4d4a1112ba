// Startup validator and health routes: an app refuses to start on a database it cannot work with, and says why.
//   Command:  bun scripts/validator.ts [--json]      exit 0: usable, 3: not
//   Library:  await validateOrExit(sql, config.schema);  const health = healthRoutes(sql, config.schema);
// Copy it anywhere: it imports nothing but node's own modules, and needs one postgres.js `sql`. It only ever reads.
import { createHash, timingSafeEqual } from "node:crypto";
import { existsSync, readdirSync, readFileSync, realpathSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

/** What this file uses of a postgres.js `sql`. Hand in the pool, not a transaction. */
export type Database = { unsafe(query: string): PromiseLike<unknown> };

export type Privilege = "select" | "insert" | "update" | "delete" | "truncate" | "references" | "trigger";

/** What the app needs of its database. All names are exact, as the catalog has them: upper case stays upper case. */
export type Expectation = {
  /** "table" (found through the search_path) or "schema.table". Without privileges: select. */
  criticalTables?: readonly (string | { name: string; privileges: readonly Privilege[] })[];
  extensions?: readonly (string | { name: string; minimumVersion: string })[];
  /** The versions that must have been applied. Default: expectedVersions(). */
  versions?: readonly string[];
  /** Where dbmate keeps the applied ones. Default "schema_migrations". */
  migrationsTable?: string;
  /** What keeps them, if it is not dbmate; "auto" finds out, by the columns of the tables. */
  tracker?: Tracker | "auto" | undefined;
  /** Where its files are. Default "migrations". */
  migrationsFolder?: string | undefined;
  /** Major version. Default 15, the oldest that still gets security fixes (November 2026). */
  minimumServerVersion?: number;
  /** Compared when given. */
  role?: string;
  database?: string;
  /** How long validateOrExit() waits for a database that does not answer yet. Default 30. */
  waitSeconds?: number;
};

export type Check = "connection" | "server" | "migrations" | "tables" | "extensions" | "indexes";

/** Texts hold no host, user name or password, so that a health route may show them. */
export type Problem = { check: Check; severity: "fail" | "warn"; message: string; next: string };

export type Report = {
  /** Nothing fails; there may be warnings. */
  ok: boolean;
  connected: boolean;
  /** Not connected, for a reason that may pass by waiting. */
  transient: boolean;
  responseTimeMs: number;
  /** Failures first. */
  problems: Problem[];
  /** undefined when not connected. `latest` is the last in dbmate's order, which sorts versions as strings. */
  server?: { version: string; inRecovery: boolean; readOnly: boolean };
  migrations: {
    expected: string[];
    applied: string[];
    pending: string[];
    unknown: string[];
    /** Where it is not dbmate. */
    tracker?: Tracker;
  };
  tables: { name: string; exists: boolean; missingPrivileges: string[] }[];
  /** Only where asked for: the size alone costs the server one look at every file. */
  statistics?: { sizeBytes: number; connections: number; connectionsMaximum: number };
};

const limitSeconds = 2;
const cacheMilliseconds = 1000;
/** Questions without an answer that may be under way at once; a hung database must not collect them. */
const unansweredMaximum = 2;

// ---------------------------------------------------------------------------------------------------- library

/** Looks once: one query, one round trip, at most 2 seconds. Never throws for what the database does. */
export async function validate(sql: Database, expectation: Expectation): Promise<Report> {
  return await createLook(sql, expectation, { seconds: limitSeconds })();
}

/**
 * Call it before the app listens. Waits while the database is not there yet, then logs each problem on its own line,
 * with what to do, and exits 1. A wrong password or an unapplied migration is not waited for: time mends neither.
 */
export async function validateOrExit(sql: Database, expectation: Expectation): Promise<Report> {
  const seconds = expectation.waitSeconds ?? 30;
  const end = performance.now() + seconds * 1000;
  const fixed =
    expectation.tracker === "auto" ? expectation : { ...expectation, versions: versionsOrExit(expectation) };
  let report = await createLook(sql, fixed, { seconds: Math.max(seconds, limitSeconds) })();
  while (report.transient && performance.now() < end) {
    await new Promise((wake) => setTimeout(wake, 200));
    const left = Math.max((end - performance.now()) / 1000, limitSeconds);
    report = await createLook(sql, fixed, { seconds: left })();
  }
  for (const problem of report.problems) console.error(`validator: ${formatProblem(problem)}`);
  if (report.ok) return report;
  const failures = report.problems.filter(({ severity }) => severity === "fail").length;
  const waited = report.transient ? ` after ${seconds} s` : "";
  console.error(
    `validator: not starting${waited}: ${failures === 1 ? "1 check fails" : `${failures} checks fail`}, see above`,
  );
  process.exit(1);
}

function versionsOrExit({ versions, migrationsFolder, tracker }: Expectation): readonly string[] {
  try {
    return versions ?? expectedVersions(migrationsFolder, tracker);
  } catch (error) {
    console.error(`validator: not starting: ${(error as Error).message}`);
    process.exit(1);
  }
}

export function formatProblem({ check, severity, message, next }: Problem): string {
  return `${severity}  ${check}: ${message}; next: ${next}`;
}

/**
 * The values of these variables.
 * @throws {Error} naming all that are missing or empty at once, and never a value.
 */
export function requireEnvironment<const Name extends string>(names: readonly Name[]): Record<Name, string> {
  const missing = names.filter((name) => !process.env[name]);
  if (missing.length === 0) return Object.fromEntries(names.map((name) => [name, process.env[name]!])) as never;
  throw new Error(`Missing from the environment: ${missing.join(", ")}`);
}

/**
 * The versions of a folder of migrations, or of the JSON file that `--bake` wrote; in the tracker's order.
 * Where "migrations" is asked for and only "migrations.json" is there, as in an image, that one is read.
 * @throws {Error} when there is neither, when two files claim one version, or when dbmate would skip a file.
 */
export function expectedVersions(directoryOrFile = "migrations", tracker: Tracker | "auto" = "dbmate"): string[] {
  const baked = `${directoryOrFile}.json`;
  const path = !existsSync(directoryOrFile) && existsSync(baked) ? baked : directoryOrFile;
  if (!existsSync(path)) throw new Error(`Cannot tell the expected migrations: there is no "${resolve(path)}"`);
  const versions: string[] = statSync(path).isDirectory()
    ? versionsIn(path, tracker)
    : JSON.parse(readFileSync(path, "utf8"));
  const twice = versions.filter((version, index) => versions.indexOf(version) !== index);
  if (twice.length > 0) throw new Error(`Two migrations in "${resolve(path)}" have the version ${twice[0]}`);
  return tracker === "alembic" ? versions : versions.sort();
}

function versionsIn(folder: string, tracker: Tracker | "auto"): string[] {
  if (tracker === "auto") throw new Error("Which files are migrations, only the database says: name the tracker");
  return tracker === "dbmate" ? readdirSync(folder).flatMap(versionOf) : versionsOf(folder, tracker);
}

function versionOf(file: string): string[] {
  const version = /^(\d+).*\.sql$/.exec(file)?.[1];
  if (version) return [version];
  if (!file.endsWith(".sql") || ["TEMPLATE.sql", "schema.sql"].includes(file)) return [];
  throw new Error(`dbmate skips the migration "${file}": its name must begin with a version, like 20260131120000_`);
}

// -------------------------------------------------------------------------------------------------- other trackers

/** "text", "number" and "time" stand for all types of that kind. */
type Columns = Readonly<Record<string, string>>;

type TrackerShape = {
  tracker: string;
  columns: Columns;
  /** Columns that some versions of the tool have. No other may be there. */
  optional?: Columns;
  /** Where the columns could be anybody's: what "schema.table" must look like. */
  named?: string;
  /** The columns of another table of the same schema, without which it is not this tool's. */
  beside?: Columns;
  /** What its users call it, nearly all of them. An app may have a table with the same columns, and hardly with the same name too. */
  usual: string;
  /** SQL: what a row is called. */
  version: string;
  /** SQL: whether it is applied; all are, without one. */
  applied?: string;
  /** SQL: whether it has begun, and not ended well. */
  unfinished?: string;
  /** What applies the rest. */
  command: string;
};

/** Names without their ending: what was compiled has another one. */
const withoutEnding = "regexp_replace(t.name, '\\.[a-z]+$', '')";

const migrateCommand = "bun scripts/migrate.ts up (without the kit: docker compose up migrations)";

/** The first that fits is the one. `drift adopt` has the same shapes, and a test holds one against the other. */
export const trackers = [
  {
    tracker: "alembic",
    columns: { version_num: "text" },
    usual: "alembic_version",
    version: "t.version_num",
    command: "alembic upgrade head",
  },
  {
    tracker: "django",
    columns: { id: "number", app: "text", name: "text", applied: "time" },
    usual: "django_migrations",
    version: "t.app || '.' || t.name",
    command: "python manage.py migrate",
  },
  {
    tracker: "drizzle",
    columns: { id: "number", hash: "text", created_at: "number" },
    optional: { name: "text", applied_at: "time" },
    named: "migration",
    usual: "__drizzle_migrations",
    version: "t.hash",
    command: "npx drizzle-kit migrate",
  },
  {
    tracker: "ecto",
    columns: { version: "number", inserted_at: "time" },
    named: "migration",
    usual: "schema_migrations",
    version: "t.version::text",
    command: "mix ecto.migrate",
  },
  {
    tracker: "flyway",
    columns: {
      installed_rank: "number",
      version: "text",
      description: "text",
      type: "text",
      script: "text",
      checksum: "number",
      installed_by: "text",
      installed_on: "time",
      execution_time: "number",
      success: "boolean",
    },
    usual: "flyway_schema_history",
    version: "coalesce(t.version, 'R ' || t.description)",
    applied:
      "t.success and t.type !~ '^(UNDO|SCHEMA|DELETE)' and not exists (select from %1$I.%2$I u where u.type ~ '^UNDO' and u.version = t.version and u.installed_rank > t.installed_rank)",
    unfinished: "not t.success",
    command: "flyway migrate",
  },
  {
    tracker: "golang-migrate",
    columns: { version: "number", dirty: "boolean" },
    usual: "schema_migrations",
    version: "t.version::text",
    unfinished: "t.dirty",
    command: "migrate -path … -database … up",
  },
  {
    tracker: "knex",
    columns: { id: "number", name: "text", batch: "number", migration_time: "time" },
    usual: "knex_migrations",
    version: withoutEnding,
    command: "npx knex migrate:latest",
  },
  {
    tracker: "node-pg-migrate",
    columns: { id: "number", name: "text", run_on: "time" },
    usual: "pgmigrations",
    version: "t.name",
    command: "npx node-pg-migrate up",
  },
  {
    tracker: "prisma",
    columns: {
      id: "text",
      checksum: "text",
      finished_at: "time",
      migration_name: "text",
      logs: "text",
      rolled_back_at: "time",
      started_at: "time",
      applied_steps_count: "number",
    },
    usual: "_prisma_migrations",
    version: "t.migration_name",
    applied: "t.finished_at is not null and t.rolled_back_at is null",
    unfinished: "t.finished_at is null and t.rolled_back_at is null",
    command: "npx prisma migrate deploy",
  },
  {
    tracker: "rails",
    columns: { version: "text" },
    beside: { key: "text", value: "text", created_at: "time", updated_at: "time" },
    usual: "schema_migrations",
    version: "t.version",
    command: "bin/rails db:migrate",
  },
  {
    tracker: "sequelize",
    columns: { name: "text" },
    optional: { createdAt: "time", updatedAt: "time" },
    named: "meta$|migration",
    usual: "SequelizeMeta",
    version: withoutEnding,
    command: "npx sequelize-cli db:migrate",
  },
  {
    tracker: "supabase",
    columns: { version: "text" },
    optional: { statements: "text[]", name: "text", created_by: "text", idempotency_key: "text", rollback: "text[]" },
    named: "^supabase_migrations\\.",
    usual: "schema_migrations",
    version: "t.version",
    command: "supabase db push",
  },
  {
    tracker: "typeorm",
    columns: { id: "number", timestamp: "number", name: "text" },
    named: "migration",
    usual: "migrations",
    version: "t.name",
    command: "npx typeorm migration:run",
  },
  {
    tracker: "dbmate",
    columns: { version: "text" },
    named: "\\.schema_migrations$",
    usual: "schema_migrations",
    version: "t.version",
    command: migrateCommand,
  },
] as const satisfies readonly TrackerShape[];

/** A tool whose table of applied migrations the validator can read. */
export type Tracker = (typeof trackers)[number]["tracker"];

const program = String.raw`\.(?:js|cjs|mjs|ts|cts|mts)$`;

/** How each names a migration after its file: the first group, or what is made of the match. Paths are from the folder on. */
const namings: Readonly<
  Partial<Record<Tracker, { files: RegExp; version?: (match: RegExpExecArray, path: string) => string }>>
> = {
  django: { files: /^(?:.*\/)?(\w+)\/migrations\/(\d\w*)\.py$/, version: ([, app, name]) => `${app}.${name}` },
  drizzle: {
    files: /^(?:[^/]+|[^/]+\/migration)\.sql$/,
    version: (_, path) => createHash("sha256").update(readFileSync(path)).digest("hex"),
  },
  ecto: { files: /^(\d+)_[^/]*\.exs$/ },
  flyway: {
    files: /^(?:.*\/)?(?:V(\d[\d._]*?)|R)__([^/]*)\.sql$/,
    version: ([, version, name]) => version?.replaceAll("_", ".") ?? `R ${name!.replaceAll("_", " ")}`,
  },
  "golang-migrate": { files: /^0*(\d+)_[^/]*\.up\.sql$/ },
  knex: { files: new RegExp(`^(\\d[^/]*?)${program}`) },
  "node-pg-migrate": { files: /^(\d[^/]*?)\.(?:js|cjs|mjs|ts|cts|mts|sql)$/ },
  prisma: { files: /^([^/]+)\/migration\.sql$/ },
  rails: { files: /^(\d+)_[^/]*\.rb$/ },
  sequelize: { files: new RegExp(`^(\\d[^/]*?)${program}`) },
  supabase: { files: /^(\d+)_[^/]*\.sql$/ },
  // The name of the class, as TypeORM generates it.
  typeorm: { files: /^(\d{13})-([^/]*?)\.[cm]?[jt]s$/, version: ([, digits, name]) => `${name}${digits}` },
};

function versionsOf(folder: string, tracker: Tracker): string[] {
  const files = readdirSync(folder, { recursive: true, encoding: "utf8" }).map((path) => path.replaceAll("\\", "/"));
  if (tracker === "alembic") return revisionsOf(folder, files);
  const naming = namings[tracker]!;
  return files.sort().flatMap((path) => {
    const match = naming.files.exec(path);
    if (!match) return [];
    return [naming.version ? naming.version(match, join(folder, path)) : match[1]!];
  });
}

/** Alembic's revisions, each after those that it builds on. */
function revisionsOf(folder: string, files: readonly string[]): string[] {
  const parents = new Map<string, string[]>();
  for (const path of files.filter((file) => file.endsWith(".py"))) {
    const text = readFileSync(join(folder, path), "utf8");
    const revision = /^revision\b[^=\n]*=\s*["']([^"']+)["']/m.exec(text)?.[1];
    const [, before = ""] = /^down_revision\b[^=\n]*=\s*(\([^)]*\)|.*)$/m.exec(text) ?? [];
    if (revision)
      parents.set(
        revision,
        [...before.matchAll(/["']([^"']+)["']/g)].map(([, parent]) => parent!),
      );
  }
  const order: string[] = [];
  const visit = (revision: string) => {
    if (order.includes(revision) || !parents.has(revision)) return;
    for (const parent of parents.get(revision)!) visit(parent);
    order.push(revision);
  };
  for (const revision of parents.keys()) visit(revision);
  return order;
}

// --------------------------------------------------------------------------------------------- health routes

/**
 * Answers GET /health, /health/ready, /health/database and /api/health/db; undefined for anything else.
 * HEALTH_TOKEN in the environment: whoever does not send it learns the status and nothing more.
 * RELEASE in the environment: shown, so that a deploy can tell which release answers.
 */
export function healthRoutes(
  sql: Database,
  expectation: Expectation,
): (request: Request) => Promise<Response | undefined> {
  const { versions, migrationsFolder, tracker } = expectation;
  const known = tracker === "auto" ? versions : (versions ?? expectedVersions(migrationsFolder, tracker));
  const fixed = { ...expectation, ...(known && { versions: known }) };
  const look = keepFor(cacheMilliseconds, createLook(sql, fixed, { seconds: limitSeconds }));
  const lookCloser = keepFor(cacheMilliseconds, createLook(sql, fixed, { seconds: limitSeconds, statistics: true }));
  const routes: Record<string, () => Promise<Health> | Health> = {
    "/health": () => describeLife(new Date()),
    "/health/ready": async () => describeReadiness(await look(), new Date()),
    "/health/database": async () => describeDatabase(await look(), new Date()),
    "/api/health/db": async () => describeFigures(await lookCloser()),
  };
  return async (request) => {
    // With a Host header such as "1.2.3.4.5" it cannot.
    if (!URL.canParse(request.url)) return undefined;
    const route = ["GET", "HEAD"].includes(request.method) ? routes[new URL(request.url).pathname] : undefined;
    if (!route) return undefined;
    const { code, status, body } = await route();
    return Response.json(mayReadDetails(request) ? body : { status }, {
      status: code,
      headers: { "cache-control": "no-store" },
    });
  };
}

/** `status` is all that a request without the token gets to see. */
type Health = { code: 200 | 503; status: string; body: Record<string, unknown> };

export function describeLife(now: Date): Health {
  const body = { status: "ok", timestamp: now.toISOString(), ...release() };
  return { code: 200, status: "ok", body };
}

export function describeReadiness(report: Report, now: Date): Health {
  const status = report.ok ? "ready" : "not_ready";
  const body = { status, timestamp: now.toISOString(), ...release(), problems: report.problems };
  return { code: report.ok ? 200 : 503, status, body };
}

export function describeDatabase(report: Report, now: Date): Health {
  const timestamp = now.toISOString();
  if (!report.connected) {
    const database = { connected: false, error: report.problems[0]!.message };
    return { code: 503, status: "unhealthy", body: { status: "unhealthy", timestamp, database } };
  }
  const status = report.problems.length === 0 ? "healthy" : "degraded";
  const { applied } = report.migrations;
  const warning = report.problems.filter(({ check }) => check === "migrations").map(({ message }) => message);
  return {
    code: 200,
    status,
    body: {
      status,
      timestamp,
      database: { connected: true, responseTime: report.responseTimeMs },
      migrations: {
        applied,
        latest: applied.at(-1) ?? null,
        count: applied.length,
        ...(warning.length > 0 && { warning: warning.join("; ") }),
      },
      schema: {
        critical_tables: report.tables.map(({ name, exists, missingPrivileges }) => {
          return { name, exists, ...(missingPrivileges.length > 0 && { missing_privileges: missingPrivileges }) };
        }),
        all_tables_exist: report.tables.every(({ exists }) => exists),
      },
      problems: report.problems,
    },
  };
}

export function describeFigures(report: Report): Health {
  const { server, statistics, migrations } = report;
  const status = !report.connected ? "unhealthy" : report.problems.length === 0 ? "healthy" : "degraded";
  const database = {
    status,
    latency_ms: report.connected ? report.responseTimeMs : null,
    version: server?.version ?? null,
    size_mb: statistics ? Math.round(statistics.sizeBytes / 10_000) / 100 : null,
    active_connections: statistics?.connections ?? null,
    max_connections: statistics?.connectionsMaximum ?? null,
    ...(!report.connected && { error: report.problems[0]!.message }),
  };
  const known = report.connected;
  return {
    code: known ? 200 : 503,
    status,
    body: {
      database,
      migrations: {
        current_revision: migrations.applied.at(-1) ?? null,
        head_revision: migrations.expected.at(-1) ?? null,
        pending: known ? migrations.pending.length : null,
        is_up_to_date: known ? migrations.pending.length === 0 : null,
      },
    },
  };
}

function release(): { release?: string } {
  return process.env.RELEASE ? { release: process.env.RELEASE } : {};
}

/** Digests are compared, because they are of one length, and in constant time, because timing would give the token away. */
function mayReadDetails({ headers }: Request): boolean {
  const token = process.env.HEALTH_TOKEN;
  if (!token) return true;
  const given = headers.get("x-health-token") ?? /^Bearer (.+)$/i.exec(headers.get("authorization") ?? "")?.[1] ?? "";
  const digest = (text: string) => createHash("sha256").update(text).digest();
  return timingSafeEqual(digest(given), digest(token));
}

/** One look at a time, shared by all who ask meanwhile, and kept for a moment: many requests cost the database one query. */
function keepFor(milliseconds: number, look: () => Promise<Report>): () => Promise<Report> {
  let current: Promise<Report> | undefined;
  let until = Number.POSITIVE_INFINITY;
  return () => {
    if (current && performance.now() < until) return current;
    until = Number.POSITIVE_INFINITY;
    current = look().finally(() => {
      until = performance.now() + milliseconds;
    });
    return current;
  };
}

// ------------------------------------------------------------------------------------------------------ looking

type Look = { seconds: number; statistics?: boolean };

/** A look that always ends in time. The question stays under way when the database hangs, and there are only so many of those. */
function createLook(sql: Database, expectation: Expectation, { seconds, statistics }: Look): () => Promise<Report> {
  const { versions: given, migrationsFolder, tracker } = expectation;
  let versions = given ?? (tracker === "auto" ? undefined : expectedVersions(migrationsFolder, tracker));
  const query = buildQuery(expectation, { seconds, statistics: statistics ?? false });
  let unanswered = 0;
  const ask = async (): Promise<Observation> => {
    unanswered++;
    try {
      const results = (await sql.unsafe(query)) as [unknown, [{ observation: string }]];
      return JSON.parse(results[1][0].observation);
    } finally {
      unanswered--;
    }
  };
  return async () => {
    const started = performance.now();
    const elapsed = () => Math.round((performance.now() - started) * 10) / 10;
    let observation: Observation;
    try {
      if (unanswered >= unansweredMaximum) throw new NoAnswer();
      observation = await within(seconds, ask());
    } catch (error) {
      return unreachable(error, versions ?? [], elapsed());
    }
    try {
      versions ??= versionsOfFound(migrationsFolder, observation.tracking.tracker ?? "dbmate");
    } catch (error) {
      return withoutVersions(judge(observation, { ...expectation, versions: [] }, elapsed()), error as Error);
    }
    return judge(observation, { ...expectation, versions }, elapsed());
  };
}

/** Of a tool that the database named: a folder of another one's files would make all of it fine. */
function versionsOfFound(folder = "migrations", tracker: Tracker): string[] {
  const versions = expectedVersions(folder, tracker);
  const isFile = (name: string) => !/^(\.|README|TEMPLATE\.sql$|schema\.sql$)/i.test(name);
  if (versions.length > 0 || !existsSync(folder) || !statSync(folder).isDirectory()) return versions;
  if (!readdirSync(folder).some(isFile)) return versions;
  throw new Error(`No migration of ${tracker} in "${resolve(folder)}", and other files`);
}

/** Whatever was compared, it was compared with nothing. */
function withoutVersions(report: Report, { message }: Error): Report {
  const others = report.problems.filter(({ check }) => check !== "migrations");
  const problem = fail("migrations", message, "set `migrationsFolder`, or `versions`");
  return { ...report, ok: false, problems: [problem, ...others] };
}

class NoAnswer extends Error {
  readonly code = "NO_ANSWER";
}

async function within<T>(seconds: number, work: Promise<T>): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new NoAnswer()), seconds * 1000);
  });
  return await Promise.race([work, late]).finally(() => clearTimeout(timer));
}

export type Observation = {
  server: { version: string; major: number; role: string; database: string; inRecovery: boolean; readOnly: boolean };
  tracking: {
    exists: boolean;
    readable: boolean;
    /** With `tracker`: which it is, and where; several where that cannot be told. */
    tracker?: Tracker | null;
    table?: string | null;
    candidates?: { tracker: Tracker; table: string }[];
    /** Migrations that have begun and not ended well. */
    unfinished?: string[];
  };
  applied: string[];
  tables: { exists: boolean; missingPrivileges: string[] }[];
  extensions: Record<string, string>;
  invalidIndexes: string[];
  statistics: { sizeBytes: number; connections: number; connectionsMaximum: number } | null;
};

/**
 * Everything in one message and one answer: the simple protocol has no parameters, hence no second round trip to
 * describe them, and works through a transaction pooler. The first statement bounds the second on the server, too, so
 * that a look nobody waits for any more does not stay there.
 */
export function buildQuery(expectation: Expectation, look: Required<Look>): string {
  const isDbmates = (expectation.tracker ?? "dbmate") === "dbmate";
  const tables = [{ name: migrationsTable(expectation), privileges: ["select"] }, ...wantedTables(expectation)];
  const wanted = tables.map(({ name, privileges }, index) => {
    const dot = name.indexOf(".");
    return { index, schema: dot < 0 ? null : name.slice(0, dot), name: name.slice(dot + 1), privileges };
  });
  return `set local statement_timeout = ${Math.round(look.seconds * 900)};
with wanted as (
  select * from json_to_recordset(${literal(JSON.stringify(wanted))})
    as w(index int, schema name, name name, privileges json)
), path as (
  -- Not current_schemas(): that leaves out a schema without USAGE, and its tables would seem to be missing.
  select replace(btrim(entry, ' "'), '$user', current_user)::name as schema, position
  from unnest(string_to_array(current_setting('search_path'), ',')) with ordinality as p(entry, position)
), found as (
  select w.index, t.oid, t.schema, t.name, t.usable, w.privileges
  from wanted w left join lateral (
    select c.oid, n.nspname as schema, c.relname as name, has_schema_privilege(n.oid, 'usage') as usable
    from pg_catalog.pg_namespace n
    join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = w.name and c.relkind in ('r', 'p', 'v', 'm', 'f')
    left join path p on p.schema = n.nspname
    where n.nspname = w.schema or (w.schema is null and p.schema is not null)
    order by has_schema_privilege(n.oid, 'usage') desc, p.position
    limit 1
  ) t on true
), tables as (
  select f.index, f.oid is not null as exists, f.schema, f.name, coalesce((
    select json_agg(missing) from (
      select 'usage' where not f.usable
      union all
      select p from json_array_elements_text(f.privileges) p where not has_table_privilege(f.oid, p)
    ) m(missing)
  ), '[]') as "missingPrivileges"
  from found f
), ${isDbmates ? dbmateTracking : trackingOf(expectation)}
select json_build_object(
  'server', json_build_object(
    'version', split_part(current_setting('server_version'), ' ', 1),
    'major', current_setting('server_version_num')::int / 10000,
    'role', current_user,
    'database', current_database(),
    'inRecovery', pg_is_in_recovery(),
    'readOnly', current_setting('transaction_read_only')::boolean
  ),
  'tracking', (select json_build_object('exists', exists, 'readable', exists and readable${isDbmates ? "" : trackingFields}) from tracking),
  'applied', (select versions from history),
  'tables', (select coalesce(json_agg(t order by index), '[]') from tables t where index > 0),
  'extensions', (select coalesce(json_object_agg(extname, extversion), '{}') from pg_catalog.pg_extension),
  -- Not the ones being built right now, and a bounded number.
  'invalidIndexes', (
    select coalesce(json_agg(name), '[]') from (
      select format('%I.%I', n.nspname, c.relname) as name
      from pg_catalog.pg_index i
      join pg_catalog.pg_class c on c.oid = i.indexrelid
      join pg_catalog.pg_namespace n on n.oid = c.relnamespace
      where not i.indisvalid and n.nspname !~ '^pg_'
        and not exists (select from pg_stat_progress_create_index b where b.index_relid = i.indexrelid)
      order by name limit 20
    ) i
  ),
  'statistics', ${look.statistics ? statisticsExpression : "null"}
)::text as observation`;
}

/** A query that names a missing table fails as a whole. This one is text until the table is known to be there. */
const history = (select: string) => `history as (
  select x.versions, x.unfinished from tracking, xmltable('/row' passing query_to_xml(
    case when exists and readable then ${select} else 'select ''[]'' as versions, ''[]'' as unfinished' end, true, true, ''
  ) columns versions json path 'versions', unfinished json path 'unfinished') x
)`;

const dbmateTracking = `tracking as (
  select t.exists, t.schema, t.name, t."missingPrivileges"::text = '[]' and exists (
    select from pg_catalog.pg_attribute a
    where a.attrelid = (select oid from found where index = 0) and a.attname = 'version' and not a.attisdropped
  ) as readable
  from tables t where t.index = 0
), ${history("format('select coalesce(json_agg(version::text), ''[]'') as versions, ''[]'' as unfinished from %I.%I', schema, name)")}`;

const trackingFields = `,
    'tracker', tracker, 'table', schema || '.' || name, 'candidates', candidates, 'unfinished', (select unfinished from history)`;

/** Every table with the columns of one of the trackers; dbmate's own first, which may lie beside one that it has followed. */
function trackingOf({ tracker, migrationsTable: table }: Expectation): string {
  const shapes: readonly TrackerShape[] = trackers;
  const wanted = shapes
    .filter((one) => tracker === "auto" || one.tracker === tracker)
    .map((one, rank) => ({
      ...one,
      rank,
      select: selectOf(one),
      named: table === undefined ? (one.named ?? null) : null,
    }));
  return `trackers as (
  select * from json_to_recordset(${literal(JSON.stringify(wanted))})
    as t(rank int, tracker text, columns jsonb, optional jsonb, named text, beside jsonb, usual text, "select" text)
), small as (
  select c.oid, n.oid as namespace, n.nspname as schema, c.relname as name, jsonb_object_agg(a.attname,
    case when a.atttypid in ('text'::regtype, 'varchar'::regtype, 'bpchar'::regtype) then 'text'
      when a.atttypid in ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) then 'number'
      when a.atttypid in ('timestamp'::regtype, 'timestamptz'::regtype) then 'time'
      else format_type(a.atttypid, null) end) as columns
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  where c.relkind in ('r', 'p') and c.relnatts <= 15 and n.nspname !~ '^pg_' and n.nspname not in ('information_schema', 'dbops')
    and ${isWorthALook(wanted)}
  group by c.oid, n.oid, n.nspname, c.relname
), recognised as (
  select distinct on (s.oid) t.tracker, t."select", s.schema, s.name, s.name = t.usual as usual,
    has_schema_privilege(s.namespace, 'usage') and has_table_privilege(s.oid, 'select') as readable
  from small s join trackers t on s.columns @> t.columns and t.columns || coalesce(t.optional, '{}') @> s.columns
    and (t.named is null or s.schema || '.' || s.name ~* t.named)
    and (t.beside is null or exists (select from small b where b.schema = s.schema and b.columns = t.beside)
      -- Put aside by \`drift adopt\`: what has the name now is dbmate's.
      and not exists (select from small b where b.schema = s.schema and b.name = 'schema_migrations_before_dbmate'))
  where s.name <> 'schema_migrations_before_dbmate'${table === undefined ? "" : `\n    and ${literal(table)} in (s.name, s.schema || '.' || s.name)`}
  order by s.oid, t.rank
), own as (
  -- An empty one beside another history is what dbmate leaves that was only asked something; or that history is adopted.
  select * from recognised where tracker = 'dbmate' and (
    not exists (select from recognised where tracker <> 'dbmate') or not readable
    or exists (select from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
      where n.nspname = 'dbops' and c.relname = 'adopted_histories')
    or query_to_xml(case when readable then format('select 1 as one from %I.%I limit 1', schema, name) else 'select' end, true, true, '')::text <> '')
), candidates as (
  select * from own union all select * from recognised where tracker <> 'dbmate' and not exists (select from own)
    and (usual or not exists (select from recognised where tracker <> 'dbmate' and usual))
), tracking as (
  select count(*) = 1 as exists, coalesce(bool_and(readable), false) as readable, min(tracker) as tracker, min(schema) as schema,
    min(name) as name, min("select") as "select", json_agg(json_build_object('tracker', tracker, 'table', schema || '.' || name) order by schema, name) as candidates
  from candidates
), ${history(`format("select", schema, name)`)}`;
}

/** Of a thousand tables only the few whose columns are worth putting together. */
function isWorthALook(wanted: readonly { columns: Columns; named: string | null; beside?: Columns }[]): string {
  const common = ["id", "name", "type", "timestamp"];
  const names = wanted.flatMap(({ named }) => named ?? []);
  const telling = wanted
    .filter(({ named }) => named === null)
    .flatMap(({ columns, beside }) => [columns, ...(beside ? [beside] : [])])
    .map((columns) => Object.keys(columns).find((name) => !common.includes(name)) ?? Object.keys(columns)[0]!);
  const byColumn = `c.oid in (select m.attrelid from pg_catalog.pg_attribute m where m.attname in (${["", ...telling].map(literal).join(", ")}))`;
  return `(${[byColumn, ...names.map((name) => `n.nspname || '.' || c.relname ~* ${literal(name)}`)].join(" or ")})`;
}

/** For format(): `%1$I.%2$I` is the table. */
function selectOf({ version, applied, unfinished }: TrackerShape): string {
  const list = (condition: string | undefined) =>
    condition === undefined ? "'[]'" : `coalesce(json_agg(${version}) filter (where ${condition}), '[]')`;
  return `select ${list(applied ?? "true")} as versions, ${list(unfinished)} as unfinished from %1$I.%2$I t`;
}

const statisticsExpression = `json_build_object(
    'sizeBytes', pg_database_size(current_database()),
    'connections', (select count(*) from pg_stat_activity where datname is not null),
    'connectionsMaximum', current_setting('max_connections')::int
  )`;

/** As quote_literal() does it: right whatever standard_conforming_strings says. */
function literal(text: string): string {
  const quoted = `'${text.replaceAll("'", "''")}'`;
  return text.includes("\\") ? `E${quoted.replaceAll("\\", "\\\\")}` : quoted;
}

function migrationsTable(expectation: Expectation): string {
  return expectation.migrationsTable ?? "schema_migrations";
}

function wantedTables(expectation: Expectation): { name: string; privileges: readonly Privilege[] }[] {
  return (expectation.criticalTables ?? []).map((table) =>
    typeof table === "string" ? { name: table, privileges: ["select"] } : table,
  );
}

// ------------------------------------------------------------------------------------------------------ judging

/** What is wrong, from what was seen. Pure. */
export function judge(
  seen: Observation,
  expectation: Expectation & { versions: readonly string[] },
  responseTimeMs: number,
): Report {
  const tracker = seen.tracking.tracker ?? "dbmate";
  const migrations = compareVersions(
    appliedOf(tracker, seen.applied, expectation.versions),
    expectation.versions,
    tracker,
  );
  const tables = wantedTables(expectation).map(({ name }, index) => {
    const { exists, missingPrivileges } = seen.tables[index]!;
    return { name, exists, missingPrivileges };
  });
  const problems = [
    ...judgeServer(seen.server, expectation),
    ...judgeMigrations(seen, migrations, seen.tracking.table ?? migrationsTable(expectation)),
    ...tables.flatMap((table) => judgeTable(table, migrations.pending.length > 0)),
    ...(expectation.extensions ?? []).flatMap((wanted) => judgeExtension(wanted, seen.extensions)),
    ...seen.invalidIndexes.map((name) =>
      warn("indexes", `Index ${name} is invalid: building it was interrupted`, `reindex index concurrently ${name};`),
    ),
  ];
  const failures = problems.filter(({ severity }) => severity === "fail");
  return {
    ok: failures.length === 0,
    connected: true,
    transient: false,
    responseTimeMs,
    problems: [...failures, ...problems.filter(({ severity }) => severity === "warn")],
    server: { version: seen.server.version, inRecovery: seen.server.inRecovery, readOnly: seen.server.readOnly },
    migrations,
    tables,
    ...(seen.statistics && { statistics: seen.statistics }),
  };
}

function fail(check: Check, message: string, next: string): Problem {
  return { check, severity: "fail", message, next };
}

function warn(check: Check, message: string, next: string): Problem {
  return { check, severity: "warn", message, next };
}

/** Sets are compared, not the newest alone: a migration merged late lies between applied ones. */
function compareVersions(
  appliedRows: readonly string[],
  expectedVersions: readonly string[],
  tracker: Tracker,
): Report["migrations"] {
  const inOrder = (list: readonly string[]) => (tracker === "alembic" ? list : [...list].sort());
  const applied = new Set(inOrder(appliedRows));
  const expected = new Set(inOrder(expectedVersions));
  return {
    expected: [...expected],
    applied: [...applied],
    pending: [...expected].filter((version) => !applied.has(version)),
    unknown: [...applied].filter((version) => !expected.has(version) && isOurs(version, tracker, expected)),
    ...(tracker !== "dbmate" && { tracker }),
  };
}

/** Some keep the newest alone: everything up to it is applied. */
function appliedOf(tracker: Tracker, rows: readonly string[], expected: readonly string[]): readonly string[] {
  if (tracker === "golang-migrate") {
    const newest = rows.map(Number).sort((one, other) => other - one)[0] ?? -1;
    return [...expected.filter((version) => Number(version) < newest), ...rows];
  }
  if (tracker !== "alembic" || rows.length === 0) return rows;
  const last = Math.max(...rows.map((row) => expected.indexOf(row)));
  // One that this release does not know is newer than it: what it knows is applied.
  const known = last < 0 ? expected : expected.slice(0, last + 1);
  return [...known, ...rows.filter((row) => !known.includes(row))];
}

/** Django's packages bring migrations of their own. */
function isOurs(version: string, tracker: Tracker, expected: ReadonlySet<string>): boolean {
  const app = `${version.split(".")[0]}.`;
  return tracker !== "django" || [...expected].some((one) => one.startsWith(app));
}

function judgeServer(server: Observation["server"], expectation: Expectation): Problem[] {
  const minimum = expectation.minimumServerVersion ?? 15;
  const { role, database } = expectation;
  return [
    server.major < minimum &&
      fail("server", `PostgreSQL ${server.version} is too old, at least ${minimum} is needed`, "upgrade the server"),
    database !== undefined &&
      database !== server.database &&
      fail("server", "Connected to another database than expected", "correct PGDATABASE"),
    role !== undefined &&
      role !== server.role &&
      fail("server", "Connected as another role than expected", "correct PGUSER"),
    server.inRecovery
      ? fail("server", "The server is in recovery: a standby, or not restored to its end", "connect to the primary")
      : server.readOnly &&
        fail("server", "The connection is read-only", "look for default_transaction_read_only in role and database"),
  ].filter((problem) => problem !== false);
}

function judgeMigrations(seen: Observation, { expected, pending, unknown }: Report["migrations"], table: string) {
  const { exists, readable, tracker, candidates, unfinished } = seen.tracking;
  const shape = trackers.find((one) => one.tracker === tracker);
  const command = shape?.command ?? migrateCommand;
  const problems: Problem[] = [];
  const wanted = expected.length === 1 ? "Expected 1 migration" : `Expected ${expected.length} migrations`;
  const done = expected.length - pending.length;
  if (candidates && candidates.length > 1) {
    const list = candidates.map((one) => `${one.table} (${one.tracker})`).join(", ");
    const next = "name one: `tracker` or `migrationsTable`";
    return [fail("migrations", `Several tables could be the history of migrations: ${list}`, next)];
  }
  if (unfinished && unfinished.length > 0) {
    const message = `Begun by ${tracker}, and not ended well: ${few(unfinished)}`;
    problems.push(fail("migrations", message, `mend it with ${tracker}: docs/runbook/dirty-state.md`));
  }
  if (exists && !readable) {
    const next = `grant select on ${table}, and usage on its schema, to the app's role`;
    const orForeign = tracker ? "" : ', or has no column "version"';
    return [fail("migrations", `The table ${table} cannot be read by this role${orForeign}`, next)];
  }
  if (pending.length > 0 && done > 0) {
    problems.push(fail("migrations", `${wanted}, only ${done} applied`, command));
  } else if (pending.length > 0 && unknown.length > 0) {
    const message = `${wanted}, none applied, but ${unknown.length} unknown: this may be another project's database`;
    problems.push(fail("migrations", message, "check PGDATABASE before you migrate"));
  } else if (pending.length > 0) {
    problems.push(fail("migrations", `${wanted}, none applied: this database was never migrated`, command));
  }
  if (pending.length === 0 || done > 0) problems.push(...judgeUnknown(unknown, expected));
  const twice = [...new Set(seen.applied.filter((version, index) => seen.applied.indexOf(version) !== index))];
  // Others have an id as their key, and may repeat themselves.
  if (twice.length > 0 && (tracker ?? "dbmate") === "dbmate") {
    const message = `Recorded more than once: ${few(twice)}; ${table} has lost its primary key`;
    problems.push(
      warn("migrations", message, `delete the surplus rows, then: alter table ${table} add primary key (version);`),
    );
  }
  return problems;
}

/** Only warnings: an older release must be able to start on a newer schema, or no rollback ever could. */
function judgeUnknown(unknown: readonly string[], expected: readonly string[]): Problem[] {
  const ahead = unknown.filter((version) => version > (expected.at(-1) ?? ""));
  const between = unknown.filter((version) => !ahead.includes(version));
  return [
    ahead.length > 0 &&
      warn(
        "migrations",
        `The database is ahead of this release by ${ahead.length}: ${few(ahead)}`,
        "nothing after a rollback; otherwise deploy the release that has them",
      ),
    between.length > 0 &&
      warn(
        "migrations",
        `Applied, but unknown to this release: ${few(between)}`,
        "bring back the deleted or renamed files in migrations/",
      ),
  ].filter((problem) => problem !== false);
}

function few(versions: readonly string[]): string {
  const shown = versions.slice(0, 5).join(", ");
  return versions.length > 5 ? `${shown} and ${versions.length - 5} more` : shown;
}

function judgeTable({ name, exists, missingPrivileges }: Report["tables"][number], behind: boolean): Problem[] {
  if (!exists) {
    const next = behind ? "apply the pending migrations" : "look for it in another schema, or restore it";
    return [fail("tables", `Table ${name} is missing`, next)];
  }
  if (missingPrivileges.length === 0) return [];
  const missing = missingPrivileges.map((privilege) => (privilege === "usage" ? "usage on its schema" : privilege));
  return [
    fail(
      "tables",
      `Table ${name} is not usable by this role, it lacks: ${missing.join(", ")}`,
      "grant it to the app's role",
    ),
  ];
}

function judgeExtension(wanted: string | { name: string; minimumVersion: string }, installed: Record<string, string>) {
  const { name, minimumVersion } = typeof wanted === "string" ? { name: wanted, minimumVersion: "0" } : wanted;
  const version = installed[name];
  if (version === undefined) {
    return [fail("extensions", `Extension ${name} is missing`, `create extension ${quoteName(name)}; in a migration`)];
  }
  if (isAtLeast(version, minimumVersion)) return [];
  const message = `Extension ${name} is ${version}, at least ${minimumVersion} is needed`;
  return [fail("extensions", message, `alter extension ${quoteName(name)} update; in a migration`)];
}

function quoteName(name: string): string {
  return /^[a-z_][a-z0-9_]*$/.test(name) ? name : `"${name.replaceAll('"', '""')}"`;
}

/** By numbers: 1.10 is newer than 1.9. */
function isAtLeast(version: string, minimum: string): boolean {
  const [have, need] = [version, minimum].map((text) => text.split(/\D+/).map(Number)) as [number[], number[]];
  for (const [index, number] of need.entries()) {
    if ((have[index] ?? 0) !== number) return (have[index] ?? 0) > number;
  }
  return true;
}

// ------------------------------------------------------------------------------------------- not reachable at all

const startPostgres =
  "start Postgres: docker compose up -d postgres (without Docker: bun scripts/up.ts); or correct PGHOST and PGPORT";
const readLog = "docker compose logs --tail 20 postgres";

/** Our words for each error code, because the driver's hold the host, the user or the database. */
const connectionErrors: Record<string, { message: string; next: string; passes: boolean }> = {
  NO_ANSWER: { message: "The database does not answer in time", next: readLog, passes: true },
  CONNECT_TIMEOUT: { message: "The database does not answer in time", next: startPostgres, passes: true },
  ECONNREFUSED: { message: "The connection was refused", next: startPostgres, passes: true },
  EHOSTUNREACH: { message: "The host cannot be reached", next: startPostgres, passes: true },
  ENETUNREACH: { message: "The host cannot be reached", next: startPostgres, passes: true },
  ETIMEDOUT: { message: "The host cannot be reached", next: startPostgres, passes: true },
  ENOTFOUND: { message: "The host name cannot be resolved", next: startPostgres, passes: true },
  EAI_AGAIN: { message: "The host name cannot be resolved", next: startPostgres, passes: true },
  ENOENT: { message: "The socket does not exist", next: startPostgres, passes: true },
  ECONNRESET: { message: "The connection was lost", next: readLog, passes: true },
  EPIPE: { message: "The connection was lost", next: readLog, passes: true },
  CONNECTION_CLOSED: { message: "The connection was lost", next: readLog, passes: true },
  CONNECTION_ENDED: { message: "The app has closed its connections", next: "nothing: it is stopping", passes: false },
  CONNECTION_DESTROYED: {
    message: "The app has closed its connections",
    next: "nothing: it is stopping",
    passes: false,
  },
  "28P01": { message: "The password or the user name is wrong", next: "correct PGUSER and PGPASSWORD", passes: false },
  "28000": { message: "The server does not let this user in", next: "check PGUSER and pg_hba.conf", passes: false },
  "3D000": { message: "The database does not exist", next: "correct PGDATABASE, or create it", passes: false },
  "53300": {
    message: "The server has no connection left",
    next: "raise max_connections, or lower the pools",
    passes: true,
  },
  "57P01": { message: "The server is shutting down", next: readLog, passes: true },
  "57P02": { message: "The server has crashed and is recovering", next: readLog, passes: true },
  "57P03": { message: "The server is starting up or shutting down", next: readLog, passes: true },
  "57014": { message: "The database does not answer in time", next: readLog, passes: true },
};

function unreachable(error: unknown, versions: readonly string[], responseTimeMs: number): Report {
  const code = errorCode(error);
  const unknown = { message: `The database reported an error (${code})`, next: readLog, passes: false };
  const { message, next, passes } = connectionErrors[code] ?? unknown;
  return {
    ok: false,
    connected: false,
    transient: passes,
    responseTimeMs,
    problems: [fail("connection", message, next)],
    migrations: { expected: [...versions].sort(), applied: [], pending: [], unknown: [] },
    tables: [],
  };
}

/** Node wraps the errors of several addresses of one host in an AggregateError without a code of its own. */
function errorCode(error: unknown): string {
  const { code, errors } = error as { code?: unknown; errors?: unknown[] };
  if (typeof code === "string" && /^\w+$/.test(code)) return code;
  return errors?.[0] ? errorCode(errors[0]) : "unknown";
}

// ------------------------------------------------------------------------------------------------------ command

// A computed address: tools that follow imports do not demand the kit's files from an app that has copied only this one.
if (import.meta.main ?? isStarted()) {
  const command = new URL("./lib/validator-command.ts", import.meta.url).href;
  import(command).then(({ runCommand }) => runCommand(process.argv.slice(2)));
}

/** For Node before 24.2, where import.meta.main is missing. */
function isStarted(): boolean {
  const started = process.argv[1];
  return started !== undefined && pathToFileURL(realpathSync(started)).href === import.meta.url;
}
