// Restores the latest backup into a throw-away container, and says whether it is what was backed up.   bun scripts/drill.ts
// Touches no server and no database: it needs the bucket, what opens the backup, and Docker. docs/drill.md explains the result.
import { type Arguments, parseArguments } from "./lib/args.ts";
import type { DrillValues } from "./lib/backup-values.ts";
import type { Settings } from "./lib/config.ts";
import type { DrillPlan, Wanted } from "./lib/drill-plan.ts";
import type { Ending } from "./lib/drill-tell.ts";
import type { Failure } from "./lib/failure.ts";
import { packageMissing } from "./lib/packages.ts";
import type { Progress } from "./lib/progress.ts";
import { asTyped } from "./lib/runtime.ts";
import type { Store } from "./lib/s3.ts";
import { runIfMain } from "./lib/verb.ts";

const commandLine = {
  command: "bun scripts/drill.ts",
  purpose: "Proves a backup: restores it into a throw-away Postgres, counts every row, and measures how long it took.",
  words: ["[latest|BACKUP]"],
  flags: {
    from: { value: "ENVIRONMENT", help: "whose latest backup (default: production where there is one, else local)" },
    image: { value: "IMAGE", help: "of Postgres (default: that of compose.yaml, if it is of the backup's version)" },
    plan: { help: "print what would be done, and do nothing" },
    json: { help: "one JSON document on stdout" },
  },
  examples: [
    "bun scripts/drill.ts                              # the latest",
    "bun scripts/drill.ts --plan",
    "bun scripts/drill.ts 2026-11-21T03-00-00Z-4f2c1a2b",
  ],
  notes: [
    "Environment: BACKUP_ACCESS_KEY_ID, BACKUP_SECRET_ACCESS_KEY, BACKUP_PASSPHRASE; what is not there is looked up in .env.tpl.",
    "Exit codes: 0 it restores, and is equal; 1 this machine could not do it; 2 flags, configuration, values; 3 it is not what was",
    "backed up, cannot be restored, or the newest one is too old or missing; 130 interrupted, and the container removed.",
  ].join("\n"),
} as const;

type Flags = Arguments<typeof commandLine>;

type Request = {
  settings: Settings;
  directory: string;
  values: DrillValues;
  store: Store;
  flags: Flags;
  progress: Progress;
  interrupted: AbortSignal;
};

export async function main(argv: readonly string[]): Promise<void> {
  const flags = parseArguments(argv, commandLine);
  const { loadConfig } = await import("./lib/config.ts").catch(packageMissing);
  const { openStore } = await import("./lib/s3.ts").catch(packageMissing);
  const { backupSettings, readDrillValues } = await import("./lib/backup-values.ts").catch(packageMissing);
  const { redactFailure } = await import("./lib/redact.ts");
  const { asFailure } = await import("./lib/failure.ts");
  const { createProgress } = await import("./lib/progress.ts");
  const { interruption } = await import("./lib/wait.ts");
  const directory = process.cwd();
  const settings = await loadConfig(directory);
  const backup = backupSettings(settings);
  const values = await readDrillValues(settings, directory);
  const store = await openStore(backup, values.credentials);
  try {
    const how = { progress: createProgress(), interrupted: interruption() };
    await drill({ settings, directory, values, store, flags, ...how });
  } catch (error) {
    throw redactFailure(asFailure(error), values.secrets);
  } finally {
    store.close();
  }
}

async function drill(request: Request): Promise<void> {
  const { flags, progress, interrupted } = request;
  if (flags.plan) {
    const { plan, wanted } = await observe(request);
    const { formatPlan, planAsJson } = await import("./lib/drill-plan.ts");
    return console.log(flags.json ? JSON.stringify(planAsJson(plan)) : formatPlan(plan, wanted));
  }
  const { asJson, formatDrilled } = await import("./lib/drill-output.ts");
  const { tellOfDrill } = await import("./lib/drill-tell.ts");
  const { exitCodes, formatFailure } = await import("./lib/failure.ts");
  const started = performance.now();
  const ending = await toItsEnd(request);
  const { plan, drilled, failure } = ending;
  const seconds = Math.round(performance.now() - started) / 1000;
  for (const problem of await tellOfDrill(request, ending, seconds)) progress.note(problem);
  // Nothing was found out about a backup.
  if (!plan || !drilled) throw interrupted.aborted ? interrupted.reason : failure;
  const now = new Date();
  if (flags.json) console.log(JSON.stringify(asJson(plan, drilled, now)));
  else if (drilled.equal) console.log(asTyped(formatDrilled(plan, drilled, now)));
  if (!failure) return;
  console.error(formatFailure(failure));
  process.exitCode = exitCodes.saidNo;
}

/** Never rejects: whatever the end is, people are told of it. */
async function toItsEnd(request: Request): Promise<Ending> {
  const { asFailure } = await import("./lib/failure.ts");
  const { redactFailure } = await import("./lib/redact.ts");
  const { formatPlan } = await import("./lib/drill-plan.ts");
  const { runDrill } = await import("./lib/drill-run.ts");
  const { whyNotGood } = await import("./lib/drill-output.ts");
  const { writeProof } = await import("./lib/proof.ts");
  const { settings, values, store, progress } = request;
  const clean = (failure: Failure) => redactFailure(failure, values.secrets);
  let plan: DrillPlan | undefined;
  try {
    const { wanted, ...observed } = await observe(request);
    plan = observed.plan;
    console.error(formatPlan(plan, wanted));
    const drilled = await runDrill({ ...request, ...observed, project: settings.name, schema: settings.schema });
    const { problems, restoreSeconds, bytes } = drilled;
    const measured = { bytes, ...(restoreSeconds !== undefined && { restoreSeconds }) };
    await writeProof(store, plan.backup.folder, { by: "drill", problems, ...measured }, progress);
    const bad = whyNotGood(plan, drilled);
    return { plan, drilled, ...(bad && { failure: clean(bad) }) };
  } catch (error) {
    return { ...(plan && { plan }), failure: clean(asFailure(error)) };
  }
}

async function observe({ settings, directory, store, flags }: Request) {
  const { listBackups } = await import("./lib/backup-list.ts");
  const { backupSettings } = await import("./lib/backup-values.ts");
  const { migrationsHere } = await import("./lib/database-migrate.ts");
  const { findLeftovers, readStack, requireEngine } = await import("./lib/throwaway.ts");
  const { planDrill } = await import("./lib/drill-plan.ts");
  const listing = await listBackups(store, settings.name);
  for (const problem of listing.problems) console.error(`warning: ${problem}`);
  await requireEngine("Cannot drill");
  const now = new Date();
  const [stack, migrations, leftovers] = await Promise.all([
    readStack(directory),
    migrationsHere(directory),
    findLeftovers("drill", settings.name, now),
  ]);
  const usual = settings.environments.production ? "production" : "local";
  const wanted: Wanted = {
    ...{
      which: flags._[0] ?? "latest",
      environment: flags.from ?? usual,
      image: flags.image,
      now,
      where: `${store.name}/${settings.name}`,
    },
    maximumAgeHours: backupSettings(settings).maximumAgeHours,
  };
  return { wanted, stack, migrations, plan: planDrill(wanted, { listing, stack, migrations, leftovers }) };
}

await runIfMain(import.meta, main);
