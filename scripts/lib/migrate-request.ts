// What every subcommand of scripts/migrate.ts is given, and which flags and words each of them takes.
import type { Arguments, CommandLine } from "./args.ts";
import type { Settings } from "./config.ts";
import { type Subcommand, withSubcommands } from "./subcommands.ts";

const line = {
  command: "bun scripts/migrate.ts",
  purpose: "Changes the database by the files in migrations/, and says beforehand what a change would do.",
  flags: {
    on: { value: "ENVIRONMENT", oneOf: ["local", "production"], default: "local", help: "whose database" },
    "database-url": { value: "URL", help: "instead of that: another database; its password in PGPASSWORD" },
    wait: {
      value: "SECONDS",
      default: "60",
      help: "how long to wait for another runner; 0 is not at all",
    },
    "lose-data": { help: "what it drops may be lost; needed anywhere but in this machine's stack" },
    "no-squawk": { help: "without the rules about locks, for which squawk is needed" },
    "exit-code": { help: "exit 3 when anything is pending or wrong" },
    base: { value: "REF", help: "the commit whose files come first; what is new is applied to those" },
    "no-incremental": { help: "only whether the files make what schema.sql says" },
    role: {
      value: "ROLE",
      many: true,
      help: "one that the files name, and that none of them makes",
    },
    "scratch-url": { value: "URL", help: "a server to make databases on, instead of a container" },
    from: {
      value: "ENVIRONMENT",
      help: "whose latest backup; default: of the one that is rehearsed for",
    },
    "in-container": { help: "in a throw-away container here, and not beside the live database" },
    image: { value: "IMAGE", help: "of that container, and not that of compose.yaml" },
    plan: { help: "print what would be done, and do nothing" },
    yes: { help: "do not ask before anything is changed" },
    json: { help: "one JSON document on stdout" },
  },
  examples: [
    "bun scripts/migrate.ts new create_invoices",
    "bun scripts/migrate.ts up                         # the database of this directory's stack",
    "bun scripts/migrate.ts up --on production         # bun scripts/deploy.ts does it by itself",
    "bun scripts/migrate.ts status --on production --exit-code",
    "bun scripts/migrate.ts lint",
    "bun scripts/migrate.ts lint migrations/20261121030000_create_invoices.sql",
    "bun scripts/migrate.ts dump                       # migrations/schema.sql",
    "bun scripts/migrate.ts verify                     # in CI",
    "bun scripts/migrate.ts rehearse                   # the pending files on a restored backup",
  ],
  notes: [
    "Exit codes: 0 done; 1 failed, and the message says what is applied and what is not; 2 flags, configuration, a file that",
    "dbmate cannot read; 3 a check said no; 4 another runner is at it; 5 nothing was confirmed; 130 interrupted.",
  ].join("\n"),
} as const satisfies CommandLine;

const ofDatabase = ["on", "database-url"] as const;
const always = ["yes", "json"] as const;

export const subcommands = {
  new: { does: "writes a file with the next version", word: "NAME", flags: ["plan", ...always] },
  up: { does: "applies what is pending", flags: [...ofDatabase, "wait", "plan", ...always] },
  status: { does: "what is applied, pending, edited, missing", flags: [...ofDatabase, "exit-code", ...always] },
  down: { does: "takes the newest back", flags: [...ofDatabase, "wait", "lose-data", "plan", ...always] },
  lint: { does: "what in the files is not safe", word: "[FILE...]", flags: ["no-squawk", ...always] },
  dump: { does: "writes migrations/schema.sql", flags: ["role", "scratch-url", "image", "plan", ...always] },
  verify: {
    does: "whether the files make what schema.sql says",
    flags: ["base", "no-incremental", "role", "scratch-url", "image", ...always],
  },
  rehearse: {
    does: "tries what is pending on a restored backup",
    word: "[BACKUP]",
    flags: [...ofDatabase, "from", "in-container", "image", "plan", ...always],
  },
} as const satisfies Record<string, Subcommand<keyof typeof line.flags>>;

export const commandLine = withSubcommands(line, subcommands);

export type MigrateRequest = {
  settings: Settings;
  /** Of the project: where migrations/ and compose.yaml are. */
  directory: string;
  flags: Arguments<typeof line>;
  /** What stands behind the subcommand: the NAME of `new`, the BACKUP of `rehearse`, the FILEs of `lint`. */
  words: readonly string[];
};
