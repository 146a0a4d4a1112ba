// Brings the whole stack up on this machine: postgres, migrations, app; with Docker (and nginx) if an engine answers,
// else as plain processes.   bun scripts/up.ts
// Never touches production, and never deletes data unless told --down --volumes.
import { type Arguments, parseArguments, usage } from "./lib/args.ts";
import { formatFailure } from "./lib/failure.ts";
import { packageMissing } from "./lib/packages.ts";
import { asTyped } from "./lib/runtime.ts";
import type { Engine, Project, Stack } from "./lib/stack.ts";
import { runIfMain } from "./lib/verb.ts";

const commandLine = {
  command: "bun scripts/up.ts",
  purpose: "Brings the stack up on this machine, and keeps its data: postgres, migrations, app.",
  flags: {
    engine: {
      value: "ENGINE",
      oneOf: ["docker", "embedded"],
      help: "instead of Docker if an engine answers, else embedded",
    },
    once: { help: "take it down again as soon as it has proven healthy" },
    down: { help: "stop it, also from another terminal; the data stays" },
    volumes: { help: "with --down: delete the data too" },
    plan: { help: "print what would be done, and do nothing" },
    yes: { help: "do not ask before data is deleted" },
    json: { help: "one JSON document on stdout: engine, url, seconds, health" },
  },
  examples: [
    "bun scripts/up.ts                         # http://localhost:8080/health",
    "bun scripts/up.ts --engine embedded       # without Docker, in the foreground until Ctrl-C",
    "HTTP_PORT=8081 bun scripts/up.ts          # beside another project",
    "bun scripts/up.ts --down --volumes        # start over",
  ],
  notes: [
    "Exit codes: 0 up, or stopped by Ctrl-C or --down after it was up; 1 something failed;",
    "2 flags, .env, migrations/ or a taken port; 3 the app is ready, and /health/database is not; 4 it runs already;",
    "5 deleting data was not confirmed, or .env is lost and data is there; 130 interrupted before it was up.",
  ].join("\n"),
} as const;

type Flags = Arguments<typeof commandLine>;

export async function main(argv: readonly string[]): Promise<void> {
  const flags = parseArguments(argv, commandLine);
  if (flags.volumes && !flags.down) throw usage(commandLine, "--volumes goes with --down only");
  const { loadConfig } = await import("./lib/config.ts").catch(packageMissing);
  const { readProject } = await import("./lib/stack.ts").catch(packageMissing);
  const directory = process.cwd();
  const project = await readProject(directory, await loadConfig(directory));
  await (flags.down ? down(project, flags) : up(project, flags));
}

async function up(project: Project, flags: Flags): Promise<void> {
  const { readVersions } = await import("./lib/validator-command.ts").catch(packageMissing);
  // dbmate would skip a file without a version, and say nothing.
  readVersions(project.directory);
  const choice = chooseEngine(flags.engine as Engine | undefined, await observeDockerEngine(flags));
  if (flags.plan) return printPlan(planUp(choice, project), flags);
  console.error(formatPlan(planUp(choice, project).slice(0, 1)));
  if (project.newEnvironment) await writeEnvironment(project, choice);
  await (choice.engine === "docker" ? upInContainers(project, flags) : upAsProcesses(project, flags));
}

async function writeEnvironment(project: Project, { engine }: Choice): Promise<void> {
  const { observeDocker } = await import("./lib/stack-docker.ts").catch(packageMissing);
  const { embeddedData } = await import("./lib/stack-embedded.ts").catch(packageMissing);
  const { writeNewEnvironment } = await import("./lib/new-environment.ts");
  const volumes = engine === "docker" ? (await observeDocker(project)).volumes : [];
  await writeNewEnvironment(project, [...volumes, ...(await embeddedData(project))]);
}

/** Containers go on when this process has ended. */
async function upInContainers(project: Project, flags: Flags): Promise<void> {
  const { upDocker, downDocker, downAfterError } = await import("./lib/stack-docker.ts").catch(packageMissing);
  const { interruption } = await import("./lib/wait.ts");
  const started = performance.now();
  const stack = await upDocker(project, interruption()).catch(async (error) => {
    if (flags.once) await downAfterError(project);
    throw error;
  });
  const { engine, url, health } = stack;
  const seconds = secondsSince(started);
  // Reported only then: with --json an error would be a second document.
  if (flags.once) await downDocker(project);
  report({ engine, url, seconds, health }, project, flags);
}

/** Processes end with this one, which stays until somebody ends it or one of them breaks. */
async function upAsProcesses(project: Project, flags: Flags): Promise<void> {
  const { upEmbedded } = await import("./lib/stack-embedded.ts").catch(packageMissing);
  const { interruption, untilAborted } = await import("./lib/wait.ts");
  const interrupted = interruption();
  const started = performance.now();
  const stack = await upEmbedded(project, interrupted, flags.json ? console.error : console.log);
  const { engine, url, health } = stack;
  const seconds = secondsSince(started);
  if (flags.once) await stack.stop();
  report({ engine, url, seconds, health }, project, flags);
  const broken = flags.once ? undefined : await Promise.race([stack.broken, untilAborted(interrupted)]);
  await stack.stop();
  if (!broken) return;
  // Not thrown: with --json the one document is out already.
  console.error(formatFailure(broken));
  process.exit(broken.exitCode);
}

async function down(project: Project, flags: Flags): Promise<void> {
  const docker = await import("./lib/stack-docker.ts").catch(packageMissing);
  const embedded = await import("./lib/stack-embedded.ts").catch(packageMissing);
  const { confirm } = await import("./lib/terminal.ts");
  const { notInstalled, requireDocker } = await import("./lib/docker.ts").catch(packageMissing);
  const whyNoDocker = await observeDockerEngine(flags);
  const useDocker = chooseEngine(flags.engine as Engine | undefined, whyNoDocker).engine === "docker";
  // Without Docker there are no containers; behind an engine that only does not answer there may be some.
  const unseen = flags.engine || whyNoDocker === notInstalled ? undefined : whyNoDocker;
  if (flags.volumes) requireDocker(unseen, withoutDocker(flags));
  const found: Found = {
    ...(unseen && { unseen }),
    ...(useDocker ? await docker.observeDocker(project) : { containers: [], volumes: [] }),
    ...(flags.engine === "docker" ? { running: false, folders: [] } : await embedded.observeEmbedded(project)),
  };
  const steps = planDown(found, flags.volumes);
  if (flags.plan) return printPlan(steps, flags);
  const lost = flags.volumes ? [...found.volumes, ...found.folders] : [];
  if (lost.length > 0 && !flags.yes) {
    const text = `This deletes the database of ${project.config.name} for good: ${lost.join(", ")}`;
    await confirm({ text, answer: project.config.name, flag: "--yes" });
  }
  if (flags.engine !== "docker") await embedded.downEmbedded(project, flags.volumes);
  if (useDocker) await docker.downDocker(project, { volumes: flags.volumes });
  printPlan(steps, flags);
}

type Choice = { engine: Engine; because: string };

/** Only where the answer matters: asking a Docker that hangs takes its time. */
async function observeDockerEngine(flags: Flags): Promise<string | undefined> {
  if (flags.engine === "embedded") return undefined;
  const { requireDocker, whyNoDocker } = await import("./lib/docker.ts").catch(packageMissing);
  const why = await whyNoDocker();
  if (flags.engine === "docker") requireDocker(why, withoutDocker(flags));
  return why;
}

const withoutDocker = ({ down, volumes }: Flags) =>
  ["bun scripts/up.ts --engine embedded", ...(down ? ["--down"] : []), ...(volumes ? ["--volumes"] : [])].join(" ");

/** @param whyNoDocker undefined when Docker answers. */
export function chooseEngine(wanted: Engine | undefined, whyNoDocker: string | undefined): Choice {
  if (wanted) return { engine: wanted, because: "as asked" };
  return whyNoDocker
    ? { engine: "embedded", because: whyNoDocker }
    : { engine: "docker", because: "an engine answers" };
}

export function planUp({ engine, because }: Choice, { config, database, httpPort, environment }: Project): string[] {
  const app = `app: ${config.app.command.join(" ")}`;
  return [
    `up ${config.name}: engine ${engine}, ${because}`,
    `postgres: database ${database.database} on 127.0.0.1:${database.port}, its data is kept`,
    "dbmate: what is pending in migrations/",
    ...(engine === "docker"
      ? [`app: ${environment.APP_IMAGE || "built from its Dockerfile"}`, `nginx: http://localhost:${httpPort}`]
      : [`${app}, http://localhost:${httpPort}`]),
  ];
}

export type Found = {
  /** Why containers and volumes were not looked at, although there may be some. */
  unseen?: string;
  containers: readonly string[];
  volumes: readonly string[];
  running: boolean;
  folders: readonly string[];
};

export function planDown({ unseen, containers, volumes, running, folders }: Found, deleteData: boolean): string[] {
  const steps = [
    ...(running ? ["stop app and postgres"] : []),
    ...(containers.length > 0 ? [`remove containers: ${containers.join(", ")}`] : []),
    ...(deleteData
      ? [...volumes.map((name) => `delete volume ${name}`), ...folders.map((folder) => `delete ${folder}`)]
      : []),
    ...(unseen ? [`containers and volumes were not looked at: ${unseen}`] : []),
  ];
  return steps.length > 0 ? steps : ["nothing to do"];
}

const formatPlan = (steps: readonly string[]) => steps.map((step) => `==> ${step}`).join("\n");

function printPlan(steps: readonly string[], flags: Flags): void {
  console.log(flags.json ? JSON.stringify({ steps }) : formatPlan(steps));
}

function report(stack: Stack, project: Project, flags: Flags): void {
  console.log(flags.json ? JSON.stringify(stack) : formatStack(stack, project));
}

/** What people see when it is up. */
export function formatStack({ engine, url, seconds, health }: Stack, { config }: Project): string {
  const lines = [
    `${config.name} is up at ${url} (${engine}, ${seconds} s)`,
    `  health: ${JSON.stringify(health)}`,
    `  next: curl ${url}/health/database`,
    "  next: bun scripts/validator.ts   # the database against migrations/",
    `  next: bun scripts/up.ts --down   # the data stays${engine === "embedded" ? "; Ctrl-C does the same" : ""}`,
  ];
  return asTyped(lines.join("\n"));
}

const secondsSince = (started: number) => Math.round((performance.now() - started) / 100) / 10;

await runIfMain(import.meta, main);
