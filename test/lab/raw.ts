// Requests that fetch cannot send, because it mends their address first.
import { connect } from "node:net";

type Raw = { path?: string; host?: string };

/** The status that a server on this machine answers to exactly these bytes. */
export function statusOfRaw(url: string, { path = "/", host = "localhost" }: Raw): Promise<number> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port: Number(new URL(url).port), host: "127.0.0.1", timeout: 10_000 });
    let text = "";
    socket.on("data", (bytes) => {
      text += bytes;
    });
    socket.on("end", () => resolve(Number(/^HTTP\/1.1 (\d+)/.exec(text)?.[1])));
    socket.on("timeout", () => socket.destroy(new Error("no answer within 10 s")));
    socket.on("error", reject);
    socket.write(`GET ${path} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
  });
}
