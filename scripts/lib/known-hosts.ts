// The project's own known_hosts, committed beside dbops.config.ts: which host key the server must show. In OpenSSH's format, so
// that plain ssh can use it too:   ssh -o UserKnownHostsFile=known_hosts deploy@app.example.com
import { createHash, createHmac } from "node:crypto";

/** A line of a known_hosts file. */
export type HostKey = { marker?: string; type: string; key: string };

/** "SHA256:…", as ssh and a provider's console show it. */
export function fingerprintOf({ key }: Pick<HostKey, "key">): string {
  const digest = createHash("sha256").update(Buffer.from(key, "base64")).digest("base64");
  return `SHA256:${digest.replace(/=+$/, "")}`;
}

/** The keys that ssh would accept for the host, in the order of the file; may be empty. */
export function trustedKeys(text: string, host: string): HostKey[] {
  const keys = linesOf(text).filter(({ names }) => matches(names, host.toLowerCase()));
  return keys.map(({ key }) => key).filter(({ marker }) => marker !== "@revoked");
}

/** The file's text with this one key for the host, and no other line of the host's. Lines of other hosts stay as they are. */
export function withKey(text: string, host: string, { type, key }: HostKey): string {
  const name = host.toLowerCase();
  const others = text.split("\n").filter((line) => {
    const parsed = linesOf(line)[0];
    return line.trim() !== "" && !(parsed && !parsed.key.marker && matches(parsed.names, name));
  });
  return [...others, `${name} ${type} ${key}`, ""].join("\n");
}

type Line = { names: string; key: HostKey };

function linesOf(text: string): Line[] {
  const lines = text.split("\n").map((line) => line.trim());
  return lines.flatMap((line) => {
    const words = line.split(/\s+/);
    const marker = words[0]?.startsWith("@") ? words.shift() : undefined;
    const [names, type, key] = words;
    if (!names || !type || !key || names.startsWith("#")) return [];
    return [{ names, key: { ...(marker && { marker }), type, key } }];
  });
}

/** @param names "a,b", with `*`, `?` and `!` as sshd(8) has them, or one hashed name, as ssh-keyscan -H writes it. */
function matches(names: string, host: string): boolean {
  const [, version, salt, hash] = names.split("|");
  if (version === "1" && salt) {
    return createHmac("sha1", Buffer.from(salt, "base64")).update(host).digest("base64") === hash;
  }
  const patterns = names.toLowerCase().split(",");
  const isNamed = (pattern: string) => toExpression(pattern).test(host);
  if (patterns.some((pattern) => pattern.startsWith("!") && isNamed(pattern.slice(1)))) return false;
  return patterns.some(isNamed);
}

function toExpression(pattern: string): RegExp {
  const literal = pattern.replace(/[.+^${}()|[\]\\]/g, "\\$&");
  return new RegExp(`^${literal.replaceAll("*", ".*").replaceAll("?", ".")}$`);
}
