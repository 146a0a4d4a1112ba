// What deploy and a rollback to an earlier release share: observe, plan, print, lock, carry out, tell.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Settings } from "./config.ts";
import type { BackupPoint } from "./deploy-backup.ts";
import { certificateWarnings, formatPlan, mayBeLive, type Plan, planDeploy, type Wanted } from "./deploy-plan.ts";
import { deploy, type Job, pullImage } from "./deployment.ts";
import { asFailure, exitCodes, Failure } from "./failure.ts";
import { type Holder, takeLock } from "./lock.ts";
import { packageMissing } from "./packages.ts";
import type { Progress } from "./progress.ts";
import { redactFailure } from "./redact.ts";
import type { Release } from "./release.ts";
import { parseServerState, type ServerState } from "./server-state.ts";
import type { Session } from "./session.ts";
import type { Server } from "./ssh.ts";
import { type About, endingOf, factsOf, tell } from "./tell.ts";
import { upstreamFile } from "./upstream.ts";

export type Run = {
  session: Session;
  server: Server;
  settings: Settings;
  directory: string;
  wanted: Wanted;
  /** The files of the wanted release; none for an earlier one, whose files the server has. */
  tar?: Buffer;
  /** With their sums, which the database keeps; none for an earlier release, which migrates nothing. */
  migrationFiles?: Job["migrationFiles"];
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
export async function runDeploy(given: Run): Promise<Outcome> {
  let run = given;
  let plan: Plan | undefined;
  let backupPoint: BackupPoint | undefined;
  /** Looks into the bucket only where the plan has a backup. */
  const decide = async (state: ServerState): Promise<Plan> => {
    const decided = planDeploy(state, run.wanted);
    await requireAppliableIn(decided, run);
    if (!decided.backup || backupPoint) return decided;
    const { openBackupPoint } = await import("./deploy-backup.ts").catch(packageMissing);
    backupPoint = await run.progress.step("bucket", () => openBackupPoint(run));
    const { last: lastBackup, secrets } = backupPoint;
    run = { ...run, wanted: { ...run.wanted, lastBackup }, secrets: [...run.secrets, ...secrets] };
    return planDeploy(state, run.wanted);
  };
  try {
    let state = await run.progress.step("observe", () => observe(run));
    if (!run.planOnly && mayBeLive(state, run.wanted)) {
      // The tag is the one that serves. Whether it still means the same bytes, only the registry can say.
      const { id } = await run.progress.step("image", () => pullImage(run));
      run = { ...run, wanted: { ...run.wanted, imageId: id } };
    }
    plan = await decide(state);
    if (plan.nothing && !run.planOnly) warnOfCertificate(run, state);
    if (plan.nothing || run.planOnly) return { plan, state };
    console.error(formatPlan(plan, run.wanted, run.server.host));
    const rehearsed = plan.pending;
    if (plan.rehearse) {
      const { rehearseFirst } = await import("./deploy-rehearse.ts").catch(packageMissing);
      await run.progress.step("rehearse", () => rehearseFirst(run, rehearsed));
    }
    const { runBefore } = await import("./hooks.ts");
    await runBefore(hooksOf(run), factsOf(aboutOf(run, plan)), run.interrupted);
    const found = await run.progress.step("lock", () =>
      takeLock(run.session, holderOf(run), run.waitSeconds, run.interrupted),
    );
    if (found.live !== state.live?.release || found.records !== state.recordCount) {
      run.progress.note("another deploy came in between: looking again");
      state = await run.progress.step("observe", () => observe(run));
      plan = await decide(state);
      if (plan.nothing) return { plan, state };
      if (plan.rehearse) requireRehearsed(plan.pending, rehearsed);
      console.error(formatPlan(plan, run.wanted, run.server.host));
    }
    const upstream = run.upstream ?? (state.live ? state.upstream : await ownUpstream(run.directory));
    const { record, failure } = await deploy({ ...run, state, plan, upstream, backupPoint });
    if (failure) throw new DeployFailed(failure, record);
    warnOfCertificate(run, state);
    const summary = `release ${record.release} serves ${run.wanted.image}`;
    await tell(aboutOf(run, plan), { outcome: "done", serves: true, seconds: record.seconds, summary });
    return { plan, state, release: record };
  } catch (error) {
    const failure = redactFailure(error instanceof DeployFailed ? error.failure : asFailure(error), run.secrets);
    const record = error instanceof DeployFailed ? error.record : undefined;
    await tell(aboutOf(run, plan), endingOf(failure, record));
    throw failure;
  } finally {
    backupPoint?.close();
  }
}

/** @throws {Failure} exit 2 for what dbmate would record although it has not happened: see lib/migration-refusals.ts. */
async function requireAppliableIn({ pending }: Plan, { migrationFiles = [] }: Run): Promise<void> {
  if (pending.length === 0) return;
  const { requireAppliable } = await import("./migration-refusals.ts").catch(packageMissing);
  const files = migrationFiles.filter(({ version }) => pending.includes(version));
  await requireAppliable(files, "up", "Nothing was deployed");
}

/** Nobody is to wait for a rehearsal under the deploy's lock. @throws {Failure} exit 3 */
export function requireRehearsed(pending: readonly string[], rehearsed: readonly string[]): void {
  const more = pending.filter((version) => !rehearsed.includes(version));
  if (more.length === 0) return;
  const why = `another deploy came in between, and ${more.join(", ")} ${more.length === 1 ? "was" : "were"} not rehearsed`;
  throw new Failure("Nothing was deployed", why, ["the same command again"], {
    exitCode: exitCodes.saidNo,
    read: "docs/rehearse.md",
  });
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

/** Also at the end, where it is read: it serves, and perhaps nobody. */
function warnOfCertificate({ progress, wanted }: Run, state: ServerState): void {
  for (const warning of certificateWarnings(state, wanted)) progress.note(`warning: ${warning}`);
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

const hooksOf = ({ settings, directory, secrets }: Run) => ({ programs: settings.deploy.hooks, directory, secrets });

function aboutOf(run: Run, plan: Plan | undefined): About {
  return {
    ...run,
    what: run.wanted.again ? "rollback" : "deploy",
    image: run.wanted.image,
    ...(plan && { release: plan.release }),
    ...(plan?.previous && { previousRelease: plan.previous.release }),
  };
}
