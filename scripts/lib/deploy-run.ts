// What deploy and a rollback to an earlier release share: observe, plan, print, lock, carry out, tell.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Settings } from "./config.ts";
import { formatPlan, mayBeLive, type Plan, planDeploy, type Wanted } from "./deploy-plan.ts";
import { deploy, type Job, pullImage } from "./deployment.ts";
import { asFailure, exitCodes, Failure } from "./failure.ts";
import type { Facts } from "./hooks.ts";
import { type Holder, takeLock } from "./lock.ts";
import type { Progress } from "./progress.ts";
import { redact, redactFailure } from "./redact.ts";
import type { Release } from "./release.ts";
import { parseServerState, type ServerState } from "./server-state.ts";
import type { Session } from "./session.ts";
import type { Server } from "./ssh.ts";
import { upstreamFile } from "./upstream.ts";

export type Run = {
  session: Session;
  server: Server;
  settings: Settings;
  directory: string;
  wanted: Wanted;
  /** The files of the wanted release; none for an earlier one, whose files the server has. */
  tar?: Buffer;
  /** The project's own upstream file; otherwise the one on the server is the template. */
  upstream?: string;
  registry?: Job["registry"] | undefined;
  waitSeconds: number;
  planOnly: boolean;
  who: string;
  /** ISO 8601. */
  at: string;
  /** Never to be shown. */
  secrets: readonly string[];
  /** Where hooks, notifications and the CDN look their values up. */
  values: Readonly<Record<string, string | undefined>>;
  progress: Progress;
  interrupted: AbortSignal;
};

export type Outcome = { plan: Plan; state: ServerState; release?: Release };

/** @throws {Failure} when it did not go live. Hooks and notifications have been told then, too. */
export async function runDeploy(run: Run): Promise<Outcome> {
  let { wanted } = run;
  let plan: Plan | undefined;
  try {
    let state = await run.progress.step("observe", () => observe(run));
    if (!run.planOnly && mayBeLive(state, wanted)) {
      // The tag is the one that serves. Whether it still means the same bytes, only the registry can say.
      const { id } = await run.progress.step("image", () => pullImage({ ...run, wanted }));
      wanted = { ...wanted, imageId: id };
    }
    plan = planDeploy(state, wanted);
    if (plan.nothing || run.planOnly) return { plan, state };
    console.error(formatPlan(plan, wanted, run.server.host));
    const { runBefore } = await import("./hooks.ts");
    await runBefore(hooksOf(run), factsOf(run, plan), run.interrupted);
    const found = await run.progress.step("lock", () =>
      takeLock(run.session, holderOf(run), run.waitSeconds, run.interrupted),
    );
    if (found.live !== plan.previous?.release || found.records !== state.recordCount) {
      run.progress.note("another deploy came in between: looking again");
      state = await run.progress.step("observe", () => observe(run));
      plan = planDeploy(state, wanted);
      if (plan.nothing) return { plan, state };
      console.error(formatPlan(plan, wanted, run.server.host));
    }
    const upstream = run.upstream ?? (state.live ? state.upstream : await ownUpstream(run.directory));
    const { record, failure } = await deploy({ ...run, wanted, state, plan, upstream });
    if (failure) throw new DeployFailed(failure, record);
    const summary = `release ${record.release} serves ${wanted.image}`;
    await tell(run, plan, { outcome: "done", seconds: record.seconds, summary });
    return { plan, state, release: record };
  } catch (error) {
    const failure = redactFailure(error instanceof DeployFailed ? error.failure : asFailure(error), run.secrets);
    // A plan that is only asked for, and refused, is nobody else's business.
    if (!run.planOnly) await tell(run, plan, endingOf(failure, run.secrets, error));
    throw failure;
  }
}

/** On its way to whoever wants to know; people get the failure alone. */
class DeployFailed extends Error {
  readonly failure: Failure;
  readonly record: Release;
  constructor(failure: Failure, record: Release) {
    super(failure.message);
    this.failure = failure;
    this.record = record;
  }
}

/** Where the server's own file is of no use any more, the project's is what it should look like. */
const ownUpstream = (directory: string) => readFile(join(directory, upstreamFile), "utf8");

function holderOf({ who, at, wanted }: Run): Holder {
  return { who, at, why: `${wanted.again ? "rollback" : "deploy"} of ${wanted.image}` };
}

async function observe({ session, wanted, tar, interrupted }: Run): Promise<ServerState> {
  const { name, digest } = wanted.reference;
  const image = wanted.imageId ?? (digest ? `${name}@${digest}` : wanted.image);
  const { exitCode, stdout, stderr } = await session.call(["observe", image, `${wanted.again?.release ?? "-"}`], {
    stdin: tar ?? "",
    accept: [0, 6],
    timeoutSeconds: 90,
    interrupted,
  });
  if (exitCode === 6) {
    throw new Failure("Cannot go back", stderr.trim(), ["bun scripts/rollback.ts --list"], {
      exitCode: exitCodes.usage,
    });
  }
  return parseServerState(stdout, wanted.reference);
}

type Ending = { outcome: NonNullable<Facts["outcome"]>; summary: string; details?: string; seconds?: number };

function endingOf({ what, why, details, exitCode }: Failure, secrets: readonly string[], error: unknown): Ending {
  const record = error instanceof DeployFailed ? error.record : undefined;
  const outcome = record?.outcome ?? (exitCode === exitCodes.interrupted ? "interrupted" : "failed");
  const summary = redact(`${what}: ${why}`, secrets);
  const seconds = record && { seconds: record.seconds };
  return { outcome, summary, ...seconds, ...(details && { details: redact(details, secrets) }) };
}

/**
 * Whoever wants to know, people before programs: who cancels a run in CI is killed ten seconds later.
 * None of it can change the outcome any more.
 */
async function tell(run: Run, plan: Plan | undefined, ending: Ending): Promise<void> {
  const { settings, wanted, values, who } = run;
  const problems: string[] = [];
  if (settings.notifications.length > 0) {
    const { notify } = await import("./notify.ts");
    const what = wanted.again ? "rollback" : "deploy";
    const about = { what, project: settings.name, environment: "production", image: wanted.image, who };
    const news = { ...about, ...(plan && { release: plan.release }), ...ending };
    const withinSeconds = ending.outcome === "interrupted" ? 2 : 10;
    problems.push(...(await notify(settings.notifications, news, values, withinSeconds)));
  }
  if (settings.cdn && ending.outcome === "done") {
    const { purgeCdn } = await import("./cdn.ts");
    problems.push(...(await purgeCdn(settings.cdn, values)));
  }
  const { runAfter } = await import("./hooks.ts");
  problems.push(...(await runAfter(hooksOf(run), { ...factsOf(run, plan), outcome: ending.outcome })));
  for (const problem of problems) run.progress.note(`warning: ${redact(problem, run.secrets)}`);
}

const hooksOf = ({ settings, directory, secrets }: Run) => ({ programs: settings.deploy.hooks, directory, secrets });

function factsOf({ wanted }: Run, plan: Plan | undefined): Facts {
  return {
    ...{ environment: "production", image: wanted.image },
    ...(plan && { release: plan.release }),
    ...(plan?.previous && { previousRelease: plan.previous.release }),
  };
}
