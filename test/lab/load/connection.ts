// One HTTP/1.1 connection that stays open, over TLS or not. It never repeats a request and hides nothing that happens to the
// connection: Bun's fetch silently repeats a request whose kept connection was reset, which is just what has to be counted.
import { connect as connectPlain, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";

export type Target = {
  address: string;
  port: number;
  /** The Host, and who the certificate has to belong to. */
  name: string;
  /** The authority's certificate as text. Without it the connection is plain. */
  ca?: string;
};

export type Request = { method: string; path: string; body?: string; headers?: Readonly<Record<string, string>> };

export type Answer = {
  status: number;
  /** Names in lower case. */
  headers: Readonly<Record<string, string>>;
  body: string;
  /** What the body's JSON says, if it is JSON and says it. */
  release?: string;
};

/** "reset": sent, and then the connection ended without an answer. "cut off": with half an answer. */
export type BreakKind = "no connection" | "reset" | "cut off" | "timeout";

export class Broken extends Error {
  readonly kind: BreakKind;
  constructor(kind: BreakKind, message: string) {
    super(message);
    this.kind = kind;
  }
}

export type Connection = {
  /** One at a time. @throws {Broken} */
  ask(request: Request, timeoutSeconds: number): Promise<Answer>;
  /** Whether a further request may be sent: the server has neither closed the connection nor said that it will. */
  isOpen(): boolean;
  close(): void;
};

/** A socket with the handshakes behind it. @throws {Broken} */
export function openSocket({ address, port, name, ca }: Target, timeoutSeconds: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = ca
      ? connectTls({ host: address, port, servername: name, ca, ALPNProtocols: ["http/1.1"] })
      : connectPlain({ host: address, port });
    const settle = () => {
      clearTimeout(timer);
      socket.off("error", onError).off("close", onClose);
    };
    const fail = (kind: BreakKind, why: string) => {
      settle();
      // What is destroyed may still have an error to tell.
      socket.on("error", () => {}).destroy();
      reject(new Broken(kind, why));
    };
    const onError = (error: NodeJS.ErrnoException) => fail("no connection", error.code ?? error.message);
    const onClose = () => fail("no connection", "closed during the handshake");
    const timer = setTimeout(() => fail("timeout", `no connection within ${timeoutSeconds} s`), timeoutSeconds * 1000);
    socket.setNoDelay(true);
    socket.on("error", onError).on("close", onClose);
    socket.once(ca ? "secureConnect" : "connect", () => {
      settle();
      resolve(socket);
    });
  });
}

/** @throws {Broken} */
export async function openConnection(target: Target, timeoutSeconds: number): Promise<Connection> {
  const socket = await openSocket(target, timeoutSeconds);
  let open = true;
  let received: Buffer = Buffer.alloc(0);
  let waiting: { answered(answer: Answer): void; broke(kind: BreakKind, why: string): void } | undefined;

  const over = (why: string) => {
    open = false;
    socket.destroy();
    waiting?.broke(received.length > 0 ? "cut off" : "reset", why);
  };
  socket.on("error", (error: NodeJS.ErrnoException) => over(error.code ?? error.message));
  socket.on("end", () => over("closed by the server"));
  socket.on("close", () => over("closed"));
  socket.on("data", (chunk: Buffer) => {
    // Whoever answers unasked has said goodbye, or has lost count.
    if (!waiting) return over("data that nobody asked for");
    received = received.length > 0 ? Buffer.concat([received, chunk]) : chunk;
    const answer = parseAnswer(received);
    if (!answer) return;
    received = Buffer.alloc(0);
    if (answer.headers.connection?.toLowerCase() === "close") {
      open = false;
      socket.end();
    }
    waiting.answered(answer);
  });

  return {
    isOpen: () => open && !socket.destroyed,
    close() {
      open = false;
      socket.destroy();
    },
    ask(request, timeoutSeconds) {
      return new Promise((resolve, reject) => {
        const sent = performance.now();
        const done = () => {
          clearTimeout(timer);
          waiting = undefined;
        };
        const broke = (kind: BreakKind, why: string) => {
          done();
          const milliseconds = (performance.now() - sent).toFixed(1);
          reject(
            new Broken(kind, `${why}, ${milliseconds} ms after the request, ${received.length} bytes of an answer`),
          );
        };
        const timer = setTimeout(() => {
          broke("timeout", `no answer within ${timeoutSeconds} s`);
          open = false;
          socket.destroy();
        }, timeoutSeconds * 1000);
        waiting = {
          broke,
          answered(answer) {
            done();
            resolve(answer);
          },
        };
        socket.write(asText(request, target.name));
      });
    },
  };
}

/** A single request on a connection of its own. @throws {Broken} */
export async function askOnce(target: Target, request: Request, timeoutSeconds = 10): Promise<Answer> {
  const connection = await openConnection(target, timeoutSeconds);
  try {
    return await connection.ask(request, timeoutSeconds);
  } finally {
    connection.close();
  }
}

function asText({ method, path, body = "", headers = {} }: Request, host: string): string {
  const all: Record<string, string> = { host, ...headers };
  if (method !== "GET") all["content-length"] = `${Buffer.byteLength(body)}`;
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
  return `${method} ${path} HTTP/1.1\r\n${lines.join("")}\r\n${body}`;
}

/** The answer once it is whole. */
function parseAnswer(bytes: Buffer): Answer | undefined {
  const headEnd = bytes.indexOf("\r\n\r\n");
  if (headEnd < 0) return undefined;
  const [first = "", ...lines] = bytes.toString("latin1", 0, headEnd).split("\r\n");
  const headers = Object.fromEntries(
    lines.map((line) => [line.slice(0, line.indexOf(":")).toLowerCase(), line.slice(line.indexOf(":") + 1).trim()]),
  );
  const rest = bytes.subarray(headEnd + 4);
  const body =
    headers["transfer-encoding"] === "chunked" ? joinChunks(rest) : ofLength(rest, headers["content-length"]);
  return body && { status: Number(first.split(" ")[1]), headers, body: body.toString(), ...releaseIn(body) };
}

/** Without a length there is no body: what lab servers answer always says one. */
function ofLength(bytes: Buffer, length = "0"): Buffer | undefined {
  return bytes.length >= Number(length) ? bytes.subarray(0, Number(length)) : undefined;
}

function joinChunks(bytes: Buffer): Buffer | undefined {
  const chunks: Buffer[] = [];
  for (let rest = bytes; ; ) {
    const lineEnd = rest.indexOf("\r\n");
    const size = Number.parseInt(rest.toString("latin1", 0, Math.max(lineEnd, 0)), 16);
    const next = lineEnd + 2 + size + 2;
    if (lineEnd < 0 || rest.length < next) return undefined;
    if (size === 0) return Buffer.concat(chunks);
    chunks.push(rest.subarray(lineEnd + 2, lineEnd + 2 + size));
    rest = rest.subarray(next);
  }
}

function releaseIn(body: Buffer): { release?: string } {
  try {
    const { release } = JSON.parse(body.toString());
    return typeof release === "string" ? { release } : {};
  } catch {
    return {};
  }
}
