// Postgres' table locks, by what the app notices of them. Pure.

/** From the weakest to the strongest; as pg_locks calls them. */
const modes = [
  "AccessShareLock",
  "RowShareLock",
  "RowExclusiveLock",
  "ShareUpdateExclusiveLock",
  "ShareLock",
  "ShareRowExclusiveLock",
  "ExclusiveLock",
  "AccessExclusiveLock",
] as const;

export type Mode = (typeof modes)[number];

export type Blocks = "nothing" | "maintenance" | "writes" | "reads and writes";

export const rankOf = (mode: Mode) => modes.indexOf(mode);

export function blocks(mode: Mode): Blocks {
  if (mode === "AccessExclusiveLock") return "reads and writes";
  if (rankOf(mode) >= rankOf("ShareLock")) return "writes";
  return mode === "ShareUpdateExclusiveLock" ? "maintenance" : "nothing";
}

/** "ACCESS EXCLUSIVE", as the manual and SQL have it. */
export const nameOf = (mode: Mode) =>
  mode
    .replace(/Lock$/, "")
    .replace(/(?<=[a-z])(?=[A-Z])/g, " ")
    .toUpperCase();

const words: Readonly<Record<Blocks, string>> = {
  "reads and writes": "reads and writes wait",
  writes: "writes wait, reads go on",
  maintenance: "reads and writes go on, VACUUM and other changes of the table wait",
  nothing: "reads and writes go on",
};

export const inWords = (mode: Mode) =>
  mode === "RowExclusiveLock" ? "reads and writes go on, but for writes to the same rows" : words[blocks(mode)];

/** One lock on one table of those that there were before. */
export type Held = {
  table: string;
  mode: Mode;
  /** From the beginning of the statement that took it to the end of the commit. */
  seconds: number;
  /** Of that statement, in the file. */
  line: number;
};

/** Of each table the strongest one, and those that make the app wait for longer than a stronger one does. */
export function worthTelling(locks: readonly Held[]): Held[] {
  const strongestFirst = [...locks].sort((one, other) => rankOf(other.mode) - rankOf(one.mode));
  return [...Map.groupBy(strongestFirst, ({ table }) => table).values()].flatMap(([strongest, ...others]) => {
    const longer: Held[] = [];
    let seconds = strongest!.seconds;
    for (const lock of others) {
      if (lock.seconds <= seconds || !makesWait(lock.mode)) continue;
      longer.push(lock);
      seconds = lock.seconds;
    }
    return [strongest!, ...longer];
  });
}

/** The app's own statements wait for it. */
export const makesWait = (mode: Mode) => rankOf(mode) >= rankOf("ShareLock");
