// The statements that make a database for a restore, and give it what belongs to the database itself and not to its content.
// Data only: who runs them stands in restore-run.ts.
import type { Manifest } from "./manifest.ts";
import { quoteIdentifier, quoteLiteral } from "./psql.ts";

type Properties = Manifest["settings"];

/** Empty, with nothing that somebody may have added to template1; it sorts and compares as the original does. */
export function createScript(name: string, owner: string | undefined, server: Manifest["server"] | undefined): string {
  const words = [
    `create database ${quoteIdentifier(name)}`,
    "template template0",
    ...(owner ? [`owner ${quoteIdentifier(owner)}`] : []),
    ...(server ? localeWords(server) : []),
  ];
  return words.join(" ");
}

/** pg_database's own letter for who knows the language's rules: libc, ICU, or Postgres itself. */
function localeWords({ encoding, collate, ctype, provider, locale }: Manifest["server"]): string[] {
  return [
    `encoding ${quoteLiteral(encoding)}`,
    `lc_collate ${quoteLiteral(collate)} lc_ctype ${quoteLiteral(ctype)}`,
    ...(provider === "i" && locale ? [`locale_provider icu icu_locale ${quoteLiteral(locale)}`] : []),
    ...(provider === "b" && locale ? [`locale_provider builtin builtin_locale ${quoteLiteral(locale)}`] : []),
    ...(provider === "c" ? ["locale_provider libc"] : []),
  ];
}

export const dropScript = (name: string) => `drop database if exists ${quoteIdentifier(name)} with (force)`;

/**
 * The live database's own, for they may be newer than the backup. One that has none at all was made by a deploy a minute ago, on a new
 * server: then those of the backup.
 */
export function chooseSettings(live: Properties | undefined, backedUp: Properties | undefined): Properties | undefined {
  if (!live || !backedUp) return live ?? backedUp;
  const { connectionLimit, comment, grants, parameters } = live;
  const isBare = connectionLimit === -1 && comment === null && grants.length === 0 && parameters.length === 0;
  return isBare ? { ...backedUp, owner: live.owner } : live;
}

/**
 * ALTER DATABASE … SET, ALTER ROLE … IN DATABASE … SET, connection limit, comment and grants. They belong to a database's number and not to
 * its name, so that the restored one would be without them.
 * @param roles that there are on this server: what was said for another one is left out.
 */
export function settingsScript(name: string, settings: Properties, roles: readonly string[]): string {
  const database = quoteIdentifier(name);
  const parameters = settings.parameters
    .filter(({ role }) => role === null || roles.includes(role))
    .map(({ role, parameter, value }) => {
      const subject = role === null ? `database ${database}` : `role ${quoteIdentifier(role)} in database ${database}`;
      return `alter ${subject} set ${quoteIdentifier(parameter)} to ${settingValue(parameter, value)};`;
    });
  return [
    ...parameters,
    `alter database ${database} connection limit ${settings.connectionLimit};`,
    ...(settings.comment === null ? [] : [`comment on database ${database} is ${quoteLiteral(settings.comment)};`]),
    ...grantStatements(database, settings, roles),
  ].join("\n");
}

/** Without any, Postgres' own defaults hold. */
function grantStatements(database: string, { grants, owner }: Properties, roles: readonly string[]): string[] {
  if (grants.length === 0) return [];
  const known = new Set(["PUBLIC", ...roles.flatMap((role) => [role, quoteIdentifier(role)])]);
  const each = grants.flatMap((grant) => {
    const [, role = "", privilege = "", option] = /^(.+) (\w+) ([tf])$/.exec(grant) ?? [];
    if (!known.has(role)) return [];
    return [`grant ${privilege} on database ${database} to ${role}${option === "t" ? " with grant option" : ""};`];
  });
  return [`revoke all on database ${database} from public, ${quoteIdentifier(owner)};`, ...each];
}

/** Parameters that are lists of names: as one text they would be a list of one. */
const lists = [
  "search_path",
  "temp_tablespaces",
  "session_preload_libraries",
  "shared_preload_libraries",
  "local_preload_libraries",
  "unix_socket_directories",
];

function settingValue(parameter: string, value: string): string {
  if (!lists.includes(parameter.toLowerCase())) return quoteLiteral(value);
  const items = [...value.matchAll(/"((?:[^"]|"")*)"|[^,\s]+/g)];
  return items.map(([item, quoted]) => quoteLiteral(quoted?.replaceAll('""', '"') ?? item)).join(", ") || "''";
}
