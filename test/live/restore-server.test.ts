// scripts/restore.ts --on production: everything through one SSH connection to a server with the stack, its own migrations/ included.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { run } from "../../scripts/lib/run.ts";
import { plainSsh } from "../lab/plain-ssh.ts";
import { writeProjectFiles } from "../lab/project-files.ts";
import { repository } from "../lab/repository.ts";
import { type S3, startS3 } from "../lab/s3.ts";
import { type Server, startServer } from "../lab/server.ts";

setDefaultTimeout(300_000);

let folder: string;
let directory: string;
let server: Server;
let s3: S3;
let environment: Record<string, string | undefined>;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "dbops-restore-server-"));
  [server, s3] = await Promise.all([startServer({ kind: "docker", withImages: true }), startS3()]);
  await s3.createBucket("backups");
  ({ directory } = await writeProjectFiles({ domain: "localhost", runtime: "bun" }));
  const config = join(directory, "dbops.config.ts");
  const production = `{ server: "deploy@${server.address}", directory: "/home/deploy/app", domain: "localhost", image: "app" }`;
  const text = readFileSync(config, "utf8")
    .replace(/production: \{[^}]*\}/, `production: ${production}`)
    .replace("  deploy: {", `  backup: { bucket: "backups", endpoint: "${s3.endpoint}" },\n  deploy: {`);
  writeFileSync(config, text);
  writeFileSync(join(directory, "known_hosts"), `${server.address} ${server.hostKey}\n`);
  environment = {
    ...(await plainSsh(folder)),
    ...{ DBOPS_SSH_KEY_FILE: server.privateKeyFile, CI: "1", BACKUP_PASSPHRASE: "correct horse" },
    ...{ BACKUP_ACCESS_KEY_ID: s3.accessKeyId, BACKUP_SECRET_ACCESS_KEY: s3.secretAccessKey },
  };
  const packed = await run({
    argv: ["sh", "-c", "tar -c compose.yaml compose migrations nginx | base64 -w 0"],
    directory,
  });
  await server.ssh(
    `mkdir ~/app && cd ~/app && base64 -d <<'END' | tar -x
${packed.stdout}
END
    printf '%s\\n' COMPOSE_PATH_SEPARATOR=: COMPOSE_FILE=compose.yaml:compose/development.yaml POSTGRES_PASSWORD=secret \\
      POSTGRES_DB=shop POSTGRES_USER=shop > .env
    docker compose up --detach --wait postgres && docker compose run --rm --no-TTY migrations`,
    { timeoutSeconds: 120 },
  );
});

afterAll(async () => {
  await Promise.all([server?.stop(), s3?.stop()]);
  if (directory) rmSync(directory, { recursive: true, force: true });
  rmSync(folder, { recursive: true, force: true });
});

const kit = (name: "backup" | "restore", words: readonly string[]) =>
  run({
    argv: ["bun", "--no-env-file", join(repository, "scripts", `${name}.ts`), ...words, "--on", "production"],
    ...{ directory, environment, accept: [0, 1, 2, 3, 4, 5], timeoutSeconds: 200 },
  });

const psql = async (sql: string) =>
  (
    await server.ssh(`cd ~/app && docker compose exec -T postgres psql -U shop -d shop -qtA <<'END'\n${sql}\nEND`)
  ).stdout.trim();

test("a backup comes back on the server, gets the migrations that the server has, and goes away again", async () => {
  await psql("insert into accounts (email, password_hash) select g || '@x', 'x' from generate_series(1, 1000) g");
  const backup = await kit("backup", ["--json"]);
  expect([backup.exitCode, backup.exitCode === 0 ? "" : backup.stderr]).toEqual([0, ""]);
  await psql("truncate accounts cascade");
  await server.ssh(
    `printf '%s\\n' '-- migrate:up' 'create table later (id int);' '-- migrate:down' > ~/app/migrations/20991231000001_later.sql`,
  );
  const count = "select count(*) from accounts; select to_regclass('later')";

  const unconfirmed = await kit("restore", ["latest"]);
  expect(unconfirmed.exitCode).toBe(5);
  expect(unconfirmed.stderr).toContain("--confirm dbops-app");
  const misconfirmed = await kit("restore", ["latest", "--confirm", "another", "--yes"]);
  expect(misconfirmed.stderr).toContain('Nothing was changed: --confirm says "another", and this is "dbops-app"');

  const restored = await kit("restore", ["latest", "--confirm", "dbops-app"]);
  expect([restored.exitCode, restored.exitCode === 0 ? "" : restored.stderr]).toEqual([0, ""]);
  expect(await psql(count)).toBe("1000\nlater");
  const file = "-- migrate:up\ncreate table later (id int);\n-- migrate:down\n";
  expect(await psql("select sha256 from dbops.migration_files where version = '20991231000001'")).toBe(
    createHash("sha256").update(file).digest("hex"),
  );
  expect(restored.stderr).toContain(`on deploy@${server.address}, made of shop on deploy@${server.address}`);

  const undone = await kit("restore", ["--undo", "--confirm", "dbops-app"]);
  expect(undone.exitCode).toBe(0);
  expect(await psql(count)).toBe("0");
});
