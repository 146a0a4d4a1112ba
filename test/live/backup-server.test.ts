// scripts/backup.ts --on production: the database is in a container of a server, reached over one SSH connection; nothing of the backup
// stays there.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Manifest } from "../../scripts/lib/manifest.ts";
import { watchArgv } from "../lab/argv-watch.ts";
import { type BackupProject, createBackupProject } from "../lab/backup-project.ts";
import { plainSsh } from "../lab/plain-ssh.ts";
import { type Server, startServer } from "../lab/server.ts";

setDefaultTimeout(120_000);

const password = "pa$$ 'of \"the server";
let folder: string;
let lab: BackupProject;
let server: Server;
let environment: Record<string, string | undefined>;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "dbops-backup-"));
  [lab, server] = await Promise.all([createBackupProject(folder), startServer({ kind: "docker", withImages: true })]);
  await server.ssh(`read -r password <<'END'
${password}
END
    docker run --detach --name postgres --label com.docker.compose.project=dbops-app \
      --label com.docker.compose.service=postgres --env POSTGRES_USER=shop --env POSTGRES_PASSWORD="$password" postgres:18-alpine
    until docker exec postgres pg_isready --quiet --host 127.0.0.1; do sleep 0.2; done
    docker exec --interactive postgres psql --username shop --quiet <<'END'
    create table orders as select n, md5(n::text) as text from generate_series(1, 50000) n;
END`);
  await lab.project.write("known_hosts", `${server.address} ${server.hostKey}\n`);
  const production = {
    ...{ server: `deploy@${server.address}`, directory: "/opt/dbops-app", domain: "shop.test", image: "shop" },
  };
  await lab.configure({ prefix: "server" }, { local: {}, production });
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
