// The schedule of backups, lived through with a clock of its own: what is due, what is missed, and who hears of it.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describeAge, isMissed, judge, type Newest, newestGood } from "../scripts/lib/backup-age.ts";
import type { Backup } from "../scripts/lib/backup-list.ts";
import { formatTime, runSchedule } from "../scripts/lib/backup-schedule.ts";
import { openTimes } from "../scripts/lib/backup-schedule-times.ts";
import { type Config, loadConfig } from "../scripts/lib/config.ts";
import { exitCodes, Failure } from "../scripts/lib/failure.ts";
import type { Manifest } from "../scripts/lib/manifest.ts";

const at = (text: string) => new Date(`2026-11-${text}:00Z`);
const minutes = 60_000;

describe("the times", () => {
  test("five fields of cron, or six with seconds in front, in UTC", async () => {
    const daily = await openTimes("0 3 * * *");
    expect(daily.next(at("21T03:00"))).toEqual(at("22T03:00"));
    expect(daily.previous(at("21T02:59"))).toEqual(at("20T03:00"));
    const seconds = await openTimes("*/20 * * * * *");
    expect(seconds.next(at("21T03:00"))).toEqual(new Date("2026-11-21T03:00:20Z"));
  });

  test("the night in which a clock of Berlin is put back has each hour once", async () => {
    const times = await openTimes("30 * * * *");
    const begin = new Date("2026-10-25T00:00:00Z");
    const three = [1, 2, 3].reduce<Date[]>((found) => [...found, times.next(found.at(-1) ?? begin)], []);
    expect(three.map((time) => time.toISOString().slice(11, 16))).toEqual(["00:30", "01:30", "02:30"]);
  });

  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "dbops-schedule-"));
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  test.each([
    ["0 25 * * *", "Invalid value for hour: 25"],
    ["0 0 31 2 *", "it never comes"],
    ["daily", "five"],
    ["0 3 * *", "five"],
    ["0 0 3 * * * 2027", "5 or 6 parts"],
  ])("a config with the schedule %s is refused when it is read", async (schedule, reason) => {
    // A module is read once: each has a folder of its own.
    const directory = await mkdtemp(join(folder, "p-"));
    const config: Config = {
      ...{ name: "shop", database: "shop", app: { command: ["bun"], port: 3000 } },
      ...{ schema: { criticalTables: [], extensions: [] }, environments: { local: {} } },
      backup: { bucket: "backups", schedule },
    };
    await writeFile(join(directory, "dbops.config.ts"), `export default ${JSON.stringify(config)};\n`);
    const failure = (await loadConfig(directory).catch((error) => error)) as Failure;
    expect(failure).toBeInstanceOf(Failure);
    expect(failure).toMatchObject({ exitCode: 2, message: "Cannot use dbops.config.ts: 1 problem" });
    expect(failure.details).toStartWith(`backup.schedule: "${schedule}" is no schedule: `);
    expect(failure.details).toContain(reason);
  });
});

describe("the newest good backup", () => {
  const backup = (id: string, made: string, changes: Partial<Manifest> = {}, broken?: string) =>
    ({
      id,
      manifest: { at: at(made).toISOString(), environment: "production", ...changes },
      ...(broken && { broken }),
    }) as Backup;
  const now = at("21T12:00");

  test("is whole, of this environment, not made before a restore, and not from the future", () => {
    const backups = [
      backup("future", "21T14:00"),
      backup("tables", "21T11:00", { tables: ["a"] }),
      backup("broken", "21T10:00", {}, "database.dump.gpg is missing"),
      backup("safety", "21T09:00", { label: "before-restore" }),
      backup("laptop", "21T08:00", { environment: "local" }),
      backup("good", "21T03:00"),
      backup("older", "20T03:00"),
    ];
    expect(newestGood({ backups }, "production", now)).toEqual({ id: "good", at: at("21T03:00") });
    expect(newestGood({ backups }, "local", now)?.id).toBe("laptop");
    expect(newestGood({ backups: [] }, "production", now)).toBeUndefined();
    // An hour is what clocks may differ.
    expect(newestGood({ backups }, "production", at("21T13:00"))?.id).toBe("future");
  });

  test.each([
    { newest: undefined, due: at("21T03:00"), missed: true },
    { newest: undefined, due: undefined, missed: true },
    { newest: "20T03:00", due: at("21T03:00"), missed: true },
    { newest: "21T03:00", due: at("21T03:00"), missed: false },
    { newest: "21T02:59", due: at("21T03:00"), missed: false },
    { newest: "21T02:58", due: at("21T03:00"), missed: true },
    { newest: "20T03:00", due: undefined, missed: false },
  ])("$newest, due $due: missed $missed", ({ newest, due, missed }) => {
    expect(isMissed(newest ? { id: "one", at: at(newest) } : undefined, due)).toBe(missed);
  });

  test("every sentence", () => {
    const newest = { id: "one", at: at("20T03:00") };
    const rest = { now: at("21T12:00"), maximumAgeHours: 26 };
    expect(describeAge({ newest, ...rest })).toBe(
      "the newest good backup, one, is 33 h old, and maximumAgeHours is 26",
    );
    expect(describeAge({ newest, unreadable: "no answer", ...rest })).toBe(
      "the newest good backup, one, is 33 h old, and maximumAgeHours is 26; and the bucket cannot be read: no answer",
    );
    expect(describeAge({ newest: undefined, ...rest })).toBe("there is no good backup");
    expect(describeAge({ newest: undefined, unreadable: "no answer", ...rest })).toBe(
      "nobody can tell whether there is a good backup: no answer",
    );
  });

  test("an alarm is told once, once more each day, and its end once", () => {
    const sight = (made: string, time: string) => ({
      ...{ newest: { id: "one", at: at(made) }, now: at(time), maximumAgeHours: 26 },
    });
    expect(judge(undefined, sight("20T03:00", "21T05:00"))).toEqual({ alarm: undefined });
    const first = judge(undefined, sight("20T03:00", "21T05:01"));
    expect(first.news?.recovered).toBe(false);
    const { alarm } = first;
    expect(judge(alarm, sight("20T03:00", "22T05:00"))).toEqual({ alarm });
    const second = judge(alarm, sight("20T03:00", "22T05:01"));
    expect(second.news?.recovered).toBe(false);
    expect(second.alarm).toEqual({ since: at("21T05:01"), toldAt: at("22T05:01") });
    const end = judge(second.alarm, sight("22T05:02", "22T05:03"));
    expect(end).toMatchObject({ alarm: undefined, news: { recovered: true } });
  });
});

/** A world whose time passes as fast as nothing in it has to be done. */
function createWorld(start: string, schedule = "0 3 * * *", made?: string) {
  let now = at(start).getTime();
  let sleepers: { at: number; wake: () => void }[] = [];
  const controller = new AbortController();
  const world = {
    newest: made ? { id: "before", at: at(made) } : (undefined as Newest | undefined),
    /** What a backup does; it takes two minutes. */
    make: async (): Promise<void> => {},
    bucket: async (): Promise<void> => {},
    events: [] as string[],
    problem: undefined as string | undefined,
    beats: [] as number[],
    isRunning: true,
    cutOff: false,
    sleep,
    /** The machine's clock is set, or it sleeps: what waits for a time to pass knows nothing of it. */
    jump(to: string) {
      const by = at(to).getTime() - now;
      now += by;
      sleepers = sleepers.map((sleeper) => ({ ...sleeper, at: sleeper.at + by }));
    },
    async until(text: string) {
      const end = at(text).getTime();
      for (;;) {
        await settled();
        const [next] = sleepers.sort((one, other) => one.at - other.at);
        if (!next || next.at > end) break;
        now = Math.max(now, next.at);
        sleepers = sleepers.filter((sleeper) => sleeper !== next);
        next.wake();
      }
      now = end;
    },
    async stop() {
      controller.abort(new Failure("Interrupted", "by SIGTERM", [], { exitCode: exitCodes.interrupted }));
      await ended;
    },
    /** Since the last time that it was asked. */
    heard(): string[] {
      return world.events.splice(0).filter((line) => !line.includes("the next backup is due"));
    },
  };
  function sleep(milliseconds: number, interrupted?: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      sleepers.push({ at: now + milliseconds, wake: resolve });
      interrupted?.addEventListener("abort", () => resolve(), { once: true });
      if (interrupted?.aborted) resolve();
    });
  }
  const settled = () => new Promise((resolve) => setImmediate(resolve));
  const note = (line: string) => world.events.push(`${new Date(now).toISOString().slice(8, 16)} ${line}`);
  const ended = openTimes(schedule).then(async (times) => {
    const { cutOff } = await runSchedule({
      ...{ times, maximumAgeHours: 26, interrupted: controller.signal, log: note },
      clock: { now: () => new Date(now), sleep },
      async backUp() {
        await world.make();
        const begun = now;
        await sleep(2 * minutes, controller.signal);
        controller.signal.throwIfAborted();
        world.newest = { id: "new", at: new Date(begun) };
        return "new";
      },
      async lookUp() {
        await world.bucket();
        return world.newest;
      },
      tell: async ({ recovered, sentence }) => void note(`TOLD ${recovered ? "recovered" : "absent"}: ${sentence}`),
      beat(problem) {
        world.problem = problem;
        world.beats.push(now);
      },
    });
    world.isRunning = false;
    world.cutOff = cutOff;
  });
  return world;
}

const fails = async () => {
  throw new Failure("Cannot reach the bucket", "no answer");
};
const age = (id: string, text: string) => `the newest good backup, ${id}, is ${text} old, and maximumAgeHours is 26`;

describe("the service", () => {
  test("makes them when they are due, says it in one line each, and is quiet otherwise", async () => {
    const world = createWorld("20T12:00", "0 3 * * *", "20T03:00");
    await world.until("22T12:00");
    expect(world.heard()).toEqual([
      `20T12:00 ${age("before", "9 h")}`,
      "21T03:00 backup begins: due 2026-11-21 03:00:00 UTC",
      "21T03:02 backup done: new",
      "22T03:00 backup begins: due 2026-11-22 03:00:00 UTC",
      "22T03:02 backup done: new",
    ]);
    expect(world.problem).toBeUndefined();
    const pauses = world.beats.slice(1).map((beat, index) => beat - world.beats[index]!);
    expect(Math.max(...pauses)).toBeLessThanOrEqual(30_000);
    await world.stop();
    expect(world.heard()).toEqual(["22T12:00 stopped"]);
    expect([world.isRunning, world.cutOff]).toEqual([false, false]);
  });

  test.each([
    { made: undefined, why: "there is none yet" },
    { made: "20T03:00", why: "none was made when it was due, 2026-11-21 03:00:00 UTC" },
  ])("makes up for what was missed before it was there: $why", async ({ made, why }) => {
    const world = createWorld("21T04:00", "0 3 * * *", made);
    await world.until("21T05:00");
    expect(world.heard().slice(1)).toEqual([`21T04:00 backup begins: ${why}`, "21T04:02 backup done: new"]);
    await world.stop();
  });

  test("a failure is tried once more, then at the next time; an absence is told once, daily, and its end", async () => {
    const world = createWorld("20T12:00", "0 3 * * *", "20T03:00");
    await world.until("20T12:01");
    world.heard();
    world.make = fails;
    await world.until("23T02:00");
    const failed = "backup FAILED: Cannot reach the bucket: no answer";
    expect(world.heard()).toEqual([
      "21T03:00 backup begins: due 2026-11-21 03:00:00 UTC",
      `21T03:00 ${failed}`,
      "21T03:00 the next attempt is due 2026-11-21 03:10:00 UTC",
      "21T03:10 backup begins: once more after the failure",
      `21T03:10 ${failed}`,
      "21T03:10 the next attempt is due 2026-11-22 03:00:00 UTC",
      `21T05:10 ALARM: ${age("before", "26 h")}`,
      `21T05:10 TOLD absent: ${age("before", "26 h")}`,
      "22T03:00 backup begins: due 2026-11-22 03:00:00 UTC",
      `22T03:00 ${failed}`,
      "22T03:00 the next attempt is due 2026-11-22 03:10:00 UTC",
      "22T03:10 backup begins: once more after the failure",
      `22T03:10 ${failed}`,
      "22T03:10 the next attempt is due 2026-11-23 03:00:00 UTC",
      `22T05:10 ALARM: ${age("before", "2 days")}`,
      `22T05:10 TOLD absent: ${age("before", "2 days")}`,
    ]);
    expect(world.problem).toBe("Cannot reach the bucket: no answer");
    world.make = async () => {};
    await world.until("23T04:00");
    expect(world.heard()).toEqual([
      "23T03:00 backup begins: due 2026-11-23 03:00:00 UTC",
      "23T03:02 backup done: new",
      `23T03:02 recovered: ${age("new", "2 min")}`,
      `23T03:02 TOLD recovered: ${age("new", "2 min")}`,
    ]);
    expect(world.problem).toBeUndefined();
    await world.stop();
  });

  test("somebody else's backup ends the alarm within minutes", async () => {
    const world = createWorld("21T12:00", "0 3 * * 1", "19T12:00");
    world.make = fails;
    await world.until("21T12:20");
    expect(world.heard().at(-1)).toContain("TOLD absent");
    world.newest = { id: "theirs", at: at("21T12:19") };
    await world.until("21T12:30");
    expect(world.heard()).toEqual([
      `21T12:25 recovered: ${age("theirs", "6 min")}`,
      `21T12:25 TOLD recovered: ${age("theirs", "6 min")}`,
    ]);
    await world.stop();
  });

  test("a bucket that is down from the start: the attempt fails, and nobody can tell what is in it", async () => {
    const world = createWorld("21T12:00");
    world.make = fails;
    world.bucket = fails;
    await world.until("21T12:04");
    const unread = "nobody can tell whether there is a good backup: Cannot reach the bucket: no answer";
    expect(world.heard()).toEqual([
      "21T12:00 the bucket cannot be looked at: Cannot reach the bucket: no answer",
      `21T12:00 ${unread}`,
      "21T12:00 backup begins: nobody can tell whether one was missed",
      "21T12:00 backup FAILED: Cannot reach the bucket: no answer",
      "21T12:00 the next attempt is due 2026-11-21 12:10:00 UTC",
      "21T12:00 the bucket cannot be looked at: Cannot reach the bucket: no answer",
      `21T12:00 ALARM: ${unread}`,
      `21T12:00 TOLD absent: ${unread}`,
    ]);
    await world.stop();
  });

  test("a bucket that cannot be read for a while is no alarm as long as the newest that is known is recent", async () => {
    const world = createWorld("21T04:00", "0 3 * * *", "21T03:00");
    await world.until("21T04:30");
    world.bucket = fails;
    await world.until("21T10:00");
    expect(world.heard().filter((line) => /TOLD|ALARM/.test(line))).toEqual([]);
    await world.stop();
  });

  test("what is due while one is being made is skipped; a backup that never ends is noticed all the same", async () => {
    const world = createWorld("20T12:00", "0 3 * * *", "20T03:00");
    await world.until("20T12:01");
    world.heard();
    world.make = () => new Promise<never>(() => {});
    await world.until("22T04:00");
    expect(world.heard()).toEqual([
      "21T03:00 backup begins: due 2026-11-21 03:00:00 UTC",
      `21T06:00 ALARM: ${age("before", "27 h")}`,
      `21T06:00 TOLD absent: ${age("before", "27 h")}`,
      "22T03:00 skipped (due 2026-11-22 03:00:00 UTC): the backup that began 2026-11-21 03:00:00 UTC is still being made",
    ]);
  });

  test("another process that makes one is no failure", async () => {
    const world = createWorld("21T02:00", "0 3 * * *", "20T03:00");
    world.make = async () => {
      throw new Failure("Nothing was backed up", "another backup is being made", [], { exitCode: exitCodes.locked });
    };
    await world.until("21T04:00");
    expect(world.heard().slice(1)).toEqual([
      "21T03:00 backup begins: due 2026-11-21 03:00:00 UTC",
      "21T03:00 skipped: Nothing was backed up: another backup is being made",
    ]);
    expect(world.problem).toBeUndefined();
    await world.stop();
  });

  test("after a sleep it makes one backup for all that it has slept through, and looks at the bucket at once", async () => {
    const world = createWorld("19T12:00", "0 3 * * *", "19T03:00");
    await world.until("19T12:01");
    world.heard();
    world.jump("21T08:00");
    await world.until("21T09:00");
    const heard = world.heard();
    expect(heard).toEqual([
      "21T08:00 the clock is 44 h further ahead than it should be",
      "21T08:00 backup begins: due 2026-11-20 03:00:00 UTC, 29 h late",
      `21T08:00 ALARM: ${age("before", "2 days")}`,
      `21T08:00 TOLD absent: ${age("before", "2 days")}`,
      "21T08:02 backup done: new",
      `21T08:02 recovered: ${age("new", "2 min")}`,
      `21T08:02 TOLD recovered: ${age("new", "2 min")}`,
    ]);
    await world.stop();
  });

  test("a clock that is put back does not keep it from the time that comes again", async () => {
    const world = createWorld("21T04:00", "0 3 * * *", "21T03:00");
    await world.until("21T04:01");
    world.heard();
    world.jump("20T20:00");
    await world.until("21T03:30");
    expect(world.heard()).toEqual([
      "20T20:00 the clock is 8 h further back than it should be",
      "21T03:00 backup begins: due 2026-11-21 03:00:00 UTC",
      "21T03:02 backup done: new",
    ]);
    await world.stop();
  });

  test("told to stop in the middle of one, it takes it back and says so", async () => {
    const world = createWorld("21T02:59", "0 3 * * *", "20T03:00");
    await world.until("21T03:01");
    world.heard();
    await world.stop();
    expect(world.heard()).toEqual([
      "21T03:01 told to stop: the backup that is being made is taken back",
      "21T03:01 backup cut off: nothing of it is listed",
      "21T03:01 stopped",
    ]);
    expect(world.cutOff).toBe(true);
  });

  test("where that cannot be taken back, because the storage hangs, it ends before it is killed", async () => {
    const world = createWorld("21T02:59", "0 3 * * *", "20T03:00");
    world.make = () => new Promise<never>(() => {});
    await world.until("21T03:01");
    world.heard();
    const stopped = world.stop();
    await world.until("21T03:02");
    await stopped;
    expect(world.heard()).toEqual([
      "21T03:01 told to stop: the backup that is being made is taken back",
      "21T03:01 what was uploaded of it may stay, and is no backup: the storage gives no answer; later: bun scripts/backup.ts prune",
      "21T03:01 stopped",
    ]);
    expect([world.isRunning, world.cutOff]).toEqual([false, true]);
  });
});

test("times are for people, and UTC", () => {
  expect(formatTime(at("21T03:00").getTime())).toBe("2026-11-21 03:00:00 UTC");
});
