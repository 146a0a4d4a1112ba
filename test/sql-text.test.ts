// scripts/lib/sql-text.ts: SQL text is whole only where pg_dump's last lines are.
import { expect, test } from "bun:test";
import { asFailure, formatFailure } from "../scripts/lib/failure.ts";
import { untilTrailer } from "../scripts/lib/sql-text.ts";

const rows = "COPY public.t (a) FROM stdin;\n1\n\\.\n\n";
const complete = "--\n-- PostgreSQL database dump complete\n--\n\n";

const whole = [
  { name: "as before 17.6", text: rows + complete },
  { name: "as since 17.6", text: `${rows}${complete}\\unrestrict eA3kW0jk1dNZ\n\n` },
  { name: "with line ends of Windows", text: (rows + complete).replaceAll("\n", "\r\n") },
  { name: "far more than one chunk", text: rows.repeat(500) + complete },
];
const cut = [
  { name: "nothing", text: "" },
  { name: "rows only", text: rows },
  { name: "in the middle of the last line", text: rows + complete.slice(0, 30) },
  { name: "behind a row that says the same", text: `${rows.slice(0, 30)}-- PostgreSQL database dump complete\n2\n` },
  { name: "a dump, and then the beginning of another", text: `${rows + complete}\n${rows}` },
];

async function* pieces(text: string, length: number) {
  for (let at = 0; at < text.length; at += length) yield Buffer.from(text.slice(at, at + length));
}

async function read(text: string, length: number) {
  let out = "";
  try {
    for await (const chunk of untilTrailer(pieces(text, length))) out += Buffer.from(chunk).toString();
  } catch (error) {
    const failure = asFailure(error);
    return { out, refused: formatFailure(failure), exitCode: failure.exitCode };
  }
  return { out };
}

const sizes = [1, 7, 1000, 1_000_000];

test.each(whole)("whole: $name", async ({ text }) => {
  for (const size of sizes) expect(await read(text, size)).toEqual({ out: text });
});

test.each(cut)("cut off: $name", async ({ text }) => {
  const refused = 'The SQL text is not whole: it does not end with "-- PostgreSQL database dump complete"';
  for (const size of sizes) expect(await read(text, size)).toEqual({ out: text, refused, exitCode: 3 });
});
