// scripts/lib/ssh.ts and ssh-failure.ts: the exact command that reaches the server, and a sentence for each of ssh's own failures.
import { afterEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseConfig } from "../scripts/lib/config.ts";
import { type Failure, formatFailure } from "../scripts/lib/failure.ts";
import { quotePath, type Server, serverOf, sshArguments, sshFailure } from "../scripts/lib/ssh.ts";
import shipped from "../templates/dbops.config.ts";

const key = "AAAAC3NzaC1lZDI1NTE5AAAAIG768MWPNLwkYb/szS8qtdYeLQDI4Cz5xsZ4/lYbWGpT";
const server: Server = { user: "deploy", host: "App.example.com", port: 22, knownHostsFile: "/shop/known_hosts" };

const messageOf = (throwing: () => unknown): string => {
  try {
    throwing();
  } catch (error) {
    return formatFailure(error as Failure);
  }
  throw new Error("it threw nothing");
};

test("sshArguments(): strict about the server, deaf to what a user's configuration would add", () => {
  const words = sshArguments({ ...server, port: 2222, keyFile: "/my keys/100%" });
  expect(words.join(" ").replaceAll(" -o ", "\n")).toBe(
    [
      "ssh",
      "StrictHostKeyChecking=yes",
      'UserKnownHostsFile="/shop/known_hosts"',
      'IdentityFile="/my keys/100%%"',
      "IdentitiesOnly=yes",
      "GlobalKnownHostsFile=none",
      "KnownHostsCommand=none",
      "VerifyHostKeyDNS=no",
      "UpdateHostKeys=no",
      "HostKeyAlias=app.example.com",
      "BatchMode=yes",
      "ConnectTimeout=10",
      "ServerAliveInterval=5",
      "ServerAliveCountMax=3",
      "ControlMaster=no",
      "ControlPath=none",
      "LogLevel=INFO",
      "ForwardAgent=no",
      "ForwardX11=no",
      "ClearAllForwardings=yes",
      "RemoteCommand=none",
      "PermitLocalCommand=no",
      "RequestTTY=no -p 2222 deploy@App.example.com",
    ].join("\n"),
  );
  const usual = sshArguments(server).join(" ");
  expect(usual).toEndWith(" -o RequestTTY=no deploy@App.example.com");
  expect(usual).not.toContain("Identit");
});

test("quotePath() carries every character of a path", () => {
  expect(quotePath(`/a b/100%/"c"\\d'e`)).toBe(`"/a b/100%%/\\"c\\"\\\\d'e"`);
});

describe("serverOf()", () => {
  const folders: string[] = [];
  const project = (knownHosts?: string) => {
    const folder = mkdtempSync(join(tmpdir(), "dbops-ssh-"));
    folders.push(folder);
    if (knownHosts) writeFileSync(join(folder, "known_hosts"), knownHosts);
    return folder;
  };
  const keyFileBefore = process.env.DBOPS_SSH_KEY_FILE;
  afterEach(() => {
    for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
    if (keyFileBefore === undefined) delete process.env.DBOPS_SSH_KEY_FILE;
    else process.env.DBOPS_SSH_KEY_FILE = keyFileBefore;
  });
  const settings = parseConfig(shipped);

  test("is the server of dbops.config.ts with the project's known_hosts, and the key file relative to the project", () => {
    const folder = project(`app.example.com ssh-ed25519 ${key}\n`);
    const found = { user: "deploy", host: "app.example.com", port: 22, knownHostsFile: join(folder, "known_hosts") };
    delete process.env.DBOPS_SSH_KEY_FILE;
    expect(serverOf(settings, folder)).toEqual(found);
    writeFileSync(join(folder, "key"), "");
    process.env.DBOPS_SSH_KEY_FILE = "key";
    expect(serverOf(settings, folder)).toEqual({ ...found, keyFile: join(folder, "key") });
  });

  test("refuses a server whose host key nobody has pinned", () => {
    delete process.env.DBOPS_SSH_KEY_FILE;
    for (const folder of [project(), project(`db.example.com ssh-ed25519 ${key}\n`)]) {
      expect(messageOf(() => serverOf(settings, folder))).toBe(
        [
          "Cannot trust app.example.com yet: its host key is not in known_hosts, so anybody could answer in its place",
          "  next: bun scripts/provision.ts --pin",
        ].join("\n"),
      );
    }
  });

  test("refuses a configuration without a server, and a key file that is not there", () => {
    const local = parseConfig({ ...shipped, environments: { local: {} } });
    delete process.env.DBOPS_SSH_KEY_FILE;
    expect(messageOf(() => serverOf(local, "/"))).toBe(
      [
        "Cannot reach a server: dbops.config.ts has no environments.production",
        "  next: add it to dbops.config.ts: docs/provision.md",
      ].join("\n"),
    );
    process.env.DBOPS_SSH_KEY_FILE = "no/such/key";
    expect(messageOf(() => serverOf(settings, project()))).toBe(
      [
        'Cannot log in to the server: DBOPS_SSH_KEY_FILE is "no/such/key", and there is no such file',
        "  next: ls -l ~/.ssh",
      ].join("\n"),
    );
  });
});

describe("sshFailure()", () => {
  // What OpenSSH 9.2 and 10.6 wrote, word for word.
  const rows: { name: string; stderr: string; exitCode: number; message: string; from?: Partial<Server> }[] = [
    {
      name: "a host key that is not pinned",
      stderr:
        "No ED25519 host key is known for app.example.com and you have requested strict checking.\r\nHost key verification failed.\n",
      exitCode: 2,
      message:
        "Cannot trust App.example.com: its host key (ED25519) is not in known_hosts; nothing was sent\n" +
        "  | No ED25519 host key is known for app.example.com and you have requested strict checking.\n" +
        "  | Host key verification failed.\n" +
        "  next: bun scripts/provision.ts --pin",
    },
    {
      name: "an unknown host on the way there",
      stderr: "No ED25519 host key is known for jump.example.com and you have requested strict checking.",
      exitCode: 2,
      message:
        "Cannot trust App.example.com: on the way there ssh found the unknown host key of jump.example.com; nothing was sent\n" +
        "  | No ED25519 host key is known for jump.example.com and you have requested strict checking.\n" +
        "  next: ssh jump.example.com   # by hand, to accept its key",
    },
    {
      name: "a key that nobody lets in",
      stderr: "deploy@app.example.com: Permission denied (publickey).",
      exitCode: 2,
      message:
        'Cannot log in to deploy@App.example.com: "deploy" may not log in with any key that ssh has\n' +
        "  | deploy@app.example.com: Permission denied (publickey).\n" +
        "  next: ssh-add -l   # the keys that ssh has; DBOPS_SSH_KEY_FILE names another one\n" +
        "  next: bun scripts/provision.ts --server root@App.example.com --public-key FILE.pub   # lets a key in",
    },
    {
      name: "a key that root does not let in",
      from: { user: "root", keyFile: "/keys/id" },
      stderr: "root@app.example.com: Permission denied (publickey).",
      exitCode: 2,
      message:
        'Cannot log in to root@App.example.com: "root" may not log in with the key "/keys/id"\n' +
        "  | root@app.example.com: Permission denied (publickey).\n" +
        "  next: add your public key to /root/.ssh/authorized_keys in the provider's console",
    },
    {
      name: "a key file that others may read",
      stderr:
        "@         WARNING: UNPROTECTED PRIVATE KEY FILE!          @\nPermissions 0644 for '/keys/id' are too open.\n" +
        "deploy@app.example.com: Permission denied (publickey).",
      exitCode: 2,
      message:
        'Cannot log in to deploy@App.example.com: ssh does not use the key file "/keys/id", because others may read it\n' +
        "  | @         WARNING: UNPROTECTED PRIVATE KEY FILE!          @\n" +
        "  | Permissions 0644 for '/keys/id' are too open.\n" +
        "  | deploy@app.example.com: Permission denied (publickey).\n" +
        "  next: chmod 600 '/keys/id'",
    },
    {
      name: "a key file that is damaged, as when a CI secret lost its last line break",
      stderr: 'Load key "/keys/id": error in libcrypto\r\ndeploy@app.example.com: Permission denied (publickey).',
      exitCode: 2,
      message:
        'Cannot log in to deploy@App.example.com: ssh cannot read the key file "/keys/id": error in libcrypto\n' +
        '  | Load key "/keys/id": error in libcrypto\n' +
        "  | deploy@app.example.com: Permission denied (publickey).\n" +
        "  next: ssh-keygen -y -f '/keys/id'   # a copied key often lacks its last line break",
    },
    {
      name: "an agent with many keys",
      stderr: "Received disconnect from 10.0.0.2 port 22:2: Too many authentication failures",
      exitCode: 2,
      message:
        "Cannot log in to deploy@App.example.com: ssh offered more keys than the server wants to see\n" +
        "  | Received disconnect from 10.0.0.2 port 22:2: Too many authentication failures\n" +
        "  next: DBOPS_SSH_KEY_FILE=~/.ssh/id_ed25519 and the same command: it offers this one only",
    },
    {
      name: "a name that does not exist",
      stderr: "ssh: Could not resolve hostname app.example.com: Name or service not known",
      exitCode: 2,
      message:
        'Cannot reach App.example.com: nobody knows the name "app.example.com"\n' +
        "  | ssh: Could not resolve hostname app.example.com: Name or service not known\n" +
        "  next: correct environments.production.server in dbops.config.ts",
    },
    {
      name: "a name server that does not answer",
      stderr: "ssh: Could not resolve hostname app.example.com: Temporary failure in name resolution",
      exitCode: 1,
      message:
        'Cannot reach App.example.com: the name "app.example.com" cannot be looked up now\n' +
        "  | ssh: Could not resolve hostname app.example.com: Temporary failure in name resolution\n" +
        "  next: the same command again",
    },
    {
      name: "a port where nobody listens",
      stderr: "ssh: connect to host app.example.com port 22: Connection refused",
      exitCode: 1,
      message:
        "Cannot reach App.example.com: it is there, but nobody listens on port 22\n" +
        "  | ssh: connect to host app.example.com port 22: Connection refused\n" +
        "  next: see in the provider's console whether sshd runs, and on which port",
    },
    {
      name: "a server that is off",
      stderr: "ssh: connect to host app.example.com port 22: Connection timed out",
      exitCode: 1,
      message:
        "Cannot reach App.example.com: no answer from port 22: Connection timed out\n" +
        "  | ssh: connect to host app.example.com port 22: Connection timed out\n" +
        "  next: see in the provider's console whether the server runs, and what its firewall lets through",
    },
    {
      name: "a server that takes the connection and is silent",
      stderr: "Connection timed out during banner exchange\r\nConnection to 10.0.0.2 port 22 timed out",
      exitCode: 1,
      message:
        "Cannot reach App.example.com: it takes connections, but says nothing within 10 s\n" +
        "  | Connection timed out during banner exchange\n" +
        "  | Connection to 10.0.0.2 port 22 timed out\n" +
        "  next: see in the provider's console whether the server is overloaded",
    },
    {
      name: "a server that hangs up, as after failed logins",
      stderr: "kex_exchange_identification: read: Connection reset by peer\r\nConnection reset by 10.0.0.2 port 22",
      exitCode: 1,
      message:
        "Cannot reach App.example.com: it hung up before it greeted; sshd and fail2ban do that for a while after failed logins\n" +
        "  | kex_exchange_identification: read: Connection reset by peer\n" +
        "  | Connection reset by 10.0.0.2 port 22\n" +
        "  next: wait a minute, then the same command again",
    },
    {
      name: "a host in between that does not get there",
      stderr:
        "channel 0: open failed: connect failed: Connection refused\r\nstdio forwarding failed\r\n" +
        "kex_exchange_identification: Connection closed by remote host",
      exitCode: 1,
      message:
        "Cannot reach App.example.com: the host in between, that ssh's configuration names, does not get there: Connection refused\n" +
        "  | channel 0: open failed: connect failed: Connection refused\n" +
        "  | stdio forwarding failed\n" +
        "  | kex_exchange_identification: Connection closed by remote host\n" +
        "  next: ssh -o UserKnownHostsFile=known_hosts deploy@App.example.com   # by hand, to see more",
    },
    {
      name: "two versions of SSH that do not meet",
      stderr:
        "Unable to negotiate with 10.0.0.2 port 22: no matching host key type found. Their offer: ssh-ed25519,rsa-sha2-512",
      exitCode: 2,
      message:
        "Cannot reach App.example.com: ssh here and sshd there do not understand each other: no matching host key type found\n" +
        "  | Unable to negotiate with 10.0.0.2 port 22: no matching host key type found. Their offer: ssh-ed25519,rsa-sha2-512\n" +
        "  next: ssh -o UserKnownHostsFile=known_hosts deploy@App.example.com   # by hand, to see more",
    },
    {
      name: "ssh's own configuration",
      stderr: "/etc/ssh/ssh_config: line 3: Bad configuration option: hostt",
      exitCode: 2,
      message:
        "Cannot reach App.example.com: ssh does not accept its own configuration on this machine\n" +
        "  | /etc/ssh/ssh_config: line 3: Bad configuration option: hostt\n" +
        "  next: ssh -o UserKnownHostsFile=known_hosts deploy@App.example.com   # by hand, to see more",
    },
    {
      name: "no ssh",
      stderr: 'Cannot run "ssh": "ssh" is not installed, or not on PATH',
      exitCode: 2,
      message:
        'Cannot reach App.example.com: "ssh" is not installed, or not on PATH\n' +
        '  | Cannot run "ssh": "ssh" is not installed, or not on PATH\n' +
        "  next: install the OpenSSH client, on Debian: apt-get install openssh-client",
    },
    {
      name: "no bash over there",
      stderr: "sh: 1: bash: not found",
      exitCode: 2,
      message:
        "Cannot run anything on App.example.com: there is no bash\n" +
        "  | sh: 1: bash: not found\n" +
        "  next: install it on App.example.com, on Debian: apt-get install bash",
    },
    {
      name: "sudo with a password",
      from: { user: "admin" },
      stderr: "sudo: a password is required",
      exitCode: 2,
      message:
        'Cannot become root on App.example.com: "admin" must be allowed to use sudo without a password; sudo says: a password is required\n' +
        "  | sudo: a password is required\n" +
        "  next: bun scripts/provision.ts --server root@App.example.com",
    },
    ...[
      "Timeout, server app.example.com not responding.",
      "client_loop: send disconnect: Broken pipe",
      "Connection to app.example.com closed by remote host.",
      "Connection reset by 10.0.0.2 port 22",
    ].map((stderr) => ({
      name: `a connection that is lost: ${stderr}`,
      stderr,
      exitCode: 1,
      message:
        "Lost the connection to App.example.com: what was begun there may still be running\n" +
        `  | ${stderr}\n` +
        "  next: the same command again",
    })),
    {
      name: "no word at all: a remote program killed by a signal also ends with 255",
      stderr: "\n",
      exitCode: 1,
      message:
        "Lost the connection to App.example.com: ssh ended without a word; the program on the other side was killed, or the connection was\n" +
        "  next: the same command again",
    },
    {
      name: "what nobody has thought of",
      stderr: "Welcome.\nssh: something new\n",
      exitCode: 1,
      message:
        "Cannot reach App.example.com: ssh: something new\n" +
        "  | Welcome.\n" +
        "  | ssh: something new\n" +
        "  next: ssh -o UserKnownHostsFile=known_hosts deploy@App.example.com   # by hand, to see more",
    },
  ];
  test.each(rows)("$name", ({ stderr, exitCode, message, from }) => {
    const failure = sshFailure({ ...server, ...from }, stderr);
    expect(formatFailure(failure)).toBe(message);
    expect(failure.exitCode as number).toBe(exitCode);
  });

  const changed = (name: string) => `@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
The fingerprint for the ED25519 key sent by the remote host is
SHA256:dvno/7BoBJF/EO12BLAElBCzaZuyUBGjNCXp8M1dpBI.
Offending ED25519 key in /shop/known_hosts:1
Host key for ${name} has changed and you have requested strict checking.
Host key verification failed.
`;

  test("a changed host key is refused with both fingerprints", () => {
    const folder = mkdtempSync(join(tmpdir(), "dbops-ssh-"));
    const knownHostsFile = join(folder, "known_hosts");
    writeFileSync(knownHostsFile, `app.example.com ssh-ed25519 ${key}\n`);
    const failure = sshFailure({ ...server, knownHostsFile }, changed("app.example.com"));
    rmSync(folder, { recursive: true });
    expect(failure.exitCode).toBe(5);
    expect(formatFailure(failure)).toBe(
      [
        "Refusing to talk to App.example.com: its host key has changed: it was made anew, or somebody else is answering. Nothing was sent",
        "  | pinned: SHA256:WB5aRJOxfBF6NR5E7zpnn0RHNflN9MmDOjbD3QjVkqM",
        "  | shown:  SHA256:dvno/7BoBJF/EO12BLAElBCzaZuyUBGjNCXp8M1dpBI",
        "  read: docs/runbook/host-key-changed.md",
      ].join("\n"),
    );
  });

  test("so is one of a host on the way there", () => {
    const failure = sshFailure(server, changed("jump.example.com"));
    expect(failure.exitCode).toBe(5);
    expect(failure.message).toBe(
      "Refusing to talk to App.example.com: on the way there the host key of jump.example.com has changed. Nothing was sent",
    );
  });
});
