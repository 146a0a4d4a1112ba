// Drift: a database with an integer history, a column that somebody made by hand and an index that was never finished is checked, repaired
// and checked again. What is printed in between is what the verbs print.
import { compose } from "../../scripts/lib/docker.ts";
import { exitCodes, Failure } from "../../scripts/lib/failure.ts";
import { run, start } from "../../scripts/lib/run.ts";
import { phase } from "../../scripts/lib/terminal.ts";
import { untilAborted } from "../../scripts/lib/wait.ts";
import { type DemoProject, withProject } from "./project.ts";
import type { Scene, Stage } from "./scene.ts";

export const drift: Scene = {
  shows: "a database that is not what its migrations make: found, repaired, proven",
  async play(stage) {
    if (stage.engine === "embedded") {
      const why = "migrations are tried in a container, so --engine embedded makes no sense";
      throw new Failure("Cannot show drift", why, ["npm run demo -- --drift"], { exitCode: exitCodes.usage });
    }
    return await withProject({ ...stage, engine: "docker" }, (project) => show({ project, ...stage }));
  },
};

type Show = Stage & { project: DemoProject };

/** Numbers of differences. */
type Result = { before: number; repaired: number; after: number };

/** What an older tool and two people in a hurry have left. */
const years = `
drop table schema_migrations;
create table schema_migrations (version integer primary key);
insert into schema_migrations values (1), (2), (3), (4);
alter table accounts add column nickname text;
insert into accounts (email, password_hash, nickname) values ('a@example.com', '', 'A'), ('b@example.com', '', 'A');
`;
const unfinished = "create unique index concurrently accounts_nickname_key on accounts (nickname);";

async function show(stage: Show): Promise<{ exitCode: number }> {
  phase("Postgres, with all migrations applied");
  await inStack(stage, ["up", "--detach", "--wait", "postgres"]);
  await inStack(stage, ["run", "--rm", "--no-deps", "--no-TTY", "migrations"]);

  phase("years go by: a history of numbers, a column made by hand, an index that could not be made");
  await sql(stage, years);
  await sql(stage, unfinished).catch((error: Failure) => {
    console.error(`    ${error.details?.split("\n").find((line) => line.startsWith("ERROR")) ?? error.message}`);
  });

  phase("is the database what migrations/ make of it?");
  const before = await act(stage, ["check"], exitCodes.saidNo);
  phase("what was done by hand shall stay, and become a migration");
  const repaired = await act(stage, ["repair", "--keep", "database", "--no-backup", "--yes"], exitCodes.done);
  phase("and now?");
  const after = await act(stage, ["check"], exitCodes.done);

  const result: Result = {
    before: before.differences as number,
    repaired: repaired.repaired as number,
    after: after.differences as number,
  };
  const summary = `\n${result.before} differences before, ${result.repaired} repaired, ${result.after} after.`;
  console.log(stage.json ? JSON.stringify(result) : summary);
  if (!stage.once && !stage.json) tellWhatStays(stage);
  return { exitCode: result.after === 0 && result.before === result.repaired ? exitCodes.done : exitCodes.failed };
}

/** The verb, printed as typed, and what it says: to people, and as its document. */
async function act(stage: Show, words: readonly string[], expected: number): Promise<Record<string, unknown>> {
  console.error(`$ bun scripts/drift.ts ${words.join(" ")}`);
  const { code, stdout } = await drifts(stage, [...words, "--json"]);
  // Once more for people: what it says to them it says on stdout, and a repair has nothing left to say then.
  if (words[0] === "check") await drifts(stage, words, (line) => console.error(line));
  if (code !== expected) {
    throw new Failure(`"bun scripts/drift.ts ${words.join(" ")}" went wrong`, `it ended with ${code}, not ${expected}`);
  }
  return JSON.parse(stdout) as Record<string, unknown>;
}

async function drifts({ project, interrupted }: Show, words: readonly string[], onStdout?: (line: string) => void) {
  interrupted.throwIfAborted();
  const stdout: string[] = [];
  const program = await start({
    argv: [process.execPath, "scripts/drift.ts", ...words],
    directory: project.directory,
    environment: project.environment,
    onLine(line, stream) {
      if (stream === "stderr") return console.error(line);
      stdout.push(line);
      onStdout?.(line);
    },
    ownGroup: true,
  });
  await Promise.race([program.ended, untilAborted(interrupted)]);
  // It removes what it has begun before it goes.
  if (interrupted.aborted) await program.stop("SIGTERM", 60);
  const code = await program.ended;
  interrupted.throwIfAborted();
  return { code, stdout: stdout.join("\n") };
}

async function sql(stage: Show, statements: string): Promise<void> {
  const psql = 'psql --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" -qtA --set=ON_ERROR_STOP=1';
  await inStack(stage, ["exec", "--no-TTY", "postgres", "sh", "-c", psql], statements);
}

async function inStack({ project, interrupted }: Show, words: readonly string[], stdin?: string): Promise<void> {
  interrupted.throwIfAborted();
  const { directory, environment } = project;
  const command = compose({ directory, environment }, words, { environment, timeoutSeconds: 180 });
  await run({ ...command, ...(stdin !== undefined && { stdin }) });
}

function tellWhatStays({ project }: Show): void {
  console.error(
    [
      "",
      "The database stays. From here:",
      `  cd ${project.directory}`,
      "  cat migrations/*keep_what_the_database_has.sql",
      "  npx bun scripts/drift.ts check",
      "Afterwards: npm run demo -- --down",
    ].join("\n"),
  );
}
