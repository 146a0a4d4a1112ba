// Startup validator and health routes: an app refuses to start on a database it cannot work with, and says why.
//   Command:  bun scripts/validator.ts [--json]      exit 0: usable, 3: not
//   Library:  await validateOrExit(sql, config.schema);  const health = healthRoutes(sql, config.schema);
// Copy it anywhere: it imports nothing but node's own modules, and needs one postgres.js `sql`. It only ever reads.
import { createHash, timingSafeEqual } from "node:crypto";
import { existsSync, readdirSync, readFileSync, realpathSync, statSync } from "node:fs";
import { resolve } from "node:path";
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
  migrations: { expected: string[]; applied: string[]; pending: string[]; unknown: string[] };
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
  const fixed = { ...expectation, versions: expectation.versions ?? versionsOrExit() };
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

function versionsOrExit(): string[] {
  try {
    return expectedVersions();
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
 * The versions of a folder of migrations, or of the JSON file that `--bake` wrote; in dbmate's order.
 * Where "migrations" is asked for and only "migrations.json" is there, as in an image, that one is read.
 * @throws {Error} when there is neither, when two files claim one version, or when dbmate would skip a file.
 */
export function expectedVersions(directoryOrFile = "migrations"): string[] {
  const baked = `${directoryOrFile}.json`;
  const path = !existsSync(directoryOrFile) && existsSync(baked) ? baked : directoryOrFile;
  if (!existsSync(path)) throw new Error(`Cannot tell the expected migrations: there is no "${resolve(path)}"`);
  const versions: string[] = statSync(path).isDirectory()
    ? readdirSync(path).flatMap(versionOf)
    : JSON.parse(readFileSync(path, "utf8"));
  const twice = versions.filter((version, index) => versions.indexOf(version) !== index);
  if (twice.length > 0) throw new Error(`Two migrations in "${resolve(path)}" have the version ${twice[0]}`);
  return versions.sort();
}

function versionOf(file: string): string[] {
  const version = /^(\d+).*\.sql$/.exec(file)?.[1];
  if (version) return [version];
  if (!file.endsWith(".sql") || ["TEMPLATE.sql", "schema.sql"].includes(file)) return [];
  throw new Error(`dbmate skips the migration "${file}": its name must begin with a version, like 20260131120000_`);
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
  const fixed = { ...expectation, versions: expectation.versions ?? expectedVersions() };
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
  const versions = expectation.versions ?? expectedVersions();
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
      return unreachable(error, versions, elapsed());
    }
    return judge(observation, { ...expectation, versions }, elapsed());
  };
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
  tracking: { exists: boolean; readable: boolean };
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
), tracking as (
  select t.exists, t.schema, t.name, t."missingPrivileges"::text = '[]' and exists (
    select from pg_catalog.pg_attribute a
    where a.attrelid = (select oid from found where index = 0) and a.attname = 'version' and not a.attisdropped
  ) as readable
  from tables t where t.index = 0
)
select json_build_object(
  'server', json_build_object(
    'version', split_part(current_setting('server_version'), ' ', 1),
    'major', current_setting('server_version_num')::int / 10000,
    'role', current_user,
    'database', current_database(),
    'inRecovery', pg_is_in_recovery(),
    'readOnly', current_setting('transaction_read_only')::boolean
  ),
  'tracking', (select json_build_object('exists', exists, 'readable', exists and readable) from tracking),
  -- A query that names a missing table fails as a whole. This one is text until the table is known to be there.
  'applied', (
    select x.versions from tracking, xmltable('/row' passing query_to_xml(
      case when exists and readable
        then format('select coalesce(json_agg(version::text), ''[]'') as versions from %I.%I', schema, name)
        else 'select ''[]'' as versions'
      end, true, true, ''
    ) columns versions json path 'versions') x
  ),
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
  const migrations = compareVersions(seen.applied, expectation.versions);
  const tables = wantedTables(expectation).map(({ name }, index) => {
    const { exists, missingPrivileges } = seen.tables[index]!;
    return { name, exists, missingPrivileges };
  });
  const problems = [
    ...judgeServer(seen.server, expectation),
    ...judgeMigrations(seen, migrations, migrationsTable(expectation)),
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
function compareVersions(appliedRows: readonly string[], expectedVersions: readonly string[]): Report["migrations"] {
  const applied = new Set([...appliedRows].sort());
  const expected = new Set([...expectedVersions].sort());
  return {
    expected: [...expected],
    applied: [...applied],
    pending: [...expected].filter((version) => !applied.has(version)),
    unknown: [...applied].filter((version) => !expected.has(version)),
  };
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

const migrateCommand = "docker compose up migrations (without Docker: bun scripts/up.ts)";

function judgeMigrations(seen: Observation, { expected, pending, unknown }: Report["migrations"], table: string) {
  const { exists, readable } = seen.tracking;
  const problems: Problem[] = [];
  const wanted = expected.length === 1 ? "Expected 1 migration" : `Expected ${expected.length} migrations`;
  const done = expected.length - pending.length;
  if (exists && !readable) {
    const next = `grant select on ${table}, and usage on its schema, to the app's role`;
    return [fail("migrations", `The table ${table} cannot be read by this role, or has no column "version"`, next)];
  }
  if (pending.length > 0 && done > 0) {
    problems.push(fail("migrations", `${wanted}, only ${done} applied`, migrateCommand));
  } else if (pending.length > 0 && unknown.length > 0) {
    const message = `${wanted}, none applied, but ${unknown.length} unknown: this may be another project's database`;
    problems.push(fail("migrations", message, "check PGDATABASE before you migrate"));
  } else if (pending.length > 0) {
    problems.push(fail("migrations", `${wanted}, none applied: this database was never migrated`, migrateCommand));
  }
  if (pending.length === 0 || done > 0) problems.push(...judgeUnknown(unknown, expected));
  const twice = [...new Set(seen.applied.filter((version, index) => seen.applied.indexOf(version) !== index))];
  if (twice.length > 0) {
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
