// What a backup says of itself: manifest.json, written last. An object without a manifest is no backup.
// A backup is a folder in the bucket: PREFIX/NAME/2026-11-21T03-00-00Z-4f2c1a/ with database.dump.gpg, globals.sql.gpg,
// RESTORE.txt and manifest.json; whoever has proven it adds proof-TIME.json.
import { randomBytes } from "node:crypto";
import { z } from "zod";
import { Failure } from "./failure.ts";

const count = z.int().min(0);

/** One of the backup's files, as it lies in the bucket. */
const file = z.strictObject({
  name: z.string(),
  bytes: count,
  /** Of the bytes in the bucket, hexadecimal. */
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
});

export const manifestSchema = z.strictObject({
  version: z.literal(1),
  /** The folder's name. */
  id: z.string(),
  project: z.string(),
  /** "production", "local". */
  environment: z.string(),
  database: z.string(),
  /** "deploy@app.example.com" */
  host: z.string(),
  label: z.string().optional(),
  /** ISO 8601, UTC: when its snapshot was taken, which is the state of the data that it holds. */
  at: z.iso.datetime(),
  seconds: z.number(),
  /** custom: for pg_restore. plain: SQL text, gzip. */
  format: z.enum(["custom", "plain"]),
  /** Set where it holds these tables only, and so is nothing to restore a whole database from. */
  tables: z.array(z.string()).optional(),
  encryption: z.strictObject({
    kind: z.enum(["passphrase", "recipients"]),
    /** Fingerprints of the keys that can decrypt it. */
    recipients: z.array(z.string()).optional(),
    program: z.string(),
  }),
  dump: file,
  globals: file,
  server: z.strictObject({
    version: z.string(),
    versionNumber: z.int(),
    encoding: z.string(),
    collate: z.string(),
    ctype: z.string(),
    provider: z.string(),
    locale: z.string().nullable(),
  }),
  client: z.strictObject({ pgDump: z.string(), kit: z.string() }),
  databaseBytes: count,
  /** Exact number of rows of every table, in the snapshot that was dumped: `{"public.accounts": 12}`. */
  rows: z.record(z.string(), count),
  /** Tables whose rows are in their partitions: without a number of rows of their own. */
  partitioned: z.array(z.string()).default([]),
  largeObjects: count,
  /** Applied migrations, oldest first; empty where there is no schema_migrations. */
  migrations: z.array(z.string()),
  extensions: z.record(z.string(), z.string()),
  /** Roles that own something or are granted something. */
  roles: z.array(z.string()),
  /** What belongs to the database itself and not to its content: owner, ALTER DATABASE … SET, connection limit, grants, comment. */
  settings: z.strictObject({
    owner: z.string(),
    connectionLimit: z.int(),
    grants: z.array(z.string()),
    parameters: z.array(z.strictObject({ role: z.string().nullable(), parameter: z.string(), value: z.string() })),
    comment: z.string().nullable().default(null),
  }),
});

export type Manifest = z.output<typeof manifestSchema>;

/** What a drill or a restore has found out about a backup. */
export const proofSchema = z.strictObject({
  version: z.literal(1),
  at: z.iso.datetime(),
  by: z.enum(["drill", "restore", "verify"]),
  equal: z.boolean(),
  /** From the first byte that was downloaded until the app could have worked with it: measured, not promised. */
  restoreSeconds: z.number().optional(),
  /** What was downloaded for it. */
  bytes: count.optional(),
  problems: z.array(z.string()),
});

export type Proof = z.output<typeof proofSchema>;

/** The label of what a restore backs up first: the very data that somebody wants to be rid of, so that "latest" never means it. */
export const beforeRestore = "before-restore";

export const names = {
  dump: { custom: "database.dump.gpg", plain: "database.sql.gz.gpg" },
  globals: "globals.sql.gpg",
  instructions: "RESTORE.txt",
  manifest: "manifest.json",
} as const;

/** UTC and a random suffix: two backups never have the same name, and names sort by time. */
export function newBackupId(at: Date, random = randomBytes(4).toString("hex")): string {
  return `${at.toISOString().slice(0, 19).replaceAll(":", "-")}Z-${random}`;
}

/** When the backup of that name was begun; undefined for a name that is none of ours. */
export function timeOfId(id: string): Date | undefined {
  const [, day, hour, minute, second] = /^(\d{4}-\d\d-\d\d)T(\d\d)-(\d\d)-(\d\d)Z-[0-9a-f]{8}$/.exec(id) ?? [];
  return day ? new Date(`${day}T${hour}:${minute}:${second}Z`) : undefined;
}

/** @throws {Failure} exit 1 when it is not one that this kit can read. */
export const parseManifest = (text: string, where: string): Manifest =>
  parseAs(manifestSchema, text, where, "manifest");

/** @throws {Failure} exit 1 likewise. */
export const parseProof = (text: string, where: string): Proof => parseAs(proofSchema, text, where, "proof");

function parseAs<T>(schema: z.ZodType<T>, text: string, where: string, kind: string): T {
  let untrusted: unknown;
  try {
    untrusted = JSON.parse(text);
  } catch {
    throw new Failure(`Cannot read ${where}`, "it is not JSON");
  }
  const parsed = schema.safeParse(untrusted);
  if (parsed.success) return parsed.data;
  const details = parsed.error.issues.map(({ path, message }) => `${path.join(".")}: ${message}`).join("\n");
  throw new Failure(`Cannot read ${where}`, `it is not a ${kind} of this version of the kit`, [], { details });
}
