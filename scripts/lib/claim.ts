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
  const text = await readFile(fileOf(directory), "utf8").catch(() => undefined);
  if (text === undefined) return undefined;
  try {
    return JSON.parse(text) as Claim;
  } catch {
    // Cut off by a power failure: whoever wrote it is gone.
    return { owner: { pid: 0, started: "" } };
  }
}

/**
 * Claims the directory for this process.
 * @returns the claim of one that was killed, for its leftovers to be stopped.
 * @throws {Failure} exit 4, naming the process that holds it.
 */
export async function claim(directory: string): Promise<Claim | undefined> {
  const previous = await readClaim(directory);
  if (previous && (await isRunning(previous.owner))) throw claimed(previous);
  if (previous) await rm(fileOf(directory), { force: true });
  const own = { owner: (await identify(process.pid))! };
  const draft = join(directory, `up.${randomUUID()}.tmp`);
  await writeFile(draft, JSON.stringify(own), { mode: 0o600 });
  try {
    // Unlike a rename, a link never replaces: of two that come at once, one wins.
    await link(draft, fileOf(directory));
  } catch (error) {
    const other = (error as NodeJS.ErrnoException).code === "EEXIST" ? await readClaim(directory) : undefined;
    throw other ? claimed(other) : error;
  } finally {
    await rm(draft, { force: true });
  }
  return previous;
}

/** Adds the app to our own claim. */
export async function recordApp(directory: string, app: Identity): Promise<void> {
  const own = (await readClaim(directory))!;
  await writeSecretFile(fileOf(directory), JSON.stringify({ ...own, app }));
}

export async function release(directory: string): Promise<void> {
  await rm(fileOf(directory), { force: true });
}

function claimed({ owner }: Claim): Failure {
  return new Failure("This project is up already", `process ${owner.pid} runs it`, ["bun scripts/up.ts --down"], {
    exitCode: exitCodes.locked,
  });
}
