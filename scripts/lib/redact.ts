// Keeps secrets out of what people see: the forms in which a secret may turn up in an output, and their replacement.

import { Failure } from "./failure.ts";

/** What stands where a secret was. */
const replacement = "[secret]";

/** Shorter than this, a text is found in innocent words, and the output would be unreadable. */
const shortestSecret = 4;

/** Each value as it is, and as it looks in a URL, in JSON and in base64; of several lines also each line. None twice. */
export function formsOf(values: readonly string[]): string[] {
  const pieces = values.flatMap((value) => [value, ...value.split(/\r\n|\r|\n/)]);
  return [...new Set(pieces.filter((piece) => piece.trim().length >= shortestSecret).flatMap(encodings))];
}

function encodings(text: string): string[] {
  const bytes = Buffer.from(text);
  const inBase64 = [bytes.toString("base64"), ...[0, 1, 2].map((before) => insideBase64(bytes, before))];
  return [
    ...[text, encodeURIComponent(text), JSON.stringify(text).slice(1, -1)],
    ...inBase64.flatMap((form) => [form, form.replaceAll("+", "-").replaceAll("/", "_")]),
  ].filter((form) => form.length >= shortestSecret);
}

/**
 * What is the same in the base64 of every longer text, as of "user:password" or of a password with a line break: three
 * bytes become four characters, so it depends on how many bytes stand before it, and its ends on which those are.
 */
function insideBase64(bytes: Buffer, before: number): string {
  const shifted = Buffer.concat([Buffer.alloc(before), bytes]);
  const wholeGroups = shifted.subarray(0, shifted.length - (shifted.length % 3));
  return wholeGroups.toString("base64").slice(Math.ceil((before * 4) / 3));
}

/** A failure whose texts hold none of them, nor do those of what led to it. */
export function redactFailure(failure: Failure, secrets: readonly string[]): Failure {
  const { what, why, next, exitCode, details, facts, read } = failure;
  const clean = (text: string) => redact(text, secrets);
  const cleanIf = (value: unknown) => (typeof value === "string" ? clean(value) : value);
  const redacted = new Failure(clean(what), clean(why), next.map(clean), {
    exitCode,
    cause: redactCause(failure.cause, secrets),
    ...(details && { details: clean(details) }),
    ...(facts && { facts: JSON.parse(JSON.stringify(facts), (_, value) => cleanIf(value)) }),
    ...(read && { read }),
  });
  redacted.stack = clean(failure.stack ?? "");
  return redacted;
}

/** Its message and where it was thrown: DBOPS_VERBOSE shows no more. */
function redactCause(cause: unknown, secrets: readonly string[]): unknown {
  if (!(cause instanceof Error)) return cause === undefined ? undefined : redact(String(cause), secrets);
  const redacted = new Error(redact(cause.message, secrets), { cause: redactCause(cause.cause, secrets) });
  redacted.stack = redact(cause.stack ?? "", secrets);
  return redacted;
}

/** The text with every secret in it replaced, the longest first: one may be part of another. */
export function redact(text: string, secrets: readonly string[]): string {
  const longestFirst = [...secrets].sort((a, b) => b.length - a.length);
  return longestFirst
    .filter((secret) => secret.length >= shortestSecret)
    .reduce((rest, secret) => rest.replaceAll(secret, replacement), text);
}
