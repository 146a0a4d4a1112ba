// Images for tests of deploys, built in the lab's engine, pushed to a lab registry, and gone from the engine again.
//   const a1 = await buildApp({ registry, name: "shop", release: "a1" });
//   const bad = await buildApp({ registry, name: "shop", release: "bad", behaviour: "crash" });
//   await buildStarter({ registry, name: "shop", release: "s1", directory: project.directory });
import { join } from "node:path";
import { run } from "../../scripts/lib/run.ts";
import type { Registry } from "./registry.ts";
import { repository } from "./repository.ts";

export type Behaviour =
  | "ok"
  /** Prints a few lines and exits 3, before it listens. */
  | "crash"
  /** The same, but the lines are its whole environment. */
  | "prints-environment"
  /** Grows until it is killed for that, before it listens. */
  | "out-of-memory"
  /** Listens, and answers /health/ready with 503 for ever. */
  | "unhealthy"
  /** Healthy, but says it is another release ("not-RELEASE") than its image's RELEASE. */
  | "wrong-release"
  /** Listens after `amount` milliseconds. */
  | "slow-boot"
  /** Healthy wherever health is asked; `amount` percent of all other requests (100 if not said) are answered with 500. */
  | "live-errors"
  /** /health/database says degraded; otherwise well. */
  | "degraded"
  /** Does not react to SIGTERM. */
  | "deaf"
  /** Prints a line {"message":"tick","release"} every `amount` milliseconds (100 if not said): for services that must be alone. */
  | "worker";

export type PushedImage = {
  release: string;
  /** "10.x.y.z:5000/shop:a1" */
  reference: string;
  /** "sha256:…", as the registry has it. */
  digest: string;
  /** "10.x.y.z:5000/shop@sha256:…" */
  pinned: string;
};

type Wanted = { registry: Registry; name: string; release: string };

export async function buildApp(wanted: Wanted & { behaviour?: Behaviour; amount?: number }): Promise<PushedImage> {
  const values = { RELEASE: wanted.release, BEHAVIOUR: wanted.behaviour ?? "ok", AMOUNT: `${wanted.amount ?? ""}` };
  const build = Object.entries(values).flatMap(([name, value]) => ["--build-arg", `${name}=${value}`]);
  return buildAndPush(wanted, [...build, join(repository, "test", "lab", "apps")]);
}

/** The starter app of a project, as its own Dockerfile makes it. It needs the database that its migrations make. */
export async function buildStarter(wanted: Wanted & { directory: string }): Promise<PushedImage> {
  const file = ["--file", join(wanted.directory, "app", "Dockerfile")];
  return buildAndPush(wanted, [...file, "--build-arg", `RELEASE=${wanted.release}`, wanted.directory]);
}

async function buildAndPush({ registry, name, release }: Wanted, build: readonly string[]): Promise<PushedImage> {
  const image = `${registry.address}/${name}`;
  const reference = `${image}:${release}`;
  const docker = (words: readonly string[]) =>
    run({ argv: ["docker", ...words], environment: registry.environment, timeoutSeconds: 300 });
  await docker(["build", "--quiet", "--tag", reference, ...build]);
  try {
    await docker(["push", "--quiet", reference]);
    const { stdout } = await docker(["image", "inspect", "--format", '{{join .RepoDigests "\\n"}}', reference]);
    const pinned = stdout.split("\n").find((line) => line.startsWith(`${image}@`));
    if (!pinned) throw new Error(`${reference} was pushed, but has no digest there: ${stdout}`);
    return { release, reference, digest: pinned.slice(image.length + 1), pinned };
  } finally {
    await docker(["image", "rm", reference]);
  }
}
