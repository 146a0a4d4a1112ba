// Text that others have written, made harmless before people or a CI runner see it: what an app logs may come from its visitors.
import { stripVTControlCharacters } from "node:util";

/**
 * Without terminal sequences and control characters, apart from line breaks and tabs. GitHub's runner obeys `##[command]`
 * wherever it stands in a line (ActionCommand.TryParse, actions/runner), so that is broken up.
 */
export function printable(text: string): string {
  return stripVTControlCharacters(text)
    .replaceAll(/\r\n?/g, "\n")
    .replaceAll(/[^\P{Cc}\n\t]/gu, "")
    .replaceAll("##[", "## [");
}

/** The same on one line, which then cannot begin with a `::command` of its own. */
export const onOneLine = (text: string): string => printable(text).replaceAll(/\s*\n\s*/g, " ");
