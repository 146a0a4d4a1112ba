// scripts/lib/ping.ts: what the dead-man monitor says, and never its URL.
import { afterAll, expect, test } from "bun:test";
import { ping } from "../scripts/lib/ping.ts";

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
