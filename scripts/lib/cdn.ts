// Empties Cloudflare's cache after a deploy: the whole zone, or the URLs that dbops.config.ts lists.
// Never fails the deploy, which is done by then: whatever goes wrong comes back as lines to print, with the command to repeat it.
import type { Settings } from "./config.ts";
import { postJson } from "./post.ts";
import { redact } from "./redact.ts";

type Cdn = NonNullable<Settings["cdn"]>;

/** Cloudflare takes 100 URLs at once on its Free, Pro and Business plans, and 500 on Enterprise (July 2026). */
const urlsAtOnce = 100;

/**
 * @param values where `tokenFrom` is looked up: this process's environment and the values of .env.tpl.
 * @returns a line for each request that Cloudflare did not carry out, never with the token. Never rejects.
 */
export async function purgeCdn(
  cdn: Cdn,
  values: Readonly<Record<string, string | undefined>>,
  withinSeconds = 10,
): Promise<string[]> {
  // The variable that Cloudflare's own clients read.
  const base = process.env.CLOUDFLARE_BASE_URL || "https://api.cloudflare.com/client/v4";
  const url = `${base}/zones/${encodeURIComponent(cdn.zone)}/purge_cache`;
  const token = values[cdn.tokenFrom];
  if (!token) {
    const why = `${cdn.tokenFrom} is not set, neither in the environment nor in .env.tpl`;
    return requestsFor(cdn.purge).map((body) => notPurged(why, url, cdn, body));
  }
  const problems: string[] = [];
  // One after the other: at once they would trip the limit on requests per second.
  for (const body of requestsFor(cdn.purge)) {
    const headers = { authorization: `Bearer ${token}` };
    const reply = await postJson({ url, headers, body, withinSeconds });
    const { success, errors } = parseAnswer(reply.text);
    if (reply.ok && success) continue;
    const why = reply.ok ? "its answer does not say success" : reply.why;
    problems.push(notPurged(redact([why, ...errors].join(": "), [token]), url, cdn, body));
  }
  return problems;
}

/** The bodies to send, one after the other. */
export function requestsFor(purge: Cdn["purge"]): string[] {
  if (purge === "everything") return [JSON.stringify({ purge_everything: true })];
  const count = Math.ceil(purge.length / urlsAtOnce);
  const chunks = Array.from({ length: count }, (_, index) => purge.slice(index * urlsAtOnce, (index + 1) * urlsAtOnce));
  return chunks.map((files) => JSON.stringify({ files }));
}

/** Whatever it is that answers: a proxy's page is no success either. */
function parseAnswer(text: string): { success: boolean; errors: string[] } {
  try {
    const { success, errors } = JSON.parse(text);
    const said = (errors as { code: number; message: string }[]).map(({ code, message }) => `${code} ${message}`);
    return { success: success === true, errors: said };
  } catch {
    return { success: false, errors: [] };
  }
}

/** The token reaches curl through stdin: in its arguments every user of the machine could read it. */
function notPurged(why: string, url: string, { tokenFrom }: Cdn, body: string): string {
  const header = `printf 'Authorization: Bearer %s' "$${tokenFrom}"`;
  const request = `curl --fail-with-body --header @- --header 'Content-Type: application/json' --data ${quoted(body)} ${quoted(url)}`;
  return `The CDN still has the old pages: ${why}\n  next: ${header} | ${request}`;
}

/** For a POSIX shell. */
const quoted = (word: string) => `'${word.replaceAll("'", "'\\''")}'`;
