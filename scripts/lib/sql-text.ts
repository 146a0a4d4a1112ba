// SQL text of pg_dump, which says only in its last lines that it is whole: a cut-off one restores without an error, and lacks rows.
import { Failure } from "./failure.ts";

/** pg_dump writes it as a comment; since 17.6 a line with \unrestrict follows. */
const trailer = "-- PostgreSQL database dump complete";
/** At the very end: the same words may stand in a row of a table. */
const wholeEnd = /\n-- PostgreSQL database dump complete\s*(?:--\s*)?(?:\\unrestrict \w+\s*)?$/;
const trailerWithin = 400;

/** Hands the text on, and throws at its end if it is not whole. */
export async function* untilTrailer(text: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void> {
  let tail = Buffer.alloc(0);
  for await (const chunk of text) {
    tail = Buffer.concat([tail, chunk.subarray(-trailerWithin)]).subarray(-trailerWithin);
    yield chunk;
  }
  if (wholeEnd.test(`\n${tail.toString("latin1")}`)) return;
  throw new Failure("The SQL text is not whole", `it does not end with "${trailer}"`, [], { exitCode: 3 });
}
