// What the subcommands of scripts/drift.ts are given, and the flags that make it up.
import type { Arguments, CommandLine } from "./args.ts";
import type { Settings } from "./config.ts";

/** Of all of them. Those that only one subcommand reads name it. */
export const driftFlags = {
  on: { value: "ENVIRONMENT", oneOf: ["local", "production"], default: "local", help: "whose database" },
  "database-url": { value: "URL", help: "instead of that: another database; its password in PGPASSWORD" },
  "scratch-url": { value: "URL", help: "a Postgres to try the migrations in, instead of a throw-away container" },
  image: { value: "IMAGE", help: "of that container (default: that of compose.yaml)" },
  keep: {
    value: "SIDE",
    oneOf: ["database", "files"],
    help: "with repair, where the structure differs: which of the two is right",
  },
  match: {
    value: "NUMBER=VERSION",
    many: true,
    help: "with repair: the file that a number of an integer history stands for, NUMBER=none, or: order",
  },
  "no-backup": { help: "with repair: without a backup first" },
  tool: { value: "NAME", help: "with adopt: what has migrated the database so far, where that is not clear" },
  table: { value: "TABLE", help: "with adopt: its table, where there are several" },
  files: { value: "FOLDER", help: "with adopt: where its migrations are (default: where they usually are)" },
  applied: { value: "FILE", many: true, help: "with adopt, where files share a number: this one is applied" },
  baseline: { help: "with adopt: take the database as it is, and none of the files" },
  plan: { help: "print what would be done, and do nothing" },
  yes: { help: "do not ask before anything is changed" },
  wait: { value: "SECONDS", default: "0", help: "for another runner of migrations" },
  json: { help: "one JSON document on stdout" },
} as const satisfies CommandLine["flags"];

export type DriftFlags = Arguments<Omit<CommandLine, "flags" | "rest"> & { flags: typeof driftFlags }>;

export type DriftRequest = {
  settings: Settings;
  /** Of the project. */
  directory: string;
  flags: DriftFlags;
  /** What follows the subcommand. */
  words: readonly string[];
};
