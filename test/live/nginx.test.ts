// The shipped nginx configuration in the real image, as it runs on a developer's machine.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { poll } from "../../scripts/lib/wait.ts";
import { type Echo, logLines, soon } from "../lab/nginx.ts";
import { buildUpstreamImage, createProject, type Project } from "../lab/project.ts";
import { statusOfRaw } from "../lab/raw.ts";

let project: Project;
beforeAll(async () => {
  project = await createProject();
  await project.setEnvironment({ APP_IMAGE: await buildUpstreamImage(project, "one") });
  await project.compose(["up", "--detach", "--wait", "--no-deps", "app", "nginx"]);
});
afterAll(() => project?.remove());

test.each(["local", "production"])("nginx -t accepts %s.conf without a warning", async (name) => {
  const check = ["nginx", "-t", "-c", `/etc/nginx/dbops/${name}.conf`];
  const { stderr } = await project.compose(["run", "--rm", "--no-deps", "nginx", ...check]);
  expect(stderr).toContain("test is successful");
  expect(stderr).not.toMatch(/\[(warn|error|emerg|alert)\]/);
});

test("answers carry the security headers, errors of nginx too", async () => {
  const own = await fetch(`${project.url}/`, { signal: soon() });
  const tooLarge = await fetch(`${project.url}/`, { method: "POST", body: Buffer.alloc(2 << 20), signal: soon() });
  expect(tooLarge.status).toBe(413);
  for (const { headers } of [own, tooLarge]) {
    expect(headers.get("x-content-type-options")).toBe("nosniff");
    expect(headers.get("x-frame-options")).toBe("SAMEORIGIN");
    expect(headers.get("referrer-policy")).toBe("strict-origin-when-cross-origin");
    expect(headers.get("permissions-policy")).toBe("camera=(), geolocation=(), microphone=()");
    expect(headers.get("server")).toBe("nginx");
    expect(headers.get("strict-transport-security")).toBeNull();
  }
  const framed = await fetch(`${project.url}/framed`, { signal: soon() });
  expect(framed.headers.get("x-frame-options")).toBe("DENY");
});

test("a body of almost 1 MB arrives whole", async () => {
  const response = await fetch(`${project.url}/`, {
    method: "POST",
    body: Buffer.alloc(1_000_000, "a"),
    signal: soon(),
  });
  expect(((await response.json()) as Echo).bytes).toBe(1_000_000);
});

test("a request id goes to the app, back to the client and into the log; one that looks wrong is replaced", async () => {
  const ask = async (id: string) => {
    const response = await fetch(`${project.url}/ids?token=secret`, {
      headers: { "x-request-id": id },
      signal: soon(),
    });
    const echo = (await response.json()) as Echo;
    expect(response.headers.get("x-request-id")).toBe(echo.headers["x-request-id"]!);
    return echo.headers["x-request-id"]!;
  };
  expect(await ask("0190c2d4-trace_1")).toBe("0190c2d4-trace_1");
  for (const bad of ["short", 'quote"and{brace}', "x".repeat(65), "with space in it"]) {
    expect(await ask(bad)).toMatch(/^[0-9a-f]{32}$/);
  }
  const line = (await logLines(project)).find(({ request_id }) => request_id === "0190c2d4-trace_1");
  expect(line).toMatchObject({ method: "GET", path: "/ids", status: 200, scheme: "http", upstream_status: "200" });
  expect(JSON.stringify(await logLines(project))).not.toContain("secret");
});

test("what a client claims about its address is not passed on", async () => {
  const claims = {
    "x-forwarded-for": "6.6.6.6",
    "x-real-ip": "6.6.6.6",
    forwarded: "for=6.6.6.6",
    "x-forwarded-proto": "https",
  };
  const { headers } = (await (await fetch(project.url, { headers: claims, signal: soon() })).json()) as Echo;
  expect(JSON.stringify(headers)).not.toContain("6.6.6.6");
  expect(headers["x-forwarded-proto"]).toBe("http");
  expect(headers.host).toBe(new URL(project.url).host);
});

test("text is compressed for who wants it", async () => {
  const raw = { decompress: false, signal: soon() };
  const compressed = await fetch(`${project.url}/large`, { ...raw, headers: { "accept-encoding": "gzip" } });
  expect(compressed.headers.get("content-encoding")).toBe("gzip");
  expect((await compressed.arrayBuffer()).byteLength).toBeLessThan(10_000);
  const plain = await fetch(`${project.url}/large`, { ...raw, headers: { "accept-encoding": "identity" } });
  expect((await plain.arrayBuffer()).byteLength).toBe(100_000);
});

test("a websocket goes through", async () => {
  const socket = new WebSocket(`${project.url.replace("http", "ws")}/socket`);
  const answer = new Promise((resolve, reject) => {
    socket.onopen = () => socket.send("hello");
    socket.onmessage = ({ data }) => resolve(data);
    socket.onerror = reject;
    setTimeout(() => reject(new Error("no answer within 10 s")), 10_000);
  });
  expect(await answer).toBe("one: hello");
  socket.close();
});

test("a client that asks too much gets 429, and whoever watches the health does not", async () => {
  const flood = (path: string) =>
    Promise.all(Array.from({ length: 300 }, async () => (await fetch(project.url + path, { signal: soon() })).status));
  const statuses = await flood("/?token=FLOODED");
  expect(new Set(statuses)).toEqual(new Set([200, 429]));
  expect(statuses.filter((status) => status === 200).length).toBeGreaterThanOrEqual(100);
  expect(new Set(await flood("/health"))).toEqual(new Set([200]));
  // One name for nginx and another for the app: once this path led past the limit.
  const sly = await Promise.all(
    Array.from({ length: 300 }, () => statusOfRaw(project.url, { path: "/health/..\\accounts" })),
  );
  expect(sly).toContain(429);
  expect((await project.compose(["logs", "nginx"])).stdout).not.toContain("FLOODED");
  // The bucket empties again, at 50 a second.
  expect(await poll({ seconds: 5 }, async () => ((await fetch(project.url)).status === 200 ? true : undefined))).toBe(
    true,
  );
});

test("only websockets may switch the protocol", async () => {
  const response = await fetch(project.url, { headers: { upgrade: "h2c", connection: "upgrade" }, signal: soon() });
  expect(((await response.json()) as Echo).headers.upgrade).toBeUndefined();
});

test("a request in flight is finished while the app stops; then an error; and nginx finds the app again by itself", async () => {
  const slow = fetch(`${project.url}/slow?milliseconds=1500`, { signal: soon() });
  await Bun.sleep(200);
  await project.compose(["stop", "app"]);
  expect((await slow).status).toBe(200);
  // Refused, or no answer from an address that nobody has any more.
  expect([502, 504]).toContain((await fetch(project.url, { signal: soon() })).status);
  await project.compose(["start", "app"]);
  const isBack = () => fetch(project.url, { signal: soon() }).then(({ ok }) => ok || undefined);
  expect(await poll({ seconds: 15 }, isBack)).toBe(true);
});

test("nginx starts without the app", async () => {
  await project.compose(["down", "--timeout", "1"]);
  await project.compose(["up", "--detach", "--wait", "--no-deps", "nginx"]);
  expect((await fetch(project.url, { signal: soon() })).status).toBe(502);
  await project.compose(["up", "--detach", "--wait", "--no-deps", "app"]);
});
