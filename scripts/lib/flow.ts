// Byte streams through several programs, `a | b | c` without a shell: every backup and restore runs through flow().
// No byte is kept, every exit code counts, and nobody takes a crash for the end of the data.
import { type ChildProcess, spawn } from "node:child_process";
import type { Writable } from "node:stream";
import {
  collect,
  copy,
  howItEnded,
  ignoreBrokenPipe,
  killAfterSeconds,
  mergedEnvironment,
  notFound,
  send,
  sendSignal,
  stopReading,
  whenEnded,
} from "./child.ts";
import { Failure } from "./failure.ts";
import type { Command } from "./run.ts";

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

export type FlowOptions = {
  /** Bytes for the first program; without them its stdin is empty. What it throws, the output throws. */
  input?: AsyncIterable<Uint8Array>;
  /** Ends everything; the output then throws the signal's reason. */
  interrupted?: AbortSignal;
  /**
   * Without a sign of life for so long the output throws: a byte in or out, or a word on stderr. The time that the reader of the
   * output takes does not count. Default 900: a dump may wait for a lock. Infinity for a restore, which may build one index for hours.
   */
  stallSeconds?: number;
  /** Gets what went wrong as soon as it has, also while nobody reads the output, which throws the same. */
  onFailure?: (error: unknown) => void;
};

const heartbeatSeconds = 5;

/** Of a program that runs for hours the end of what it said is enough. */
const keptBytes = 64 * 1024;

/**
 * Starts `a | b | c` without a shell, and hands out the bytes that come out at its end, in bounded memory.
 * Everything that goes wrong comes through the output.
 */
export function flow(stages: readonly Stage[], options: FlowOptions = {}): Flow {
  const { input, interrupted, stallSeconds = 900, onFailure } = options;
  let failure: { error: unknown } | undefined;
  let stopped: Promise<void> | undefined;
  /** The first one counts: what fails after it is a consequence. */
  const end = (error: unknown) => {
    failure ??= { error };
    stopped ??= stopStages(programs);
  };
  const fail = (error: unknown) => {
    const isFirst = !failure;
    end(error);
    if (isFirst) onFailure?.(error);
  };
  const watch = stallWatch(stallSeconds, (why) => fail(new Failure(`Gave up on ${stages[0]!.name}`, why)));
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
    end(new Failure(`Stopped ${stages[0]!.name}`, "before it was done"));
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
  const why = code === 0 ? `it exited with 0 and did not say "${says}"` : howItEnded({ argv }, code, stderr);
  return new Failure(`${name} failed`, why, [], lastLines ? { details: lastLines } : {});
}
