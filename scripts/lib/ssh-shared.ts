// One SSH connection with room for several programs at once, each with its own streams and exit code: for a dump of gigabytes
// beside the questions about it. lib/session.ts is the other way to use a connection: calls of shell functions, one by one.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { start } from "./run.ts";
import { type Server, sharedSshArguments, sshFailure } from "./ssh.ts";
import { within } from "./wait.ts";

export type SharedSsh = {
  /** How to run the words over there, through this connection. Never a secret among them. */
  argv(words: readonly string[]): string[];
  /** Why the connection has ended, once it has. */
  ended: Promise<void>;
  /** Ends it, with everything that still runs through it. */
  close(): Promise<void>;
};

/** @throws {Failure} when there is no way in: each reason its own sentence, see lib/ssh-failure.ts. */
export async function openSharedSsh(server: Server): Promise<SharedSsh> {
  // Short, because a socket's path may have about 100 characters; ssh adds some of its own while it makes it.
  const directory = await mkdtemp(join(tmpdir().length > 60 ? "/tmp" : tmpdir(), "dbops-"));
  const socket = join(directory, "s");
  const stderr: string[] = [];
  let greet = () => {};
  const greeted = new Promise<void>((resolve) => {
    greet = resolve;
  });
  const tidyUp = () => rm(directory, { recursive: true, force: true });
  // The first program of the connection says that it stands, and keeps it: it ends with our end of its stdin.
  const argv = [...sharedSshArguments(server, socket, "master"), "echo ready; exec cat"];
  const ssh = await start({
    argv,
    input: true,
    ownGroup: true,
    onLine(line, stream) {
      if (stream === "stderr") stderr.push(line);
      else if (line === "ready") greet();
    },
  }).catch(async (error: Error) => {
    await tidyUp();
    throw sshFailure(server, error.message);
  });
  const failed = ssh.ended.then(() => {
    throw sshFailure(server, stderr.join("\n"));
  });
  failed.catch(() => {});
  const close = async () => {
    ssh.endInput();
    await ssh.stop("SIGTERM", 2);
    await tidyUp();
  };
  const wait = { what: `the server ${server.host}`, next: ["the same command again", "docs/runbook/README.md"] };
  await within({ seconds: 40 }, Promise.race([greeted, failed]), wait).catch(async (error) => {
    await close();
    throw error;
  });
  return {
    argv: (words) => [...sharedSshArguments(server, socket, "client"), words.map(quote).join(" ")],
    ended: ssh.ended.then(() => {}),
    close,
  };
}

/** For the login shell over there; also what holds a line break. */
const quote = (word: string) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`);
