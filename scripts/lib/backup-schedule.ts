// Makes backups at their times, and watches that there is a recent one, until it is told to stop. Everything that it touches is given to
// it: clock, bucket, database, people. So a test lives through days of it in a moment.
import { type Alarm, describeAge, isMissed, judge, type Newest } from "./backup-age.ts";
import type { Times } from "./backup-schedule-times.ts";
import { asFailure, exitCodes } from "./failure.ts";
import { formatSeconds } from "./figures.ts";

export type Clock = {
  now(): Date;
  /** Ends early when the signal is aborted. */
  sleep(milliseconds: number, interrupted: AbortSignal): Promise<void>;
};

export type Schedule = {
  times: Times;
  maximumAgeHours: number;
  clock: Clock;
  /** One backup, and everybody told. @returns what was made, for the log. */
  backUp(): Promise<string>;
  /** The newest good backup in the bucket. */
  lookUp(): Promise<Newest | undefined>;
  /** Tells people. Never rejects. */
  tell(news: { recovered: boolean; sentence: string }): Promise<void>;
  log(line: string): void;
  /** A sign of life, at least every half minute. @param problem what is wrong, if anything is. */
  beat(problem: string | undefined): void;
  interrupted: AbortSignal;
};

const second = 1000;
const minute = 60 * second;

const beatEvery = 30 * second;
const lookEvery = 60 * minute;
/** While something is wrong: who mends it wants to see that it helped. */
const lookAgainAfter = 5 * minute;
const retryAfter = 10 * minute;
/** To take a backup back. Less than stop_grace_period in compose.yaml: whoever is killed says nothing any more. */
const stopWithin = 45 * second;
/** More time than this has passed unnoticed: the machine slept, or somebody set its clock. */
const jumpOf = 2 * minute;

/** @returns whether a backup was cut off; it may still be on its way out then. Ends only when it is interrupted; nothing that fails ends it. */
export async function runSchedule(schedule: Schedule): Promise<{ cutOff: boolean }> {
  return await new Watch(schedule).run();
}

class Watch {
  readonly #schedule: Schedule;
  #due: number;
  /** Of a run that has failed: once more, without waiting for the next time. */
  #retryAt: number | undefined;
  #lookAt: number;
  #running: { since: number; ended: Promise<void> } | undefined;
  #looking: Promise<void> | undefined;
  #newest: Newest | undefined;
  #alarm: Alarm | undefined;
  /** Whether it is known by now if one was missed before this process was there. */
  #isSettled = false;
  #failed: string | undefined;
  #cutOff = false;
  #wake = () => {};

  constructor(schedule: Schedule) {
    this.#schedule = schedule;
    const now = this.#now();
    this.#due = schedule.times.next(new Date(now)).getTime();
    this.#lookAt = now;
  }

  async run(): Promise<{ cutOff: boolean }> {
    const { clock, interrupted, log } = this.#schedule;
    log(`the next backup is due ${formatTime(this.#due)}`);
    const onAbort = () => {
      if (this.#running) log("told to stop: the backup that is being made is taken back");
    };
    interrupted.addEventListener("abort", onAbort, { once: true });
    let expected = this.#now();
    while (!interrupted.aborted) {
      const now = this.#now();
      this.#noticeJump(now, expected);
      if (this.#due <= now) this.#keepTime(now);
      else if (this.#retryAt !== undefined && this.#retryAt <= now) this.#begin("once more after the failure", true);
      if (this.#lookAt <= now && !this.#looking) this.#look(now);
      this.#beat();
      const wakeAt = Math.min(this.#due, this.#retryAt ?? Infinity, this.#looking ? Infinity : this.#lookAt);
      const sleep = Math.max(0, Math.min(wakeAt - now, beatEvery));
      expected = now + sleep;
      const changed = new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      await Promise.race([clock.sleep(sleep, interrupted), changed]);
    }
    if (this.#running && !(await this.#endsInTime(this.#running.ended))) {
      this.#cutOff = true;
      log(
        "what was uploaded of it may stay, and is no backup: the storage gives no answer; later: bun scripts/backup.ts prune",
      );
    }
    log("stopped");
    return { cutOff: this.#cutOff };
  }

  async #endsInTime(ended: Promise<void>): Promise<boolean> {
    const { signal } = new AbortController();
    const timeIsUp = this.#schedule.clock.sleep(stopWithin, signal).then(() => false);
    return await Promise.race([ended.then(() => true), timeIsUp]);
  }

  #noticeJump(now: number, expected: number): void {
    if (Math.abs(now - expected) < jumpOf) return;
    const [way, by] = now > expected ? ["ahead", now - expected] : ["back", expected - now];
    this.#schedule.log(`the clock is ${formatSeconds(by / second)} further ${way} than it should be`);
    this.#lookAt = now;
    // What is due by now is made now; what would be due again in a past that comes back, is computed anew.
    if (way === "back") this.#due = this.#schedule.times.next(new Date(now)).getTime();
  }

  #keepTime(now: number): void {
    const due = this.#due;
    this.#due = this.#schedule.times.next(new Date(now)).getTime();
    const late = now - due > minute ? `, ${formatSeconds((now - due) / second)} late` : "";
    this.#begin(`due ${formatTime(due)}${late}`, false);
  }

  #begin(why: string, isRetry: boolean): void {
    this.#retryAt = undefined;
    if (this.#running) {
      this.#schedule.log(
        `skipped (${why}): the backup that began ${formatTime(this.#running.since)} is still being made`,
      );
      return;
    }
    this.#schedule.log(`backup begins: ${why}`);
    const ended = this.#make(isRetry).then(() => {
      this.#running = undefined;
      this.#lookAt = this.#now();
      this.#wake();
    });
    this.#running = { since: this.#now(), ended };
  }

  async #make(isRetry: boolean): Promise<void> {
    const { backUp, log, interrupted } = this.#schedule;
    try {
      log(`backup done: ${await backUp()}`);
      this.#failed = undefined;
    } catch (error) {
      const { message, exitCode } = asFailure(error);
      if (interrupted.aborted) {
        this.#cutOff = true;
        log("backup cut off: nothing of it is listed");
      } else if (exitCode === exitCodes.locked) {
        log(`skipped: ${message}`);
      } else {
        this.#failed = message;
        log(`backup FAILED: ${message}`);
        if (!isRetry && this.#now() + retryAfter < this.#due) this.#retryAt = this.#now() + retryAfter;
        log(`the next attempt is due ${formatTime(this.#retryAt ?? this.#due)}`);
      }
    }
  }

  #look(now: number): void {
    this.#lookAt = now + lookEvery;
    this.#looking = this.#lookNow().finally(() => {
      this.#looking = undefined;
      if (this.#alarm) this.#lookAt = Math.min(this.#lookAt, this.#now() + lookAgainAfter);
      this.#wake();
    });
  }

  async #lookNow(): Promise<void> {
    const { lookUp, times, tell, log, maximumAgeHours, interrupted } = this.#schedule;
    let unreadable: string | undefined;
    try {
      this.#newest = await lookUp();
    } catch (error) {
      unreadable = asFailure(error).message;
      log(`the bucket cannot be looked at: ${unreadable}`);
    }
    if (interrupted.aborted) return;
    const now = this.#schedule.clock.now();
    const sight = { newest: this.#newest, unreadable, now, maximumAgeHours };
    if (!this.#isSettled) {
      this.#isSettled = true;
      log(describeAge(sight));
      const due = times.previous(now);
      if (!this.#running && isMissed(this.#newest, due)) {
        // Whether that has helped is looked at when it has ended.
        this.#begin(reasonToMakeUp(this.#newest, due, unreadable), false);
        return;
      }
    }
    const { alarm, news } = judge(this.#alarm, sight);
    this.#alarm = alarm;
    if (!news) return;
    log(`${news.recovered ? "recovered" : "ALARM"}: ${news.sentence}`);
    await tell(news);
  }

  #beat(): void {
    const old = this.#alarm && `no recent backup since ${formatTime(this.#alarm.since.getTime())}`;
    this.#schedule.beat(this.#failed ?? old);
  }

  #now(): number {
    return this.#schedule.clock.now().getTime();
  }
}

function reasonToMakeUp(newest: Newest | undefined, due: Date | undefined, unreadable: string | undefined): string {
  if (unreadable) return "nobody can tell whether one was missed";
  return newest && due ? `none was made when it was due, ${formatTime(due.getTime())}` : "there is none yet";
}

/** "2026-11-21 03:00:00 UTC" */
export const formatTime = (milliseconds: number) =>
  `${new Date(milliseconds).toISOString().slice(0, 19).replace("T", " ")} UTC`;
