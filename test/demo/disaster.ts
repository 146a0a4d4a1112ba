// A backup, a disaster, a restore: the volume of the database is removed for good, and what comes back on a new one is compared with
// what was there, row by row. Eight clients ask the database all the while. What is printed in between is what the verbs print.
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { compose } from "../../scripts/lib/docker.ts";
import { readEnvironment } from "../../scripts/lib/environment.ts";
import { exitCodes, Failure } from "../../scripts/lib/failure.ts";
import { run, start } from "../../scripts/lib/run.ts";
import { phase } from "../../scripts/lib/terminal.ts";
import { untilAborted } from "../../scripts/lib/wait.ts";
import { type Reached, startClients } from "../lab/clients.ts";
import { requireDebian } from "../lab/debian-sources.ts";
import { type S3, startS3 } from "../lab/s3.ts";
import { formatSummary, type Result } from "./disaster-summary.ts";
import { type DemoProject, withProject } from "./project.ts";
import type { Scene, Stage } from "./scene.ts";

export const disaster: Scene = {
  shows: "a backup, a lost database volume, a restore: root on Debian",
  async play(stage) {
    requireStorage(stage);
    return await withProject({ ...stage, engine: "docker" }, async (project) => {
      phase("a storage server with a bucket");
      const s3 = await startS3();
      try {
        stage.interrupted.throwIfAborted();
        return await show({ project, s3, ...stage });
      } finally {
        await s3.stop();
      }
    });
  },
};

function requireStorage({ engine }: Stage): void {
  if (engine === "embedded") {
    const why = "the volume that is lost is Docker's, so --engine embedded makes no sense";
    const next = ["npm run demo -- --disaster"];
    throw new Failure("Cannot show a disaster", why, next, { exitCode: exitCodes.usage });
  }
  try {
    requireDebian();
  } catch (cause) {
    const why = "it is made of Debian's packages, and that takes root on Debian with apt-get";
    const next = ["npm run demo    # shows what needs neither"];
    throw new Failure("Cannot bring up a storage server", why, next, { exitCode: exitCodes.usage, cause });
  }
}

type Show = Stage & { project: DemoProject; s3: S3; environment?: Record<string, string> };

async function show(stage: Show): Promise<{ exitCode: number }> {
  await configureBackups(stage);
  phase("the stack comes up, and sells something");
  await act(stage, "up", ["--engine", "docker"]);
  await sql(stage, sales);
  const before = await contents(stage);

  phase("a backup");
  const { seconds: backupSeconds, document } = await act(stage, "backup", ["--label", "before the disaster"]);

  phase("the disaster: the containers and the database's volume are removed, for good");
  await run(command(stage, ["down", "--volumes"]));
  phase("a new server, empty");
  await act(stage, "up", ["--engine", "docker"]);
  const lost = await contents(stage);

  phase("the restore, while eight clients ask the new database without pause");
  const { seconds: restoreSeconds, interruptionMs } = await restoreUnderClients(stage);
  const after = await contents(stage);

  const result: Result = {
    bytes: document.databaseBytes as number,
    backupSeconds,
    restoreSeconds,
    interruptionMs,
    rowsEqual: after === before && lost !== before,
  };
  console.log(stage.json ? JSON.stringify(result) : formatSummary(result, { before, lost, after }));
  if (!result.rowsEqual) return { exitCode: exitCodes.failed };
  if (!stage.once) await stay(stage);
  return { exitCode: exitCodes.done };
}

/** 150,000 orders and what people looked at: some 100 MB. */
const sales = `
create table orders (id bigint generated always as identity primary key, customer text not null, total numeric not null, placed_at timestamptz not null);
insert into orders (customer, total, placed_at)
  select 'user' || n % 9000 || '@example.com', (n * 37 % 100000) / 100.0, timestamptz '2026-01-01' + n * interval '3 minutes'
  from generate_series(1, 150000) n;
create table views (id bigint generated always as identity primary key, document jsonb not null);
insert into views (document)
  select jsonb_build_object('page', '/p/' || n % 500, 'session', md5((n / 9)::text), 'ms', n % 997) from generate_series(1, 500000) n;
`;

/** Every table with its rows and a hash of all that they hold, as "public.orders 150000 1f…"; not asked of the kit. */
const contentsQuery = `
select string_agg(format('%s %s', name, (xpath('/row/c/text()',
    query_to_xml(format('select count(*) || '' '' || coalesce(md5(string_agg(md5(t::text), '''' order by md5(t::text))), '''') as c from %s t', name), false, true, '')
  ))[1]), E'\\n' order by name)
from (select format('%I.%I', schemaname, tablename) as name from pg_tables where schemaname not in ('pg_catalog', 'information_schema')) t
`;

const contents = (stage: Show) => sql(stage, contentsQuery);

async function configureBackups({ project, s3 }: Show): Promise<void> {
  await s3.createBucket("backups");
  const file = join(project.directory, "dbops.config.ts");
  const text = await readFile(file, "utf8");
  await writeFile(
    file,
    text.replace("  deploy: {", `  backup: { bucket: "backups", endpoint: "${s3.endpoint}" },\n  deploy: {`),
  );
}

const environmentOf = ({ project, s3 }: Show): Record<string, string> => ({
  ...project.environment,
  BACKUP_ACCESS_KEY_ID: s3.accessKeyId,
  BACKUP_SECRET_ACCESS_KEY: s3.secretAccessKey,
  BACKUP_PASSPHRASE: "correct horse battery staple",
});

/** A verb, printed as typed, and all that it prints. @returns what it took, and its document. */
async function act(stage: Show, verb: string, words: readonly string[], onLine: (line: string) => void = () => {}) {
  const { project, interrupted } = stage;
  interrupted.throwIfAborted();
  const typed = words.map((word) => (word.includes(" ") ? `"${word}"` : word)).join(" ");
  console.error(`$ bun scripts/${verb}.ts ${typed}`);
  const stdout: string[] = [];
  const begun = performance.now();
  const program = await start({
    argv: [process.execPath, `scripts/${verb}.ts`, ...words, "--json"],
    directory: project.directory,
    environment: environmentOf(stage),
    onLine(line, stream) {
      if (stream === "stdout") return void stdout.push(line);
      console.error(line);
      onLine(line);
    },
    ownGroup: true,
  });
  await Promise.race([program.ended, untilAborted(interrupted)]);
  const seconds = Math.round((performance.now() - begun) / 10) / 100;
  // It removes what it has begun before it goes.
  if (interrupted.aborted) await program.stop("SIGTERM", 60);
  const code = await program.ended;
  interrupted.throwIfAborted();
  if (code !== 0) throw new Failure(`"bun scripts/${verb}.ts ${typed}" went wrong`, `it ended with ${code}`);
  return { seconds, document: JSON.parse(stdout.join("\n")) as Record<string, unknown> };
}

async function restoreUnderClients(stage: Show): Promise<{ seconds: number; interruptionMs: number }> {
  const clients = await startClients(await reached(stage), 8);
  try {
    // While it loads, the clients wait for a processor now and then; from here on they wait for the swap.
    const onLine = (line: string) => void (/done +validate/.test(line) && clients.mark());
    const { seconds } = await act(stage, "restore", ["latest", "--yes", "--no-safety-backup"], onLine);
    await clients.allServed();
    const { longestGapMilliseconds, failed } = await clients.stop();
    console.error(
      `    eight clients: ${failed} queries failed, the longest wait was ${longestGapMilliseconds.toFixed(0)} ms`,
    );
    return { seconds, interruptionMs: Math.round(longestGapMilliseconds) };
  } finally {
    await clients.stop().catch(() => {});
  }
}

async function reached({ project }: Show): Promise<Reached> {
  const values = await readEnvironment(join(project.directory, ".env"));
  return {
    host: "127.0.0.1",
    port: Number(values.POSTGRES_PORT),
    user: values.POSTGRES_USER!,
    password: values.POSTGRES_PASSWORD!,
    database: values.POSTGRES_DB!,
  };
}

async function sql(stage: Show, statements: string): Promise<string> {
  stage.interrupted.throwIfAborted();
  const psql = 'psql --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" -qtA --set=ON_ERROR_STOP=1';
  const words = ["exec", "--no-TTY", "postgres", "sh", "-c", psql];
  return (await run({ ...command(stage, words), stdin: statements })).stdout.trim();
}

function command({ project }: Show, words: readonly string[]) {
  const { directory, environment } = project;
  return compose({ directory, environment }, words, { environment, timeoutSeconds: 180 });
}

/** Until Ctrl-C: with the storage server goes the bucket. */
async function stay(stage: Show): Promise<void> {
  const names = ["BACKUP_ACCESS_KEY_ID", "BACKUP_SECRET_ACCESS_KEY", "BACKUP_PASSPHRASE"] as const;
  const environment = environmentOf(stage);
  console.error(
    [
      "",
      "The stack and the bucket stay until Ctrl-C. From another terminal:",
      `  cd ${stage.project.directory}`,
      `  export ${names.map((name) => `${name}='${environment[name]}'`).join(" ")}`,
      "  npx bun scripts/backup.ts list",
      "  npx bun scripts/restore.ts --undo",
      "Afterwards: npm run demo -- --down",
    ].join("\n"),
  );
  await untilAborted(stage.interrupted);
}
