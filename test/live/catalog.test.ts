// scripts/lib/catalog-objects.ts, scratch.ts, schema-file.ts and migration-replay.ts against a real Postgres: a database that uses everything
// is known again however it was made, and each change of it is found, and named once.
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { existsSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { compareCatalogs } from "../../scripts/lib/catalog-diff.ts";
import { expectedCatalog, keptCatalog, keptFingerprint } from "../../scripts/lib/catalog-expected.ts";
import {
  type CatalogObject,
  type CatalogOptions,
  fingerprint,
  readObjects,
} from "../../scripts/lib/catalog-objects.ts";
import { loadConfig } from "../../scripts/lib/config.ts";
import { type Failure, formatFailure } from "../../scripts/lib/failure.ts";
import { parseMigration } from "../../scripts/lib/migration-file.ts";
import { replay } from "../../scripts/lib/migration-replay.ts";
import { createProgress } from "../../scripts/lib/progress.ts";
import { inDatabase, type Psql } from "../../scripts/lib/psql.ts";
import { dumpSchema, loadSchema } from "../../scripts/lib/schema-file.ts";
import { openScratch, type Scratch } from "../../scripts/lib/scratch.ts";
import { changes, everything, everythingReversed, noChanges } from "../lab/catalog-samples.ts";
import { startEngine } from "../lab/engine.ts";
import { ensureImages } from "../lab/images.ts";
import { startPostgres, type TestPostgres } from "../lab/postgres.ts";
import { linkPackages, type ProjectFiles, writeProjectFiles } from "../lab/project-files.ts";

setDefaultTimeout(120_000);

const before = { ...process.env };
/** Other tests have projects of the usual name. */
const name = `catalog-${randomBytes(4).toString("hex")}`;
const interrupted = new AbortController().signal;
let files: ProjectFiles;
let scratch: Scratch;

beforeAll(async () => {
  const engine = await startEngine();
  await ensureImages(engine);
  Object.assign(process.env, engine.environment);
  files = await writeProjectFiles({ name });
  await linkPackages(files.directory);
  scratch = await open();
}, 300_000);

afterAll(async () => {
  await scratch?.close();
  for (const name of Object.keys(process.env)) if (!(name in before)) delete process.env[name];
  Object.assign(process.env, before);
  if (files) rmSync(files.directory, { recursive: true, force: true });
});

const open = async (changes: { versionNumber?: number; url?: string } = {}): Promise<Scratch> =>
  await openScratch({
    ...{ what: "Cannot try", settings: await loadConfig(files.directory), directory: files.directory },
    ...{ owner: "dbops_app", roles: ["reader", "Writer", "dbops_app", "pg_monitor"] },
    ...changes,
    ...{ progress: createProgress(() => {}), interrupted },
  });

type Seen = { sum: string; objects: CatalogObject[] };

async function look(psql: Psql, options: CatalogOptions = {}): Promise<Seen> {
  return { sum: await fingerprint(psql, options), objects: await readObjects(psql, options) };
}

/** One after the other, each in a transaction of its own. */
async function run(psql: Psql, statements: readonly string[]): Promise<void> {
  for (const statement of statements) {
    await psql.execute(`begin; ${statement}; commit`).catch((error: Failure) => {
      throw new Error(`${statement}\n${formatFailure(error)}`);
    });
  }
}

/** "changed column app.people.name" of each. */
const said = (expected: readonly CatalogObject[], actual: readonly CatalogObject[]) =>
  compareCatalogs(expected, actual).map(({ what, kind, name }) => `${what} ${kind} ${name}`);

describe("a database that uses everything", () => {
  let psql: Psql;
  let close: () => void;
  let whole: Seen;
  let database: string;

  beforeAll(async () => {
    const opened = new Promise<void>((resolve, reject) => {
      const work = async (session: Psql, name: string) => {
        await run(session, everything);
        [psql, database, whole] = [session, name, await look(session)];
        resolve();
        await new Promise<void>((done) => {
          close = done;
        });
      };
      scratch.inNew(work).catch(reject);
    });
    await opened;
  });
  afterAll(() => close?.());

  test("has objects of every kind, and no two of one name", () => {
    const keys = whole.objects.map(({ kind, name }) => `${kind} ${name}`);
    expect(keys).toEqual([...new Set(keys)]);
    expect([...new Set(whole.objects.map(({ kind }) => kind))]).toEqual([
      ...["aggregate", "cast", "collation", "column", "comment", "constraint", "default privileges", "domain", "enum"],
      ...["event trigger", "extension", "foreign table", "function", "grant", "index", "materialized view", "operator"],
      ...["policy", "procedure", "publication", "range", "rule", "schema", "sequence", "server", "statistics", "table"],
      ...["text search configuration", "text search dictionary", "trigger", "type", "view"],
    ]);
    expect(whole.objects.filter(({ definition }) => definition === null)).toEqual([]);
  });

  const dump = (of: string) => {
    const made = { database: of, versionNumber: scratch.versionNumber, versions: ["1", "2"] };
    return dumpSchema(scratch.place, made, interrupted);
  };

  test("is equal to one that was made in another order; and so are their dumps, byte by byte", async () => {
    await scratch.inNew(async (session, name) => {
      await run(session, everythingReversed);
      const reversed = await look(session);
      expect(said(whole.objects, reversed.objects)).toEqual([]);
      expect(reversed).toEqual(whole);
      expect(await dump(name)).toBe(await dump(database));
    });
  });

  test("is equal to one of another language, in which texts have another order", async () => {
    const german = "template template0 locale_provider icu icu_locale 'de-u-kf-upper' locale 'C.UTF-8'";
    await inDatabase(scratch.place, "postgres", interrupted, (admin) =>
      admin.execute(`create database other ${german}`),
    );
    const other = await scratch.inSame("other", async (session) => {
      await run(session, everything);
      return await look(session);
    });
    expect(other).toEqual(whole);
  });

  test("is equal to what its dump makes, but for roles", async () => {
    const options = { withoutRoles: true };
    await psql.execute("create table public.schema_migrations (version varchar primary key)");
    const text = await dump(database);
    await psql.execute("drop table public.schema_migrations");
    const loaded = await scratch.inNew(async (session) => {
      await loadSchema(session, text, { name: "schema.sql", next: [] });
      const versions = await session.rows<{ version: string }>("select version from public.schema_migrations");
      return { ...(await look(session, options)), versions };
    });
    const wanted = await look(psql, options);
    expect(said(wanted.objects, loaded.objects)).toEqual([]);
    expect(loaded).toEqual({ ...wanted, versions: [{ version: "1" }, { version: "2" }] });
    // Postgres does write it in other words.
    expect(text).toContain("ANY ((ARRAY['new'::character varying");
  });

  describe("each change is found, and named once:", () => {
    test.each(changes)("$sql", async ({ sql, says, ofRoles }) => {
      await psql.execute("begin");
      try {
        await psql.execute(sql);
        const changed = await look(psql, { inTransaction: true });
        expect(said(whole.objects, changed.objects)).toEqual([...says]);
        expect(changed.sum).not.toBe(whole.sum);
        if (!ofRoles) return;
        const without = { withoutRoles: true };
        const sum = await fingerprint(psql, { ...without, inTransaction: true });
        await psql.execute("rollback");
        expect(sum).toBe(await fingerprint(psql, without));
      } finally {
        await psql.execute("rollback");
      }
    });
  });

  describe("no change:", () => {
    test.each(noChanges)("%s", async (sql) => {
      await psql.execute("begin");
      try {
        await psql.execute(sql);
        const same = await look(psql, { inTransaction: true });
        expect(said(whole.objects, same.objects)).toEqual([]);
        expect(same.sum).toBe(whole.sum);
      } finally {
        await psql.execute("rollback");
      }
    });
  });

  test("whoever owns everything may be called otherwise", async () => {
    const names = whole.objects.filter(({ definition }) => definition.includes("dbops_app")).map(({ name }) => name);
    const { objects } = await look(psql, { owner: "dbops_app" });
    expect(names.length).toBeGreaterThan(20);
    expect(objects.filter(({ definition, name }) => `${definition} ${name}`.includes("dbops_app"))).toEqual([]);
    expect(objects.length).toBe(whole.objects.length);
  });

  test("histories of other tools can be left out, with all that belongs to them", async () => {
    await psql.execute(
      "begin; create table app.knex_migrations (id serial primary key, name text); comment on table app.knex_migrations is 'x'",
    );
    const { objects } = await look(psql, { histories: ["app.knex_migrations"], inTransaction: true });
    await psql.execute("rollback");
    expect(said(whole.objects, objects)).toEqual([]);
  });
});

describe("replay()", () => {
  const head = "-- migrate:up\n";
  const tail = "\n-- migrate:down\nselect 1;\n";
  const file = (name: string, up: string) =>
    parseMigration(`${name}.sql`, `-- A comment.\n\n${up.replace(/^(?!-- mi)/, head)}${tail}`);

  type Applied = { versions: string[]; tables: string[]; failure: string | undefined };
  const apply = async (ups: readonly string[]): Promise<Applied> =>
    await scratch.inNew(async (psql) => {
      const migrations = ups.map((up, at) => file(`${at + 1}_file`, up));
      const failure = await replay(psql, migrations).then(
        () => undefined,
        (error: Failure) => error,
      );
      const [found] = await psql.rows<Omit<Applied, "failure">>(
        `select (select jsonb_agg(version order by version) from schema_migrations) as versions,
           coalesce((select jsonb_agg(relname order by relname) from pg_class
             where relkind = 'r' and relnamespace = 'public'::regnamespace and relname <> 'schema_migrations'), '[]') as tables`,
      );
      return { ...found!, failure: failure && formatFailure(failure) };
    });

  test.each([
    {
      what: "several statements",
      ups: ["create table a (id int);\ncreate table b (id int);", "alter table b add x int;"],
    },
    {
      what: "what psql would take for its own",
      ups: [
        "create table a (x text default ':HOME');\ninsert into a values (E'\\\\q \\' :AUTOCOMMIT') -- \\q",
        "select (array[1,2])[1:2]",
      ],
    },
    {
      what: "a function body, without a semicolon at its end",
      ups: ["create function f() returns int language plpgsql as $x$ begin return 1; end $x$"],
    },
    {
      what: "an index that is made concurrently",
      ups: ["create table a (id int)", "-- migrate:up transaction:false\ncreate index concurrently i on a (id);"],
    },
    {
      what: "a schema that comes first in the search path",
      ups: ["create schema dbops_app; create table dbops_app.a (id int)", "create table b (id int)"],
    },
    {
      what: "a baseline that empties the search path",
      ups: ["select pg_catalog.set_config('search_path', '', false); create table public.a (id int);"],
    },
    {
      what: "a role that is set, and settings of all kinds",
      ups: [
        "set role reader; reset role; set statement_timeout = 1; set statement_timeout = 0; create table a (id int);",
      ],
    },
    { what: "a comment about copy … from stdin", ups: ["-- copy a from stdin\nselect 1;"] },
  ])("applies $what", async ({ ups }) => {
    const { tables, ...found } = await apply(ups);
    expect(found).toEqual({ versions: ups.map((_, at) => `${at + 1}`), failure: undefined });
  });

  const good = "create table good (id int);";
  const saying = (at: string, why: string, details: string[] = []) =>
    [
      `Cannot apply migrations/2_file.sql${at}: ${why}`,
      ...details.map((line) => `  | ${line}`),
      "  next: correct migrations/2_file.sql",
      "  read: docs/runbook/migration-failed.md",
    ].join("\n");
  test.each([
    {
      what: "a table that is not there, in the third line",
      up: "create table a (id int);\n\nalter table missing add x int;",
      failure: saying("", 'relation "missing" does not exist (42P01)', [
        'ERROR:  42P01: relation "missing" does not exist',
      ]),
    },
    {
      what: "a column that is not there",
      up: "create table a (id int);\n\nselect nothing\n  from a;",
      failure: saying(":6", 'column "nothing" does not exist (42703)', [
        'ERROR:  42703: column "nothing" does not exist',
        "LINE 4: select nothing",
        "               ^",
      ]),
    },
    {
      what: "a quotation mark that is never closed",
      up: "create table a (id int);\nselect 'x;",
      failure: saying(":5", `unterminated quoted string at or near "'x;" (42601)`, [
        `ERROR:  42601: unterminated quoted string at or near "'x;"`,
        "LINE 3: select 'x;",
        "               ^",
      ]),
    },
    {
      what: "a parenthesis that is never closed",
      up: "create table a (id int;",
      failure: saying(":4", 'syntax error at or near ";" (42601)', [
        'ERROR:  42601: syntax error at or near ";"',
        "LINE 2: create table a (id int;",
        "                              ^",
      ]),
    },
    {
      what: "two statements without a transaction",
      up: "-- migrate:up transaction:false\ncreate table a (id int);\ncreate index concurrently on a (id);",
      failure: saying("", "CREATE INDEX CONCURRENTLY cannot run inside a transaction block (25001)", [
        "ERROR:  25001: CREATE INDEX CONCURRENTLY cannot run inside a transaction block",
      ]),
    },
    {
      what: "rows for COPY",
      up: "copy good from stdin;",
      failure: [
        "Cannot apply migrations/2_file.sql: COPY … FROM STDIN wants rows, which dbmate does not send",
        "  next: write INSERT instead, in migrations/2_file.sql",
        "  read: docs/runbook/migration-failed.md",
      ].join("\n"),
    },
    {
      what: "an error in a function",
      up: "do $$ begin\n  perform nothing;\nend $$;",
      failure: saying("", 'column "nothing" does not exist (42703)', [
        'ERROR:  42703: column "nothing" does not exist',
        "LINE 1: SELECT nothing",
        "               ^",
        "QUERY:  SELECT nothing",
        "CONTEXT:  PL/pgSQL function inline_code_block line 2 at PERFORM",
      ]),
    },
  ])("stops at $what, and nothing of the file is left", async ({ up, failure }) => {
    const found = await apply([good, up, "create table never (id int)"]);
    expect(found).toEqual({ versions: ["1"], tables: ["good"], failure });
  });
});

describe("expectedCatalog()", () => {
  const up = (sql: string) => [parseMigration("1_a.sql", `-- migrate:up\n${sql}\n-- migrate:down\n`)];
  const cache = () => join(files.directory, ".dbops/cache");
  const kept = () => readdirSync(cache()).filter((name) => name.startsWith("catalog-"));
  let asked = 0;
  const expected = (migrations: ReturnType<typeof up>, changes = {}) =>
    expectedCatalog({
      ...{ directory: files.directory, files: migrations, versionNumber: scratch.versionNumber, owner: "dbops_app" },
      ...{ roles: ["reader"], histories: [], ...changes },
      scratch: async () => {
        asked += 1;
        return scratch;
      },
    });

  test("applies the files once, and keeps what it has found; not where a file is another one, or the server", async () => {
    const table = up("create table kept (id int);");
    const found = await expected(table);
    expect(found.objects.map(({ kind, name }) => `${kind} ${name}`)).toContain("column public.kept.id");
    expect([await expected(table), asked, kept().length]).toEqual([found, 1, 1]);
    expect(await keptFingerprint({ ...wantedOf(table), owner: "dbops_app" })).toBe(found.fingerprint);
    await expected(up("create table kept (id bigint);"));
    await expected(table, { versionNumber: scratch.versionNumber + 1 });
    await expected(table, { owner: "another" });
    expect([asked, kept().length]).toEqual([4, 4]);
  });

  const wantedOf = (migrations: ReturnType<typeof up>) => ({
    ...{ directory: files.directory, files: migrations, versionNumber: scratch.versionNumber },
    ...{ roles: ["reader"], histories: [] },
  });

  test("what is kept and not whole is made anew", async () => {
    rmSync(cache(), { recursive: true });
    const table = up("create table kept (id int);");
    const found = await expected(table);
    const [name] = kept();
    writeFileSync(join(cache(), name!), JSON.stringify(found).slice(0, -20));
    expect(await expected(table)).toEqual(found);
    expect(await keptCatalog({ ...wantedOf(table), owner: "dbops_app" })).toEqual(found);
  });

  test("a role that the live server has is no obstacle to the file that makes it, here as often as it is wanted", async () => {
    for (const name of ["one", "two"]) {
      const { objects } = await expected(
        up(`create role reader; create table ${name} (); grant select on ${name} to reader;`),
      );
      const grants = objects.filter(({ kind }) => kind === "grant").map(({ definition }) => definition);
      expect(grants).toContain("reader: SELECT");
    }
  });

  test("what cannot be applied is not kept", async () => {
    rmSync(cache(), { recursive: true });
    const failure = await expected(up("create table kept (id nothing);")).catch((error: Failure) => error);
    expect(failure).toMatchObject({ what: "Cannot apply migrations/1_a.sql:2", exitCode: 3 });
    expect(existsSync(cache())).toBe(false);
  });
});

describe("openScratch()", () => {
  const containers = async () => {
    const { run: start } = await import("../../scripts/lib/run.ts");
    const argv = ["docker", "ps", "--all", "--filter", `label=dbops.scratch=${name}`, "--format", "{{.Names}}"];
    return (await start({ argv })).stdout.split("\n").filter(Boolean);
  };

  test("has the owner and the roles, and goes with everything", async () => {
    const others = await containers();
    const own = await open();
    try {
      const found = await own.inNew((psql) =>
        psql.rows("select rolname as name, rolcanlogin as login from pg_roles where rolname !~ '^pg_' order by 1"),
      );
      expect(found).toEqual([
        { name: "Writer", login: false },
        { name: "dbops_app", login: true },
        { name: "reader", login: false },
      ]);
      expect((await containers()).length).toBe(others.length + 1);
    } finally {
      await own.close();
    }
    expect(await containers()).toEqual(others);
  });

  test("of another major version than the database it is refused, and goes", async () => {
    const others = await containers();
    const major = Math.floor(scratch.versionNumber / 10_000);
    const refused = (changes: Parameters<typeof open>[0]) =>
      open({ ...changes, versionNumber: 150_004 }).catch((error: Failure) => formatFailure(error));
    const why = `Cannot try: the Postgres to try the files in is of version ${major}, the database of 15`;
    expect(await refused({})).toBe(`${why}\n  next: the same command with --image postgres:15-alpine`);
    expect(await containers()).toEqual(others);
    await withServer(async (url) => {
      const [, own] = /is of version (\d+),/.exec(String(await refused({ url })))!;
      expect(await refused({ url })).toBe(
        `${why.replace(`${major},`, `${own},`)}\n  next: the same command with --scratch-url URL, of a Postgres 15`,
      );
    });
  });

  /** One that stays. */
  async function withServer(work: (url: string, sql: TestPostgres["connect"]) => Promise<void>): Promise<void> {
    const server = await startPostgres();
    try {
      process.env.PGPASSWORD = server.password;
      await work(`postgres://${server.user}@${server.host}:${server.port}/app?sslmode=disable`, server.connect);
    } finally {
      delete process.env.PGPASSWORD;
      await server.stop();
    }
  }

  test("on a server that stays: what files make there goes, and what was there before stays", async () => {
    await withServer(async (url, connect) => {
      const sql = connect({ max: 1 });
      const roles = async () =>
        (await sql`select rolname from pg_roles where rolname !~ '^pg_' order by 1`).map(({ rolname }) => rolname);
      const before = await roles();
      const file = parseMigration(
        "1_roles.sql",
        '-- migrate:up\ncreate role auditor; do $$ begin create user "The ""Clerk"; end $$;\n-- migrate:down\n',
      );
      const attempt = async () => {
        const own = await open({ url });
        try {
          for (const _ of [1, 2]) await own.inNew((psql) => replay(psql, [file]));
        } finally {
          await own.close();
        }
      };
      await attempt();
      await attempt();
      expect(await roles()).toEqual(before);
      await sql`create role auditor`;
      expect(await attempt().catch((error: Failure) => formatFailure(error))).toBe(
        `Cannot apply migrations/1_roles.sql: role "auditor" already exists (42710)
  | ERROR:  42710: role "auditor" already exists
  next: the same command without --scratch-url      # in a container no role is in the way
  next: drop role "auditor"      # on that server, if nobody needs it there
  read: docs/runbook/migration-failed.md`,
      );
      expect(await roles()).toEqual([...before, "auditor"].sort());
      expect(await sql`select datname from pg_database where datname like 'dbops_scratch%'`).toHaveLength(0);
      await sql.end();
    });
  });
});
