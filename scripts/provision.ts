// Makes a bare Debian or Ubuntu server ready for deploys: Docker, a deploy user, its directory, and its host key pinned.
//   bun scripts/provision.ts --server root@203.0.113.5 --public-key ~/.ssh/id_ed25519.pub
// Twice is safe: it does what is missing. docs/provision.md says what it does line by line, and what it leaves alone.
import { type Arguments, parseArguments, usage } from "./lib/args.ts";
import type { Settings } from "./lib/config.ts";
import { trustedKeys } from "./lib/known-hosts.ts";
import { packageMissing } from "./lib/packages.ts";
import { applySteps, cannotLogIn, checkUser, tryLogin } from "./lib/provision-apply.ts";
import { isKeyAtHand, type PublicKeys, readPublicKeys } from "./lib/provision-keys.ts";
import { observeServer } from "./lib/provision-observe.ts";
import { type Pin, pinHostKey } from "./lib/provision-pin.ts";
import { type Plan, planProvision } from "./lib/provision-plan.ts";
import { asTyped } from "./lib/runtime.ts";
import { openSession, type Session } from "./lib/session.ts";
import { notPinned, parseAddress, readKnownHosts, type Server, unpinnedServerOf } from "./lib/ssh.ts";
import { confirm, phase } from "./lib/terminal.ts";
import { runIfMain } from "./lib/verb.ts";
import { interruption } from "./lib/wait.ts";

const commandLine = {
  command: "bun scripts/provision.ts",
  purpose: "Makes a bare Debian or Ubuntu server ready for deploys: Docker, deploy user, directory, host key.",
  flags: {
    server: {
      value: "USER@HOST",
      help: "who may change the server: root, or one with sudo (default: root@ the host of dbops.config.ts)",
    },
    port: { value: "PORT", help: "where its sshd listens (default: environments.production.port)" },
    "public-key": { value: "FILE", help: "who may deploy (default: DBOPS_SSH_KEY_FILE.pub, or ~/.ssh/id_ed25519.pub)" },
    firewall: { help: "turn ufw on: only sshd, 80 and 443 get in" },
    "unattended-upgrades": { help: "let the server install security updates by itself" },
    pin: { help: "only pin its host key in known_hosts, and change nothing there" },
    repin: { help: "the same, in place of another key that is pinned" },
    fingerprint: { value: "SHA256:…", help: "the host key to expect, instead of asking you to compare it" },
    plan: { help: "print what would be done, and do nothing" },
    yes: { help: "do not ask before the server is changed; a host key is never confirmed by this" },
    json: { help: "one JSON document on stdout" },
  },
  examples: [
    "bun scripts/provision.ts --plan",
    "bun scripts/provision.ts --server root@203.0.113.5 --public-key deploy.pub",
    "bun scripts/provision.ts --server admin@203.0.113.5 --firewall --unattended-upgrades",
    "bun scripts/provision.ts --pin --fingerprint SHA256:…      # a server that is ready, in CI",
  ],
  notes: [
    "Exit codes: 0 ready, or nothing was missing; 1 a step failed, the next run goes on there; 2 flags, dbops.config.ts, no way",
    "to log in, or a system that this does not know; 3 the deploy user cannot work there; 5 not confirmed, or another host key.",
  ].join("\n"),
} as const;

type Flags = Arguments<typeof commandLine>;

export async function main(argv: readonly string[]): Promise<void> {
  const flags = parseArguments(argv, commandLine);
  if (flags.plan && (flags.pin || flags.repin))
    throw usage(commandLine, "--pin shows the key before it asks: no --plan");
  const { loadConfig } = await import("./lib/config.ts").catch(packageMissing);
  const target = readTarget(await loadConfig(process.cwd()), flags);
  if (flags.pin || flags.repin) return reportPin(await pin(target, flags), flags);
  if (flags.plan && !isPinned(target)) throw notPinned(target.server);
  // Of one that is pinned it only says whether that is the expected one.
  if (!isPinned(target) || flags.fingerprint) console.error(formatPin(await pin(target, flags)));
  await provision(target, flags);
}

type Target = {
  project: string;
  directory: string;
  image: string;
  /** How we get in now: as root, or with sudo; perhaps by another name of the same machine. */
  server: Server;
  /** How deploys get in later. */
  deployer: Server;
  keys: PublicKeys;
};

function readTarget(settings: Settings, flags: Flags): Target {
  const deployer = unpinnedServerOf(settings, process.cwd());
  const { directory, image } = settings.environments.production!;
  const { server: address = `root@${deployer.host}`, port = `${deployer.port}` } = flags;
  if (!/^[a-z_][\w-]*@[^@\s-][^@\s]*$/i.test(address))
    throw usage(commandLine, `--server takes USER@HOST, not "${address}"`);
  if (!/^\d{1,5}$/.test(port) || Number(port) < 1 || Number(port) > 65535)
    throw usage(commandLine, `--port takes a number from 1 to 65535, not "${port}"`);
  const server = { ...deployer, ...parseAddress(address), port: Number(port) };
  const keys = readPublicKeys(flags["public-key"], deployer);
  return { project: settings.name, directory, image, server, deployer, keys };
}

/** Under both names: a deploy uses the one of dbops.config.ts. */
function isPinned({ server, deployer }: Target): boolean {
  const known = readKnownHosts(server);
  return [server, deployer].every(({ host }) => trustedKeys(known, host).length > 0);
}

function pin({ server, deployer }: Target, { fingerprint, repin }: Flags): Promise<Pin> {
  const alsoFor = deployer.host === server.host ? [] : [deployer.host];
  return pinHostKey(server, { fingerprint, replace: repin, alsoFor });
}

async function provision(target: Target, flags: Flags): Promise<void> {
  const { server, project } = target;
  const started = performance.now();
  phase(`looking at ${server.user}@${server.host}`);
  // Without its directory, where root would leave the lock that the deploy user has to open.
  const session = await openSession({ server, directory: "", project, functions: "provision.sh", asRoot: true });
  const done = await work(session, target, flags).catch(async (error) => {
    // What the server is at, it finishes; apt must not be stopped half-way.
    await session.giveUp(1);
    throw error;
  });
  await session.close();
  if (flags.plan) return printPlan(done.plan, flags);
  const seconds = Math.round((performance.now() - started) / 100) / 10;
  const refusal = await tryLogin(withKeyAtHand(target));
  if (refusal && (await isKeyAtHand(target.keys))) throw cannotLogIn(target.server, target.deployer, refusal);
  report({ ...done, seconds, ...(refusal && { refusal }) }, target, flags);
}

type Done = { plan: Plan; compose: string };

/** Looks, plans, asks, and does it. */
async function work(session: Session, target: Target, flags: Flags): Promise<Done> {
  const { server, deployer, directory, keys } = target;
  const { user } = deployer;
  const plan = planProvision(await observeServer(session, { user, directory }), {
    user,
    directory,
    publicKeys: keys.lines,
    sshPort: server.port,
    firewall: flags.firewall,
    unattendedUpgrades: flags["unattended-upgrades"],
  });
  if (flags.plan) return { plan, compose: "" };
  console.error(formatPlan(plan));
  if (plan.steps.length > 0 && !flags.yes) {
    await confirm({ text: `This changes ${server.host} as listed above.`, answer: server.host, flag: "--yes" });
  }
  await applySteps(session, plan.steps, interruption());
  return { plan, compose: await checkUser(session, user, directory) };
}

/** The way a deploy will get in; with the private key beside the public one, where ssh may not know it. */
function withKeyAtHand({ server, deployer, keys }: Target): Server {
  const { host, port } = server;
  const keyFile = keys.privateKeyFile ?? deployer.keyFile;
  return { ...deployer, host, port, ...(keyFile && { keyFile }) };
}

export function formatPlan({ steps, notes }: Plan): string {
  const lines = steps.length > 0 ? steps.map(({ text }) => `==> ${text}`) : ["==> nothing to do"];
  return [...lines, ...notes.map((note) => `    note: ${note}`)].join("\n");
}

function printPlan(plan: Plan, flags: Flags): void {
  const steps = plan.steps.map(({ text }) => text);
  console.log(flags.json ? JSON.stringify({ steps, notes: plan.notes }) : formatPlan(plan));
}

export function formatPin({ host, type, fingerprint, change }: Pin): string {
  const done = { new: "is pinned now", none: "was pinned already", replaced: "is pinned now, in place of another one" };
  const lines = [`the host key of ${host} ${done[change]}: ${fingerprint} (${type})`];
  return [...lines, ...(change === "none" ? [] : ["  next: git add known_hosts"])].join("\n");
}

function reportPin(result: Pin, flags: Flags): void {
  console.log(flags.json ? JSON.stringify(result) : formatPin(result));
}

type Report = Done & {
  seconds: number;
  /** What ssh said when it tried to log in as a deploy will, and had no key for that. */
  refusal?: string;
};

function report(result: Report, target: Target, flags: Flags): void {
  const { plan, compose, seconds, refusal } = result;
  const steps = plan.steps.map(({ text }) => text);
  const document = { server: target.server.host, steps, notes: plan.notes, compose, login: refusal ?? "ok", seconds };
  console.log(flags.json ? JSON.stringify(document) : formatReport(result, target));
}

export function formatReport({ compose, seconds, refusal }: Report, { server, deployer, image }: Target): string {
  const address = `${deployer.user}@${server.host}`;
  const facts = `(Compose ${compose}, ${seconds} s)`;
  const lines = [
    ...(refusal
      ? [
          `${server.host} is ready, its login was not tried ${facts}`,
          `  no key for ${address} can be used on this machine; ssh says: ${refusal}`,
        ]
      : [`${server.host} is ready ${facts}`, `  ${address} logs in`]),
    ...(deployer.host === server.host ? [] : [`  next: let the name ${deployer.host} point to this server`]),
    `  next: bun scripts/deploy.ts --image ${image}:TAG`,
  ];
  return asTyped(lines.join("\n"));
}

await runIfMain(import.meta, main);
