// The lab engine's addresses, bridge and firewall rules: chosen so that they meet nobody else's, and removed without a trace.
import { randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { run } from "../../scripts/lib/run.ts";
import { labId } from "./cache.ts";

export type Network = {
  /** The default bridge's interface. */
  bridge: string;
  /** Its address with prefix, for instance "10.213.0.1/24". */
  gateway: string;
  /** What Compose networks are cut from, for instance "10.213.128.0/17". */
  pool: string;
};

/** What the engine changes in the kernel on start, as it was before. */
export type Firewall = { forwarding: string; forwardPolicy: string; hadDockerChains: boolean };

const forwardingFile = "/proc/sys/net/ipv4/ip_forward";

/** The first of some private /16 networks that no route of this machine touches. */
export function chooseNetwork(): Network {
  const candidates = Array.from({ length: 20 }, (_, index) => 213 + index);
  const routes = parseRoutes(readFileSync("/proc/net/route", "utf8"));
  const second = candidates.find((octet) => !routes.some((route) => touches(route, octet))) ?? candidates[0]!;
  return { bridge: `dbops${labId().slice(0, 6)}`, gateway: `10.${second}.0.1/24`, pool: `10.${second}.128.0/17` };
}

type Route = { address: number; mask: number };

/** /proc/net/route holds addresses in hexadecimal, lowest byte first. The default route is no neighbour. */
export function parseRoutes(text: string): Route[] {
  const reversed = (hex: string) => Number.parseInt(hex.match(/../g)!.reverse().join(""), 16);
  const rows = text
    .trim()
    .split("\n")
    .slice(1)
    .map((line) => line.split(/\s+/));
  return rows.map((row) => ({ address: reversed(row[1]!), mask: reversed(row[7]!) })).filter(({ mask }) => mask !== 0);
}

export function touches(route: Route, second: number): boolean {
  const candidate = 10 * 2 ** 24 + second * 2 ** 16;
  const mask = (route.mask & 0xffff0000) >>> 0;
  return (candidate & mask) >>> 0 === (route.address & mask) >>> 0;
}

export async function createBridge({ bridge, gateway }: Network, environment: Record<string, string>): Promise<void> {
  const exists = await run({ argv: ["ip", "link", "show", bridge], environment, accept: [0, 1] });
  if (exists.exitCode !== 0) await run({ argv: ["ip", "link", "add", "name", bridge, "type", "bridge"], environment });
  // One that was given, and not chosen: a bridge without one takes the lowest of its ports', another one with every container that
  // comes or goes, and whoever remembers the old one sends into the void for 9 s.
  await run({ argv: ["ip", "link", "set", bridge, "address", hardwareAddress()], environment });
  await run({ argv: ["ip", "address", "replace", gateway, "dev", bridge], environment });
  await run({ argv: ["ip", "link", "set", bridge, "up"], environment });
}

/** Of nobody, and of one machine only. */
const hardwareAddress = () =>
  ["02", ...[...randomBytes(5)].map((byte) => byte.toString(16).padStart(2, "0"))].join(":");

export async function observeFirewall(environment: Record<string, string>): Promise<Firewall> {
  const { stdout } = await run({ argv: ["iptables-save"], environment });
  return {
    forwarding: readFileSync(forwardingFile, "utf8").trim(),
    forwardPolicy: /^:FORWARD (\S+)/m.exec(tableOf(stdout, "filter"))?.[1] ?? "ACCEPT",
    hadDockerChains: /^:DOCKER/m.test(stdout),
  };
}

function tableOf(saved: string, name: string): string {
  return saved.split(/^\*/m).find((table) => table.startsWith(`${name}\n`)) ?? "";
}

/** Deletes the bridges that carry an address of ours, then the engine's rules. dockerd leaves both behind. */
export async function removeNetwork(
  network: Network,
  before: Firewall,
  environment: Record<string, string>,
): Promise<void> {
  const { stdout } = await run({ argv: ["ip", "-json", "address", "show", "type", "bridge"], environment });
  const bridges = JSON.parse(stdout || "[]") as { ifname?: string; addr_info?: { local: string }[] }[];
  for (const { ifname, addr_info } of bridges) {
    const isOurs = addr_info?.some(({ local }) => local.startsWith(prefixOf(network))) || ifname === network.bridge;
    if (isOurs && ifname) await run({ argv: ["ip", "link", "delete", ifname], environment, accept: [0, 1] });
  }
  for (const family of ["iptables", "ip6tables"]) {
    // A machine without IPv6 has no ip6tables to clean.
    const saved = await run({ argv: [`${family}-save`], environment, accept: [0, 1, 3] });
    const cleaned = withoutEngine(saved.stdout, network, before);
    if (cleaned !== saved.stdout) await run({ argv: [`${family}-restore`], stdin: cleaned, environment });
  }
  if (before.forwarding === "0") writeFileSync(forwardingFile, "0");
}

/** The saved rules without what the engine added. Chains named DOCKER go only if there were none before it came. */
export function withoutEngine(saved: string, network: Network, before: Firewall): string {
  const isEngines = (line: string) =>
    /^(:|-A )/.test(line) &&
    ((/\bDOCKER/.test(line) && !before.hadDockerChains) ||
      line.includes(` ${prefixOf(network)}`) ||
      line.includes(network.bridge));
  const forward = `:FORWARD ${before.forwardPolicy} `;
  const tables = saved
    .split(/^(?=\*)/m)
    .map((table) => (table.startsWith("*filter") ? table.replace(/^:FORWARD \S+ /m, forward) : table));
  return tables
    .join("")
    .split("\n")
    .filter((line) => !isEngines(line))
    .join("\n");
}

/** "10.213." for a network in 10.213.0.0/16. */
function prefixOf({ gateway }: Network): string {
  return gateway.replace(/^(\d+\.\d+\.).*/, "$1");
}
