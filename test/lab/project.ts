// A scaffolded project for one test, as a user has it on disk, under a Compose project name of its own.
//   const project = await createProject();   await project.compose(["up", "--detach", "--wait"]);   …   await project.remove();
import { randomBytes } from "node:crypto";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { Answers } from "../../create/answers.ts";
import { encodeValue } from "../../scripts/lib/environment.ts";
import { type Command, type Result, run } from "../../scripts/lib/run.ts";
import { startEngine } from "./engine.ts";
import { ensureImages } from "./images.ts";
import { freePort } from "./postgres.ts";
import { writeProjectFiles } from "./project-files.ts";
import { repository } from "./repository.ts";

export type Project = {
  directory: string;
  /** The Compose project. */
  name: string;
  /** Through nginx: http://localhost:PORT. */
  url: string;
  /** In the production overlay: https://localhost:PORT. */
  tlsUrl: string;
  /** `docker compose WORDS` in the project, bounded to 120 s unless said otherwise. */
  compose(words: readonly string[], options?: Partial<Command>): Promise<Result>;
  /** `docker WORDS` on the same engine. */
  docker(words: readonly string[], options?: Partial<Command>): Promise<Result>;
  /** The name of a service's container, for `docker`. */
  container(service: string): string;
  /** Writes or replaces a file of the project. */
  write(path: string, text: string): Promise<void>;
  /** Changes .env; values arrive as they are, however nasty. */
  setEnvironment(changes: Readonly<Record<string, string>>): Promise<void>;
  /** Containers, networks, volumes and the directory. Harmless on repetition. */
  remove(): Promise<void>;
};

type Options = {
  overlay?: "development" | "production";
  runtime?: Answers["runtime"];
  /** Over what the scaffolder writes into .env. */
  environment?: Readonly<Record<string, string>>;
};

export async function createProject(options: Options = {}): Promise<Project> {
  const engine = await startEngine();
  await ensureImages(engine);
  // The domain is the server_name in nginx/production.conf.
  const { directory, write } = await writeProjectFiles({ domain: "localhost", runtime: options.runtime ?? "bun" });
  const name = `dbops-test-${randomBytes(4).toString("hex")}`;
  const [httpPort, tlsPort, postgresPort] = [await freePort(), await freePort(), await freePort()];
  const environment: Record<string, string> = {
    COMPOSE_PATH_SEPARATOR: ":",
    COMPOSE_FILE: `compose.yaml:compose/${options.overlay ?? "development"}.yaml`,
    POSTGRES_DB: "dbops_app",
    POSTGRES_USER: "dbops_app",
    POSTGRES_PASSWORD: randomBytes(16).toString("hex"),
    HTTP_PORT: `${httpPort}`,
    POSTGRES_PORT: `${postgresPort}`,
    PRODUCTION_HTTP_PORT: `${httpPort}`,
    PRODUCTION_HTTPS_PORT: `${tlsPort}`,
    ...(options.overlay === "production" && { COMPOSE_PROFILES: "blue" }),
  };
  const docker = (words: readonly string[], more: Partial<Command> = {}) =>
    run({ argv: ["docker", ...words], directory, environment: engine.environment, timeoutSeconds: 120, ...more });
  const project: Project = {
    directory,
    name,
    url: `http://localhost:${httpPort}`,
    tlsUrl: `https://localhost:${tlsPort}`,
    docker,
    compose: (words, more) => docker(["compose", "--project-name", name, ...words], more),
    container: (service) => `${name}-${service}-1`,
    write,
    async setEnvironment(changes) {
      Object.assign(environment, changes);
      const lines = Object.entries(environment).map(([key, value]) => `${key}=${encodeValue(key, value)}`);
      await write(".env", `${lines.join("\n")}\n`, 0o600);
    },
    async remove() {
      const everything = [
        "--profile",
        "*",
        "down",
        "--volumes",
        "--remove-orphans",
        "--rmi",
        "local",
        "--timeout",
        "1",
      ];
      await project.compose(everything);
      await rm(directory, { recursive: true, force: true });
    },
  };
  await project.setEnvironment(options.environment ?? {});
  return project;
}

/** The starter app as an image of a fixed name, so that only the first of many projects pays for the build. */
export async function buildAppImage(project: Project, runtime: Answers["runtime"] = "bun"): Promise<string> {
  const image = `create-dbops-test-app:${runtime}`;
  await project.docker(["build", "--quiet", "--tag", image, "--file", "app/Dockerfile", "."], { timeoutSeconds: 300 });
  return image;
}

/** What nginx's tests have behind it; the release is what it says about itself. */
export async function buildUpstreamImage(project: Project, release: string): Promise<string> {
  const image = `create-dbops-test-upstream:${release}`;
  const folder = join(repository, "test", "lab", "upstream");
  await project.docker(["build", "--quiet", "--tag", image, "--build-arg", `RELEASE=${release}`, folder], {
    timeoutSeconds: 300,
  });
  return image;
}
