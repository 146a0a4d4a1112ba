// One embedded stack per project: a file that says who runs it, and what a killed one has left running.
import { randomUUID } from "node:crypto";
import { link, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { writeSecretFile } from "./environment.ts";
import { exitCodes, Failure } from "./failure.ts";
import { type Identity, identify, isRunning } from "./process.ts";

export type Claim = {
  /** The `up` itself. */
  owner: Identity;
  /** The app it has started, if it came that far. */
  app?: Identity;
};

const fileOf = (directory: string) => join(directory, "up.json");

/** Who has claimed the directory, alive or not. */
export async function readClaim(directory: string): Promise<Claim | undefined> {
  return await readFrom(fileOf(directory));
}

/**
 * Claims the directory for this process.
 * @returns the claim of one that was killed, for its leftovers to be stopped.
 * @throws {Failure} exit 4, naming the process that holds it.
 */
export async function claim(directory: string): Promise<Claim | undefined> {
  const own = { owner: (await identify(process.pid))! };
  const file = fileOf(directory);
  if (await create(file, own)) return undefined;
  // One at a time: of two that have found the same dead claim, the slower would replace the fresh one of the faster.
  const turn = join(directory, "up.takeover.json");
  if (!(await create(turn, own))) {
    if (await findDead(turn)) await rm(turn, { force: true });
    if (!(await create(turn, own))) throw claimed(await readFrom(turn));
  }
  try {
    const previous = await findDead(file);
    if (previous) await rm(file, { force: true });
    if (!(await create(file, own))) throw claimed(await readFrom(file));
    return previous;
  } finally {
    await rm(turn, { force: true });
  }
}

/** Whole or not at all. @returns whether it did: unlike a rename, a link never replaces, so of two that come at once, one wins. */
async function create(file: string, content: Claim): Promise<boolean> {
  const draft = `${file}.${randomUUID()}.tmp`;
  await writeFile(draft, JSON.stringify(content), { mode: 0o600 });
  try {
    await link(draft, file);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  } finally {
    await rm(draft, { force: true });
  }
}

/**
 * @returns a dead one's claim.
 * @throws {Failure} exit 4 when whose claim it is lives.
 */
async function findDead(file: string): Promise<Claim | undefined> {
  const found = await readFrom(file);
  if (found && (await isRunning(found.owner))) throw claimed(found);
  return found;
}

async function readFrom(file: string): Promise<Claim | undefined> {
  const text = await readFile(file, "utf8").catch(() => undefined);
  if (text === undefined) return undefined;
  try {
    return JSON.parse(text) as Claim;
  } catch {
    // Cut off by a power failure: whoever wrote it is gone.
    return { owner: { pid: 0, started: "" } };
  }
}

/** Adds the app to our own claim. */
export async function recordApp(directory: string, app: Identity): Promise<void> {
  const own = (await readClaim(directory))!;
  await writeSecretFile(fileOf(directory), JSON.stringify({ ...own, app }));
}

export async function release(directory: string): Promise<void> {
  await rm(fileOf(directory), { force: true });
}

function claimed(by: Claim | undefined): Failure {
  const why = by ? `process ${by.owner.pid} runs it` : "another `up` has just begun";
  return new Failure("This project is up already", why, ["bun scripts/up.ts --down"], { exitCode: exitCodes.locked });
}
