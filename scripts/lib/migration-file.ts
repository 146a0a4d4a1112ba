// A migration as dbmate reads it: one SQL file, its version in front of the name, one part to apply it and one to take it back.
import { isUtf8 } from "node:buffer";
import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { exitCodes, Failure } from "./failure.ts";

export type Section = {
  /** From its `-- migrate:up` or `-- migrate:down` on, as dbmate sends it. */
  sql: string;
  /** Of that directive, in the file; the first is 1. */
  line: number;
  transaction: boolean;
};

export type MigrationFile = {
  /** "20260131120000_create_accounts.sql" */
  file: string;
  version: string;
  text: string;
  /** The first line that is not UTF-8, where there is one: the text is not what is there then. */
  lineNotUtf8: number | undefined;
  /** Of the text with line feeds alone: git on Windows must not make an edited file out of it. Hexadecimal. */
  sha256: string;
  /** The first pair is the one that a file should have. dbmate applies several, and takes back the last one alone. */
  sections: { up: Section; down: Section | undefined }[];
};

/** What lies beside the migrations and is none. */
const others = ["TEMPLATE.sql", "schema.sql"];

/**
 * All of a directory, in dbmate's order: by file name, as text.
 * @throws {Failure} exit 2 for a directory that is not there, and for files that dbmate would skip or could not read: all at once.
 */
export async function readMigrations(directory: string): Promise<MigrationFile[]> {
  const { files, problems } = await findMigrations(directory);
  problems.push(...unreadableIn(files), ...sameVersions(files));
  if (problems.length === 0) return files;
  const count = problems.length === 1 ? "1 file is not one that dbmate can apply" : `${problems.length} problems`;
  throw new Failure("Cannot read migrations/", count, ["bun scripts/migrate.ts lint"], {
    ...usage,
    details: problems.join("\n"),
    read: "docs/migrations.md",
  });
}

const usage = { exitCode: exitCodes.usage } as const;

/**
 * The same for whoever looks at them one by one: also those that dbmate could not read, which whyUnreadable() says, and those of one version.
 * @returns as `problems` the names that dbmate would skip. @throws {Failure} exit 2 for a directory that is not there.
 */
export async function findMigrations(
  directory: string,
  folder = "migrations",
): Promise<{ files: MigrationFile[]; problems: string[] }> {
  const names = await readdir(join(directory, folder)).catch(() => {
    const next = ["cd to the project's root", "bun scripts/migrate.ts new NAME"];
    throw new Failure(`Cannot read ${folder}/`, `there is none in ${directory}`, next, usage);
  });
  const sql = names.filter((name) => name.endsWith(".sql") && !others.includes(name)).sort();
  const problems = sql.filter((name) => !/^\d/.test(name)).map((name) => `${name}: its name must begin with a version`);
  const files = sql.map(async (name) => parseMigration(name, await readFile(join(directory, folder, name))));
  return { files: await Promise.all(files), problems };
}

/** Pure. Whether dbmate can read it, whyUnreadable() says. */
export function parseMigration(file: string, content: string | Buffer): MigrationFile {
  const text = content.toString();
  const lines = text.split("\n");
  const directives = lines.flatMap((line, index) => {
    const [, direction, options = ""] = directive.exec(line) ?? [];
    return direction ? [{ direction, options, index }] : [];
  });
  const section = (at: number): Section => {
    const { options, index } = directives[at]!;
    const end = directives[at + 1]?.index ?? lines.length;
    return {
      sql: lines.slice(index, end).join("\n"),
      line: index + 1,
      transaction: !/(?:^|\s)transaction:false(?:\s|$)/.test(options),
    };
  };
  const sections = directives.flatMap(({ direction }, at) => {
    if (direction !== "up") return [];
    return [{ up: section(at), down: directives[at + 1]?.direction === "down" ? section(at + 1) : undefined }];
  });
  const sha256 = createHash("sha256").update(text.replaceAll("\r\n", "\n")).digest("hex");
  return { file, version: /^\d*/.exec(file)![0], text, lineNotUtf8: firstNotUtf8(content), sha256, sections };
}

function firstNotUtf8(content: string | Buffer): number | undefined {
  if (typeof content === "string" || isUtf8(content)) return undefined;
  // A line feed is never a part of another character, neither in UTF-8 nor in Latin-1.
  const lines = content.toString("latin1").split("\n");
  return lines.findIndex((line) => !isUtf8(Buffer.from(line, "latin1"))) + 1;
}

/** As dbmate 2.36 looks for it: at the beginning of a line, in lower case. */
const directive = /^--\s*migrate:(up|down)(?:\s+(\S.*?))?\s*$/;

type Unreadable = {
  /** The rule of `migrate lint` that finds it. */
  rule: "encoding" | "up-missing" | "statement-before-up" | "several-sections" | "down-missing";
  /** Undefined where something is missing. */
  line: number | undefined;
  why: string;
};

/** Why dbmate would refuse it, or do with it what nobody expects; undefined for a good one. */
export function whyUnreadable({ text, lineNotUtf8, sections }: MigrationFile): Unreadable | undefined {
  const unreadable = (rule: Unreadable["rule"], line: number | undefined, why: string) => ({ rule, line, why });
  if (lineNotUtf8) return unreadable("encoding", lineNotUtf8, "it is not UTF-8");
  const [first, second] = sections;
  if (!first) return unreadable("up-missing", undefined, 'there is no line "-- migrate:up"');
  const lines = text.split("\n");
  const statement = lines.findIndex((line) => line.trim() !== "" && !/^\s*--/.test(line)) + 1;
  if (statement > 0 && statement < first.up.line) {
    return unreadable("statement-before-up", statement, 'a statement stands in front of "-- migrate:up"');
  }
  if (second) {
    const why = 'a second "-- migrate:up"; dbmate would take back this part alone';
    return unreadable("several-sections", second.up.line, why);
  }
  if (!first.down) {
    return unreadable("down-missing", undefined, 'there is no line "-- migrate:down" behind "-- migrate:up"');
  }
  const [, secondDown] = lines.flatMap((line, at) => (directive.exec(line)?.[1] === "down" ? [at + 1] : []));
  return secondDown ? unreadable("several-sections", secondDown, 'a second "-- migrate:down"') : undefined;
}

/** A sentence for each of the files that dbmate could not read. */
export const unreadableIn = (files: readonly MigrationFile[]): string[] =>
  files.flatMap((migration) => {
    const { line, why } = whyUnreadable(migration) ?? {};
    return why ? [`${migration.file}${line ? `:${line}` : ""}: ${why}`] : [];
  });

/** A version is the name of a change: two files of one version, and one of them is never applied. */
export const withSameVersion = <File extends Pick<MigrationFile, "version">>(files: readonly File[]): File[][] =>
  [...Map.groupBy(files, ({ version }) => version).values()].filter((same) => same.length > 1);

export const sameVersions = (files: readonly Pick<MigrationFile, "file" | "version">[]): string[] =>
  withSameVersion(files).map(
    (same) => `${same.map(({ file }) => file).join(" and ")}: both have the version ${same[0]!.version}`,
  );
