// scripts/lib/session.ts through a real sshd: what the line, the login shell and the server itself can do to it. What the agent
// answers to whom is in test/session.test.ts, a line that goes dead in deploy-connection.test.ts.
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "bun:test";
import { createHash, randomBytes } from "node:crypto";
import { type Failure, formatFailure } from "../../scripts/lib/failure.ts";
import { run } from "../../scripts/lib/run.ts";
import { openSession, type Session } from "../../scripts/lib/session.ts";
import { poll } from "../../scripts/lib/wait.ts";
import { type Server, startServer } from "../lab/server.ts";

let server: Server;
const ownPath = process.env.PATH;
beforeAll(async () => {
  server = await startServer({ kind: "bare" });
  // As in a terminal, where `ssh` is the one of the PATH.
  process.env.PATH = `${server.environment.PATH}:${ownPath}`;
}, 300_000);
afterAll(async () => {
  process.env.PATH = ownPath;
  await server?.stop();
});

let sessions: Session[];
beforeEach(() => {
  sessions = [];
});
afterEach(async () => {
  await Promise.all(sessions.map((session) => session.close()));
  await until('[ -z "$(ls -A /dev/shm)" ]');
});

async function open(): Promise<Session> {
  const { user, address: host, port, knownHostsFile, privateKeyFile: keyFile } = server;
  const session = await openSession({
    server: { user, host, port, knownHostsFile, keyFile },
    ...{ directory: "/opt/shop", project: "shop" },
  });
  sessions.push(session);
  return session;
}

/** As root on the server, with any shell. */
const onServer = (command: string, accept = [0]) =>
  run({ argv: ["ssh", ...server.sshArguments, `root@${server.address}`, command], accept });

const until = async (condition: string) =>
  expect(await poll({ seconds: 20 }, async () => (await onServer(condition, [0, 1])).exitCode === 0 || undefined)).toBe(
    true,
  );

const failureOf = async (promise: Promise<unknown>): Promise<string> => {
  const failure: Failure = await promise.then(
    () => expect.unreachable(),
    (error) => error,
  );
  return `${formatFailure(failure)}\nexit ${failure.exitCode}`;
};

test("20 MB of any bytes arrive as they are, and 20 MB of text come back", async () => {
  const session = await open();
  const bytes = randomBytes(20e6);
  const sum = await session.call(["sha256sum"], { stdin: bytes });
  expect(sum.stdout).toBe(`${createHash("sha256").update(bytes).digest("hex")}  -\n`);
  const text = "größer, länger\n\n".repeat(1e6);
  expect((await session.call(["cat"], { stdin: text })).stdout === text).toBe(true);
  expect(await session.call(["sh", "-c", "cat >&2; exit 3"], { stdin: "\n why\n", accept: [3] })).toMatchObject({
    exitCode: 3,
    stdout: "",
    stderr: "\n why\n",
  });
  expect((await session.call(["cat"])).stdout).toBe("");
}, 60_000);

test("what the login shell prints, with or without a line break at its end, is not taken for an answer", async () => {
  const bashrc = `cp .bashrc .bashrc.own 2>/dev/null || touch .bashrc.own
printf '%s\\n' 'echo ready 2; echo 1 0 aGVsbG8= aGVsbG8=; echo careful >&2; printf "\\\\033]0;title\\\\007 > "' >.bashrc`;
  await onServer(bashrc);
  try {
    expect((await onServer("true")).stdout).toContain("ready 2\n1 0 aGVsbG8= aGVsbG8=\n");
    const session = await open();
    expect(await session.call(["echo", "hello"])).toMatchObject({ exitCode: 0, stdout: "hello\n", stderr: "" });
  } finally {
    await onServer("mv .bashrc.own .bashrc");
  }
});

test("a function that hangs is given up; the server ends by itself when it has ended", async () => {
  const session = await open();
  expect(await failureOf(session.call(["sleep", "3"], { timeoutSeconds: 1 }))).toStartWith(
    `Gave up waiting for ${server.address} to run "sleep 3": nothing within 1 s\n`,
  );
  session.ifLost([["touch", "undone"]]);
  expect(await session.giveUp(20)).toMatchObject({ exitCode: 0 });
  await onServer("rm undone");
});

test("an agent that is killed ends the call at once, and what it had in memory goes with the next session", async () => {
  const session = await open();
  const call = failureOf(session.call(["sleep", "60"], { stdin: "a secret" }));
  await until("grep --quiet secret /dev/shm/dbops.*/in");
  await onServer("pkill -KILL --full --oldest '^bash -s -- '; pkill sleep");
  expect(
    await call,
  ).toBe(`Lost the connection to ${server.address}: ssh ended without a word; the program on the other side was killed, or the connection was
  next: the same command again
exit 1`);
  expect((await onServer("cat /dev/shm/*/in")).stdout).toBe("a secret");
  await open();
  expect((await onServer("grep --recursive secret /dev/shm", [1])).stdout).toBe("");
}, 60_000);

test("without memory for files it works on the disk, and leaves nothing there", async () => {
  await onServer("umount /dev/shm && rmdir /dev/shm");
  try {
    const session = await open();
    expect((await session.call(["cat"], { stdin: "x" })).stdout).toBe("x");
    await session.close();
    expect((await onServer("ls -d /tmp/tmp.*", [0, 2])).stdout).toBe("");
  } finally {
    await onServer("mkdir /dev/shm && mount -t tmpfs -o mode=1777 tmpfs /dev/shm");
  }
});

test("so it does where the memory for files is full", async () => {
  await onServer("mount -o remount,size=64k /dev/shm; head -c 1M /dev/zero >/dev/shm/other || true");
  try {
    const session = await open();
    expect((await session.call(["cat"], { stdin: "x".repeat(1e6) })).stdout).toHaveLength(1e6);
    await session.close();
    expect((await onServer("ls -d /tmp/tmp.*", [0, 2])).stdout).toBe("");
  } finally {
    await onServer("rm /dev/shm/other; mount -o remount,size=50% /dev/shm");
  }
});

test("where it becomes full on the way, nothing is done with half of what was sent", async () => {
  await onServer("mount -o remount,size=8M /dev/shm");
  try {
    const session = await open();
    session.ifLost([["touch", "undone"]]);
    const failed = await failureOf(session.call(["touch", "half"], { stdin: Buffer.alloc(20e6) }));
    expect(failed).toStartWith(
      `Cannot work on ${server.address}: there is no room left on its disk, or in /dev/shm\n  | head: `,
    );
    expect(failed).toEndWith(`\n  next: on ${server.address}: df -h / /dev/shm\nexit 1`);
    expect((await onServer("ls half undone; rm undone")).stdout).toBe("undone\n");
  } finally {
    await onServer("mount -o remount,size=50% /dev/shm");
  }
});

test("a server without bash is told by name", async () => {
  await onServer("usermod --shell /bin/sh root; mv /bin/bash /bin/no-bash");
  try {
    expect(await failureOf(open())).toStartWith(`Cannot run anything on ${server.address}: there is no bash\n`);
  } finally {
    await onServer("mv /bin/no-bash /bin/bash; usermod --shell /bin/bash root");
  }
});
