// What `migrate up` costs where there is nothing to do, which is most of the time, beside dbmate alone: once in the Compose stack, where
// dbmate is a container, and once with the program of npm. And `migrate verify` of a hundred files.
import { join } from "node:path";
import { run } from "../../scripts/lib/run.ts";
import { postgresEnvironment } from "../lab/debian-programs.ts";
import { startEngine } from "../lab/engine.ts";
import { migrateIn, migration, writeMigrations } from "../lab/migrate.ts";
import { startPostgres } from "../lab/postgres.ts";
import { createProject, type Project } from "../lab/project.ts";
import { linkPackages } from "../lab/project-files.ts";
import { programs } from "../lab/repository.ts";

const rounds = 15;

export async function bench(): Promise<void> {
  const { environment } = await startEngine();
  const project = await createProject();
  try {
    await project.setEnvironment({ COMPOSE_PROJECT_NAME: project.name });
    await linkPackages(project.directory);
    await project.compose(["up", "--detach", "--wait", "postgres"]);
    const { run: migrate } = migrateIn({ directory: project.directory, environment });
    await migrate(["up"]);
    const alone = () => project.compose(["run", "--rm", "--no-deps", "migrations"]);
    await compare("in the stack", alone, () => migrate(["up"]));
    await benchDirect(project);
    await benchVerify(project, environment);
  } finally {
    await project.remove();
  }
}

/** With the same files. */
async function benchDirect({ directory }: Project): Promise<void> {
  const server = await startPostgres();
  try {
    const url = `postgres://${server.user}@127.0.0.1:${server.port}/${server.database}`;
    // Not through the lab's, which takes its time to find its libraries.
    const own = Bun.which("psql") ? process.env.PATH! : (await postgresEnvironment()).PATH;
    const environment = { PATH: own, PGPASSWORD: server.password };
    const { run: migrate } = migrateIn({ directory, environment, words: ["--database-url", url, "--yes"] });
    await migrate(["up"]);
    const dbmate = join(programs, "..", "@dbmate", `${process.platform}-${process.arch}`, "bin", "dbmate");
    const argv = [
      dbmate,
      "--url",
      `${url}?sslmode=disable`,
      "--no-dump-schema",
      "--migrations-dir",
      "migrations",
      "up",
      "--strict",
    ];
    await compare(
      "with the program of npm",
      () => run({ argv, directory, environment }),
      () => migrate(["up"]),
    );
  } finally {
    await server.stop();
  }
}

async function compare(where: string, dbmate: () => Promise<unknown>, ours: () => Promise<unknown>): Promise<void> {
  // In turns, so that whatever else the machine does meets both.
  const milliseconds: [number[], number[]] = [[], []];
  for (let round = 0; round < rounds; round++) {
    milliseconds[0].push(await timed(dbmate));
    milliseconds[1].push(await timed(ours));
  }
  const [alone, up] = milliseconds.map((all) => all.sort((a, b) => a - b)[Math.floor(rounds / 2)]!) as [number, number];
  const difference = `${up > alone ? "+" : ""}${(up - alone).toFixed(0)} ms`;
  console.log(
    `nothing pending, ${where}: migrate up ${up.toFixed(0)} ms, dbmate alone ${alone.toFixed(0)} ms (${difference})`,
  );
}

async function benchVerify({ directory }: Project, environment: Record<string, string>): Promise<void> {
  const files = Array.from({ length: 100 }, (_, index) => {
    const number = `${index + 1}`.padStart(3, "0");
    const sql = `create table t${number} (id bigint primary key, note text);\ncreate index t${number}_note on t${number} (note);`;
    return [`20260101000${number}_t${number}.sql`, migration(sql, { down: `drop table t${number};` })] as const;
  });
  await writeMigrations(directory, Object.fromEntries(files));
  const { run: migrate } = migrateIn({ directory, environment });
  const dump = await timed(() => migrate(["dump", "--yes"]));
  const verify = await timed(() => migrate(["verify", "--no-incremental"]));
  console.log(
    `100 files: migrate dump ${(dump / 1000).toFixed(2)} s, migrate verify --no-incremental ${(verify / 1000).toFixed(2)} s, each with a new container`,
  );
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await work();
  return performance.now() - started;
}
