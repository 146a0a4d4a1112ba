// An HTTP server that keeps what it is sent, for tests of notifications, pings and purges. It answers 204 until told otherwise.
//   const sink = await startSink();   …   expect(sink.requests[0]?.path).toBe("/ping");   await sink.stop();
import { createServer, type IncomingHttpHeaders, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { Failure } from "../../scripts/lib/failure.ts";
import { poll } from "../../scripts/lib/wait.ts";

export type SinkRequest = { method: string; path: string; headers: IncomingHttpHeaders; body: string };

type Answer = { status?: number; headers?: Record<string, string>; body?: string; delaySeconds?: number };

export type Behaviour = Answer | "hang" | "reset";

export type Sink = {
  /** "http://127.0.0.1:54321", without a slash at the end. */
  url: string;
  /** Oldest first, whole ones only: a request is here before it is answered. */
  requests: readonly SinkRequest[];
  /** From now on, one request after the other, and the last for all that follow; without an argument as at the beginning. */
  behave(...behaviours: Behaviour[]): void;
  /** The requests once there are at least so many. A Failure if they do not come in time. */
  received(count: number, withinSeconds?: number): Promise<readonly SinkRequest[]>;
  /** Forgets what has come. */
  clear(): void;
  /** Open connections are cut. Harmless on repetition. */
  stop(): Promise<void>;
};

/** @param host where to listen; 127.0.0.1 is out of reach for containers and lab servers. */
export async function startSink(host = "127.0.0.1"): Promise<Sink> {
  const requests: SinkRequest[] = [];
  let behaviours: Behaviour[] = [];
  const timers = new Set<NodeJS.Timeout>();

  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const { method = "", url: path = "", headers } = request;
      requests.push({ method, path, headers, body: Buffer.concat(chunks).toString() });
      answer(response);
    });
  });

  function answer(response: ServerResponse): void {
    const behaviour = (behaviours.length > 1 ? behaviours.shift() : behaviours[0]) ?? {};
    if (behaviour === "hang") return;
    if (behaviour === "reset") return void response.socket?.resetAndDestroy();
    const { status = 204, headers = {}, body = "", delaySeconds = 0 } = behaviour;
    const timer = setTimeout(() => {
      timers.delete(timer);
      response.writeHead(status, headers).end(body);
    }, delaySeconds * 1000);
    timers.add(timer);
  }

  await new Promise<void>((resolve, reject) => server.once("error", reject).listen(0, host, resolve));
  return {
    url: `http://${host}:${(server.address() as AddressInfo).port}`,
    requests,
    behave(...next) {
      behaviours = next;
    },
    async received(count, withinSeconds = 10) {
      const came = await poll({ seconds: withinSeconds }, async () =>
        requests.length >= count ? requests : undefined,
      );
      if (came) return came;
      throw new Failure(`Cannot see ${count} requests`, `${requests.length} came within ${withinSeconds} s`);
    },
    clear() {
      requests.length = 0;
    },
    async stop() {
      for (const timer of timers) clearTimeout(timer);
      if (!server.listening) return;
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await closed;
    },
  };
}
