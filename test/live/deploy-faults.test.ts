// Everything that can be wrong with a release, its files, its server or the way there. Each time the old version serves every
// request of a load that goes on throughout, the message is the whole one, nothing stays behind on the server, and the next
// good deploy succeeds.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { archive } from "../../scripts/lib/archive.ts";
import { migrate } from "../../scripts/lib/deploy-migrate.ts";
import type { Release } from "../../scripts/lib/release.ts";
import { type Result, run } from "../../scripts/lib/run.ts";
import { openSession, type Session } from "../../scripts/lib/session.ts";
import type { Behaviour, PushedImage } from "../lab/deploy-app.ts";
import { createDeployProject, type DeployProject } from "../lab/deploy-project.ts";
import { failureIn, lookAt, recordsOn } from "../lab/deploy-traces.ts";
import { type Load, type Report, startLoad } from "../lab/load.ts";
import { type Registry, startRegistry } from "../lab/registry.ts";
import { type Server, startServer } from "../lab/server.ts";

let server: Server;
let registry: Registry;
let project: DeployProject;
let load: Load;
/** By what is the matter with it. */
const images: Record<string, PushedImage> = {};

const behaviours = {
  ...{ a1: "ok", a2: "ok", crash: "crash", unhealthy: "unhealthy", other: "wrong-release", errors: "live-errors" },
  ...{ slow: "slow-boot", memory: "out-of-memory" },
} as const satisfies Record<string, Behaviour>;

beforeAll(async () => {
  [server, registry] = await Promise.all([startServer({ kind: "docker", withImages: true }), startRegistry()]);
  project = await createDeployProject({ server, registry, config: { deploy: { bakeSeconds: 0 } } });
  for (const [release, behaviour] of Object.entries(behaviours)) {
    images[release] = await project.buildApp({ release, behaviour, ...(release === "slow" && { amount: 3000 }) });
  }
  images.broken = await importImage("broken", []);
  images.arm = await importImage("arm", ["--platform", "linux/arm64"]);
  await project.run("deploy", words(images.a1!), { environment: login() });
  load = await startLoad({ ...project.target, requestsPerSecond: 60, clients: 6 });
}, 300_000);
afterAll(async () => {
  const report = await load?.stop();
  if (report) console.log(`${report.requests} requests in all`);
  await project?.remove();
  await server?.stop();
  await registry?.stop();
});

const words = (image: PushedImage | string) => ["--image", typeof image === "string" ? image : image.pinned];
const login = () => ({ DBOPS_REGISTRY_USER: registry.user, DBOPS_REGISTRY_PASSWORD: registry.password });

/** An image without a program, pushed. */
async function importImage(release: string, options: readonly string[]): Promise<PushedImage> {
  const reference = `${project.image}:${release}`;
  const { environment } = registry;
  const argv = ["docker", "import", "--change", 'CMD ["/no-such-program"]', ...options, "-", reference];
  await run({ argv, environment, stdin: archive([{ path: "readme", content: Buffer.from("nothing") }]) });
  await run({ argv: ["docker", "push", "--quiet", reference], environment });
  const format = ["--format", '{{join .RepoDigests "\\n"}}', reference];
  const { stdout } = await run({ argv: ["docker", "image", "inspect", ...format], environment });
  await run({ argv: ["docker", "image", "rm", reference], environment });
  const pinned = stdout.trim();
  return { release, reference, digest: pinned.slice(pinned.indexOf("@") + 1), pinned };
}

type Attempt = {
  image?: PushedImage | string;
  words?: readonly string[];
  environment?: Record<string, string>;
  exitCode: number;
  /** Of the line in releases.jsonl; there is none for what was refused before it began. */
  recorded?: Release["outcome"];
  /** Of its reason. */
  step?: string;
  /** The container that was kept of the release before is gone: the new one was to take its place. */
  started?: boolean;
  /** Requests may have met the release while it was live. */
  served?: boolean;
  /** Instead of nothing but the deploy. */
  during?: (deploy: () => Promise<Result>) => Promise<Result>;
  /** Before the server is looked at. */
  afterwards?: () => Promise<unknown>;
};

/** A deploy that must not change anything. @returns its failure, with what differs from run to run replaced. */
async function fails(attempt: Attempt): Promise<string> {
  const { image = images[next()]!, environment = {}, exitCode, recorded, step, started = false } = attempt;
  const [before, counted] = [await lookAt(server, project), await load.settle()];
  const deploy = () =>
    project.run("deploy", [...words(image), ...(attempt.words ?? [])], {
      environment: { ...login(), ...environment },
      accept: [0, 1, 2, 3, 4, 5],
    });
  const { during = (work) => work(), afterwards = async () => {} } = attempt;
  const { stderr, stdout, ...result } = await during(deploy).finally(afterwards);
  expect({ exitCode: result.exitCode, stdout, stderr }).toEqual({ exitCode, stdout: "", stderr });

  const [after, report] = [await lookAt(server, project), await load.settle()];
  if (!attempt.served) expect(since(counted, report)).toEqual({ failed: 0, firstFailures: [], by: [serving] });
  const idle = (line: string) => /^app-/.test(line) && !line.endsWith(" running");
  const containers = before.traces.containers.filter((line) => !(started && idle(line)));
  expect(after.traces).toEqual({ ...before.traces, containers });
  const added = after.records.slice(before.records.length);
  expect(added.map(({ outcome, reason = "" }) => [outcome, reason.split(":")[0]])).toEqual(
    recorded ? [[recorded, step]] : [],
  );
  return shape(failureIn(stderr));
}

/** Who serves, and what the next good deploy brings. */
let serving = "a1";
const next = () => (serving === "a1" ? "a2" : "a1");

async function succeeds(image = images[next()]!, more: readonly string[] = []): Promise<Result> {
  const counted = await load.settle();
  const result = await project.run("deploy", [...words(image), ...more], { environment: login() });
  serving = image.release;
  expect((await project.ask("/")).release).toBe(serving);
  expect((await recordsOn(server, project)).at(-1)).toMatchObject({ outcome: "done", reference: image.pinned });
  expect(since(counted, await load.settle())).toMatchObject({ failed: 0, firstFailures: [] });
  return result;
}

/** What the load has met between two reports. */
function since(before: Report, after: Report) {
  const by = Object.keys(after.releases).filter((name) => after.releases[name] !== before.releases[name]);
  return {
    failed: after.failed - before.failed,
    firstFailures: after.firstFailures.slice(before.firstFailures.length),
    by: by.sort(),
  };
}

function shape(text: string): string {
  const lines = text
    .replaceAll(registry.address, "REGISTRY")
    .replaceAll(server.address, "SERVER")
    .replaceAll(project.directory, "PROJECT")
    .replaceAll(/sha256:[0-9a-f]{64}/g, "DIGEST")
    .replaceAll(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, "TIME")
    .replaceAll(/\d{4}\/\d\d\/\d\d [\d:]+ \[emerg\] \d+#\d+/g, "TIME [emerg] N#N")
    .replaceAll(/([Rr]elease) \d+/g, "$1 N")
    .replaceAll(/app-(blue|green)/g, "app-SLOT")
    .replaceAll(/\b\d+ of \d+ requests/g, "N of N requests")
    .replaceAll(/ended \d+ times/g, "ended N times")
    .replaceAll(/restarts: \d+/g, "restarts: N")
    .replaceAll(/tini \(\d+\)/g, "tini (N)")
    .replaceAll(/(Head|Get) "https/g, 'Get "https')
    .replaceAll(/"milliseconds":\d+/g, '"milliseconds":N')
    .split("\n")
    .map((line) => line.trimEnd());
  // Whoever is started again and again says the same again and again.
  const once = lines.filter((line, index) => lines.indexOf(line) === index).join("\n");
  // What comes from two streams has no order.
  return once.replace(/^( {2}\| error: .*\n)((?: {2}\| \{.*\n)+)/m, "$2$1");
}

const fileOf = (path: string) => join(project.directory, path);

/** The project with another file for as long as the work takes. */
async function withFile<T>(path: string, change: (text: string) => string, work: () => Promise<T>): Promise<T> {
  const before = await readFile(fileOf(path), "utf8").catch(() => undefined);
  await project.write(path, change(before ?? ""));
  try {
    return await work();
  } finally {
    if (before === undefined) await rm(fileOf(path));
    else await writeFile(fileOf(path), before);
  }
}

async function withDeploy<T>(
  deploy: Parameters<DeployProject["configure"]>[0]["deploy"],
  work: () => Promise<T>,
): Promise<T> {
  await project.configure({ deploy });
  try {
    return await work();
  } finally {
    await project.configure({ deploy: { bakeSeconds: 0 } });
  }
}

const failed = (step: string, started = false) => ({ exitCode: 1, recorded: "failed", step, started }) as const;

describe("an image that", () => {
  const rows: (Omit<Attempt, "image"> & { name: string; image: string; message: string })[] = [
    {
      name: "no registry has",
      image: "missing",
      ...failed("image"),
      message: `Release N was not deployed: The server cannot pull REGISTRY/shop:missing: the registry does not have it; release N serves as before
  | Error response from daemon: manifest for REGISTRY/shop:missing not found: manifest unknown: manifest unknown
  next: docker pull REGISTRY/shop:missing   # here, with the same credentials
  next: or send it over SSH: the same command with --transfer ssh
  read: docs/runbook/image-cannot-be-pulled.md`,
    },
    {
      name: "is for another machine",
      image: "arm",
      ...failed("image"),
      exitCode: 2,
      message: `Release N was not deployed: Cannot run REGISTRY/shop@DIGEST on the server: it is made for arm64, the server is amd64; release N serves as before
  next: build it with docker build --platform linux/amd64
  next: or here: DOCKER_DEFAULT_PLATFORM=linux/amd64 bun scripts/deploy.ts --build
  read: docs/runbook/image-cannot-be-pulled.md`,
    },
    {
      name: "has no such program",
      image: "broken",
      ...failed("healthy", true),
      message: `Release N was not deployed: app-SLOT does not start: it has ended N times; release N serves as before
  | [FATAL tini (N)] exec /no-such-program failed: No such file or directory
  | state: exited, exit code 127, out of memory: false, restarts: N
  next: APP_IMAGE=REGISTRY/shop@DIGEST docker compose up app   # the same image here
  read: docs/runbook/deploy-unhealthy.md`,
    },
    {
      name: "ends at its start",
      image: "crash",
      ...failed("healthy", true),
      message: `Release N was not deployed: app-SLOT does not start: it has ended N times; release N serves as before
  | {"time":"TIME","message":"starting","release":"crash","behaviour":"crash"}
  | {"time":"TIME","message":"loading","step":"configuration"}
  | error: cannot find the engine room
  | state: exited, exit code 3, out of memory: false, restarts: N
  next: APP_IMAGE=REGISTRY/shop@DIGEST docker compose up app   # the same image here
  read: docs/runbook/deploy-unhealthy.md`,
    },
    {
      name: "says that it is another release",
      image: "other",
      ...failed("healthy", true),
      message: `Release N was not deployed: app-SLOT is healthy, but the wrong release: it says "not-other", its image REGISTRY/shop@DIGEST says "other"; release N serves as before
  | {"time":"TIME","message":"starting","release":"other","behaviour":"wrong-release"}
  | {"time":"TIME","message":"listening","release":"other","milliseconds":N}
  | state: running, exit code 0, out of memory: false, restarts: N
  | health check: exit code 0
  next: APP_IMAGE=REGISTRY/shop@DIGEST docker compose up app   # the same image here
  read: docs/runbook/deploy-unhealthy.md`,
    },
  ];
  test.each(rows)("$name", async ({ image, message, ...attempt }) => {
    const wanted = images[image] ?? `${project.image}:${image}`;
    expect(await fails({ ...attempt, image: wanted })).toBe(message);
    await succeeds();
  });

  test("never gets healthy", async () => {
    const deploy = () => fails({ image: images.unhealthy!, ...failed("healthy", true) });
    const message = await withDeploy({ healthSeconds: 2, bakeSeconds: 0 }, deploy);
    expect(
      message,
    ).toBe(`Release N was not deployed: app-SLOT is not healthy: after 2 s it is running, starting, and /health/ready answers 503 {"status":"unready","release":"unhealthy"}; release N serves as before
  | {"time":"TIME","message":"starting","release":"unhealthy","behaviour":"unhealthy"}
  | {"time":"TIME","message":"listening","release":"unhealthy","milliseconds":N}
  | state: running, exit code 0, out of memory: false, restarts: N
  | health check: exit code 1
  next: APP_IMAGE=REGISTRY/shop@DIGEST docker compose up app   # the same image here
  read: docs/runbook/deploy-unhealthy.md`);
    await succeeds();
  });

  test("takes more memory than it may", async () => {
    const small = (text: string) => text.replace("mem_limit: 512m", "mem_limit: 100m");
    const deploy = () => fails({ image: images.memory!, ...failed("healthy", true) });
    const message = await withFile("compose.yaml", small, deploy);
    // How far it comes depends on the machine, and whether a health check had begun.
    const withoutChecks = message.replace(/\n {2}\| health check:.*?(?=\n {2}next:)/s, "");
    const lines = withoutChecks.split("\n").filter((line) => !line.includes('"growing"'));
    expect(
      lines.join("\n"),
    ).toBe(`Release N was not deployed: app-SLOT does not start: it has ended N times; release N serves as before
  | {"time":"TIME","message":"starting","release":"memory","behaviour":"out-of-memory"}
  | state: exited, exit code 137, out of memory: true, restarts: N
  next: APP_IMAGE=REGISTRY/shop@DIGEST docker compose up app   # the same image here
  read: docs/runbook/deploy-unhealthy.md`);
    await succeeds();
  });

  test("fails once it is live: the old one is back by itself", async () => {
    const attempt = { ...failed("bake", true), recorded: "undone", served: true } as const;
    const message = await withDeploy({ bakeSeconds: 20 }, () => fails({ image: images.errors!, ...attempt }));
    expect(
      message,
    ).toBe(`Release N was not deployed: app-SLOT answers with errors: N of N requests got a 5xx; release N serves as before
  | {"time":"TIME","message":"starting","release":"errors","behaviour":"live-errors"}
  | {"time":"TIME","message":"listening","release":"errors","milliseconds":N}
  | state: running, exit code 0, out of memory: false, restarts: N
  | health check: exit code 0
  next: APP_IMAGE=REGISTRY/shop@DIGEST docker compose up app   # the same image here
  read: docs/runbook/deploy-unhealthy.md`);
    await succeeds();
  });

  test("takes its time to start is waited for", async () => {
    await succeeds(images.slow);
  });
});

describe("a migration", () => {
  const sql = (up: string, options = "") => `-- migrate:up${options}\n${up}\n\n-- migrate:down\nSELECT 1;\n`;
  const ask = async (query: string) =>
    (
      await server.ssh(
        `docker exec -i shop-postgres-1 sh -c 'psql -U "$POSTGRES_USER" -d "$POSTGRES_DB" -qtA' <<'END'\n${query}\nEND`,
      )
    ).stdout.trim();

  /** Somebody's transaction that goes on until it is let go. */
  async function hold(statement: string): Promise<() => Promise<void>> {
    const session = ask(`begin; ${statement}; select 'held', pg_sleep(600)`).catch(() => "");
    const held = "select count(*) from pg_stat_activity where query like '%pg_sleep(600)%' and wait_event = 'PgSleep'";
    while ((await ask(held)) === "0") await Bun.sleep(50);
    return async () => {
      await ask("select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'PgSleep'");
      await session;
    };
  }

  test("with an error says which, and those before it stay applied; corrected, it goes on from there", async () => {
    await project.write("migrations/20270101000000_good.sql", sql("CREATE TABLE one (id int);"));
    const bad = "CREATE TABLE two (id int);\nALTER TABLE no_such_table ADD COLUMN x int;";
    const deploy = () => fails(failed("migrate"));
    const message = await withFile("migrations/20270101000100_bad.sql", () => sql(bad), deploy);
    expect(
      message,
    ).toBe(`Release N was not deployed: Cannot apply migrations/20270101000100_bad.sql: relation "no_such_table" does not exist (42P01); release N serves as before; what it migrated stays applied: 20270101000000
  | applied: 20270101000000_good.sql
  | taken back whole: 20270101000100_bad.sql
  next: correct migrations/20270101000100_bad.sql
  next: the same command again
  read: docs/runbook/relation-does-not-exist.md`);
    // An edit of what is not applied is none: its sum is forgotten.
    expect(await ask("select version from dbops.migration_files where version > '2027' order by 1")).toBe(
      "20270101000000",
    );
    expect(await ask("select to_regclass('one'), to_regclass('two'), max(version) from schema_migrations")).toBe(
      "one||20270101000000",
    );
    await project.write("migrations/20270101000100_bad.sql", sql("CREATE TABLE two (id int);"));
    await succeeds();
    expect(await ask("select to_regclass('two'), max(version) from schema_migrations")).toBe("two|20270101000100");
  });

  test("waits for nobody longer than it may, and the database keeps what was applied", async () => {
    const text = sql("CREATE TABLE noted (id int);");
    await project.write("migrations/20270101000150_noted.sql", text);
    const release = await hold("select pg_advisory_lock(hashtextextended('dbops migrate', 0))");
    const locked = { ...failed("migrate"), exitCode: 4, words: ["--wait", "0"] };
    const message = await fails(locked).finally(release);
    expect(message.replace(/process \d+, since [\d-]+ [\d:]+ UTC/, "process N, since TIME")).toBe(
      `Release N was not deployed: Cannot migrate: another runner (Postgres process N, since TIME) migrates this database (waited 0 s); release N serves as before
  next: the same command with --wait 600
  read: docs/runbook/migration-hangs.md`,
    );
    await succeeds();
    const sha256 = createHash("sha256").update(text).digest("hex");
    expect(await ask("select file, sha256 from dbops.migration_files where version = '20270101000150'")).toBe(
      `20270101000150_noted.sql|${sha256}`,
    );
    // What it has held is free again.
    expect(await ask("select count(*) from pg_locks where locktype = 'advisory'")).toBe("0");
  });

  test("and `migrate up` from here exclude each other; by hand it is applied without a deploy", async () => {
    await project.write(
      "migrations/20270101000160_waits.sql",
      sql("SET LOCAL lock_timeout = 0;\nSELECT pg_advisory_xact_lock(77);"),
    );
    const release = await hold("select pg_advisory_lock(77)");
    const deploy = await project.start("deploy", words(images[next()]!), { environment: login(), onLine: () => {} });
    const waits =
      "select count(*) from pg_stat_activity where application_name = 'dbops-migrate' and wait_event_type = 'Lock'";
    while ((await ask(waits)) === "0") await Bun.sleep(50);
    const migrate = (more: string[]) =>
      project.run("migrate", [...more, "--on", "production"], { accept: [0, 3, 4, 5] });
    const refused = await migrate(["up", "--wait", "0", "--yes"]);
    await release();
    expect(await deploy.ended).toBe(0);
    serving = next();
    expect([refused.exitCode, refused.stderr]).toEqual([
      4,
      expect.stringContaining("Nothing was changed: another runner (Postgres process "),
    ]);

    await project.write("migrations/20270101000170_by_hand.sql", sql("CREATE TABLE by_hand (id int);"));
    expect((await migrate(["status", "--exit-code"])).exitCode).toBe(3);
    expect((await migrate(["up"])).exitCode).toBe(5);
    const { stdout } = await migrate(["up", "--yes"]);
    expect(stdout).toStartWith(`1 migration applied to "dbops_app" on deploy@${server.address}, in `);
    expect((await migrate(["status", "--exit-code"])).exitCode).toBe(0);
    await succeeds();
  });

  test("is not disturbed by what Postgres warns of, and without a session for its lock it is not begun", async () => {
    // As after an upgrade of the image: each connection is told.
    await ask("update pg_database set datcollversion = 'old' where datname = current_database()");
    const psql = `docker exec shop-postgres-1 sh -c 'psql -U "$POSTGRES_USER" -d "$POSTGRES_DB" -c "select" 2>&1'`;
    expect((await server.ssh(psql)).stdout).toContain("has a collation version mismatch");
    await project.write("migrations/20270101000180_warned.sql", sql("CREATE TABLE warned (id int);"));
    const { stderr } = await succeeds(undefined, ["--wait", "0"]);
    expect(stderr).not.toContain("warning: the sums");
    await ask("alter database dbops_app refresh collation version");

    const allow = (connections: boolean) =>
      server.ssh(
        `docker exec shop-postgres-1 sh -c 'psql -U "$POSTGRES_USER" -d postgres -qc "alter database dbops_app allow_connections ${connections}"'`,
      );
    await allow(false);
    const refused = inSession(({ call }) =>
      migrate({
        ...{ release: 1, files: [], planned: [], waitSeconds: 0, call },
        ...{ note: () => {}, pause: async () => {}, mayHaveBegun: () => {} },
      }).catch((error: Error) => error.message),
    );
    expect(await refused.finally(() => allow(true))).toBe(
      'Cannot migrate: there is no session for the lock: connection to server at "127.0.0.1", port 5432 failed: FATAL:  database "dbops_app" is not currently accepting connections',
    );
  });

  test("during which Postgres crashes: what is applied is asked in another session", async () => {
    await project.write("migrations/20270101000190_before.sql", sql("CREATE TABLE before_crash (id int);"));
    const asleep =
      "select pid from pg_stat_activity where application_name = 'dbops-migrate' and wait_event = 'PgSleep'";
    const crash = async (deploy: () => Promise<Result>) => {
      const deploying = deploy();
      while ((await ask(asleep)) === "") await Bun.sleep(50);
      // A server process that dies like that makes Postgres end all sessions.
      await server.ssh(`docker exec --user postgres shop-postgres-1 kill -9 ${await ask(asleep)}`);
      return await deploying;
    };
    const message = await withFile(
      "migrations/20270101000195_crash.sql",
      () => sql("CREATE TABLE crashed (id int);\nSELECT pg_sleep(100);"),
      () => fails({ ...failed("migrate"), during: crash }),
    );
    expect(
      message,
    ).toBe(`Release N was not deployed: Cannot apply migrations/20270101000195_crash.sql: driver: bad connection; release N serves as before; what it migrated stays applied: 20270101000190
  | applied: 20270101000190_before.sql
  | taken back whole: 20270101000195_crash.sql
  next: the same command again
  read: docs/runbook/migration-failed.md`);
    expect(await ask("select file from dbops.migration_files where version >= '20270101000190'")).toBe(
      "20270101000190_before.sql",
    );
    expect(await ask("select to_regclass('before_crash'), to_regclass('crashed')")).toBe("before_crash|");
    await succeeds();
  });

  async function inSession<T>(work: (session: Session) => Promise<T>): Promise<T> {
    const { knownHostsFile, privateKeyFile: keyFile } = server;
    const session = await openSession({
      ...{ directory: project.folder, project: project.name },
      server: { user: "deploy", host: server.address, port: 22, knownHostsFile, keyFile },
    });
    return await work(session).finally(() => session.close());
  }

  const quick = (text: string) => text.replace("lock_timeout=5s", "lock_timeout=500ms");
  async function whileHeld(work: () => Promise<string>): Promise<string> {
    const release = await hold("lock table one in row exclusive mode");
    return await withFile("compose.yaml", quick, work).finally(release);
  }

  test("that meets a lock is tried again until it is free", async () => {
    await project.write("migrations/20270101000200_column.sql", sql("ALTER TABLE one ADD COLUMN x int;"));
    const release = await hold("lock table one in row exclusive mode");
    const noted: string[] = [];
    const deploy = async () => {
      const program = await project.start("deploy", words(images[next()]!), {
        environment: login(),
        onLine(line) {
          noted.push(line);
          if (line.includes("trying again (2 of 4)")) void release();
        },
      });
      expect([await program.ended, noted]).toEqual([0, noted]);
    };
    const counted = await load.settle();
    await withFile("compose.yaml", quick, deploy);
    serving = next();
    expect(since(counted, await load.settle())).toMatchObject({ failed: 0, firstFailures: [] });
    expect(noted.filter((line) => line.includes("trying again"))).toEqual([
      "         somebody holds a lock that it needs; trying again (2 of 4)",
    ]);
    await succeeds();
  });

  test("that never gets its lock fails, and nobody has waited for it meanwhile", async () => {
    await project.write("migrations/20270101000300_other.sql", sql("ALTER TABLE one ADD COLUMN y int;"));
    const message = await whileHeld(() => fails(failed("migrate")));
    expect(
      message,
    ).toBe(`Release N was not deployed: Cannot apply migrations/20270101000300_other.sql: canceling statement due to lock timeout (55P03); it was tried 4 times; release N serves as before
  | applied: none
  | taken back whole: 20270101000300_other.sql
  next: on the server: docker compose exec postgres sh -c 'psql -U $POSTGRES_USER $POSTGRES_DB -c "select pid, now() - xact_start as since, query from pg_stat_activity where xact_start is not null order by 2 desc"'
  next: the same command again
  read: docs/runbook/migration-hangs.md`);
    await succeeds();
  });

  test("that builds an index beside the traffic waits for who is older, and names what it leaves when it fails", async () => {
    await ask("insert into one (id, x) values (1, 7), (2, 7)");
    const concurrently = sql("CREATE UNIQUE INDEX CONCURRENTLY one_x ON one (x);", " transaction:false");
    const file = "migrations/20270101000400_index.sql";
    await project.write(file, concurrently);
    const drop = `  next: on the server, where compose.yaml is: docker compose exec postgres psql --username dbops_app --dbname dbops_app --command 'drop index concurrently public.one_x;'
`;
    expect(
      await fails(failed("migrate")),
    ).toBe(`Release N was not deployed: Cannot apply ${file}: could not create unique index "one_x" (23505); release N serves as before
  | applied: none
  | not one transaction, so what it did until then stays: 20270101000400_index.sql
  | left behind, and not valid: public.one_x
${drop}  next: correct ${file}
  next: the same command again
  read: docs/runbook/migration-failed.md`);
    expect(
      await fails({ ...failed("migrate"), exitCode: 3 }),
    ).toBe(`Release N was not deployed: Cannot migrate: ${file} makes the index public.one_x, which is there, left by a run that failed, and not valid; release N serves as before
${drop}  next: the same command again
  read: docs/runbook/migration-failed.md`);
    // Where the file would take it for its own, nothing is even begun.
    const leniently = () => concurrently.replace("one_x", "IF NOT EXISTS one_x");
    expect(await withFile(file, leniently, () => fails({ exitCode: 2 }))).toContain("(concurrently-if-not-exists)");
    // As where it was a lock alone that kept it from being finished.
    await inSession(({ call }) => call(["drop_index", "public.one_x", "5"]));
    expect(await ask("select to_regclass('one_x')")).toBe("");
    await ask("update one set x = id");

    // A transaction of another table that is older than any lock_timeout: the queue behind it is nobody's but the index's.
    const release = await hold("set transaction isolation level repeatable read; select count(*) from two");
    const deploying = withFile("compose.yaml", quick, () => succeeds());
    const waits =
      "select count(*) from pg_stat_activity where application_name = 'dbops-migrate' and wait_event = 'virtualxid'";
    while ((await ask(waits)) === "0") await Bun.sleep(50);
    await release();
    await deploying;
    expect(await ask("select indisvalid from pg_index where indexrelid = 'one_x'::regclass")).toBe("t");
  });

  test("is not begun where its index is just being built by another runner: it waits for that one", async () => {
    const file = "migrations/20270101000500_other_index.sql";
    await project.write(file, sql("CREATE INDEX CONCURRENTLY one_id ON one (id);", " transaction:false"));
    const release = await hold("set transaction isolation level repeatable read; select count(*) from two");
    const first = project.run("migrate", ["up", "--on", "production", "--yes"]);
    while ((await ask("select count(*) from pg_stat_progress_create_index")) === "0") await Bun.sleep(50);
    const locked = await fails({ ...failed("migrate"), exitCode: 4, words: ["--wait", "0"] });
    expect(locked).toStartWith("Release N was not deployed: Cannot migrate: another runner (Postgres process ");
    expect(locked).not.toContain("drop index");
    const deploying = succeeds();
    await release();
    expect((await first).exitCode).toBe(0);
    await deploying;
    expect(await ask("select indisvalid from pg_index where indexrelid = 'one_id'::regclass")).toBe("t");
  });
});

describe("files that", () => {
  test("nginx does not accept never reach the nginx that serves", async () => {
    const broken = (text: string) => text.replace("limit_req zone=requests", "limit_request zone=requests");
    const attempt = { ...failed("files"), exitCode: 2 } as const;
    const message = await withFile("nginx/shared/app.conf", broken, () => fails(attempt));
    expect(
      message,
    ).toBe(`Release N was not deployed: nginx does not accept the new configuration: nginx -t has failed; release N serves as before
  | TIME [emerg] N#N: unknown directive "limit_request" in nginx/shared/app.conf:3
  | nginx: configuration file nginx/production.conf test failed
  next: correct nginx/, then deploy again
  read: docs/runbook/bad-nginx-configuration.md`);
    await succeeds();
  });

  test("nginx accepts take effect, and no request fails", async () => {
    const further = (text: string) => `${text}\nadd_header X-Story told always;\n`;
    await withFile("nginx/shared/headers.conf", further, () => succeeds());
    expect((await project.ask("/")).headers["x-story"]).toBe("told");
    await succeeds();
    expect((await project.ask("/")).headers["x-story"]).toBeUndefined();
  });

  test("interrupt the service need to be allowed; if it fails then, the old definition is back", async () => {
    await project.edit("compose.yaml", (text) => text.replace("mem_limit: 1g", "mem_limit: 900m"));
    expect(await fails({ exitCode: 5 })).toBe(`Nothing was deployed: this deploy would interrupt the service
  | DOWNTIME: postgres is recreated, because its definition has changed
  next: the same command with --allow-downtime
  read: docs/deploy.md`);
    const plan = await project.run("deploy", [...words(images[next()]!), "--plan"], { environment: login() });
    expect(plan.stdout).toContain("\n  DOWNTIME: postgres is recreated, because its definition has changed\n");
    const limit = "docker inspect --format '{{.HostConfig.Memory}}' shop-postgres-1";
    await fails({ words: ["--allow-downtime"], image: images.crash!, ...failed("healthy", true) });
    expect((await server.ssh(limit)).stdout).toBe(`${2 ** 30}\n`);
    await succeeds(undefined, ["--allow-downtime"]);
    expect((await server.ssh(limit)).stdout).toBe(`${900 * 2 ** 20}\n`);
  });
});

describe("nothing is begun", () => {
  test("with files that Compose does not accept", async () => {
    const broken = (text: string) => text.replace("    image: nginx", "    imge: nginx");
    const message = await withFile("compose.yaml", broken, () => fails({ exitCode: 2 }));
    expect(
      message,
    ).toBe(`Docker Compose does not accept these files: validating compose.yaml: services.nginx additional properties 'imge' not allowed
  next: docker compose config --quiet
  next: correct compose.yaml, compose/ or .env.tpl`);
  });

  test("with a migration that is older than what is applied", async () => {
    const deploy = () => fails({ exitCode: 2 });
    const message = await withFile("migrations/20250101000000_late.sql", () => "-- migrate:up\n", deploy);
    expect(message).toBe(`Cannot migrate: 20250101000000 is older than 20270101000500, which is applied already
  next: give the file in migrations/ a newer version
  read: docs/runbook/migration-failed.md`);
  });

  test("with what is no image reference", async () => {
    expect(await fails({ image: "Shop:1", exitCode: 2 })).toBe(`Cannot deploy "Shop:1": it is no image reference
  next: name:tag or name@sha256:…, for instance ghcr.io/me/app:4f2c1ab`);
  });

  test("on a full disk", async () => {
    const message = await fails({
      ...{ exitCode: 3, afterwards: () => server.freeDisk() },
      during: async (deploy) => {
        await server.fillDisk();
        return deploy();
      },
    });
    expect(message).toBe(`Nothing was deployed: the server's disk has 0 GB left, deploy.freeGigabytes asks for 1
  next: on the server: df -h /opt/shop; docker system df
  read: docs/runbook/disk-full.md`);
  });

  test("when somebody else answers in the server's place", async () => {
    const other = `${server.address} ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIO0SlsHDJA3M8iu9qwAjDzgL0wm+OiGpgYxhJURUmJrv\n`;
    const message = await withFile(
      "known_hosts",
      () => other,
      () => fails({ exitCode: 5 }),
    );
    expect(
      message.replace(/shown: .*/, "shown: ITS-KEY"),
    ).toBe(`Refusing to talk to SERVER: its host key has changed: it was made anew, or somebody else is answering. Nothing was sent
  | pinned: SHA256:dvno/7BoBJF/EO12BLAElBCzaZuyUBGjNCXp8M1dpBI
  | shown: ITS-KEY
  read: docs/runbook/host-key-changed.md`);
  });

  test("while nobody has said who the server is", async () => {
    const message = await withFile(
      "known_hosts",
      () => "",
      () => fails({ exitCode: 2 }),
    );
    expect(
      message,
    ).toBe(`Cannot trust SERVER yet: its host key is not in known_hosts, so anybody could answer in its place
  next: bun scripts/provision.ts --pin`);
  });

  test("with a key that the server does not know", async () => {
    const file = fileOf("other-key");
    await run({ argv: ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file], environment: server.environment });
    const message = await fails({ exitCode: 2, environment: { DBOPS_SSH_KEY_FILE: file } });
    expect(message).toBe(`Cannot log in to deploy@SERVER: "deploy" may not log in with the key "PROJECT/other-key"
  | deploy@SERVER: Permission denied (publickey).
  next: bun scripts/provision.ts --server root@SERVER --public-key FILE.pub   # lets a key in`);
  });

  test("and the next good deploy succeeds", async () => {
    await succeeds();
  });
});

describe("while it is at work", () => {
  /** Holds a deploy after its plan, before its lock. */
  const afterPlan = (disturb: () => Promise<unknown>) => async (deploy: () => Promise<Result>) => {
    const hooks = { before: ["sh", "-c", "touch waiting; until [ -e go-on ]; do sleep 0.05; done"] };
    return await withDeploy({ bakeSeconds: 0, hooks }, async () => {
      const ended = deploy();
      while (!existsSync(fileOf("waiting"))) await Bun.sleep(50);
      await disturb();
      await project.write("go-on", "");
      return await ended.finally(() => Promise.all(["waiting", "go-on"].map((file) => rm(fileOf(file)))));
    });
  };
  const forget = ({ pinned }: PushedImage) => server.ssh(`docker image rm --force '${pinned}'`);

  test("the disk fills before the files are there", async () => {
    const message = await fails({
      ...{ exitCode: 1, afterwards: () => server.freeDisk() },
      during: afterPlan(() => server.fillDisk()),
    });
    expect(message).toBe(`Cannot take the lock on SERVER: the disk is full
  | cat: write error: No space left on device
  next: on the server: df -h; docker system df
  read: docs/runbook/disk-full.md`);
    await succeeds();
  });

  test("the registry falls silent", async () => {
    await forget(images.slow!);
    const during = afterPlan(async () => registry.pause());
    const attempt = { ...failed("image"), image: images.slow!, during, afterwards: async () => registry.resume() };
    expect(
      await fails(attempt),
    ).toBe(`Release N was not deployed: The server cannot pull REGISTRY/shop@DIGEST: the registry does not answer; release N serves as before
  | Error response from daemon: Get "https://REGISTRY/v2/": net/http: TLS handshake timeout
  next: docker pull REGISTRY/shop@DIGEST   # here, with the same credentials
  next: or send it over SSH: the same command with --transfer ssh
  read: docs/runbook/image-cannot-be-pulled.md`);
    await succeeds();
  });

  test("the registry does not know the password, or wants one", async () => {
    await forget(images.slow!);
    const wrong = { ...failed("image"), image: images.slow!, environment: { DBOPS_REGISTRY_PASSWORD: "wrong" } };
    expect(
      await fails(wrong),
    ).toBe(`Release N was not deployed: The server cannot pull REGISTRY/shop@DIGEST: the registry does not accept DBOPS_REGISTRY_USER and DBOPS_REGISTRY_PASSWORD; release N serves as before
  | Error response from daemon: login attempt to https://REGISTRY/v2/ failed with status: 401 Unauthorized
  next: docker pull REGISTRY/shop@DIGEST   # here, with the same credentials
  next: or send it over SSH: the same command with --transfer ssh
  read: docs/runbook/image-cannot-be-pulled.md`);
    const none = { ...wrong, environment: { DBOPS_REGISTRY_USER: "", DBOPS_REGISTRY_PASSWORD: "" } };
    expect(
      await fails(none),
    ).toBe(`Release N was not deployed: The server cannot pull REGISTRY/shop@DIGEST: the registry wants a login: set DBOPS_REGISTRY_USER and DBOPS_REGISTRY_PASSWORD; release N serves as before
  | Error response from daemon: Get "https://REGISTRY/v2/shop/manifests/DIGEST": no basic auth credentials
  next: docker pull REGISTRY/shop@DIGEST   # here, with the same credentials
  next: or send it over SSH: the same command with --transfer ssh
  read: docs/runbook/image-cannot-be-pulled.md`);
    await succeeds();
  });
});
