// Where a database is, and how Postgres' own programs are run there: in the container of this project's Compose stack, here or on
// the server; or on this machine, for a database that a URL names. The programs of the container always fit its server.
import { join } from "node:path";
import type { Settings } from "./config.ts";
import { readEnvironment } from "./environment.ts";
import { exitCodes, Failure } from "./failure.ts";
import type { Connection } from "./postgres.ts";
import { type Command, run } from "./run.ts";
import { serverOf } from "./ssh.ts";
import { openSharedSsh, type SharedSsh } from "./ssh-shared.ts";
import { orInterrupted, within } from "./wait.ts";

export type Client = Pick<Command, "argv" | "environment">;

export type Place = {
  /** For people: "deploy@app.example.com", "this machine". */
  name: string;
  /** What has to be typed to confirm a change: "production", "local", or the host of a URL. */
  environment: string;
  /** The database that the app uses. */
  database: string;
  /** The user that the programs log in as. */
  user: string;
  /** How to run a program of Postgres there, with our stdin and stdout. It connects to the app's database, or to another. */
  client(words: readonly string[], database?: string): Client;
  /** The same for one that reads no stdin. It ends when its stdin does, or stays without a line for half a minute: else a dump would outlive us. */
  supervised(words: readonly string[], database?: string): Client;
  /** What a human being would type to get there, in front of a command. */
  byHand: string;
  /** How to run a program beside compose.yaml; undefined where Postgres is not the one of a stack. */
  inStack?(words: readonly string[]): Client;
  /** For programs that are not Postgres' own; undefined where Postgres is in a container. */
  connection?: Direct;
  close(): Promise<void>;
};

/** The last words are the program; it runs in that directory. */
const inDirectory = (directory: string, words: readonly string[]) => [
  ...["sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", directory],
  ...words,
];

/** In the container: its own variables know the password, so that it never stands in a command line. `$1` is the database, or empty. */
const asSuperuser =
  'export PGHOST=127.0.0.1 PGUSER="${POSTGRES_USER:-postgres}" PGPASSWORD="${POSTGRES_PASSWORD:-$(cat "${POSTGRES_PASSWORD_FILE:-/dev/null}")}"; export PGDATABASE="${1:-${POSTGRES_DB:-$PGUSER}}"; shift; ';

/**
 * bash, because Debian's sh cannot read with a limit. What `docker exec` has started goes on when nobody is there any more
 * (measured). `<&0`: a shell gives what it puts into the background an empty stdin otherwise.
 * The watch is waited for, and ends well when it is told to: an orphan belongs to the container's first process, which is Postgres
 * itself, and Postgres takes the death of a child by a signal for a crash and **restarts the whole database** (measured, 18.6).
 */
const whileSomebodyIsThere = [
  '"$@" </dev/null & program=$!',
  "{ trap 'exit 0' TERM; while read -r -t 30; do :; done; kill \"$program\"; } <&0 >/dev/null 2>&1 & watch=$!",
  'code=0; wait "$program" || code=$?',
  '{ kill "$watch"; wait "$watch"; } 2>/dev/null',
  'exit "$code"',
].join("\n");

export type Where = {
  settings: Settings;
  directory: string;
  /** An entry of `environments`: "local" or "production". */
  on: string;
  /** Instead of that: where a database is that this machine reaches. */
  url?: string | undefined;
};

/**
 * @throws {Failure} exit 2 when nothing says where it is; 3 when Postgres does not run there; the signal's reason when it is
 * interrupted, and then nothing stays open.
 */
export async function openPlace(where: Where, interrupted = new AbortController().signal): Promise<Place> {
  interrupted.throwIfAborted();
  const opening = findPlace(where);
  try {
    return await orInterrupted(interrupted, opening);
  } catch (error) {
    // It may be about to open: what it has made by then goes as well.
    const closed = opening.then((opened) => opened.close());
    await within({ seconds: 5 }, closed, { what: "the connection", next: [] }).catch(() => {});
    throw error;
  }
}

async function findPlace({ settings, directory, on, url }: Where): Promise<Place> {
  if (url !== undefined) {
    const connection = parseDatabaseUrl(url, process.env);
    return directPlace(connection, connection.host);
  }
  if (on === "production") return await serverPlace(settings, directory);
  if (process.env.PGHOST) return directPlace(connectionOfEnvironment(process.env), environmentOf({ on, url }));
  return await localPlace(directory);
}

/**
 * What the environment of a place is called, without going there. In a container of the stack DBOPS_ENVIRONMENT says it.
 * @throws {Failure} exit 2 for a URL that cannot be used.
 */
export function environmentOf({ on, url }: Pick<Where, "on" | "url">): string {
  if (url !== undefined) return parseDatabaseUrl(url, process.env).host;
  const { PGHOST, DBOPS_ENVIRONMENT } = process.env;
  if (on === "production" || !PGHOST) return on;
  return DBOPS_ENVIRONMENT || PGHOST;
}

/** To be typed behind a command, so that it is about the same database. @param environment a place's. */
export const flagsFor = (environment: string) =>
  environment === "local" ? "" : environment === "production" ? " --on production" : " --database-url …";

async function serverPlace(settings: Settings, directory: string): Promise<Place> {
  const server = serverOf(settings, directory);
  const ssh: SharedSsh = await openSharedSsh(server);
  const name = `${server.user}@${server.host}`;
  const { directory: there } = settings.environments.production!;
  try {
    const found = await findContainer((words) => ssh.argv(words), settings.name).catch((error: Failure) => {
      throw noDocker(name, error);
    });
    if (!found) throw notRunning(name, `on the server: cd ${there} && docker compose up --detach --wait postgres`);
    const place = containerPlace(found, (words) => ssh.argv(words));
    const inStack = (words: readonly string[]) => ({ argv: ssh.argv(inDirectory(there, words)) });
    return { ...place, name, environment: "production", byHand: `ssh ${name}`, inStack, close: ssh.close };
  } catch (error) {
    await ssh.close();
    throw error;
  }
}

/** Another database of the same server, as if it were the one that the app uses. Whoever has opened the place closes it. */
export function inOther(place: Place, database: string): Place {
  const { connection } = place;
  return {
    ...place,
    ...{ database, ...(connection && { connection: { ...connection, database } }) },
    client: (words, other = database) => place.client(words, other),
    supervised: (words, other = database) => place.supervised(words, other),
    close: async () => {},
  };
}

/** In a container, or as `up --engine embedded` runs it. */
export async function localPlace(directory: string): Promise<Place> {
  const { COMPOSE_PROJECT_NAME, POSTGRES_DB, POSTGRES_USER, POSTGRES_PASSWORD, POSTGRES_PORT } = await readEnvironment(
    join(directory, ".env"),
  );
  const close = async () => {};
  const name = process.env.COMPOSE_PROJECT_NAME ?? COMPOSE_PROJECT_NAME ?? (await composeName(directory));
  const found = name && (await findContainer((words) => [...words], name).catch(() => undefined));
  if (found) {
    const place = containerPlace(found, (words) => [...words]);
    const inStack = (words: readonly string[]) => ({ argv: inDirectory(directory, words) });
    return { ...place, name: "this machine", environment: "local", byHand: "", inStack, close };
  }
  if (!POSTGRES_DB || !POSTGRES_USER || !POSTGRES_PASSWORD) {
    throw notRunning("this machine", "bun scripts/up.ts");
  }
  const port = Number(process.env.POSTGRES_PORT ?? POSTGRES_PORT ?? 5432);
  const connection = { host: "127.0.0.1", port, user: POSTGRES_USER, password: POSTGRES_PASSWORD };
  return { ...embeddedPlace({ ...connection, database: POSTGRES_DB }), name: "this machine" };
}

/** As `up --engine embedded` runs it, without TLS: what a shell may ask of other servers is not meant for this one. */
export const embeddedPlace = (connection: Connection): Place =>
  directPlace(
    { ...connection, variables: { PGSSLMODE: "disable", PGCHANNELBINDING: "prefer", PGREQUIREAUTH: "" } },
    "local",
  );

export type Container = { id: string; database: string; user: string };

/** In a container of this machine that belongs to no stack. @param name for people. */
export const openContainer = (container: Container, name: string): Place => ({
  ...containerPlace(container, (words) => [...words]),
  ...{ name, environment: "container", byHand: "", close: async () => {} },
});

function containerPlace({ id, database, user }: Container, argv: (words: readonly string[]) => string[]) {
  const exec = (shell: string, script: string, words: readonly string[], other = "") => ({
    argv: argv(["docker", "exec", "--interactive", id, shell, "-c", script, shell, other, ...words]),
  });
  return {
    ...{ database, user },
    client: (words: readonly string[], other?: string) => exec("sh", `${asSuperuser}exec "$@"`, words, other),
    supervised: (words: readonly string[], other?: string) =>
      exec("bash", asSuperuser + whileSomebodyIsThere, words, other),
  };
}

/**
 * @returns undefined when no container of the service postgres runs in that Compose project.
 * @throws {Failure} with Docker's own words where it cannot be asked.
 */
async function findContainer(
  argv: (words: readonly string[]) => string[],
  project: string,
): Promise<Container | undefined> {
  const script = `id=$(docker ps --quiet --filter "label=com.docker.compose.project=$1" --filter label=com.docker.compose.service=postgres --filter label=com.docker.compose.oneoff=False) || exit
id=$(echo "$id" | head -n 1)
[ -n "$id" ] || exit 0
echo "$id"
docker exec "$id" sh -c 'user=\${POSTGRES_USER:-postgres}; echo "\${POSTGRES_DB:-$user}"; echo "$user"'`;
  const { stdout } = await run({ argv: argv(["sh", "-c", script, "sh", project]) });
  const [id, database, user] = stdout.split("\n");
  return id && database && user ? { id, database, user } : undefined;
}

/** Compose's own, which is not always that of dbops.config.ts. */
async function composeName(directory: string): Promise<string | undefined> {
  const words = ["docker", "compose", "config", "--format", "json"];
  const result = await run({ argv: words, directory, timeoutSeconds: 20 }).catch(() => undefined);
  return result && (JSON.parse(result.stdout) as { name: string }).name;
}

/** With what a URL may say beyond the connection itself, as the variables that Postgres' programs read. */
export type Direct = Connection & { variables?: Record<string, string> };

/** For Postgres' programs and for dbmate alike: the same database, whatever else our own environment says. */
export const connectionEnvironment = ({ host, port, user, password, database, variables }: Direct) => ({
  // What would lead elsewhere.
  ...{ PGHOSTADDR: undefined, PGSERVICE: undefined, PGSERVICEFILE: undefined },
  ...variables,
  ...{ PGHOST: host, PGPORT: `${port}`, PGUSER: user, PGPASSWORD: password, PGDATABASE: database },
});

/** The password stands in the environment of the program, where only its own user can read it. */
export function directPlace(direct: Direct, environment: string): Place {
  const { host, port, user, password, database, variables } = direct;
  const client = (words: readonly string[], other = database): Client => ({
    argv: words,
    // An address that does not answer would keep us waiting for minutes.
    environment: { PGCONNECT_TIMEOUT: "10", ...connectionEnvironment({ ...direct, database: other }) },
  });
  return {
    ...{ name: `${host}:${port}`, environment, database, user, client },
    connection: { host, port, user, password, database, ...(variables && { variables }) },
    supervised(words, other) {
      const { argv, ...rest } = client(words, other);
      return { ...rest, argv: ["bash", "-c", whileSomebodyIsThere, "bash", ...argv] };
    },
    byHand: "",
    close: async () => {},
  };
}

/** Parameters of a URL that libpq reads, by the variable of the same meaning. */
const parameters: Readonly<Record<string, string>> = {
  sslmode: "PGSSLMODE",
  sslrootcert: "PGSSLROOTCERT",
  sslcert: "PGSSLCERT",
  sslkey: "PGSSLKEY",
  sslnegotiation: "PGSSLNEGOTIATION",
  channel_binding: "PGCHANNELBINDING",
  connect_timeout: "PGCONNECT_TIMEOUT",
  options: "PGOPTIONS",
  application_name: "PGAPPNAME",
  target_session_attrs: "PGTARGETSESSIONATTRS",
};

/**
 * The password comes from PGPASSWORD, or from where libpq looks by itself: a command line is there for everybody to read.
 * @throws {Failure} exit 2, never with the URL itself: it may hold a password.
 */
export function parseDatabaseUrl(url: string, environment: Readonly<Record<string, string | undefined>>): Direct {
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  const parts = parsed && decoded([parsed.hostname, parsed.username, parsed.password, parsed.pathname.slice(1)]);
  const [host = "", user = "", password = "", database = ""] = parts ?? [];
  if (!parsed || !/^postgres(ql)?:$/.test(parsed.protocol) || !host || !user || !database) {
    throw unusableUrl(`it is not ${shapeOfUrl}`);
  }
  if (password || parsed.searchParams.has("password")) {
    const why = "it has a password in it, and everybody on this machine can read the command lines of all programs";
    throw unusableUrl(why, ["export PGPASSWORD=…", `--database-url ${shapeOfUrl}      # without it`]);
  }
  const variables: Record<string, string> = {};
  for (const [name, value] of parsed.searchParams) {
    const variable = parameters[name];
    // Not left out in silence: it may be what makes the connection safe.
    if (!variable) throw unusableUrl(`psql and pg_dump do not know its parameter "${name}"`);
    variables[variable] = value;
  }
  // An IPv6 address stands in brackets in a URL, and nowhere else.
  const address = host.replace(/^\[(.*)\]$/, "$1");
  return {
    ...{ host: address, port: Number(parsed.port || 5432), user, database, variables },
    password: environment.PGPASSWORD ?? "",
  };
}

function decoded(parts: readonly string[]): string[] | undefined {
  try {
    return parts.map(decodeURIComponent);
  } catch {
    return undefined;
  }
}

const shapeOfUrl = "postgres://USER@HOST:PORT/DATABASE";

const unusableUrl = (why: string, next: string[] = []) =>
  new Failure("Cannot use --database-url", why, next, { exitCode: exitCodes.usage });

/** In a container of the stack: the variables that Postgres' programs read by themselves. */
function connectionOfEnvironment(values: Readonly<Record<string, string | undefined>>): Direct {
  const { PGHOST = "", PGPORT = "5432", PGUSER = "", PGPASSWORD = "", PGDATABASE = PGUSER } = values;
  return { host: PGHOST, port: Number(PGPORT), user: PGUSER, password: PGPASSWORD, database: PGDATABASE };
}

export const isLoopback = (host: string) => ["127.0.0.1", "::1", "localhost"].includes(host);

function noDocker(name: string, { why, details }: Failure): Failure {
  const lastLine = details?.split("\n").at(-1);
  return new Failure(`Cannot ask Docker on ${name}`, lastLine ?? why, [`ssh ${name} docker ps`], {
    ...(details && { details }),
  });
}

function notRunning(name: string, next: string): Failure {
  return new Failure(
    `Cannot reach the database of ${name}`,
    "no container of the service postgres runs there",
    [next],
    {
      exitCode: exitCodes.saidNo,
      read: "docs/runbook/database-unhealthy.md",
    },
  );
}
