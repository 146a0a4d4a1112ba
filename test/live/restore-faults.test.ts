// Everything that can go wrong with a restore, for real: after each the live database is what it was, nothing is left that the next run
// does not find, and what people read is the reason. restore.test.ts has what a restore does when nothing goes wrong.
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import postgres from "postgres";
import { type Result, run } from "../../scripts/lib/run.ts";
import type { Store } from "../../scripts/lib/s3.ts";
import { poll } from "../../scripts/lib/wait.ts";
import { type BackupProject, createBackupProject, type Started } from "../lab/backup-project.ts";
import { startClients } from "../lab/clients.ts";
import { type S3Proxy, startS3Proxy } from "../lab/s3-proxy.ts";

setDefaultTimeout(120_000);

/** Little room for the data, in memory; two hundred clients; and what nobody has by default. */
const overlay = `services:
  postgres:
    command: ["postgres", "-c", "max_connections=300", "-c", "max_prepared_transactions=5", "-c", "max_wal_size=64MB", "-c", "min_wal_size=32MB"]
    tmpfs: ["/small:size=64m,mode=1777"]
    mem_limit: 3g
    pids_limit: 600
volumes:
  postgres:
    driver_opts: { type: tmpfs, device: tmpfs, o: "size=800m" }
`;

let folder: string;
let lab: BackupProject;
let proxy: S3Proxy;
let store: Store;
let id: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "dbops-restore-faults-"));
  lab = await createBackupProject(folder, { overlay });
  proxy = await startS3Proxy(lab.s3.endpoint);
  await lab.configure({ endpoint: proxy.url });
  store = await lab.store();
  await lab.project.compose(["run", "--rm", "migrations"]);
  await lab.sql(`insert into accounts (email, password_hash) select 'person' || g || '@example.test', 'x' from generate_series(1, 200) g;
    create table notes (id int primary key, text text); insert into notes select g, md5(g::text) from generate_series(1, 5000) g;
    create table state (word text); insert into state values ('backed up')`);
  id = await backedUp();
  await lab.sql("update state set word = 'live'; delete from notes where id > 10");
  // So that there is something to migrate.
  await lab.project.write(
    "migrations/20991231000001_later.sql",
    "-- migrate:up\ncreate table later (id int);\n\n-- migrate:down\n",
  );
}, 300_000);

/** Those of the present test. */
const programs: Started[] = [];

/** A test that failed half-way must not take the next ones with it. */
afterEach(async () => {
  proxy.clear();
  for (const program of programs.splice(0)) await program.stop("SIGINT", 20);
  await lab.configure({ endpoint: proxy.url });
  const left = (await databases()).filter((name) => name !== "dbops_app");
  for (const name of left) await lab.sql(`drop database "${name}" with (force)`, "postgres");
  for (const name of temporaries()) rmSync(join(folder, "tmp", name), { recursive: true });
});

afterAll(async () => {
  await proxy?.stop();
  for (const home of ["nobody", "owner"].map((name) => join(folder, name)).filter(existsSync)) {
    await run({ argv: ["gpgconf", "--kill", "all"], environment: { GNUPGHOME: home } });
  }
  await lab?.remove();
  rmSync(folder, { recursive: true, force: true });
});

async function backedUp(words: readonly string[] = [], environment = {}): Promise<string> {
  const { exitCode, stdout, stderr } = await lab.backup([...words, "--json"], environment);
  expect([exitCode, stderr], stderr).toEqual([0, expect.any(String)]);
  return (JSON.parse(stdout) as { id: string }).id;
}

const everyDatabase = `select string_agg(datname, ' ' order by datname) from pg_database where datname !~ '^(postgres|template)'`;
const databases = async () => (await lab.sql(everyDatabase, "postgres")).split(" ");

/** Which database it is, everything in it, and what belongs to the database itself. */
async function live(): Promise<string> {
  const dump = "pg_dump -U dbops_app dbops_app | grep -v '^.\\(un\\)\\?restrict ' | md5sum";
  const { stdout } = await lab.project.docker(["exec", lab.project.container("postgres"), "sh", "-c", dump]);
  const itself = "select oid, datdba, datconnlimit, datallowconn, datacl from pg_database where datname = 'dbops_app'";
  return `${stdout}${await lab.sql(itself, "postgres")}`;
}

/** What was in the temporary folder for gpg and ssh. */
const temporaries = () => readdirSync(join(folder, "tmp")).filter((name) => name.startsWith("dbops-"));

/** Does it, and requires that it left the live database as it was, and nothing else. */
async function harmless(work: () => Promise<Result>): Promise<[number, string]> {
  const before = await live();
  const { exitCode, stdout, stderr } = await work();
  expect(await live()).toBe(before);
  expect([stdout, await databases(), temporaries()]).toEqual(["", ["dbops_app"], []]);
  return [exitCode, stderr];
}

const restored = (...words: string[]) => lab.restore([...words, "--yes", "--no-safety-backup"]);

/** The first line that is no progress. */
const sentence = (text: string) => text.split("\n").find((line) => !/^(?: {2}|Restore of |warning: )/.test(line)) ?? "";

const state = () => lab.sql("select word from state");

/** Back to what the tests began with, after one that swapped. */
async function swapBack(): Promise<void> {
  const { exitCode, stderr } = await lab.restore(["--undo", "--yes"]);
  expect([exitCode, stderr]).toEqual([0, expect.any(String)]);
  for (const name of (await databases()).filter((it) => it !== "dbops_app")) {
    await lab.sql(`drop database "${name}" with (force)`, "postgres");
  }
  expect(await state()).toBe("live");
}

async function until(what: string, isSo: () => Promise<boolean>): Promise<void> {
  const found = await poll({ seconds: 60 }, async () => (await isSo()) || undefined);
  if (!found) throw new Error(`not within a minute: ${what}`);
}

/** There is a session of which this is true. */
const session = async (condition: string) =>
  (await lab.sql(
    `select count(*) from pg_stat_activity where pid <> pg_backend_pid() and ${condition}`,
    "postgres",
  )) !== "0";

/** The session of one that was killed needs a moment to end. */
const lockIsFree = () =>
  until(
    "nobody has the lock of a restore",
    async () => (await lab.sql("select count(*) from pg_locks where locktype = 'advisory'", "postgres")) === "0",
  );

/** Starts one, and sends it the signal as soon as it has printed the words. */
async function signalled(
  signal: NodeJS.Signals,
  after: string,
  words: readonly string[],
): Promise<[number | string, Started]> {
  let kill = () => {};
  const heard = new Promise<void>((resolve) => {
    kill = resolve;
  });
  const program = await lab.startRestore(words, {}, (line) => {
    if (line.includes(after)) kill();
  });
  programs.push(program);
  await Promise.race([heard, program.ended]);
  process.kill(program.pid, signal);
  return [await program.ended, program];
}

/** Starts one whose download stands still in the middle. */
async function standingStill(...words: string[]): Promise<Started> {
  proxy.hit(/GET .*database\.dump\.gpg/, { stallAnswerAfter: 5000 });
  const program = await lab.startRestore([...words, "--yes", "--no-safety-backup"]);
  programs.push(program);
  await until("it downloads", async () => proxy.requests.some(({ label }) => /GET .*database\.dump/.test(label)));
  return program;
}

describe("SIGINT", () => {
  const beforeTheSwap = [
    ...["Restore of backup", "done   connect", "done   dump", "done   manifest", "is in the backup"],
    ...["done   create", "done   restore", "done   compare", "done   analyze", "done   migrate"],
  ];
  test.each(beforeTheSwap)("after %p: the live one is as it was, and nothing is left", async (line) => {
    const first = beforeTheSwap.indexOf(line);
    const words = [id, "--yes", ...(first < 5 ? [] : ["--no-safety-backup"])];
    const [code, said] = await harmless(async () => {
      const [exitCode, program] = await signalled("SIGINT", line, words);
      return { exitCode: exitCode as number, seconds: 0, ...program.said };
    });
    const end = first < 5 ? '(?:nothing was changed|"dbops_app" is as it was)' : '"dbops_app" is as it was';
    expect([code, sentence(said)]).toEqual([
      130,
      expect.stringMatching(new RegExp(`^Interrupted: by SIGINT; ${end}$`)),
    ]);
  });

  test.each(["done   validate", "done   swap"])("after %p: all of the swap, or nothing of it", async (line) => {
    const before = await live();
    const [code, { said }] = await signalled("SIGINT", line, [id, "--yes", "--no-safety-backup"]);
    if (code === 130) {
      expect(line).toBe("done   validate");
      expect([sentence(said.stderr), await databases()]).toEqual([
        'Interrupted: by SIGINT; "dbops_app" is as it was',
        ["dbops_app"],
      ]);
      expect(await live()).toBe(before);
      return;
    }
    expect([code, await state(), (await databases()).length]).toEqual([0, "backed up", 2]);
    expect(said.stdout).toContain("next: bun scripts/restore.ts --undo");
    await swapBack();
    expect(await live()).toBe(before);
  });

  test("SIGTERM is the same", async () => {
    const [code, said] = await harmless(async () => {
      const [exitCode, program] = await signalled("SIGTERM", "done   restore", [id, "--yes", "--no-safety-backup"]);
      return { exitCode: exitCode as number, seconds: 0, ...program.said };
    });
    expect([code, sentence(said)]).toEqual([130, 'Interrupted: by SIGTERM; "dbops_app" is as it was']);
  });

  test("while single tables are copied into the live database, which waits for somebody: nothing of them is there", async () => {
    await lab.sql(`create function waits() returns event_trigger language plpgsql as $$ begin perform pg_sleep(600); end $$;
      create event trigger waiting on ddl_command_end when tag in ('CREATE SCHEMA') execute function waits()`);
    const [code, said] = await harmless(async () => {
      const program = await lab.startRestore([id, "--tables", "notes,accounts", "--yes"]);
      programs.push(program);
      await until("it copies", () => session("application_name like 'dbops restored%' and wait_event = 'PgSleep'"));
      process.kill(program.pid, "SIGINT");
      return { exitCode: (await program.ended) as number, seconds: 0, ...program.said };
    });
    await lab.sql("drop event trigger waiting; drop function waits()");
    expect([code, sentence(said)]).toEqual([130, 'Interrupted: by SIGINT; "dbops_app" is as it was']);
  });

  test("in the middle of the download, and another one at the same time, which does nothing", async () => {
    const [code, said] = await harmless(async () => {
      const program = await standingStill(id);
      const other = await lab.restore([id, "--yes", "--no-safety-backup"]);
      expect([other.exitCode, other.stderr]).toEqual([
        4,
        expect.stringMatching(
          /^Nothing was changed: another restore of dbops_app is at work, since .* UTC, in the session \d+\n/,
        ),
      ]);
      process.kill(program.pid, "SIGINT");
      return { exitCode: (await program.ended) as number, seconds: 0, ...program.said };
    });
    expect([code, sentence(said)]).toEqual([130, 'Interrupted: by SIGINT; "dbops_app" is as it was']);
  });

  test("while the bucket does not answer", async () => {
    const [code, said] = await harmless(async () => {
      proxy.hit(/list-type=2/, "hang", "hang", "hang", "hang");
      const program = await lab.startRestore(["latest", "--yes"]);
      await until("it asks the bucket", async () => proxy.requests.length > 0);
      process.kill(program.pid, "SIGINT");
      return { exitCode: (await program.ended) as number, seconds: 0, ...program.said };
    });
    expect([code, said]).toEqual([130, "Interrupted: by SIGINT; nothing was changed\n"]);
  });

  test("while a migration of the restored database runs: it ends, and so does its container", async () => {
    const slow = "-- migrate:up\nselect pg_sleep(600);\n\n-- migrate:down\n";
    await lab.project.write("migrations/20991231000002_slow.sql", slow);
    const [code, said] = await harmless(async () => {
      const program = await lab.startRestore([id, "--yes", "--no-safety-backup"]);
      programs.push(program);
      await until("the migration runs", () => session("query ~ 'pg_sleep.600'"));
      process.kill(program.pid, "SIGINT");
      return { exitCode: (await program.ended) as number, seconds: 0, ...program.said };
    });
    rmSync(join(lab.project.directory, "migrations/20991231000002_slow.sql"));
    expect([code, sentence(said)]).toEqual([130, 'Interrupted: by SIGINT; "dbops_app" is as it was']);
    expect((await lab.project.compose(["ps", "--all", "--services"])).stdout).toBe("postgres\n");
  });
});

test("a migration of the restored database fails: as `migrate up` says it, and the live one is as it was", async () => {
  const file = "20991231000002_wrong.sql";
  await lab.project.write(`migrations/${file}`, "-- migrate:up\nselect 1;\ncreate tabel x ();\n\n-- migrate:down\n");
  const [code, said] = await harmless(() => restored(id)).finally(() =>
    rmSync(join(lab.project.directory, "migrations", file)),
  );
  expect([code, said.slice(said.indexOf("Cannot apply"))]).toEqual([
    3,
    `Cannot apply migrations/${file}:3: syntax error at or near "tabel" (42601); "dbops_app" is as it was
  | 3: create tabel x ();
  | applied: 20991231000001_later.sql
  | taken back whole: ${file}
  read: docs/runbook/migration-failed.md
`,
  ]);
});

test("a deploy migrates the live database meanwhile: nothing is swapped", async () => {
  const migrate = () => lab.sql("insert into schema_migrations values ('20990101000000')");
  let migrated: Promise<unknown> | undefined;
  const program = await lab.startRestore([id, "--yes", "--no-safety-backup"], {}, (line) => {
    if (line.includes("done   create")) migrated = migrate();
  });
  programs.push(program);
  const code = await program.ended;
  await migrated;
  const what = 'Nothing was swapped: "dbops_app" was migrated while the restore was at work: by a deploy, most likely';
  expect([code, sentence(program.said.stderr)]).toEqual([4, `${what}; "dbops_app" is as it was`]);
  expect([await databases(), await state()]).toEqual([["dbops_app"], "live"]);
  await lab.sql("delete from schema_migrations where version = '20990101000000'");
});

describe("a swap that has to wait", () => {
  /** Somebody changes the live database's own entry, and has not committed yet. */
  async function heldUp() {
    const port = Number(lab.postgres.PGPORT);
    const { PGUSER: user, PGPASSWORD: password } = lab.postgres;
    const sql = postgres({ host: "127.0.0.1", port, user: user!, password: password!, database: "postgres", max: 1 });
    const held = await sql.reserve();
    await held.unsafe("begin; alter database dbops_app connection limit -1");
    const program = await lab.startRestore([id, "--yes", "--no-safety-backup"]);
    programs.push(program);
    await until("it wants to swap", () => session("wait_event_type = 'Lock' and query ~ 'allow_connections false'"));
    const release = async () => {
      await held.unsafe("rollback");
      held.release();
      await sql.end();
    };
    return { program, release };
  }

  test("is done entirely when it is interrupted meanwhile", async () => {
    const before = await live();
    const { program, release } = await heldUp();
    process.kill(program.pid, "SIGINT");
    await release();
    expect([await program.ended, await state()]).toEqual([0, "backed up"]);
    await swapBack();
    expect(await live()).toBe(before);
  });

  test("is looked for on the server when its session is lost", async () => {
    const before = await live();
    const { program, release } = await heldUp();
    const killPsql = `for process in /proc/[0-9]*; do [ "$(cat $process/comm)" != psql ] || kill -9 \${process#/proc/}; done`;
    await lab.project.docker(["exec", lab.project.container("postgres"), "sh", "-c", killPsql]);
    await release();
    const code = await program.ended;
    expect(await live()).toBe(before);
    const [, left] = await databases();
    expect([code, sentence(program.said.stderr)]).toEqual([
      1,
      `The session with the database of this machine has ended: psql ended with 137; "dbops_app" is as it was; "${left}" is left behind`,
    ]);
    const cleaned = await lab.restore(["--clean"]);
    expect([cleaned.stdout, await databases()]).toEqual([`Removed ${left}\n`, ["dbops_app"]]);
  });
});

describe("SIGKILL", () => {
  test.each(["done   create", "done   compare"])("after %p: --clean names and removes what is left", async (line) => {
    const before = await live();
    await signalled("SIGKILL", line, [id, "--yes", "--no-safety-backup"]);
    await lockIsFree();
    expect(await live()).toBe(before);
    const [, left] = await databases();
    const plan = await lab.restore(["--clean", "--plan"]);
    expect(plan.stdout).toBe(`Would remove ${left}.\n`);
    const { stdout } = await lab.restore(["--clean"]);
    expect([stdout, await databases()]).toEqual([`Removed ${left}\n`, ["dbops_app"]]);
  });

  test("in the middle of the download: the next restore removes what is left", async () => {
    const before = await live();
    const program = await standingStill(id, "--into", "look_here");
    process.kill(program.pid, "SIGKILL");
    await program.ended;
    await lockIsFree();
    const [, left] = await databases();
    expect(left).toMatch(/^dbops_app_restore_/);
    proxy.clear();
    const { exitCode, stderr } = await restored(id, "--into", "look_here");
    expect([exitCode, stderr]).toEqual([
      0,
      expect.stringContaining(`remove "${left}", left by a restore that was cut off`),
    ]);
    expect([await databases(), await live()]).toEqual([["dbops_app", "look_here"], before]);
    await lab.sql("drop database look_here", "postgres");
  });
});

test("two hundred clients that come back at once: each is served again, none sees anything but the one or the other", async () => {
  const { PGUSER: user, PGPASSWORD: password, PGPORT } = lab.postgres;
  const connection = {
    host: "127.0.0.1",
    port: Number(PGPORT),
    user: user!,
    password: password!,
    database: "dbops_app",
  };
  const wrong: string[] = [];
  let isSwapped = false;
  const clients = await startClients(connection, 200, {
    pauseMilliseconds: 100,
    async ask(sql) {
      const wasSwapped = isSwapped;
      const [row] = await sql`select (select word from state) as state, (select count(*)::int from notes) as notes`;
      const seen = `${row.state}, ${row.notes}`;
      if (seen === "backed up, 5000") isSwapped = true;
      // Whoever asks after somebody has had an answer of the new one.
      else if (seen !== "live, 10" || wasSwapped) wrong.push(seen);
    },
  });
  try {
    const { exitCode, stderr } = await restored(id);
    expect([exitCode, stderr]).toEqual([0, expect.any(String)]);
    await clients.allServed();
  } finally {
    const { answers, failed, longestGapMilliseconds } = await clients.stop();
    console.error(
      `200 clients: ${answers} answers, ${failed} failed queries, longest time without an answer ${longestGapMilliseconds.toFixed(0)} ms`,
    );
  }
  expect([wrong, isSwapped, await state()]).toEqual([[], true, "backed up"]);
  await swapBack();
});

describe("a full disk", () => {
  /** Small in the database and in the backup, and as large as said where it is restored: its rows are no longer compressed then. */
  async function growingBackup(megabytes: number, where = ""): Promise<string> {
    await lab.sql(`create table growing (text text) ${where};
      insert into growing select repeat('x', 100000) from generate_series(1, ${megabytes * 10});
      alter table growing alter column text set storage external`);
    const made = await backedUp();
    await lab.sql("drop table growing");
    return made;
  }

  test("is not waited for: a restore gives up while the live database still has room, which serves on", async () => {
    const grown = await growingBackup(900);
    const { PGUSER: user, PGPASSWORD: password, PGPORT } = lab.postgres;
    const sql = postgres({
      host: "127.0.0.1",
      port: Number(PGPORT),
      user: user!,
      password: password!,
      database: "dbops_app",
      max: 1,
    });
    const mine = "select pg_backend_pid() as pid";
    const [before] = await sql.unsafe(mine);
    const [code, said] = await harmless(() => restored(grown));
    // The same session: nobody has been thrown out, as all would have been had Postgres run out of room for its log.
    expect([...(await sql.unsafe(mine))]).toEqual([before!]);
    await sql.end();
    expect([code, said]).toEqual([
      3,
      expect.stringMatching(
        /Cannot restore backup \S+: the disk of this machine has [\d.]+ MB left, which the live database needs; "dbops_app" is as it was\n {2}next: make room, then the same command again\n {2}read: docs\/runbook\/restore-disk-full\.md\n$/,
      ),
    ]);
    await store.remove((await store.list(`dbops-app/${grown}/`)).map(({ key }) => key));
  });

  test("another one than that of the data: Postgres' own words, and nothing left", async () => {
    await lab.project.docker([
      "exec",
      "--user",
      "postgres",
      lab.project.container("postgres"),
      "mkdir",
      "/small/space",
    ]);
    await lab.sql("create tablespace small location '/small/space'", "postgres");
    const grown = await growingBackup(100, "tablespace small");
    const [code, said] = await harmless(() => restored(grown));
    expect([code, sentence(said)]).toEqual([
      3,
      `Cannot restore backup ${grown}: a disk of the database is full; "dbops_app" is as it was`,
    ]);
    expect(said).toContain("No space left on device");
    await store.remove((await store.list(`dbops-app/${grown}/`)).map(({ key }) => key));
    await lab.sql("drop tablespace small", "postgres");
  });
});

describe("a backup that is not what it was:", () => {
  const dump = () => `dbops-app/${id}/database.dump.gpg`;
  const manifest = () => `dbops-app/${id}/manifest.json`;

  async function bytesOf(key: string): Promise<Buffer> {
    const chunks: Uint8Array[] = [];
    for await (const chunk of store.get(key)) chunks.push(chunk);
    return Buffer.concat(chunks);
  }

  /** Puts other bytes in its place, or none, for as long as the work takes. */
  async function changed<T>(
    key: string,
    change: (bytes: Buffer) => Buffer | undefined,
    work: () => Promise<T>,
  ): Promise<T> {
    const before = await bytesOf(key);
    const after = change(Buffer.from(before));
    await (after ? store.put(key, after) : store.remove([key]));
    try {
      return await work();
    } finally {
      await store.put(key, before);
    }
  }
  const refused = (...words: string[]) => harmless(() => restored(...words));

  test("the wrong passphrase", async () => {
    const [code, said] = await harmless(() =>
      lab.restore([id, "--yes", "--no-safety-backup"], { BACKUP_PASSPHRASE: "another one" }),
    );
    expect([code, sentence(said)]).toEqual([
      3,
      'Cannot decrypt the backup: the passphrase is not the one that it was encrypted with, or its first bytes are damaged; "dbops_app" is as it was',
    ]);
  });

  test("none, by the name that dbops.config.ts gives it", async () => {
    await lab.configure({ endpoint: proxy.url, passphraseFrom: "SHOP_PASSPHRASE" });
    const [code, said] = await harmless(() => lab.restore([id, "--into", "look_here"]));
    await lab.configure({ endpoint: proxy.url });
    expect([code, sentence(said)]).toEqual([
      2,
      "Cannot open the backup: it was encrypted with a passphrase, and SHOP_PASSPHRASE is set neither in the environment nor in .env.tpl",
    ]);
  });

  test.each([0.02, 0.5, 0.99])("one flipped bit, at %p of it", async (where) => {
    const flip = (bytes: Buffer) => {
      bytes[Math.floor(bytes.length * where)]! ^= 1;
      return bytes;
    };
    const [code, said] = await changed(dump(), flip, () => refused(id));
    expect([code, sentence(said)]).toEqual([
      3,
      `Cannot use ${dump()}: its sha256 is not the one in its manifest: bytes of it have changed since it was made; "dbops_app" is as it was`,
    ]);
  });

  test("an object that is cut off", async () => {
    const cut = (bytes: Buffer) => bytes.subarray(0, bytes.length >> 1);
    const [code, said] = await changed(dump(), cut, () => refused(id));
    expect([code, sentence(said)]).toEqual([
      3,
      expect.stringMatching(/^Backup \S+ is broken: database\.dump\.gpg has \d+ bytes, its manifest says \d+$/),
    ]);
  });

  test("a manifest without its object: refused by its name, and the latest is the one before", async () => {
    const newer = await backedUp();
    const key = `dbops-app/${newer}/database.dump.gpg`;
    await changed(
      key,
      () => undefined,
      async () => {
        const [code, said] = await refused(newer);
        expect([code, sentence(said)]).toEqual([3, `Backup ${newer} is broken: database.dump.gpg is missing`]);
        const { stdout, stderr } = await lab.restore(["latest", "--plan"]);
        expect(stderr).toContain(`warning: the backup ${newer} is newer, and broken: database.dump.gpg is missing\n`);
        expect(stdout).toContain(`Restore of backup ${id}`);
      },
    );
    await store.remove((await store.list(`dbops-app/${newer}/`)).map(({ key }) => key));
  });

  test("an object without a manifest is none", async () => {
    const [code, said] = await changed(
      manifest(),
      () => undefined,
      () => refused(id),
    );
    expect([code, sentence(said)]).toEqual([2, `Cannot find the backup "${id}": there is none of that name`]);
  });

  test("other rows than the manifest says: kept to be looked at, also with --into, and --clean removes it", async () => {
    const other = (bytes: Buffer) => {
      const parsed = JSON.parse(bytes.toString());
      parsed.rows["public.accounts"] += 1;
      parsed.rows["public.gone"] = 5;
      return Buffer.from(JSON.stringify(parsed));
    };
    const before = await live();
    for (const words of [[id], [id, "--into", "look_here"]]) {
      const { exitCode, stderr } = await changed(manifest(), other, () => restored(...words));
      const [, left, ...more] = await databases();
      expect([exitCode, more, await live()]).toEqual([3, [], before]);
      expect(stderr).toContain(
        `What was restored from backup ${id} is not what was backed up: 2 differences; "dbops_app" is as it was; "${left}" is left behind
  | public.accounts: 200 rows instead of 201
  | public.gone: missing
  next: bun scripts/restore.ts --clean      # removes it, as the next restore does\n`,
      );
      const cleaned = await lab.restore(["--clean"]);
      expect([cleaned.stdout, await databases()]).toEqual([`Removed ${left}\n`, ["dbops_app"]]);
    }
    const proofs = (await store.list(`dbops-app/${id}/proof-`)).map(({ key }) => key);
    await store.remove(proofs);
  });
});

describe("what is asked for", () => {
  test("--at TIME is the newest of that time or before it", async () => {
    const newer = await backedUp();
    const at = new Date(Date.parse(newer.slice(0, 10) + newer.slice(10, 19).replaceAll("-", ":").concat("Z")) - 1);
    const planned = await lab.restore(["--at", at.toISOString(), "--plan", "--json"]);
    expect(JSON.parse(planned.stdout).source).toBe(`backup ${id}`);
    const early = await lab.restore(["--at", "2026-01-01T00:00Z", "--plan"]);
    expect([early.exitCode, sentence(early.stderr)]).toEqual([
      2,
      'Cannot find the backup "latest": none was made at or before 2026-01-01T00:00:00.000Z',
    ]);
    const { exitCode } = await restored("--at", at.toISOString(), "--into", "as_it_was");
    expect([exitCode, await lab.sql("select word from state", "as_it_was")]).toEqual([0, "backed up"]);
    await lab.sql("drop database as_it_was", "postgres");
    await store.remove((await store.list(`dbops-app/${newer}/`)).map(({ key }) => key));
  });

  test("--tables with a name that there is not: refused before anything is made", async () => {
    const [code, said] = await harmless(() => restored(id, "--tables", "notes,gone"));
    expect([code, sentence(said)]).toEqual([2, 'Cannot restore the table "gone": the backup has no such table']);
    expect(proxy.requests.filter(({ label }) => label.includes("database.dump.gpg"))).toEqual([]);
  });

  test("--undo while a prepared transaction holds on to one of both: refused, and the door stays open", async () => {
    expect((await restored(id)).exitCode).toBe(0);
    await lab.sql("begin; insert into state values ('prepared'); prepare transaction 'waiting'");
    const before = await live();
    const { exitCode, stderr } = await lab.restore(["--undo", "--yes"]);
    expect([exitCode, sentence(stderr)]).toEqual([
      3,
      'Cannot swap back: prepared transactions keep "dbops_app" from being renamed',
    ]);
    const again = await restored(id);
    expect([again.exitCode, again.stderr]).toEqual([
      3,
      expect.stringContaining("  | 1 prepared transaction keeps the present database from being renamed"),
    ]);
    expect(await live()).toBe(before);
    await lab.sql("rollback prepared 'waiting'");
    await swapBack();
  });

  test("a backup for recipients: with the keyring of whoever restores, and not without", async () => {
    const owner = join(folder, "owner");
    mkdirSync(owner, { mode: 0o700 });
    const gpg = (...argv: string[]) => run({ argv: ["gpg", "--batch", ...argv], environment: { GNUPGHOME: owner } });
    await gpg("--passphrase", "", "--quick-generate-key", "owner <owner@example.com>", "future-default");
    await lab.project.write("backup-key.asc", (await gpg("--armor", "--export", "owner@example.com")).stdout);
    await lab.configure({ endpoint: proxy.url, prefix: "recipients", recipients: ["backup-key.asc"] });
    const none = { BACKUP_PASSPHRASE: undefined };
    const locked = await backedUp([], none);
    const words = [locked, "--into", "with_key"];
    const [code, said] = await harmless(() => lab.restore(words, none));
    expect([code, sentence(said)]).toEqual([
      3,
      expect.stringMatching(
        /^Cannot decrypt the backup: it is encrypted for the key [0-9A-F]+, and the keyring of this user has no secret key for it; "dbops_app" is as it was$/,
      ),
    ]);
    const withKey = { ...none, GNUPGHOME: owner };
    expect((await lab.restore(words, withKey)).exitCode).toBe(0);
    // And as a file that somebody has downloaded, which needs no bucket at all.
    const bucket = await lab.store();
    const file = await downloaded(bucket, `dbops-app/${locked}/database.dump.gpg`, "locked.dump.gpg");
    const noBucket = { ...withKey, BACKUP_ACCESS_KEY_ID: undefined, BACKUP_SECRET_ACCESS_KEY: undefined };
    const fromFile = await lab.restore([file, "--into", "from_file"], noBucket);
    expect([fromFile.exitCode, fromFile.stderr]).toEqual([0, expect.any(String)]);
    for (const name of ["with_key", "from_file"]) {
      expect(await lab.sql("select count(*) from notes", name)).toBe("10");
      await lab.sql(`drop database ${name}`, "postgres");
    }
    await lab.configure({ endpoint: proxy.url });
  });
});

async function downloaded(from: Store, key: string, name: string): Promise<string> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of from.get(key)) chunks.push(chunk);
  const file = join(folder, name);
  writeFileSync(file, Buffer.concat(chunks));
  return file;
}

describe("files of this machine", () => {
  /** What a pipeline of shell writes there, with the passphrase in $PASS. */
  async function made(name: string, pipeline: string): Promise<string> {
    const file = join(folder, name);
    await run({
      argv: ["bash", "-c", `${pipeline} > "$0"`, file],
      environment: { ...lab.environment, ...lab.postgres, PGDATABASE: "dbops_app", PASS: lab.passphrase },
    });
    return file;
  }
  const lock = `gpg --batch --quiet --pinentry-mode loopback --passphrase-fd 3 --symmetric --output - 3<<<"$PASS"`;
  const noBucket = { BACKUP_ACCESS_KEY_ID: undefined, BACKUP_SECRET_ACCESS_KEY: undefined };
  const intoNew = (file: string) => lab.restore([file, "--into", "from_file"], noBucket);

  async function comesBack(file: string): Promise<void> {
    const { exitCode, stderr } = await intoNew(file);
    expect([exitCode, stderr]).toEqual([0, expect.any(String)]);
    expect(await lab.sql("select (select count(*) from notes), (select word from state)", "from_file")).toBe("10|live");
    await lab.sql("drop database from_file", "postgres");
  }

  function cut(file: string, share: number): string {
    const name = file.replace(/([^/]+)$/, `cut-${share}-$1`);
    const bytes = readFileSync(file);
    writeFileSync(name, bytes.subarray(0, Math.floor(bytes.length * share)));
    return name;
  }

  beforeAll(() => mkdirSync(join(folder, "nobody"), { recursive: true, mode: 0o700 }));

  test(".dump.gpg, whole and cut off", async () => {
    const file = await made("own.dump.gpg", `pg_dump --format=custom | ${lock}`);
    await comesBack(file);
    for (const share of [0.01, 0.5, 0.999]) {
      const [code, said] = await harmless(() => intoNew(cut(file, share)));
      expect([code, sentence(said)]).toEqual([
        3,
        expect.stringMatching(/^(Cannot decrypt the backup|pg_restore failed): /),
      ]);
    }
  });

  test(".backup.gpg of pg_dump --format=tar, behind which more comes than pg_restore reads", async () => {
    await lab.sql(`create function long() returns text language sql as $$ select '${"long ".repeat(100_000)}' $$`);
    const file = await made("tar.backup.gpg", `pg_dump --format=tar | ${lock}`);
    await lab.sql("drop function long()");
    await comesBack(file);
    const [code] = await harmless(() => intoNew(cut(file, 0.999)));
    expect(code).toBe(3);
  });

  test(".sql.gz.gpg of the older pipeline, whole, cut off, and of a pg_dump that died", async () => {
    const file = await made("old.sql.gz.gpg", `pg_dump | gzip | ${lock}`);
    await comesBack(file);
    const wrong = await lab.restore([file, "--into", "from_file"], { ...noBucket, BACKUP_PASSPHRASE: "another one" });
    expect([wrong.exitCode, sentence(wrong.stderr)]).toEqual([
      3,
      expect.stringContaining("Cannot decrypt the backup: the passphrase is not the one"),
    ]);
    for (const share of [0.01, 0.5, 0.999]) {
      const [code, said] = await harmless(() => intoNew(cut(file, share)));
      expect([code, sentence(said)]).toEqual([
        3,
        expect.stringMatching(/^Cannot decrypt the backup: it is cut off: its end is missing; /),
      ]);
    }
    const died = await made("died.sql.gz.gpg", `pg_dump | head --bytes -2000 | gzip | ${lock}`);
    const [code, said] = await harmless(() => intoNew(died));
    expect([code, sentence(said)]).toEqual([
      3,
      'The SQL text is not whole: it does not end with "-- PostgreSQL database dump complete"; "dbops_app" is as it was',
    ]);
    const empty = await made("empty.sql.gz.gpg", `true | gzip | ${lock}`);
    expect((await harmless(() => intoNew(empty)))[0]).toBe(3);
  });

  test("one that is not there, or has no passphrase", async () => {
    const gone = await lab.restore([join(folder, "gone.sql"), "--into", "from_file"], noBucket);
    expect([gone.exitCode, sentence(gone.stderr)]).toEqual([
      2,
      `Cannot restore "${join(folder, "gone.sql")}": there is no such file`,
    ]);
    const file = await made("locked.sql.gz.gpg", `pg_dump | gzip | ${lock}`);
    const none = await lab.restore([file, "--into", "from_file"], { ...noBucket, BACKUP_PASSPHRASE: undefined });
    expect([none.exitCode, sentence(none.stderr)]).toEqual([
      2,
      `Cannot restore "${file}": it is encrypted, and BACKUP_PASSPHRASE is set neither in the environment nor in .env.tpl`,
    ]);
  });
});
