// The fake op itself, started by a wrapper named `op` that test/lab/op.ts puts on PATH. CONTRACT.md says what it follows.
import { spawn } from "node:child_process";
import { appendFileSync, existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { constants } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { parse } from "dotenv";
import { poll } from "../../../scripts/lib/wait.ts";
import { fillIn } from "./template.ts";
import { fieldsOf, findItem, idOf, itemId, itemsIn, OpError, type OpItem, resolve } from "./vaults.ts";

/** Kept in a file, because each call is a process of its own. */
export type OpState = {
  items: readonly OpItem[];
  token: string;
  /** As with the desktop app, unlocked. */
  signedIn: boolean;
  /** Reads that are still allowed; the next one is told 429. */
  readsLeft: number;
  /** Instead of every answer. */
  error?: string | undefined;
  hangs: boolean;
  /** Answers only when this file is there, so that a test can look at what is running meanwhile. */
  waitsFor?: string | undefined;
};

const folder = process.env.OP_FAKE_FOLDER!;
const stateFile = join(folder, "state.json");
const state: OpState = JSON.parse(readFileSync(stateFile, "utf8"));
const argv = process.argv.slice(2);

async function main(): Promise<void> {
  const names = Object.keys(process.env).filter((name) => name !== "OP_FAKE_FOLDER");
  appendFileSync(join(folder, "calls.jsonl"), `${JSON.stringify({ argv, environment: names.sort() })}\n`);
  const { values, positionals } = parseArgs({
    args: argv.slice(0, argv.includes("--") ? argv.indexOf("--") : undefined),
    allowPositionals: true,
    options: {
      ...{ version: { type: "boolean" }, account: { type: "string" }, format: { type: "string" } },
      ...{ "in-file": { type: "string", short: "i" }, "out-file": { type: "string", short: "o" } },
      ...{ force: { type: "boolean", short: "f" }, "file-mode": { type: "string" } },
      ...{ "no-newline": { type: "boolean", short: "n" }, "no-masking": { type: "boolean" } },
      ...{ "env-file": { type: "string", multiple: true }, vault: { type: "string" }, reveal: { type: "boolean" } },
    },
  } as const);
  if (values.version) return print("2.39.0");
  if (state.hangs) return void setInterval(() => {}, 1000);
  if (state.waitsFor) await poll({ seconds: 60 }, async () => existsSync(state.waitsFor!) || undefined);
  if (state.error) throw new OpError(state.error);
  authenticate(positionals);
  const [noun, verb, word] = positionals;
  const asJson = values.format === "json";
  const isService = !state.signedIn;
  switch (noun) {
    case "inject":
      return write(inject(values["in-file"]), values);
    case "read": {
      const value = reading(() => naming(verb!, () => resolve(state.items, verb!)));
      return write(values["no-newline"] ? value : `${value}\n`, values);
    }
    case "run":
      return run(values["env-file"] ?? [], !values["no-masking"]);
    case "whoami":
      return print(
        JSON.stringify({ url: "https://example.1password.com", user_type: isService ? "SERVICE_ACCOUNT" : "MEMBER" }),
      );
    case "vault": {
      const vaults = [...new Set(state.items.map(({ vault }) => vault))].map((name) => ({ id: idOf(name), name }));
      if (verb === "list") return print(asJson ? JSON.stringify(vaults) : vaults.map(({ name }) => name).join("\n"));
      const found = itemsIn(state.items, word!)[0]!.vault;
      return print(JSON.stringify({ id: idOf(found), name: found }));
    }
    case "service-account":
      return print(`TYPE  ACTION  LIMIT  USED  REMAINING\ntoken  read  1000  0  ${state.readsLeft}`);
    case "item": {
      if (verb === "list")
        return print(
          itemsIn(state.items, values.vault!)
            .map(({ title }) => title)
            .join("\n"),
        );
      const vaults = new Set(state.items.map(({ vault }) => vault));
      if (isService && !values.vault && vaults.size > 1) {
        throw new OpError("a vault query must be provided when this command is called by a service account");
      }
      const item = reading(() => findItem(state.items, values.vault ?? [...vaults][0]!, word!));
      return print(asJson ? JSON.stringify(describe(item)) : concealed(item, values.reveal ?? false));
    }
  }
  throw new OpError(`unknown command "${argv[0]}" for "op"`);
}

function authenticate(positionals: readonly string[]): void {
  const { OP_CONNECT_HOST, OP_CONNECT_TOKEN, OP_SERVICE_ACCOUNT_TOKEN } = process.env;
  const token = OP_CONNECT_HOST ? OP_CONNECT_TOKEN : OP_SERVICE_ACCOUNT_TOKEN;
  if (token === state.token || (!token && state.signedIn)) return;
  if (!token) {
    console.error(
      "No accounts configured for use with 1Password CLI.\n - Turn on the 1Password desktop app integration to sign in.\n - Add an account manually with 'op account add'.",
    );
    process.exit(1);
  }
  if (token.startsWith("ops_")) throw new OpError("(401) Unauthorized: Invalid bearer token");
  const text =
    "error initializing client: Validation: (failed to session.DecodeSACredentials), Server: (failed to DecodeSACredentials), illegal base64 data at input byte 4";
  fail(text, positionals[0] === "vault" ? 9 : 1);
}

/** Counts what the account's limit counts. */
function reading<T>(work: () => T): T {
  if (state.readsLeft <= 0) {
    throw new OpError(
      "(429) Too Many Requests: You've reached the maximum number of this type of requests this service account is allowed to make. Please retry in 59 minutes or try other requests.",
    );
  }
  state.readsLeft -= 1;
  const next = `${stateFile}.${process.pid}`;
  writeFileSync(next, JSON.stringify(state));
  renameSync(next, stateFile);
  return work();
}

/** `op read` says which reference it was. */
function naming<T>(reference: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw new OpError(`could not read secret '${reference}': ${(error as Error).message}`);
  }
}

/** Standard input by its number: by its path it cannot be opened where it is a socket. */
function inject(file: string | undefined): string {
  const template = readFileSync(file === undefined || file === "/dev/stdin" ? 0 : file, "utf8");
  return reading(() =>
    fillIn(
      template,
      (name) => process.env[name],
      (reference) => resolve(state.items, reference),
    ),
  );
}

type OutFlags = { "out-file"?: string | undefined; force?: boolean | undefined; "file-mode"?: string | undefined };

function write(text: string, flags: OutFlags): void {
  const file = flags["out-file"];
  if (!file) return void process.stdout.write(text);
  if (existsSync(file) && !flags.force) throw new OpError(`file ${file} exists already, use --force to overwrite it`);
  writeFileSync(file, text, { mode: Number.parseInt(flags["file-mode"] ?? "0600", 8) });
  print(file);
}

/** Line by line, which is enough for a double: the real one masks in the middle of a line as well. */
async function run(files: readonly string[], masking: boolean): Promise<void> {
  const environment = Object.assign({}, process.env, ...files.map((file) => parse(readFileSync(file, "utf8"))));
  const references = Object.entries(environment as Record<string, string>).filter(([, value]) =>
    value.startsWith("op://"),
  );
  const secrets: string[] = [];
  for (const [name, reference] of references) {
    const value = reading(() => naming(reference, () => resolve(state.items, reference)));
    environment[name] = value;
    secrets.push(value);
  }
  const mask = (text: string) =>
    secrets.reduce((rest, secret) => rest.replaceAll(secret, "<concealed by 1Password>"), text);
  const [file, ...rest] = argv.slice(argv.indexOf("--") + 1) as [string, ...string[]];
  const child = spawn(file, rest, { env: environment, stdio: ["inherit", "pipe", "pipe"] });
  for (const name of ["SIGINT", "SIGTERM"] as const) process.on(name, () => child.kill(name));
  for (const stream of ["stdout", "stderr"] as const) {
    child[stream].setEncoding("utf8").on("data", (text: string) => process[stream].write(masking ? mask(text) : text));
  }
  const [code, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((done) => {
    child.on("close", (...ended) => done(ended));
  });
  process.exit(signal ? 128 + constants.signals[signal] : (code ?? 1));
}

function describe(item: OpItem) {
  return {
    id: itemId(state.items, item),
    title: item.title,
    vault: { id: idOf(item.vault), name: item.vault },
    fields: fieldsOf(item).map(({ id, label, section, value }) => ({
      id,
      type: "CONCEALED",
      label,
      value,
      reference: `op://${[item.vault, item.title, ...(section ? [section] : []), label].join("/")}`,
      ...(section && { section: { id: section, label: section } }),
    })),
  };
}

function concealed(item: OpItem, reveal: boolean): string {
  const id = itemId(state.items, item);
  const hidden = `[use 'op item get ${id} --reveal' to reveal]`;
  const lines = fieldsOf(item).map(({ label, value }) => `  ${label}: ${reveal ? value : hidden}`);
  return [`ID: ${id}`, `Title: ${item.title}`, "Fields:", ...lines].join("\n");
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

function fail(text: string, code: number): never {
  const now = new Date().toISOString().slice(0, 19).replaceAll("-", "/").replace("T", " ");
  process.stderr.write(`[ERROR] ${now} ${text}\n`);
  process.exit(code);
}

try {
  await main();
} catch (error) {
  fail((error as Error).message, 1);
}
