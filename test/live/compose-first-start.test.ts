// Projects that have never run: with a broken first migration, without a .env, on Deno.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { brokenMigration, healthPaths, inspect, statusOf, up } from "../lab/observe.ts";
import { buildAppImage, createProject, type Project } from "../lab/project.ts";

describe("a project whose first migration fails", () => {
  let project: Project;
  beforeAll(async () => {
    project = await createProject();
    await project.setEnvironment({ APP_IMAGE: await buildAppImage(project) });
  });
  afterAll(() => project?.remove());

  test("never starts the app", async () => {
    await project.write(brokenMigration.path, brokenMigration.text);
    await project.compose(up, { accept: [1] });
    expect(await inspect(project, "app", "{{.State.Status}}")).toBe("created");
  });

  test("comes up once the file is corrected", async () => {
    await project.write(
      brokenMigration.path,
      brokenMigration.text.replace("alter table no_such_table add column x int", "select 1"),
    );
    await project.compose(up);
    expect(await statusOf(`${project.url}/health/ready`)).toBe(200);
  });
});

test("without a password nothing starts, and the message says what to do", async () => {
  const other = await createProject();
  try {
    await rm(join(other.directory, ".env"));
    const { stderr } = await other.compose(up, { accept: [1] });
    expect(stderr).toContain("required variable POSTGRES_PASSWORD is missing a value: set it in .env. No .env yet?");
    expect(stderr).toContain('Both "bun scripts/up.ts" and "npx create-dbops ." write one');
  } finally {
    await other.write(".env", "POSTGRES_PASSWORD=x\n");
    await other.remove();
  }
});

describe("a project for Deno", () => {
  let project: Project;
  afterAll(() => project?.remove());

  test("builds its image, comes up and answers all four routes", async () => {
    project = await createProject({ runtime: "deno" });
    await project.setEnvironment({ APP_IMAGE: await buildAppImage(project, "deno") });
    await project.compose(up);
    expect(await Promise.all(healthPaths.map((path) => statusOf(project.url + path)))).toEqual([200, 200, 200, 200]);
    await project.compose(["stop", "app"]);
    expect(await inspect(project, "app", "{{.State.ExitCode}}")).toBe("0");
  });
});
