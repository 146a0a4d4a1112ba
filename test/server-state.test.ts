// scripts/lib/server-state.ts: the answer of `observe`, read into types. That a real server answers so, test/live/ shows.
import { describe, expect, test } from "bun:test";
import { parseReference } from "../scripts/lib/image.ts";
import type { Release } from "../scripts/lib/release.ts";
import { parseServerState, type ServerState } from "../scripts/lib/server-state.ts";

const image = parseReference("ghcr.io/me/shop:2")!;
const digest = `sha256:${"d".repeat(64)}`;

type Fact = string | { code: number; stdout?: string; stderr?: string };

/** As the server sends it. */
function answer(facts: Readonly<Record<string, Fact>>): string {
  const base64 = (text = "") => Buffer.from(text).toString("base64");
  const lines = Object.entries(facts).map(([name, fact]) => {
    const { code, stdout, stderr } = typeof fact === "string" ? { code: 0, stdout: fact, stderr: "" } : fact;
    return `${name} ${code} ${base64(stdout)} ${base64(stderr)}\n`;
  });
  return lines.join("");
}
const parse = (facts: Readonly<Record<string, Fact>>) => parseServerState(answer(facts), image);

const record: Release = {
  release: 2,
  verb: "deploy",
  image: "ghcr.io/me/shop:2",
  reference: `ghcr.io/me/shop@${digest}`,
  imageId: "sha256:1d",
  configHash: "c0ffee",
  slot: "green",
  schemaVersion: "20260101090000",
  previous: 1,
  who: "ann@laptop",
  at: "2026-01-02T12:00:00.000Z",
  seconds: 3.2,
  steps: { image: 0.4 },
  outcome: "done",
};
const upstream = 'upstream app {\n  server app-green:3000;\n}\nmap "" $release {\n  default "2 green live";\n}\n';
const missing = (what: string): Fact => ({ code: 1, stderr: `cat: ${what}: No such file or directory\n` });

const serving: Record<string, Fact> = {
  directory: "",
  engine: "28.5.2 x86_64 /var/lib/docker 2.40.3\n",
  containers: [
    "postgres\trunning\thealthy\tpostgres:18-alpine\tsha256:p0\t0",
    `app-green\trunning\thealthy\tghcr.io/me/shop@${digest}\tsha256:1d\t2\t2`,
    "app-blue\texited\tnone\tghcr.io/me/shop:1\tsha256:1c\t0\n",
  ].join("\n"),
  upstream,
  serving: "2 green live\n",
  environment: `COMPOSE_PROFILES=green,backup\nIMAGE_BLUE=ghcr.io/me/shop:1\nIMAGE_GREEN='ghcr.io/me/shop@${digest}'\n`,
  records: `${JSON.stringify({ ...record, outcome: "failed" })}\n${JSON.stringify(record)}\n{"release":3,"outc`,
  record_count: "1203\n",
  kept: "1\n2\n",
  disk: "5000000000\n 6000000000 /\n 7000000000 /var/lib/docker\n 8000000000 /var/lib/dockers\n",
  images: "sha256:1c\nsha256:1d\nsha256:1c\n",
  clock: "1767355200\n",
  applied: "20260101090000\n20260102090000\n",
  services: "nginx changed -\napp-blue same -\npostgres same -\nworker same image\n",
  image: `sha256:1d amd64 r2|ghcr.io/me/shop@${digest} \n`,
  certificate: "Mar 31 23:33:20 2026 GMT\n",
};

test("parseServerState() of a server that serves", () => {
  expect(parse(serving)).toEqual({
    problems: {},
    engineVersion: "28.5.2",
    architecture: "amd64",
    composeVersion: "2.40.3",
    containers: [
      {
        service: "postgres",
        status: "running",
        health: "healthy",
        image: "postgres:18-alpine",
        imageId: "sha256:p0",
        restarts: 0,
        release: "",
      },
      {
        service: "app-green",
        status: "running",
        health: "healthy",
        image: `ghcr.io/me/shop@${digest}`,
        imageId: "sha256:1d",
        restarts: 2,
        release: "2",
      },
      {
        service: "app-blue",
        status: "exited",
        health: "none",
        image: "ghcr.io/me/shop:1",
        imageId: "sha256:1c",
        restarts: 0,
        release: "",
      },
    ],
    live: { release: 2, slot: "green", state: "live" },
    serving: { release: 2, slot: "green", state: "live" },
    upstream,
    slotInEnvironment: "green",
    images: { blue: "ghcr.io/me/shop:1", green: `ghcr.io/me/shop@${digest}` },
    liveRelease: record,
    records: [{ ...record, outcome: "failed" }, record],
    recordCount: 1203,
    kept: [1, 2],
    freeBytes: { project: 5e9, docker: 7e9 },
    imageIds: ["sha256:1c", "sha256:1d"],
    clock: 1767355200,
    applied: ["20260101090000", "20260102090000"],
    services: [
      { name: "nginx", changed: true, usesImage: false },
      { name: "app-blue", changed: false, usesImage: false },
      { name: "postgres", changed: false, usesImage: false },
      { name: "worker", changed: false, usesImage: true },
    ],
    image: { reference: `ghcr.io/me/shop@${digest}`, id: "sha256:1d", architecture: "amd64", release: "r2" },
    certificate: { end: 1775000000 },
  });
});

test("parseServerState() of a server with nothing but Docker", () => {
  const state = parse({
    ...serving,
    containers: "",
    upstream: missing("/opt/shop/nginx/upstream/production.conf"),
    serving: { code: 1, stderr: "docker: 'docker exec' requires at least 2 arguments\n" },
    environment: { code: 2, stderr: "grep: /opt/shop/.env: No such file or directory\n" },
    records: missing("/opt/shop/releases.jsonl"),
    record_count: "0\n",
    kept: missing("/opt/shop/releases"),
    applied: { code: 1, stderr: "docker: 'docker exec' requires at least 2 arguments\n" },
    services: "app-blue changed -\nnginx changed -\n",
    image: { code: 1, stderr: "Error response from daemon: No such image\n" },
    certificate: "missing\n",
  });
  expect(state).toMatchObject({
    problems: {},
    containers: [],
    live: undefined,
    serving: undefined,
    upstream: "",
    slotInEnvironment: undefined,
    images: { blue: undefined, green: undefined },
    liveRelease: undefined,
    records: [],
    recordCount: 0,
    kept: [],
    applied: undefined,
    image: undefined,
    certificate: "missing",
  } satisfies Partial<ServerState>);
});

describe("each fact by itself", () => {
  const rows: { name: string; facts: Record<string, Fact>; state: Partial<ServerState> }[] = [
    {
      name: "no directory",
      facts: { directory: { code: 1, stderr: "there is no /opt/shop\n" } },
      state: { problems: { directory: "there is no /opt/shop" } },
    },
    {
      name: "an engine that does not answer",
      facts: { engine: { code: 1, stderr: "one\nCannot connect to the Docker daemon\n" } },
      state: { problems: { engine: "Cannot connect to the Docker daemon" }, engineVersion: "", composeVersion: "" },
    },
    {
      name: "an engine that hangs",
      facts: { engine: { code: 124 } },
      state: { problems: { engine: "no answer within its time" } },
    },
    {
      name: "an engine without the plugin",
      facts: { engine: "28.5.2 aarch64 /var/lib/docker \n" },
      state: { problems: { compose: "the plugin docker compose is not there" }, architecture: "arm64" },
    },
    {
      name: "files that Compose does not accept",
      facts: { services: { code: 15, stderr: "warning\nservices.app: additional property x\n" } },
      state: { problems: { config: "services.app: additional property x" }, services: [] },
    },
    { name: "another machine", facts: { engine: "28.5.2 riscv64 / 2.40.3\n" }, state: { architecture: "riscv64" } },
    {
      name: "a database without the table of migrations",
      facts: { applied: { code: 1, stderr: 'ERROR:  relation "schema_migrations" does not exist\nLINE 1: …\n' } },
      state: { applied: [] },
    },
    { name: "a database without migrations", facts: { applied: "" }, state: { applied: [] } },
    {
      name: "a database that is starting",
      facts: { applied: { code: 2, stderr: "FATAL: starting up" } },
      state: { applied: undefined },
    },
    {
      name: "a slot in quotes",
      facts: { environment: "COMPOSE_PROFILES='green'\n" },
      state: { slotInEnvironment: "green", images: { blue: undefined, green: undefined } },
    },
    {
      name: "a stack that was started by hand",
      facts: { upstream: upstream.replace("2 green", "0 blue"), serving: "0 blue live\n" },
      state: { live: { release: 0, slot: "blue", state: "live" }, liveRelease: undefined },
    },
    {
      name: "an upstream file that is not ours",
      facts: { upstream: "upstream app { server app:3000; }\n" },
      state: { live: undefined, liveRelease: undefined, upstream: "upstream app { server app:3000; }\n" },
    },
    {
      name: "Docker on the same disk as everything",
      facts: { disk: "5000000000\n 6000000000 /\n 7000000000 /boot\n" },
      state: { freeBytes: { project: 5e9, docker: 6e9 } },
    },
    {
      name: "a df that lists nothing",
      facts: { disk: "5000000000\n" },
      state: { freeBytes: { project: 5e9, docker: 5e9 } },
    },
    {
      name: "a certificate that nginx cannot use",
      facts: { certificate: "unusable\n" },
      state: { certificate: "unusable" },
    },
    {
      name: "a server without openssl",
      facts: { certificate: { code: 127, stderr: "timeout: failed to run command 'openssl'\n" } },
      state: { certificate: undefined },
    },
    {
      name: "a mount point with a space in it",
      facts: {
        engine: "28.5.2 x86_64 /mnt/big 2.40.3\n",
        disk: "5000000000\n 6000000000 /\n 70 /mnt/big disk\n 80 /mnt/big\n",
      },
      state: { freeBytes: { project: 5e9, docker: 80 } },
    },
  ];
  test.each(rows)("$name", ({ facts, state }) => {
    expect(parse({ ...serving, ...facts })).toMatchObject(state);
  });
});

test("what did not come at all is a problem, not a value", () => {
  expect(parseServerState("", image).problems).toEqual({
    directory: "no answer about directory",
    engine: "no answer about engine",
    config: "no answer about services",
  });
});
