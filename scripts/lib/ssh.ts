// The way to the server: plain ssh, with the user's own configuration (ProxyJump, identities), but with our rules about who
// the server is. lib/ssh-failure.ts says what went wrong when ssh says so only in its own words.
import { existsSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import type { Settings } from "./config.ts";
import { exitCodes, Failure } from "./failure.ts";
import { trustedKeys } from "./known-hosts.ts";
import { type Running, start } from "./run.ts";
import { sshFailure } from "./ssh-failure.ts";

export { sshFailure };

export type Server = {
  user: string;
  host: string;
  port: number;
  /** The only file that says which host keys to trust. Absolute. */
  knownHostsFile: string;
  /** The private key to log in with, absolute; without one ssh chooses, as it does by hand. */
  keyFile?: string;
};

const configuration = { exitCode: exitCodes.usage } as const;

/**
 * The server of dbops.config.ts, with the host key that this project has pinned.
 * @throws {Failure} exit 2: there is none, its host key is not pinned yet, or DBOPS_SSH_KEY_FILE names no file.
 */
export function serverOf(settings: Settings, directory: string): Server {
  const server = unpinnedServerOf(settings, directory);
  if (trustedKeys(readKnownHosts(server), server.host).length === 0) throw notPinned(server);
  return server;
}

export function notPinned({ host }: Pick<Server, "host">): Failure {
  const why = "its host key is not in known_hosts, so anybody could answer in its place";
  return new Failure(`Cannot trust ${host} yet`, why, ["bun scripts/provision.ts --pin"], configuration);
}

/** The same before its host key is known: for provision, which pins it. */
export function unpinnedServerOf({ environments }: Settings, directory: string): Server {
  const { production } = environments;
  if (!production) {
    const why = "dbops.config.ts has no environments.production";
    throw new Failure("Cannot reach a server", why, ["add it to dbops.config.ts: docs/provision.md"], configuration);
  }
  const { DBOPS_SSH_KEY_FILE: named } = process.env;
  const keyFile = named && resolve(directory, named);
  if (keyFile && !existsSync(keyFile)) {
    const why = `DBOPS_SSH_KEY_FILE is "${named}", and there is no such file`;
    throw new Failure("Cannot log in to the server", why, ["ls -l ~/.ssh"], configuration);
  }
  const { user, host } = parseAddress(production.server);
  const knownHostsFile = join(directory, "known_hosts");
  return { user, host, port: production.port, knownHostsFile, ...(keyFile && { keyFile }) };
}

/** @param address user@host */
export function parseAddress(address: string): Pick<Server, "user" | "host"> {
  const at = address.lastIndexOf("@");
  return { user: address.slice(0, at), host: address.slice(at + 1) };
}

/** The text of known_hosts; empty where there is no such file. */
export function readKnownHosts({ knownHostsFile }: Pick<Server, "knownHostsFile">): string {
  return existsSync(knownHostsFile) ? readFileSync(knownHostsFile, "utf8") : "";
}

/** `ssh … user@host`, to which exactly one string is appended: the command for the shell over there. */
export function sshArguments(server: Server): string[] {
  return sshCommand(server, {
    // An unknown or a changed host key ends it, whatever the user's configuration says.
    StrictHostKeyChecking: "yes",
    UserKnownHostsFile: quotePath(server.knownHostsFile),
    // Only this key: sshd hangs up after a few wrong ones, and an agent may hold many.
    ...(server.keyFile && { IdentityFile: quotePath(server.keyFile), IdentitiesOnly: "yes" }),
  });
}

/** The same for a connection that several programs share: its master makes the socket, its clients use it. */
export function sharedSshArguments(server: Server, socket: string, role: "master" | "client"): string[] {
  const [ssh, ...words] = sshArguments(server);
  // ssh takes the first value that it meets. A client without its master must not open a connection of its own.
  const master =
    role === "master"
      ? // Not in the background, where nobody would end it.
        ["-o", "ControlMaster=yes", "-o", "ControlPersist=no"]
      : ["-o", "ControlMaster=no", "-o", "ProxyCommand=false"];
  return [ssh!, "-o", `ControlPath=${quotePath(socket)}`, ...master, ...words];
}

/** With other rules about host and user keys: for the first contact, which only asks for the host key. */
export function sshCommand(server: Server, keys: Readonly<Record<string, string>>): string[] {
  const options = {
    ...keys,
    // Nothing but UserKnownHostsFile vouches for the server, and ssh writes nothing into a file that is committed.
    GlobalKnownHostsFile: "none",
    KnownHostsCommand: "none",
    VerifyHostKeyDNS: "no",
    UpdateHostKeys: "no",
    // One name for the server, also behind another port or address, or a HostName of the user's configuration.
    HostKeyAlias: server.host.toLowerCase(),
    // Never a question: there may be nobody to answer it.
    BatchMode: "yes",
    // Until the server greets. One that drops packets would keep us waiting for minutes.
    ConnectTimeout: "10",
    // A connection that is dead is noticed within 20 s, also while the server has nothing to say.
    ServerAliveInterval: "5",
    ServerAliveCountMax: "3",
    // A connection of our own: a shared one ends with the terminal that opened it.
    ControlMaster: "no",
    ControlPath: "none",
    // Below INFO ssh ends without a word when a connection times out.
    LogLevel: "INFO",
    // What a user's configuration may ask for in a terminal, and a program must not get.
    ForwardAgent: "no",
    ForwardX11: "no",
    ClearAllForwardings: "yes",
    RemoteCommand: "none",
    PermitLocalCommand: "no",
    RequestTTY: "no",
  };
  // Not for the usual one: a user's configuration may know another.
  const port = server.port === 22 ? [] : ["-p", `${server.port}`];
  const words = Object.entries(options).flatMap(([name, value]) => ["-o", `${name}=${value}`]);
  return ["ssh", ...words, ...port, `${server.user}@${server.host}`];
}

/** A path as an option of ssh takes it: spaces would part it, `%` begins a token. */
export function quotePath(path: string): string {
  return `"${path.replace(/[\\"]/g, "\\$&").replaceAll("%", "%%")}"`;
}

type Remote = {
  /** One string for the shell over there. Never a secret in it: it stands in a list of processes on both sides. */
  command: string;
  onLine: (line: string, stream: "stdout" | "stderr") => void;
};

/**
 * Starts ssh with a stdin to write to. Ctrl-C reaches only us: we tell the server what to do about it.
 * @throws {Failure} exit 2 when ssh is not installed.
 */
export async function startSsh(server: Server, { command, onLine }: Remote): Promise<Running> {
  const argv = [...sshArguments(server), command];
  return start({ argv, input: true, ownGroup: true, onLine }).catch((error: Error) => {
    throw sshFailure(server, error.message);
  });
}
