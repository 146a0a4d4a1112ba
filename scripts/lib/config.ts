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

/** What scripts/validator.ts expects of the database; it says there what each is for. */
const expectation = z.strictObject({
  criticalTables: z.array(
    z.union([tableName, z.strictObject({ name: tableName, privileges: z.array(z.enum(privileges)) })]),
  ),
  extensions: z.array(z.union([z.string(), z.strictObject({ name: z.string(), minimumVersion: z.string() })])),
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
        server: z.string().regex(/^[^@\s]+@[^@\s]+$/, 'user@host, for instance "deploy@example.com"'),
        directory: z.string().startsWith("/", "an absolute path on the server"),
        domain: z.string().min(1),
        image: z.string().min(1),
      })
      .optional(),
  }),
});

export type Config = z.input<typeof configSchema>;

const correctIt = ["correct dbops.config.ts, then run this again"];

/**
 * The configuration of the project in a directory.
 * @throws {Failure} exit 2: no such file, or anything wrong in it.
 */
export async function loadConfig(directory = process.cwd()): Promise<Config> {
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
  return parseConfig(module.default);
}

/** @throws {Failure} exit 2 with one line for each problem. */
export function parseConfig(untrusted: unknown): Config {
  const parsed = configSchema.safeParse(untrusted);
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.map(({ path, message }) => `${path.join(".") || "the whole"}: ${message}`);
  const count = problems.length === 1 ? "1 problem" : `${problems.length} problems`;
  throw new Failure("Cannot use dbops.config.ts", count, correctIt, {
    exitCode: exitCodes.usage,
    details: problems.join("\n"),
  });
}
