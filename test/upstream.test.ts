// scripts/lib/upstream.ts: the file that says which slot gets the requests, made from the project's own.
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type Failure, formatFailure } from "../scripts/lib/failure.ts";
import {
  formatStamp,
  otherSlot,
  parseStamp,
  portIn,
  renderUpstream,
  type Stamp,
  stampIn,
  upstreamFile,
} from "../scripts/lib/upstream.ts";
import { repository } from "./lab/repository.ts";

const shipped = readFileSync(join(repository, upstreamFile), "utf8");

describe("a stamp", () => {
  test.each<{ text: string; stamp: Stamp }>([
    { text: "8 green live", stamp: { release: 8, slot: "green", state: "live" } },
    { text: "0 blue live", stamp: { release: 0, slot: "blue", state: "live" } },
    { text: "1234 blue warm", stamp: { release: 1234, slot: "blue", state: "warm" } },
    { text: "9 green bake", stamp: { release: 9, slot: "green", state: "bake" } },
  ])("$text", ({ text, stamp }) => {
    expect(parseStamp(`${text}\n`)).toEqual(stamp);
    expect(formatStamp(stamp)).toBe(text);
  });

  test.each([
    "",
    "8 red live",
    "8 green",
    "8 green dead",
    "-1 green live",
    "x green live",
    "0 app live",
    "8  green live",
  ])("not %p", (text) => {
    expect(parseStamp(text)).toBeUndefined();
  });

  test("of a file; a comment has none", () => {
    expect(stampIn(shipped)).toEqual({ release: 0, slot: "blue", state: "live" });
    expect(stampIn("")).toBeUndefined();
    expect(stampIn('# default "8 green live";\n')).toBeUndefined();
    expect(stampIn('map "" $release {\n\tdefault   "8 green live";\n}')).toEqual({
      release: 8,
      slot: "green",
      state: "live",
    });
  });
});

test("otherSlot()", () => {
  expect([otherSlot("blue"), otherSlot("green")]).toEqual(["green", "blue"]);
});

test("portIn() reads the first slot's, not a comment's", () => {
  expect(portIn(shipped)).toBe(3000);
  expect(portIn(shipped.replace("\n  server app-blue:3000", "\n  server app-green:8080"))).toBe(8080);
  expect(portIn("#   server app-blue:3000;\n")).toBeUndefined();
});

/** The shipped file with other server lines and another stamp: its comments and its other lines stay as they are. */
const withLines = (servers: string, stamp: string) =>
  shipped
    .replace("\n  server app-blue:3000 resolve max_fails=0;\n", `\n${servers}`)
    .replace('"0 blue live"', `"${stamp}"`);

const blue = "  server app-blue:3000 resolve max_fails=0;\n";
const green = "  server app-green:3000 resolve max_fails=0;\n";
const down = (line: string) => line.replace(";", " down;");

describe("renderUpstream()", () => {
  test.each<{ name: string; stamp: Stamp; also?: "blue" | "green"; servers: string; text: string }>([
    { name: "one slot", stamp: { release: 8, slot: "green", state: "live" }, servers: green, text: "8 green live" },
    {
      name: "warm: the next slot is known and gets nothing",
      stamp: { release: 7, slot: "blue", state: "warm" },
      also: "green",
      servers: blue + down(green),
      text: "7 blue warm",
    },
    {
      name: "bake: the old slot is still known",
      stamp: { release: 8, slot: "green", state: "bake" },
      also: "blue",
      servers: green + down(blue),
      text: "8 green bake",
    },
  ])("$name", ({ stamp, also, servers, text }) => {
    const rendered = renderUpstream(shipped, stamp, also);
    expect(rendered).toBe(withLines(servers, text));
    expect(stampIn(rendered)).toEqual(stamp);
    expect(portIn(rendered)).toBe(3000);
  });

  test("its result is a template like any other: from state to state and back", () => {
    const states: [Stamp, "blue" | "green" | undefined][] = [
      [{ release: 8, slot: "green", state: "bake" }, "blue"],
      [{ release: 8, slot: "green", state: "live" }, undefined],
      [{ release: 8, slot: "green", state: "warm" }, "blue"],
      [{ release: 0, slot: "blue", state: "live" }, undefined],
    ];
    const last = states.reduce((text, [stamp, also]) => renderUpstream(text, stamp, also), shipped);
    expect(last).toBe(shipped);
  });

  test("what people have changed stays: indent, port, parameters, other servers, line order", () => {
    const own = `upstream app {
\tkeepalive 8;
\tserver app-green:8080 weight=5 down max_conns=100;
\tserver app-blue:8080 resolve;
\tserver maintenance:80 backup;
}
map "" $release { # ours
\tdefault "3 blue live"; # a remark
}
`;
    expect(renderUpstream(own, { release: 4, slot: "blue", state: "bake" }, "green")).toBe(`upstream app {
\tkeepalive 8;
\tserver app-blue:8080 weight=5 max_conns=100;
\tserver app-green:8080 weight=5 max_conns=100 down;
\tserver maintenance:80 backup;
}
map "" $release { # ours
\tdefault "4 blue bake"; # a remark
}
`);
  });

  const refusal = `Cannot use nginx/upstream/production.conf: it has no line "server app-blue:PORT …;", or no line default "…"; for its stamp
  next: put both back; docs/nginx.md shows them
exit 2`;
  test.each([
    { name: "no server line", text: withLines("", "0 blue live") },
    { name: "a server line without a port", text: withLines(blue.replace(":3000", ""), "0 blue live") },
    { name: "another server line only", text: withLines("  server app:3000;\n", "0 blue live") },
    { name: "no stamp", text: shipped.replace(/^\s*default.*$/m, "") },
    { name: "nothing at all", text: "" },
  ])("refuses a template with $name", ({ text }) => {
    let message = "";
    try {
      renderUpstream(text, { release: 1, slot: "blue", state: "live" });
    } catch (error) {
      message = `${formatFailure(error as Failure)}\nexit ${(error as Failure).exitCode}`;
    }
    expect(message).toBe(refusal);
  });
});
