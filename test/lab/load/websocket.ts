// A websocket as a browser has it, which stays open and tells how it was closed. As little of RFC 6455 as that takes: short
// text messages and pings, no fragments.
import { randomBytes } from "node:crypto";
import { openSocket, type Target } from "./connection.ts";

export type Closed = {
  at: string;
  /** "said": with a close frame, its code is in `code`. "ended": the connection was closed. "broken": it was reset. */
  how: "said" | "ended" | "broken" | "by us";
  code?: number;
};

export type Websocket = {
  /** Sends a text; the next text that comes is the answer. Rejects when it is closed before. */
  send(text: string): Promise<string>;
  /** How many of its pings, one each second, were answered. */
  pongs(): number;
  /** Pending for as long as it is open. */
  closed: Promise<Closed>;
  isOpen(): boolean;
  close(): void;
};

const codes = { text: 1, close: 8, ping: 9, pong: 10 } as const;

/** @param path of test/lab/apps, which answers "RELEASE: TEXT". */
export async function openWebsocket(target: Target, path = "/socket"): Promise<Websocket> {
  const socket = await openSocket(target, 10);
  const waiting: { resolve(text: string): void; reject(error: Error): void }[] = [];
  let [open, pongs] = [true, 0];
  let received: Buffer = Buffer.alloc(0);
  let upgraded = (_: string) => {};
  const head = new Promise<string>((resolve) => {
    upgraded = resolve;
  });
  let tellClosed = (_: Closed) => {};
  const closed = new Promise<Closed>((resolve) => {
    tellClosed = resolve;
  });
  const pings = setInterval(() => socket.write(frame(codes.ping, "")), 1000);

  const end = (how: Closed["how"], code?: number) => {
    if (!open) return;
    open = false;
    clearInterval(pings);
    socket.destroy();
    upgraded("");
    for (const { reject } of waiting) reject(new Error(`the websocket was closed: ${how} ${code ?? ""}`));
    tellClosed({ at: new Date().toISOString(), how, ...(code !== undefined && { code }) });
  };
  const take = (kind: number, content: Buffer) => {
    if (kind === codes.text) waiting.shift()?.resolve(content.toString());
    if (kind === codes.ping) socket.write(frame(codes.pong, content.toString("latin1")));
    if (kind === codes.pong) pongs += 1;
    if (kind === codes.close) end("said", content.length > 1 ? content.readUInt16BE() : undefined);
  };
  let isUpgraded = false;
  socket.on("error", () => end("broken"));
  socket.on("end", () => end("ended"));
  socket.on("close", () => end("ended"));
  socket.on("data", (chunk: Buffer) => {
    received = Buffer.concat([received, chunk]);
    if (!isUpgraded) {
      const headEnd = received.indexOf("\r\n\r\n");
      if (headEnd < 0) return;
      isUpgraded = true;
      upgraded(received.toString("latin1", 0, headEnd));
      received = received.subarray(headEnd + 4);
    }
    for (let next = readFrame(received); next; next = readFrame(received)) {
      received = received.subarray(next.bytes);
      take(next.kind, next.content);
    }
  });

  const lines = [
    ...[`GET ${path} HTTP/1.1`, `host: ${target.name}`, "connection: Upgrade", "upgrade: websocket"],
    ...["sec-websocket-version: 13", `sec-websocket-key: ${randomBytes(16).toString("base64")}`],
  ];
  socket.write(`${lines.join("\r\n")}\r\n\r\n`);
  const answer = await head;
  if (!answer.startsWith("HTTP/1.1 101 ")) {
    end("by us");
    throw new Error(`no websocket at ${path}: ${answer.split("\r\n")[0] || "the connection was closed"}`);
  }
  return {
    closed,
    pongs: () => pongs,
    isOpen: () => open,
    close: () => end("by us"),
    send: (text) =>
      new Promise((resolve, reject) => {
        if (!open) return reject(new Error("the websocket is closed"));
        waiting.push({ resolve, reject });
        socket.write(frame(codes.text, text));
      }),
  };
}

/** Of a client, and so masked; at most 125 bytes. */
function frame(kind: number, text: string): Buffer {
  const content = Buffer.from(text);
  const mask = randomBytes(4);
  const masked = content.map((byte, index) => byte ^ mask[index % 4]!);
  return Buffer.concat([Buffer.from([0x80 | kind, 0x80 | content.length]), mask, masked]);
}

/** The first frame in the bytes, once it is whole. Servers do not mask. */
function readFrame(bytes: Buffer): { kind: number; content: Buffer; bytes: number } | undefined {
  if (bytes.length < 2) return undefined;
  const isLong = (bytes[1]! & 0x7f) === 126;
  if (isLong && bytes.length < 4) return undefined;
  const [start, length] = isLong ? [4, bytes.readUInt16BE(2)] : [2, bytes[1]! & 0x7f];
  if (bytes.length < start + length) return undefined;
  return { kind: bytes[0]! & 0x0f, content: bytes.subarray(start, start + length), bytes: start + length };
}
