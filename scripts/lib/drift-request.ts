// What the subcommands of scripts/drift.ts are given, and which flags each of them takes.
import type { Arguments, CommandLine } from "./args.ts";
import type { Settings } from "./config.ts";
import type { Subcommand } from "./subcommands.ts";

export const driftFlags = {
  on: { value: "ENVIRONMENT", oneOf: ["local", "production"], default: "local", help: "whose database" },
  "database-url": { value: "URL", help: "instead of that: another database; its password in PGPASSWORD" },
  "scratch-url": { value: "URL", help: "a Postgres to try the migrations in, instead of a throw-away container" },
  image: { value: "IMAGE", help: "of that container (default: that of compose.yaml)" },
  keep: {
    value: "SIDE",
    oneOf: ["database", "files"],
    help: "where the structure differs: which of the two is right",
  },
  match: {
    value: "NUMBER=VERSION",
    many: true,
    help: "the file that a number stands for, or another version without a file; NUMBER=none, or: order",
  },
  "no-backup": { help: "without a backup first" },
  tool: { value: "NAME", help: "what has migrated the database so far, where that is not clear" },
  table: { value: "TABLE", help: "its table, where there are several" },
  files: { value: "FOLDER", help: "where its migrations are (default: where they usually are)" },
  applied: { value: "FILE", many: true, help: "this file is applied, where the database does not show it" },
  baseline: { help: "take the database as it is, and none of the files" },
  plan: { help: "print what would be done, and do nothing" },
  yes: { help: "do not ask before anything is changed" },
  wait: { value: "SECONDS", default: "0", help: "for another runner of migrations" },
  json: { help: "one JSON document on stdout" },
} as const satisfies CommandLine["flags"];

const common = ["on", "database-url", "scratch-url", "image", "yes", "json"] as const;

export const driftSubcommands = {
  check: { does: "only reads, and says what differs; this is the usual one", flags: common },
  repair: { does: "mends it", flags: [...common, "keep", "match", "applied", "no-backup", "plan", "wait"] },
  adopt: {
    does: "takes over the history of another tool",
    flags: [...common, "tool", "table", "files", "applied", "baseline", "plan", "wait"],
  },
} as const satisfies Record<string, Subcommand<keyof typeof driftFlags>>;

export type DriftFlags = Arguments<Omit<CommandLine, "flags" | "rest"> & { flags: typeof driftFlags }>;

export type DriftRequest = {
  settings: Settings;
  /** Of the project. */
  directory: string;
  flags: DriftFlags;
};
