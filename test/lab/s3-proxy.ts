// Stands between a client and an S3 server, and does to chosen requests what networks and servers do. Everything else passes
// through as it came, with its Host header, which is part of every signature.
//   const proxy = await startS3Proxy(s3.endpoint);   proxy.hit(/^PUT .*partNumber=2/, { status: 503, code: "SlowDown" });
import {
  type ClientRequest,
  createServer,
  request as httpRequest,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type ServerResponse,
} from "node:http";
import type { AddressInfo } from "node:net";

export type Fault =
  /** An S3 error, and the server hears nothing of the request. */
  | { status: number; code: string }
  /** A page that is no S3 answer at all. */
  | { page: string }
  /** The connection breaks once so much of the request's body has come. */
  | { resetAfter: number }
  /** After so many bytes of the request's body nothing goes on until the work is done. */
  | { atByte: number; work: () => Promise<unknown> }
  /** It is taken in, and never answered. */
  | "hang"
  /** The first byte of the body arrives as another one. */
  | "damage"
  /** The server does it, and the connection breaks instead of the answer. */
  | "lose the answer"
  /** The server does it at once, and its answer takes so long. */
  | { answerAfterSeconds: number }
  /** So much of the answer's body, and then the connection ends, or nothing comes any more. */
  | { cutAnswerAfter: number }
  | { stallAnswerAfter: number };

export type S3Proxy = {
  /** "http://127.0.0.1:54321" */
  url: string;
  /** Oldest first; the label is like "PUT /bucket/key?partNumber=1". */
  requests: readonly { label: string; headers: IncomingHttpHeaders }[];
  /** Each of the next requests that match has one of the faults, in this order. */
  hit(requests: RegExp, ...faults: Fault[]): void;
  /** Forgets the faults and the requests. */
  clear(): void;
  stop(): Promise<void>;
};

export async function startS3Proxy(endpoint: string, port = 0): Promise<S3Proxy> {
  const target = new URL(endpoint);
  const requests: { label: string; headers: IncomingHttpHeaders }[] = [];
  let plans: { requests: RegExp; faults: Fault[] }[] = [];

  const server = createServer((request, response) => {
    const label = `${request.method} ${request.url}`;
    requests.push({ label, headers: request.headers });
    const plan = plans.find(({ requests, faults }) => requests.test(label) && faults.length > 0);
    answer(request, response, plan?.faults.shift());
  });

  function answer(request: IncomingMessage, response: ServerResponse, fault: Fault | undefined): void {
    request.on("error", () => {});
    response.on("error", () => {});
    if (fault === "hang") return void request.resume();
    if (typeof fault === "object" && "resetAfter" in fault) {
      resetAfter(request, fault.resetAfter);
      return;
    }
    if (typeof fault === "object" && ("status" in fault || "page" in fault)) {
      const body =
        "page" in fault ? fault.page : `<Error><Code>${fault.code}</Code><Message>said the proxy</Message></Error>`;
      request.resume().on("end", () => response.writeHead("page" in fault ? 200 : fault.status).end(body));
      return;
    }
    const { hostname: host, port } = target;
    const { method, url: path, headers } = request;
    const onward = httpRequest({ ...{ host, port, method, path, headers, agent: false } }, (reply) => {
      if (fault === "lose the answer") return void reply.resume().on("end", () => request.socket.resetAndDestroy());
      if (typeof fault === "object" && "answerAfterSeconds" in fault) {
        setTimeout(
          () => reply.pipe(response.writeHead(reply.statusCode!, reply.headers)),
          fault.answerAfterSeconds * 1000,
        );
        return;
      }
      response.writeHead(reply.statusCode!, reply.headers);
      if (typeof fault === "object" && !("atByte" in fault)) partly(reply, response, fault);
      else reply.pipe(response);
    });
    onward.on("error", () => request.socket.destroy());
    request.on("close", () => request.complete || onward.destroy());
    // An answer that nobody reads would keep one of the server's few hands busy for over a minute, and others from being served.
    response.on("close", () => response.writableFinished || onward.destroy());
    if (fault === "damage") request.once("data", (chunk: Buffer) => void chunk.writeUInt8(chunk[0]! ^ 1));
    if (typeof fault === "object" && "atByte" in fault) void pausing(request, onward, fault);
    else request.pipe(onward);
  }

  await new Promise<void>((resolve, reject) => server.once("error", reject).listen(port, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    hit: (matching, ...faults) => void plans.push({ requests: matching, faults }),
    clear() {
      plans = [];
      requests.length = 0;
    },
    async stop() {
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await closed;
    },
  };
}

function resetAfter(request: IncomingMessage, bytes: number): void {
  let received = 0;
  if (bytes === 0) request.socket.resetAndDestroy();
  request.on("data", (chunk: Buffer) => {
    received += chunk.length;
    if (received >= bytes) request.socket.resetAndDestroy();
  });
}

async function pausing(
  request: IncomingMessage,
  onward: ClientRequest,
  { atByte, work }: { atByte: number; work: () => Promise<unknown> },
): Promise<void> {
  let left = atByte;
  // Whoever sends it may go meanwhile. A server that went on waiting for the rest would have one hand less for over a minute.
  const leave = () => void onward.destroy();
  request.socket.once("close", leave);
  try {
    for await (const chunk of request as AsyncIterable<Buffer>) {
      const isThere = left < chunk.length;
      onward.write(isThere ? chunk.subarray(0, left) : chunk);
      if (isThere) {
        await work();
        onward.write(chunk.subarray(left));
      }
      left = isThere ? Number.POSITIVE_INFINITY : left - chunk.length;
    }
    onward.end();
  } catch {
    leave();
  } finally {
    request.socket.off("close", leave);
  }
}

function partly(
  reply: IncomingMessage,
  response: ServerResponse,
  fault: { cutAnswerAfter: number } | { stallAnswerAfter: number },
): void {
  const [limit, isCut] = "cutAnswerAfter" in fault ? [fault.cutAnswerAfter, true] : [fault.stallAnswerAfter, false];
  let sent = 0;
  reply.on("data", (chunk: Buffer) => {
    if (sent >= limit) return;
    const part = chunk.subarray(0, limit - sent);
    sent += part.length;
    // What was written has to leave before the connection goes.
    response.write(part, () => sent >= limit && isCut && setImmediate(() => response.socket?.destroy()));
  });
}
