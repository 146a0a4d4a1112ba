// scripts/lib/ping.ts: what the dead-man monitor says, and never its URL.
import { afterAll, expect, test } from "bun:test";
import { isWatched } from "../scripts/lib/backup-make.ts";
import type { Settings } from "../scripts/lib/config.ts";
import { beforeRestore, type Manifest } from "../scripts/lib/manifest.ts";
import { ping } from "../scripts/lib/ping.ts";
import { manifestAt } from "./lab/backup-samples.ts";

const asked: string[] = [];
const server = Bun.serve({
  port: 0,
  fetch(request) {
    const { pathname } = new URL(request.url);
    asked.push(pathname);
    return pathname === "/moved"
      ? Response.redirect("/good")
      : new Response("", { status: pathname === "/good" ? 200 : 404 });
  },
});
afterAll(() => server.stop(true));

test.each([
  ["/good", undefined, ["/good"]],
  ["/moved", undefined, ["/moved", "/good"]],
  ["/gone", "it answers 404", ["/gone"]],
])("%s", async (path, problem, requests) => {
  asked.length = 0;
  expect(await ping(`${server.url.origin}${path}`)).toBe(problem as string);
  expect(asked).toEqual(requests);
});

test.each(["http://127.0.0.1:1/secret", "no URL, and secret"])("%s", async (url) => {
  expect(await ping(url)).toBe("it cannot be reached");
});

const productionServer = {
  server: "deploy@app.example.com",
  port: 22,
  directory: "/opt/shop",
  domain: "app.example.com",
  image: "shop",
};
const production = { local: {}, production: productionServer };
const watched: { name: string; backup: Partial<Manifest>; environments: Settings["environments"]; pings: boolean }[] = [
  { name: "of production", backup: { environment: "production" }, environments: production, pings: true },
  {
    name: "of a database by its URL",
    backup: { environment: "db.example.com" },
    environments: production,
    pings: true,
  },
  { name: "of a laptop", backup: { environment: "local" }, environments: production, pings: false },
  {
    name: "of a laptop that is all there is",
    backup: { environment: "local" },
    environments: { local: {} },
    pings: true,
  },
  {
    name: "of one table",
    backup: { environment: "production", tables: ["orders"] },
    environments: production,
    pings: false,
  },
  {
    name: "before a restore",
    backup: { environment: "production", label: beforeRestore },
    environments: production,
    pings: false,
  },
];
test.each(watched)("a backup $name is $pings news for the monitor", ({ backup, environments, pings }) => {
  expect(isWatched(manifestAt("2026-11-21T03:00:00Z", backup), { environments })).toBe(pings);
});
