// Tells everybody how a deploy or a rollback has ended: people, then the CDN, then the hook. Nothing of it can change how.
import type { Settings } from "./config.ts";
import { asFailure, exitCodes, type Failure } from "./failure.ts";
import type { Facts } from "./hooks.ts";
import type { Progress } from "./progress.ts";
import { redact, redactFailure } from "./redact.ts";
import type { Release } from "./release.ts";

/** What is known of it, which is little where it fails before the server has been seen. */
export type About = {
  what: "deploy" | "rollback";
  settings: Settings;
  directory: string;
  /** Only a plan: that is nobody else's business, also when it is refused. */
  planOnly: boolean;
  who: string;
  /** What was asked for. */
  image?: string | undefined;
  release?: number;
  previousRelease?: number;
  /** Never to be shown. */
  secrets: readonly string[];
  /** Where hooks, notifications and the CDN look their values up. */
  values: Readonly<Record<string, string | undefined>>;
  progress: Progress;
};

export type Ending = {
  outcome: NonNullable<Facts["outcome"]>;
  /** Whether the new release serves: it may, although the end of its deploy has failed. */
  serves: boolean;
  summary: string;
  details?: string;
  seconds?: number;
};

/** @param failure without secrets. @param record what the server remembers of it, if it has come so far. */
export function endingOf({ what, why, details, exitCode }: Failure, record?: Release): Ending {
  const serves = record?.outcome === "done";
  const known = serves ? "failed" : record?.outcome;
  return {
    outcome: known ?? (exitCode === exitCodes.interrupted ? "interrupted" : "failed"),
    serves,
    summary: `${what}: ${why}`,
    ...(record && { seconds: record.seconds }),
    ...(details && { details }),
  };
}

/**
 * People before programs: who cancels a run in CI is killed ten seconds later.
 * @param unread the file whose values are not known yet.
 */
export async function tell(about: About, { serves, ...ending }: Ending, unread?: string): Promise<void> {
  if (about.planOnly) return;
  const { what, who, image, release, settings, directory, values, secrets } = about;
  const problems: string[] = [];
  if (settings.notifications.length > 0) {
    const { notify } = await import("./notify.ts");
    const known = { ...(image && { image }), ...(release && { release }) };
    const news = { what, project: settings.name, environment: "production", who, ...known, ...ending };
    const withinSeconds = ending.outcome === "interrupted" ? 2 : 10;
    problems.push(...(await notify(settings.notifications, news, values, withinSeconds, unread)));
  }
  if (settings.cdn && serves) {
    const { purgeCdn } = await import("./cdn.ts");
    problems.push(...(await purgeCdn(settings.cdn, values)));
  }
  const { runAfter } = await import("./hooks.ts");
  const hooks = { programs: settings.deploy.hooks, directory, secrets };
  problems.push(...(await runAfter(hooks, { ...factsOf(about), outcome: ending.outcome })));
  for (const problem of problems) about.progress.note(`warning: ${redact(problem, secrets)}`);
}

/** What a hook is told before the end. */
export function factsOf({ image, release, previousRelease }: About): Facts {
  return {
    environment: "production",
    ...(image && { image }),
    ...(release && { release }),
    ...(previousRelease && { previousRelease }),
  };
}

/** What comes before the server has been looked at. @throws {Failure} when it fails; everybody has been told then. */
export async function orTell<T>(about: About, work: () => Promise<T>, unread?: string): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const failure = redactFailure(asFailure(error), about.secrets);
    await tell(about, endingOf(failure), unread);
    throw failure;
  }
}
