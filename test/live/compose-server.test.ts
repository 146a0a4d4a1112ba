// The production overlay with the starter app: the live slot behind TLS, and the other one beside it.
import { afterAll, describe, expect, test } from "bun:test";
import { installPair, makePair } from "../lab/nginx.ts";
import { healthPaths, identities, inspect, up } from "../lab/observe.ts";
import { buildAppImage, createProject, type Project } from "../lab/project.ts";

describe("on a server", () => {
  let project: Project;
  afterAll(() => project?.remove());

  test("`docker compose up -d --wait` brings up the live slot behind TLS; twice is safe; the other slot joins it", async () => {
    project = await createProject({ overlay: "production" });
    const image = await buildAppImage(project);
    await project.setEnvironment({ IMAGE_BLUE: image, COMPOSE_PROFILES: "blue" });
    const pair = await makePair(project);
    await installPair(project, pair);
    await project.compose(up);
    const statuses = healthPaths.map(
      async (path) => (await fetch(project.tlsUrl + path, { tls: { ca: pair.authority } })).status,
    );
    expect(await Promise.all(statuses)).toEqual([200, 200, 200, 200]);

    const before = await identities(project, ["postgres", "app-blue", "nginx"]);
    await project.compose(up);
    // What a deploy changes in .env must not recreate the slot that serves.
    await project.setEnvironment({ IMAGE_GREEN: image, COMPOSE_PROFILES: "blue,green" });
    await project.compose([...up, "--no-build"]);
    expect(await identities(project, ["postgres", "app-blue", "nginx"])).toBe(before);
    const running = await project.compose(["ps", "--services", "--status", "running"]);
    expect(running.stdout.trim().split("\n").sort()).toEqual(["app-blue", "app-green", "nginx", "postgres"]);
    const published = await project.compose(["port", "postgres", "5432"], { accept: [0, 1] });
    expect(published.stdout.trim()).not.toMatch(/:[1-9]/);
  });

  test("a live slot that nginx does not know is no success", async () => {
    const image = await buildAppImage(project);
    await project.compose(["rm", "--stop", "--force", "app-blue", "app-green", "nginx"]);
    await project.setEnvironment({ IMAGE_GREEN: image, COMPOSE_PROFILES: "green" });
    // Not by its exit code: until 2.40 Compose may say 0 when that time is over ("surfaced only by luck", says its own correction).
    await project.compose([...up, "--wait-timeout", "8"], { accept: [0, 1] });
    expect(await inspect(project, "nginx", "{{.State.Health.Status}}")).not.toBe("healthy");
    await project.setEnvironment({ COMPOSE_PROFILES: "blue" });
    await project.compose([...up, "--remove-orphans"]);
  });

  test("another name than the server's never reaches the app", async () => {
    const response = await fetch(project.tlsUrl.replace("localhost", "127.0.0.1"), {
      tls: { rejectUnauthorized: false },
    });
    expect([response.status, await response.text()]).toEqual([421, expect.stringContaining("nginx/production.conf")]);
  });

  test("no live slot named: Compose says what to set", async () => {
    await project.setEnvironment({ COMPOSE_PROFILES: "" });
    const refused = await project.compose(up, { accept: [1] });
    expect(refused.stderr).toContain(
      "COMPOSE_PROFILES is missing a value: set it in .env to the live slot, blue or green",
    );
    await project.setEnvironment({ COMPOSE_PROFILES: "blue" });
  });

  test("a slot without an image fails with a name that says so", async () => {
    project ??= await createProject({ overlay: "production" });
    await project.setEnvironment({ IMAGE_GREEN: "" });
    const failed = await project.compose(["--profile", "green", "pull", "app-green"], { accept: [1] });
    expect(failed.stderr).toContain("image-green-is-not-set.invalid");
  });
});
