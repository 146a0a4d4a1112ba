// .env files: reads them literally, writes values so that Compose, dotenv, Deno, Node and sh all read the same thing.
import { randomBytes } from "node:crypto";
import { chmod, open, readFile, rename, rm } from "node:fs/promises";
import { parse } from "dotenv";
import { exitCodes, Failure } from "./failure.ts";

/** The file's values, nothing expanded, this process's own environment untouched. A missing file is empty. */
export async function readEnvironment(file: string): Promise<Record<string, string>> {
  const text = await readFile(file, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return "";
    throw new Failure(`Cannot read "${file}"`, error.message, [`ls -l ${file}`], { exitCode: exitCodes.usage });
  });
  return parseEnvironment(text);
}

/** The values in the text of such a file. */
export const parseEnvironment = (text: string): Record<string, string> => parse(text);

/**
 * One value as it must stand in a .env file.
 * No single quote in it: single quotes, which every reader takes literally. Otherwise double quotes, which hold as
 * long as there is no `$`, `"`, `\` or backtick. What is left, no quoting carries to every reader (measured, 14 values
 * by 8 readers).
 * @throws {Failure} exit 2, naming the variable, never its value.
 */
export function encodeValue(name: string, value: string): string {
  if (/^[A-Za-z0-9_./:@%+,-]*$/.test(value)) return value;
  // Compose takes \' for a quote that belongs to the value, even between single quotes.
  if (!/['\n\r]|\\$/.test(value)) return `'${value}'`;
  if (!/[$"\\`\n\r]/.test(value)) return `"${value}"`;
  const why =
    'its value holds a line break, or a backslash at its end, or a single quote together with one of $ " \\ `, which no .env file carries';
  throw new Failure(
    `Cannot write ${name}`,
    why,
    [`choose a ${name} without single quotes and backslashes, then run this again`],
    {
      exitCode: exitCodes.usage,
    },
  );
}

/** Writes a secret file: 0600 from its first byte, whole or not at all. */
export async function writeSecretFile(file: string, text: string): Promise<void> {
  const temporary = `${file}.${process.pid}.tmp`;
  try {
    const handle = await open(temporary, "wx", 0o600);
    await handle.writeFile(text).finally(() => handle.close());
    await chmod(temporary, 0o600);
    await rename(temporary, file);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

/** A new password: 192 random bits, in letters, digits, - and _, which need no quoting anywhere. */
export function generatePassword(): string {
  return randomBytes(24).toString("base64url");
}

/** The .env of a developer's machine. The scaffolder writes it, and `up` does where it is missing, as in a fresh clone. */
export function localEnvironment(values: { name: string; database: string; password: string }): string {
  return `# The values of ${values.name} on this machine, read by Docker Compose and by scripts/. Git-ignored: never commit it.
# A server's are made from .env.tpl.
COMPOSE_PATH_SEPARATOR=:
COMPOSE_FILE=compose.yaml:compose/development.yaml

# The password belongs to the data: it is set when the database is first made, and changing it here alone locks you out.
POSTGRES_DB=${encodeValue("POSTGRES_DB", values.database)}
POSTGRES_USER=${encodeValue("POSTGRES_USER", values.database)}
POSTGRES_PASSWORD=${encodeValue("POSTGRES_PASSWORD", values.password)}

# Where the app and Postgres can be reached, from this machine only.
HTTP_PORT=8080
POSTGRES_PORT=5432
`;
}
