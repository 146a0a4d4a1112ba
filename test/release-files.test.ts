// scripts/lib/release-files.ts: what of a project goes to the server, and the hash that says whether anything has changed.
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { chmod, mkdir, mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { type Failure, formatFailure } from "../scripts/lib/failure.ts";
import { readReleaseFiles, releaseEnvironment } from "../scripts/lib/release-files.ts";
import { run } from "../scripts/lib/run.ts";

let project: string;
const write = async (path: string, text: string) => {
  await mkdir(dirname(join(project, path)), { recursive: true });
  await writeFile(join(project, path), text);
};
const upstream = 'upstream app {\n  server app-blue:3000;\n}\nmap "" $release {\n  default "0 blue live";\n}\n';
beforeEach(async () => {
  project = await mkdtemp(join(tmpdir(), "dbops-release-files-"));
  await write("compose.yaml", "name: shop\n");
  await write("compose/production.yaml", "services: {}\n");
  await write("nginx/production.conf", "events {}\n");
  await write("nginx/shared/app.conf", "#\n");
  await write("nginx/upstream/production.conf", upstream);
  await write("migrations/20260102090000_more.sql", "-- migrate:up\n");
  await write("migrations/20260101090000_start.sql", "-- migrate:up\n");
});
afterEach(() => rm(project, { recursive: true, force: true }));

const environmentWith = (password: string) =>
  releaseEnvironment({ POSTGRES_PASSWORD: password, COMPOSE_FILE: "compose.yaml" }, ["POSTGRES_PASSWORD"]);
const environment = environmentWith("hunter2");
const read = () => readReleaseFiles(project, environment);

test("everything that Compose, nginx and dbmate read, .env for its owner alone, and nothing else", async () => {
  await write("app/main.ts", "//\n");
  await write("node_modules/x/index.js", "//\n");
  await write(".env", "POSTGRES_PASSWORD=of-this-machine\n");
  await write(".env.tpl", "POSTGRES_PASSWORD=op://a/b/c\n");
  await write("dbops.config.ts", "export default {};\n");
  await write("certificates/privkey.pem", "key\n");
  const { tar } = await read();
  const { stdout } = await run({ argv: ["tar", "-t", "-v"], stdin: tar });
  const files = stdout.split("\n").map((line) => line.split(/\s+/));
  expect(files.filter((words) => words.length > 1).map((words) => `${words[0]} ${words.at(-1)}`)).toEqual([
    "-rw-r--r-- compose.yaml",
    "-rw-r--r-- compose/production.yaml",
    "-rw-r--r-- nginx/production.conf",
    "-rw-r--r-- nginx/shared/app.conf",
    "-rw-r--r-- nginx/upstream/production.conf",
    "-rw-r--r-- migrations/20260101090000_start.sql",
    "-rw-r--r-- migrations/20260102090000_more.sql",
    "-rw------- .env",
  ]);
  const argv = ["tar", "-x", "-O", ".env"];
  expect((await run({ argv, stdin: tar })).stdout).toBe(environment);
});

test("the migrations' versions, oldest first, as dbmate takes them; and the project's own upstream file", async () => {
  await write("migrations/README.md", "no migration\n");
  await write("migrations/9_short.sql", "-- migrate:up\n");
  await write("migrations/tenants/20260103090000_tenant.sql", "-- migrate:up\n");
  const files = await read();
  expect(files.migrations).toEqual(["20260101090000", "20260102090000", "9"]);
  expect(files.upstream).toBe(upstream);
});

describe("configHash", () => {
  test("is the same for the same files and values, wherever they lie and whoever may read them", async () => {
    const before = (await read()).configHash;
    expect(before).toMatch(/^[0-9a-f]{16}$/);
    await chmod(join(project, "compose.yaml"), 0o600);
    await write("app/main.ts", "// not a file of the release\n");
    const moved = `${project}-moved`;
    await rename(project, moved);
    project = moved;
    expect((await read()).configHash).toBe(before);
  });

  const changes: { name: string; change: () => Promise<unknown> }[] = [
    { name: "one byte", change: () => write("nginx/shared/app.conf", "!\n") },
    { name: "a new file", change: () => write("compose/more.yaml", "") },
    { name: "a file less", change: () => rm(join(project, "migrations/20260102090000_more.sql")) },
    {
      name: "another name",
      change: () => rename(join(project, "nginx/shared/app.conf"), join(project, "nginx/shared/site.conf")),
    },
    {
      name: "a border that has moved between two files",
      change: async () => {
        await write("compose/production.yaml", "services: {}\nx");
        await write("nginx/production.conf", "events {}\n".slice(1));
      },
    },
  ];
  test.each(changes)("changes with $name", async ({ change }) => {
    const before = (await read()).configHash;
    await change();
    expect((await read()).configHash).not.toBe(before);
  });

  test("changes with a value", async () => {
    const other = await readReleaseFiles(project, environmentWith("hunter3"));
    expect(other.configHash).not.toBe((await read()).configHash);
  });
});

test.each(["compose.yaml", "compose", "nginx", "migrations", "nginx/upstream/production.conf"])(
  "without %s nothing is deployed",
  async (path) => {
    await rm(join(project, path), { recursive: true });
    const failure: Failure = await read().then(
      () => expect.unreachable(),
      (error) => error,
    );
    expect(`${formatFailure(failure)}\nexit ${failure.exitCode}`).toBe(
      `Cannot read the project's files: there is no ${path} in ${project}
  next: cd to the project's root, or npx create-dbops . to put it back
exit 2`,
    );
  },
);

const head = `# Made from .env.tpl. What is changed here is lost with the next deploy: change .env.tpl.
# It holds secrets: never commit, print or mail it.
# Secret: A TOKEN
`;
test.each([
  { name: "as they are", values: { A: "1", B: "two words", C: "$5" }, lines: "A=1\nB='two words'\nC='$5'\n" },
  {
    name: "without those that only the deploy knows",
    values: { A: "1", IMAGE_BLUE: "x", IMAGE_GREEN: "y", RELEASE_IMAGE: "z", COMPOSE_PROFILES: "blue" },
    lines: "A=1\n",
  },
  {
    name: "with profiles that are no slots",
    values: { COMPOSE_PROFILES: "blue,backup,,mail,green" },
    lines: "COMPOSE_PROFILES=backup,mail\n",
  },
])("releaseEnvironment() has the values $name", ({ values, lines }) => {
  expect(releaseEnvironment(values, ["A", "TOKEN"])).toBe(head + lines);
});
