// The pages of the runbook about deploys and servers, followed to the letter: the fault is made on a lab server, then the blocks of
// its page are run there by a plain shell over plain ssh, in /opt/NAME, where nothing of the kit's scripts is.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { Config } from "../../scripts/lib/config.ts";
import { type Result, run, sendSignal } from "../../scripts/lib/run.ts";
import { poll } from "../../scripts/lib/wait.ts";
import type { PushedImage } from "../lab/deploy-app.ts";
import { createDeployProject, type DeployProject } from "../lab/deploy-project.ts";
import { imageNames } from "../lab/images/names.ts";
import { startLoad } from "../lab/load.ts";
import { type Registry, startRegistry } from "../lab/registry.ts";
import { blocksOf } from "../lab/runbook.ts";
import { type Server, startServer } from "../lab/server.ts";

setDefaultTimeout(300_000);

let server: Server;
let registry: Registry;
let project: DeployProject;
let a1: PushedImage;
let a2: PushedImage;

beforeAll(async () => {
  [server, registry] = await Promise.all([startServer({ kind: "docker", withImages: true }), startRegistry()]);
  project = await createDeployProject({ server, registry, config: { deploy: { bakeSeconds: 1 } } });
  a1 = await project.buildApp({ release: "a1" });
  a2 = await project.buildApp({ release: "a2" });
  await deploy(a1);
});
afterAll(async () => {
  await project?.remove();
  await server?.stop();
  await registry?.stop();
});

test("deploy-unhealthy", async () => {
  const crash = await project.buildApp({ release: "crash", behaviour: "crash" });
  expect(await failing(crash)).toContain("read: docs/runbook/deploy-unhealthy.md");
  // The app that is started once more ends with 3.
  expect(await follow("deploy-unhealthy", "Diagnosis", { mayFail: true })).toContain("cannot find the engine room");
  expect(await follow("deploy-unhealthy", "Verify")).toMatch(/ live\n.*"status":"ready"/);
  await deploy(a1);
});

test("deploy-is-locked", async () => {
  const page = "deploy-is-locked";
  const unhealthy = await project.buildApp({ release: "unhealthy", behaviour: "unhealthy" });
  await withDeploy({ healthSeconds: 200 }, async () => {
    const stuck = await startDeploy(unhealthy);
    await stuck.says("done   start");
    expect(await failing(a2, { words: ["--wait", "0"], exitCode: 4 })).toContain(`read: docs/runbook/${page}.md`);
    const diagnosis = await follow(page, "Diagnosis");
    expect(diagnosis).toContain(`deploy of ${unhealthy.pinned}`);
    const [, first] = /^ *(\d+) .*bash -s -- /m.exec(diagnosis)!;
    await onServer(`kill ${first}`);
    expect(await stuck.ended).toBe(1);
    expect(await follow(page, "Verify")).toMatch(/^free\n\d+ \w+ (live|warm)\n/);
  });
  // What was half done is no obstacle.
  await deploy(a2);
});

test("deploy-is-locked: a step that hangs is ended, and the deploy goes back by itself", async () => {
  await deploy(a1);
  const absent = await project.buildApp({ release: "absent" });
  registry.pause();
  try {
    const stuck = await startDeploy(absent);
    const pid = await poll({ seconds: 20 }, async () => {
      const diagnosis = await follow("deploy-is-locked", "Diagnosis", { mayFail: true });
      return /^ *(\d+) .* docker (?:pull|login) /m.exec(diagnosis)?.[1];
    });
    await onServer(`kill ${pid}`);
    expect(await stuck.ended).toBe(1);
    expect(stuck.output()).toContain("serves as before");
    expect(await follow("deploy-is-locked", "Verify")).toMatch(/^free\n/);
  } finally {
    registry.resume();
  }
  await deploy(a2);
});

test("disk-full", async () => {
  const images = async () =>
    Number((await onServer(`docker image ls --quiet ${project.image} | sort --unique | wc --lines`)).stdout);
  // One that neither slot has a container of.
  for (const image of [await project.buildApp({ release: "a0" }), a2, a1]) await deploy(image);
  const before = await images();
  await server.fillDisk();
  try {
    expect(await failing(a2, { exitCode: 3 })).toContain("read: docs/runbook/disk-full.md");
    const diagnosis = await follow("disk-full", "Diagnosis");
    expect(diagnosis).toContain("100% /");
    // Whoever reads this knows what to remove, which is the first step of Mitigation.
    expect(diagnosis).toMatch(/\d+(\.\d+)?G .* \/filler$/m);
  } finally {
    await server.freeDisk();
  }
  await follow("disk-full", "Mitigation");
  expect([before > 2, await images()]).toEqual([true, 2]);
  expect(await follow("disk-full", "Verify")).not.toContain("100% /");
  // What a server elsewhere pulls again from a public registry.
  await server.loadImages([imageNames.dbmate]);
  await deploy(a2);
  // The image of the release before has outlived it all.
  await project.run("rollback", ["--yes"]);
});

test("bad-nginx-configuration", async () => {
  const page = "bad-nginx-configuration";
  const file = "nginx/shared/limits.conf";
  const nonsense = "limit_req_zone nonsense;\n";
  await project.edit(file, (text) => text + nonsense);
  expect(await failing(a2, { exitCode: 2 })).toContain(`read: docs/runbook/${page}.md`);
  await project.edit(file, (text) => text.replace(nonsense, ""));
  expect((await project.ask("/")).status).toBe(200);

  // By hand, and noticed too late.
  await onServer(`echo 'limit_req_zone nonsense;' >>${file} && docker compose restart nginx`);
  await expect(project.ask("/")).rejects.toThrow();
  const diagnosis = await follow(page, "Diagnosis");
  expect(diagnosis).toContain('invalid number of arguments in "limit_req_zone" directive in /etc/nginx/dbops/shared/');
  expect(diagnosis).toContain("> limit_req_zone nonsense;");
  await follow(page, "Mitigation");
  expect(await follow(page, "Verify")).toContain(" live\n");
  await answers(200);
});

test("image-cannot-be-pulled", async () => {
  const page = "image-cannot-be-pulled";
  const fresh = await project.buildApp({ release: "fresh" });
  const wrong = { DBOPS_REGISTRY_PASSWORD: "wrong" };
  expect(await failing(fresh, { environment: wrong })).toContain(`read: docs/runbook/${page}.md`);
  expect(await follow(page, "Diagnosis")).toContain("no basic auth credentials");
  expect(await follow(page, "Verify")).toContain(" live\n");

  const docker = (words: readonly string[]) => run({ argv: ["docker", ...words], environment: registry.environment });
  await docker(["pull", "--quiet", fresh.reference]);
  await project.run("deploy", ["--image", fresh.reference, "--transfer", "ssh"], {
    environment: { ...login(), ...wrong },
  });
  await docker(["image", "rm", fresh.reference]);
  expect((await project.ask("/")).release).toBe("fresh");
});

test("server-rebooted: the power fails while a new release is being watched", async () => {
  const page = "server-rebooted";
  await deploy(a1);
  await withDeploy({ bakeSeconds: 200 }, async () => {
    const cut = await startDeploy(a2);
    await cut.says("done   switch");
    await server.powerOff();
    // One that is still there would come back and finish it.
    cut.kill();
    await server.powerOn();
    await cut.ended;
  });
  const diagnosis = await follow(page, "Diagnosis");
  expect(diagnosis).toMatch(/default "\d+ (blue|green) bake";/);
  expect(diagnosis).toMatch(/"outcome":"done"\n.*$/);
  await follow(page, "Mitigation");
  expect(await follow(page, "Verify")).toMatch(/\d+ (blue|green) bake\n/);
  expect((await project.ask("/")).release).toBe("a2");
  await deploy(a2);
  expect(await follow(page, "Verify")).toMatch(/\d+ (blue|green) live\n/);
});

test("server-rebooted: Docker does not come back", async () => {
  const page = "server-rebooted";
  await server.ssh("/usr/sbin/service docker stop", { user: "root" });
  expect(await failing(a2, { exitCode: 3 })).toContain(`read: docs/runbook/${page}.md`);
  expect(await follow(page, "Diagnosis", { mayFail: true })).toContain("Cannot connect to the Docker daemon");
  await server.ssh("/usr/sbin/service docker start", { user: "root" });
  await poll({ seconds: 30 }, async () => (await onServer("docker info", [0, 1])).exitCode === 0 || undefined);
  await follow(page, "Mitigation");
  expect(await follow(page, "Verify")).toContain(" live\n");
  await answers(200);
});

test("rollback-refused", async () => {
  const page = "rollback-refused";
  const starter = await project.buildStarter({ release: "s1" });
  await deploy(starter);
  await migration("rename", "alter table sessions rename to visits;");
  await deploy(a2);
  const refused = await project.run("rollback", ["--yes"], { accept: [5] });
  expect(refused.stderr).toContain(`read: docs/runbook/${page}.md`);
  expect(refused.stderr).toContain("Table sessions is missing");
  expect(await follow(page, "Diagnosis")).toContain("_rename.sql");
  expect(await follow(page, "Verify")).toMatch(/ live\n.*"status":"ready"/);

  // Forward: what the earlier release misses, once more.
  await migration("again", "alter table visits rename to sessions;");
  await deploy(await project.buildApp({ release: "a3" }));
  const { live, releases } = JSON.parse((await project.run("rollback", ["--list", "--json"])).stdout);
  const back = releases.find(({ release, image }: { release: number; image: string }) => {
    return release < live && image === starter.pinned;
  });
  await project.run("rollback", ["--to", `${back.release}`]);
  const token = { "x-health-token": project.secrets.HEALTH_TOKEN! };
  expect((await project.ask("/health/ready", { headers: token })).body).toContain('"s1"');
  await deploy(a1);
});

test("migration-failed", async () => {
  const page = "migration-failed";
  await migration("good", "create table good_one (id int); drop table good_one;");
  const broken = await migration("broken", "alter table accounts add column email text;");
  expect(await failing(a2)).toContain(`read: docs/runbook/${page}.md`);
  const diagnosis = await follow(page, "Diagnosis");
  expect(diagnosis).toContain(`${Number(version(broken)) - 1}\n`);
  expect(diagnosis).not.toContain(version(broken));
  await rm(join(project.directory, broken));
  await deploy(a2);
  await follow(page, "Mitigation");
  expect(await follow(page, "Verify")).toContain("Pending: 0");
});

test("migration-failed: somebody holds a lock", async () => {
  await deploy(a1);
  await migration("waits", "alter table accounts add column note text; alter table accounts drop column note;");
  const psql = (query: string, accept?: readonly number[]) =>
    onServer(
      `docker compose exec -T postgres sh -c 'psql -U "$POSTGRES_USER" -d "$POSTGRES_DB" -c "${query}"'`,
      accept,
    );
  const holder = psql("begin; lock table accounts; select pg_sleep(600)", [2]);
  const waiting = await startDeploy(a2);
  await waiting.says("trying again");
  const [, pid] = /^ *(\d+) .*lock table accounts/m.exec(await follow("migration-failed", "Diagnosis"))!;
  await psql(`select pg_terminate_backend(${pid})`);
  expect((await holder).stderr).toContain("terminating connection due to administrator command");
  expect(await waiting.ended).toBe(0);
});

test("no-certificate: an expired one", async () => {
  const page = "no-certificate";
  await deploy(a1);
  const asRoot = (script: string) => server.ssh(`cd ${project.folder}/certificates && ${script}`, { user: "root" });
  const subject = `-subj /CN=${project.domain} -addext subjectAltName=DNS:${project.domain}`;
  const dates = "-not_before 20200101000000Z -not_after 20200401000000Z";
  const key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc";
  await asRoot(`install -d /root/expired /root/good && cp *.pem /root/good && cd /root/expired && umask 077 &&
openssl req -x509 ${key} ${dates} ${subject} -keyout privkey.pem -out fullchain.pem`);
  // As the page has it.
  const install = (from: string) =>
    asRoot(`cd ${from} && install -o 101 -m 0400 fullchain.pem privkey.pem ${project.folder}/certificates/`);
  const shown = async () => {
    const ask = `openssl s_client -connect ${server.address}:443 -servername ${project.domain} </dev/null`;
    const argv = ["bash", "-c", `${ask} | openssl x509 -noout -dates`];
    return (await run({ argv, environment: server.environment })).stdout;
  };
  // A worker from before the reload may still answer, to either of them.
  const expired = /notAfter=Apr +1 00:00:00 2020/;
  const refused = () =>
    project.ask("/").then(
      () => false,
      (error: Error) => error.message.includes("CERT_HAS_EXPIRED"),
    );
  try {
    await install("/root/expired");
    await follow(page, "Mitigation");
    const isExpired = async () => (expired.test(await shown()) && (await refused())) || undefined;
    expect(await poll({ seconds: 20 }, isExpired)).toBe(true);
    await follow(page, "Diagnosis");
  } finally {
    await install("/root/good");
    await follow(page, "Mitigation");
  }
  await answers(200);
});

test("roll-back-by-hand, twice, and no request fails", async () => {
  const page = "roll-back-by-hand";
  await deploy(a1);
  await deploy(a2);
  const load = await startLoad({ ...project.target, requestsPerSecond: 100 });
  const { releases, text } = await lookBack();
  // With the container that the deploy has kept.
  await follow(page, "Mitigation", { before: `to=${releases.before} old=${releases.old} new=${releases.other}` });
  expect(await follow(page, "Verify")).toMatch(new RegExp(`^${releases.before} ${releases.other} live$`, "m"));
  expect(text).toContain(`${releases.live} ${releases.old} live\n`);
  await load.until(({ releases }) => (releases.a1 ?? 0) > 100);

  // And to the other one again, whose container somebody has removed meanwhile.
  await onServer(`docker rm ${project.name}-app-${releases.old}-1`);
  await follow(page, "Mitigation", { before: `to=${releases.live} old=${releases.other} new=${releases.old}` });
  await load.until(({ releases }) => (releases.a2 ?? 0) > 100);
  const report = await load.stop();
  console.log(`${report.requests} requests, ${report.failed} failed`);
  expect(report).toMatchObject({ failed: 0, firstFailures: [] });

  // The scripts go on from here as if they had done it.
  const { stdout } = await project.run("deploy", ["--image", a2.pinned], { environment: login() });
  expect(stdout).toBe(`Release ${releases.live} serves exactly this already.\n`);
});

test("roll-back-by-hand to a release that had the slot which serves now", async () => {
  for (const release of ["b1", "b2", "b3"]) await deploy(await project.buildApp({ release }));
  const { releases } = await lookBack();
  const b1 = releases.all.at(-3)!;
  expect(b1.slot).toBe(releases.old);
  await follow("roll-back-by-hand", "Mitigation", {
    before: `to=${b1.release} old=${releases.old} new=${releases.other}`,
  });
  expect((await project.ask("/")).release).toBe("b1");
  // `up`, as after a reboot, means the same.
  await onServer("docker compose up --detach --wait");
  expect((await project.ask("/")).release).toBe("b1");

  // A deploy by hand is the same with a copy of a release, as docs/deploy.md says.
  const next = Number(releases.live) + 1;
  const { pinned } = await project.buildApp({ release: "by-hand" });
  const pull = `docker login --username ${registry.user} --password-stdin ${registry.address} <<<${registry.password}
docker pull --quiet ${pinned} && docker logout ${registry.address}`;
  await onServer(`${pull}
cp --recursive releases/${releases.live} releases/${next}
sed --in-place 's#^RELEASE_IMAGE=.*#RELEASE_IMAGE=${pinned}#' releases/${next}/.env`);
  await follow("roll-back-by-hand", "Mitigation", { before: `to=${next} old=${releases.other} new=${releases.old}` });
  expect((await project.ask("/")).release).toBe("by-hand");
  await deploy(a2);
});

/** Follows the diagnosis, and reads from it what one has to know. */
async function lookBack() {
  const text = await follow("roll-back-by-hand", "Diagnosis");
  const [, live, old] = /^(\d+) (blue|green) live$/m.exec(text)!;
  const all = [...text.matchAll(/"release":(\d+) "slot":"(\w+)".*"outcome":"done"/g)].map(([, release, slot]) => ({
    release: release!,
    slot: slot!,
  }));
  const before = all.at(-2)!.release;
  return { text, releases: { all, live: live!, before, old: old!, other: old === "blue" ? "green" : "blue" } };
}

const login = () => ({ DBOPS_REGISTRY_USER: registry.user, DBOPS_REGISTRY_PASSWORD: registry.password });

async function deploy({ pinned, release }: PushedImage): Promise<void> {
  await project.run("deploy", ["--image", pinned], { environment: login() });
  expect((await project.ask("/health")).status, release).toBe(200);
}

type Expected = { words?: readonly string[]; exitCode?: number; environment?: Record<string, string> };

/** @returns what a deploy has printed that must not succeed. */
async function failing({ pinned }: PushedImage, { words = [], exitCode = 1, environment }: Expected = {}) {
  const { stderr } = await project.run("deploy", ["--image", pinned, ...words], {
    accept: [exitCode],
    environment: { ...login(), ...environment },
  });
  return stderr;
}

async function startDeploy({ pinned }: PushedImage) {
  const lines: string[] = [];
  const { ended, pid } = await project.start("deploy", ["--image", pinned], {
    onLine: (line) => void lines.push(line),
    environment: login(),
  });
  const output = () => lines.join("\n");
  const says = async (text: string) => {
    const said = await poll({ seconds: 60 }, async () => output().includes(text) || undefined);
    if (!said) throw new Error(`it has not said "${text}":\n${output()}`);
  };
  return { ended, output, says, kill: () => sendSignal(pid, "SIGKILL") };
}

/** With other settings for a while. */
async function withDeploy(settings: NonNullable<Config["deploy"]>, work: () => Promise<void>): Promise<void> {
  await project.configure({ deploy: { bakeSeconds: 1, ...settings } });
  await work().finally(() => project.configure({ deploy: { bakeSeconds: 1 } }));
}

let migrations = 0;

/** Adds a migration that is newer than all before it. @returns its path. */
async function migration(name: string, statement: string): Promise<string> {
  migrations += 1;
  const path = `migrations/${20300101000000 + migrations}_${name}.sql`;
  await project.write(path, `-- migrate:up\n${statement}\n-- migrate:down\n`);
  return path;
}

const version = (path: string) => /\d+/.exec(path)![0];

/** nginx may need a moment to find an app that came back. */
async function answers(status: number): Promise<void> {
  const found = await poll({ seconds: 20 }, async () => {
    const answer = await project.ask("/").catch(() => undefined);
    return answer?.status === status || undefined;
  });
  expect(found).toBe(true);
}

/** A section's blocks, in one shell. @returns what they printed. */
async function follow(
  page: string,
  section: string,
  { mayFail = false, before = "" }: { mayFail?: boolean; before?: string } = {},
): Promise<string> {
  const blocks = await blocksOf(page, section);
  const options = mayFail ? "set -uo pipefail" : "set -euo pipefail";
  const { stdout, stderr } = await onServer([options, before, ...blocks].join("\n"), mayFail ? [0, 1, 3] : [0]);
  return stdout + stderr;
}

/** Not on stdin: `docker compose exec` and `run` would take the rest of the script for theirs. */
function onServer(script: string, accept: readonly number[] = [0]): Promise<Result> {
  const command = `cd ${project.folder}\n${script}`;
  const argv = ["ssh", ...server.sshArguments, `deploy@${server.address}`];
  return run({
    argv: [...argv, `bash -c '${command.replaceAll("'", `'\\''`)}'`],
    environment: server.environment,
    accept,
    timeoutSeconds: 180,
  });
}
