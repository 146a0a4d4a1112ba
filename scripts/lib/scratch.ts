// A Postgres to try migrations in, of the same image as the real one, with the same owner and roles; thrown away afterwards. By default
// a container without a network; where there is no Docker, databases of their own on a server that a URL names.
import { randomBytes } from "node:crypto";
import type { Settings } from "./config.ts";
import { exitCodes, Failure } from "./failure.ts";
import { openPlace, type Place } from "./place.ts";
import type { Progress } from "./progress.ts";
import { inDatabase, openPsql, type Psql, quoteIdentifier } from "./psql.ts";
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
  /** For programs: `pg_dump` of the server's own version. */
  place: Place;
  versionNumber: number;
  /** Does the work in a new, empty database. */
  inNew<T>(work: (psql: Psql, database: string) => Promise<T>): Promise<T>;
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
  /** Instead of a container. Its user may create databases; owners are that user then. */
  url?: string | undefined;
  /** Instead of that of compose.yaml. */
  image?: string | undefined;
  progress: Progress;
  interrupted: AbortSignal;
};

/** @throws {Failure} exit 1 when this machine cannot have one, 2 when nothing says of which image. */
export async function openScratch(wanted: Wanted): Promise<Scratch> {
  const { settings, directory, url, interrupted } = wanted;
  if (url !== undefined) {
    const place = await openPlace({ settings, directory, on: "local", url }, interrupted);
    return await describe(place, [], wanted.interrupted, place.close);
  }
  const container = await wanted.progress.step("scratch", () => startScratch(wanted));
  const close = async () => {
    const left = await container.remove();
    if (left) wanted.progress.note(`warning: the container could not be removed; next: ${left}`);
  };
  try {
    return await describe(container.place, wanted.roles ?? [], interrupted, close);
  } catch (error) {
    await close();
    throw error;
  }
}

async function startScratch({ what, settings, directory, owner, image: asked, interrupted }: Wanted) {
  await requireEngine(what);
  const stack = await readStack(directory);
  const image = asked ?? stack.postgres;
  if (!image) {
    const why = "compose.yaml does not name the image of its service postgres in plain words";
    throw new Failure(what, why, ["the same command with --image IMAGE"], { exitCode: exitCodes.usage });
  }
  await removeContainers(await findLeftovers("scratch", settings.name, new Date()));
  if (!(await hasImage(image))) await pullImage(image, interrupted);
  const { name: project } = settings;
  return await startContainer(
    { purpose: "scratch", project, image, command: stack.command ?? [], superuser: owner },
    interrupted,
  );
}

async function describe(
  place: Place,
  roles: readonly string[],
  interrupted: AbortSignal,
  close: () => Promise<void>,
): Promise<Scratch> {
  const admin = await openPsql(place, "postgres");
  const made: string[] = [];
  try {
    const [server] = await admin.rows<{ versionNumber: number }>(
      `select current_setting('server_version_num')::int as "versionNumber"`,
    );
    const others = roles.filter((role) => role !== place.user && !role.startsWith("pg_"));
    if (others.length > 0) await admin.execute(others.map((role) => `create role ${quoteIdentifier(role)}`).join(";"));
    return {
      place,
      versionNumber: server!.versionNumber,
      async inNew(work) {
        const database = `dbops_scratch_${randomBytes(4).toString("hex")}`;
        await admin.execute(`create database ${quoteIdentifier(database)} template template0`, 120);
        made.push(database);
        return await inDatabase(place, database, interrupted, (psql) => work(psql, database));
      },
      async close() {
        for (const database of made) {
          await admin.execute(`drop database if exists ${quoteIdentifier(database)} with (force)`).catch(() => {});
        }
        await admin.close();
        await close();
      },
    };
  } catch (error) {
    await admin.close();
    throw error;
  }
}
