// Whether a database is what its migrations make of it; mends what is not; takes over a database that another tool has migrated.
//   bun scripts/drift.ts check --on production      only ever reads
//   bun scripts/drift.ts repair --on production     prints its plan, asks, and proves at the end that nothing is left
import { type CommandLine, usage } from "./lib/args.ts";
import { type DriftRequest, driftFlags, driftSubcommands } from "./lib/drift-request.ts";
import { packageMissing } from "./lib/packages.ts";
import { parseSubcommand, withSubcommands } from "./lib/subcommands.ts";
import { runIfMain } from "./lib/verb.ts";

const line = {
  command: "bun scripts/drift.ts",
  purpose:
    "Finds where a database is not what its migrations make of it, mends it, and adopts databases of other tools.",
  flags: driftFlags,
  examples: [
    "bun scripts/drift.ts check --on production        # exit 3 when anything differs",
    "bun scripts/drift.ts repair --plan",
    "bun scripts/drift.ts repair --keep files          # back to what migrations/ say",
    "bun scripts/drift.ts repair --keep database       # what was done by hand becomes a migration",
    "bun scripts/drift.ts adopt --plan                 # from knex, drizzle, prisma, alembic, flyway, rails …",
  ],
  notes: [
    "Environment: PGPASSWORD for --database-url; for the backup before a repair what bun scripts/backup.ts needs.",
    "Exit codes: 0 nothing differs, or no longer; 1 failed, and nothing was changed; 2 flags, configuration; 3 something",
    "differs; 4 migrations are being applied; 5 nothing was confirmed, or it cannot be decided; 130 interrupted.",
  ].join("\n"),
} as const satisfies CommandLine;

const commandLine = withSubcommands(line, driftSubcommands);

const subcommands: Readonly<Record<keyof typeof driftSubcommands, (request: DriftRequest) => Promise<void>>> = {
  check: async (request) => (await import("./lib/drift-check.ts").catch(packageMissing)).check(request),
  repair: async (request) => (await import("./lib/drift-repair.ts").catch(packageMissing)).repair(request),
  adopt: async (request) => (await import("./lib/drift-adopt.ts").catch(packageMissing)).adopt(request),
};

export async function main(argv: readonly string[]): Promise<void> {
  const { name, flags } = parseSubcommand(argv, commandLine, driftSubcommands, "check");
  if (!/^\d{1,6}$/.test(flags.wait)) throw usage(commandLine, `--wait takes seconds, not "${flags.wait}"`);
  const { loadConfig } = await import("./lib/config.ts").catch(packageMissing);
  const directory = process.cwd();
  await subcommands[name]({ settings: await loadConfig(directory), directory, flags });
}

await runIfMain(import.meta, main);
