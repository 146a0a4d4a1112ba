// A lab server as a piece of hardware: power, cable and disk, before anybody logs in.
import { existsSync, mkdirSync, readFileSync, readlinkSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { Failure } from "../../../scripts/lib/failure.ts";
import { type Result, run } from "../../../scripts/lib/run.ts";
import { poll } from "../../../scripts/lib/wait.ts";
import { startDaemon } from "../process.ts";
import { childrenOf, killAndWait } from "../processes.ts";
import { diskFile } from "./disk.ts";
import { rememberProcess, type Slot } from "./record.ts";
import { type ServerKind, serverRoot } from "./root.ts";
import { addRules, removeRules } from "./rules.ts";
import { seedFolder } from "./seed.ts";
import { toolsEnvironment } from "./tools.ts";

const bootWithinSeconds = 30;
const script = (name: string) => new URL(name, import.meta.url).pathname;

export class Machine {
  readonly slot: Slot;
  readonly kind: ServerKind;
  readonly hostname: string;
  /** The server's process 1 as this machine sees it; 0 while the power is off. */
  #init = 0;

  constructor(slot: Slot, kind: ServerKind) {
    this.slot = slot;
    this.kind = kind;
    this.hostname = `server-${slot.number}`;
  }

  /** The engine's socket, reached through this machine's files instead of the network. */
  get dockerSocket(): string {
    return `/proc/${this.#init}/root/run/docker.sock`;
  }

  /** Boots; resolves when sshd, and the engine if there is one, answer. */
  async powerOn(): Promise<void> {
    const { folder, name, address, gateway } = this.slot;
    const mounts = join(folder, "mounts");
    mkdirSync(mounts, { recursive: true });
    const log = join(folder, "console.log");
    const root = await serverRoot(this.kind);
    const words = [root, diskFile(this.slot), seedFolder(this.slot), mounts, this.hostname, `${address}/30`, gateway];
    const argv = ["sh", script("enter.sh"), name, "sh", script("boot.sh"), ...words];
    const pid = await startDaemon({ argv, environment: {}, log });
    await rememberProcess(this.slot, pid);
    const init = await poll({ seconds: bootWithinSeconds }, async () => childIn(pid));
    if (!init) throw bootFailed(log, "it got no namespaces of its own");
    this.#init = init;
    await this.#plugIn();
    const answers = await poll({ seconds: bootWithinSeconds }, async () => {
      if (!existsSync(`/proc/${init}`)) return false;
      return (await speaksSsh(address)) && (await this.#dockerAnswers()) ? true : undefined;
    });
    if (!answers) throw bootFailed(log, answers === false ? "it ended by itself" : "it does not answer");
  }

  /** All processes end at once, without a signal that they could handle. The disk stays as it is at this moment. */
  async powerOff(): Promise<void> {
    if (!this.#init) return;
    await killAndWait(this.#init);
    this.#init = 0;
    // The kernel writes what it still holds and lets go of the disk a moment later: no copy, and no boot, before that.
    const inUse = async () => (await run({ argv: ["losetup", "--associated", diskFile(this.slot)] })).stdout !== "";
    const isFree = await poll({ seconds: bootWithinSeconds }, async () => !(await inUse()) || undefined);
    if (!isFree) throw new Failure("Cannot power off a lab server", "its disk is still in use", ["losetup --list"]);
  }

  /** Packets are dropped in both directions: nobody is told, connections just hang. */
  async cutOff(): Promise<void> {
    await addRules(this.slot.name, [
      { table: "raw", chain: "PREROUTING", words: ["-i", this.slot.interfaceName, "-j", "DROP"] },
      { table: "mangle", chain: "POSTROUTING", words: ["-o", this.slot.interfaceName, "-j", "DROP"] },
    ]);
  }

  async reconnect(): Promise<void> {
    await removeRules(this.slot.name, ["raw", "mangle"]);
  }

  /** Limits both directions. It adds no delay of its own: many kernels lack netem. */
  async slow(megabitsPerSecond: number): Promise<void> {
    const limit = ["root", "tbf", "rate", `${megabitsPerSecond}mbit`, "burst", "32kb", "latency", "400ms"];
    await this.#trafficControl("replace", limit);
  }

  async fast(): Promise<void> {
    await this.#trafficControl("delete", ["root"]);
  }

  /** Takes all the space that is left, root's share too. */
  async fillDisk(): Promise<void> {
    const rest = "$(df --output=avail --block-size=1 / | tail -1)";
    await this.inside(["sh", "-c", `fallocate --length=${rest} /filler; cat /dev/zero >>/filler`], { accept: [0, 1] });
  }

  async freeDisk(): Promise<void> {
    await this.inside(["rm", "--force", "/filler"]);
  }

  /** Runs a command of the server's own, as its root, without going over the network. */
  inside(argv: readonly string[], options: { accept?: readonly number[] } = {}): Promise<Result> {
    const namespaces = ["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"];
    // Nothing of our environment may leak in there, least of all DOCKER_HOST.
    const clean = ["env", "--ignore-environment", "PATH=/usr/sbin:/usr/bin", "HOME=/root"];
    return run({ argv: ["nsenter", `--target=${this.#init}`, ...namespaces, ...clean, ...argv], ...options });
  }

  async #plugIn(): Promise<void> {
    const { interfaceName, gateway } = this.slot;
    const environment = await toolsEnvironment();
    // The cable of the last time may still be there for a moment.
    await run({ argv: ["ip", "link", "delete", interfaceName], environment, accept: [0, 1] });
    const peer = ["type", "veth", "peer", "name", "eth0", "netns", `${this.#init}`];
    await run({ argv: ["ip", "link", "add", interfaceName, ...peer], environment });
    await run({ argv: ["ip", "address", "add", `${gateway}/30`, "dev", interfaceName], environment });
    await run({ argv: ["ip", "link", "set", interfaceName, "up"], environment });
  }

  /** A provisioned bare server has one as well: then it counts, too. */
  async #dockerAnswers(): Promise<boolean> {
    const hasDocker = existsSync(`/proc/${this.#init}/root/usr/sbin/dockerd`);
    if (!hasDocker) return true;
    return (
      existsSync(this.dockerSocket) && (await this.inside(["docker", "version"], { accept: [0, 1] })).exitCode === 0
    );
  }

  /** On both ends of the cable, with the server's own `tc`: on this machine's end only its files are borrowed. */
  async #trafficControl(verb: string, words: readonly string[]): Promise<void> {
    await this.inside(["tc", "qdisc", verb, "dev", "eth0", ...words]);
    const tc = ["nsenter", `--target=${this.#init}`, "--mount", "/usr/sbin/tc"];
    await run({ argv: [...tc, "qdisc", verb, "dev", this.slot.interfaceName, ...words] });
  }
}

/** The child of `unshare`, once it exists in a network namespace that is not this machine's. */
function childIn(pid: number): number | undefined {
  try {
    const child = childrenOf(pid).at(-1);
    const isApart = child && readlinkSync(`/proc/${child}/ns/net`) !== readlinkSync("/proc/self/ns/net");
    return isApart ? child : undefined;
  } catch {
    // It is gone, or has only just begun.
    return undefined;
  }
}

/** Whether somebody at the address greets as an SSH server does. */
function speaksSsh(host: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port: 22, timeout: 1000 });
    const answer = (value: boolean) => {
      socket.destroy();
      resolve(value);
    };
    socket.once("data", (data) => answer(data.toString().startsWith("SSH-2.0")));
    for (const event of ["error", "timeout", "close"]) socket.once(event, () => answer(false));
  });
}

function bootFailed(log: string, why: string): Failure {
  const details = readFileSync(log, "utf8").trimEnd().split("\n").slice(-20).join("\n");
  return new Failure("Cannot start a lab server", why, ["df -h    # is there room for its disk?"], { details });
}
