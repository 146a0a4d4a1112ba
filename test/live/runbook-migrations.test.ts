// The runbook's pages about migrations that cannot be applied, followed to the letter: the fault is made, then every section of its
// page is run by a plain shell, in a project whose scripts have been deleted.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { run, start } from "../../scripts/lib/run.ts";
import { poll } from "../../scripts/lib/wait.ts";
import { startEngine } from "../lab/engine.ts";
import { up } from "../lab/observe.ts";
import { buildAppImage, createProject, type Project } from "../lab/project.ts";
import { blocksOf } from "../lab/runbook.ts";

setDefaultTimeout(120_000);

let project: Project;
let environment: Record<string, string>;

beforeAll(async () => {
  project = await createProject();
  await project.setEnvironment({ APP_IMAGE: await buildAppImage(project) });
  await rm(join(project.directory, "scripts"), { recursive: true });
  await project.compose(up);
  const { environment: engine } = await startEngine();
  environment = { ...engine, COMPOSE_PROJECT_NAME: project.name, HTTP_PORT: new URL(project.url).port };
});
afterAll(() => project?.remove());

test("relation-already-exists: a table made by hand, in the way of a file", async () => {
  const page = "relation-already-exists";
  const file = "migrations/29990101000000_create_notes.sql";
  await sql("create table notes (id int); insert into notes values (1), (2)");
  await project.write(
    file,
    "-- migrate:up\ncreate table notes (id bigint primary key);\n\n-- migrate:down\ndrop table notes;\n",
  );
  await project.compose(up, { accept: [1] });
  const forNotes = (text: string) => text.replace("NAME=audit_log", "NAME=notes");
  const diagnosis = await follow(page, "Diagnosis", forNotes);
  expect(diagnosis).toContain('relation "notes" already exists');
  expect(diagnosis).toMatch(/ rows \n-+\n +2\n/);
  expect(diagnosis).toContain("Pending: 1");
  await follow(page, "Mitigation", forNotes);
  expect(await follow(page, "Verify")).toContain("Pending: 0");
  expect(await ask("select count(*) from notes_by_hand")).toBe("2");
  await sql("drop table notes, notes_by_hand; delete from schema_migrations where version = '29990101000000'");
  await rm(join(project.directory, file));
});

test("relation-already-exists: the proof without the kit shows what was made by hand, and nothing else", async () => {
  const [, proof] = await blocksOf("relation-already-exists", "Mitigation");
  expect((await inShell(proof!)).split("\n").filter((line) => /^[<>]/.test(line))).toEqual([]);
  await sql("create table by_hand (id int)");
  expect(await inShell(proof!)).toContain("> CREATE TABLE public.by_hand (");
  await sql("drop table by_hand");
  expect(await ask("select count(*) from pg_database where datname = 'scratch'")).toBe("0");
});

test("relation-does-not-exist: its file is pending", async () => {
  const page = "relation-does-not-exist";
  await sql("drop table sessions; delete from schema_migrations where version = '20260101090100'");
  const files = await readFile(join(project.directory, "migrations/20260101090100_create_sessions.sql"), "utf8");
  expect(files).toContain("create table sessions");
  const diagnosis = await follow(page, "Diagnosis");
  expect(diagnosis).toContain("Pending: 1");
  expect(diagnosis).toContain("migrations/20260101090100_create_sessions.sql");
  // Older than what is applied, it has to come in by a newer number.
  await run({
    argv: ["mv", "20260101090100_create_sessions.sql", "29990101000000_create_sessions.sql"],
    directory: join(project.directory, "migrations"),
  });
  await follow(page, "Mitigation");
  const verified = await follow(page, "Verify");
  expect(verified).toContain("Pending: 0");
  expect(verified).toContain('Table "public.sessions"');
  await run({
    argv: ["mv", "29990101000000_create_sessions.sql", "20260101090100_create_sessions.sql"],
    directory: join(project.directory, "migrations"),
  });
  await sql("update schema_migrations set version = '20260101090100' where version = '29990101000000'");
});

test("migration-hangs: behind a transaction that somebody forgot", async () => {
  const page = "migration-hangs";
  const file = "migrations/29990101000000_more.sql";
  const forgotten = await start({
    argv: ["docker", "compose", "exec", "-T", "postgres", "sh", "-c", 'psql -U "$POSTGRES_USER" -d "$POSTGRES_DB"'],
    ...{ directory: project.directory, environment, input: true, onLine: () => {} },
  });
  forgotten.write("begin; select count(*) from accounts;\n");
  const holder = "select pid from pg_stat_activity where state = 'idle in transaction'";
  const pid = await poll({ seconds: 20 }, async () => (await ask(holder)) || undefined);
  await project.write(file, "-- migrate:up\nalter table accounts add column more int;\n\n-- migrate:down\nselect 1;\n");
  const migrating = project.compose(["run", "--rm", "--no-deps", "--no-TTY", "migrations"], { accept: [0, 1, 2] });
  const waiting = "select count(*) from pg_stat_activity where cardinality(pg_blocking_pids(pid)) > 0";
  await poll({ seconds: 20 }, async () => ((await ask(waiting)) === "1" ? true : undefined));
  const diagnosis = await follow(page, "Diagnosis");
  expect(diagnosis).toContain(`{${pid}}`);
  expect(diagnosis).toContain("alter table accounts add column more int");
  expect(diagnosis).toContain("idle in transaction");
  await follow(page, "Mitigation", (text) => text.replace("PID=4711", `PID=${pid}`));
  await migrating;
  await forgotten.stop("SIGTERM", 5);
  const verified = await follow(page, "Verify");
  expect(verified).toContain("Pending: 0");
  expect(verified).toMatch(/ waiting \n-+\n +0\n/);
  await rm(join(project.directory, file));
  await sql("alter table accounts drop column more; delete from schema_migrations where version = '29990101000000'");
});

/** The blocks of one section, in one shell, as the runbook's first lines say. */
async function follow(page: string, section: string, edit = (text: string) => text): Promise<string> {
  return await inShell(edit((await blocksOf(page, section)).join("\n")));
}

async function inShell(text: string): Promise<string> {
  const argv = ["bash", "-euo", "pipefail", "-c", text];
  const { stdout, stderr } = await run({ argv, directory: project.directory, environment, timeoutSeconds: 120 });
  return stdout + stderr;
}

const client = 'psql -v ON_ERROR_STOP=1 -U "$POSTGRES_USER" -d "$POSTGRES_DB"';

async function sql(statements: string): Promise<void> {
  await project.compose(["exec", "-T", "postgres", "sh", "-c", client], { stdin: statements });
}

async function ask(query: string): Promise<string> {
  const argv = ["exec", "-T", "postgres", "sh", "-c", `${client} -qtA`];
  return (await project.compose(argv, { stdin: query })).stdout.trim();
}
