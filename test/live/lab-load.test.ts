// Runs alone: on a busy machine connections are cut off that no deed of the server explains.
// The lab's load counts what a server does to its requests: no more, and above all no less.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer as createPlainServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createServer as createTlsServer } from "node:tls";
import { start } from "../../scripts/lib/run.ts";
import { poll } from "../../scripts/lib/wait.ts";
import { makeCertificate } from "../lab/certificate.ts";
import { openWebsocket, startLoad, type Target } from "../lab/load.ts";
import { argvOf, childrenOf } from "../lab/processes.ts";

/** What the server does with a request, and what the load has to call it. */
type Deed =
  | "answer"
  | "500"
  | "429"
  | "reset"
  | "close"
  | "half"
  | "other id"
  | "hang"
  | "close afterwards"
  | "say close";

let folder: string;
let certificate: { ca: string; cert: string; key: string };
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "dbops-load-"));
  const files = await makeCertificate(folder, ["load.test"]);
  const [ca, cert, key] = await Promise.all(
    [files.caFile, files.certificateFile, files.keyFile].map((file) => readFile(file, "utf8")),
  );
  certificate = { ca: ca!, cert: cert!, key: key! };
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const quick = { requestsPerSecond: 200, clients: 8, timeoutSeconds: 1, secondsAtMost: 60 };

test.each(["TLS", "plain"] as const)("over %s each deed of the server is counted under its name", async (kind) => {
  const faults = ["500", "429", "reset", "close", "half", "other id", "hang"] as const;
  const harmless = ["answer", "close afterwards", "say close"] as const;
  // Every 9th request meets one of the faults, the others are answered, some with the connection closed afterwards.
  const plan = (number: number): Deed =>
    number % 9 === 8 ? faults[Math.floor(number / 9) % faults.length]! : harmless[number % harmless.length]!;
  const server = await startServer(kind, plan);
  const load = await startLoad({ ...server.target, ...quick });
  await load.until(({ failed }) => failed >= 2 * faults.length);
  const report = await load.stop();
  await server.stop();

  const count = (...deeds: Deed[]) => deeds.reduce((sum, deed) => sum + (server.done[deed] ?? 0), 0);
  expect(report.failures).toEqual({
    "5xx": count("500"),
    "4xx": count("429"),
    reset: count("reset", "close"),
    "cut off": count("half"),
    "wrong answer": count("other id"),
    timeout: count("hang"),
  });
  expect(report.requests).toBe(count(...faults, ...harmless));
  expect(report).toMatchObject({ ok: count(...harmless), failed: count(...faults), pending: 0 });
  expect(report.releases).toEqual({ a1: report.ok });
  expect(report.firstFailures.length).toBe(Math.min(20, report.failed));
  expect(report.firstFailures.find(({ kind }) => kind === "5xx")).toMatchObject({
    request: expect.stringMatching(/^(GET|POST) \/\?/),
    why: 'a server error: 500 {"error":"on purpose"}',
  });
});

test("nobody at home is a failure of each request", async () => {
  const server = await startServer("plain", () => "answer");
  const load = await startLoad({ ...server.target, ...quick });
  await server.stop();
  await load.until(({ failures }) => (failures["no connection"] ?? 0) > 20);
  const report = await load.stop();
  expect(report.ok + report.failed).toBe(report.requests);
});

test("a server that pauses is not waited for: what was due meanwhile comes late, and counts with its delay", async () => {
  let paused = false;
  const server = await startServer("plain", () => (paused ? "hang" : "answer"));
  const load = await startLoad({ ...server.target, ...quick, clients: 4 });
  paused = true;
  // Four of them occupy the four connections until they are given up; the rest waits for those.
  await load.until(({ failures }) => (failures.timeout ?? 0) >= 4);
  paused = false;
  const report = await load.settle();
  await load.stop();
  await server.stop();
  expect(report.failures.timeout).toBeGreaterThanOrEqual(4);
  expect(report.milliseconds.max).toBeGreaterThan(500);
});

test("it ends with the process that has started it, with its time, and goes to nobody but the lab", async () => {
  const server = await startServer("plain", () => "answer");
  const program = `
    import { startLoad } from "${new URL("../lab/load.ts", import.meta.url).pathname}";
    await startLoad(${JSON.stringify({ ...server.target, ...quick })});
    console.log("begun");`;
  const lines: string[] = [];
  const owner = await start({ argv: [process.execPath, "--eval", program], onLine: (line) => lines.push(line) });
  expect(await poll({ seconds: 20 }, async () => lines.includes("begun") || undefined)).toBe(true);
  const [pid] = childrenOf(owner.pid);
  expect(argvOf(pid!).join(" ")).toContain("load/main.ts");
  await owner.stop("SIGKILL", 1);
  expect(await poll({ seconds: 10 }, async () => argvOf(pid!).length === 0 || undefined)).toBe(true);

  const load = await startLoad({ ...server.target, ...quick, secondsAtMost: 1 });
  await expect(load.until(() => false)).rejects.toThrow("its 1 s were over");
  await expect(load.stop()).rejects.toThrow("its 1 s were over");
  await server.stop();
  await expect(startLoad({ ...server.target, address: "192.0.2.1" })).rejects.toThrow(
    "192.0.2.1 is neither this machine nor one of the lab's hosts",
  );
});

test("a websocket tells how it was closed", async () => {
  const sockets = Bun.serve({
    port: 0,
    fetch: (request, server) => (server.upgrade(request) ? undefined : new Response("", { status: 400 })),
    websocket: {
      message: (socket, text) => void (text === "leave" ? socket.close(1001) : socket.send(`a1: ${text}`)),
    },
  });
  const [polite, ours] = await Promise.all([openWebsocket(at(sockets.port!)), openWebsocket(at(sockets.port!))]);
  expect(await polite.send("hello")).toBe("a1: hello");
  expect(await poll({ seconds: 10 }, async () => polite.pongs() > 0 || undefined)).toBe(true);
  await expect(polite.send("leave")).rejects.toThrow("the websocket was closed: said 1001");
  expect(await polite.closed).toMatchObject({ how: "said", code: 1001 });
  expect(ours.isOpen()).toBe(true);
  ours.close();
  expect((await ours.closed).how).toBe("by us");
  await sockets.stop(true);

  const rude = createPlainServer((socket) => {
    socket.once("data", () => socket.write("HTTP/1.1 101 Switching Protocols\r\n\r\n"));
    socket.on("error", () => {}).on("data", (data) => void (data[0] === 0x81 && socket.resetAndDestroy()));
  });
  await new Promise<void>((resolve) => rude.listen(0, "127.0.0.1", resolve));
  const broken = await openWebsocket(at((rude.address() as { port: number }).port));
  await expect(broken.send("hello")).rejects.toThrow("the websocket was closed: broken");
  expect((await broken.closed).how).toBe("broken");
  await new Promise((resolve) => rude.close(resolve));
});

const at = (port: number): Target => ({ address: "127.0.0.1", port, name: "load.test" });

/** Speaks just enough HTTP to misbehave in every way, and writes down what it has done. */
async function startServer(kind: "TLS" | "plain", plan: (number: number) => Deed) {
  const done: Partial<Record<Deed, number>> = {};
  const sockets = new Set<Socket>();
  let number = 0;
  const handle = (socket: Socket) => {
    sockets.add(socket);
    let text = "";
    socket.on("error", () => {}).on("close", () => sockets.delete(socket));
    socket.on("data", (data) => {
      text += data;
      const request = parse(text);
      if (!request) return;
      text = "";
      const deed = plan(number++);
      done[deed] = (done[deed] ?? 0) + 1;
      const answer = { release: "a1", id: deed === "other id" ? "another" : request.id, bytes: request.bytes };
      const refusal = JSON.stringify({ error: "on purpose" });
      if (deed === "500" || deed === "429") return socket.write(http(refusal, Number(deed)));
      if (deed === "reset") return socket.resetAndDestroy();
      if (deed === "close") return socket.end();
      if (deed === "half") return socket.end(http(JSON.stringify(answer)).slice(0, -5));
      if (deed === "hang") return;
      if (deed === "close afterwards") return socket.end(http(JSON.stringify(answer)));
      socket.write(http(JSON.stringify(answer), 200, deed === "say close" ? "connection: close\r\n" : ""));
    });
  };
  const server = kind === "plain" ? createPlainServer(handle) : createTlsServer(certificate, handle);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  const target: Target = {
    address: "127.0.0.1",
    port,
    name: "load.test",
    ...(kind === "TLS" && { ca: certificate.ca }),
  };
  return {
    target,
    done,
    async stop() {
      const closed = new Promise((resolve) => server.close(resolve));
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

function http(body: string, status = 200, headers = ""): string {
  return `HTTP/1.1 ${status} Told\r\n${headers}content-length: ${body.length}\r\n\r\n${body}`;
}

/** The request once it is whole. */
function parse(text: string): { id: string | null; bytes: number } | undefined {
  const [head = "", body] = text.split("\r\n\r\n");
  const length = Number(/content-length: (\d+)/.exec(head)?.[1] ?? 0);
  if (body === undefined || body.length < length) return undefined;
  const path = head.split(" ")[1]!;
  return { id: length > 0 ? JSON.parse(body).id : new URLSearchParams(path.slice(2)).get("id"), bytes: length };
}
