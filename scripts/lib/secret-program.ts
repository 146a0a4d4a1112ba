// Runs a provider's program. What it prints on stdout is secret: it is returned, and never part of an error.
import { Failure } from "./failure.ts";
import { type Command, run } from "./run.ts";

/** What a program did that did not do what it was asked. */
export type Refusal = { kind: "missing" | "slow" | "refused"; stderr: string };

export const timeoutSeconds = 30;

const notFound = 127;
const anyExitCode = Array.from({ length: 256 }, (_, code) => code);

/** @returns its stdout, or why there is none. */
export async function askProgram(command: Command): Promise<{ stdout: string } | Refusal> {
  try {
    // Every exit code is taken here: the evidence of run() may be what the program printed before it failed.
    const result = await run({ timeoutSeconds, ...command, accept: anyExitCode });
    if (result.exitCode === 0) return { stdout: result.stdout };
    const { exitCode, stderr } = result;
    const missing = exitCode === notFound && (stderr === "" || stderr.includes(`exec: ${command.argv[0]}: not found`));
    return missing ? { kind: "missing", stderr: "" } : { kind: "refused", stderr };
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    if (error.why.startsWith("no answer within")) return { kind: "slow", stderr: error.details ?? "" };
    return { kind: "refused", stderr: error.details ?? error.why };
  }
}

/** The end of what it said on stderr, as evidence. */
export const lastLines = (stderr: string) => stderr.trimEnd().split("\n").slice(-10).join("\n");
