// What scripts/lib/flow.ts's flow() does when its programs do what programs do: each case says in one line what came out of it.
// A program of its own as well, for the runtimes other than Bun: prints all of them as one JSON document.
import { Failure } from "../../scripts/lib/failure.ts";
import { type Flow, flow, type Stage } from "../../scripts/lib/flow.ts";

/** A stage named after its place: "a", "b", "c". */
export const line = (...commands: (string | readonly string[])[]): Stage[] =>
  commands.map((command, index) => ({
    name: "abc"[index]!,
    argv: typeof command === "string" ? ["sh", "-c", command] : command,
  }));

/** "3000000 bytes", or why not. */
export async function outcomeOf({ output }: Flow, onChunk?: () => unknown): Promise<string> {
  let bytes = 0;
  try {
    for await (const chunk of output) {
      bytes += chunk.length;
      await onChunk?.();
    }
    return `${bytes} bytes`;
  } catch (error) {
    const details = error instanceof Failure && error.details ? ` | ${error.details}` : "";
    return `${(error as Error).message}${details}`;
  }
}

async function* megabytes(count: number, then?: Error): AsyncGenerator<Uint8Array> {
  for (let sent = 0; sent < count; sent += 1) yield new Uint8Array(1_000_000);
  if (then) throw then;
}

const threeMegabytes = ["head", "-c", "3000000", "/dev/zero"];
const endless = ["cat", "/dev/zero"];
const cat = ["cat"];
const missing = '"nonesuch" is not installed, or not on PATH';
const pause = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Blocks the event loop: exits of that time are all noticed at once afterwards. */
function block(milliseconds: number): void {
  for (const end = performance.now() + milliseconds; performance.now() < end; );
}

/** In the order of the line: the one that is at fault is always named, and the bytes before it never end as if they were all. */
export const cases: readonly { name: string; run: () => Promise<string>; says: string }[] = [
  { name: "all bytes arrive", run: () => outcomeOf(flow(line(threeMegabytes, cat, cat))), says: "3000000 bytes" },
  {
    name: "all bytes of the input arrive, whatever the programs write to stderr",
    run: () => outcomeOf(flow(line("head -c 300000 /dev/zero >&2; cat", cat), { input: megabytes(3) })),
    says: "3000000 bytes",
  },
  { name: "one program without a byte", run: () => outcomeOf(flow(line(["true"]))), says: "0 bytes" },
  {
    name: "an input without a byte",
    run: () => outcomeOf(flow(line(cat, cat), { input: megabytes(0) })),
    says: "0 bytes",
  },
  {
    name: "the first fails at once",
    run: () => outcomeOf(flow(line("echo why >&2; exit 5", cat, cat))),
    says: "a failed: it exited with 5 | why",
  },
  {
    name: "the first fails after some bytes, and the last one because of it",
    run: () => outcomeOf(flow(line("head -c 3000; exit 5", cat, "cat; exit 7"), { input: megabytes(1) })),
    says: "a failed: it exited with 5",
  },
  {
    name: "the middle one fails at once",
    run: () => outcomeOf(flow(line(endless, "echo why >&2; exit 6", cat))),
    says: "b failed: it exited with 6 | why",
  },
  {
    name: "the middle one fails after some bytes",
    run: () => outcomeOf(flow(line(endless, "head -c 3000; exit 6", cat))),
    says: "b failed: it exited with 6",
  },
  {
    name: "the middle one stops reading, and fails later",
    run: () => outcomeOf(flow(line(endless, "exec <&-; sleep 0.3; exit 6", cat))),
    says: "b failed: it exited with 6",
  },
  {
    name: "the middle one fails while nobody reads what it wrote",
    run: () => outcomeOf(flow(line(endless, "head -c 1000000 /dev/zero; exit 6")), () => pause(20)),
    says: "b failed: it exited with 6",
  },
  {
    name: "the last fails at once",
    run: () => outcomeOf(flow(line(endless, cat, "exit 7"))),
    says: "c failed: it exited with 7",
  },
  {
    name: "the last fails after all bytes",
    run: () => outcomeOf(flow(line(threeMegabytes, cat, "cat; exit 7"))),
    says: "c failed: it exited with 7",
  },
  {
    name: "the first fails and the last one because of it, while the event loop is busy",
    run: () => {
      const busy = flow(line("sleep 0.1; exit 5", "cat; exit 6"));
      setTimeout(() => block(300), 50);
      return outcomeOf(busy);
    },
    says: "a failed: it exited with 5",
  },
  {
    name: "one is killed",
    run: () => outcomeOf(flow(line(endless, "kill -9 $$", cat))),
    says: "b failed: it was ended by SIGKILL",
  },
  { name: "the first is missing", run: () => outcomeOf(flow(line(["nonesuch"], cat))), says: `a failed: ${missing}` },
  {
    name: "the middle one is missing",
    run: () => outcomeOf(flow(line(endless, ["nonesuch"], cat))),
    says: `b failed: ${missing}`,
  },
  {
    name: "the last is missing",
    run: () => outcomeOf(flow(line(endless, ["nonesuch"]))),
    says: `b failed: ${missing}`,
  },
  {
    name: "the last ends well before it has read all",
    run: () => outcomeOf(flow(line("cat /dev/zero 2>/dev/null; exit 9", ["head", "-c", "10"]))),
    says: "a failed: it exited with 9",
  },
  {
    name: "the input throws",
    run: () => outcomeOf(flow(line(cat, "cat; exit 6"), { input: megabytes(2, new Error("cut off")) })),
    says: "cut off",
  },
  {
    name: "it exits with 0, but does not say that all is well",
    run: () => outcomeOf(flow([{ name: "a", argv: ["sh", "-c", "echo nothing >&2"], says: "GOOD" }])),
    says: 'a failed: it exited with 0 and did not say "GOOD" | nothing',
  },
  {
    name: "it exits with 0, and says so",
    run: () => outcomeOf(flow([{ name: "a", argv: ["sh", "-c", "echo GOOD >&2"], says: "GOOD" }])),
    says: "0 bytes",
  },
  {
    name: "interrupted",
    run: () => {
      const controller = new AbortController();
      const running = flow(line(endless, cat), { interrupted: controller.signal });
      return outcomeOf(running, () => controller.abort(new Error("Ctrl-C")));
    },
    says: "Ctrl-C",
  },
  {
    name: "interrupted beforehand",
    run: () => outcomeOf(flow(line(endless, cat), { interrupted: AbortSignal.abort(new Error("Ctrl-C")) })),
    says: "Ctrl-C",
  },
  {
    name: "interrupted, and every program exits with 0 then",
    run: () => {
      const controller = new AbortController();
      const obedient = "trap 'exit 0' TERM; echo; while :; do sleep 0.05; done";
      const running = flow(line(obedient, cat), { interrupted: controller.signal });
      return outcomeOf(running, () => controller.abort(new Error("Ctrl-C")));
    },
    says: "Ctrl-C",
  },
  {
    name: "stopped by somebody else while it is read",
    run: async () => {
      const running = flow(line("trap 'exit 0' TERM; echo; while :; do sleep 0.05; done"));
      return await outcomeOf(running, () => void running.stop());
    },
    says: "Stopped a: before it was done",
  },
  {
    name: "nothing comes any more",
    run: () => outcomeOf(flow(line("echo x; sleep 60", cat), { stallSeconds: 0.5 })),
    says: "Gave up on a: there was no sign of life for 0.5 s",
  },
  {
    name: "a word on stderr, and bytes that go in, are signs of life; the time of whoever reads is not counted",
    run: async () => {
      async function* slowly() {
        for (const byte of [1, 2, 3]) {
          await pause(300);
          yield new Uint8Array([byte]);
        }
      }
      const talkative = "for i in 1 2 3; do sleep 0.3; echo word >&2; done; cat >/dev/null; echo x";
      const slowReader = () => pause(800);
      return await outcomeOf(flow(line(talkative), { input: slowly(), stallSeconds: 0.7 }), slowReader);
    },
    says: "2 bytes",
  },
  {
    name: "the secret comes on descriptor 3",
    run: async () => {
      const chunks: Buffer[] = [];
      const argv = ["sh", "-c", "cat <&3; cat"];
      const { output } = flow([{ name: "a", argv, secret: "pa$$ 'word\n" }], { input: megabytes(0) });
      for await (const chunk of output) chunks.push(chunk);
      return Buffer.concat(chunks).toString();
    },
    says: "pa$$ 'word\n",
  },
  {
    name: "nobody reads the secret",
    run: () => outcomeOf(flow([{ name: "a", argv: ["true"], secret: "x".repeat(1_000_000) }])),
    says: "0 bytes",
  },
];

if (import.meta.main) {
  const outcomes: Record<string, string> = {};
  for (const { name, run } of cases) outcomes[name] = await run();
  console.log(JSON.stringify(outcomes));
}
