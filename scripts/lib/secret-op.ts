// 1Password: exactly one `op inject` for all references, because accounts have a daily limit of reads.
// .env.tpl itself never reaches op, which puts values in raw and unquoted, and expands `$word` anywhere in what it is given.
// It gets a text of our own, in which a random mark stands between the values, so that each comes back as it is.
import { randomBytes } from "node:crypto";
import type { Settings } from "./config.ts";
import { Failure } from "./failure.ts";
import type { Command } from "./run.ts";
import { type OpProblem, opFailure, opProblem } from "./secret-op-failure.ts";
import { askProgram } from "./secret-program.ts";

export type OpSettings = Extract<Settings["secrets"], { provider: "op" }>;

/** @throws {Failure} with what op said, classified; never with anything that it printed on stdout. */
export async function injectWithOp(settings: OpSettings, references: readonly string[]): Promise<Map<string, string>> {
  const answer = await inject(settings, references);
  if (!(answer instanceof Map)) throw opFailure(answer);
  return answer;
}

/** One process, one read of the account's limit for each item in it. */
export async function inject(
  settings: OpSettings,
  references: readonly string[],
): Promise<Map<string, string> | OpProblem> {
  const mark = randomBytes(16).toString("hex");
  const answer = await askProgram(injectCommand(settings, references, mark));
  return "stdout" in answer ? readInjected(answer.stdout, references, mark) : opProblem(answer, references);
}

/** Pure, with the mark given. */
export function injectCommand({ account }: OpSettings, references: readonly string[], mark: string): Command {
  const lines = references.flatMap((reference, index) => [`${mark} ${index}`, `{{ ${reference} }}`]);
  // A token belongs to one account, whatever dbops.config.ts says for those who sign in.
  const hasToken = Boolean(process.env.OP_SERVICE_ACCOUNT_TOKEN || process.env.OP_CONNECT_TOKEN);
  return {
    argv: ["op", "inject", ...(account && !hasToken ? ["--account", account] : [])],
    stdin: `${[...lines, `${mark} end`].join("\n")}\n`,
  };
}

/** What stands between the marks, one line break less at either end. */
export function readInjected(output: string, references: readonly string[], mark: string): Map<string, string> {
  const pieces = output.split(new RegExp(`${mark} (?:\\d+|end)`)).slice(1, -1);
  if (pieces.length !== references.length) {
    const why = `it returned ${pieces.length} values for ${references.length} references`;
    throw new Failure("Cannot read secrets from 1Password", why, ["op --version    # at least 2.18"]);
  }
  return new Map(references.map((reference, index) => [reference, pieces[index]!.slice(1, -1)]));
}
