// The server on which `migrate dump` and `migrate verify` try the files: opened by their flags, closed however it ends.
import { Failure } from "./failure.ts";
import type { MigrateRequest } from "./migrate-request.ts";
import type { Progress } from "./progress.ts";
import { openScratch, type Scratch, usualOwner } from "./scratch.ts";

type How = {
  /** What cannot be done without it: "Cannot verify the migrations". */
  what: string;
  progress: Progress;
  interrupted: AbortSignal;
};

export async function inScratch<T>(
  { settings, directory, flags }: MigrateRequest,
  how: How,
  work: (scratch: Scratch) => Promise<T>,
): Promise<T> {
  const { "scratch-url": url, role: roles, image } = flags;
  const owner = await usualOwner(settings, directory);
  const scratch = await openScratch({ settings, directory, owner, roles, url, image, ...how });
  try {
    return await work(scratch);
  } catch (error) {
    throw how.interrupted.aborted ? how.interrupted.reason : withRole(error, url);
  } finally {
    await scratch.close();
  }
}

/** A role belongs to the whole server, and most are made on it by hand. */
function withRole(error: unknown, url: string | undefined): unknown {
  const role = error instanceof Failure ? /^role "(.+)" does not exist \(42704\)$/.exec(error.why)?.[1] : undefined;
  if (!(error instanceof Failure) || role === undefined) return error;
  const where = "where it is made on the server, and not by a migration";
  const how =
    url === undefined ? `the same command with --role ${role}` : `create role "${role}" on the server of --scratch-url`;
  const { what, why, next, exitCode, details, read } = error;
  const extra = { ...(details && { details }), ...(read && { read }) };
  return new Failure(what, why, [...next, `${how}      # ${where}`], { exitCode, ...extra, cause: error });
}
