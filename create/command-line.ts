// What can be typed after create-dbops.
import { type Arguments, parseArguments } from "../scripts/lib/args.ts";

const line = {
  command: "create-dbops",
  purpose: "Writes Compose, migrations, scripts and a runbook for one app, one Postgres, one server: files you own.",
  words: ["[dir]"],
  flags: {
    name: { value: "NAME", help: "Compose project, package and image name (default: from the folder)" },
    database: { value: "NAME", help: "database, and the role that owns it (default: from the name)" },
    domain: { value: "HOST", help: "where production is served (default: app.example.com)" },
    image: { value: "IMAGE", help: "where production's image is pushed (default: ghcr.io/example/NAME)" },
    server: { value: "USER@HOST", help: "the production server (default: deploy@DOMAIN)" },
    runtime: { value: "RUNTIME", oneOf: ["bun", "deno"], help: "for the app and the scripts (default: bun)" },
    with: { value: "EXTRA", many: true, help: "kubernetes, ecs, tenants; with commas, or several times" },
    "no-app": { help: "no starter app, even into an empty folder" },
    "no-git": { help: "no git init" },
    "no-install": { help: "no dependencies installed" },
    up: { help: "bring the stack up afterwards" },
    yes: { help: "ask nothing, take the defaults" },
    "dry-run": { help: "print what would be written, write nothing" },
    force: { value: "FILE", many: true, help: "overwrite this one file of yours; several times for several" },
    json: { help: "one JSON document on stdout, everything else on stderr" },
    version: { help: "print the version" },
  },
  examples: [
    "npx create-dbops my-app",
    "npx create-dbops . --dry-run",
    "bunx create-dbops shop --domain shop.example.com --server deploy@shop.example.com --yes",
  ],
  notes: "Exit codes: 0 done, 1 failed, 2 usage or something in the way (nothing is written), 130 cancelled.",
} as const;

export type Flags = Arguments<typeof line>;

export const parseFlags = (argv: readonly string[]): Flags => parseArguments(argv, line);
