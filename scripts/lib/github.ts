// GitHub Actions: tells the runner which texts to hide in the log, before any of them could be printed.
import { formsOf } from "./redact.ts";

/**
 * Does nothing outside GitHub Actions: elsewhere these lines would print the very values that they are to hide.
 * On stderr: the runner obeys the commands of either stream, stderr's first (actions/runner, ScriptHandler.cs and
 * ProcessInvoker.cs), and stdout is the result.
 */
export function maskInGitHubActions(values: readonly string[]): void {
  if (process.env.GITHUB_ACTIONS !== "true") return;
  for (const line of maskCommands(values)) console.error(line);
}

/**
 * One line for each form. A value of several lines goes line by line, which is how it would be printed: of one that is
 * handed over whole, the runner hides every line, even a line that is a single bracket (actions/runner#326).
 */
export function maskCommands(values: readonly string[]): string[] {
  const oneLine = formsOf(values).filter((form) => !/[\r\n]/.test(form));
  return oneLine.map((form) => `::add-mask::${form.replaceAll("%", "%25")}`);
}
