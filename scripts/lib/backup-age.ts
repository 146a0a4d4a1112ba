// Whether there is a backup that is recent enough, and who has to hear of it. Pure: what the bucket holds and the time are given.
import type { Listing } from "./backup-list.ts";
import { formatSeconds } from "./figures.ts";
import { beforeRestore } from "./manifest.ts";

export type Newest = { id: string; at: Date };

/** Clocks of two machines may differ so much. What is dated later has a wrong date, and would keep the alarm silent until then. */
const futureHours = 1;

/** A backup whose time is this close before the one that was due counts as it. */
const toleranceSeconds = 60;

const repeatHours = 24;

const hour = 3_600_000;

/** The newest from which this environment can be restored as a whole: what "latest" means, and made of this very environment. */
export function newestGood({ backups }: Pick<Listing, "backups">, environment: string, now: Date): Newest | undefined {
  const good = backups.filter(
    ({ manifest, broken }) =>
      !broken && !manifest.tables && manifest.label !== beforeRestore && manifest.environment === environment,
  );
  const dated = good.map(({ id, manifest }) => ({ id, at: new Date(manifest.at) }));
  const past = dated.filter(({ at }) => at.getTime() <= now.getTime() + futureHours * hour);
  return past.sort((one, other) => other.at.getTime() - one.at.getTime())[0];
}

/** Whether one was due, and nothing has been made since: this process was not there, or did not get it done. */
export function isMissed(newest: Newest | undefined, previousDue: Date | undefined): boolean {
  if (!newest) return true;
  return previousDue !== undefined && newest.at.getTime() < previousDue.getTime() - toleranceSeconds * 1000;
}

/** Since when there has been no recent backup, and when people last heard of it. */
export type Alarm = { since: Date; toldAt: Date };

export type Sight = {
  newest: Newest | undefined;
  /** Why the bucket could not be looked at now; `newest` is what was known before. */
  unreadable?: string | undefined;
  now: Date;
  maximumAgeHours: number;
};

export type Verdict = {
  alarm: Alarm | undefined;
  /** Who waits for news hears this now. */
  news?: { recovered: boolean; sentence: string };
};

/** Once when backups stop, once a day while there are none, and once when there is one again. */
export function judge(alarm: Alarm | undefined, sight: Sight): Verdict {
  const { now } = sight;
  if (!isAbsent(sight)) {
    return alarm ? { alarm: undefined, news: { recovered: true, sentence: describeAge(sight) } } : { alarm: undefined };
  }
  if (alarm && now.getTime() - alarm.toldAt.getTime() < repeatHours * hour) return { alarm };
  const since = alarm?.since ?? now;
  return { alarm: { since, toldAt: now }, news: { recovered: false, sentence: describeAge(sight) } };
}

function isAbsent({ newest, now, maximumAgeHours }: Sight): boolean {
  return !newest || now.getTime() - newest.at.getTime() > maximumAgeHours * hour;
}

/** One sentence for people. */
export function describeAge({ newest, unreadable, now, maximumAgeHours }: Sight): string {
  const besides = unreadable ? `; and the bucket cannot be read: ${unreadable}` : "";
  if (!newest && unreadable) return `nobody can tell whether there is a good backup: ${unreadable}`;
  if (!newest) return "there is no good backup";
  const age = formatSeconds(Math.max(0, (now.getTime() - newest.at.getTime()) / 1000));
  return `the newest good backup, ${newest.id}, is ${age} old, and maximumAgeHours is ${maximumAgeHours}${besides}`;
}
