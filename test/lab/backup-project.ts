// A project with its own Postgres and a bucket, and the verbs for backups in it as people run them: each a process of its own.
//   const lab = await createBackupProject(folder);   await lab.configure({ prefix: "one" });   const { exitCode } = await lab.backup(["list"]);
import { randomBytes } from "node:crypto";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { type Config, parseConfig, type Settings } from "../../scripts/lib/config.ts";
import { type Result, type Running, run, start } from "../../scripts/lib/run.ts";
import { openStore, type Store } from "../../scripts/lib/s3.ts";
import { postgresEnvironment } from "./debian-programs.ts";
import { startEngine } from "./engine.ts";
import { createProject, type Project } from "./project.ts";
import { linkPackages } from "./project-files.ts";
import { type S3, startS3 } from "./s3.ts";

type Environment = Record<string, string | undefined>;

type OnLine = (line: string, stream: "stdout" | "stderr") => void;

export type Started = Running & {
  /** Everything it has said so far. */
  said: { stdout: string; stderr: string };
};

export type BackupProject = {
  project: Project;
  s3: S3;
  passphrase: string;
  /** Every secret that must be seen nowhere. */
  secrets: string[];
  /** Of all that is run in the project. */
  environment: Environment;
  /** For local programs of Postgres to find the project's database, password included. */
  postgres: Record<string, string>;
  /** "postgres://USER@127.0.0.1:PORT/DATABASE" */
  url: string;
  /** Writes `backup` into dbops.config.ts, over the bucket's own values. */
  configure(backup?: Partial<NonNullable<Config["backup"]>>, environments?: Config["environments"]): Promise<Settings>;
  /** Runs the verb to its end, whatever that is. */
  backup(words: readonly string[], environment?: Environment): Promise<Result>;
  /** The same, without waiting for it. */
  start(words: readonly string[], environment?: Environment): Promise<Started>;
  /** Likewise `bun scripts/restore.ts`. */
  restore(words: readonly string[], environment?: Environment): Promise<Result>;
  startRestore(words: readonly string[], environment?: Environment, onLine?: OnLine): Promise<Started>;
  /** Likewise `bun scripts/migrate.ts`. */
  migrate(words: readonly string[], environment?: Environment): Promise<Result>;
  startMigrate(words: readonly string[], environment?: Environment, onLine?: OnLine): Promise<Started>;
  /** The bucket as the settings of the last configure() have it. */
  store(): Promise<Store>;
  /** In the project's database, or another one. @returns what psql prints, without decoration. */
  sql(statements: string, database?: string): Promise<string>;
  /** What all runs have printed. */
  printed(): string;
  remove(): Promise<void>;
};

/** @param overlay one more Compose file, over all others. */
export async function createBackupProject(
  folder: string,
  { overlay }: { overlay?: string } = {},
): Promise<BackupProject> {
  const engine = await startEngine();
  const clients = (await postgresEnvironment()).PATH.split(":")[0]!;
  const password = `pa$$ ${randomBytes(12).toString("hex")}`;
  const passphrase = `ü "'$ ${randomBytes(16).toString("base64")}`;
  const temporary = join(folder, "tmp");
  mkdirSync(temporary, { recursive: true });
  const [project, s3] = await Promise.all([createProject({ environment: { POSTGRES_PASSWORD: password } }), startS3()]);
  await Promise.all([linkPackages(project.directory), s3.createBucket("backups")]);
  await project.setEnvironment({ COMPOSE_PROJECT_NAME: project.name });
  if (overlay) {
    await project.write("compose/test.yaml", overlay);
    await project.setEnvironment({ COMPOSE_FILE: "compose.yaml:compose/development.yaml:compose/test.yaml" });
  }
  await project.compose(["up", "--detach", "--wait", "postgres"]);
  const port = /^POSTGRES_PORT=(\d+)$/m.exec(readFileSync(join(project.directory, ".env"), "utf8"))![1]!;
  const environment: Environment = {
    ...engine.environment,
    ...{ TMPDIR: temporary, GNUPGHOME: join(folder, "nobody"), PGHOST: undefined, NO_COLOR: "1", CI: undefined },
    PATH: `${clients}:${engine.environment.PATH}`,
    BACKUP_ACCESS_KEY_ID: s3.accessKeyId,
    BACKUP_SECRET_ACCESS_KEY: s3.secretAccessKey,
    BACKUP_PASSPHRASE: passphrase,
  };
  const template = readFileSync(join(project.directory, "dbops.config.ts"), "utf8");
  const user = "dbops_app";
  let settings: Settings;
  let printed = "";
  const stores: Store[] = [];
  const command = (verb: "backup" | "restore" | "migrate", words: readonly string[], changes: Environment = {}) => ({
    argv: [process.execPath, `scripts/${verb}.ts`, ...words],
    directory: project.directory,
    environment: { ...environment, ...changes },
  });
  const runVerb = async (...args: Parameters<typeof command>): Promise<Result> => {
    const result = await run({ ...command(...args), accept: [0, 1, 2, 3, 4, 5, 130], timeoutSeconds: 120 });
    printed += result.stdout + result.stderr;
    return result;
  };
  const startVerb = async (program: ReturnType<typeof command>, onLine: OnLine = () => {}): Promise<Started> => {
    const said = { stdout: "", stderr: "" };
    const listen: OnLine = (line, stream) => {
      said[stream] += `${line}\n`;
      printed += `${line}\n`;
      onLine(line, stream);
    };
    return Object.assign(await start({ ...program, ownGroup: true, onLine: listen }), { said });
  };
  return {
    ...{ project, s3, passphrase, environment, secrets: [password, passphrase, s3.secretAccessKey] },
    postgres: {
      ...{ PATH: environment.PATH!, PGHOST: "127.0.0.1", PGPORT: port, PGUSER: user, PGPASSWORD: password },
    },
    url: `postgres://${user}@127.0.0.1:${port}/${user}`,
    async configure(backup = {}, environments) {
      const whole = { bucket: "backups", endpoint: s3.endpoint, ...backup };
      const text = template
        .replace("  deploy: {", `  backup: ${JSON.stringify(whole)},\n  deploy: {`)
        .replace(/environments: \{[\s\S]*?\n {2}\},/, (own) =>
          environments ? `environments: ${JSON.stringify(environments)},` : own,
        );
      await project.write("dbops.config.ts", text);
      // Not imported: a module is read once.
      const rest = { app: { command: ["bun"], port: 3000 }, schema: { criticalTables: [], extensions: [] } };
      settings = parseConfig({
        ...rest,
        name: "dbops-app",
        database: user,
        environments: { local: {} },
        backup: whole,
      });
      return settings;
    },
    backup: (words, changes) => runVerb("backup", words, changes),
    start: (words, changes) => startVerb(command("backup", words, changes)),
    restore: (words, changes) => runVerb("restore", words, changes),
    startRestore: (words, changes, onLine) => startVerb(command("restore", words, changes), onLine),
    migrate: (words, changes) => runVerb("migrate", words, changes),
    startMigrate: (words, changes, onLine) => startVerb(command("migrate", words, changes), onLine),
    async store() {
      const store = await openStore(settings.backup!, s3);
      stores.push(store);
      return store;
    },
    async sql(statements, database = user) {
      const words = [
        "exec",
        "--interactive",
        project.container("postgres"),
        "psql",
        "--username",
        user,
        "--dbname",
        database,
      ];
      const how = ["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1"];
      return (await project.docker([...words, ...how], { stdin: statements })).stdout.trim();
    },
    printed: () => printed,
    async remove() {
      for (const store of stores) store.close();
      await Promise.all([project.remove(), s3.stop()]);
    },
  };
}
