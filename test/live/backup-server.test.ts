// scripts/backup.ts --on production: the database is in a container of a server, reached over one SSH connection; nothing of the backup
// stays there.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Config } from "../../scripts/lib/config.ts";
import type { Manifest } from "../../scripts/lib/manifest.ts";
import { poll } from "../../scripts/lib/wait.ts";
import { watchArgv } from "../lab/argv-watch.ts";
import { type BackupProject, createBackupProject } from "../lab/backup-project.ts";
import { plainSsh } from "../lab/plain-ssh.ts";
import { argvOf, childrenOf } from "../lab/processes.ts";
import { randomFrom } from "../lab/random.ts";
import { startS3Proxy } from "../lab/s3-proxy.ts";
import { type Server, startServer } from "../lab/server.ts";

setDefaultTimeout(120_000);

const password = "pa$$ 'of \"the server";
let folder: string;
let lab: BackupProject;
let server: Server;
let environment: Record<string, string | undefined>;
let environments: Config["environments"];
const partBytes = 8 * 2 ** 20;
const random = randomFrom("backup-server");

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "dbops-backup-"));
  [lab, server] = await Promise.all([createBackupProject(folder), startServer({ kind: "docker", withImages: true })]);
  await server.ssh(`read -r password <<'END'
${password}
END
    docker run --detach --name postgres --label com.docker.compose.project=dbops-app \
      --label com.docker.compose.service=postgres --label com.docker.compose.oneoff=False --env POSTGRES_USER=shop --env POSTGRES_PASSWORD="$password" postgres:18-alpine
    until docker exec postgres pg_isready --quiet --host 127.0.0.1; do sleep 0.2; done
    docker exec --interactive postgres psql --username shop --quiet <<'END'
    create table orders as select n, md5(n::text) as text from generate_series(1, 50000) n;
END`);
  await lab.project.write("known_hosts", `${server.address} ${server.hostKey}\n`);
  const production = {
    ...{ server: `deploy@${server.address}`, directory: "/opt/dbops-app", domain: "shop.test", image: "shop" },
  };
  environments = { local: {}, production };
  await lab.configure({ prefix: "server" }, environments);
  const ssh = await plainSsh(folder, "ControlPersist 10m\nControlMaster auto\n");
  environment = {
    ...{ ...ssh, DBOPS_SSH_KEY_FILE: server.privateKeyFile, PATH: `${join(folder, "bin")}:${lab.environment.PATH}` },
  };
}, 300_000);
afterAll(async () => {
  await Promise.all([lab?.remove(), server?.stop()]);
  rmSync(folder, { recursive: true, force: true });
});

test("a backup of the server's database, with its passwords in no command line and nothing left on either side", async () => {
  const filesOf = async () => (await server.ssh("ls -A /tmp ~; docker exec postgres ls -A /tmp /root")).stdout;
  const before = await filesOf();
  const watch = await watchArgv([...lab.secrets, password]);
  const { exitCode, stdout, stderr } = await lab.backup(["--on", "production", "--json"], environment);
  const { found } = await watch.stop();
  expect([exitCode, found], stderr).toEqual([0, []]);
  const manifest = JSON.parse(stdout) as Manifest;
  expect([manifest.host, manifest.environment, manifest.database, manifest.rows, manifest.settings.owner]).toEqual([
    `deploy@${server.address}`,
    "production",
    "shop",
    { "public.orders": 50_000 },
    "shop",
  ]);
  expect([await filesOf(), readdirSync(join(folder, "tmp"))]).toEqual([before, []]);
  const verify = await lab.backup(["verify", "--on", "production"], environment);
  expect([verify.exitCode, verify.stdout]).toEqual([0, expect.stringContaining(`Backup ${manifest.id} is whole`)]);
  for (const secret of [...lab.secrets, password]) expect(lab.printed()).not.toContain(secret);
});

test.each([
  [
    "that carries the dump",
    (argv: readonly string[]) => argv.some((word) => word.includes("pg_dump")),
    "pg_dump failed: it was ended by SIGKILL",
  ],
  ["that the others share", (argv: readonly string[]) => argv.some((word) => word.includes("exec cat")), undefined],
])(
  "the end of the ssh %s at a random byte: exit 1, nothing listed, nothing left here or there",
  async (_, isMeant, sentence) => {
    await server.ssh(`docker exec --interactive postgres psql --username shop --quiet <<'END'
create extension if not exists pgcrypto; create table if not exists bulk as select gen_random_bytes(1000) as noise from generate_series(1, 45000);
END`);
    const proxy = await startS3Proxy(lab.s3.endpoint);
    await lab.configure({ prefix: "cut", endpoint: proxy.url }, environments);
    const byte = random.below(15_000_000);
    let strike = () => {};
    const reached = new Promise<void>((resolve) => {
      strike = resolve;
    });
    let free = () => {};
    const isOver = new Promise<void>((resolve) => {
      free = resolve;
    });
    const work = () => {
      strike();
      return isOver;
    };
    proxy.hit(new RegExp(`^PUT .*partNumber=${1 + Math.floor(byte / partBytes)}&`), { atByte: byte % partBytes, work });
    const kit = await lab.start(["--on", "production"], environment);
    await Promise.race([reached, kit.ended]);
    const meant = childrenOf(kit.pid).filter((pid) => argvOf(pid)[0]?.endsWith("ssh") && isMeant(argvOf(pid)));
    expect(meant, `byte ${byte}: ${kit.said.stderr}`).toHaveLength(1);
    process.kill(meant[0]!, "SIGKILL");
    const exitCode = await kit.ended;
    free();
    const said = kit.said.stderr.split("\n").filter((line) => line && !line.startsWith("  "));
    expect([exitCode, said[0]], kit.said.stderr).toEqual([
      1,
      sentence ?? expect.stringMatching(/connection|it exited with 255/),
    ]);
    const store = await lab.store();
    expect([await store.list(""), await store.listUnfinished("")]).toEqual([[], []]);
    const sessions =
      "docker exec postgres psql --username shop --tuples-only --no-align --command \"select count(*) from pg_stat_activity where application_name = 'pg_dump'\"";
    expect(
      await poll({ seconds: 60 }, async () => ((await server.ssh(sessions)).stdout.trim() === "0" ? true : undefined)),
    ).toBe(true);
    expect(readdirSync(join(folder, "tmp"))).toEqual([]);
    await proxy.stop();
    await lab.configure({ prefix: "server" }, environments);
  },
);

test("a server that does not answer: what it says, nothing made", async () => {
  await server.ssh("docker stop --time 1 postgres");
  const { exitCode, stderr } = await lab.backup(["--on", "production"], environment);
  expect([exitCode, stderr]).toEqual([
    3,
    `  FAILED connect   ${/connect +([\d.]+ s)/.exec(stderr)?.[1]?.padStart(9) ?? ""}
Cannot reach the database of deploy@${server.address}: no container of the service postgres runs there
  next: on the server: cd /opt/dbops-app && docker compose up --detach --wait postgres
  read: docs/runbook/database-unhealthy.md
`,
  ]);
  writeFileSync(join(lab.project.directory, "known_hosts"), "");
  const stranger = await lab.backup(["--on", "production"], environment);
  expect([stranger.exitCode, stranger.stderr]).toEqual([2, expect.stringContaining(server.address)]);
  expect((await lab.backup(["list", "--json"])).stdout.match(/"id":/g)?.length).toBe(1);
});
