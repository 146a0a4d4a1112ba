// `migrate lint` beyond its rules: what deceives it not, what is allowed, which files are judged by what, and what people are told.
import { afterAll, describe, expect, test } from "bun:test";
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { rules } from "../scripts/lib/lint-rules.ts";
import { parseFiles } from "../scripts/lib/lint-sql.ts";
import { runSquawk } from "../scripts/lib/lint-squawk.ts";
import { findMigrations } from "../scripts/lib/migration-file.ts";
import { run } from "../scripts/lib/run.ts";
import { guideFiles } from "./lab/guide.ts";
import { alone, type Files, first, lint, migration, only, second, third, told } from "./lab/lint.ts";
import { repository } from "./lab/repository.ts";

const dropped = (place: string, what: string) =>
  `${place} drop-without-deprecation: the ${what}, and the version of the app that runs meanwhile may use it`;

describe("drop-without-deprecation", () => {
  test.each<{ name: string; files: Files; found: string[] }>([
    {
      name: "each thing that goes, in the order of a statement",
      files: only(
        migration(
          "drop table t, s.u;\ndrop view v;\ndrop schema s;\nalter table t rename to u;\n" +
            "alter table t rename a to b;\nalter view v set schema s;\nalter table only t\n  add x numeric(3, 2),\n  drop y;",
        ),
      ),
      found: [
        dropped(`${first}:2:1`, "table t is dropped"),
        dropped(`${first}:2:1`, "table s.u is dropped"),
        dropped(`${first}:3:1`, "view v is dropped"),
        dropped(`${first}:4:1`, "schema s is dropped"),
        dropped(`${first}:5:1`, "table t becomes u"),
        dropped(`${first}:6:1`, "column t.a becomes b"),
        dropped(`${first}:7:1`, "view v moves to the schema s"),
        dropped(`${first}:10:3`, "column t.y is dropped"),
      ],
    },
    {
      name: "deprecated in the same file is not deprecated",
      files: only(migration("comment on table t is 'deprecated';\ndrop table t;")),
      found: [dropped(`${first}:3:1`, "table t is dropped")],
    },
    {
      name: "nor is what the comment no longer says",
      files: {
        [first]: migration("comment on table t is 'deprecated';"),
        [second]: migration("comment on table t is 'back again';"),
        [third]: migration("drop table t;"),
      },
      found: [dropped(`${third}:2:1`, "table t is dropped")],
    },
    {
      name: "a column of a deprecated table, and a schema",
      files: {
        [first]: migration("comment on table t is 'DEPRECATED: u';\ncomment on schema s is 'deprecated';"),
        [second]: migration("alter table t drop column a, drop column b;\ndrop schema s cascade;"),
      },
      found: [],
    },
    {
      name: "what this file has made itself, under its new name too",
      files: only(
        migration(
          "create table t (a int);\nalter table t rename to u;\nalter table u drop column a;\ndrop table u;\n" +
            "alter table v add column b int;\nalter table v drop column b;",
        ),
      ),
      found: [],
    },
    {
      name: "a view that is made again",
      files: only(migration("drop view v;\ncreate view v as select 1 as a;")),
      found: [],
    },
    {
      name: "a table that is made again has lost its rows",
      files: only(migration("drop table t;\ncreate table t (a int);")),
      found: [dropped(`${first}:2:1`, "table t is dropped")],
    },
    {
      name: "what IF NOT EXISTS need not have made",
      files: only(
        migration(
          "create table if not exists t (a int);\ndrop table t;\ncreate table if not exists u as select 1 as a;\ndrop table u;\n" +
            "alter table v add column if not exists a int;\nalter table v drop column a;",
        ),
      ),
      found: [
        dropped(`${first}:3:1`, "table t is dropped"),
        dropped(`${first}:5:1`, "table u is dropped"),
        dropped(`${first}:7:15`, "column v.a is dropped"),
      ],
    },
    {
      name: "all that a role owns, and a value of a type",
      files: only(migration("drop owned by app, old;\nalter type s.mood rename value 'fine' to 'good';")),
      found: [
        dropped(`${first}:2:1`, "property of app and old is dropped"),
        dropped(`${first}:3:1`, "value fine of the type s.mood becomes good"),
      ],
    },
    { name: "the down section may", files: only(migration("create table t (a int);", "drop table u;")), found: [] },
    {
      name: "a text or a function that says so",
      files: only(migration("select 'drop table t', $$ drop table t; $$;")),
      found: [],
    },
  ])("$name", async ({ files, found }) => {
    expect(await told(files, { squawk: undefined })).toEqual(found);
  });
});

describe("foreign-key-without-index", () => {
  const missing = (place: string, table: string, columns: string) =>
    `${place} foreign-key-without-index: no index of ${table} begins with ${columns}: each delete in the other table reads all of it`;
  test.each<{ name: string; files: Files; found: string[] }>([
    {
      name: "each way to make one",
      files: only(
        migration(
          "create table t (a int references u, b int, foreign key (b) references u);\nalter table t add c int references u;\nalter table t add foreign key (b, c) references v;",
        ),
      ),
      found: [
        missing(`${first}:2:23`, "t", "a"),
        missing(`${first}:2:44`, "t", "b"),
        missing(`${first}:3:25`, "t", "c"),
        missing(`${first}:4:19`, "t", "b, c"),
      ],
    },
    {
      name: "a primary key, a unique constraint, several columns in another order, or only those that are not null",
      files: only(
        migration(
          "create table t (a int primary key references u, b int unique references u, c int references u, d int, e int,\n" +
            "  foreign key (e, d) references v, unique (d, e, a));\ncreate index i on t using hash (c) where c is not null;",
        ),
      ),
      found: [],
    },
    {
      name: "an index that cannot find the rows of one key",
      files: only(
        migration(
          "create table t (a int references u);\ncreate index i on t (b, a);\ncreate index j on t using gin (a);\n" +
            "create index k on t (a) where a > 1;\ncreate index l on t ((a + 1));\ncreate index m on s.t (a);",
        ),
      ),
      found: [missing(`${first}:2:23`, "t", "a")],
    },
    {
      name: "an index that is dropped later",
      files: {
        [first]: migration("create table t (a int references u);\ncreate index i on t (a);"),
        [second]: alone("drop index concurrently i;"),
      },
      found: [missing(`${first}:2:23`, "t", "a")],
    },
    {
      name: "a key, a column or a table that is dropped later",
      files: {
        [first]: migration(
          "create table t (a int references u, b int references u);\ncreate table w (a int references u);",
        ),
        [second]: migration(
          "alter table t drop constraint t_a_fkey;\n-- dbops:allow drop-without-deprecation nobody ever used it\nalter table t drop b;\n" +
            "-- dbops:allow drop-without-deprecation nobody ever used it\ndrop table w;",
        ),
      },
      found: [],
    },
    {
      name: "under new names",
      files: {
        [first]: migration(
          "create table t (a int references u);\ncreate index i on t (a);\nalter table t rename a to b;\n" +
            "alter table t rename to w;\nalter index i rename to j;\nalter table w set schema s;",
        ),
        [second]: alone("drop index concurrently i;"),
      },
      found: [],
    },
    {
      name: "an index taken over from another table",
      files: only(
        migration(
          "create table t (a int);\ncreate index i on t (a);\ncreate table w (like t including all);\n" +
            "alter table w add foreign key (a) references u;",
        ),
      ),
      found: [],
    },
  ])("$name", async ({ files, found }) => {
    expect(await told(files, { squawk: undefined })).toEqual(found);
  });
});

describe("sections", () => {
  const concurrently = "cannot run inside a transaction";
  test.each<{ sql: string; what: string }>([
    { sql: "drop index concurrently i;", what: "DROP INDEX CONCURRENTLY" },
    { sql: "reindex index concurrently i;", what: "REINDEX CONCURRENTLY" },
    { sql: "reindex schema s;", what: "this REINDEX" },
    { sql: "alter table t detach partition p concurrently;", what: "DETACH PARTITION CONCURRENTLY" },
    { sql: "vacuum t;", what: "VACUUM" },
    { sql: "cluster;", what: "CLUSTER without a table" },
    { sql: "create database x;", what: "CREATE DATABASE" },
    { sql: "drop tablespace x;", what: "DROP TABLESPACE" },
    { sql: "alter system set a = 1;", what: "ALTER SYSTEM" },
  ])("$what needs no transaction, down as well", async ({ sql, what }) => {
    expect(await told(only(migration("select 1;", sql)), { squawk: undefined })).toEqual([
      `${first}:5:1 needs-no-transaction: ${what} ${concurrently}`,
    ]);
  });

  test.each([
    "analyze t;",
    "cluster t using i;",
    "refresh materialized view concurrently v;",
    "alter type e add value 'x';",
  ])("%s can be in one", async (sql) => expect(await told(only(migration(sql)), { squawk: undefined })).toEqual([]));

  test.each([
    "delete from public.schema_migrations;",
    "create table if not exists schema_migrations (version varchar);",
    "drop table schema_migrations;",
    "truncate schema_migrations;",
    "with a as (insert into schema_migrations values ('1') returning 1) select * from a;",
  ])("records-itself: %s", async (sql) => {
    const found = await lint(only(migration(sql)), { squawk: undefined });
    expect(found.findings.map(({ rule }) => rule)).toContain("records-itself");
  });

  test("the history of another tool is none of dbmate's", async () => {
    expect(await told(only(migration("insert into supabase_migrations.schema_migrations values ('1');")))).toEqual([]);
  });

  test("an error in one section leaves the other one judged", async () => {
    expect(await told(only(migration("vacuum t;", "drop tabel t;")))).toEqual([
      `${first}:2:1 needs-no-transaction: VACUUM cannot run inside a transaction`,
      `${first}:5:6 syntax: syntax error at or near "tabel"`,
    ]);
  });

  test("places are counted in characters, with Windows' line ends too", async () => {
    const text = migration("select 'äöü€😀', 1;\nselect '€'; drop index i;").replaceAll("\n", "\r\n");
    expect(await told(only(text))).toEqual([
      `${first}:3:13 require-concurrent-index-deletion: the table takes neither reads nor writes until every query of it is done`,
    ]);
  });

  test("a page of psql's commands, and rows behind COPY", async () => {
    expect(
      await told({ [first]: migration("\\i other.sql"), [second]: migration("copy t from stdin;\n1\t2\n\\.") }),
    ).toEqual([
      `${first}:2:1 syntax: syntax error at or near "\\"`,
      `${second}:3:1 syntax: syntax error at or near "1"`,
    ]);
  });
});

describe("-- dbops:allow", () => {
  const bad = "create index i on t (a)";
  const reason = "t has ten rows";
  const allow = `-- dbops:allow require-concurrent-index-creation ${reason}`;
  const unallowed = `${first}:2:1 require-concurrent-index-creation: the table takes no writes while the index is built`;

  test.each<{ name: string; text: string }>([
    {
      name: "in front of the statement, all of it",
      text: migration(`${allow}\n-- more\n\ncreate index i\n  on t (a);`),
    },
    { name: "behind the line", text: migration(`${bad}; ${allow}`) },
    { name: "in front of the section, the whole file", text: `${allow}\n${migration(`select 1;\n${bad};`)}` },
    {
      name: "within a statement, the line below",
      text: migration(
        "alter table t\n  -- dbops:allow adding-required-field t has no rows yet\n  add column a text not null,\n  add column b text;",
      ),
    },
    { name: "an empty section", text: migration("select 1;", "-- dbops:allow down-empty the rows are gone") },
  ])("$name", async ({ text }) => {
    const { findings, allowed } = await lint(only(text));
    expect(findings).toEqual([]);
    expect(allowed.length).toBe(1);
  });

  test.each<{ name: string; text: string; found: string[] }>([
    {
      name: "a line further up covers nothing",
      text: migration(`${allow}\nselect 1;\n${bad};`),
      found: [
        `${first}:2:1 allow-unused: there is nothing here that require-concurrent-index-creation would find`,
        `${first}:4:1 require-concurrent-index-creation: the table takes no writes while the index is built`,
      ],
    },
    {
      name: "a rule that does not exist",
      text: migration(`${bad}; -- dbops:allow require-index why not`),
      found: [unallowed, `${first}:2:1 allow-unusable: there is no rule "require-index"`].reverse(),
    },
    {
      name: "what nothing can allow",
      text: `-- dbops:allow syntax I know better\n${migration("selct;")}`,
      found: [
        `${first}:1:1 allow-unusable: nothing can allow syntax`,
        `${first}:3:1 syntax: syntax error at or near "selct"`,
      ],
    },
    {
      name: "a misspelled one",
      text: migration("-- dbops: allow\nselect 1; /* dbops:allow down-empty x */"),
      found: [
        `${first}:2:1 allow-unusable: this comment allows nothing`,
        `${first}:3:1 allow-unusable: this comment allows nothing`,
      ],
    },
    { name: "a text is no comment", text: migration(`select '\n${allow}\n';`), found: [] },
  ])("$name", async ({ text, found }) => {
    expect((await told(only(text))).sort()).toEqual([...found].sort());
  });

  test("says what was allowed, and why", async () => {
    expect((await lint(only(migration(`${bad}; ${allow}`)))).allowed).toEqual([
      {
        ...{ file: first, line: 2, column: 1, rule: "require-concurrent-index-creation", severity: "error", reason },
        message: "the table takes no writes while the index is built",
        advice: rules["require-concurrent-index-creation"].advice,
      },
    ]);
  });

  test("is not called unused where its rule was not applied", async () => {
    const text = migration("-- dbops:allow changing-column-type it was safe\nselect 1;");
    expect(await told(only(text), { squawk: undefined })).toEqual([]);
    expect(await told(only(text), { from: "20270101000000" })).toEqual([]);
    expect(await told(only(migration("-- dbops:allow changing-column-type it was safe\nselct 1;")))).toEqual([
      `${first}:3:1 syntax: syntax error at or near "selct"`,
    ]);
  });
});

test("a table that IF NOT EXISTS need not have made cannot", async () => {
  const made = ["create table if not exists t (a int);", 'create table if not exists s."Ü" as select 1 as a;'];
  const statements = ["t", 's."Ü"'].flatMap((table) => [
    `alter table ${table} alter column a type bigint;`,
    `alter table ${table} add constraint c check (a > 0);`,
    `create index on ${table} (a);`,
    `truncate ${table};`,
  ]);
  const rulesIn = async (sql: string[]) =>
    (await lint(only(migration(sql.join("\n"))))).findings.map(({ line, rule }) => `${line} ${rule}`);
  expect(await rulesIn([...made, ...statements])).toEqual(
    [4, 8].flatMap((line) => [
      `${line} changing-column-type`,
      `${line + 1} constraint-missing-not-valid`,
      `${line + 2} require-concurrent-index-creation`,
      `${line + 3} truncate`,
    ]),
  );
  expect(await rulesIn([...made.map((sql) => sql.replace("if not exists ", "")), ...statements])).toEqual([]);
});

test("a table that the file has made itself can be changed at will", async () => {
  const changes = [
    ...["create table s.t (a int, b int)", "create index i on s.t (a)", "alter table s.t add c int not null"],
    ...["alter table s.t alter a type bigint, alter a set not null", "alter table only s.t add primary key (a)"],
    ...["alter table s.t add d timestamptz default clock_timestamp()", "alter table s.t add check (a > 0)"],
    ...["alter table s.t add foreign key (a) references u", "create table w as select 1 as a", "create index on w (a)"],
  ];
  expect(await told(only(migration(`${changes.join(";\n")}; alter table t add e int not null;`)))).toEqual([
    `${first}:11:38 adding-required-field: it fails where there are rows, and the version that runs meanwhile cannot insert any`,
  ]);
});

describe("which files are judged", () => {
  const files = { [first]: migration("vacuum t;\ndrop table t;"), [second]: migration("vacuum t;\ndrop table t;") };
  const vacuum = "2:1 needs-no-transaction: VACUUM cannot run inside a transaction";

  test("those before lintFrom only by what dbmate makes of them", async () => {
    expect(await told(files, { from: "20260102000000" })).toEqual([
      `${first}:${vacuum}`,
      `${second}:${vacuum}`,
      dropped(`${second}:3:1`, "table t is dropped"),
    ]);
  });

  test("those that are named, by all rules, wherever lintFrom is", async () => {
    expect(await told(files, { from: "20270101000000", only: [first] })).toEqual([
      `${first}:${vacuum}`,
      dropped(`${first}:3:1`, "table t is dropped"),
    ]);
  });
});

test("nothing is found in the files of the guide but what they allow", async () => {
  const files = guideFiles();
  const { findings, allowed } = await lint(files);
  expect({ count: Object.keys(files).length, findings }).toEqual({ count: 20, findings: [] });
  expect(allowed.map(({ file, rule }) => `${file.slice(0, 14)} ${rule}`)).toEqual([
    "20260602090100 down-empty",
    "20260602090300 down-empty",
    "20260610090000 down-empty",
    "20260611090400 down-empty",
    "20260613090100 down-empty",
    "20260701090000 down-empty",
    "20260702090000 constraint-missing-not-valid",
  ]);
});

test("docs/migrations.md lists each rule with its severity", async () => {
  const page = await readFile(join(repository, "docs", "migrations.md"), "utf8");
  const listed = [...page.matchAll(/^\| `([a-z-]+)` \| (error|warning) \|/gm)].map(
    ([, rule, severity]) => `${rule} ${severity}`,
  );
  expect(listed.sort()).toEqual(
    Object.entries(rules)
      .map(([name, { severity }]) => `${name} ${severity}`)
      .sort(),
  );
});

describe("as a command", () => {
  const made: string[] = [];
  afterAll(async () => {
    for (const folder of made) await rm(folder, { recursive: true });
  });

  /** A project with these migrations. */
  async function project(files: Files, modules = join(repository, "node_modules")): Promise<string> {
    const folder = await mkdtemp(join(tmpdir(), "dbops-lint-test-"));
    made.push(folder);
    await mkdir(join(folder, "migrations"));
    for (const [file, text] of Object.entries(files)) await writeFile(join(folder, "migrations", file), text);
    await writeFile(join(folder, "package.json"), "{}\n");
    await writeFile(
      join(folder, "dbops.config.ts"),
      await readFile(join(repository, "templates", "dbops.config.ts"), "utf8"),
    );
    await symlink(modules, join(folder, "node_modules"));
    await symlink(join(repository, "scripts"), join(folder, "scripts"));
    return folder;
  }

  const command = async (directory: string, ...words: string[]) => {
    const argv = [process.execPath, "--no-env-file", "scripts/migrate.ts", "lint", ...words];
    const { exitCode, stdout, stderr } = await run({ argv, directory, accept: [0, 2, 3] });
    return { exitCode, stdout, stderr };
  };

  const text = migration(
    "create index i on t (a);\nset role x;\nset role y; -- dbops:allow setting-outlives-file why not",
  );

  test("says where, what, what to do, and exits 3", async () => {
    expect(await command(await project(only(text)))).toEqual({
      exitCode: 3,
      stdout: [
        `migrations/${first}:2:1: error require-concurrent-index-creation: the table takes no writes while the index is built`,
        "  do: create index concurrently, in a file of its own with transaction:false",
        `migrations/${first}:3:1: warning setting-outlives-file: role stays as it is for the files behind it`,
        "  do: write `set local`, or set_config(…, true): it ends with the file then",
        `migrations/${first}:4:1: allowed setting-outlives-file: why not`,
        "1 file judged: 1 error, 1 warning, 1 allowed",
        "",
      ].join("\n"),
      stderr: [
        "The migrations are not safe to apply: 1 error",
        `  next: correct migrations/${first}:2, then: bun scripts/migrate.ts lint`,
        "  read: docs/migrations.md",
        "",
      ].join("\n"),
    });
  });

  test("is one JSON document", async () => {
    const { exitCode, stdout, stderr } = await command(await project(only(text)), "--json");
    expect({ exitCode, ...JSON.parse(stdout) }).toEqual({ exitCode: 3, ...(await lint(only(text))) });
    expect(stderr.split("\n")[0]).toBe("The migrations are not safe to apply: 1 error");
  });

  test("exits 0 where there are only warnings, and judges only the file that is named", async () => {
    const directory = await project({ [first]: text, [second]: migration("set role x;") });
    const { exitCode, stdout, stderr } = await command(directory, `migrations/${second}`);
    expect({ exitCode, stderr, last: stdout.trim().split("\n").at(-1) }).toEqual({
      ...{ exitCode: 0, stderr: "" },
      last: "2 files judged, 1 of them by the rules of safety: 0 errors, 1 warning, 0 allowed",
    });
  });

  test("says so when a file is not there", async () => {
    expect(await command(await project(only(text)), "nothing.sql")).toEqual({
      ...{ exitCode: 2, stdout: "" },
      stderr: "Cannot judge nothing.sql: it is none of the files in migrations/ here\n  next: ls migrations\n",
    });
  });

  test("judges a file by its name, or wherever it is named from, and never another one of the same name", async () => {
    const directory = await project({ [first]: migration("select 1;"), [second]: migration("select 2;") });
    const other = await project(only(migration("drop table t;")));
    await symlink(directory, join(other, "link"));
    const sum = "2 files judged, 1 of them by the rules of safety: 0 errors, 0 warnings, 0 allowed\n";
    for (const word of [
      first,
      `migrations/${first}`,
      `./migrations/../migrations/${first}`,
      join(directory, "migrations", first),
      join(other, "link", "migrations", first),
    ]) {
      expect(await command(directory, word), word).toEqual({ exitCode: 0, stdout: sum, stderr: "" });
    }
    for (const word of [join(other, "migrations", first), `./${first}`, "migrations/schema.sql"]) {
      expect(await command(directory, word), word).toEqual({
        ...{ exitCode: 2, stdout: "" },
        stderr: `Cannot judge ${word}: it is none of the files in migrations/ here\n  next: ls migrations\n`,
      });
    }
  });

  test("finds a file that is not UTF-8, for which `up` sends people here", async () => {
    const latin = Buffer.from(migration("select 'gr\u00fcn';"), "latin1");
    expect(await command(await project({ [first]: latin }))).toEqual({
      exitCode: 3,
      stdout: [
        `migrations/${first}:2:1: error encoding: it is not UTF-8`,
        "  do: convert it, for instance: iconv -f WINDOWS-1252 -t UTF-8",
        "1 file judged: 1 error, 0 warnings, 0 allowed",
        "",
      ].join("\n"),
      stderr: [
        "The migrations are not safe to apply: 1 error",
        `  next: correct migrations/${first}:2, then: bun scripts/migrate.ts lint`,
        "  read: docs/migrations.md",
        "",
      ].join("\n"),
    });
  });

  test("does not pass over squawk in silence", async () => {
    const directory = await project(only(migration("create index i on t (a);")), join(repository, "test"));
    const { files } = await findMigrations(directory);
    const { message, next, exitCode } = await runSquawk(directory, await parseFiles(files)).catch((error) => error);
    expect({ message, next, exitCode }).toEqual({
      message: 'Cannot judge migrations/: npm package "squawk-cli" is not installed here',
      next: ["bun install", "bun scripts/migrate.ts lint --no-squawk      # without the rules about locks"],
      exitCode: 2,
    });
  });

  test("judges without it where that is wanted", async () => {
    const { exitCode, stdout } = await command(
      await project(only(migration("create index i on t (a);"))),
      "--no-squawk",
    );
    expect({ exitCode, stdout }).toEqual({
      exitCode: 0,
      stdout: "1 file judged, without squawk: 0 errors, 0 warnings, 0 allowed\n",
    });
  });
});
