// The load itself, in a process of its own; started by test/lab/load.ts. The settings come as one line of JSON on stdin, a report
// goes out as one line of JSON ten times a second. When stdin is closed, by whoever started it or by his death, no further
// request is sent; when the last one is answered the program ends. It also ends when the report finds no reader, and with
// exit code 3 when its time is over.
// Requests are due by the clock, whether or not earlier ones are answered (an open loop): a server that hangs for a second
// delays the requests of that second, and they count with their delay. Every request is sent once and never again.
import { createInterface } from "node:readline";
import { type Answer, Broken, type Connection, openConnection, type Request } from "./connection.ts";
import { type Settings, type Snapshot, timeIsOver } from "./settings.ts";
import { type FailureKind, Tally } from "./tally.ts";

const tickMilliseconds = 4;
const reportMilliseconds = 100;
const padding = "x".repeat(2000);

const lines = createInterface({ input: process.stdin });
lines.once("line", (line) => begin(JSON.parse(line)));
process.stdout.on("error", () => process.exit(0));

function begin(settings: Settings): void {
  const { target, clients, requestsPerSecond, timeoutSeconds } = settings;
  const started = performance.now();
  const tally = new Tally(started);
  /** A client is its connection. They take turns, so that none idles for long. */
  const idle: { connection?: Connection }[] = Array.from({ length: clients }, () => ({}));
  const due: Due[] = [];
  const sent = new Set<Due>();
  let stopping = false;
  let ticked = started;

  lines.once("close", () => {
    stopping = true;
  });
  setTimeout(() => {
    write();
    process.exit(timeIsOver);
  }, settings.secondsAtMost * 1000);
  setInterval(write, reportMilliseconds);
  const ticks = setInterval(() => {
    const now = performance.now();
    ticked = now;
    const dueByNow = stopping ? tally.requests : Math.floor(((now - started) * requestsPerSecond) / 1000);
    while (tally.requests < dueByNow) {
      const at = started + (tally.requests * 1000) / requestsPerSecond;
      due.push({ ...nextRequest(settings, tally.requests++), at });
    }
    while (due.length > 0 && now - due[0]!.at > timeoutSeconds * 1000) {
      failed(due.shift()!, "timeout", `all ${clients} connections were busy for ${timeoutSeconds} s`);
    }
    while (due.length > 0 && idle.length > 0) void send(due.shift()!, idle.shift()!);
    if (!stopping || due.length + sent.size > 0) return;
    clearInterval(ticks);
    write();
    process.exit(0);
  }, tickMilliseconds);

  async function send(request: Due, client: { connection?: Connection }): Promise<void> {
    sent.add(request);
    try {
      if (!client.connection?.isOpen()) {
        tally.connections += 1;
        client.connection = await openConnection(target, timeoutSeconds);
      }
      const answer = await client.connection.ask(request, timeoutSeconds);
      const [kind, why] = problemOf(settings, request, answer) ?? [];
      if (kind) failed(request, kind, `${why}: ${answer.status} ${answer.body.slice(0, 200).replace(/\s+/g, " ")}`);
      else tally.answered(answer.release ?? "unknown", performance.now() - request.at);
    } catch (error) {
      if (!(error instanceof Broken)) throw error;
      failed(request, error.kind, error.message);
    } finally {
      sent.delete(request);
      idle.push(client);
    }
  }

  function failed({ method, path }: Request, kind: FailureKind, why: string): void {
    tally.failed({ at: new Date().toISOString(), kind, request: `${method} ${path}`, why });
  }

  function write(): void {
    const now = performance.now();
    const oldest = [...sent, ...due].reduce((earliest, { at }) => Math.min(earliest, at), ticked);
    // On the clock that the reader has as well.
    const decidedUntil = Date.now() - (now - oldest);
    console.log(JSON.stringify({ ...tally.report(now), decidedUntil } satisfies Snapshot));
  }
}

type Due = Request & { id: string; at: number };

function nextRequest(settings: Settings, number: number): Omit<Due, "at"> {
  const { postShare, path, echo, headers } = settings;
  const id = `${number}-${Math.random().toString(36).slice(2)}`;
  if (!echo) return { id, method: "GET", path, headers };
  const [from, to] = settings.delayMilliseconds;
  const milliseconds = Math.round(from + Math.random() * (to - from));
  // Spread evenly, and the same in every run: 0.5 is every other request.
  const isPost = Math.floor((number + 1) * postShare) > Math.floor(number * postShare);
  if (!isPost) return { id, method: "GET", path: `${path}?id=${id}&milliseconds=${milliseconds}`, headers };
  const body = JSON.stringify({ id, padding: padding.slice(Math.random() * padding.length) });
  const post = { ...headers, "content-type": "application/json" };
  return { id, method: "POST", path: `${path}?milliseconds=${milliseconds}`, body, headers: post };
}

function problemOf({ echo }: Settings, request: Due, { status, body }: Answer): [FailureKind, string] | undefined {
  if (status >= 500) return ["5xx", "a server error"];
  if (status >= 400) return ["4xx", "refused"];
  if (status >= 300) return ["wrong answer", "neither an answer nor an error"];
  if (!echo) return undefined;
  const { id, bytes } = readJson(body);
  if (id !== request.id) return ["wrong answer", `not the answer to ${request.id}`];
  const length = request.body?.length ?? 0;
  return bytes === length ? undefined : ["wrong answer", `of ${length} bytes ${bytes} have arrived there`];
}

function readJson(text: string): { id?: unknown; bytes?: unknown } {
  try {
    return Object(JSON.parse(text));
  } catch {
    return {};
  }
}
