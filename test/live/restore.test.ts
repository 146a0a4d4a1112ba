// scripts/restore.ts with a real Postgres in a container, a real S3 server and real gpg: what was backed up comes back, the live database is
// never without an answer for long, and whatever goes wrong leaves it as it was.

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { GetObjectCommand, PutObjectCommand } from "@aws-sdk/client-s3";
import { SQL } from "bun";
import postgres from "postgres";
import type { Restored } from "../../scripts/lib/restore-run.ts";
import { type Result, run, start } from "../../scripts/lib/run.ts";
import { poll } from "../../scripts/lib/wait.ts";
import { postgresEnvironment } from "../lab/debian-programs.ts";
import { type Engine, startEngine } from "../lab/engine.ts";
import { createProject, type Project } from "../lab/project.ts";
import { repository } from "../lab/repository.ts";
import { type S3, startS3 } from "../lab/s3.ts";

setDefaultTimeout(300_000);

let folder: string;
let project: Project;
let s3: S3;
let engine: Engine;
let connection: { host: string; port: number; user: string; password: string; database: string };
const passphrase = randomBytes(12).toString("hex");

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "dbops-restore-test-"));
  [project, s3, engine] = await Promise.all([createProject(), startS3(), startEngine()]);
  await s3.createBucket("backups");
  await project.setEnvironment({ COMPOSE_PROJECT_NAME: project.name });
  await project.compose(["up", "--detach", "--wait", "postgres"]);
  await project.compose(["run", "--rm", "migrations"]);
  const config = join(project.directory, "dbops.config.ts");
  const backup = `  backup: { bucket: "backups", endpoint: "${s3.endpoint}" },\n  deploy: {`;
  writeFileSync(config, readFileSync(config, "utf8").replace("  deploy: {", backup));
  const env = readFileSync(join(project.directory, ".env"), "utf8");
  const value = (name: string) => new RegExp(`^${name}=(.*)$`, "m").exec(env)![1]!;
  connection = {
    ...{ host: "127.0.0.1", port: Number(value("POSTGRES_PORT")), database: "dbops_app" },
    ...{ user: "dbops_app", password: value("POSTGRES_PASSWORD") },
  };
  await inLive(everything);
});

afterAll(async () => {
  await Promise.all([project?.remove(), s3?.stop()]);
  rmSync(folder, { recursive: true, force: true });
});

/** A little of everything that a database can have. */
const everything = `
create role reader nologin; create role "Odd Owner" nologin;
create schema "Other Schema"; create extension pg_trgm; create extension citext with schema "Other Schema";
create type mood as enum ('good', 'bad'); create domain positive as int check (value > 0);
create table "Mixed Case" (id serial primary key, "the Mood" mood not null default 'good', amount positive,
  twice int generated always as (amount * 2) stored, who "Other Schema".citext);
insert into "Mixed Case" (amount, who) select g, 'person ' || g from generate_series(1, 500) g;
comment on table "Mixed Case" is 'a comment with ''quotes''';
alter table "Mixed Case" enable row level security;
create policy only_good on "Mixed Case" for select to reader using ("the Mood" = 'good');
grant select on "Mixed Case" to reader;
create table parts (at date not null, n int) partition by range (at);
create table parts_1 partition of parts for values from ('2026-01-01') to ('2026-02-01');
create table "Other Schema".parts_2 partition of parts for values from ('2026-02-01') to ('2026-03-01');
insert into parts select date '2026-01-01' + g % 59, g from generate_series(1, 1000) g;
create index parts_at on parts (at);
create table empty_one (id int); alter table empty_one owner to "Odd Owner";
create table "Other Schema".big as select g as id, md5(g::text) as text from generate_series(1, 100000) g;
create unique index on "Other Schema".big (id);
create view shown as select id, amount from "Mixed Case"; create materialized view counted as select count(*) from "Mixed Case";
create sequence own start 41; select nextval('own');
create function shout() returns trigger language plpgsql as $$ begin new.amount := new.amount + 0; return new; end $$;
create trigger shouting before update on "Mixed Case" for each row execute function shout();
select lo_from_bytea(0, 'a large object');
insert into accounts (email, password_hash) select 'person' || g || '@example.test', 'x' from generate_series(1, 200) g;
alter database dbops_app set search_path = "$user", public, "Other Schema"; alter database dbops_app set work_mem = '7MB';
alter role reader in database dbops_app set statement_timeout = '11s';
alter database dbops_app connection limit 77; grant connect, temporary on database dbops_app to reader with grant option;
revoke temporary on database dbops_app from public; analyze;`;

async function psql(database: string, sql: string, more: readonly string[] = []): Promise<string> {
  const words = ["exec", "-i", project.container("postgres"), "psql", "-qtA", "-v", "ON_ERROR_STOP=1", ...more];
  const { stdout } = await project.docker([...words, "-U", "dbops_app", "-d", database], { stdin: sql });
  return stdout.trim();
}
const inLive = (sql: string) => psql("dbops_app", sql);

/** Everything about its structure, everything in it, and what belongs to the database itself. */
async function fingerprint(database = "dbops_app"): Promise<string> {
  const words = ["exec", project.container("postgres"), "pg_dump", "-U", "dbops_app", "--schema-only", database];
  const { stdout: structure } = await project.docker(words);
  const tables = await psql(
    database,
    `select format('select %L, count(*), md5(string_agg(t::text, '','' order by t::text)) from %I.%I t;', c.oid::regclass, n.nspname, c.relname)
    from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.relkind in ('r', 'm') and n.nspname !~ '^(pg_|information)' order by 1`,
  );
  const rest = await psql(
    database,
    `select last_value, is_called from own;
    select md5(string_agg(encode(lo_get(oid), 'hex'), ',' order by oid)) from pg_largeobject_metadata;
    select datacl, datconnlimit, pg_get_userbyid(datdba), datcollate, encoding from pg_database where datname = current_database();
    select setrole::regrole, setconfig from pg_db_role_setting s join pg_database d on d.oid = setdatabase where datname = current_database() order by 1;`,
  );
  const text = structure
    .split("\n")
    .filter((line) => !/^\\(un)?restrict /.test(line))
    .join("\n");
  return [text, await psql(database, tables), rest].join("\n");
}

function verb(name: "backup" | "restore", words: readonly string[], secret = passphrase) {
  return {
    argv: ["bun", "--no-env-file", join(repository, "scripts", `${name}.ts`), ...words],
    directory: project.directory,
    environment: {
      ...engine.environment,
      ...{
        BACKUP_ACCESS_KEY_ID: s3.accessKeyId,
        BACKUP_SECRET_ACCESS_KEY: s3.secretAccessKey,
        BACKUP_PASSPHRASE: secret,
      },
      ...{ PGHOST: undefined, CI: "1", TMPDIR: folder },
    },
  };
}
const kit = (name: "backup" | "restore", words: readonly string[], secret?: string): Promise<Result> =>
  run({ ...verb(name, words, secret), accept: [0, 1, 2, 3, 4, 5, 130], timeoutSeconds: 200 });

async function restore(...words: string[]): Promise<Restored> {
  const { exitCode, stdout, stderr } = await kit("restore", [...words, "--json"]);
  expect([exitCode, exitCode === 0 ? "" : stderr]).toEqual([0, ""]);
  return JSON.parse(stdout);
}

async function backUp(): Promise<string> {
  const { exitCode, stdout, stderr } = await kit("backup", ["--json"]);
  expect([exitCode, exitCode === 0 ? "" : stderr]).toEqual([0, ""]);
  return (JSON.parse(stdout) as { id: string }).id;
}

const databases = async () =>
  (await psql("postgres", "select datname from pg_database where datname like 'dbops_app%' order by 1")).split("\n");

const tidyUp = async () => {
  for (const name of (await databases()).filter((it) => it !== "dbops_app")) {
    await psql("postgres", `drop database "${name}" with (force)`);
  }
};

async function changeObject(key: string, change: (bytes: Buffer) => Buffer): Promise<() => Promise<void>> {
  const client = s3.client();
  const { Body } = await client.send(new GetObjectCommand({ Bucket: "backups", Key: key }));
  const before = Buffer.from(await Body!.transformToByteArray());
  const put = async (bytes: Buffer) =>
    void (await client.send(new PutObjectCommand({ Bucket: "backups", Key: key, Body: bytes })));
  await put(change(Buffer.from(before)));
  return async () => {
    await put(before);
    client.destroy();
  };
}

describe("a database that uses everything", () => {
  let id: string;
  let original: string;

  beforeAll(async () => {
    original = await fingerprint();
    id = await backUp();
  });

  test("comes back as it was, in structure, content and settings; --undo brings back what was live, and once more", async () => {
    await inLive(
      `delete from "Mixed Case" where id > 10; insert into empty_one values (1); drop materialized view counted`,
    );
    const damaged = await fingerprint();
    const { kept, database, rows } = await restore("latest", "--yes");
    expect(database).toBe("dbops_app");
    expect(rows).toBeGreaterThan(100_000);
    expect(await fingerprint()).toBe(original);
    expect(await databases()).toEqual(["dbops_app", kept!]);
    await restore("--undo", "--yes");
    expect(await fingerprint()).toBe(damaged);
    await restore("--undo", "--yes");
    expect(await fingerprint()).toBe(original);
    const [, before] = await databases();
    await restore(before!, "--clean", "--yes");
    expect(await databases()).toEqual(["dbops_app"]);
  });

  test("--into makes another one, and does not touch the live one", async () => {
    await inLive("insert into empty_one values (2)");
    const live = await fingerprint();
    await restore(id, "--into", "look_here");
    expect(await fingerprint("look_here")).toBe(original);
    expect(await fingerprint()).toBe(live);
    const statistics = "select count(*) from pg_stats where tablename = 'big'";
    expect(await psql("look_here", statistics)).toBe("2");
    await psql("postgres", "drop database look_here");
    await inLive("truncate empty_one");
  });

  test("--tables puts single ones into a schema of their own, and does not touch the live ones", async () => {
    await inLive(`delete from "Mixed Case" where id > 10`);
    const { schema, rows, tables } = await restore(id, "--tables", "Mixed Case,parts", "--yes");
    expect({ rows, tables }).toEqual({ rows: 1500, tables: 4 });
    const counts = ['"Mixed Case"', "parts", "parts_2"].map((name) => `select count(*) from ${schema}.${name};`);
    expect(await inLive(`${counts.join("\n")} select count(*) from public."Mixed Case"`)).toBe("500\n1000\n474\n10");
    expect(await databases()).toEqual(["dbops_app"]);
    await inLive(`drop schema ${schema} cascade; insert into public."Mixed Case" (id, amount) values (7777, 1)`);
    await restore(id, "--yes", "--no-safety-backup");
    expect(await fingerprint()).toBe(original);
    await tidyUp();
  });

  test("--database-url takes the programs of this machine, and asks for the host to be confirmed", async () => {
    const { host, port, user, password, database } = connection;
    const url = `postgres://${user}@${host}:${port}/${database}?sslmode=disable`;
    const environment = {
      ...verb("restore", []).environment,
      PATH: (await postgresEnvironment()).PATH,
      PGPASSWORD: password,
    };
    const words = [id, "--database-url", url];
    const options = { environment, accept: [0, 1, 2, 3, 4, 5], timeoutSeconds: 200 };
    const refused = await run({ ...verb("restore", [...words, "--yes"]), ...options });
    expect(refused.stderr).toContain("next: the same command with --confirm 127.0.0.1");
    const done = await run({ ...verb("restore", [...words, "--confirm", "127.0.0.1"]), ...options });
    expect([done.exitCode, done.exitCode === 0 ? "" : done.stderr]).toEqual([0, ""]);
    expect(await fingerprint()).toBe(original);
    await tidyUp();
  });

  test("after a disaster, with no live database at all", async () => {
    await psql("postgres", "drop database dbops_app with (force)");
    const { kept } = await restore(id, "--yes");
    expect(kept).toBeUndefined();
    expect(await fingerprint()).toBe(original);
  });

  test("a backup of before a migration gets it, and --to-version says how far", async () => {
    const migration = (version: string, table: string) =>
      project.write(
        `migrations/${version}_${table}.sql`,
        `-- migrate:up\ncreate table ${table} (id int);\n\n-- migrate:down\n`,
      );
    await migration("20991231000001", "one");
    await migration("20991231000002", "two");
    await restore(id, "--into", "all_of_them");
    await restore(id, "--into", "the_first", "--to-version", "20991231000001");
    const tables = "select string_agg(relname, ' ' order by 1) from pg_class where relname in ('one', 'two')";
    expect([await psql("all_of_them", tables), await psql("the_first", tables)]).toEqual(["one two", "one"]);
    await psql("postgres", "drop database all_of_them");
    await psql("postgres", "drop database the_first");
    for (const file of ["20991231000001_one.sql", "20991231000002_two.sql"])
      rmSync(join(project.directory, "migrations", file));
  });

  test("eight clients that come back at once find an answer again soon", async () => {
    const watched = Array.from({ length: 8 }, () => ({ last: performance.now(), longest: 0, failed: 0, answers: 0 }));
    let isOver = false;
    const clients = watched.map(async (client) => {
      while (!isOver) {
        const { user: username, ...rest } = connection;
        // postgres.js throws where nobody can catch it when its session is ended between two queries.
        const sql = new SQL({ adapter: "postgres", ...rest, username, max: 1, connectionTimeout: 5 });
        try {
          for (let query = 0; query < 20; query += 1) {
            await sql`select 1`;
            const now = performance.now();
            if (client.answers > 0) client.longest = Math.max(client.longest, now - client.last);
            client.last = now;
            client.answers += 1;
          }
        } catch {
          client.failed += 1;
        }
        await sql.close({ timeout: 0 }).catch(() => {});
      }
    });
    try {
      const program = await start({
        ...verb("restore", [id, "--yes", "--no-safety-backup"]),
        // Until then building indexes keeps the processors busy, and a client may wait for those.
        onLine(line) {
          if (/done +validate/.test(line)) for (const client of watched) client.longest = 0;
        },
      });
      expect(await program.ended).toBe(0);
      const sofar = watched.map(({ answers }) => answers);
      await poll({ seconds: 30 }, async () => watched.every(({ answers }, n) => answers > sofar[n]!) || undefined);
    } finally {
      isOver = true;
      await Promise.all(clients);
    }
    const failed = watched.reduce((sum, client) => sum + client.failed, 0);
    const longest = Math.max(...watched.map((client) => client.longest));
    console.error(`8 clients: ${failed} failed queries, longest time without an answer ${longest.toFixed(0)} ms`);
    expect(await fingerprint()).toBe(original);
    expect(watched.every(({ answers }) => answers > 20)).toBe(true);
    await tidyUp();
  });

  describe("whatever is wrong leaves the live one as it was, and nothing else behind:", () => {
    async function refused(words: readonly string[], secret?: string) {
      await inLive("insert into empty_one values (3)");
      const live = await fingerprint();
      const { exitCode, stdout, stderr } = await kit("restore", [...words, "--yes", "--no-safety-backup"], secret);
      expect(await fingerprint()).toBe(live);
      expect(stdout).toBe("");
      return { exitCode, stderr, databases: await databases() };
    }

    test("the wrong passphrase", async () => {
      const { exitCode, stderr, databases } = await refused([id], "wrong");
      expect(stderr).toContain("Cannot decrypt the backup: ");
      expect([exitCode, databases]).toEqual([3, ["dbops_app"]]);
    });

    test("one flipped bit", async () => {
      const flip = (bytes: Buffer) => {
        bytes[bytes.length >> 1]! ^= 1;
        return bytes;
      };
      const putBack = await changeObject(`dbops-app/${id}/database.dump.gpg`, flip);
      const { exitCode, stderr, databases } = await refused([id]);
      await putBack();
      expect(stderr).toContain("its sha256 is not the one in its manifest");
      expect([exitCode, databases]).toEqual([3, ["dbops_app"]]);
    });

    test("a number of rows that is not the manifest's: kept to be looked at, and removed by the next restore", async () => {
      const change = (bytes: Buffer) => {
        const manifest = JSON.parse(bytes.toString());
        manifest.rows["public.accounts"] += 1;
        manifest.rows["public.gone"] = 5;
        return Buffer.from(JSON.stringify(manifest));
      };
      const putBack = await changeObject(`dbops-app/${id}/manifest.json`, change);
      const { exitCode, stderr, databases: left } = await refused([id]);
      await putBack();
      expect(exitCode).toBe(3);
      expect(stderr).toContain("  | public.accounts: 200 rows instead of 201\n  | public.gone: missing\n");
      expect(stderr).toContain(`"dbops_app" is as it was; "${left[1]}" is left behind`);
      const { kept } = await restore(id, "--yes", "--no-safety-backup");
      expect(await databases()).toEqual(["dbops_app", kept!]);
      await tidyUp();
    });

    test("too little room on the disk", async () => {
      const change = (bytes: Buffer) =>
        Buffer.from(bytes.toString().replace(/"databaseBytes": \d+/, '"databaseBytes": 9000000000000000'));
      const putBack = await changeObject(`dbops-app/${id}/manifest.json`, change);
      const { exitCode, stderr, databases } = await refused([id]);
      await putBack();
      expect(stderr).toMatch(/ {2}\| there are [\d.]+ [GT]B free, it takes about 10800 TB\n/);
      expect([exitCode, databases]).toEqual([3, ["dbops_app"]]);
    });

    test("nobody has confirmed it", async () => {
      const { exitCode, stderr } = await kit("restore", [id]);
      expect(stderr).toContain("Nothing was changed: this needs --yes where there is no terminal to ask on");
      expect([exitCode, await databases()]).toEqual([5, ["dbops_app"]]);
    });

    test("another restore is at work", async () => {
      const { stdout: key } = { stdout: "hashtextextended('dbops restore dbops_app', 0)" };
      const other = postgres({ ...connection, database: "postgres", max: 1 });
      await other.unsafe(`select pg_advisory_lock(${key})`);
      const { exitCode, stderr } = await kit("restore", [id, "--yes"]);
      await other.end();
      expect(stderr).toMatch(
        /^Nothing was changed: another restore of dbops_app is at work, since .* UTC, in the session \d+\n/,
      );
      expect(exitCode).toBe(4);
    });

    test.each([
      ["SIGINT", "done   connect"],
      ["SIGINT", "done   create"],
      ["SIGTERM", "done   restore"],
      ["SIGKILL", "done   create"],
    ] as const)("%s after %p: the next run finds nothing, or removes what is left", async (signal, after) => {
      await inLive("insert into empty_one values (4)");
      const live = await fingerprint();
      const lines: string[] = [];
      let onPid = (_: number) => {};
      const pid = new Promise<number>((resolve) => {
        onPid = resolve;
      });
      const program = await start({
        ...verb("restore", [id, "--yes", ...(after !== "done   connect" ? ["--no-safety-backup"] : [])]),
        async onLine(line) {
          lines.push(line);
          if (line.includes(after)) process.kill(await pid, signal);
        },
      });
      onPid(program.pid);
      const code = await program.ended;
      expect(await fingerprint()).toBe(live);
      if (signal !== "SIGKILL") {
        expect([code, await databases()]).toEqual([130, ["dbops_app"]]);
        expect(lines.join("\n")).toContain(`Interrupted: by ${signal}`);
        return;
      }
      expect((await databases()).length).toBe(2);
      const { kept } = await restore(id, "--yes", "--no-safety-backup");
      expect(await databases()).toEqual(["dbops_app", kept!]);
      await tidyUp();
    });

    test("a swap that was cut off with the door closed: the next run opens it", async () => {
      const live = await fingerprint();
      await psql("postgres", "alter database dbops_app allow_connections false");
      const { stderr } = await kit("restore", ["--clean"]);
      expect(stderr).toContain('"dbops_app" took no connections: a swap was cut off; it takes them again');
      expect(await fingerprint()).toBe(live);
    });
  });

  test("files of pg_dump | gzip | gpg come back as well, and a cut-off one does not", async () => {
    const file = join(folder, "old.sql.gz");
    const words = ["exec", project.container("postgres"), "sh", "-c", "pg_dump -U dbops_app dbops_app | gzip | base64"];
    writeFileSync(file, Buffer.from((await project.docker(words)).stdout, "base64"));
    await restore(file, "--into", "from_file");
    const count = `select count(*) from "Other Schema".big`;
    expect(await psql("from_file", count)).toBe("100000");
    await psql("postgres", "drop database from_file");
    const cut = join(folder, "cut.sql");
    const text = (await run({ argv: ["gunzip", "--stdout", file] })).stdout;
    writeFileSync(cut, text.slice(0, text.length >> 1));
    const { exitCode, stderr } = await kit("restore", [cut, "--into", "from_file"]);
    expect(stderr).toContain("The SQL text is not whole");
    expect([exitCode, await psql("postgres", "select count(*) from pg_database where datname = 'from_file'")]).toEqual([
      3,
      "0",
    ]);
  });
});
