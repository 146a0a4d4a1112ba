// A TCP proxy that counts round trips: how often the client spoke after the server had had its say.
import { connect as connectSocket, createServer, type Socket } from "node:net";

export type CountingProxy = {
  port: number;
  /** Since the start or the last reset(). Everything a client sends before an answer comes counts as one. */
  roundTrips(): number;
  reset(): void;
  stop(): Promise<void>;
};

export async function startCountingProxy(targetPort: number): Promise<CountingProxy> {
  let roundTrips = 0;
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    const target = connectSocket(targetPort, "127.0.0.1");
    let serverSpokeLast = true;
    client.on("data", (bytes) => {
      if (serverSpokeLast) roundTrips++;
      serverSpokeLast = false;
      target.write(bytes);
    });
    target.on("data", (bytes) => {
      serverSpokeLast = true;
      client.write(bytes);
    });
    for (const [socket, other] of [[client, target] as const, [target, client] as const]) {
      sockets.add(socket);
      socket.on("error", () => other.destroy());
      socket.on("close", () => {
        sockets.delete(socket);
        other.destroy();
      });
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    port: (server.address() as { port: number }).port,
    roundTrips: () => roundTrips,
    reset() {
      roundTrips = 0;
    },
    async stop() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
