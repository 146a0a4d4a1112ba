// scripts/lib/gpg.ts with real gpg of two generations: what one encrypts both decrypt, by the kit and by hand, and everything that can
// be wrong with a file or a key has its own sentence.
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { createHash, randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { asFailure, formatFailure } from "../../scripts/lib/failure.ts";
import { flow, type Stage } from "../../scripts/lib/flow.ts";
import { decryptByHand, explainGpg, type Lock, openGpg } from "../../scripts/lib/gpg.ts";
import { run } from "../../scripts/lib/run.ts";
import { watchArgv } from "../lab/argv-watch.ts";
import { gpgEnvironment } from "../lab/debian-programs.ts";
import { allProcesses, argvOf } from "../lab/processes.ts";

setDefaultTimeout(300_000);

const generations = ["machine", "forky"] as const;
type Generation = (typeof generations)[number];

const paths = {} as Record<Generation, string>;
const before = { PATH: process.env.PATH, GNUPGHOME: process.env.GNUPGHOME, TMPDIR: process.env.TMPDIR };
let folder: string;
const passphrase = `ü "'$\\ ${randomBytes(16).toString("base64")}`;
const withPassphrase: Lock = { kind: "passphrase", passphrase };
const plain = randomBytes(3_000_000);

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "dbops-gpg-test-"));
  for (const generation of generations) paths[generation] = (await gpgEnvironment(generation)).PATH;
});
afterAll(async () => {
  for (const name of readdirSync(folder).filter((it) => it.startsWith("home-"))) {
    const environment = { PATH: paths.forky, GNUPGHOME: join(folder, name) };
    await run({ argv: ["gpgconf", "--kill", "all"], environment });
  }
  rmSync(folder, { recursive: true, force: true });
});

/** Does the work with that gpg on PATH, and with that keyring as the user's own. */
async function using<T>(generation: Generation, work: () => Promise<T>, home = keyring("nobody")): Promise<T> {
  Object.assign(process.env, { PATH: paths[generation], GNUPGHOME: home });
  try {
    return await work();
  } finally {
    for (const [name, value] of Object.entries(before)) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  }
}

function keyring(owner: string): string {
  const home = join(folder, `home-${owner}`);
  mkdirSync(home, { recursive: true, mode: 0o700 });
  return home;
}

async function through(stage: Stage, bytes: Uint8Array): Promise<Buffer> {
  const chunks: Buffer[] = [];
  async function* input() {
    for (let at = 0; at < bytes.length; at += 65_536) yield bytes.subarray(at, at + 65_536);
  }
  for await (const chunk of flow([stage], { input: input() }).output) chunks.push(chunk);
  return Buffer.concat(chunks);
}

async function encrypted(lock: Lock, bytes: Uint8Array = plain): Promise<Buffer> {
  const gpg = await openGpg(lock, folder);
  return await through(gpg.encrypt(), bytes).finally(gpg.close);
}

async function decrypted(lock: Lock, bytes: Uint8Array): Promise<Buffer> {
  const gpg = await openGpg(lock, folder);
  return await through(gpg.decrypt(), bytes).finally(gpg.close);
}

/** What people read, with the exit code. */
async function refusal(work: Promise<unknown>): Promise<string> {
  const failure = await work.then(() => undefined, explainGpg);
  return failure ? `${formatFailure(failure)}\nexit ${failure.exitCode}` : "it succeeded";
}

const hash = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

/** A key with its public half in a file. */
async function makeKey(owner: string, words: string[], options: string[] = []): Promise<string> {
  const environment = { PATH: paths.forky, GNUPGHOME: keyring(owner) };
  const gpg = (argv: string[]) => run({ argv: ["gpg", "--batch", ...options, ...argv], environment });
  await gpg(["--passphrase", "", "--quick-generate-key", `${owner} <${owner}@example.com>`, ...words]);
  writeFileSync(join(folder, `${owner}.asc`), (await gpg(["--armor", "--export"])).stdout);
  return /^fpr:+([0-9A-F]+)/m.exec((await gpg(["--with-colons", "--list-keys"])).stdout)![1]!;
}

/** The lines of gpg --list-packets that say how it is encrypted. */
async function packets(file: string, home = keyring("nobody"), words: string[] = []): Promise<string[]> {
  const environment = { PATH: paths.forky, GNUPGHOME: home };
  const { stdout } = await run({ argv: ["gpg", "--batch", ...words, "--list-packets", file], environment });
  return stdout.split("\n").filter((line) => /^:|mdc_method/.test(line));
}

describe.each([...generations])("gpg of %s", (generation) => {
  const other = generations.find((it) => it !== generation)!;

  test("a passphrase: the other generation decrypts it, in the format of 2007", async () => {
    const bytes = await using(generation, () => encrypted(withPassphrase));
    expect(hash(await using(generation, () => decrypted(withPassphrase, bytes)))).toBe(hash(plain));
    expect(hash(await using(other, () => decrypted(withPassphrase, bytes)))).toBe(hash(plain));
    const file = join(folder, "some.gpg");
    writeFileSync(file, bytes);
    writeFileSync(join(folder, "passphrase.txt"), passphrase);
    const words = ["--pinentry-mode", "loopback", "--passphrase-file", join(folder, "passphrase.txt")];
    const found = await packets(file, undefined, words);
    expect(found.map((line) => line.replace(/\s+/g, " ").trim())).toEqual([
      ":symkey enc packet: version 4, cipher 9, aead 0, s2k 3, hash 10",
      ":encrypted data packet:",
      "mdc_method: 2",
      ":literal data packet:",
    ]);
  });

  test("by hand, word for word as RESTORE.txt says it", async () => {
    writeFileSync(join(folder, "database.dump.gpg"), await using(generation, () => encrypted(withPassphrase)));
    writeFileSync(join(folder, "passphrase.txt"), passphrase);
    for (const by of generations) {
      const command = `${decryptByHand("passphrase", "database.dump.gpg")} | sha256sum`;
      const environment = { PATH: paths[by], GNUPGHOME: keyring("nobody") };
      const { stdout } = await run({ argv: ["sh", "-c", command], directory: folder, environment });
      expect(stdout).toBe(`${hash(plain)}  -\n`);
    }
  });

  test("nothing at all, and a byte", async () => {
    await using(generation, async () => {
      for (const few of [Buffer.alloc(0), Buffer.from("x")]) {
        expect(await decrypted(withPassphrase, await encrypted(withPassphrase, few))).toEqual(few);
      }
    });
  });

  const damages: { name: string; damage: (bytes: Buffer) => Buffer; lock?: Lock; says: string }[] = [
    {
      name: "another passphrase",
      damage: (bytes) => bytes,
      lock: { kind: "passphrase", passphrase: "another" },
      says: "the passphrase is not the one that it was encrypted with, or its first bytes are damaged",
    },
    {
      name: "a bit flipped in the middle",
      damage: (bytes) => flipped(bytes, 1_500_123),
      says: "it is not what was encrypted: bytes of it are damaged, or somebody has changed them",
    },
    ...[20, 100, 1_500_000, -1].map((bytes) => ({
      name: `cut off after ${bytes} bytes`,
      damage: (whole: Buffer) => whole.subarray(0, bytes),
      says: "it is cut off: its end is missing",
    })),
    {
      name: "cut off behind its first packet, where gpg exits with 0",
      damage: (bytes) => bytes.subarray(0, 15),
      says: "it is cut off: its end is missing",
    },
    {
      name: "a dump that is not encrypted",
      damage: () => Buffer.from("PGDMP\u0001\u0010\u0000\u0004\u0008 and so on"),
      says: "it is not encrypted by gpg: it is another file, or an empty one",
    },
    {
      name: "an empty file",
      damage: () => Buffer.alloc(0),
      says: "it is not encrypted by gpg: it is another file, or an empty one",
    },
  ];
  test("everything that can be wrong with a file has its own sentence", async () => {
    await using(generation, async () => {
      const bytes = await encrypted(withPassphrase);
      for (const { name, damage, lock = withPassphrase, says } of damages) {
        const text = await refusal(decrypted(lock, damage(Buffer.from(bytes))));
        expect([name, text.split("\n")[0], text.split("\n").at(-1)]).toEqual([
          name,
          `Cannot decrypt the backup: ${says}`,
          "exit 3",
        ]);
        expect(text).not.toContain("[GNUPG:]");
      }
    });
  });

  test("recipients: only the secret key opens it, which the one who encrypts does not have", async () => {
    // As newer ones make them: whoever encrypts for it would choose OCB.
    const preferences = ["--compliance", "gnupg", "--default-preference-list", "AES256 SHA512 ZLIB OCB aead"];
    const fingerprint = await makeKey(`ocb-${generation}`, ["default", "default", "never"], preferences);
    const second = await makeKey(`second-${generation}`, ["default", "default", "never"]);
    const lock: Lock = { kind: "recipients", files: [`ocb-${generation}.asc`, `second-${generation}.asc`] };
    const gpg = await using(generation, () => openGpg(lock, folder));
    expect(gpg.fingerprints.slice(0, 1)).toEqual([fingerprint]);
    expect(gpg.fingerprints.slice(1)).toContain(second);
    const bytes = await using(generation, () => through(gpg.encrypt(), plain).finally(gpg.close));
    const file = join(folder, "for-keys.gpg");
    writeFileSync(file, bytes);
    expect((await packets(file, keyring(`ocb-${generation}`))).at(2)).toBe(":encrypted data packet:");
    for (const owner of [`ocb-${generation}`, `second-${generation}`]) {
      const opened = await using("forky", () => decrypted({ kind: "recipients", files: [] }, bytes), keyring(owner));
      expect(hash(opened)).toBe(hash(plain));
    }
    await using(generation, async () => {
      const text = await refusal(decrypted(lock, bytes));
      expect(text).toContain("and the keyring of this user has no secret key for it\n");
      expect(text).toEndWith("\n  read: docs/runbook/lost-passphrase.md\nexit 3");
      expect(await refusal(decrypted(withPassphrase, bytes))).toContain("it is encrypted for the key ");
    });
    await using(
      "forky",
      async () => {
        expect(await refusal(decrypted(lock, flipped(bytes, 1_500_000)))).toStartWith(
          "Cannot decrypt the backup: it is not what was encrypted: ",
        );
        expect(await refusal(decrypted(lock, bytes.subarray(0, 1_000_000)))).toStartWith(
          "Cannot decrypt the backup: it is cut off: ",
        );
      },
      keyring(`second-${generation}`),
    );
    const other = await using(generation, () => encrypted(withPassphrase));
    expect(await using(generation, () => refusal(decrypted(lock, other)))).toStartWith(
      "Cannot decrypt the backup: it is encrypted with a passphrase, and not for a key\n",
    );
  });

  test("a public key that cannot be used is refused before anything is encrypted", async () => {
    const expired = await makeKey(
      `expired-${generation}`,
      ["default", "default", "1y"],
      ["--faked-system-time", "20200101T120000"],
    );
    const signs = await makeKey(`signs-${generation}`, ["ed25519", "sign", "never"]);
    const environment = { PATH: paths.forky, GNUPGHOME: keyring(`signs-${generation}`) };
    const { stdout } = await run({ argv: ["gpg", "--batch", "--armor", "--export-secret-keys"], environment });
    writeFileSync(join(folder, "secret.asc"), stdout);
    writeFileSync(join(folder, "text.asc"), "no key\n");
    const refused = (file: string) =>
      using(generation, () =>
        refusal(openGpg({ kind: "recipients", files: [file] }, folder).then((gpg) => gpg.close())),
      );
    const what = "Cannot encrypt for the recipients of the backup:";
    const exportTo = (file: string) => `\n  next: gpg --armor --export YOU@EXAMPLE.COM > ${file}\nexit 2`;
    expect(await refused("none.asc")).toBe(`${what} there is no file "none.asc"\n  next: ls -l none.asc\nexit 2`);
    expect(await refused("text.asc")).toBe(`${what} "text.asc" holds no OpenPGP public key${exportTo("text.asc")}`);
    expect(await refused("secret.asc")).toBe(
      `${what} "secret.asc" holds a private key, which does not belong there: with it anybody could read the backups${exportTo("secret.asc")}`,
    );
    expect(await refused(`expired-${generation}.asc`)).toStartWith(
      `${what} the key ${expired} in "expired-${generation}.asc" has expired on 2020-12-31\n`,
    );
    expect(await refused(`signs-${generation}.asc`)).toStartWith(
      `${what} the key ${signs} in "signs-${generation}.asc" cannot encrypt: it has no subkey for that\n`,
    );
  });

  test("the passphrase is in no command line, and nothing is left of it all", async () => {
    const temporary = join(folder, "tmp");
    mkdirSync(temporary, { recursive: true });
    process.env.TMPDIR = temporary;
    const homes = () => readdirSync(temporary);
    const agents = () => allProcesses().filter((pid) => argvOf(pid).join(" ").includes(temporary));
    const watch = await watchArgv([passphrase, passphrase.slice(5)]);
    await using(generation, async () => {
      const bytes = await encrypted(withPassphrase);
      await decrypted(withPassphrase, bytes);
      await decrypted({ kind: "passphrase", passphrase: "another" }, bytes).catch(asFailure);
      await openGpg({ kind: "recipients", files: ["none.asc"] }, folder).catch(asFailure);
      const gpg = await openGpg(withPassphrase, folder);
      expect(homes()).toHaveLength(1);
      await Promise.all([gpg.close(), gpg.close()]);
    });
    const { found, seen } = await watch.stop();
    expect(found).toEqual([]);
    expect(seen.filter((line) => line.includes("--symmetric")).length).toBeGreaterThan(0);
    expect(homes()).toEqual([]);
    expect(agents()).toEqual([]);
  });
});

function flipped(bytes: Buffer, at: number): Buffer {
  const changed = Buffer.from(bytes);
  changed[at]! ^= 1;
  return changed;
}
