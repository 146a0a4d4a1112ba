// The app that deploys are tested with. It needs no database, says in every answer which release gave it, and does what its
// image's BEHAVIOUR says; AMOUNT is how much of it. test/lab/deploy-app.ts lists both.
//   GET /health, /health/ready, /health/database   as the starter app's; the release is shown to those with the HEALTH_TOKEN
//   GET /socket                                    a websocket that sends "RELEASE: TEXT" back
//   anything else                                  {"release","id","bytes"}: the id of a POST's JSON, or of ?id=, and the body's
//                                                  size; ?milliseconds= makes it wait first
import process from "node:process";

const {
  RELEASE: release = "",
  BEHAVIOUR: behaviour = "ok",
  HEALTH_TOKEN: token = "",
  PORT: port = "3000",
} = process.env;
const amount = Number(process.env.AMOUNT || 0);
const stopSeconds = Number(process.env.STOP_SECONDS || 8);
const told = behaviour === "wrong-release" ? `not-${release}` : release;

process.on("SIGTERM", stop);
process.on("SIGINT", stop);
let stopping = false;
let inFlight = 0;
let lastRequestAt = 0;
let server: Bun.Server<undefined> | undefined;

log("starting", { release, behaviour });
if (behaviour === "crash") {
  log("loading", { step: "configuration" });
  console.error("error: cannot find the engine room");
  process.exit(3);
}
if (behaviour === "prints-environment") {
  for (const [name, value] of Object.entries(process.env)) console.log(`${name}=${value}`);
  process.exit(3);
}
if (behaviour === "out-of-memory") await takeAllMemory();
if (behaviour === "slow-boot") await Bun.sleep(amount);
if (behaviour === "worker") setInterval(() => log("tick", { release, pid: process.pid }), amount || 100);

server = Bun.serve({
  port: Number(port),
  // Longer than nginx keeps an idle connection.
  idleTimeout: 120,
  fetch: answer,
  websocket: { message: (socket, message) => void socket.send(`${told}: ${message}`) },
});
log("listening", { release, milliseconds: Math.round(performance.now()) });

async function answer(request: Request, server: Bun.Server<undefined>): Promise<Response | undefined> {
  const url = new URL(request.url);
  if (url.pathname === "/socket" && server.upgrade(request)) return undefined;
  inFlight++;
  lastRequestAt = performance.now();
  const response = await route(request, url).catch((error: Error) =>
    Response.json({ error: error.message }, { status: 400 }),
  );
  // The client opens a new connection then, and meets the app that is taking over.
  if (stopping) response.headers.set("connection", "close");
  inFlight--;
  return response;
}

async function route(request: Request, { pathname, searchParams }: URL): Promise<Response> {
  if (pathname.startsWith("/health")) return health(pathname, request);
  const waits = Number(searchParams.get("milliseconds") ?? 0);
  if (waits > 0) await Bun.sleep(waits);
  // Health stays good: only whoever watches the real traffic can notice.
  if (behaviour === "live-errors" && Math.random() * 100 < (amount || 100)) {
    return Response.json({ error: "the engine room is on fire", release: told }, { status: 500 });
  }
  const body = request.method === "POST" ? await request.text() : "";
  const id = body ? JSON.parse(body).id : searchParams.get("id");
  return Response.json({ release: told, id, bytes: body.length });
}

function health(pathname: string, { headers }: Request): Response {
  const mayReadDetails = token === "" || headers.get("x-health-token") === token;
  const tell = (status: string, code = 200) =>
    Response.json({ status, ...(mayReadDetails && { release: told }) }, { status: code });
  if (pathname === "/health") return tell("ok");
  if (pathname === "/health/database") return behaviour === "degraded" ? tell("degraded") : tell("healthy");
  if (stopping) return tell("stopping", 503);
  return behaviour === "unhealthy" ? tell("unready", 503) : tell("ready");
}

/** Random bytes, so that no kernel can store them as one page. */
async function takeAllMemory(): Promise<never> {
  const taken: Uint8Array[] = [];
  for (;;) {
    for (let page = 0; page < 256; page++) taken.push(crypto.getRandomValues(new Uint8Array(2 ** 16)));
    log("growing", { megabytes: taken.length / 16 });
    await Bun.sleep(10);
  }
}

function log(message: string, fields: object): void {
  console.log(JSON.stringify({ time: new Date().toISOString(), message, ...fields }));
}

/** As the starter app does it: every connection gets its last answer with `connection: close` before it is closed. */
async function stop(signal: string): Promise<void> {
  if (stopping || behaviour === "deaf") return;
  stopping = true;
  log("stopping", { signal, in_flight: inFlight });
  const begun = performance.now();
  const secondsGone = () => (performance.now() - begun) / 1000;
  const quiet = () => inFlight === 0 && performance.now() - Math.max(begun, lastRequestAt) > 250;
  while (server && secondsGone() < 2 && !quiet()) await Bun.sleep(10);
  void server?.stop();
  while (inFlight > 0 && secondsGone() < stopSeconds) await Bun.sleep(10);
  log("stopped", { cut_off: inFlight });
  process.exit(inFlight > 0 ? 1 : 0);
}
