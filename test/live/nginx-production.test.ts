// The shipped nginx configuration as on a server: certificate, TLS, and the switch between two slots.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdir, rename, rm } from "node:fs/promises";
import { connect } from "node:http2";
import { join } from "node:path";
import { run } from "../../scripts/lib/run.ts";
import { poll } from "../../scripts/lib/wait.ts";
import { type Echo, installPair, logLines, makePair, type Pair, soon } from "../lab/nginx.ts";
import { inspect, until } from "../lab/observe.ts";
import { buildUpstreamImage, createProject, type Project } from "../lab/project.ts";
import { toolsEnvironment } from "../lab/server/tools.ts";

const blue = "app-blue:3000 resolve max_fails=0";
const green = "app-green:3000 resolve max_fails=0";
let project: Project;
let pair: Pair;
const reload = () =>
  project.compose(["exec", "-T", "nginx", "nginx", "-c", "/etc/nginx/dbops/production.conf", "-s", "reload"]);
const https = (path: string) => fetch(project.tlsUrl + path, { tls: { ca: pair.authority }, signal: soon() });
const plain = (path: string) => fetch(project.url + path, { redirect: "manual", signal: soon() });

/** On a connection of its own: fetch keeps its connections, and a reload lets the old workers serve those. */
const handshake = async (version: string) => {
  const address = project.tlsUrl.replace("https://", "");
  const argv = ["openssl", "s_client", "-connect", address, "-cipher", "ALL:@SECLEVEL=0", version];
  return run({ argv, accept: [0, 1], environment: await toolsEnvironment() });
};

beforeAll(async () => {
  project = await createProject({ overlay: "production" });
  const [one, two] = [await buildUpstreamImage(project, "one"), await buildUpstreamImage(project, "two")];
  await project.setEnvironment({ IMAGE_BLUE: one, IMAGE_GREEN: two, COMPOSE_PROFILES: "blue" });
  await mkdir(join(project.directory, "certificates"));
  pair = await makePair(project);
  await project.compose(["up", "--detach", "--wait", "--no-deps", "app-blue", "nginx"]);
});
afterAll(() => project?.remove());

const installCertificate = async () => {
  await installPair(project, pair);
  await reload();
};

test("before there is a certificate: challenges are answered, the rest is a clear 503, the app is not to be had", async () => {
  await rm(join(project.directory, "certificates/fullchain.pem"), { force: true });
  await reload();
  const write = "mkdir -p /acme/.well-known/acme-challenge && echo proof >/acme/.well-known/acme-challenge/token";
  const volume = ["--volume", `${project.name}_acme:/acme`, "--entrypoint", "sh", "postgres:18-alpine"];
  await project.docker(["run", "--rm", ...volume, "-c", write]);
  expect(await (await plain("/.well-known/acme-challenge/token")).text()).toBe("proof\n");
  expect((await plain("/.well-known/acme-challenge/none")).status).toBe(404);
  for (const path of ["/", "/health", "/anything?x=1"]) {
    const response = await plain(path);
    expect(response.status).toBe(503);
    expect(await response.text()).toBe("There is no certificate yet. On the server: docker compose run --rm certbot\n");
  }
  expect((await handshake("-tls1_3")).exitCode).toBe(1);
  expect(await inspect(project, "nginx", "{{.RestartCount}} {{.State.Health.Status}}")).toBe("0 healthy");
});

test("with a certificate and a reload: TLS, HSTS, and plain HTTP only leads there", async () => {
  await installCertificate();
  const response = await https("/path");
  expect(((await response.json()) as Echo).headers["x-forwarded-proto"]).toBe("https");
  expect(response.headers.get("strict-transport-security")).toBe("max-age=31536000");
  const redirect = await plain("/path?query=1");
  expect([redirect.status, redirect.headers.get("location")]).toEqual([301, "https://localhost/path?query=1"]);
  expect((await plain("/health")).status).toBe(301);
  expect(await (await plain("/.well-known/acme-challenge/token")).status).not.toBe(301);
});

test("HTTP/2 is spoken, TLS 1.1 is not", async () => {
  await installCertificate();
  const session = connect(project.tlsUrl, { ca: pair.authority });
  try {
    const status = await new Promise((resolve, reject) => {
      session.on("error", reject);
      const request = session.request({ ":path": "/" });
      request.on("response", (headers) => resolve(headers[":status"])).on("error", reject);
      request.resume().end();
    });
    expect(status).toBe(200);
  } finally {
    session.close();
  }
  expect((await handshake("-tls1_2")).exitCode).toBe(0);
  expect((await handshake("-tls1_1")).stderr).toContain("alert protocol version");
});

test("a renewed certificate is served after a reload", async () => {
  await installCertificate();
  const subject = async () => /subject=CN ?= ?(\S+)/.exec((await handshake("-tls1_3")).stdout)?.[1];
  expect(await subject()).toBe("localhost");
  pair = await makePair(project, "renewed");
  await installCertificate();
  expect(await poll({ seconds: 5 }, async () => ((await subject()) === "renewed" ? true : undefined))).toBe(true);
  expect((await https("/")).status).toBe(200);
});

test("a GET whose connection broke is tried again, a POST is not", async () => {
  await installCertificate();
  await project.compose(["--profile", "green", "up", "--detach", "--wait", "--no-deps", "app-green"]);
  await writeUpstream(project, [blue, green], "0 both live");
  await reload();
  expect(await waitForStamp(project, "0 both live")).toBe("0 both live");
  const answering = new Set<string>();
  const knowsBoth = async () => {
    answering.add(((await (await https("/")).json()) as Echo).release);
    return answering.size === 2 ? true : undefined;
  };
  expect(await poll({ seconds: 10 }, knowsBoth)).toBe(true);
  const triesOf = async (method: string) => {
    const response = await fetch(`${project.tlsUrl}/silent`, {
      method,
      tls: { ca: pair.authority },
      signal: soon(),
    });
    expect(response.status).toBe(502);
    const id = response.headers.get("x-request-id");
    const line = await poll({ seconds: 5 }, async () =>
      (await logLines(project)).find(({ request_id }) => request_id === id),
    );
    return `${line!.upstream}`.split(", ").length;
  };
  // A broken connection that had been kept from an earlier request does not count as one of the two.
  expect(await triesOf("GET")).toBeGreaterThan(1);
  expect(await triesOf("POST")).toBe(1);
  await writeUpstream(project, [blue], "0 blue live");
  await reload();
  await project.compose(["kill", "app-green"]);
});

test("the slots are switched by a new upstream file and a reload, without a failed request", async () => {
  await installCertificate();
  await writeUpstream(project, [blue, `${green} down`], "1 blue live");
  // It even starts while the other slot does not exist.
  await project.compose(["restart", "nginx"]);
  expect(await waitForStamp(project, "1 blue live")).toBe("1 blue live");
  await project.compose(["--profile", "green", "up", "--detach", "--wait", "--no-deps", "app-green"]);

  const answers: (string | number)[] = [];
  let isOver = false;
  const worker = async () => {
    while (!isOver) {
      const response = await https("/");
      answers.push(response.ok ? ((await response.json()) as Echo).release : response.status);
      await Bun.sleep(100);
    }
  };
  const load = Promise.all([worker(), worker(), worker()]);
  try {
    expect(await until(10, async () => answers.length > 10)).toBe(true);
    await writeUpstream(project, [`${blue} down`, green], "2 green live");
    await reload();
    expect(await waitForStamp(project, "2 green live")).toBe("2 green live");
    expect(await until(10, async () => answers.at(-1) === "two")).toBe(true);
    // The kept connections of the old workers, then the old slot.
    await Bun.sleep(2500);
    await project.compose(["stop", "app-blue"]);
    await Bun.sleep(500);
  } finally {
    isOver = true;
    await load;
  }
  expect(new Set(answers)).toEqual(new Set(["one", "two"]));
  expect(answers.slice(answers.indexOf("two") + 6)).not.toContain("one");
  // The stamp is on loopback only: from outside, the same path is the app's.
  expect(((await (await https("/release")).json()) as Echo).release).toBe("two");
  await project.compose(["start", "app-blue"]);
  await writeUpstream(project, [blue], "3 blue live");
  await reload();
  expect(await waitForStamp(project, "3 blue live")).toBe("3 blue live");
});

/** As a deploy does it: beside, then renamed over the old one, inside the mounted directory. */
async function writeUpstream(project: Project, servers: readonly string[], release: string) {
  const lines = servers.map((server) => `  server ${server};\n`).join("");
  const text = `upstream app {\n  zone app 256k;\n${lines}  keepalive 32;\n}\n\nmap "" $release {\n  default "${release}";\n}\n`;
  await project.write("nginx/upstream/production.conf.new", text);
  const path = (name: string) => join(project.directory, "nginx", "upstream", name);
  await rename(path("production.conf.new"), path("production.conf"));
}

/** The last answer seen; an old worker may give one or two more after the reload. */
async function waitForStamp(project: Project, stamp: string): Promise<string> {
  const read = ["exec", "-T", "nginx", "wget", "-q", "-O", "-", "http://127.0.0.1:8081/release"];
  let seen = "";
  await poll({ seconds: 10 }, async () => {
    seen = (await project.compose(read)).stdout.trim();
    return seen === stamp ? true : undefined;
  });
  return seen;
}
