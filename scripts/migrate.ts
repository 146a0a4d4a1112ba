// Changes the database by the files in migrations/, safely.   bun scripts/migrate.ts up
// dbmate applies them; what stands around it is here: one runner at a time, a short wait for locks with another try, the truth about
// what was applied, and checks before and after. docs/migrations.md is the guide.
import { usage } from "./lib/args.ts";
import { commandLine, type MigrateRequest, subcommands } from "./lib/migrate-request.ts";
import { packageMissing } from "./lib/packages.ts";
import { parseSubcommand } from "./lib/subcommands.ts";
import { runIfMain } from "./lib/verb.ts";

export async function main(argv: readonly string[]): Promise<void> {
  const { name, words, flags } = parseSubcommand(argv, commandLine, subcommands);
  if (!/^\d{1,6}$/.test(flags.wait)) throw usage(commandLine, `--wait takes seconds, not "${flags.wait}"`);
  const { loadConfig } = await import("./lib/config.ts").catch(packageMissing);
  const directory = process.cwd();
  const settings = await loadConfig(directory);
  const subcommand = await load[name]().catch(packageMissing);
  await subcommand({ settings, directory, flags, words });
}

const load: Readonly<Record<keyof typeof subcommands, () => Promise<(request: MigrateRequest) => Promise<void>>>> = {
  new: async () => (await import("./lib/migrate-new.ts")).newMigration,
  up: async () => (await import("./lib/migrate-up.ts")).up,
  status: async () => (await import("./lib/migrate-status.ts")).status,
  down: async () => (await import("./lib/migrate-down.ts")).down,
  lint: async () => (await import("./lib/migrate-lint.ts")).lint,
  dump: async () => (await import("./lib/migrate-dump.ts")).dump,
  verify: async () => (await import("./lib/migrate-verify.ts")).verify,
  rehearse: async () => (await import("./lib/migrate-rehearse.ts")).rehearse,
};

await runIfMain(import.meta, main);
