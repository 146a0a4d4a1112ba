// What people and programs are told: the plan, what lies beside their files, and what to do next.
import { relative } from "node:path";
import type { Answers } from "./answers.ts";
import { isJsonObject, withoutMark } from "./merge.ts";
import type { Observed } from "./observe.ts";
import { installCommand, type PackageManager, runCommand, runtimeFromPackage } from "./package-manager.ts";
import type { Plan, PlannedFile } from "./plan.ts";
import { runWith } from "./render.ts";

/** One line for each file that is written; the others are only counted. */
export function formatPlan(directory: string, plan: Plan): string {
  const written = plan.files.filter(({ write }) => write);
  if (written.length === 0) return nothingToDo(directory);
  const head = `==> ${directory}: ${written.length} files to write, ${plan.files.length - written.length} stay as they are`;
  return [head, ...written.map(formatFile)].join("\n");
}

/** After the fact: what happened to files of theirs one by one, new ones only as a number. */
export function formatSummary(directory: string, plan: Plan): string {
  const written = plan.files.filter(({ write }) => write);
  if (written.length === 0) return nothingToDo(directory);
  const created = written.filter(({ action }) => action === "create");
  const others = written.filter(({ action }) => action !== "create");
  return [`==> ${directory}: ${created.length} files created`, ...others.map(formatFile)].join("\n");
}

const nothingToDo = (directory: string) => `==> ${directory}: nothing to do, everything is there`;

function formatFile({ action, path, write }: PlannedFile): string {
  return `  ${action.padEnd("overwrite".length)}  ${action === "beside" ? `${write!.path} (yours stays)` : path}`;
}

type Circumstances = {
  answers: Answers;
  /** The folder as it was before the plan. */
  observed: Observed;
  manager: PackageManager;
  /** As a person would type it after `cd`; "." for the current folder. */
  directory: string;
  /** What is installed on this machine. */
  hasRuntime: boolean;
  needsInstall: boolean;
};

/** Commands in the order to type them, `docker compose up` first: it needs nothing but Docker. */
export function nextCommands(plan: Plan, circumstances: Circumstances): string[] {
  const { answers, observed, manager, directory, hasRuntime, needsInstall } = circumstances;
  const beside = besideTheirs(plan, observed);
  // Theirs would start, or nothing: an app of theirs has no Dockerfile that fits yet.
  const isComplete = answers.app && !beside.includes("compose.yaml") && !beside.includes(".env");
  const up = runWith(answers.runtime, "scripts/up.ts");
  const upAsInstalled = isUpOurs(plan, circumstances) ? runCommand(manager, "up") : up;
  return [
    ...(directory === "." ? [] : [`cd ${quoted(directory)}`]),
    ...beside.flatMap((path) => (path === ".env" ? [] : [`diff ${path} ${path}.dbops`])),
    ...(isComplete ? ["docker compose up"] : []),
    ...(needsInstall ? [installCommand(manager).join(" ")] : []),
    hasRuntime ? upAsInstalled : `${runtimeFromPackage(manager)} ${up}`,
  ];
}

/** Files of theirs that ours lie beside, since now or since an earlier run. */
function besideTheirs(plan: Plan, { read }: Observed): string[] {
  const isBeside = ({ action, path }: PlannedFile) =>
    action === "beside" || (action === "keep" && read(`${path}.dbops`) !== undefined);
  return plan.files.filter(isBeside).map(({ path }) => path);
}

/** A script of theirs that is called `up` stays, and `npm run up` starts it. */
function isUpOurs(plan: Plan, { answers, observed, manager }: Circumstances): boolean {
  const [path, section, runtime] =
    manager === "deno" ? ["deno.json", "tasks", "deno" as const] : ["package.json", "scripts", answers.runtime];
  const planned = plan.files.find((file) => file.path === path);
  const text = planned?.write?.path === path ? planned.write.text : observed.read(path);
  if (text === undefined || !isJsonObject(text)) return false;
  return JSON.parse(withoutMark(text))[section]?.up === runWith(runtime, "scripts/up.ts");
}

/** Sentences: what a command cannot do for them. */
export function nextNotes(plan: Plan, { answers, observed }: Circumstances): string[] {
  const beside = besideTheirs(plan, observed);
  const isBeside = (path: string) => beside.includes(path);
  const isNewBunfig = plan.files.some(({ path, action }) => path === "bunfig.toml" && action === "create");
  const otherCompose = observed.entries.filter((name) => /^(docker-compose\.ya?ml|compose\.yml)$/.test(name));
  return [
    ...plan.conflicts,
    ...(isBeside("compose.yaml") ? [theirCompose] : []),
    ...(isBeside(".env") ? [".env lacks names that Compose needs: take them over from .env.dbops"] : []),
    ...(isBeside("bunfig.toml") ? ["bunfig.toml needs env = false: Bun's own .env loader rewrites $ in values"] : []),
    ...(isNewBunfig && !answers.app ? [newBunfig] : []),
    ...otherCompose.map((name) => `${name} is no longer read: Docker Compose takes compose.yaml`),
    ...(answers.app ? [] : appNotes),
  ];
}

const theirCompose = "compose.yaml is yours: `up` starts it as it is, so take over compose.yaml.dbops first";

const newBunfig =
  "bunfig.toml is new: with its env = false Bun no longer loads .env by itself; your own scripts need bun --env-file=.env";

const appNotes = [
  "no starter app was added: compose.yaml builds yours from a Dockerfile at the project's root",
  "your app listens on 0.0.0.0 and the port in PORT (3000), and stops on SIGTERM",
  "your app answers /health and /health/ready: healthRoutes() of scripts/validator.ts does it",
  "your Dockerfile has a HEALTHCHECK that asks /health/ready: nginx waits for it",
  "set app.command and schema.criticalTables in dbops.config.ts, and write your tables into migrations/",
];

export function formatNext(commands: readonly string[], notes: readonly string[]): string {
  return [
    ...(notes.length > 0 ? ["==> to know", ...notes.map((note) => `  ${note}`)] : []),
    "==> next",
    ...commands.map((command) => `  ${command}${explanations[command] ?? ""}`),
  ].join("\n");
}

const explanations: Record<string, string> = {
  "docker compose up": "   # everything, then: curl http://localhost:8080/health",
};

/** The folder as a person would type it from where they are. */
export function fromHere(directory: string, here: string): string {
  const path = relative(here, directory);
  if (path === "") return ".";
  if (path.startsWith("..")) return directory;
  return path.startsWith("-") ? `./${path}` : path;
}

/** One word for a POSIX shell. */
export const quoted = (text: string) => (/^[\w./@%+=:,-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
