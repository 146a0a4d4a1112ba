// What is written down about each of the lab's hosts, so that another process can list it, or clear away all that belongs to it.
import { existsSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Identity, identify } from "../../../scripts/lib/process.ts";
import { stateFolder } from "../cache.ts";

export type Slot = {
  /** Its number within the lab, from 1. */
  number: number;
  /** Nobody else's: the next one who gets this number has another. */
  claim: string;
  /** Whose it is, in a word: "server", "registry", "s3". */
  purpose: string;
  /** Distinct on this machine; marks firewall rules, cgroups and containers. */
  name: string;
  /** Keys, logs and pid files; readable by root only, and empty after a reboot. */
  folder: string;
  /** For what is big. */
  storage: string;
  /** A /30, in it this machine's end of the cable and the host's own address. */
  network: string;
  gateway: string;
  address: string;
  /** The interface on this machine's end. */
  interfaceName: string;
};

/** "process": gone with the process that started it. "lab": stays until `lab down`. */
export type Owner = "process" | "lab";

type Container = { name: string; environment: Readonly<Record<string, string>> };
export type SlotRecord = {
  slot: Slot;
  owner: Identity | "lab";
  processes: Identity[];
  containers: Container[];
  folders: string[];
  description: object;
};

/** Beside the engine's folder and not in it, which stopEngine() removes. */
export const hostsFolder = (...names: string[]) => join(`${stateFolder()}-hosts`, ...names);
const recordFile = (folder: string) => join(folder, "record.json");

/** Notes a process that has to end with the slot. */
export async function rememberProcess(slot: Slot, pid: number): Promise<void> {
  const found = await identify(pid);
  const record = readRecord(slot.folder);
  if (found) writeRecord({ ...record, processes: [...record.processes, found] });
}

/** Notes a container that has to go with the slot. */
export function rememberContainer(slot: Slot, name: string, environment: Container["environment"]): void {
  const record = readRecord(slot.folder);
  writeRecord({ ...record, containers: [...record.containers, { name, environment }] });
}

/** Notes a folder outside the slot that has to go with it, and then the empty ones above it. */
export function rememberFolder(slot: Slot, folder: string): void {
  const record = readRecord(slot.folder);
  writeRecord({ ...record, folders: [...record.folders, folder] });
}

/** Notes what `lab status` shows. */
export function describeSlot(slot: Slot, description: object): void {
  writeRecord({ ...readRecord(slot.folder), description });
}

/** What is up, as told by describeSlot(), in the order of the places. */
export function listSlots(): { purpose: string; address: string; owner: Owner; description: object }[] {
  const inOrder = records().sort((one, other) => one.slot.number - other.slot.number);
  return inOrder.map(({ slot: { purpose, address }, owner, description }) => {
    return { purpose, address, owner: owner === "lab" ? "lab" : "process", description };
  });
}

export function records(): SlotRecord[] {
  if (!existsSync(hostsFolder())) return [];
  const folders = readdirSync(hostsFolder()).map((name) => hostsFolder(name));
  return folders.filter((folder) => existsSync(recordFile(folder))).map(readRecord);
}

const readRecord = (folder: string) => JSON.parse(readFileSync(recordFile(folder), "utf8")) as SlotRecord;

export function writeRecord(record: SlotRecord): void {
  const file = recordFile(record.slot.folder);
  // Others read it at any time: they get the old one or the new one.
  writeFileSync(`${file}.new`, JSON.stringify(record), { mode: 0o600 });
  renameSync(`${file}.new`, file);
}
