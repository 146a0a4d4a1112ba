// First contact: asks the server for its host key, has somebody compare it, and pins it in known_hosts.
import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { exitCodes, Failure } from "./failure.ts";
import { fingerprintOf, type HostKey, trustedKeys, withKey } from "./known-hosts.ts";
import { run } from "./run.ts";
import { quotePath, readKnownHosts, type Server, sshCommand, sshFailure } from "./ssh.ts";
import { confirm } from "./terminal.ts";

export type Pin = { host: string; type: string; fingerprint: string; change: "new" | "none" | "replaced" };

type Options = {
  /** The one that is expected, "SHA256:…"; without it a person is asked. */
  fingerprint: string | undefined;
  /** Whether another key that is pinned already may be replaced. */
  replace: boolean;
  /** Other names of the same server, under which its key is to be known as well. */
  alsoFor: readonly string[];
};

/**
 * Exactly one key is pinned, the one that was compared: with the others of a server, an impostor who shows the right one
 * could smuggle in one of his own.
 * @throws {Failure} exit 5: not confirmed, not the expected one, or another one is pinned; sshFailure() when nobody answers.
 */
export async function pinHostKey(server: Server, { fingerprint, replace, alsoFor }: Options): Promise<Pin> {
  const shown = await askForHostKey(server);
  const names = [server.host, ...alsoFor];
  const before = readKnownHosts(server);
  const change = compare(before, names, shown, replace);
  const pin: Pin = { host: server.host, type: shown.type, fingerprint: fingerprintOf(shown), change };
  if (fingerprint !== undefined && fingerprint !== pin.fingerprint) throw notExpected(server, fingerprint, pin);
  if (change === "none") return pin;
  if (fingerprint === undefined) await letCompare(server, pin);
  const text = names.reduce((known, name) => withKey(known, name, shown), before);
  // Whole or not at all: a deploy may be reading it.
  writeFileSync(`${server.knownHostsFile}.new`, text);
  renameSync(`${server.knownHostsFile}.new`, server.knownHostsFile);
  return pin;
}

/**
 * The key with which the server proves itself, whether or not we may log in. Plain ssh fetches it, because ssh-keyscan knows
 * nothing of the user's configuration: no ProxyJump, no HostName.
 */
async function askForHostKey(server: Server): Promise<HostKey> {
  const folder = mkdtempSync(join(tmpdir(), "dbops-host-key-"));
  const file = join(folder, "known_hosts");
  try {
    const argv = sshCommand(server, {
      StrictHostKeyChecking: "accept-new",
      UserKnownHostsFile: quotePath(file),
      HashKnownHosts: "no",
      // Logs in with nothing: whoever it is, it learns nothing of us.
      PreferredAuthentications: "none",
    });
    const { stderr } = await run({ argv: [...argv, "exit"], accept: [0, 255], timeoutSeconds: 30 });
    writeFileSync(file, "", { flag: "a" });
    const [key] = trustedKeys(readFileSync(file, "utf8"), server.host);
    if (key) return key;
    throw sshFailure(server, stderr);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** @throws {Failure} exit 5 when another key is pinned and may not be replaced. */
function compare(known: string, names: readonly string[], shown: HostKey, replace: boolean): Pin["change"] {
  const pinned = names.map((name) => ({ name, keys: trustedKeys(known, name) }));
  if (pinned.every(({ keys }) => keys.some(({ key }) => key === shown.key))) return "none";
  const other = pinned.find(({ keys }) => keys.length > 0 && !keys.some(({ key }) => key === shown.key));
  if (!other) return "new";
  if (replace) return "replaced";
  const why = "another host key is pinned: this one was made anew, or somebody else is answering";
  throw new Failure(`Refusing to pin the host key of ${other.name}`, why, ["bun scripts/provision.ts --repin"], {
    exitCode: exitCodes.refused,
    details: [...other.keys.map((key) => `pinned: ${fingerprintOf(key)}`), `shown:  ${fingerprintOf(shown)}`].join(
      "\n",
    ),
    read: "docs/runbook/host-key-changed.md",
  });
}

function notExpected({ host }: Server, expected: string, { fingerprint }: Pin): Failure {
  const why = "its host key is not the expected one: somebody else is answering, or the fingerprint is of another key";
  return new Failure(`Refusing to pin the host key of ${host}`, why, [], {
    exitCode: exitCodes.refused,
    details: [`expected: ${expected}`, `shown:    ${fingerprint}`].join("\n"),
    read: "docs/runbook/host-key-changed.md",
  });
}

const kinds: Record<string, string> = { "ssh-ed25519": "ed25519", "ssh-rsa": "rsa" };

/** @throws {Failure} exit 5 when it is not confirmed, or there is nobody to ask. */
async function letCompare({ host }: Server, { type, fingerprint, change }: Pin): Promise<void> {
  const file = `/etc/ssh/ssh_host_${kinds[type] ?? "ecdsa"}_key.pub`;
  const text = [
    `${host} shows ${change === "replaced" ? "another" : "this"} host key: ${fingerprint} (${type})`,
    `Compare it with what the provider's console says: ssh-keygen -lf ${file}`,
    "Whoever has another key is not your server.",
  ].join("\n");
  await confirm({ text, answer: host, flag: "--fingerprint SHA256:…" });
}
