// Which Docker a server needs, and how its engine is configured. Pure: from what was found to what is missing.
import { exitCodes, Failure } from "./failure.ts";
import type { Observed, Package } from "./provision-observe.ts";

/** health checks with start_interval; `!override` in compose/production.yaml. */
const minimum = { engine: "25.0", compose: "2.24.4" } as const;

/** Those that the official images are made for. */
const architectures = ["amd64", "arm64"];

/** @throws {Failure} exit 2: not a system that this can provision. */
export function requireSystem({ family, system, architecture }: Observed): void {
  const refuse = (why: string, next: string) =>
    new Failure("Cannot provision this server", why, [next], { exitCode: exitCodes.usage, read: "docs/provision.md" });
  if (family !== "debian" && family !== "ubuntu") {
    const next = "install Docker by hand, then bun scripts/provision.ts --pin";
    throw refuse(`it runs ${system}, and this knows only Debian and Ubuntu`, next);
  }
  if (!architectures.includes(architecture)) {
    throw refuse(
      `its architecture is ${architecture}, and the images are made for ${architectures.join(" and ")}`,
      "take a server with one of these",
    );
  }
}

/**
 * The packages that bring Docker Engine and Compose; none when both are there, wherever they came from.
 * @throws {Failure} exit 2 when what is there, or could be installed, is too old or of the wrong kind.
 */
export function missingDockerPackages(observed: Observed): string[] {
  const { docker, packages, system, apparmorMissing } = observed;
  const installed = docker.engine ?? packages["docker-ce"]?.installed ?? packages["docker.io"]?.installed;
  const needsEngine = !installed || !isAtLeast(installed, minimum.engine);
  const needsCompose = !docker.compose || !isAtLeast(docker.compose, minimum.compose);
  if (!needsEngine && !needsCompose) return [];
  refuseOtherKinds(observed);
  const isFromDocker = Boolean(packages["docker-ce"]?.installed);
  const engine = isFromDocker ? "docker-ce" : "docker.io";
  const composes = isFromDocker ? ["docker-compose-plugin"] : ["docker-compose-v2", "docker-compose"];
  const compose = composes.find((name) => offers(packages[name], minimum.compose));
  if (!compose || (needsEngine && !offers(packages[engine], minimum.engine))) {
    const offered = [engine, ...composes].flatMap((name) => {
      const version = packages[name]?.candidate;
      return version ? [`${name} ${version}`] : [];
    });
    throw tooOld(system, offered);
  }
  return [
    ...(needsEngine ? [engine] : []),
    // In a package of its own since Debian 13.
    ...(needsEngine && !isFromDocker && packages["docker-cli"]?.candidate ? ["docker-cli"] : []),
    ...(needsCompose ? [compose] : []),
    ...(needsEngine ? ["ca-certificates"] : []),
    ...(needsEngine && apparmorMissing ? ["apparmor"] : []),
  ];
}

function refuseOtherKinds({ docker, packages }: Observed): void {
  const refuse = (why: string, next: string[]) => {
    throw new Failure("Cannot use the Docker of this server", why, next, { exitCode: exitCodes.usage });
  };
  if (docker.program?.startsWith("/snap/")) {
    refuse("it is a snap, which may not read /opt", ["snap remove docker   # its containers and volumes go with it"]);
  }
  if (docker.says?.includes("podman")) refuse("it is Podman under another name", ["apt-get remove podman-docker"]);
  if (docker.program && !packages["docker-ce"]?.installed && !packages["docker.io"]?.installed) {
    refuse(`${docker.program} comes from no package, and is too old or has no Compose`, [
      `bring it to Engine ${minimum.engine} and Compose ${minimum.compose} the way it was installed`,
    ]);
  }
}

function tooOld(system: string, offered: readonly string[]): Failure {
  const has = offered.length > 0 ? `the packages of ${system} are too old` : `${system} offers no packages of Docker`;
  const why = `${has}; Docker Engine ${minimum.engine} and Compose ${minimum.compose} are needed`;
  const next = [
    "upgrade to Debian 13 or Ubuntu 24.04, or later",
    "or install docker-ce and docker-compose-plugin as docs.docker.com/engine/install says, then run this again",
  ];
  return new Failure("Cannot install Docker", why, next, {
    exitCode: exitCodes.usage,
    ...(offered.length > 0 && { details: offered.join("\n") }),
  });
}

const offers = (offered: Package | undefined, version: string) =>
  offered?.candidate !== undefined && isAtLeast(offered.candidate, version);

/** @param version as packages and programs have it: "5:28.0.4-1~debian.12", "v2.40.3", "2.24.6+ds1-0ubuntu1" */
export function isAtLeast(version: string, wanted: string): boolean {
  const numbers = (text: string) => (/^(?:\d+:|v)?([\d.]+)/.exec(text)?.[1] ?? "0").split(".").map(Number);
  const [have, need] = [numbers(version), numbers(wanted)];
  for (let index = 0; index < need.length; index += 1) {
    const difference = (have[index] ?? 0) - need[index]!;
    if (difference !== 0) return difference > 0;
  }
  return true;
}

export type EngineConfiguration = {
  text: string;
  /** The keys that were missing; none when nothing has to be written. */
  added: string[];
  /** The engine that is running goes by something else. */
  isNews: boolean;
  /** A restart of the engine does not stop containers. */
  liveRestore: boolean;
  notes: string[];
};

type Json = Record<string, unknown>;

/**
 * /etc/docker/daemon.json with log rotation and live-restore. What somebody has set there stays as it is.
 * @throws {Failure} exit 2 when the file is not JSON.
 */
export function mergeEngineConfiguration({ docker }: Observed): EngineConfiguration {
  const present = parseConfiguration(docker.configuration);
  const isSet = "live-restore" in present;
  const additions = { ...rotateLogs(present), ...(isSet || docker.inSwarm ? {} : { "live-restore": true }) };
  const withoutRestore = docker.inSwarm ? "a swarm cannot have it" : "/etc/docker/daemon.json says so";
  const merged: Json = { ...present, ...additions };
  const liveRestore = merged["live-restore"] === true;
  const isDifferent = docker.liveRestore !== liveRestore || docker.logDriver !== (merged["log-driver"] ?? "json-file");
  return {
    text: `${JSON.stringify(merged, null, 2)}\n`,
    added: Object.keys(additions),
    isNews: docker.engine !== undefined && (isDifferent || Object.keys(additions).length > 0),
    liveRestore,
    notes: !liveRestore ? [`live-restore is off, ${withoutRestore}: containers stop whenever the engine restarts`] : [],
  };
}

/** Without limits the log of one container fills the disk. Drivers that send logs elsewhere, or rotate by themselves, stay. */
function rotateLogs(present: Json): Json {
  const options = present["log-opts"] as Json | undefined;
  // Options without a driver are meant for json-file, Docker's own default, and "local" refuses some of them.
  const driver = present["log-driver"] ?? (options ? "json-file" : undefined);
  const limits = { "max-size": "20m", "max-file": "5" };
  if (driver === undefined) return { "log-driver": "local", "log-opts": limits };
  return driver === "json-file" && !options?.["max-size"] ? { "log-opts": { ...limits, ...options } } : {};
}

function parseConfiguration(text: string | undefined): Json {
  try {
    const parsed: unknown = JSON.parse(text?.trim() || "{}");
    if (typeof parsed === "object" && parsed !== null && !Array.isArray(parsed)) return parsed as Json;
  } catch {
    // Said below, as for JSON of another kind.
  }
  throw new Failure("Cannot change /etc/docker/daemon.json", "it is not a JSON object", ["correct it on the server"], {
    exitCode: exitCodes.usage,
  });
}
