// ssh as the verbs use it, against a real sshd: who is trusted, and a sentence for everything that can go wrong on the way.
import { afterAll, beforeAll, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server as TcpServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { asFailure, formatFailure } from "../../scripts/lib/failure.ts";
import { fingerprintOf } from "../../scripts/lib/known-hosts.ts";
import { run } from "../../scripts/lib/run.ts";
import { type Server, sshArguments, sshFailure, startSsh } from "../../scripts/lib/ssh.ts";
import { poll } from "../../scripts/lib/wait.ts";
import { plainSsh } from "../lab/plain-ssh.ts";
import { startServer } from "../lab/server.ts";

setDefaultTimeout(300_000);

type LabServer = Awaited<ReturnType<typeof startServer>>;

let lab: LabServer;
let folder: string;
let environment: Record<string, string | undefined>;
/** The lab's server as the verbs know it. */
let server: Server;

beforeAll(async () => {
  lab = await startServer({ kind: "bare" });
  // sshd drops the connections of whoever has failed a few times; here that is the same address in every test.
  await lab.ssh("echo 'PerSourcePenalties no' >/etc/ssh/sshd_config.d/tests.conf && service ssh reload");
});
afterAll(() => lab?.stop());

beforeEach(async () => {
  folder ??= mkdtempSync(join(tmpdir(), "dbops-ssh-"));
  environment = await plainSsh(folder);
  server = {
    ...{ user: "root", host: lab.address, port: 22, keyFile: lab.privateKeyFile },
    knownHostsFile: knownHosts(`${lab.address} ${lab.hostKey}\n`),
  };
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function knownHosts(text: string, name = "known_hosts"): string {
  writeFileSync(join(folder, name), text);
  return join(folder, name);
}

/** What a person reads when the command does not get there. */
async function refusal(from: Server, command = "true"): Promise<string> {
  const argv = [...sshArguments(from), command];
  const { stderr, exitCode } = await run({ argv, environment, accept: [1, 127, 255], timeoutSeconds: 60 });
  expect(exitCode === 255 || stderr !== "").toBe(true);
  const failure = sshFailure(from, stderr);
  return `${formatFailure(failure)}\nexit ${failure.exitCode}`;
}

test("the server that is pinned gets the command, and its exit code comes back", async () => {
  const argv = sshArguments(server);
  expect((await run({ argv: [...argv, "echo $((6 * 7))"], environment })).stdout).toBe("42\n");
  expect((await run({ argv: [...argv, "exit 7"], environment, accept: [7] })).exitCode).toBe(7);
});

test("known_hosts and the key lie in a folder with every odd character", async () => {
  const odd = join(folder, `a b%h"c\\d'e\${f}`.replace("${f}", "$f"));
  mkdirSync(odd, { recursive: true });
  copyFileSync(lab.privateKeyFile, join(odd, "key"));
  const from = {
    ...server,
    knownHostsFile: knownHosts(`${lab.address} ${lab.hostKey}\n`, join(odd.slice(folder.length + 1), "known hosts")),
  };
  const argv = [...sshArguments({ ...from, keyFile: join(odd, "key") }), "echo in"];
  expect((await run({ argv, environment })).stdout).toBe("in\n");
});

test("an unknown host key ends it", async () => {
  expect(await refusal({ ...server, knownHostsFile: knownHosts("", "empty") })).toBe(
    `Cannot trust ${lab.address}: its host key (ED25519) is not in known_hosts; nothing was sent
  | No ED25519 host key is known for ${lab.address} and you have requested strict checking.
  | Host key verification failed.
  next: bun scripts/provision.ts --pin
exit 2`,
  );
});

test("a changed host key ends it with both fingerprints, whatever the user's configuration says", async () => {
  const other = await newKey("other");
  environment = await plainSsh(folder, "StrictHostKeyChecking no\nVerifyHostKeyDNS yes\nUpdateHostKeys yes\n");
  const knownHostsFile = knownHosts(`${lab.address} ${other}\n`, "changed");
  expect(await refusal({ ...server, knownHostsFile })).toBe(
    `Refusing to talk to ${lab.address}: its host key has changed: it was made anew, or somebody else is answering. Nothing was sent
  | pinned: ${fingerprintOf({ key: other.split(" ")[1]! })}
  | shown:  ${fingerprintOf({ key: lab.hostKey.split(" ")[1]! })}
  read: docs/runbook/host-key-changed.md
exit 5`,
  );
  expect(await Bun.file(knownHostsFile).text()).toBe(`${lab.address} ${other}\n`);
});

test("the user's configuration shows the way: another name, and a host in between", async () => {
  const from = {
    ...server,
    host: "app.example.test",
    knownHostsFile: knownHosts(`app.example.test ${lab.hostKey}\n`, "alias"),
  };
  const own = knownHosts(`${lab.address} ${lab.hostKey}\n`, "own_known_hosts");
  const login = `User root\n  IdentityFile ${lab.privateKeyFile}\n  UserKnownHostsFile ${own}\n`;
  const configuration = `Host app.example.test\n  HostName 127.0.0.1\n  ProxyJump ${lab.address}\nHost ${lab.address}\n  ${login}`;
  environment = await plainSsh(
    folder,
    `${configuration}Match final\n  LocalForward 22 localhost:22\n  RemoteCommand sleep 60\n`,
  );
  const { stdout } = await run({ argv: [...sshArguments(from), "echo $SSH_CONNECTION"], environment });
  expect(stdout).toStartWith("127.0.0.1 ");
});

test("a key without rights, a name without an address, a port without a listener", async () => {
  await newKey("stranger");
  const stranger = join(folder, "stranger");
  expect(await refusal({ ...server, keyFile: stranger })).toBe(
    `Cannot log in to root@${lab.address}: "root" may not log in with the key "${stranger}"
  | root@${lab.address}: Permission denied (publickey).
  next: add your public key to /root/.ssh/authorized_keys in the provider's console
exit 2`,
  );
  const damaged = join(folder, "damaged");
  writeFileSync(damaged, "-----BEGIN OPENSSH PRIVATE KEY-----", { mode: 0o600 });
  expect(await refusal({ ...server, keyFile: damaged })).toContain(`ssh cannot read the key file "${damaged}": `);
  expect(await refusal({ ...server, host: "no-such-host.invalid" })).toMatch(
    /^Cannot reach no-such-host\.invalid: (?:nobody knows the name|the name "no-such-host\.invalid" cannot be looked up)/,
  );
  expect(await refusal({ ...server, port: 2 })).toBe(
    `Cannot reach ${lab.address}: it is there, but nobody listens on port 2
  | ssh: connect to host ${lab.address} port 2: Connection refused
  next: see in the provider's console whether sshd runs, and on which port
exit 1`,
  );
});

test("a server that hangs up, and one that only takes the connection", async () => {
  const [hangsUp, isSilent] = await Promise.all([listen((socket) => socket.destroy()), listen(() => {})]);
  try {
    const on = ({ port }: { port: number }) => ({ ...server, host: "127.0.0.1", port });
    const [first, second] = await Promise.all([refusal(on(hangsUp)), refusal(on(isSilent))]);
    expect(first).toStartWith("Cannot reach 127.0.0.1: it hung up before it greeted; ");
    expect(second).toStartWith("Cannot reach 127.0.0.1: it takes connections, but says nothing within 10 s\n");
  } finally {
    hangsUp.server.close();
    isSilent.server.close();
  }
});

test("255 is not 'nothing happened': a remote command that is killed, and a connection that ends", async () => {
  expect(await refusal(server, "touch /root/happened; kill -9 $$")).toBe(
    `Lost the connection to ${lab.address}: ssh ended without a word; the program on the other side was killed, or the connection was
  next: the same command again
exit 1`,
  );
  expect((await lab.ssh("ls /root/happened")).stdout).toBe("/root/happened\n");
  // ssh hears of it by reading or by writing, whichever comes first.
  expect(await refusal(server, "kill -9 $PPID")).toMatch(
    new RegExp(`^Lost the connection to ${lab.address}: what was begun there may still be running
  \\| (?:Connection to ${lab.address} closed by remote host\\.|client_loop: send disconnect: Broken pipe|.*: Connection reset.*)
  next: the same command again
exit 1$`),
  );
});

test("a cut cable is noticed while the server has nothing to say", async () => {
  const lines: string[] = [];
  const before = process.env.PATH;
  process.env.PATH = environment.PATH;
  const ssh = await startSsh(server, { command: "echo there; sleep 100", onLine: (line) => lines.push(line) });
  process.env.PATH = before;
  await poll({ seconds: 10 }, async () => lines[0]);
  await lab.cutOff();
  try {
    expect(await ssh.ended).toBe(255);
  } finally {
    await lab.reconnect();
  }
  expect(lines[0]).toBe("there");
  expect(sshFailure(server, lines.slice(1).join("\n")).message).toBe(
    `Lost the connection to ${lab.address}: what was begun there may still be running`,
  );
});

test("a server without bash", async () => {
  await lab.ssh(
    "useradd --create-home --shell /bin/sh --password '*' plain && cp -r /root/.ssh /home/plain/ && chown -R plain: /home/plain/.ssh",
  );
  await lab.ssh("usermod --shell /bin/sh root && mv /usr/bin/bash /usr/bin/bash.away");
  try {
    expect(await refusal({ ...server, user: "plain" }, "bash -s")).toBe(
      `Cannot run anything on ${lab.address}: there is no bash
  | sh: 1: bash: not found
  next: install it on ${lab.address}, on Debian: apt-get install bash
exit 2`,
    );
  } finally {
    await run({ argv: [...sshArguments(server), "mv /usr/bin/bash.away /usr/bin/bash"], environment });
  }
});

test("a machine without ssh", async () => {
  const before = process.env.PATH;
  process.env.PATH = folder;
  const failure = await startSsh(server, { command: "true", onLine: () => {} }).catch(asFailure);
  process.env.PATH = before;
  expect(failure).toMatchObject({
    message: `Cannot reach ${lab.address}: "ssh" is not installed, or not on PATH`,
    next: ["install the OpenSSH client, on Debian: apt-get install openssh-client"],
    exitCode: 2,
  });
});

/** @returns the public key, "ssh-ed25519 AAAA…". */
async function newKey(name: string): Promise<string> {
  const file = join(folder, name);
  rmSync(file, { force: true });
  await run({ argv: ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file], environment });
  return (await Bun.file(`${file}.pub`).text()).split(" ").slice(0, 2).join(" ");
}

function listen(onConnection: (socket: { destroy(): void }) => void): Promise<{ server: TcpServer; port: number }> {
  const server = createServer((socket) => {
    socket.on("error", () => {});
    onConnection(socket);
  });
  return new Promise((resolve) => {
    server.listen(0, "127.0.0.1", () => resolve({ server, port: (server.address() as { port: number }).port }));
  });
}
