// scripts/lib/call-failure.ts: what a step on the server says when it has failed, for whoever has never seen the shell functions.
import { describe, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { callFailed, purposeOf } from "../scripts/lib/call-failure.ts";
import { formatFailure } from "../scripts/lib/failure.ts";
import type { Call } from "../scripts/lib/session.ts";
import { repository } from "./lab/repository.ts";

const daemon = "Error response from daemon: failed to set up container networking: driver failed programming external";
const rows: { name: string; call: Call; stderr?: string; stdout?: string; says: string }[] = [
  {
    name: "nginx, whose port is somebody else's",
    call: ["up_nginx", "1"],
    stderr: ` Container shop-nginx-1  Starting\n${daemon} connectivity on endpoint shop-nginx-1 (1d): Bind for 0.0.0.0:80 failed: port is already allocated\n`,
    says: `Cannot start nginx on app.example.com: port 80 is taken
  | ${daemon} connectivity on endpoint shop-nginx-1 (1d): Bind for 0.0.0.0:80 failed: port is already allocated
  next: on the server: docker ps; sudo ss -ltnp   # who has it
  next: then the same command again
  read: docs/runbook/port-is-taken.md`,
  },
  {
    name: "the same, as a newer engine says it",
    call: ["up_nginx", "1"],
    stderr: `${daemon} connectivity: failed to bind host port 0.0.0.0:443/tcp: address already in use\n`,
    says: `Cannot start nginx on app.example.com: port 443 is taken
  | ${daemon} connectivity: failed to bind host port 0.0.0.0:443/tcp: address already in use
  next: on the server: docker ps; sudo ss -ltnp   # who has it
  next: then the same command again
  read: docs/runbook/port-is-taken.md`,
  },
  {
    name: "the same, as an older engine says it",
    call: ["up_nginx", "1"],
    stderr: `${daemon}: Error starting userland proxy: listen tcp4 0.0.0.0:80: bind: address already in use\n`,
    says: `Cannot start nginx on app.example.com: port 80 is taken
  | ${daemon}: Error starting userland proxy: listen tcp4 0.0.0.0:80: bind: address already in use
  next: on the server: docker ps; sudo ss -ltnp   # who has it
  next: then the same command again
  read: docs/runbook/port-is-taken.md`,
  },
  {
    name: "a worker, whose own port is taken, in its own words",
    call: ["up_services", "8", "120", "worker"],
    stderr: "worker does not come up: exited none 1 0\nError: listen EADDRINUSE: address already in use :::3000\n",
    says: `Cannot start worker on app.example.com: worker does not come up: exited none 1 0
  | worker does not come up: exited none 1 0
  | Error: listen EADDRINUSE: address already in use :::3000`,
  },
  {
    name: "one of several services",
    call: ["up_services", "8", "180", "postgres", "redis"],
    stderr: "postgres does not come up: running unhealthy 0 0\nFATAL: could not open relation mapping file\n",
    says: `Cannot start postgres, redis on app.example.com: postgres does not come up: running unhealthy 0 0
  | postgres does not come up: running unhealthy 0 0
  | FATAL: could not open relation mapping file
  read: docs/runbook/database-unhealthy.md`,
  },
  {
    name: "nginx, which does not like its files",
    call: ["up_nginx", "8"],
    stderr: "nginx does not come up: it does not answer\nnginx: [emerg] unknown directive\n",
    says: `Cannot start nginx on app.example.com: nginx does not come up: it does not answer
  | nginx does not come up: it does not answer
  | nginx: [emerg] unknown directive
  read: docs/runbook/bad-nginx-configuration.md`,
  },
  {
    name: "no room",
    call: ["keep_release", "8", "7"],
    stderr: "cp: error writing 'x': No space left on device\n",
    says: `Cannot keep the files of release 8 on app.example.com: the disk is full
  | cp: error writing 'x': No space left on device
  next: on the server: df -h; docker system df
  read: docs/runbook/disk-full.md`,
  },
  {
    name: "no rights",
    call: ["keep_release", "8", "7"],
    stderr: "mkdir: cannot create directory '/opt/shop/releases': Permission denied\n",
    says: `Cannot keep the files of release 8 on app.example.com: see below
  | mkdir: cannot create directory '/opt/shop/releases': Permission denied`,
  },
  {
    name: "without a word",
    call: ["switch_to", "8 green bake"],
    says: 'Cannot switch nginx to "8 green bake" on app.example.com: it exited with 1',
  },
];
test.each(rows)("callFailed(): $name", ({ call, stderr = "", stdout = "", says }) => {
  const result = { exitCode: 1, stdout, stderr, seconds: 0 };
  expect(formatFailure(callFailed(call, "app.example.com", result))).toBe(says);
});

describe("purposeOf()", () => {
  test.each<[string, Call]>([
    ["start app-green", ["start_slot", "8", "green"]],
    ["start app-blue", ["revive_slot", "blue"]],
    ["name the image shop-release:8", ["tag_image", "sha256:1d", "shop-release:8"]],
    ["let app-blue end", ["finish", "8", "blue", "stopped", "30", "12", "13"]],
    ["finish", ["finish", "1", "none", "stopped", "30"]],
    ['run "check_user deploy /opt/shop"', ["check_user", "deploy", "/opt/shop"]],
  ])("%s", (purpose, call) => {
    expect(purposeOf(call)).toBe(purpose);
  });

  test("has words for each function that a deploy or a rollback calls", () => {
    const folder = join(repository, "scripts");
    const paths = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((path) => path.endsWith(".ts"));
    const text = paths.map((path) => readFileSync(join(folder, path), "utf8")).join("\n");
    const shell = readFileSync(join(folder, "lib/server/deploy.sh"), "utf8");
    const functions = [...shell.matchAll(/^(\w+)\(\) \{$/gm)].map(([, name]) => name!);
    // What the server does by itself fails without anybody here to hear of it.
    const onlyUndo = ["activate", "retreat", "switch_back", "put_back", "forget_nginx", "remove_service"];
    const calls = functions.filter((name) => text.includes(`["${name}"`) && !onlyUndo.includes(name));
    expect(calls.length).toBeGreaterThan(20);
    expect(calls.filter((name) => purposeOf([name]).startsWith("run "))).toEqual([
      "drop_release",
      "stop_slot",
      "unless_live",
    ]);
  });
});
