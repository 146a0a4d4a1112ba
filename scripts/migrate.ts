// Changes the database by the files in migrations/, safely.   bun scripts/migrate.ts up
// dbmate applies them; what stands around it is here: one runner at a time, a short wait for locks with another try, the truth about
// what was applied, and checks before and after. docs/migrations.md is the guide.
import { parseArguments, usage } from "./lib/args.ts";
import { commandLine, type MigrateRequest } from "./lib/migrate-request.ts";
import { packageMissing } from "./lib/packages.ts";
import { runIfMain } from "./lib/verb.ts";

export async function main(argv: readonly string[]): Promise<void> {
  const flags = parseArguments(argv, commandLine);
  const [word, ...words] = flags._;
  const load = subcommands[word ?? ""];
  const names = Object.keys(subcommands).join(", ");
  if (!load) throw usage(commandLine, word === undefined ? `say which of ${names}` : `"${word}" is none of ${names}`);
  const surplus = word === "lint" ? undefined : words[takesWord.includes(word!) ? 1 : 0];
  if (surplus !== undefined) throw usage(commandLine, `"${surplus}" is one word too many`);
  if (!/^\d{1,6}$/.test(flags.wait)) throw usage(commandLine, `--wait takes seconds, not "${flags.wait}"`);
  const { loadConfig } = await import("./lib/config.ts").catch(packageMissing);
  const directory = process.cwd();
  const settings = await loadConfig(directory);
  const subcommand = await load().catch(packageMissing);
  await subcommand({ settings, directory, flags, words });
}

const takesWord = ["new", "rehearse"];

const subcommands: Readonly<Record<string, () => Promise<(request: MigrateRequest) => Promise<void>>>> = {
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
