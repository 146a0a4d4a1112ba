// When backups are due: `backup.schedule` of dbops.config.ts, read by croner. Always UTC, so that no night has an hour twice or none.
import { packageMissing } from "./packages.ts";

export type Times = {
  /** The first one after that moment. */
  next(after: Date): Date;
  /** The last one before that moment; undefined where there has been none. */
  previous(before: Date): Date | undefined;
};

/** @throws {Error} with a reason for people, when it is no schedule, or one that never comes. */
export async function openTimes(schedule: string): Promise<Times> {
  const { Cron } = await import("croner").catch(packageMissing);
  // Without a function it waits for nothing, and only answers.
  const cron = read(() => new Cron(schedule, { timezone: "UTC", mode: "5-or-6-parts" }));
  if (!cron.nextRun()) throw new Error("it never comes");
  return {
    next(after) {
      const next = cron.nextRun(after);
      if (!next) throw new Error("it never comes again");
      return next;
    },
    previous: (before) => cron.previousRuns(1, before)[0],
  };
}

function read<T>(open: () => T): T {
  try {
    return open();
  } catch (error) {
    throw new Error((error as Error).message.replace(/^CronPattern: /, ""));
  }
}
