// The public keys that may log in as the deploy user.
import { existsSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { exitCodes, Failure } from "./failure.ts";
import { run } from "./run.ts";
import type { Server } from "./ssh.ts";

export type PublicKeys = {
  /** "type base64 comment" each. */
  lines: readonly string[];
  /** The private key beside the file, if it is there. */
  privateKeyFile?: string;
};

const keyLine =
  /^(?:ssh-(?:ed25519|rsa)|ecdsa-sha2-nistp\d+|sk-(?:ssh-ed25519|ecdsa-sha2-nistp256)@openssh\.com) [A-Za-z0-9+/]+=*(?: .*)?$/;

/**
 * @param named by --public-key, else the key that ssh itself would take first; none when there is no such file.
 * @throws {Failure} exit 2 when the file that was named cannot be used. What is in it is never shown: it may be a private key.
 */
export function readPublicKeys(named: string | undefined, { keyFile }: Pick<Server, "keyFile">): PublicKeys {
  const usual = ["id_ed25519.pub", "id_ecdsa.pub", "id_rsa.pub"].map((name) => join(homedir(), ".ssh", name));
  const file = named ? resolve(named) : [...(keyFile ? [`${keyFile}.pub`] : usual)].find(existsSync);
  if (!file) return { lines: [] };
  const refuse = (why: string) =>
    new Failure(`Cannot use the public key "${named ?? file}"`, why, ["ls ~/.ssh/*.pub"], {
      exitCode: exitCodes.usage,
    });
  if (!existsSync(file)) throw refuse("there is no such file");
  const text = readFileSync(file, "utf8");
  if (text.includes("PRIVATE KEY")) throw refuse("it is a private key: the public one ends with .pub, and is one line");
  const lines = text.split("\n").map((line) => line.trim());
  const keys = lines.filter((line) => line !== "" && !line.startsWith("#"));
  if (keys.length === 0 || !keys.every((line) => keyLine.test(line))) {
    throw refuse('each line must be a public key of OpenSSH, for instance "ssh-ed25519 AAAA… ann@laptop"');
  }
  const privateKeyFile = file.replace(/\.pub$/, "");
  return { lines: keys, ...(privateKeyFile !== file && existsSync(privateKeyFile) && { privateKeyFile }) };
}

/**
 * Whether ssh could have proved itself with one of the keys, so that a refusal is the server's. A key with a passphrase, or one that
 * wants to be touched, cannot be used where nobody is asked; and what lies beside a public key may be another pair's.
 */
export async function isKeyAtHand({ lines, privateKeyFile }: PublicKeys): Promise<boolean> {
  if (!privateKeyFile) return false;
  const argv = ["ssh-keygen", "-y", "-P", "", "-f", privateKeyFile];
  const { exitCode, stdout } = await run({ argv, accept: [0, 1, 127, 255], timeoutSeconds: 10 });
  const [type = "", base64] = stdout.trim().split(" ");
  return exitCode === 0 && !type.startsWith("sk-") && lines.some((line) => line.split(" ")[1] === base64);
}

/** Those whose key is not in the text of authorized_keys yet, with whatever options or comment. */
export function missingKeys(lines: readonly string[], authorizedKeys: string): string[] {
  const present = new Set(authorizedKeys.split(/\s+/));
  return lines.filter((line) => !present.has(line.split(" ")[1]!));
}
