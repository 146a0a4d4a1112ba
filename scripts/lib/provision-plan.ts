// What is missing on a server, as steps. Pure: the same facts give the same plan, and a server that has everything gives none.
import { exitCodes, Failure } from "./failure.ts";
import { mergeEngineConfiguration, missingDockerPackages, requireSystem } from "./provision-engine.ts";
import { missingKeys } from "./provision-keys.ts";
import type { Folder, Observed } from "./provision-observe.ts";
import type { Call } from "./session.ts";

export type Wanted = {
  /** Who deploys. */
  user: string;
  directory: string;
  publicKeys: readonly string[];
  /** Where sshd is reached; the firewall has to let that in. */
  sshPort: number;
  /** Turn ufw on, installing it if need be. */
  firewall: boolean;
  unattendedUpgrades: boolean;
};

export type Step = {
  text: string;
  /** A function of lib/server/provision.sh. */
  call: Call;
  stdin?: string;
};

export type Plan = {
  steps: Step[];
  /** What is as it is, and worth knowing. */
  notes: string[];
};

/** @throws {Failure} exit 2 when this server cannot be provisioned, or nobody could log in afterwards. */
export function planProvision(observed: Observed, wanted: Wanted): Plan {
  requireSystem(observed);
  const unfinished: Step = { text: "finish the installation of packages that was cut off", call: ["finish_packages"] };
  const parts = [planDocker(observed), planUser(observed, wanted), planDirectory(observed, wanted)];
  const around = [planFirewall(observed, wanted), planCertificates(observed, wanted), planUpgrades(observed, wanted)];
  const all = [...parts, ...around];
  return {
    steps: [...(observed.unfinishedPackages ? [unfinished] : []), ...all.flatMap(({ steps }) => steps)],
    notes: all.flatMap(({ notes }) => notes),
  };
}

function planDocker(observed: Observed): Plan {
  const { docker, packages } = observed;
  const { text, added, isNews, liveRestore, notes } = mergeEngineConfiguration(observed);
  const missing = missingDockerPackages(observed);
  const names = missing.map((name) => `${name} ${packages[name]?.candidate ?? ""}`.trim());
  const installsEngine = missing.some((name) => name === "docker.io" || name === "docker-ce");
  const interrupts = installsEngine && docker.containersRunning > 0 && !docker.liveRestore;
  const configure: Step = {
    text: `write /etc/docker/daemon.json: ${added.join(", ")}`,
    call: ["write_engine_configuration"],
    stdin: text,
  };
  const install: Step = {
    text: `install ${names.join(", ")}${interrupts ? "; DOWNTIME: running containers are restarted" : ""}`,
    call: ["install_packages", ...missing],
  };
  const start: Step = { text: "start Docker Engine, now and at every boot", call: ["start_engine"] };
  const restart: Step = {
    text: "restart Docker Engine with its new configuration; containers keep running",
    call: ["restart_engine"],
  };
  const waitsForRestart = isNews && !installsEngine;
  return {
    steps: [
      // Before the packages: the engine reads it when it starts for the first time.
      ...(added.length > 0 ? [configure] : []),
      ...(missing.length > 0 ? [install] : []),
      ...(installsEngine || !docker.engine || !docker.startsAtBoot ? [start] : []),
      ...(waitsForRestart && liveRestore ? [restart] : []),
    ],
    notes: [
      ...notes,
      ...(waitsForRestart && !liveRestore ? ["daemon.json counts from the next restart of the engine on"] : []),
    ],
  };
}

function planUser({ user, allowedUsers }: Observed, { user: name, publicKeys }: Wanted): Plan {
  const keys = missingKeys(publicKeys, user?.authorizedKeys ?? "");
  if (publicKeys.length === 0 && !user?.authorizedKeys.trim()) {
    const next = ["bun scripts/provision.ts --public-key FILE.pub", "ssh-keygen -t ed25519   # makes one"];
    throw new Failure(`Cannot let "${name}" log in`, "there is no public key to give to it", next, {
      exitCode: exitCodes.usage,
    });
  }
  const hasShell = user && !/\/(?:nologin|false)$/.test(user.shell);
  const mayUseDocker = name === "root" || user?.groups.includes("docker");
  const step = (text: string, call: Call, stdin?: string): Step[] => [{ text, call, ...(stdin && { stdin }) }];
  return {
    steps: [
      ...(user ? [] : step(`add the user ${name}, without a password`, ["add_user", name])),
      ...(user?.passwordLocked && name !== "root"
        ? step(`unlock ${name} for keys; it still has no password`, ["allow_keys", name])
        : []),
      ...(user && !hasShell ? step(`give ${name} a shell`, ["give_shell", name]) : []),
      ...(mayUseDocker ? [] : step(`let ${name} use Docker, which is as much as being root`, ["let_use_docker", name])),
      ...(keys.length === 0
        ? []
        : step(
            `let ${name} log in with ${keys.map(nameOf).join(", ")}`,
            ["authorize_keys", name],
            `${keys.join("\n")}\n`,
          )),
    ],
    notes: isAllowed(name, allowedUsers)
      ? []
      : [`sshd lets in only ${allowedUsers.join(", ")}: add ${name} to AllowUsers in /etc/ssh/sshd_config`],
  };
}

/** Of sshd's AllowUsers, which may hold patterns, and name@address. */
function isAllowed(user: string, patterns: readonly string[]): boolean {
  return patterns.length === 0 || patterns.some((pattern) => pattern.split("@")[0] === user || pattern.includes("*"));
}

/** Its comment, as a person knows it; else its beginning. */
function nameOf(key: string): string {
  const [type, base64, ...comment] = key.split(" ");
  return comment.length > 0 ? `the key "${comment.join(" ")}"` : `the key ${type} …${base64!.slice(-12)}`;
}

function planDirectory({ directory, certificates }: Observed, { user, directory: path }: Wanted): Plan {
  const folders: [string, Folder | undefined][] = [
    [path, directory],
    [`${path}/certificates`, certificates],
  ];
  const steps = folders.flatMap(([name, found]): Step[] => {
    if (found && !found.isDirectory) {
      const why = "it is there, and no directory";
      throw new Failure(`Cannot use ${name} on the server`, why, [`ls -l ${name}`], { exitCode: exitCodes.usage });
    }
    if (found?.owner === user && found.mode === "755") return [];
    const text = found ? `give ${name} to ${user}, mode 755; not what is in it` : `make ${name}, owned by ${user}`;
    return [{ text, call: ["own_directory", user, name] }];
  });
  return { steps, notes: [] };
}

/** Never turned on by itself: somebody may reach this server in a way that is not known here. */
function planFirewall({ firewall, packages, sshPort = 0 }: Observed, wanted: Wanted): Plan {
  if (!firewall && !wanted.firewall) return { steps: [], notes: [] };
  if (firewall && !firewall.active && !wanted.firewall) {
    return { steps: [], notes: ["ufw is installed, and off: --firewall turns it on"] };
  }
  const isOpen = (port: string) => [port, `${port}/tcp`].some((rule) => firewall?.openPorts.includes(rule));
  const ports = [...new Set([`${sshPort || wanted.sshPort}`, "80", "443"])].filter((port) => !isOpen(port));
  const install: Step = {
    text: `install ufw ${packages.ufw?.candidate ?? ""}`.trim(),
    call: ["install_packages", "ufw"],
  };
  const allow: Step = { text: `let ${ports.join(", ")} through the firewall`, call: ["allow_ports", ...ports] };
  const enable: Step = { text: "turn the firewall on, now and at every boot", call: ["enable_firewall"] };
  return {
    steps: [
      ...(firewall ? [] : [install]),
      // Before it is turned on, or this very connection would be the last.
      ...(ports.length > 0 ? [allow] : []),
      ...(firewall?.active ? [] : [enable]),
    ],
    notes: [],
  };
}

function planCertificates({ crontab }: Observed, { user, directory }: Wanted): Plan {
  if (crontab === undefined)
    return { steps: [], notes: ["there is no cron: nothing renews the certificate by itself"] };
  if (crontab.includes(directory) && crontab.includes("certbot")) return { steps: [], notes: [] };
  const line = `17 3 * * * cd ${directory} && docker compose run --rm certbot`;
  return {
    steps: [{ text: `renew the certificate every night: ${line}`, call: ["add_cron_line", user], stdin: line }],
    notes: [],
  };
}

function planUpgrades({ upgradesThemselves, packages }: Observed, { unattendedUpgrades }: Wanted): Plan {
  if (!unattendedUpgrades || upgradesThemselves) return { steps: [], notes: [] };
  const name = "unattended-upgrades";
  const install: Step = { text: `install ${name}`, call: ["install_packages", name] };
  const enable: Step = { text: "install security updates every night", call: ["enable_upgrades"] };
  return { steps: [...(packages[name]?.installed ? [] : [install]), enable], notes: [] };
}
