// The parts of the lab that only decide: which packages' address, which addresses of its own, what to take out of a firewall.
import { expect, test } from "bun:test";
import { findStanza } from "./lab/debian-sources.ts";
import { isAtLeast } from "./lab/engine-version.ts";
import { imageNames, versionIn } from "./lab/images/names.ts";
import { parseRoutes, touches, withoutEngine } from "./lab/network.ts";

const stanza = (suites: string) => `Types: deb\nURIs: mirror\nSuites: ${suites}\nComponents: main\nSigned-By: key`;

test.each([
  {
    name: "a stanza",
    sources: [`# comment\n${stanza("bookworm bookworm-updates")}\n`],
    lists: [],
    found: stanza("bookworm bookworm-updates"),
  },
  {
    name: "the one behind security's",
    sources: [`${stanza("bookworm-security")}\n\n${stanza("bookworm")}`],
    lists: [],
    found: stanza("bookworm"),
  },
  {
    name: "a one-line entry",
    sources: [],
    lists: ["deb [signed-by=key] mirror bookworm main"],
    found: stanza("bookworm"),
  },
  {
    name: "nothing in another's",
    sources: [stanza("nodistro")],
    lists: ["# deb mirror bookworm main"],
    found: undefined,
  },
])("findStanza() finds $name", ({ sources, lists, found }) => {
  expect(findStanza(sources, lists, "bookworm")).toBe(found);
});

const routes = [
  "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask",
  "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000",
  "eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF",
  "br0\t0080D50A\t00000000\t0001\t0\t0\t0\t00FFFFFF",
].join("\n");

test("parseRoutes() reads addresses lowest byte first and leaves the default route out", () => {
  expect(parseRoutes(routes)).toEqual([
    { address: 0xc0000200, mask: 0xffffff00 },
    { address: 0x0ad58000, mask: 0xffffff00 },
  ]);
});

test.each([
  { route: { address: 0x0ad58000, mask: 0xffffff00 }, second: 213, meets: true },
  { route: { address: 0x0ad58000, mask: 0xffffff00 }, second: 214, meets: false },
  { route: { address: 0x0a000000, mask: 0xff000000 }, second: 213, meets: true },
  { route: { address: 0xc0000200, mask: 0xffffff00 }, second: 213, meets: false },
])("touches() compares what route and 10.$second.0.0/16 share: $meets", ({ route, second, meets }) => {
  expect(touches(route, second)).toBe(meets);
});

const network = { bridge: "dbopsabcdef", gateway: "10.213.0.1/24", pool: "10.213.128.0/17" };
const saved = [
  "*filter",
  ":INPUT ACCEPT [0:0]",
  ":FORWARD DROP [0:0]",
  ":DOCKER-USER - [0:0]",
  "-A INPUT -p tcp -j ACCEPT",
  "-A FORWARD -j DOCKER-USER",
  "COMMIT",
  "*nat",
  ":POSTROUTING ACCEPT [0:0]",
  "-A POSTROUTING -s 10.213.0.0/24 ! -o dbopsabcdef -j MASQUERADE",
  "-A POSTROUTING -s 10.9.0.0/24 -j MASQUERADE",
  "COMMIT",
  "",
].join("\n");

test("withoutEngine() takes out what the engine added and nothing else", () => {
  const before = { forwarding: "0", forwardPolicy: "ACCEPT", hadDockerChains: false };
  expect(withoutEngine(saved, network, before)).toBe(
    [
      "*filter",
      ":INPUT ACCEPT [0:0]",
      ":FORWARD ACCEPT [0:0]",
      "-A INPUT -p tcp -j ACCEPT",
      "COMMIT",
      "*nat",
      ":POSTROUTING ACCEPT [0:0]",
      "-A POSTROUTING -s 10.9.0.0/24 -j MASQUERADE",
      "COMMIT",
      "",
    ].join("\n"),
  );
});

test("withoutEngine() leaves chains named DOCKER to whoever had them before", () => {
  const before = { forwarding: "1", forwardPolicy: "DROP", hadDockerChains: true };
  expect(withoutEngine(saved, network, before)).toBe(saved.replace(/^.*dbopsabcdef.*\n/m, ""));
});

test.each([
  ["2.30.0", true],
  ["v2.40.3-desktop.1", true],
  ["5.0.1", true],
  ["2.29.7", false],
  ["1.29.2", false],
])("isAtLeast() %s against 2.30: %p", (version, answer) => {
  expect(isAtLeast(version, [2, 30])).toBe(answer);
});

test("versionIn() takes the program's version from an image name", () => {
  expect(versionIn(imageNames.deno)).toBe("2.9.6");
});
