// scripts/lib/place.ts, psql.ts and ssh-shared.ts: Postgres' own programs where Postgres is, in a container of this machine, in one of a
// server over SSH, and on this machine for a database that a URL names.
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseConfig, type Settings } from "../../scripts/lib/config.ts";
import { asFailure, formatFailure } from "../../scripts/lib/failure.ts";
import { flow } from "../../scripts/lib/flow.ts";
import { openPlace, type Place, type Where } from "../../scripts/lib/place.ts";
import { openPsql, type Psql, SqlError } from "../../scripts/lib/psql.ts";
import { run, start } from "../../scripts/lib/run.ts";
import { poll } from "../../scripts/lib/wait.ts";
import { watchArgv } from "../lab/argv-watch.ts";
import { postgresEnvironment } from "../lab/debian-programs.ts";
import { startEngine } from "../lab/engine.ts";
import { plainSsh } from "../lab/plain-ssh.ts";
import { allProcesses, argvOf, killAndWait } from "../lab/processes.ts";
import { createProject, type Project } from "../lab/project.ts";
import { repository } from "../lab/repository.ts";
import { type Server, startServer } from "../lab/server.ts";

setDefaultTimeout(300_000);

const kinds = ["a container here", "a container on a server", "a URL"] as const;
type Kind = (typeof kinds)[number];

const before = { ...process.env };
const password = `pa$$ "${randomBytes(12).toString("hex")}`;
let folder: string;
let temporary: string;
let project: Project;
let server: Server;
const where = {} as Record<Kind, Where>;
const open: Place[] = [];

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "dbops-place-"));
  temporary = join(folder, "tmp");
  mkdirSync(temporary);
  const engine = await startEngine();
  const ssh = await plainSsh(folder, "ControlPersist 10m\nControlMaster auto\n");
  const clients = (await postgresEnvironment()).PATH.split(":")[0];
  project = await createProject({ environment: { POSTGRES_PASSWORD: password } });
  await project.setEnvironment({ COMPOSE_PROJECT_NAME: project.name });
  const POSTGRES_PORT = /^POSTGRES_PORT=(\d+)$/m.exec(readFileSync(join(project.directory, ".env"), "utf8"))![1]!;
  await Promise.all([
    project.compose(["up", "--detach", "--wait", "postgres"]),
    startServer({ kind: "docker", withImages: true }).then((started) => {
      server = started;
    }),
  ]);
  Object.assign(process.env, engine.environment, ssh, { TMPDIR: temporary, DBOPS_SSH_KEY_FILE: server.privateKeyFile });
  delete process.env.SSH_AUTH_SOCK;
  process.env.PATH = [clients, ssh.PATH, engine.environment.PATH].join(":");
  process.env.PGPASSWORD = password;
  await server.ssh(`read -r password <<'END'
${password}
END
    docker run --detach --name postgres --label com.docker.compose.project=shop \
      --label com.docker.compose.service=postgres --label com.docker.compose.oneoff=False --env POSTGRES_USER=shop --env POSTGRES_PASSWORD="$password" postgres:18-alpine
    # What "docker compose run postgres" leaves beside it while somebody works in there: no Postgres, and the newer of both.
    docker run --detach --init --label com.docker.compose.project=shop --label com.docker.compose.service=postgres \
      --label com.docker.compose.oneoff=True --entrypoint sleep postgres:18-alpine 3600
    until docker exec postgres pg_isready --quiet --host 127.0.0.1; do sleep 0.2; done`);
  writeFileSync(join(folder, "known_hosts"), `${server.address} ${server.hostKey}\n`);
  const settings = await settingsOf(`deploy@${server.address}`);
  const url = `postgres://dbops_app@127.0.0.1:${POSTGRES_PORT}/dbops_app?sslmode=disable`;
  where["a container here"] = { settings, directory: project.directory, on: "local" };
  where["a container on a server"] = { settings, directory: folder, on: "production" };
  where["a URL"] = { settings, directory: folder, on: "local", url };
});

afterAll(async () => {
  await Promise.all(open.map((place) => place.close()));
  for (const name of Object.keys(process.env)) if (!(name in before)) delete process.env[name];
  Object.assign(process.env, before);
  await Promise.all([project?.remove(), server?.stop()]);
  rmSync(folder, { recursive: true, force: true });
});

async function settingsOf(address: string, name = "shop"): Promise<Settings> {
  const config = (await import(join(project.directory, "dbops.config.ts"))).default;
  const production = { server: address, directory: "/opt/shop", domain: "shop.test", image: "shop" };
  return parseConfig({ ...config, name, environments: { local: {}, production } });
}

const places: Partial<Record<Kind, Place>> = {};
async function placeOf(kind: Kind): Promise<Place> {
  const place = places[kind] ?? (await openPlace(where[kind]));
  places[kind] = place;
  if (!open.includes(place)) open.push(place);
  return place;
}

async function withPsql<T>(kind: Kind, work: (psql: Psql, place: Place) => Promise<T>): Promise<T> {
  const place = await placeOf(kind);
  const psql = await openPsql(place);
  return await work(psql, place).finally(psql.close);
}

const failureOf = (work: Promise<unknown>) => work.then(() => undefined, asFailure);
const textOf = async (work: Promise<unknown>) => formatFailure((await failureOf(work))!);

/** Of this machine, the server and their containers: each one's /proc is part of ours. With the environment, to tell them apart. */
function programsNamed(name: string, environment: string): number[] {
  return allProcesses().filter((pid) => {
    if (argvOf(pid)[0]?.split("/").at(-1) !== name) return false;
    try {
      return readFileSync(`/proc/${pid}/environ`, "utf8").split("\0").includes(environment);
    } catch {
      // It has ended while we looked.
      return false;
    }
  });
}

describe.each([...kinds])("%s", (kind) => {
  test("says what and where it is", async () => {
    const { client: _, supervised: __, close: ___, inStack: ____, connection: _____, ...facts } = await placeOf(kind);
    const [, , , port] = kind === "a URL" ? /^(.*)@(.*):(\d+)\//.exec(where[kind].url!)! : [];
    const expected = {
      "a container here": {
        ...{ name: "this machine", environment: "local", database: "dbops_app", user: "dbops_app", byHand: "" },
      },
      "a container on a server": {
        ...{ name: `deploy@${server.address}`, environment: "production", database: "shop", user: "shop" },
        byHand: `ssh deploy@${server.address}`,
      },
      "a URL": {
        ...{
          name: `127.0.0.1:${port}`,
          environment: "127.0.0.1",
          database: "dbops_app",
          user: "dbops_app",
          byHand: "",
        },
      },
    };
    expect(facts).toEqual(expected[kind]);
  });

  test("rows: every type, nothing, text with everything in it; also asked at once", async () => {
    await withPsql(kind, async (psql) => {
      const nasty = `'"\\ü€\n\t dbops-end 1 $$ :name`;
      expect(
        await psql.rows(`select 1 as one, null as nothing, 'ü€'::text as text, true as yes, array[1,2] as list,
          $x$${nasty}$x$ as nasty, 9007199254740993::text as large -- a comment at the end`),
      ).toEqual([{ one: 1, nothing: null, text: "ü€", yes: true, list: [1, 2], nasty, large: "9007199254740993" }]);
      expect(await psql.rows("select 1 where false")).toEqual([]);
      expect((await psql.rows("select repeat('x', 100) as x from generate_series(1, 20000)")).length).toBe(20_000);
      const numbers = Array.from({ length: 20 }, (_, n) => n);
      expect(await Promise.all(numbers.map((n) => psql.rows(`select ${n} as n`)))).toEqual(numbers.map((n) => [{ n }]));
    });
  });

  test("an error is thrown with its SQLSTATE, and is not hidden by what follows it", async () => {
    await withPsql(kind, async (psql) => {
      const codeOf = async (work: Promise<unknown>) => ((await failureOf(work)) as SqlError | undefined)?.code;
      expect(await codeOf(psql.rows("select * from nonesuch"))).toBe("42P01");
      expect(await codeOf(psql.execute("select 1/0;"))).toBe("22012");
      expect(await codeOf(psql.execute("select 1/0; select 1"))).toBe("22012");
      expect(await codeOf(psql.execute("begin; select 1/0; select nope; commit;"))).toBe("22012");
      expect(await codeOf(psql.execute("do $$ begin raise warning 'only a warning'; end $$"))).toBeUndefined();
      const failure = await failureOf(
        psql.execute(
          `do $$ begin raise exception E'first\\nsecond' using errcode = 'XX123', detail = 'the detail'; end $$`,
        ),
      );
      expect(failure).toBeInstanceOf(SqlError);
      expect(formatFailure(failure!)).toBe(`Postgres refused: first
  | ERROR:  XX123: first
  | second
  | DETAIL:  the detail
  | CONTEXT:  PL/pgSQL function inline_code_block line 1 at RAISE`);
      expect(await psql.rows("select 2 as still")).toEqual([{ still: 2 }]);
    });
  });

  test("an answer that comes too late is not taken for the next one", async () => {
    await withPsql(kind, async (psql) => {
      expect((await failureOf(psql.rows("select 1 as late, pg_sleep(1.5)::text", 0.3)))!.message).toContain(
        "Gave up waiting for an answer of the database",
      );
      expect(await psql.rows("select 2 as next")).toEqual([{ next: 2 }]);
    });
  });

  test("a transaction and its exported snapshot last from one question to the next, and end with the session", async () => {
    const table = `seen_${kind.length}`;
    const dump = (place: Place, id: string) =>
      run({ ...place.client(["pg_dump", "--data-only", `--snapshot=${id}`, `--table=${table}`]), accept: [0, 1] });
    const [place, id] = await withPsql(kind, async (psql, place) => {
      await psql.execute(`create table ${table} (n int); insert into ${table} values (1)`);
      await psql.execute("begin isolation level repeatable read read only");
      const [row] = await psql.rows<{ id: string }>("select pg_export_snapshot() as id");
      await withPsql(kind, (other) => other.execute(`insert into ${table} values (2)`));
      expect(await psql.rows(`select n from ${table}`)).toEqual([{ n: 1 }]);
      expect((await dump(place, row!.id)).stdout).toContain("FROM stdin;\n1\n\\.");
      return [place, row!.id] as const;
    });
    expect((await dump(place, id)).exitCode).toBe(1);
    await withPsql(kind, (psql) => psql.execute(`drop table ${table}`));
  });

  test("another database", async () => {
    const psql = await openPsql(await placeOf(kind), "template1");
    expect(await psql.rows("select current_database()::text as name")).toEqual([{ name: "template1" }]);
    await psql.close();
    const { name } = await placeOf(kind);
    expect((await failureOf(openPsql(await placeOf(kind), "nonesuch")))!.message).toMatch(
      new RegExp(`^Cannot reach the database of ${name}: .*database "nonesuch" does not exist$`),
    );
  });

  test("a session whose psql or backend is killed says so, now and ever after", async () => {
    const place = await placeOf(kind);
    const database = `killed_${kind.length}`;
    await withPsql(kind, (psql) => psql.execute(`create database ${database}`));
    const killed = await openPsql(place, database);
    const answer = failureOf(killed.rows("select pg_sleep(60)::text"));
    const pid = await poll({ seconds: 20 }, async () => programsNamed("psql", `PGDATABASE=${database}`)[0]);
    await killAndWait(pid!);
    expect((await answer)!.message).toMatch(
      new RegExp(`^The session with the database of ${place.name} has ended: psql ended with (137|SIGKILL)$`),
    );
    expect((await failureOf(killed.execute("select 1")))!.message).toStartWith("The session with the database of ");
    await killed.close();
    const cut = await openPsql(place, "template1");
    const [row] = await cut.rows<{ pid: number }>("select pg_backend_pid() as pid");
    await withPsql(kind, (psql) => psql.execute(`select pg_terminate_backend(${row!.pid})`));
    const text = await textOf(cut.rows("select 1"));
    expect(text).toContain(`The session with the database of ${place.name} has ended: psql ended with 2\n`);
    expect(text).toContain("terminating connection due to administrator command");
    await cut.close();
    await withPsql(kind, (psql) => psql.execute(`drop database ${database} with (force)`));
  });

  test("close() ends what Postgres is still doing for it", async () => {
    const psql = await openPsql(await placeOf(kind));
    const asked = failureOf(psql.rows("select pg_sleep(600)::text as busy_bee"));
    const busy = () =>
      withPsql(kind, async (other) => {
        const query = "select pid from pg_stat_activity where query like '%busy_bee%' and pid <> pg_backend_pid()";
        return (await other.rows(query)).length;
      });
    expect(await poll({ seconds: 20 }, async () => ((await busy()) === 1 ? true : undefined))).toBe(true);
    await Promise.all([psql.close(), psql.close()]);
    expect((await asked)!.message).toContain("has ended");
    expect(await poll({ seconds: 10 }, async () => ((await busy()) === 0 ? true : undefined))).toBe(true);
  });

  test("a dump through supervised() is whole, and one that fails says why", async () => {
    const place = await placeOf(kind);
    await withPsql(kind, (psql) =>
      psql.execute("create table much as select repeat('x', 1000) from generate_series(1, 3000)"),
    );
    const bytes = async (words: string[]) => {
      let count = 0;
      const stage = { name: "pg_dump", ...place.supervised(words), heartbeat: true };
      for await (const chunk of flow([stage]).output) count += chunk.length;
      return count;
    };
    const direct = await run(place.client(["pg_dump", "--table=much", "--data-only"]));
    expect(await bytes(["pg_dump", "--table=much", "--data-only", "--no-comments"])).toBeWithin(
      direct.stdout.length - 200,
      direct.stdout.length + 200,
    );
    const text = await textOf(bytes(["pg_dump", "--table=nonesuch"]));
    expect(text).toBe(`pg_dump failed: it exited with 1\n  | pg_dump: error: no matching tables were found`);
    await withPsql(kind, (psql) => psql.execute("drop table much"));
  });

  test("when the kit is killed in the middle of a dump, neither pg_dump nor its backend stays", async () => {
    const database = `left_${kind.length}`;
    await withPsql(kind, (psql) => psql.execute(`create database ${database}`));
    const place = await placeOf(kind);
    const psql = await openPsql(place, database);
    await psql.execute("create table large as select repeat(md5(n::text), 30) from generate_series(1, 30000) n");
    const dumps = () => programsNamed("pg_dump", `PGDATABASE=${database}`);
    // Asked by another session: within one transaction the list of sessions stays as it was first seen.
    const watcher = await openPsql(place);
    const backends = async () => {
      const query = `select pid from pg_stat_activity where datname = '${database}' and application_name = 'pg_dump'`;
      return (await watcher.rows(query)).length;
    };
    // Once it is stuck because nobody reads what it writes, and once because it waits for a lock, where no write ever fails.
    for (const lock of ["select 1", "begin; lock table large in access exclusive mode"]) {
      await psql.execute(lock);
      const kit = await startDump({ ...where[kind] }, database);
      expect(
        await poll({ seconds: 30 }, async () => (dumps().length > 0 && (await backends()) === 1 ? true : undefined)),
      ).toBe(true);
      await killAndWait(kit.pid);
      expect(
        await poll({ seconds: 40 }, async () => (dumps().length + (await backends()) === 0 ? true : undefined)),
      ).toBe(true);
      await psql.execute("rollback");
    }
    await Promise.all([psql.close(), watcher.close()]);
    await withPsql(kind, (other) => other.execute(`drop database ${database} with (force)`));
    // A kit that was killed cannot remove its socket's folder.
    for (const name of readdirSync(temporary).filter((it) => it.startsWith("dbops-kit-"))) {
      rmSync(join(temporary, name), { recursive: true, force: true });
    }
  });

  test("the password is in no command line", async () => {
    const watch = await watchArgv([password, encodeURIComponent(password)]);
    const place = await openPlace(where[kind]);
    const psql = await openPsql(place);
    await psql.rows("select 1");
    await psql.close();
    await run(place.client(["pg_dump", "--schema-only"]));
    await flow([{ name: "pg_dumpall", ...place.supervised(["pg_dumpall", "--globals-only"]), heartbeat: true }]).stop();
    await place.close();
    const { found, seen } = await watch.stop();
    expect(found).toEqual([]);
    expect(seen.filter((line) => /psql --no-psqlrc/.test(line)).length).toBeGreaterThan(0);
  });
});

test("Postgres itself has noticed nothing of it all", async () => {
  const logs = await Promise.all([project.compose(["logs", "postgres"]), server.ssh("docker logs postgres 2>&1")]);
  for (const { stdout } of logs) {
    expect(stdout).toContain("ready to accept connections");
    // Being the first process of its container it inherits every orphan, and takes some of their deaths for a crash of its own.
    // Where it makes the first database, it may notice the end of the server that did so.
    const since = stdout.replace(/[\s\S]*init process complete[\s\S]*?ready to accept connections/, "");
    expect(since).not.toMatch(/untracked child|recovery|terminating any other/);
  }
});

/** A kit in a process of its own that begins to dump, and then reads no further. */
async function startDump(from: Where, database: string) {
  const kitFolder = mkdtempSync(join(temporary, "dbops-kit-"));
  const script = `
    import { openPlace } from "./scripts/lib/place.ts";
    import { flow } from "./scripts/lib/flow.ts";
    const { from, database } = JSON.parse(process.argv.at(-1));
    const place = await openPlace(from);
    const dump = place.supervised(["env", "PGDATABASE=" + database, "pg_dump", "--format=custom", "--compress=0"]);
    const { output } = flow([{ name: "pg_dump", ...dump, heartbeat: true }]);
    await output.next();
    setInterval(() => {}, 1000);`;
  const argv = [process.execPath, "-e", script, JSON.stringify({ from, database })];
  return await start({ argv, directory: repository, environment: { TMPDIR: kitFolder }, ownGroup: true });
}

describe("the connection that is shared", () => {
  const connections = () => {
    const remote = server.address.split(".").map(Number).reverse();
    const address = remote.map((byte) => byte.toString(16).padStart(2, "0").toUpperCase()).join("");
    const lines = readFileSync("/proc/net/tcp", "utf8").split("\n");
    return lines.filter((line) => new RegExp(`: \\S+ ${address}:0016 01 `).test(line)).length;
  };
  const sshProcesses = () => allProcesses().filter((pid) => argvOf(pid).join(" ").includes(temporary));

  test("is one, however many programs run; close() leaves neither a process nor a socket", async () => {
    await Promise.all(open.map((place) => place.close()));
    delete places["a container on a server"];
    expect([connections(), sshProcesses(), readdirSync(temporary)]).toEqual([0, [], []]);
    const place = await openPlace(where["a container on a server"]);
    const sessions = await Promise.all([1, 2, 3, 4, 5].map(() => openPsql(place)));
    const busy = sessions.map((psql) => failureOf(psql.rows("select pg_sleep(600)::text")));
    const results = await Promise.all(
      [1, 2, 3].map((n) => run(place.client(["sh", "-c", `echo ${n}; exit ${n}`])).catch(asFailure)),
    );
    expect(results).toHaveLength(3);
    expect(connections()).toBe(1);
    expect(readdirSync(temporary)).toHaveLength(1);
    await place.close();
    expect((await Promise.all(busy)).map((failure) => failure!.message)).toEqual(
      Array(5).fill(`The session with the database of ${place.name} has ended: the connection to the server was lost`),
    );
    await Promise.all(sessions.map((psql) => psql.close()));
    expect([connections(), sshProcesses(), readdirSync(temporary)]).toEqual([0, [], []]);
    await place.close();
  });

  test("is not replaced by another one when there are more programs than the server allows", async () => {
    const place = await openPlace(where["a container on a server"]);
    const opened = await Promise.allSettled(Array.from({ length: 14 }, () => openPsql(place)));
    expect(connections()).toBe(1);
    const failures = opened.flatMap((one) => (one.status === "rejected" ? [asFailure(one.reason).message] : []));
    expect(failures.length).toBeGreaterThan(0);
    expect(new Set(failures)).toEqual(
      new Set([`The session with the database of ${place.name} has ended: the connection to the server was lost`]),
    );
    await place.close();
    await Promise.all(opened.flatMap((one) => (one.status === "fulfilled" ? [one.value.close()] : [])));
    expect([connections(), sshProcesses(), readdirSync(temporary)]).toEqual([0, [], []]);
  });

  test("is cut: the session says so within half a minute, and on the server pg_dump ends by itself", async () => {
    const place = await openPlace(where["a container on a server"]);
    const psql = await openPsql(place);
    await psql.execute("create table held (n int)");
    await psql.execute("begin; lock table held in access exclusive mode");
    const stage = { name: "pg_dump", ...place.supervised(["pg_dump"]), heartbeat: true };
    const dumping = failureOf(flow([stage]).output.next());
    const dumps = () => programsNamed("pg_dump", "PGDATABASE=shop");
    expect(await poll({ seconds: 20 }, async () => (dumps().length === 1 ? true : undefined))).toBe(true);
    const asking = failureOf(psql.rows("select pg_sleep(100)::text", 90));
    await server.cutOff();
    try {
      expect((await dumping)!.message).toStartWith("pg_dump failed: ");
      expect((await asking)!.message).toBe(
        `The session with the database of ${place.name} has ended: the connection to the server was lost`,
      );
      expect(await poll({ seconds: 45 }, async () => (dumps().length === 0 ? true : undefined))).toBe(true);
    } finally {
      await server.reconnect();
    }
    await Promise.all([psql.close(), place.close()]);
    expect([sshProcesses(), readdirSync(temporary)]).toEqual([[], []]);
  });
});

describe("no way in", () => {
  const refused = async (changes: Partial<Where>) =>
    textOf(openPlace({ ...where["a container on a server"], ...changes }));

  test("an unknown and a changed host key, a key without rights, a server without an address", async () => {
    const other = join(folder, "other");
    mkdirSync(other);
    writeFileSync(join(other, "known_hosts"), "");
    expect(await refused({ directory: other })).toStartWith(`Cannot trust ${server.address} yet: `);
    await run({ argv: ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", join(other, "key")] });
    const key = readFileSync(join(other, "key.pub"), "utf8").split(" ").slice(0, 2).join(" ");
    writeFileSync(join(other, "known_hosts"), `${server.address} ${key}\nno-such-host.invalid ${key}\n`);
    expect(await refused({ directory: other })).toStartWith(
      `Refusing to talk to ${server.address}: its host key has changed: `,
    );
    process.env.DBOPS_SSH_KEY_FILE = join(other, "key");
    expect(await refused({})).toStartWith(`Cannot log in to deploy@${server.address}: `);
    process.env.DBOPS_SSH_KEY_FILE = server.privateKeyFile;
    const settings = await settingsOf("deploy@no-such-host.invalid");
    expect(await refused({ directory: other, settings })).toStartWith("Cannot reach no-such-host.invalid: ");
    expect(readdirSync(temporary)).toEqual([]);
  });

  test("a server where it does not run, and one where Docker does not answer", async () => {
    expect(await refused({ settings: await settingsOf(`deploy@${server.address}`, "other") })).toBe(
      `Cannot reach the database of deploy@${server.address}: no container of the service postgres runs there
  next: on the server: cd /opt/shop && docker compose up --detach --wait postgres
  read: docs/runbook/database-unhealthy.md`,
    );
    await server.ssh("chmod 0600 /var/run/docker.sock", { user: "root" });
    const text = await refused({});
    await server.ssh("chmod 0660 /var/run/docker.sock", { user: "root" });
    expect(text).toStartWith(`Cannot ask Docker on deploy@${server.address}: permission denied `);
    expect(readdirSync(temporary)).toEqual([]);
  });

  test("a URL that nobody answers, and this machine without psql", async () => {
    const openUrl = async (url: string) => openPsql(await openPlace({ ...where["a URL"], url }));
    const nobody = await textOf(openUrl("postgres://a@127.0.0.1:1/a"));
    expect(nobody).toStartWith("Cannot reach the database of 127.0.0.1:1: connection to server at ");
    const PATH = process.env.PATH;
    process.env.PATH = temporary;
    const missing = await textOf(openUrl("postgres://a@127.0.0.1:1/a"));
    process.env.PATH = PATH;
    expect(missing).toBe(`Cannot reach the database of 127.0.0.1:1: "psql" is not installed, or not on PATH
  next: install Postgres' own programs, on Debian: apt-get install postgresql-client`);
  });
});
