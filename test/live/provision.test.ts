// provision against a bare Debian: real apt, real Docker, real ufw and cron; interrupted, disturbed, repeated.
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Config } from "../../scripts/lib/config.ts";
import { fingerprintOf } from "../../scripts/lib/known-hosts.ts";
import { type Result, type Running, run, start } from "../../scripts/lib/run.ts";
import { poll } from "../../scripts/lib/wait.ts";
import { imageNames } from "../lab/images/names.ts";
import { plainSsh } from "../lab/plain-ssh.ts";
import { programs, repository } from "../lab/repository.ts";
import { type Server, startServer } from "../lab/server.ts";

setDefaultTimeout(300_000);

type Project = {
  directory: string;
  /** The host key that the server has, as the provider's console shows it. */
  fingerprint: string;
  argv: (words: readonly string[]) => string[];
  environment: Record<string, string | undefined>;
  run(words: readonly string[], accept?: readonly number[]): Promise<Result>;
};

let project: Project;
let server: Server;

/** A project that knows of the server, with an empty known_hosts. */
async function begin(): Promise<void> {
  server = await startServer({ kind: "bare" });
  const directory = mkdtempSync(join(tmpdir(), "dbops-provision-"));
  const config: Config = {
    name: "shop",
    database: "shop",
    app: { command: ["bun"], port: 3000 },
    schema: { criticalTables: [], extensions: [] },
    environments: {
      local: {},
      production: {
        ...{ server: `deploy@${server.address}`, directory: "/opt/shop" },
        ...{ domain: "shop.test", image: "shop.test/shop" },
      },
    },
  };
  writeFileSync(join(directory, "dbops.config.ts"), `export default ${JSON.stringify(config)};\n`);
  const environment = { ...(await plainSsh(join(directory, "tools"))), DBOPS_SSH_KEY_FILE: server.privateKeyFile };
  const argv = (words: readonly string[]) => [
    join(programs, "bun"),
    join(repository, "scripts/provision.ts"),
    ...words,
  ];
  project = {
    ...{ directory, environment, argv },
    fingerprint: fingerprintOf({ key: server.hostKey.split(" ")[1]! }),
    run: (words, accept = [0]) => run({ argv: argv(words), directory, environment, accept, timeoutSeconds: 300 }),
  };
}

async function end(): Promise<void> {
  await server?.stop();
  if (project) rmSync(project.directory, { recursive: true, force: true });
}

const pinned = () => project.run(["--pin", "--fingerprint", project.fingerprint]);
const provision = (...words: string[]) => project.run(["--yes", "--json", ...words]);
const stepsOf = ({ stdout }: Result) => JSON.parse(stdout).steps as string[];
const onServer = async (script: string, accept = [0]) => (await server.ssh(script, { accept })).stdout;
const asDeployer = async (script: string) => (await server.ssh(script, { user: "deploy" })).stdout;

describe("from nothing", () => {
  beforeAll(begin);
  afterAll(end);

  test("to a server whose deploy user can run what a deploy needs", async () => {
    const first = await provision("--fingerprint", project.fingerprint);
    const document = JSON.parse(first.stdout);
    expect(stepsOf(first).map((step) => step.replaceAll(/ \d\S*(?=,)/g, ""))).toEqual([
      "write /etc/docker/daemon.json: log-driver, log-opts, live-restore",
      "install docker.io, docker-cli, docker-compose, ca-certificates",
      "start Docker Engine, now and at every boot",
      "add the user deploy, without a password",
      "let deploy use Docker, which is as much as being root",
      expect.stringMatching(/^let deploy log in with the key "dbops-/),
      "make /opt/shop, owned by deploy",
      "make /opt/shop/certificates, owned by deploy",
    ]);
    expect(document).toMatchObject({
      server: server.address,
      notes: ["there is no cron: nothing renews the certificate by itself"],
      login: "ok",
    });
    // Each step has its line, and the same text as in the plan.
    for (const step of stepsOf(first))
      expect(first.stderr).toMatch(new RegExp(`^  done +[\\d.]+ s  ${literally(step)}$`, "m"));
    expect(readFileSync(join(project.directory, "known_hosts"), "utf8")).toBe(`${server.address} ${server.hostKey}\n`);

    expect(await asDeployer("docker compose version --short; docker ps --quiet | wc --lines; id --name --groups")).toBe(
      `${document.compose}\n0\ndeploy docker\n`,
    );
    expect(await asDeployer("touch /opt/shop/file /opt/shop/certificates/file; stat --format '%U %a' /opt/shop")).toBe(
      "deploy 755\n",
    );
    expect(
      await onServer("getent shadow deploy | cut -d : -f 2; stat --format '%U %a' ~deploy/.ssh ~deploy/.ssh/*"),
    ).toBe("*\ndeploy 700\ndeploy 600\n");
    expect(await onServer("docker info --format '{{.LoggingDriver}} {{.LiveRestoreEnabled}}'")).toBe("local true\n");
    expect(await onServer("ls /dev/shm")).toBe("");
  });

  test("and the second time to nothing", async () => {
    const before = await onServer(
      "stat --format '%n %Y %i' /etc/docker/daemon.json ~deploy/.ssh/authorized_keys /opt/shop",
    );
    const second = await provision();
    expect(stepsOf(second)).toEqual([]);
    expect(second.stderr).toContain("==> nothing to do\n");
    // Of a server that is pinned, the fingerprint is compared; that changes nothing.
    const compared = await project.run(["--plan", "--fingerprint", project.fingerprint]);
    expect([compared.stdout.split("\n")[0], compared.stderr.split("\n")[0]]).toEqual([
      "==> nothing to do",
      `the host key of ${server.address} was pinned already: ${project.fingerprint} (ssh-ed25519)`,
    ]);
    expect(JSON.parse((await project.run(["--plan", "--json"])).stdout)).toEqual({
      steps: [],
      notes: ["there is no cron: nothing renews the certificate by itself"],
    });
    expect(
      await onServer("stat --format '%n %Y %i' /etc/docker/daemon.json ~deploy/.ssh/authorized_keys /opt/shop"),
    ).toBe(before);
  });

  test("whom sshd keeps out is not ready, although everything is there", async () => {
    const loginSays = async (text: string) => {
      const { stdout, stderr } = await server.ssh("echo in", { user: "deploy", accept: [0, 255] });
      return `${stdout}${stderr}`.includes(text) || undefined;
    };
    await onServer("echo AllowGroups root >/etc/ssh/sshd_config.d/groups.conf; kill -HUP $(cat /run/sshd.pid)");
    expect(await poll({ seconds: 20 }, () => loginSays("Permission denied"))).toBe(true);
    const { stdout, stderr } = await project.run(["--yes", "--json"], [3]);
    expect(stderr).toContain(
      `\n${server.address} is set up, but "deploy" cannot log in: sshd refuses the key that is in its authorized_keys: `,
    );
    // The command that it names shows which option it is.
    const [look] = JSON.parse(stdout).error.next as string[];
    expect(await onServer(look!.replace("on the server, as root: ", ""))).toMatch(/^allowgroups root$/im);
    await onServer("rm /etc/ssh/sshd_config.d/groups.conf; kill -HUP $(cat /run/sshd.pid)");
    expect(await poll({ seconds: 20 }, () => loginSays("in\n"))).toBe(true);
  });

  test("a key that cannot be used here is let in, and its login is not tried", async () => {
    const file = join(project.directory, "other");
    await run({ argv: ["ssh-keygen", "-q", "-t", "ed25519", "-C", "other", "-N", "a passphrase", "-f", file] });
    const { stdout } = await project.run(["--yes", "--public-key", `${file}.pub`]);
    expect(stdout).toStartWith(`${server.address} is ready, its login was not tried (Compose `);
    expect(stdout).toContain(`\n  no key for deploy@${server.address} can be used on this machine; ssh says: `);
    expect(await onServer("cat ~deploy/.ssh/authorized_keys")).toContain(readFileSync(`${file}.pub`, "utf8"));
  });

  test("also after a power cut: Docker starts with the server", async () => {
    await server.powerOff();
    await server.powerOn();
    expect(stepsOf(await provision())).toEqual([]);
  });

  test("what somebody has set up stays, and running containers go on", async () => {
    await server.loadImages([imageNames.nginx]);
    await onServer(`
      echo '{ "debug": true, "max-concurrent-downloads": 2 }' >/etc/docker/daemon.json
      service docker restart && until docker version >/dev/null 2>&1; do sleep 0.1; done
      docker run --detach --name web --publish 80:80 --publish 8080:80 ${imageNames.nginx}
      printf 'ssh-ed25519 AAAAsomebody else' >~deploy/.ssh/authorized_keys`);
    const container = () => onServer("docker inspect --format '{{.State.Pid}} {{.State.StartedAt}}' web");
    const before = await container();
    expect(stepsOf(await provision())).toEqual([
      "write /etc/docker/daemon.json: log-driver, log-opts, live-restore",
      "restart Docker Engine with its new configuration; containers keep running",
      expect.stringMatching(/^let deploy log in with the key/),
    ]);
    expect(await container()).toBe(before);
    expect(await opens(80)).toBe(true);
    expect(JSON.parse(await onServer("cat /etc/docker/daemon.json"))).toEqual({
      ...{ debug: true, "max-concurrent-downloads": 2 },
      ...{ "log-driver": "local", "log-opts": { "max-size": "20m", "max-file": "5" }, "live-restore": true },
    });
    expect(await onServer("cat ~deploy/.ssh/authorized_keys")).toMatch(
      /^ssh-ed25519 AAAAsomebody else\nssh-ed25519 AAAA\S+ dbops-\S+\n$/,
    );
    expect(stepsOf(await provision())).toEqual([]);
  });

  test("--firewall: sshd, 80 and 443 get in; what Docker publishes passes by it", async () => {
    await onServer(
      "apt-get install --yes --no-install-recommends ufw cron >/dev/null 2>&1; echo '@daily true' | crontab -u deploy -",
    );
    const listener = await start({
      argv: ["ssh", ...server.sshArguments, `root@${server.address}`, listenOn(9000)],
      environment: server.environment,
    });
    expect(await poll({ seconds: 10 }, async () => (await opens(9000)) || undefined)).toBe(true);
    const cronLine = "17 3 * * * cd /opt/shop && docker compose run --rm certbot";
    expect(JSON.parse((await project.run(["--plan", "--json"])).stdout)).toEqual({
      steps: [`renew the certificate every night: ${cronLine}`],
      notes: ["ufw is installed, and off: --firewall turns it on"],
    });
    expect(stepsOf(await provision("--firewall", "--unattended-upgrades"))).toEqual([
      "let 22, 80, 443 through the firewall",
      "turn the firewall on, now and at every boot",
      `renew the certificate every night: ${cronLine}`,
      "install unattended-upgrades",
      "install security updates every night",
    ]);
    expect([await opens(22), await opens(80), await opens(9000), await opens(8080)]).toEqual([true, true, false, true]);
    expect(await onServer("crontab -u deploy -l")).toBe(`@daily true\n${cronLine}\n`);
    expect(await onServer("apt-config dump APT::Periodic::Unattended-Upgrade")).toBe(
      'APT::Periodic::Unattended-Upgrade "1";\n',
    );
    expect(JSON.parse((await provision("--firewall", "--unattended-upgrades")).stdout)).toMatchObject({
      steps: [],
      notes: [],
    });
    await listener.stop("SIGKILL", 1);
  });
});

describe("disturbed", () => {
  beforeAll(begin);
  afterAll(end);

  test("a port that there cannot be", async () => {
    for (const port of ["0", "99999", "x"]) {
      const { stderr } = await project.run(["--port", port], [2]);
      expect(stderr).toContain(`--port takes a number from 1 to 65535, not "${port}"`);
    }
  });

  test("without a pinned host key nothing is looked at", async () => {
    const refused = await project.run(["--plan"], [2]);
    expect(refused.stderr).toBe(
      `Cannot trust ${server.address} yet: its host key is not in known_hosts, so anybody could answer in its place
  next: bun scripts/provision.ts --pin
`,
    );
  });

  test("without --yes and without a terminal nothing is changed", async () => {
    await pinned();
    const refused = await project.run([], [5]);
    expect(refused.stderr).toContain("Nothing was changed: this needs --yes where there is no terminal to ask on\n");
    expect(await onServer("ls /etc/docker /opt/shop 2>/dev/null || true")).toBe("");
  });

  test("a system that this does not know is left alone", async () => {
    await pinned();
    await onServer(
      "cp /etc/os-release /root/ && rm /etc/os-release && printf 'ID=alpine\\nPRETTY_NAME=\"Alpine Linux v3.24\"\\n' >/etc/os-release",
    );
    const refused = await project.run(["--yes"], [2]);
    await onServer("mv /root/os-release /etc/os-release");
    expect(refused.stderr).toContain(
      "Cannot provision this server: it runs Alpine Linux v3.24, and this knows only Debian and Ubuntu\n",
    );
  });

  test("a mirror that cannot be reached: apt's last lines, and the next run goes on there", async () => {
    await onServer(
      `apt-get update >/dev/null && echo 'Acquire::http::Proxy "http://127.0.0.1:9";' >/etc/apt/apt.conf.d/99proxy`,
    );
    const failed = await project.run(["--yes"], [1]);
    await onServer("rm /etc/apt/apt.conf.d/99proxy");
    expect(failed.stderr).toMatch(
      /^ {2}done {2} +[\d.]+ s {2}write \/etc\/docker\/daemon\.json: .*\n {2}FAILED +[\d.]+ s {2}install docker/m,
    );
    expect(failed.stderr).toMatch(
      /^Cannot install docker\.io .*: see below\n( {2}\| .*\n)+ {2}\| E: Unable to fetch some archives.*\n {2}next: the same command again: it goes on with this step\n$/m,
    );
    expect(JSON.parse((await project.run(["--plan", "--json"])).stdout).steps[0]).toStartWith("install docker.io ");
  });

  test("the client is killed while packages are installed: the server finishes, and the next run does the rest", async () => {
    await pinned();
    const client = await untilInstalling("go on");
    await client.stop("SIGKILL", 1);
    const again = await provision();
    expect(stepsOf(again)).toContain("add the user deploy, without a password");
    expect(JSON.parse(again.stdout)).toMatchObject({ login: "ok" });
    expect(stepsOf(await provision())).toEqual([]);
  });
});

describe("broken off", () => {
  beforeAll(begin);
  afterAll(end);

  test("Ctrl-C says that the server finishes; and an installation that dies half-way is finished first", async () => {
    await pinned();
    const lines: string[] = [];
    const client = await untilInstalling("stop", (line) => lines.push(line));
    await client.stop("SIGINT", 20);
    expect(await client.ended).toBe(130);
    expect(lines.join("\n")).toMatch(
      /^Interrupted: by SIGINT; what the server is at, it finishes: install docker\.io /m,
    );
    expect(lines.at(-1)).toBe("  next: the same command again");
    // What a reboot in this moment would leave.
    const killed = await onServer("kill -9 $(pidof dpkg) $(pidof apt-get); dpkg --audit | head -c 1 | wc -c", [0, 1]);
    expect(killed).toBe("1\n");
    const again = await provision();
    expect(stepsOf(again)[0]).toBe("finish the installation of packages that was cut off");
    expect(JSON.parse(again.stdout)).toMatchObject({ login: "ok" });
    expect(stepsOf(await provision())).toEqual([]);
  });
});

describe("another way in", () => {
  beforeAll(begin);
  afterAll(end);

  test("a user with sudo, while another program uses apt", async () => {
    await pinned();
    const holder = await start({
      argv: ["ssh", ...server.sshArguments, `root@${server.address}`, holdAptLock],
      environment: server.environment,
    });
    await onServer(`until [ -e /run/held ]; do sleep 0.05; done
      useradd --create-home --shell /bin/bash --password '*' admin && cp -r /root/.ssh ~admin/ && chown -R admin: ~admin/.ssh`);
    const admin = `admin@${server.address}`;
    const refused = await project.run(["--server", admin, "--yes"], [2]);
    expect(refused.stderr).toMatch(
      /Cannot become root on \S+: "admin" must be allowed to use sudo without a password; sudo says: a password is required\n/,
    );
    await onServer("echo 'admin ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/admin");
    const lines: string[] = [];
    const { argv, directory, environment } = project;
    const client = await start({
      ...{ argv: argv(["--server", admin, "--yes"]), directory, environment },
      onLine: (line) => lines.push(line),
    });
    const waits = () => lines.find((line) => line.includes("waiting for another program to let go of apt"));
    expect(await poll({ seconds: 60 }, async () => waits())).toMatch(/: held by process \d+ \(perl\)/);
    await holder.stop("SIGKILL", 1);
    await onServer("kill -9 $(cat /run/held)");
    expect(await client.ended).toBe(0);
    expect(lines).toContain(`  deploy@${server.address} logs in`);
  });
});

describe("on a terminal", () => {
  beforeAll(begin);
  afterAll(end);

  test("the host key and the plan are shown, and each is confirmed by the server's name", async () => {
    const compared = await onTerminal(["--pin"], [["Type", "yes\r"]]);
    expect(compared.screen).toContain('Nothing was changed: you typed "yes", not');
    expect(compared.exitCode).toBe(5);
    const questions: [string, string][] = [
      [`shows this host key: ${project.fingerprint} (ssh-ed25519)`, `${server.address}\r`],
      [`This changes ${server.address} as listed above.`, "no\r"],
    ];
    const refused = await onTerminal([], questions);
    expect(refused.screen).toContain(`the host key of ${server.address} is pinned now: ${project.fingerprint}`);
    expect(refused.screen).toContain('Nothing was changed: you typed "no", not');
    expect(refused.exitCode).toBe(5);
    expect(await onServer("command -v docker || echo none")).toBe("none\n");
    const done = await onTerminal([], [[`This changes ${server.address} as listed above.`, `${server.address}\r`]]);
    expect(done.screen).toContain(`${server.address} is ready (Compose `);
    expect(done.exitCode).toBe(0);
  });
});

describe("by hand", () => {
  beforeAll(begin);
  afterAll(end);

  test("the commands of docs/provision.md leave nothing for provision to do", async () => {
    await pinned();
    const page = readFileSync(join(repository, "docs/provision.md"), "utf8");
    const blocks = [...page.matchAll(/^```sh\n([\s\S]*?)^```$/gm)].map(([, block]) => block!);
    const publicKey = readFileSync(`${server.privateKeyFile}.pub`, "utf8").trim();
    const script = blocks.join("").replace("ssh-ed25519 AAAA… you@laptop", publicKey).replaceAll("dbops-app", "shop");
    await server.ssh(
      `set -euo pipefail\nexport DEBIAN_FRONTEND=noninteractive\nmain() {\n${script}}\nmain </dev/null\n`,
      { timeoutSeconds: 300 },
    );
    expect(JSON.parse((await provision()).stdout)).toMatchObject({ steps: [], login: "ok" });
  });
});

/** Types each answer when what it answers is on the screen. */
async function onTerminal(words: readonly string[], dialogue: readonly [question: string, answer: string][]) {
  let screen = "";
  const waiting = [...dialogue];
  const environment = Object.entries({ ...process.env, ...project.environment, CI: undefined, TERM: "xterm" });
  const child = Bun.spawn(project.argv(words), {
    cwd: project.directory,
    env: Object.fromEntries(environment.filter(([, value]) => value !== undefined)) as Record<string, string>,
    timeout: 120_000,
    terminal: {
      ...{ cols: 100, rows: 40 },
      data(terminal, data) {
        screen += new TextDecoder().decode(data);
        const [question, answer] = waiting[0] ?? [];
        if (question === undefined || !screen.includes(question)) return;
        waiting.shift();
        terminal.write(answer!);
      },
    },
  });
  const exitCode = await child.exited;
  child.terminal?.close();
  return { exitCode, screen };
}

describe("host keys", () => {
  beforeAll(begin);
  afterAll(end);
  afterEach(() => rmSync(join(project.directory, "known_hosts"), { force: true }));

  const knownHosts = () => readFileSync(join(project.directory, "known_hosts"), "utf8");
  const console = "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub";
  const other = "SHA256:dvno/7BoBJF/EO12BLAElBCzaZuyUBGjNCXp8M1dpBI";

  test("without a terminal the fingerprint must be given, and it must be the right one", async () => {
    const asked = await project.run(["--pin"], [5]);
    expect(asked.stderr).toBe(
      `Nothing was changed: this needs --fingerprint SHA256:… where there is no terminal to ask on
  | ${server.address} shows this host key: ${project.fingerprint} (ssh-ed25519)
  | Compare it with what the provider's console says: ${console}
  | Whoever has another key is not your server.
  next: the same command with --fingerprint SHA256:…
`,
    );
    // --yes is for the changes on the server, never for who it is.
    expect((await project.run(["--yes"], [5])).stderr).toBe(asked.stderr);
    const refused = await project.run(["--pin", "--fingerprint", other], [5]);
    expect(refused.stderr).toBe(
      `Refusing to pin the host key of ${server.address}: its host key is not the expected one: somebody else is answering, or the fingerprint is of another key
  | expected: ${other}
  | shown:    ${project.fingerprint}
  read: docs/runbook/host-key-changed.md
`,
    );
    expect(() => knownHosts()).toThrow();
    // What the server's own console says.
    const said = await onServer(console);
    expect(JSON.parse((await project.run(["--pin", "--json", "--fingerprint", said.split(" ")[1]!])).stdout)).toEqual({
      host: server.address,
      type: "ssh-ed25519",
      fingerprint: project.fingerprint,
      change: "new",
    });
    expect(knownHosts()).toBe(`${server.address} ${server.hostKey}\n`);
  });

  test("another key that is pinned stops everything; --repin replaces it, and nothing else does", async () => {
    const line = (key: string) => `${server.address} ssh-ed25519 ${key}\n`;
    const foreign = line("AAAAC3NzaC1lZDI1NTE5AAAAIO0SlsHDJA3M8iu9qwAjDzgL0wm+OiGpgYxhJURUmJrv");
    writeFileSync(join(project.directory, "known_hosts"), `# ours\n${foreign}`);
    const fingerprints = `  | pinned: ${other}\n  | shown:  ${project.fingerprint}\n`;
    const stopped = await project.run(["--yes"], [5]);
    expect(stopped.stderr).toBe(
      `==> looking at root@${server.address}
Refusing to talk to ${server.address}: its host key has changed: it was made anew, or somebody else is answering. Nothing was sent
${fingerprints}  read: docs/runbook/host-key-changed.md
`,
    );
    const refused = await project.run(["--pin", "--fingerprint", project.fingerprint], [5]);
    expect(refused.stderr).toBe(
      `Refusing to pin the host key of ${server.address}: another host key is pinned: this one was made anew, or somebody else is answering
${fingerprints}  next: bun scripts/provision.ts --repin
  read: docs/runbook/host-key-changed.md
`,
    );
    expect((await project.run(["--repin"], [5])).stderr).toContain(" shows another host key: ");
    expect(knownHosts()).toBe(`# ours\n${foreign}`);
    const replaced = await project.run(["--repin", "--fingerprint", project.fingerprint]);
    expect(replaced.stdout).toBe(
      `the host key of ${server.address} is pinned now, in place of another one: ${project.fingerprint} (ssh-ed25519)
  next: git add known_hosts
`,
    );
    expect(knownHosts()).toBe(`# ours\n${server.address} ${server.hostKey}\n`);
    expect((await project.run(["--repin"])).stdout).toContain(" was pinned already: ");
  });

  test("a server that is reached by another name is pinned under both", async () => {
    const file = join(project.directory, "dbops.config.ts");
    const before = readFileSync(file, "utf8");
    writeFileSync(file, before.replace(`deploy@${server.address}`, "deploy@app.example.test"));
    await project.run(["--pin", "--server", `root@${server.address}`, "--fingerprint", project.fingerprint]);
    writeFileSync(file, before);
    expect(knownHosts()).toBe(`${server.address} ${server.hostKey}\napp.example.test ${server.hostKey}\n`);
  });

  test("whoever does not answer is not pinned", async () => {
    const off = await project.run(["--pin", "--port", "2"], [1]);
    expect(off.stderr).toStartWith(`Cannot reach ${server.address}: it is there, but nobody listens on port 2\n`);
  });
});

/** A run of provision that has got as far as unpacking packages, perhaps with dpkg stopped at that. */
async function untilInstalling(action: "go on" | "stop", onLine: (line: string) => void = () => {}): Promise<Running> {
  const { argv, directory, environment } = project;
  const client = await start({ argv: argv(["--yes"]), directory, environment, onLine, ownGroup: true });
  const signal = action === "stop" ? "STOP" : "CONT";
  const find = `pkill --signal ${signal} --full '^/usr/bin/dpkg .*--status-fd' && echo found`;
  const found = await poll({ seconds: 120 }, async () => (await onServer(find, [0, 1])) || undefined);
  expect(found).toBe("found\n");
  return client;
}

const literally = (text: string) => text.replace(/[.+*?^$(){}|[\]\\]/g, "\\$&");

/** Takes connections on the server itself, with nothing but what Debian always has. */
const listenOn = (port: number) =>
  `perl -MIO::Socket::INET -e 'my $s = IO::Socket::INET->new(LocalPort => ${port}, Listen => 5, ReuseAddr => 1); 1 while $s->accept'`;

/** As another apt-get holds it. */
const holdAptLock =
  'perl -MFcntl -e \'open my $f, ">", "/var/lib/dpkg/lock-frontend"; my $l = pack("s s x4 q q l", F_WRLCK, 0, 0, 0, 0); fcntl($f, F_SETLK, $l) or die; open my $p, ">", "/run/held"; print $p $$; close $p; sleep 600\'';

function opens(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: server.address, port, timeout: 1000 });
    const answer = (value: boolean) => {
      socket.destroy();
      resolve(value);
    };
    socket.once("connect", () => answer(true));
    for (const event of ["error", "timeout"]) socket.once(event, () => answer(false));
  });
}
