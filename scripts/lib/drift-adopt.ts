// `drift adopt`: takes over a database that another tool has migrated so far. What it found and what it will do is printed first; what the
// files make is proven equal to the database before anything is written; the old history is kept. docs/adopt.md
import type { Adopted } from "./adopt-histories.ts";
import type { Seen } from "./adopt-observe.ts";
import type { AdoptPlan } from "./adopt-plan.ts";
import type { DriftRequest } from "./drift-request.ts";
import { exitCodes, Failure } from "./failure.ts";
import type { Recorded } from "./migration-record.ts";
import { packageMissing } from "./packages.ts";
import { openPlace, type Place } from "./place.ts";
import { createProgress, type Progress } from "./progress.ts";
import { inDatabase, type Psql } from "./psql.ts";
import { asTyped } from "./runtime.ts";
import { interruption } from "./wait.ts";

type Job = { request: DriftRequest; place: Place; psql: Psql; progress: Progress; interrupted: AbortSignal };

export async function adopt(request: DriftRequest): Promise<void> {
  const { settings, directory, flags } = request;
  const interrupted = interruption();
  const where = { settings, directory, on: flags.on, url: flags["database-url"] };
  const place = await openPlace(where, interrupted);
  try {
    await inDatabase(place, place.database, interrupted, (psql) =>
      adoptFrom({ request, place, psql, progress: createProgress(), interrupted }),
    );
  } catch (error) {
    throw interrupted.aborted ? interrupted.reason : error;
  } finally {
    await place.close();
  }
}

async function adoptFrom(job: Job): Promise<void> {
  const { request, place, psql } = job;
  const { flags } = request;
  const earlier = await findEarlier(job);
  if (earlier) return await finish(job, earlier);
  const { observe } = await import("./adopt-observe.ts").catch(packageMissing);
  const { formatPlan, planAsJson } = await import("./adopt-plan-text.ts");
  const seen = await observe(psql, request);
  const plan = await planFor(job, seen);
  const database = `${place.database} on ${place.name}`;
  const tell = (adopted: boolean, text: string) =>
    console.log(flags.json ? JSON.stringify({ adopted, ...planAsJson(plan) }) : asTyped(text));
  if (flags.plan) return tell(false, formatPlan(plan, database));
  console.error(formatPlan(plan, database));
  if (!flags.yes) {
    const { confirm } = await import("./terminal.ts");
    const text = `From then on dbmate migrates ${database}, and ${plan.tool} no more.`;
    await confirm({ text, answer: place.environment, flag: "--yes" });
  }
  const applied = await carryOut(job, seen, plan);
  const { nextVersion } = await import("./adopt-version.ts");
  const versions = applied.length === 1 ? "1 version is" : `${applied.length} versions are`;
  const from = nextVersion(applied.sort().at(-1)!);
  const { where } = await import("./drift-check.ts");
  // The next database with the same files has nothing for git.
  const ofFiles = plan.files.some(({ isNew }) => isNew)
    ? [
        "  next: bun scripts/migrate.ts dump && git add migrations && git commit      # with schema.sql",
        `  next: migrations: { lintFrom: "${from}" } in dbops.config.ts      # what is applied is not judged any more`,
      ]
    : [];
  const lines = [
    `${database} is adopted: ${versions} in schema_migrations`,
    ...ofFiles,
    `  next: bun scripts/migrate.ts status${where(flags)}`,
  ];
  tell(true, lines.join("\n"));
}

/** With the dump where one is needed: so that what is printed is what will be written. */
async function planFor({ place, psql, interrupted }: Job, seen: Seen): Promise<AdoptPlan> {
  const { dumpBaseline } = await import("./adopt-baseline.ts");
  const { guardOf } = await import("./adopt-baseline-text.ts");
  const { findBaseline, planAdoption } = await import("./adopt-plan.ts");
  const { readObjects } = await import("./catalog-objects.ts");
  const { way, histories, history, existing } = seen;
  const isNeeded = way.way === "baseline" && !findBaseline(existing, history.tool);
  const objects = isNeeded ? await readObjects(psql, { histories }) : [];
  const guard = guardOf({ ...history, nameIsTaken: seen.nameIsTaken });
  const wanted = { place, psql, tool: history.tool, guard, histories, objects, interrupted };
  const plan = planAdoption(seen, way, isNeeded ? await dumpBaseline(wanted) : undefined, new Date());
  await requireUsable(plan);
  return plan;
}

/** What `migrate up` would refuse in every new database must not become a file. @throws {Failure} exit 3. */
async function requireUsable({ files, way }: AdoptPlan): Promise<void> {
  const { requireAppliable } = await import("./migration-refusals.ts");
  const migrations = files.filter(({ isNew }) => isNew).map(({ migration }) => migration);
  await requireAppliable(migrations, "up", "Cannot adopt").catch((error: unknown) => {
    if (!(error instanceof Failure)) throw error;
    const next = way === "import" ? ["the same command with --baseline      # which needs no files"] : error.next;
    throw new Failure("Cannot adopt", error.why, next, {
      exitCode: exitCodes.saidNo,
      ...(error.details && { details: error.details }),
      read: "docs/adopt.md",
    });
  });
}

/** @returns the versions that are applied. */
async function carryOut(job: Job, seen: Seen, plan: AdoptPlan): Promise<string[]> {
  const { request, place, psql, progress, interrupted } = job;
  const { settings, directory, flags } = request;
  const { lockMigrations } = await import("./migration-lock.ts");
  const { openScratch } = await import("./scratch.ts");
  const { prove } = await import("./adopt-prove.ts");
  const { apply } = await import("./adopt-apply.ts");
  const waitSeconds = Number(flags.wait);
  const onWait = (holder: string) => progress.note(`waiting for ${holder}`);
  const lock = await lockMigrations({ place, waitSeconds, interrupted, onWait });
  try {
    const { histories, owner, roles } = seen;
    const [server] = await psql.rows<{ versionNumber: number }>(
      `select current_setting('server_version_num')::int as "versionNumber"`,
    );
    const scratch = await openScratch({
      ...{ what: "Cannot prove it", settings, directory, owner, roles, ...server, progress, interrupted },
      ...{ url: flags["scratch-url"], image: flags.image },
    });
    const proving = { plan, scratch, live: psql, histories, owner, decided: flags.applied };
    const proof = await progress.step("prove", () => prove(proving)).finally(scratch.close);
    await progress.step("write", () =>
      apply({
        directory,
        plan,
        proof,
        table: seen.history.table,
        rows: seen.rows,
        readRows: seen.readRows,
        histories,
        owner,
        psql,
        interrupted,
      }),
    );
    return proof.applied.map(({ version }) => version);
  } finally {
    await lock.release();
  }
}

/** A history that is adopted already, if nothing else was asked for and no other tool's is there. */
async function findEarlier({ psql, request }: Job): Promise<Adopted | undefined> {
  const { readAdopted, readTables } = await import("./adopt-histories.ts");
  const { nameOf, recognise } = await import("./adopt-detect.ts");
  const { tool, table } = request.flags;
  const adopted = await readAdopted(psql);
  const isMeant = ({ history, tool: its }: Adopted) =>
    (tool === undefined || tool === its) && (table === undefined || history === table || history.endsWith(`.${table}`));
  const names = adopted.map(({ history }) => history);
  const others = recognise(await readTables(psql)).filter(
    (one) => one.tool !== "dbmate" && !names.includes(nameOf(one.table)),
  );
  return others.length > 0 && !tool && !table ? undefined : adopted.find(isMeant);
}

/** A run that was killed between the database and the files has written down what the files were: only the same are written. */
async function finish(job: Job, adopted: Adopted): Promise<void> {
  const { request, place, psql } = job;
  const { flags, directory } = request;
  const { findMigrations } = await import("./migration-file.ts");
  const { publishAll } = await import("./adopt-apply.ts");
  const { files: there } = await findMigrations(directory).catch(() => ({ files: [] }));
  const missing = adopted.files.filter(({ file }) => !there.some((one) => one.file === file));
  const database = `${place.database} on ${place.name}`;
  const written = missing.map(({ file }) => file);
  const tell = (text: string) =>
    console.log(flags.json ? JSON.stringify({ adopted: true, history: adopted.history, written }) : asTyped(text));
  if (missing.length === 0) return tell(`${database} is adopted already, from ${adopted.tool}: nothing to do`);
  const { observe } = await import("./adopt-observe.ts").catch(packageMissing);
  const plan = await planFor(job, await observe(psql, request, adopted));
  const files = plan.files.map(({ migration }) => migration);
  const ours = missing.map(({ file, sha256 }) => files.find((one) => one.file === file && one.sha256 === sha256));
  const unknown = missing.filter((_, at) => !ours[at]);
  if (unknown.length > 0) throw lost(database, unknown);
  if (flags.plan) return tell(`${database} is adopted already; these files are missing: ${written.join(", ")}`);
  const whole = ours.flatMap((file) => file ?? []);
  await publishAll(directory, whole);
  tell(`${database} was adopted already; these files were missing, and are written: ${written.join(", ")}`);
}

function lost(database: string, files: readonly Recorded[]): Failure {
  return new Failure(
    "Cannot write the files that are missing",
    `${database} is adopted, and is no longer as it was then`,
    ["git checkout -- migrations", "git log --all -- migrations      # in which branch they are"],
    {
      exitCode: exitCodes.saidNo,
      details: files.map(({ file }) => `migrations/${file}`).join("\n"),
      read: "docs/adopt.md",
    },
  );
}
