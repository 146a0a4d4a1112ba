// One JSON document to somebody else's service: bounded, tried twice at most, and no error text with the URL in it, which
// for a webhook is the secret itself.

export type Post = {
  url: string;
  headers?: Readonly<Record<string, string>>;
  body: string;
  /** For everything together: both attempts and the pause between them. */
  withinSeconds: number;
};

/** `why` is a phrase such as "it answered 500, twice"; `text` is what the service said, empty when it said nothing. */
export type Reply = { ok: true; text: string } | { ok: false; why: string; text: string };

/** Never throws. A second attempt only where the service itself said "not now": otherwise the first may have arrived. */
export async function postJson(post: Post): Promise<Reply> {
  // Bun would fetch file: and s3: as well.
  if (!/^https?:/.test(URL.parse(post.url)?.protocol ?? "")) {
    return { ok: false, why: "its value is not an http or https URL", text: "" };
  }
  const end = performance.now() + post.withinSeconds * 1000;
  const deadline = AbortSignal.timeout(post.withinSeconds * 1000);
  const first = await send(post, deadline);
  if (first.ok || first.pauseSeconds === undefined) return first;
  if (performance.now() + first.pauseSeconds * 1000 >= end) {
    return { ...first, why: `${first.why}, and wants no second attempt for ${first.pauseSeconds} s` };
  }
  await new Promise((resolve) => setTimeout(resolve, first.pauseSeconds! * 1000));
  const second = await send(post, deadline);
  if (second.ok) return second;
  return { ...second, why: second.why === first.why ? `${first.why}, twice` : `${first.why}, then ${second.why}` };
}

type Attempt = Reply & { pauseSeconds?: number };

async function send({ url, headers, body, withinSeconds }: Post, deadline: AbortSignal): Promise<Attempt> {
  try {
    const response = await fetch(url, {
      method: "POST",
      headers: { "content-type": "application/json", "user-agent": "create-dbops", ...headers },
      body,
      // Followed, a redirect would turn this into a GET, and everybody would believe it had arrived.
      redirect: "manual",
      signal: deadline,
    });
    const text = await response.text().catch(() => "");
    if (response.ok) return { ok: true, text };
    const why = `it answered ${response.status}`;
    const later = response.status === 429 || response.status >= 500;
    return { ok: false, why, text, ...(later && { pauseSeconds: pauseOf(response.headers.get("retry-after")) }) };
  } catch (error) {
    return { ok: false, why: reason(error, withinSeconds), text: "" };
  }
}

/** Retry-After is a number of seconds or a date. */
export function pauseOf(retryAfter: string | null, now = Date.now()): number {
  const seconds = retryAfter ? Number(retryAfter) : 1;
  const pause = Number.isNaN(seconds) ? (Date.parse(retryAfter!) - now) / 1000 : seconds;
  return Number.isNaN(pause) ? 1 : Math.max(0, Math.ceil(pause));
}

/** In our own words: Bun's and Deno's messages hold the whole URL. */
function reason(error: unknown, withinSeconds: number): string {
  const { name, code, message, cause } = error as NodeJS.ErrnoException;
  const deeper = cause as NodeJS.ErrnoException | undefined;
  const clues = [name, code, message, deeper?.code, deeper?.message].join(" ");
  if (/TimeoutError|AbortError/.test(clues)) return `no answer within ${withinSeconds} s`;
  if (/refused/i.test(clues)) return "the connection was refused";
  if (/ENOTFOUND|EAI_AGAIN|dns error/i.test(clues)) return "its host name cannot be resolved";
  if (/cert|self.signed|issuer/i.test(clues)) return "its certificate is not trusted";
  return "the connection broke";
}
