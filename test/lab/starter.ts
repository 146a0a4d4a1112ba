// A project with the starter app as a user has it, in a folder of its own, and the app as a process on either runtime.
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { readMigrations } from "../../scripts/lib/migration-file.ts";
import { runDbmate } from "../../scripts/lib/migration-run.ts";
import { directPlace } from "../../scripts/lib/place.ts";
import { run, start } from "../../scripts/lib/run.ts";
import { poll } from "../../scripts/lib/wait.ts";
import { freePort, type TestPostgres } from "./postgres.ts";
import { linkPackages, writeProjectFiles } from "./project-files.ts";
import { programs } from "./repository.ts";

export type Runtime = "bun" | "deno";

export type Project = { directory: string; remove(): Promise<void> };

export async function writeProject(): Promise<Project> {
  const { directory } = await writeProjectFiles();
  await linkPackages(directory);
  return { directory, remove: () => rm(directory, { recursive: true, force: true }) };
}

export async function applyMigrations(server: TestPostgres, project: Project): Promise<void> {
  const { directory } = project;
  const files = await readMigrations(directory);
  const interrupted = new AbortController().signal;
  const words = ["up", "--strict"] as const;
  const place = directPlace(server, "local");
  const { code, lines } = await runDbmate({ place, directory, files, words, interrupted, onLine: () => {} });
  if (code !== 0) throw new Error(lines.join("\n"));
}

/** How the app and the validator's command find the server. */
export function asEnvironment(server: TestPostgres): Record<string, string> {
  const { host, port, user, password, database } = server;
  return { PGHOST: host, PGPORT: `${port}`, PGUSER: user, PGPASSWORD: password, PGDATABASE: database };
}

/** Programs of the repository, so that nothing has to be on PATH. */
export function runTypeScript(runtime: Runtime, file: string): string[] {
  const program = join(programs, runtime);
  return runtime === "bun" ? [program, file] : [program, "run", "-A", "--quiet", file];
}

/** The validator's command in a project: its exit code and output. */
export async function runValidator(project: Project, environment: Record<string, string>, argv: string[] = []) {
  return await run({
    argv: [...runTypeScript("bun", "scripts/validator.ts"), ...argv],
    directory: project.directory,
    environment,
    accept: [0, 2, 3],
  });
}

export type App = {
  url: string;
  port: number;
  /** Whole lines of stdout and stderr so far. */
  lines: string[];
  ended: Promise<number | NodeJS.Signals>;
  signal(name: NodeJS.Signals): void;
  /** SIGTERM, and SIGKILL if it has not ended after 15 s. */
  stop(): Promise<void>;
};

/** Starts the app; it need not come up, see `untilListening`. */
export async function startApp(
  project: Project,
  runtime: Runtime,
  environment: Record<string, string | undefined>,
): Promise<App> {
  const port = await freePort();
  const lines: string[] = [];
  const program = await start({
    argv: runTypeScript(runtime, "app/main.ts"),
    directory: project.directory,
    environment: { HEALTH_TOKEN: undefined, RELEASE: undefined, ...environment, PORT: `${port}` },
    onLine: (line) => lines.push(line),
  });
  return {
    url: `http://127.0.0.1:${port}`,
    port,
    lines,
    ended: program.ended,
    signal: (name) => process.kill(program.pid, name),
    stop: () => program.stop("SIGTERM", 15),
  };
}

export async function untilListening(app: App): Promise<void> {
  const listening = await poll({ seconds: 20 }, async () => app.lines.some(isListening) || undefined);
  if (!listening) throw new Error(`The app does not listen:\n${app.lines.join("\n")}`);
}

const isListening = (line: string) => line.includes('"message":"listening"');

export type Answer = { code: number; body: Record<string, unknown>; milliseconds: number };

/** One GET. A route that takes longer than 5 s is a failure by itself. */
export async function get(url: string, headers: Record<string, string> = {}): Promise<Answer> {
  const started = performance.now();
  const response = await fetch(url, { headers, signal: AbortSignal.timeout(5000) });
  const body = (await response.json()) as Record<string, unknown>;
  return { code: response.status, body, milliseconds: performance.now() - started };
}

/** Asks until the answer has this code, and says how long that took. */
export async function untilCode(url: string, code: number, seconds: number): Promise<number> {
  const started = performance.now();
  const found = await poll({ seconds }, async () => ((await get(url)).code === code ? true : undefined));
  if (!found) throw new Error(`${url} has not answered ${code} within ${seconds} s`);
  return (performance.now() - started) / 1000;
}
