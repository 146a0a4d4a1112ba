// Firewall rules on this machine that belong to one of the lab's hosts: each carries its name as a comment, by which all
// of them are found again.
import { run } from "../../../scripts/lib/run.ts";
import { toolsEnvironment } from "./tools.ts";

export type Rule = { table: "filter" | "nat" | "raw" | "mangle"; chain: string; words: readonly string[] };

/** In front of all others: the engine's end with a DROP. */
export async function addRules(name: string, rules: readonly Rule[]): Promise<void> {
  for (const { table, chain, words } of rules) {
    await iptables(["--table", table, "--insert", chain, ...words, "--match", "comment", "--comment", name]);
  }
}

/** Those of the named tables, or all. */
export async function removeRules(name: string, tables?: readonly Rule["table"][]): Promise<void> {
  const { stdout } = await run({ argv: ["iptables-save"], environment: await toolsEnvironment() });
  for (const { table, rule } of rulesOf(stdout, name)) {
    if (!tables || tables.includes(table)) await iptables(["--table", table, "--delete", ...rule]);
  }
}

/** Of the output of iptables-save: each rule's table and, as words, what followed `-A`. */
function rulesOf(saved: string, name: string): { table: Rule["table"]; rule: string[] }[] {
  return saved.split(/^\*/m).flatMap((text) => {
    const [table, ...lines] = text.split("\n");
    const rules = lines.filter((line) => line.startsWith("-A ")).map((line) => line.split(" ").slice(1));
    const named = rules.filter((words) => words.some((word) => word.replaceAll('"', "") === name));
    return named.map((rule) => ({ table: table as Rule["table"], rule: rule.map((word) => word.replaceAll('"', "")) }));
  });
}

async function iptables(words: readonly string[]): Promise<void> {
  await run({ argv: ["iptables", "--wait", "10", ...words], environment: await toolsEnvironment() });
}
