// What each answer may look like. Each check returns a sentence, or nothing when the answer is good.
// The character sets are narrow on purpose: every value lands unquoted in YAML, TypeScript, nginx and shell text.

type Check = (value: string) => string | undefined;

/**
 * Compose project name, npm package name and part of image names, all at once. Compose alone would allow "1e3" and
 * "no" (YAML reads a number and a false) and "app_" (its image "app_-app" is no valid reference).
 */
export const checkName: Check = (name) => {
  if (name.length > 63) return `--name "${name}" has ${name.length} characters, 63 is the most`;
  if (!/^[a-z][a-z0-9]*(?:(?:__?|-+)[a-z0-9]+)*$/.test(name)) {
    return `--name "${name}" must begin with a lower case letter, end with a letter or digit, and hold only lower case letters, digits, - and _`;
  }
  if (yamlWords.has(name)) return `--name "${name}" is a word that YAML reads as a value, choose another`;
};

/** Database and role are both called so: an identifier that psql takes without quotes, and that Postgres does not own. */
export const checkDatabase: Check = (database) => {
  if (database.length > 63) {
    return `--database "${database}" has ${database.length} characters, Postgres cuts after 63`;
  }
  if (!/^[a-z_][a-z0-9_]*$/.test(database)) {
    return `--database "${database}" must begin with a lower case letter or _, and hold only lower case letters, digits and _`;
  }
  if (isTaken(database)) return `--database "${database}" is a name that Postgres keeps for itself, choose another`;
};

export const checkDomain: Check = (domain) => {
  if (domain.length <= 253 && isHostName(domain)) return;
  return `--domain "${domain}" must be a host name in lower case, for instance "app.example.com", without https:// and without a port`;
};

/** A repository without tag: the deploy verb adds the tag or digest of each release. */
export const checkImage: Check = (image) => {
  const [first = "", ...rest] = image.split("/");
  const isRegistry = rest.length > 0 && /[.:]|^localhost$/.test(first);
  const registryIsGood = !isRegistry || (isHostName(first.replace(/:\d+$/, "")) && /^[^:]+(:\d{1,5})?$/.test(first));
  const parts = isRegistry ? rest : [first, ...rest];
  if (registryIsGood && parts.every((part) => imagePart.test(part))) return;
  return `--image "${image}" must be an image name in lower case without a tag, for instance "ghcr.io/example/app"`;
};

/** Never begins with a dash: ssh would read it as an option. */
export const checkServer: Check = (server) => {
  const [, user, host] = /^([a-z_][a-z0-9_-]*)@([^@]+)$/.exec(server) ?? [];
  if (user && host && (isHostName(host) || /^[0-9a-f:]*:[0-9a-f:.]*$/.test(host))) return;
  return `--server "${server}" must be user@host, for instance "deploy@app.example.com"; a port belongs into ~/.ssh/config`;
};

const imagePart = /^[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*$/;

function isHostName(text: string): boolean {
  return text.split(".").every((label) => /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/.test(label));
}

/** "Größe 2" becomes "grosse-2", "2048" becomes "app-2048". Empty when nothing usable is left. */
export function nameFrom(directoryName: string): string {
  const plain = directoryName.replaceAll("ß", "ss").normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
  const words = plain.split(/[^a-z0-9]+/).filter(Boolean);
  const name = words.join("-");
  if (name === "") return "";
  const begun = /^[a-z]/.test(name) && !yamlWords.has(name) ? name : `app-${name}`;
  return begun.slice(0, 63).replace(/-+$/, "");
}

/** "my-app" becomes "my_app", "user" becomes "user_app" because `user` is a word of SQL. */
export function databaseFrom(name: string): string {
  const plain = name.replaceAll("-", "_");
  return isTaken(plain) ? `${plain.slice(0, 59)}_app` : plain;
}

const isTaken = (name: string) => ownDatabases.has(name) || name.startsWith("pg_") || reservedWords.has(name);

const yamlWords = new Set("true false null yes no on off y n".split(" "));

const ownDatabases = new Set("postgres template0 template1 public none".split(" "));

/** Reserved in PostgreSQL 18, appendix C, "reserved" and "reserved (can be function or type)". */
const reservedWords = new Set(
  `all analyse analyze and any array as asc asymmetric authorization binary both case cast check collate collation
  column concurrently constraint create cross current_catalog current_date current_role current_schema current_time
  current_timestamp current_user default deferrable desc distinct do else end except false fetch for foreign freeze
  from full grant group having ilike in initially inner intersect into is isnull join lateral leading left like limit
  localtime localtimestamp natural not notnull null offset on only or order outer overlaps placing primary references
  returning right select session_user similar some symmetric system_user table tablesample then to trailing true union
  unique user using variadic verbose when where window with`.split(/\s+/),
);
