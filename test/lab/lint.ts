// Migration files to lint, written in a test as short as they can be.
import { lintMigrations } from "../../scripts/lib/lint-run.ts";
import { runSquawk } from "../../scripts/lib/lint-squawk.ts";
import { parseMigration } from "../../scripts/lib/migration-file.ts";
import { repository } from "./repository.ts";

export type Files = Readonly<Record<string, string | Buffer>>;
export type Options = { from?: string; only?: string[]; squawk?: Parameters<typeof lintMigrations>[0]["squawk"] };

export const first = "20260101000000_first.sql";
export const second = "20260102000000_second.sql";
export const third = "20260103000000_third.sql";

/** One file. */
export const only = (text: string | Buffer): Files => ({ [first]: text });

export const migration = (up: string, down = "select 1;") => `-- migrate:up\n${up}\n\n-- migrate:down\n${down}\n`;

/** Without a transaction. */
export const alone = (up: string) => `-- migrate:up transaction:false\n${up}\n\n-- migrate:down\nselect 1;\n`;

export const lint = async (files: Files, options: Options = {}) =>
  await lintMigrations({
    migrations: Object.entries(files).map(([file, text]) => parseMigration(file, text)),
    now: new Date("2026-11-21T12:00:00Z"),
    squawk: (judged) => runSquawk(repository, judged),
    ...options,
  });

/** "20260101000000_first.sql:2:1 rule: message" */
export const told = async (files: Files, options?: Options) =>
  (await lint(files, options)).findings.map(
    ({ file, line, column, rule, message }) => `${file}:${line}:${column} ${rule}: ${message}`,
  );
