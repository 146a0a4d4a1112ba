// Secrets by reference: .env.tpl is a .env file whose values may hold references, and a provider knows what they stand for.
//   provider op:     POSTGRES_PASSWORD='op://vault/item/field'
//   all the others:  POSTGRES_PASSWORD='secret://NAME'
import { readFile } from "node:fs/promises";
import { parse } from "dotenv";
import type { Settings } from "./config.ts";
import { exitCodes, Failure } from "./failure.ts";

export type SecretSettings = Settings["secrets"];

/** Values as they stand in the file, by name. Nothing is expanded: a dollar sign is a dollar sign. */
export type Template = Readonly<Record<string, string>>;

/** What each reference stands for. */
export type Resolved = ReadonlyMap<string, string>;

/** What a whole value may be: names in 1Password may hold spaces. */
const wholeValue = /^op:\/\/[\w ./-]+(\?(attribute|ssh-format)=\w+)?$/;

/** Inside a longer value a reference ends where it no longer can go on; between {{ and }} it may hold spaces. */
const insideValue =
  /\{\{\s*((?:op|secret):\/\/[^{}]*?)\s*\}\}|(?<![\w+\\.-])((?:op|secret):\/\/[\w./-]*(?:\?(?:attribute|ssh-format)=\w+)?)/g;

/** @throws {Failure} exit 2 when there is no such file. */
export async function readTemplate(file: string): Promise<Template> {
  const text = await readFile(file, "utf8").catch((error: NodeJS.ErrnoException) => {
    const why = error.code === "ENOENT" ? "there is no such file" : error.message;
    throw new Failure(`Cannot read "${file}"`, why, ["cd to the project's root", "npx create-dbops ."], {
      exitCode: exitCodes.usage,
      read: "docs/secrets.md",
    });
  });
  return parse(text);
}

/** The references in a value, from left to right. */
export function referencesIn(value: string): string[] {
  if (wholeValue.test(value)) return [value];
  return [...value.matchAll(insideValue)].map(([, inBraces, bare]) => inBraces ?? bare!);
}

/** Every reference of a template once. */
export function referencesOf(template: Template): string[] {
  return [...new Set(Object.values(template).flatMap(referencesIn))];
}

/** The value with each reference replaced by what it stands for, as it is: nothing is encoded for a URL around it. */
export function substitute(value: string, resolved: Resolved): string {
  if (wholeValue.test(value)) return resolved.get(value)!;
  return value.replace(insideValue, (_, inBraces, bare) => resolved.get(inBraces ?? bare)!);
}

export function substituteAll(template: Template, resolved: Resolved): Record<string, string> {
  return Object.fromEntries(Object.entries(template).map(([name, value]) => [name, substitute(value, resolved)]));
}

/** What is wrong with a template's references before anybody is asked, one line each with its name. */
export function templateProblems(template: Template, provider: SecretSettings["provider"]): string[] {
  return Object.entries(template).flatMap(([name, value]) =>
    referencesIn(value).flatMap((reference) => {
      const problem = referenceProblem(reference, provider);
      return problem ? [`${name}: ${problem}`] : [];
    }),
  );
}

export function referenceProblem(reference: string, provider: SecretSettings["provider"]): string | undefined {
  const scheme = provider === "op" ? "op" : "secret";
  if (!reference.startsWith(`${scheme}://`)) {
    const wanted = scheme === "op" ? "op://vault/item/field" : "secret://NAME";
    return `"${reference}" is not of provider ${provider}, whose references are written ${wanted}`;
  }
  const path = reference.slice(`${scheme}://`.length).split("?")[0]!;
  if (scheme === "op") {
    return /^[\w .-]+(\/[\w .-]+){2,3}$/.test(path)
      ? undefined
      : `"${reference}" is no reference: op://vault/item/field or op://vault/item/section/field, of letters, digits, - _ . and spaces; anything with another character in its name goes by its ID`;
  }
  return /^[\w.-]+(\/[\w.-]+)*$/.test(path)
    ? undefined
    : `"${reference}" is no reference: secret:// and a name, of letters, digits, - _ . and /`;
}

/**
 * Asks the provider, with one process for all references.
 * @throws {Failure} exit 2 with every malformed reference, or what the provider said; never a value.
 */
export async function resolveTemplate(
  settings: SecretSettings,
  template: Template,
  directory: string,
): Promise<Resolved> {
  const problems = templateProblems(template, settings.provider);
  if (problems.length > 0) throw templateFailure(problems);
  const references = referencesOf(template);
  if (references.length === 0) return new Map();
  if (settings.provider === "op") {
    const { injectWithOp } = await import("./secret-op.ts");
    return await injectWithOp(settings, references);
  }
  const { readFromDocument } = await import("./secret-document.ts");
  return await readFromDocument(settings, references, directory);
}

/** All that is wrong with .env.tpl in one failure. */
export function templateFailure(problems: readonly string[]): Failure {
  const count = problems.length === 1 ? "1 problem" : `${problems.length} problems`;
  return new Failure("Cannot use .env.tpl", count, ["correct .env.tpl, then: bun scripts/secrets.ts check"], {
    exitCode: exitCodes.usage,
    details: problems.join("\n"),
    read: "docs/secrets.md",
  });
}
