// Which values of .env.tpl a server could have: each name with its references and what is wrong, and never a value.
import {
  type Resolved,
  referenceProblem,
  referencesIn,
  referencesOf,
  type SecretSettings,
  substitute,
  type Template,
} from "./secret.ts";
import { nameIn, readDocument } from "./secret-document.ts";
import { inject, type OpSettings } from "./secret-op.ts";
import { opFailure } from "./secret-op-failure.ts";
import { missingFrom, valueProblem } from "./server-environment.ts";

export type Checked = {
  name: string;
  /** None where .env.tpl holds the value itself. */
  references: readonly string[];
  /** Absent when the value is good. */
  problem?: string;
};

/** What the provider said about each reference. */
export type Answers = { values: Resolved; problems: ReadonlyMap<string, string> };

/**
 * One call of the provider when all is well; for 1Password one more for each reference when it is not.
 * @throws {Failure} when the provider answers nobody: not installed, not signed in, out of reads.
 */
export async function checkTemplate(
  settings: SecretSettings,
  template: Template,
  directory: string,
): Promise<Checked[]> {
  const references = referencesOf(template).filter((reference) => !referenceProblem(reference, settings.provider));
  if (references.length === 0) return judge(settings.provider, template, { values: new Map(), problems: new Map() });
  const answers =
    settings.provider === "op"
      ? await askOp(settings, references)
      : sort(references, await readDocument(settings, directory));
  return judge(settings.provider, template, answers);
}

/** op stops at the first reference that it cannot read, so after that each is asked for by itself. */
async function askOp(settings: OpSettings, references: readonly string[]): Promise<Answers> {
  const all = await inject(settings, references);
  if (all instanceof Map) return { values: all, problems: new Map() };
  const values = new Map<string, string>();
  const problems = new Map<string, string>();
  if (!all.aboutReference) throw opFailure(all);
  for (const reference of references) {
    const one = await inject(settings, [reference]);
    if (one instanceof Map) values.set(reference, one.get(reference)!);
    else if (one.aboutReference) problems.set(reference, one.why);
    else throw opFailure(one);
  }
  return { values, problems };
}

function sort(references: readonly string[], document: Readonly<Record<string, string>>): Answers {
  const there = references.filter((reference) => document[nameIn(reference)] !== undefined);
  const absent = references.filter((reference) => !there.includes(reference));
  return {
    values: new Map(there.map((reference) => [reference, document[nameIn(reference)]!])),
    problems: new Map(absent.map((reference) => [reference, "the provider has no such name"])),
  };
}

/** Names that have to be there and are not come first, then the template's, in its order. Pure. */
export function judge(provider: SecretSettings["provider"], template: Template, answers: Answers): Checked[] {
  const absent = missingFrom(template).map((name) => ({ name, references: [], problem: "it is not there" }));
  const present = Object.entries(template).map(([name, value]) => {
    const references = referencesIn(value);
    const unread = references.flatMap((one) => referenceProblem(one, provider) ?? answers.problems.get(one) ?? []);
    const problem = unread[0] ?? valueProblem(name, substitute(value, answers.values));
    return { name, references, ...(problem && { problem }) };
  });
  return [...absent, ...present];
}

/** A line for each value that comes from the provider or is wrong. */
export function formatChecked(checked: readonly Checked[]): string {
  const shown = checked.filter(({ references, problem }) => references.length > 0 || problem);
  const width = Math.max(...shown.map(({ name }) => name.length));
  const bad = shown.filter(({ problem }) => problem).length;
  return [
    ...shown.map(({ name, references, problem }) =>
      [problem ? "wrong" : "good ", name.padEnd(width), ...references, ...(problem ? [`→ ${problem}`] : [])].join("  "),
    ),
    bad > 0 ? `${bad} of ${checked.length} values cannot be used` : `all ${checked.length} values can be used`,
  ].join("\n");
}
