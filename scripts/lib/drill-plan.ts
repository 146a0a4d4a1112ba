// What a drill will do, decided from what was observed. Pure: the plan that is printed is the plan that is carried out.
import { type Backup, chooseBackup, isWhole, type Listing } from "./backup-list.ts";
import { exitCodes, Failure } from "./failure.ts";
import { formatAge, formatBytes } from "./figures.ts";
import { parseReference } from "./image.ts";
import type { Manifest } from "./manifest.ts";
import { roomFactor } from "./restore-plan.ts";

/** What compose.yaml says, as far as it says it without .env. */
export type Stack = {
  postgres?: string;
  /** What Postgres is started with, for instance `-c shared_preload_libraries=…`. */
  command?: readonly string[];
  /** The image of dbmate, and its words. */
  migrations?: string;
  migrate?: readonly string[];
};

export type Observed = {
  listing: Listing;
  stack: Stack;
  /** Versions of migrations/, oldest first. */
  migrations: readonly string[];
  /** Containers of drills of this project that were cut off. */
  leftovers: readonly string[];
};

export type Wanted = {
  /** "latest", or a backup. */
  which: string;
  /** Whose latest one. */
  environment: string;
  /** Instead of the one that the plan would choose. */
  image: string | undefined;
  maximumAgeHours: number;
  /** Where the backups are, for people. */
  where: string;
  now: Date;
};

export type DrillPlan = {
  backup: Backup;
  image: string;
  command: readonly string[];
  leftovers: readonly string[];
  pending: string[];
  /** Of disk, for the restored database. */
  neededBytes: number;
  /** Why the newest backup is too old; it is drilled all the same. */
  tooOld: string | undefined;
  warnings: string[];
};

/** @throws {Failure} exit 3 when there is nothing to restore, or the newest is broken; 2 for a backup that is no whole one. */
export function planDrill(wanted: Wanted, { listing, stack, migrations, leftovers }: Observed): DrillPlan {
  const backup = choose(wanted, listing);
  const { manifest } = backup;
  const { image, warnings } = imageFor(manifest, wanted, stack);
  const pending =
    manifest.migrations.length === 0 ? [] : migrations.filter((version) => !manifest.migrations.includes(version));
  return {
    ...{ backup, image, leftovers, pending, warnings },
    command: stack.command ?? [],
    neededBytes: Math.ceil(manifest.databaseBytes * roomFactor),
    tooOld: wanted.which === "latest" ? whyTooOld(manifest, wanted) : undefined,
  };
}

/** The newest that should be there, and not the newest that is whole: who asks whether the latest is good has to hear of it. */
function choose({ which, where, environment }: Wanted, listing: Listing): Backup {
  const isCandidate = (one: Backup) => isWhole(one) && one.manifest.environment === environment;
  if (which === "latest" && !listing.backups.some(isCandidate) && listing.unreadable.length === 0) {
    const why = `${where} has none of the whole database of ${environment}`;
    const next = ["bun scripts/backup.ts list", "bun scripts/backup.ts --on production"];
    throw new Failure("There is no backup to drill", why, next, { exitCode: exitCodes.saidNo, read: "docs/drill.md" });
  }
  const backup = chooseBackup(listing, which, { environment, evenBroken: true });
  const { tables } = backup.manifest;
  if (!tables) return backup;
  const why = `it holds ${tables.join(", ")} only, and nobody has counted their rows`;
  throw new Failure(`Cannot drill ${backup.id}`, why, ["bun scripts/drill.ts latest"], { exitCode: exitCodes.usage });
}

function whyTooOld({ at }: Manifest, { maximumAgeHours, now }: Wanted): string | undefined {
  const hours = (now.getTime() - Date.parse(at)) / 3_600_000;
  if (hours <= maximumAgeHours) return undefined;
  return `the newest backup is ${formatAge(at, now)} old, and backup.maximumAgeHours is ${maximumAgeHours}`;
}

/** Of the backup's version, unless somebody asked for one. */
export function imageFor(
  { server }: Manifest,
  { image: asked }: Pick<Wanted, "image">,
  { postgres }: Stack,
): { image: string; warnings: string[] } {
  if (asked) return { image: asked, warnings: [] };
  const major = Math.floor(server.versionNumber / 10_000);
  const official = `postgres:${major}-alpine`;
  if (!postgres) return { image: official, warnings: [] };
  const found = majorOf(postgres);
  // Of an image with a name of its own nobody knows; it has the extensions that the project needs.
  if (found === undefined || found === major) return { image: postgres, warnings: [] };
  const warning = `the backup is of PostgreSQL ${major}, and compose.yaml has ${postgres}: it is restored with ${official}`;
  return { image: official, warnings: [warning] };
}

/** "postgres:18-alpine", "pgvector/pgvector:0.8.1-pg18": 18. Undefined where the name does not say it. */
export function majorOf(image: string): number | undefined {
  const { name = "", tag = "" } = parseReference(image) ?? {};
  const isPostgres = /(^|\/)(postgres|postgis)$/.test(name);
  const digits = /(?:^|[-_])pg(\d+)/.exec(tag)?.[1] ?? (isPostgres ? /^(\d+)/.exec(tag)?.[1] : undefined);
  return digits === undefined ? undefined : Number(digits);
}

export function formatPlan(plan: DrillPlan, { where, now }: Wanted): string {
  const { backup, image, leftovers, pending, neededBytes, tooOld, warnings } = plan;
  const { id, manifest } = backup;
  const tables = Object.keys(manifest.rows).length;
  const steps = [
    ...leftovers.map((name) => `remove the container ${name}, left by a drill that was cut off`),
    `start ${image} in a container without a network; it takes about ${formatBytes(neededBytes)} of disk`,
    "restore into it: the roles, then the database",
    `compare it with the manifest: ${tables === 1 ? "1 table" : `${tables} tables`}, row by row counted`,
    ...(pending.length > 0 ? [`apply ${formatMigrations(pending.length)}: ${pending.join(", ")}`] : []),
    "check with the validator that the app can work with it",
    "remove the container, and write down beside the backup what was found",
  ];
  return [
    `Drill of backup ${id}, as it was ${formatAge(manifest.at, now)} ago (${manifest.at}), ${formatBytes(manifest.dump.bytes)}`,
    `  in ${where}, made of ${manifest.database} on ${manifest.host}`,
    ...steps.map((step, index) => `  ${index + 1}. ${step}`),
    ...[...(tooOld ? [tooOld] : []), ...warnings].map((text) => `  warning: ${text}`),
  ].join("\n");
}

export function planAsJson({ backup, command: _, tooOld, ...rest }: DrillPlan) {
  return { backup: backup.id, at: backup.manifest.at, tooOld: tooOld !== undefined, ...rest };
}

export const formatMigrations = (count: number) => (count === 1 ? "1 migration" : `${count} migrations`);
