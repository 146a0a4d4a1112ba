// What a server's .env holds: .env.tpl with the provider's values in it, checked before anything is touched.
import { join } from "node:path";
import { parse } from "dotenv";
import type { Settings } from "./config.ts";
import { encodeValue } from "./environment.ts";
import type { Failure } from "./failure.ts";
import { maskInGitHubActions } from "./github.ts";
import { formsOf } from "./redact.ts";
import {
  type Resolved,
  readTemplate,
  referencesIn,
  resolveTemplate,
  substituteAll,
  type Template,
  templateFailure,
} from "./secret.ts";

export type ServerEnvironment = {
  values: Record<string, string>;
  /** Every secret in every form that must not be seen, for redact(). */
  secrets: readonly string[];
  /** Those whose values hold one. */
  secretNames: readonly string[];
};

/** Without them no server starts; the rest the deploy adds: the slots' images, and which of them is live. */
const required = ["COMPOSE_FILE", "DOMAIN", "POSTGRES_DB", "POSTGRES_USER", "POSTGRES_PASSWORD"] as const;

/** Names of things, also when a provider keeps them. To hide "postgres" in a log would hide what it says. */
const notSecret: readonly string[] = [
  "COMPOSE_FILE",
  "COMPOSE_PATH_SEPARATOR",
  "DOMAIN",
  "POSTGRES_DB",
  "POSTGRES_USER",
];

/**
 * Reads .env.tpl and asks the provider, once. In GitHub Actions everything secret is masked when this returns.
 * @throws {Failure} exit 2 with every problem by name, or what the provider said; never a value.
 */
export async function readServerEnvironment(
  settings: Pick<Settings, "secrets" | "backup">,
  directory: string,
): Promise<ServerEnvironment> {
  const template = forServer(await readTemplate(join(directory, ".env.tpl")), settings);
  const missing = missingFrom(template);
  if (missing.length > 0) throw templateFailure(missing.map((name) => `${name}: it is not there`));
  const resolved = await resolveTemplate(settings.secrets, template, directory);
  const secret = secretsOf(template, resolved);
  maskInGitHubActions(secret);
  const values = serverValues(template, resolved);
  const problems = Object.entries(values).flatMap(([name, value]) => {
    const problem = valueProblem(name, value);
    return problem ? [`${name}: ${problem}`] : [];
  });
  if (problems.length > 0) throw templateFailure(problems);
  return { values, secrets: formsOf(secret), secretNames: secretNamesIn(template) };
}

/**
 * Whoever breaks into the server must not find there what deletes the backups, or opens them. Only where the server makes them itself
 * it has the bucket's key; and the passphrase only if they are not made for recipients.
 */
function forServer(template: Template, { backup }: Pick<Settings, "backup">): Template {
  const { accessKeyFrom, secretKeyFrom, passphraseFrom, pingFrom, recipients = [] } = backup ?? {};
  const profiles = (template.COMPOSE_PROFILES ?? "").split(",").map((profile) => profile.trim());
  const makesBackups = profiles.includes("backup");
  const names = makesBackups
    ? [recipients.length > 0 ? passphraseFrom : undefined]
    : [accessKeyFrom, secretKeyFrom, passphraseFrom, pingFrom];
  return Object.fromEntries(Object.entries(template).filter(([name]) => !names.includes(name)));
}

export function missingFrom(template: Template): string[] {
  return required.filter((name) => !(name in template));
}

/** The first line of every file that formatEnvironment() has made. */
export const madeByUs = "# Made from .env.tpl. What is changed here is lost with the next deploy: change .env.tpl.";

/** In a release's .env, for a rollback: it has to know what to hide, and has no template to ask. */
const secretsLine = /^# Secret:(.*)$/m;

/** The text of the .env file. @param secretNames where somebody has to know them later. */
export function formatEnvironment(values: Readonly<Record<string, string>>, secretNames?: readonly string[]): string {
  const lines = Object.entries(values).map(([name, value]) => `${name}=${encodeValue(name, value)}`);
  const names = secretNames ? [["# Secret:", ...secretNames].join(" ")] : [];
  return [madeByUs, "# It holds secrets: never commit, print or mail it.", ...names, ...lines, ""].join("\n");
}

/** The template's values with nothing left to resolve, and DATABASE_URL for libraries that insist on one. Pure. */
export function serverValues(template: Template, resolved: Resolved): Record<string, string> {
  const values = substituteAll(template, resolved);
  return { DATABASE_URL: databaseUrl(values), ...values };
}

/** Inside the server's Compose network, where there is no TLS, and nobody else. */
function databaseUrl({ POSTGRES_USER, POSTGRES_PASSWORD, POSTGRES_DB }: Record<string, string>): string {
  const [user, password, database] = [POSTGRES_USER!, POSTGRES_PASSWORD!, POSTGRES_DB!].map(encodeURIComponent);
  return `postgres://${user}:${password}@postgres:5432/${database}?sslmode=disable`;
}

/** What must be hidden: every value that came from the provider, and the password inside one that is a URL. */
export function secretsOf(template: Template, resolved: Resolved): string[] {
  const references = secretNamesIn(template).flatMap((name) => referencesIn(template[name]!));
  const values = references.map((reference) => resolved.get(reference)!);
  return [...new Set(values.flatMap((value) => [value, ...passwordIn(value)]))];
}

function secretNamesIn(template: Template): string[] {
  const names = Object.keys(template).filter((name) => !notSecret.includes(name));
  return names.filter((name) => referencesIn(template[name]!).length > 0);
}

function passwordIn(value: string): string[] {
  const password = /^\w[\w+.-]*:\/\/[^/@\s]*?:([^@\s]+)@/.exec(value)?.[1];
  return password ? [password, decoded(password)] : [];
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    // A percent sign of its own: the URL was not encoded, so the text is the password already.
    return text;
  }
}

/** Why no server can have this value; without the value. */
export function valueProblem(name: string, value: string): string | undefined {
  if (value === "" && (required as readonly string[]).includes(name)) return "it is empty";
  try {
    encodeValue(name, value);
    return undefined;
  } catch (error) {
    return (error as Failure).why;
  }
}

/** What must be hidden of a release's own .env. Where it does not say which of its values are secret, all may be. */
export function secretsIn(text: string): string[] {
  const told = secretsLine.exec(text)?.[1]?.split(" ");
  const harmless = /^(COMPOSE_|IMAGE_|RELEASE_(IMAGE|NUMBER)$)/;
  const isSecret = (name: string) => (told ? told.includes(name) : !harmless.test(name) && !notSecret.includes(name));
  const values = Object.entries(parse(text)).filter(([name]) => isSecret(name));
  return values.flatMap(([, value]) => [value, ...passwordIn(value)]);
}
