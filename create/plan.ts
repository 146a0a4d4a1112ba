// Decides for every file what happens to it. Pure: what was observed, answered and carried along goes in, a plan comes
// out; the plan that is printed is the plan that is applied. Nothing of the user's is ever overwritten unless named.
import { localEnvironment } from "../scripts/lib/environment.ts";
import type { Answers } from "./answers.ts";
import type { Payload } from "./kit.ts";
import { formatManifest, type Manifest, manifestOf, manifestPath } from "./manifest.ts";
import { mergeFile } from "./merge.ts";
import type { Observed } from "./observe.ts";
import { type ProjectFile, renderProject, sha256 } from "./render.ts";

/**
 * create: it was not there. merge: our lines are added to theirs. beside: theirs stays, ours lands as NAME.dbops.
 * overwrite: asked for with --force. keep: theirs stays, nothing is written. same: it is already what we would write.
 */
type Action = "create" | "merge" | "beside" | "overwrite" | "keep" | "same";

export type PlannedFile = {
  path: string;
  action: Action;
  /** Where it is written, and what; absent for keep and same. */
  write?: { path: string; text: string; mode: number };
};

export type Plan = {
  files: readonly PlannedFile[];
  /** Values of theirs that stay although ours differ. */
  conflicts: readonly string[];
  /** Written first, so that an interrupted run is completed with the same answers; absent when there is nothing to do. */
  opening?: { path: string; text: string; mode: number };
};

type Options = {
  /** For a new .env. Made outside, because a planner has no randomness. */
  password: string;
  /** Paths that may be overwritten. */
  force: readonly string[];
};

export function planProject(observed: Observed, answers: Answers, payload: Payload, options: Options): Plan {
  const offered = offeredFiles(observed, answers, payload);
  const conflicts: string[] = [];
  const manifest = manifestOf(payload.version, answers, offered);
  const files = [
    ...offered.map((file) => planFile(file, observed, options, conflicts)),
    planEnvironment(observed, answers, options),
  ];
  const closing = planManifest(observed, manifest);
  const isOpened = files.some(({ write }) => write) && closing.write;
  const opening: Manifest = { ...manifest, files: observed.manifest?.files ?? {} };
  return {
    files: [...files, closing],
    conflicts,
    ...(isOpened ? { opening: { ...closing.write!, text: formatManifest(opening) } } : {}),
  };
}

/** A project with migrations of its own gets none of ours; a deno.jsonc would be shadowed by a deno.json. */
function offeredFiles(observed: Observed, answers: Answers, payload: Payload): ProjectFile[] {
  const rendered = renderProject(payload, answers);
  const ours = new Set(rendered.map(({ path }) => path));
  const migrations = observed.migrations.map((name) => `migrations/${name}`).filter(isMigration);
  const hasItsOwn = migrations.some((path) => !ours.has(path));
  const isWanted = (path: string) => !(hasItsOwn && isMigration(path) && !observed.manifest?.files[path]);
  const hasDenoJsonc = observed.entries.includes("deno.jsonc") && !observed.entries.includes("deno.json");
  return rendered
    .filter(({ path }) => isWanted(path))
    .map((file) => (hasDenoJsonc && file.path === "deno.json" ? { ...file, path: "deno.jsonc" } : file));
}

const isMigration = (path: string) => /^migrations\/\d+[^/]*\.sql$/.test(path);

function planFile(file: ProjectFile, observed: Observed, options: Options, conflicts: string[]): PlannedFile {
  const { path, text } = file;
  const theirs = observed.read(path);
  const isForced = options.force.includes(path);
  if (theirs === text) return { path, action: "same" };
  if (theirs !== undefined && isForced) return { path, action: "overwrite", write: file };
  // The kit has nothing new since the last run: what differs, or is gone, is the user's own decision.
  if (observed.manifest?.files[path] === sha256(text) && !isForced) return { path, action: "keep" };
  if (theirs === undefined) return { path, action: "create", write: file };
  const merged = mergeFile(path, theirs, text);
  if (merged) {
    conflicts.push(...merged.conflicts);
    if (merged.text === theirs) return { path, action: "same" };
    return { path, action: "merge", write: { ...file, text: merged.text } };
  }
  return planBeside(file, observed);
}

function planBeside(file: ProjectFile, observed: Observed): PlannedFile {
  const beside = `${file.path}.dbops`;
  // One that lies there already, from an earlier run or edited since, is not overwritten either.
  if (observed.read(beside) !== undefined) return { path: file.path, action: "keep" };
  return { path: file.path, action: "beside", write: { ...file, path: beside } };
}

/** The secret file: made once. One that lacks what Compose needs gets ours beside it, which is git-ignored as well. */
function planEnvironment(observed: Observed, answers: Answers, options: Options): PlannedFile {
  const { name, database } = answers;
  const text = localEnvironment({ name, database, password: options.password });
  const file = { path: ".env", text, mode: 0o600 };
  const theirs = observed.read(".env");
  if (theirs === undefined) return { path: ".env", action: "create", write: file };
  const isComplete = variablesIn(text).every((variable) => variablesIn(theirs).includes(variable));
  return isComplete ? { path: ".env", action: "same" } : planBeside(file, observed);
}

function variablesIn(environment: string): string[] {
  return [...environment.matchAll(/^[ \t]*(?:export[ \t]+)?([A-Za-z_]\w*)[ \t]*=/gm)].map(([, name]) => name!);
}

function planManifest(observed: Observed, manifest: Manifest): PlannedFile {
  const path = manifestPath;
  const text = formatManifest(manifest);
  const there = observed.read(path);
  if (there === text) return { path, action: "same" };
  return { path, action: there === undefined ? "create" : "overwrite", write: { path, text, mode: 0o644 } };
}
