// scripts/lib/secret*.ts and scripts/secrets.ts: what is a reference, what is asked, what is read, and every refusal.
import { afterEach, beforeEach, expect, test } from "bun:test";
import { formatFailure } from "../scripts/lib/failure.ts";
import { referencesIn, referencesOf, substitute, templateProblems } from "../scripts/lib/secret.ts";
import { type Answers, formatChecked, judge } from "../scripts/lib/secret-check.ts";
import { documentCommand, documentFailure, parseDocument } from "../scripts/lib/secret-document.ts";
import { injectCommand, readInjected } from "../scripts/lib/secret-op.ts";
import { opFailure, opProblem } from "../scripts/lib/secret-op-failure.ts";
import { main, planInject } from "../scripts/secrets.ts";

const tokens = ["OP_SERVICE_ACCOUNT_TOKEN", "OP_CONNECT_TOKEN"];
const before = tokens.map((name) => process.env[name]);
beforeEach(() => {
  for (const name of tokens) delete process.env[name];
});
afterEach(() => {
  for (const [index, name] of tokens.entries()) if (before[index]) process.env[name] = before[index];
});

test.each([
  { value: "op://prod/db/password", references: ["op://prod/db/password"] },
  { value: "op://My Vault/My App/admin/pass word", references: ["op://My Vault/My App/admin/pass word"] },
  { value: "op://prod/db/one?attribute=type", references: ["op://prod/db/one?attribute=type"] },
  { value: "postgres://app:op://prod/db/password@db/x", references: ["op://prod/db/password"] },
  { value: "op://a/b/c:op://d/e/f", references: ["op://a/b/c", "op://d/e/f"] },
  { value: "{{ op://My Vault/My App/x }}-{{op://a/b/c}}", references: ["op://My Vault/My App/x", "op://a/b/c"] },
  { value: "secret://DB_PASSWORD", references: ["secret://DB_PASSWORD"] },
  { value: "https://secret://USER:secret://db/pass@host/", references: ["secret://USER", "secret://db/pass"] },
  { value: "xop://a/b/c top-secret://x", references: [] },
  { value: "{{ other }} $op", references: [] },
])("referencesIn() $value", ({ value, references }) => {
  expect(referencesIn(value)).toEqual([...references]);
});

test.each([
  { value: "op://My Vault/x/y", filled: "<op://My Vault/x/y>" },
  { value: "a:op://a/b/c@d", filled: "a:<op://a/b/c>@d" },
  { value: "{{ op://A b/c/d }}{{ }}", filled: "<op://A b/c/d>{{ }}" },
  { value: "$HOME stays", filled: "$HOME stays" },
])("substitute() $value", ({ value, filled }) => {
  const resolved = new Map(referencesIn(value).map((reference) => [reference, `<${reference}>`]));
  expect(substitute(value, resolved)).toBe(filled);
});

test("referencesOf() has each once", () => {
  expect(referencesOf({ A: "op://a/b/c", B: "x", C: "y:op://a/b/c" })).toEqual(["op://a/b/c"]);
});

test("templateProblems() names the value, the reference and what is wanted", () => {
  const template = { GOOD: "op://a/b/c", SHORT: "op://a/b", OTHER: "secret://X", LETTER: "op://Büro/b/c" };
  const wanted =
    "is no reference: op://vault/item/field or op://vault/item/section/field, of letters, digits, - _ . and spaces; anything with another character in its name goes by its ID";
  expect(templateProblems(template, "op")).toEqual([
    `SHORT: "op://a/b" ${wanted}`,
    'OTHER: "secret://X" is not of provider op, whose references are written op://vault/item/field',
    `LETTER: "op://B" ${wanted}`,
  ]);
});

test("injectCommand() sends references of our own making, never the template", () => {
  expect(injectCommand({ provider: "op" }, ["op://a/b/c", "op://My Vault/d/e"], "MARK")).toEqual({
    argv: ["op", "inject"],
    stdin: "MARK 0\n{{ op://a/b/c }}\nMARK 1\n{{ op://My Vault/d/e }}\nMARK end\n",
  });
});

test("injectCommand() names the account, except to a token, which belongs to one", () => {
  const settings = { provider: "op", account: "shop.1password.com" } as const;
  expect(injectCommand(settings, [], "MARK").argv).toEqual(["op", "inject", "--account", "shop.1password.com"]);
  process.env.OP_SERVICE_ACCOUNT_TOKEN = "ops_x";
  expect(injectCommand(settings, [], "MARK").argv).toEqual(["op", "inject"]);
  delete process.env.OP_SERVICE_ACCOUNT_TOKEN;
});

test("readInjected() takes each value as it is, line breaks and template signs included", () => {
  const values = ["", "\n", "two\nlines\n", "{{ op://x/y/z }}", "MARK", "$& $1", " spaces "];
  const references = values.map((_, index) => `op://v/i/${index}`);
  const { stdin } = injectCommand({ provider: "op" }, references, "MARK");
  const output = references.reduce(
    (text, name, index) => text.replace(`{{ ${name} }}`, () => values[index]!),
    `${stdin}`,
  );
  expect([...readInjected(output, references, "MARK").values()]).toEqual(values);
  expect(() => readInjected("MARK 0\nvalue\n", ["op://a/b/c"], "MARK")).toThrow(
    "it returned 0 values for 1 references",
  );
});

const opFailures: { stderr: string; text: string; exitCode: number }[] = [
  {
    stderr:
      "(429) Too Many Requests: You've reached the maximum number of this type of requests this service account is allowed to make. Please retry in 59 minutes or try other requests.",
    text: "its limit of reads is used up, and there are new ones in 59 minutes\n  next: op service-account ratelimit\n  next: the same command again in 59 minutes",
    exitCode: 1,
  },
  {
    stderr: "error initializing client: Validation: (failed to session.DecodeSACredentials), illegal base64 data",
    text: "OP_SERVICE_ACCOUNT_TOKEN is not a token, or not the whole of one\n  next: set it again: one line that begins with ops_",
    exitCode: 2,
  },
  {
    stderr: "(401) Unauthorized: Invalid bearer token",
    text: "the token is not accepted: it has expired, or was revoked\n  next: make a token for a service account that may read the vault, and set OP_SERVICE_ACCOUNT_TOKEN to it",
    exitCode: 2,
  },
  {
    stderr: "(403) Forbidden (Service Account Deleted): it has been deleted.",
    text: "the account may not read this: its rights do not reach so far, or it was deleted\n  next: op vault list\n  next: make a token for a service account that may read the vault, and set OP_SERVICE_ACCOUNT_TOKEN to it",
    exitCode: 2,
  },
  {
    stderr: "You are not currently signed in. Please run `op signin --help` for instructions",
    text: "op is not signed in\n  next: op signin\n  next: where nobody can sign in, as in CI: set OP_SERVICE_ACCOUNT_TOKEN",
    exitCode: 2,
  },
  {
    stderr: "No accounts configured for use with 1Password CLI.\n - Add an account manually.",
    text: "op knows no account on this machine\n  next: op account add\n  next: where nobody can sign in, as in CI: set OP_SERVICE_ACCOUNT_TOKEN",
    exitCode: 2,
  },
  {
    stderr: "multiple accounts found. Use the --account flag or set the OP_ACCOUNT environment variable",
    text: 'op knows several accounts on this machine, and not which one to ask\n  next: op account list\n  next: name it in dbops.config.ts: secrets: { provider: "op", account: "…" }',
    exitCode: 2,
  },
  {
    stderr: "error initializing client: authorization prompt dismissed, please try again",
    text: "nobody unlocked the 1Password app\n  next: the same command again, then confirm in the app\n  next: where nobody can sign in, as in CI: set OP_SERVICE_ACCOUNT_TOKEN",
    exitCode: 2,
  },
  {
    stderr: "could not get item: context deadline exceeded",
    text: "1Password cannot be reached from here\n  next: the same command again",
    exitCode: 1,
  },
];

const check = "\n  next: bun scripts/secrets.ts check    # which references are good";
const opFailuresOfOne: { stderr: string; text: string }[] = [
  {
    stderr: `could not read secret 'op://Prod/app/key': "Prod" isn't a vault in this account. Specify the vault with its ID or name.`,
    text: '"Prod" is no vault that this account can see\n  next: op vault list',
  },
  {
    stderr: `could not get item Prod/app: More than one item matches "app". Try again and specify the item by its ID: \n* for the item "app" in vault Prod: abc`,
    text: 'more than one item is named "app"\n  next: write the item\'s ID into .env.tpl instead of "app"',
  },
  {
    stderr: "could not resolve item UUID for item app: could not find item app in vault 3krbvotxjulf6nvqm2k4xfb2p4",
    text: 'item "app" is not in that vault\n  next: op item list --vault "Prod"',
  },
  {
    stderr: `could not read secret 'op://Prod/app/key': "app" isn't an item in the "Prod" vault. Specify the item with its UUID.`,
    text: 'item "app" is not in that vault\n  next: op item list --vault "Prod"',
  },
  {
    stderr: "item 'Prod/app' does not have a field 'key'",
    text: 'item "Prod/app" has no field or section "key"\n  next: op item get "app" --vault "Prod"',
  },
  {
    stderr: "could not read secret op://Prod/app/key: could not find field or file key on item app in vault Prod",
    text: 'item "app" has no field or section "key"\n  next: op item get "app" --vault "Prod"',
  },
  {
    stderr: "invalid secret reference 'op://Prod/a(b)/key': invalid character in secret reference: '('",
    text: 'a reference holds "(", which none may\n  next: write the ID into .env.tpl instead of a name with such a character',
  },
  {
    stderr: "invalid secret reference 'op://Prod/key': too few '/': secret references should have at least vault",
    text: '"op://Prod/key" is no reference\n  next: correct .env.tpl: op://vault/item/field or op://vault/item/section/field',
  },
  { stderr: "something new", text: "op refused" },
];

test.each([...opFailures, ...opFailuresOfOne.map(({ stderr, text }) => ({ stderr, text: text + check, exitCode: 2 }))])(
  "op says: $stderr",
  ({ stderr, text, exitCode }) => {
    const references = ["op://Else/x/y", "op://Prod/app/key"];
    const said = `2026/11/20 debug line\n[ERROR] 2026/11/20 10:11:12 ${stderr}\n`;
    const failure = opFailure(opProblem({ kind: "refused", stderr: said }, references));
    const [why, ...next] = text.split("\n");
    const details = stderr.split("\n").map((line) => `  | ${line}`);
    expect(formatFailure(failure)).toBe(
      [`Cannot read secrets from 1Password: ${why}`, ...details, ...next, "  read: docs/secrets.md"].join("\n"),
    );
    expect(failure.exitCode).toBe(why === "op refused" ? 1 : (exitCode as 1 | 2));
  },
);

test.each([
  {
    kind: "missing",
    text: `Cannot read secrets from 1Password: "op" is not installed, or not on PATH
  next: op --version    # after installing the 1Password CLI: https://www.1password.dev/cli
  read: docs/secrets.md`,
  },
  {
    kind: "slow",
    text: `Cannot read secrets from 1Password: no answer within 30 s
  next: op vault list    # does it wait for somebody to unlock 1Password?
  next: where nobody can sign in, as in CI: set OP_SERVICE_ACCOUNT_TOKEN
  read: docs/secrets.md`,
  },
] as const)("op is $kind", ({ kind, text }) => {
  expect(formatFailure(opFailure(opProblem({ kind, stderr: "" }, ["op://a/b/c"])))).toBe(text);
});

const providers = {
  sops: { provider: "sops", file: "secrets.enc.json" },
  vault: { provider: "vault", mount: "secret", path: "shop/production" },
  doppler: { provider: "doppler" },
  infisical: { provider: "infisical", environment: "prod", path: "/" },
  aws: { provider: "aws", secret: "shop/production" },
} as const;

test.each([
  [providers.sops, "sops -d --output-type json secrets.enc.json"],
  [providers.vault, "vault kv get -format=json -mount=secret shop/production"],
  [providers.doppler, "doppler secrets download --no-file --format json"],
  [
    { ...providers.doppler, project: "shop", config: "prd" },
    "doppler secrets download --no-file --format json --project shop --config prd",
  ],
  [providers.infisical, "infisical export --format=json --env=prod --path=/"],
  [
    { ...providers.infisical, project: "8d-1f" },
    "infisical export --format=json --env=prod --path=/ --projectId=8d-1f",
  ],
  [
    { ...providers.aws, region: "eu-central-1" },
    "aws secretsmanager get-secret-value --secret-id shop/production --query SecretString --output text --region eu-central-1",
  ],
] as const)("documentCommand() %j", (settings, words) => {
  expect(documentCommand(settings).join(" ")).toBe(words);
});

test.each([
  {
    provider: "sops",
    text: '{"A":"1","b":{"C":"x\\ny","d":2},"none":null}',
    values: { A: "1", "b/C": "x\ny", "b/d": "2" },
  },
  { provider: "vault", text: '{"data":{"data":{"A":"1"},"metadata":{"version":3}}}', values: { A: "1" } },
  { provider: "vault", text: '{"data":{"A":"1"}}', values: { A: "1" } },
  { provider: "vault", text: '{"data":{"A":"1","metadata":"2"}}', values: { A: "1", metadata: "2" } },
  { provider: "infisical", text: '[{"key":"A","value":"1","type":"shared"}]', values: { A: "1" } },
  { provider: "doppler", text: '{"A":"p$x"}', values: { A: "p$x" } },
  { provider: "aws", text: '{"A":"1"}\n', values: { A: "1" } },
  { provider: "aws", text: "A=1\nB='p$x'\n", values: { A: "1", B: "p$x" } },
] as const)("parseDocument() of $provider: $text", ({ provider, text, values }) => {
  expect(parseDocument(text, provider)).toEqual({ ...values } as Record<string, string>);
});

test.each(['{"data":{"data":null,"metadata":{"deletion_time":"2026-11-20T10:00:00Z"}}}', '{"data":null}', "{}"])(
  "parseDocument() of vault, where the newest version is deleted: %s",
  (text) => {
    expect(() => parseDocument(text, "vault")).toThrow(
      expect.objectContaining({
        message: "Cannot read secrets from vault: the newest version of the secret is deleted, or empty",
        next: ["vault kv undelete, or a new version of it", "correct `secrets` in dbops.config.ts"],
        exitCode: 2,
      }),
    );
  },
);

test("parseDocument() never quotes what is not JSON", () => {
  expect(() => parseDocument('{"A": "hunter2', "sops")).toThrow(
    "Cannot read secrets from sops: what it printed is not JSON",
  );
});

test.each([
  [
    "sops",
    "Failed to get the data key required to decrypt the SOPS file.",
    "it lets nobody in with what is set here",
    2,
  ],
  [
    "vault",
    "Error making API request.\nCode: 403. Errors:\n* permission denied",
    "it lets nobody in with what is set here",
    2,
  ],
  [
    "vault",
    "No value found at secret/data/shop/production",
    "there is nothing at the place that dbops.config.ts names",
    2,
  ],
  ["doppler", "Doppler Error: you must provide a token", "it lets nobody in with what is set here", 2],
  ["infisical", "You must be logged in to run this command.", "it lets nobody in with what is set here", 2],
  ["aws", "Unable to locate credentials. You can configure them.", "it lets nobody in with what is set here", 2],
  [
    "aws",
    "An error occurred (ResourceNotFoundException)",
    "there is nothing at the place that dbops.config.ts names",
    2,
  ],
  ["aws", "something new", '"aws" refused', 1],
] as const)("%s says: %s", (provider, stderr, why, exitCode) => {
  const failure = documentFailure(providers[provider], { kind: "refused", stderr });
  expect(failure.message).toBe(`Cannot read secrets from ${provider}: ${why}`);
  expect(failure.details).toBe(stderr);
  expect(failure.exitCode).toBe(exitCode);
});

test("a provider's program that is missing or slow", () => {
  expect(formatFailure(documentFailure(providers.sops, { kind: "missing", stderr: "" }))).toBe(
    `Cannot read secrets from sops: "sops" is not installed, or not on PATH
  next: sops --version
  read: docs/secrets.md`,
  );
  expect(documentFailure(providers.sops, { kind: "slow", stderr: "" }).message).toBe(
    "Cannot read secrets from sops: no answer within 30 s",
  );
});

test("judge() and formatChecked(): good, wrong and missing by name, and no value", () => {
  const template = {
    COMPOSE_FILE: "compose.yaml",
    POSTGRES_DB: "shop",
    POSTGRES_USER: "shop",
    POSTGRES_PASSWORD: "op://prod/app/password",
    KEY: "op://prod/app/key",
    TEXT: "op://prod/app/text",
    SHORT: "op://prod/app",
  };
  const answers: Answers = {
    values: new Map([
      ["op://prod/app/password", "hunter2"],
      ["op://prod/app/text", "two\nlines"],
    ]),
    problems: new Map([["op://prod/app/key", 'item "app" has no field or section "key"']]),
  };
  const text = formatChecked(judge("op", template, answers));
  expect(text).toBe(`wrong  DOMAIN             → it is not there
good   POSTGRES_PASSWORD  op://prod/app/password
wrong  KEY                op://prod/app/key  → item "app" has no field or section "key"
wrong  TEXT               op://prod/app/text  → its value holds a line break, or a backslash at its end, or a single quote together with one of $ " \\ \`, which no .env file carries
wrong  SHORT              op://prod/app  → "op://prod/app" is no reference: op://vault/item/field or op://vault/item/section/field, of letters, digits, - _ . and spaces; anything with another character in its name goes by its ID
4 of 8 values cannot be used`);
  expect(formatChecked(judge("op", { ...template, DOMAIN: "d", KEY: "", TEXT: "", SHORT: "" }, answers))).toBe(
    "good   POSTGRES_PASSWORD  op://prod/app/password\nall 8 values can be used",
  );
});

test.each([
  {
    references: ["op://a/b/c", "op://d/e/f"],
    target: ".env.production",
    steps: ["ask op once, for all of op://a/b/c, op://d/e/f", "write .env.production, readable for you alone"],
  },
  {
    references: [],
    target: undefined,
    steps: ["ask nobody: there is no reference in .env.tpl", "print the values, secrets among them"],
  },
])("planInject() $references", ({ references, target, steps }) => {
  expect(planInject(references, "op", target)).toEqual([...steps]);
});

test.each([
  { argv: [], why: "it takes inject, check or run" },
  { argv: ["injcet"], why: "it takes inject, check or run" },
  { argv: ["check", "--out", "x"], why: "--out does not go with check" },
  { argv: ["check", "--", "x"], why: "-- COMMAND does not go with check" },
  { argv: ["run", "--json", "--", "x"], why: "--json does not go with run" },
  { argv: ["run"], why: "run needs a command: run -- COMMAND" },
  { argv: ["inject", "--stdout", "--json"], why: "--stdout goes without --json and --out" },
])("secrets $argv is refused", async ({ argv, why }) => {
  await expect(main(argv)).rejects.toMatchObject({
    message: `Cannot run "bun scripts/secrets.ts": ${why}`,
    exitCode: 2,
  });
});
