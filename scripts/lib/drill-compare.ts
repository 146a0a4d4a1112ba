// Whether a restored database is what was backed up, beyond its rows: what belongs to the database itself.
import type { Facts } from "./catalog.ts";
import type { Manifest } from "./manifest.ts";

type Compared = Pick<Manifest, "server" | "migrations" | "extensions" | "settings">;

/** @returns a line for every difference; none means equal. */
export function compareSettings(expected: Compared, found: Pick<Facts, keyof Compared>): string[] {
  const differ = (what: string, wanted: unknown, there: unknown) =>
    JSON.stringify(wanted) === JSON.stringify(there) ? [] : [`${what}: ${say(there)} instead of ${say(wanted)}`];
  const server = (["encoding", "collate", "ctype", "provider", "locale"] as const).flatMap((name) =>
    differ(name, expected.server[name], found.server[name]),
  );
  const { settings } = expected;
  return [
    ...server,
    ...differ("owner of the database", settings.owner, found.settings.owner),
    ...differ("comment on the database", settings.comment, found.settings.comment),
    ...differ("connection limit", settings.connectionLimit, found.settings.connectionLimit),
    ...missingOrNew("grant on the database", settings.grants, found.settings.grants),
    ...missingOrNew("setting", settings.parameters.map(asText), found.settings.parameters.map(asText)),
    ...missingOrNew("migration", expected.migrations, found.migrations),
  ];
}

/** The image of the drill may have newer ones: their rows and functions are there, and a server like the original has the older. */
export const otherExtensions = (expected: Compared, found: Pick<Facts, "extensions">): string[] =>
  Object.entries(expected.extensions).flatMap(([name, version]) => {
    const there = found.extensions[name];
    return there === undefined || there === version
      ? []
      : [`the extension ${name} is ${there} here, and was ${version}`];
  });

function missingOrNew(what: string, expected: readonly string[], found: readonly string[]): string[] {
  return [
    ...expected.filter((text) => !found.includes(text)).map((text) => `${what} ${text}: missing`),
    ...found.filter((text) => !expected.includes(text)).map((text) => `${what} ${text}: not in the original`),
  ];
}

const asText = ({ role, parameter, value }: Manifest["settings"]["parameters"][number]) =>
  `${role === null ? "" : `of ${role}: `}${parameter} = ${value}`;

const say = (value: unknown) => (value === null ? "none" : `${value}`);
