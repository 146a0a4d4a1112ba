// What provision finds on a server. The functions of lib/server/provision.sh print facts; here they become data.
import type { Session } from "./session.ts";

export type Package = { installed?: string; candidate?: string };
export type Folder = { owner: string; mode: string; isDirectory: boolean };

export type Observed = {
  /** "Debian GNU/Linux 13 (trixie)" */
  system: string;
  /** "debian", "ubuntu", … */
  family: string;
  architecture: string;
  /** An installation was cut off in the middle. */
  unfinishedPackages: boolean;
  packages: Readonly<Record<string, Package>>;
  apparmorMissing: boolean;
  docker: {
    /** Where the `docker` command is. */
    program?: string;
    /** What `docker --version` says. */
    says?: string;
    /** Of the engine, if it answers; the next two are what it goes by now, whatever its file says. */
    engine?: string;
    liveRestore: boolean;
    logDriver?: string;
    compose?: string;
    startsAtBoot: boolean;
    inSwarm: boolean;
    containersRunning: number;
    /** The text of /etc/docker/daemon.json. */
    configuration?: string;
  };
  user?: { home: string; shell: string; passwordLocked: boolean; groups: readonly string[]; authorizedKeys: string };
  /** What sshd's AllowUsers says, if anything. */
  allowedUsers: readonly string[];
  /** Where sshd took this connection, as the server sees it. */
  sshPort?: number;
  directory?: Folder;
  certificates?: Folder;
  firewall?: { active: boolean; openPorts: readonly string[] };
  /** The user's crontab; undefined where there is no cron. */
  crontab?: string;
  upgradesThemselves: boolean;
};

export type Subject = { user: string; directory: string };

/** @throws {Failure} when the server has no packages of Debian's kind to look at. */
export async function observeServer(session: Session, { user, directory }: Subject): Promise<Observed> {
  const look = async () => parseFacts((await session.call(["observe", user, directory])).stdout);
  const observed = await look();
  const isKnown = ({ candidate, installed }: Package = {}) => Boolean(candidate ?? installed);
  if (observed.family === "" || isKnown(observed.packages["docker.io"]) || observed.docker.engine) return observed;
  // A new server may never have asked for the lists of packages.
  await session.call(["update_package_lists"], { timeoutSeconds: 300, accept: [0, 1, 75] });
  return look();
}

/** @param text one fact a line: a name, and base64 of what was said about it. */
export function parseFacts(text: string): Observed {
  const facts = Object.fromEntries(text.split("\n").map((line) => line.split(" ") as [string, string?]));
  const fact = (name: string) => {
    const said = Buffer.from(facts[name] ?? "", "base64").toString();
    return said.trim() === "" ? undefined : said;
  };
  const release = parseAssignments(fact("system") ?? "");
  const engine = parseEngine(fact("engine"));
  const program = fact("program")?.trim();
  const says = fact("version")?.trim();
  const compose = fact("compose")?.trim();
  const configuration = fact("configuration");
  const user = parseUser(fact);
  const sshPort = Number(fact("connection")?.trim().split(" ").at(-1));
  const directory = parseFolder(fact("directory"));
  const certificates = parseFolder(fact("certificates"));
  const status = fact("firewall");
  const firewall = status && { active: /^Status: active/m.test(status), openPorts: openPorts(fact("rules") ?? "") };
  return {
    system: release.PRETTY_NAME ?? "an unknown system",
    family: release.ID ?? "",
    architecture: fact("architecture")?.trim() ?? "unknown",
    unfinishedPackages: fact("unfinished") !== undefined,
    packages: parsePolicy(fact("packages") ?? ""),
    apparmorMissing: fact("apparmor") !== undefined,
    docker: {
      ...(program && { program }),
      ...(says && { says }),
      ...(compose && { compose }),
      ...engine,
      startsAtBoot: /^enabled|S\d+docker/m.test(fact("enabled") ?? ""),
      ...(configuration && { configuration }),
    },
    ...(user && { user }),
    // In lower case, until OpenSSH 10.
    allowedUsers: [...(fact("sshd") ?? "").matchAll(/^allowusers (.+)$/gim)].map(([, name]) => name!),
    ...(sshPort > 0 && { sshPort }),
    ...(directory && { directory }),
    ...(certificates && { certificates }),
    ...(firewall && { firewall }),
    ...(fact("cron") && { crontab: fact("crontab") ?? "" }),
    upgradesThemselves: /Unattended-Upgrade "[1-9]/.test(fact("upgrades") ?? ""),
  };
}

/** Of /etc/os-release: NAME=value, the value perhaps in quotes. */
function parseAssignments(text: string): Record<string, string> {
  const pairs = [...text.matchAll(/^(\w+)=(["']?)(.*)\2$/gm)];
  return Object.fromEntries(pairs.map(([, name, , value]) => [name, value]));
}

/** Of `apt-cache policy`. A package that apt does not know is not in its output. */
function parsePolicy(text: string): Record<string, Package> {
  const packages = [...text.matchAll(/^(\S+):\n {2}Installed: (.+)\n {2}Candidate: (.+)$/gm)];
  const version = (name: "installed" | "candidate", said = "") => (said === "(none)" ? {} : { [name]: said });
  return Object.fromEntries(
    packages.map(([, name, installed, candidate]) => {
      return [name!, { ...version("installed", installed), ...version("candidate", candidate) }];
    }),
  );
}

/** Of `docker info`, which answers in JSON also when there is no engine. */
function parseEngine(text: string | undefined) {
  const info = text ? (JSON.parse(text) as Record<string, unknown>) : {};
  const swarm = (info.Swarm as { LocalNodeState?: string } | undefined)?.LocalNodeState ?? "inactive";
  return {
    ...(info.ServerVersion ? { engine: String(info.ServerVersion) } : {}),
    liveRestore: info.LiveRestoreEnabled === true,
    ...(info.LoggingDriver ? { logDriver: String(info.LoggingDriver) } : {}),
    inSwarm: swarm !== "inactive" && swarm !== "",
    containersRunning: Number(info.ContainersRunning ?? 0),
  };
}

function parseUser(fact: (name: string) => string | undefined): Observed["user"] {
  const [, , , , , home, shell] = fact("account")?.trim().split(":") ?? [];
  if (!home) return undefined;
  return {
    home,
    shell: shell ?? "",
    passwordLocked: fact("password")?.trim() === "locked",
    groups: fact("groups")?.trim().split(" ") ?? [],
    authorizedKeys: fact("keys") ?? "",
  };
}

function parseFolder(text: string | undefined): Folder | undefined {
  const [owner, mode, ...kind] = text?.trim().split(" ") ?? [];
  return owner && mode ? { owner, mode, isDirectory: kind.join(" ") === "directory" } : undefined;
}

/** Of `ufw show added`: what is let in from everywhere, as "22" or "22/tcp"; "OpenSSH" is ufw's own name for 22. */
function openPorts(text: string): string[] {
  const rules = [...text.matchAll(/^ufw (?:allow|limit) (?:in )?(\S+)(?: comment .*)?$/gm)];
  return rules.flatMap(([, ports]) => (ports === "OpenSSH" ? ["22/tcp"] : parsePorts(ports!)));
}

/** "80,443/tcp" is two. */
function parsePorts(text: string): string[] {
  const [ports = "", protocol] = text.split("/");
  return ports.split(",").map((port) => (protocol ? `${port}/${protocol}` : port));
}
