// A project that has been migrated by something else so far, with a database of its own on a server that several of them share; and the
// verbs that take it over, each a process of its own.
//   const lab = await startAdoptLab();   const project = await lab.project("knex");   await project.drift(["adopt", "--plan"]);
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type postgres from "postgres";
import { type Result, type Running, run, start } from "../../scripts/lib/run.ts";
import { postgresEnvironment } from "./debian-programs.ts";
import { startPostgres, type TestPostgres } from "./postgres.ts";
import { programs, repository } from "./repository.ts";

export type AdoptProject = {
  directory: string;
  /** PGHOST and so on, and PATH with Postgres' programs. */
  environment: Record<string, string>;
  url: string;
  sql: postgres.Sql;
  write(path: string, text: string): void;
  /** Names in migrations/, sorted. */
  migrations(): string[];
  read(path: string): string;
  /** `bun scripts/drift.ts …`, with the database's URL. */
  drift(words: readonly string[], environment?: Record<string, string>): Promise<Result>;
  startDrift(words: readonly string[], onLine?: (line: string) => void): Promise<Running>;
  /** adopt --yes --json, which must succeed: its document. */
  adopt(...words: string[]): Promise<AdoptDocument>;
  migrate(words: readonly string[]): Promise<Result>;
  validator(words: readonly string[]): Promise<Result>;
};

export type AdoptDocument = {
  adopted: boolean;
  tool: string;
  way: string;
  renamed: string | null;
  files: { file: string; from: string; applied: boolean; written: boolean }[];
};

export type AdoptLab = { server: TestPostgres; project(name: string): Promise<AdoptProject>; stop(): Promise<void> };

export async function startAdoptLab(): Promise<AdoptLab> {
  const [server, { PATH }] = await Promise.all([
    // Each project keeps two connections until the end.
    startPostgres({ settings: { max_connections: "200" } }),
    postgresEnvironment(),
  ]);
  const folder = mkdtempSync(join(tmpdir(), "dbops-adopt-"));
  const admin = server.connect({ max: 1 });
  const environment = {
    PATH,
    PGHOST: server.host,
    PGPORT: `${server.port}`,
    PGUSER: server.user,
    PGPASSWORD: server.password,
  };
  return {
    server,
    async project(name) {
      await admin.unsafe(`create database "${name}"`);
      return describe(
        join(folder, name),
        { ...environment, PGDATABASE: name },
        server.connect({ database: name, max: 2 }),
      );
    },
    async stop() {
      await server.stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

function describe(directory: string, environment: Record<string, string>, sql: postgres.Sql): AdoptProject {
  const { PGHOST, PGPORT, PGUSER, PGDATABASE } = environment;
  const url = (database: string | undefined) => `postgres://${PGUSER}@${PGHOST}:${PGPORT}/${database}?sslmode=disable`;
  mkdirSync(directory);
  symlinkSync(join(repository, "node_modules"), join(directory, "node_modules"));
  const write = (path: string, text: string) => {
    mkdirSync(dirname(join(directory, path)), { recursive: true });
    writeFileSync(join(directory, path), text);
  };
  write(
    "dbops.config.ts",
    `export default {
  name: "adopted", database: "adopted", app: { command: ["bun"], port: 3000 },
  schema: { criticalTables: [], extensions: [] }, environments: { local: {} },
};
`,
  );
  const command = (verb: string, words: readonly string[], changes: Record<string, string> = {}) => ({
    argv: [join(programs, "bun"), "--no-env-file", join(repository, "scripts", `${verb}.ts`), ...words],
    directory,
    // A URL is what people give for a database that is no stack's.
    environment: { ...environment, PGHOST: "nowhere.invalid", NO_COLOR: "1", CI: undefined, ...changes },
  });
  const accept = [0, 1, 2, 3, 4, 5, 130];
  const there = ["--database-url", url(PGDATABASE)];
  const scratch = ["--scratch-url", url("postgres")];
  const drift: AdoptProject["drift"] = (words, changes) =>
    run({ ...command("drift", [...words, ...there, ...scratch], changes), accept, timeoutSeconds: 120 });
  return {
    ...{ directory, environment, sql, write, drift, url: url(PGDATABASE) },
    migrations: () =>
      existsSync(join(directory, "migrations")) ? readdirSync(join(directory, "migrations")).sort() : [],
    read: (path) => readFileSync(join(directory, path), "utf8"),
    startDrift: (words, onLine = () => {}) =>
      start({ ...command("drift", [...words, ...there, ...scratch]), ownGroup: true, onLine }),
    async adopt(...words) {
      const { exitCode, stdout, stderr } = await drift(["adopt", "--yes", "--json", ...words]);
      if (exitCode !== 0) throw new Error(`exit ${exitCode}\n${stderr}`);
      return JSON.parse(stdout);
    },
    migrate: (words) => run({ ...command("migrate", [...words, ...there]), accept, timeoutSeconds: 120 }),
    validator: (words) => run({ ...command("validator", words, { PGHOST: PGHOST! }), accept, timeoutSeconds: 60 }),
  };
}
