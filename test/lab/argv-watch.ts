// Who can be seen with a secret in its command line? Reads the argv of every process of this machine, the lab's servers and their
// containers among them, over and over in a process of its own, until it is stopped.
//   const watch = await watchArgv(values);   …   const { found, seen } = await watch.stop();
// A value comes in through stdin: as an argument it would be found at once.
import { closeSync, openSync, readdirSync, readSync } from "node:fs";
import { start } from "../../scripts/lib/run.ts";

export type ArgvWatch = {
  stop(): Promise<{
    /** Command lines with one of the values in it. */
    found: string[];
    /** All command lines, each once. */
    seen: string[];
    /** How often all processes were looked at. */
    rounds: number;
  }>;
};

export async function watchArgv(values: readonly string[]): Promise<ArgvWatch> {
  const lines: string[] = [];
  const ready = Promise.withResolvers<void>();
  const program = await start({
    argv: [process.execPath, import.meta.path],
    input: true,
    onLine(line, stream) {
      if (stream === "stdout") lines.push(line);
      ready.resolve();
    },
  });
  program.write(`${JSON.stringify(values)}\n`);
  await ready.promise;
  return {
    async stop() {
      program.endInput();
      await program.ended;
      return JSON.parse(lines.at(-1)!);
    },
  };
}

async function main(): Promise<void> {
  let values: string[] = [];
  let isOver = false;
  process.stdin.on("data", (data) => {
    values = JSON.parse(data.toString());
    console.log("watching");
  });
  process.stdin.on("end", () => {
    isOver = true;
  });
  const seen = new Set<string>();
  const buffer = Buffer.alloc(128 * 1024);
  let rounds = 0;
  while (!isOver) {
    for (const pid of readdirSync("/proc")) {
      if (pid >= "0" && pid <= "9999999") seen.add(argvOf(pid, buffer));
    }
    rounds += 1;
    // Lets the end of stdin through.
    await new Promise((resolve) => setImmediate(resolve));
  }
  const found = [...seen].filter((line) => values.some((value) => line.includes(value)));
  console.log(JSON.stringify({ found, seen: [...seen], rounds }));
}

function argvOf(pid: string, buffer: Buffer): string {
  try {
    const file = openSync(`/proc/${pid}/cmdline`, "r");
    const length = readSync(file, buffer);
    closeSync(file);
    return buffer.toString("utf8", 0, length).replaceAll("\0", " ");
  } catch {
    // It has ended between being listed and being read.
    return "";
  }
}

if (import.meta.main) await main();
