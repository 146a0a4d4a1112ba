// Tells people how a verb ended: Slack, Discord, or any webhook. docs/notifications.md says what each of them receives.
// Never fails the verb: whatever goes wrong comes back as lines to print.
import type { Settings } from "./config.ts";
import { messageFor, type News } from "./message.ts";
import { postJson } from "./post.ts";

export type { News };

type Target = Settings["notifications"][number];

/**
 * Sends the news to every target that wants it, all at the same time.
 * @param values where `urlFrom` is looked up: this process's environment and the values of .env.tpl.
 * @param unread the file whose values should be among them, and could not be read.
 * @returns a line for each target that did not take it, never with its URL. Never rejects.
 */
export async function notify(
  targets: readonly Target[],
  news: News,
  values: Readonly<Record<string, string | undefined>>,
  withinSeconds = 10,
  unread?: string,
): Promise<string[]> {
  const wanted = targets.filter(({ on }) => on === "always" || news.outcome !== "done");
  const problems = wanted.map(async ({ kind, urlFrom }) => {
    const url = values[urlFrom];
    if (!url && unread) return `${kind} was not told: ${urlFrom} is not in the environment, and ${unread} was not read`;
    if (!url) return `${kind} was not told: ${urlFrom} is not set, neither in the environment nor in .env.tpl`;
    const message = messageFor(kind, { ...runInCi(), ...news });
    const reply = await postJson({ url, body: JSON.stringify(message), withinSeconds });
    return reply.ok ? undefined : `${kind} was not told (${urlFrom}): ${reply.why}`;
  });
  return (await Promise.all(problems)).filter((problem) => problem !== undefined);
}

/** In GitHub Actions its log is where to read on. */
function runInCi(): { url?: string } {
  const { GITHUB_ACTIONS, GITHUB_SERVER_URL, GITHUB_REPOSITORY, GITHUB_RUN_ID } = process.env;
  if (GITHUB_ACTIONS !== "true") return {};
  return { url: `${GITHUB_SERVER_URL}/${GITHUB_REPOSITORY}/actions/runs/${GITHUB_RUN_ID}` };
}
