// The validator as a command. Apart from scripts/validator.ts, so that an app can carry that one file alone.
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import {
  type Check,
  type Expectation,
  expectedVersions,
  formatProblem,
  type Report,
  type Tracker,
  trackers,
  validate,
} from "../validator.ts";
import { parseArguments } from "./args.ts";
import { exitCodes, Failure, reportAndExit } from "./failure.ts";
import { packageMissing } from "./packages.ts";

const trackerNames = ["auto", ...trackers.map(({ tracker }) => tracker)];

const commandLine = {
  command: "bun scripts/validator.ts",
  purpose: "Checks whether the database is what this release of the app needs. Reads only.",
  flags: {
    json: { help: "the whole report as one JSON document" },
    bake: { value: "FILE", help: "only write the versions of migrations/ to this file, for an image; no database" },
    tracker: { value: "NAME", oneOf: trackerNames, help: "what has migrated, if it is not dbmate" },
    files: { value: "FOLDER", help: "where its migrations are (default: migrations)" },
  },
  notes: [
    "The database: PGHOST, PGUSER, … or else DATABASE_URL; without them the one of .env, on 127.0.0.1.",
    "What is needed: migrations/, and `schema` of dbops.config.ts, where --tracker and --files may stand as well.",
    "Exit codes: 0 usable, 2 usage or configuration, 3 not usable.",
  ].join("\n"),
} as const;

export async function runCommand(argv: readonly string[]): Promise<void> {
  await main(argv).catch(reportAndExit);
}

async function main(argv: readonly string[]): Promise<void> {
  const { json, bake, files, ...flags } = parseArguments(argv, commandLine);
  const tracker = flags.tracker as Tracker | "auto" | undefined;
  if (bake) {
    const versions = readVersions(process.cwd(), { tracker, migrationsFolder: files });
    await writeFile(bake, `${JSON.stringify(versions)}\n`);
    console.error(`wrote ${versions.length} versions to ${bake}`);
    return;
  }
  // Imported here: an image that only bakes has neither zod nor dotenv.
  const { loadConfig } = await import("./config.ts").catch(packageMissing);
  const { connectAsConfigured } = await import("./postgres.ts").catch(packageMissing);
  const { schema } = await loadConfig();
  const asked = { tracker: tracker ?? schema.tracker, migrationsFolder: files ?? schema.migrationsFolder };
  const versions = asked.tracker === "auto" ? {} : { versions: readVersions(process.cwd(), asked) };
  const sql = await connectAsConfigured(process.env, process.cwd());
  const report = await validate(sql, { ...schema, ...asked, ...versions }).finally(() => sql.end({ timeout: 0 }));
  console.log(json ? JSON.stringify(report) : formatReport(report));
  process.exitCode = report.ok ? exitCodes.done : exitCodes.saidNo;
}

/**
 * The versions of the project in a directory.
 * @throws {Failure} exit 2 naming the file that dbmate would skip, the version that two files have, or the missing folder.
 */
export function readVersions(
  directory = process.cwd(),
  { tracker, migrationsFolder = "migrations" }: Pick<Expectation, "tracker" | "migrationsFolder"> = {},
): string[] {
  try {
    return expectedVersions(join(directory, migrationsFolder), tracker);
  } catch (error) {
    const next = [`ls ${migrationsFolder}`, "cd to the project's root"];
    throw new Failure(`Cannot read ${migrationsFolder}/`, (error as Error).message, next, {
      exitCode: exitCodes.usage,
    });
  }
}

/** One line for each check that passed, and for each problem. */
export function formatReport(report: Report): string {
  const { server, migrations, tables, problems } = report;
  const { tracker } = migrations;
  const passed: Record<Check, string> = {
    connection: `answered in ${report.responseTimeMs} ms`,
    server: `PostgreSQL ${server?.version}`,
    migrations: `${migrations.applied.length} applied${tracker ? ` by ${tracker}` : ""}, none pending`,
    tables: `${tables.length} critical, all usable`,
    extensions: "as expected",
    indexes: "none invalid",
  };
  const checks = Object.keys(passed) as Check[];
  return checks
    .flatMap((check) => {
      const found = problems.filter((problem) => problem.check === check);
      if (found.length > 0) return found.map(formatProblem);
      return report.connected ? [`ok    ${check}: ${passed[check]}`] : [];
    })
    .join("\n");
}
