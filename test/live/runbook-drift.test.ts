// The runbook's pages about drift, followed to the letter: the fault is made, then every section of its page is run by a plain shell, in a
// project whose scripts have been deleted.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { parseMigration } from "../../scripts/lib/migration-file.ts";
import { recordStatements } from "../../scripts/lib/migration-record.ts";
import { run } from "../../scripts/lib/run.ts";
import { startEngine } from "../lab/engine.ts";
import { createProject, type Project } from "../lab/project.ts";
import { blocksOf } from "../lab/runbook.ts";

setDefaultTimeout(120_000);

let project: Project;
let environment: Record<string, string>;

beforeAll(async () => {
  project = await createProject();
  await project.setEnvironment({});
  await rm(join(project.directory, "scripts"), { recursive: true });
  await project.compose(["up", "--detach", "--wait", "postgres"]);
  await project.compose(["run", "--rm", "--no-deps", "--no-TTY", "migrations"]);
  const { environment: engine } = await startEngine();
  environment = { ...engine, COMPOSE_PROJECT_NAME: project.name };
});
afterAll(() => project?.remove());

test("drift-found: a column made by hand, an invalid index, a version without a file", async () => {
  const page = "drift-found";
  await sql(`alter table accounts add column nickname text; insert into schema_migrations values ('20251231000000');
    update pg_index set indisvalid = false where indexrelid = 'sessions_expires_at_idx'::regclass`);
  const diagnosis = await follow(page, "Diagnosis");
  expect(diagnosis).toContain(" 20251231000000\n");
  expect(diagnosis).toMatch(/ sessions_expires_at_idx +\| sessions\n/);
  expect(diagnosis).toContain(">     nickname text,");
  await follow(page, "Mitigation");
  expect(await follow(page, "Verify")).toMatch(/Pending: 0[\s\S]* invalid \n-+\n +0\n/);
  const again = await follow(page, "Diagnosis");
  expect(again.split("\n").filter((line) => /^[<>]/.test(line))).toEqual([]);
  await rm(join(project.directory, "migrations/29990101000000_add_nickname.sql"));
  await sql(
    "alter table accounts drop column nickname; delete from schema_migrations where version = '29990101000000'",
  );
});

test("edited-migration: a file with a remark more", async () => {
  const page = "edited-migration";
  const file = "20260101090000_create_accounts.sql";
  const text = await readFile(join(project.directory, "migrations", file), "utf8");
  await sql(recordStatements([], [parseMigration(file, text)]));
  expect(await follow(page, "Diagnosis")).toBe("");
  await project.write(`migrations/${file}`, `-- A remark.\n${text}`);
  expect(await follow(page, "Diagnosis")).toContain(`${file}: FAILED\n`);
  await follow(page, "Mitigation");
  expect(await follow(page, "Verify")).toBe("");
  await project.write(`migrations/${file}`, text);
});

test("duplicate-version: dbmate takes both for applied; the one that is not gets a number of its own", async () => {
  const page = "duplicate-version";
  await project.write(
    "migrations/20260101090200_create_coupons.sql",
    "-- migrate:up\ncreate table coupons (id int);\n\n-- migrate:down\ndrop table coupons;\n",
  );
  const status = await project.compose(["run", "--rm", "--no-deps", "--no-TTY", "migrations", "status"]);
  expect(status.stdout + status.stderr).toContain("Pending: 0");
  const diagnosis = await follow(page, "Diagnosis");
  expect(diagnosis).toContain(
    "migrations/20260101090200_create_audit_log.sql\nmigrations/20260101090200_create_coupons.sql\n",
  );
  expect(diagnosis).toContain("| audit_log ");
  expect(diagnosis).not.toContain("| coupons ");
  await follow(page, "Mitigation");
  const verified = await follow(page, "Verify");
  expect(verified).toContain("Pending: 0");
  expect(verified).not.toMatch(/^\d+$/m);
});

/** The blocks of one section, in one shell, as the runbook's first lines say. */
async function follow(page: string, section: string): Promise<string> {
  const argv = ["bash", "-euo", "pipefail", "-c", (await blocksOf(page, section)).join("\n")];
  const { stdout, stderr } = await run({ argv, directory: project.directory, environment, timeoutSeconds: 120 });
  return stdout + stderr;
}

async function sql(statements: string): Promise<void> {
  const client = 'psql -v ON_ERROR_STOP=1 -U "$POSTGRES_USER" -d "$POSTGRES_DB"';
  await project.compose(["exec", "-T", "postgres", "sh", "-c", client], { stdin: statements });
}
