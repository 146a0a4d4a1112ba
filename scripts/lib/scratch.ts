// A Postgres to try migrations in, of the same image as the real one, with the same owner and roles; thrown away afterwards. By default
// a container without a network; where there is no Docker, databases of their own on a server that a URL names.
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import type { Settings } from "./config.ts";
import { readEnvironment } from "./environment.ts";
import { exitCodes, Failure } from "./failure.ts";
import { scratchName } from "./migration-replay.ts";
import { openPlace, type Place } from "./place.ts";
import type { Progress } from "./progress.ts";
import { inDatabase, openPsql, type Psql, quoteIdentifier, quoteLiteral, SqlError } from "./psql.ts";
import { type Roles, watchRoles } from "./scratch-roles.ts";
import {
  findLeftovers,
  hasImage,
  pullImage,
  readStack,
  removeContainers,
  requireEngine,
  startContainer,
} from "./throwaway.ts";

export type Scratch = {
  /** For programs: in the container they are of the server's own version. */
  place: Place;
  versionNumber: number;
  /** Does the work in a new, empty database, which stays until the end. */
  inNew<T>(work: (psql: Psql, database: string) => Promise<T>): Promise<T>;
  /** The same in one that was made before, in a session of its own. */
  inSame<T>(database: string, work: (psql: Psql) => Promise<T>): Promise<T>;
  close(): Promise<void>;
};

type Wanted = {
  /** What cannot be done without it, for messages: "Cannot check the structure". */
  what: string;
  settings: Settings;
  directory: string;
  /** Owns everything, as in the real database. */
  owner: string;
  /** Others that the migrations may name. They cannot log in. */
  roles?: readonly string[];
  /** Instead of a container. Its user may create databases, and owns everything; roles are not made there. */
  url?: string | undefined;
  /** Instead of that of compose.yaml. */
  image?: string | undefined;
  /** Of the server that it is to be like, where there is one: of another major the catalogs differ by themselves. */
  versionNumber?: number;
  progress: Progress;
  interrupted: AbortSignal;
};

/** Who owns the databases that this project makes: for those who have no database at hand that could be asked. */
export async function usualOwner(settings: Settings, directory: string): Promise<string> {
  return (await readEnvironment(join(directory, ".env"))).POSTGRES_USER ?? settings.database;
}

/** @throws {Failure} exit 1 when this machine cannot have one, 2 when nothing says of which image, or the URL cannot be used. */
export async function openScratch(wanted: Wanted): Promise<Scratch> {
  const { url, roles = [], progress, interrupted } = wanted;
  if (url !== undefined) {
    const place = await placeOfUrl(wanted, url);
    const remove: End = async ({ made, admin, left }) => {
      await removeDatabases(admin, made);
      for (const why of (await left?.remove()) ?? []) {
        progress.note(`warning: a role that a migration has made stays on ${place.name}: ${why}`);
      }
      await place.close();
    };
    const check = (own: number) => requireLike(own, wanted, (major) => `--scratch-url URL, of a Postgres ${major}`);
    return await withDatabases({ place, roles: [], stays: true, check, interrupted }, remove).catch(async (error) => {
      await place.close();
      throw error;
    });
  }
  const { container, image } = await progress.step("scratch", () => startScratch(wanted));
  const remove = async () => {
    const left = await container.remove();
    if (left) progress.note(`warning: the container could not be removed; next: ${left}`);
  };
  try {
    const check = (own: number) => requireLike(own, wanted, (major) => `--image ${ofMajor(image, major)}`);
    return await withDatabases({ place: container.place, roles, stays: false, check, interrupted }, remove);
  } catch (error) {
    await remove();
    throw error;
  }
}

/** "postgres:18.4-alpine" is "postgres:17-alpine" then. */
const ofMajor = (image: string, major: number) =>
  image.replace(/@.*$/, "").replace(/(?::\d[\d.]*([^:/]*)|:[^:/]*)?$/, `:${major}$1`);

/** @throws {Failure} exit 2 where it is of another major version. */
function requireLike(
  own: number,
  { what, versionNumber: wanted = own }: Wanted,
  instead: (major: number) => string,
): void {
  const [ownMajor, major] = [Math.floor(own / 10_000), Math.floor(wanted / 10_000)];
  if (ownMajor === major) return;
  const why = `the Postgres to try the files in is of version ${ownMajor}, the database of ${major}`;
  throw new Failure(what, why, [`the same command with ${instead(major)}`], { exitCode: exitCodes.usage });
}

async function placeOfUrl({ settings, directory, interrupted }: Wanted, url: string): Promise<Place> {
  const ours = (text: string) => text.replaceAll("--database-url", "--scratch-url");
  return await openPlace({ settings, directory, on: "local", url }, interrupted).catch((error) => {
    if (!(error instanceof Failure)) throw error;
    throw new Failure(ours(error.what), error.why, error.next.map(ours), { exitCode: error.exitCode });
  });
}

async function startScratch({ what, settings, directory, owner, image: asked, interrupted }: Wanted) {
  const reading = readStack(directory);
  // Without Docker it fails as well, and says less about it.
  reading.catch(() => {});
  await requireEngine(what);
  const stack = await reading;
  const image = asked ?? stack.postgres;
  if (!image) {
    const why = "compose.yaml does not name the image of its service postgres in plain words";
    throw new Failure(what, why, ["the same command with --image IMAGE"], { exitCode: exitCodes.usage });
  }
  await removeContainers(await findLeftovers("scratch", settings.name, new Date()));
  if (!(await hasImage(image))) await pullImage(image, interrupted);
  const { name: project } = settings;
  const command = [...(stack.command ?? []), ...settingsOfOurs.flatMap((setting) => ["-c", setting])];
  const container = await startContainer(
    { purpose: "scratch", project, image, command, superuser: owner },
    interrupted,
  );
  return { container, image };
}

/** Nobody needs what is in it after a power cut; and a session in it can see where it is. */
const settingsOfOurs = ["fsync=off", "synchronous_commit=off", "full_page_writes=off", `cluster_name=${scratchName}`];

type Server = {
  place: Place;
  roles: readonly string[];
  /** It is not thrown away at the end. */
  stays: boolean;
  /** Throws where the server is of a version that does not fit. */
  check: (versionNumber: number) => void;
  interrupted: AbortSignal;
};

type End = (what: { made: readonly string[]; admin: Psql; left: Roles | undefined }) => Promise<void>;

/** @param end ends the server, or takes the databases away from it, by the session that is handed over. */
async function withDatabases({ place, roles, stays, check, interrupted }: Server, end: End): Promise<Scratch> {
  const admin = await openPsql(place);
  const made: string[] = [];
  try {
    const [server] = await admin.rows<{ versionNumber: number }>(
      `select current_setting('server_version_num')::int as "versionNumber"`,
    );
    check(server!.versionNumber);
    await removeDatabases(admin, await abandoned(admin));
    const others = [...new Set(roles)].filter((role) => role !== place.user && !role.startsWith("pg_"));
    if (others.length > 0) await admin.execute(others.map((role) => `create role ${quoteIdentifier(role)}`).join(";"));
    const left = stays ? watchRoles(admin) : undefined;
    const inOne = <T>(database: string, work: (psql: Psql) => Promise<T>) =>
      inDatabase(place, database, interrupted, async (psql) => await work(left ? await left.watch(psql) : psql));
    return {
      place,
      versionNumber: server!.versionNumber,
      async inNew(work) {
        interrupted.throwIfAborted();
        const database = nameOf(new Date());
        made.push(database);
        await admin.execute(`create database ${quoteIdentifier(database)} template template0`, 120).catch((error) => {
          throw error instanceof SqlError && error.code === "42501" ? mayNot(place, error) : error;
        });
        return await inOne(database, (psql) => work(psql, database));
      },
      inSame: inOne,
      async close() {
        await end({ made, admin, left }).finally(() => admin.close());
      },
    };
  } catch (error) {
    await admin.close();
    throw error;
  }
}

const mayNot = ({ name, user }: Place, { why }: SqlError) =>
  new Failure(`Cannot make a database on ${name}`, why, [`alter role ${quoteIdentifier(user)} createdb`], {
    exitCode: exitCodes.usage,
  });

/** "dbops_scratch_20261121140000_4f2c1a2b", in UTC. */
const nameOf = (now: Date) =>
  `dbops_scratch_${now.toISOString().replaceAll(/\D/g, "").slice(0, 14)}_${randomBytes(4).toString("hex")}`;

const abandonedHours = 24;

/** By a run that was killed, on a server that stays: so old that it cannot be one that goes on. */
async function abandoned(admin: Psql): Promise<string[]> {
  const oldest = nameOf(new Date(Date.now() - abandonedHours * 3_600_000));
  const rows = await admin.rows<{ name: string }>(
    `select datname as name from pg_database where datname ~ '^dbops_scratch_[0-9]{14}_[0-9a-f]{8}$' and datname < ${quoteLiteral(oldest)}`,
  );
  return rows.map(({ name }) => name);
}

async function removeDatabases(admin: Psql, names: readonly string[]): Promise<void> {
  for (const name of names) await admin.execute(`drop database if exists ${quoteIdentifier(name)} with (force)`, 120);
}
