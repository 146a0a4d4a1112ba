// Measures what the kit promises, each as a ratio beside the alternative in the same run. Figures, never a pass or fail.
// Run it: npm run bench                     all of them
//         npm run bench -- validator        only those whose names begin with one of these words
import { readdir } from "node:fs/promises";
import { exitCodes, Failure } from "../../scripts/lib/failure.ts";
import { runIfMain } from "../../scripts/lib/verb.ts";

type Bench = { bench(): Promise<void> };

async function main(words: readonly string[]): Promise<void> {
  const all = await readdir(import.meta.dirname);
  const files = all.filter((file) => file.endsWith(".ts") && file !== "run.ts").sort();
  const names = files.map((file) => file.replace(/\.ts$/, ""));
  const chosen = names.filter((name) => words.length === 0 || words.some((word) => name.startsWith(word)));
  if (chosen.length === 0) {
    throw new Failure(
      "Cannot measure",
      `there is no bench "${words.join('", "')}"`,
      [`npm run bench -- ${names.join(" ")}`],
      {
        exitCode: exitCodes.usage,
      },
    );
  }
  for (const name of chosen) {
    console.log(`==> ${name}`);
    const { bench } = (await import(`./${name}.ts`)) as Bench;
    await bench();
  }
}

await runIfMain(import.meta, main);
