// Brings an image live on the server without a failed request: beside what serves, checked, switched, watched; and back by
// itself when anything is wrong.   bun scripts/deploy.ts --image ghcr.io/me/app:SHA
// Never touches the data, and never the live release before the new one has proven itself. bun scripts/rollback.ts takes it back.
import { type Arguments, parseArguments, usage } from "./lib/args.ts";
import type { Settings } from "./lib/config.ts";
import { formatPlan, type Wanted } from "./lib/deploy-plan.ts";
import type { Outcome } from "./lib/deploy-run.ts";
import { packageMissing } from "./lib/packages.ts";
import { formatTimes, type Progress } from "./lib/progress.ts";
import { formsOf } from "./lib/redact.ts";
import type { Release } from "./lib/release.ts";
import { asTyped } from "./lib/runtime.ts";
import type { Server } from "./lib/ssh.ts";
import type { About } from "./lib/tell.ts";
import { runIfMain } from "./lib/verb.ts";

const commandLine = {
  command: "bun scripts/deploy.ts",
  purpose: "Brings an image live on the server without a failed request, and goes back by itself if anything is wrong.",
  flags: {
    image: { value: "IMAGE", help: "what to deploy; with a digest (name@sha256:…) it is the same bytes for ever" },
    build: { help: "build the image here instead, from the Dockerfile of compose.yaml" },
    transfer: {
      value: "HOW",
      oneOf: ["registry", "ssh"],
      help: "how it gets to the server (default: registry; with --build: ssh)",
    },
    "allow-downtime": { help: "also where nginx, postgres or another service has to be recreated for it" },
    rehearse: { help: "try pending migrations on a restored backup first; above the limits nothing is deployed" },
    "no-backup": { help: "migrate without backing up the database first" },
    wait: { value: "SECONDS", default: "30", help: "how long to wait for another deploy, or migration, to end" },
    history: { help: "what was deployed so far" },
    plan: { help: "print what would be done, and do nothing" },
    on: { value: "ENVIRONMENT", oneOf: ["production"], default: "production", help: "where" },
    yes: { help: "accepted for uniformity: a deploy asks nothing" },
    json: { help: "one JSON document on stdout: the release, or the plan, or the history" },
  },
  examples: [
    "bun scripts/deploy.ts --image ghcr.io/me/app:4f2c1ab",
    "bun scripts/deploy.ts --build                           # no registry: the image travels over SSH",
    "bun scripts/deploy.ts --image ghcr.io/me/app:4f2c1ab --plan",
    "bun scripts/rollback.ts                                 # the release before",
  ],
  notes: [
    "Environment: DBOPS_SSH_KEY_FILE (else ssh chooses the key), DBOPS_REGISTRY_USER and DBOPS_REGISTRY_PASSWORD",
    "(a login for the pull that leaves nothing on the server), and what the provider of the secrets needs.",
    "Exit codes: 0 it serves, or served already; 1 it failed, and the message says what serves; 2 flags, configuration, values;",
    "3 the server is not fit, or the rehearsal above its limits; 4 another deploy, or a backup, is at work; 5 it would interrupt the service, or the server is not the",
    "one that is known; 130 interrupted: taken back, or the server is at it, and the message says which.",
  ].join("\n"),
} as const;

type Flags = Arguments<typeof commandLine>;

export async function main(argv: readonly string[]): Promise<void> {
  const flags = parseArguments(argv, commandLine);
  const waitSeconds = Number(flags.wait);
  if (!/^\d{1,6}$/.test(flags.wait)) throw usage(commandLine, `--wait takes seconds, not "${flags.wait}"`);
  if (flags.history && (flags.image || flags.build))
    throw usage(commandLine, "--history only prints what was deployed: no --image or --build with it");
  if (!flags.history && !flags.image === !flags.build) throw usage(commandLine, "it takes either --image or --build");
  const { loadConfig } = await import("./lib/config.ts").catch(packageMissing);
  const { serverOf } = await import("./lib/ssh.ts");
  const directory = process.cwd();
  const settings = await loadConfig(directory);
  const server = serverOf(settings, directory);
  await (flags.history
    ? history(settings, server, flags)
    : deploy({ settings, server, directory, waitSeconds, flags }));
}

type Request = { settings: Settings; server: Server; directory: string; waitSeconds: number; flags: Flags };

async function deploy({ settings, server, directory, waitSeconds, flags }: Request): Promise<void> {
  const { runDeploy } = await import("./lib/deploy-run.ts").catch(packageMissing);
  const { createProgress } = await import("./lib/progress.ts");
  const { interruption } = await import("./lib/wait.ts");
  const { actor } = await import("./lib/actor.ts");
  const { registryLogin } = await import("./lib/registry-login.ts");
  const registry = registryLogin(process.env);
  const now = new Date();
  const interrupted = interruption();
  const progress = createProgress();
  const about: About = {
    what: "deploy",
    settings,
    directory,
    planOnly: flags.plan,
    who: actor(),
    image: flags.image,
    secrets: formsOf(registry ? [registry.password] : []),
    values: process.env,
    progress,
  };
  const { secrets, values, files, image, session } = await prepare(about, server, flags, interrupted);
  const wanted: Wanted = {
    ...image,
    configHash: files.configHash,
    migrations: files.migrations,
    settings,
    now: now.getTime() / 1000,
    // A plan shows what it would interrupt.
    allowDowntime: flags["allow-downtime"] || flags.plan,
    noBackup: flags["no-backup"],
    rehearse: flags.rehearse,
    directory: placeOf(settings).directory,
  };
  const outcome = await runDeploy({
    session,
    server,
    settings,
    directory,
    wanted,
    tar: files.tar,
    migrationFiles: files.migrationFiles,
    upstream: files.upstream,
    registry,
    waitSeconds,
    planOnly: flags.plan,
    who: about.who,
    at: now.toISOString(),
    secrets,
    values,
    progress,
    interrupted,
  }).finally(() => session.close());
  report(outcome, wanted, server, progress, flags);
}

/** Everything is read, checked and built before the server hears of it. Whoever wants to know of a failure is told of this one too. */
async function prepare(about: About, server: Server, flags: Flags, interrupted: AbortSignal) {
  const { readServerEnvironment } = await import("./lib/server-environment.ts").catch(packageMissing);
  const { readReleaseFiles, releaseEnvironment } = await import("./lib/release-files.ts");
  const { requireOneName } = await import("./lib/domain.ts");
  const { prepareImage } = await import("./lib/image.ts");
  const { openSession } = await import("./lib/session.ts");
  const { orTell } = await import("./lib/tell.ts");
  const { settings, directory, progress } = about;
  const readSecrets = () => progress.step("secrets", () => readServerEnvironment(settings, directory));
  const read = await orTell(about, readSecrets, ".env.tpl");
  const secrets = [...read.secrets, ...about.secrets];
  const values = { ...read.values, ...process.env };
  return await orTell({ ...about, secrets, values }, async () => {
    const files = await readReleaseFiles(directory, releaseEnvironment(read.values, read.secretNames));
    const { domain } = settings.environments.production!;
    requireOneName({ domain, serverNames: files.serverNames, certificateName: read.values.DOMAIN! });
    const image = await prepareImage({ settings, directory, flags, progress, interrupted });
    const session = await progress.step("connect", () => openSession({ server, ...placeOf(settings) }));
    return { secrets, values, files, image, session };
  });
}

const placeOf = ({ name, environments }: Settings) => ({
  project: name,
  directory: environments.production!.directory,
});

function report({ plan, release }: Outcome, wanted: Wanted, server: Server, progress: Progress, flags: Flags): void {
  if (flags.plan) {
    console.log(flags.json ? JSON.stringify(plan) : formatPlan(plan, wanted, server.host));
  } else if (!release) {
    const serving = { outcome: "nothing to do", release: plan.previous!.release, image: wanted.image };
    console.log(flags.json ? JSON.stringify(serving) : `Release ${serving.release} serves exactly this already.`);
  } else {
    console.error(formatTimes(progress.seconds()));
    console.log(flags.json ? JSON.stringify(release) : asTyped(formatRelease(release)));
  }
}

export function formatRelease({ release, image, slot, schemaVersion, seconds, previous, backup }: Release): string {
  return [
    `Release ${release} serves ${image} from ${slot}, after ${seconds.toFixed(1)} s; schema ${schemaVersion || "without migrations"}`,
    ...(backup ? [`  the database before its migrations: backup ${backup}`] : []),
    ...(previous > 0 ? [`  back: bun scripts/rollback.ts      # to release ${previous}`] : []),
    "  next: bun scripts/deploy.ts --history",
  ].join("\n");
}

/** What the server has recorded. Changes nothing, and waits for nobody. */
async function history(settings: Settings, server: Server, flags: Flags): Promise<void> {
  const { openSession } = await import("./lib/session.ts");
  const { formatHistory, parseHistory } = await import("./lib/release.ts");
  const session = await openSession({ server, ...placeOf(settings) });
  const { stdout } = await session.call(["history"]).finally(() => session.close());
  const { live, records } = parseHistory(stdout);
  console.log(flags.json ? JSON.stringify({ live, records }) : formatHistory(records, live));
}

await runIfMain(import.meta, main);
