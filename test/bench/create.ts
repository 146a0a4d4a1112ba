// Writing a project: the packed scaffolder beside `cp -r` of the very same files, and beside Node doing nothing at all.
// Run it: npm run bench -- create
import { join } from "node:path";
import { run } from "../../scripts/lib/run.ts";
import { cleanEnvironment, packScaffolder } from "../lab/scaffolder.ts";

const rounds = 15;

export async function bench(): Promise<void> {
  const scaffolder = await packScaffolder();
  try {
    const original = scaffolder.folder();
    const environment = cleanEnvironment();
    const create = ["node", scaffolder.program, "shop", "--no-git", "--no-install", "--yes"];
    await run({ argv: create, directory: original, environment });
    const rivals: Record<string, readonly string[]> = {
      "create-dbops": create,
      "node -e 0": ["node", "-e", "0"],
      "cp -r": ["cp", "-r", join(original, "shop"), "shop"],
    };
    const milliseconds = Object.fromEntries(Object.keys(rivals).map((name) => [name, [] as number[]]));
    // Round by round, so that a busy moment of the machine hits all of them.
    for (let round = 0; round < rounds; round++) {
      for (const [name, argv] of Object.entries(rivals)) {
        const { seconds } = await run({ argv, directory: scaffolder.folder(), environment });
        milliseconds[name]!.push(seconds * 1000);
      }
    }
    report(milliseconds, scaffolder.contents);
  } finally {
    scaffolder.remove();
  }
}

function report(milliseconds: Record<string, number[]>, contents: { bytes: number; bytesUnpacked: number }): void {
  const medians = Object.entries(milliseconds).map(([name, all]) => [name, median(all)] as const);
  const [[, own], [, node]] = medians as [(typeof medians)[number], (typeof medians)[number]];
  for (const [name, value] of medians) {
    console.log(
      `${name.padEnd(14)} ${value.toFixed(0).padStart(5)} ms   create-dbops / it = ${(own / value).toFixed(2)}`,
    );
  }
  console.log(`once started   ${(own - node).toFixed(0).padStart(5)} ms   (the promise: under 150)`);
  console.log(`tarball        ${kilobytes(contents.bytes)}, unpacked ${kilobytes(contents.bytesUnpacked)}`);
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]!;
}

const kilobytes = (bytes: number) => `${(bytes / 1000).toFixed(0)} kB`;
