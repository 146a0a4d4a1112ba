// Decides what a deploy does, from what the server said and what is wanted. Pure: no input, no output, no clock.
import type { Settings } from "./config.ts";
import { exitCodes, Failure } from "./failure.ts";
import { formatBytes, formatSeconds } from "./figures.ts";
import type { Reference } from "./image.ts";
import { nextNumber, planPrune, type Release, type Removal, successes } from "./release.ts";
import type { ServerState } from "./server-state.ts";
import { otherSlot, type Slot, upstreamFile } from "./upstream.ts";

export type Wanted = {
  /** As asked for. */
  image: string;
  reference: Reference;
  /** Known beforehand when the image is built here, or was pulled already. */
  imageId?: string;
  transfer: "registry" | "ssh";
  configHash: string;
  /** Versions in migrations/, oldest first. */
  migrations: readonly string[];
  allowDowntime: boolean;
  /** Migrate without a backup, this once. */
  noBackup?: boolean;
  /** Try pending migrations on a restored backup first. */
  rehearse?: boolean;
  /** Once the bucket was looked into: what the backup before this one was like; undefined where this is the first. */
  lastBackup?: { bytes: number; seconds: number } | undefined;
  settings: Pick<Settings, "name" | "deploy" | "notifications" | "cdn" | "backup">;
  directory: string;
  /** Seconds since 1970. */
  now: number;
  /** Of a rollback: the release to go back to. */
  again?: Release;
  /** Of a rollback: go back although nobody can say whether that release works with the schema of today. */
  ignoreSchema?: boolean;
};

export type Step = { name: StepName; says: string };

export type StepName =
  | "rehearse"
  | "hooks"
  | "lock"
  | "backup"
  | "upload"
  | "image"
  | "files"
  | "services"
  | "migrate"
  | "start"
  | "healthy"
  | "schema"
  | "switch"
  | "workers"
  | "bake"
  | "commit"
  | "drain"
  | "prune"
  | "tell";

export type Plan = {
  /** What is wanted is what serves: there is nothing to do. */
  nothing: boolean;
  release: number;
  slot: Slot;
  /** The container of that release is still there, stopped or running: it serves again as it was. */
  revive: boolean;
  /** The database has newer migrations than the release that is gone back to. */
  schemaAhead: { live: string; release: string } | undefined;
  /** What serves now; undefined before the first deploy. */
  previous: { release: number; slot: Slot } | undefined;
  steps: readonly Step[];
  /** Services to start, or to recreate where `downtime` says so. */
  services: readonly string[];
  pending: readonly string[];
  /** The database is backed up before these are applied. */
  backup: boolean;
  /** They are tried on a restored backup, before anything else. */
  rehearse: boolean;
  workers: readonly string[];
  removals: readonly Removal[];
  /** One line for each interruption that this deploy cannot avoid. */
  downtime: readonly string[];
  warnings: readonly string[];
};

/** start_interval and !override in the kit's files need them. */
const oldestEngine = "25.0";
const oldestCompose = "2.24.4";
const clockToleranceSeconds = 60;
/** certbot renews it 30 days before its end: something has failed for two weeks then. */
const certificateDays = 14;

/**
 * @throws {Failure} exit 2 when the project or the server is not set up, 3 when the server is not fit, 5 when something would be
 * interrupted and nobody allowed it.
 */
export function planDeploy(state: ServerState, wanted: Wanted): Plan {
  checkServer(state, wanted);
  if (!wanted.again) checkStopFirst(state, wanted);
  const { deploy } = wanted.settings;
  // Where nginx' upstream file is lost, what nginx says is as good for going back to an earlier release.
  const live = state.live ?? (wanted.again && state.serving);
  if (!live && !wanted.again) refuseWithoutLive(state);
  const slot = live ? otherSlot(live.slot) : (wanted.again?.slot ?? "blue");
  const { services, downtime } = planServices(state, wanted);
  if (!state.applied && (wanted.again || !services.includes("postgres"))) {
    throw databaseSilent(state, wanted, "a rollback does not start it before it knows the schema");
  }
  const revive = wanted.again !== undefined && isKept(state, wanted.again, slot);
  const release = revive ? wanted.again!.release : nextNumber(state.records, state.kept, live?.release ?? 0);
  const schemaAhead = wanted.again && compareSchema(state, wanted.again);
  const pending = pendingMigrations(state, wanted);
  const backup = pending.length > 0 && whyNoBackup(state, wanted) === undefined;
  if (backup && !state.applied) {
    const why = "without it there is no backup before the migrations";
    throw databaseSilent(state, wanted, why, ["or without a backup: the same command with --no-backup"]);
  }
  const rehearse = pending.length > 0 && wanted.rehearse === true && hasDatabase(state);
  if (rehearse) requireRehearsable(state, wanted);
  const workers = deploy.stopFirst.filter((name) => state.services.some((service) => service.name === name));
  const removals = planPrune(
    state.records,
    state.kept.filter((number) => number !== release),
    { release, previous: live?.release ?? 0 },
    deploy.keepReleases,
    state.imageIds,
  );
  const plan = {
    ...{ release, slot, revive, schemaAhead, previous: live },
    ...{ services, pending, backup, rehearse, workers, removals, downtime },
  };
  if (downtime.length > 0 && !wanted.allowDowntime) throw downtimeRefused(downtime);
  const isComplete = services.length === 0 && pending.length === 0 && workers.every((name) => isSettled(state, name));
  const nothing = isComplete && isLive(state, wanted);
  return {
    ...plan,
    nothing,
    steps: nothing ? [] : stepsOf(plan, state, wanted),
    warnings: warningsAbout(state, wanted),
  };
}

/** Its container is in the idle slot, and nothing has been started there since. */
function isKept({ containers }: ServerState, { release, imageId }: Release, slot: Slot): boolean {
  return containers.some(
    (one) => one.service === `app-${slot}` && one.release === `${release}` && one.imageId === imageId,
  );
}

/** @throws {Failure} exit 3: a server that has releases is not empty, and taking it for empty would remove what serves. */
function refuseWithoutLive({ records }: ServerState): void {
  const [newest] = successes(records);
  if (!newest) return;
  const why = `${upstreamFile} there does not say which release serves, and there have been some, up to ${newest.release}`;
  const next = ["bun scripts/rollback.ts --list", `bun scripts/rollback.ts --to ${newest.release}`];
  throw new Failure("Nothing was deployed", why, next, {
    exitCode: exitCodes.saidNo,
    read: "docs/runbook/roll-back-by-hand.md",
  });
}

/** @throws {Failure} exit 5 when that release needs migrations that this database does not have. */
function compareSchema({ applied }: ServerState, { release, schemaVersion }: Release): Plan["schemaAhead"] {
  const live = applied?.at(-1) ?? "";
  if (live >= schemaVersion) return live === schemaVersion ? undefined : { live, release: schemaVersion };
  const why = `it was built for schema ${schemaVersion}, the database is at ${live || "nothing"}`;
  throw new Failure(
    `Cannot go back to release ${release}`,
    why,
    ["bun scripts/deploy.ts --image … with that version's files, which migrates"],
    {
      exitCode: exitCodes.refused,
      read: "docs/runbook/rollback-refused.md",
    },
  );
}

function checkServer(state: ServerState, { directory, settings }: Wanted): void {
  const { problems, engineVersion, composeVersion, freeBytes } = state;
  const usage = { exitCode: exitCodes.usage };
  if (problems.directory) {
    throw new Failure("The server is not ready", problems.directory, ["bun scripts/provision.ts"], usage);
  }
  if (problems.engine || problems.compose) {
    const why = `Docker does not answer there: ${problems.engine ?? problems.compose}`;
    throw new Failure(
      "The server is not ready",
      why,
      ["on the server: sudo systemctl start docker", "bun scripts/provision.ts"],
      {
        exitCode: exitCodes.saidNo,
        read: "docs/runbook/server-rebooted.md",
      },
    );
  }
  const old = [
    ...(isOlder(engineVersion, oldestEngine)
      ? [`Docker Engine ${engineVersion}, at least ${oldestEngine} is needed`]
      : []),
    ...(isOlder(composeVersion, oldestCompose)
      ? [`Docker Compose ${composeVersion}, at least ${oldestCompose} is needed`]
      : []),
  ];
  if (old.length > 0) {
    const why = `it has ${old.join("; ")}`;
    throw new Failure("The server is not ready", why, ["bun scripts/provision.ts"], { exitCode: exitCodes.saidNo });
  }
  if (problems.config) {
    const next = ["docker compose config --quiet", "correct compose.yaml, compose/ or .env.tpl"];
    throw new Failure("Docker Compose does not accept these files", problems.config, next, usage);
  }
  const free = Math.min(freeBytes.project, freeBytes.docker);
  const needed = settings.deploy.freeGigabytes * 1e9;
  if (free < needed) {
    const why = `the server's disk has ${gigabytes(free)} GB left, deploy.freeGigabytes asks for ${gigabytes(needed)}`;
    throw new Failure("Nothing was deployed", why, [`on the server: df -h ${directory}; docker system df`], {
      exitCode: exitCodes.saidNo,
      read: "docs/runbook/disk-full.md",
    });
  }
}

/**
 * What is replaced with each release is named there, and nothing else: the rest keeps running as it is.
 * @throws {Failure} exit 2 when a service would stay at the image of another release, or a name is nobody's.
 */
function checkStopFirst({ services }: ServerState, { settings }: Wanted): void {
  const { stopFirst } = settings.deploy;
  const options = { exitCode: exitCodes.usage, read: "docs/deploy.md" };
  const strangers = stopFirst.filter((name) => !services.some((service) => service.name === name));
  if (strangers.length > 0) {
    const why = `deploy.stopFirst names ${strangers.join(", ")}, and compose.yaml and compose/ have no such service`;
    throw new Failure("Nothing was deployed", why, ["correct deploy.stopFirst in dbops.config.ts"], options);
  }
  const left = leftBehind(services, stopFirst);
  if (left.length === 0) return;
  const why = "would keep the old image: RELEASE_IMAGE is replaced only in services that deploy.stopFirst names";
  const names = [...stopFirst, ...left].map((name) => `"${name}"`).join(", ");
  const next = [`in dbops.config.ts: deploy: { stopFirst: [${names}] }`];
  throw new Failure("Nothing was deployed", `${left.join(", ")} ${why}`, next, options);
}

/** Services with the image of a release that no deploy replaces. */
const leftBehind = (services: ServerState["services"], stopFirst: readonly string[]) =>
  services
    .filter(({ name, usesImage }) => usesImage && ![...slotsAndMigrations, ...stopFirst].includes(name))
    .map(({ name }) => name);

const slotsAndMigrations = ["app-blue", "app-green", "migrations"];

/** Whatever is done without knowing which migrations it has may be wrong. */
function databaseSilent(
  state: ServerState,
  { directory }: Wanted,
  whyNotStarted: string,
  more: readonly string[] = [],
): Failure {
  const isRunning = runs(state, "postgres");
  const there = isRunning
    ? "docker compose ps postgres; docker compose logs --tail 50 postgres"
    : "docker compose up --detach --wait postgres";
  const why = isRunning
    ? "Postgres is running there, and does not answer"
    : `Postgres does not run there, and ${whyNotStarted}`;
  const next = [`on the server: cd ${directory}; ${there}`, "the same command again", ...more];
  return new Failure("Nothing was changed", why, next, {
    exitCode: exitCodes.saidNo,
    read: "docs/runbook/database-unhealthy.md",
  });
}

/** "v2.40.3-desktop.1" counts as 2.40.3. */
function isOlder(version: string, oldest: string): boolean {
  const numbers = (text: string) => (text.match(/\d+/g) ?? []).slice(0, 3).map(Number);
  const [has, needs] = [numbers(version), numbers(oldest)];
  const differing = needs.findIndex((number, index) => (has[index] ?? 0) !== number);
  return differing >= 0 && (has[differing] ?? 0) < needs[differing]!;
}

/** @throws {Failure} exit 2 when one is older than what is applied: dbmate refuses it, and only after the deploy has begun. */
function pendingMigrations({ applied }: ServerState, { migrations, again }: Wanted): string[] {
  if (again !== undefined) return [];
  // Postgres is yet to be started.
  if (!applied) return [...migrations];
  const pending = migrations.filter((version) => !applied.includes(version));
  const newest = applied.at(-1) ?? "";
  const late = pending.filter((version) => version < newest);
  if (late.length === 0) return pending;
  const why = `${late.join(", ")} is older than ${newest}, which is applied already`;
  throw new Failure("Cannot migrate", why, ["give the file in migrations/ a newer version"], {
    exitCode: exitCodes.usage,
    read: "docs/runbook/migration-failed.md",
  });
}

/** Where something has served, there is data, also when Postgres does not run just now. */
const hasDatabase = ({ live, records, applied }: Pick<ServerState, "live" | "records" | "applied">) =>
  applied !== undefined || live !== undefined || successes(records).length > 0;

const noDatabaseYet = "there is no database yet";

/** @throws {Failure} exit 2 where there can be no backup to restore, 3 where Postgres does not answer. */
function requireRehearsable(state: ServerState, wanted: Wanted): void {
  const without = "or without it: the same command without --rehearse";
  if (!wanted.settings.backup) {
    const why = "dbops.config.ts has no `backup`, and a rehearsal restores one";
    const next = ['add   backup: { bucket: "…", endpoint: "https://…", region: "…" },   to dbops.config.ts', without];
    throw new Failure("Cannot rehearse the migrations", why, next, {
      exitCode: exitCodes.usage,
      read: "docs/rehearse.md",
    });
  }
  if (!state.applied) throw databaseSilent(state, wanted, "without it the migrations cannot be rehearsed", [without]);
}

/** @returns undefined where there is to be a backup before the migrations. */
function whyNoBackup({ live, records, applied }: ServerState, { settings, noBackup }: Wanted): string | undefined {
  if (!hasDatabase({ live, records, applied })) return noDatabaseYet;
  const noWayBack = "so there is no way back for data";
  if (!settings.backup) return `dbops.config.ts has no \`backup\`, ${noWayBack}`;
  if (settings.deploy.backup === "never") return `deploy.backup is "never", ${noWayBack}`;
  return noBackup ? `--no-backup, ${noWayBack}` : undefined;
}

/** Everything but the app's slots, the migrations, and what is replaced with each release. */
function planServices(state: ServerState, { settings }: Wanted): { services: string[]; downtime: string[] } {
  const notHere = [...slotsAndMigrations, ...settings.deploy.stopFirst];
  const wanted = state.services.filter(({ name }) => !notHere.includes(name));
  const recreated = wanted.filter(({ name, changed }) => changed && runs(state, name)).map(({ name }) => name);
  const started = wanted.filter(({ name }) => !runs(state, name)).map(({ name }) => name);
  return {
    services: [...started, ...recreated].sort(inOrder),
    // What an interrupted first deploy has left may be recreated: nobody is served yet.
    downtime:
      (state.live ?? state.serving)
        ? recreated
            .filter((name) => !serveNobody.includes(name))
            .map((name) => `${name} is recreated, because its definition has changed`)
        : [],
  };
}

/** Whether it runs just now, no visitor can tell; a backup that it had to take back, it makes up for at its start. */
const serveNobody: readonly string[] = ["backup"];

const runs = ({ containers }: ServerState, name: string) =>
  containers.some(({ service, status }) => service === name && status === "running");

/** A worker that runs as the wanted release defines it. */
const isSettled = (state: ServerState, name: string) =>
  runs(state, name) && state.services.some((service) => service.name === name && !service.changed);

/** Postgres first, nginx last. */
const inOrder = (a: string, b: string) => rank(a) - rank(b) || a.localeCompare(b);
const rank = (name: string) => (name === "postgres" ? 0 : name === "nginx" ? 2 : 1);

function downtimeRefused(downtime: readonly string[]): Failure {
  return new Failure(
    "Nothing was deployed",
    "this deploy would interrupt the service",
    ["the same command with --allow-downtime"],
    {
      exitCode: exitCodes.refused,
      details: downtime.map((line) => `DOWNTIME: ${line}`).join("\n"),
      read: "docs/deploy.md",
    },
  );
}

/** Whether what is wanted is what serves, whole and healthy. Any doubt means no: a deploy is harmless. */
function isLive(state: ServerState, wanted: Wanted): boolean {
  const { live, serving, liveRelease, slotInEnvironment } = state;
  if (!live || !liveRelease || liveRelease.outcome !== "done" || live.state !== "live") return false;
  const isServing = serving?.release === live.release && serving.slot === live.slot && serving.state === "live";
  const container = state.containers.find(({ service }) => service === `app-${live.slot}`);
  const isWell = container?.status === "running" && ["healthy", "none"].includes(container.health);
  return (
    isServing &&
    isWell &&
    slotInEnvironment === live.slot &&
    liveRelease.configHash === wanted.configHash &&
    isSameImage(state, wanted)
  );
}

function isSameImage({ liveRelease }: ServerState, { reference, imageId, again }: Wanted): boolean {
  if (reference.digest) return liveRelease?.reference === `${reference.name}@${reference.digest}`;
  const known = imageId ?? again?.imageId;
  return known !== undefined && known === liveRelease?.imageId;
}

/** Whether a tag names what serves, unless it was moved since: asking the registry is worth it then. */
export function mayBeLive(state: ServerState, wanted: Wanted): boolean {
  const { liveRelease } = state;
  if (!liveRelease || wanted.again || wanted.reference.digest || wanted.transfer !== "registry") return false;
  return liveRelease.image === wanted.image && isLive(state, { ...wanted, imageId: liveRelease.imageId });
}

type Decided = Omit<Plan, "nothing" | "steps" | "warnings">;

function stepsOf(plan: Decided, state: ServerState, wanted: Wanted): Step[] {
  const { image, settings, directory, again } = wanted;
  const { deploy } = settings;
  const { release, slot, revive, previous, services, pending, workers, removals, schemaAhead } = plan;
  const back = previous ? `back to release ${previous.release}` : "stop it again";
  const source = again ? `the files and values of release ${again.release}` : "the files and values of this project";
  const beside = previous ? `app-${previous.slot}` : "nothing";
  const step = (name: StepName, says: string | false): Step[] => (says ? [{ name, says }] : []);
  const told = [...(settings.cdn ? ["the CDN"] : []), ...settings.notifications.map(({ kind }) => kind)];
  const hooks = Object.entries(deploy.hooks).map(([name, program = []]) => `${name}: ${program.join(" ")}`);
  return [
    ...step("rehearse", wanted.rehearse === true && pending.length > 0 && rehearsalText(state, pending)),
    ...step("hooks", hooks.length > 0 && `on this machine, ${hooks.join("; ")}`),
    ...step("lock", "one deploy at a time"),
    ...step("backup", pending.length > 0 && backupText(state, wanted)),
    ...step("upload", !revive && `${source} to ${directory}/releases/${release}`),
    ...step("image", !revive && imageText(state, wanted)),
    ...step("files", `${directory} gets the files of release ${release}, once nginx has accepted its own`),
    ...step("services", services.length > 0 && services.map((name) => `${verbFor(name, state)} ${name}`).join(", ")),
    ...step("migrate", pending.length > 0 && `${pending.length} pending: ${pending.join(", ")}`),
    ...step("start", revive ? `the container of release ${release} again, ${image}` : `app-${slot}, beside ${beside}`),
    ...step("healthy", `within ${deploy.healthSeconds} s, and the release that its image says`),
    ...step(
      "schema",
      schemaAhead !== undefined &&
        `it is for ${schemaAhead.release}, the database is at ${schemaAhead.live}: its own validator must accept that`,
    ),
    ...step("switch", previous ? `nginx from ${previous.slot} to ${slot}` : `nginx to ${slot}`),
    ...step("workers", workers.length > 0 && `${workers.join(", ")}: stop the old one, then start the new one`),
    ...step(
      "bake",
      deploy.bakeSeconds > 0 && `${deploy.bakeSeconds} s; ${back} if it is not ready or ${deploy.errorPercent} % fail`,
    ),
    ...step("commit", `release ${release} is what a reboot starts`),
    ...step("drain", previous !== undefined && drainText(previous, deploy)),
    ...step("prune", removals.length > 0 && `release ${removals.map((removal) => removal.release).join(", ")}`),
    ...step("tell", told.length > 0 && told.join(", ")),
  ];
}

function rehearsalText(state: ServerState, pending: readonly string[]): string {
  if (!hasDatabase(state)) return `none: ${noDatabaseYet}`;
  return `${pending.length} pending, on the restored latest backup; above the limits nothing is deployed`;
}

function backupText(state: ServerState, wanted: Wanted): string {
  const none = whyNoBackup(state, wanted);
  if (none) return `none: ${none}`;
  const { lastBackup } = wanted;
  const last = lastBackup
    ? `last one ${formatBytes(lastBackup.bytes)}, ${formatSeconds(lastBackup.seconds)}`
    : "the first one";
  return `back up the database first (${last})`;
}

function imageText({ image: present }: ServerState, { image, transfer, reference, again }: Wanted): string {
  if (transfer === "ssh") return `send ${image} over SSH, unless it is there`;
  return present && (reference.digest || again) ? `${image} is there` : `pull ${image}`;
}

const verbFor = (name: string, state: ServerState) => (runs(state, name) ? "recreate" : "start");

function drainText(
  previous: { release: number; slot: Slot },
  { drainSeconds, keepPrevious }: Settings["deploy"],
): string {
  const after =
    keepPrevious === "stopped" ? "then stop it and keep it for a rollback" : "and keep it running for a rollback";
  return `requests of app-${previous.slot}, at most ${drainSeconds} s, ${after}`;
}

function warningsAbout(state: ServerState, wanted: Wanted): string[] {
  const { now, migrations, again, settings, image, imageId } = wanted;
  const skew = Math.round(state.clock - now);
  const unknown = again === undefined ? (state.applied ?? []).filter((version) => !migrations.includes(version)) : [];
  const { live } = state;
  const isRunning = live && runs(state, `app-${live.slot}`);
  const known = ["app-blue", "app-green", ...state.services.map(({ name }) => name)];
  const orphans = state.containers.filter(({ service, status }) => status === "running" && !known.includes(service));
  return [
    ...(Math.abs(skew) > clockToleranceSeconds
      ? [`the clock of the server is ${Math.abs(skew)} s ${skew > 0 ? "ahead" : "behind"}`]
      : []),
    ...(unknown.length > 0 ? [`applied there, but not in migrations/: ${unknown.join(", ")}`] : []),
    ...(state.services.length > 0
      ? orphans.map(({ service }) => `${service} runs, and is not in these files: it is left alone`)
      : []),
    ...(live && !isRunning ? [`release ${live.release} does not run: there is nothing to go back to`] : []),
    ...(!live && again && state.serving
      ? [`${upstreamFile} there is lost, and is made anew from what nginx says`]
      : []),
    ...(live && live.state !== "live" ? [`release ${live.release} was interrupted while it was being deployed`] : []),
    ...(again ? leftBehind(state.services, settings.deploy.stopFirst) : []).map(
      (name) => `${name} has RELEASE_IMAGE, and deploy.stopFirst does not name it: it stays as it is`,
    ),
    ...(imageId === undefined && mayBeLive(state, wanted)
      ? [`${image} serves already, and the registry was not asked: if it is the same image still, nothing is done`]
      : []),
    ...certificateWarnings(state, wanted),
  ];
}

/** None where it is good for some time, or cannot be seen. */
export function certificateWarnings(
  { certificate }: Pick<ServerState, "certificate">,
  { now, directory }: Pick<Wanted, "now" | "directory">,
): string[] {
  const renew = `on the server: cd ${directory} && docker compose run --rm certbot`;
  if (certificate === undefined) return [];
  if (certificate === "missing") return [`there is no certificate: visitors get 503 until, ${renew}`];
  if (certificate === "unusable") {
    const look = `on the server: cd ${directory} && docker compose logs --tail 20 nginx`;
    return [
      `nginx cannot use what is in certificates/, no visitor gets through: docs/runbook/no-certificate.md; ${look}`,
    ];
  }
  const days = Math.floor((certificate.end - now) / 86_400);
  const date = new Date(certificate.end * 1000).toISOString().slice(0, 10);
  if (certificate.end <= now) return [`the certificate ended on ${date}: browsers refuse it; ${renew}`];
  return days < certificateDays ? [`the certificate ends on ${date}, in ${days} days; ${renew}`] : [];
}

/** For people. */
export function formatPlan(plan: Plan, { settings }: Wanted, server: string): string {
  const { nothing, release, slot, previous, steps, downtime, warnings } = plan;
  const now = previous ? `release ${previous.release} serves from ${previous.slot}` : "nothing serves yet";
  const width = Math.max(...steps.map(({ name }) => name.length));
  return [
    `==> ${settings.name} on ${server}: ${nothing ? "nothing to do" : `release ${release} into ${slot}`}; ${now}`,
    ...steps.map(({ name, says }) => `  ${name.padEnd(width)}  ${says}`),
    ...downtime.map((line) => `  DOWNTIME: ${line}`),
    ...warnings.map((line) => `  warning: ${line}`),
  ].join("\n");
}

const gigabytes = (bytes: number) => (bytes / 1e9).toFixed(1).replace(/\.0$/, "");
