// The starter's migrations on a real Postgres, run by the migrations service exactly as Compose runs it.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { createProject, type Project } from "../lab/project.ts";
import { repository } from "../lab/repository.ts";

let project: Project;
const count = readdirSync(join(repository, "migrations")).filter((name) => /^\d/.test(name)).length;

const dbmate = (words: string[], accept = [0]) => project.compose(["run", "--rm", "migrations", ...words], { accept });

async function sql(text: string, accept = [0]): Promise<string> {
  const psql = ["psql", "-h", "127.0.0.1", "-U", "dbops_app", "-v", "ON_ERROR_STOP=1", "-qtA"];
  const { stdout, stderr } = await project.compose(["exec", "-T", "postgres", ...psql], { stdin: text, accept });
  return (stdout + stderr).trim();
}

/** Without the two lines that name the exact builds of server and pg_dump, as `migrate dump` leaves them out. */
const comparable = (dump: string) => dump.replace(/^-- Dumped from .*\n-- Dumped by .*\n+/m, "");

async function dump(): Promise<string> {
  const { stdout } = await dbmate(["--schema-file", "/dev/stdout", "dump"]);
  return comparable(stdout.replace(/^Writing: .*\n/, ""));
}

beforeAll(async () => {
  project = await createProject();
  await project.compose(["up", "--detach", "--wait", "postgres"]);
  await dbmate(["up", "--strict"]);
});
afterAll(() => project?.remove());

test("schema.sql is what the migrations make", async () => {
  expect(await dump()).toBe(comparable(await readFile(join(repository, "migrations", "schema.sql"), "utf8")));
});

test("a second run has nothing to do", async () => {
  const { stdout, stderr } = await dbmate(["up", "--strict"]);
  expect(stdout + stderr).not.toContain("Appl");
});

test("every migration can be taken back, and made again", async () => {
  const before = await dump();
  for (let i = 0; i < count; i++) await dbmate(["rollback"]);
  expect(
    await sql(
      "select string_agg(relname, ',') from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r'",
    ),
  ).toBe("schema_migrations");
  await dbmate(["up", "--strict"]);
  expect(await dump()).toBe(before);
});

test("a file older than the newest applied one is refused", async () => {
  const late = "migrations/20200101000000_late.sql";
  await project.write(late, "-- migrate:up\nselect 1;\n\n-- migrate:down\nselect 1;\n");
  try {
    const { stderr } = await dbmate(["up", "--strict"], [2]);
    expect(stderr).toContain("20200101000000");
  } finally {
    await rm(join(project.directory, late));
  }
});

test("the constraints hold what the comments promise", async () => {
  const account = "insert into accounts (email, password_hash) values";
  await sql(`${account} ('Ann@Example.com', 'x')`);
  expect(await sql(`${account} ('ann@example.com', 'x')`, [3])).toContain("accounts_email_key");
  expect(await sql(`${account} ('nobody', 'x')`, [3])).toContain("accounts_email_has_at");
  const session = "insert into sessions (token_hash, account_id, expires_at) select";
  expect(await sql(`${session} 'short', id, now() + '1 h' from accounts`, [3])).toContain("token_hash_is_sha256");
  expect(await sql(`${session} sha256('a'), id, now() - interval '1 h' from accounts`, [3])).toContain("expire_after");
  await sql(
    `${session} sha256('a'), id, now() + '1 h' from accounts; insert into audit_log (account_id, action) select id, 'account.signed_in' from accounts`,
  );
  await sql("delete from accounts");
  expect(
    await sql("select (select count(*) from sessions), (select count(*) from audit_log where account_id is null)"),
  ).toBe("0|1");
  expect(await sql("insert into audit_log (action, details) values ('x', '[]')", [3])).toContain("details_is_object");
});

test("the index made CONCURRENTLY is valid", async () => {
  const index = "from pg_index where indexrelid = 'audit_log_account_id_occurred_at_idx'::regclass";
  expect(await sql(`select indisvalid, indisready ${index}`)).toBe("t|t");
});
