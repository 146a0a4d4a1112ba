// ssh ends with 255 for everything that is not the remote command's own exit code, also when that was killed by a signal:
// so 255 never means "nothing happened over there". What it was stands on stderr, and here in sentences.
import { existsSync, readFileSync } from "node:fs";
import { exitCodes, Failure } from "./failure.ts";
import { fingerprintOf, trustedKeys } from "./known-hosts.ts";
import type { Server } from "./ssh.ts";

type Reason = {
  /** What ssh says, in any of its versions since 8.4. */
  says: RegExp;
  what: (server: Server) => string;
  why: (match: RegExpExecArray, server: Server) => string;
  next?: (server: Server, match: RegExpExecArray) => string[];
  /** Default 1: it may be gone the next time. 2 is for what stays until somebody changes it. */
  exitCode?: 1 | 2;
};

const reach = ({ host }: Server) => `Cannot reach ${host}`;
const logIn = ({ user, host }: Server) => `Cannot log in to ${user}@${host}`;
const lost = ({ host }: Server) => `Lost the connection to ${host}`;
const again = () => ["the same command again"];
const byHand = ({ user, host, port }: Server) => [
  `ssh -o UserKnownHostsFile=known_hosts${port === 22 ? "" : ` -p ${port}`} ${user}@${host}   # by hand, to see more`,
];

/** The first one that matches counts. */
const reasons: readonly Reason[] = [
  {
    says: /^No (\S+) host key is known for (\S+)/m,
    what: ({ host }) => `Cannot trust ${host}`,
    why: ([, type, name], { host }) =>
      name === host.toLowerCase()
        ? `its host key (${type}) is not in known_hosts; nothing was sent`
        : `on the way there ssh found the unknown host key of ${name}; nothing was sent`,
    next: ({ host }, [, , name]) =>
      name === host.toLowerCase() ? ["bun scripts/provision.ts --pin"] : [`ssh ${name}   # by hand, to accept its key`],
    exitCode: exitCodes.usage,
  },
  {
    says: /UNPROTECTED PRIVATE KEY FILE[\s\S]*?Permissions \d+ for '(.+)' are too open/,
    what: logIn,
    why: ([, file]) => `ssh does not use the key file "${file}", because others may read it`,
    next: (_, [, file]) => [`chmod 600 '${file}'`],
    exitCode: exitCodes.usage,
  },
  {
    says: /^Load key "(.+)": (.+)$/m,
    what: logIn,
    why: ([, file, reason]) => `ssh cannot read the key file "${file}": ${reason}`,
    next: (_, [, file]) => [`ssh-keygen -y -f '${file}'   # a copied key often lacks its last line break`],
    exitCode: exitCodes.usage,
  },
  {
    says: /Too many authentication failures/,
    what: logIn,
    why: () => "ssh offered more keys than the server wants to see",
    next: () => ["DBOPS_SSH_KEY_FILE=~/.ssh/id_ed25519 and the same command: it offers this one only"],
    exitCode: exitCodes.usage,
  },
  {
    says: /Permission denied \(/,
    what: logIn,
    why: (_, { keyFile, user }) =>
      keyFile
        ? `"${user}" may not log in with the key "${keyFile}"`
        : `"${user}" may not log in with any key that ssh has`,
    next: ({ user, host, keyFile }) => [
      ...(keyFile ? [] : ["ssh-add -l   # the keys that ssh has; DBOPS_SSH_KEY_FILE names another one"]),
      user === "root"
        ? "add your public key to /root/.ssh/authorized_keys in the provider's console"
        : `bun scripts/provision.ts --server root@${host} --public-key FILE.pub   # lets a key in`,
    ],
    exitCode: exitCodes.usage,
  },
  {
    says: /Could not resolve hostname (\S+): (?!Temporary)/,
    what: reach,
    why: ([, name]) => `nobody knows the name "${name}"`,
    next: () => ["correct environments.production.server in dbops.config.ts"],
    exitCode: exitCodes.usage,
  },
  {
    says: /Could not resolve hostname (\S+): Temporary/,
    what: reach,
    why: ([, name]) => `the name "${name}" cannot be looked up now`,
    next: again,
  },
  {
    says: /connect to host \S+ port (\d+): Connection refused/,
    what: reach,
    why: ([, port]) => `it is there, but nobody listens on port ${port}`,
    next: () => ["see in the provider's console whether sshd runs, and on which port"],
  },
  {
    says: /connect to host \S+ port (\d+): (.+)/,
    what: reach,
    why: ([, port, reason]) => `no answer from port ${port}: ${reason}`,
    next: () => ["see in the provider's console whether the server runs, and what its firewall lets through"],
  },
  {
    says: /banner exchange/,
    what: reach,
    why: () => "it takes connections, but says nothing within 10 s",
    next: () => ["see in the provider's console whether the server is overloaded"],
  },
  {
    says: /channel \d+: open failed: (?:connect failed: )?(.+)/,
    what: reach,
    why: ([, reason]) => `the host in between, that ssh's configuration names, does not get there: ${reason}`,
    next: byHand,
  },
  {
    says: /(?:kex|ssh)_exchange_identification/,
    what: reach,
    why: () => "it hung up before it greeted; sshd and fail2ban do that for a while after failed logins",
    next: () => ["wait a minute, then the same command again"],
  },
  {
    says: /Unable to negotiate with .*: (.*?)\./,
    what: reach,
    why: ([, reason]) => `ssh here and sshd there do not understand each other: ${reason}`,
    next: byHand,
    exitCode: exitCodes.usage,
  },
  {
    says: /Bad owner or permissions on|Bad configuration option|Can't open user config file|bad configuration options/,
    what: reach,
    why: () => "ssh does not accept its own configuration on this machine",
    next: byHand,
    exitCode: exitCodes.usage,
  },
  {
    says: /"ssh" is not installed/,
    what: reach,
    why: () => '"ssh" is not installed, or not on PATH',
    next: () => ["install the OpenSSH client, on Debian: apt-get install openssh-client"],
    exitCode: exitCodes.usage,
  },
  {
    says: /\bbash: (?:command )?not found|command not found: bash/,
    what: ({ host }) => `Cannot run anything on ${host}`,
    why: () => "there is no bash",
    next: ({ host }) => [`install it on ${host}, on Debian: apt-get install bash`],
    exitCode: exitCodes.usage,
  },
  {
    says: /^sudo: (.+)$/m,
    what: ({ host }) => `Cannot become root on ${host}`,
    why: ([, reason], { user }) => `"${user}" must be allowed to use sudo without a password; sudo says: ${reason}`,
    next: ({ host }) => [`bun scripts/provision.ts --server root@${host}`],
    exitCode: exitCodes.usage,
  },
  {
    says: /No space left on device/,
    what: ({ host }) => `Cannot work on ${host}`,
    why: () => "there is no room left on its disk, or in /dev/shm",
    next: ({ host }) => [`on ${host}: df -h / /dev/shm`],
  },
  {
    says: /Timeout, server \S+ not responding|Broken pipe|Connection (?:reset|closed)|closed by remote host|Connection to .* timed out/,
    what: lost,
    why: () => "what was begun there may still be running",
    next: again,
  },
  {
    says: /^\s*$/,
    what: lost,
    why: () => "ssh ended without a word; the program on the other side was killed, or the connection was",
    next: again,
  },
  {
    says: /(.*)\s*$/,
    what: reach,
    why: ([, lastLine]) => lastLine!,
    next: byHand,
  },
];

/** @param output all that ssh wrote to stderr. */
export function sshFailure(server: Server, output: string): Failure {
  const stderr = output.replaceAll("\r", "");
  const changed = /^Host key for (\S+) has changed/m.exec(stderr)?.[1];
  if (changed) return hostKeyChanged(server, stderr, changed);
  for (const { says, what, why, next, exitCode } of reasons) {
    const match = says.exec(stderr);
    if (!match) continue;
    const details = stderr.trimEnd().split("\n").slice(-10).join("\n");
    return new Failure(what(server), why(match, server), next?.(server, match) ?? [], {
      ...(exitCode && { exitCode }),
      ...(details.trim() && { details }),
    });
  }
  throw new Error("the last reason matches everything");
}

function hostKeyChanged(server: Server, stderr: string, name: string): Failure {
  const sent = /SHA256:[\w+/]+/.exec(stderr)?.[0] ?? "not told";
  const isServer = name === server.host.toLowerCase();
  const known = isServer && existsSync(server.knownHostsFile) ? readFileSync(server.knownHostsFile, "utf8") : "";
  const pinned = trustedKeys(known, name).map(fingerprintOf);
  const why = isServer
    ? "its host key has changed: it was made anew, or somebody else is answering. Nothing was sent"
    : `on the way there the host key of ${name} has changed. Nothing was sent`;
  return new Failure(`Refusing to talk to ${server.host}`, why, [], {
    exitCode: exitCodes.refused,
    details: [...pinned.map((fingerprint) => `pinned: ${fingerprint}`), `shown:  ${sent}`].join("\n"),
    read: "docs/runbook/host-key-changed.md",
  });
}
