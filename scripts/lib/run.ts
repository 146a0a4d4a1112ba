// Starts programs, as flow.ts does, and nothing else in the kit. Argument vectors, never shell text; secrets on stdin, never in argv.
// run(): a control command, through zx, output captured.   start(): a program that keeps running.
// pipe(): a | b | c, of which only the text at its end is wanted.
import { spawn } from "node:child_process";
import { once } from "node:events";
import type { Readable } from "node:stream";
import {
  collect,
  copy,
  howItEnded,
  ignoreBrokenPipe,
  killAfterSeconds,
  mergedEnvironment,
  missing,
  send,
  sendSignal,
  stopReading,
  whenEnded,
} from "./child.ts";
import { Failure } from "./failure.ts";

export { sendSignal } from "./child.ts";

export type Command = {
  argv: readonly string[];
  /** Sent to the program and then closed. The only way in for a secret. */
  stdin?: string | Buffer;
  /** Merged over this process's own environment; undefined removes a name. */
  environment?: Readonly<Record<string, string | undefined>>;
  directory?: string;
  /** Default 60. The program gets SIGTERM then, and SIGKILL 5 seconds later. */
  timeoutSeconds?: number;
  /** Exit codes that are an answer and not a failure. Default [0]. */
  accept?: readonly number[];
  /** Ends the program like the time does. */
  interrupted?: AbortSignal | undefined;
};

export type Result = { exitCode: number; stdout: string; stderr: string; seconds: number };

/**
 * Runs a command to its end and returns its output as text.
 * @throws {Failure} naming the command and the end of its stderr, when it is missing, too slow, or exits otherwise than accepted;
 * the signal's reason when it is interrupted.
 */
export async function run(command: Command): Promise<Result> {
  // Imported on first use: zx costs 40 ms, and --help must not pay it.
  const { $ } = await import("zx");
  const { timeoutSeconds = 60, interrupted } = command;
  interrupted?.throwIfAborted();
  const started = performance.now();
  const child = $({
    // `exec` replaces zx's bash by the program itself, so that a signal reaches the program and not a shell in front of it.
    prefix: "exec ",
    quiet: true,
    nothrow: true,
    // A stdin that nobody closes makes a program that reads it wait for ever.
    stdio: [command.stdin === undefined ? "ignore" : "pipe", "pipe", "pipe"],
    env: mergedEnvironment(command.environment),
    cwd: command.directory ?? process.cwd(),
  })`${command.argv}`;
  if (command.stdin !== undefined) send(child.stdin, command.stdin);
  // Our own: zx's timeout lists all processes with `ps`, which a minimal container does not have.
  const limit = endInTime(
    [{ pid: () => child.pid, letGo: () => stopReading(child.child) }],
    timeoutSeconds,
    interrupted,
  );
  const output = await child.finally(limit.lift);
  const seconds = (performance.now() - started) / 1000;
  const result = { exitCode: output.exitCode ?? 128, stdout: output.stdout, stderr: output.stderr, seconds };
  // Also when it then exited 0: it was told to stop, so whatever it says is not the end of its work.
  if (limit.was() === "interrupted") throw interrupted!.reason;
  if (limit.was() === "too slow") throw commandFailed(command, `no answer within ${timeoutSeconds} s`, output.stderr);
  if (output.signal) throw commandFailed(command, `it was ended by ${output.signal}`, output.stderr);
  if (!(command.accept ?? [0]).includes(result.exitCode)) {
    throw commandFailed(command, howItEnded(command, result.exitCode, output.stderr), output.stderr || output.stdout);
  }
  return result;
}

export type Running = {
  pid: number;
  /** The exit code, or the signal's name. Never rejects. */
  ended: Promise<number | NodeJS.Signals>;
  /** Sends the signal, waits up to the seconds given, then SIGKILL. Resolves when the program is gone. */
  stop(signal: NodeJS.Signals, waitSeconds: number): Promise<void>;
  /** Sends text or bytes to its stdin, which was asked for with `input`. What a program that has ended did not read is lost. */
  write(data: string | Buffer): void;
  /** Closes its stdin. */
  endInput(): void;
};

type LongRunning = Pick<Command, "argv" | "environment" | "directory"> & {
  /** Called with each whole line, and which of the two it was written to. */
  onLine?: (line: string, stream: "stdout" | "stderr") => void;
  /** Numeric user and group to run as, for root only. */
  user?: { uid: number; gid: number };
  /** Out of the terminal's process group: Ctrl-C reaches us alone, and we stop it in the right order. */
  ownGroup?: boolean;
  /** With a stdin to write to, or with ours; otherwise it has none. */
  input?: boolean | "inherit";
};

/**
 * Starts a program that keeps running.
 * @throws {Failure} when it cannot be started at all.
 */
export async function start(program: LongRunning): Promise<Running> {
  const [file, ...rest] = program.argv as [string, ...string[]];
  const child = spawn(file, rest, {
    cwd: program.directory ?? process.cwd(),
    env: mergedEnvironment(program.environment),
    stdio: [
      program.input === true ? "pipe" : program.input || "ignore",
      program.onLine ? "pipe" : "ignore",
      program.onLine ? "pipe" : "ignore",
    ],
    detached: program.ownGroup ?? false,
    ...program.user,
  });
  if (child.stdin) ignoreBrokenPipe(child.stdin);
  const ended = whenEnded(child);
  await once(child, "spawn").catch((error) => {
    throw commandFailed(program, error.code === "ENOENT" ? missing(file) : error.message, "");
  });
  const { onLine } = program;
  if (onLine && child.stdout) eachLine(child.stdout, (line) => onLine(line, "stdout"));
  if (onLine && child.stderr) eachLine(child.stderr, (line) => onLine(line, "stderr"));
  return {
    pid: child.pid!,
    ended,
    async stop(signal, waitSeconds) {
      // A negative number is the whole group: behind `sh -c` or `npm start` the app itself is a grandchild of ours.
      const target = program.ownGroup ? -child.pid! : child.pid!;
      sendSignal(target, signal);
      const kill = setTimeout(() => {
        sendSignal(target, "SIGKILL");
        stopReading(child);
      }, waitSeconds * 1000);
      await ended;
      clearTimeout(kill);
    },
    write: (data) => void child.stdin?.write(data),
    endInput: () => void child.stdin?.end(),
  };
}

/**
 * Runs `a | b | c` without a shell: bytes flow in bounded memory, and every exit code counts, not only the last one's.
 * @returns the last program's stdout as text.
 * @throws {Failure} for the first program in the line that did not exit 0, or for the last when all of it was too slow; the
 * signal's reason when it is interrupted.
 */
export async function pipe(
  commands: readonly Pick<Command, "argv" | "environment" | "directory">[],
  { timeoutSeconds = 600, interrupted }: Pick<Command, "timeoutSeconds" | "interrupted"> = {},
): Promise<string> {
  interrupted?.throwIfAborted();
  const programs = commands.map(({ argv, environment, directory }) => {
    const child = spawn(argv[0]!, argv.slice(1), {
      cwd: directory ?? process.cwd(),
      env: mergedEnvironment(environment),
      stdio: ["pipe", "pipe", "pipe"],
    });
    ignoreBrokenPipe(child.stdin);
    return { argv, child, ended: whenEnded(child), stderr: collect(child.stderr) };
  });
  const toEnd = programs.map(({ child }) => ({
    // The number of one that has ended may be another's by now.
    pid: () => (child.exitCode === null && child.signalCode === null ? child.pid : undefined),
    letGo: () => stopReading(child),
  }));
  const limit = endInTime(toEnd, timeoutSeconds, interrupted);
  send(programs[0]!.child.stdin, "");
  const stdout = collect(programs.at(-1)!.child.stdout);
  const flows = programs.slice(1).map(({ child }, index) => copy(programs[index]!.child.stdout, child.stdin));
  // A program that dies breaks the pipe of its neighbour: the exit codes below name the one that began it.
  await Promise.all(flows);
  const last = programs.at(-1)!;
  await Promise.all(programs.map(({ ended }) => ended)).finally(limit.lift);
  if (limit.was() === "interrupted") throw interrupted!.reason;
  if (limit.was() === "too slow") throw commandFailed(last, `not done within ${timeoutSeconds} s`, await last.stderr);
  for (const { argv, ended, stderr } of programs) {
    const code = await ended;
    if (code !== 0) throw commandFailed({ argv }, howItEnded({ argv }, code, await stderr), await stderr);
  }
  return stdout;
}

type Ending = "too slow" | "interrupted";

/** SIGTERM to all of them when the time is over or the signal is aborted; 5 seconds later SIGKILL, and nobody listens any more. */
function endInTime(
  programs: readonly { pid: () => number | undefined; letGo: () => void }[],
  seconds: number,
  interrupted: AbortSignal | undefined,
): { was: () => Ending | undefined; lift: () => void } {
  let ending: Ending | undefined;
  let kill: NodeJS.Timeout | undefined;
  const end = (why: Ending) => {
    if (ending) return;
    ending = why;
    for (const { pid } of programs) sendSignal(pid(), "SIGTERM");
    kill = setTimeout(() => {
      for (const { pid, letGo } of programs) {
        sendSignal(pid(), "SIGKILL");
        letGo();
      }
    }, killAfterSeconds * 1000);
  };
  const timer = setTimeout(() => end("too slow"), seconds * 1000);
  const onAbort = () => end("interrupted");
  interrupted?.addEventListener("abort", onAbort);
  return {
    was: () => ending,
    lift() {
      clearTimeout(timer);
      clearTimeout(kill);
      interrupted?.removeEventListener("abort", onAbort);
    },
  };
}

function eachLine(stream: Readable, onLine: (line: string) => void): void {
  let rest = "";
  stream.setEncoding("utf8").on("data", (text: string) => {
    const lines = (rest + text).split("\n");
    rest = lines.pop()!;
    lines.forEach(onLine);
  });
  stream.on("end", () => rest && onLine(rest));
}

function commandFailed(command: Pick<Command, "argv">, why: string, evidence: string): Failure {
  const lastLines = evidence.trimEnd().split("\n").slice(-30).join("\n");
  return new Failure(`Cannot run "${command.argv.join(" ")}"`, why, [], lastLines ? { details: lastLines } : {});
}
