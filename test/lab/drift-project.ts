// A small project and databases that are what its migrations make, for `drift` to look at; each test has its own of both. One Postgres, as a
// plain process, holds all of them, and is the scratch server as well.
//   const lab = await createDriftLab();   const one = await lab.project();   await one.sql("alter table …");   await one.drift(["check"]);
import { cp, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Config } from "../../scripts/lib/config.ts";
import { parseMigration } from "../../scripts/lib/migration-file.ts";
import { recordWithin } from "../../scripts/lib/migration-record.ts";
import { type Result, type Running, run, start } from "../../scripts/lib/run.ts";
import { postgresEnvironment } from "./debian-programs.ts";
import { startPostgres, type TestPostgres } from "./postgres.ts";
import { linkPackages } from "./project-files.ts";
import { repository } from "./repository.ts";

export const driftMigrations: Readonly<Record<string, string>> = {
  "20260101090000_create_accounts.sql": `-- migrate:up
create table accounts (id bigint generated always as identity primary key, email text not null);

-- migrate:down
drop table accounts;
`,
  "20260101090100_create_orders.sql": `-- migrate:up
create table orders (
  id bigint generated always as identity primary key,
  account_id bigint not null references accounts (id),
  total numeric not null,
  constraint orders_total_positive check (total >= 0)
);

-- migrate:down
drop table orders;
`,
  "20260101090200_index_orders.sql": `-- migrate:up transaction:false
create index concurrently orders_account_id_idx on orders (account_id);

-- migrate:down transaction:false
drop index concurrently orders_account_id_idx;
`,
};

type Environment = Record<string, string | undefined>;

export type Started = Running & { said: () => string };

export type DriftProject = {
  directory: string;
  database: string;
  url: string;
  sql(statements: string): Promise<string>;
  /** To its end, whatever that is. --database-url and --scratch-url are given, unless the words say where. */
  drift(words: readonly string[], environment?: Environment): Promise<Result>;
  start(words: readonly string[], environment?: Environment): Promise<Started>;
  /** Names in migrations/, in order. */
  files(): Promise<string[]>;
  write(file: string, text: string): Promise<void>;
  remove(file: string): Promise<void>;
  rename(file: string, to: string): Promise<void>;
  /** `migrate up` as dbmate does it: what is pending, in order. */
  migrate(): Promise<void>;
  /** All that a repair may change: the history, what the kit notes, the structure, the files. */
  everything(): Promise<string>;
};

export type DriftLab = {
  server: TestPostgres;
  /** Of all that runs. */
  environment: Environment;
  sql(statements: string, database?: string): Promise<string>;
  /** With a database that has all migrations applied, and their sums noted. */
  project(schema?: Partial<Config["schema"]>): Promise<DriftProject>;
  /** Another one of the same contents. */
  copyOf(project: DriftProject): Promise<DriftProject>;
  stop(): Promise<void>;
};

const template = "drift_template";

export async function createDriftLab(): Promise<DriftLab> {
  const folder = await mkdtemp(join(tmpdir(), "dbops-drift-"));
  const [server, programs] = await Promise.all([startPostgres(), postgresEnvironment()]);
  const { host, port, user, password } = server;
  const environment: Environment = {
    ...{ PATH: programs.PATH, PGPASSWORD: password, PGHOST: undefined, NO_COLOR: "1", CI: undefined, TMPDIR: folder },
  };
  const urlOf = (database: string) => `postgres://${user}@${host}:${port}/${database}?sslmode=disable`;
  const sql = async (statements: string, database = "app"): Promise<string> => {
    const how = ["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1"];
    const argv = ["psql", ...how, `--dbname=${urlOf(database)}`];
    return (await run({ argv, environment, stdin: statements, timeoutSeconds: 60 })).stdout.trim();
  };
  await sql(`create database ${template}`);
  await sql("create table schema_migrations (version varchar primary key)", template);
  for (const [file, text] of Object.entries(driftMigrations)) await applyTo(template, file, text);

  async function applyTo(database: string, file: string, text: string): Promise<void> {
    const migration = parseMigration(file, text);
    await sql(migration.sections[0]!.up.sql, database);
    const insert = `insert into schema_migrations (version) values ('${migration.version}')`;
    await sql(`${insert}; ${recordWithin([migration])};`, database);
  }

  let count = 0;
  async function make(from: string, files: (directory: string) => Promise<void>): Promise<DriftProject> {
    count += 1;
    const database = `drift_${count}`;
    const directory = join(folder, database);
    await mkdir(directory);
    await files(directory);
    await linkPackages(directory);
    // One for all: what files make is kept under their sums.
    await mkdir(join(folder, "dbops"), { recursive: true });
    await symlink(join(folder, "dbops"), join(directory, ".dbops"));
    await sql(`create database ${database} template ${from}`);
    return describe(database, directory);
  }

  function describe(database: string, directory: string): DriftProject {
    const path = (file: string) => join(directory, "migrations", file);
    const files = async () => (await readdir(join(directory, "migrations"))).sort();
    const command = (words: readonly string[], changes: Environment = {}) => ({
      argv: [
        ...[process.execPath, join(repository, "scripts/drift.ts"), ...words],
        ...(words.some((word) => word.startsWith("--database-url")) ? [] : ["--database-url", urlOf(database)]),
        ...["--scratch-url", urlOf("app")],
      ],
      directory,
      environment: { ...environment, ...changes },
    });
    return {
      ...{ directory, database, url: urlOf(database), files },
      sql: (statements) => sql(statements, database),
      drift: (words, changes) =>
        run({ ...command(words, changes), accept: [0, 1, 2, 3, 4, 5, 130], timeoutSeconds: 120 }),
      async start(words, changes) {
        let said = "";
        const onLine = (line: string) => {
          said += `${line}\n`;
        };
        return Object.assign(await start({ ...command(words, changes), ownGroup: true, onLine }), { said: () => said });
      },
      write: (file, text) => writeFile(path(file), text),
      remove: (file) => rm(path(file)),
      async rename(file, to) {
        await writeFile(path(to), await readFile(path(file)));
        await rm(path(file));
      },
      async migrate() {
        const applied = (await sql("select version from schema_migrations", database)).split("\n");
        for (const file of (await files()).filter((name) => /^\d/.test(name))) {
          if (!applied.includes(file.split(/\D/)[0]!))
            await applyTo(database, file, await readFile(path(file), "utf8"));
        }
      },
      async everything() {
        const rows = await sql(
          "select version::text from schema_migrations order by 1; select version, sha256 from dbops.migration_files order by 1",
          database,
        );
        const dump = await run({ argv: ["pg_dump", "--schema-only", `--dbname=${urlOf(database)}`], environment });
        const texts = await Promise.all((await files()).map((file) => readFile(path(file), "utf8")));
        // Two random words, other ones each time.
        const structure = dump.stdout.replace(/^\\(?:un)?restrict .*$/gm, "");
        return [rows, structure, ...(await files()), ...texts].join("\n");
      },
    };
  }

  return {
    ...{ server, environment, sql },
    project: (schema = {}) =>
      make(template, async (directory) => {
        await mkdir(join(directory, "migrations"));
        for (const [file, text] of Object.entries(driftMigrations)) {
          await writeFile(join(directory, "migrations", file), text);
        }
        const config: Config = {
          ...{ name: "shop", database: "shop", app: { command: ["bun"], port: 3000 } },
          schema: { criticalTables: [], extensions: [], ...schema },
          environments: { local: {} },
        };
        await writeFile(join(directory, "dbops.config.ts"), `export default ${JSON.stringify(config)};\n`);
      }),
    copyOf: ({ directory: from, database }) =>
      make(database, async (directory) => {
        for (const name of ["migrations", "dbops.config.ts"]) {
          await cp(join(from, name), join(directory, name), { recursive: true });
        }
      }),
    async stop() {
      await server.stop();
      await rm(folder, { recursive: true, force: true });
    },
  };
}
