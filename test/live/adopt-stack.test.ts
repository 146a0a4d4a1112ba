// `drift adopt` as most people run it: the database of the project's own stack, whose pg_dump is the container's, proven in a throw-away
// container. adopt.test.ts has everything else.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { run } from "../../scripts/lib/run.ts";
import { startEngine } from "../lab/engine.ts";
import { createProject, type Project } from "../lab/project.ts";
import { linkPackages } from "../lab/project-files.ts";
import { blocksOf } from "../lab/runbook.ts";

setDefaultTimeout(300_000);

let project: Project;
let environment: Record<string, string | undefined>;

beforeAll(async () => {
  const engine = await startEngine();
  environment = { ...engine.environment, PGHOST: undefined, NO_COLOR: "1", CI: undefined };
  project = await createProject();
  await project.setEnvironment({ COMPOSE_PROJECT_NAME: project.name });
  // So that the container for the proof is told from those of other tests.
  const settings = readFileSync(join(project.directory, "dbops.config.ts"), "utf8");
  await project.write("dbops.config.ts", settings.replace('name: "dbops-app"', `name: "${project.name}"`));
  await Promise.all([linkPackages(project.directory), project.compose(["up", "--detach", "--wait", "postgres"])]);
}, 300_000);

afterAll(async () => {
  await project?.remove();
});

const verb = (name: string, ...words: string[]) =>
  run({
    argv: [process.execPath, "--no-env-file", `scripts/${name}.ts`, ...words],
    directory: project.directory,
    environment,
    accept: [0, 1, 2, 3, 4, 5],
    timeoutSeconds: 200,
  });

async function sql(statements: string): Promise<string> {
  const client = ["psql", "--username=dbops_app", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align"];
  const words = ["exec", "--interactive", project.container("postgres"), ...client, "--set=ON_ERROR_STOP=1"];
  return (await project.docker(words, { stdin: statements })).stdout.trim();
}

test("knex, in the stack: nothing but Docker is needed, and nothing is left of it", async () => {
  await sql(`create table knex_migrations (id serial primary key, name varchar(255), batch int, migration_time timestamptz);
    create table knex_migrations_lock (index serial primary key, is_locked int); insert into knex_migrations_lock (is_locked) values (0);
    insert into knex_migrations (name, batch, migration_time) values ('20250101120000_people.js', 1, now());
    create table people (id bigint generated always as identity primary key, email text unique);`);
  const migrations = join(project.directory, "migrations");
  const starter = readdirSync(migrations).filter((name) => /^\d/.test(name));
  // They came with the starter, and are newer than what knex has done: they would stay pending.
  for (const name of starter) rmSync(join(migrations, name));
  const adopted = await verb("drift", "adopt", "--yes");
  expect([adopted.exitCode, adopted.stdout], adopted.stderr).toEqual([
    0,
    `dbops_app on this machine is adopted: 1 version is in schema_migrations
  next: bun scripts/migrate.ts dump && git add migrations && git commit      # with schema.sql
  next: migrations: { lintFrom: "20250101120001" } in dbops.config.ts      # what is applied is not judged any more
  next: bun scripts/migrate.ts status
`,
  ]);
  expect(readFileSync(join(migrations, "20250101120000_baseline.sql"), "utf8")).toContain(
    "CREATE TABLE public.people (",
  );
  const check = await verb("drift", "check");
  expect([check.exitCode, check.stdout], check.stderr).toEqual([
    0,
    expect.stringContaining("is what migrations/ make of it: 1 applied"),
  ]);
  await project.write(
    "migrations/20990101000000_later.sql",
    "-- migrate:up\ncreate table later (id int);\n\n-- migrate:down\ndrop table later;\n",
  );
  const up = await verb("migrate", "up", "--yes");
  expect([up.exitCode, up.stderr], up.stderr).toEqual([0, expect.any(String)]);
  expect(await sql("select string_agg(version, ' ' order by version) from schema_migrations")).toBe(
    "20250101120000 20990101000000",
  );
  const { stdout } = await project.docker([
    "ps",
    "--all",
    "--quiet",
    "--filter",
    `label=dbops.scratch=${project.name}`,
  ]);
  expect(stdout).toBe("");
});

test("the runbook's page dirty-state, followed to the letter", async () => {
  const page = "dirty-state";
  await sql(`alter table schema_migrations rename to of_dbmate; create table schema_migrations (version bigint primary key, dirty boolean not null);
    insert into schema_migrations values (7, true);
    create table flyway_schema_history (installed_rank int primary key, script text, success boolean not null);
    insert into flyway_schema_history values (1, 'V1__a.sql', true), (2, 'V2__b.sql', false);
    create table _prisma_migrations (migration_name text, finished_at timestamptz, rolled_back_at timestamptz);
    insert into _prisma_migrations values ('20260101_a', now(), null), ('20260102_b', null, null);
    update knex_migrations_lock set is_locked = 1`);
  const found = await follow(page, "Diagnosis");
  expect([...found.matchAll(/^ (\w+) +\| \{/gm)].map(([, table]) => table).sort()).toEqual([
    "_prisma_migrations",
    "flyway_schema_history",
    "knex_migrations_lock",
    "schema_migrations",
  ]);
  await follow(page, "Mitigation");
  expect(await follow(page, "Verify")).not.toContain("{");
  expect(await sql("select version, dirty from schema_migrations")).toBe("6|f");
});

/** Every block of a section, in one shell. */
async function follow(page: string, section: string): Promise<string> {
  const script = (await blocksOf(page, section)).join("\n");
  const { stdout } = await run({
    argv: ["sh", "-euc", script],
    directory: project.directory,
    environment: { ...environment, COMPOSE_PROJECT_NAME: project.name },
  });
  return stdout;
}
