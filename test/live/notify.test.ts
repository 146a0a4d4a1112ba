// scripts/lib/notify.ts against a server that takes the news, refuses it, is too busy for it, hangs, or is not there.
import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { messageFor } from "../../scripts/lib/message.ts";
import { type News, notify } from "../../scripts/lib/notify.ts";
import { run } from "../../scripts/lib/run.ts";
import { freePort } from "../lab/postgres.ts";
import { programs, repository } from "../lab/repository.ts";
import { type Sink, startSink } from "../lab/sink.ts";

let sink: Sink;
const { GITHUB_ACTIONS } = process.env;
beforeAll(async () => {
  // This test may itself run there.
  delete process.env.GITHUB_ACTIONS;
  sink = await startSink();
});
afterEach(() => {
  sink.behave();
  sink.clear();
});
afterAll(async () => {
  if (GITHUB_ACTIONS) process.env.GITHUB_ACTIONS = GITHUB_ACTIONS;
  await sink.stop();
});

const news: News = {
  what: "deploy",
  project: "shop",
  environment: "production",
  outcome: "done",
  summary: "Release 9 serves",
  release: 9,
  seconds: 4.2,
};
const webhook = [{ kind: "webhook", urlFrom: "HOOK_URL", on: "always" }] as const;
/** The path is the secret, as in a Slack URL. */
const secret = "/services/T0/B0/very-secret";
const values = () => ({ HOOK_URL: `${sink.url}${secret}` });

test("each kind is told in its own way, at the same time", async () => {
  sink.behave({ status: 200, body: "ok", delaySeconds: 0.2 });
  const targets = (["slack", "discord", "webhook"] as const).map((kind) => ({
    kind,
    urlFrom: `${kind.toUpperCase()}_URL`,
    on: "always" as const,
  }));
  const urls = Object.fromEntries(targets.map(({ kind, urlFrom }) => [urlFrom, `${sink.url}/${kind}`]));
  expect(await notify(targets, news, urls)).toEqual([]);
  const byPath = Object.fromEntries(sink.requests.map((request) => [request.path, request]));
  expect(Object.keys(byPath).sort()).toEqual(["/discord", "/slack", "/webhook"]);
  for (const { kind } of targets) {
    const { method, headers, body } = byPath[`/${kind}`]!;
    expect([method, headers["content-type"]]).toEqual(["POST", "application/json"]);
    expect(JSON.parse(body)).toEqual(messageFor(kind, news));
  }
});

test("in GitHub Actions the news has the address of the run, unless it has one already", async () => {
  const environment = {
    GITHUB_ACTIONS: "true",
    GITHUB_SERVER_URL: "https://github.com",
    GITHUB_REPOSITORY: "me/shop",
    GITHUB_RUN_ID: "42",
  };
  const before = Object.fromEntries(Object.keys(environment).map((name) => [name, process.env[name]]));
  Object.assign(process.env, environment);
  try {
    await notify(webhook, news, values());
    await notify(webhook, { ...news, url: "https://shop.example" }, values());
  } finally {
    for (const [name, value] of Object.entries(before)) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  }
  expect(sink.requests.map(({ body }) => JSON.parse(body).url)).toEqual([
    "https://github.com/me/shop/actions/runs/42",
    "https://shop.example",
  ]);
});

test('"on: failure" hears of everything that did not end well, and of nothing else', async () => {
  const targets = [{ kind: "webhook", urlFrom: "HOOK_URL", on: "failure" }] as const;
  for (const outcome of ["done", "failed", "undone", "interrupted"] as const) {
    await notify(targets, { ...news, outcome }, values());
  }
  expect(sink.requests.map(({ body }) => JSON.parse(body).outcome)).toEqual(["failed", "undone", "interrupted"]);
});

test("a second attempt succeeds after a 500, and after a 429 with the pause that it asks for", async () => {
  for (const status of [500, 503, 429]) {
    sink.clear();
    sink.behave({ status, headers: { "Retry-After": "0" } }, { status: 204 });
    expect(await notify(webhook, news, values())).toEqual([]);
    expect(sink.requests.length).toBe(2);
  }
});

type Trouble = { name: string; behave: () => void; withinSeconds?: number; requests: number; says: string };

const troubles: Trouble[] = [
  {
    name: "500 for ever",
    behave: () => sink.behave({ status: 500, headers: { "Retry-After": "0" } }),
    requests: 2,
    says: "webhook was not told (HOOK_URL): it answered 500, twice",
  },
  {
    name: "502, then 404",
    behave: () => sink.behave({ status: 502, headers: { "Retry-After": "0" } }, { status: 404 }),
    requests: 2,
    says: "webhook was not told (HOOK_URL): it answered 502, then it answered 404",
  },
  {
    name: "429 for a minute",
    behave: () => sink.behave({ status: 429, headers: { "Retry-After": "60" } }),
    requests: 1,
    says: "webhook was not told (HOOK_URL): it answered 429, and wants no second attempt for 60 s",
  },
  {
    name: "404, as of a webhook that was deleted",
    behave: () => sink.behave({ status: 404, body: `no such hook: ${secret}` }),
    requests: 1,
    says: "webhook was not told (HOOK_URL): it answered 404",
  },
  {
    name: "a redirect, which would lose the news",
    behave: () => sink.behave({ status: 302, headers: { Location: "/login" } }),
    requests: 1,
    says: "webhook was not told (HOOK_URL): it answered 302",
  },
  {
    name: "a connection that is cut",
    behave: () => sink.behave("reset"),
    requests: 1,
    says: "webhook was not told (HOOK_URL): the connection broke",
  },
  {
    name: "no answer",
    behave: () => sink.behave("hang"),
    withinSeconds: 0.3,
    requests: 1,
    says: "webhook was not told (HOOK_URL): no answer within 0.3 s",
  },
  {
    name: "a 500, then no answer",
    behave: () => sink.behave({ status: 500, headers: { "Retry-After": "0" } }, "hang"),
    withinSeconds: 0.3,
    requests: 2,
    says: "webhook was not told (HOOK_URL): it answered 500, then no answer within 0.3 s",
  },
];

test.each(troubles)("$name: one line, without the URL", async ({ behave, withinSeconds, requests, says }) => {
  behave();
  expect(await notify(webhook, news, values(), withinSeconds)).toEqual([says]);
  expect(sink.requests.length).toBe(requests);
});

test("a target that hangs delays no other and hides no other's success", async () => {
  const hanging = await startSink();
  hanging.behave("hang");
  try {
    const targets = [
      { kind: "slack", urlFrom: "HANGING_URL", on: "always" },
      { kind: "webhook", urlFrom: "HOOK_URL", on: "always" },
    ] as const;
    const told = notify(targets, news, { ...values(), HANGING_URL: hanging.url }, 3);
    expect((await sink.received(1, 2)).length).toBe(1);
    expect(await told).toEqual(["slack was not told (HANGING_URL): no answer within 3 s"]);
  } finally {
    await hanging.stop();
  }
});

test("a variable that is not set, or holds no URL, is named", async () => {
  const told = (url: string | undefined) => notify(webhook, news, { HOOK_URL: url });
  const missing = "webhook was not told: HOOK_URL is not set, neither in the environment nor in .env.tpl";
  const noUrl = "webhook was not told (HOOK_URL): its value is not an http or https URL";
  expect(await told(undefined)).toEqual([missing]);
  expect(await told("")).toEqual([missing]);
  expect(await notify(webhook, news, {}, 10, ".env.tpl")).toEqual([
    "webhook was not told: HOOK_URL is not in the environment, and .env.tpl was not read",
  ]);
  for (const value of ["hooks.slack.com/very-secret", "file:///etc/hostname", "op://vault/slack/url"]) {
    expect(await told(value)).toEqual([noUrl]);
  }
});

test("the command of docs/notifications.md sends a test, and its arguments do not hold the URL", async () => {
  const page = await readFile(join(repository, "docs/notifications.md"), "utf8");
  const block = page.match(/```sh\n([\s\S]+?)```/)![1]!;
  await run({ argv: ["sh", "-e", "-c", block], environment: { SLACK_WEBHOOK_URL: `${sink.url}${secret}` } });
  expect(sink.requests.map(({ path, body }) => [path, body])).toEqual([[secret, '{"text":"A test"}']]);
});

test.each(["bun", "deno"])("says in its own words what is wrong, on %s: theirs hold the URL", async (runtime) => {
  sink.behave("reset");
  const urls = {
    REFUSED: `http://127.0.0.1:${await freePort()}${secret}`,
    UNKNOWN: `http://nowhere.invalid${secret}`,
    NOT_TLS: `${sink.url.replace("http:", "https:")}${secret}`,
    CUT: `${sink.url}${secret}`,
  };
  const program = `
    import { notify } from "${join(repository, "scripts/lib/notify.ts")}";
    const urls = ${JSON.stringify(urls)};
    const targets = Object.keys(urls).map((urlFrom) => ({ kind: "slack", urlFrom, on: "always" }));
    console.log(JSON.stringify(await notify(targets, ${JSON.stringify(news)}, urls)));`;
  const argv = runtime === "bun" ? ["bun", "--eval", program] : ["deno", "eval", "--ext=ts", program];
  const { stdout, stderr } = await run({ argv: [join(programs, argv[0]!), ...argv.slice(1)], directory: repository });
  expect(JSON.parse(stdout)).toEqual([
    "slack was not told (REFUSED): the connection was refused",
    "slack was not told (UNKNOWN): its host name cannot be resolved",
    "slack was not told (NOT_TLS): the connection broke",
    "slack was not told (CUT): the connection broke",
  ]);
  expect(stdout + stderr).not.toContain("very-secret");
});
