// The lab's HTTP sink keeps what it is sent, and misbehaves as told.
import { afterEach, beforeEach, expect, test } from "bun:test";
import { type Sink, startSink } from "../lab/sink.ts";

let sink: Sink;
beforeEach(async () => {
  sink = await startSink();
});
afterEach(() => sink.stop());

test("keeps method, path, headers and body, oldest first", async () => {
  const first = await fetch(`${sink.url}/ping/abc?exit=0`);
  expect(first.status).toBe(204);
  await fetch(`${sink.url}/purge`, { method: "POST", headers: { "X-Token": "t" }, body: '{"files":["/a"]}' });
  const requests = await sink.received(2);
  expect(requests.map(({ method, path, body }) => ({ method, path, body }))).toEqual([
    { method: "GET", path: "/ping/abc?exit=0", body: "" },
    { method: "POST", path: "/purge", body: '{"files":["/a"]}' },
  ]);
  expect(requests[1]?.headers["x-token"]).toBe("t");
  sink.clear();
  expect(sink.requests).toEqual([]);
});

test("answers with the status, text and delay that it was told", async () => {
  sink.behave({ status: 503, body: "try later", delaySeconds: 0.2 });
  const started = performance.now();
  const response = await fetch(sink.url);
  expect([response.status, await response.text()]).toEqual([503, "try later"]);
  expect(performance.now() - started).toBeGreaterThan(190);
  sink.behave();
  expect((await fetch(sink.url)).status).toBe(204);
});

test("answers one after the other as told, and goes on with the last", async () => {
  sink.behave({ status: 429, headers: { "Retry-After": "7" } }, { status: 202 });
  const answers = [await fetch(sink.url), await fetch(sink.url), await fetch(sink.url)];
  expect(answers.map(({ status, headers }) => [status, headers.get("retry-after")])).toEqual([
    [429, "7"],
    [202, null],
    [202, null],
  ]);
});

test("hangs or cuts the connection, and has seen the request all the same", async () => {
  sink.behave("hang");
  await expect(fetch(`${sink.url}/hang`, { signal: AbortSignal.timeout(200) })).rejects.toThrow("timed out");
  sink.behave("reset");
  await expect(fetch(`${sink.url}/reset`)).rejects.toThrow();
  expect((await sink.received(2)).map(({ path }) => path)).toEqual(["/hang", "/reset"]);
});

test("received() says what is missing; stop() cuts a request that hangs", async () => {
  await expect(sink.received(1, 0.1)).rejects.toThrow("Cannot see 1 requests: 0 came within 0.1 s");
  sink.behave("hang");
  const hanging = fetch(sink.url).then(
    () => "answered",
    () => "cut",
  );
  await sink.received(1);
  await sink.stop();
  expect(await hanging).toBe("cut");
});
