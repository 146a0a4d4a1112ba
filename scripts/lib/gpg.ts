// gpg, for what lies in the bucket: whoever has gpg and the passphrase, or the secret key, can open it without this kit. Its output is
// what every gpg since 2.2 reads. It has a home of its own here, so that nobody's configuration, keys or cached passphrase counts.
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { asFailure, exitCodes, Failure } from "./failure.ts";
import type { Stage } from "./flow.ts";
import { type Result, run } from "./run.ts";

/** Who can open it. */
export type Lock = { kind: "passphrase"; passphrase: string } | { kind: "recipients"; files: readonly string[] };

export type Gpg = {
  /** "gpg (GnuPG) 2.4.7" */
  version: string;
  /** stdin → stdout */
  encrypt(): Stage;
  /** stdin → stdout. For recipients the secret key comes from the keyring of whoever runs this: GNUPGHOME, or ~/.gnupg. */
  decrypt(): Stage;
  /** Of the recipients, else empty. */
  fingerprints: string[];
  /** Removes the private home. Harmless on repetition. */
  close(): Promise<void>;
};

const encrypting = { name: "gpg" };
/** Its exit 0 alone says nothing: a file that is cut off behind its first packet is "decrypted" to nothing (measured, 2.2 and 2.4). */
const decrypting = { name: "gpg --decrypt", says: "[GNUPG:] GOODMDC" };
const usage = { exitCode: exitCodes.usage } as const;
const install = "install GnuPG, on Debian: apt-get install gnupg      # or: brew install gnupg";

/**
 * @param directory of the project: where the recipients' files are named from.
 * @throws {Failure} exit 2 when gpg is missing, and for a passphrase or a public key that cannot be used.
 */
export async function openGpg(lock: Lock, directory: string): Promise<Gpg> {
  if (lock.kind === "passphrase") requirePassphrase(lock.passphrase);
  const version = await readVersion();
  // mkdtemp makes it for us alone (0700). Short, because gpg's sockets lie in it, and a socket's path may have about 100 characters.
  const home = await mkdtemp(join(tmpdir().length > 60 ? "/tmp" : tmpdir(), "dbops-gpg-"));
  const close = () => removeHome(home);
  try {
    const fingerprints = lock.kind === "recipients" ? await importRecipients(lock.files, home, directory) : [];
    const secret = lock.kind === "passphrase" ? { secret: `${lock.passphrase}\n` } : {};
    return {
      ...{ version, fingerprints, close },
      encrypt() {
        if (lock.kind === "passphrase") return { ...encrypting, argv: symmetric, environment: ours(home), ...secret };
        if (fingerprints.length === 0) throw cannotEncrypt("there is no recipient", []);
        return { ...encrypting, argv: publicKey(fingerprints), environment: ours(home) };
      },
      decrypt() {
        if (lock.kind === "recipients") return { ...decrypting, argv: withTheirKeys, environment: english };
        return { ...decrypting, argv: withPassphrase, environment: ours(home), ...secret };
      },
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** What a human being types, and what RESTORE.txt shows; the plain bytes come on stdout. */
export function decryptByHand(kind: Lock["kind"], file: string): string {
  // Without the option gpg asks a program for the passphrase that containers and rescue systems do not have.
  const passphrase = "--batch --pinentry-mode loopback --passphrase-file passphrase.txt ";
  return `gpg ${kind === "passphrase" ? passphrase : ""}--decrypt ${file}`;
}

/** explainGpg() reads what it says. */
const english = { LC_ALL: "C", LANGUAGE: undefined };
const ours = (home: string) => ({ ...english, GNUPGHOME: home });

const always = ["gpg", "--batch", "--yes", "--no-tty", "--status-fd", "2"];
/** In our own home nothing needs gpg's agent: without one no passphrase is cached, and nothing goes on in the background. */
const alone = [...always, "--no-options", "--no-autostart", "--no-auto-key-locate", "--no-auto-key-retrieve"];
const passphraseOnDescriptor3 = ["--pinentry-mode", "loopback", "--passphrase-fd", "3", "--no-symkey-cache"];

const encryption = [
  // Newer ones would choose OCB packets for keys that allow them, which nothing but a newer gpg reads.
  "--rfc4880",
  ...["--cipher-algo", "AES256"],
  // It is compressed already, and gpg's own attempt is six times as slow (measured).
  ...["--compress-algo", "none"],
];

const symmetric = [
  ...[...alone, ...passphraseOnDescriptor3, ...encryption],
  // Said, because gpg would ask its agent for the number of rounds. This is the most that the format has: a fifth of a second.
  ...["--s2k-mode", "3", "--s2k-digest-algo", "SHA512", "--s2k-count", "65011712"],
  ...["--symmetric", "--output", "-"],
];

const publicKey = (fingerprints: readonly string[]) => [
  ...[...alone, ...encryption, "--trust-model", "always"],
  ...fingerprints.flatMap((fingerprint) => ["--recipient", fingerprint]),
  ...["--encrypt", "--output", "-"],
];

const withPassphrase = [...alone, ...passphraseOnDescriptor3, "--decrypt", "--output", "-"];
const withTheirKeys = [...always, "--decrypt", "--output", "-"];

function requirePassphrase(passphrase: string): void {
  const wrong =
    passphrase === "" ? "it is empty" : /[\r\n\0]/.test(passphrase) ? "it has a line break in it" : undefined;
  if (!wrong) return;
  const next = ["openssl rand -base64 32      # makes a good one"];
  throw new Failure("Cannot use the passphrase of the backups", wrong, next, usage);
}

async function readVersion(): Promise<string> {
  const { stdout } = await run({ argv: ["gpg", "--version"], environment: english }).catch((error) => {
    if (!(error instanceof Failure) || !error.why.includes("is not installed")) throw error;
    throw new Failure("Cannot encrypt or decrypt", error.why, [install], usage);
  });
  return stdout.split("\n")[0]!;
}

/** @returns the fingerprints. */
async function importRecipients(files: readonly string[], home: string, directory: string): Promise<string[]> {
  const found: string[] = [];
  for (const file of files) found.push(...(await importKeys(resolve(directory, file), file, home)));
  return [...new Set(found)];
}

async function importKeys(path: string, file: string, home: string): Promise<string[]> {
  const text = await readFile(path).catch((error: NodeJS.ErrnoException) => {
    throw cannotEncrypt(error.code === "ENOENT" ? `there is no file "${file}"` : error.message, [`ls -l ${file}`]);
  });
  const exportIt = `gpg --armor --export YOU@EXAMPLE.COM > ${file}`;
  if (text.includes("PRIVATE KEY BLOCK")) {
    const why = `"${file}" holds a private key, which does not belong there: with it anybody could read the backups`;
    throw cannotEncrypt(why, [exportIt]);
  }
  const environment = ours(home);
  const imported: Result = await run({ argv: [...alone, "--import"], stdin: text, environment, accept: [0, 1, 2] });
  const fingerprints = [...imported.stderr.matchAll(/^\[GNUPG:\] IMPORT_OK \d+ ([0-9A-F]+)$/gm)].map(([, it]) => it!);
  if (fingerprints.length === 0) throw cannotEncrypt(`"${file}" holds no OpenPGP public key`, [exportIt]);
  for (const fingerprint of fingerprints) await requireUsable(fingerprint, file, environment);
  return fingerprints;
}

/** An expired key as well: the backups of the next night would fail, and now somebody is looking. */
async function requireUsable(fingerprint: string, file: string, environment: Record<string, string | undefined>) {
  const argv = [...alone, "--with-colons", "--list-keys", fingerprint];
  const { stdout } = await run({ argv, environment });
  // doc/DETAILS of GnuPG: the second field is the validity, the twelfth what it can do, in capitals with its subkeys.
  const [, validity = "", , , , , expires = "", , , , , abilities = ""] =
    /^pub:.*$/m.exec(stdout)?.[0].split(":") ?? [];
  const states: Record<string, string> = {
    e: `has expired on ${new Date(Number(expires) * 1000).toISOString().slice(0, 10)}`,
    r: "has been revoked",
    d: "has been disabled",
    i: "is not valid: it lacks its own signature",
  };
  const state = states[validity] ?? (abilities.includes("E") ? undefined : "cannot encrypt: it has no subkey for that");
  if (state) throw cannotEncrypt(`the key ${fingerprint} in "${file}" ${state}`, [`gpg --show-keys ${file}`]);
}

function cannotEncrypt(why: string, next: string[]): Failure {
  return new Failure("Cannot encrypt for the recipients of the backup", why, next, usage);
}

async function removeHome(home: string): Promise<void> {
  // Nothing should run there. Where gpgconf is missing nothing can be asked to end either.
  await run({ argv: ["gpgconf", "--kill", "all"], environment: ours(home) }).catch(() => {});
  await run({ argv: ["gpgconf", "--remove-socketdir"], environment: ours(home) }).catch(() => {});
  await rm(home, { recursive: true, force: true });
}

type Reason = { says: RegExp; why: (match: RegExpExecArray) => string; next?: readonly string[]; read?: string };

const another = ["bun scripts/backup.ts list      # choose another one"];

/** The first one that matches counts. Lines that begin with [GNUPG:] are gpg's own for programs. */
const reasons: readonly Reason[] = [
  {
    says: /^\[GNUPG:\] ERROR get_passphrase/m,
    why: () => "it is encrypted with a passphrase, and not for a key",
    next: ["take backup.recipients out of dbops.config.ts, and the same command again"],
  },
  {
    says: /probably not installed|can't connect to the (?:gpg-)?agent/,
    why: () => "gpg finds no gpg-agent, which keeps the secret keys",
    next: ["install it, on Debian: apt-get install gpg-agent"],
  },
  {
    says: /\d+_BAD_PASSPHRASE$|Bad session key$/m,
    why: () => "the passphrase is not the one that it was encrypted with, or its first bytes are damaged",
    read: "docs/runbook/lost-passphrase.md",
  },
  {
    says: /block_filter|1st length byte missing|^\[GNUPG:\] NODATA 3$/m,
    why: () => "it is cut off: its end is missing",
    next: another,
  },
  {
    says: /^\[GNUPG:\] BADMDC$/m,
    why: () => "it is not what was encrypted: bytes of it are damaged, or somebody has changed them",
    next: another,
  },
  {
    says: /public key decryption failed: (?!No secret key)(.*)$/m,
    why: ([, reason]) => `gpg could not ask for the passphrase of the secret key: ${reason}`,
    next: ["export GPG_TTY=$(tty)      # on a terminal, then the same command again"],
  },
  {
    says: /^\[GNUPG:\] NO_SECKEY ([0-9A-F]+)$/m,
    why: ([, key]) => `it is encrypted for the key ${key}, and the keyring of this user has no secret key for it`,
    next: ["gpg --import FILE      # with the secret key; or set GNUPGHOME to the keyring that has it"],
    read: "docs/runbook/lost-passphrase.md",
  },
  {
    says: /^\[GNUPG:\] NODATA \d$/m,
    why: () => "it is not encrypted by gpg: it is another file, or an empty one",
    next: another,
  },
  // How it is locked was there, and nothing behind it.
  {
    says: /^\[GNUPG:\] (?:NEED_PASSPHRASE_SYM|ENC_TO) /m,
    why: () => "it is cut off: its end is missing",
    next: another,
  },
];

/** A failure of decrypt() in its own sentence, exit 3; anything else as it is. */
export function explainGpg(error: unknown): Failure {
  const failure = asFailure(error);
  if (failure.what !== `${decrypting.name} failed`) return failure;
  const said = failure.details ?? "";
  const lines = said.split("\n").filter((line) => !line.startsWith("[GNUPG:]"));
  const details = lines.join("\n").trim();
  const options = { cause: failure, ...(details && { details }) };
  // A signal says nothing about the file.
  const isAnswer = failure.why.startsWith("it exited with");
  const found = reasons.find(({ says }) => isAnswer && says.test(said));
  if (!found) return new Failure("Cannot decrypt the backup", failure.why, [], options);
  const { says, why, next = [], read } = found;
  return new Failure("Cannot decrypt the backup", why(says.exec(said)!), next, {
    ...{ ...options, exitCode: exitCodes.saidNo },
    ...(read && { read }),
  });
}
