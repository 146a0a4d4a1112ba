// A second host for live tests, with its own kernel namespaces, address, disk, sshd and (kind "docker") Docker Engine. It can be
// powered off, cut off, slowed down and filled up for real, and stop() leaves nothing of it.
//   const server = await startServer({ kind: "docker", withImages: true });   …   await server.stop();
import { pipe, type Result, run } from "../../scripts/lib/run.ts";
import { step } from "./cache.ts";
import { startEngine } from "./engine.ts";
import { ensureImages } from "./images.ts";
import { diskFile, diskWithImages, makeDisk } from "./server/disk.ts";
import { Machine } from "./server/machine.ts";
import { describeSlot, type Owner, type Slot } from "./server/record.ts";
import type { ServerKind } from "./server/root.ts";
import { addRules } from "./server/rules.ts";
import { writeSeed } from "./server/seed.ts";
import { claimSlot, releaseSlot } from "./server/slot.ts";
import { toolsEnvironment } from "./server/tools.ts";

export type Server = {
  kind: ServerKind;
  hostname: string;
  address: string;
  /** This machine as the server sees it. */
  gateway: string;
  port: number;
  /** Who logs in by default: "deploy", who may use Docker; "root" on a bare server. */
  user: "deploy" | "root";
  /** "ssh-ed25519 AAAA…", as it stands in knownHostsFile. */
  hostKey: string;
  privateKeyFile: string;
  knownHostsFile: string;
  /** For ssh and scp, in front of the destination. No file of the user's own is read. */
  sshArguments: readonly string[];
  /** PATH with ssh and scp in front, for programs that start them by themselves. */
  environment: Readonly<Record<string, string>>;
  /** Runs a script in bash, sent on stdin. An exit code that is not accepted is a Failure. */
  ssh(script: string, options?: SshOptions): Promise<Result>;
  /** Copies images from the lab's engine into the server's. */
  loadImages(names: readonly string[]): Promise<void>;
  /** Removes the server and every trace. Harmless on repetition. */
  stop(): Promise<void>;
} & Pick<Machine, "powerOff" | "powerOn" | "cutOff" | "reconnect" | "slow" | "fast" | "fillDisk" | "freeDisk">;

type SshOptions = { user?: "deploy" | "root"; accept?: readonly number[]; timeoutSeconds?: number };

type Options = {
  /** "docker" has a Docker Engine with Compose and the user `deploy`; "bare" has sshd and root: what a provider hands over. */
  kind: ServerKind;
  /** With the kit's images in its engine, as the lab's engine has them. */
  withImages?: boolean;
  /** "lab" lets it outlive this process, until `lab down`. */
  owner?: Owner;
};

export async function startServer({ kind, withImages = false, owner = "process" }: Options): Promise<Server> {
  const template = withImages ? await imagesOnDisk() : undefined;
  const slot = await claimSlot("server", owner);
  const machine = new Machine(slot, kind);
  const environment = await toolsEnvironment();
  const stop = async () => {
    await machine.powerOff();
    await releaseSlot(slot);
  };
  try {
    const [keys] = await Promise.all([writeSeed(slot, kind, machine.hostname), makeDisk(slot, template)]);
    await letThrough(slot);
    await machine.powerOn();
    const user = kind === "docker" ? "deploy" : "root";
    const sshArguments = [
      ...["-F", "none", "-i", keys.privateKeyFile, "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none"],
      ...["-o", `UserKnownHostsFile=${keys.knownHostsFile}`, "-o", "GlobalKnownHostsFile=none"],
      ...["-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes", "-o", "ConnectTimeout=5"],
    ];
    describeSlot(slot, { kind, ssh: ["ssh", ...sshArguments, `${user}@${slot.address}`].join(" ") });
    return {
      ...{
        kind,
        user,
        hostname: machine.hostname,
        address: slot.address,
        gateway: slot.gateway,
        port: 22,
        ...keys,
        sshArguments,
        environment,
      },
      ssh: (script, { user: login = user, ...options } = {}) =>
        run({
          argv: ["ssh", ...sshArguments, `${login}@${slot.address}`, "bash -s"],
          stdin: script,
          environment,
          ...options,
        }),
      loadImages: (names) => loadImages(machine, names),
      powerOff: () => machine.powerOff(),
      powerOn: () => machine.powerOn(),
      cutOff: () => machine.cutOff(),
      reconnect: () => machine.reconnect(),
      slow: (megabitsPerSecond) => machine.slow(megabitsPerSecond),
      fast: () => machine.fast(),
      fillDisk: () => machine.fillDisk(),
      freeDisk: () => machine.freeDisk(),
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** The engine drops what it does not forward itself. To the outside the server hides behind this machine, as in any office. */
async function letThrough({ name, address, gateway, interfaceName }: Slot): Promise<void> {
  await addRules(name, [
    { table: "nat", chain: "POSTROUTING", words: ["-s", address, "!", "-d", gateway, "-j", "MASQUERADE"] },
    { table: "filter", chain: "FORWARD", words: ["-i", interfaceName, "-j", "ACCEPT"] },
    { table: "filter", chain: "FORWARD", words: ["-o", interfaceName, "-j", "ACCEPT"] },
  ]);
}

async function loadImages(machine: Machine, names: readonly string[]): Promise<void> {
  const { environment } = await startEngine();
  await pipe([
    { argv: ["docker", "save", ...names], environment },
    { argv: ["docker", "load"], environment: { ...environment, DOCKER_HOST: `unix://${machine.dockerSocket}` } },
  ]);
}

/** A disk with the kit's images: made by a server that loads them and is shut down. */
async function imagesOnDisk(): Promise<string> {
  const engine = await startEngine();
  const images = Object.keys(await ensureImages(engine));
  return diskWithImages(engine, (path) =>
    step("images loaded onto a server's disk", async () => {
      const slot = await claimSlot("server", "process");
      const machine = new Machine(slot, "docker");
      try {
        await Promise.all([writeSeed(slot, "docker", machine.hostname), makeDisk(slot)]);
        await machine.powerOn();
        await loadImages(machine, images);
        await machine.inside(["service", "docker", "stop"]);
        await machine.powerOff();
        await run({ argv: ["cp", "--sparse=always", diskFile(slot), path], timeoutSeconds: 120 });
      } finally {
        await machine.powerOff();
        await releaseSlot(slot);
      }
    }),
  );
}
