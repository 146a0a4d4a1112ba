// Brings an earlier release live again, the same way as a deploy: beside what serves, checked, switched, watched.
//   bun scripts/rollback.ts            the release before            bun scripts/rollback.ts --to 7
// The data stays as it is: a release that cannot work with the schema of today is refused.
import { type Arguments, parseArguments, usage } from "./lib/args.ts";
import { formatPlan, type Wanted } from "./lib/deploy-plan.ts";
import type { Outcome } from "./lib/deploy-run.ts";
import { packageMissing } from "./lib/packages.ts";
import { formatTimes, type Progress } from "./lib/progress.ts";
import { formsOf } from "./lib/redact.ts";
import type { RegistryLogin } from "./lib/registry-login.ts";
import {
  backupFor,
  chooseTarget,
  formatHistory,
  parseHistory,
  type Release,
  restoreCommand,
  successes,
} from "./lib/release.ts";
import { asTyped } from "./lib/runtime.ts";
import type { Session } from "./lib/session.ts";
import type { Server } from "./lib/ssh.ts";
import type { About } from "./lib/tell.ts";
import { runIfMain } from "./lib/verb.ts";

const commandLine = {
  command: "bun scripts/rollback.ts",
  purpose: "Brings an earlier release live again without a failed request. The data stays as it is.",
  flags: {
    to: { value: "RELEASE", help: "its number (default: the one that served before)" },
    list: { help: "the releases that have served, newest first" },
    "ignore-schema": { help: "also where nobody can say whether it works with the schema of today" },
    "allow-downtime": { help: "also where nginx, postgres or another service has to be recreated for it" },
    wait: { value: "SECONDS", default: "30", help: "how long to wait for a deploy to end" },
    plan: { help: "print what would be done, and do nothing" },
    on: { value: "ENVIRONMENT", oneOf: ["production"], default: "production", help: "where" },
    yes: { help: "accepted for uniformity: a rollback asks nothing" },
    json: { help: "one JSON document on stdout: the release, or the plan, or the list" },
  },
  examples: ["bun scripts/rollback.ts", "bun scripts/rollback.ts --list", "bun scripts/rollback.ts --to 7 --plan"],
  notes: [
    "As long as its container is there (until the next deploy), nothing is pulled. Later its recorded digest is pulled again.",
    "Exit codes: 0 it serves, or served already; 1 it failed, and the message says what serves; 2 flags, configuration, no such",
    "release; 3 the server is not fit; 4 a deploy is at work; 5 its schema does not fit, or the service would be interrupted;",
    "130 interrupted: taken back, or the server is at it, and the message says which.",
  ].join("\n"),
} as const;

type Flags = Arguments<typeof commandLine>;

/** Where the URL of a webhook may stand. */
const valuesThere = "the server's .env";

export async function main(argv: readonly string[]): Promise<void> {
  const flags = parseArguments(argv, commandLine);
  if (!/^\d{1,6}$/.test(flags.wait)) throw usage(commandLine, `--wait takes seconds, not "${flags.wait}"`);
  if (flags.to !== undefined && !/^\d{1,9}$/.test(flags.to))
    throw usage(commandLine, `--to takes a number, not "${flags.to}"`);
  if (flags.list && flags.to)
    throw usage(commandLine, "--list only prints the releases that have served: no --to with it");
  const { loadConfig } = await import("./lib/config.ts").catch(packageMissing);
  const { serverOf } = await import("./lib/ssh.ts");
  const { openSession } = await import("./lib/session.ts");
  const { createProgress } = await import("./lib/progress.ts");
  const { actor } = await import("./lib/actor.ts");
  const { registryLogin } = await import("./lib/registry-login.ts");
  const { orTell } = await import("./lib/tell.ts");
  const directory = process.cwd();
  const settings = await loadConfig(directory);
  const server = serverOf(settings, directory);
  const registry = flags.list ? undefined : registryLogin(process.env);
  const progress = createProgress();
  const place = { project: settings.name, directory: settings.environments.production!.directory };
  const about: About = {
    what: "rollback",
    settings,
    directory,
    planOnly: flags.plan || flags.list,
    who: actor(),
    secrets: formsOf(registry ? [registry.password] : []),
    values: process.env,
    progress,
  };
  const open = async () => {
    const session = await progress.step("connect", () => openSession({ server, ...place }));
    return { session, ...parseHistory((await session.call(["history"])).stdout) };
  };
  const { session, live, records } = await orTell(about, open, valuesThere);
  if (flags.list) {
    await session.close();
    const list = successes(records);
    console.log(flags.json ? JSON.stringify({ live, releases: list }) : formatHistory(list.toReversed(), live));
    return;
  }
  await goBack({ session, about, server, registry, flags, live, records }).finally(() => session.close());
}

type Request = {
  session: Session;
  about: About;
  server: Server;
  registry: RegistryLogin | undefined;
  flags: Flags;
  live: number | undefined;
  records: readonly Release[];
};

async function goBack({ session, about, server, registry, flags, live, records }: Request): Promise<void> {
  const { runDeploy } = await import("./lib/deploy-run.ts").catch(packageMissing);
  const { parseReference } = await import("./lib/image.ts");
  const { parseEnvironment } = await import("./lib/environment.ts").catch(packageMissing);
  const { secretsIn } = await import("./lib/server-environment.ts").catch(packageMissing);
  const { maskInGitHubActions } = await import("./lib/github.ts");
  const { interruption } = await import("./lib/wait.ts");
  const { orTell } = await import("./lib/tell.ts");
  const { settings, directory, progress, who } = about;
  const target = chooseTarget(records, live, flags.to === undefined ? undefined : Number(flags.to));
  const now = new Date();
  // The provider of the secrets is not asked: a rollback has to work when it does not answer, and takes the values as they were.
  const askForValues = () => session.call(["values_of", `${target.release}`], { accept: [0, 1] });
  const { stdout } = await orTell({ ...about, image: target.image }, askForValues, valuesThere);
  const secrets = secretsIn(stdout);
  maskInGitHubActions(secrets);
  const wanted: Wanted = {
    image: target.reference,
    reference: parseReference(target.reference)!,
    transfer: "registry",
    configHash: target.configHash,
    migrations: [],
    settings,
    now: now.getTime() / 1000,
    again: target,
    // A plan shows what it would interrupt.
    allowDowntime: flags["allow-downtime"] || flags.plan,
    ignoreSchema: flags["ignore-schema"],
    directory: settings.environments.production!.directory,
  };
  const outcome = await runDeploy({
    session,
    server,
    settings,
    directory,
    wanted,
    registry,
    waitSeconds: Number(flags.wait),
    planOnly: flags.plan,
    who,
    at: now.toISOString(),
    progress,
    interrupted: interruption(),
    secrets: [...formsOf(secrets), ...about.secrets],
    values: { ...parseEnvironment(stdout), ...process.env },
  });
  report(outcome, wanted, server.host, progress, flags);
}

function report(
  { plan, state, release }: Outcome,
  wanted: Wanted,
  host: string,
  progress: Progress,
  flags: Flags,
): void {
  if (flags.plan) {
    console.log(flags.json ? JSON.stringify(plan) : formatPlan(plan, wanted, host));
  } else if (!release) {
    const serving = { outcome: "nothing to do", release: plan.previous!.release, image: wanted.again!.image };
    console.log(flags.json ? JSON.stringify(serving) : `Release ${serving.release} serves already.`);
  } else {
    console.error(formatTimes(progress.seconds()));
    const { name } = wanted.settings;
    const dataOfThen = plan.schemaAhead && backupFor(state.records, wanted.again!);
    const command = dataOfThen && restoreCommand(dataOfThen, name);
    console.log(flags.json ? JSON.stringify(release) : asTyped(formatRollback(release, wanted.again!, command)));
  }
}

/** @param dataOfThen the command that brings back the data that its release was made for, where the schema is ahead of it. */
export function formatRollback(
  { release, slot, seconds, previous, image }: Release,
  target: Release,
  dataOfThen?: string,
): string {
  const copy = release === target.release ? "" : ` (release ${target.release} again)`;
  return [
    `Release ${release}${copy} serves ${image} from ${slot}, after ${seconds.toFixed(1)} s`,
    `  forward again: bun scripts/rollback.ts --to ${previous}`,
    ...(dataOfThen ? [`  the data of then, without what was written since: ${dataOfThen}`] : []),
    "  next: bun scripts/deploy.ts --history",
  ].join("\n");
}

await runIfMain(import.meta, main);
