// Carries out the plan of a deploy: beside what serves, step by step, with the way back open until the new release has proven
// itself. The server knows the way back too (session.ifLost), so that it is taken when nobody is there any more to ask for it.
import { archive } from "./archive.ts";
import type { BackupPoint } from "./deploy-backup.ts";
import {
  afterForward,
  afterUndo,
  checkArchitecture,
  cutOff,
  nginxRefuses,
  notSeen,
  pages,
  pullFailed,
  schemaRefused,
  whatToTry,
} from "./deploy-failures.ts";
import { migrate } from "./deploy-migrate.ts";
import type { Plan, StepName, Wanted } from "./deploy-plan.ts";
import { type Returned, returnAfterLoss, type Told } from "./deploy-return.ts";
import { encodeValue } from "./environment.ts";
import { asFailure, exitCodes, Failure } from "./failure.ts";
import { type PulledImage, parseImage, sendImage } from "./image.ts";
import type { MigrationFile } from "./migration-file.ts";
import type { Progress } from "./progress.ts";
import { redact } from "./redact.ts";
import { backupFor, type Release, restoreCommand } from "./release.ts";
import type { Result } from "./run.ts";
import type { ServerState } from "./server-state.ts";
import type { Call, Session } from "./session.ts";
import type { Server } from "./ssh.ts";
import { formatStamp, portIn, renderUpstream, type Stamp, upstreamFile } from "./upstream.ts";

export type Job = {
  session: Session;
  server: Server;
  state: ServerState;
  plan: Plan;
  wanted: Wanted;
  /** The project's own upstream file. */
  upstream: string;
  registry?: { user: string; password: string } | undefined;
  /** Those of the wanted release. */
  migrationFiles?: readonly MigrationFile[] | undefined;
  /** For another runner of migrations. */
  waitSeconds: number;
  /** Where the plan has a backup. */
  backupPoint?: BackupPoint | undefined;
  who: string;
  /** ISO 8601. */
  at: string;
  /** Never to be shown. */
  secrets: readonly string[];
  progress: Progress;
  interrupted: AbortSignal;
};

/** How long an image may take to arrive. */
const pullSeconds = 1800;
/** Until nginx knows the address of a slot that it lists anew. Its workers ask for it as they start, and Docker answers at once. */
const warmMilliseconds = 200;
/** Fewer failures than this may be a coincidence. */
const errorsMinimum = 3;
const unreadyMaximum = 2;
const restartsMaximum = 3;

/** What came of it. With a failure, what served before serves again; where it could not be shown to, the failure says so. */
export type Ended = { record: Release; failure?: Failure };

/** Brings the wanted release live. Never rejects: what goes wrong has been undone when this returns, as far as it could be. */
export async function deploy(job: Job): Promise<Ended> {
  const deployment = new Deployment(job);
  try {
    await deployment.bringUp();
  } catch (error) {
    return await deployment.undo(error);
  }
  return await deployment.finish();
}

class Deployment {
  readonly #job: Job;
  /** How far it has come, which decides what there is to undo. */
  readonly #reached = new Set<Reached>();
  #step: StepName = "upload";
  #image: PulledImage | undefined;
  /** Which of COMPOSE_PROFILES are not slots. */
  #profiles: string[] = [];
  #warmAt = 0;
  /** Of the container until it was healthy; one more after that means that it did not stay up. */
  #restarts = 0;
  /** nginx' workers from before the switch. */
  #workers: string[] = [];
  #schemaVersion: string;
  /** The id of the backup that was made before the migrations. */
  #backup: string | undefined;
  readonly #started = performance.now();

  constructor(job: Job) {
    this.#job = job;
    this.#schemaVersion = job.state.applied?.at(-1) ?? "";
  }

  /** The story: everything beside what serves, then the switch, then watching it. */
  async bringUp(): Promise<void> {
    const { plan, wanted } = this.#job;
    // Before anything has changed, so that nothing has to be taken back where it fails.
    if (plan.backup) await this.#run("backup", () => this.#backUp());
    if (plan.revive) await this.#rememberWayBack();
    else {
      await this.#run("upload", () => this.#upload());
      await this.#run("image", () => this.#getImage());
    }
    await this.#run("files", () => this.#activateFiles());
    if (plan.services.length > 0) await this.#run("services", () => this.#startServices());
    if (plan.pending.length > 0) await this.#run("migrate", () => this.#migrate());
    await this.#run("start", () => this.#startSlot());
    await this.#run("healthy", () => this.#untilHealthy());
    if (plan.schemaAhead && !wanted.ignoreSchema) await this.#run("schema", () => this.#askValidator());
    const since = await this.#run("switch", () => this.#switch());
    if (plan.workers.length > 0) await this.#run("workers", () => this.#replaceWorkers());
    if (wanted.settings.deploy.bakeSeconds > 0) await this.#run("bake", () => this.#bake(since));
    this.#job.interrupted.throwIfAborted();
  }

  /** From here on there is no way back, only forward: if we are lost, the server does the rest by itself. */
  async finish(): Promise<Ended> {
    const { session, plan, wanted } = this.#job;
    const { deploy: settings } = wanted.settings;
    const old = plan.previous?.slot ?? "none";
    const tidyUp: Call = [
      "finish",
      `${plan.release}`,
      old,
      settings.keepPrevious,
      `${settings.drainSeconds}`,
      ...this.#workers,
    ];
    const forward: Call[] = [["commit", `${plan.release}`], tidyUp, ["record", this.#line("done")]];
    session.ifLost(forward);
    try {
      await this.#run("commit", () => this.#call(forward[0]!, { interruptible: false }));
      const timeoutSeconds = settings.drainSeconds + 180;
      const { stdout } = await this.#run("drain", () => this.#call(tidyUp, { timeoutSeconds, interruptible: false }));
      if (stdout.trim() !== "") this.#job.progress.note(cutOff(old, settings.drainSeconds));
      const record = this.#record("done");
      await this.#call(["record", JSON.stringify(record)], { interruptible: false });
      session.ifLost([]);
      if (plan.removals.length > 0) await this.#run("prune", () => this.#prune());
      return { record };
    } catch (error) {
      return await this.#unfinished(error, forward);
    }
  }

  async #backUp(): Promise<void> {
    const { backupPoint, plan, progress, interrupted } = this.#job;
    this.#backup = await backupPoint!.make(plan.release, progress, interrupted);
    progress.note(`the database is in the backup ${this.#backup}`);
  }

  async #upload(): Promise<void> {
    const { release, previous } = this.#job.plan;
    this.#reach("upload");
    const keep: Call = ["keep_release", `${release}`, `${previous?.release ?? "none"}`];
    const { stdout } = await this.#call(keep, { stdin: this.#upstreamBefore() });
    this.#profiles = stdout.split("\n").filter(Boolean);
  }

  /** The file to go back to, as nginx has it in memory, where the server has lost its own. Otherwise the server has it. */
  #upstreamBefore(): string {
    const { plan, state, upstream } = this.#job;
    return plan.previous && !state.live ? renderUpstream(upstream, state.serving!) : "";
  }

  /** Its files and its image are on the server as they were. */
  async #rememberWayBack(): Promise<void> {
    const { plan, wanted } = this.#job;
    await this.#call(["prepare_revival", `${plan.release}`], { stdin: this.#upstreamBefore() });
    const { reference, imageId } = wanted.again!;
    const { stdout } = await this.#call(["describe_image", imageId]);
    this.#image = { ...parseImage(stdout, wanted.reference), reference };
  }

  async #getImage(): Promise<void> {
    const { wanted, plan, server, state } = this.#job;
    const { reference, transfer } = wanted;
    if (transfer === "ssh") {
      const loaded = await sendImage({
        server,
        image: wanted.image,
        imageId: wanted.imageId!,
        isThere: state.image?.id === wanted.imageId,
        interrupted: this.#job.interrupted,
      });
      const tag = `${wanted.settings.name}-release:${plan.release}`;
      await this.#call(["tag_image", loaded, tag]);
      this.#image = { ...parseImage((await this.#call(["describe_image", tag])).stdout, reference), reference: tag };
    } else {
      // A digest is the same bytes for ever: what is there need not be asked for again, and may not be had any more.
      const isPinned = reference.digest !== undefined || wanted.again !== undefined;
      this.#image = (isPinned && state.image) || (await pullImage(this.#job));
    }
    checkArchitecture(wanted.image, this.#image, state.architecture);
    await this.#call(["complete_release", `${plan.release}`], { stdin: this.#lastFiles(this.#image.reference) });
  }

  /** What could not be known before: where the image is, and which slot is the next one. */
  #lastFiles(reference: string): Buffer {
    const { plan, state, upstream, wanted } = this.#job;
    const images = { ...state.images, [plan.slot]: reference };
    const values = {
      COMPOSE_PROFILES: [plan.slot, ...this.#profiles].join(","),
      ...(images.blue && { IMAGE_BLUE: images.blue }),
      ...(images.green && { IMAGE_GREEN: images.green }),
      RELEASE_IMAGE: reference,
      RELEASE_NUMBER: `${plan.release}`,
    };
    const lines = Object.entries(values).map(([name, value]) => `${name}=${encodeValue(name, value)}\n`);
    const keep = wanted.settings.deploy.keepPrevious === "running" ? plan.previous?.slot : undefined;
    return archive([
      {
        path: "deploy.env",
        content: Buffer.from(`# Below: the deploy, which alone knows it.\n${lines.join("")}`),
        mode: 0o600,
      },
      { path: upstreamFile, content: Buffer.from(renderUpstream(upstream, this.#stamp("live"), keep)) },
    ]);
  }

  /** The project's directory always holds the files of one release, so that Compose by hand works; nginx reads its own later. */
  async #activateFiles(): Promise<void> {
    const { plan } = this.#job;
    this.#reach("files");
    const { exitCode, stderr } = await this.#call(["put_files", `${plan.release}`], { accept: [0, 12] });
    if (exitCode === 12) throw nginxRefuses(stderr);
    if (this.#isFirstOfNginx()) await this.#call(["switch_file", `${plan.release}`]);
  }

  /** nginx does not start without its upstream file. One that runs and has lost it gets it with the switch. */
  #isFirstOfNginx(): boolean {
    const { plan, wanted } = this.#job;
    return !plan.previous && (!wanted.again || plan.services.includes("nginx"));
  }

  async #startServices(): Promise<void> {
    const { plan } = this.#job;
    const services = plan.services.filter((name) => name !== "nginx");
    if (plan.services.includes("backup")) await this.#pullBackup();
    if (plan.downtime.length > 0 || plan.services.includes("backup")) this.#reach("services");
    if (services.length > 0) {
      await this.#call(["up_services", `${plan.release}`, "180", ...services], { timeoutSeconds: 2400 });
    }
    if (plan.services.includes("nginx")) await this.#call(["up_nginx", `${plan.release}`], { timeoutSeconds: 2000 });
  }

  /** Its image may be a private one, like the app's, and nothing stays logged in there. */
  async #pullBackup(): Promise<void> {
    const { plan, registry, wanted } = this.#job;
    if (!registry) return;
    const from = [wanted.reference.registry, registry.user, `${pullSeconds}`];
    const call: Call = ["pull_services", `${plan.release}`, ...from, "backup"];
    await this.#call(call, { stdin: registry.password, timeoutSeconds: pullSeconds + 90 });
  }

  async #migrate(): Promise<void> {
    const { plan, progress, waitSeconds, migrationFiles = [] } = this.#job;
    const applied = await migrate({
      ...{ release: plan.release, files: migrationFiles, planned: plan.pending, waitSeconds },
      call: (call, options) => this.#call(call, options),
      note: (text) => progress.note(text),
      pause: (milliseconds) => this.#pause(milliseconds),
      // Only then may data be damaged, for which there is a backup.
      mayHaveBegun: (may) => void (may ? this.#reached.add("migrate") : this.#reached.delete("migrate")),
    });
    this.#schemaVersion = applied.at(-1) ?? "";
  }

  /** nginx learns the new slot's address while the app starts. It gets no request yet. */
  async #startSlot(): Promise<void> {
    const { plan, upstream } = this.#job;
    this.#reach("start");
    const start: Call = plan.revive ? ["revive_slot", plan.slot] : ["start_slot", `${plan.release}`, plan.slot];
    await this.#call(start, { timeoutSeconds: 200 });
    if (!plan.previous) return;
    const warm: Stamp = { ...plan.previous, state: "warm" };
    this.#reach("warm");
    await this.#switchTo(warm, renderUpstream(upstream, warm, plan.slot));
    this.#warmAt = performance.now();
  }

  async #untilHealthy(): Promise<void> {
    const { plan, wanted } = this.#job;
    const { healthSeconds } = wanted.settings.deploy;
    const end = performance.now() + healthSeconds * 1000;
    let state = "";
    while (performance.now() < end) {
      const { stdout } = await this.#call(["await_slot", plan.slot, "2", `${restartsMaximum}`]);
      const [status, health, restarts] = stdout.trim().split(" ");
      state = `${status}, ${health}`;
      if (status === "exited" || status === "dead" || Number(restarts) >= restartsMaximum) {
        throw new Failure(`app-${plan.slot} does not start`, `it has ended ${Number(restarts) + 1} times`, []);
      }
      if (status === "running" && ["healthy", "none"].includes(health!)) {
        const answer = await this.#ask("/health/ready");
        if (answer.status === 200) {
          this.#restarts = Number(restarts);
          return this.#checkRelease(answer.body);
        }
      }
      // That is all that await_slot waits for by itself.
      if (stdout.trim() !== "running starting 0") await this.#pause(250);
    }
    const { status, body } = await this.#ask("/health/ready");
    const answer = status
      ? `${status} ${body.trim().replaceAll(/\s+/g, " ").slice(0, 200)}`
      : `nothing on port ${portIn(this.#job.upstream)}`;
    const why = `after ${healthSeconds} s it is ${state}, and /health/ready answers ${answer}`;
    throw new Failure(`app-${plan.slot} is not healthy`, why, []);
  }

  /** Healthy, but of another release, means that the switch would bring something else live than what was asked for. */
  #checkRelease(body: string): void {
    const { plan, progress, wanted } = this.#job;
    const expected = this.#image?.release;
    const answered = releaseIn(body);
    if (expected && answered && expected !== answered) {
      throw new Failure(
        `app-${plan.slot} is healthy, but the wrong release`,
        `it says "${answered}", its image ${wanted.image} says "${expected}"`,
        [],
      );
    }
    if (!expected || !answered)
      progress.note(`which release answers was not checked: ${expected ? "the app" : "the image"} does not say it`);
  }

  /** An app on a schema that it does not know may start and still be wrong; its own validator says what it finds. */
  async #askValidator(): Promise<void> {
    const { plan, progress } = this.#job;
    const { live, release } = plan.schemaAhead!;
    let answer = await this.#ask("/health/database");
    // A busy server may need a moment. Only an answer can refuse.
    for (let tries = 0; answer.status === 0 && tries < 10; tries += 1) {
      await this.#pause(1000);
      answer = await this.#ask("/health/database");
    }
    const { status, body } = answer;
    if (status === 200 && /"status"\s*:\s*"(healthy|degraded)"/.test(body)) {
      return progress.note(
        `warning: the database is at ${live}, this release was built for ${release}; its validator accepts that`,
      );
    }
    const says =
      status === 404 ? "there is no /health/database to ask" : `/health/database answers ${status || "nothing"}`;
    throw schemaRefused(plan, says, body.slice(0, 2000), true, this.#dataOfThen());
  }

  /** @returns the server's time of the switch. */
  async #switch(): Promise<string> {
    const { plan, upstream } = this.#job;
    await this.#pause(warmMilliseconds - (performance.now() - this.#warmAt));
    this.#reach("switch");
    const { since, workers } = await this.#switchTo(
      this.#stamp("bake"),
      renderUpstream(upstream, this.#stamp("bake"), plan.previous?.slot),
    );
    this.#workers = workers;
    return since;
  }

  async #switchTo(stamp: Stamp, text: string): Promise<{ since: string; workers: string[] }> {
    const { stdout } = await this.#call(["switch_to", formatStamp(stamp)], { stdin: text });
    const [since = "", workers = ""] = stdout.split("\n");
    return { since, workers: workers.split(" ").filter(Boolean) };
  }

  /** `up` stops the old container before it starts the new one: there are never two. */
  async #replaceWorkers(): Promise<void> {
    const { plan } = this.#job;
    this.#reach("workers");
    await this.#call(["up_services", `${plan.release}`, "120", ...plan.workers], { timeoutSeconds: 2400 });
  }

  async #bake(from: string): Promise<void> {
    const { plan, wanted } = this.#job;
    const { bakeSeconds, errorPercent } = wanted.settings.deploy;
    const end = performance.now() + bakeSeconds * 1000;
    let [since, requests, errors, unready, lines] = [from, 0, 0, 0, 0];
    while (performance.now() < end) {
      const { stdout } = await this.#call(["watch", plan.slot, since, "1"]);
      const [now = "", newRequests, newErrors, newLines, ready, status] = stdout.trim().split(" ");
      since = now;
      requests += Number(newRequests);
      errors += Number(newErrors);
      lines += Number(newLines);
      unready = ready === "yes" ? 0 : unready + 1;
      if (status !== `running:${this.#restarts}`)
        throw new Failure(`app-${plan.slot} did not stay up`, `its state is ${status}`, []);
      if (unready >= unreadyMaximum) {
        const why = ready === "no" ? "/health/ready says so through nginx" : "nginx cannot be asked any more";
        throw new Failure(`app-${plan.slot} is not ready any more`, why, []);
      }
      if (errors >= errorsMinimum && errors * 100 >= requests * errorPercent) {
        throw new Failure(`app-${plan.slot} answers with errors`, `${errors} of ${requests} requests got a 5xx`, []);
      }
    }
    if (lines === 0) {
      const why = "docker compose logs nginx shows no line with a status";
      this.#job.progress.note(`warning: whether app-${plan.slot} answers with errors was not seen: ${why}`);
    }
  }

  async #prune(): Promise<void> {
    const { plan, progress } = this.#job;
    for (const { release, imageId } of plan.removals) {
      const call: Call = ["prune_release", `${release}`, imageId ?? "-"];
      await this.#call(call, { timeoutSeconds: 180, interruptible: false }).catch((error) => {
        const { why, details } = asFailure(error);
        progress.note(`the image of release ${release} stays: ${details?.split("\n").at(-1) ?? why}`);
      });
    }
  }

  /** @returns why it failed, the evidence, and what serves now. */
  async undo(error: unknown): Promise<Ended> {
    const { session, plan, wanted, secrets, interrupted } = this.#job;
    const cause = this.#asRefusal(asFailure(error));
    const wayBack = this.#wayBack();
    if (wayBack.length === 0) {
      await session.close();
      const { what, why, next, exitCode, details, read } = cause;
      const again = next.length > 0 ? next : ["the same command again"];
      const failure = new Failure(what, `${why}; nothing was changed`, again, {
        exitCode,
        ...(details && { details }),
        read: read ?? "docs/deploy.md",
        cause,
      });
      return { record: this.#record("failed", cause.message), failure };
    }
    const evidence = await this.#evidence(cause);
    const stays = await this.#migrationsThatStay();
    const isInterrupted = interrupted.aborted;
    const reason = redact(`${this.#step}: ${cause.message}`, secrets).slice(0, 300);
    const wasLive = ["workers", "bake"].includes(this.#step);
    const outcome = isInterrupted ? "interrupted" : wasLive ? "undone" : "failed";
    const started = performance.now();
    const { answer, later, unseen } = await this.#giveUp({
      calls: [...wayBack, ["record", this.#line(outcome, reason)], ["serving"]],
      // GitHub kills 10 s after it has asked to end; the server goes on without us.
      seconds: isInterrupted ? 8 : 180 + wanted.settings.deploy.drainSeconds,
      isOver: (live, record) => record !== undefined && live !== plan.release,
    });
    const result = answer ?? later?.result;
    const switched = /switched back in (\d+) ms/.exec(result?.stdout ?? "")?.[1];
    if (switched)
      this.#job.progress.note(`switched back to release ${plan.previous!.release} in ${Number(switched) / 1000} s`);
    const taken = ((performance.now() - started) / 1000).toFixed(2);
    if (!later?.byServer) this.#job.progress.note(result ? `undone in ${taken} s` : "left to the server to undo");
    const { says, next } = unseen ? notSeen(unseen, plan) : afterUndo(result, plan, later?.byServer);
    const failure = new Failure(
      `Release ${plan.release} ${wanted.again ? "does not serve again" : "was not deployed"}`,
      redact(`${cause.what}: ${cause.why}; ${says}${stays}`, secrets),
      [
        ...(cause.next.length > 0 ? cause.next : [whatToTry(isInterrupted ? undefined : this.#step, wanted.image)]),
        ...next,
        ...this.#dataBack(),
      ],
      {
        exitCode: isInterrupted ? exitCodes.interrupted : cause.exitCode,
        ...(evidence && { details: redact(evidence, secrets) }),
        facts: cause.facts,
        // Who interrupts it, or loses the connection, has no problem with the step that it was at.
        read: cause.read ?? (answer && !isInterrupted ? pages[this.#step] : undefined) ?? "docs/deploy.md",
        cause,
      },
    );
    return { record: later?.record ?? this.#record(outcome, reason), failure };
  }

  /** Has the server do by itself what it is told. Where no answer comes, and nobody is in a hurry, a second connection looks. */
  async #giveUp(told: Told): Promise<{ answer?: Result; later?: Returned; unseen?: Failure }> {
    const { session, interrupted } = this.#job;
    session.ifLost(told.calls);
    const answer = await session.giveUp(told.seconds);
    if (answer) return { answer };
    if (interrupted.aborted) return {};
    return await returnAfterLoss(this.#job, told).then(
      (later) => ({ later }),
      (error) => ({ unseen: asFailure(error) }),
    );
  }

  /** The way back of a deploy is not one for the data. @returns the end of a sentence. */
  async #migrationsThatStay(): Promise<string> {
    const { session, plan, interrupted } = this.#job;
    if (!this.#reached.has("migrate")) return "";
    const pending = plan.pending.join(", ");
    const answer = interrupted.aborted
      ? undefined
      : await session.call(["applied_migrations"], { timeoutSeconds: 30 }).catch(() => undefined);
    if (!answer) return `; the migrations ${pending} may have been applied, and stay`;
    const applied = answer.stdout.split("\n").filter(Boolean);
    this.#schemaVersion = applied.at(-1) ?? "";
    const stay = plan.pending.filter((version) => applied.includes(version));
    return stay.length > 0 ? `; what it migrated stays applied: ${stay.join(", ")}` : "";
  }

  /** Also where no migration stays: one without a transaction may have done the half of what it does. */
  #dataBack(): string[] {
    if (!this.#backup || !this.#reached.has("migrate")) return [];
    const command = restoreCommand(this.#backup, this.#job.wanted.settings.name);
    return [`${command}   # only if the data is damaged: what was written since is lost`];
  }

  /** An earlier release that does not even become healthy on a newer schema has been refused by its own validator. */
  #asRefusal(cause: Failure): Failure {
    const { plan, interrupted } = this.#job;
    if (!plan.schemaAhead || this.#step !== "healthy" || interrupted.aborted) return cause;
    return schemaRefused(plan, `${cause.what}: ${cause.why}`, cause.details ?? "", false, this.#dataOfThen());
  }

  /** Of a rollback: how the data comes back that its release was made for. */
  #dataOfThen(): string[] {
    const { state, wanted } = this.#job;
    const { schemaVersion } = wanted.again!;
    const backup = backupFor(state.records, wanted.again!);
    if (!backup || !schemaVersion) return [];
    const command = restoreCommand(backup, wanted.settings.name, schemaVersion);
    return [`${command}   # the data of then: what was written since is lost`];
  }

  /** Before anything is undone: the app's container will be gone then. What is known of a service came with its failure. */
  async #evidence(cause: Failure): Promise<string | undefined> {
    const { session, plan, interrupted } = this.#job;
    const isOfApp = ["start", "healthy", "schema", "switch", "bake"].includes(this.#step);
    if (!isOfApp || interrupted.aborted) return cause.details;
    const evidence: Call = ["evidence", `app-${plan.slot}`];
    const log = await session.call(evidence, { timeoutSeconds: 30 }).catch(() => undefined);
    return [cause.details, log?.stdout.trim()].filter(Boolean).join("\n") || undefined;
  }

  /** It serves. What is left to do the server does by itself, once it has heard that we are gone. */
  async #unfinished(error: unknown, forward: readonly Call[]): Promise<Ended> {
    const { plan, secrets, progress } = this.#job;
    const { what, why, details } = asFailure(error);
    const { answer, later, unseen } = await this.#giveUp({
      calls: forward,
      seconds: 180,
      // Where it does not serve any more, the server had not heard yet that there is no way back.
      isOver: (live, record) => record !== undefined || live !== plan.release,
    });
    const result = answer ?? later?.result;
    const isBack = later?.byServer && later.record?.outcome !== "done";
    const record = later?.record ?? this.#record(isBack ? "undone" : "done", isBack ? `${what}: ${why}` : undefined);
    if (result?.exitCode === 0 && !isBack) {
      const how = later?.byServer ? "was left to the server" : "had to be done twice";
      progress.note(redact(`warning: the end of the deploy ${how}: ${what}: ${why}`, secrets));
      return { record };
    }
    const { says, next } = isBack ? afterUndo(result, plan, true) : afterForward(result, unseen);
    const failure = new Failure(
      `Release ${plan.release} ${isBack ? "was not deployed" : "serves, but the end of its deploy failed"}`,
      redact(`${what}: ${why}; ${says}`, secrets),
      ["the same command again", ...next],
      { ...(details && { details: redact(details, secrets) }), read: "docs/deploy.md" },
    );
    return { record, failure };
  }

  async #run<T>(name: StepName, work: () => Promise<T>): Promise<T> {
    this.#step = name;
    return await this.#job.progress.step(name, work);
  }

  async #call(call: Call, options: CallOptions = {}): Promise<Result> {
    const { interruptible = true, ...rest } = options;
    return await this.#job.session.call(call, {
      ...rest,
      ...(interruptible && { interrupted: this.#job.interrupted }),
    });
  }

  async #ask(path: string): Promise<{ status: number; body: string }> {
    const port = portIn(this.#job.upstream)!;
    const { stdout } = await this.#call(["ask_slot", this.#job.plan.slot, `${port}`, path], { accept: [0, 1, 124] });
    const [head = "", ...body] = stdout.split("\r\n\r\n");
    return { status: Number(/^HTTP\/\S+ (\d+)/.exec(head)?.[1] ?? 0), body: body.join("\r\n\r\n") };
  }

  /** Said before the step itself, which may be cut off in its middle. */
  #reach(what: Reached): void {
    this.#reached.add(what);
    this.#job.session.ifLost([...this.#wayBack(), ["record", this.#line("interrupted", "the connection was lost")]]);
  }

  /** First the files, because nginx reads them when it is switched; then the traffic; then what served it. */
  #wayBack(): Call[] {
    const { plan, wanted } = this.#job;
    const has = (what: Reached) => this.#reached.has(what);
    const release = `${plan.release}`;
    const back: Call[] = [];
    if (plan.previous) {
      const previous = `${plan.previous.release}`;
      if (has("files")) back.push(["activate", previous]);
      if (has("switch")) back.push(["retreat", release, `${wanted.settings.deploy.drainSeconds}`]);
      else if (has("warm")) back.push(["switch_back", release]);
      if (has("services")) back.push(["put_back", previous, ...plan.services]);
      if (has("workers")) back.push(["put_back", previous, ...plan.workers]);
    }
    if (this.#isFirstOfNginx() && has("files")) back.push(["forget_nginx"]);
    if (!plan.previous && has("workers")) {
      for (const name of plan.workers) back.push(["remove_service", name]);
    }
    const removal: Call = plan.revive ? ["stop_slot", plan.slot] : ["remove_service", `app-${plan.slot}`];
    if (has("start")) back.push(["unless_live", plan.slot, ...removal]);
    if (has("upload")) back.push(["drop_release", release]);
    return back;
  }

  #stamp(state: Stamp["state"]): Stamp {
    const { release, slot } = this.#job.plan;
    return { release, slot, state };
  }

  #line(outcome: Release["outcome"], reason?: string): string {
    return JSON.stringify(this.#record(outcome, reason));
  }

  #record(outcome: Release["outcome"], reason?: string): Release {
    const { plan, wanted, who, at, progress } = this.#job;
    return {
      release: plan.release,
      verb: wanted.again === undefined ? "deploy" : "rollback",
      image: wanted.image,
      reference: this.#image?.reference ?? "",
      imageId: this.#image?.id ?? "",
      configHash: wanted.configHash,
      slot: plan.slot,
      schemaVersion: this.#schemaVersion,
      ...(this.#backup && { backup: this.#backup }),
      previous: plan.previous?.release ?? 0,
      ...(wanted.again && wanted.again.release !== plan.release && { of: wanted.again.release }),
      who,
      at,
      seconds: Math.round(performance.now() - this.#started) / 1000,
      steps: progress.seconds(),
      outcome,
      ...(reason && { reason }),
    };
  }

  async #pause(milliseconds: number): Promise<void> {
    this.#job.interrupted.throwIfAborted();
    if (milliseconds > 0) await new Promise((resolve) => setTimeout(resolve, milliseconds));
  }
}

/** Pulls the wanted image on the server. @throws {Failure} saying why it cannot be had. */
export async function pullImage({ session, wanted, registry, interrupted }: Pulling): Promise<PulledImage> {
  const { image, reference } = wanted;
  const call: Call = ["pull", image, reference.registry, registry?.user ?? "-", `${pullSeconds}`];
  const { exitCode, stdout, stderr } = await session.call(call, {
    stdin: registry?.password ?? "",
    accept: [0, 10, 11, 124],
    timeoutSeconds: pullSeconds + 90,
    interrupted,
  });
  if (exitCode !== 0) throw pullFailed(image, exitCode, stderr, pullSeconds);
  return parseImage(stdout, reference);
}

type Pulling = Pick<Job, "session" | "wanted" | "interrupted"> & { registry?: Job["registry"] | undefined };

type Reached = "upload" | "files" | "services" | "migrate" | "start" | "warm" | "switch" | "workers";

type CallOptions = Parameters<Session["call"]>[1] & { interruptible?: boolean };

/** @returns undefined where the app does not say it, or wants a token first. */
function releaseIn(body: string): string | undefined {
  try {
    const { release } = JSON.parse(body) as { release?: unknown };
    return typeof release === "string" && release !== "" ? release : undefined;
  } catch {
    return undefined;
  }
}
