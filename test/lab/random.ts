// Chance that can be had again: the seed is printed, and DBOPS_SEED=… brings the same numbers.
//   const random = randomFrom("backup-faults");   random.below(1000)

export type Random = {
  /** A whole number from 0 on. */
  below(limit: number): number;
};

export function randomFrom(who: string): Random {
  const seed = Number(process.env.DBOPS_SEED ?? Date.now() % 1_000_000);
  console.error(`${who}: DBOPS_SEED=${seed} repeats this run`);
  let state = seed;
  return {
    below(limit) {
      // mulberry32
      state = (state + 0x6d2b79f5) | 0;
      let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
      mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
      return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * limit);
    },
  };
}
