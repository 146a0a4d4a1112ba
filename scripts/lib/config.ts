// Reads dbops.config.ts: every problem at once, each with its path.
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { z } from "zod";
import { exitCodes, Failure } from "./failure.ts";

const privileges = ["select", "insert", "update", "delete", "truncate", "references", "trigger"] as const;

/** A Compose project name: lower case letters, digits, `-` and `_`, beginning with a letter or digit. */
const projectName = z.string().regex(/^[a-z0-9][a-z0-9_-]*$/, "lower case letters, digits, - and _ only");

/** An unquoted Postgres identifier of at most 63 bytes. */
const identifier = z.string().regex(/^[a-z_][a-z0-9_]{0,62}$/, "lower case letters, digits and _ only, 63 at most");

/** "table" or "schema.table", exactly as the catalog has them: upper case stays upper case, nothing is quoted. */
const tableName = z.string().regex(/^[^."\s]+(\.[^."\s]+)?$/, '"table" or "schema.table"');

/** The tools whose table of applied migrations the validator can read. scripts/validator.ts has the same. */
const trackerNames = [
  ...["alembic", "dbmate", "django", "drizzle", "ecto", "flyway", "golang-migrate", "knex", "node-pg-migrate"],
  ...["prisma", "rails", "sequelize", "supabase", "typeorm"],
] as const;

/** What scripts/validator.ts expects of the database; it says there what each is for. */
const expectation = z.strictObject({
  criticalTables: z.array(
    z.union([tableName, z.strictObject({ name: tableName, privileges: z.array(z.enum(privileges)) })]),
  ),
  extensions: z.array(z.union([z.string(), z.strictObject({ name: z.string(), minimumVersion: z.string() })])),
  tracker: z.enum(["auto", ...trackerNames]).optional(),
  migrationsFolder: z.string().min(1).optional(),
});

/** A name as it stands in .env: capital letters, digits and `_`. */
const variable = z.string().regex(/^[A-Z_][A-Z0-9_]*$/, "the NAME of a variable, never a value");

/** Where the values behind the references in .env.tpl come from; lib/secret.ts says how each is asked. */
const secrets = z.discriminatedUnion("provider", [
  z.strictObject({ provider: z.literal("op"), account: z.string().optional() }),
  z.strictObject({ provider: z.literal("env") }),
  z.strictObject({ provider: z.literal("sops"), file: z.string() }),
  z.strictObject({ provider: z.literal("vault"), mount: z.string().default("secret"), path: z.string() }),
  z.strictObject({ provider: z.literal("doppler"), project: z.string().optional(), config: z.string().optional() }),
  z.strictObject({
    provider: z.literal("infisical"),
    project: z.string().optional(),
    environment: z.string().default("prod"),
    path: z.string().default("/"),
  }),
  z.strictObject({ provider: z.literal("aws"), secret: z.string(), region: z.string().optional() }),
]);

/** A program and its arguments, run on the machine that deploys; DBOPS_RELEASE, DBOPS_IMAGE and DBOPS_OUTCOME tell it what happened. */
const hook = z.array(z.string()).min(1, "the program and its arguments");

const deploy = z.strictObject({
  /** How long the new release may take to become healthy. */
  healthSeconds: z.int().min(1).max(3600).default(60),
  /** How long errors are watched for after the switch, with the way back open. */
  bakeSeconds: z.int().min(0).max(3600).default(5),
  /** The share of 5xx answers during that time at which the old release comes back. */
  errorPercent: z.number().min(0).max(100).default(5),
  /** How long requests of the old release may still take; websockets are cut off then. */
  drainSeconds: z.int().min(1).max(3600).default(30),
  keepReleases: z.int().min(2).max(100).default(5),
  /** Less free disk space than this on the server, and nothing is deployed. */
  freeGigabytes: z.number().min(0).default(1),
  /** "running" costs the memory of a second app, and makes a rollback as quick as one reload. */
  keepPrevious: z.enum(["stopped", "running"]).default("stopped"),
  /** Whether the database is backed up before it is migrated, where `backup` says where to. */
  backup: z.enum(["beforeMigrations", "never"]).default("beforeMigrations"),
  /** Services of which there must never be two, such as workers: the old one stops before the new one starts. */
  stopFirst: z.array(z.string().regex(/^[a-z0-9][a-z0-9_.-]*$/i, "the name of a service in compose.yaml")).default([]),
  hooks: z.strictObject({ before: hook.optional(), after: hook.optional(), afterFailure: hook.optional() }).default({}),
});

const notification = z.strictObject({
  kind: z.enum(["slack", "discord", "webhook"]),
  urlFrom: variable,
  on: z.enum(["always", "failure"]).default("always"),
});

const cdn = z.strictObject({
  provider: z.literal("cloudflare"),
  zone: z.string().min(1),
  tokenFrom: variable,
  purge: z.union([z.literal("everything"), z.array(z.url()).min(1)]),
});

/** Which backups stay: all of the last days, or the newest of each of the last so many days, weeks, months and years that have one. */
const keep = z.union([
  z.strictObject({ days: z.int().min(1).max(3650) }),
  z.strictObject({
    daily: z.int().min(0).max(366).default(7),
    weekly: z.int().min(0).max(520).default(4),
    monthly: z.int().min(0).max(120).default(12),
    yearly: z.int().min(0).max(50).default(0),
  }),
]);

const defaultSchedule = "0 3 * * *";

const backup = z.strictObject({
  bucket: z.string().regex(/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/, "the name of a bucket"),
  /** Of the storage, for instance "https://s3.eu-central-003.backblazeb2.com"; without one it is AWS. */
  endpoint: z.url({ protocol: /^https?$/ }).optional(),
  region: z.string().min(1).default("us-east-1"),
  /** In front of every object's name, so that several projects can share a bucket. */
  prefix: z
    .string()
    .regex(/^[\w.-]+(\/[\w.-]+)*$/, "names parted by single slashes, without one at either end")
    .optional(),
  /** The bucket's name in the path instead of the host name: MinIO and Ceph want it. Default: where there is an endpoint. */
  pathStyle: z.boolean().optional(),
  accessKeyFrom: variable.default("BACKUP_ACCESS_KEY_ID"),
  secretKeyFrom: variable.default("BACKUP_SECRET_ACCESS_KEY"),
  passphraseFrom: variable.default("BACKUP_PASSPHRASE"),
  /** Files in the repository with OpenPGP public keys, ASCII armored: whoever makes backups cannot read them then. */
  recipients: z.array(z.string().min(1)).default([]),
  keep: keep.prefault({ daily: 7, weekly: 4, monthly: 12 }),
  /** When `backup schedule` makes one: five fields of cron, or six with seconds in front; in UTC. */
  schedule: z.string().default(defaultSchedule),
  /** A backup older than this is news for the notifications. */
  maximumAgeHours: z.number().min(1).default(26),
  /** Asked after every good backup, for a service that raises the alarm when it is not. */
  pingFrom: variable.optional(),
});

/** What a rehearsal of pending migrations must not exceed; docs/rehearse.md says what each is for. */
const rehearsal = z.strictObject({
  /** How long one file may take, from its first statement to its commit. */
  fileSeconds: z.number().positive().default(300),
  /** How long a lock may make the app's writes or reads wait, on a table that there is already. */
  lockSeconds: z.number().positive().default(2),
  /** How many rows of one table a file may write anew: by a change of the table, or by UPDATE. */
  rewrittenRows: z.int().min(0).default(1_000_000),
});

const migrations = z.strictObject({
  /** Versions below this one were applied before anybody linted: they are not judged by the rules of safety. */
  lintFrom: z.string().regex(/^\d+$/, "the version of a migration: the digits in front of its name").optional(),
  rehearse: rehearsal.prefault({}),
});

const configSchema = z.strictObject({
  name: projectName,
  database: identifier,
  app: z.strictObject({
    command: z.array(z.string()).min(1, "the program and its arguments"),
    port: z.int().min(1).max(65535),
  }),
  schema: expectation,
  environments: z.strictObject({
    local: z.strictObject({}),
    production: z
      .strictObject({
        server: z.string().regex(/^[a-z_][a-z0-9_-]*@[^@\s-][^@\s]*$/i, 'user@host, for instance "deploy@example.com"'),
        port: z.int().min(1).max(65535).default(22),
        directory: z
          .string()
          .regex(/^\/[\w./-]*[\w.-]$/, "an absolute path on the server, of letters, digits and . _ - / only"),
        domain: z.string().min(1),
        image: z.string().min(1),
      })
      .optional(),
  }),
  secrets: secrets.default({ provider: "op" }),
  deploy: deploy.prefault({}),
  notifications: z.array(notification).default([]),
  cdn: cdn.optional(),
  backup: backup.optional(),
  migrations: migrations.prefault({}),
});

/** What people write in dbops.config.ts. */
export type Config = z.input<typeof configSchema>;

/** The same, with every default filled in. */
export type Settings = z.output<typeof configSchema>;

const correctIt = ["correct dbops.config.ts, then run this again"];

/**
 * The configuration of the project in a directory.
 * @throws {Failure} exit 2: no such file, or anything wrong in it.
 */
export async function loadConfig(directory = process.cwd()): Promise<Settings> {
  const file = join(resolve(directory), "dbops.config.ts");
  if (!existsSync(file)) {
    throw new Failure(
      "Cannot read dbops.config.ts",
      `there is none in ${resolve(directory)}`,
      ["cd to the project's root", "npx create-dbops ."],
      {
        exitCode: exitCodes.usage,
      },
    );
  }
  const module = await import(pathToFileURL(file).href).catch((error) => {
    throw new Failure("Cannot read dbops.config.ts", (error as Error).message, correctIt, {
      exitCode: exitCodes.usage,
    });
  });
  const settings = parseConfig(module.default);
  await checkSchedule(settings);
  return settings;
}

/** Here, and not when it is needed: a typing error should not be found by the backup that was never made. */
async function checkSchedule({ backup }: Settings): Promise<void> {
  if (!backup || backup.schedule === defaultSchedule) return;
  const { openTimes } = await import("./backup-schedule-times.ts");
  await openTimes(backup.schedule).catch((error: Error) => {
    if (error instanceof Failure) throw error;
    throw unusable([`backup.schedule: "${backup.schedule}" is no schedule: ${error.message}`]);
  });
}

/** @throws {Failure} exit 2 with one line for each problem. */
export function parseConfig(untrusted: unknown): Settings {
  const parsed = configSchema.safeParse(untrusted);
  if (parsed.success) return parsed.data;
  throw unusable(parsed.error.issues.map(({ path, message }) => `${path.join(".") || "the whole"}: ${message}`));
}

function unusable(problems: readonly string[]): Failure {
  const count = problems.length === 1 ? "1 problem" : `${problems.length} problems`;
  return new Failure("Cannot use dbops.config.ts", count, correctIt, {
    exitCode: exitCodes.usage,
    details: problems.join("\n"),
  });
}
