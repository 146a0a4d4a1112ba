// Image references: "host:5000/team/app:tag@sha256:…", taken apart only as far as a deploy needs it.
import type { Settings } from "./config.ts";
import { exitCodes, Failure } from "./failure.ts";
import type { Progress } from "./progress.ts";
import { pipe, run } from "./run.ts";
import { type Server, sshArguments } from "./ssh.ts";

export type Reference = {
  /** Without tag and digest. */
  name: string;
  /** The host that serves it, "docker.io" where none is said. */
  registry: string;
  tag?: string;
  /** "sha256:…": what makes it the same bytes for ever. */
  digest?: string;
};

const component = "[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*";
const pattern = new RegExp(
  `^((?:(?:localhost|[A-Za-z0-9-]+(?:\\.[A-Za-z0-9-]+)+(?::\\d+)?|[A-Za-z0-9-]+:\\d+)/)?${component}(?:/${component})*)(?::([\\w][\\w.-]{0,127}))?(?:@(sha256:[0-9a-f]{64}))?$`,
);

/** @returns undefined for what Docker would not accept either. */
export function parseReference(text: string): Reference | undefined {
  const [, name, tag, digest] = pattern.exec(text) ?? [];
  if (!name) return undefined;
  const [first = "", ...rest] = name.split("/");
  const registry = rest.length > 0 && /[.:]|^localhost$/.test(first) ? first : "docker.io";
  return { name, registry, ...(tag && { tag }), ...(digest && { digest }) };
}

type Preparation = {
  settings: Settings;
  directory: string;
  flags: { image?: string | undefined; build: boolean; transfer?: string | undefined; plan: boolean };
  progress: Progress;
  interrupted: AbortSignal;
};

export type Prepared = { image: string; reference: Reference; transfer: "registry" | "ssh"; imageId?: string };

/**
 * What there is to deploy: an image that a registry has, or one that the Docker here has or builds.
 * @throws {Failure} exit 2: no reference, or no such image here. The signal's reason when interrupted.
 */
export async function prepareImage(preparation: Preparation): Promise<Prepared> {
  const { settings, flags, progress, interrupted } = preparation;
  const transfer = (flags.transfer ?? (flags.build ? "ssh" : "registry")) as Prepared["transfer"];
  // A plan builds and pushes nothing.
  const isToBuild = flags.build && !flags.plan;
  const named = flags.image ?? settings.environments.production!.image;
  const image = isToBuild ? await progress.step("build", () => buildImage(preparation)) : named;
  const reference = parseReference(image);
  if (!reference) {
    const next = ["name:tag or name@sha256:…, for instance ghcr.io/me/app:4f2c1ab"];
    throw new Failure(`Cannot deploy "${image}"`, "it is no image reference", next, { exitCode: exitCodes.usage });
  }
  if (!isToBuild && (flags.build || transfer === "registry")) return { image, reference, transfer };
  if (transfer === "ssh") return { image, reference, transfer, imageId: (await localImage(image)).id };
  const pinned = await progress.step("push", () => pushImage(image, reference.name, interrupted));
  return { image: pinned, reference: parseReference(pinned)!, transfer };
}

const buildSeconds = 1800;

/** @returns its name, with the commit and the time as a tag: the same commit may have been built from other files. */
async function buildImage({ settings, directory, interrupted }: Preparation): Promise<string> {
  const { image } = settings.environments.production!;
  const commit = await run({ argv: ["git", "rev-parse", "--short", "HEAD"], directory, accept: [0, 127, 128] });
  const time = new Date().toISOString().replaceAll(/[-:T]|\..*/g, "");
  const release = [time, commit.stdout.trim()].filter(Boolean).join("-");
  const name = `${image}:${release}`;
  await run({
    argv: [
      "docker",
      "compose",
      "--file",
      "compose.yaml",
      "build",
      "--quiet",
      "--build-arg",
      `RELEASE=${release}`,
      "app",
    ],
    directory,
    // Compose asks for it, and the build does not need it.
    environment: { APP_IMAGE: name, POSTGRES_PASSWORD: "-", COMPOSE_FILE: undefined, COMPOSE_PROFILES: undefined },
    timeoutSeconds: buildSeconds,
    interrupted,
  });
  return name;
}

/** @returns the reference with the digest that the registry gave it. */
async function pushImage(image: string, name: string, interrupted: AbortSignal): Promise<string> {
  await run({ argv: ["docker", "push", "--quiet", image], timeoutSeconds: buildSeconds, interrupted });
  const argv = ["docker", "image", "inspect", "--format", "{{range .RepoDigests}}{{println .}}{{end}}", image];
  const { stdout } = await run({ argv });
  const pinned = stdout.split("\n").find((digest) => isOf(name, digest));
  if (!pinned) throw new Failure(`Cannot deploy ${image}`, "the registry gave it no digest", [`docker push ${image}`]);
  return pinned;
}

/** @throws {Failure} exit 2 when the Docker here does not have it. */
async function localImage(image: string): Promise<{ id: string }> {
  const { exitCode, stdout } = await run({
    argv: ["docker", "image", "inspect", "--format", "{{.Id}}", image],
    accept: [0, 1],
  });
  if (exitCode === 0) return { id: stdout.trim() };
  const next = [`docker pull ${image}`, "or bun scripts/deploy.ts --build"];
  throw new Failure(`Cannot send ${image} over SSH`, "the Docker here does not have it", next, {
    exitCode: exitCodes.usage,
  });
}

/** An image that is on the server now. */
export type PulledImage = {
  /** For .env: "name@sha256:…". */
  reference: string;
  id: string;
  architecture: string;
  /** What its environment has as RELEASE. */
  release: string;
};

/** @param text the answer of describe_image: ID ARCHITECTURE RELEASE|DIGESTS. */
export function parseImage(text: string, { name, digest }: Reference): PulledImage {
  const [left = "", digests = ""] = text.trim().split("|");
  const [id = "", architecture = "", ...words] = left.split(" ");
  const release = words.join(" ");
  const wanted = digest ? `${name}@${digest}` : undefined;
  const reference = wanted ?? digests.split(" ").find((text) => isOf(name, text)) ?? id;
  return { reference, id, architecture, release };
}

/** Docker leaves out its own registry's name: "docker.io/library/nginx" has the digest "nginx@sha256:…". */
function isOf(name: string, digest: string): boolean {
  return digest.startsWith(`${name.replace(/^docker\.io\/(library\/)?/, "")}@`);
}

type Sending = {
  server: Server;
  image: string;
  imageId: string;
  /** On the server already: then only the name is missing, if anything. */
  isThere: boolean;
  interrupted: AbortSignal;
};

/** 2 GB over a line of 5 Mbit/s. */
const sendSeconds = 3600;

/**
 * Streams an image from the Docker here into the one over there, through a connection of its own.
 * @returns what it is called over there: its id where it came without a tag.
 */
export async function sendImage({ server, image, imageId, isThere, interrupted }: Sending): Promise<string> {
  if (isThere) return imageId;
  const ssh = [...sshArguments(server), "docker load"];
  const line = [{ argv: ["docker", "save", image] }, { argv: ["gzip", "-1"] }, { argv: ssh }];
  const loaded = await pipe(line, { timeoutSeconds: sendSeconds, interrupted });
  return /^Loaded image(?: ID)?: (\S+)/m.exec(loaded)?.[1] ?? image;
}
