// What a rehearsal will do, decided from what was observed. Pure: the plan that is printed is the plan that is carried out.
import { type Backup, chooseBackup, isWhole, type Listing } from "./backup-list.ts";
import { freeName, type Leftover, leftoversOf } from "./database-names.ts";
import { imageFor, type Stack } from "./drill-plan.ts";
import { exitCodes, Failure } from "./failure.ts";
import { formatAge, formatBytes } from "./figures.ts";
import type { MigrationFile } from "./migration-file.ts";
import { flagsFor } from "./place.ts";
import type { Pending } from "./rehearse-files.ts";
import { formatLimits, type Limits } from "./rehearse-limits.ts";
import { type Observed, roomFactor, whyUnfit } from "./restore-plan.ts";

export type Wanted = {
  /** "latest", or a backup. */
  which: string;
  /** Whose latest one. */
  environment: string;
  /** The live database's name. */
  database: string;
  /** For people. */
  place: string;
  /** To be typed behind `rehearse`, so that it is the same one: " --on production", " --from production". */
  flags: string;
  limits: Limits;
  now: Date;
};

/** The live database's server, or what there is for a container. Busy: another rehearsal of this database is at work. */
export type Ground =
  | { kind: "beside"; observed: Observed; isBusy?: boolean }
  | { kind: "container"; stack: Stack; image: string | undefined; leftovers: readonly string[] };

export type Seen = {
  listing: Listing;
  files: readonly MigrationFile[];
  /** What the live database has already; empty where nobody has asked it. */
  liveMigrations: readonly string[];
  /** Statements that change more than their database: "migrations/F:3: ALTER ROLE". By file. */
  reaching: Readonly<Record<string, readonly string[]>>;
  ground: Ground;
};

export type RehearsalPlan = {
  backup: Backup;
  /** Those that the backup lacks, oldest first; none where the live database has all of them. */
  pending: readonly Pending[];
  /** Those that the backup lacks and the live database has, where that is why nothing is pending. */
  onlyLive: readonly string[];
  where:
    | { kind: "beside"; target: string; leftovers: readonly Leftover[] }
    | { kind: "container"; target: string; image: string; command: readonly string[]; leftovers: readonly string[] };
  /** Of disk. */
  neededBytes: number;
  warnings: string[];
};

const page = { exitCode: exitCodes.saidNo, read: "docs/rehearse.md" } as const;

/** @throws {Failure} exit 3 when there is no backup, or it does not fit the server; 2 for what dbmate would refuse. */
export function planRehearsal(wanted: Wanted, seen: Seen): RehearsalPlan {
  const { listing, liveMigrations, reaching, ground } = seen;
  const backup = choose(wanted, listing);
  const { manifest } = backup;
  const lacking = pendingIn(backup, seen);
  const pending = lacking.some(({ isLive }) => !isLive) ? lacking : [];
  if (ground.kind === "beside" && pending.length > 0) {
    refuseReaching(
      pending.flatMap(({ file }) => reaching[file] ?? []),
      wanted,
    );
    refuseUnfit(backup, wanted, ground.observed);
  }
  const known = new Set([...seen.files.map(({ version }) => version)]);
  const unknown = manifest.migrations.filter((version) => !known.has(version));
  const newer = listing.backups.filter(({ id, broken, manifest: other }) => {
    return wanted.which === "latest" && id > backup.id && broken && other.environment === manifest.environment;
  });
  const { where, warnings } = groundFor(backup, wanted, ground);
  return {
    ...{ backup, pending, where, onlyLive: pending.length > 0 ? [] : lacking.map(({ file }) => file) },
    neededBytes: Math.ceil(manifest.databaseBytes * roomFactor),
    warnings: [
      ...newer.map(({ id, broken }) => `the backup ${id} is newer, and broken: ${broken}`),
      ...(unknown.length > 0 ? [`the backup has migrations that migrations/ lacks: ${unknown.join(", ")}`] : []),
      ...(ground.kind === "container" || liveMigrations.length > 0
        ? []
        : ["the live database does not say what it has: all of these count"]),
      ...warnings,
    ],
  };
}

/** Of the backup that is chosen, those that the live database lacks. */
export const unappliedIn = (wanted: Wanted, seen: Pick<Seen, "listing" | "files" | "liveMigrations">): Pending[] =>
  pendingIn(choose(wanted, seen.listing), seen).filter(({ isLive }) => !isLive);

function choose({ which, environment, flags }: Wanted, listing: Listing): Backup {
  const isCandidate = (one: Backup) => isWhole(one) && one.manifest.environment === environment;
  if (which === "latest" && !listing.backups.some(isCandidate) && listing.unreadable.length === 0) {
    const why = `there is none of the whole database of ${environment}`;
    const next = [`bun scripts/backup.ts${flagsFor(environment)}`, "bun scripts/backup.ts list"];
    throw new Failure("There is no backup to rehearse with", why, next, page);
  }
  const backup = chooseBackup(listing, which, { environment });
  const { tables, rows, migrations } = backup.manifest;
  if (tables) {
    const why = `it holds ${tables.join(", ")} only`;
    throw new Failure(`Cannot rehearse with ${backup.id}`, why, [`bun scripts/migrate.ts rehearse latest${flags}`], {
      exitCode: exitCodes.usage,
    });
  }
  if (migrations.length === 0 && Object.keys(rows).length > 0) {
    const why = "its database has tables and no schema_migrations, so that nobody knows which files it has";
    throw new Failure(
      `Cannot rehearse with ${backup.id}`,
      why,
      [`bun scripts/drift.ts adopt${flagsFor(backup.manifest.environment)}`],
      page,
    );
  }
  return backup;
}

/** @throws {Failure} exit 2 where one is older than what is applied: `dbmate --strict` refuses it. */
function pendingIn({ manifest }: Backup, { files, liveMigrations }: Pick<Seen, "files" | "liveMigrations">): Pending[] {
  const isLive = new Set(liveMigrations);
  const applied = new Set(manifest.migrations);
  const newest = [...manifest.migrations, ...liveMigrations].sort().at(-1) ?? "";
  const pending = files
    .filter(({ version }) => !applied.has(version))
    .map((file) => ({ ...file, isLive: isLive.has(file.version) }));
  const late = pending.filter((file) => !file.isLive && file.version < newest);
  if (late.length === 0) return pending;
  const why = `${late.map(({ file }) => file).join(", ")} is older than ${newest}, which is applied already`;
  throw new Failure("Cannot rehearse", why, ["give the file in migrations/ a newer version"], {
    exitCode: exitCodes.usage,
    read: "docs/runbook/migration-failed.md",
  });
}

/** To be typed: the same rehearsal there. */
export const inContainer = ({ which, flags }: Pick<Wanted, "which" | "flags">) =>
  `bun scripts/migrate.ts rehearse${which === "latest" ? "" : ` ${which}`}${flags} --in-container`;

function refuseReaching(lines: readonly string[], wanted: Wanted): void {
  if (lines.length === 0) return;
  const why = `${lines.length === 1 ? "1 statement changes" : `${lines.length} statements change`} more than the database that it is run in`;
  throw new Failure("Cannot rehearse beside the live database", why, [inContainer(wanted)], {
    ...page,
    details: lines.join("\n"),
  });
}

function refuseUnfit({ id, manifest }: Backup, wanted: Wanted, observed: Observed): void {
  const problems = whyUnfit(manifest, observed);
  if (problems.length === 0) return;
  const count = problems.length === 1 ? "1 reason" : `${problems.length} reasons`;
  const next = ["mend it, then the same command again", `or: ${inContainer(wanted)}`];
  throw new Failure(`Cannot rehearse with ${id} on ${wanted.place}`, count, next, {
    ...page,
    details: problems.join("\n"),
  });
}

function groundFor(
  { manifest }: Backup,
  { database, now }: Wanted,
  ground: Ground,
): { where: RehearsalPlan["where"]; warnings: string[] } {
  if (ground.kind === "beside") {
    const { databases } = ground.observed;
    const leftovers = ground.isBusy ? [] : leftoversOf(database, databases).filter(({ kind }) => kind === "rehearse");
    return {
      where: { kind: "beside", target: freeName(database, "rehearse", now, databases), leftovers },
      warnings: ground.isBusy ? ["another rehearsal of it is at work, and there can only be one"] : [],
    };
  }
  const { stack, leftovers } = ground;
  const { image, warnings } = imageFor(manifest, ground, stack);
  // By its own name, so that ALTER DATABASE finds it; unless there is one of that name in every container.
  const target = ["postgres", "template0", "template1"].includes(manifest.database) ? "rehearsal" : manifest.database;
  return { where: { kind: "container", target, image, command: stack.command ?? [], leftovers }, warnings };
}

export function formatPlan({ backup, pending, where, neededBytes, warnings }: RehearsalPlan, wanted: Wanted): string {
  const { place, database, limits, now } = wanted;
  const { id, manifest } = backup;
  const count = pending.length === 1 ? "1 migration" : `${pending.length} migrations`;
  const room = `it takes about ${formatBytes(neededBytes)} of disk`;
  const steps = [
    ...(where.kind === "beside"
      ? [
          ...where.leftovers.map(({ name }) => `remove "${name}", left by a rehearsal that was cut off`),
          `restore into a new database "${where.target}"; ${room}`,
        ]
      : [
          ...where.leftovers.map((name) => `remove the container ${name}, left by a rehearsal that was cut off`),
          `start ${where.image} in a container without a network; ${room}`,
          "restore into it: the roles, then the database",
        ]),
    `check it: ${Object.keys(manifest.rows).length} tables, row by row counted`,
    ...pending.map(({ file, isLive }) => `apply ${file}${isLive ? ", which the live database has already" : ""}`),
    where.kind === "beside" ? "remove that database" : "remove the container",
  ];
  const on = where.kind === "beside" ? `on ${place}, beside "${database}", which is not touched` : "on this machine";
  return [
    `Rehearsal of ${count} with backup ${id}, as it was ${formatAge(manifest.at, now)} ago (${manifest.at}), ${formatBytes(manifest.dump.bytes)}`,
    `  ${on}`,
    ...steps.map((step, index) => `  ${index + 1}. ${step}`),
    `  limits: ${formatLimits(limits)}`,
    ...warnings.map((text) => `  warning: ${text}`),
  ].join("\n");
}

/** Where nothing is pending. */
export const formatNothing = ({ backup, onlyLive }: RehearsalPlan) =>
  onlyLive.length === 0
    ? `Nothing to rehearse: the backup ${backup.id} has all files of migrations/`
    : `Nothing to rehearse: the live database has all files of migrations/; of these, the backup ${backup.id} lacks ${onlyLive.join(", ")}`;

export function planAsJson({ backup, pending, ...rest }: RehearsalPlan, { limits }: Wanted) {
  const files = pending.map(({ file, isLive }) => ({ file, isLive }));
  return { backup: backup.id, at: backup.manifest.at, files, limits, ...rest };
}
