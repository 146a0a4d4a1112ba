// `drift check` of a database with 1,000 tables, a process from its start to its end, beside `pg_dump -s` of it.   npm run bench -- drift
// What the files make, and what the database was at the last check, is kept in .dbops/cache: shown apart are the check behind a change that
// was taken back (as after a deploy: all of the database is looked at, and nothing differs), that of a difference, and the first of all.
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { run } from "../../scripts/lib/run.ts";
import { interruption } from "../../scripts/lib/wait.ts";
import { postgresEnvironment } from "../lab/debian-programs.ts";
import { startPostgres, type TestPostgres } from "../lab/postgres.ts";
import { linkPackages } from "../lab/project-files.ts";
import { repository } from "../lab/repository.ts";
import { median, table } from "./deploy/numbers.ts";

const tables = 1000;
const rounds = 7;

export async function bench(): Promise<void> {
  const interrupted = interruption();
  const directory = await mkdtemp(join(tmpdir(), "dbops-bench-"));
  const server = await startPostgres({ settings: { shared_buffers: "128MB", max_locks_per_transaction: "1024" } });
  try {
    const programs = { ...(await postgresEnvironment()), PGPASSWORD: server.password, PGHOST: undefined };
    await prepare(directory, server, programs);
    const check = checkOf(directory, server, programs);
    const first = await check();
    const dump = dumpOf(server, programs);
    const own: number[] = [];
    const changed: number[] = [];
    const dumps: number[] = [];
    const sql = await server.connect();
    for (let round = 0; round < rounds; round++) {
      interrupted.throwIfAborted();
      own.push(await check());
      dumps.push(await dump());
      // The same as before, in rows of the catalog that are not the same.
      await sql.unsafe("alter table t_1 rename to t_renamed; alter table t_renamed rename to t_1");
      changed.push(await check());
    }
    await sql`alter table t_1 add column by_hand int`;
    const found = await check(3);
    report({ first, own: median(own), changed: median(changed), dump: median(dumps), found });
  } finally {
    await server.stop();
    await rm(directory, { recursive: true, force: true });
  }
}

/** Eight columns, a primary key, a check, a foreign key and two indexes each: 100 files of ten tables. */
async function prepare(directory: string, server: TestPostgres, environment: Environment): Promise<void> {
  await mkdir(join(directory, "migrations"));
  const versions: string[] = [];
  let all = "create table schema_migrations (version varchar primary key);\n";
  for (let file = 0; file < tables / 10; file++) {
    const numbers = Array.from({ length: 10 }, (_, index) => file * 10 + index);
    const up = numbers.map(tableOf).join("");
    const version = `${20260101000000 + file}`;
    versions.push(version);
    all += up;
    const name = join(directory, "migrations", `${version}_tables.sql`);
    await writeFile(name, `-- migrate:up\n${up}\n-- migrate:down\n`);
  }
  all += `insert into schema_migrations values ${versions.map((version) => `('${version}')`).join(", ")};\n`;
  const argv = ["psql", "--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1", `--dbname=${urlOf(server)}`];
  await run({ argv, environment, stdin: all, timeoutSeconds: 300 });
  const config = { name: "shop", database: "app", app: { command: ["bun"], port: 3000 } };
  const rest = { schema: { criticalTables: ["t_1"], extensions: [] }, environments: { local: {} } };
  await writeFile(join(directory, "dbops.config.ts"), `export default ${JSON.stringify({ ...config, ...rest })};\n`);
  await linkPackages(directory);
}

const tableOf = (number: number) => `create table t_${number} (
  id bigint generated always as identity primary key,
  ${number === 0 ? "" : `parent_id bigint references t_${number - 1} (id),`}
  email text not null, name varchar(200), state text not null default 'new', document jsonb not null default '{}',
  created_at timestamptz not null default now(), total numeric(12, 2) not null default 0,
  constraint t_${number}_total_positive check (total >= 0)
);
create index t_${number}_state_idx on t_${number} (state, created_at desc);
create unique index t_${number}_email_key on t_${number} (lower(email));
`;

type Environment = Record<string, string | undefined>;

const urlOf = ({ user, port, database }: TestPostgres) =>
  `postgres://${user}@127.0.0.1:${port}/${database}?sslmode=disable`;

function checkOf(directory: string, server: TestPostgres, environment: Environment) {
  const url = urlOf(server);
  const where = ["--database-url", url, "--scratch-url", url];
  const argv = [process.execPath, join(repository, "scripts/drift.ts"), "check", "--json", ...where];
  return async (code = 0) => (await run({ argv, directory, environment, accept: [code], timeoutSeconds: 300 })).seconds;
}

function dumpOf(server: TestPostgres, environment: Environment) {
  const argv = ["sh", "-c", `exec pg_dump --schema-only --file=/dev/null "$1"`, "sh", urlOf(server)];
  return async () => (await run({ argv, environment, timeoutSeconds: 300 })).seconds;
}

type Figures = { first: number; own: number; changed: number; dump: number; found: number };

function report({ first, own, changed, dump, found }: Figures): void {
  const line = (name: string, seconds: number) => [name, seconds.toFixed(2), (seconds / dump).toFixed(2)];
  console.log(`${tables} tables, 100 files; ${rounds} rounds, in turns; medians`);
  console.log(
    table([
      ["", "seconds", "of pg_dump -s"],
      line("pg_dump -s", dump),
      line("drift check, nothing differs", own),
      line("drift check, changed and taken back", changed),
      line("drift check, one column differs", found),
      line("drift check, the first one", first),
    ]),
  );
}
