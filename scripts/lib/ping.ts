// A dead-man monitor: asked after every good backup, it raises the alarm when nobody asks. The only thing that notices a backup
// that was never begun.

const withinSeconds = 10;

/** Never rejects. @returns what went wrong, without the URL, which is a secret: whoever knows it can keep the alarm silent. */
export async function ping(url: string): Promise<string | undefined> {
  try {
    const reply = await fetch(url, { signal: AbortSignal.timeout(withinSeconds * 1000), redirect: "follow" });
    await reply.body?.cancel();
    return reply.ok ? undefined : `it answers ${reply.status}`;
  } catch (error) {
    const { name } = error as Error;
    return name === "TimeoutError" ? `no answer within ${withinSeconds} s` : "it cannot be reached";
  }
}
