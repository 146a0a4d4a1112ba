// What provision finds, decides and says, without a server.
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Failure, formatFailure } from "../scripts/lib/failure.ts";
import { cannotLogIn } from "../scripts/lib/provision-apply.ts";
import { isAtLeast, mergeEngineConfiguration, missingDockerPackages } from "../scripts/lib/provision-engine.ts";
import { isKeyAtHand, missingKeys, readPublicKeys } from "../scripts/lib/provision-keys.ts";
import { type Observed, type Package, parseFacts } from "../scripts/lib/provision-observe.ts";
import { planProvision, type Wanted } from "../scripts/lib/provision-plan.ts";
import { run } from "../scripts/lib/run.ts";
import { formatPin, formatPlan, formatReport } from "../scripts/provision.ts";

const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIO0SlsHDJA3M8iu9qwAjDzgL0wm+OiGpgYxhJURUmJrv ann@laptop";

const wanted: Wanted = {
  user: "deploy",
  directory: "/opt/shop",
  publicKeys: [key],
  sshPort: 22,
  firewall: false,
  unattendedUpgrades: false,
};

const offered = (candidate: string): Package => ({ candidate });
const installed = (version: string): Package => ({ installed: version, candidate: version });

/** As a provider hands it over. */
const bare: Observed = {
  system: "Debian GNU/Linux 13 (trixie)",
  family: "debian",
  architecture: "amd64",
  unfinishedPackages: false,
  packages: {
    "docker.io": offered("26.1.5+dfsg1-9"),
    "docker-cli": offered("26.1.5+dfsg1-9"),
    "docker-compose": offered("2.26.1-4"),
    ufw: offered("0.36.2-9"),
    "unattended-upgrades": offered("2.12"),
  },
  apparmorMissing: false,
  docker: { liveRestore: false, startsAtBoot: false, inSwarm: false, containersRunning: 0 },
  allowedUsers: [],
  sshPort: 22,
  upgradesThemselves: false,
};

const configuration = { "log-driver": "local", "live-restore": true };
const folder = { owner: "deploy", mode: "755", isDirectory: true };

/** As provision leaves it. */
const ready: Observed = {
  ...bare,
  packages: {
    "docker.io": installed("26.1.5+dfsg1-9"),
    "docker-cli": installed("26.1.5+dfsg1-9"),
    "docker-compose": installed("2.26.1-4"),
  },
  docker: {
    program: "/usr/bin/docker",
    says: "Docker version 26.1.5+dfsg1, build a72d7cd",
    engine: "26.1.5+dfsg1",
    compose: "2.26.1-4",
    liveRestore: true,
    logDriver: "local",
    startsAtBoot: true,
    inSwarm: false,
    containersRunning: 3,
    configuration: JSON.stringify(configuration),
  },
  user: {
    home: "/home/deploy",
    shell: "/bin/bash",
    passwordLocked: false,
    groups: ["deploy", "docker"],
    authorizedKeys: key,
  },
  directory: folder,
  certificates: folder,
  crontab: "17 3 * * * cd /opt/shop && docker compose run --rm certbot\n",
};

const engine = (changes: Partial<Observed["docker"]>): Observed => ({
  ...ready,
  docker: { ...ready.docker, ...changes },
});
const user = (changes: object): Observed => ({ ...ready, user: { ...ready.user!, ...changes } });

const messageOf = (throwing: () => unknown): string => {
  try {
    throwing();
  } catch (error) {
    return `${formatFailure(error as Failure)}\nexit ${(error as Failure).exitCode}`;
  }
  throw new Error("it threw nothing");
};

describe("planProvision()", () => {
  test("a bare server gets everything, in an order that can be interrupted anywhere", () => {
    expect(planProvision(bare, wanted)).toEqual({
      steps: [
        {
          text: "write /etc/docker/daemon.json: log-driver, log-opts, live-restore",
          call: ["write_engine_configuration"],
          stdin: `{
  "log-driver": "local",
  "log-opts": {
    "max-size": "20m",
    "max-file": "5"
  },
  "live-restore": true
}
`,
        },
        {
          text: "install docker.io 26.1.5+dfsg1-9, docker-cli 26.1.5+dfsg1-9, docker-compose 2.26.1-4, ca-certificates",
          call: ["install_packages", "docker.io", "docker-cli", "docker-compose", "ca-certificates"],
        },
        { text: "start Docker Engine, now and at every boot", call: ["start_engine"] },
        { text: "add the user deploy, without a password", call: ["add_user", "deploy"] },
        { text: "let deploy use Docker, which is as much as being root", call: ["let_use_docker", "deploy"] },
        {
          text: 'let deploy log in with the key "ann@laptop"',
          call: ["authorize_keys", "deploy"],
          stdin: `${key}\n`,
        },
        { text: "make /opt/shop, owned by deploy", call: ["own_directory", "deploy", "/opt/shop"] },
        {
          text: "make /opt/shop/certificates, owned by deploy",
          call: ["own_directory", "deploy", "/opt/shop/certificates"],
        },
      ],
      notes: ["there is no cron: nothing renews the certificate by itself"],
    });
  });

  test("a server that has everything gets nothing", () => {
    expect(planProvision(ready, wanted)).toEqual({ steps: [], notes: [] });
    expect(planProvision(ready, { ...wanted, publicKeys: [] })).toEqual({ steps: [], notes: [] });
  });

  const firewall = (active: boolean, ...openPorts: string[]) => ({ ...ready, firewall: { active, openPorts } });
  const restart = "restart Docker Engine with its new configuration; containers keep running";
  const rows: { name: string; observed: Observed; wants?: Partial<Wanted>; steps: string[]; notes?: string[] }[] = [
    {
      name: "packages whose installation was cut off come first",
      observed: { ...engine({ compose: "2.26.1-4", startsAtBoot: false }), unfinishedPackages: true },
      steps: ["finish the installation of packages that was cut off", "start Docker Engine, now and at every boot"],
    },
    {
      name: "an engine that is off is started",
      observed: {
        ...ready,
        docker: {
          ...bare.docker,
          compose: "2.26.1-4",
          startsAtBoot: true,
          configuration: JSON.stringify(configuration),
        },
      },
      steps: ["start Docker Engine, now and at every boot"],
    },
    {
      name: "one that runs without our settings is restarted, and its containers are not",
      observed: engine({ configuration: '{"debug":true}', liveRestore: false, logDriver: "json-file" }),
      steps: ["write /etc/docker/daemon.json: log-driver, log-opts, live-restore", restart],
    },
    {
      name: "also where only the restart was missed",
      observed: engine({ liveRestore: false, logDriver: "json-file" }),
      steps: [restart],
    },
    {
      name: "never where containers would stop",
      observed: engine({ configuration: '{"live-restore":false}', liveRestore: false, logDriver: "json-file" }),
      steps: ["write /etc/docker/daemon.json: log-driver, log-opts"],
      notes: [
        "live-restore is off, /etc/docker/daemon.json says so: containers stop whenever the engine restarts",
        "daemon.json counts from the next restart of the engine on",
      ],
    },
    {
      name: "an engine that is too old is upgraded, with the warning that this interrupts",
      observed: {
        ...engine({ engine: "24.0.7", liveRestore: false, logDriver: "json-file", configuration: "" }),
        packages: {
          "docker.io": { installed: "24.0.7-0ubuntu4", candidate: "28.2.2-0ubuntu1~24.04.1" },
          "docker-compose": offered("2.26.1-4"),
        },
      },
      steps: [
        "write /etc/docker/daemon.json: log-driver, log-opts, live-restore",
        "install docker.io 28.2.2-0ubuntu1~24.04.1, ca-certificates; DOWNTIME: running containers are restarted",
        "start Docker Engine, now and at every boot",
      ],
    },
    {
      name: "Compose alone is installed beside an engine",
      observed: { ...engine({}), docker: { ...engine({}).docker, compose: "1.29.2" } },
      steps: ["install docker-compose 2.26.1-4"],
    },
    {
      name: "a user who is locked, without a shell and without Docker",
      observed: user({ passwordLocked: true, shell: "/usr/sbin/nologin", groups: ["deploy"], authorizedKeys: "" }),
      steps: [
        "unlock deploy for keys; it still has no password",
        "give deploy a shell",
        "let deploy use Docker, which is as much as being root",
        'let deploy log in with the key "ann@laptop"',
      ],
    },
    {
      name: "only the keys that are missing, named by their end where they have no comment",
      observed: user({ authorizedKeys: `restrict ${key}\n` }),
      wants: { publicKeys: [key, "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIG768MWPNLwkYb/szS8qtdYeLQDI4Cz5xsZ4/lYbWGpT"] },
      steps: ["let deploy log in with the key ssh-ed25519 …xsZ4/lYbWGpT"],
    },
    {
      name: "root needs a key, and nothing else",
      observed: {
        ...user({ home: "/root", groups: ["root"], authorizedKeys: "", passwordLocked: true }),
        directory: { ...folder, owner: "root" },
        certificates: { ...folder, owner: "root" },
      },
      wants: { user: "root" },
      steps: ['let root log in with the key "ann@laptop"'],
    },
    {
      name: "sshd's AllowUsers is left alone, and told",
      observed: { ...ready, allowedUsers: ["root", "ann"] },
      steps: [],
      notes: ["sshd lets in only root, ann: add deploy to AllowUsers in /etc/ssh/sshd_config"],
    },
    {
      name: "AllowUsers with an address or a pattern",
      observed: { ...ready, allowedUsers: ["root", "deploy@10.*"] },
      steps: [],
    },
    {
      name: "a directory of somebody else's is handed over, its contents are not",
      observed: { ...ready, directory: { ...folder, owner: "root" }, certificates: { ...folder, mode: "700" } },
      steps: [
        "give /opt/shop to deploy, mode 755; not what is in it",
        "give /opt/shop/certificates to deploy, mode 755; not what is in it",
      ],
    },
    {
      name: "a firewall that is on lets in what is needed",
      observed: firewall(true, "22/tcp", "80"),
      steps: ["let 443 through the firewall"],
    },
    {
      name: "a firewall that is off stays off",
      observed: firewall(false),
      steps: [],
      notes: ["ufw is installed, and off: --firewall turns it on"],
    },
    {
      name: "--firewall: the way in is opened first, at the port where sshd took us",
      observed: { ...firewall(false, "80/tcp", "443/tcp"), sshPort: 2222 },
      wants: { firewall: true, sshPort: 22022 },
      steps: ["let 2222 through the firewall", "turn the firewall on, now and at every boot"],
    },
    {
      name: "--firewall where there is none",
      observed: { ...ready, packages: { ...ready.packages, ufw: offered("0.36.2-9") } },
      wants: { firewall: true },
      steps: [
        "install ufw 0.36.2-9",
        "let 22, 80, 443 through the firewall",
        "turn the firewall on, now and at every boot",
      ],
    },
    {
      name: "--firewall twice",
      observed: firewall(true, "22/tcp", "80/tcp", "443/tcp"),
      wants: { firewall: true },
      steps: [],
    },
    {
      name: "cron renews the certificate",
      observed: { ...ready, crontab: "0 4 * * * backup\n" },
      steps: ["renew the certificate every night: 17 3 * * * cd /opt/shop && docker compose run --rm certbot"],
    },
    {
      name: "--unattended-upgrades",
      observed: { ...ready, packages: { ...ready.packages, "unattended-upgrades": offered("2.12") } },
      wants: { unattendedUpgrades: true },
      steps: ["install unattended-upgrades", "install security updates every night"],
    },
    {
      name: "--unattended-upgrades where they are installed, and off",
      observed: { ...ready, packages: { ...ready.packages, "unattended-upgrades": installed("2.12") } },
      wants: { unattendedUpgrades: true },
      steps: ["install security updates every night"],
    },
    {
      name: "--unattended-upgrades twice",
      observed: { ...ready, upgradesThemselves: true },
      wants: { unattendedUpgrades: true },
      steps: [],
    },
  ];
  test.each(rows)("$name", ({ observed, wants, steps, notes = [] }) => {
    const plan = planProvision(observed, { ...wanted, ...wants });
    expect({ steps: plan.steps.map(({ text }) => text), notes: plan.notes }).toEqual({ steps, notes });
  });

  test("nobody could log in afterwards", () => {
    expect(messageOf(() => planProvision(bare, { ...wanted, publicKeys: [] }))).toBe(
      [
        'Cannot let "deploy" log in: there is no public key to give to it',
        "  next: bun scripts/provision.ts --public-key FILE.pub",
        "  next: ssh-keygen -t ed25519   # makes one",
        "exit 2",
      ].join("\n"),
    );
  });

  test("a file where the directory should be", () => {
    expect(messageOf(() => planProvision({ ...ready, directory: { ...folder, isDirectory: false } }, wanted))).toBe(
      ["Cannot use /opt/shop on the server: it is there, and no directory", "  next: ls -l /opt/shop", "exit 2"].join(
        "\n",
      ),
    );
  });

  test("systems and architectures that nobody has tried", () => {
    expect(messageOf(() => planProvision({ ...bare, family: "alpine", system: "Alpine Linux v3.24" }, wanted))).toBe(
      [
        "Cannot provision this server: it runs Alpine Linux v3.24, and this knows only Debian and Ubuntu",
        "  next: install Docker by hand, then bun scripts/provision.ts --pin",
        "  read: docs/provision.md",
        "exit 2",
      ].join("\n"),
    );
    expect(messageOf(() => planProvision({ ...bare, architecture: "armhf" }, wanted))).toBe(
      [
        "Cannot provision this server: its architecture is armhf, and the images are made for amd64 and arm64",
        "  next: take a server with one of these",
        "  read: docs/provision.md",
        "exit 2",
      ].join("\n"),
    );
  });
});

describe("missingDockerPackages()", () => {
  const rows: {
    name: string;
    packages: Observed["packages"];
    docker?: Partial<Observed["docker"]>;
    missing: string[];
  }[] = [
    {
      name: "Debian 13: the command has a package of its own",
      packages: bare.packages,
      missing: ["docker.io", "docker-cli", "docker-compose", "ca-certificates"],
    },
    {
      name: "Ubuntu 24.04: Compose 2 has another name, and the old one is still there",
      packages: {
        "docker.io": offered("28.2.2-0ubuntu1~24.04.1"),
        "docker-compose": offered("1.29.2-6ubuntu1"),
        "docker-compose-v2": offered("2.37.1+ds1-0ubuntu2~24.04.1"),
      },
      missing: ["docker.io", "docker-compose-v2", "ca-certificates"],
    },
    {
      name: "Docker's own packages are left alone",
      packages: { "docker-ce": installed("5:29.0.1-1~debian.13~trixie"), "docker.io": offered("26.1.5+dfsg1-9") },
      docker: { engine: "29.0.1", compose: "2.40.3" },
      missing: [],
    },
    {
      name: "and get Docker's own Compose",
      packages: {
        "docker-ce": installed("5:29.0.1-1~debian.13~trixie"),
        "docker-compose-plugin": offered("2.40.3-1~debian.13~trixie"),
        "docker-compose": offered("2.26.1-4"),
      },
      docker: { engine: "29.0.1" },
      missing: ["docker-compose-plugin"],
    },
  ];
  test.each(rows)("$name", ({ packages, docker, missing }) => {
    expect(missingDockerPackages({ ...bare, packages, docker: { ...bare.docker, ...docker } })).toEqual(missing);
  });

  test("a kernel with AppArmor needs its loader, or no container starts", () => {
    expect(missingDockerPackages({ ...bare, apparmorMissing: true }).at(-1)).toBe("apparmor");
  });

  test("Debian 12 is too old", () => {
    const packages = { "docker.io": offered("20.10.24+dfsg1-1+deb12u1"), "docker-compose": offered("1.29.2-3") };
    expect(
      messageOf(() => missingDockerPackages({ ...bare, system: "Debian GNU/Linux 12 (bookworm)", packages })),
    ).toBe(
      [
        "Cannot install Docker: the packages of Debian GNU/Linux 12 (bookworm) are too old; Docker Engine 25.0 and Compose 2.24.4 are needed",
        "  | docker.io 20.10.24+dfsg1-1+deb12u1",
        "  | docker-compose 1.29.2-3",
        "  next: upgrade to Debian 13 or Ubuntu 24.04, or later",
        "  next: or install docker-ce and docker-compose-plugin as docs.docker.com/engine/install says, then run this again",
        "exit 2",
      ].join("\n"),
    );
  });

  test("a server that gets no packages at all", () => {
    expect(messageOf(() => missingDockerPackages({ ...bare, packages: {} }))).toContain(
      "Cannot install Docker: Debian GNU/Linux 13 (trixie) offers no packages of Docker; ",
    );
  });

  test.each([
    {
      docker: { program: "/snap/bin/docker" },
      why: "it is a snap, which may not read /opt",
      next: "snap remove docker   # its containers and volumes go with it",
    },
    {
      docker: { program: "/usr/bin/docker", says: "podman version 5.4.2" },
      why: "it is Podman under another name",
      next: "apt-get remove podman-docker",
    },
    {
      docker: { program: "/usr/local/bin/docker", engine: "23.0.1" },
      why: "/usr/local/bin/docker comes from no package, and is too old or has no Compose",
      next: "bring it to Engine 25.0 and Compose 2.24.4 the way it was installed",
    },
  ])("another Docker: $why", ({ docker, why, next }) => {
    expect(messageOf(() => missingDockerPackages({ ...bare, docker: { ...bare.docker, ...docker } }))).toBe(
      `Cannot use the Docker of this server: ${why}\n  next: ${next}\nexit 2`,
    );
  });
});

test.each([
  ["26.1.5+dfsg1-9", "25.0", true],
  ["5:29.0.1-1~debian.13~trixie", "25.0", true],
  ["24.0.7-0ubuntu4", "25.0", false],
  ["v2.40.3", "2.24.4", true],
  ["2.24.4", "2.24.4", true],
  ["2.24.3", "2.24.4", false],
  ["2.9.0", "2.24.4", false],
  ["1.29.2-3", "2.24.4", false],
  ["3", "2.24.4", true],
] as const)("isAtLeast(%p, %p) is %p", (version, minimum, expected) => {
  expect(isAtLeast(version, minimum)).toBe(expected);
});

describe("mergeEngineConfiguration()", () => {
  const limits = { "max-size": "20m", "max-file": "5" };
  const rows: { name: string; text: string | undefined; merged: object; added: string[] }[] = [
    {
      name: "no file",
      text: undefined,
      merged: { "log-driver": "local", "log-opts": limits, "live-restore": true },
      added: ["log-driver", "log-opts", "live-restore"],
    },
    {
      name: "an empty file",
      text: "\n",
      merged: { "log-driver": "local", "log-opts": limits, "live-restore": true },
      added: ["log-driver", "log-opts", "live-restore"],
    },
    {
      name: "everything else stays",
      text: '{"data-root":"/data","registry-mirrors":["https://mirror.test"]}',
      merged: {
        "data-root": "/data",
        "registry-mirrors": ["https://mirror.test"],
        "log-driver": "local",
        "log-opts": limits,
        "live-restore": true,
      },
      added: ["log-driver", "log-opts", "live-restore"],
    },
    {
      name: "json-file without a limit gets one",
      text: '{"log-driver":"json-file","log-opts":{"max-file":"2"},"live-restore":true}',
      merged: { "log-driver": "json-file", "log-opts": { "max-size": "20m", "max-file": "2" }, "live-restore": true },
      added: ["log-opts"],
    },
    {
      name: "options without a driver are json-file's",
      text: '{"log-opts":{"labels":"app"},"live-restore":true}',
      merged: { "log-opts": { ...limits, labels: "app" }, "live-restore": true },
      added: ["log-opts"],
    },
    {
      name: "limits of somebody else's choice stay",
      text: '{"log-driver":"json-file","log-opts":{"max-size":"1g"},"live-restore":true}',
      merged: { "log-driver": "json-file", "log-opts": { "max-size": "1g" }, "live-restore": true },
      added: [],
    },
    {
      name: "so do drivers that write no files here",
      text: '{"log-driver":"journald","live-restore":false}',
      merged: { "log-driver": "journald", "live-restore": false },
      added: [],
    },
  ];
  test.each(rows)("$name", ({ text, merged, added }) => {
    const { configuration: _, ...docker } = ready.docker;
    const result = mergeEngineConfiguration({ ...ready, docker: { ...docker, ...(text && { configuration: text }) } });
    expect({ merged: JSON.parse(result.text), added: result.added }).toEqual({ merged, added });
  });

  test("a swarm cannot have live-restore", () => {
    const result = mergeEngineConfiguration(engine({ inSwarm: true, configuration: "", liveRestore: false }));
    expect(result.added).toEqual(["log-driver", "log-opts"]);
    expect(result.notes).toEqual([
      "live-restore is off, a swarm cannot have it: containers stop whenever the engine restarts",
    ]);
  });

  test.each(["[]", "{", '"text"'])("refuses %p", (text) => {
    expect(messageOf(() => mergeEngineConfiguration(engine({ configuration: text })))).toBe(
      "Cannot change /etc/docker/daemon.json: it is not a JSON object\n  next: correct it on the server\nexit 2",
    );
  });
});

describe("parseFacts()", () => {
  const facts = (said: Record<string, string>) =>
    Object.entries(said)
      .map(([name, text]) => `${name} ${Buffer.from(text).toString("base64")}\n`)
      .join("");

  test("a server without anything", () => {
    expect(parseFacts(facts({ system: "", packages: "", docker: "" }))).toEqual({
      system: "an unknown system",
      family: "",
      architecture: "unknown",
      unfinishedPackages: false,
      packages: {},
      apparmorMissing: false,
      docker: { liveRestore: false, startsAtBoot: false, inSwarm: false, containersRunning: 0 },
      allowedUsers: [],
      upgradesThemselves: false,
    });
  });

  test("a server that is ready", () => {
    const info = {
      ServerVersion: "26.1.5+dfsg1",
      LoggingDriver: "local",
      LiveRestoreEnabled: true,
      ContainersRunning: 3,
      Swarm: { LocalNodeState: "inactive" },
    };
    const text = facts({
      system: 'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nID=debian\nVERSION_ID="13"\n',
      architecture: "amd64\n",
      unfinished: "",
      packages:
        "docker.io:\n  Installed: 26.1.5+dfsg1-9\n  Candidate: 26.1.5+dfsg1-9\n  Version table:\n *** 26.1.5+dfsg1-9 500\n" +
        "docker-cli:\n  Installed: 26.1.5+dfsg1-9\n  Candidate: 26.1.5+dfsg1-9\n  Version table:\n" +
        "docker-compose:\n  Installed: 2.26.1-4\n  Candidate: 2.26.1-4\n  Version table:\n" +
        "docker-compose-v2:\n  Installed: (none)\n  Candidate: (none)\n  Version table:\n",
      program: "/usr/bin/docker\n",
      version: "Docker version 26.1.5+dfsg1, build a72d7cd\n",
      engine: `${JSON.stringify(info)}\n`,
      compose: "2.26.1-4\n",
      enabled: "enabled\n",
      configuration: JSON.stringify(configuration),
      account: "deploy:x:1000:1000::/home/deploy:/bin/bash\n",
      password: "other\n",
      groups: "deploy docker\n",
      keys: key,
      sshd: "port 22\nusepam yes\n",
      connection: "10.0.0.1 51234 10.0.0.2 22\n",
      directory: "deploy 755 directory\n",
      certificates: "deploy 755 directory\n",
      firewall: "",
      cron: "/usr/bin/crontab\n",
      crontab: ready.crontab!,
      upgrades: "",
    });
    const { packages, ...others } = parseFacts(text);
    expect(packages).toEqual({ ...ready.packages, "docker-compose-v2": {} });
    expect(others).toEqual((({ packages: _, ...rest }) => rest)(ready));
  });

  test("an engine that does not answer, System V, a firewall, sshd with AllowUsers, updates at night", () => {
    const observed = parseFacts(
      facts({
        engine: '{"ID":"","ServerVersion":"","ServerErrors":["Cannot connect to the Docker daemon"],"Swarm":{}}',
        enabled: "/etc/rc2.d/S01docker\n",
        firewall: "Status: active\n\nTo Action From\n",
        rules:
          "Added user rules (see 'ufw status' for running firewall):\nufw limit 22/tcp comment 'ssh'\nufw allow 80,443/tcp\n" +
          "ufw allow OpenSSH\nufw allow from 10.0.0.0/8 to any port 5432\nufw deny 25/tcp\nufw allow in 8080\n",
        sshd: "Port 22\nAllowUsers root\nallowusers ann@10.0.0.1\n",
        cron: "/usr/bin/crontab\n",
        upgrades: 'APT::Periodic::Unattended-Upgrade "1";\n',
      }),
    );
    expect(observed).toMatchObject({
      docker: { startsAtBoot: true },
      firewall: { active: true, openPorts: ["22/tcp", "80/tcp", "443/tcp", "22/tcp", "8080"] },
      allowedUsers: ["root", "ann@10.0.0.1"],
      crontab: "",
      upgradesThemselves: true,
    });
    expect(observed.docker.engine).toBeUndefined();
  });
});

describe("readPublicKeys()", () => {
  let folder = "";
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "dbops-keys-"));
  });
  afterEach(() => rmSync(folder, { recursive: true }));
  const file = (name: string, text: string) => {
    writeFileSync(join(folder, name), text);
    return join(folder, name);
  };

  test("reads every key of the file, and knows the private key beside it", () => {
    const path = file("deploy.pub", `# ours\n${key}\r\n\necdsa-sha2-nistp256 AAAAE2Vj\n`);
    expect(readPublicKeys(path, {})).toEqual({ lines: [key, "ecdsa-sha2-nistp256 AAAAE2Vj"] });
    expect(readPublicKeys(path, { keyFile: file("deploy", "") })).toEqual({
      lines: [key, "ecdsa-sha2-nistp256 AAAAE2Vj"],
      privateKeyFile: join(folder, "deploy"),
    });
  });

  test("takes the one beside DBOPS_SSH_KEY_FILE when none is named, and has none where there is none", () => {
    const keyFile = file("id", "");
    expect(readPublicKeys(undefined, { keyFile })).toEqual({ lines: [] });
    file("id.pub", key);
    expect(readPublicKeys(undefined, { keyFile })).toEqual({ lines: [key], privateKeyFile: keyFile });
  });

  test("never shows what is in a file that is no public key", () => {
    const refusal = (name: string, why: string) =>
      `Cannot use the public key "${join(folder, name)}": ${why}\n  next: ls ~/.ssh/*.pub\nexit 2`;
    const begin = "-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n";
    const format = 'each line must be a public key of OpenSSH, for instance "ssh-ed25519 AAAA… ann@laptop"';
    expect(messageOf(() => readPublicKeys(file("id", begin), {}))).toBe(
      refusal("id", "it is a private key: the public one ends with .pub, and is one line"),
    );
    for (const text of ["", "secret\n", `command="x" ${key}`, `${key}\nssh-ed25519\n`]) {
      expect(messageOf(() => readPublicKeys(file("x.pub", text), {}))).toBe(refusal("x.pub", format));
    }
    expect(messageOf(() => readPublicKeys(join(folder, "none.pub"), {}))).toBe(
      refusal("none.pub", "there is no such file"),
    );
  });
});

test("missingKeys() compares keys, not comments or options", () => {
  const [type, base64] = key.split(" ");
  expect(missingKeys([key], `no-pty ${type} ${base64} somebody else's comment\n`)).toEqual([]);
  expect(missingKeys([key], `# ${type}\n`)).toEqual([key]);
});

test("formatPlan() lists steps and notes, or says that there is nothing to do", () => {
  const steps = [{ text: "start it", call: ["start_engine"] as const }];
  expect(formatPlan({ steps, notes: ["no cron"] })).toBe("==> start it\n    note: no cron");
  expect(formatPlan({ steps: [], notes: [] })).toBe("==> nothing to do");
});

test("formatPin() says what is to be committed, when anything is", () => {
  const pin = { host: "app.example.com", type: "ssh-ed25519", fingerprint: "SHA256:abc" };
  expect(formatPin({ ...pin, change: "new" })).toBe(
    "the host key of app.example.com is pinned now: SHA256:abc (ssh-ed25519)\n  next: git add known_hosts",
  );
  expect(formatPin({ ...pin, change: "none" })).toBe(
    "the host key of app.example.com was pinned already: SHA256:abc (ssh-ed25519)",
  );
});

test("isKeyAtHand(): only a key that ssh can use without asking, and of the same pair", async () => {
  const folder = mkdtempSync(join(tmpdir(), "dbops-keys-"));
  const make = async (name: string, passphrase: string) => {
    const file = join(folder, name);
    await run({ argv: ["ssh-keygen", "-q", "-t", "ed25519", "-C", name, "-N", passphrase, "-f", file] });
    return readPublicKeys(`${file}.pub`, {});
  };
  try {
    const open = await make("open", "");
    const closed = await make("closed", "a passphrase");
    expect(await isKeyAtHand(open)).toBe(true);
    expect(await isKeyAtHand({ ...open, lines: [key, ...open.lines] })).toBe(true);
    expect(await isKeyAtHand(closed)).toBe(false);
    expect(await isKeyAtHand({ ...open, lines: closed.lines })).toBe(false);
    expect(await isKeyAtHand({ lines: open.lines })).toBe(false);
    expect(await isKeyAtHand({ lines: [] })).toBe(false);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("cannotLogIn() says that the server is set up, and where to look", () => {
  const server = { user: "root", host: "203.0.113.5", port: 22, knownHostsFile: "/shop/known_hosts" };
  const refusedWith = (refusal: string) =>
    messageOf(() => {
      throw cannotLogIn(server, { ...server, user: "deploy" }, refusal);
    });
  expect(refusedWith("deploy@203.0.113.5: Permission denied (publickey).")).toBe(
    [
      '203.0.113.5 is set up, but "deploy" cannot log in: sshd refuses the key that is in its authorized_keys: AllowUsers or AllowGroups leaves it out, or others may write to its home',
      "  | deploy@203.0.113.5: Permission denied (publickey).",
      "  next: on the server, as root: /usr/sbin/sshd -T -C user=deploy,host=localhost,addr=127.0.0.1 | grep -iE '^(allow|deny)(users|groups)|^authorizedkeysfile'; ls -ld ~deploy ~deploy/.ssh",
      "  next: on the server: journalctl --unit ssh --lines 20   # sshd says why",
      "  next: then the same command again",
      "  read: docs/provision.md",
      "exit 3",
    ].join("\n"),
  );
  expect(refusedWith("This account is currently not available.")).toBe(
    [
      '203.0.113.5 is set up, but "deploy" cannot log in: This account is currently not available.',
      "  next: on the server: journalctl --unit ssh --lines 20   # sshd says why",
      "  next: then the same command again",
      "  read: docs/provision.md",
      "exit 3",
    ].join("\n"),
  );
});

test("formatReport() ends with the next command", () => {
  const server = { user: "root", host: "203.0.113.5", port: 22, knownHostsFile: "/shop/known_hosts" };
  const deployer = { ...server, user: "deploy" };
  const target = {
    project: "shop",
    directory: "/opt/shop",
    image: "ghcr.io/me/shop",
    server,
    deployer,
    keys: { lines: [] },
  };
  const done = { plan: { steps: [], notes: [] }, compose: "2.26.1", seconds: 12.3 };
  expect(formatReport(done, target)).toBe(
    [
      "203.0.113.5 is ready (Compose 2.26.1, 12.3 s)",
      "  deploy@203.0.113.5 logs in",
      "  next: bun scripts/deploy.ts --image ghcr.io/me/shop:TAG",
    ].join("\n"),
  );
  const elsewhere = { ...target, deployer: { ...deployer, host: "app.example.com" } };
  expect(formatReport({ ...done, refusal: "Permission denied (publickey)." }, elsewhere)).toBe(
    [
      "203.0.113.5 is ready, its login was not tried (Compose 2.26.1, 12.3 s)",
      "  no key for deploy@203.0.113.5 can be used on this machine; ssh says: Permission denied (publickey).",
      "  next: let the name app.example.com point to this server",
      "  next: bun scripts/deploy.ts --image ghcr.io/me/shop:TAG",
    ].join("\n"),
  );
});
