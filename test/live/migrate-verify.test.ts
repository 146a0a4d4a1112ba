// `migrate dump` and `migrate verify` as people and CI run them: in a repository with a history, with a container and with a server of one's
// own, and with everything that can be wrong.
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Result, run, start } from "../../scripts/lib/run.ts";
import { poll } from "../../scripts/lib/wait.ts";
import { postgresEnvironment } from "../lab/debian-programs.ts";
import { startEngine } from "../lab/engine.ts";
import { createProject, type Project } from "../lab/project.ts";
import { linkPackages } from "../lab/project-files.ts";
import { repository } from "../lab/repository.ts";

setDefaultTimeout(120_000);

let folder: string;
let project: Project;
/** Of what runs with Docker, and with a server of its own and no Docker. */
let environment: Record<string, string | undefined>;
let url: string;
let ownSchema: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "dbops-verify-"));
  const engine = await startEngine();
  const clients = (await postgresEnvironment()).PATH.split(":")[0]!;
  const password = 'pa$$ "word';
  project = await createProject({ environment: { POSTGRES_PASSWORD: password } });
  await linkPackages(project.directory);
  // Other tests have projects of the usual name, and containers.
  const config = readFileSync(join(project.directory, "dbops.config.ts"), "utf8");
  await project.write("dbops.config.ts", config.replace('name: "dbops-app"', `name: "${project.name}"`));
  await project.compose(["up", "--detach", "--wait", "postgres"]);
  const port = /^POSTGRES_PORT=(\d+)$/m.exec(readFileSync(join(project.directory, ".env"), "utf8"))![1]!;
  url = `postgres://dbops_app@127.0.0.1:${port}/dbops_app?sslmode=disable`;
  environment = {
    ...engine.environment,
    ...{
      PATH: `${clients}:${engine.environment.PATH}`,
      PGHOST: undefined,
      NO_COLOR: "1",
      GIT_CONFIG_GLOBAL: "/dev/null",
    },
    ...{ PGPASSWORD: password, TZ: "Asia/Tokyo", TMPDIR: folder },
  };
  ownSchema = readFileSync(join(repository, "migrations/schema.sql"), "utf8");
  // A clone, as in CI and on laptops: its origin has the default branch.
  const origin = join(folder, "origin.git");
  await run({ argv: ["git", "init", "--quiet", "--bare", "--initial-branch=main", origin], environment });
  await git("init", "--quiet", "--initial-branch=main");
  writeFileSync(join(project.directory, ".git/info/exclude"), "node_modules\n");
  await git("add", "--all");
  await git("commit", "--quiet", "--message", "the project");
  await git("remote", "add", "origin", origin);
  await git("push", "--quiet", "origin", "main");
}, 300_000);

afterEach(async () => {
  await git("reset", "--quiet", "--hard");
  await git("clean", "--quiet", "--force", "migrations");
  await git("switch", "--quiet", "main");
  await git("reset", "--quiet", "--hard", "origin/main");
});

afterAll(async () => {
  await project?.remove();
  rmSync(folder, { recursive: true, force: true });
});

async function git(...words: string[]): Promise<string> {
  const identity = ["-c", "user.name=octocat", "-c", "user.email=octocat@example.com", "-c", "commit.gpgsign=false"];
  const argv = ["git", ...identity, ...words];
  return (await run({ argv, directory: project.directory, environment })).stdout.trim();
}

const migrate = (words: readonly string[], changes: Record<string, string | undefined> = {}): Promise<Result> =>
  run({
    argv: [process.execPath, "--no-env-file", "scripts/migrate.ts", ...words],
    ...{ directory: project.directory, environment: { ...environment, ...changes } },
    ...{ accept: [0, 1, 2, 3, 130], timeoutSeconds: 100 },
  });

/** On the stack's own server: no container has to start. */
const onServer = (words: readonly string[], changes = {}) => migrate([...words, "--scratch-url", url], changes);

const migration = (name: string, up: string) =>
  project.write(`migrations/${name}.sql`, `-- migrate:up\n${up}\n\n-- migrate:down\n`);
const schema = () => readFileSync(join(project.directory, "migrations/schema.sql"), "utf8");

async function commit(message: string): Promise<void> {
  await git("add", "--all");
  await git("commit", "--quiet", "--message", message);
}

/** On a branch of its own: a file, and schema.sql with it. */
async function branchWith(name: string, up: string): Promise<void> {
  await git("switch", "--quiet", "--force-create", "work");
  await migration(name, up);
  expect((await onServer(["dump"])).exitCode).toBe(0);
  await commit(name);
}

const scratchDatabases = async () =>
  (
    await project.compose(["exec", "-T", "postgres", "psql", "-U", "dbops_app", "-d", "dbops_app", "-qtA"], {
      stdin: "select count(*) from pg_database where datname like 'dbops_scratch%'",
    })
  ).stdout.trim();

async function containers(): Promise<string[]> {
  const words = ["ps", "--all", "--filter", `label=dbops.scratch=${project.name}`, "--format", "{{.Names}}"];
  return (await project.docker(words)).stdout.split("\n").filter(Boolean);
}

/** What people see, without the lines of progress. */
const said = ({ stderr }: Result) =>
  stderr
    .split("\n")
    .filter((line) => line && !/^ {2}(done|FAILED) /.test(line))
    .join("\n");

describe("dump", () => {
  test("in a container: the kit's own schema.sql is what it writes, and stays as it is", async () => {
    const { exitCode, stdout, stderr } = await migrate(["dump"]);
    expect([exitCode, stdout, exitCode ? stderr : ""]).toEqual([
      0,
      "migrations/schema.sql is what 4 migrations make already; it stays as it is\n",
      "",
    ]);
    expect(await containers()).toEqual([]);
  });

  test("writes what has changed, the same bytes on any server, and nothing with --plan", async () => {
    await migration(
      "20270101000000_parts",
      "create table parts (at timestamptz not null) partition by range (at);\ncreate table parts_1 partition of parts for values from ('2027-01-01 00:00:00+00') to ('2027-02-01 00:00:00+00');\ncreate schema dbops; create table dbops.mine (id int);",
    );
    const planned = await onServer(["dump", "--plan"]);
    expect([planned.exitCode, planned.stdout]).toEqual([
      0,
      "migrations/schema.sql would be written anew: what 5 migrations make\n",
    ]);
    expect(schema()).toBe(ownSchema);
    const written = await onServer(["dump", "--json"]);
    expect(JSON.parse(written.stdout)).toEqual({
      ...{ file: "migrations/schema.sql", changed: true, written: true, migrations: 5 },
      seconds: { files: expect.any(Number), dump: expect.any(Number) },
    });
    const text = schema();
    expect(text).toContain("FOR VALUES FROM ('2027-01-01 00:00:00+00') TO ('2027-02-01 00:00:00+00')");
    expect(text).not.toContain("dbops");
    expect(text).toEndWith("    ('20260101090300'),\n    ('20270101000000');\n");
    const again = await migrate(["dump"]);
    expect(again.stdout).toBe("migrations/schema.sql is what 5 migrations make already; it stays as it is\n");
    expect(readdirSync(join(project.directory, "migrations")).filter((name) => name.includes(".tmp"))).toEqual([]);
    expect([await containers(), await scratchDatabases()]).toEqual([[], "0"]);
  });

  test("what it writes is what dbmate dumps, and dbmate loads it", async () => {
    const dbmate = (words: string[], accept = [0]) => {
      const target = [
        "--env",
        "DATABASE_URL=postgres://postgres:5432/loaded?sslmode=disable",
        "--env",
        "PGDATABASE=loaded",
      ];
      return project.compose(["run", "--rm", "--quiet-pull", ...target, "migrations", ...words], { accept });
    };
    await dbmate(["create"]);
    try {
      await dbmate(["--schema-file", "/db/migrations/schema.sql", "load"]);
      expect((await dbmate(["status"])).stdout).toContain("Applied: 4\nPending: 0");
      const { stdout } = await dbmate(["--schema-file", "/dev/stdout", "dump"]);
      expect(stdout.replace(/^Writing: .*\n/, "").replace(/^-- Dumped from .*\n-- Dumped by .*\n+/m, "")).toBe(
        ownSchema,
      );
    } finally {
      await dbmate(["drop"]);
    }
  });

  test("a file that cannot be applied: where, why, and schema.sql is as it was", async () => {
    await migration("20270101000000_bad", "alter table accounts\n  add column x nothing;");
    const failed = await onServer(["dump"]);
    expect([failed.exitCode, failed.stdout, said(failed)]).toEqual([
      3,
      "",
      [
        'Cannot apply migrations/20270101000000_bad.sql:3: type "nothing" does not exist (42704)',
        '  | ERROR:  42704: type "nothing" does not exist',
        "  | LINE 3:   add column x nothing;",
        "  |                        ^",
        "  next: correct migrations/20270101000000_bad.sql",
        "  read: docs/runbook/migration-failed.md",
      ].join("\n"),
    ]);
    expect(schema()).toBe(ownSchema);
    expect(await scratchDatabases()).toBe("0");
  });

  test("a role that no file makes has to be named", async () => {
    await migration("20270101000000_grant", "grant select on accounts to reader;");
    const failed = await migrate(["dump"]);
    expect([failed.exitCode, said(failed)]).toEqual([
      3,
      [
        'Cannot apply migrations/20270101000000_grant.sql: role "reader" does not exist (42704)',
        '  | ERROR:  42704: role "reader" does not exist',
        "  next: correct migrations/20270101000000_grant.sql",
        "  next: the same command with --role reader      # where it is made on the server, and not by a migration",
        "  read: docs/runbook/migration-failed.md",
      ].join("\n"),
    ]);
    const named = await migrate(["dump", "--role", "reader"]);
    expect([named.exitCode, named.stdout]).toEqual([
      0,
      "migrations/schema.sql is written anew: what 5 migrations make\n",
    ]);
    expect(schema()).not.toContain("reader");
  });

  test("a pg_dump of another version is not used", async () => {
    const bin = join(folder, "bin");
    mkdirSync(bin, { recursive: true });
    writeFileSync(join(bin, "pg_dump"), '#!/bin/sh\necho "pg_dump (PostgreSQL) 17.6"\n');
    chmodSync(join(bin, "pg_dump"), 0o755);
    const failed = await onServer(["dump"], { PATH: `${bin}:${environment.PATH}` });
    expect([failed.exitCode, said(failed)]).toEqual([
      2,
      [
        "Cannot dump the schema: its pg_dump is of version 17, the server of 18",
        "  next: apt-get install postgresql-client-18      # or: brew install postgresql@18",
      ].join("\n"),
    ]);
    expect(schema()).toBe(ownSchema);
    expect(await scratchDatabases()).toBe("0");
  });

  test("without Docker, and without a server that is named", async () => {
    const failed = await migrate(["dump"], { DOCKER_HOST: "unix:///nowhere.sock" });
    expect(failed.exitCode).toBe(1);
    expect(said(failed)).toStartWith("Cannot write migrations/schema.sql: ");
  });

  test("a URL with a password, which everybody on this machine could read", async () => {
    const failed = await migrate(["dump", "--scratch-url", "postgres://dbops_app:secret@127.0.0.1/x"]);
    expect([failed.exitCode, said(failed)]).toEqual([
      2,
      [
        "Cannot use --scratch-url: it has a password in it, and everybody on this machine can read the command lines of all programs",
        "  next: export PGPASSWORD=…",
        "  next: --scratch-url postgres://USER@HOST:PORT/DATABASE      # without it",
      ].join("\n"),
    ]);
  });

  test("a user who may make no databases", async () => {
    const psql = (sql: string) =>
      project.compose(["exec", "-T", "postgres", "psql", "-U", "dbops_app", "-qtA"], { stdin: sql });
    await psql(`create role weak login password 'pa$$ "word'`);
    const failed = await migrate(["dump", "--scratch-url", url.replace("dbops_app@", "weak@")]);
    await psql("drop role weak");
    expect([failed.exitCode, said(failed)]).toEqual([
      2,
      [
        `Cannot make a database on ${new URL(url).host}: permission denied to create database`,
        '  next: alter role "weak" createdb',
      ].join("\n"),
    ]);
  });

  test("interrupted, it leaves no container, no database and no half file", async () => {
    await migration("20270101000000_slow", "create table slow (id int);\nselect pg_sleep(60);");
    for (const words of [[], ["--scratch-url", url]]) {
      let stderr = "";
      const running = await start({
        argv: [process.execPath, "--no-env-file", "scripts/migrate.ts", "dump", ...words],
        ...{ directory: project.directory, environment, ownGroup: true },
        onLine: (line) => {
          stderr += `${line}\n`;
        },
      });
      const sleeps = await poll({ seconds: 60 }, async () => ((await isAsleep(words.length > 0)) ? true : undefined));
      expect([sleeps, stderr.includes("FAILED")]).toEqual([true, false]);
      process.kill(running.pid, "SIGINT");
      expect(await running.ended).toBe(130);
      expect(stderr).toContain("Interrupted: by SIGINT");
      expect([await containers(), await scratchDatabases(), schema()]).toEqual([[], "0", ownSchema]);
    }
  });
});

/** Whether the slow migration is at it: in the container, or on the server. */
async function isAsleep(onTheServer: boolean): Promise<boolean> {
  const query = "select count(*) from pg_stat_activity where query like '%pg_sleep(60)%' and wait_event = 'PgSleep'";
  const [name] = onTheServer ? [project.container("postgres")] : await containers();
  if (!name) return false;
  const words = ["exec", "--interactive", name, "psql", "-U", "dbops_app", "-d", "postgres", "-qtA", "-c", query];
  const { stdout } = await project.docker(words, { accept: [0, 1, 2] });
  return stdout.trim() === "1";
}

describe("verify", () => {
  test("in a container: the kit's own, from main", async () => {
    const { exitCode, stdout, stderr } = await migrate(["verify"]);
    const main = (await git("rev-parse", "HEAD")).slice(0, 7);
    expect([exitCode, stdout, exitCode ? stderr : ""]).toEqual([
      0,
      `Good: 4 files, a database of origin/main (${main}), and migrations/schema.sql make the same\n`,
      "",
    ]);
    expect(await containers()).toEqual([]);
  });

  test("a branch with a file more: in words and as JSON, committed or not", async () => {
    const main = await git("rev-parse", "HEAD");
    await branchWith(
      "20270101000000_more",
      "alter table accounts add column plan varchar(10) check (plan in ('free', 'paid'));\ncreate schema dbops_app; create table dbops_app.x (id int);",
    );
    const good = await onServer(["verify"]);
    expect([good.exitCode, good.stdout]).toEqual([
      0,
      `Good: 5 files, a database of origin/main (${main.slice(0, 7)}) with 1 more, and migrations/schema.sql make the same\n`,
    ]);
    const same = { versions: { missing: [], unexpected: [] }, differences: [] };
    const base = { name: `main (${main.slice(0, 7)})`, commit: main };
    const json = await onServer(["verify", "--json", "--base", "main"]);
    expect(JSON.parse(json.stdout)).toEqual({
      ...{ equal: true, files: 5, schema: same },
      increment: { ...same, base, added: 1, outOfOrder: [], changed: [], otherRows: [] },
      seconds: { files: expect.any(Number), schema: expect.any(Number), increment: expect.any(Number) },
    });
    expect(await scratchDatabases()).toBe("0");
  });

  test("files that make roles, which belong to the whole server", async () => {
    await git("switch", "--quiet", "--force-create", "work");
    await migration(
      "20270101000000_role",
      "create role auditor; create user clerk;\ngrant select on accounts to auditor;",
    );
    await migration("20270101000001_policy", "create policy own on sessions to auditor, clerk using (true);");
    expect((await migrate(["dump", "--role", "clerk"])).exitCode).toBe(0);
    const good = await migrate(["verify"]);
    expect([good.exitCode, good.exitCode ? said(good) : ""]).toEqual([0, ""]);
    expect(good.stdout).toContain(" with 2 more, and migrations/schema.sql make the same");
    expect(schema()).toContain("CREATE POLICY own ON public.sessions TO auditor, clerk USING (true);");
  });

  test("and on a server that stays: as often as they are wanted, and none is left there", async () => {
    const roles = async () =>
      (
        await project.compose(["exec", "-T", "postgres", "psql", "-U", "dbops_app", "-d", "dbops_app", "-qtA"], {
          stdin: "select rolname from pg_roles where rolname !~ '^pg_' order by 1",
        })
      ).stdout.trim();
    const before = await roles();
    await git("switch", "--quiet", "--force-create", "base");
    await migration(
      "20270101000000_role",
      'create role auditor; grant select on accounts to auditor;\ndo $$ begin create user "The Clerk"; end $$;',
    );
    expect((await onServer(["dump"])).exitCode).toBe(0);
    await commit("roles");
    await branchWith("20270101000001_policy", 'create policy own on sessions to auditor, "The Clerk" using (true);');
    const good = await onServer(["verify", "--base", "base"]);
    expect([good.exitCode, good.exitCode ? said(good) : ""]).toEqual([0, ""]);
    expect(good.stdout).toContain(" with 1 more, and migrations/schema.sql make the same");
    expect(await roles()).toBe(before);
    expect(await scratchDatabases()).toBe("0");
  });

  test("a role that is on such a server already, or is made there by somebody else meanwhile, is left alone", async () => {
    const server = async (stdin: string) => {
      const words = ["exec", "-T", "postgres", "psql", "-U", "dbops_app", "-d", "dbops_app", "-qtA"];
      return (await project.compose(words, { stdin })).stdout.trim();
    };
    await server('create role "The Clerk"');
    const taken = [
      'Cannot apply migrations/20270101000000_role.sql: role "The Clerk" already exists (42710)',
      '  | ERROR:  42710: role "The Clerk" already exists',
      "  next: the same command without --scratch-url      # in a container no role is in the way",
      '  next: drop role "The Clerk"      # on that server, if nobody needs it there',
      "  read: docs/runbook/migration-failed.md",
    ].join("\n");
    try {
      await migration("20270101000000_role", 'create role auditor;\ncreate user "The Clerk";');
      const failed = await onServer(["dump"]);
      expect([failed.exitCode, said(failed)]).toEqual([3, taken]);
      // Somebody else's session makes it, while the one of the migrations is at it.
      await server('drop role "The Clerk"');
      await migration(
        "20270101000000_role",
        `create extension dblink;
do $$ begin perform dblink_exec(format('dbname=%s user=%s', current_database(), current_user), 'create role "The Clerk"'); end $$;
create user "The Clerk";`,
      );
      const meanwhile = await onServer(["dump"]);
      expect([meanwhile.exitCode, said(meanwhile)]).toEqual([3, taken]);
      expect(await server("select rolname from pg_roles where rolname in ('auditor', 'The Clerk')")).toBe("The Clerk");
      // One that is in use elsewhere by then.
      await migration("20270101000000_role", "create extension dblink; create role auditor;");
      await migration(
        "20270101000001_use",
        "select dblink_exec('dbname=dbops_app user=dbops_app', 'create table used (); grant select on used to auditor');",
      );
      const used = await onServer(["dump"]);
      expect([used.exitCode, said(used)]).toEqual([
        0,
        `         warning: a role that a migration has made stays on ${new URL(url).host}: role "auditor" cannot be dropped because some objects depend on it`,
      ]);
    } finally {
      await server('drop table if exists used; drop role if exists "The Clerk", auditor');
    }
    expect(await scratchDatabases()).toBe("0");
  });

  test("line ends of Windows make no difference", async () => {
    await project.write("migrations/schema.sql", ownSchema.replaceAll("\n", "\r\n"));
    expect((await onServer(["verify"])).exitCode).toBe(0);
    expect((await onServer(["dump"])).stdout).toContain("it stays as it is");
  });

  test("a file that nobody has dumped", async () => {
    await migration("20270101000000_more", "alter table accounts add column plan text not null default 'free';");
    const failed = await onServer(["verify"]);
    expect([failed.exitCode, failed.stdout, said(failed)]).toEqual([
      3,
      "",
      [
        "The migrations do not make one and the same schema: 2 differences",
        "  | migrations/schema.sql is not what migrations/ make:",
        "  | missing     version 20270101000000: only in migrations/",
        "  | missing     column public.accounts.plan: only in migrations/",
        "  |               text not null default 'free'::text",
        "  next: bun scripts/migrate.ts dump      # then commit migrations/schema.sql",
        "  read: docs/migrations.md",
      ].join("\n"),
    ]);
    expect((await onServer(["dump"])).exitCode).toBe(0);
    expect((await onServer(["verify"])).exitCode).toBe(0);
  });

  test("a schema.sql that was edited by hand", async () => {
    await project.write(
      "migrations/schema.sql",
      ownSchema.replace("email text NOT NULL", "email character varying(50) NOT NULL"),
    );
    const failed = await onServer(["verify", "--no-incremental", "--json"]);
    expect([failed.exitCode, JSON.parse(failed.stdout)]).toEqual([
      3,
      expect.objectContaining({
        ...{ equal: false, increment: null },
        schema: {
          versions: { missing: [], unexpected: [] },
          differences: expect.arrayContaining([
            {
              ...{ what: "changed", kind: "column", name: "public.accounts.email" },
              ...{ expected: "text not null", actual: "character varying(50) not null" },
            },
          ]),
        },
      }),
    ]);
  });

  test("a schema.sql with the marks of a merge, and none at all", async () => {
    await project.write("migrations/schema.sql", ownSchema.replace("    email text", "<<<<<<< HEAD\n    email text"));
    const line = ownSchema.split("\n").findIndex((text) => text.startsWith("    email text")) + 1;
    const failed = await onServer(["verify"]);
    expect([failed.exitCode, said(failed)]).toEqual([
      3,
      [
        `Cannot load migrations/schema.sql:${line}: syntax error at or near "<<<<<<<" (42601)`,
        '  | ERROR:  42601: syntax error at or near "<<<<<<<"',
        `  | LINE ${line}: <<<<<<< HEAD`,
        `  | ${" ".repeat(`LINE ${line}: `.length)}^`,
        "  next: bun scripts/migrate.ts dump      # then commit migrations/schema.sql",
      ].join("\n"),
    ]);
    rmSync(join(project.directory, "migrations/schema.sql"));
    const none = await onServer(["verify"]);
    expect([none.exitCode, said(none)]).toEqual([
      3,
      [
        "Cannot verify the migrations: there is no migrations/schema.sql",
        "  next: bun scripts/migrate.ts dump      # then commit migrations/schema.sql",
        "  read: docs/migrations.md",
      ].join("\n"),
    ]);
  });

  const audit = "20260101090200_create_audit_log.sql";
  const edit = async (change: (text: string) => string) => {
    await git("switch", "--quiet", "--force-create", "work");
    const path = join(project.directory, "migrations", audit);
    await project.write(`migrations/${audit}`, change(readFileSync(path, "utf8")));
    expect((await onServer(["dump"])).exitCode).toBe(0);
  };

  test("a file that was edited after it was merged, although schema.sql was dumped", async () => {
    const main = (await git("rev-parse", "HEAD")).slice(0, 7);
    await edit((text) => text.replace("action text not null", "action text not null,\n  place text"));
    const failed = await onServer(["verify"]);
    expect([failed.exitCode, said(failed)]).toEqual([
      3,
      [
        "The migrations do not make one and the same schema: 1 difference",
        `  | a database of origin/main (${main}), migrated, is not what a new one is:`,
        `  | edited      migrations/${audit}: not the one of origin/main (${main})`,
        "  | missing     column public.audit_log.place: only in a new database",
        "  |               text",
        `  next: git checkout ${main} -- migrations/${audit}`,
        "  next: bun scripts/migrate.ts new NAME      # what is to be different goes into a new file",
        "  read: docs/migrations.md",
      ].join("\n"),
    ]);
    expect((await onServer(["verify", "--no-incremental"])).stdout).toBe(
      "Good: 4 files and migrations/schema.sql make the same\n",
    );
  });

  test("one of which only a comment was edited is a remark", async () => {
    const main = (await git("rev-parse", "HEAD")).slice(0, 7);
    await edit((text) => `-- Another comment.\n${text}`);
    const good = await onServer(["verify"]);
    expect([good.exitCode, said(good)]).toEqual([
      0,
      `         migrations/${audit} is another one in origin/main (${main}), and makes the same`,
    ]);
  });

  /** As if it had been merged. */
  const merged = async (name: string, up: string): Promise<string> => {
    await migration(name, up);
    expect((await onServer(["dump"])).exitCode).toBe(0);
    await commit(name);
    return `${await git("rev-parse", "--abbrev-ref", "HEAD")} (${(await git("rev-parse", "HEAD")).slice(0, 7)})`;
  };
  const countries = "20270101000000_countries";
  const germany = "create table countries (code text primary key);\ninsert into countries values ('de');";

  test("a file that builds on rows which an earlier one has written", async () => {
    const main = await merged(countries, germany);
    await branchWith(
      "20270101000001_cities",
      "create table cities (code text references countries); insert into cities values ('de');",
    );
    const good = await onServer(["verify", "--base", "main"]);
    expect([good.exitCode, good.stdout, said(good)]).toEqual([
      0,
      `Good: 6 files, a database of ${main} with 1 more, and migrations/schema.sql make the same\n`,
      "",
    ]);
  });

  test("a file that was edited after it was merged, and writes other rows, or gives other rights", async () => {
    const main = await merged(countries, `${germany}\ngrant select on countries to pg_monitor;`);
    await git("switch", "--quiet", "--force-create", "work");
    const grant = "grant select on countries to pg_monitor;";
    await migration(
      countries,
      `-- Only the form is another one.\n${germany.toUpperCase().replace("'DE'", "'de'")}${grant}`,
    );
    const good = await onServer(["verify", "--base", "main"]);
    expect([good.exitCode, said(good)]).toEqual([
      0,
      `         migrations/${countries}.sql is another one in ${main}, and makes the same`,
    ]);
    await migration(countries, `${germany.replace("'de'", "'de'), ('fr'")}${grant}`);
    const commitOfMain = main.slice(-8, -1);
    const next = [
      `  next: git checkout ${commitOfMain} -- migrations/${countries}.sql`,
      "  next: bun scripts/migrate.ts new NAME      # what is to be different goes into a new file",
      "  read: docs/migrations.md",
    ];
    const failed = await onServer(["verify", "--base", "main"]);
    expect([failed.exitCode, said(failed)]).toEqual([
      3,
      [
        "The migrations do not make one and the same schema: 1 difference",
        `  | a database of ${main}, migrated, is not what a new one is:`,
        `  | edited      migrations/${countries}.sql: not the one of ${main}, and writes other rows`,
        ...next,
      ].join("\n"),
    ]);
    await migration(countries, `${germany}grant all on countries to public;`);
    const rights = await onServer(["verify", "--base", "main"]);
    expect([rights.exitCode, said(rights)]).toEqual([
      3,
      [
        "The migrations do not make one and the same schema: 1 difference",
        `  | a database of ${main}, migrated, is not what a new one is:`,
        `  | edited      migrations/${countries}.sql: not the one of ${main}`,
        "  | changed     grant on table public.countries",
        "  |             a new database:",
        "  |               PUBLIC: DELETE, INSERT, MAINTAIN, REFERENCES, SELECT, TRIGGER, TRUNCATE, UPDATE",
        `  |             a database of ${main}, migrated:`,
        "  |               pg_monitor: SELECT",
        ...next,
      ].join("\n"),
    ]);
  });

  test("main with two files of one version, and with one that dbmate cannot read: the branch that mends it is good", async () => {
    await migration("20270101000000_countries", germany);
    await migration("20270101000000_late", "create table late (id int);");
    await project.write("migrations/20270101000001_empty.sql", "");
    await commit("main, broken");
    const main = `main (${(await git("rev-parse", "HEAD")).slice(0, 7)})`;
    await git("switch", "--quiet", "--force-create", "work");
    await git("mv", "migrations/20270101000000_late.sql", "migrations/20270101000002_late.sql");
    await migration("20270101000001_empty", "create table full_one (id int);");
    expect((await onServer(["dump"])).exitCode).toBe(0);
    const good = await onServer(["verify", "--base", "main"]);
    expect([good.exitCode, good.stdout, said(good)]).toEqual([
      0,
      `Good: 7 files, a database of ${main} with 2 more, and migrations/schema.sql make the same\n`,
      "",
    ]);
  });

  test("main whose files cannot be applied as they are there", async () => {
    await migration("20270101000000_broken", "create table full_one (id int);\ninsert into nowhere values (1);");
    await commit("main, broken");
    const main = `main (${(await git("rev-parse", "HEAD")).slice(0, 7)})`;
    await git("switch", "--quiet", "--force-create", "work");
    await migration("20270101000000_broken", "create table full_one (id int);");
    expect((await onServer(["dump"])).exitCode).toBe(0);
    const failed = await onServer(["verify", "--base", "main"]);
    expect([failed.exitCode, said(failed)]).toEqual([
      3,
      [
        `Cannot apply migrations/20270101000000_broken.sql:3 as it is in ${main}: relation "nowhere" does not exist (42P01)`,
        '  | ERROR:  42P01: relation "nowhere" does not exist',
        "  | LINE 3: insert into nowhere values (1);",
        "  |                     ^",
        "  next: the same command with --base REF, another commit",
        "  next: the same command with --no-incremental",
        "  read: docs/runbook/migration-failed.md",
      ].join("\n"),
    ]);
    expect((await onServer(["verify", "--no-incremental"])).exitCode).toBe(0);
  });

  test("a file that is older than what main has, and one that main has and nobody else", async () => {
    const main = (await git("rev-parse", "HEAD")).slice(0, 7);
    await branchWith("20250101000000_late", "create table late (id int);");
    const late = await onServer(["verify"]);
    expect([late.exitCode, said(late)]).toEqual([
      3,
      [
        "The migrations do not make one and the same schema: 1 difference",
        `  | a database of origin/main (${main}), migrated, is not what a new one is:`,
        "  | late        migrations/20250101000000_late.sql: a newer one is applied already, so that dbmate refuses it",
        "  next: git mv migrations/20250101000000_late.sql migrations/YYYYMMDDHHMMSS_late.sql      # a time that is newer",
        "  read: docs/migrations.md",
      ].join("\n"),
    ]);
    await git(
      "rm",
      "--quiet",
      "migrations/20250101000000_late.sql",
      "migrations/20260101090300_index_audit_log_by_account.sql",
    );
    expect((await onServer(["dump"])).exitCode).toBe(0);
    const gone = await onServer(["verify"]);
    expect([gone.exitCode, said(gone)]).toEqual([
      3,
      [
        "The migrations do not make one and the same schema: 2 differences",
        `  | a database of origin/main (${main}), migrated, is not what a new one is:`,
        "  | edited      migrations/20260101090300_index_audit_log_by_account.sql: not the one of origin/main (".concat(
          main,
          ")",
        ),
        "  | missing     a file for version 20260101090300, which is applied already",
        `  | unexpected  index public.audit_log_account_id_occurred_at_idx: only in a database of origin/main (${main}), migrated`,
        "  |               CREATE INDEX audit_log_account_id_occurred_at_idx ON public.audit_log USING btree (account_id, occurred_at DESC)",
        `  next: git checkout ${main} -- migrations/20260101090300_index_audit_log_by_account.sql`,
        "  next: bun scripts/migrate.ts new NAME      # what is to be different goes into a new file",
        "  read: docs/migrations.md",
      ].join("\n"),
    ]);
  });

  test("a file that a new database takes, and an older one does not", async () => {
    const main = (await git("rev-parse", "HEAD")).slice(0, 7);
    await edit((text) => text.replace("action text not null", "action text not null,\n  place text"));
    await migration("20270101000000_more", "alter table audit_log drop column place;");
    expect((await onServer(["dump"])).exitCode).toBe(0);
    const failed = await onServer(["verify"]);
    expect([failed.exitCode, said(failed).split("\n")[0]]).toEqual([
      3,
      `Cannot apply migrations/20270101000000_more.sql to a database of origin/main (${main}): column "place" of relation "audit_log" does not exist (42703)`,
    ]);
  });

  const without =
    "  next: the same command with --no-incremental      # then it stays unknown whether an older database comes out the same";

  test("a commit that git does not know", async () => {
    const failed = await onServer(["verify", "--base", "nowhere"]);
    expect([failed.exitCode, said(failed)]).toEqual([
      2,
      [
        'Cannot find the migrations to begin from: git knows no commit "nowhere" here',
        "  next: git fetch origin",
        without,
      ].join("\n"),
    ]);
  });

  test("no git repository, no origin, and a checkout without its history", async () => {
    const outside = await onServer(["verify"], { GIT_DIR: join(folder, "nowhere") });
    expect([outside.exitCode, said(outside)]).toEqual([
      2,
      ["Cannot find the migrations to begin from: this is no git repository", without].join("\n"),
    ]);
    await git("remote", "rename", "origin", "elsewhere");
    try {
      const alone = await onServer(["verify"]);
      expect([alone.exitCode, said(alone)]).toEqual([
        2,
        [
          "Cannot find the migrations to begin from: git knows no default branch of origin here",
          "  next: git fetch origin",
          "  next: the same command with --base REF",
          without,
        ].join("\n"),
      ]);
    } finally {
      await git("remote", "rename", "elsewhere", "origin");
    }
    const shallow = join(folder, "shallow");
    await branchWith("20270101000000_more", "create table more (id int);");
    await run({
      argv: ["git", "clone", "--quiet", "--depth=1", "--no-single-branch", `file://${project.directory}`, shallow],
      environment,
    });
    await linkPackages(shallow);
    const cut = await run({
      argv: [
        process.execPath,
        "--no-env-file",
        "scripts/migrate.ts",
        "verify",
        "--scratch-url",
        url,
        "--base",
        "origin/main",
      ],
      ...{ directory: shallow, environment, accept: [0, 2] },
    });
    expect([cut.exitCode, said(cut)]).toEqual([
      2,
      [
        "Cannot find the migrations to begin from: git does not see where HEAD and origin/main part",
        "  next: git fetch --unshallow origin",
        without,
      ].join("\n"),
    ]);
    rmSync(shallow, { recursive: true });
  });

  test("a commit from before there were migrations", async () => {
    await git("switch", "--quiet", "--orphan", "older");
    await project.write("README.md", "nothing");
    await git("add", "README.md");
    await git("commit", "--quiet", "--message", "older");
    const older = await git("rev-parse", "HEAD");
    await git("switch", "--quiet", "main");
    await git("merge", "--quiet", "--allow-unrelated-histories", "--message", "both", "older");
    const good = await onServer(["verify", "--base", older]);
    expect([good.exitCode, good.stdout, said(good)]).toEqual([
      0,
      "Good: 4 files and migrations/schema.sql make the same\n",
      `         ${older} (${older.slice(0, 7)}) has no migrations yet: there is no older database to begin from`,
    ]);
  });

  test("what the kit gives to a project without the starter app is good as well", async () => {
    expect(existsSync(join(repository, "templates/migrations/schema.sql"))).toBe(true);
    await git("switch", "--quiet", "--force-create", "work");
    await git("rm", "--quiet", "-r", "migrations");
    for (const name of readdirSync(join(repository, "templates/migrations"))) {
      await project.write(`migrations/${name}`, readFileSync(join(repository, "templates/migrations", name), "utf8"));
    }
    expect((await onServer(["dump", "--json"])).stdout).toContain('"changed":false');
    expect((await onServer(["verify", "--no-incremental"])).stdout).toBe(
      "Good: 1 file and migrations/schema.sql make the same\n",
    );
  });
});
