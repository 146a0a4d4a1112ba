// scripts/drift.ts with the project's own stack: Postgres in its container, a scratch Postgres in another one that is gone afterwards, and a
// backup in the bucket before anything is changed.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import postgres from "postgres";
import { type Result, run, start } from "../../scripts/lib/run.ts";
import { poll } from "../../scripts/lib/wait.ts";
import { type BackupProject, createBackupProject } from "../lab/backup-project.ts";
import { repository } from "../lab/repository.ts";

setDefaultTimeout(300_000);

let folder: string;
let lab: BackupProject;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "dbops-drift-stack-"));
  lab = await createBackupProject(folder);
  await lab.configure();
  // Containers are found by it, and other projects here may have the usual one.
  const config = join(lab.project.directory, "dbops.config.ts");
  writeFileSync(config, readFileSync(config, "utf8").replace('name: "dbops-app"', `name: "${lab.project.name}"`));
  await lab.project.compose(["run", "--rm", "--no-deps", "--no-TTY", "migrations"]);
});
afterAll(async () => {
  await lab?.remove();
  rmSync(folder, { recursive: true, force: true });
});

const command = (words: readonly string[], changes: Record<string, string | undefined> = {}) => ({
  argv: [process.execPath, "scripts/drift.ts", ...words],
  directory: lab.project.directory,
  environment: { ...lab.environment, ...changes },
});

const drift = (words: readonly string[], changes: Record<string, string | undefined> = {}): Promise<Result> =>
  run({ ...command(words, changes), accept: [0, 1, 2, 3, 4, 5, 130], timeoutSeconds: 240 });

const connection = () => {
  const { PGHOST, PGPORT, PGUSER, PGPASSWORD } = lab.postgres;
  return {
    ...{ host: PGHOST!, port: Number(PGPORT), user: PGUSER!, password: PGPASSWORD!, database: PGUSER! },
    onnotice: () => {},
  };
};

const scratches = async () =>
  (
    await lab.project.docker(["ps", "--all", "--quiet", "--filter", `label=dbops.scratch=${lab.project.name}`])
  ).stdout.trim();

const backups = async () =>
  (JSON.parse((await lab.backup(["list", "--json"])).stdout) as { backups: { label?: string }[] }).backups;

test("a check finds out what the files make in a container of its own, once", async () => {
  const first = await drift(["check"]);
  expect([first.exitCode, first.stdout, first.stderr.replace(/[\d.]+ s/, "T s").replace(/ +T/, " T")]).toEqual([
    0,
    // Compose's dbmate has applied them, and notes no sums.
    "dbops_app on this machine is what migrations/ make of it: 4 applied\n\nNobody has noted the sums of 4 applied files: whether they were edited since cannot be seen. The next migrate up or deploy that applies something notes them.\n",
    "  done   scratch T s\n",
  ]);
  expect(await scratches()).toBe("");
  const second = await drift(["check"]);
  expect([second.exitCode, second.stderr]).toEqual([0, ""]);
});

test("told to stop while the container comes up: it is gone", async () => {
  await rm(".dbops/cache");
  const check = await start({ ...command(["check"]), ownGroup: true, onLine: () => {} });
  expect(await poll({ seconds: 60 }, async () => (await scratches()) || undefined)).toBeTruthy();
  await check.stop("SIGINT", 60);
  expect(await check.ended).toBe(130);
  expect(await scratches()).toBe("");
});

test("a repair makes its backup first; without its values nothing is begun", async () => {
  await lab.sql(
    "alter table accounts add column nickname text; insert into schema_migrations values ('20251231000000')",
  );
  const gone = ["--match", "20251231000000=none"];
  const without = await drift(["repair", "--keep", "database", "--yes", ...gone], { BACKUP_PASSPHRASE: undefined });
  expect([without.exitCode, without.stderr.slice(without.stderr.indexOf("Cannot"))]).toEqual([
    2,
    `Cannot back up the database, and nothing was changed: Cannot work with backups: BACKUP_PASSPHRASE is not set, neither in the environment nor in .env.tpl
  next: add them to .env.tpl, or: export BACKUP_PASSPHRASE=…
  next: the same command again
  next: the same command with --no-backup
  read: docs/backup.md
`,
  ]);
  // A plan needs none of them.
  const plan = await drift(["repair", "--keep", "database", "--plan", ...gone], { BACKUP_PASSPHRASE: undefined });
  const saved = plan.stderr.split("\n").filter((line) => line.startsWith("  backup "));
  expect([plan.exitCode, plan.stdout, saved]).toEqual([
    0,
    "Nothing was changed.\n",
    [`  backup     into s3://backups/${lab.project.name}, before anything else`],
  ]);
  expect(await backups()).toEqual([]);
  const repaired = await drift(["repair", "--keep", "database", "--yes", "--json", ...gone]);
  expect([repaired.exitCode, repaired.exitCode === 0 ? "" : repaired.stderr]).toEqual([0, ""]);
  const document = JSON.parse(repaired.stdout) as { before: number; after: number; backup: string };
  expect(document).toMatchObject({ before: 2, after: 0, backup: expect.stringMatching(/^20/) });
  expect(await backups()).toMatchObject([{ label: "before drift repair" }]);
  expect((await drift(["check"])).exitCode).toBe(0);
  expect(await scratches()).toBe("");
  for (const secret of lab.secrets) expect(repaired.stdout + repaired.stderr + without.stderr).not.toContain(secret);
});

test("stopped or killed while the backup is made, or behind it: nothing is changed, and the next run repairs", async () => {
  // Nobody but a backup wants a lock of that table.
  await lab.sql(`insert into schema_migrations values ('20251231000000');
    create schema if not exists dbops; create table dbops.busy (id integer)`);
  const migrations = () => readdirSync(join(lab.project.directory, "migrations"));
  const state = async () => [await lab.sql("select version from schema_migrations order by 1"), migrations()];
  const [before, made] = [await state(), (await backups()).length];
  const words = ["repair", "--match", "20251231000000=none", "--yes"];
  const ofTheVerb =
    "select count(*) from pg_stat_activity where application_name in ('psql', 'pg_dump') and pid <> pg_backend_pid()";
  const sql = postgres({ ...connection(), max: 1 });
  const said: string[] = [];
  const repairing = async (onLine: (line: string) => void = () => {}) =>
    await start({
      ...{ ...command(words), ownGroup: true },
      onLine(line) {
        said.push(line);
        onLine(line);
      },
    });
  try {
    for (const name of ["SIGINT", "SIGKILL"] as const) {
      await sql`begin`;
      await sql`lock table dbops.busy in access exclusive mode`;
      const repair = await repairing();
      const waits = async () => (await lab.sql(`${ofTheVerb} and wait_event_type = 'Lock'`)) !== "0" || undefined;
      expect(await poll({ seconds: 60 }, waits), said.join("\n")).toBe(true);
      expect(said.at(-1)).toMatch(/^ {2}done +connect /);
      await repair.stop(name, name === "SIGINT" ? 60 : 0);
      expect([await repair.ended, said.at(-1)]).toEqual(
        name === "SIGINT" ? [130, "Interrupted: by SIGINT"] : ["SIGKILL", expect.anything()],
      );
      await sql`rollback`;
      const isOver = async () => (await lab.sql(ofTheVerb)) === "0" || undefined;
      expect([await poll({ seconds: 60 }, isOver), await state(), (await backups()).length]).toEqual([
        true,
        before,
        made,
      ]);
    }
    // However late it hears of it, its transaction does not go through.
    await sql`begin`;
    await sql`lock table schema_migrations in row exclusive mode`;
    const repair = await repairing((line) => {
      if (/^ {2}done +manifest /.test(line)) void repair.stop("SIGINT", 60);
    });
    expect([await repair.ended, said.at(-1)]).toEqual([130, "Interrupted: by SIGINT"]);
    await sql`rollback`;
    expect([await state(), (await backups()).length, await scratches()]).toEqual([before, made + 1, ""]);
  } finally {
    await sql.end();
    await lab.sql("drop table dbops.busy");
  }
  const again = await drift(words);
  expect([again.exitCode, again.exitCode === 0 ? "" : again.stderr]).toEqual([0, ""]);
  expect([(await backups()).length, (await drift(["check"])).exitCode]).toEqual([made + 2, 0]);
});

test("what takes something back is rehearsed as it will be there, though the backup is older than the repair", async () => {
  await lab.sql("alter table accounts add column shoe_size integer");
  const repaired = await drift(["repair", "--keep", "files", "--yes"]);
  expect(repaired.exitCode).toBe(0);
  expect(repaired.stdout).toMatch(/^ {2}backup: (20[\w-]+) {6}# the way back: bun scripts\/restore\.ts \1$/m);
  const { exitCode, stdout, stderr } = await lab.migrate(["rehearse", "--json"]);
  expect([exitCode, exitCode === 0 ? "" : stderr]).toEqual([0, ""]);
  const { files } = JSON.parse(stdout) as { files: { file: string; locks: { table: string; mode: string }[] }[] };
  expect(
    files.map(({ file, locks }) => [file.replace(/^\d+/, ""), locks.map(({ table, mode }) => [table, mode])]),
  ).toEqual([["_back_to_what_the_files_say.sql", [["public.accounts", "AccessExclusiveLock"]]]]);
  const file = files[0]!.file;
  await lab.sql(readFileSync(join(lab.project.directory, "migrations", file), "utf8").split("-- migrate:down")[0]!);
  await lab.sql(`insert into schema_migrations values ('${file.slice(0, 14)}')`);
  expect((await drift(["check"])).exitCode).toBe(0);
});

test("without @supabase/pg-delta the differences are listed", async () => {
  await rm("node_modules");
  const modules = join(lab.project.directory, "node_modules");
  mkdirSync(modules);
  for (const name of readdirSync(join(repository, "node_modules"))) {
    if (name !== "@supabase") symlinkSync(join(repository, "node_modules", name), join(modules, name));
  }
  await lab.sql("alter table accounts add column birthday date");
  const { exitCode, stderr } = await drift(["repair", "--keep", "files", "--yes", "--no-backup"]);
  expect([exitCode, stderr.slice(stderr.indexOf("No migration"))]).toEqual([
    5,
    `No migration can be made of what differs: @supabase/pg-delta, which writes the statements, is not installed
  |   structure          column public.accounts.birthday: only in the database
  |                        date
  next: bun add --dev --exact @supabase/pg-delta@1.0.0-alpha.34
  next: bun scripts/migrate.ts new NAME      # write it by hand, then run this again: what is there by then is noted
  read: docs/runbook/drift-found.md
`,
  ]);
  // By hand, then.
  await lab.project.write(
    "migrations/29990101000000_birthday.sql",
    "-- migrate:up\nalter table accounts add column birthday date;\n\n-- migrate:down\n",
  );
  expect((await drift(["repair", "--yes", "--no-backup"])).exitCode).toBe(0);
  expect((await drift(["check"])).exitCode).toBe(0);
});

async function rm(path: string): Promise<void> {
  rmSync(join(lab.project.directory, path), { recursive: true, force: true });
}
