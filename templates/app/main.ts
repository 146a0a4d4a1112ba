// The app: plain Request → Response, on Bun and on Deno. Replace the routes with yours and keep the rest.
//   bun app/main.ts      deno run -A app/main.ts      (with PGHOST, PGUSER, PGPASSWORD, PGDATABASE; PORT, HOST)
// Starts only on a database that the validator accepts. SIGTERM: finishes what it has begun, then exits 0.
import { randomBytes, randomUUID, scrypt } from "node:crypto";
import process from "node:process";
import { promisify } from "node:util";
import postgres from "postgres";
import config from "../dbops.config.ts";
import { healthRoutes, requireEnvironment, validateOrExit } from "../scripts/validator.ts";

/** Requests that go on for longer after SIGTERM are cut off. Docker kills after 10 s where nothing else is said. */
const stopSeconds = Number(process.env.STOP_SECONDS || 8);
const bodyBytesMaximum = 16 * 1024;

process.on("SIGTERM", stop);
process.on("SIGINT", stop);
let stopping = false;
let inFlight = 0;
let lastRequestAt = 0;
let server: Server | undefined;

requireEnvironment(["PGHOST", "PGUSER", "PGPASSWORD", "PGDATABASE"]);
const sql = postgres({
  max: 10,
  connect_timeout: 5,
  // Seconds until the next try after a failed one. The driver's own goes up to 20: as long would the app stay away.
  backoff: () => 0.25,
  connection: { application_name: config.name, statement_timeout: 10_000 },
  onnotice: ({ message }) => log("info", "postgres", { notice: message }),
});
await validateOrExit(sql, config.schema);
const health = healthRoutes(sql, config.schema);
const port = Number(process.env.PORT || 3000);
server = listen(port, answer);
log("info", "listening", { port, release: process.env.RELEASE });

// ------------------------------------------------------------------------------------------------------- routes

async function route(request: Request): Promise<Response> {
  const url = new URL(request.url);
  switch (`${request.method} ${url.pathname}`) {
    case "GET /":
      return Response.json({ name: config.name, accounts: "/accounts", health: "/health" });
    case "GET /accounts":
      return Response.json(await listAccounts(url.searchParams));
    case "POST /accounts":
      return Response.json(await createAccount(await readJson(request)), { status: 201 });
    default:
      throw new Refusal(404, "There is nothing here");
  }
}

/** Newest first, without addresses: nobody signs in yet. `before` is the id that the last page ended with. */
async function listAccounts(query: URLSearchParams): Promise<{ accounts: unknown[] }> {
  const limit = readInteger(query, "limit", { smallest: 1, largest: 100, otherwise: 20 });
  const before = readInteger(query, "before", { smallest: 1, largest: Number.MAX_SAFE_INTEGER });
  const accounts = await sql`
    select id, created_at from accounts
    where disabled_at is null ${before === undefined ? sql`` : sql`and id < ${before}`}
    order by id desc limit ${limit!}`;
  return { accounts };
}

async function createAccount(body: unknown): Promise<unknown> {
  const { email, password } = (body ?? {}) as Record<string, unknown>;
  if (
    typeof email !== "string" ||
    email.length > 254 ||
    !/^[^\s@\0]+@[^\s@\0]+$/.test(email) ||
    !email.isWellFormed()
  ) {
    throw new Refusal(422, "email must be an address, at most 254 characters");
  }
  if (typeof password !== "string" || password.length < 12 || password.length > 200) {
    throw new Refusal(422, "password must have 12 to 200 characters");
  }
  const passwordHash = await hashPassword(password);
  try {
    return await sql.begin(async (sql) => {
      const [account] = await sql`
        insert into accounts (email, password_hash) values (${email}, ${passwordHash}) returning id, email, created_at`;
      await sql`insert into audit_log (account_id, action) values (${account!.id}, 'account.created')`;
      return account;
    });
  } catch (error) {
    const uniqueViolation = "23505";
    if ((error as { code?: string }).code !== uniqueViolation) throw error;
    throw new Refusal(409, "there is an account with this email");
  }
}

/** scrypt with 16 MiB and five rounds: about as dear to try as OWASP asks for. The text says how it was made. */
async function hashPassword(password: string): Promise<string> {
  const salt = randomBytes(16);
  const derive = promisify<string, Buffer, number, { N: number; r: number; p: number }, Buffer>(scrypt);
  const hash = await derive(password, salt, 32, { N: 2 ** 14, r: 8, p: 5 });
  return `$scrypt$ln=14,r=8,p=5$${salt.toString("base64")}$${hash.toString("base64")}`;
}

// --------------------------------------------------------------------------------------------- around each route

/** An answer that is the caller's business, as opposed to a mistake of ours. */
class Refusal extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

async function answer(request: Request): Promise<Response> {
  // Before it is counted: a Host header such as "1.2.3.4.5" makes an address that cannot be parsed.
  if (!URL.canParse(request.url)) return Response.json({ error: "the address is not valid" }, { status: 400 });
  inFlight++;
  lastRequestAt = performance.now();
  const started = performance.now();
  const requestId = readRequestId(request);
  const path = new URL(request.url).pathname;
  const response = await respond(request, path, requestId);
  response.headers.set("x-request-id", requestId);
  // The client opens a new connection then, and meets the app that is taking over.
  if (stopping) response.headers.set("connection", "close");
  const ms = Math.round((performance.now() - started) * 10) / 10;
  // Health checks come every few seconds: only a bad one is worth a line. Never the query: it may hold a secret.
  if (response.status >= 400 || !path.includes("/health")) {
    log("info", "request", { request_id: requestId, method: request.method, path, status: response.status, ms });
  }
  inFlight--;
  return response;
}

async function respond(request: Request, path: string, requestId: string): Promise<Response> {
  try {
    if (stopping && path === "/health/ready") return Response.json({ status: "stopping" }, { status: 503 });
    return (await health(request)) ?? (await route(request));
  } catch (error) {
    if (error instanceof Refusal) return Response.json({ error: error.message }, { status: error.status });
    const { name, code, message } = error as Error & { code?: string };
    log("error", "failed", { request_id: requestId, name, code, error: message });
    return Response.json({ error: "Something went wrong on our side", request_id: requestId }, { status: 500 });
  }
}

/** nginx's id, so that one search finds both logs; anything that is not one is replaced. */
function readRequestId(request: Request): string {
  const given = request.headers.get("x-request-id") ?? "";
  return /^[\w-]{8,64}$/.test(given) ? given : randomUUID();
}

async function readJson(request: Request): Promise<unknown> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  // Counted while reading: a Content-Length may be missing or a lie.
  for await (const chunk of request.body ?? []) {
    bytes += chunk.byteLength;
    if (bytes > bodyBytesMaximum) throw new Refusal(413, `the body may have ${bodyBytesMaximum} bytes at most`);
    chunks.push(chunk);
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString());
  } catch {
    throw new Refusal(400, "the body must be JSON");
  }
}

type Range = { smallest: number; largest: number; otherwise?: number };

function readInteger(
  query: URLSearchParams,
  name: string,
  { smallest, largest, otherwise }: Range,
): number | undefined {
  const text = query.get(name);
  if (text === null) return otherwise;
  const number = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
  if (number >= smallest && number <= largest) return number;
  throw new Refusal(422, `${name} must be a whole number from ${smallest} to ${largest}`);
}

/** One JSON document per line, for `docker compose logs` and whatever collects them. Never a secret. */
function log(level: "info" | "error", message: string, fields: Record<string, unknown> = {}): void {
  console.log(JSON.stringify({ time: new Date().toISOString(), level, message, ...fields }));
}

// ---------------------------------------------------------------------------------------------- start and stop

type Server = { stop(): Promise<unknown> };

/** The two runtimes' servers behind one shape. Neither global is known to the other one's type checker. */
function listen(port: number, fetch: (request: Request) => Promise<Response>): Server {
  const { Bun, Deno } = globalThis as unknown as {
    Bun?: { serve(options: object): { stop(): Promise<void> } };
    Deno?: { serve(options: object, fetch: (request: Request) => Promise<Response>): { shutdown(): Promise<void> } };
  };
  // In a container every address, because nginx is elsewhere; without Docker `up` sets HOST to loopback.
  const hostname = process.env.HOST || "0.0.0.0";
  // Longer than nginx keeps an idle connection (60 s): whoever sends requests has to be the one who closes.
  if (Bun) return Bun.serve({ port, hostname, fetch, idleTimeout: 120 });
  const server = Deno!.serve({ port, hostname, onListen: () => {} }, fetch);
  return { stop: () => server.shutdown() };
}

/**
 * No request fails: both runtimes' own stop cuts open connections at once, with the next request on its way (measured).
 * So each connection first gets its last answer with `connection: close`, until nobody has asked for a moment.
 */
async function stop(signal: string): Promise<void> {
  if (stopping) return;
  stopping = true;
  log("info", "stopping", { signal, in_flight: inFlight });
  const begun = performance.now();
  const secondsGone = () => (performance.now() - begun) / 1000;
  const quiet = () => inFlight === 0 && performance.now() - Math.max(begun, lastRequestAt) > 250;
  while (server && secondsGone() < 2 && !quiet()) await new Promise((wake) => setTimeout(wake, 10));
  const finished = server?.stop();
  while (inFlight > 0 && secondsGone() < stopSeconds) await new Promise((wake) => setTimeout(wake, 10));
  const cutOff = inFlight;
  await Promise.race([finished, new Promise((wake) => setTimeout(wake, 500))]);
  // Undefined while the environment is still being checked; `sql` cannot be named before that either.
  if (server) await sql.end({ timeout: 1 });
  log(cutOff > 0 ? "error" : "info", "stopped", { cut_off: cutOff, ms: Math.round(secondsGone() * 1000) });
  process.exit(cutOff > 0 ? 1 : 0);
}
