// scripts/drift.ts --on production: the database is in a container of a server, reached over SSH; what its migrations make is found out on this
// machine, in a container whose owner is called as the server's.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseMigration } from "../../scripts/lib/migration-file.ts";
import { type Result, run } from "../../scripts/lib/run.ts";
import { startEngine } from "../lab/engine.ts";
import { ensureImages } from "../lab/images.ts";
import { plainSsh } from "../lab/plain-ssh.ts";
import { linkPackages, type ProjectFiles, writeProjectFiles } from "../lab/project-files.ts";
import { type Server, startServer } from "../lab/server.ts";

setDefaultTimeout(180_000);

let folder: string;
let project: ProjectFiles;
let server: Server;
let environment: Record<string, string | undefined>;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "dbops-drift-server-"));
  const engine = await startEngine();
  [server, project] = await Promise.all([
    startServer({ kind: "docker", withImages: true }),
    writeProjectFiles({ name: `drift-${process.pid}` }),
    ensureImages(engine),
  ]);
  await linkPackages(project.directory);
  await project.write("known_hosts", `${server.address} ${server.hostKey}\n`);
  const config = join(project.directory, "dbops.config.ts");
  await project.write(
    "dbops.config.ts",
    readFileSync(config, "utf8").replace("deploy@app.example.com", `deploy@${server.address}`),
  );
  await server.ssh(`docker run --detach --name postgres --label com.docker.compose.project=drift-${process.pid} \
      --label com.docker.compose.service=postgres --label com.docker.compose.oneoff=False --env POSTGRES_USER=shop --env POSTGRES_PASSWORD=secret postgres:18-alpine
    until docker exec postgres pg_isready --quiet --host 127.0.0.1; do sleep 0.2; done`);
  const migrations = join(project.directory, "migrations");
  await sql("create table schema_migrations (version varchar primary key)");
  const names = readdirSync(migrations).filter((name) => /^\d/.test(name));
  for (const file of names.sort()) {
    const { sections, version } = parseMigration(file, readFileSync(join(migrations, file), "utf8"));
    await sql(sections[0]!.up.sql);
    await sql(`insert into schema_migrations values ('${version}')`);
  }
  const ssh = await plainSsh(folder, "");
  environment = {
    ...{ ...engine.environment, ...ssh, DBOPS_SSH_KEY_FILE: server.privateKeyFile, SSH_AUTH_SOCK: undefined },
    ...{ PATH: `${join(folder, "bin")}:${engine.environment.PATH}`, PGHOST: undefined, NO_COLOR: "1", CI: undefined },
  };
}, 300_000);
afterAll(async () => {
  await server?.stop();
  for (const path of [folder, project?.directory]) if (path) rmSync(path, { recursive: true, force: true });
});

async function sql(statements: string): Promise<void> {
  await server.ssh(`docker exec --interactive postgres psql --username shop --quiet --set=ON_ERROR_STOP=1 <<'END'
${statements}
END`);
}

const drift = (words: readonly string[]): Promise<Result> =>
  run({
    argv: [process.execPath, "scripts/drift.ts", ...words, "--on", "production"],
    ...{ directory: project.directory, environment, accept: [0, 1, 2, 3, 4, 5], timeoutSeconds: 120 },
  });

test("checked, repaired and checked again, with what was done by hand taken into the files", async () => {
  const name = `shop on deploy@${server.address}`;
  const clean = await drift(["check"]);
  // dbmate alone has applied them.
  const withoutSums =
    "Nobody has noted the sums of 4 applied files: whether they were edited since cannot be seen. The next migrate up or deploy that applies something notes them.";
  expect([clean.exitCode, clean.stdout], clean.stderr).toEqual([
    0,
    `${name} is what migrations/ make of it: 4 applied\n\n${withoutSums}\n`,
  ]);
  await sql("alter table accounts add column nickname text; grant select on accounts to pg_monitor");
  const found = await drift(["check"]);
  expect([found.exitCode, found.stdout]).toEqual([
    3,
    `${name} is not what migrations/ make of it: 2 differences; 4 applied
  structure          column public.accounts.nickname: only in the database
                       text
  structure          grant on table public.accounts: only in the database
                       pg_monitor: SELECT

${withoutSums}

  read: docs/runbook/drift-found.md
  next: bun scripts/drift.ts repair --plan --on production
`,
  ]);
  const repaired = await drift(["repair", "--keep", "database", "--yes", "--no-backup"]);
  expect([repaired.exitCode, repaired.stdout.split("\n")[0]], repaired.stderr).toEqual([
    0,
    `2 of 2 repaired in ${name}: nothing differs any more`,
  ]);
  const after = await drift(["check"]);
  expect([after.exitCode, after.stdout]).toEqual([
    0,
    `${name} is what migrations/ make of it: 5 applied\n\n${withoutSums}\n`,
  ]);
});

test("without --yes and without a terminal it wants to hear that it is production", async () => {
  await sql("insert into schema_migrations values ('20251231000000')");
  const { exitCode, stderr } = await drift(["repair", "--no-backup"]);
  expect([exitCode, stderr.slice(stderr.indexOf("Nothing was"))]).toEqual([
    5,
    `Nothing was changed: this needs --yes where there is no terminal to ask on
  | This changes shop on deploy@${server.address}.
  next: the same command with --yes
`,
  ]);
});

test("a database that another tool has migrated, adopted through SSH", async () => {
  const migrations = join(project.directory, "migrations");
  for (const name of readdirSync(migrations)) rmSync(join(migrations, name));
  await sql(`drop table schema_migrations; drop schema if exists dbops cascade;
    create table knex_migrations (id serial primary key, name varchar(255), batch int, migration_time timestamptz);
    create table knex_migrations_lock (index serial primary key, is_locked int);
    insert into knex_migrations (name, batch, migration_time) values ('20251231000000_all.js', 1, now())`);
  const name = `shop on deploy@${server.address}`;
  const adopted = await drift(["adopt", "--yes"]);
  expect([adopted.exitCode, adopted.stdout], adopted.stderr).toEqual([
    0,
    `${name} is adopted: 1 version is in schema_migrations
  next: bun scripts/migrate.ts dump && git add migrations && git commit      # with schema.sql
  next: migrations: { lintFrom: "20251231000001" } in dbops.config.ts      # what is applied is not judged any more
  next: bun scripts/migrate.ts status --on production
`,
  ]);
  expect(readdirSync(migrations)).toEqual(["20251231000000_baseline.sql"]);
  expect((await drift(["adopt", "--yes"])).stdout).toBe(`${name} is adopted already, from knex: nothing to do\n`);
  const check = await drift(["check"]);
  expect([check.exitCode, check.stdout], check.stderr).toEqual([
    0,
    `${name} is what migrations/ make of it: 1 applied\n`,
  ]);
  // Another database of the same checkout, which has the file already.
  await sql("drop table schema_migrations; drop schema dbops cascade");
  const again = await drift(["adopt", "--yes"]);
  expect([again.exitCode, again.stdout], again.stderr).toEqual([
    0,
    `${name} is adopted: 1 version is in schema_migrations
  next: bun scripts/migrate.ts status --on production
`,
  ]);
  expect(readdirSync(migrations)).toEqual(["20251231000000_baseline.sql"]);
  expect((await drift(["check"])).exitCode).toBe(0);
});
