// Turns the kit's own working files into this project's: the placeholder values replaced, the chosen runtime and app.
import { createHash } from "node:crypto";
import type { Answers } from "./answers.ts";
import { type KitFile, landingOf, type Payload } from "./kit.ts";

export type ProjectFile = { path: string; text: string; mode: number };

/** All files that the project is offered, by path. Pure: the same answers give the same bytes. */
export function renderProject(payload: Payload, answers: Answers): ProjectFile[] {
  const verbs = payload.files.flatMap(({ path }) => /^scripts\/([a-z-]+)\.ts$/.exec(path)?.[1] ?? []);
  const files = new Map<string, ProjectFile>();
  for (const file of payload.files) {
    const rule = landingOf(file.path)!;
    if (rule.when && !rule.when(answers)) continue;
    const path = rule.to.endsWith("/") ? rule.to + file.path.slice(rule.from.length) : rule.to;
    const text = rule.verbatim ? file.text : render(path, file, answers, verbs);
    if (!files.has(path)) files.set(path, { path, text, mode: file.executable ? 0o755 : 0o644 });
  }
  return [...files.values()].sort((a, b) => (a.path < b.path ? -1 : 1));
}

function render(path: string, file: KitFile, answers: Answers, verbs: readonly string[]): string {
  const adapted = adapt(path, withProjectValues(file.text, answers), answers);
  const command = (runtime: Answers["runtime"]) => (verb: string) => [verb, runWith(runtime, `scripts/${verb}.ts`)];
  if (path === "package.json") return withSection(adapted, "scripts", verbs.map(command(answers.runtime)));
  if (path === "deno.json") return withSection(adapted, "tasks", verbs.map(command("deno")));
  return adapted;
}

/** One pass over the text, longest first, so that a value which looks like a placeholder is never replaced again. */
export function withProjectValues(text: string, answers: Answers): string {
  const values: Record<string, string> = {
    "ghcr.io/example/dbops-app": answers.image,
    "deploy@app.example.com": answers.server,
    "app.example.com": answers.domain,
    dbops_app: answers.database,
    "dbops-app": answers.name,
  };
  const anyOfThem = Object.keys(values).map((placeholder) => placeholder.replaceAll(".", "\\."));
  // Not inside a longer name such as "create-dbops-app"; but after the ":-" of a default in Compose files.
  const placeholder = new RegExp(`(?<!\\w|\\w-)(?:${anyOfThem.join("|")})(?![A-Za-z0-9])`, "g");
  return text.replace(placeholder, (found) => values[found]!);
}

export function runWith(runtime: Answers["runtime"], file: string): string {
  return runtime === "deno" ? `deno run -A ${file}` : `bun ${file}`;
}

/** As in templates/app/Dockerfile.deno: no files but its own, no programs, no writing. */
const denoApp = '["deno", "run", "--no-prompt", "--allow-net", "--allow-env", "--allow-read=.", "app/main.ts"]';

/** `--frozen` is an error where there is no lock file yet. */
const denoInstall = "if [[ -f deno.lock ]]; then deno install --frozen; else deno install; fi";

/** The few places where a project differs by more than a name. */
function adapt(path: string, text: string, answers: Answers): string {
  let adapted = text;
  if (answers.runtime === "deno") {
    adapted = adapted.replaceAll(/\bbun (run )?scripts\//g, "deno run -A scripts/");
    if (path === "dbops.config.ts") {
      adapted = replaceOnce(path, adapted, '["bun", "app/main.ts"]', denoApp);
    }
  }
  if (path.startsWith(".github/workflows/")) {
    const other = answers.runtime === "deno" ? "Bun" : "Deno";
    adapted = replaceOnce(path, adapted, new RegExp(` {6}- name: Set up ${other}\\n(?: {8}.*\\n)+\\n`), "");
    if (answers.runtime === "deno") {
      adapted = replaceOnce(path, adapted, "bun install --frozen-lockfile", denoInstall);
      // The app's own scripts are tasks there.
      adapted = adapted.replaceAll("package.json; then exec bun run", "deno.json; then exec deno task");
      adapted = adapted.replaceAll(/script ("\w+") of package\.json/g, "task $1 of deno.json");
      adapted = adapted.replace('"tsc --noEmit"', '"deno check app"').replace('"bun test"', '"deno test"');
    }
  }
  if (!answers.app && path === "dbops.config.ts") {
    adapted = replaceOnce(path, adapted, /criticalTables: \[[\s\S]*?\n {4}\]/, "criticalTables: []");
  }
  if (!answers.app && path === "compose.yaml") {
    adapted = replaceOnce(path, adapted, "dockerfile: app/Dockerfile", "dockerfile: Dockerfile");
  }
  if (!answers.app && path === "compose/development.yaml") {
    // Where their sources lie is unknown: any change below the root, less .dockerignore, builds the image again.
    adapted = replaceOnce(path, adapted, / *- \{ action: rebuild, path: app\/Dockerfile \}\n/, "");
    adapted = replaceOnce(
      path,
      adapted,
      /\{ action: sync\+restart, path: app, [^}]*\]? \}/,
      "{ action: rebuild, path: . }",
    );
  }
  return adapted;
}

/** @throws when the kit's file has changed so that there is nothing to adapt: a test renders every variant. */
function replaceOnce(path: string, text: string, from: string | RegExp, to: string): string {
  const replaced = text.replace(from, () => to);
  if (replaced === text) throw new Error(`the kit's "${path}" no longer holds ${from}`);
  return replaced;
}

function withSection(text: string, section: string, entries: readonly (readonly string[])[]): string {
  return `${JSON.stringify({ ...JSON.parse(text), [section]: Object.fromEntries(entries) }, null, 2)}\n`;
}

export function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}
