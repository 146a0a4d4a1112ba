// What the server said about itself: the answer of `observe` in lib/server/deploy.sh, read into types. Pure.
import { type PulledImage, parseImage, type Reference } from "./image.ts";
import { keptIn, latest, parseRecords, type Release } from "./release.ts";
import { parseStamp, type Slot, type Stamp, slots, stampIn } from "./upstream.ts";

export type Container = {
  service: string;
  /** "running", "exited", "restarting" … */
  status: string;
  health: string;
  image: string;
  imageId: string;
  restarts: number;
  /** The number of the release that a slot's container was made for; "" for any other's. */
  release: string;
};

export type ServerState = {
  /** Why nothing can be done there at all; asked in this order. */
  problems: { directory?: string; engine?: string; compose?: string; config?: string };
  engineVersion: string;
  architecture: string;
  composeVersion: string;
  containers: readonly Container[];
  /** What nginx' upstream file says. Undefined before the first deploy. */
  live: Stamp | undefined;
  /** What the running nginx says. Undefined when it does not answer. */
  serving: Stamp | undefined;
  /** The whole upstream file. */
  upstream: string;
  /** The slot that .env names: what `docker compose up` by hand would start. */
  slotInEnvironment: Slot | undefined;
  /** What .env has for each slot. */
  images: Readonly<Record<Slot, string | undefined>>;
  /** What is recorded about the release that is live. */
  liveRelease: Release | undefined;
  records: readonly Release[];
  /** Also of those that were not read. */
  recordCount: number;
  kept: readonly number[];
  freeBytes: { project: number; docker: number };
  /** Ids of all images. */
  imageIds: readonly string[];
  /** Seconds since 1970. */
  clock: number;
  /** Versions; undefined when Postgres does not answer. */
  applied: readonly string[] | undefined;
  /** Of the wanted release. */
  services: readonly Service[];
  /** The wanted image, if it is there already. */
  image: PulledImage | undefined;
  /** What visitors get; undefined where it cannot be seen. */
  certificate: Certificate | undefined;
};

export type Service = {
  name: string;
  /** Its container was made from another definition, or it has none. */
  changed: boolean;
  /** Its definition has RELEASE_IMAGE in it, which is another one with each deploy. */
  usesImage: boolean;
};

export type Certificate =
  | "missing"
  /** There is one, and nginx cannot use it. */
  | "unusable"
  /** Seconds since 1970. */
  | { end: number };

type Fact = { code: number; stdout: string; stderr: string };

/** @param text one line for each fact: NAME EXITCODE BASE64(stdout) BASE64(stderr). */
export function parseServerState(text: string, wanted: Reference): ServerState {
  const facts = new Map(text.split("\n").filter(Boolean).map(parseFact));
  const fact = (name: string): Fact => facts.get(name) ?? { code: 1, stdout: "", stderr: `no answer about ${name}` };
  const textOf = (name: string) => (fact(name).code === 0 ? fact(name).stdout.trim() : "");
  const problem = (name: string) => (fact(name).code === 0 ? undefined : lastLine(fact(name).stderr));
  const [engineVersion = "", machine = "", dockerFolder = "/", composeVersion = ""] = textOf("engine").split(" ");
  const environment = parseLines(textOf("environment"));
  const live = stampIn(fact("upstream").stdout);
  const records = parseRecords(textOf("records"));
  return {
    problems: {
      ...optional("directory", problem("directory")),
      ...optional("engine", problem("engine") ?? problem("containers")),
      ...optional("compose", engineVersion && !composeVersion ? "the plugin docker compose is not there" : undefined),
      ...optional("config", problem("services")),
    },
    engineVersion,
    architecture: architectures[machine] ?? machine,
    composeVersion,
    containers: textOf("containers").split("\n").filter(Boolean).map(parseContainer),
    live,
    serving: parseStamp(textOf("serving")),
    upstream: fact("upstream").stdout,
    slotInEnvironment: slots.find((slot) => (environment.COMPOSE_PROFILES ?? "").split(",").includes(slot)),
    images: { blue: environment.IMAGE_BLUE, green: environment.IMAGE_GREEN },
    liveRelease: live && latest(records, live.release),
    records,
    recordCount: Number(textOf("record_count")),
    kept: keptIn(textOf("kept")),
    freeBytes: freeSpace(textOf("disk"), dockerFolder),
    imageIds: [...new Set(textOf("images").split("\n").filter(Boolean))],
    clock: Number(textOf("clock")),
    applied: appliedIn(fact("applied")),
    services: textOf("services").split("\n").filter(Boolean).map(parseService),
    image: textOf("image") ? parseImage(textOf("image"), wanted) : undefined,
    certificate: parseCertificate(textOf("certificate")),
  };
}

function parseFact(line: string): [string, Fact] {
  const [name = "", code, stdout = "", stderr = ""] = line.split(" ");
  const decode = (base64: string) => Buffer.from(base64, "base64").toString();
  return [name, { code: Number(code), stdout: decode(stdout), stderr: decode(stderr) }];
}

function parseContainer(line: string): Container {
  const [service = "", status = "", health = "", image = "", imageId = "", restarts, release = ""] = line.split("\t");
  return { service, status, health, image, imageId, restarts: Number(restarts), release };
}

function parseService(line: string): Service {
  const [name = "", state, image] = line.split(" ");
  return { name, changed: state === "changed", usesImage: image === "image" };
}

function parseCertificate(text: string): Certificate | undefined {
  if (text === "missing" || text === "unusable") return text;
  const end = Date.parse(text) / 1000;
  return Number.isNaN(end) ? undefined : { end };
}

/** A database without the table has no migrations yet; one that does not answer has told nothing. */
function appliedIn({ code, stdout, stderr }: Fact): string[] | undefined {
  if (code === 0) return stdout.split("\n").filter(Boolean);
  return /relation "schema_migrations" does not exist/.test(stderr) ? [] : undefined;
}

/** The kernel's names for what images call otherwise. */
const architectures: Readonly<Record<string, string>> = { x86_64: "amd64", aarch64: "arm64", armv7l: "arm" };

/** @param text of disk_space: the bytes at the project, then BYTES MOUNTPOINT for each disk. */
function freeSpace(text: string, dockerFolder: string): { project: number; docker: number } {
  const [first = "0", ...disks] = text.split("\n").map((line) => line.trim());
  const parsed = disks.map((line) => /^(\d+)\s+(.*)$/.exec(line)).filter((match) => match !== null);
  const holding = parsed
    .map(([, bytes, target]) => ({ bytes: Number(bytes), target: target! }))
    .filter(({ target }) => target === "/" || dockerFolder === target || dockerFolder.startsWith(`${target}/`))
    .sort((a, b) => b.target.length - a.target.length);
  return { project: Number(first), docker: holding[0]?.bytes ?? Number(first) };
}

function parseLines(text: string): Record<string, string> {
  const entries = text.split("\n").map((line) => /^([A-Z_]+)=(.*)$/.exec(line));
  return Object.fromEntries(
    entries.flatMap((match) => (match ? [[match[1]!, match[2]!.replaceAll(/^'|'$/g, "")]] : [])),
  );
}

const lastLine = (text: string) => text.trim().split("\n").at(-1) || "no answer within its time";

const optional = <K extends string>(key: K, value: string | undefined) =>
  (value === undefined ? {} : { [key]: value }) as Partial<Record<K, string>>;
