// Brings our lines into files that the user has already: adds what is missing, never changes what is there.
import { addMember } from "./json-text.ts";

/** `conflicts` are sentences about values of theirs that differ from ours, and stay. */
type Merged = { text: string; conflicts: string[] };

type Json = Record<string, unknown>;

/** The sections of a file that are merged, and where else a name may stand already. */
const sections: Record<string, Record<string, readonly string[]>> = {
  "package.json": {
    scripts: [],
    dependencies: ["devDependencies", "peerDependencies", "optionalDependencies"],
    devDependencies: ["dependencies", "peerDependencies", "optionalDependencies"],
  },
  "deno.json": { tasks: [], imports: [] },
};

/** @returns nothing when theirs cannot be merged into without harm, for instance because it has comments. */
export function mergeFile(path: string, theirs: string, ours: string): Merged | undefined {
  // A replacement character: the file is not UTF-8, writing it back would damage it.
  if (theirs.includes("\uFFFD")) return undefined;
  if (path === ".gitignore" || path === ".dockerignore") return { text: mergeLines(theirs, ours), conflicts: [] };
  return sections[path] && isJsonObject(theirs) ? mergeJson(path, theirs, ours) : undefined;
}

export function isJsonObject(text: string): boolean {
  try {
    const value = JSON.parse(withoutMark(text));
    return typeof value === "object" && value !== null && !Array.isArray(value);
  } catch {
    return false;
  }
}

function mergeJson(path: string, theirs: string, ours: string): Merged {
  const mark = theirs.length - withoutMark(theirs).length;
  let text = theirs.slice(mark);
  const conflicts: string[] = [];
  const wanted = JSON.parse(ours) as Record<string, Json>;
  for (const [section, elsewhere] of Object.entries(sections[path]!)) {
    const there = JSON.parse(text) as Record<string, Json | undefined>;
    const own = there[section];
    if (own !== undefined && (typeof own !== "object" || own === null || Array.isArray(own))) {
      conflicts.push(`${path}: "${section}" is no object, nothing was added to it`);
      continue;
    }
    const missing = Object.entries(wanted[section] ?? {}).filter(([name, value]) => {
      const holder = [section, ...elsewhere].find((other) => Object.hasOwn(there[other] ?? {}, name));
      if (holder === undefined) return true;
      const theirValue = JSON.stringify(there[holder]![name]);
      const ourValue = JSON.stringify(value);
      if (theirValue !== ourValue) {
        conflicts.push(`${path}: ${holder}.${name} stays ${theirValue}, the kit has ${ourValue}`);
      }
      return false;
    });
    if (missing.length === 0) continue;
    if (own === undefined) text = addMember(text, [], section, Object.fromEntries(missing));
    else for (const [name, value] of missing) text = addMember(text, [section], name, value);
  }
  return { text: theirs.slice(0, mark) + text, conflicts };
}

/** A byte order mark is legal at the start of a file, but not for JSON.parse. */
export const withoutMark = (text: string) => text.replace(/^\uFEFF/, "");

const heading = "# create-dbops";

/** Appends the lines that are missing, below a heading, with the file's own line ends. */
function mergeLines(theirs: string, ours: string): string {
  const newline = theirs.includes("\r\n") ? "\r\n" : "\n";
  const have = new Set(theirs.split(/\r?\n/).map((line) => line.trim()));
  const missing = ours.split("\n").filter((line) => line !== "" && !line.startsWith("#") && !have.has(line));
  if (missing.length === 0) return theirs;
  const needsNewline = theirs !== "" && !theirs.endsWith("\n");
  const before = theirs === "" ? "" : `${needsNewline ? newline : ""}${newline}`;
  return `${theirs}${before}${[heading, ...missing].join(newline)}${newline}`;
}
