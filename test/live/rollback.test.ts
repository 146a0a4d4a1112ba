// The way back, as somebody needs it an hour or a week after a deploy: to the container that is still there, to an image that
// is not there any more, and not at all where the database has moved on too far.
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { Release, Remembered } from "../../scripts/lib/release.ts";
import type { PushedImage } from "../lab/deploy-app.ts";
import { createDeployProject, type DeployProject } from "../lab/deploy-project.ts";
import { failureIn, recordsOn } from "../lab/deploy-traces.ts";
import { type Load, startLoad } from "../lab/load.ts";
import { type Registry, startRegistry } from "../lab/registry.ts";
import { type Server, startServer } from "../lab/server.ts";

setDefaultTimeout(120_000);

let server: Server;
let registry: Registry;
let project: DeployProject;

beforeAll(async () => {
  [server, registry] = await Promise.all([startServer({ kind: "docker", withImages: true }), startRegistry()]);
  project = await createDeployProject({ server, registry, config: { deploy: { bakeSeconds: 0, keepReleases: 4 } } });
}, 300_000);
afterAll(async () => {
  await project?.remove();
  await server?.stop();
  await registry?.stop();
});

const login = () => ({ DBOPS_REGISTRY_USER: registry.user, DBOPS_REGISTRY_PASSWORD: registry.password });
const deploy = (image: PushedImage) => project.run("deploy", ["--image", image.pinned], { environment: login() });
const serving = async () => (await project.ask("/")).release;

async function rollback(words: readonly string[] = []): Promise<Release> {
  const { stdout } = await project.run("rollback", [...words, "--json"], { environment: login() });
  return JSON.parse(stdout) as Release;
}

/** @returns its failure. */
async function refused(words: readonly string[], exitCode: number): Promise<string> {
  const { stderr } = await project.run("rollback", words, { environment: login(), accept: [exitCode] });
  return failureIn(stderr);
}

describe("with an app that fits every schema", () => {
  const images: PushedImage[] = [];
  let load: Load;

  beforeAll(async () => {
    for (const release of ["a1", "a2", "a3"]) images.push(await project.buildApp({ release }));
  }, 120_000);
  afterAll(async () => {
    await load?.stop();
    await project.resetServer();
  });

  test("there is nothing to go back to before the second deploy", async () => {
    expect(await refused([], 2)).toBe(
      "Cannot go back: there is no earlier one\n  next: bun scripts/rollback.ts --list",
    );
    await deploy(images[0]!);
    expect(await refused([], 2)).toBe(
      "Cannot go back: there is no earlier one\n  next: bun scripts/rollback.ts --list",
    );
    expect(await refused(["--to", "7"], 2)).toBe(
      "Cannot go back: release 7 has never served; these have: 1\n  next: bun scripts/rollback.ts --list",
    );
    const { stdout } = await project.run("rollback", ["--to", "1"]);
    expect(stdout).toBe("Release 1 serves already.\n");
    const { stdout: plan } = await project.run("rollback", ["--to", "1", "--plan", "--json"]);
    expect(JSON.parse(plan)).toMatchObject({ nothing: true, release: 2, previous: { release: 1 }, steps: [] });
  });

  test("what serves is asked, not only the file that says so: the app is dead, then nginx", async () => {
    await server.ssh(`docker kill ${project.name}-app-blue-1`);
    const { stdout, stderr } = await project.run("rollback", ["--to", "1"], { environment: login() });
    expect(stderr).toContain("warning: release 1 does not run: there is nothing to go back to\n");
    expect(stdout).toStartWith("Release 2 (release 1 again) serves ");
    expect(await serving()).toBe("a1");
    await server.ssh(`docker stop ${project.name}-nginx-1`);
    expect(await rollback(["--to", "1"])).toMatchObject({ release: 1, slot: "blue", previous: 2 });
    expect(await serving()).toBe("a1");
    await project.resetServer();
    await deploy(images[0]!);
  });

  test("to the release before, whose container is still there: nothing is pulled, no request fails", async () => {
    await deploy(images[1]!);
    load = await startLoad({ ...project.target, requestsPerSecond: 300 });
    // No registry could be asked: it does not answer.
    registry.pause();
    const { stdout: plan } = await project.run("rollback", ["--plan"]);
    expect(plan).toContain("release 1 into blue; release 2 serves from green");
    expect(plan).toContain("the container of release 1 again");
    expect(await rollback()).toMatchObject({
      release: 1,
      verb: "rollback",
      slot: "blue",
      previous: 2,
      outcome: "done",
    });
    expect(await serving()).toBe("a1");
    // And forward again, the same way.
    expect(await rollback(["--to", "2"])).toMatchObject({ release: 2, slot: "green", previous: 1 });
    expect(await serving()).toBe("a2");
    registry.resume();
    expect(await load.settle()).toMatchObject({ failed: 0, firstFailures: [] });
  });

  test("to a release whose container, files and image another deploy has replaced: its digest is pulled again", async () => {
    await deploy(images[2]!);
    await server.ssh(`docker image rm ${images[0]!.pinned}`);
    expect(await server.ssh(`docker image inspect ${images[0]!.pinned}`, { accept: [1] })).toMatchObject({
      exitCode: 1,
    });
    expect(await rollback(["--to", "1"])).toMatchObject({ release: 4, reference: images[0]!.pinned, outcome: "done" });
    expect(await serving()).toBe("a1");
    expect(await load.settle()).toMatchObject({ failed: 0, firstFailures: [] });
  });

  test("kept running, the release before needs no start", async () => {
    await project.configure({ deploy: { bakeSeconds: 0, keepReleases: 4, keepPrevious: "running" } });
    await deploy(images[1]!);
    const { stdout } = await server.ssh("docker ps --format '{{.Names}}' | sort");
    expect(stdout).toContain(`${project.name}-app-blue-1\n${project.name}-app-green-1\n`);
    expect(await rollback()).toMatchObject({ release: 4, outcome: "done" });
    expect(await serving()).toBe("a1");
    await project.configure({ deploy: { bakeSeconds: 0, keepReleases: 4 } });
    expect(await load.settle()).toMatchObject({ failed: 0, firstFailures: [] });
  });

  test("a release whose files were pruned is refused, and --list says which there are", async () => {
    for (const image of [images[1]!, images[2]!, images[0]!]) await deploy(image);
    const { stdout } = await project.run("rollback", ["--list", "--json"]);
    const { live, releases } = JSON.parse(stdout) as { live: number; releases: Remembered[] };
    expect({ live, all: releases.map(({ release }) => release) }).toEqual({ live: 8, all: [8, 7, 6, 5, 4, 3, 2, 1] });
    expect(releases.filter(({ kept }) => kept).map(({ release }) => release)).toEqual([8, 7, 6, 5]);
    const list = (await project.run("rollback", ["--list"])).stdout;
    expect(list.match(/^\d+(?=.* its files are gone: no way back to it$)/gm)).toEqual(["4", "3", "2", "1"]);
    expect(await refused(["--to", "2"], 2)).toBe(
      "Cannot go back: the files of release 2 are not there any more\n  next: bun scripts/rollback.ts --list",
    );
    expect(await serving()).toBe("a1");
  });
});

describe("with an app whose validator knows the schema that it needs", () => {
  const [later, away] = ["migrations/20260701090000_later.sql", "migrations/20260702090000_sessions_away.sql"];
  const up = (sql: string) => `-- migrate:up\n${sql};\n\n-- migrate:down\n`;

  beforeAll(async () => {
    await deploy(await project.buildStarter({ release: "s1" }));
  }, 120_000);
  afterAll(async () => {
    for (const file of [later, away]) await rm(join(project.directory, file), { force: true });
  });

  test("a database that is ahead, and still has what the release needs: warned, and done", async () => {
    await project.write(later, up("create table later (id int primary key)"));
    await deploy(await project.buildStarter({ release: "s2" }));
    const { stderr } = await project.run("rollback", []);
    expect(stderr).toContain(
      "  schema   it is for 20260101090300, the database is at 20260701090000: its own validator must accept that",
    );
    expect(stderr).toContain(
      "warning: the database is at 20260701090000, this release was built for 20260101090300; its validator accepts that",
    );
    expect((await recordsOn(server, project)).at(-1)).toMatchObject({ release: 1, outcome: "done" });
  });

  test("a database without a table that the release needs: refused, and what serves goes on serving", async () => {
    await project.write(away, up("alter table sessions rename to sessions_of_old"));
    await project.configure({ schema: { criticalTables: ["accounts"], extensions: [] } });
    await deploy(await project.buildStarter({ release: "s3" }));
    const live = (await recordsOn(server, project)).at(-1)!;
    expect(live).toMatchObject({ outcome: "done", schemaVersion: "20260702090000" });
    const failure = await refused([], 5);
    expect(failure).toContain(
      "does not fit the database: it was built for 20260101090300, the database is at 20260702090000",
    );
    expect(failure).toContain("Table sessions is missing");
    expect(failure).toContain(`release ${live.release} serves as before`);
    expect(failure).toContain("next: bun scripts/rollback.ts --list\n");
    expect(failure).toContain("read: docs/runbook/rollback-refused.md");
    const { stdout } = await project.run("deploy", ["--history", "--json"]);
    expect(JSON.parse(stdout)).toMatchObject({ live: live.release });
  });

  test("a database that is behind what the release needs: refused before anything is done", async () => {
    await server.ssh(`docker exec ${project.name}-postgres-1 sh -c 'psql -U "$POSTGRES_USER" -d "$POSTGRES_DB" -qc "
      delete from schema_migrations where version >= '"'20260701090000'"'"'`);
    const records = await recordsOn(server, project);
    const target = records.find(({ schemaVersion }) => schemaVersion === "20260701090000")!;
    expect(await refused(["--to", `${target.release}`], 5)).toBe(`Cannot go back to release ${target.release}: \
it was built for schema 20260701090000, the database is at 20260101090300
  next: bun scripts/deploy.ts --image … with that version's files, which migrates
  read: docs/runbook/rollback-refused.md`);
    expect(await recordsOn(server, project)).toEqual(records);
  });
});
