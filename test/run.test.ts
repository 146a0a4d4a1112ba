// scripts/lib/run.ts, and what it relies on of zx, bash and node's child processes. Only local programs, no server.
import { describe, expect, test } from "bun:test";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Failure, formatFailure } from "../scripts/lib/failure.ts";
import { identify, isRunning } from "../scripts/lib/process.ts";
import { pipe, run, start } from "../scripts/lib/run.ts";
import { poll } from "../scripts/lib/wait.ts";

const failureOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => "it succeeded",
    (error: Failure) => formatFailure(error),
  );

describe("run()", () => {
  test("hands arguments on unchanged, whatever a shell would make of them", async () => {
    const nasty = ["a b", "$HOME", "it's", '"', "\\", "`id`", "*", "", "ü\n", "-n"];
    const { stdout } = await run({ argv: ["printf", "%s|", ...nasty] });
    expect(stdout).toBe(`${nasty.join("|")}|`);
  });

  test("sends stdin and closes it; without one, a program that reads stdin ends at once", async () => {
    expect((await run({ argv: ["cat"], stdin: "pa$$ 'word\n" })).stdout).toBe("pa$$ 'word\n");
    expect((await run({ argv: ["cat"], timeoutSeconds: 5 })).stdout).toBe("");
  });

  test("survives a program that does not read its stdin", async () => {
    expect((await run({ argv: ["true"], stdin: "x".repeat(1_000_000) })).exitCode).toBe(0);
  });

  test("merges the environment, and removes a name that is undefined", async () => {
    const { stdout } = await run({
      argv: ["sh", "-c", 'echo "$ADDED ${HOME:-none}"'],
      environment: { ADDED: "yes $x", HOME: undefined },
    });
    expect(stdout).toBe("yes $x none\n");
  });

  test("accepts the exit codes that are an answer", async () => {
    expect((await run({ argv: ["sh", "-c", "exit 3"], accept: [0, 3] })).exitCode).toBe(3);
  });

  const failures = [
    { name: "an exit code", argv: ["sh", "-c", "echo why >&2; exit 7"], message: "it exited with 7\n  | why" },
    {
      name: "127 of a program far away",
      argv: ["sh", "-c", "echo no such file >&2; exit 127"],
      message: "it exited with 127\n  | no such file",
    },
    { name: "a signal", argv: ["sh", "-c", "kill -9 $$"], message: "it was ended by SIGKILL" },
  ];
  test.each(failures)("fails on $name", async ({ argv, message }) => {
    expect(await failureOf(run({ argv }))).toBe(`Cannot run "${argv.join(" ")}": ${message}`);
  });

  test("names a program that is missing", async () => {
    expect(await failureOf(run({ argv: ["nonesuch"] }))).toStartWith(
      'Cannot run "nonesuch": "nonesuch" is not installed, or not on PATH',
    );
  });

  test("ends a program that is too slow", async () => {
    expect(await failureOf(run({ argv: ["sleep", "30"], timeoutSeconds: 0.2 }))).toBe(
      'Cannot run "sleep 30": no answer within 0.2 s',
    );
  });

  test("does not wait for a grandchild that holds the output open", async () => {
    const started = performance.now();
    expect(await failureOf(run({ argv: ["sh", "-c", "sleep 40; true"], timeoutSeconds: 1 }))).toEndWith(
      "no answer within 1 s",
    );
    expect(performance.now() - started).toBeLessThan(10_000);
  }, 60_000);

  test("does not take a late exit 0 for success", async () => {
    const argv = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.05; done"];
    expect(await failureOf(run({ argv, timeoutSeconds: 0.2 }))).toEndWith("no answer within 0.2 s");
  });

  test("kills a program that ignores SIGTERM, also under Deno, whose second kill() does nothing", async () => {
    const script = `
      import { run } from "./scripts/lib/run.ts";
      const argv = ["sh", "-c", "trap '' TERM; while :; do sleep 0.05; done"];
      await run({ argv, timeoutSeconds: 0.2 }).catch((error) => console.log(error.why));`;
    const runtimes = [
      ["bun", "-e"],
      ["deno", "eval"],
    ];
    const outputs = await Promise.all(
      runtimes.map((runtime) => run({ argv: [...runtime, script], timeoutSeconds: 30 })),
    );
    expect(outputs.map(({ stdout }) => stdout)).toEqual(["no answer within 0.2 s\n", "no answer within 0.2 s\n"]);
  }, 60_000);
});

describe("interrupted", () => {
  const reason = new Failure("Interrupted", "by SIGTERM", [], { exitCode: 130 });
  /** Prints its number, and would live for 40 s; the second one does not listen to SIGTERM. */
  const script = "echo $$ >&2; exec sleep 40";
  const deaf = "trap '' TERM; echo $$ >&2; while :; do sleep 0.05; done";
  const commands = { run: [script], pipe: [script, "cat", deaf] };

  test.each(["run", "pipe"] as const)(
    "%s() ends its programs, and throws the reason",
    async (how) => {
      const folder = await mkdtemp(join(tmpdir(), "dbops-run-"));
      const controller = new AbortController();
      const argvs = commands[how].map((text, index) => ["sh", "-c", `{ ${text}; } 2>${folder}/${index}`]);
      const { signal: interrupted } = controller;
      const work =
        how === "run"
          ? run({ argv: argvs[0]!, interrupted })
          : pipe(
              argvs.map((argv) => ({ argv })),
              { interrupted },
            );
      const ended = work.then(
        () => "it succeeded",
        (error) => error,
      );
      const started = async () => {
        const texts = await Promise.all(
          argvs.map((_, index) => readFile(join(folder, `${index}`), "utf8").catch(() => "")),
        );
        const numbers = texts.flatMap((text) => (/^\d+\n$/.test(text) ? [Number(text)] : []));
        return numbers.length === (how === "run" ? 1 : 2) ? numbers : undefined;
      };
      const found = await Promise.all((await poll({ seconds: 10 }, started))!.map((pid) => identify(pid)));
      controller.abort(reason);
      expect(await ended).toBe(reason);
      for (const one of found) {
        expect(await poll({ seconds: 5 }, async () => ((await isRunning(one!)) ? undefined : "gone"))).toBe("gone");
      }
      await rm(folder, { recursive: true });
    },
    60_000,
  );

  test.each([
    { name: "run", start: (interrupted: AbortSignal) => run({ argv: ["nonesuch"], interrupted }) },
    { name: "pipe", start: (interrupted: AbortSignal) => pipe([{ argv: ["nonesuch"] }], { interrupted }) },
  ])("before: $name() starts nothing", async ({ start }) => {
    expect(await failureOf(start(AbortSignal.abort(reason)))).toBe("Interrupted: by SIGTERM");
  });
});

describe("pipe()", () => {
  const cat = { argv: ["cat"] };

  test("ends all of it when it is too slow", async () => {
    const line = [{ argv: ["sleep", "30"] }, cat, { argv: ["sh", "-c", "cat; sleep 30"] }];
    expect(await failureOf(pipe(line, { timeoutSeconds: 0.2 }))).toBe(
      'Cannot run "sh -c cat; sleep 30": not done within 0.2 s',
    );
  });

  test("carries bytes unchanged through every program", async () => {
    const bytes = await pipe([{ argv: ["head", "-c", "3000000", "/dev/urandom"] }, cat, { argv: ["wc", "-c"] }]);
    expect(bytes.trim()).toBe("3000000");
  });

  const failures = [
    {
      name: "the first",
      line: [{ argv: ["sh", "-c", "echo half; echo why >&2; exit 5"] }, cat, cat],
      says: "it exited with 5\n  | why",
    },
    {
      name: "the middle",
      line: [{ argv: ["echo", "x"] }, { argv: ["sh", "-c", "cat; exit 6"] }, cat],
      says: "it exited with 6",
    },
    {
      name: "the last",
      line: [{ argv: ["echo", "x"] }, { argv: ["sh", "-c", "cat; exit 7"] }],
      says: "it exited with 7",
    },
    { name: "a missing", line: [{ argv: ["nonesuch"] }, cat], says: '"nonesuch" is not installed, or not on PATH' },
  ];
  test.each(failures)("fails when $name program fails", async ({ line, says }) => {
    expect(await failureOf(pipe(line))).toEndWith(says);
  });
});

describe("start()", () => {
  test("hands over whole lines, and stops with the signal that was asked for", async () => {
    const lines: string[] = [];
    const argv = ["sh", "-c", "trap 'echo bye; exit 9' TERM; echo one; printf 'two\\n'; while :; do sleep 0.05; done"];
    const program = await start({ argv, onLine: (line) => lines.push(line) });
    await poll({ seconds: 10 }, async () => (lines.length === 2 ? true : undefined));
    await program.stop("SIGTERM", 5);
    expect(await program.ended).toBe(9);
    expect(lines).toEqual(["one", "two", "bye"]);
  });

  test("kills what does not stop in time", async () => {
    const ready = Promise.withResolvers<string>();
    const argv = ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"];
    const program = await start({ argv, onLine: ready.resolve });
    await ready.promise;
    await program.stop("SIGTERM", 0.2);
    expect(await program.ended).toBe("SIGKILL");
  });

  test("stops a group with its grandchildren", async () => {
    const grandchild = Promise.withResolvers<string>();
    const argv = ["sh", "-c", "sleep 40 & echo $!; wait; true"];
    const program = await start({ argv, onLine: grandchild.resolve, ownGroup: true });
    const found = (await identify(Number(await grandchild.promise)))!;
    await program.stop("SIGTERM", 1);
    // The pipe closes a moment before the kernel is done with the process; by itself it would live for 40 s.
    expect(await poll({ seconds: 5 }, async () => ((await isRunning(found)) ? undefined : "gone"))).toBe("gone");
  }, 20_000);

  test("does not wait for a grandchild that has left the group", async () => {
    const grandchild = Promise.withResolvers<string>();
    const argv = ["sh", "-c", "setsid sh -c 'echo $$; exec sleep 40' & wait; true"];
    const program = await start({ argv, onLine: grandchild.resolve, ownGroup: true });
    const pid = Number(await grandchild.promise);
    await program.stop("SIGTERM", 0.2);
    process.kill(pid, "SIGKILL");
  }, 20_000);

  test("names a program that is missing", async () => {
    expect(await failureOf(start({ argv: ["nonesuch"] }))).toBe(
      'Cannot run "nonesuch": "nonesuch" is not installed, or not on PATH',
    );
  });
});
