// scripts/lib/session.ts and the agent that it sends: here a bash of this machine is the server, so that every answer and every
// file can be looked at. That sshd is in between, and what happens when it is not any more, test/live/ shows.
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { archive } from "../scripts/lib/archive.ts";
import { type Failure, formatFailure } from "../scripts/lib/failure.ts";
import { takeLock } from "../scripts/lib/lock.ts";
import { start } from "../scripts/lib/run.ts";
import { openSession, quoteWord, type Session } from "../scripts/lib/session.ts";

let home: string;
/** /opt/shop */
let directory: string;
let sessions: Session[];
const ownPath = process.env.PATH;
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), "dbops-session-"));
  directory = join(home, "it's /opt");
  sessions = [];
  await mkdir(directory, { recursive: true });
  // As sshd does it: the last word is a command line for the user's shell.
  await writeFile(join(home, "ssh"), '#!/bin/sh\nfor command; do :; done\nexec sh -c "$command"\n');
  await chmod(join(home, "ssh"), 0o755);
  // An engine without containers: what is undone here needs none, but after a failure the agent makes sure that it answers.
  await writeFile(join(home, "docker"), "#!/bin/sh\n");
  await chmod(join(home, "docker"), 0o755);
  process.env.PATH = `${home}:${ownPath}`;
});
afterEach(async () => {
  process.env.PATH = ownPath;
  await Promise.all(sessions.map((session) => session.close()));
  await rm(home, { recursive: true, force: true });
});

const server = { user: "deploy", host: "app.example.com", port: 22, knownHostsFile: "/dev/null" };
const open = async () => {
  const session = await openSession({ server, directory, project: "shop" });
  sessions.push(session);
  return session;
};

const write = async (path: string, text: string) => {
  await mkdir(dirname(join(directory, path)), { recursive: true });
  await writeFile(join(directory, path), text);
};
const read = (path: string) => readFile(join(directory, path), "utf8");
const filesIn = async (path: string) => {
  const entries = await readdir(join(directory, path), { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  return files.map((file) => file.slice(join(directory, path).length + 1)).sort();
};
/** The agent's folder in memory, known by what is in it: others may be at work on this machine. */
const scratchWith = async (undo: string) => {
  const folders = (await readdir("/dev/shm")).filter((name) => name.startsWith("dbops."));
  const read = (name: string) => readFile(join("/dev/shm", name, "undo"), "utf8").catch(() => "");
  const texts = await Promise.all(folders.map(async (name) => ({ name, text: await read(name) })));
  return texts.filter(({ text }) => text.includes(undo)).map(({ name }) => name);
};
const failureOf = async (promise: Promise<unknown>): Promise<string> => {
  const failure: Failure = await promise.then(
    () => expect.unreachable(),
    (error) => error,
  );
  return `${formatFailure(failure)}\nexit ${failure.exitCode}`;
};

describe("quoteWord()", () => {
  test.each([
    ["plain", "plain"],
    ["ghcr.io/me/shop@sha256:abc,x=1+2-3%4", "ghcr.io/me/shop@sha256:abc,x=1+2-3%4"],
    ["", "''"],
    ["two words", "'two words'"],
    ["it's", "'it'\\''s'"],
    ['$HOME `id` "x" \\ ; & | > *', "'$HOME `id` \"x\" \\ ; & | > *'"],
    ["~", "'~'"],
    ["{a,b}", "'{a,b}'"],
    ["ü", "'ü'"],
    ["\t", "'\t'"],
  ])("%p becomes %s", (word, quoted) => {
    expect(quoteWord(word)).toBe(quoted);
  });

  test.each(["a\nb", "a\r", "a\0"])("refuses %p, which would end the request", (word) => {
    expect(() => quoteWord(word)).toThrow("Cannot send a word to the server: it holds a line break");
  });
});

const nasty = `{"who":"it's $HOME; \`id\` \\"q\\" \\\\n ü * ~"}`;

describe("a call", () => {
  test("gets its words and its stdin as they are, one after the other", async () => {
    const session = await open();
    await session.call(["record", nasty]);
    await session.call(["record", "two  blanks"]);
    expect(await read("releases.jsonl")).toBe(`${nasty}\ntwo  blanks\n`);
    expect((await session.call(["history"])).stdout).toBe(`\n${nasty}\ntwo  blanks\n`);
    const bytes = Buffer.from(Array.from({ length: 300_000 }, (_, index) => (index * 7) % 256));
    await mkdir(join(directory, "releases/1"), { recursive: true });
    const tar = archive([
      { path: "bytes", content: bytes },
      { path: "deploy.env", content: Buffer.from("A=1\n") },
    ]);
    await session.call(["complete_release", "1"], { stdin: tar });
    expect((await readFile(join(directory, "releases/1/bytes"))).equals(bytes)).toBe(true);
  });

  test("that fails says what, with the server's words; the session goes on", async () => {
    const session = await open();
    expect(await failureOf(session.call(["want_again", "7"]))).toBe(
      `Cannot run "want_again 7" on app.example.com: see below
  | the files of release 7 are not there any more
exit 1`,
    );
    const { exitCode, stderr, stdout } = await session.call(["want_again", "7"], { accept: [6] });
    expect({ exitCode, stderr, stdout }).toEqual({
      exitCode: 6,
      stderr: "the files of release 7 are not there any more\n",
      stdout: "",
    });
    expect(await failureOf(session.call(["no_such_function"]))).toContain("no_such_function: command not found");
    expect((await session.call(["count_records"])).stdout).toBe("0\n");
  });

  test("that fails in its middle does no more of it", async () => {
    const session = await open();
    // No .env to copy, so nothing is renamed.
    await write("releases/1/compose.yaml", "x");
    expect(await failureOf(session.call(["commit", "1"]))).toContain("No such file");
    expect(await filesIn("")).toEqual(["lock", "releases/1/compose.yaml"]);
  });

  test("can be broken off; what the server is at goes on", async () => {
    const [one, two] = [await open(), await open()];
    await one.call(["take_lock", "0"], { stdin: "{}" });
    const interruption = new AbortController();
    const waiting = two.call(["take_lock", "1"], { stdin: "{}", accept: [4], interrupted: interruption.signal });
    interruption.abort(new Error("enough"));
    await expect(waiting).rejects.toThrow("enough");
    expect((await two.call(["count_records"])).stdout).toBe("0\n");
  });
});

test("a server without bash, or one that hangs up, is told apart", async () => {
  await writeFile(join(home, "ssh"), "#!/bin/sh\necho 'sh: bash: not found' >&2\nexit 127\n");
  expect(await failureOf(open())).toStartWith("Cannot run anything on app.example.com: there is no bash");
  await writeFile(join(home, "ssh"), "#!/bin/sh\nexit 255\n");
  expect(await failureOf(open())).toStartWith("Lost the connection to app.example.com: ssh ended without a word");
});

describe("the end", () => {
  test("undoes nothing when the work is done, and leaves nothing in memory", async () => {
    const session = await open();
    const undo = `undone ${home}`;
    session.ifLost([["record", undo]]);
    await session.call(["record", "done"]);
    expect(await scratchWith(undo)).toHaveLength(1);
    await session.close();
    expect(await read("releases.jsonl")).toBe("done\n");
    expect(await scratchWith(undo)).toEqual([]);
  });

  test("given up: the server does what was said last, each line although another fails, and tells", async () => {
    const session = await open();
    session.ifLost([["record", "never"]]);
    session.ifLost([["record", nasty], ["want_again", "9"], ["drop_release", "3"], ["history"]]);
    await write("releases/3/file", "x");
    const result = await session.giveUp(10);
    expect(result).toMatchObject({ exitCode: 1, stdout: `\n${nasty}\n` });
    // Tried twice, because an engine that is back may have been what was missing.
    expect(result?.stderr).toBe("the files of release 9 are not there any more\n".repeat(2));
    expect(await filesIn("")).toEqual(["lock", "releases.jsonl"]);
  });
});

describe("the lock", () => {
  const holder = { who: "ann@laptop", at: "2026-01-02T12:00:00.000Z", why: "deploy of shop:1" };
  const never = new AbortController().signal;
  const takeAs = (session: Session, seconds = 0) => takeLock(session, holder, seconds, never);

  test("is had by one, who is named to the others, and is free when he has gone", async () => {
    const [one, two] = [await open(), await open()];
    expect(await takeAs(one)).toEqual({ live: undefined, records: 0 });
    expect(await failureOf(takeAs(two))).toStartWith(
      'Nothing was changed: ann@laptop, since 2026-01-02T12:00:00.000Z, for "deploy of shop:1", holds the lock (waited 0 s)',
    );
    await write("nginx/upstream/production.conf", '  default "7 blue live";\n');
    await one.call(["record", "{}"]);
    const waiting = takeAs(two, 20);
    await one.close();
    expect(await waiting).toEqual({ live: 7, records: 1 });
  });

  test("goes with its holder's name: whoever locks it by hand after him is not taken for him", async () => {
    const [one, two] = [await open(), await open()];
    await takeAs(one);
    expect(await filesIn("")).toEqual(["lock", "lock.json"]);
    await one.close();
    expect(await filesIn("")).toEqual(["lock"]);
    const byHand = await start({ argv: ["flock", join(directory, "lock"), "sleep", "20"], ownGroup: true });
    expect(await failureOf(takeAs(two, 1))).toStartWith("Nothing was changed: somebody holds the lock (waited 1 s)");
    await byHand.stop("SIGTERM", 1);
    // Nor does somebody who has asked, and was refused, take anything away.
    expect(await takeAs(two, 5)).toEqual({ live: undefined, records: 0 });
    expect(await failureOf(takeAs(await open()))).toStartWith("Nothing was changed: ann@laptop, since");
    expect(await filesIn("")).toEqual(["lock", "lock.json"]);
  });

  test("is held until an undo is done", async () => {
    const [one, two] = [await open(), await open()];
    await takeAs(one);
    one.ifLost([["record", "undone"]]);
    const waiting = takeAs(two, 20);
    await one.giveUp(10);
    expect(await waiting).toEqual({ live: undefined, records: 1 });
  });
});

describe("the files of a release", () => {
  const environment = "A=1\nCOMPOSE_PROFILES='backup,green'\n";
  const files = (marker: string, more: Record<string, string> = {}) =>
    archive(
      Object.entries({
        "compose.yaml": `# ${marker}\n`,
        "compose/production.yaml": `# ${marker}\n`,
        "nginx/production.conf": `# ${marker}\n`,
        "nginx/upstream/production.conf": '  default "0 blue live";\n',
        "migrations/1_start.sql": "--\n",
        ".env": environment,
        ...more,
      }).map(([path, content]) => ({
        path,
        content: Buffer.from(content),
        mode: path === ".env" ? 0o600 : 0o644,
      })),
    );
  const modeOf = async (path: string) => ((await stat(join(directory, path))).mode & 0o777).toString(8);

  /** Docker is not asked for any of this: where it is missing, or is here, makes no difference. */
  async function keep(session: Session, release: string, previous: string, tar: Buffer) {
    await session.call(["observe", "no-such-image.invalid/x", "-"], { stdin: tar });
    const { stdout } = await session.call(["keep_release", release, previous]);
    const last = archive([
      { path: "deploy.env", content: Buffer.from(`# Below: the deploy\nRELEASE=${release}\n`), mode: 0o600 },
      { path: "nginx/upstream/production.conf", content: Buffer.from(`  default "${release} blue live";\n`) },
    ]);
    await session.call(["complete_release", release], { stdin: last });
    return stdout;
  }

  test("are kept aside, become the project's one by one, and those of the release before come back", async () => {
    const session = await open();
    expect(await keep(session, "1", "none", files("one", { "nginx/gone.conf": "#\n" }))).toBe("backup\n");
    expect((await filesIn("releases/1")).filter((file) => file !== "services")).toEqual([
      ".env",
      "compose.yaml",
      "compose/production.yaml",
      "migrations/1_start.sql",
      "nginx/gone.conf",
      "nginx/production.conf",
      "nginx/upstream/production.conf",
    ]);
    expect(await read("releases/1/.env")).toBe(`${environment}# Below: the deploy\nRELEASE=1\n`);
    expect(await modeOf("releases/1/.env")).toBe("600");

    await session.call(["activate", "1"]);
    await session.call(["switch_file", "1"]);
    expect(await read("compose.yaml")).toBe("# one\n");
    // What serves is said by the two files that only a switch and a commit replace.
    expect(await filesIn(".")).not.toContain(".env");
    await session.call(["commit", "1"]);
    expect(await read(".env")).toBe(`${environment}# Below: the deploy\nRELEASE=1\n`);
    expect(await modeOf(".env")).toBe("600");

    await keep(session, "2", "1", files("two", { "nginx/new.conf": "#\n" }));
    expect(await read("releases/2/upstream.before")).toBe('  default "1 blue live";\n');
    await session.call(["activate", "2"]);
    const present = async () => (await filesIn("nginx")).join(" ");
    expect([await read("compose.yaml"), await present()]).toEqual([
      "# two\n",
      "new.conf production.conf upstream/production.conf",
    ]);
    expect(await read("nginx/upstream/production.conf")).toBe('  default "1 blue live";\n');
    expect(await read(".env")).toContain("RELEASE=1\n");

    await session.call(["activate", "1"]);
    await session.call(["drop_release", "2"]);
    expect([await read("compose.yaml"), await present(), await readdir(join(directory, "releases"))]).toEqual([
      "# one\n",
      "gone.conf production.conf upstream/production.conf",
      ["1"],
    ]);
    expect((await filesIn("")).filter((file) => /dbops-new|\.new/.test(file))).toEqual([]);
  });

  test("of a stack that was started by hand are kept as release 0, so that there is a way back", async () => {
    await write("compose.yaml", "# by hand\n");
    await write("compose/production.yaml", "#\n");
    await write("nginx/production.conf", "#\n");
    await write("nginx/upstream/production.conf", '  default "0 blue live";\n');
    await write("migrations/1_start.sql", "--\n");
    await write(".env", "BY=hand\n");
    const session = await open();
    await keep(session, "1", "0", files("one"));
    await session.call(["activate", "1"]);
    expect(await read("compose.yaml")).toBe("# one\n");
    await session.call(["activate", "0"]);
    expect(await read("compose.yaml")).toBe("# by hand\n");
    expect(await read("releases/0/.env")).toBe("BY=hand\n");
    expect(await modeOf("releases/0/.env")).toBe("600");
  });

  describe("to go back to", () => {
    const before = "releases/1/upstream.before";
    const upstream = "nginx/upstream/production.conf";

    test("are those that serve", async () => {
      const session = await open();
      await keep(session, "1", "none", files("one"));
      await write(upstream, '  default "2 green live";\n');
      expect((await session.call(["prepare_revival", "1"])).stdout).toBe("backup\n");
      expect(await read(before)).toBe('  default "2 green live";\n');
    });

    test("are as nginx says, where their upstream file is empty or lost", async () => {
      const session = await open();
      await keep(session, "1", "none", files("one"));
      const stdin = '  default "2 green live";\n';
      await write(upstream, "");
      await session.call(["prepare_revival", "1"], { stdin });
      expect(await read(before)).toBe(stdin);
      await rm(join(directory, before));
      await rm(join(directory, upstream));
      await session.call(["prepare_revival", "1"], { stdin });
      expect(await read(before)).toBe(stdin);
    });

    test("are none, where nobody knows any: that is no reason to fail", async () => {
      const session = await open();
      await keep(session, "1", "none", files("one"));
      await rm(join(directory, upstream), { force: true });
      await session.call(["prepare_revival", "1"]);
      expect(await filesIn("releases/1")).not.toContain("upstream.before");
    });
  });

  test("a file that did not change is not replaced", async () => {
    const session = await open();
    await keep(session, "1", "none", files("one"));
    await session.call(["activate", "1"]);
    const before = (await stat(join(directory, "nginx/production.conf"))).ino;
    await session.call(["activate", "1"]);
    expect((await stat(join(directory, "nginx/production.conf"))).ino).toBe(before);
  });
});
