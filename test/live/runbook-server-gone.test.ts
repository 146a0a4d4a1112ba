// The page for the night when the server is lost, followed to the letter: one server is destroyed, and everything comes back on
// another that was bare Debian a minute before.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fingerprintOf } from "../../scripts/lib/known-hosts.ts";
import { type Result, run } from "../../scripts/lib/run.ts";
import { createDeployProject, type DeployProject } from "../lab/deploy-project.ts";
import { imageNames } from "../lab/images/names.ts";
import { plainSsh } from "../lab/plain-ssh.ts";
import { type Registry, startRegistry } from "../lab/registry.ts";
import { blocksOf } from "../lab/runbook.ts";
import { type S3, startS3 } from "../lab/s3.ts";
import { type Server, startServer } from "../lab/server.ts";

setDefaultTimeout(200_000);

let folder: string;
let lost: Server;
let server: Server;
let registry: Registry;
let s3: S3;
let project: DeployProject;
let image: string;
let environment: Record<string, string | undefined>;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "dbops-server-gone-"));
  [lost, server, registry, s3] = await Promise.all([
    startServer({ kind: "docker", withImages: true }),
    startServer({ kind: "bare" }),
    startRegistry(),
    startS3(),
  ]);
  await s3.createBucket("backups");
  const backup = { bucket: "backups", endpoint: s3.endpoint };
  project = await createDeployProject({ server: lost, registry, config: { deploy: { bakeSeconds: 0 }, backup } });
  environment = {
    ...{
      ...project.environment,
      NO_COLOR: "1",
      BACKUP_PASSPHRASE: "correct horse",
      BACKUP_ACCESS_KEY_ID: s3.accessKeyId,
    },
    ...{ BACKUP_SECRET_ACCESS_KEY: s3.secretAccessKey, DBOPS_REGISTRY_USER: registry.user },
    DBOPS_REGISTRY_PASSWORD: registry.password,
  };
  image = (await project.buildStarter({ release: "s1" })).pinned;
  await bash(`bun scripts/deploy.ts --image ${image}`);
  await lost.ssh(`docker exec --interactive shop-postgres-1 psql --quiet -U dbops_app -d dbops_app <<'END'
insert into accounts (email, password_hash) select g || '@example.com', 'x' from generate_series(1, 1000) g;
alter database dbops_app set statement_timeout to '7s';
END`);
  await bash("bun scripts/backup.ts --on production");
  // As every server in the registry's network does.
  await registry.trustedBy(server);
}, 300_000);
afterAll(async () => {
  await project?.remove();
  await Promise.all([lost?.stop(), server?.stop(), registry?.stop(), s3?.stop()]);
  rmSync(folder, { recursive: true, force: true });
});

test("server-gone: provisioned, deployed, restored, backed up", async () => {
  const page = "server-gone";
  await lost.stop();
  // The accounts, four versions, and the sums of their files.
  expect((await bash((await blocksOf(page, "Diagnosis")).join("\n"))).stdout).toContain("1008 rows");

  await project.edit("dbops.config.ts", (text) => text.replaceAll(lost.address, server.address));
  const login = `IdentityFile ${server.privateKeyFile}\nIdentitiesOnly yes\nBatchMode yes\n`;
  const ssh = await plainSsh(folder, login);
  const path = `${join(folder, "bin")}:${environment.PATH}`;
  environment = { ...environment, ...ssh, PATH: path, DBOPS_SSH_KEY_FILE: server.privateKeyFile };
  const fingerprint = fingerprintOf({ key: server.hostKey.split(" ")[1]! });
  const words = `address=${server.address} fingerprint=${fingerprint} image=${image} name=shop`;
  const [provision, ...rest] = await blocksOf(page, "Mitigation");
  const seconds: string[] = [];
  const follow = async (block: string) => {
    const started = performance.now();
    const result = await bash(`${words}\n${block}`);
    seconds.push(`${/scripts\/(\w+)/.exec(block)?.[1]} ${((performance.now() - started) / 1000).toFixed(1)} s`);
    return result;
  };
  await follow(provision!);
  // What a server elsewhere pulls from public registries.
  await server.loadImages([imageNames.postgres, imageNames.nginx, imageNames.dbmate]);
  const [deployed, restored, backedUp] = [await follow(rest[0]!), await follow(rest[1]!), await follow(rest[2]!)];
  console.log(seconds.join(", "));
  expect(rest).toHaveLength(3);
  expect(deployed.stderr).toContain("done   start");
  expect(restored.stdout).toContain('"dbops_app" has 1008 rows in 5 tables');
  expect(backedUp.stdout).toContain("1008 rows in 5 tables");
  const verify = await bash(`${words}\n${(await blocksOf(page, "Verify")).join("\n")}`);
  expect(verify.stdout).toContain('{"status":"ready"}');
  const timeout = "docker exec shop-postgres-1 psql -qtAX -U dbops_app -d dbops_app -c 'show statement_timeout'";
  expect((await server.ssh(timeout, { user: "root" })).stdout).toBe("7s\n");
  expect(readFileSync(join(project.directory, "known_hosts"), "utf8")).toContain(server.address);
});

/** In the project's directory. */
const bash = (script: string): Promise<Result> =>
  run({
    argv: ["bash", "-euo", "pipefail", "-c", script],
    ...{ directory: project.directory, environment, timeoutSeconds: 180 },
  });
