// One SSH connection to the server for everything that a verb does there: calls of the shell functions in lib/server/*.sh,
// one after the other. If the connection is lost, or this process is killed, the server itself does what ifLost() said last.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { callFailed, purposeOf } from "./call-failure.ts";
import { Failure } from "./failure.ts";
import type { Result } from "./run.ts";
import { type Server, sshFailure, startSsh } from "./ssh.ts";
import { within } from "./wait.ts";

/** A shell function of lib/server/ and its words. Never a secret among them: they would show up in a list of processes. */
export type Call = readonly [name: string, ...words: string[]];

type CallOptions = {
  /** Bytes for the function's stdin: files, and whatever is secret. */
  stdin?: string | Buffer;
  /** Default 60. The server bounds its own steps too; this is for one that no longer answers. */
  timeoutSeconds?: number;
  /** Exit codes that are an answer and not a failure. Default [0]. */
  accept?: readonly number[];
  /** Breaks off the waiting, not what the server does. */
  interrupted?: AbortSignal;
};

export type Session = {
  /** @throws {Failure} when the function fails, the connection is lost, or nothing comes within the time. */
  call(call: Call, options?: CallOptions): Promise<Result>;
  /** What the server is to do by itself when it has not heard from us for `patienceSeconds`. Replaces what was said before. */
  ifLost(calls: readonly Call[]): void;
  /** The work is done: the server lets go of the lock and undoes nothing. */
  close(): Promise<void>;
  /** Breaks off: the server finishes what it is at, then does what ifLost() said. @returns what that printed, if it came in time. */
  giveUp(seconds: number): Promise<Result | undefined>;
};

/** The server counts a silent client as lost after this time, and then lets go of the lock. */
export const patienceSeconds = 20;
const heartbeatSeconds = 5;

type Where = {
  server: Server;
  directory: string;
  project: string;
  /** The file of lib/server/ whose functions are called. Default deploy.sh. */
  functions?: string;
  /** Become root with sudo, where the user is somebody else. */
  asRoot?: boolean;
};

/** @throws {Failure} when there is no way in: each reason its own sentence, see lib/ssh.ts. */
export async function openSession(where: Where): Promise<Session> {
  const { server, directory, project, functions = "deploy.sh", asRoot = false } = where;
  const stderr: string[] = [];
  const waiting = new Map<string, (answer: Result) => void>();
  let greet = () => {};
  const greeted = new Promise<void>((resolve) => {
    greet = resolve;
  });
  const words = ["bash", "-s", "--", `${patienceSeconds}`, directory, project].map(quoteWord).join(" ");
  // sudo forgets the environment; the port of this connection is of interest to provision.
  const sudo = asRoot && server.user !== "root" ? 'sudo -n env SSH_CONNECTION="$SSH_CONNECTION" ' : "";
  const ssh = await startSsh(server, {
    command: `${sudo}${words}`,
    onLine(line, stream) {
      if (stream === "stderr") stderr.push(line);
      else if (line === "ready 1") greet();
      else {
        const [id = "", ...fields] = line.split(" ");
        waiting.get(id)?.(parseAnswer(fields));
        waiting.delete(id);
      }
    },
  });
  const ended = ssh.ended.then(() => {
    throw sshFailure(server, stderr.join("\n"));
  });
  // Whoever waits for an answer gets it; when nobody does, it is no news.
  ended.catch(() => {});
  ssh.write(agentProgram(functions));
  const next = ["the same command again", "docs/runbook/README.md"];
  await within({ seconds: 40 }, Promise.race([greeted, ended]), { what: `the server ${server.host}`, next }).catch(
    async (error) => {
      await ssh.stop("SIGTERM", 1);
      throw error;
    },
  );
  const heartbeat = setInterval(() => ssh.write("alive\n"), heartbeatSeconds * 1000);
  const stop = async (seconds: number) => {
    clearInterval(heartbeat);
    await Promise.race([ssh.ended, pause(seconds)]);
    await ssh.stop("SIGTERM", 1);
  };
  let calls = 0;
  return {
    async call(call, { stdin = "", timeoutSeconds = 60, accept = [0], interrupted } = {}) {
      calls += 1;
      const id = `${calls}`;
      const answer = new Promise<Result>((resolve) => waiting.set(id, resolve));
      const started = performance.now();
      ssh.write(request(id, call, Buffer.from(stdin)));
      const wait = { what: `${server.host} to ${purposeOf(call)}`, next };
      const limit = { seconds: timeoutSeconds, ...(interrupted && { interrupted }) };
      const result = await within(limit, Promise.race([answer, ended]), wait);
      if (!accept.includes(result.exitCode)) throw callFailed(call, server.host, result);
      return { ...result, seconds: (performance.now() - started) / 1000 };
    },
    ifLost(undo) {
      const text = Buffer.from(undo.map((call) => `${call.map(quoteWord).join(" ")}\n`).join(""));
      ssh.write(Buffer.concat([Buffer.from(`undo ${text.length}\n`), text]));
    },
    async close() {
      ssh.write("end\n");
      await stop(5);
    },
    async giveUp(seconds) {
      const answer = new Promise<Result>((resolve) => waiting.set("undo", resolve));
      clearInterval(heartbeat);
      ssh.endInput();
      const result = await Promise.race([answer, ended.catch(() => undefined), pause(seconds)]);
      await stop(result ? 2 : 0);
      return result;
    },
  };
}

/** The functions of lib/server/, and the call that begins to serve. */
function agentProgram(functions: string): string {
  const read = (name: string) => readFileSync(join(import.meta.dirname, "server", name), "utf8");
  return `${read("agent.sh")}\n${read(functions)}\nserve\n`;
}

function request(id: string, call: Call, stdin: Buffer): Buffer {
  return Buffer.concat([Buffer.from(`call ${id} ${stdin.length} ${call.map(quoteWord).join(" ")}\n`), stdin]);
}

function parseAnswer([code, stdout = "", stderr = ""]: readonly string[]): Result {
  const text = (base64: string) => Buffer.from(base64, "base64").toString();
  return { exitCode: Number(code), stdout: text(stdout), stderr: text(stderr), seconds: 0 };
}

/** One word for a POSIX shell. A line break would end the request's header. */
export function quoteWord(word: string): string {
  if (/[\n\r\0]/.test(word)) throw new Failure("Cannot send a word to the server", "it holds a line break", []);
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}

/** A bound that does not keep the process alive by itself. */
const pause = (seconds: number) => setTimeout(seconds * 1000, undefined, { ref: false });
