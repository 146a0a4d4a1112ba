// What psql.ts offers, without the program psql: for a database on this machine where nothing of Postgres is installed, such as that of
// `up --engine embedded`. One connection, never another in its place: a lock would be lost without a word.
import { Failure } from "./failure.ts";
import { type Connection, connect } from "./postgres.ts";
import { type Psql, preparation, SqlError } from "./psql.ts";
import { within } from "./wait.ts";

/** @throws {Failure} when it does not answer. */
export async function openDriver(connection: Connection): Promise<Psql> {
  const name = `${connection.host}:${connection.port}`;
  let hasEnded = false;
  const onClose = () => {
    hasEnded = true;
  };
  const sql = connect(connection, { timeoutSeconds: 10, onClose });
  const ask = async (statements: string, seconds = 60): Promise<Record<string, unknown>[]> => {
    if (hasEnded) throw ended(name, "the connection is closed");
    // Without a parameter it is sent in one piece, whatever number of statements it holds.
    const answer = sql
      .unsafe(statements)
      .simple()
      .then(
        (rows) => rows as unknown as Record<string, unknown>[],
        (error) => {
          throw asSqlError(error, name);
        },
      );
    return await within({ seconds }, answer, { what: `an answer of the database of ${name}`, next: [] });
  };
  let closed: Promise<void> | undefined;
  const close = () => {
    closed ??= sql.end({ timeout: 1 });
    return closed;
  };
  try {
    await ask(preparation);
  } catch (error) {
    await close();
    throw error;
  }
  return {
    async rows<Row>(query: string, timeoutSeconds?: number) {
      const [row] = await ask(
        `select coalesce(jsonb_agg(to_jsonb(q)), '[]')::text as answer from (\n${query}\n) q`,
        timeoutSeconds,
      );
      return JSON.parse(row!.answer as string) as Row[];
    },
    async execute(statements, timeoutSeconds) {
      await ask(statements, timeoutSeconds).catch(async (error) => {
        // As with psql, where a commit at the end is sent all the same.
        if (/;\s*commit\s*;?\s*$/i.test(statements)) await ask("rollback").catch(() => {});
        throw error;
      });
    },
    close,
  };
}

function asSqlError(error: { code?: string; message: string }, name: string): Failure {
  const { code = "", message } = error;
  return /^[0-9A-Z]{5}$/.test(code) ? new SqlError(code, message, message) : ended(name, message);
}

const ended = (name: string, why: string) =>
  new Failure(`The session with the database of ${name} has ended`, why, ["the same command again"]);
