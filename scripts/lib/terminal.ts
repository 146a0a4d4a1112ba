// What people see while a verb works: on stderr, so that stdout is the result alone.
import { createInterface } from "node:readline/promises";
import { exitCodes, Failure } from "./failure.ts";
import { onOneLine } from "./printable.ts";

/** One line at the beginning of each phase. */
export function phase(text: string): void {
  console.error(`==> ${text}`);
}

/** A line of somebody else's output, marked with whose it is. */
export function quote(source: string, line: string): void {
  console.error(`${source.padEnd(8)} | ${onOneLine(line)}`);
}

type Question = {
  /** What will happen if the answer is yes, naming the target. */
  text: string;
  /** What the person has to type: the target's name. */
  answer: string;
  /** The flag that answers beforehand. */
  flag: string;
};

/**
 * Asks before something that cannot be taken back.
 * @throws {Failure} exit 5: the answer was another, or there is no terminal to ask on.
 */
export async function confirm({ text, answer, flag }: Question): Promise<void> {
  const typed = await ask(`${text}\nType "${answer}" to go on: `, refuse(text, flag), flag);
  if (typed !== answer) throw refuse(text, flag)(`you typed "${typed}", not "${answer}"`);
}

/**
 * Asks for one of several words.
 * @param flag with its values, for instance "--keep database or --keep files"
 * @throws {Failure} as confirm() does.
 */
export async function choose<Answer extends string>({
  text,
  answers,
  flag,
}: Omit<Question, "answer"> & { answers: readonly Answer[] }): Promise<Answer> {
  const words = answers.map((answer) => `"${answer}"`).join(" or ");
  const typed = await ask(`${text}\nType ${words}: `, refuse(text, flag), flag);
  const answer = answers.find((one) => one === typed);
  if (answer === undefined) throw refuse(text, flag)(`you typed "${typed}", not ${words}`);
  return answer;
}

type Refusal = (why: string) => Failure;

const refuse =
  (text: string, flag: string): Refusal =>
  (why) =>
    new Failure("Nothing was changed", why, [`the same command with ${flag}`], {
      exitCode: exitCodes.refused,
      details: text,
    });

async function ask(prompt: string, refused: Refusal, flag: string): Promise<string> {
  if (!process.stdin.isTTY || process.env.CI) throw refused(`this needs ${flag} where there is no terminal to ask on`);
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  // Ctrl-C and Ctrl-D close it, and the question would stay open for ever.
  const closed = new Promise<never>((_, reject) => {
    terminal.once("close", () => reject(refused("the question was not answered")));
  });
  const typed = await Promise.race([terminal.question(prompt), closed]).finally(() => terminal.close());
  return typed.trim();
}
