// `up` as people meet it without Docker: it comes up, keeps its data, ends cleanly, and says what is wrong.
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readFileSync, statSync } from "node:fs";
import { chmod, mkdir, rm, symlink, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { readEnvironment } from "../../scripts/lib/environment.ts";
import { type Connection, withConnection } from "../../scripts/lib/postgres.ts";
import { run } from "../../scripts/lib/run.ts";
import { processesIn } from "../lab/processes.ts";
import { createStackProject, type RunningUp, type StackProject } from "../lab/stack.ts";

setDefaultTimeout(180_000);

let project: StackProject;
beforeAll(async () => {
  project = await createStackProject();
});
afterAll(async () => {
  await project.remove();
  expect(processesIn(project.directory)).toEqual([]);
});

const embedded = ["--engine", "embedded"];
const data = () => join(project.directory, ".dbops", "embedded", "data");

async function connection(): Promise<Connection> {
  const { POSTGRES_USER, POSTGRES_PASSWORD, POSTGRES_DB } = await readEnvironment(join(project.directory, ".env"));
  const port = Number(project.environment.POSTGRES_PORT);
  return { host: "127.0.0.1", port, user: POSTGRES_USER!, password: POSTGRES_PASSWORD!, database: POSTGRES_DB! };
}

const query = async (text: string) => await withConnection(await connection(), (sql) => sql.unsafe(text));
const kept = async () => (await query("select value from kept")).map(({ value }) => value);
const get = (path: string) => fetch(`${project.url}${path}`, { signal: AbortSignal.timeout(5000) });

async function startReady(runtime?: "bun" | "deno"): Promise<RunningUp> {
  const up = await project.start(embedded, runtime);
  await up.until(" is up at ");
  return up;
}

describe("a day with up", () => {
  test("a fresh clone without .env comes up, under Bun, even if initdb was killed before", async () => {
    await mkdir(join(data(), "..", "data.unfinished"), { recursive: true });
    await writeFile(join(data(), "..", "data.unfinished", "PG_VERSION"), "18\n");
    expect(existsSync(join(project.directory, ".env"))).toBe(false);
    const up = await startReady();
    expect(statSync(join(project.directory, ".env")).mode & 0o777).toBe(0o600);
    const answers = await Promise.all(["/health", "/health/ready", "/health/database", "/api/health/db"].map(get));
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200]);
    expect(await answers[2]!.json()).toMatchObject({ status: "healthy", schema: { all_tables_exist: true } });
    await query("create table kept (value text); insert into kept values ('since yesterday')");
    const { POSTGRES_PASSWORD } = await readEnvironment(join(project.directory, ".env"));
    expect(up.lines.join("\n")).not.toContain(POSTGRES_PASSWORD!);

    process.kill(up.pid, "SIGINT");
    expect(await up.ended).toBe(0);
    expect(processesIn(project.directory)).toEqual([]);
  });

  test("a second up, under Deno, keeps the data; another one beside it is refused", async () => {
    const up = await startReady("deno");
    expect(await kept()).toEqual(["since yesterday"]);
    const second = await project.up(embedded);
    expect(second.exitCode).toBe(4);
    expect(second.stderr).toContain(
      `This project is up already: process ${up.pid} runs it\n  next: bun scripts/up.ts --down`,
    );
    expect((await get("/health")).status).toBe(200);
    process.kill(up.pid, "SIGTERM");
    expect(await up.ended).toBe(0);
  });

  test("--down ends it from another terminal; what a shell says of other servers leads nobody there", async () => {
    const others = { PGSSLMODE: "verify-full", PGHOSTADDR: "127.0.0.9", PGSERVICE: "nope", PGREQUIREAUTH: "none" };
    Object.assign(project.environment, others);
    const up = await startReady().finally(() => {
      for (const name of Object.keys(others)) delete project.environment[name];
    });
    const down = await project.up([...embedded, "--down"]);
    expect(down).toMatchObject({ exitCode: 0, stdout: "==> stop app and postgres\n" });
    expect(await up.ended).toBe(0);
    expect(processesIn(project.directory)).toEqual([]);
    expect(await project.up([...embedded, "--down"])).toMatchObject({ exitCode: 0, stdout: "==> nothing to do\n" });
  });

  test("--plan changes nothing", async () => {
    const plan = await project.up([...embedded, "--plan"]);
    expect(plan.stdout).toContain(`==> up ${project.name}: engine embedded, as asked\n`);
    expect(existsSync(join(project.directory, ".dbops", "embedded", "up.json"))).toBe(false);
  });
});

describe("when something dies", () => {
  test("kill -9 of up leaves orphans, and the next up takes their place with all data", async () => {
    const killed = await startReady();
    process.kill(killed.pid, "SIGKILL");
    await killed.ended;
    const orphans = processesIn(project.directory).join("\n");
    expect(orphans).toContain("bin/postgres -D ");
    expect(orphans).toContain("app/main.ts");

    const up = await startReady();
    expect(up.lines.join("\n")).toContain("stopped an app that a killed `up` had left running");
    expect(await kept()).toEqual(["since yesterday"]);
    process.kill(up.pid, "SIGKILL");
    await up.ended;
    await project.up([...embedded, "--down"]);
    expect(processesIn(project.directory)).toEqual([]);
  });

  test("kill -9 of postgres, or of the app, ends the rest with exit 1", async () => {
    for (const [victim, sentence] of [
      ["postgres", "Postgres has ended by itself: by SIGKILL"],
      ["app", "The app has ended by itself: by SIGKILL"],
    ] as const) {
      const up = await startReady();
      process.kill(victim === "app" ? pidOfApp() : pidOfPostgres(), "SIGKILL");
      expect(await up.ended).toBe(1);
      expect(up.lines.join("\n")).toContain(sentence);
      expect(processesIn(project.directory)).toEqual([]);
    }
  });

  test("an interruption at any time stops what was started", async () => {
    for (const words of ["postgres on port", "dbmate up", "app/main.ts on port"]) {
      const up = await project.start(embedded);
      await up.until(words);
      process.kill(up.pid, "SIGINT");
      // The last phase may be over before the signal arrives: then it was up, and ended as it should.
      expect(words.includes("main.ts") ? [130, 0] : [130]).toContain((await up.ended) as number);
      expect(processesIn(project.directory)).toEqual([]);
    }
  });

  test("a lock file that names a stranger does not stand in the way", async () => {
    // As after a power cut: the number belongs to somebody else by now, here to this test.
    await writeFile(join(data(), "postmaster.pid"), `${process.pid}\n${data()}\n`);
    const { exitCode, stdout } = await project.up([...embedded, "--once", "--json"]);
    expect({ exitCode, ...JSON.parse(stdout) }).toMatchObject({
      exitCode: 0,
      engine: "embedded",
      health: { status: "healthy" },
    });
  });
});

test("a full disk for its log does not end it", async () => {
  const log = join(data(), "..", "postgres.log");
  await rm(log);
  await symlink("/dev/full", log);
  const { exitCode, stderr } = await project.up([...embedded, "--once"]);
  await rm(log);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
});

describe("when it cannot come up", () => {
  test("a failing migration is named with its SQL error, and the app never starts", async () => {
    const file = "migrations/20990101000000_broken.sql";
    await project.write(file, "-- migrate:up\ncreate tabel x ();\n-- migrate:down\n");
    const { exitCode, stdout, stderr } = await project.up(embedded);
    await rm(join(project.directory, file));
    expect({ exitCode, stdout }).toEqual({ exitCode: 1, stdout: "" });
    expect(stderr).toContain(`Cannot apply ${file}:2: syntax error at or near "tabel" (42601)\n`);
    expect(stderr).not.toContain("app/main.ts on port");
    expect(processesIn(project.directory)).toEqual([]);
  });

  test.each([
    ["unversioned.sql", 'dbmate skips the migration "unversioned.sql"'],
    ["20990101000000_one.sql", "have the version 20990101000000"],
  ])("migrations/ that dbmate would not apply as it stands is exit 2 before anything starts: %s", async (file, why) => {
    const files = [file, file.replace("_one", "_two")].map((name) => `migrations/${name}`);
    for (const path of files) await project.write(path, "-- migrate:up\nselect 1;\n-- migrate:down\n");
    const { exitCode, stdout, stderr } = await project.up(embedded);
    for (const path of files) await rm(join(project.directory, path), { force: true });
    expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: "" });
    expect(stderr).toStartWith("Cannot read migrations/: ");
    expect(stderr).toContain(why);
    expect(stderr).toEndWith("  next: ls migrations\n  next: cd to the project's root\n");
  });

  test.each([
    ["HTTP_PORT", "127.0.0.1"],
    ["HTTP_PORT", "::1"],
    ["POSTGRES_PORT", "127.0.0.1"],
  ] as const)("a taken port is exit 2 and names %s, %s", async (variable, host) => {
    const port = Number(project.environment[variable]);
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(port, host, resolve));
    const { exitCode, stderr } = await project.up(embedded).finally(() => server.close());
    expect(exitCode).toBe(2);
    expect(stderr).toEndWith(
      `Cannot use port ${port}: another program listens on it\n  next: set ${variable} in .env to another port, for instance ${port + 1}\n  read: docs/runbook/port-is-taken.md\n`,
    );
  });

  test("another password than the one the data was made with is exit 2", async () => {
    const file = join(project.directory, ".env");
    const before = readFileSync(file, "utf8");
    await writeFile(file, before.replace(/^POSTGRES_PASSWORD=.*$/m, "POSTGRES_PASSWORD=other"));
    const { exitCode, stderr } = await project.up(embedded);
    await writeFile(file, before);
    expect(exitCode).toBe(2);
    expect(stderr).toContain('Cannot log in to Postgres: password authentication failed for user "app"; the data in ');
    expect(stderr).toEndWith("  next: put the earlier values back into .env\n  read: docs/runbook/wrong-password.md\n");
    expect(processesIn(project.directory)).toEqual([]);
  });

  test("a lost .env is not replaced while there is data, and --plan and --down write none", async () => {
    const file = join(project.directory, ".env");
    const before = readFileSync(file, "utf8");
    await rm(file);
    const refused = await project.up(embedded);
    const others = [await project.up([...embedded, "--plan"]), await project.up([...embedded, "--down"])];
    const written = existsSync(file);
    await writeFile(file, before, { mode: 0o600 });
    expect(written).toBe(false);
    expect(refused.exitCode).toBe(5);
    expect(refused.stderr).toMatch(
      /Cannot make a new \.env: the data of this project was made with another password\n {2}\| \S+\/data\n {2}next: put the earlier \.env back\n {2}read: docs\/runbook\/wrong-password\.md\n$/,
    );
    expect(others.map(({ exitCode }) => exitCode)).toEqual([0, 0]);
  });

  test("data of another major version is exit 2", async () => {
    await writeFile(join(data(), "PG_VERSION"), "17\n");
    const { exitCode, stderr } = await project.up(embedded);
    await writeFile(join(data(), "PG_VERSION"), "18\n");
    expect(exitCode).toBe(2);
    expect(stderr).toContain("Cannot start Postgres: its data was written by another major version");
  });

  test("missing packages are exit 2 with the command that installs them", async () => {
    const modules = join(project.directory, "node_modules");
    await rm(modules);
    await mkdir(modules);
    const validator = { argv: [process.execPath, "scripts/validator.ts"], directory: project.directory, accept: [2] };
    const results = [await project.up(embedded, "bun"), await project.up(embedded, "deno"), await run(validator)];
    await rm(modules, { recursive: true });
    for (const { exitCode, stderr } of results) {
      expect({ exitCode, stderr }).toMatchObject({ exitCode: 2 });
      expect(stderr).toMatch(
        /^Cannot run this verb: npm package "\S+" is not installed here\n {2}next: (bun|deno) install\n$/,
      );
    }
  });
});

test("deleting the data needs a yes, and then leaves nothing", async () => {
  const refused = await project.up([...embedded, "--down", "--volumes"]);
  expect(refused.exitCode).toBe(5);
  expect(refused.stderr).toContain(`This deletes the database of ${project.name} for good: ${join(data(), "..")}`);
  expect(existsSync(data())).toBe(true);
  expect((await project.up([...embedded, "--down", "--volumes", "--yes"])).exitCode).toBe(0);
  expect(existsSync(join(data(), ".."))).toBe(false);
});

test("a project of runtime deno in a folder that only its owner may enter", async () => {
  const closed = await createStackProject({ runtime: "deno" });
  try {
    await chmod(closed.directory, 0o700);
    const { exitCode, stdout, stderr } = await closed.up([...embedded, "--once", "--json"], "deno");
    expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
    expect(JSON.parse(stdout)).toMatchObject({ health: { status: "healthy" } });
    expect(stderr).toContain("==> deno run");
    // Root cannot run Postgres as itself, and another user cannot enter the folder.
    const elsewhere =
      /data and log are in (\S+); removing the project does not remove them, deno run -A scripts\/up\.ts --down --volumes does/.exec(
        stderr,
      )?.[1];
    if (process.getuid?.() === 0) expect(elsewhere).toStartWith("/var/lib/dbops/");
    else expect(elsewhere).toBeUndefined();
    await closed.up([...embedded, "--down", "--volumes", "--yes"]);
    expect(existsSync(elsewhere ?? join(closed.directory, ".dbops", "embedded"))).toBe(false);
  } finally {
    await closed.remove();
  }
});

function pidOfPostgres(): number {
  return Number(readFileSync(join(data(), "postmaster.pid"), "utf8").split("\n")[0]);
}

function pidOfApp(): number {
  return JSON.parse(readFileSync(join(data(), "..", "up.json"), "utf8")).app.pid as number;
}
