// scripts/lib/server-environment.ts: .env.tpl becomes a server's .env, or every reason why not is told at once.
import { afterAll, afterEach, expect, test } from "bun:test";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parse } from "dotenv";
import { parseConfig } from "../scripts/lib/config.ts";
import { type Failure, formatFailure } from "../scripts/lib/failure.ts";
import {
  formatEnvironment,
  readServerEnvironment,
  secretsIn,
  secretsOf,
  serverValues,
} from "../scripts/lib/server-environment.ts";

const directory = await mkdtemp(join(tmpdir(), "dbops-server-environment-"));
afterAll(() => rm(directory, { recursive: true }));

const settings = { secrets: { provider: "env" } } as const;
const set: string[] = [];
afterEach(() => {
  for (const name of set.splice(0)) delete process.env[name];
});

/** Reads a template whose secrets are in this process's environment. */
async function read(template: string, secrets: Record<string, string> = {}) {
  await writeFile(join(directory, ".env.tpl"), template);
  Object.assign(process.env, secrets);
  set.push(...Object.keys(secrets));
  return await readServerEnvironment(settings, directory);
}

async function refusal(template: string, secrets?: Record<string, string>): Promise<string> {
  const failure = (await read(template, secrets).then(
    () => undefined,
    (error) => error,
  )) as Failure | undefined;
  expect(failure?.exitCode).toBe(2);
  return formatFailure(failure!);
}

const minimal = `COMPOSE_FILE=compose.yaml:compose/production.yaml
POSTGRES_DB=shop
POSTGRES_USER=shop
POSTGRES_PASSWORD=secret://TEST_PASSWORD
DOMAIN=shop.example.com
`;

test("values with their references resolved, DATABASE_URL derived with the password encoded", async () => {
  const password = "p$x/@: #?%é";
  const template = `${minimal}SMTP=smtp://me:secret://TEST_SMTP@mail.example.com\nPRICE=5$\n`;
  const given = { TEST_PASSWORD: password, TEST_SMTP: "smtp-password" };
  const { values, secrets, secretNames } = await read(template, given);
  expect(secretNames).toEqual(["POSTGRES_PASSWORD", "SMTP"]);
  expect(values).toEqual({
    DATABASE_URL: `postgres://shop:${encodeURIComponent(password)}@postgres:5432/shop?sslmode=disable`,
    COMPOSE_FILE: "compose.yaml:compose/production.yaml",
    POSTGRES_DB: "shop",
    POSTGRES_USER: "shop",
    POSTGRES_PASSWORD: password,
    DOMAIN: "shop.example.com",
    SMTP: "smtp://me:smtp-password@mail.example.com",
    PRICE: "5$",
  });
  for (const form of [
    password,
    encodeURIComponent(password),
    Buffer.from(password).toString("base64"),
    "smtp-password",
  ]) {
    expect(secrets).toContain(form);
  }
  expect(secrets).not.toContain("shop");
});

test("a DATABASE_URL of the template's own stays", async () => {
  const { values } = await read(`${minimal}DATABASE_URL=postgres://elsewhere/shop\n`, { TEST_PASSWORD: "long-enough" });
  expect(values.DATABASE_URL).toBe("postgres://elsewhere/shop");
});

test("what is missing is told before anybody is asked", async () => {
  expect(
    await refusal("POSTGRES_DB=shop\nPOSTGRES_PASSWORD=secret://NOT_ASKED_FOR\n"),
  ).toBe(`Cannot use .env.tpl: 3 problems
  | COMPOSE_FILE: it is not there
  | DOMAIN: it is not there
  | POSTGRES_USER: it is not there
  next: correct .env.tpl, then: bun scripts/secrets.ts check
  read: docs/secrets.md`);
});

test("references that cannot be any are told at once, by name", async () => {
  expect(
    await refusal(`${minimal}A=op://vault/item/field\nB=x-secret://\nC=secret://a//b\n`),
  ).toBe(`Cannot use .env.tpl: 2 problems
  | A: "op://vault/item/field" is not of provider env, whose references are written secret://NAME
  | C: "secret://a//b" is no reference: secret:// and a name, of letters, digits, - _ . and /
  next: correct .env.tpl, then: bun scripts/secrets.ts check
  read: docs/secrets.md`);
});

test("values that no .env file carries are refused by name, all at once and never shown", async () => {
  const secrets = { TEST_PASSWORD: "it's $5", TEST_KEY: "-----BEGIN\nKEY-----" };
  const text = await refusal(`${minimal}KEY=secret://TEST_KEY\nDOMAIN=\n`, secrets);
  const why =
    'its value holds a line break, or a backslash at its end, or a single quote together with one of $ " \\ `, which no .env file carries';
  expect(text).toBe(`Cannot use .env.tpl: 3 problems
  | POSTGRES_PASSWORD: ${why}
  | DOMAIN: it is empty
  | KEY: ${why}
  next: correct .env.tpl, then: bun scripts/secrets.ts check
  read: docs/secrets.md`);
});

test("a name that the provider does not have", async () => {
  expect(await refusal(minimal)).toBe(`Cannot read secrets from env: it has no TEST_PASSWORD
  next: export TEST_PASSWORD
  next: correct .env.tpl
  read: docs/secrets.md`);
});

test("no .env.tpl", async () => {
  const none = join(directory, "none");
  await expect(readServerEnvironment(settings, none)).rejects.toMatchObject({
    message: `Cannot read "${none}/.env.tpl": there is no such file`,
    exitCode: 2,
  });
});

test("formatEnvironment() writes what every reader takes literally", () => {
  const values = { PLAIN: "a/b", DOLLAR: "p$BASE #x", QUOTE: "it's" };
  const text = formatEnvironment(values);
  expect(text.split("\n").slice(2)).toEqual(["PLAIN=a/b", "DOLLAR='p$BASE #x'", `QUOTE="it's"`, ""]);
  expect(parse(text)).toEqual(values);
});

const release = `TOKEN='t$1'
QUEUE_URL=amqp://me:p%40ss@queue/
LOG_LEVEL=info
POSTGRES_USER=shop
POSTGRES_PASSWORD=hunter2
COMPOSE_PROFILES=green
IMAGE_GREEN=ghcr.io/me/shop@sha256:1d
RELEASE_IMAGE=ghcr.io/me/shop@sha256:1d
RELEASE_NUMBER=12345
`;
test.each<{ name: string; text: string; secrets: string[] }>([
  {
    name: "those that it names",
    text: `# Secret: TOKEN QUEUE_URL POSTGRES_PASSWORD\n${release}`,
    secrets: ["t$1", "amqp://me:p%40ss@queue/", "p%40ss", "p@ss", "hunter2"],
  },
  { name: "none, where it says that there are none", text: `# Secret:\n${release}`, secrets: [] },
  {
    name: "of an older release, which names none, all that could be one",
    text: release,
    secrets: ["t$1", "amqp://me:p%40ss@queue/", "p%40ss", "p@ss", "info", "hunter2"],
  },
  { name: "of no file, none", text: "", secrets: [] },
])("secretsIn() has $name", ({ text, secrets }) => {
  expect(secretsIn(text)).toEqual(secrets);
});

test("what formatEnvironment() notes, secretsIn() finds", () => {
  const values = { PLAIN: "plain", TOKEN: "it's one" };
  expect(secretsIn(formatEnvironment(values, ["TOKEN"]))).toEqual(["it's one"]);
  expect(secretsIn(formatEnvironment(values, []))).toEqual([]);
});

test("secretsOf(): names are none, and the password inside a URL is one", () => {
  const template = { POSTGRES_USER: "secret://USER", QUEUE_URL: "secret://QUEUE", TOKEN: "Bearer secret://TOKEN" };
  const resolved = new Map([
    ["secret://USER", "postgres"],
    ["secret://QUEUE", "amqp://me:p%40ss%2Fword@queue:5672/"],
    ["secret://TOKEN", "token-1"],
  ]);
  expect(secretsOf(template, resolved)).toEqual([
    "amqp://me:p%40ss%2Fword@queue:5672/",
    "p%40ss%2Fword",
    "p@ss/word",
    "token-1",
  ]);
});

test("serverValues() takes a value as it is, also one that looks like a reference or a pattern", () => {
  const template = { POSTGRES_DB: "d", POSTGRES_USER: "u", POSTGRES_PASSWORD: "secret://A", B: "<{{ secret://A }}>" };
  const resolved = new Map([["secret://A", "$& secret://B {{x}}"]]);
  expect(serverValues(template, resolved)).toMatchObject({
    POSTGRES_PASSWORD: "$& secret://B {{x}}",
    B: "<$& secret://B {{x}}>",
  });
});

test("what backups need stays off the server, and is not even asked for", async () => {
  await writeFile(
    join(directory, ".env.tpl"),
    `${minimal}BACKUP_ACCESS_KEY_ID=secret://TEST_NOT_THERE\nSHOP_PASSPHRASE=secret://TEST_NOT_THERE\nBACKUP_PASSPHRASE=mine\n`,
  );
  Object.assign(process.env, { TEST_PASSWORD: "password" });
  set.push("TEST_PASSWORD");
  const { backup } = parseConfig({
    ...{ name: "shop", database: "shop", app: { command: ["bun"], port: 3000 } },
    ...{ schema: { criticalTables: [], extensions: [] }, environments: { local: {} } },
    backup: { bucket: "backups", passphraseFrom: "SHOP_PASSPHRASE" },
  });
  const { values } = await readServerEnvironment({ ...settings, backup }, directory);
  expect(Object.keys(values).filter((name) => /BACKUP|SHOP/.test(name))).toEqual(["BACKUP_PASSPHRASE"]);
});

test.each([
  { recipients: [], passphrase: "asked for" },
  { recipients: ["key.asc"], passphrase: "not asked for" },
])(
  "a server that makes backups itself has what it takes; recipients $recipients: the passphrase is $passphrase",
  async ({ recipients }) => {
    const names = ["BACKUP_ACCESS_KEY_ID", "BACKUP_SECRET_ACCESS_KEY", "PING"];
    const absent = recipients.length > 0 ? "TEST_NOT_THERE" : "TEST_PASSWORD";
    await writeFile(
      join(directory, ".env.tpl"),
      `${minimal}COMPOSE_PROFILES=other,backup\n${names.map((name) => `${name}=secret://TEST_PASSWORD\n`).join("")}BACKUP_PASSPHRASE=secret://${absent}\n`,
    );
    Object.assign(process.env, { TEST_PASSWORD: "password" });
    set.push("TEST_PASSWORD");
    const { backup } = parseConfig({
      ...{ name: "shop", database: "shop", app: { command: ["bun"], port: 3000 } },
      ...{ schema: { criticalTables: [], extensions: [] }, environments: { local: {} } },
      backup: { bucket: "backups", recipients, pingFrom: "PING" },
    });
    const { values, secretNames } = await readServerEnvironment({ ...settings, backup }, directory);
    const expected = [...names, ...(recipients.length > 0 ? [] : ["BACKUP_PASSPHRASE"])];
    expect(Object.keys(values).filter((name) => /BACKUP|PING/.test(name))).toEqual(expected);
    expect(secretNames).toEqual(expect.arrayContaining(expected));
    expect(values.COMPOSE_PROFILES).toBe("other,backup");
  },
);
