// What `drift check` and `drift repair` begin with: the place of the database, and somewhere to try migrations in, made when it is
// wanted for the first time; both closed again, however it ends.

import type { Live } from "./drift-live.ts";
import type { DriftRequest } from "./drift-request.ts";
import { openPlace, type Place } from "./place.ts";
import type { Progress } from "./progress.ts";
import { openScratch, type Scratch } from "./scratch.ts";

type Opened = {
  place: Place;
  scratch: (live: Live) => Promise<Scratch>;
};

/** @param what cannot be done without a scratch server, for its messages. */
export async function withOpened<T>(
  { settings, directory, flags }: DriftRequest,
  { what, progress, interrupted }: { what: string; progress: Progress; interrupted: AbortSignal },
  work: (opened: Opened) => Promise<T>,
): Promise<T> {
  const where = { settings, directory, on: flags.on, url: flags["database-url"] };
  const place = await openPlace(where, interrupted);
  let opening: Promise<Scratch> | undefined;
  const scratch = ({ owner, roles, versionNumber }: Live) => {
    const wanted = {
      what,
      settings,
      directory,
      owner,
      roles,
      versionNumber,
      url: flags["scratch-url"],
      image: flags.image,
    };
    opening ??= openScratch({ ...wanted, progress, interrupted });
    return opening;
  };
  try {
    return await work({ place, scratch });
  } catch (error) {
    // What it was doing then has ended with other words.
    throw interrupted.aborted ? interrupted.reason : error;
  } finally {
    // One that could not be opened has said so where it was wanted.
    await opening?.then((opened) => opened.close()).catch(() => {});
    await place.close();
  }
}
