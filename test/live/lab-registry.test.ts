// The lab's registry takes images from the engine and hands them to a server, and to nobody without the password.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { run } from "../../scripts/lib/run.ts";
import { type Engine, startEngine } from "../lab/engine.ts";
import { ensureImages, imageNames } from "../lab/images.ts";
import { type Registry, startRegistry } from "../lab/registry.ts";
import { type Server, startServer } from "../lab/server.ts";

let engine: Engine;
let registry: Registry;
let server: Server;
let image: string;

beforeAll(async () => {
  engine = await startEngine();
  await ensureImages(engine, [imageNames.nginx]);
  registry = await startRegistry();
  image = `${registry.address}/team/app:one`;
  await docker(["tag", imageNames.nginx, image]);
}, 300_000);
afterAll(async () => {
  await docker(["image", "rm", image]);
  await server?.stop();
  await registry?.stop();
});

test("refuses a push without the password, and takes it with", async () => {
  const refused = await docker(["push", image], { environment: engine.environment, accept: [1] });
  expect(refused.stderr).toContain("no basic auth credentials");
  await docker(["push", image]);
  const { stdout } = await docker(["image", "inspect", "--format", "{{json .RepoDigests}}", image]);
  expect(stdout).toContain(`${registry.address}/team/app@sha256:`);
}, 120_000);

test("gives the image back to an engine that has lost it", async () => {
  await docker(["image", "rm", image]);
  await docker(["pull", "--quiet", image]);
  await docker(["image", "inspect", image]);
  const missing = await docker(["pull", `${registry.address}/team/app:two`], { accept: [1] });
  expect(missing.stderr).toContain("manifest for");
});

test("a server pulls the same reference once it trusts the certificate and has logged in", async () => {
  server = await startServer({ kind: "docker" });
  const login = (
    password: string,
  ) => `docker login --username ${registry.user} --password-stdin ${registry.address} <<'END'
${password}
END`;
  const untrusted = await server.ssh(login(registry.password), { accept: [1] });
  expect(untrusted.stderr).toContain("certificate signed by unknown authority");
  await registry.trustedBy(server);
  const wrong = await server.ssh(login("wrong"), { accept: [1] });
  expect(wrong.stderr).toContain("401 Unauthorized");
  const anonymous = await server.ssh(`docker pull ${image}`, { accept: [1] });
  expect(anonymous.stderr).toContain("no basic auth credentials");
  await server.ssh(login(registry.password));
  await server.ssh(
    `docker pull --quiet ${image} && docker image inspect ${image} && docker logout ${registry.address}`,
  );
}, 300_000);

test("a paused registry lets a push hang, and goes on where it was", async () => {
  registry.pause();
  await expect(docker(["push", image], { timeoutSeconds: 1 })).rejects.toThrow("no answer within 1 s");
  registry.resume();
  await docker(["push", image]);
});

test("stop() leaves no trust behind in the engine", async () => {
  const trusted = `/etc/docker/certs.d/${registry.address}`;
  expect(existsSync(trusted)).toBe(true);
  await registry.stop();
  expect(existsSync(trusted)).toBe(false);
});

type Options = { environment?: Readonly<Record<string, string>>; accept?: readonly number[]; timeoutSeconds?: number };

/** The lab's engine, with this test's login unless another environment is given. */
function docker(words: readonly string[], options: Options = {}) {
  return run({ argv: ["docker", ...words], environment: registry.environment, ...options });
}
