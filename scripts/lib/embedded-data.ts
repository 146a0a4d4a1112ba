// The data directory of an embedded Postgres: made whole or not at all, and freed from what a killed process has left.
import { chown, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Home } from "./embedded-home.ts";
import { writeSecretFile } from "./environment.ts";
import { Failure } from "./failure.ts";
import { commandLine, identify, stopProcess } from "./process.ts";
import { start } from "./run.ts";
import { within } from "./wait.ts";

type Owner = { user: string; password: string; interrupted: AbortSignal; settings?: Readonly<Record<string, string>> };

const initializeSeconds = 120;
/** A full disk is the usual reason. */
const retry = ["df -h .dbops", "bun scripts/up.ts"];
/** A fast shutdown ends connections at once; what takes time is writing everything to disk. */
export const stopSeconds = 20;

/**
 * Stops a postgres that runs on this data because its starter was killed. A lock file that names a dead process is left
 * to Postgres: it knows whether one of its children still works on the data.
 * @returns whether there was one.
 */
export async function stopLeftover(data: string): Promise<boolean> {
  const lockFile = join(data, "postmaster.pid");
  const pid = Number((await readFile(lockFile, "utf8").catch(() => "")).split("\n")[0]);
  const command = pid ? await commandLine(pid) : "";
  const found = command.includes(data) ? await identify(pid) : undefined;
  if (found) return await stopProcess(found, "SIGINT", stopSeconds);
  // After a power cut the number may belong to any program by now, and Postgres would refuse to start because of it.
  if (command && !command.includes("postgres")) await rm(lockFile, { force: true });
  return false;
}

/** Beside the data's place, then renamed into it: an initdb that was killed is never taken for a database. */
export async function initialize(home: Home, data: string, options: Owner): Promise<void> {
  const unfinished = join(home.directory, "data.unfinished");
  const passwordFile = join(home.directory, "password");
  await rm(unfinished, { recursive: true, force: true });
  await rm(passwordFile, { force: true });
  await writeSecretFile(passwordFile, options.password);
  try {
    if (home.user) await chown(passwordFile, home.user.uid, home.user.gid);
    const lines: string[] = [];
    const initdb = await start({
      argv: [
        join(home.programs, "initdb"),
        `--pgdata=${unfinished}`,
        `--username=${options.user}`,
        `--pwfile=${passwordFile}`,
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        // The same letters and order on every machine, whatever locales it has installed.
        "--locale=C",
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
        "--data-checksums",
        ...(options.settings?.fsync === "off" ? ["--no-sync"] : []),
      ],
      directory: home.directory,
      onLine: (line) => lines.push(line),
      ownGroup: true,
      ...(home.user && { user: home.user }),
    });
    const code = await within({ seconds: initializeSeconds, interrupted: options.interrupted }, initdb.ended, {
      what: "initdb",
      next: retry,
    }).finally(() => initdb.stop("SIGTERM", 5));
    if (code !== 0)
      throw new Failure("Cannot create the database files", `initdb ended with ${code}`, retry, {
        details: lines.join("\n"),
      });
    await rename(unfinished, data);
  } finally {
    await rm(passwordFile, { force: true });
  }
}
