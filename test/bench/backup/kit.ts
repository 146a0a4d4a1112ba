// A verb of the kit in a process of its own, with what it took at most.
import { readFile } from "node:fs/promises";
import { start } from "../../../scripts/lib/run.ts";
import type { BackupProject } from "../../lab/backup-project.ts";
import { inProject } from "./stand.ts";

export type Measured = {
  seconds: number;
  /** Of the process that runs the verb; Linux counts it. */
  peakBytes: number;
  document: Record<string, unknown>;
};

/** @param onLine hears what it says on stderr. */
export async function measureVerb(
  lab: BackupProject,
  verb: "backup" | "restore",
  words: readonly string[],
  onLine: (line: string) => void = () => {},
): Promise<Measured> {
  const stdout: string[] = [];
  const stderr: string[] = [];
  const begun = performance.now();
  const program = await start({
    argv: [process.execPath, `scripts/${verb}.ts`, ...words, "--json"],
    ...inProject(lab),
    onLine(line, stream) {
      (stream === "stdout" ? stdout : stderr).push(line);
      if (stream === "stderr") onLine(line);
    },
  });
  let peakBytes = 0;
  const timer = setInterval(async () => {
    const status = await readFile(`/proc/${program.pid}/status`, "utf8").catch(() => "");
    peakBytes = Math.max(peakBytes, 1024 * Number(/^VmHWM:\s+(\d+)/m.exec(status)?.[1] ?? 0));
  }, 50);
  const code = await program.ended;
  clearInterval(timer);
  const seconds = (performance.now() - begun) / 1000;
  if (code !== 0) throw new Error(`${verb} ${words.join(" ")} ended with ${code}:\n${stderr.join("\n")}`);
  return { seconds, peakBytes, document: JSON.parse(stdout.join("\n")) };
}
