// Clients of a database that ask it without pause and come back at once when they are thrown out: what an app's users feel.
//   const clients = await startClients(connection, 8);   …   clients.mark();   …   const { failed, longestGapMilliseconds } = await clients.stop();
import { SQL } from "bun";
import { poll } from "../../scripts/lib/wait.ts";

export type Reached = { host: string; port: number; user: string; password: string; database: string };

export type Seen = {
  answers: number;
  failed: number;
  /** The longest that one of them was without an answer since the last mark(). */
  longestGapMilliseconds: number;
};

export type Clients = {
  /** Forgets the gaps so far. @returns them. */
  mark(): Seen;
  /** Resolves when each of them has had another answer. @throws after 30 s. */
  allServed(): Promise<void>;
  stop(): Promise<Seen>;
};

type Options = {
  /** Between an answer and the next question; a gap is measured no more exactly than that. */
  pauseMilliseconds?: number;
  /** The question; what it throws counts as a failed one, whoever asked. Default `select 1`. */
  ask?: (sql: SQL) => Promise<unknown>;
};

export async function startClients(
  { user: username, ...rest }: Reached,
  count: number,
  { pauseMilliseconds = 5, ask = (sql) => sql`select 1` }: Options = {},
): Promise<Clients> {
  const watched = Array.from({ length: count }, () => ({ last: performance.now(), longest: 0, failed: 0, answers: 0 }));
  let isOver = false;
  const clients = watched.map(async (client) => {
    while (!isOver) {
      // Not postgres.js: it throws where nobody can catch it when its session is ended between two queries.
      const sql = new SQL({ adapter: "postgres", ...rest, username, max: 1, connectionTimeout: 5 });
      try {
        while (!isOver) {
          await ask(sql);
          const now = performance.now();
          if (client.answers > 0) client.longest = Math.max(client.longest, now - client.last);
          client.last = now;
          client.answers += 1;
          await new Promise((resolve) => setTimeout(resolve, pauseMilliseconds));
        }
      } catch {
        client.failed += 1;
      }
      await sql.close({ timeout: 0 }).catch(() => {});
    }
  });
  const total = (of: "answers" | "failed") => watched.reduce((sum, client) => sum + client[of], 0);
  const seen = (): Seen => ({
    answers: total("answers"),
    failed: total("failed"),
    longestGapMilliseconds: Math.max(...watched.map(({ longest }) => longest)),
  });
  const allServed = async () => {
    const before = watched.map(({ answers }) => answers);
    await poll({ seconds: 30 }, async () => watched.every(({ answers }, n) => answers > before[n]!) || undefined);
  };
  await allServed();
  return {
    allServed,
    mark() {
      const until = seen();
      for (const client of watched) client.longest = 0;
      return until;
    },
    async stop() {
      await allServed().finally(() => {
        isOver = true;
      });
      await Promise.all(clients);
      return seen();
    },
  };
}
