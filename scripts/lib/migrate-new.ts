// `migrate new NAME`: a file with the next version and the project's own TEMPLATE.sql in it.
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { versionOf } from "./adopt-version.ts";
import { usage } from "./args.ts";
import { exitCodes, Failure } from "./failure.ts";
import { commandLine, type MigrateRequest } from "./migrate-request.ts";
import { asTyped } from "./runtime.ts";

export async function newMigration({ directory, flags, words }: MigrateRequest): Promise<void> {
  const [given] = words;
  if (given === undefined) throw usage(commandLine, "new takes a NAME, such as create_invoices");
  const name = nameOf(given);
  if (!name) throw usage(commandLine, `"${given}" has no letter or digit that could be a name`);
  const folder = join(directory, "migrations");
  const existing = await readdir(folder).catch(() => {
    throw new Failure(
      "Cannot make a migration",
      `there is no migrations/ in ${directory}`,
      ["cd to the project's root"],
      {
        exitCode: exitCodes.usage,
      },
    );
  });
  const version = nextVersion(existing, new Date());
  const file = `${version}_${name}.sql`;
  const template = await readFile(join(folder, "TEMPLATE.sql"), "utf8").catch(() => bareTemplate);
  if (!flags.plan) await writeFile(join(folder, file), template, { flag: "wx" });
  const text = [
    `${flags.plan ? "Would write" : "Wrote"} migrations/${file}`,
    "  next: write both parts, then bun scripts/migrate.ts lint",
    "  next: bun scripts/migrate.ts up",
  ].join("\n");
  console.log(flags.json ? JSON.stringify({ version, file: `migrations/${file}` }) : asTyped(text));
}

const bareTemplate = "-- What this is for, in one sentence.\n\n-- migrate:up\n\n\n-- migrate:down\n\n";

/** "Create Invoices" becomes create_invoices. What a deploy sends must not be longer than 100 bytes with its path. */
export function nameOf(given: string): string {
  const name = given
    .normalize("NFKD")
    .toLowerCase()
    .replaceAll(/\p{M}/gu, "")
    .replaceAll(/[^a-z0-9]+/g, "_");
  return name
    .replaceAll(/^_+|_+$/g, "")
    .slice(0, 60)
    .replace(/_+$/, "");
}

/**
 * The UTC time as digits, or one second after the newest file where that is later: dbmate refuses what is older than what is applied.
 * @throws {Failure} exit 2 where the newest is no time, and sorts behind every time.
 */
export function nextVersion(existing: readonly string[], now: Date): string {
  const versions = existing.flatMap((file) => /^(\d+).*\.sql$/.exec(file)?.[1] ?? []).sort();
  const newest = versions.at(-1) ?? "";
  const present = digits(now);
  if (newest < present) return present;
  // Of more digits the rest is a part of the second.
  const time = Date.parse(newest.replace(/^(....)(..)(..)(..)(..)(..)\d*$/, "$1-$2-$3T$4:$5:$6Z"));
  if (/^\d{14}/.test(newest) && !Number.isNaN(time)) return digits(new Date(time + 1000));
  const why = `the newest version, ${newest}, is no time, and comes after every time`;
  const file = existing.find((name) => /^\d+/.exec(name)?.[0] === newest)!;
  const isNumbered = versions.every(({ length }) => length < 8);
  const renamed = `${isNumbered ? versionOf(newest) : present}${file.slice(newest.length)}`;
  const next = [
    `git mv migrations/${file} migrations/${renamed}      # and so on: each file that has no time`,
    "bun scripts/drift.ts repair --plan      # in each database: its numbers become the versions of these files",
  ];
  throw new Failure("Cannot make a migration", why, next, { exitCode: exitCodes.usage });
}

const digits = (time: Date) => time.toISOString().replaceAll(/\D/g, "").slice(0, 14);
