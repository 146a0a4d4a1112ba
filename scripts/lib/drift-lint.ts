// What `migrate lint` would refuse in a migration that a repair writes about what is in a database already. It is noted as applied with its
// sum, so nobody could correct it afterwards: each rule is allowed in front of it, with the reason, and so lint, and its readers, see it.
import { exitCodes, Failure } from "./failure.ts";
import { ruleOf } from "./lint-rules.ts";
import { lintMigrations } from "./lint-run.ts";
import { runSquawk } from "./lint-squawk.ts";
import { type MigrationFile, parseMigration } from "./migration-file.ts";

type Wanted = {
  /** The new ones. */
  files: readonly MigrationFile[];
  /** Those that are there. */
  before: readonly MigrationFile[];
  directory: string;
  interrupted: AbortSignal;
};

/** @returns the same files, with a line for each rule that one of their statements breaks. */
export async function allowWhatIsThere(wanted: Wanted): Promise<MigrationFile[]> {
  const { files } = wanted;
  const found = await errorsIn(wanted);
  return files.map((migration) => {
    const { file, text } = migration;
    const rules = new Set(found.filter((one) => one.file === file).map(({ rule }) => rule));
    if (rules.size === 0) return migration;
    const lines = [...rules].sort().map((rule) => `-- dbops:allow ${rule} ${reason}\n`);
    // In front of the empty line: before the section it is about the whole file.
    return parseMigration(file, text.replace(/^\n(?=-- migrate:up)/m, `${lines.join("")}\n`));
  });
}

const reason = "done by hand in a database, before there was this file";

async function errorsIn({ files, before, directory, interrupted }: Wanted) {
  const migrations = [...before, ...files].sort((one, other) => (one.file < other.file ? -1 : 1));
  const only = files.map(({ file }) => file);
  const lint = async (squawk: Parameters<typeof lintMigrations>[0]["squawk"]) =>
    (await lintMigrations({ migrations, only, now: new Date(), squawk })).findings.filter(
      ({ rule, severity }) => severity === "error" && ruleOf(rule).about !== "file",
    );
  return await lint((judged) => runSquawk(directory, judged, interrupted)).catch(async (error: unknown) => {
    // It is not installed: a project may do without, and lint then says so.
    if (!(error instanceof Failure) || error.exitCode !== exitCodes.usage) throw error;
    return await lint(undefined);
  });
}
