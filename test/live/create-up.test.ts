// What the scaffolder has written comes up: its own starter with --up, and an app of theirs after what it told them.
import { expect, setDefaultTimeout, test } from "bun:test";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { dataHome } from "../../scripts/lib/embedded-home.ts";
import { run, start } from "../../scripts/lib/run.ts";
import { until } from "../lab/observe.ts";
import { freePort } from "../lab/postgres.ts";
import { linkPackages } from "../lab/project-files.ts";
import { programs, repository } from "../lab/repository.ts";
import { cleanEnvironment } from "../lab/scaffolder.ts";

setDefaultTimeout(120_000);

const program = [process.execPath, join(repository, "create", "main.ts")];

/** Open to everybody: in a closed folder, root would keep the data of an embedded Postgres elsewhere. */
function makeProject(prefix: string): string {
  const project = mkdtempSync(join(tmpdir(), prefix));
  chmodSync(project, 0o755);
  return project;
}

/** Then removing the project leaves nothing behind. */
async function expectDataWithin(project: string): Promise<void> {
  const home = join(project, ".dbops", "embedded");
  expect(existsSync(home)).toBe(true);
  expect(await dataHome(home)).toBe(home);
}

test("--up brings the project up, and a SIGTERM to us takes all of it down", async () => {
  const project = makeProject("dbops-up-");
  const port = await freePort();
  const environment = cleanEnvironment({
    // No engine answers there: plain processes, so that this needs nothing but the packages.
    DOCKER_HOST: `unix://${project}/no-engine.sock`,
    PATH: `${programs}:${process.env.PATH}`,
    HTTP_PORT: `${port}`,
    POSTGRES_PORT: `${await freePort()}`,
  });
  const isServing = () => fetch(`http://127.0.0.1:${port}/health/ready`).then((answer) => answer.ok);
  const lines: string[] = [];
  const onLine = (line: string) => void lines.push(line);
  try {
    const argv = [...program, ".", "--name", "shop", "--yes", "--no-install"];
    await run({ argv, directory: project, environment });
    await linkPackages(project);
    const created = await start({ argv: [...argv, "--up"], directory: project, environment, onLine });
    // Ended earlier, it would say 130: interrupted before it was up.
    const isUp = async () => lines.some((line) => line.includes("shop is up at"));
    expect(await until(30, isUp), lines.join("\n")).toBe(true);
    const served = await isServing();
    await created.stop("SIGTERM", 20);
    expect({ served, exitCode: await created.ended, lines }).toMatchObject({ served: true, exitCode: 0 });
    expect(lines.find((line) => line.includes("nothing to do"))).toBeDefined();
    await expect(isServing()).rejects.toThrow();
    await expectDataWithin(project);
  } finally {
    rmSync(project, { recursive: true, force: true });
  }
});

const theirServer = `import postgres from "postgres";
import config from "../dbops.config.ts";
import { healthRoutes, validateOrExit } from "../scripts/validator.ts";

const sql = postgres();
await validateOrExit(sql, config.schema);
const health = healthRoutes(sql, config.schema);
const server = Bun.serve({
  hostname: "0.0.0.0",
  port: Number(process.env.PORT),
  fetch: async (request) => (await health(request)) ?? new Response("theirs"),
});
process.on("SIGTERM", () => server.stop().then(() => process.exit(0)));
`;

test("scaffold beside an app, name its command and its table, bring it up, take it down", async () => {
  const project = makeProject("dbops-own-app-");
  const write = (path: string, text: string) => writeFileSync(join(project, path), text);
  try {
    mkdirSync(join(project, "src"));
    write("src/server.ts", theirServer);
    write("package.json", '{\n  "name": "theirs"\n}\n');
    const argv = [...program, ".", "--name", "theirs", "--no-install", "--json"];
    const { notes } = JSON.parse((await run({ argv, directory: project, environment: cleanEnvironment() })).stdout);
    expect(notes).toContain(
      "set app.command and schema.criticalTables in dbops.config.ts, and write your tables into migrations/",
    );

    // What the notes ask for.
    await linkPackages(project);
    const config = readFileSync(join(project, "dbops.config.ts"), "utf8");
    const command = config.replace('["bun", "app/main.ts"]', '["bun", "src/server.ts"]');
    write("dbops.config.ts", command.replace("criticalTables: []", 'criticalTables: ["orders"]'));
    write(
      "migrations/20260201000000_orders.sql",
      "-- migrate:up\nCREATE TABLE orders ();\n\n-- migrate:down\nDROP TABLE orders;\n",
    );

    const up = await run({
      argv: [process.execPath, "scripts/up.ts", "--engine", "embedded", "--once", "--json"],
      directory: project,
      environment: cleanEnvironment({ HTTP_PORT: `${await freePort()}`, POSTGRES_PORT: `${await freePort()}` }),
    });
    expect(JSON.parse(up.stdout)).toMatchObject({
      engine: "embedded",
      health: {
        status: "healthy",
        migrations: { applied: ["20260101090000", "20260201000000"] },
        schema: { critical_tables: [{ name: "orders", exists: true }] },
      },
    });
    await expectDataWithin(project);
  } finally {
    rmSync(project, { recursive: true, force: true });
  }
});
