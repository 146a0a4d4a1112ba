// The files of a release: everything that Compose, nginx and dbmate read on the server, and the values in its .env.
import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { type ArchiveFile, archive } from "./archive.ts";
import { serverNamesIn } from "./domain.ts";
import { exitCodes, Failure } from "./failure.ts";
import { type MigrationFile, parseMigration } from "./migration-file.ts";
import { formatEnvironment } from "./server-environment.ts";
import { slots, upstreamFile } from "./upstream.ts";

export type ReleaseFiles = {
  /** For `observe`: with .env, 0600, without the lines that only the deploy knows. */
  tar: Buffer;
  /** Of every file and value; the same again means that there is nothing to deploy. */
  configHash: string;
  /** Versions of the migrations, oldest first. */
  migrations: readonly string[];
  migrationFiles: readonly MigrationFile[];
  /** The text of the project's own upstream file. */
  upstream: string;
  /** What nginx answers to on the server. */
  serverNames: readonly string[];
};

const parts = ["compose.yaml", "compose", "nginx", "migrations"] as const;

/** @throws {Failure} exit 2 when one of the parts is missing. */
export async function readReleaseFiles(directory: string, environment: string): Promise<ReleaseFiles> {
  const found = await Promise.all(parts.map((part) => filesAt(directory, part)));
  const files: ArchiveFile[] = [...found.flat(), { path: ".env", content: Buffer.from(environment), mode: 0o600 }];
  const upstream = files.find(({ path }) => path === upstreamFile)?.content.toString();
  if (upstream === undefined) throw missing(upstreamFile, directory);
  const nginx = files.filter(({ path }) => path.startsWith("nginx/") && path !== "nginx/local.conf");
  const serverNames = nginx.flatMap(({ content }) => serverNamesIn(content.toString()));
  const migrationFiles = migrationsIn(files);
  const migrations = migrationFiles.map(({ version }) => version).sort();
  return { tar: archive(files), configHash: hashOf(files), migrations, migrationFiles, upstream, serverNames };
}

/** The .env of a release, without the lines that only the deploy knows: which slot, which image. */
export function releaseEnvironment(values: Readonly<Record<string, string>>, secretNames: readonly string[]): string {
  const { COMPOSE_PROFILES = "", IMAGE_BLUE, IMAGE_GREEN, RELEASE_IMAGE, ...own } = values;
  const profiles = COMPOSE_PROFILES.split(",").filter((profile) => profile && !isSlot(profile));
  const kept = profiles.length > 0 ? { ...own, COMPOSE_PROFILES: profiles.join(",") } : own;
  return formatEnvironment(kept, secretNames);
}

const isSlot = (profile: string) => (slots as readonly string[]).includes(profile);

async function filesAt(directory: string, path: string): Promise<ArchiveFile[]> {
  const entries = await readdir(join(directory, path), { withFileTypes: true }).catch((error) => {
    if (error.code === "ENOENT") throw missing(path, directory);
    if (error.code === "ENOTDIR") return undefined;
    throw error;
  });
  if (!entries) return [{ path, content: await readFile(join(directory, path)) }];
  const names = entries.map(({ name }) => name).sort();
  return (await Promise.all(names.map((name) => filesAt(directory, `${path}/${name}`)))).flat();
}

function hashOf(files: readonly ArchiveFile[]): string {
  const hash = createHash("sha256");
  for (const { path, content } of files) hash.update(`${path}\0${content.length}\0`).update(content);
  return hash.digest("hex").slice(0, 16);
}

/** As dbmate takes them: those whose name begins with digits. */
function migrationsIn(files: readonly ArchiveFile[]): MigrationFile[] {
  return files.flatMap(({ path, content }) => {
    const [, name] = /^migrations\/(\d[^/]*\.sql)$/.exec(path) ?? [];
    return name ? [parseMigration(name, content.toString())] : [];
  });
}

function missing(path: string, directory: string): Failure {
  const next = ["cd to the project's root, or npx create-dbops . to put it back"];
  return new Failure("Cannot read the project's files", `there is no ${path} in ${directory}`, next, {
    exitCode: exitCodes.usage,
  });
}
