// What happened, as one JSON document for Slack, Discord or any webhook, within the limits that each of them documents.
// Nothing in it can wake a whole channel or become a link: a log line is text, whatever stands in it.
import { stripVTControlCharacters } from "node:util";
import type { Settings } from "./config.ts";

type Kind = Settings["notifications"][number]["kind"];

/** What happened, as a generic webhook receives it: these fields and no others. */
export type News = {
  /** The verb: "deploy", "rollback", "backup", "restore", "drill". */
  what: string;
  project: string;
  environment: string;
  /** "undone": it failed, and what it had done was taken back. */
  outcome: "done" | "failed" | "undone" | "interrupted";
  /** One sentence. */
  summary: string;
  /** Evidence: the last lines of a log. The caller has taken every secret out of it. */
  details?: string;
  release?: number;
  image?: string;
  who?: string;
  seconds?: number;
  /** Where to read on: the CI run, or the site. */
  url?: string;
};

/** The JSON document for one target. */
export function messageFor(kind: Kind, news: News): object {
  const plain = {
    ...news,
    summary: stripVTControlCharacters(news.summary),
    ...(news.details !== undefined && { details: stripVTControlCharacters(news.details).trimEnd() }),
  };
  if (kind === "slack") return slackMessage(plain);
  if (kind === "discord") return discordMessage(plain);
  return plain;
}

const signs = { done: "✅", failed: "❌", undone: "↩️", interrupted: "⚠️" } as const;

const titleOf = ({ what, project, environment, outcome }: News) =>
  `${signs[outcome]} ${what} ${outcome}: ${project}, ${environment}`;

const factsOf = ({ release, image, who, seconds }: News) => [
  ...(release === undefined ? [] : [`release ${release}`]),
  ...(image === undefined ? [] : [image]),
  ...(who === undefined ? [] : [`by ${who}`]),
  ...(seconds === undefined ? [] : [`${seconds} s`]),
];

/** Slack's limits: 150 characters in a header, 3000 in any other text, counted after escaping. */
const slack = { header: 150, text: 3000, fallback: 1000, fact: 500, url: 900 };

/** `verbatim` keeps Slack from making links and mentions out of what stands in a log. */
function slackMessage(news: News): object {
  const facts = factsOf(news).map((fact) => cut(fact, slack.fact, slackCharacter));
  const link = [slackUrl(news.url ?? "")].filter((url) => url !== "" && url.length <= slack.url);
  const markdown = (text: string) => ({ type: "mrkdwn", text, verbatim: true });
  const context = [...facts, ...link.map((url) => `<${url}>`)].join(" · ");
  const fence = "```\n";
  const room = slack.text - 2 * fence.length;
  const details = news.details && cutFront(unfenced(news.details), room, slackCharacter);
  return {
    text: cut(`${titleOf(news)}: ${news.summary}`, slack.fallback, slackCharacter),
    blocks: [
      { type: "header", text: { type: "plain_text", text: cut(titleOf(news), slack.header) } },
      {
        type: "section",
        text: { type: "plain_text", text: cut(news.summary, slack.text, slackCharacter), emoji: false },
      },
      ...(details ? [{ type: "section", text: markdown(`${fence}${details}\n\`\`\``) }] : []),
      ...(context ? [{ type: "context", elements: [markdown(context)] }] : []),
    ],
  };
}

/** The three characters that Slack reads as the beginning or end of something else. */
const slackCharacter = (character: string) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;" })[character] ?? character;

const slackUrl = (url: string) => url.replace(/[<>|\s]/g, encodeURIComponent).replaceAll("&", "&amp;");

/** Discord's limits: 2000 characters of content, 4096 in an embed's description, 2048 in its footer and URL, 6000 together. */
const discord = { content: 2000, summary: 1000, description: 4096, footer: 900, url: 2000 };
const discordColors = { done: 0x2da44e, failed: 0xcf222e, undone: 0xbf8700, interrupted: 0xbf8700 } as const;

function discordMessage(news: News): object {
  const facts = factsOf(news).join(" · ");
  const summary = cut(news.summary, discord.summary, discordCharacter);
  const fences = "\n```\n\n```".length;
  const details = news.details && cutFront(unfenced(news.details), discord.description - summary.length - fences);
  return {
    content: cut(titleOf(news), discord.content),
    embeds: [
      {
        description: details ? `${summary}\n\`\`\`\n${details}\n\`\`\`` : summary,
        color: discordColors[news.outcome],
        ...(news.url && news.url.length <= discord.url && { title: "Read on", url: news.url }),
        ...(facts && { footer: { text: cut(facts, discord.footer) } }),
      },
    ],
    // A log line with @everyone in it wakes nobody.
    allowed_mentions: { parse: [] },
  };
}

const discordCharacter = (character: string) => (/[\\*_~`|>#[\]]/.test(character) ? `\\${character}` : character);

/** Three backticks would end the block that the text stands in. */
const unfenced = (text: string) => text.replaceAll("```", "'''");

type Write = (character: string) => string;

const asItIs: Write = (character) => character;

/** The beginning of the text, as many whole characters as fit once each is written as the service wants it. */
function cut(text: string, limit: number, write = asItIs): string {
  // Nothing becomes shorter by being written, so more than this can never fit.
  const characters = [...text.slice(0, limit + 1)].map(write);
  return characters.join("").length <= limit ? characters.join("") : `${fitting(characters, limit - 1).join("")}…`;
}

/** The same from the end: that is where a log says what went wrong. */
function cutFront(text: string, limit: number, write = asItIs): string {
  const characters = [...text.slice(-limit - 1)].map(write);
  if (characters.join("").length <= limit) return characters.join("");
  return `…${fitting(characters.reverse(), limit - 1)
    .reverse()
    .join("")}`;
}

/** Called only where they do not all fit. */
function fitting(characters: readonly string[], limit: number): string[] {
  let length = 0;
  const tooMany = characters.findIndex((character) => {
    length += character.length;
    return length > limit;
  });
  return characters.slice(0, tooMany);
}
