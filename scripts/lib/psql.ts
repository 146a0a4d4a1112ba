// One session of psql, wherever Postgres is: questions one after the other, answers as JSON. A snapshot, a lock or a transaction
// lasts from one question to the next, and ends with the session, however that ends.
import { randomBytes } from "node:crypto";
import { exitCodes, Failure } from "./failure.ts";
import type { Place } from "./place.ts";
import { run, start } from "./run.ts";
import { within } from "./wait.ts";

export type Psql = {
  /** The rows of a query. bigint comes as a number: ask for `::text` where it may be larger than 2^53. */
  rows<Row>(query: string, timeoutSeconds?: number): Promise<Row[]>;
  /** Statements without a result. All are sent, whatever becomes of the first one: begin a transaction where that matters. */
  execute(statements: string, timeoutSeconds?: number): Promise<void>;
  /** Ends it, and what Postgres is still doing for it; an open transaction is rolled back. Harmless on repetition. */
  close(): Promise<void>;
};

/** What an error of the server says, for whoever has to decide by it. */
export class SqlError extends Failure {
  /** SQLSTATE, "42P01". */
  readonly code: string;
  constructor(code: string, message: string, details: string) {
    super("Postgres refused", message, [], { details });
    this.code = code;
  }
}

const words = [
  ...["psql", "--no-psqlrc", "--no-password", "--quiet", "--tuples-only", "--no-align"],
  // Verbose is where the SQLSTATE stands.
  ...["--set=ON_ERROR_STOP=0", "--set=VERBOSITY=verbose"],
];

/** What a role or a database may have been given, and what a question here must not be subject to: it may wait for hours for a dump. */
export const preparation = `set client_min_messages = error; set client_encoding = 'UTF8'; set standard_conforming_strings = on;
set datestyle = 'ISO'; set timezone = 'UTC';
do $$ begin perform set_config(name, '0', false) from pg_settings where name in ('statement_timeout', 'lock_timeout',
  'idle_in_transaction_session_timeout', 'idle_session_timeout', 'transaction_timeout'); end $$`;

/** @throws {Failure} when it does not answer within 30 s, with psql's own words. */
export async function openPsql(place: Place, database?: string): Promise<Psql> {
  // At the end of each answer, on both streams: one alone could overtake the other.
  const mark = `dbops-${randomBytes(8).toString("hex")}`;
  const heard: Record<"stdout" | "stderr", string[]> = { stdout: [], stderr: [] };
  let question = { number: 0, onEnd: (_line: string, _stream: "stdout" | "stderr") => {} };
  let isBusy = false;
  const starting = start({
    ...place.client(words, database),
    input: true,
    ownGroup: true,
    onLine(line, stream) {
      if (!line.startsWith(mark)) heard[stream].push(line);
      else if (line.startsWith(`${mark} ${question.number} `)) question.onEnd(line, stream);
      // The end of an answer that nobody waited for.
      else heard[stream].length = 0;
    },
  });
  const program = await starting.catch((error: Failure) => error);
  if (program instanceof Failure) return await withoutPsql(place, database, program);
  const ended = program.ended.then((code) => {
    throw sessionEnded(place, code, heard.stderr);
  });
  ended.catch(() => {});

  const askNow = async (sql: string, timeoutSeconds: number): Promise<string[]> => {
    const number = question.number + 1;
    heard.stdout = [];
    heard.stderr = [];
    const answered = new Promise<string>((resolve) => {
      const marks: Partial<Record<"stdout" | "stderr", string>> = {};
      const onEnd = (line: string, stream: "stdout" | "stderr") => {
        marks[stream] = line;
        if (marks.stdout && marks.stderr) resolve(marks.stdout);
      };
      question = { number, onEnd };
    });
    // A statement that is not ended would swallow the marks. The last one's own state would hide an error of those before it.
    const end = `\\echo ${mark} ${number} :LAST_ERROR_SQLSTATE\n\\warn ${mark} ${number} end\n`;
    isBusy = true;
    program.write(`\\set LAST_ERROR_SQLSTATE 00000\n${sql}\n;\n${end}`);
    const what = `an answer of the database of ${place.name}`;
    const line = await within({ seconds: timeoutSeconds }, Promise.race([answered, ended]), { what, next: [] });
    isBusy = false;
    const code = line.split(" ")[2]!;
    if (code !== "00000") throw sqlError(code, heard.stderr);
    return heard.stdout;
  };

  let previous: Promise<unknown> = Promise.resolve();
  /** One after the other, also when they are asked at once. */
  const ask = (sql: string, timeoutSeconds = 60): Promise<string[]> => {
    const answer = previous.then(() => askNow(sql, timeoutSeconds));
    previous = answer.catch(() => {});
    return answer;
  };

  let backend: string | undefined;
  let closed: Promise<void> | undefined;
  const close = () => {
    closed ??= (async () => {
      // Nothing else would end a count of a large table, with its locks and its snapshot.
      if (isBusy && backend) await terminate(place, database, backend);
      program.endInput();
      await within({ seconds: 5 }, program.ended, { what: "psql", next: [] }).catch(() => {});
      await program.stop("SIGTERM", 5);
    })();
    return closed;
  };
  try {
    await ask(preparation, 30);
    backend = (await ask("select pg_backend_pid()")).join("");
  } catch (error) {
    await close();
    throw error;
  }
  return {
    async rows<Row>(query: string, timeoutSeconds?: number) {
      const answer = await ask(`select coalesce(jsonb_agg(to_jsonb(q)), '[]') from (\n${query}\n) q`, timeoutSeconds);
      return JSON.parse(answer.join("\n")) as Row[];
    },
    execute: async (statements, timeoutSeconds) => void (await ask(statements, timeoutSeconds)),
    close,
  };
}

/** For what `up --engine embedded` runs our own driver does. */
async function withoutPsql(
  { connection, environment, name }: Place,
  database: string | undefined,
  { why }: Failure,
): Promise<Psql> {
  if (connection && environment === "local") {
    const { openDriver } = await import("./psql-driver.ts");
    return await openDriver({ ...connection, database: database ?? connection.database });
  }
  const next = ["install Postgres' own programs, on Debian: apt-get install postgresql-client"];
  throw new Failure(`Cannot reach the database of ${name}`, why, next, { exitCode: exitCodes.usage });
}

/** Does the work in a session that ends with it, or when we are interrupted. */
export async function inDatabase<T>(
  place: Place,
  database: string,
  interrupted: AbortSignal,
  work: (psql: Psql) => Promise<T>,
): Promise<T> {
  interrupted.throwIfAborted();
  const psql = await openPsql(place, database);
  const onAbort = () => void psql.close();
  interrupted.addEventListener("abort", onAbort);
  try {
    return await work(psql);
  } finally {
    interrupted.removeEventListener("abort", onAbort);
    await psql.close();
  }
}

async function terminate(place: Place, database: string | undefined, backend: string): Promise<void> {
  const command = [...words, `--command=select pg_terminate_backend(${backend})`];
  // Where it does not help, the session is on its way out by itself.
  await run({ ...place.client(command, database), timeoutSeconds: 10 }).catch(() => {});
}

/** The first error, with everything that was said. @param lastCode of the last error: of what followed from the first. */
function sqlError(lastCode: string, stderr: readonly string[]): SqlError {
  const [, code = lastCode, message = "an error without a message"] =
    stderr.map((line) => /^[^\s:]+: {2}([0-9A-Z]{5}): (.*)$/.exec(line)).find(Boolean) ?? [];
  // Where it happened in Postgres' own source.
  const details = stderr.filter((line) => !/^\S+: {2}\w+, [\w.]+:\d+$/.test(line));
  return new SqlError(code, message, details.join("\n"));
}

function sessionEnded({ name, environment }: Place, code: number | NodeJS.Signals, stderr: readonly string[]): Failure {
  const details = stderr.slice(-10).join("\n");
  const refused = /^psql: error: (.*)$/m.exec(details)?.[1];
  const next = environment === "local" ? ["bun scripts/up.ts"] : [];
  if (refused) return new Failure(`Cannot reach the database of ${name}`, refused, next, { details });
  // ssh's own; psql has no such exit code.
  const why = code === 255 ? "the connection to the server was lost" : `psql ended with ${code}`;
  return new Failure(`The session with the database of ${name} has ended`, why, ["the same command again"], {
    ...(details && { details }),
  });
}

/** A name as it must stand in SQL. */
export const quoteIdentifier = (name: string) => `"${name.replaceAll('"', '""')}"`;

/** A text as it must stand in SQL, with standard_conforming_strings, which openPsql() turns on. */
export const quoteLiteral = (text: string) => `'${text.replaceAll("'", "''")}'`;
