// Runs a verb's main when its file was started as a command, and does nothing when it was imported.
import { realpathSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { reportAndExit } from "./failure.ts";

/** @param meta the calling file's `import.meta`. `import.meta.main` is missing from Node before 24.2, where a verb would silently do nothing. */
export async function runIfMain(meta: ImportMeta, main: (argv: readonly string[]) => Promise<void>): Promise<void> {
  if (!(meta.main ?? isStarted(meta.url))) return;
  await main(process.argv.slice(2)).catch(reportAndExit);
}

function isStarted(url: string): boolean {
  const started = process.argv[1];
  return started !== undefined && pathToFileURL(realpathSync(started)).href === url;
}
