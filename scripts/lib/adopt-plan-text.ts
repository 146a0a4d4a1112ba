// How the plan of an adoption is told: in lines for people, and as a document for programs. Pure.
import { type AdoptPlan, baselineEnding, type PlannedFile } from "./adopt-plan.ts";

/** @param database what it is called, for people. */
export function formatPlan(plan: AdoptPlan, database: string): string {
  const { tool, history, count, way, why, files, undecided, renamed, notCompared, warnings } = plan;
  const fresh = files.filter((one) => one.isNew);
  const applied = files.filter((one) => one.applied);
  const isUndecided = ({ from }: PlannedFile) => undecided.some((it) => it.sources.some((one) => one.from === from));
  const pending = files.filter((one) => !one.applied && !isUndecided(one));
  const make = fresh.some(({ migration }) => migration.file.endsWith(baselineEnding)) ? "make a" : "take the";
  const take = way === "import" ? "take its SQL files over" : `${make} baseline of the database, because ${why}`;
  const old = renamed
    ? `rename ${history} to ${renamed}: dbmate needs its name`
    : `leave ${history} where it is; nothing reads it any more`;
  const steps = [
    take,
    "prove it: apply the files to an empty database, and compare that one with this one",
    `write ${fresh.length === 1 ? "1 file" : `${fresh.length} files`} into migrations/`,
    ...fresh.map(({ migration, from }) => `     ${migration.file}   from ${from}`),
    `write ${applied.length === 1 ? "1 version" : `${applied.length} versions`} into schema_migrations, as applied`,
    ...undecided.map(({ key, sources }) => {
      const names = sources.map(({ from }) => from);
      return `     of ${names.join(" and ")}, ${names.length === 2 ? "both" : "all"} ${key}: what the database proves`;
    }),
    ...(pending.length > 0 ? [`leave pending: ${pending.map(({ migration }) => migration.file).join(", ")}`] : []),
    old,
  ];
  let number = 0;
  const numbered = steps.map((step) => (step.startsWith("     ") ? `  ${step}` : `  ${++number}. ${step}`));
  const heading = `${tool} has migrated ${database}: ${count === 1 ? "1 migration" : `${count} migrations`} in ${history}`;
  const [look, are] = notCompared.length === 1 ? ["looks like the history", "is"] : ["look like histories", "are"];
  const others = `  not compared: ${notCompared.join(", ")}, which ${look} of another tool and ${are} in no file`;
  return [
    heading,
    ...numbered,
    ...(notCompared.length > 0 ? [others] : []),
    ...warnings.map((text) => `  warning: ${text}`),
  ].join("\n");
}

export function planAsJson({ files, ...plan }: AdoptPlan) {
  const described = files.map(({ migration, from, applied, isNew: written }) => ({
    ...{ file: migration.file, from, applied, written },
  }));
  return { ...plan, why: plan.why ?? null, renamed: plan.renamed ?? null, files: described };
}
