// The only place that starts processes. Argument vectors, never shell text; secrets on stdin, never in argv.
// run(): a control command, through zx, output captured.   start(): a program that keeps running.
// pipe(), flow(): byte streams between programs, through node's own pipes: zx would keep every byte in memory.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import type { Readable, Writable } from "node:stream";
import { Failure } from "./failure.ts";

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

const killAfterSeconds = 5;

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
    throw commandFailed(command, reason(command, result.exitCode, output.stderr), output.stderr || output.stdout);
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
    if (code !== 0) throw commandFailed({ argv }, reason({ argv }, code, await stderr), await stderr);
  }
  return stdout;
}

export type Stage = Pick<Command, "argv" | "environment" | "directory"> & {
  /** What messages call it: "pg_dump". */
  name: string;
  /** Comes to the program on file descriptor 3, and nowhere else. */
  secret?: string;
  /** For a first program that reads no input: a line on its stdin every few seconds, for as long as we live. */
  heartbeat?: boolean;
  /** What its stderr must hold for an exit 0 to count. */
  says?: string;
};

export type Flow = {
  /**
   * What the last program writes. **Ends only after every program has exited 0**, and throws the Failure of the one that failed
   * first: whoever uploads it never takes a crash for the end of the data. Leaving the loop early stops the programs.
   */
  output: AsyncGenerator<Buffer, void>;
  /** Stops every program that still runs; the output then throws. Resolves when all are gone. Harmless on repetition. */
  stop(): Promise<void>;
};

type FlowOptions = {
  /** Bytes for the first program; without them its stdin is empty. What it throws, the output throws. */
  input?: AsyncIterable<Uint8Array>;
  /** Ends everything; the output then throws the signal's reason. */
  interrupted?: AbortSignal;
  /**
   * Without a sign of life for so long the output throws: a byte in or out, or a word on stderr. The time that the reader of the
   * output takes does not count. Default 900: a dump may wait for a lock. Infinity for a restore, which may build one index for hours.
   */
  stallSeconds?: number;
};

const heartbeatSeconds = 5;

/**
 * Starts `a | b | c` without a shell, and hands out the bytes that come out at its end, in bounded memory.
 * Everything that goes wrong comes through the output.
 */
export function flow(stages: readonly Stage[], options: FlowOptions = {}): Flow {
  const { input, interrupted, stallSeconds = 900 } = options;
  let failure: { error: unknown } | undefined;
  let stopped: Promise<void> | undefined;
  /** The first one counts: what fails after it is a consequence. */
  const fail = (error: unknown) => {
    failure ??= { error };
    stopped ??= stopStages(programs);
  };
  const watch = stallWatch(stallSeconds, (why) => fail(new Failure(`Gave up on ${stages[0]!.name}`, why)));
  // The last one first: each writes into the pipe of the one behind it, and no byte between them passes through here.
  const programs: RunningStage[] = [];
  // The last one first: each writes into the pipe of the one behind it, and no byte between them passes through here.
  for (const stage of stages.toReversed()) programs.unshift(startStage(stage, watch.signOfLife, programs[0]));
  const judged = judge(programs, fail);
  // Not waited for, nor are the pipes: once all programs have ended, an input may still hang.
  void feed(programs[0]!, input, watch.signOfLife, fail);
  const settled = Promise.all([judged, ...programs.map(({ ended }) => ended)]);
  const onAbort = () => fail(interrupted?.reason);
  interrupted?.addEventListener("abort", onAbort);
  if (interrupted?.aborted) onAbort();
  const stop = async () => {
    // Also where every program takes the signal for a reason to exit 0.
    fail(new Failure(`Stopped ${stages[0]!.name}`, "before it was done"));
    await stopped;
    interrupted?.removeEventListener("abort", onAbort);
  };
  async function* chunks() {
    try {
      watch.begin();
      let unreadable: unknown;
      try {
        for await (const chunk of programs.at(-1)!.child.stdout!) {
          if (failure) break;
          watch.pause();
          yield chunk as Buffer;
          watch.begin();
        }
      } catch (error) {
        unreadable = error;
      }
      await settled;
      if (unreadable) fail(unreadable);
      if (failure) throw failure.error;
    } finally {
      watch.pause();
      await stop();
    }
  }
  return { output: chunks(), stop };
}

type RunningStage = {
  stage: Stage;
  child: ChildProcess;
  /** As soon as it is known, also while somebody still has to read what it wrote. */
  exited: Promise<number | NodeJS.Signals>;
  ended: Promise<number | NodeJS.Signals>;
  stderr: Promise<string>;
};

/** @param behind the one that reads what it writes; without one its output is for us. */
function startStage(stage: Stage, onStderr: () => void, behind: RunningStage | undefined): RunningStage {
  const { argv, environment, directory, secret } = stage;
  // Nothing reads where the program behind could not be started, which is what will be said.
  const into = behind && (behind.child.pid === undefined ? "ignore" : behind.child.stdin);
  const child = spawn(argv[0]!, argv.slice(1), {
    cwd: directory ?? process.cwd(),
    env: mergedEnvironment(environment),
    stdio: ["pipe", into ?? "pipe", "pipe", ...(secret === undefined ? [] : ["pipe" as const])],
    // Ctrl-C reaches us alone, and we stop them in our own order; each with all that it has started.
    detached: true,
  });
  ignoreBrokenPipe(child.stdin!);
  // As long as we hold it open as well, the program behind would wait for us.
  behind?.child.stdin?.destroy();
  if (secret !== undefined) send(child.stdio[3] as Writable, secret);
  const exited = new Promise<number | NodeJS.Signals>((resolve) => {
    child.once("error", () => resolve(notFound));
    child.once("exit", (code, signal) => resolve(code ?? signal ?? 128));
  });
  return { stage, child, exited, ended: whenEnded(child), stderr: collect(child.stderr!, keptBytes, onStderr) };
}

/** SIGTERM, and SIGKILL 5 seconds later, to them and to all that they have started. Resolves when all are gone. */
async function stopStages(programs: readonly RunningStage[]): Promise<void> {
  const running = new Set(programs);
  const allEnded = programs.map((program) => program.ended.then(() => running.delete(program)));
  const signal = (name: NodeJS.Signals, those: RunningStage[]) => {
    for (const { child } of those) if (child.pid !== undefined) sendSignal(-child.pid, name);
  };
  signal(
    "SIGTERM",
    programs.filter(({ child }) => child.exitCode === null && child.signalCode === null),
  );
  // Nobody wants their bytes any more, and a program counts as ended only when somebody has read them.
  for (const { child } of programs) child.stdout?.destroy();
  const kill = setTimeout(() => {
    signal("SIGKILL", [...running]);
    for (const { child } of running) stopReading(child);
  }, killAfterSeconds * 1000);
  await Promise.all(allEnded);
  clearTimeout(kill);
}

/** Calls `fail` for the program that began it, and resolves when all have exited. */
async function judge(programs: readonly RunningStage[], fail: (error: Failure) => void): Promise<void> {
  /** By place in the line: whether it failed on its own account, once that is known. */
  const failed = new Map<number, Promise<void>>();
  const verdicts = programs.map(async ({ stage, exited, stderr }, place) => {
    const code = await exited;
    const said = await stderr;
    const isComplete = code === 0 && said.includes(stage.says ?? "");
    if (isComplete) return;
    // Node's pipes are sockets, which may be reset.
    if (code === "SIGPIPE" || /broken pipe|EPIPE|connection reset/i.test(said)) {
      // The one behind it stopped reading, and says why when it ends.
      await Promise.all(verdicts.slice(place + 1));
      return fail(stageFailed(stage, code, said));
    }
    // A program may fail because the one before it did, and be noticed first.
    const verdict = moment().then(async () => {
      await Promise.all(programs.slice(0, place).map((_, before) => failed.get(before)));
      fail(stageFailed(stage, code, said));
    });
    failed.set(place, verdict);
    await verdict;
  });
  await Promise.all(verdicts);
}

const moment = () => new Promise((resolve) => setTimeout(resolve, 10));

/** Sends the input, or nothing; or a line every few seconds, to a program that would otherwise outlive us. */
async function feed(
  { stage, child, exited }: RunningStage,
  input: FlowOptions["input"],
  onBytes: () => void,
  fail: (error: unknown) => void,
): Promise<void> {
  if (input) {
    async function* watched(source: AsyncIterable<Uint8Array>) {
      try {
        for await (const chunk of source) {
          onBytes();
          yield chunk;
        }
      } catch (error) {
        fail(error);
        throw error;
      }
    }
    // A program that ends before it has read all breaks the pipe; its exit code says why.
    return copy(watched(input), child.stdin!);
  }
  if (!stage.heartbeat) return void child.stdin!.end();
  const timer = setInterval(() => child.stdin!.write("\n"), heartbeatSeconds * 1000);
  await exited;
  clearInterval(timer);
  child.stdin!.end();
}

/** Calls `onStall` when nothing has happened for so long between begin() and pause(). */
function stallWatch(stallSeconds: number, onStall: (why: string) => void) {
  let isOn = false;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const signOfLife = () => {
    clearTimeout(timer);
    if (!isOn || stallSeconds === Number.POSITIVE_INFINITY) return;
    timer = setTimeout(() => onStall(`there was no sign of life for ${stallSeconds} s`), stallSeconds * 1000);
  };
  const set = (on: boolean) => {
    isOn = on;
    signOfLife();
  };
  return { signOfLife, begin: () => set(true), pause: () => set(false) };
}

function stageFailed({ name, argv, says }: Stage, code: number | NodeJS.Signals, stderr: string): Failure {
  const lastLines = stderr.trimEnd().split("\n").slice(-30).join("\n");
  const why = code === 0 ? `it exited with 0 and did not say "${says}"` : reason({ argv }, code, stderr);
  return new Failure(`${name} failed`, why, [], lastLines ? { details: lastLines } : {});
}

function send(stdin: Writable, text: string | Buffer): void {
  ignoreBrokenPipe(stdin);
  stdin.end(text);
}

/** A program may end without reading all of its input. Its exit code says whether that was a failure. */
function ignoreBrokenPipe(stdin: Writable): void {
  stdin.on("error", () => {});
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

/**
 * Does nothing when the process is gone.
 * Not child.kill(): Deno's does nothing when called a second time, so a SIGKILL after a SIGTERM would be lost.
 */
export function sendSignal(pid: number | undefined, signal: NodeJS.Signals): void {
  try {
    if (pid !== undefined) process.kill(pid, signal);
  } catch {
    // Already gone, which is what was wanted.
  }
}

/** A grandchild may hold the pipes open for as long as it lives, and a program counts as ended only when they are closed. */
function stopReading(child: ChildProcess | undefined): void {
  child?.stdout?.destroy();
  child?.stderr?.destroy();
}

function mergedEnvironment(changes: Command["environment"]): Record<string, string> {
  const merged = Object.entries({ ...process.env, ...changes }).filter(([, value]) => value !== undefined);
  return Object.fromEntries(merged) as Record<string, string>;
}

function whenEnded(child: ChildProcess): Promise<number | NodeJS.Signals> {
  return new Promise((resolve) => {
    child.once("error", () => resolve(notFound));
    child.once("close", (code, signal) => resolve(code ?? signal ?? 128));
  });
}

/** Of a program that runs for hours the end of what it said is enough. */
const keptBytes = 64 * 1024;

/** All that came, or about the last so many bytes; also from a program that could not be started: its exit code tells the rest. */
async function collect(
  stream: Readable,
  lastBytes = Number.POSITIVE_INFINITY,
  onBytes: () => void = () => {},
): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      onBytes();
      chunks.push(chunk);
      bytes += chunk.length;
      while (bytes - chunks[0]!.length > lastBytes) bytes -= chunks.shift()!.length;
    }
  } catch {
    // Cut off: what has come counts.
  }
  return Buffer.concat(chunks).toString();
}

/**
 * Everything from one to the other, and then its end; or as much as the other one takes. Never rejects: what went wrong, the
 * programs' exit codes say, and who throws in `from`.
 * Not node's pipeline(): in Bun 1.4.5 its flowing streams now and then lose count of their own buffers and throw where nobody
 * can catch it (measured under `bun test`, 9 of 600 runs; this one 0 of 600).
 */
async function copy(from: AsyncIterable<Uint8Array>, to: Writable): Promise<void> {
  try {
    for await (const chunk of from) {
      // Leaving the loop closes the other end as well.
      if (to.destroyed) break;
      if (!to.write(chunk) && !to.destroyed) await takesMore(to);
    }
    to.end();
  } catch {
    to.destroy();
  }
}

/** Or never will. */
function takesMore(to: Writable): Promise<void> {
  return new Promise((resolve) => {
    const events = ["drain", "close", "error"] as const;
    const done = () => {
      for (const event of events) to.off(event, done);
      resolve();
    };
    for (const event of events) to.on(event, done);
  });
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

/** The shell's exit code for a missing program; but `docker exec` and ssh hand on the one of a program far away. */
const notFound = 127;

function reason({ argv }: Pick<Command, "argv">, code: number | NodeJS.Signals, stderr: string): string {
  if (code === notFound && (stderr === "" || stderr.includes(`exec: ${argv[0]}: not found`))) return missing(argv[0]!);
  return typeof code === "number" ? `it exited with ${code}` : `it was ended by ${code}`;
}

const missing = (program: string) => `"${program}" is not installed, or not on PATH`;

function commandFailed(command: Pick<Command, "argv">, why: string, evidence: string): Failure {
  const lastLines = evidence.trimEnd().split("\n").slice(-30).join("\n");
  return new Failure(`Cannot run "${command.argv.join(" ")}"`, why, [], lastLines ? { details: lastLines } : {});
}
