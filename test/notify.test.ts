// scripts/lib/message.ts and post.ts: what each service receives, whole, and within its limits.
import { expect, test } from "bun:test";
import { messageFor, type News } from "../scripts/lib/message.ts";
import { pauseOf } from "../scripts/lib/post.ts";

const failed: News = {
  what: "deploy",
  project: "shop",
  environment: "production",
  outcome: "undone",
  summary: "Release 9 answered 12 % of requests with <5xx>; release 8 serves again",
  details: "app-green | TypeError: a & b\n\u001b[31mapp-green | <!channel> @everyone ```\u001b[0m\n",
  release: 9,
  image: "ghcr.io/me/shop:abc",
  who: "ann@ci",
  seconds: 12.3,
  url: "https://github.com/me/shop/actions/runs/1?a=1&b=<|>",
};
const done: News = { what: "backup", project: "shop", environment: "production", outcome: "done", summary: "1.2 GB" };

test("Slack gets blocks in which nothing is a mention, a link or formatting that we did not make", () => {
  expect(messageFor("slack", failed)).toEqual({
    text: "↩️ deploy undone: shop, production: Release 9 answered 12 % of requests with &lt;5xx&gt;; release 8 serves again",
    blocks: [
      { type: "header", text: { type: "plain_text", text: "↩️ deploy undone: shop, production" } },
      {
        type: "section",
        text: {
          type: "plain_text",
          text: "Release 9 answered 12 % of requests with &lt;5xx&gt;; release 8 serves again",
          emoji: false,
        },
      },
      {
        type: "section",
        text: {
          type: "mrkdwn",
          text: "```\napp-green | TypeError: a &amp; b\napp-green | &lt;!channel&gt; @everyone '''\n```",
          verbatim: true,
        },
      },
      {
        type: "context",
        elements: [
          {
            type: "mrkdwn",
            text: "release 9 · ghcr.io/me/shop:abc · by ann@ci · 12.3 s · <https://github.com/me/shop/actions/runs/1?a=1&amp;b=%3C%7C%3E>",
            verbatim: true,
          },
        ],
      },
    ],
  });
});

test("Discord gets one embed, and pings nobody", () => {
  expect(messageFor("discord", failed)).toEqual({
    content: "↩️ deploy undone: shop, production",
    embeds: [
      {
        description:
          "Release 9 answered 12 % of requests with <5xx\\>; release 8 serves again\n" +
          "```\napp-green | TypeError: a & b\napp-green | <!channel> @everyone '''\n```",
        color: 0xbf8700,
        title: "Read on",
        url: "https://github.com/me/shop/actions/runs/1?a=1&b=<|>",
        footer: { text: "release 9 · ghcr.io/me/shop:abc · by ann@ci · 12.3 s" },
      },
    ],
    allowed_mentions: { parse: [] },
  });
});

test("any other webhook gets the news as it is, without terminal colours", () => {
  expect(messageFor("webhook", failed)).toEqual({
    ...failed,
    details: "app-green | TypeError: a & b\napp-green | <!channel> @everyone ```",
  });
  expect(messageFor("webhook", done)).toEqual(done);
});

test("what is not known is left out", () => {
  expect(messageFor("slack", done)).toEqual({
    text: "✅ backup done: shop, production: 1.2 GB",
    blocks: [
      { type: "header", text: { type: "plain_text", text: "✅ backup done: shop, production" } },
      { type: "section", text: { type: "plain_text", text: "1.2 GB", emoji: false } },
    ],
  });
  expect(messageFor("discord", done)).toEqual({
    content: "✅ backup done: shop, production",
    embeds: [{ description: "1.2 GB", color: 0x2da44e }],
    allowed_mentions: { parse: [] },
  });
});

type Slack = { text: string; blocks: { text?: { text: string }; elements?: { text: string }[] }[] };
type Discord = { content: string; embeds: { description: string; footer?: { text: string } }[] };

const floods = ["x", "&", "_", "\nx", "`", "🙂", "<a", "a\u0301"].map((unit) => ({ unit, flood: unit.repeat(10_000) }));

test.each(floods)("a flood of $unit stays within all limits, cut between whole characters", ({ flood }) => {
  const news: News = {
    ...failed,
    summary: flood,
    details: flood,
    image: flood,
    who: flood,
    project: flood,
    url: `https://${flood}`,
  };
  const slack = messageFor("slack", news) as Slack;
  const [header, summary, details, context] = slack.blocks;
  expect(slack.text.length).toBeLessThanOrEqual(1000);
  expect(header!.text!.text.length).toBeLessThanOrEqual(150);
  for (const text of [summary!.text!.text, details!.text!.text, context!.elements![0]!.text]) {
    expect(text.length).toBeLessThanOrEqual(3000);
    expect(text.replaceAll(/&(amp|lt|gt);/g, "")).not.toMatch(/&|<(?!https:)/);
  }
  const discord = messageFor("discord", news) as Discord;
  const { description, footer } = discord.embeds[0]!;
  expect(discord.content.length).toBeLessThanOrEqual(2000);
  expect(description.length).toBeLessThanOrEqual(4096);
  expect(description.length + footer!.text.length).toBeLessThanOrEqual(6000);
  expect(description).toEndWith("\n```");
  for (const message of [slack, discord]) expect(JSON.stringify(message)).not.toMatch(/\\ud[89a-f]/i);
});

test("of too long a log the end is kept, of too long a summary the beginning", () => {
  const details = `first line\n${"middle\n".repeat(2000)}last line`;
  const { blocks } = messageFor("slack", { ...failed, summary: `begins ${"x".repeat(4000)} ends`, details }) as Slack;
  expect(blocks[1]!.text!.text).toStartWith("begins xxx");
  expect(blocks[1]!.text!.text).toEndWith("xxx…");
  expect(blocks[2]!.text!.text).toStartWith("```\n…");
  expect(blocks[2]!.text!.text).toEndWith("middle\nlast line\n```");
});

const now = Date.parse("2026-11-20T10:00:00Z");

test.each([
  { header: null, seconds: 1 },
  { header: "0", seconds: 0 },
  { header: "3", seconds: 3 },
  { header: "0.25", seconds: 1 },
  { header: "Fri, 20 Nov 2026 10:00:30 GMT", seconds: 30 },
  { header: "Fri, 20 Nov 2026 09:00:00 GMT", seconds: 0 },
  { header: "soon", seconds: 1 },
])("Retry-After: $header is $seconds s", ({ header, seconds }) => {
  expect(pauseOf(header, now)).toBe(seconds);
});
