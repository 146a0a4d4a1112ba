// What a restore will do, decided from what was observed. Pure: the plan that is printed is the plan that is carried out.
import type { Facts } from "./catalog.ts";
import { freeName, type Leftover, leftoversOf } from "./database-names.ts";
import { exitCodes, Failure } from "./failure.ts";
import { formatAge, formatBytes } from "./figures.ts";
import type { Manifest } from "./manifest.ts";

/** What there is on the server that the backup is restored on. */
export type Observed = {
  /** Undefined where the live database is not there: after a disaster. */
  live: (Pick<Facts, "databaseBytes" | "migrations" | "settings" | "extensions"> & { sessions: number }) | undefined;
  /** Every database's name. */
  databases: string[];
  roles: string[];
  /** Extensions that could be created, with their newest version. */
  available: Record<string, string>;
  versionNumber: number;
  /** Of the disk that the data is on, without what the live database needs; undefined where it cannot be asked. */
  freeBytes: number | undefined;
  /** Logical replication slots and subscriptions of the live database: they stay with it, under its other name. */
  replication: string[];
  preparedTransactions: number;
};

export type Source = {
  /** For people: the backup's id, or the file. */
  name: string;
  /** Undefined for a file without one. */
  manifest: Manifest | undefined;
  format: Manifest["format"];
  /** Of what is downloaded or read; undefined where nobody knows. */
  bytes: number | undefined;
};

export type Wanted = {
  /** Stops before the swap, with this name. */
  into: string | undefined;
  /** Only these, into a schema of their own beside the live tables. */
  tables: readonly string[] | undefined;
  safetyBackup: boolean;
  /** The newest migration that is to be applied afterwards; undefined for all of them. */
  toVersion: string | undefined;
  /** Versions of migrations/, oldest first. */
  migrations: readonly string[];
  database: string;
  place: string;
  now: Date;
};

export type RestorePlan = {
  source: Source;
  /** What it is restored into: always one of these names, so that it is found again whatever happens. */
  target: string;
  /** What that is called once it is proven; undefined where it is removed again. */
  becomes: string | undefined;
  live: string;
  /** What the live one is called afterwards; undefined where there is no swap. */
  keep: string | undefined;
  /** Left by restores that were cut off: removed first. */
  leftovers: Leftover[];
  safetyBackup: boolean;
  pending: string[];
  warnings: string[];
};

/** A restored database with its indexes, the sorting for them, and its WAL. */
export const roomFactor = 1.2;

/** @throws {Failure} with everything that speaks against it: exit 2 for what was asked, 3 for what is missing on the server. */
export function planRestore(source: Source, wanted: Wanted, observed: Observed): RestorePlan {
  const { manifest } = source;
  const { database, into, now } = wanted;
  const leftovers = leftoversOf(database, observed.databases).filter(({ kind }) => kind === "restore");
  const target = freeName(database, "restore", now, observed.databases);
  if (into !== undefined && observed.databases.includes(into)) {
    const next = [`another name: --into ${into}_2`];
    throw new Failure(`Cannot restore into "${into}"`, "there is a database of that name already", next, {
      exitCode: exitCodes.usage,
    });
  }
  // Who has counted nothing knows no names.
  if (wanted.tables && manifest && !manifest.tables) {
    chooseTables(wanted.tables, [...Object.keys(manifest.rows), ...manifest.partitioned]);
  }
  const swaps = into === undefined && wanted.tables === undefined;
  const isPartial = swaps && manifest?.tables;
  const problems = [
    ...(manifest ? whyUnfit(manifest, observed) : []),
    ...(isPartial ? [`it holds the tables ${isPartial.join(", ")} only: --into NAME, or --tables`] : []),
    ...(swaps ? unswappable(observed) : []),
  ];
  if (problems.length > 0) {
    const count = problems.length === 1 ? "1 reason" : `${problems.length} reasons`;
    throw new Failure(
      `Cannot restore ${source.name} on ${wanted.place}`,
      count,
      ["mend it, then the same command again"],
      {
        exitCode: exitCodes.saidNo,
        details: problems.join("\n"),
        read: "docs/runbook/restore-refused.md",
      },
    );
  }
  return {
    ...{ source, target, becomes: wanted.tables ? undefined : (into ?? database), live: database, leftovers },
    keep: swaps && observed.live ? freeName(database, "before", now, observed.databases) : undefined,
    safetyBackup: swaps && wanted.safetyBackup && observed.live !== undefined,
    pending: wanted.tables ? [] : pendingAfter(manifest, wanted),
    warnings: [...warningsFor(source, wanted, observed), ...(swaps ? warningsOfSwap(observed) : [])],
  };
}

/**
 * "table", which means the one in public where there are several, or "schema.table", as a manifest has it.
 * @throws {Failure} exit 2 for a name that is none of them, or of several.
 */
export function chooseTables(names: readonly string[], known: readonly string[]): string[] {
  return names.map((name) => {
    const named = known.filter((table) => table.endsWith(`.${name}`));
    const found = [name, `public.${name}`].find((table) => known.includes(table));
    if (found !== undefined) return found;
    if (named.length === 1) return named[0]!;
    const why = named.length > 1 ? `there are ${named.join(" and ")}` : "the backup has no such table";
    throw new Failure(`Cannot restore the table "${name}"`, why, ["the same command with --tables SCHEMA.TABLE"], {
      exitCode: exitCodes.usage,
    });
  });
}

type Fitting = Pick<Observed, "roles" | "available" | "versionNumber" | "freeBytes">;

/** Everything that would make pg_restore fail after an hour, found before it begins. */
export function whyUnfit(manifest: Manifest, observed: Fitting): string[] {
  const { server, extensions, roles, settings, databaseBytes } = manifest;
  const major = (number: number) => Math.floor(number / 10_000);
  const absentRoles = [...new Set([...roles, settings.owner])].filter((role) => !observed.roles.includes(role));
  const absentExtensions = Object.keys(extensions).filter((name) => observed.available[name] === undefined);
  const needed = Math.ceil(databaseBytes * roomFactor);
  return [
    ...(major(observed.versionNumber) < major(server.versionNumber)
      ? [`the backup is of PostgreSQL ${server.version}, the server is of ${major(observed.versionNumber)}`]
      : []),
    ...absentRoles.map(
      (role) => `the role "${role}" is missing: it is in the backup's globals.sql.gpg, see its RESTORE.txt`,
    ),
    ...absentExtensions.map((name) => `the extension "${name}" is not installed on the server`),
    ...(observed.freeBytes !== undefined && observed.freeBytes < needed
      ? [`there are ${formatBytes(observed.freeBytes)} free, it takes about ${formatBytes(needed)}`]
      : []),
  ];
}

/** Files that the restored database has not seen yet, up to the wanted one. */
function pendingAfter(manifest: Manifest | undefined, { migrations, toVersion }: Wanted): string[] {
  if (!manifest || manifest.migrations.length === 0) return [];
  return migrations.filter((version) => !manifest.migrations.includes(version) && (!toVersion || version <= toVersion));
}

function warningsFor({ manifest }: Source, { migrations, toVersion, tables }: Wanted, observed: Observed): string[] {
  if (!manifest)
    return [
      "there is no manifest: how many rows it should have, nobody knows; it is proven that the file is whole, no more",
    ];
  const unknown = manifest.migrations.filter((version) => !migrations.includes(version));
  const newer = observed.live?.migrations.filter((version) => !manifest.migrations.includes(version)) ?? [];
  const after = toVersion ? newer.filter((version) => version > toVersion) : [];
  return [
    ...(unknown.length > 0 && !tables
      ? [`the backup has migrations that this project's migrations/ lacks: ${unknown.join(", ")}`]
      : []),
    ...(after.length > 0
      ? [`the live database is ahead of --to-version: ${after.join(", ")}; does the app that runs know that?`]
      : []),
  ];
}

/** Nobody can send those away, and the app would stand before a closed door while the swap waits for them. */
function unswappable({ preparedTransactions }: Observed): string[] {
  if (preparedTransactions === 0) return [];
  const count =
    preparedTransactions === 1 ? "1 prepared transaction keeps" : `${preparedTransactions} prepared transactions keep`;
  return [`${count} the present database from being renamed: select * from pg_prepared_xacts`];
}

function warningsOfSwap({ replication, live }: Observed): string[] {
  return [
    ...replication.map((name) => `${name} stays with the present database, under its other name`),
    ...(live && live.sessions > 0
      ? [`${live.sessions} sessions of the app are ended at the swap, and have to connect again`]
      : []),
  ];
}

export function formatPlan(plan: RestorePlan, { place, now, into, tables }: Wanted): string {
  const { source, target, live, keep, leftovers, safetyBackup, pending, warnings } = plan;
  const { manifest } = source;
  const steps = [
    ...leftovers.map(({ name }) => `remove "${name}", left by a restore that was cut off`),
    ...(safetyBackup ? [`back up the present "${live}" first`] : []),
    `restore into a new database "${target}"`,
    manifest && !tables
      ? `check it: ${Object.keys(manifest.rows).length} tables, row by row counted`
      : "check that it is whole",
    ...(pending.length > 0 ? [`apply ${pending.length} migrations: ${pending.join(", ")}`] : []),
    ...(tables
      ? [`copy ${tables.join(", ")} into a schema of their own in "${live}", and remove "${target}"`]
      : into
        ? [`call it "${into}": the live database is not touched`]
        : [keep ? `swap: "${live}" becomes "${keep}", "${target}" becomes "${live}"` : `call it "${live}"`]),
  ];
  const age = manifest ? `, as it was ${formatAge(manifest.at, now)} ago (${manifest.at})` : "";
  const size = source.bytes === undefined ? "" : `, ${formatBytes(source.bytes)}`;
  return [
    `Restore of ${source.name}${age}${size}`,
    `  on ${place}${manifest ? `, made of ${manifest.database} on ${manifest.host}` : ""}`,
    ...steps.map((step, index) => `  ${index + 1}. ${step}`),
    ...warnings.map((text) => `  warning: ${text}`),
  ].join("\n");
}
