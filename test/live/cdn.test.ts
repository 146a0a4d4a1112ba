// scripts/lib/cdn.ts against a server in Cloudflare's place, and the command that it prints run by hand.
import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { purgeCdn } from "../../scripts/lib/cdn.ts";
import { run } from "../../scripts/lib/run.ts";
import { type Sink, startSink } from "../lab/sink.ts";

let sink: Sink;
beforeAll(async () => {
  sink = await startSink();
  process.env.CLOUDFLARE_BASE_URL = `${sink.url}/client/v4`;
});
afterEach(() => {
  sink.behave();
  sink.clear();
});
afterAll(async () => {
  delete process.env.CLOUDFLARE_BASE_URL;
  await sink.stop();
});

const cdn = { provider: "cloudflare", zone: "0f1e2d", tokenFrom: "CLOUDFLARE_API_TOKEN", purge: "everything" } as const;
const token = "cf-token-very-secret";
const values = { CLOUDFLARE_API_TOKEN: token };
const success = JSON.stringify({ success: true, errors: [], messages: [], result: { id: "0f1e2d" } });

const command = (data: string) =>
  `printf 'Authorization: Bearer %s' "$CLOUDFLARE_API_TOKEN" | curl --fail-with-body --header @- ` +
  `--header 'Content-Type: application/json' --data '${data}' '${sink.url}/client/v4/zones/0f1e2d/purge_cache'`;
const everything = '{"purge_everything":true}';

test("asks for everything, with the token as a header", async () => {
  sink.behave({ status: 200, body: success });
  expect(await purgeCdn(cdn, values)).toEqual([]);
  const seen = sink.requests.map(({ method, path, headers, body }) => [method, path, headers.authorization, body]);
  expect(seen).toEqual([["POST", "/client/v4/zones/0f1e2d/purge_cache", `Bearer ${token}`, everything]]);
});

test("asks for URLs in turn, and goes on when some are refused", async () => {
  const purge = Array.from({ length: 201 }, (_, index) => `https://shop.example/${index}`);
  sink.behave({ status: 200, body: success }, { status: 400, body: "" }, { status: 200, body: success });
  const problems = await purgeCdn({ ...cdn, purge }, values);
  expect(sink.requests.map(({ body }) => JSON.parse(body).files.length)).toEqual([100, 100, 1]);
  const files = JSON.stringify({ files: purge.slice(100, 200) });
  expect(problems).toEqual([`The CDN still has the old pages: it answered 400\n  next: ${command(files)}`]);
});

const refusal = (errors: object[]) => JSON.stringify({ success: false, errors, messages: [], result: null });

test.each([
  {
    name: "a wrong token",
    behaviour: { status: 401, body: refusal([{ code: 10000, message: `Authentication error for ${token}` }]) },
    why: "it answered 401: 10000 Authentication error for [secret]",
  },
  {
    name: "a refusal with status 200",
    behaviour: { status: 200, body: refusal([{ code: 1012, message: "Request must contain one of" }]) },
    why: "its answer does not say success: 1012 Request must contain one of",
  },
  {
    name: "somebody else's page",
    behaviour: { status: 200, body: "<html>Log in to the guest network</html>" },
    why: "its answer does not say success",
  },
  {
    name: "an answer of another shape",
    behaviour: { status: 200, body: '{"success":true,"errors":"none"}' },
    why: "its answer does not say success",
  },
  {
    name: "too many requests",
    behaviour: { status: 429, headers: { "Retry-After": "60" } },
    why: "it answered 429, and wants no second attempt for 60 s",
  },
  { name: "no answer", behaviour: "hang" as const, why: "no answer within 0.5 s" },
])("$name: one line with the command to repeat it, without the token", async ({ behaviour, why }) => {
  sink.behave(behaviour);
  expect(await purgeCdn(cdn, values, 0.5)).toEqual([
    `The CDN still has the old pages: ${why}\n  next: ${command(everything)}`,
  ]);
});

test("without the token nothing is asked, and the variable is named", async () => {
  const why = "CLOUDFLARE_API_TOKEN is not set, neither in the environment nor in .env.tpl";
  expect(await purgeCdn(cdn, {})).toEqual([`The CDN still has the old pages: ${why}\n  next: ${command(everything)}`]);
  expect(sink.requests).toEqual([]);
});

test("the command that is printed does the same in any shell, also for a URL with a quote in it", async () => {
  const purge = ["https://shop.example/it's?a=1&b=$HOME"];
  sink.behave({ status: 500, headers: { "Retry-After": "0" } });
  const [problem] = await purgeCdn({ ...cdn, purge }, values);
  sink.clear();
  sink.behave({ status: 200, body: success });
  const byHand = problem!.split("\n  next: ")[1]!;
  const { stdout } = await run({ argv: ["sh", "-c", byHand], environment: values });
  expect(stdout).toBe(success);
  const seen = sink.requests.map(({ method, headers, body }) => [method, headers.authorization, body]);
  expect(seen).toEqual([["POST", `Bearer ${token}`, JSON.stringify({ files: purge })]]);
});
