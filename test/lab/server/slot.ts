// A place for one of the lab's hosts: a number, addresses that nobody else has, a folder. All that the host has used goes
// with it. A host whose process was killed is cleared away by the next one that starts, or by `lab down`.
import { randomUUID } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { Failure } from "../../../scripts/lib/failure.ts";
import { identify, isRunning } from "../../../scripts/lib/process.ts";
import { run } from "../../../scripts/lib/run.ts";
import { cacheFolder, labId } from "../cache.ts";
import { chooseNetwork } from "../network.ts";
import { withLock } from "../process.ts";
import { childrenOf, killAndWait } from "../processes.ts";
import { hostsFolder, type Owner, records, type Slot, type SlotRecord, writeRecord } from "./record.ts";
import { removeRules } from "./rules.ts";
import { toolsEnvironment } from "./tools.ts";

const slotsAtMost = 60;
const lockWithinSeconds = 120;
export async function claimSlot(purpose: string, owner: Owner): Promise<Slot> {
  return locked(async () => {
    for (const record of records()) {
      if (record.owner !== "lab" && !(await isRunning(record.owner))) await clear(record);
    }
    const number = firstFree();
    // Four addresses each in the second quarter of a /16: of no concern to the engine, should it choose the same one.
    const base = `10.${secondOctet()}.64`;
    const name = `dbops-${labId()}-${number}`;
    const folder = hostsFolder(`${number}`);
    const storage = cacheFolder("hosts", `${number}`);
    const slot: Slot = {
      ...{ number, claim: randomUUID(), purpose, name, folder, storage },
      network: `${base}.${4 * number}/30`,
      gateway: `${base}.${4 * number + 1}`,
      address: `${base}.${4 * number + 2}`,
      interfaceName: `h${labId()}n${number}`,
    };
    mkdirSync(folder, { mode: 0o700 });
    // What a machine that went down hard has left there.
    rmSync(storage, { recursive: true, force: true });
    mkdirSync(storage, { recursive: true });
    const who = owner === "lab" ? owner : (await identify(process.pid))!;
    writeRecord({ slot, owner: who, processes: [], containers: [], folders: [], description: {} });
    await keepPacketsHome(slot);
    return slot;
  });
}

/** Gives the slot's address to this machine itself: what listens on it can be reached from here and from every server. */
export async function listenHere({ address }: Slot): Promise<void> {
  await run({ argv: ["ip", "address", "add", `${address}/32`, "dev", "lo"], environment: await toolsEnvironment() });
}

/** Ends and removes everything that belongs to the slot. Twice is safe, also when somebody else has its number by then. */
export async function releaseSlot(slot: Slot): Promise<void> {
  await locked(async () => {
    const record = records().find((one) => one.slot.claim === slot.claim);
    if (record) await clear(record);
    removeFolderAfterLast();
  });
}

/** Also those that other processes are using. */
export async function releaseAllSlots(): Promise<void> {
  if (!existsSync(hostsFolder())) return;
  await locked(async () => {
    for (const record of records()) await clear(record);
    removeFolderAfterLast();
  });
}

/** Below every other route: while the host is off, packets for it must not take the default route out into the world. */
async function keepPacketsHome(slot: Slot): Promise<void> {
  await run({ argv: ["ip", "route", "replace", ...lastRoute(slot)], environment: await toolsEnvironment() });
}

const lastRoute = ({ network }: Slot) => ["unreachable", network, "metric", "9999"];

async function clear({ slot, processes, containers, folders }: SlotRecord): Promise<void> {
  const environment = await toolsEnvironment();
  // A server's process 1 first: it is gone only when all in its namespace are, and nothing of it is in use any more.
  for (const one of processes) {
    if (await isRunning(one)) for (const pid of [...childrenOf(one.pid), one.pid]) await killAndWait(pid);
  }
  for (const { name, environment } of containers) {
    // An engine that has been taken down since has taken its containers along.
    await run({ argv: ["docker", "rm", "--force", "--volumes", name], environment, accept: [0, 1] });
  }
  await removeRules(slot.name);
  // Answers 1 or 2 where there is none.
  const absent = { environment, accept: [0, 1, 2] };
  await run({ argv: ["ip", "link", "delete", slot.interfaceName], ...absent });
  await run({ argv: ["ip", "address", "delete", `${slot.address}/32`, "dev", "lo"], ...absent });
  await run({ argv: ["ip", "route", "delete", ...lastRoute(slot)], ...absent });
  removeCgroups(slot.name);
  for (const folder of [...folders, slot.storage, slot.folder]) rmSync(folder, { recursive: true, force: true });
  for (const folder of folders) removeEmptyAbove(folder);
}

function removeEmptyAbove(path: string): void {
  const above = dirname(path);
  if (!existsSync(above) || readdirSync(above).length > 0) return;
  rmdirSync(above);
  removeEmptyAbove(above);
}

function removeFolderAfterLast(): void {
  if (records().length === 0) rmSync(hostsFolder(), { recursive: true, force: true });
}

/** A folder of a hierarchy can be removed only from within, and when no process is left in it. */
function removeCgroups(name: string): void {
  const mounts = readFileSync("/proc/self/mounts", "utf8")
    .split("\n")
    .map((line) => line.split(" "));
  const groups = mounts.filter(([, , type]) => type?.startsWith("cgroup")).map(([, folder]) => join(folder!, name));
  for (const group of groups.filter(existsSync)) removeEmpty(group);
}

function removeEmpty(folder: string): void {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    if (entry.isDirectory()) removeEmpty(join(folder, entry.name));
  }
  rmdirSync(folder);
}

function firstFree(): number {
  const numbers = Array.from({ length: slotsAtMost }, (_, index) => index + 1);
  const free = numbers.find((number) => !existsSync(hostsFolder(`${number}`)));
  if (free) return free;
  throw new Failure("Cannot start another host", `all ${slotsAtMost} places are taken`, ["bun test/lab/lab.ts down"]);
}

/** One /16 for all hosts of the lab, chosen by the first of them. */
function secondOctet(): string {
  const file = hostsFolder("network");
  if (!existsSync(file)) writeFileSync(file, chooseNetwork().gateway.split(".")[1]!);
  return readFileSync(file, "utf8");
}

function locked<T>(work: () => Promise<T>): Promise<T> {
  for (const folder of [cacheFolder(), hostsFolder()]) mkdirSync(folder, { recursive: true, mode: 0o700 });
  return withLock(cacheFolder("hosts.lock"), lockWithinSeconds, work);
}
