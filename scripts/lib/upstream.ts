// nginx/upstream/production.conf: which slot gets the requests. The project's own file is the template, so that what people
// change in it (keepalive, further parameters) stays; only the server lines and the stamp are the deploy's.
import { exitCodes, Failure } from "./failure.ts";

export const slots = ["blue", "green"] as const;
export type Slot = (typeof slots)[number];

/** What nginx answers to GET /release on loopback: "8 green live". */
export type Stamp = { release: number; slot: Slot; state: "live" | "warm" | "bake" };

export const upstreamFile = "nginx/upstream/production.conf";

export const otherSlot = (slot: Slot): Slot => (slot === "blue" ? "green" : "blue");

export const formatStamp = ({ release, slot, state }: Stamp) => `${release} ${slot} ${state}`;

/** @returns undefined for a text that is no stamp of ours. */
export function parseStamp(text: string): Stamp | undefined {
  const [, release, slot, state] = /^(\d+) (blue|green) (live|warm|bake)$/.exec(text.trim()) ?? [];
  return release ? ({ release: Number(release), slot, state } as Stamp) : undefined;
}

/** The stamp that a file gives. */
export function stampIn(text: string): Stamp | undefined {
  return parseStamp(/^\s*default\s+"([^"]*)";/m.exec(text)?.[1] ?? "");
}

const serverLine = /^([ \t]*)server app-(?:blue|green):(\d+)([^;\n]*);[ \t]*\n/gm;

/** The port that the file has for the app. */
export function portIn(text: string): number | undefined {
  const [line] = text.matchAll(serverLine);
  return line && Number(line[2]);
}

/**
 * The file for a stamp: its slot gets the requests. The one in `alsoListed` gets none, but nginx learns its address, which
 * it must know before it can switch to it without losing a request (measured; nginx 1.30 keeps it across the reload).
 * @throws {Failure} exit 2 when there are no server lines or no stamp to replace.
 */
export function renderUpstream(template: string, stamp: Stamp, alsoListed?: Slot): string {
  const [first] = template.matchAll(serverLine);
  if (!first || !/^\s*default\s+"[^"]*";/m.test(template)) {
    const why = 'it has no line "server app-blue:PORT …;", or no line default "…"; for its stamp';
    throw new Failure(`Cannot use ${upstreamFile}`, why, ["put both back; docs/nginx.md shows them"], {
      exitCode: exitCodes.usage,
    });
  }
  const [, indent, port, parameters = ""] = first;
  const line = (slot: Slot, down: string) =>
    `${indent}server app-${slot}:${port}${parameters.replace(/\s+down\b/, "")}${down};\n`;
  const lines = line(stamp.slot, "") + (alsoListed ? line(alsoListed, " down") : "");
  let placed = false;
  const withServers = template.replaceAll(serverLine, () => {
    const text = placed ? "" : lines;
    placed = true;
    return text;
  });
  return withServers.replace(/^(\s*default\s+)"[^"]*";/m, (_, start) => `${start}"${formatStamp(stamp)}";`);
}
