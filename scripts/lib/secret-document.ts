// The other providers: each prints all its values as one document, and secret://NAME is a value in it.
// One process for all of them, except `env`, which is this process's own environment and needs none.
import { parse } from "dotenv";
import { exitCodes, Failure } from "./failure.ts";
import type { SecretSettings } from "./secret.ts";
import { askProgram, lastLines, type Refusal, timeoutSeconds } from "./secret-program.ts";

export type DocumentSettings = Exclude<SecretSettings, { provider: "op" }>;
type ProgramSettings = Exclude<DocumentSettings, { provider: "env" }>;

/** Values by name; what is nested in the document goes by its path, "database/password". */
type Document = Readonly<Record<string, string>>;

/** @throws {Failure} exit 2 naming every value that is not there, or what the program said; never a value. */
export async function readFromDocument(
  settings: DocumentSettings,
  references: readonly string[],
  directory: string,
): Promise<Map<string, string>> {
  const document = await readDocument(settings, directory);
  const missing = references.map(nameIn).filter((name) => document[name] === undefined);
  if (missing.length > 0) {
    throw new Failure(
      `Cannot read secrets from ${settings.provider}`,
      missing.length === 1 ? `it has no ${missing[0]}` : `it has none of ${missing.join(", ")}`,
      [settings.provider === "env" ? `export ${missing[0]}` : "bun scripts/secrets.ts check", "correct .env.tpl"],
      { exitCode: exitCodes.usage, read: "docs/secrets.md" },
    );
  }
  return new Map(references.map((reference) => [reference, document[nameIn(reference)]!]));
}

export const nameIn = (reference: string) => reference.slice("secret://".length);

/** @throws {Failure} when the program is not there, nobody is logged in, or it refuses for another reason. */
export async function readDocument(settings: DocumentSettings, directory: string): Promise<Document> {
  if (settings.provider === "env") return process.env as Document;
  const answer = await askProgram({ argv: documentCommand(settings), directory });
  if (!("stdout" in answer)) throw documentFailure(settings, answer);
  return parseDocument(answer.stdout, settings.provider);
}

/** The words of the one command that prints everything. Pure. */
export function documentCommand(settings: ProgramSettings): string[] {
  switch (settings.provider) {
    case "sops":
      return ["sops", "-d", "--output-type", "json", settings.file];
    case "vault":
      return ["vault", "kv", "get", "-format=json", `-mount=${settings.mount}`, settings.path];
    case "doppler": {
      const { project, config } = settings;
      const chosen = [...(project ? ["--project", project] : []), ...(config ? ["--config", config] : [])];
      return ["doppler", "secrets", "download", "--no-file", "--format", "json", ...chosen];
    }
    case "infisical": {
      const { project, environment, path } = settings;
      const chosen = project ? [`--projectId=${project}`] : [];
      return ["infisical", "export", "--format=json", `--env=${environment}`, `--path=${path}`, ...chosen];
    }
    case "aws": {
      const region = settings.region ? ["--region", settings.region] : [];
      const words = ["--secret-id", settings.secret, "--query", "SecretString", "--output", "text"];
      return ["aws", "secretsmanager", "get-secret-value", ...words, ...region];
    }
  }
}

/**
 * JSON, or lines like those of a .env file.
 * @throws {Failure} when it begins like JSON and is none, or when there are no values in it.
 */
export function parseDocument(text: string, provider: ProgramSettings["provider"]): Document {
  if (!/^\s*[{[]/.test(text)) return parse(text);
  const json = parseJson(text, provider);
  // infisical lists pairs; vault wraps its values, in version 2 of its store twice.
  if (Array.isArray(json)) return Object.fromEntries(json.map((pair) => [pair?.key, `${pair?.value}`]));
  if (provider !== "vault") return flatten(json);
  const data = isObject(json.data) ? json.data : {};
  const values = isObject(data.metadata) ? data.data : json.data;
  if (isObject(values)) return flatten(values);
  const next = ["vault kv undelete, or a new version of it", "correct `secrets` in dbops.config.ts"];
  throw new Failure("Cannot read secrets from vault", "the newest version of the secret is deleted, or empty", next, {
    exitCode: exitCodes.usage,
    read: "docs/secrets.md",
  });
}

function parseJson(text: string, provider: string): Record<string, unknown> {
  try {
    return JSON.parse(text);
  } catch {
    // Not the parser's message: it may quote a value.
    throw new Failure(`Cannot read secrets from ${provider}`, "what it printed is not JSON", [
      "bun scripts/secrets.ts check",
    ]);
  }
}

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null;

function flatten(values: Record<string, unknown>, prefix = ""): Document {
  const entries = Object.entries(values).flatMap(([name, value]): (readonly [string, string])[] => {
    if (value === null) return [];
    if (typeof value === "object") {
      return Object.entries(flatten(value as Record<string, unknown>, `${prefix}${name}/`));
    }
    return [[`${prefix}${name}`, String(value)]];
  });
  return Object.fromEntries(entries);
}

type Program = {
  /** What it says when nobody is logged in. */
  loggedOut: RegExp;
  login: string;
  /** What it says when there is no such document. */
  absent: RegExp;
};

const programs: Record<ProgramSettings["provider"], Program> = {
  sops: {
    loggedOut: /Failed to get the data key|no key could decrypt|no identity matched/i,
    login: "export SOPS_AGE_KEY_FILE=…    # or what else your file is encrypted for",
    absent: /no such file|Cannot operate on non-existent file/i,
  },
  vault: {
    loggedOut: /missing client token|permission denied|invalid token|Code: 403/i,
    login: "vault login    # or set VAULT_ADDR and VAULT_TOKEN",
    absent: /No value found|no handler for route/i,
  },
  doppler: {
    loggedOut: /must provide a token|invalid .*token|unauthorized/i,
    login: "doppler login    # or set DOPPLER_TOKEN",
    absent: /could not find requested (?:project|config)|must specify a (?:project|config)/i,
  },
  infisical: {
    loggedOut: /must be logged in|login session|unauthorized|status-code=401/i,
    login: "infisical login    # or set INFISICAL_TOKEN",
    absent: /not found|status-code=404/i,
  },
  aws: {
    loggedOut:
      /Unable to locate credentials|ExpiredToken|UnrecognizedClient|AccessDenied|InvalidClientTokenId|SSO session/i,
    login: "aws sso login    # or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    absent: /ResourceNotFound/i,
  },
};

/** What the program refused, as a sentence; its own words, from stderr alone, as evidence. */
export function documentFailure(settings: ProgramSettings, { kind, stderr }: Refusal): Failure {
  const { provider } = settings;
  const argv = documentCommand(settings);
  const { loggedOut, login, absent } = programs[provider];
  const fail = (why: string, next: string, exitCode: 1 | 2) =>
    new Failure(`Cannot read secrets from ${provider}`, why, [next], {
      exitCode,
      read: "docs/secrets.md",
      ...(stderr.trim() && { details: lastLines(stderr) }),
    });
  if (kind === "missing") return fail(`"${argv[0]}" is not installed, or not on PATH`, `${argv[0]} --version`, 2);
  if (kind === "slow") return fail(`no answer within ${timeoutSeconds} s`, "the same command again", 1);
  if (loggedOut.test(stderr)) return fail("it lets nobody in with what is set here", login, 2);
  if (absent.test(stderr))
    return fail("there is nothing at the place that dbops.config.ts names", "correct `secrets` in dbops.config.ts", 2);
  return fail(`"${argv[0]}" refused`, `${argv.slice(0, 2).join(" ")} --help`, 1);
}
