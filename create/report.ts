// What people and programs are told: the plan, what lies beside their files, and what to do next.
import { relative } from "node:path";
import type { Answers } from "./answers.ts";
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
  manager: PackageManager;
  /** As a person would type it after `cd`; "." for the current folder. */
  directory: string;
  /** What is installed on this machine. */
  hasRuntime: boolean;
  needsInstall: boolean;
  entries: readonly string[];
  conflicts: readonly string[];
};

/** Commands in the order to type them, `docker compose up` first: it needs nothing but Docker. */
export function nextCommands(plan: Plan, { answers, manager, directory, hasRuntime, needsInstall }: Circumstances) {
  const compare = plan.files.flatMap(({ action, path, write }) =>
    action === "beside" && path !== ".env" ? `diff ${path} ${write!.path}` : [],
  );
  const up = runWith(answers.runtime, "scripts/up.ts");
  return [
    ...(directory === "." ? [] : [`cd ${quoted(directory)}`]),
    ...compare,
    "docker compose up",
    ...(needsInstall ? [installCommand(manager).join(" ")] : []),
    hasRuntime ? runCommand(manager, "up") : `${runtimeFromPackage(manager)} ${up}`,
  ];
}

/** Sentences: what a command cannot do for them. */
export function nextNotes(plan: Plan, { answers, entries, conflicts }: Circumstances): string[] {
  const isBeside = (path: string) => plan.files.some((file) => file.path === path && file.action === "beside");
  const otherCompose = entries.filter((name) => /^(docker-compose\.ya?ml|compose\.yml)$/.test(name));
  return [
    ...conflicts,
    ...(isBeside(".env") ? [".env lacks names that Compose needs: take them over from .env.dbops"] : []),
    ...(isBeside("bunfig.toml") ? ["bunfig.toml needs env = false: Bun's own .env loader rewrites $ in values"] : []),
    ...otherCompose.map((name) => `${name} is no longer read: Docker Compose takes compose.yaml`),
    ...(answers.app ? [] : appNotes),
  ];
}

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
